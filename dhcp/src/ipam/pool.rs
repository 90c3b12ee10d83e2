//! One family's addresses on one network: who has which, which rest, and which is next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::change::How;
use super::error::IpamError;
use super::network::{Role, Subnet, bounds, from_value, is_v4, to_value};
use super::owner::Owner;
use crate::ranges::RangeSet;

/// Why an address rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// Its owner gave it back; caches and states elsewhere still name it.
    Released,
    /// Someone else was seen using it (DHCPDECLINE, ARP).
    Conflict,
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HoldReason::Released => "lately released",
            HoldReason::Conflict => "in conflict",
        })
    }
}

/// An address put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// First moment it may be given again, milliseconds since the epoch.
    pub until: u64,
    /// Why.
    pub reason: HoldReason,
    /// Who had it last; they may have a released address back at once.
    pub owner: Option<Owner>,
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolUsage {
    /// Addresses that can be given at all.
    pub size: u128,
    /// Addresses given.
    pub used: usize,
    /// Addresses put aside.
    pub quarantined: usize,
}

/// The state of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    subnet: Subnet,
    first: u128,
    last: u128,
    size: u128,
    /// Never given to anyone: roles, exclusions, the architecture's own.
    blocked: RangeSet,
    reserved: BTreeMap<u128, Owner>,
    reserved_by_owner: BTreeMap<Owner, u128>,
    /// Given by number alone.
    apart: BTreeSet<u128>,
    /// Everything automatic choice must step over: blocked, reserved, apart, given and resting.
    unavailable: RangeSet,
    owners: BTreeMap<u128, Owner>,
    holds: BTreeMap<u128, Hold>,
    by_until: BTreeSet<(u64, u128)>,
    /// Where the next automatic choice starts (next-fit).
    cursor: u128,
}

impl Pool {
    pub(super) fn new(subnet: &Subnet) -> Self {
        let (first, last) = bounds(&subnet.prefix);
        let mut blocked = RangeSet::default();
        subnet.architectural().into_iter().for_each(|(_, lo, hi)| blocked.insert(lo, hi));
        subnet.roles().for_each(|(_, a)| blocked.insert(to_value(a), to_value(a)));
        subnet.exclusions.iter().for_each(|x| blocked.insert(to_value(x.first), to_value(x.last)));
        let mut unavailable = blocked.clone();
        let mut reserved = BTreeMap::new();
        let mut reserved_by_owner = BTreeMap::new();
        for r in &subnet.reservations {
            let value = to_value(r.address);
            unavailable.insert(value, value);
            reserved.insert(value, r.owner.clone());
            reserved_by_owner.insert(r.owner.clone(), value);
        }
        let apart: BTreeSet<u128> = subnet.apart.iter().map(|address| to_value(*address)).collect();
        apart.iter().for_each(|value| unavailable.insert(*value, *value));
        Pool {
            size: (last - first).saturating_add(1) - blocked.count_within(first, last),
            subnet: subnet.clone(),
            first,
            last,
            blocked,
            reserved,
            reserved_by_owner,
            apart,
            unavailable,
            owners: BTreeMap::new(),
            holds: BTreeMap::new(),
            by_until: BTreeSet::new(),
            cursor: first,
        }
    }

    /// The same holders under another definition; the first holder it has no place for, and why, otherwise.
    pub(super) fn rebuilt(&self, subnet: &Subnet) -> Result<Pool, (Owner, IpAddr, String)> {
        let mut pool = Pool::new(subnet);
        for (&value, owner) in &self.owners {
            let Some(address) = self.address(value) else { continue };
            let why = if !subnet.prefix.contains(&address) {
                format!("not in {}", subnet.prefix)
            } else if let Some(role) = pool.role(value) {
                format!("it would be the {role}")
            } else if pool.blocked.contains(value) {
                "excluded".to_owned()
            } else {
                match pool.reserved.get(&value) {
                    Some(other) if other != owner => format!("reserved for {other}"),
                    _ => {
                        pool.give(value, owner.clone(), How::Fixed);
                        continue;
                    }
                }
            };
            return Err((owner.clone(), address, why));
        }
        for (&value, hold) in &self.holds {
            if (pool.first..=pool.last).contains(&value) && !pool.blocked.contains(value) {
                pool.hold(value, hold.clone());
            }
        }
        pool.set_cursor(self.cursor);
        Ok(pool)
    }

    pub(super) fn usage(&self) -> PoolUsage {
        PoolUsage { size: self.size, used: self.owners.len(), quarantined: self.holds.len() }
    }

    pub(super) fn owner_at(&self, value: u128) -> Option<&Owner> {
        self.owners.get(&value)
    }

    pub(super) fn hold_at(&self, value: u128) -> Option<&Hold> {
        self.holds.get(&value)
    }

    pub(super) fn holds(&self) -> impl Iterator<Item = (IpAddr, &Hold)> {
        self.holds.iter().filter_map(|(&v, h)| self.address(v).map(|a| (a, h)))
    }

    pub(super) fn next(&self) -> Option<IpAddr> {
        self.address(self.cursor)
    }

    pub(super) fn address(&self, value: u128) -> Option<IpAddr> {
        from_value(value, is_v4(&self.subnet.prefix))
    }

    pub(super) fn role(&self, value: u128) -> Option<Role> {
        let of_architecture = self.subnet.architectural().into_iter();
        of_architecture
            .filter(|(_, lo, hi)| (*lo..=*hi).contains(&value))
            .map(|(role, ..)| role)
            .chain(self.subnet.roles().filter(|(_, a)| to_value(*a) == value).map(|(role, _)| role))
            .next()
    }

