//! The decisions: pure functions from state and request to a change or a refusal.

use std::net::IpAddr;

use super::change::{Change, Granted, How};
use super::error::{IpamError, MAC_ATTEMPTS};
use super::network::{Network, bounds, family, is_v4};
use super::owner::Owner;
use super::pool::HoldReason;
use super::state::{Assignment, Ipam, NetworkState};
use crate::mac::Mac;

/// Which address an owner wants of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// None.
    Nothing,
    /// Any; refused if the network does not have the family.
    Auto,
    /// Any, if the network has the family.
    AutoIfPresent,
    /// This one if it is to be had, any other otherwise: an owner that comes back.
    Prefer(IpAddr),
    /// This one or none.
    Fixed {
        /// The address.
        address: IpAddr,
        /// Take it out of quarantine if it is there.
        force: bool,
    },
}

/// Which MAC an owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacWant {
    /// None, or the one it has.
    Nothing,
    /// A locally administered one derived from this random number.
    Derive(u64),
    /// This one or none.
    Fixed(Mac),
}

/// A request for addresses and a MAC, granted or refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssignRequest<'a> {
    /// On which network.
    pub network: &'a str,
    /// For whom.
    pub owner: &'a Owner,
    /// The IPv4 address.
    pub v4: Want,
    /// The IPv6 address.
    pub v6: Want,
    /// The MAC.
    pub mac: MacWant,
    /// The time, milliseconds since the epoch.
    pub now: u64,
}

impl<'a> AssignRequest<'a> {
    /// One address of each family the network has, and a MAC from `random`.
    pub fn auto(network: &'a str, owner: &'a Owner, random: u64, now: u64) -> Self {
        let (v4, v6) = (Want::AutoIfPresent, Want::AutoIfPresent);
        AssignRequest { network, owner, v4, v6, mac: MacWant::Derive(random), now }
    }
}

impl Ipam {
    /// Declares a network.
    ///
    /// # Errors
    /// [`IpamError::BadNetwork`], [`IpamError::NetworkExists`], [`IpamError::Overlap`].
    pub fn decide_add_network(&self, network: &Network) -> Result<Change, IpamError> {
        self.check_new(network)?;
        Ok(Change::NetworkAdded { network: Box::new(network.clone()) })
    }

    /// Replaces a network's definition, if every holder keeps what it has.
    ///
    /// # Errors
    /// [`IpamError::UnknownNetwork`], [`IpamError::BadNetwork`], [`IpamError::Overlap`],
    /// [`IpamError::UpdateConflict`].
    pub fn decide_update_network(&self, network: &Network) -> Result<Change, IpamError> {
        self.rebuilt(network)?;
        Ok(Change::NetworkUpdated { network: Box::new(network.clone()) })
    }

    /// Withdraws a network nobody uses.
    ///
    /// # Errors
    /// [`IpamError::UnknownNetwork`], [`IpamError::NetworkInUse`].
    pub fn decide_remove_network(&self, name: &str) -> Result<Change, IpamError> {
        let state = self.state(name)?;
        match state.assignments.keys().next() {
            None => Ok(Change::NetworkRemoved { name: name.to_owned() }),
            Some(example) => Err(IpamError::NetworkInUse {
                name: name.to_owned(),
                owners: state.assignments.len(),
                example: example.clone(),
            }),
        }
    }

    /// Gives an owner addresses and a MAC. What it has already stays; asking for a second of a kind is refused.
    ///
    /// # Errors
    /// Any that says why a part cannot be had: nothing is given then.
    pub fn decide_assign(&self, request: &AssignRequest<'_>) -> Result<Change, IpamError> {
        let AssignRequest { network, owner, now, .. } = *request;
        let state = self.state(network)?;
        let has = state.assignments.get(owner);
        let v4 = state.want(true, request.v4, owner, has.and_then(|a| a.v4), now)?;
        let v6 = state.want(false, request.v6, owner, has.and_then(|a| a.v6), now)?;
        let mac = state.want_mac(request.mac, owner, has)?;
        Ok(Change::Assigned { network: network.to_owned(), owner: owner.clone(), v4, v6, mac, at: now })
    }

