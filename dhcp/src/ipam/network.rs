//! The definition of a network's address space, and its checks.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::error::IpamError;
use super::owner::Owner;
use crate::mac::Mac;

/// An inclusive range of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// Its lowest address.
    pub first: IpAddr,
    /// Its highest address.
    pub last: IpAddr,
}

/// An address kept for one owner: automatic assignment gives it to them and to no one else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// For whom.
    pub owner: Owner,
    /// The address.
    pub address: IpAddr,
}

/// The job of an address that is never given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The network address itself, or IPv6's subnet-router anycast address (RFC 4291 §2.6.1).
    Network,
    /// IPv4's directed broadcast address.
    Broadcast,
    /// One of IPv6's reserved subnet anycast addresses (RFC 2526).
    Anycast,
    /// The router.
    Gateway,
    /// The DHCP server.
    Dhcp,
    /// The name server.
    Dns,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Network => "network address",
            Role::Broadcast => "broadcast address",
            Role::Anycast => "reserved anycast range",
            Role::Gateway => "gateway",
            Role::Dhcp => "DHCP server",
            Role::Dns => "name server",
        })
    }
}

/// One family's part of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The prefix; host bits must be zero.
    pub prefix: IpNet,
    /// The router's address.
    pub gateway: Option<IpAddr>,
    /// The DHCP server's address, which is also its server identifier.
    pub dhcp: Option<IpAddr>,
    /// The name server's address; may equal the gateway's.
    pub dns: Option<IpAddr>,
    /// Ranges that are never given out.
    #[serde(default)]
    pub exclusions: Vec<AddressRange>,
    /// Addresses kept for named owners.
    #[serde(default)]
    pub reservations: Vec<Reservation>,
    /// Addresses that only who asks for them by number is given: automatic choice steps over them.
    #[serde(default)]
    pub apart: Vec<IpAddr>,
}

impl Subnet {
    /// A subnet with the customary first addresses: gateway and name server at the first host address, the DHCP
    /// server at the second.
    pub fn new(prefix: IpNet) -> Self {
        let nth = |n: u128| from_value(to_value(prefix.network()).saturating_add(n), is_v4(&prefix));
        Subnet {
            prefix,
            gateway: nth(1),
            dhcp: nth(2),
            dns: nth(1),
            exclusions: Vec::new(),
            reservations: Vec::new(),
            apart: Vec::new(),
        }
    }

    /// The addresses with a job, each with its first job.
    pub(crate) fn roles(&self) -> impl Iterator<Item = (Role, IpAddr)> + '_ {
        [(Role::Gateway, self.gateway), (Role::Dhcp, self.dhcp), (Role::Dns, self.dns)]
            .into_iter()
            .filter_map(|(role, address)| address.map(|a| (role, a)))
    }

    /// Ranges taken by the addressing architecture itself.
    pub(crate) fn architectural(&self) -> Vec<(Role, u128, u128)> {
        let (first, last) = bounds(&self.prefix);
        match self.prefix {
            // RFC 3021: a /31 has neither; a /32 is a host.
            IpNet::V4(p) if p.prefix_len() >= 31 => vec![],
            IpNet::V4(_) => vec![(Role::Network, first, first), (Role::Broadcast, last, last)],
            IpNet::V6(p) if p.prefix_len() >= 127 => vec![],
            IpNet::V6(p) => {
                let mut out = vec![(Role::Network, first, first)];
                // RFC 2526 §2: the 128 highest interface ids, in EUI-64 form (u bit zero) where ids have 64 bits.
                if p.prefix_len() == 64 {
                    let base = first + 0xfdff_ffff_ffff_ff80;
                    out.push((Role::Anycast, base, base + 0x7f));
                } else if p.prefix_len() <= 120 {
                    out.push((Role::Anycast, last - 0x7f, last));
                }
                out
            }
        }
    }
}

/// A network: a name, a prefix per family, and how long its addresses rest after use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name, unique.
    pub name: String,
    /// The IPv4 part.
    pub v4: Option<Subnet>,
    /// The IPv6 part.
    pub v6: Option<Subnet>,
    /// MACs of the infrastructure (gateway, servers), never given to an owner.
    #[serde(default)]
    pub reserved_macs: Vec<Mac>,
    /// Rest after release, in milliseconds; 0: none.
    pub quarantine_ms: u64,
    /// Rest after a conflict (DHCPDECLINE, ARP), in milliseconds.
    pub conflict_quarantine_ms: u64,
}

impl Network {
    /// A network with the customary addresses per prefix ([`Subnet::new`]), five minutes of rest after release
    /// (longer than a DNS TTL, an ARP entry's 20 minutes excepted) and an hour after a conflict.
    pub fn new(name: &str, v4: Option<Ipv4Net>, v6: Option<Ipv6Net>) -> Self {
        Network {
            name: name.to_owned(),
            v4: v4.map(|p| Subnet::new(p.into())),
            v6: v6.map(|p| Subnet::new(p.into())),
            reserved_macs: Vec::new(),
            quarantine_ms: 300_000,
            conflict_quarantine_ms: 3_600_000,
        }
    }

