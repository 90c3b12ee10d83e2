//! What can happen to the address state: the vocabulary of the store.
//!
//! A change carries everything its fold needs (chosen address, end of quarantine), so replaying an old store does not
//! depend on today's configuration, clock or allocation policy.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::network::Network;
use super::owner::Owner;
use super::pool::HoldReason;
use crate::mac::Mac;

/// How an address was chosen. Only `Auto` moves the pool's next-fit cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The pool's next free address.
    Auto,
    /// The address the owner asked for, having had it before.
    Preferred,
    /// The address the caller named.
    Fixed,
    /// The network's own reservation for this owner.
    Reserved,
}

/// An address given to an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The address, of either family.
    pub address: IpAddr,
    /// How it was chosen.
    pub how: How,
}

/// One event of the address state. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A network was declared.
    NetworkAdded {
        /// Its definition.
        network: Box<Network>,
    },
    /// A network's definition was replaced; every assignment stays valid under the new one.
    NetworkUpdated {
        /// The new definition; its name says which network.
        network: Box<Network>,
    },
    /// A network without assignments was withdrawn, with its quarantine.
    NetworkRemoved {
        /// Its name.
        name: String,
    },
    /// An owner got addresses, a MAC, or both; what it had already stays.
    Assigned {
        /// The network.
        network: String,
        /// Who.
        owner: Owner,
        /// The IPv4 address, if one was given now.
        v4: Option<Granted>,
        /// The IPv6 address, if one was given now.
        v6: Option<Granted>,
        /// The MAC, if one was given now.
        mac: Option<Mac>,
        /// When.
        at: u64,
    },
    /// An owner gave everything it had on a network back.
    Released {
        /// The network.
        network: String,
        /// Who.
        owner: Owner,
        /// When.
        at: u64,
        /// End of the addresses' quarantine; `None`: free at once.
        until: Option<u64>,
    },
    /// An address was put aside (or an earlier hold extended), taken from its owner if it had one.
    Held {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
        /// Why.
        reason: HoldReason,
        /// Who had it: now or, for a released address, before.
        owner: Option<Owner>,
        /// When.
        at: u64,
        /// Until when it may not be given.
        until: u64,
    },
    /// Holds whose time has passed were lifted; the addresses are free.
    Expired {
        /// The network.
        network: String,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Where the next automatic choice starts. Written only by `Ipam::snapshot`.
    Cursor {
        /// The network.
        network: String,
        /// The next address to try; its family says which pool.
        next: IpAddr,
    },
}
