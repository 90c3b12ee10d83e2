//! Networks: prefixes, the addresses that are Warren's on them, isolation and uplinks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::diagnostics::{Problem, join, nearest};
use super::super::spec::{FabricSpec, NetworkSpec};
use super::super::text::{LONGEST, shown};
use super::{overlaps, words};

/// Prefixes no network can have, and why (RFC 6890 and its registry).
const SPECIAL: &[(&str, &str)] = &[
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/96", "special addresses"),
    ("::ffff:0:0/96", "IPv4 in IPv6"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

/// One network by itself, and towards its peers.
pub(super) fn check(spec: &FabricSpec, network: &NetworkSpec, place: &str, found: &mut Vec<Problem>) {
    let name = shown(&network.name);
    words::object_name("network", &network.name, place, 15, found);
    if network.ipv4.is_none() && network.ipv6.is_none() {
        let problem = Problem::new("config::prefix", place, format!("network `{name}` has no addresses"));
        let problem = problem.help("add ipv4 = \"10.77.0.0/24\", ipv6 = \"fd77:7::/64\" or both").alone();
        found.push(problem.because(join(place, "ipv4")).because(join(place, "ipv6")));
    }
    if let Some(net) = network.ipv4 {
        prefix(net.into(), 8, 29, &join(place, "ipv4"), found);
    }
    if let Some(net) = network.ipv6 {
        prefix(net.into(), 32, 120, &join(place, "ipv6"), found);
    }
    own_addresses(network, place, found);
    for (number, (first, last)) in network.exclude.iter().enumerate() {
        let place_of = join(&join(place, "exclude"), &number.to_string());
        let wrong = match (first, last) {
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                "it goes from one family to the other"
            }
            _ if first > last => "it ends before it begins",
            _ if !contains(network, *first) || !contains(network, *last) => "it is not within the network",
            _ => continue,
        };
        let problem = Problem::new(
            "config::exclude",
            place_of,
            format!("the range {first}-{last} excludes nothing: {wrong}"),
        );
        found.push(problem.because(join(place, "ipv4")).because(join(place, "ipv6")));
    }
    let least = if network.ipv6.is_some() { 1280 } else { 576 };
    if !(least..=9000).contains(&network.mtu) {
        let why = if least == 1280 { ", and IPv6 needs at least 1280 (RFC 8200, 5)" } else { "" };
        let message = format!("an MTU of {} cannot be: it is from 576 to 9000{why}", network.mtu);
        found.push(Problem::new("config::mtu", join(place, "mtu"), message));
    }
    peers(spec, network, place, found);
    if let Some(Err(why)) = network.uplink.as_deref().map(words::interface) {
        let message =
            format!("`{}` is no interface: {why}", shown(network.uplink.as_deref().unwrap_or_default()));
        found.push(Problem::new("config::uplink", join(place, "uplink"), message));
    }
    if network.quarantine > LONGEST {
        found.push(Problem::new(
            "config::range",
            join(place, "quarantine"),
            "a quarantine is at most 366 days",
        ));
    }
}

fn prefix(net: IpNet, shortest: u8, longest: u8, place: &str, found: &mut Vec<Problem>) {
    if net.trunc() != net {
        let message = format!(
            "{net} is an address with a prefix length, not a prefix: bits beyond /{} are set",
            net.prefix_len()
        );
        found.push(
            Problem::new("config::prefix", place, message).help(format!("the prefix is {}", net.trunc())),
        );
    }
    if !(shortest..=longest).contains(&net.prefix_len()) {
        let message =
            format!("a prefix of /{} cannot be: it is from /{shortest} to /{longest}", net.prefix_len());
        found.push(Problem::new("config::prefix", place, message));
        return;
    }
    for (special, what) in SPECIAL {
        let Ok(special) = special.parse::<IpNet>() else { continue };
        if special.contains(&net) || net.contains(&special) {
            let message = format!("{net} reaches into {special}: {what}");
            found.push(
                Problem::new("config::prefix", place, message)
                    .help("private prefixes are 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 and fd00::/8"),
            );
            return;
        }
    }
}

/// Gateway and DHCP server: each an address of a host in the network, and not the same.
fn own_addresses(network: &NetworkSpec, place: &str, found: &mut Vec<Problem>) {
    let gateway = join(place, "gateway");
    let dhcp = join(place, "dhcp");
    let mut own = |address: Option<IpAddr>, what: &str, at: &str, family: &str| {
        let Some(address) = address else { return };
        if !usable(network, address) {
            let message =
                format!("{address} cannot be the {what}: it is no address of a host in the network");
            found.push(Problem::new("config::own-address", at, message).because(join(place, family)));
        }
    };
    own(network.gateway4.map(IpAddr::V4), "gateway", &gateway, "ipv4");
    own(network.gateway6.map(IpAddr::V6), "gateway", &gateway, "ipv6");
    own(network.dhcp4.map(IpAddr::V4), "DHCP server's address", &dhcp, "ipv4");
    if network.dhcp4.is_some() && network.dhcp4 == network.gateway4 {
        let message = "the DHCP server and the gateway cannot share an address: each answers ARP for itself";
        found.push(Problem::new("config::own-address", dhcp, message).also(gateway, "the gateway"));
    }
    if network.lan_dhcp {
        let wrong = |message: &str| Problem::new("config::dhcp", join(place, "dhcp"), message.to_owned());
        if network.uplink.is_none() {
            found.push(
                wrong("dhcp = \"lan\" needs an uplink: there is no LAN to ask").help("say uplink = \"em0\""),
            );
        }
        if network.ipv4.is_none() {
            found.push(
                wrong("dhcp = \"lan\" needs the LAN's prefix, so that a strange address is known as such")
                    .help("say ipv4 = \"192.168.1.0/24\""),
            );
        }
        if network.dhcp4.is_some() {
            found.push(wrong("the LAN gives the addresses, or Warren's server does: not both"));
        }
        if network.nat {
            let message =
                "nat on a network that is the LAN itself: its packets do not leave through the host";
            found.push(Problem::new("config::nat", join(place, "nat"), message).help("leave `nat` out"));
        }
    }
    let v4 = network.ipv4.is_some() && !network.lan_dhcp;
    for (net, own, family, key) in [
        (v4, network.gateway4.is_some(), "IPv4", "gateway"),
        (v4, network.dhcp4.is_some(), "IPv4", "dhcp"),
        (network.ipv6.is_some(), network.gateway6.is_some(), "IPv6", "gateway"),
    ] {
        if !net || own {
            continue;
        }
        let problem = |message: String| Problem::new("config::own-address", join(place, key), message);
        found.push(match &network.uplink {
            None => problem(format!("the network has no {key} address")),
            Some(uplink) => on_the_lan(uplink, family, key, problem),
        });
    }
}

/// An address that is missing on a network with an uplink: there is no good default on a LAN, where others have theirs.
fn on_the_lan(uplink: &str, family: &str, key: &str, problem: impl Fn(String) -> Problem) -> Problem {
    let what = if key == "dhcp" { "Warren's DHCP server" } else { "the host" };
    let message = format!(
        "the network is bridged to `{}` and says no {family} address for {what}: one that Warren chose might be the LAN's router's",
        shown(uplink)
    );
    let lan = if family == "IPv4" { ", or dhcp = \"lan\" if router and addresses are the LAN's" } else { "" };
    problem(message).help(format!("say {key} = \"…\", an {family} address of the LAN that nobody has{lan}"))
}

/// Whether a host in the network may have the address: not the network's, not the broadcast address (RFC 1122,
/// 3.2.1.3), not the subnet-router anycast address (RFC 4291, 2.6.1).
pub(super) fn usable(network: &NetworkSpec, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => network.ipv4.map(|net: Ipv4Net| net.trunc()).is_some_and(|net| {
            net.contains(&address) && address != net.network() && address != net.broadcast()
        }),
        IpAddr::V6(address) => network
            .ipv6
            .map(|net: Ipv6Net| net.trunc())
            .is_some_and(|net| net.contains(&address) && address != net.network()),
    }
}

