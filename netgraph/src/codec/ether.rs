//! ng_ether(4): the node of a real Ethernet interface. Hooks `lower`, `upper`, `orphans` (netgraph/ng_ether.c).

pub use super::eiface::IfName;
use super::{DecodeError, Payload, Reader, Writer, bare_requests, requests};
use crate::addr::Mac;

/// A u32, as several commands have it: an index, or a flag that is 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub u32);

impl Payload for Number {
    fn write(&self, out: &mut Writer) {
        out.put_u32(self.0);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.u32().map(Number)
    }
}

/// An Ethernet address as a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub Mac);

impl Payload for Address {
    fn write(&self, out: &mut Writer) {
        out.put_mac(self.0);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.mac().map(Address)
    }
}

/// Declares the commands that carry an Ethernet address.
macro_rules! mac_requests {
    ($($(#[$doc:meta])* $name:ident $command:ident $text:literal),*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub Mac);
        impl Payload for $name {
            fn write(&self, out: &mut Writer) {
                out.put_mac(self.0);
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                from.mac().map(Self)
            }
        }
        requests!($name NGM_ETHER_COOKIE $command $text Effect -> ());
    )* };
}

mac_requests! {
    /// Sets the interface's address.
    SetMac NGM_ETHER_SET_ENADDR "setenaddr",
    /// Joins a multicast group (EADDRINUSE if it is joined).
    AddMulticast NGM_ETHER_ADD_MULTI "addmulti",
    /// Leaves one.
    DelMulticast NGM_ETHER_DEL_MULTI "delmulti"
}

/// Declares the commands that carry a flag.
macro_rules! flag_requests {
    ($($(#[$doc:meta])* $name:ident $command:ident $text:literal),*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub bool);
        impl Payload for $name {
            fn write(&self, out: &mut Writer) {
                out.put_u32(u32::from(self.0));
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self(from.u32()? != 0))
            }
        }
        requests!($name NGM_ETHER_COOKIE $command $text Effect -> ());
    )* };
}

flag_requests! {
    /// Promiscuous mode: on for a bridged interface.
    SetPromisc NGM_ETHER_SET_PROMISC "setpromisc",
    /// Whether frames sent get the interface's own address as their source: off for a bridged interface.
    SetAutoSrc NGM_ETHER_SET_AUTOSRC "setautosrc"
}

bare_requests! {
    /// Asks for the interface's name.
    GetIfName NGM_ETHER_COOKIE NGM_ETHER_GET_IFNAME "getifname" Query -> IfName,
    /// Asks for the interface's index.
    GetIfIndex NGM_ETHER_COOKIE NGM_ETHER_GET_IFINDEX "getifindex" Query -> Number,
    /// Asks for the interface's address.
    GetMac NGM_ETHER_COOKIE NGM_ETHER_GET_ENADDR "getenaddr" Query -> Address,
    /// Asks whether the node made the interface promiscuous.
    GetPromisc NGM_ETHER_COOKIE NGM_ETHER_GET_PROMISC "getpromisc" Query -> Number,
    /// Asks for the source address override.
    GetAutoSrc NGM_ETHER_COOKIE NGM_ETHER_GET_AUTOSRC "getautosrc" Query -> Number,
    /// Takes the node off its interface for good.
    Detach NGM_ETHER_COOKIE NGM_ETHER_DETACH "detach" Effect -> (),
}
