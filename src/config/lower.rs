//! From the raw tables to the spec: defaults are filled in, names of ports resolved, template and service merged.
//!
//! What only the file can say wrong is found here (two keys for the same thing, a missing key). What is wrong with the
//! result itself is found by [`rules`](super::rules), which also sees specs that never were a file.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::decode::At;
use super::diagnostics::{Places, Problem, join};
use super::forms::DhcpEntry;
use super::jail::JailTable;
use super::lower_instance::{instance, note_mounts};
use super::lower_service::service;
use super::raw::{RawFabric, RawNetwork, RawTemplate};
use super::spec::{FabricSpec, NetworkSpec, TemplateSource, TemplateSpec};

/// How the contents of a file named in the configuration are had.
pub(super) type Reader<'a> = &'a mut dyn FnMut(&Path) -> io::Result<String>;

/// What lowering needs and finds.
pub(super) struct Lowering<'a> {
    pub(super) found: Vec<Problem>,
    pub(super) places: &'a mut Places,
    pub(super) read: Reader<'a>,
    /// Relative names of files start here: the configuration's own directory.
    pub(super) dir: PathBuf,
}

impl Lowering<'_> {
    /// Reports a problem, at what its place means now: items of lists may get other numbers (see [`point_items`]).
    pub(super) fn report(&mut self, mut problem: Problem) {
        problem.locate(self.places);
        self.found.push(problem);
    }

    /// Reports a key that cannot be left out.
    pub(super) fn missing(&mut self, owner: &str, key: &str, help: &str) {
        let whose = if owner.is_empty() { "the file".to_owned() } else { format!("`{owner}`") };
        // The place is the key's own: if it was there and could not be read, this is an echo.
        let problem =
            Problem::new("config::missing-key", join(owner, key), format!("{whose} says no `{key}`"));
        self.report(problem.help(help));
    }
}

/// Lets the items of a list in the spec point to where each was written.
pub(super) fn point_items<'a>(list: &str, written: impl Iterator<Item = &'a str>, low: &mut Lowering<'_>) {
    let moves =
        written.enumerate().map(|(number, place)| (join(list, &number.to_string()), place.to_owned()));
    low.places.point(moves.filter(|(place, written)| place != written).collect());
}

/// The value of an optional field, or a default.
pub(super) fn or<T: Clone>(field: &Option<At<T>>, default: T) -> T {
    field.as_ref().map_or(default, |value| value.value.clone())
}

pub(super) fn fabric(raw: &RawFabric, low: &mut Lowering<'_>) -> FabricSpec {
    let name = match &raw.name {
        Some(name) => name.value.clone(),
        None => {
            low.missing("", "name", "begin the file with the fabric's name: name = \"shop\"");
            String::new()
        }
    };
    let domain =
        raw.domain.as_ref().map_or_else(|| format!("{name}.internal"), |domain| domain.value.clone());
    let networks = named(&raw.networks, "networks", |name, raw, place| network(name, raw, place, low));
    let networks = mirror_peers(&networks, low);
    point_items(
        "forward",
        raw.forward.iter().flat_map(|list| list.iter().map(|item| item.place.as_str())),
        low,
    );
    let raw_templates = raw.templates.as_ref().map(|all| &all.value);
    let mut templates = BTreeMap::new();
    for (name, raw) in raw_templates.into_iter().flatten() {
        let place = join("templates", name);
        if let Some(template) = template(name, &raw.value, &place, low) {
            let nothing = JailTable::default();
            let jail = raw.jail.as_ref().map_or(&nothing, |jail| &jail.value);
            let made = instance(template, jail, low);
            note_mounts(&place, jail, &made, &[], low);
            templates.insert(name.clone(), made);
        }
    }
    let services = named(&raw.services, "services", |name, service, place| {
        let template =
            raw_templates.zip(service.template.as_ref()).and_then(|(all, name)| all.get(name.as_str()));
        self::service(name, service, place, template.map(|raw| &raw.value), &templates, &networks, low)
    });
    FabricSpec {
        name,
        domain,
        forward: raw.forward.iter().flat_map(|list| list.iter().map(|address| address.value)).collect(),
        networks,
        templates,
        services,
        origin: None,
    }
}

fn named<R, S>(
    raw: &Option<At<BTreeMap<String, At<R>>>>,
    table: &str,
    mut lower: impl FnMut(&str, &R, &str) -> S,
) -> BTreeMap<String, S> {
    let entries = raw.iter().flat_map(|all| all.iter());
    entries.map(|(name, raw)| (name.clone(), lower(name, &raw.value, &join(table, name)))).collect()
}