    /// Takes back all an owner has on a network; its addresses rest for the network's quarantine.
    ///
    /// # Errors
    /// [`IpamError::UnknownNetwork`], [`IpamError::NotAssigned`].
    pub fn decide_release(&self, network: &str, owner: &Owner, now: u64) -> Result<Change, IpamError> {
        let state = self.state(network)?;
        if !state.assignments.contains_key(owner) {
            return Err(IpamError::NotAssigned { network: network.to_owned(), owner: owner.clone() });
        }
        let rest = state.network.quarantine_ms;
        Ok(Change::Released {
            network: network.to_owned(),
            owner: owner.clone(),
            at: now,
            until: (rest > 0).then(|| now.saturating_add(rest)),
        })
    }

    /// Puts an address aside because someone else uses it. Its owner, named in the change, loses it and can be
    /// given another with [`Ipam::decide_assign`].
    ///
    /// # Errors
    /// [`IpamError::UnknownNetwork`], [`IpamError::NoFamily`], [`IpamError::OutOfRange`],
    /// [`IpamError::RoleAddress`] (someone uses the gateway's address: look for them), [`IpamError::Excluded`].
    pub fn decide_conflict(&self, network: &str, address: IpAddr, now: u64) -> Result<Change, IpamError> {
        let state = self.state(network)?;
        let pool = state.pool(address.is_ipv4()).ok_or_else(|| IpamError::NoFamily {
            network: network.to_owned(),
            family: family(address.is_ipv4()),
        })?;
        let value = pool.check_assignable(network, address)?;
        let earlier = pool.hold_at(value);
        let owner = pool.owner_at(value).or_else(|| earlier.and_then(|h| h.owner.as_ref()));
        let until = now.saturating_add(state.network.conflict_quarantine_ms);
        Ok(Change::Held {
            network: network.to_owned(),
            address,
            reason: HoldReason::Conflict,
            owner: owner.cloned(),
            at: now,
            until: until.max(earlier.map_or(0, |h| h.until)),
        })
    }

    /// Frees the addresses whose rest is over, one change per network concerned. Not needed for correctness (a
    /// rested address is found when the pool is otherwise used up): it keeps the state small.
    pub fn decide_expire(&self, now: u64) -> Vec<Change> {
        let per_network = self.networks.iter().map(|(name, state)| {
            let addresses: Vec<_> = state.pools().flat_map(|p| p.due(now)).collect();
            (!addresses.is_empty()).then(|| Change::Expired { network: name.clone(), addresses })
        });
        per_network.flatten().collect()
    }

    pub(super) fn check_new(&self, network: &Network) -> Result<(), IpamError> {
        network.validate()?;
        if self.networks.contains_key(&network.name) {
            return Err(IpamError::NetworkExists { name: network.name.clone() });
        }
        self.check_overlap(network)
    }

    /// The network's state under a new definition.
    pub(super) fn rebuilt(&self, network: &Network) -> Result<NetworkState, IpamError> {
        network.validate()?;
        let old = self.state(&network.name)?;
        self.check_overlap(network)?;
        let mut new = old.clone();
        new.network = network.clone();
        for v4 in [true, false] {
            let subnet = if v4 { &network.v4 } else { &network.v6 };
            let pool =
                match (old.pool(v4), subnet) {
                    (Some(pool), Some(subnet)) => {
                        Some(pool.rebuilt(subnet).map_err(|(owner, address, why)| {
                            IpamError::UpdateConflict { name: network.name.clone(), owner, address, why }
                        })?)
                    }
                    (None, Some(subnet)) => Some(super::pool::Pool::new(subnet)),
                    (_, None) => {
                        let held = |a: &Assignment| if v4 { a.v4 } else { a.v6 };
                        let holder = old.assignments.iter().find_map(|(o, a)| held(a).map(|addr| (o, addr)));
                        if let Some((owner, address)) = holder {
                            return Err(IpamError::UpdateConflict {
                                name: network.name.clone(),
                                owner: owner.clone(),
                                address,
                                why: format!("the network would have no {} prefix", family(v4)),
                            });
                        }
                        None
                    }
                };
            if v4 {
                new.v4 = pool;
            } else {
                new.v6 = pool;
            }
        }
        Ok(new)
    }