fn contains(network: &NetworkSpec, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => network.ipv4.is_some_and(|net| net.contains(&address)),
        IpAddr::V6(address) => network.ipv6.is_some_and(|net| net.contains(&address)),
    }
}

fn peers(spec: &FabricSpec, network: &NetworkSpec, place: &str, found: &mut Vec<Problem>) {
    let name = shown(&network.name);
    let place = join(place, "peers");
    let wrong = |message: String| Problem::new("config::peers", &place, message);
    for peer in &network.peers {
        let shown = shown(peer);
        match spec.networks.get(peer) {
            _ if *peer == network.name => {
                found.push(wrong(format!("network `{name}` cannot be its own peer")))
            }
            None => {
                let near = nearest(peer, spec.networks.keys().map(String::as_str));
                let problem = wrong(format!("network `{name}` has `{shown}` as a peer, which is not there"));
                found.push(
                    problem
                        .maybe_help(near.map(|near| format!("did you mean `{near}`?")))
                        .because(join("networks", peer)),
                );
            }
            // A file says it on one side and lowering on both; a spec sent to the API might not.
            Some(other) if !other.peers.contains(&network.name) => {
                found.push(wrong(format!(
                    "network `{name}` has `{shown}` as a peer, and `{shown}` not `{name}`"
                )));
            }
            // Said once, at the first of the two.
            Some(other) if !network.isolated && !other.isolated && network.name < other.name => found.push(
                wrong(format!(
                    "networks `{name}` and `{shown}` reach each other already: neither is isolated"
                ))
                .help("say isolated = true, or leave `peers` out"),
            ),
            Some(_) => {}
        }
    }
}

/// Networks towards each other: overlaps, and uplinks used twice.
pub(super) fn together(spec: &FabricSpec, found: &mut Vec<Problem>) {
    let mut nets: Vec<(IpNet, (&str, &str))> = Vec::new();
    for (name, network) in &spec.networks {
        nets.extend(network.ipv4.map(|net| (net.trunc().into(), (name.as_str(), "ipv4"))));
        nets.extend(network.ipv6.map(|net| (net.trunc().into(), (name.as_str(), "ipv6"))));
    }
    for ((outer, (one, key)), (inner, (other, _))) in overlaps(nets) {
        let place = |name| join(&join("networks", name), key);
        let message =
            format!("networks `{}` and `{}` overlap: {outer} contains {inner}", shown(one), shown(other));
        found.push(
            Problem::new("config::overlap", place(other), message)
                .also(place(one), "overlaps with this")
                .because(place(one))
                .help("give each network a prefix of its own"),
        );
    }
    let mut uplinks: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, network) in &spec.networks {
        let Some(uplink) = &network.uplink else { continue };
        if let Some(first) = uplinks.insert(uplink, name) {
            let message = format!(
                "networks `{}` and `{}` have the same uplink `{}`",
                shown(first),
                shown(name),
                shown(uplink)
            );
            let place = |name| join(&join("networks", name), "uplink");
            found.push(Problem::new("config::uplink", place(name), message).also(place(first), "the first"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_special_prefixes_are_prefixes() {
        for (prefix, _) in SPECIAL {
            assert!(prefix.parse::<IpNet>().is_ok_and(|net| net.trunc() == net), "{prefix}");
        }
    }
}
