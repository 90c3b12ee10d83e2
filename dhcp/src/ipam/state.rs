//! The state itself: the fold of all changes, and questions to it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::change::{Change, Granted, How};
use super::error::ApplyError;
use super::network::{Network, bounds, is_v4, to_value};
use super::owner::Owner;
use super::pool::{Hold, HoldReason, Pool, PoolUsage};
use crate::mac::Mac;

/// What an owner holds on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its IPv4 address.
    pub v4: Option<IpAddr>,
    /// Its IPv6 address.
    pub v6: Option<IpAddr>,
    /// Its MAC.
    pub mac: Option<Mac>,
    /// When the first of these was given, milliseconds since the epoch.
    pub since: u64,
}

/// All networks with their holders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ipam {
    pub(super) networks: BTreeMap<String, NetworkState>,
    /// (is IPv4, first address) -> (last address, network): finds the network of an address, and overlaps.
    pub(super) prefixes: BTreeMap<(bool, u128), (u128, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NetworkState {
    pub(super) network: Network,
    pub(super) v4: Option<Pool>,
    pub(super) v6: Option<Pool>,
    pub(super) assignments: BTreeMap<Owner, Assignment>,
    pub(super) macs: BTreeMap<Mac, Owner>,
}

impl NetworkState {
    fn new(network: &Network) -> Self {
        NetworkState {
            v4: network.v4.as_ref().map(Pool::new),
            v6: network.v6.as_ref().map(Pool::new),
            network: network.clone(),
            assignments: BTreeMap::new(),
            macs: BTreeMap::new(),
        }
    }

    pub(super) fn pool(&self, v4: bool) -> Option<&Pool> {
        if v4 { self.v4.as_ref() } else { self.v6.as_ref() }
    }

    pub(super) fn pool_mut(&mut self, v4: bool) -> Option<&mut Pool> {
        if v4 { self.v4.as_mut() } else { self.v6.as_mut() }
    }

    pub(super) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.v4.iter().chain(self.v6.iter())
    }
}

impl Ipam {
    /// No networks.
    pub fn new() -> Self {
        Self::default()
    }

    /// The fold of a stored history.
    ///
    /// # Errors
    /// [`ApplyError`] at the first change that does not follow from those before it.
    pub fn replay<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Result<Self, ApplyError> {
        let mut ipam = Ipam::new();
        changes.into_iter().try_for_each(|c| ipam.apply(c))?;
        Ok(ipam)
    }

    /// The shortest history with this state as its fold: what a store may keep in place of the whole past.
    pub fn snapshot(&self) -> Vec<Change> {
        let mut out = Vec::new();
        for (name, state) in &self.networks {
            out.push(Change::NetworkAdded { network: Box::new(state.network.clone()) });
            let fixed = |address| Granted { address, how: How::Fixed };
            out.extend(state.assignments.iter().map(|(owner, a)| Change::Assigned {
                network: name.clone(),
                owner: owner.clone(),
                v4: a.v4.map(fixed),
                v6: a.v6.map(fixed),
                mac: a.mac,
                at: a.since,
            }));
            for pool in state.pools() {
                out.extend(pool.holds().map(|(address, hold)| Change::Held {
                    network: name.clone(),
                    address,
                    reason: hold.reason,
                    owner: hold.owner.clone(),
                    at: 0,
                    until: hold.until,
                }));
                out.extend(pool.next().map(|next| Change::Cursor { network: name.clone(), next }));
            }
        }
        out
    }

