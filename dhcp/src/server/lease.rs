//! Leases: their record, what happens to them, and the table that is the fold of that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::config::DynamicRange;
use crate::mac::Mac;
use crate::ranges::RangeSet;

/// Whose a lease is: the MAC, and the client-id if one was sent (opaque, RFC 4361 §6.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientKey {
    /// The station.
    pub mac: Mac,
    /// Option 61.
    pub client_id: Option<Vec<u8>>,
}

/// What a lease is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// The client may use the address until the expiry.
    Bound,
    /// The client gave it back.
    Released,
    /// Its time passed.
    Expired,
    /// The client found someone else using the address; it rests until the expiry.
    Declined,
}

/// The record of an address given by DHCP. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose.
    pub client: ClientKey,
    /// What it is doing.
    pub state: LeaseState,
    /// When this binding began.
    pub since: u64,
    /// When it ends; `u64::MAX`: never.
    pub expiry: u64,
    /// When the client was last heard.
    pub last_seen: u64,
    /// What the client calls itself (option 81 or 12), made printable. For people to read; never a name to resolve.
    pub client_name: Option<String>,
}

/// One event of the lease state; the caller stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum LeaseChange {
    /// A lease was given or renewed: this is its whole record now.
    Bound(Lease),
    /// The client gave the address back.
    Released {
        /// The address.
        address: Ipv4Addr,
        /// When.
        at: u64,
    },
    /// The lease ran out.
    Expired {
        /// The address.
        address: Ipv4Addr,
        /// When it was noticed.
        at: u64,
    },
    /// Someone else uses the address: it rests.
    Declined {
        /// The address.
        address: Ipv4Addr,
        /// Who found out.
        client: ClientKey,
        /// When.
        at: u64,
        /// Until when it rests.
        until: u64,
    },
}

/// All leases of one network in memory: a pure fold of [`LeaseChange`]s. One record per address; every operation
/// O(log n).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseTable {
    by_address: BTreeMap<Ipv4Addr, Lease>,
    by_client: BTreeMap<ClientKey, Ipv4Addr>,
    range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Addresses with a record: not free for a newcomer while others are.
    recorded: RangeSet,
    /// Bound and declined leases by the end of their time.
    by_expiry: BTreeSet<(u64, Ipv4Addr)>,
    /// Released and expired leases of the range, longest unused first.
    reusable: BTreeSet<(u64, Ipv4Addr)>,
}

impl LeaseTable {
    /// No leases, and no addresses for newcomers.
    pub fn new() -> Self {
        Self::default()
    }

    /// No leases; newcomers get addresses of the range.
    pub fn with_range(range: &DynamicRange) -> Self {
        LeaseTable { range: Some((range.first, range.last)), ..Self::default() }
    }

    /// Folds a change in. A change about an address without a record, other than `Bound` and `Declined`, does nothing.
    pub fn apply(&mut self, change: &LeaseChange) {
        match change {
            LeaseChange::Bound(lease) => self.put(lease.clone()),
            LeaseChange::Released { address, at } => self.end(*address, LeaseState::Released, *at),
            LeaseChange::Expired { address, at } => self.end(*address, LeaseState::Expired, *at),
            LeaseChange::Declined { address, client, at, until } => self.put(Lease {
                address: *address,
                client: client.clone(),
                state: LeaseState::Declined,
                since: *at,
                expiry: *until,
                last_seen: *at,
                client_name: None,
            }),
        }
    }

    /// The record of an address.
    pub fn at(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.by_address.get(&address)
    }

    /// The record of a client.
    pub fn of(&self, client: &ClientKey) -> Option<&Lease> {
        self.by_client.get(client).and_then(|a| self.by_address.get(a))
    }

    /// How many bound leases a MAC has, under whatever client-ids.
    pub fn bound_to(&self, mac: Mac) -> usize {
        let of_mac =
            self.by_client.range(ClientKey { mac, client_id: None }..).take_while(|(k, _)| k.mac == mac);
        of_mac.filter(|(_, a)| self.at(**a).is_some_and(|l| l.state == LeaseState::Bound)).count()
    }

    /// All records, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_address.values()
    }

    /// An address of the range for a newcomer, other than those to be skipped: one without a record; else the longest
    /// unused.
    pub fn free(&self, skip: &dyn Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let (first, last) = self.range?;
        let gap = |from: u32| self.recorded.next_gap(from.into(), u32::from(last).into());
        let mut from = Some(u32::from(first));
        while let Some(value) = from.and_then(gap).and_then(|v| u32::try_from(v).ok()) {
            if !skip(value.into()) {
                return Some(value.into());
            }
            from = value.checked_add(1);
        }
        self.reusable.iter().map(|(_, address)| *address).find(|address| !skip(*address))
    }

    /// When the next lease ends: when to call [`LeaseTable::decide_expire`].
    pub fn next_expiry(&self) -> Option<u64> {
        self.by_expiry.first().map(|(at, _)| *at)
    }

    /// The leases whose time has passed, declined ones among them, as changes to store and apply.
    pub fn decide_expire(&self, now: u64) -> Vec<LeaseChange> {
        let due = self.by_expiry.iter().take_while(|(at, _)| *at <= now);
        due.map(|&(_, address)| LeaseChange::Expired { address, at: now }).collect()
    }

    fn put(&mut self, lease: Lease) {
        let address = lease.address;
        if let Some(old) = self.by_address.remove(&address) {
            self.unindex(&old);
            if self.by_client.get(&old.client) == Some(&address) {
                self.by_client.remove(&old.client);
            }
        }
        // A declined address is nobody's. A client that moves gives back what it had.
        if lease.state != LeaseState::Declined
            && let Some(moved_from) = self.by_client.insert(lease.client.clone(), address)
        {
            self.end(moved_from, LeaseState::Released, lease.last_seen);
        }
        self.recorded.insert(u32::from(address).into(), u32::from(address).into());
        self.index(&lease);
        self.by_address.insert(address, lease);
    }

    fn end(&mut self, address: Ipv4Addr, state: LeaseState, at: u64) {
        let Some(mut lease) = self.by_address.remove(&address) else { return };
        self.unindex(&lease);
        lease.state = state;
        lease.expiry = at;
        self.index(&lease);
        self.by_address.insert(address, lease);
    }

    fn index(&mut self, lease: &Lease) {
        let at = (lease.expiry, lease.address);
        let in_range = self.range.is_some_and(|(first, last)| (first..=last).contains(&lease.address));
        match lease.state {
            LeaseState::Bound | LeaseState::Declined => self.by_expiry.insert(at),
            LeaseState::Released | LeaseState::Expired => in_range && self.reusable.insert(at),
        };
    }

    fn unindex(&mut self, lease: &Lease) {
        self.by_expiry.remove(&(lease.expiry, lease.address));
        self.reusable.remove(&(lease.expiry, lease.address));
    }
}
