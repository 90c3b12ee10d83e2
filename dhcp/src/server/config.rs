//! What a server is told about its network, and the checks of it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::mac::Mac;
use crate::wire::{NameError, code, encode_domains, encode_ips, encode_name, encode_routes};

/// Lease times in seconds; `u32::MAX` is for ever (RFC 2131 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTimes {
    /// For a client that does not ask.
    pub default_s: u32,
    /// The least a client gets.
    pub min_s: u32,
    /// The most a client gets.
    pub max_s: u32,
}

/// Addresses for clients without a reservation. Exclude them from the network's automatic assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicRange {
    /// The lowest.
    pub first: Ipv4Addr,
    /// The highest.
    pub last: Ipv4Addr,
    /// How long to wait for an answer to one ARP probe (RFC 5227, RFC 2131 §2.2) before a first offer, in
    /// milliseconds; 0: do not probe. Well below the 3 to 4 s after which clients ask again.
    pub probe_ms: u64,
}

/// Bounds on what clients can make the server do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Messages a MAC may send at once.
    pub burst: u32,
    /// Messages per second a MAC may send in the long run.
    pub per_second: u32,
    /// MACs tracked, of each kind: with a reservation and without.
    pub tracked: usize,
    /// Dynamic offers awaiting their REQUEST.
    pub pending_offers: usize,
    /// Dynamic leases and offers per MAC.
    pub leases_per_mac: usize,
}

/// All a server knows of its network. Build one with [`ServerConfig::new`] and set what differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerConfig {
    /// The server's own MAC on the network.
    pub mac: Mac,
    /// The server's own address, which is its server identifier (option 54).
    pub ip: Ipv4Addr,
    /// An IPv6 address of its own, answered in neighbour discovery.
    pub ipv6: Option<Ipv6Addr>,
    /// The network.
    pub prefix: Ipv4Net,
    /// Option 26, and the largest packet sent.
    pub mtu: u16,
    /// Lease times.
    pub lease: LeaseTimes,
    /// Option 3, and the default route of option 121.
    pub gateway: Option<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15, and the domain of names told by option 81.
    pub domain: Option<String>,
    /// Option 119.
    pub search: Vec<String>,
    /// Option 42.
    pub ntp: Vec<Ipv4Addr>,
    /// Option 121, to which the default route is added (RFC 3442: a client that reads it ignores option 3).
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// `siaddr`.
    pub next_server: Option<Ipv4Addr>,
    /// Option 108: seconds a client able to do without IPv4 shall stay without (RFC 8925).
    pub ipv6_only_wait_s: Option<u32>,
    /// Answer option 116 with "do not configure link-local addresses" (RFC 2563).
    pub forbid_autoconf: bool,
    /// Any other options, by code, for clients that request them.
    pub extra: Vec<(u8, Vec<u8>)>,
    /// A range for clients without a reservation; none: they get no answer.
    pub dynamic: Option<DynamicRange>,
    /// Refuse an INIT-REBOOT or REBINDING client we have no record of, whatever it asks for; RFC 2131 §4.3.2 wants silence, which is right
    /// where other servers may be.
    pub authoritative: bool,
    /// Addresses (`giaddr`) of the relays whose word for `chaddr` is taken; none: relayed messages are dropped.
    pub relays: Vec<Ipv4Addr>,
    /// How long a declined address is not offered again, in milliseconds.
    pub decline_hold_ms: u64,
    /// Bounds.
    pub limits: Limits,
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The server's MAC is not a station's.
    #[error("the DHCP server's MAC {0} cannot be a station's address")]
    BadMac(Mac),
    /// An address is not on the network.
    #[error("the {what} {address} is not in {prefix}")]
    Outside {
        /// What the address is for.
        what: &'static str,
        /// The address.
        address: Ipv4Addr,
        /// The network.
        prefix: Ipv4Net,
    },
    /// Lease times out of order.
    #[error("lease times must satisfy 0 < min <= default <= max, not {min_s} <= {default_s} <= {max_s}")]
    LeaseTimes {
        /// The least.
        min_s: u32,
        /// The usual.
        default_s: u32,
        /// The most.
        max_s: u32,
    },
    /// RFC 791's minimum: every host must accept 576 octets, and DHCP's messages need them.
    #[error("an MTU of {0} is too small for DHCP; at least 576")]
    Mtu(u16),
    /// Not a domain name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The range runs backwards or holds an address of the infrastructure.
    #[error("the dynamic range {first} to {last} {problem}")]
    Range {
        /// Its start.
        first: Ipv4Addr,
        /// Its end.
        last: Ipv4Addr,
        /// What is wrong.
        problem: &'static str,
    },
    /// An extra option that is not the configuration's to set.
    #[error("option {0} is set by the server itself and cannot be given as an extra option")]
    ReservedOption(u8),
    /// A limit of zero would answer no one.
    #[error("the limit {0} must not be zero")]
    ZeroLimit(&'static str),
}