    /// The declared networks, by name.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values().map(|s| &s.network)
    }

    /// A network's definition.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.get(name).map(|s| &s.network)
    }

    /// What an owner holds on a network.
    pub fn assignment(&self, network: &str, owner: &Owner) -> Option<&Assignment> {
        self.networks.get(network)?.assignments.get(owner)
    }

    /// All holders on a network, by owner.
    pub fn assignments(&self, network: &str) -> impl Iterator<Item = (&Owner, &Assignment)> {
        self.networks.get(network).into_iter().flat_map(|s| s.assignments.iter())
    }

    /// Who has a MAC on a network, and what they hold.
    pub fn by_mac(&self, network: &str, mac: Mac) -> Option<(&Owner, &Assignment)> {
        let state = self.networks.get(network)?;
        let owner = state.macs.get(&mac)?;
        state.assignments.get(owner).map(|a| (owner, a))
    }

    /// The network whose prefix an address lies in.
    pub fn network_of(&self, address: IpAddr) -> Option<&Network> {
        let (v4, value) = (address.is_ipv4(), to_value(address));
        let (_, (last, name)) = self.prefixes.range((v4, 0)..=(v4, value)).next_back()?;
        (value <= *last).then(|| self.network(name)).flatten()
    }

    /// Who has an address, on whichever network it belongs to.
    pub fn owner_of(&self, address: IpAddr) -> Option<&Owner> {
        let network = self.network_of(address)?;
        self.networks.get(&network.name)?.pool(address.is_ipv4())?.owner_at(to_value(address))
    }

    /// Why and until when an address rests.
    pub fn hold_of(&self, address: IpAddr) -> Option<&Hold> {
        let network = self.network_of(address)?;
        self.networks.get(&network.name)?.pool(address.is_ipv4())?.hold_at(to_value(address))
    }

    /// How full a network's pools are, IPv4 then IPv6.
    pub fn usage(&self, network: &str) -> (Option<PoolUsage>, Option<PoolUsage>) {
        let state = self.networks.get(network);
        let of = |v4| state.and_then(|s| s.pool(v4)).map(Pool::usage);
        (of(true), of(false))
    }

    /// When the next rest is over: when to call [`Ipam::decide_expire`] again.
    pub fn next_expiry(&self) -> Option<u64> {
        self.networks.values().flat_map(NetworkState::pools).filter_map(Pool::next_due).min()
    }

    /// Folds a change in. Changes made by `decide_*` on this very state always fit.
    ///
    /// # Errors
    /// [`ApplyError`] if the change does not follow from this state; the state is then as before.
    pub fn apply(&mut self, change: &Change) -> Result<(), ApplyError> {
        match change {
            Change::NetworkAdded { network } => self.apply_added(network),
            Change::NetworkUpdated { network } => self.apply_updated(network),
            Change::NetworkRemoved { name } => self.apply_removed(name),
            Change::Assigned { network, owner, v4, v6, mac, at } => {
                self.state_mut(network)?.apply_assigned(owner, [*v4, *v6], *mac, *at)
            }
            Change::Released { network, owner, until, .. } => {
                self.state_mut(network)?.apply_released(owner, *until)
            }
            Change::Held { network, address, reason, owner, until, .. } => {
                let hold = Hold { until: *until, reason: *reason, owner: owner.clone() };
                self.state_mut(network)?.apply_held(*address, hold)
            }
            Change::Expired { network, addresses } => {
                let state = self.state_mut(network)?;
                for address in addresses {
                    if let Some(pool) = state.pool_mut(address.is_ipv4()) {
                        pool.lift(to_value(*address));
                    }
                }
                Ok(())
            }
            Change::Cursor { network, next } => {
                let pool = self.state_mut(network)?.pool_mut(next.is_ipv4());
                pool.ok_or_else(|| misfit(format!("no pool for cursor {next} on {network:?}")))?
                    .set_cursor(to_value(*next));
                Ok(())
            }
        }
    }

    fn state_mut(&mut self, name: &str) -> Result<&mut NetworkState, ApplyError> {
        self.networks.get_mut(name).ok_or_else(|| misfit(format!("no network {name:?}")))
    }

    fn apply_added(&mut self, network: &Network) -> Result<(), ApplyError> {
        self.check_new(network).map_err(|e| misfit(e.to_string()))?;
        self.index(network);
        self.networks.insert(network.name.clone(), NetworkState::new(network));
        Ok(())
    }

    fn apply_updated(&mut self, network: &Network) -> Result<(), ApplyError> {
        let rebuilt = self.rebuilt(network).map_err(|e| misfit(e.to_string()))?;
        self.unindex(&network.name);
        self.index(network);
        self.networks.insert(network.name.clone(), rebuilt);
        Ok(())
    }

    fn apply_removed(&mut self, name: &str) -> Result<(), ApplyError> {
        if !self.state_mut(name)?.assignments.is_empty() {
            return Err(misfit(format!("network {name:?} removed while in use")));
        }
        self.unindex(name);
        self.networks.remove(name);
        Ok(())
    }

    fn index(&mut self, network: &Network) {
        for subnet in network.subnets() {
            let (first, last) = bounds(&subnet.prefix);
            self.prefixes.insert((is_v4(&subnet.prefix), first), (last, network.name.clone()));
        }
    }

    fn unindex(&mut self, name: &str) {
        self.prefixes.retain(|_, (_, n)| n != name);
    }
}

