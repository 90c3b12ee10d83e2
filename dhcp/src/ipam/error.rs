//! Why an address cannot be given, in words for the person who asked.

use std::net::IpAddr;

use ipnet::IpNet;

use super::network::Role;
use super::owner::{MAX_OWNER_LEN, Owner};
use super::pool::HoldReason;
use crate::mac::Mac;

/// How many MACs are derived from one random number before giving up: with 2^46 to choose from, reaching it means
/// the random numbers are not random.
pub const MAC_ATTEMPTS: u32 = 64;

/// A refused request. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpamError {
    /// No network of this name.
    #[error("there is no network {name:?}; declare it first")]
    UnknownNetwork {
        /// The name asked for.
        name: String,
    },
    /// A network of this name is declared already.
    #[error("network {name:?} exists already")]
    NetworkExists {
        /// Its name.
        name: String,
    },
    /// Two networks share addresses.
    #[error(
        "network {name:?} ({prefix}) overlaps network {other:?} ({other_prefix}); choose a prefix of its own"
    )]
    Overlap {
        /// The network asked for.
        name: String,
        /// Its prefix.
        prefix: IpNet,
        /// The network that is there.
        other: String,
        /// Its prefix.
        other_prefix: IpNet,
    },
    /// A definition contradicts itself.
    #[error("network {name:?}: {problem}")]
    BadNetwork {
        /// The network.
        name: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A network cannot go, or a prefix cannot change, under its users.
    #[error("network {name:?} is still used by {owners} owner(s), {example} among them; release them first")]
    NetworkInUse {
        /// The network.
        name: String,
        /// How many.
        owners: usize,
        /// One of them.
        example: Owner,
    },
    /// A changed definition leaves out an address that is given.
    #[error("network {name:?} cannot change: {owner} holds {address} ({why})")]
    UpdateConflict {
        /// The network.
        name: String,
        /// The holder.
        owner: Owner,
        /// Its address.
        address: IpAddr,
        /// What the new definition says about it.
        why: String,
    },
    /// Not a usable owner name.
    #[error("{name:?} is not an owner name: 1 to {MAX_OWNER_LEN} bytes, no control characters")]
    BadOwner {
        /// Its beginning.
        name: String,
    },
    /// The network has no prefix of this family.
    #[error("network {network:?} has no {family} prefix")]
    NoFamily {
        /// The network.
        network: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The owner has one of these here already.
    #[error("{owner} has {has} on network {network:?} already; release it first")]
    AlreadyAssigned {
        /// The network.
        network: String,
        /// Who.
        owner: Owner,
        /// The address or MAC it has.
        has: String,
    },
    /// The owner has nothing on the network.
    #[error("{owner} holds nothing on network {network:?}")]
    NotAssigned {
        /// The network.
        network: String,
        /// Who.
        owner: Owner,
    },
    /// The address is outside the prefix.
    #[error("{address} is not in network {network:?} ({prefix})")]
    OutOfRange {
        /// The network.
        network: String,
        /// Its prefix of that family.
        prefix: IpNet,
        /// The address.
        address: IpAddr,
    },
    /// The address has a job of its own.
    #[error("{address} is the {role} of network {network:?} and cannot be given out")]
    RoleAddress {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
        /// Its job.
        role: Role,
    },
    /// The definition excludes the address.
    #[error("{address} is excluded from network {network:?} by its definition")]
    Excluded {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
    },
    /// The definition keeps the address for someone else.
    #[error("{address} on network {network:?} is reserved for {owner}")]
    ReservedFor {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
        /// For whom.
        owner: Owner,
    },
    /// Someone has the address.
    #[error("{address} on network {network:?} is taken by {owner}")]
    Taken {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
        /// By whom.
        owner: Owner,
    },
    /// The address is put aside.
    #[error(
        "{address} on network {network:?} is put aside ({reason}) for another {}; wait, or force it",
        seconds(*wait)
    )]
    Quarantined {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
        /// Why.
        reason: HoldReason,
        /// Until when, milliseconds since the epoch.
        until: u64,
        /// How long that is from the request, in milliseconds.
        wait: u64,
    },
    /// Nothing is left.
    #[error(
        "network {network:?} has no free address in {prefix}: {used} of {size} in use, {quarantined} put aside{}; \
         release some, or use a larger prefix",
        match wait { Some(w) => format!(" (the first for another {})", seconds(*w)), None => String::new() }
    )]
    Exhausted {
        /// The network.
        network: String,
        /// The prefix that is full.
        prefix: IpNet,
        /// How many addresses it can give.
        size: u128,
        /// How many are given.
        used: usize,
        /// How many are put aside.
        quarantined: usize,
        /// When the first of those comes free, milliseconds since the epoch.
        next_free_at: Option<u64>,
        /// How long that is from the request, in milliseconds.
        wait: Option<u64>,
    },
    /// Someone has the MAC.
    #[error("{mac} on network {network:?} is taken by {owner}")]
    MacTaken {
        /// The network.
        network: String,
        /// The MAC.
        mac: Mac,
        /// By whom.
        owner: String,
    },
    /// A group address, or all zero.
    #[error("{mac} cannot be a station's address: the group bit must be clear and not all octets zero")]
    BadMac {
        /// The MAC.
        mac: Mac,
    },
    /// Every MAC derived from the random number was taken.
    #[error(
        "no free MAC on network {network:?} after {MAC_ATTEMPTS} tries from one random number; is it random?"
    )]
    MacExhausted {
        /// The network.
        network: String,
    },
}

/// A change that does not follow from the state: the store is damaged, or changes were applied out of order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the stored change does not fit the state before it, the store is damaged or out of order: {problem}"
)]
pub struct ApplyError {
    /// What does not fit.
    pub problem: String,
}

/// A wait in milliseconds, for people.
fn seconds(ms: u64) -> String {
    let s = ms.div_ceil(1000);
    if s < 120 { format!("{s} s") } else { format!("{} min", s.div_ceil(60)) }
}