    /// Prefixes nest or are disjoint, so a clash is with the nearest prefix at or below, or the first one above.
    fn check_overlap(&self, network: &Network) -> Result<(), IpamError> {
        for subnet in network.subnets() {
            let v4 = is_v4(&subnet.prefix);
            let (first, last) = bounds(&subnet.prefix);
            let own = |name: &String| *name == network.name;
            let below = self.prefixes.range((v4, 0)..=(v4, last)).rev().find(|(_, (_, n))| !own(n));
            if let Some((_, (other_last, other))) = below
                && *other_last >= first
            {
                let other_net = self.network(other);
                let other_prefix = other_net.and_then(|n| n.subnets().find(|s| is_v4(&s.prefix) == v4));
                return Err(IpamError::Overlap {
                    name: network.name.clone(),
                    prefix: subnet.prefix,
                    other: other.clone(),
                    other_prefix: other_prefix.map_or(subnet.prefix, |s| s.prefix),
                });
            }
        }
        Ok(())
    }

    fn state(&self, name: &str) -> Result<&NetworkState, IpamError> {
        self.networks.get(name).ok_or_else(|| IpamError::UnknownNetwork { name: name.to_owned() })
    }
}

impl NetworkState {
    fn want(
        &self,
        v4: bool,
        want: Want,
        owner: &Owner,
        has: Option<IpAddr>,
        now: u64,
    ) -> Result<Option<Granted>, IpamError> {
        let network = self.network.name.as_str();
        let pool = match (want, self.pool(v4)) {
            (Want::Nothing, _) | (Want::AutoIfPresent, None) => return Ok(None),
            (_, None) => return Err(IpamError::NoFamily { network: network.to_owned(), family: family(v4) }),
            (_, Some(pool)) => pool,
        };
        if let Some(has) = has {
            return Err(IpamError::AlreadyAssigned {
                network: network.to_owned(),
                owner: owner.clone(),
                has: has.to_string(),
            });
        }
        let (address, how) = match want {
            Want::Fixed { address, force } => {
                pool.check(network, owner, address, now, force)?;
                (address, How::Fixed)
            }
            Want::Prefer(address) if pool.may_prefer(network, owner, address, now) => {
                (address, How::Preferred)
            }
            _ => pool.choose(network, owner, now)?,
        };
        Ok(Some(Granted { address, how }))
    }

    fn want_mac(
        &self,
        want: MacWant,
        owner: &Owner,
        has: Option<&Assignment>,
    ) -> Result<Option<Mac>, IpamError> {
        let network = || self.network.name.clone();
        if want == MacWant::Nothing {
            return Ok(None);
        }
        if let Some(mac) = has.and_then(|a| a.mac) {
            return Err(IpamError::AlreadyAssigned {
                network: network(),
                owner: owner.clone(),
                has: mac.to_string(),
            });
        }
        let holder = |mac: &Mac| {
            let reserved = self.network.reserved_macs.contains(mac).then(|| "the network itself".to_owned());
            self.macs.get(mac).map(Owner::to_string).or(reserved)
        };
        match want {
            MacWant::Nothing => Ok(None),
            MacWant::Fixed(mac) if !mac.is_unicast() => Err(IpamError::BadMac { mac }),
            MacWant::Fixed(mac) => match holder(&mac) {
                Some(owner) => Err(IpamError::MacTaken { network: network(), mac, owner }),
                None => Ok(Some(mac)),
            },
            MacWant::Derive(random) => {
                let tries = (0..MAC_ATTEMPTS).map(|n| Mac::local_from(mix(random, n)));
                tries
                    .into_iter()
                    .find(|mac| holder(mac).is_none())
                    .map(Some)
                    .ok_or_else(|| IpamError::MacExhausted { network: network() })
            }
        }
    }
}

/// SplitMix64's output function: spreads one random number over as many tries as needed, the same on every replay.
fn mix(random: u64, attempt: u32) -> u64 {
    let mut z = random.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(attempt) + 1));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