impl ServerConfig {
    /// A server at `ip` on `prefix`: reservations only, leases of one hour, an MTU of 1500, nothing else told.
    pub fn new(mac: Mac, ip: Ipv4Addr, prefix: Ipv4Net) -> Self {
        ServerConfig {
            mac,
            ip,
            ipv6: None,
            prefix,
            mtu: 1500,
            lease: LeaseTimes { default_s: 3600, min_s: 60, max_s: 86_400 },
            gateway: None,
            dns: Vec::new(),
            domain: None,
            search: Vec::new(),
            ntp: Vec::new(),
            routes: Vec::new(),
            next_server: None,
            ipv6_only_wait_s: None,
            forbid_autoconf: false,
            extra: Vec::new(),
            dynamic: None,
            authoritative: false,
            relays: Vec::new(),
            decline_hold_ms: 3_600_000,
            limits: Limits {
                burst: 20,
                per_second: 5,
                tracked: 16_384,
                pending_offers: 256,
                leases_per_mac: 4,
            },
        }
    }

    /// Checks the configuration and encodes what is the same for every client.
    pub(super) fn compile(&self) -> Result<BTreeMap<u8, Vec<u8>>, ConfigError> {
        let prefix = self.prefix;
        if !self.mac.is_unicast() {
            return Err(ConfigError::BadMac(self.mac));
        }
        for (what, address) in [("DHCP server", Some(self.ip)), ("gateway", self.gateway)] {
            match address {
                Some(address) if !prefix.contains(&address) => {
                    return Err(ConfigError::Outside { what, address, prefix });
                }
                _ => {}
            }
        }
        let LeaseTimes { default_s, min_s, max_s } = self.lease;
        if !(0 < min_s && min_s <= default_s && default_s <= max_s) {
            return Err(ConfigError::LeaseTimes { min_s, default_s, max_s });
        }
        if self.mtu < 576 {
            return Err(ConfigError::Mtu(self.mtu));
        }
        self.check_dynamic()?;
        let Limits { burst, per_second, tracked, pending_offers, leases_per_mac } = self.limits;
        for (name, value) in [
            ("burst", burst as usize),
            ("per_second", per_second as usize),
            ("tracked", tracked),
            ("pending_offers", pending_offers),
            ("leases_per_mac", leases_per_mac),
        ] {
            if value == 0 {
                return Err(ConfigError::ZeroLimit(name));
            }
        }
        self.encode()
    }

    fn check_dynamic(&self) -> Result<(), ConfigError> {
        let Some(DynamicRange { first, last, .. }) = self.dynamic else { return Ok(()) };
        let bad = |problem| Err(ConfigError::Range { first, last, problem });
        if first > last {
            return bad("runs backwards");
        }
        if !self.prefix.contains(&first) || !self.prefix.contains(&last) {
            return bad("is not in the network");
        }
        let range = first..=last;
        let edges = [self.prefix.network(), self.prefix.broadcast()];
        if self.prefix.prefix_len() < 31 && edges.iter().any(|a| range.contains(a)) {
            return bad("holds the network or broadcast address");
        }
        if range.contains(&self.ip) || self.gateway.is_some_and(|g| range.contains(&g)) {
            return bad("holds the gateway's or the server's own address");
        }
        Ok(())
    }

    fn encode(&self) -> Result<BTreeMap<u8, Vec<u8>>, ConfigError> {
        let mut options = BTreeMap::new();
        for (code, value) in &self.extra {
            // What the protocol itself uses, and what has a field of its own above.
            let protocol = matches!(code, 0 | 50..=61 | 81 | 82 | 108 | 116 | 118 | 255);
            let ours = matches!(code, 1 | 3 | 6 | 12 | 15 | 26 | 28 | 42 | 119 | 121);
            if protocol || ours {
                return Err(ConfigError::ReservedOption(*code));
            }
            options.insert(*code, value.clone());
        }
        options.insert(code::SUBNET_MASK, self.prefix.netmask().octets().to_vec());
        if self.prefix.prefix_len() < 31 {
            options.insert(code::BROADCAST, self.prefix.broadcast().octets().to_vec());
        }
        options.insert(code::INTERFACE_MTU, self.mtu.to_be_bytes().to_vec());
        let mut list = |code, ips: &[Ipv4Addr]| {
            if !ips.is_empty() {
                options.insert(code, encode_ips(ips));
            }
        };
        list(code::ROUTER, self.gateway.as_slice());
        list(code::DNS_SERVERS, &self.dns);
        list(code::NTP_SERVERS, &self.ntp);
        if let Some(domain) = &self.domain {
            encode_name(domain)?;
            options.insert(code::DOMAIN_NAME, domain.trim_end_matches('.').as_bytes().to_vec());
        }
        if !self.search.is_empty() {
            options.insert(code::DOMAIN_SEARCH, encode_domains(&self.search)?);
        }
        if !self.routes.is_empty() {
            let mut routes = self.routes.clone();
            routes.extend(self.gateway.map(|g| (Ipv4Net::default(), g)));
            options.insert(code::CLASSLESS_ROUTES, encode_routes(&routes));
        }
        if let Some(wait) = self.ipv6_only_wait_s {
            options.insert(code::IPV6_ONLY, wait.to_be_bytes().to_vec());
        }
        Ok(options)
    }
}
