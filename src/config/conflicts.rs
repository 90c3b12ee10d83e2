//! What two fabrics on one machine cannot both have: prefixes, ports of the host, uplinks, a zone.

use ipnet::IpNet;

use super::diagnostics::{Problem, join};
use super::rules::{Published, overlaps};
use super::spec::FabricSpec;
use super::text::{publish_text, shown};

/// Where `spec` gets into the way of fabrics that are there already. One of the same name is skipped: it is the one
/// `spec` replaces. Pure; whether a port is taken by another program only the machine can tell.
#[must_use]
pub fn conflicts(spec: &FabricSpec, others: &[&FabricSpec]) -> Vec<Problem> {
    let others: Vec<&FabricSpec> = others.iter().copied().filter(|other| other.name != spec.name).collect();
    let mut found = Vec::new();
    for other in &others {
        if let Some(message) = domain_taken(spec, other) {
            found.push(Problem::new("config::conflict", "domain", message).help("set another `domain`"));
        }
    }
    networks(spec, &others, &mut found);
    let mut published = Published::new();
    for other in &others {
        for service in other.services.values() {
            for publish in &service.publish {
                published.insert(publish, (&other.name, &service.name));
            }
        }
    }
    for (name, service) in &spec.services {
        for (number, publish) in service.publish.iter().enumerate() {
            if let Some((_, (fabric, by))) = published.taken(publish) {
                let place = join(&join(&join("services", name), "publish"), &number.to_string());
                let message = format!(
                    "{} cannot be published: service `{}` of fabric `{}` has port {}/{}",
                    publish_text(publish),
                    shown(by),
                    shown(fabric),
                    publish.port,
                    publish.proto.as_str()
                );
                let problem = Problem::new("config::port-taken", place, message);
                found.push(problem.help("publish it on another port or address, or take that fabric down"));
            }
        }
    }
    let jails = |fabric: &'_ FabricSpec| {
        let classic = fabric.services.values().filter_map(|service| service.instance.classic.as_ref());
        classic.map(|classic| classic.jail.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    for other in &others {
        let there = jails(other);
        for (name, service) in &spec.services {
            let Some(classic) = service.instance.classic.as_ref().filter(|c| there.contains(&c.jail)) else {
                continue;
            };
            let message =
                format!("fabric `{}` has a jail `{}` already", shown(&other.name), shown(&classic.jail));
            found.push(Problem::new(
                "config::conflict",
                join(&join(&join("services", name), "jail"), "name"),
                message,
            ));
        }
    }
    found
}

/// Why one fabric cannot have its domain beside another: names below both would be in two zones, and only one is asked.
pub(crate) fn domain_taken(spec: &FabricSpec, other: &FabricSpec) -> Option<String> {
    let below = |one: &str, two: &str| one.strip_suffix(two).is_some_and(|head| head.ends_with('.'));
    let (name, ours, theirs) = (shown(&other.name), shown(&spec.domain), shown(&other.domain));
    if spec.domain == other.domain {
        Some(format!("fabric `{name}` has the domain `{ours}` already"))
    } else if below(&spec.domain, &other.domain) {
        Some(format!("the domain `{ours}` is below `{theirs}`, which fabric `{name}` has"))
    } else if below(&other.domain, &spec.domain) {
        Some(format!("fabric `{name}` has the domain `{theirs}`, which is below `{ours}`"))
    } else {
        None
    }
}

fn networks(spec: &FabricSpec, others: &[&FabricSpec], found: &mut Vec<Problem>) {
    for (name, network) in &spec.networks {
        let Some(uplink) = &network.uplink else { continue };
        let used =
            |other: &&&FabricSpec| other.networks.values().any(|net| net.uplink.as_ref() == Some(uplink));
        if let Some(other) = others.iter().find(used) {
            let message = format!("fabric `{}` has bridged `{}` already", shown(&other.name), shown(uplink));
            found.push(Problem::new("config::conflict", join(&join("networks", name), "uplink"), message));
        }
    }
    let mut nets: Vec<(IpNet, (&FabricSpec, &str, &str))> = Vec::new();
    for fabric in others.iter().copied().chain([spec]) {
        for (name, network) in &fabric.networks {
            nets.extend(network.ipv4.map(|net| (net.trunc().into(), (fabric, name.as_str(), "ipv4"))));
            nets.extend(network.ipv6.map(|net| (net.trunc().into(), (fabric, name.as_str(), "ipv6"))));
        }
    }
    for ((one, one_tag), (two, two_tag)) in overlaps(nets) {
        // Pairs among the others are not this spec's; pairs within it were found when it was loaded.
        let ((mine, (_, name, key)), (theirs, (other, network, _))) =
            match (one_tag.0.name == spec.name, two_tag.0.name == spec.name) {
                (true, false) => ((one, one_tag), (two, two_tag)),
                (false, true) => ((two, two_tag), (one, one_tag)),
                _ => continue,
            };
        let message = format!(
            "network `{}` ({mine}) overlaps with network `{}` ({theirs}) of fabric `{}`",
            shown(name),
            shown(network),
            shown(&other.name)
        );
        let place = join(&join("networks", name), key);
        found.push(
            Problem::new("config::overlap", place, message)
                .help("take another prefix, or take that fabric down"),
        );
    }
}
