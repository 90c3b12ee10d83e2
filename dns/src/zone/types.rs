//! The plain values a zone is made of and changed by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Longest TTL of a record, in seconds: instances come and go, and clients must notice.
pub const MAX_TTL: u32 = 5;
/// Longest time, in seconds, a client may remember that a name does not exist.
pub const MAX_NEGATIVE_TTL: u32 = 30;
/// Most addresses of one family, or ports, of one instance.
pub const MAX_PER_INSTANCE: usize = 256;
/// Most bytes of an instance's TXT strings with their length octets: RFC 6763 section 6.2 advises 1300.
pub const MAX_TXT: usize = 1300;

/// A zone: one fabric's names, and the reverse zones of the addresses it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneConfig {
    /// The top of the zone, such as `shop.internal`.
    pub origin: String,
    /// TTL of every positive answer, in seconds: 0 to [`MAX_TTL`].
    pub ttl: u32,
    /// TTL of every negative answer and of the SOA, in seconds: 0 to [`MAX_NEGATIVE_TTL`].
    pub negative_ttl: u32,
    /// The serial to begin with. Each change to the zone adds one (RFC 1982), so a caller that wants it to
    /// grow across restarts begins above where it ended: the store's own sequence number does.
    pub serial: u32,
    /// The name server: the label below the origin (`ns`) and the addresses this server answers on.
    pub ns: Host,
    /// Other fixed names of the zone, such as `gw`.
    pub hosts: Vec<Host>,
    /// The prefixes whose reverse zones are answered here. May not overlap one another.
    pub reverse: Vec<IpNet>,
}

/// A fixed name directly below the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// One host label.
    pub label: String,
    /// At least one address.
    pub addresses: Vec<IpAddr>,
}

/// The protocol of a port: the second label of an SRV name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// `_tcp`
    Tcp,
    /// `_udp`
    Udp,
}

impl Proto {
    /// The label, with its underscore.
    pub fn label(self) -> &'static str {
        match self {
            Proto::Tcp => "_tcp",
            Proto::Udp => "_udp",
        }
    }
}

/// A port an instance offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// A service name of RFC 6335 such as `http`; the SRV record is at `_http._tcp.<service>.<zone>`.
    pub name: String,
    /// TCP or UDP.
    pub proto: Proto,
    /// Port number.
    pub port: u16,
}

impl Instance {
    /// Its host name's label: `<service>-<id>`.
    pub(crate) fn label(&self) -> String {
        format!("{}-{}", self.service, self.id)
    }
}

/// An instance: one member of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Unique in the zone; a host label. The names are `<id>.<service>.<origin>` and, as a host
    /// name, `<service>-<id>.<origin>`.
    pub id: String,
    /// The service, a host label. The name is `<service>.<origin>`.
    pub service: String,
    /// IPv4 addresses, without duplicates.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6 addresses, without duplicates.
    pub v6: Vec<Ipv6Addr>,
    /// Whether it is in the service's answers. Its own names exist in any case.
    pub ready: bool,
    /// What it offers.
    pub ports: Vec<Port>,
    /// Metadata, each string usually `key=value`, at most 255 bytes.
    pub txt: Vec<String>,
}

/// A change to a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds an instance, or replaces the one of this id.
    AddInstance(Instance),
    /// Joins or leaves the service. Leaving is allowed for an id that is not there, so that it can be repeated.
    SetReady {
        /// The instance.
        id: String,
        /// Whether it is to be in the service's answers.
        ready: bool,
    },
    /// Withdraws an instance's names. Nothing happens for an id that is not there, so that it can be repeated.
    RemoveInstance {
        /// The instance.
        id: String,
    },
    /// Makes a service's name exist without any instance: NODATA instead of NXDOMAIN while it is scaled to zero.
    DeclareService {
        /// A host label.
        service: String,
    },
    /// Ends that. The name still exists while instances do.
    WithdrawService {
        /// A host label.
        service: String,
    },
    /// Makes `<alias>.<origin>` a CNAME, or points it elsewhere.
    SetAlias {
        /// A host label.
        alias: String,
        /// A label below the origin, or a full name inside the zone.
        target: String,
    },
    /// Takes an alias away. Nothing happens for one that is not there.
    RemoveAlias {
        /// A host label.
        alias: String,
    },
}
