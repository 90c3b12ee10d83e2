//! Networks as values: who may talk to whom, and what the address books are told. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use warren_dhcp::ipam::{AddressRange, Network, Subnet};

use crate::config::spec::{AddressMode, FabricSpec, NetworkSpec};
use crate::firewall::{Policy, ServicePolicy};
use crate::host::Mac;
use crate::lifecycle::network::{NetworkAssignment, gateways};
use crate::lifecycle::plan::service_table;

/// The network's prefixes.
#[must_use]
pub fn prefixes(spec: &NetworkSpec) -> Vec<IpNet> {
    spec.ipv4.map(IpNet::from).into_iter().chain(spec.ipv6.map(IpNet::from)).collect()
}

/// Another network, as far as isolation goes.
#[derive(Debug, Clone, Copy)]
pub struct Neighbour<'a> {
    /// The fabric it belongs to.
    pub fabric: &'a str,
    /// What it is.
    pub spec: &'a NetworkSpec,
}

/// Whether two networks may not exchange packets: one of them is isolated, and neither names the other as its peer.
#[must_use]
pub fn kept_apart(a: Neighbour<'_>, b: Neighbour<'_>) -> bool {
    let peers =
        a.fabric == b.fabric && (a.spec.peers.contains(&b.spec.name) || b.spec.peers.contains(&a.spec.name));
    (a.spec.isolated || b.spec.isolated) && !peers
}

/// What the packet filter is to do for a network.
#[must_use]
pub fn policy<'a>(
    fabric: &FabricSpec,
    spec: &NetworkSpec,
    given: &NetworkAssignment,
    others: impl IntoIterator<Item = Neighbour<'a>>,
) -> Policy {
    let own = Neighbour { fabric: &fabric.name, spec };
    let mut forbidden: Vec<IpNet> = (others.into_iter())
        .filter(|other| {
            (other.fabric, &other.spec.name) != (own.fabric, &own.spec.name) && kept_apart(own, *other)
        })
        .flat_map(|other| prefixes(other.spec))
        .collect();
    forbidden.sort_unstable();
    let services = (fabric.services.values())
        .filter(|s| s.instance.links.iter().any(|l| l.network == spec.name))
        .map(|s| ServicePolicy {
            name: s.name.clone(),
            table: service_table(&s.name),
            // A port leads to a service by its first network, once.
            publish: if s.instance.links[0].network == spec.name { s.publish.clone() } else { Vec::new() },
        })
        .collect();
    Policy {
        anchor: given.anchor(),
        network: spec.name.clone(),
        gateway: given.id.gateway(),
        prefixes: prefixes(spec),
        resolvers: gateways(spec),
        nat: spec.nat,
        isolated: spec.isolated,
        forbidden,
        services,
    }
}

/// What the address books are told of a network. Its name there is its id: names are free to be used again.
#[must_use]
pub fn pool(fabric: &FabricSpec, spec: &NetworkSpec, given: &NetworkAssignment) -> Network {
    let links = fabric.services.values().flat_map(|service| &service.instance.links);
    let fixed: Vec<IpAddr> = (links.filter(|link| link.network == spec.name))
        .filter_map(|link| match &link.address {
            AddressMode::Fixed { addresses } => Some(addresses),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    let excluded = |v4: bool| {
        let ranges = spec.exclude.iter().filter(move |(first, _)| first.is_ipv4() == v4);
        ranges.map(|(first, last)| AddressRange { first: *first, last: *last }).collect::<Vec<_>>()
    };
    let subnet = |prefix: IpNet, gateway: Option<IpAddr>, dhcp: Option<IpAddr>| Subnet {
        gateway,
        dhcp,
        dns: gateway,
        exclusions: excluded(matches!(prefix, IpNet::V4(_))),
        apart: fixed.iter().copied().filter(|address| prefix.contains(address)).collect(),
        ..Subnet::new(prefix)
    };
    let mut network = Network::new(given.id.as_str(), None, None);
    network.v4 =
        spec.ipv4.map(|p| subnet(p.into(), spec.gateway4.map(Into::into), spec.dhcp4.map(Into::into)));
    network.v6 = spec.ipv6.map(|p| subnet(p.into(), spec.gateway6.map(Into::into), None));
    network.reserved_macs = vec![given.gateway_mac.into(), given.dhcp_mac.into()];
    network.quarantine_ms = u64::try_from(spec.quarantine.as_millis()).unwrap_or(u64::MAX);
    network
}

/// A locally administered address drawn from a random number.
#[must_use]
pub fn draw_mac(random: u64) -> Mac {
    warren_dhcp::Mac::local_from(random).0
}