fn network(name: &str, raw: &RawNetwork, place: &str, low: &mut Lowering<'_>) -> NetworkSpec {
    let excluded = raw.exclude.iter().flat_map(|list| list.iter().map(|range| range.place.as_str()));
    point_items(&join(place, "exclude"), excluded, low);
    let ipv4 = raw.ipv4.as_ref().map(|net| net.0);
    let ipv6 = raw.ipv6.as_ref().map(|net| net.0);
    let mut gateway4 = None;
    let mut gateway6 = None;
    for gateway in raw.gateway.iter().flat_map(|list| list.list()) {
        let taken = match gateway.value {
            IpAddr::V4(address) => gateway4.replace(address).is_some(),
            IpAddr::V6(address) => gateway6.replace(address).is_some(),
        };
        if taken {
            let problem =
                Problem::new("config::gateway", &gateway.place, "a network has one gateway of each family");
            low.report(problem.label("the second"));
        }
    }
    let lan_dhcp = raw.dhcp.as_ref().is_some_and(|dhcp| matches!(dhcp.value, DhcpEntry::Lan));
    // A LAN has a router already, mostly at the first address, and which of them is free for the host only its owner knows.
    let ours = raw.uplink.is_none() && !lan_dhcp;
    let gateway4 = gateway4.or_else(|| ipv4.filter(|_| ours).map(|net| host4(net.network(), 1)));
    let gateway6 =
        gateway6.or_else(|| ipv6.filter(|_| raw.uplink.is_none()).map(|net| host6(net.network(), 1)));
    let dhcp4 = match raw.dhcp.as_ref().map(|dhcp| &dhcp.value) {
        Some(DhcpEntry::Own(address)) => Some(*address),
        Some(DhcpEntry::Lan) => None,
        None => ipv4.filter(|_| ours).and_then(|net| {
            [2, 1].map(|number| host4(net.network(), number)).into_iter().find(|free| Some(*free) != gateway4)
        }),
    };
    NetworkSpec {
        name: name.to_owned(),
        ipv4,
        ipv6,
        gateway4,
        gateway6,
        dhcp4,
        lan_dhcp,
        exclude: raw.exclude.iter().flat_map(|list| list.iter().map(|range| range.0)).collect(),
        nat: or(&raw.nat, false),
        mtu: or(&raw.mtu, 1500),
        isolated: or(&raw.isolated, false),
        peers: raw.peers.iter().flat_map(|list| list.iter().map(|peer| peer.value.clone())).collect(),
        uplink: raw.uplink.as_ref().map(|name| name.value.clone()),
        quarantine: raw.quarantine.as_ref().map_or(Duration::from_secs(30), |wait| wait.0),
    }
}

/// The `number`-th address after the network's own.
fn host4(network: Ipv4Addr, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.to_bits().saturating_add(number))
}

fn host6(network: Ipv6Addr, number: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(network.to_bits().saturating_add(number))
}

/// Saying `peers` on one side is enough; the spec has it on both.
fn mirror_peers(
    networks: &BTreeMap<String, NetworkSpec>,
    low: &mut Lowering<'_>,
) -> BTreeMap<String, NetworkSpec> {
    let place = |name: &str| join(&join("networks", name), "peers");
    let mut mirrored = networks.clone();
    for (name, network) in networks {
        for peer in &network.peers {
            if peer != name
                && let Some(other) = mirrored.get_mut(peer)
                && !other.peers.contains(name)
            {
                other.peers.push(name.clone());
                low.places.alias(place(peer), &place(name));
            }
        }
    }
    for network in mirrored.values_mut() {
        network.peers.sort();
    }
    mirrored
}

/// The template, if its one source is clear.
fn template(name: &str, raw: &RawTemplate, place: &str, low: &mut Lowering<'_>) -> Option<TemplateSpec> {
    let mut sources = Vec::new();
    if let Some(snapshot) = &raw.zfs {
        sources.push((&snapshot.place, TemplateSource::Zfs { snapshot: snapshot.value.clone() }));
    }
    if let Some(path) = &raw.directory {
        sources.push((&path.place, TemplateSource::Directory { path: path.value.clone().into() }));
    }
    if let Some(path) = &raw.shared {
        sources.push((&path.place, TemplateSource::Shared { path: path.value.clone().into() }));
    }
    if let Some(host) = raw.host.as_ref().filter(|host| host.value) {
        sources.push((&host.place, TemplateSource::Host));
    }
    if let [_, (second, _), ..] = sources.as_slice() {
        let problem =
            Problem::new("config::template-source", *second, format!("template `{name}` has two sources"));
        low.report(
            problem.help("keep one of zfs, directory, shared and host").also(place, "of this template"),
        );
    }
    let source = sources.into_iter().next().map(|(_, source)| source);
    if source.is_none() {
        let problem =
            Problem::new("config::template-source", place, format!("template `{name}` has no source"));
        let help = "say one of: zfs = \"pool/path@snapshot\", directory = \"/path\", shared = \"/path\", host = true";
        let keys = ["zfs", "directory", "shared", "host"];
        low.report(
            keys.iter().fold(problem.help(help).alone(), |problem, key| problem.because(join(place, key))),
        );
    }
    Some(TemplateSpec { name: name.to_owned(), source: source? })
}
