//! Addresses: every replica gets one, and no two get the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::diagnostics::{Problem, join};
use super::super::spec::{AddressMode, FabricSpec, NetworkSpec};
use super::super::text::shown;
use super::network::usable;

/// Which prefixes lie within which: pairs of (outer, inner), each with its tag, each inner one told of once.
///
/// Prefixes nest or are disjoint, so one pass over them in order with a stack of the enclosing ones finds all.
pub(in super::super) fn overlaps<T: Clone>(mut nets: Vec<(IpNet, T)>) -> Vec<((IpNet, T), (IpNet, T))> {
    nets.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
    let mut open: Vec<(IpNet, T)> = Vec::new();
    let mut pairs = Vec::new();
    for (net, tag) in nets {
        while open.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
            open.pop();
        }
        if let Some(outer) = open.last() {
            pairs.push((outer.clone(), (net, tag.clone())));
        }
        open.push((net, tag));
    }
    pairs
}

/// An address as a number, for arithmetic within one family.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The place of a link's address list.
fn place(service: &str, link: usize) -> String {
    join(&join(&join(&join("services", service), "networks"), &link.to_string()), "address")
}

pub(super) fn check(spec: &FabricSpec, found: &mut Vec<Problem>) {
    let mut fixed: BTreeMap<&str, Vec<(IpAddr, String)>> = BTreeMap::new();
    for (name, service) in &spec.services {
        for (at, link) in service.instance.links.iter().enumerate() {
            let AddressMode::Fixed { addresses } = &link.address else { continue };
            let list = place(name, at);
            if addresses.is_empty() {
                let problem = Problem::new("config::address", &list, "the list of fixed addresses is empty");
                found.push(problem.help("name one per replica, or say \"auto\""));
            }
            let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
            for (family, count) in [("IPv4", v4), ("IPv6", addresses.len() - v4)] {
                if count > 0 && (count as u64) < u64::from(service.replicas) {
                    let message = format!(
                        "service `{}` wants {} replicas and has {count} fixed {family} addresses",
                        shown(name),
                        service.replicas
                    );
                    let replicas = join(&join("services", name), "replicas");
                    let problem = Problem::new("config::pool-exhausted", &list, message).label("too few");
                    found.push(
                        problem
                            .also(replicas, "so many are wanted")
                            .help("name one address for each replica"),
                    );
                }
            }
            let all = fixed.entry(&link.network).or_default();
            all.extend(
                addresses.iter().enumerate().map(|(n, address)| (*address, join(&list, &n.to_string()))),
            );
        }
    }
    for (name, network) in &spec.networks {
        let fixed = fixed.remove(name.as_str()).unwrap_or_default();
        fixed_ones(network, &fixed, found);
        for v6 in [false, true] {
            pool(spec, network, &fixed, v6, found);
        }
    }
}

/// The fixed addresses of one network: inside, free, and each once.
fn fixed_ones(network: &NetworkSpec, fixed: &[(IpAddr, String)], found: &mut Vec<Problem>) {
    let name = shown(&network.name);
    let net = join("networks", &network.name);
    let mut taken: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for (address, place) in fixed {
        let wrong = |message: String| Problem::new("config::address", place, message).because(&net);
        let prefix = match address {
            IpAddr::V4(_) => network.ipv4.map(IpNet::from),
            IpAddr::V6(_) => network.ipv6.map(IpNet::from),
        };
        let excluded = network.exclude.iter().find(|(first, last)| first <= address && address <= last);
        if !usable(network, *address) {
            let prefix = prefix.map_or_else(|| "no prefix of that family".into(), |net| net.to_string());
            found.push(
                wrong(format!("{address} is not an address of a host in network `{name}`"))
                    .help(format!("the network has {prefix}")),
            );
        } else if network.gateway4.map(IpAddr::V4) == Some(*address)
            || network.gateway6.map(IpAddr::V6) == Some(*address)
        {
            found.push(
                wrong(format!("{address} is the gateway of network `{name}`"))
                    .help("take another address, or set `gateway`"),
            );
        } else if network.dhcp4.map(IpAddr::V4) == Some(*address) {
            found.push(
                wrong(format!("{address} is the DHCP server of network `{name}`"))
                    .help("take another address, or set `dhcp`"),
            );
        } else if let Some((first, last)) = excluded {
            found.push(wrong(format!("{address} is excluded from network `{name}`: {first}-{last}")).help(
                "`exclude` is for addresses others have; fixed ones are kept out of the pool by themselves",
            ));
        }
        if let Some(first) = taken.insert(*address, place) {
            found.push(
                wrong(format!("{address} is given out twice in network `{name}`")).also(first, "the first"),
            );
        }
    }
}

