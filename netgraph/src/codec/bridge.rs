//! ng_bridge(4): an Ethernet bridge. Hooks `linkN` and `uplinkN` (netgraph/ng_bridge.c, ng_bridge.h).

use super::generic::hook_name;
use super::{DecodeError, Payload, Reader, Writer, bare_requests, requests};
use crate::addr::Mac;
use crate::name::HookName;
use crate::sys;
use std::fmt;
use std::mem::size_of;

/// One link of a bridge. Its number is any u32; the kernel wants it written canonically, and `uplink0` does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkNumber {
    /// `linkN`: learns, and gets what is unknown (unless the bridge is restrictive).
    Link(u32),
    /// `uplinkN`, N ≥ 1: never learns, always gets what is unknown.
    Uplink(u32),
}

impl LinkNumber {
    /// The hook of this link.
    pub fn hook(self) -> HookName {
        HookName::from_wire(self.to_string().as_bytes())
    }

    /// Reads a hook's name as the kernel does: strtoul of what follows the prefix, compared with the name written back.
    pub fn parse(hook: &[u8]) -> Option<LinkNumber> {
        let number = |prefix: &[u8]| {
            let digits = std::str::from_utf8(hook.strip_prefix(prefix)?).ok()?;
            let value: u32 = digits.parse().ok()?;
            (value.to_string() == digits).then_some(value)
        };
        match hook.first()? {
            b'u' => number(b"uplink").filter(|n| *n != 0).map(LinkNumber::Uplink),
            _ => number(b"link").map(LinkNumber::Link),
        }
    }

    /// How the stats commands number it: an uplink is negative. Numbers beyond 2³¹-1 cannot be asked for (`None`).
    fn wire(self) -> Option<i32> {
        match self {
            LinkNumber::Link(n) => i32::try_from(n).ok(),
            LinkNumber::Uplink(n) => i32::try_from(n).ok().map(|n| -n),
        }
    }

    /// The reverse of the stats commands' numbering.
    pub fn from_wire(number: i32) -> LinkNumber {
        if number < 0 {
            LinkNumber::Uplink(number.unsigned_abs())
        } else {
            LinkNumber::Link(number.unsigned_abs())
        }
    }
}

impl fmt::Display for LinkNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkNumber::Link(n) => write!(f, "link{n}"),
            LinkNumber::Uplink(n) => write!(f, "uplink{n}"),
        }
    }
}

/// How a bridge learns and forgets (`struct ng_bridge_config`, 16 bytes). Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// 0 to 3: what the kernel logs.
    pub debug_level: u8,
    /// How long a link on which a loop was seen stays mute. The kernel keeps the low 16 bits.
    pub loop_timeout: u32,
    /// How long an address that is not heard of stays in the table. Ages are 16 bits wide, so more than 65535 is for ever.
    pub max_staleness: u32,
    /// How old an entry must be before its address may move to another link. More than 65535: it never may.
    pub min_stable_age: u32,
}

impl Default for Config {
    /// The kernel's defaults.
    fn default() -> Config {
        Config { debug_level: 1, loop_timeout: 60, max_staleness: 15 * 60, min_stable_age: 1 }
    }
}

impl Config {
    /// A table that only [`MoveHost`] fills: entries never expire, an address never moves (its frames from elsewhere are
    /// dropped and counted in `loop_drops`), and a link on which that was tried is not muted. It does lose its own entries, so
    /// it has to be seeded again when its `loop_detects` rise.
    pub const FROZEN: Config =
        Config { debug_level: 1, loop_timeout: 0, max_staleness: 0xffff_ffff, min_stable_age: 0x1_0000 };
}

impl Payload for Config {
    fn write(&self, out: &mut Writer) {
        out.put_u8(self.debug_level);
        out.put(&[0; 3]);
        out.put_u32(self.loop_timeout);
        out.put_u32(self.max_staleness);
        out.put_u32(self.min_stable_age);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let debug_level = from.u8()?;
        from.take(3)?;
        Ok(Config {
            debug_level,
            loop_timeout: from.u32()?,
            max_staleness: from.u32()?,
            min_stable_age: from.u32()?,
        })
    }
}

/// Sets the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetConfig(pub Config);