    /// The parts, IPv4 first.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// Checks that the definition makes sense by itself.
    ///
    /// # Errors
    /// [`IpamError::BadNetwork`] naming what is wrong.
    pub fn validate(&self) -> Result<(), IpamError> {
        let bad = |problem: String| Err(IpamError::BadNetwork { name: self.name.clone(), problem });
        if self.name.is_empty() || self.name.len() > 64 || self.name.chars().any(char::is_control) {
            return bad("a network's name has 1 to 64 bytes and no control characters".into());
        }
        if self.subnets().next().is_none() {
            return bad("it has neither an IPv4 nor an IPv6 prefix".into());
        }
        if self.v4.as_ref().is_some_and(|s| !is_v4(&s.prefix)) {
            return bad("its IPv4 prefix is an IPv6 one".into());
        }
        if self.v6.as_ref().is_some_and(|s| is_v4(&s.prefix)) {
            return bad("its IPv6 prefix is an IPv4 one".into());
        }
        if let Some(mac) = self.reserved_macs.iter().find(|m| !m.is_unicast()) {
            return bad(format!("reserved MAC {mac} is not a station's address"));
        }
        self.subnets().try_for_each(|s| check_subnet(s).or_else(bad))
    }
}

fn check_subnet(subnet: &Subnet) -> Result<(), String> {
    let prefix = subnet.prefix;
    if prefix.trunc() != prefix {
        return Err(format!("{prefix} has host bits set; write {}", prefix.trunc()));
    }
    let architectural = subnet.architectural();
    let architectural_role = |value: u128| {
        architectural.iter().find(|(_, lo, hi)| (*lo..=*hi).contains(&value)).map(|(role, ..)| *role)
    };
    for (role, address) in subnet.roles() {
        if !prefix.contains(&address) {
            return Err(format!("its {role} {address} is not in {prefix}"));
        }
        if let Some(taken) = architectural_role(to_value(address)) {
            return Err(format!("its {role} {address} is the {taken} of {prefix}"));
        }
    }
    if subnet.dhcp.is_some() && subnet.dhcp == subnet.gateway {
        return Err("the DHCP server needs an address of its own, not the gateway's".into());
    }
    for AddressRange { first, last } in &subnet.exclusions {
        if !prefix.contains(first) || !prefix.contains(last) {
            return Err(format!("exclusion {first} to {last} is not in {prefix}"));
        }
        if first > last {
            return Err(format!("exclusion {first} to {last} runs backwards"));
        }
    }
    if let Some(outside) = subnet.apart.iter().find(|address| !prefix.contains(*address)) {
        return Err(format!("{outside}, which is kept apart, is not in {prefix}"));
    }
    let mut owners = std::collections::BTreeSet::new();
    let mut addresses = std::collections::BTreeSet::new();
    for Reservation { owner, address } in &subnet.reservations {
        if !prefix.contains(address) {
            return Err(format!("reservation {address} for {owner} is not in {prefix}"));
        }
        let value = to_value(*address);
        let role =
            architectural_role(value).or_else(|| subnet.roles().find(|(_, a)| a == address).map(|(r, _)| r));
        if let Some(role) = role {
            return Err(format!("reservation {address} for {owner} is the {role}"));
        }
        if subnet.exclusions.iter().any(|x| (x.first..=x.last).contains(address)) {
            return Err(format!("reservation {address} for {owner} is also excluded"));
        }
        if !owners.insert(owner) || !addresses.insert(address) {
            return Err(format!("reservation {address} for {owner} appears twice"));
        }
    }
    let (first, last) = bounds(&prefix);
    let mut blocked = crate::ranges::RangeSet::default();
    architectural.iter().for_each(|&(_, lo, hi)| blocked.insert(lo, hi));
    subnet.roles().for_each(|(_, a)| blocked.insert(to_value(a), to_value(a)));
    subnet.exclusions.iter().for_each(|x| blocked.insert(to_value(x.first), to_value(x.last)));
    if blocked.next_gap(first, last).is_none() {
        return Err(format!(
            "{prefix} leaves no address to give out; use a larger prefix or fewer exclusions"
        ));
    }
    Ok(())
}

/// Checks a whole configuration: every definition, unique names, no two prefixes overlapping. O(n log n).
///
/// # Errors
/// The first problem found.
pub fn check_overlaps<'a>(networks: impl IntoIterator<Item = &'a Network>) -> Result<(), IpamError> {
    let mut names = std::collections::BTreeSet::new();
    let mut prefixes = Vec::new();
    for network in networks {
        network.validate()?;
        if !names.insert(&network.name) {
            return Err(IpamError::NetworkExists { name: network.name.clone() });
        }
        prefixes.extend(
            network.subnets().map(|s| (is_v4(&s.prefix), bounds(&s.prefix), s.prefix, &network.name)),
        );
    }
    prefixes.sort_by_key(|&(v4, (first, last), ..)| (v4, first, std::cmp::Reverse(last)));
    // CIDR blocks nest or are disjoint, so after sorting a clash is always with the neighbour before.
    for pair in prefixes.windows(2) {
        if let [(v4a, (_, last), a, name_a), (v4b, (first, _), b, name_b)] = pair
            && v4a == v4b
            && first <= last
        {
            return Err(IpamError::Overlap {
                name: (*name_b).clone(),
                prefix: *b,
                other: (*name_a).clone(),
                other_prefix: *a,
            });
        }
    }
    Ok(())
}

pub(crate) fn is_v4(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V4(_))
}

pub(crate) fn family(v4: bool) -> &'static str {
    if v4 { "IPv4" } else { "IPv6" }
}

/// An address as the integer it is.
pub(crate) fn to_value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// The address of an integer; `None` if too large for the family.
pub(crate) fn from_value(value: u128, v4: bool) -> Option<IpAddr> {
    if v4 { u32::try_from(value).ok().map(|v| IpAddr::V4(v.into())) } else { Some(IpAddr::V6(value.into())) }
}

/// First and last address of a prefix, hosts or not.
pub(crate) fn bounds(prefix: &IpNet) -> (u128, u128) {
    (to_value(prefix.network()), to_value(prefix.broadcast()))
}