/// Whether a pool holds what services want from it.
fn pool(
    spec: &FabricSpec,
    network: &NetworkSpec,
    fixed: &[(IpAddr, String)],
    v6: bool,
    found: &mut Vec<Problem>,
) {
    let (prefix, key, family) = match v6 {
        false => (network.ipv4.map(IpNet::from), "ipv4", "IPv4"),
        true => (network.ipv6.map(IpNet::from), "ipv6", "IPv6"),
    };
    let Some(net) = prefix else { return };
    let wanted: Vec<(&str, u32)> = spec
        .services
        .iter()
        .filter(|(_, service)| {
            service.instance.links.iter().any(|link| {
                link.network == network.name
                    && !matches!(&link.address, AddressMode::Fixed { addresses }
                        if addresses.iter().any(|address| address.is_ipv6() == v6))
            })
        })
        .map(|(name, service)| (name.as_str(), service.replicas))
        .collect();
    let sum: u128 = wanted.iter().map(|(_, replicas)| u128::from(*replicas)).sum();
    let free = free(network, net, fixed.iter().map(|(address, _)| *address));
    if sum <= free {
        return;
    }
    let message = format!(
        "network `{}` has {free} {family} addresses to give out, and {sum} replicas want one",
        shown(&network.name)
    );
    let place = join("networks", &network.name);
    let mut problem = Problem::new("config::pool-exhausted", join(&place, key), message)
        .help("take a shorter prefix, fewer replicas, or exclude less")
        .because(place);
    for (name, replicas) in wanted {
        problem = problem.also(join(&join("services", name), "replicas"), format!("{replicas} of them"));
    }
    found.push(problem);
}

/// How many addresses of a prefix are left for the pool.
fn free(network: &NetworkSpec, net: IpNet, fixed: impl Iterator<Item = IpAddr>) -> u128 {
    let (first, last) = (number(net.network()), number(net.broadcast()));
    let same = |address: &IpAddr| address.is_ipv4() == net.addr().is_ipv4();
    let own =
        [network.gateway4.map(IpAddr::V4), network.gateway6.map(IpAddr::V6), network.dhcp4.map(IpAddr::V4)];
    let mut kept: Vec<(u128, u128)> = own
        .into_iter()
        .flatten()
        .chain(fixed)
        .filter(same)
        .map(|address| (number(address), number(address)))
        .chain(
            network
                .exclude
                .iter()
                .filter(|(low, _)| same(low))
                .map(|(low, high)| (number(*low), number(*high))),
        )
        .chain([(first, first)])
        .chain(net.addr().is_ipv4().then_some((last, last)))
        .map(|(low, high)| (low.max(first), high.min(last)))
        .filter(|(low, high)| low <= high)
        .collect();
    kept.sort_unstable();
    // Counts gaps between what is kept; `next` is the first address not yet looked at.
    let mut next = first;
    let mut free = 0_u128;
    for (low, high) in kept {
        free = free.saturating_add(low.saturating_sub(next));
        next = next.max(high.saturating_add(1));
    }
    if next <= last { free.saturating_add(last - next).saturating_add(1) } else { free }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap_or_else(|_| IpNet::from(IpAddr::from([0, 0, 0, 0])))
    }

    #[test]
    fn overlaps_are_found_wherever_they_are() {
        let nets = [
            "10.0.0.0/8",
            "192.168.0.0/24",
            "10.1.0.0/16",
            "fd00::/64",
            "10.1.2.0/24",
            "10.2.0.0/16",
            "fd00::/64",
        ];
        let pairs = overlaps(nets.iter().map(|text| (net(text), ())).collect());
        let said: Vec<String> =
            pairs.iter().map(|((outer, ()), (inner, ()))| format!("{outer} {inner}")).collect();
        assert_eq!(
            said,
            [
                "10.0.0.0/8 10.1.0.0/16",
                "10.1.0.0/16 10.1.2.0/24",
                "10.0.0.0/8 10.2.0.0/16",
                "fd00::/64 fd00::/64"
            ]
        );
    }

    proptest! {
        #[test]
        fn an_overlap_is_found_exactly_if_there_is_one(nets in prop::collection::vec((any::<u8>(), 1_u8..=8), 0..8)) {
            let nets: Vec<IpNet> = nets
                .into_iter()
                .filter_map(|(byte, len)| IpNet::new(IpAddr::from([byte, 0, 0, 0]), len).ok())
                .map(|net| net.trunc())
                .collect();
            let any = nets.iter().enumerate().any(|(at, one)| {
                nets.iter().skip(at + 1).any(|other| one.contains(other) || other.contains(one))
            });
            let found = !overlaps(nets.iter().map(|net| (*net, ())).collect()).is_empty();
            prop_assert_eq!(found, any);
        }

        #[test]
        fn what_is_free_is_what_counting_finds(
            excluded in prop::collection::vec((0_u8..=255, 0_u8..=255), 0..4),
            fixed in prop::collection::vec(0_u8..=255, 0..6),
            len in 24_u8..=29,
        ) {
            let at = |last: u8| IpAddr::from([10, 0, 0, last]);
            let network = NetworkSpec {
                name: "n".into(),
                ipv4: format!("10.0.0.0/{len}").parse().ok(),
                ipv6: None,
                gateway4: Some([10, 0, 0, 1].into()),
                gateway6: None,
                dhcp4: Some([10, 0, 0, 2].into()),
                lan_dhcp: false,
                exclude: excluded.iter().filter(|(a, b)| a <= b).map(|(a, b)| (at(*a), at(*b))).collect(),
                nat: false,
                mtu: 1500,
                isolated: false,
                peers: Vec::new(),
                uplink: None,
                quarantine: std::time::Duration::ZERO,
            };
            let counted = (3..(1_u32 << (32 - len)) - 1)
                .filter_map(|last| u8::try_from(last).ok())
                .filter(|last| !fixed.contains(last))
                .filter(|last| !network.exclude.iter().any(|(a, b)| *a <= at(*last) && at(*last) <= *b))
                .count();
            let net = net(&format!("10.0.0.0/{len}"));
            prop_assert_eq!(free(&network, net, fixed.iter().map(|last| at(*last))), counted as u128);
        }
    }
}