impl NetworkState {
    fn apply_assigned(
        &mut self,
        owner: &Owner,
        granted: [Option<Granted>; 2],
        mac: Option<Mac>,
        at: u64,
    ) -> Result<(), ApplyError> {
        let has = self.assignments.get(owner);
        for (granted, v4) in granted.into_iter().zip([true, false]) {
            let Some(Granted { address, .. }) = granted else { continue };
            let pool = self.pool(v4).filter(|_| address.is_ipv4() == v4);
            let pool = pool.ok_or_else(|| misfit(format!("{address} has no pool")))?;
            pool.check_assignable(&self.network.name, address).map_err(|e| misfit(e.to_string()))?;
            if let Some(other) = pool.owner_at(to_value(address)) {
                return Err(misfit(format!("{address} given to {owner}, but {other} has it")));
            }
            if has.is_some_and(|a| if v4 { a.v4.is_some() } else { a.v6.is_some() }) {
                return Err(misfit(format!("{owner} given {address} as a second address")));
            }
        }
        if let Some(mac) = mac
            && (self.macs.contains_key(&mac) || has.is_some_and(|a| a.mac.is_some()))
        {
            return Err(misfit(format!("MAC {mac} given to {owner} twice, or taken")));
        }

        let entry = self.assignments.entry(owner.clone());
        let assignment = entry.or_insert(Assignment { v4: None, v6: None, mac: None, since: at });
        let [v4, v6] = granted;
        assignment.v4 = assignment.v4.or(v4.map(|g| g.address));
        assignment.v6 = assignment.v6.or(v6.map(|g| g.address));
        assignment.mac = assignment.mac.or(mac);
        if let Some(mac) = mac {
            self.macs.insert(mac, owner.clone());
        }
        for Granted { address, how } in granted.into_iter().flatten() {
            if let Some(pool) = self.pool_mut(address.is_ipv4()) {
                pool.give(to_value(address), owner.clone(), how);
            }
        }
        Ok(())
    }

    fn apply_released(&mut self, owner: &Owner, until: Option<u64>) -> Result<(), ApplyError> {
        let assignment = self.assignments.remove(owner);
        let assignment = assignment.ok_or_else(|| misfit(format!("{owner} released what it has not")))?;
        if let Some(mac) = assignment.mac {
            self.macs.remove(&mac);
        }
        for address in [assignment.v4, assignment.v6].into_iter().flatten() {
            let Some(pool) = self.pool_mut(address.is_ipv4()) else { continue };
            pool.take_back(to_value(address));
            if let Some(until) = until {
                let hold = Hold { until, reason: HoldReason::Released, owner: Some(owner.clone()) };
                pool.hold(to_value(address), hold);
            }
        }
        Ok(())
    }

    fn apply_held(&mut self, address: IpAddr, hold: Hold) -> Result<(), ApplyError> {
        let name = self.network.name.clone();
        let pool =
            self.pool_mut(address.is_ipv4()).ok_or_else(|| misfit(format!("{address} has no pool")))?;
        let value = pool.check_assignable(&name, address).map_err(|e| misfit(e.to_string()))?;
        let evicted = pool.owner_at(value).cloned();
        pool.take_back(value);
        pool.hold(value, hold);
        let Some(owner) = evicted else { return Ok(()) };
        if let Some(assignment) = self.assignments.get_mut(&owner) {
            if address.is_ipv4() {
                assignment.v4 = None;
            } else {
                assignment.v6 = None;
            }
            if assignment.v4.is_none() && assignment.v6.is_none() && assignment.mac.is_none() {
                self.assignments.remove(&owner);
            }
        }
        Ok(())
    }
}

fn misfit(problem: String) -> ApplyError {
    ApplyError { problem }
}
