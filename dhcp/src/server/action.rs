//! What the server asks its host to do, and what it reports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::lease::LeaseChange;
use crate::mac::Mac;
use crate::wire::{FrameError, MessageError, MessageType};

/// Something for the host to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this frame now.
    Send(Vec<u8>),
    /// Store this change durably and fold it into the lease view; only then send the frame, if there is one. If
    /// storing fails, send nothing: the client will ask again.
    Persist {
        /// What happened.
        change: LeaseChange,
        /// The promise that rests on it.
        then: Option<Vec<u8>>,
    },
    /// Something worth knowing.
    Log(Event),
}

/// Why a message got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Ignored {
    BadFrame(FrameError),
    BadMessage(MessageError),
    /// `chaddr` is not the frame's source: someone speaks in another's name.
    ForeignHardwareAddress,
    UnknownRelay,
    OtherSubnet,
    OtherServer,
    RateLimited,
    UnknownClient,
    PoolExhausted,
    TooManyLeases,
    OffersFull,
    OversizedClientId,
    /// A REQUEST that fits none of the four client states, or a RELEASE or DECLINE of what the client has not.
    Inconsistent,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ignored::BadFrame(e) => return write!(f, "bad frame: {e}"),
            Ignored::BadMessage(e) => return write!(f, "bad message: {e}"),
            Ignored::ForeignHardwareAddress => "its hardware address field names another station",
            Ignored::UnknownRelay => "it came through a relay that is not configured",
            Ignored::OtherSubnet => "it asks for another subnet",
            Ignored::OtherServer => "it is for another server",
            Ignored::RateLimited => "too many messages",
            Ignored::UnknownClient => "no reservation for this MAC, and no dynamic range",
            Ignored::PoolExhausted => "the dynamic range is used up",
            Ignored::TooManyLeases => "this MAC has as many dynamic leases as it may",
            Ignored::OffersFull => "too many offers are pending",
            Ignored::OversizedClientId => "its client identifier is longer than 255 octets",
            Ignored::Inconsistent => "its addresses contradict each other or our records",
        })
    }
}

/// Why a client was told no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NakReason {
    /// The address is not of this network.
    WrongNetwork,
    /// The client is to have another address.
    OtherAddress,
    /// Someone else has the address, or it rests.
    NotAvailable,
    /// We gave this client nothing.
    NoLease,
}

impl fmt::Display for NakReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NakReason::WrongNetwork => "address is not of this network",
            NakReason::OtherAddress => "another address is assigned to this client",
            NakReason::NotAvailable => "address is not available",
            NakReason::NoLease => "no lease for this client",
        })
    }
}

/// Something that happened, for the log and the event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    Offered {
        mac: Mac,
        address: Ipv4Addr,
    },
    Acknowledged {
        mac: Mac,
        address: Ipv4Addr,
        seconds: u32,
    },
    Informed {
        mac: Mac,
        address: Ipv4Addr,
    },
    Refused {
        mac: Mac,
        asked: Ipv4Addr,
        why: NakReason,
    },
    Released {
        mac: Mac,
        address: Ipv4Addr,
    },
    Declined {
        mac: Mac,
        address: Ipv4Addr,
    },
    /// Another station uses an address of ours: the server's own, or one about to be offered.
    Conflict {
        address: IpAddr,
        by: Mac,
    },
    /// `kind` is unknown for what could not be read that far.
    Ignored {
        mac: Mac,
        kind: Option<MessageType>,
        why: Ignored,
    },
    /// Options that found no room in the client's message size.
    OptionsLeftOut {
        mac: Mac,
        codes: Vec<u8>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Offered { mac, address } => write!(f, "offered {address} to {mac}"),
            Event::Acknowledged { mac, address, seconds } => write!(f, "{mac} has {address} for {seconds} s"),
            Event::Informed { mac, address } => write!(f, "told {mac} at {address} the network's settings"),
            Event::Refused { mac, asked, why } => write!(f, "refused {asked} to {mac}: {why}"),
            Event::Released { mac, address } => write!(f, "{mac} released {address}"),
            Event::Declined { mac, address } => write!(f, "{mac} declined {address}: someone else uses it"),
            Event::Conflict { address, by } => write!(f, "{by} uses {address}, which is not its own"),
            Event::Ignored { mac, kind: Some(kind), why } => write!(f, "ignored {kind:?} from {mac}: {why}"),
            Event::Ignored { mac, kind: None, why } => write!(f, "ignored a frame from {mac}: {why}"),
            Event::OptionsLeftOut { mac, codes } => {
                write!(f, "no room for options {codes:?} in the reply to {mac}")
            }
        }
    }
}

/// Counters since the server was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Stats {
    pub frames: u64,
    pub discovers: u64,
    pub requests: u64,
    pub declines: u64,
    pub releases: u64,
    pub informs: u64,
    pub offers: u64,
    pub acks: u64,
    pub naks: u64,
    pub ignored: u64,
    pub rate_limited: u64,
    pub arp_replies: u64,
    pub neighbor_adverts: u64,
}