impl Payload for SetConfig {
    fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Config::read(from).map(SetConfig)
    }
}

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name { $($(#[$field_doc])* pub $field: u64),* }
        impl Payload for $name {
            fn write(&self, out: &mut Writer) {
                $(out.put_u64(self.$field);)*
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok($name { $($field: from.u64()?),* })
            }
        }
    };
}
pub(super) use counters;

counters! {
    /// Counters of one link (`struct ng_bridge_link_stats`, 14 × u64). "Received" is from the link into the bridge.
    LinkStats {
        /// Bytes received.
        recv_octets,
        /// Frames received.
        recv_packets,
        /// Multicasts received.
        recv_multicasts,
        /// Broadcasts received.
        recv_broadcasts,
        /// Frames received for an address that is not in the table.
        recv_unknown,
        /// Frames shorter than an Ethernet header.
        recv_runts,
        /// Frames with a group address as their source.
        recv_invalid,
        /// Bytes sent.
        xmit_octets,
        /// Frames sent.
        xmit_packets,
        /// Multicasts sent.
        xmit_multicasts,
        /// Broadcasts sent.
        xmit_broadcasts,
        /// Frames dropped because their source belongs to another link, or because the link is mute.
        loop_drops,
        /// How often an address seemed to be on two links at once.
        loop_detects,
        /// Frames or messages that memory was missing for; on 13.2 also addresses that could not be learned from a vnet.
        memory_failures,
    }
}

/// Declares the three commands about the counters of one link.
macro_rules! link_requests {
    ($($(#[$doc:meta])* $name:ident $command:ident $text:literal $kind:ident -> $reply:ty),*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(i32);
        impl $name {
            /// For this link; `None` for a number the command cannot carry (above 2³¹-1).
            pub fn new(link: LinkNumber) -> Option<Self> {
                link.wire().map(Self)
            }
            /// The link asked for.
            pub fn link(self) -> LinkNumber {
                LinkNumber::from_wire(self.0)
            }
        }
        impl Payload for $name {
            fn write(&self, out: &mut Writer) {
                out.put_i32(self.0);
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                from.i32().map(Self)
            }
        }
        requests!($name NGM_BRIDGE_COOKIE $command $text $kind -> $reply);
    )* };
}

link_requests! {
    /// Asks for the counters of a link (ENOTCONN if there is no such link).
    GetStats NGM_BRIDGE_GET_STATS "getstats" Query -> LinkStats,
    /// Sets the counters of a link to zero.
    ClearStats NGM_BRIDGE_CLR_STATS "clrstats" Effect -> (),
    /// Both at once.
    GetClearStats NGM_BRIDGE_GETCLR_STATS "getclrstats" Exchange -> LinkStats
}

/// An entry of the table (`struct ng_bridge_hostent`, 42 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// The station.
    pub mac: Mac,
    /// The link it is on.
    pub hook: HookName,
    /// Seconds since the entry was made or moved; stays at 65535.
    pub age: u16,
    /// Seconds since it was heard of.
    pub staleness: u16,
}

/// The table (`struct ng_bridge_host_ary`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(pub Vec<Host>);

impl Payload for Table {
    fn write(&self, out: &mut Writer) {
        out.put_u32(self.0.len() as u32);
        for host in &self.0 {
            out.put_mac(host.mac);
            out.put(host.hook.padded());
            out.put_u16(host.age);
            out.put_u16(host.staleness);
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let said = u64::from(from.u32()?);
        let hosts = from.entries(said, size_of::<sys::ng_bridge_hostent>(), |from| {
            Ok(Host { mac: from.mac()?, hook: hook_name(from)?, age: from.u16()?, staleness: from.u16()? })
        })?;
        Ok(Table(hosts))
    }
}

/// Puts a station on a link (`struct ng_bridge_move_host`, 38 bytes). An entry younger than `min_stable_age` on another link
/// is ELOOP, and the link then loses all its entries; no such hook is ENOENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveHost {
    /// The station.
    pub mac: Mac,
    /// The link; empty means the hook the message came in by.
    pub hook: HookName,
}

impl Payload for MoveHost {
    fn write(&self, out: &mut Writer) {
        out.put_mac(self.mac);
        out.put(self.hook.padded());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(MoveHost { mac: from.mac()?, hook: hook_name(from)? })
    }
}

requests! {
    SetConfig NGM_BRIDGE_COOKIE NGM_BRIDGE_SET_CONFIG "setconfig" Effect -> (),
    MoveHost NGM_BRIDGE_COOKIE NGM_BRIDGE_MOVE_HOST "movehost" Effect -> (),
}

bare_requests! {
    /// Asks for the configuration.
    GetConfig NGM_BRIDGE_COOKIE NGM_BRIDGE_GET_CONFIG "getconfig" Query -> Config,
    /// Forgets all stations, counters and mutings.
    Reset NGM_BRIDGE_COOKIE NGM_BRIDGE_RESET "reset" Effect -> (),
    /// Asks for the table.
    GetTable NGM_BRIDGE_COOKIE NGM_BRIDGE_GET_TABLE "gettable" Query -> Table,
    /// Lets the bridge live without hooks; only a shutdown ends it then.
    SetPersistent NGM_BRIDGE_COOKIE NGM_BRIDGE_SET_PERSISTENT "setpersistent" Effect -> (),
}
