//! What can be wrong with a zone or a change to one. Every message names the object and what to do.

use ipnet::IpNet;

use crate::name::NameError;

/// Why a zone or a change was refused. The snapshot is as it was: changes apply all together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// A name that cannot be used in DNS.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The zone's origin is, contains or lies in that of another zone.
    #[error(
        "the zone {origin} overlaps the zone {other}; give the two fabrics origins of which neither contains the other"
    )]
    OriginOverlaps {
        /// The zone to be added.
        origin: String,
        /// The one that is there.
        other: String,
    },
    /// The origin lies in the reverse tree.
    #[error("the origin {origin} lies in the reverse tree; list the prefix under `reverse` instead")]
    OriginIsReverse {
        /// The zone to be added.
        origin: String,
    },
    /// Two owned prefixes overlap, so their reverse zones would.
    #[error(
        "the reverse prefix {prefix} of {origin} overlaps {other} of {owner}; an address can have one owner only"
    )]
    PrefixOverlaps {
        /// The prefix to be added.
        prefix: IpNet,
        /// Its zone.
        origin: String,
        /// The one that is there.
        other: IpNet,
        /// The zone of that one.
        owner: String,
    },
    /// No zone of this origin.
    #[error("there is no zone {origin}")]
    NoSuchZone {
        /// The origin asked for.
        origin: String,
    },
    /// A TTL above what the design allows.
    #[error("{what} of zone {origin} is {ttl} s; at most {max} s are allowed, because instances come and go")]
    TtlTooLong {
        /// `ttl` or `negative_ttl`.
        what: &'static str,
        /// The zone.
        origin: String,
        /// Seconds asked for.
        ttl: u32,
        /// Seconds allowed.
        max: u32,
    },
    /// A host entry, or the name server, without an address.
    #[error("{name} has no address; give it at least one")]
    NoAddress {
        /// The host.
        name: String,
    },
    /// The name is in use for something else.
    #[error("{name} is already {by}; choose another name")]
    NameTaken {
        /// The name asked for.
        name: String,
        /// What has it: `an alias`, `a host of the zone`, `a service`.
        by: &'static str,
    },
    /// No instance of this id in the zone.
    #[error("zone {origin} has no instance {id}")]
    NoSuchInstance {
        /// The zone.
        origin: String,
        /// The id asked for.
        id: String,
    },
    /// More of something than an instance may have.
    #[error("instance {id} has {count} {what}; at most {max} are allowed")]
    TooMany {
        /// The instance.
        id: String,
        /// `IPv4 addresses`, `ports`, …
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// An address listed twice.
    #[error("instance {id} has the address {address} twice")]
    DuplicateAddress {
        /// The instance.
        id: String,
        /// The address.
        address: std::net::IpAddr,
    },
    /// Two ports of one name and protocol.
    #[error("instance {id} has the port {port} twice; one SRV name can carry one port of an instance")]
    DuplicatePort {
        /// The instance.
        id: String,
        /// As in `_http._tcp`.
        port: String,
    },
    /// A TXT string above 255 bytes, or an empty one.
    #[error("a TXT string of instance {id} has {len} bytes; 1 to 255 are possible (RFC 1035 section 3.3.14)")]
    TxtString {
        /// The instance.
        id: String,
        /// Its length.
        len: usize,
    },
    /// All TXT strings together above 1300 bytes.
    #[error(
        "the TXT strings of instance {id} have {len} bytes together; at most {max} fit an answer (RFC 6763 section 6.2)"
    )]
    TxtTotal {
        /// The instance.
        id: String,
        /// Their length with length octets.
        len: usize,
        /// The most allowed.
        max: usize,
    },
    /// An alias that points outside its zone.
    #[error(
        "the alias {alias} points to {target}, outside the zone {origin}; aliases stay inside their zone"
    )]
    AliasOutside {
        /// The alias.
        alias: String,
        /// Where it points.
        target: String,
        /// Its zone.
        origin: String,
    },
    /// An alias that leads back to itself.
    #[error("the alias {alias} leads back to itself through {target}")]
    AliasLoop {
        /// The alias.
        alias: String,
        /// Where it points.
        target: String,
    },
}