    /// Can the address be someone's at all: in the prefix, no role, not excluded?
    pub(super) fn check_assignable(&self, network: &str, address: IpAddr) -> Result<u128, IpamError> {
        let network = || network.to_owned();
        if !self.subnet.prefix.contains(&address) {
            return Err(IpamError::OutOfRange { network: network(), prefix: self.subnet.prefix, address });
        }
        let value = to_value(address);
        if let Some(role) = self.role(value) {
            return Err(IpamError::RoleAddress { network: network(), address, role });
        }
        if self.blocked.contains(value) {
            return Err(IpamError::Excluded { network: network(), address });
        }
        Ok(value)
    }

    /// May `owner` have exactly this address now?
    pub(super) fn check(
        &self,
        network: &str,
        owner: &Owner,
        address: IpAddr,
        now: u64,
        force: bool,
    ) -> Result<(), IpamError> {
        let value = self.check_assignable(network, address)?;
        let network = || network.to_owned();
        if let Some(holder) = self.owners.get(&value) {
            return Err(IpamError::Taken { network: network(), address, owner: holder.clone() });
        }
        if let Some(other) = self.reserved.get(&value).filter(|other| *other != owner) {
            return Err(IpamError::ReservedFor { network: network(), address, owner: other.clone() });
        }
        if let Some(hold) = self.holds.get(&value) {
            let own = hold.reason == HoldReason::Released && hold.owner.as_ref() == Some(owner);
            if hold.until > now && !own && !force {
                return Err(IpamError::Quarantined {
                    network: network(),
                    address,
                    reason: hold.reason,
                    until: hold.until,
                    wait: hold.until - now,
                });
            }
        }
        Ok(())
    }

    /// May `owner` have this address rather than another, not having been told it?
    pub(super) fn may_prefer(&self, network: &str, owner: &Owner, address: IpAddr, now: u64) -> bool {
        !self.apart.contains(&to_value(address)) && self.check(network, owner, address, now, false).is_ok()
    }

    /// The address automatic choice gives `owner`: the one reserved for them; else the next free one after the last
    /// given; else, the pool being used up, the one that has rested longest past its time.
    pub(super) fn choose(&self, network: &str, owner: &Owner, now: u64) -> Result<(IpAddr, How), IpamError> {
        if let Some(address) = self.reserved_by_owner.get(owner).and_then(|&v| self.address(v)) {
            self.check(network, owner, address, now, false)?;
            return Ok((address, How::Reserved));
        }
        let around = || self.cursor.checked_sub(1).and_then(|end| self.unavailable.next_gap(self.first, end));
        let rested = || {
            let due = self.by_until.iter().take_while(|(until, _)| *until <= now);
            due.map(|&(_, value)| value).find(|value| self.is_for_anyone(*value))
        };
        let chosen = self.unavailable.next_gap(self.cursor, self.last).or_else(around).or_else(rested);
        if let Some(address) = chosen.and_then(|v| self.address(v)) {
            return Ok((address, How::Auto));
        }
        let next_free_at =
            self.by_until.iter().find(|(_, v)| self.is_for_anyone(*v)).map(|(until, _)| *until);
        let PoolUsage { size, used, quarantined } = self.usage();
        Err(IpamError::Exhausted {
            network: network.to_owned(),
            prefix: self.subnet.prefix,
            size,
            used,
            quarantined,
            next_free_at,
            wait: next_free_at.map(|t| t.saturating_sub(now)),
        })
    }

    /// Addresses whose rest is over.
    pub(super) fn due(&self, now: u64) -> impl Iterator<Item = IpAddr> + '_ {
        self.by_until.iter().take_while(move |(until, _)| *until <= now).filter_map(|&(_, v)| self.address(v))
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.by_until.first().map(|(until, _)| *until)
    }

    pub(super) fn give(&mut self, value: u128, owner: Owner, how: How) {
        self.lift(value);
        self.owners.insert(value, owner);
        self.unavailable.insert(value, value);
        if how == How::Auto {
            self.set_cursor(value.saturating_add(1));
        }
    }

    /// Takes the address from its owner and frees it.
    pub(super) fn take_back(&mut self, value: u128) {
        self.owners.remove(&value);
        self.make_available(value);
    }

    /// Puts an address aside, replacing an earlier hold; the caller has taken it from its owner.
    pub(super) fn hold(&mut self, value: u128, hold: Hold) {
        self.lift(value);
        self.by_until.insert((hold.until, value));
        self.holds.insert(value, hold);
        self.unavailable.insert(value, value);
    }

    /// Ends a hold, if there is one.
    pub(super) fn lift(&mut self, value: u128) {
        if let Some(hold) = self.holds.remove(&value) {
            self.by_until.remove(&(hold.until, value));
            self.make_available(value);
        }
    }

    pub(super) fn set_cursor(&mut self, value: u128) {
        self.cursor = if (self.first..=self.last).contains(&value) { value } else { self.first };
    }

    /// Whether automatic choice may give it to whoever comes.
    fn is_for_anyone(&self, value: u128) -> bool {
        !self.reserved.contains_key(&value) && !self.apart.contains(&value)
    }

    fn make_available(&mut self, value: u128) {
        if self.is_for_anyone(value) && !self.blocked.contains(value) {
            self.unavailable.remove(value);
        }
    }
}
