//! Checks that need no snapshot, so that a configuration can be refused before anything is touched.

use std::collections::HashSet;
use std::net::IpAddr;

use super::error::ZoneError;
use super::types::{
    Host, Instance, MAX_NEGATIVE_TTL, MAX_PER_INSTANCE, MAX_TTL, MAX_TXT, Port, Proto, ZoneConfig,
};
use super::{records, reverse};
use crate::name::{Name, NameError};

/// Checks every name that an instance of `service` in the zone `origin` will have, for an id of `id_len`
/// characters: `<id>.<service>.<origin>`, `<service>-<id>.<origin>`, and for each port `_http._tcp.<service>.<origin>` and
/// `<service>-<id>._http._tcp.<origin>` (service discovery).
///
/// # Errors
/// The first name that cannot be, by how much, with `<id>` in place of the id.
pub fn check_names(
    origin: &str,
    service: &str,
    id_len: usize,
    ports: &[(String, Proto)],
) -> Result<(), NameError> {
    // Not a run anyone would write, so that it can be put back as `<id>` in the message.
    let id: String = "0q".chars().cycle().take(id_len).collect();
    let origin = Name::host(origin)?;
    let zone = ZoneConfig {
        origin: origin.to_string(),
        ttl: 0,
        negative_ttl: 0,
        serial: 0,
        ns: Host { label: String::new(), addresses: Vec::new() },
        hosts: Vec::new(),
        reverse: Vec::new(),
    };
    let instance = Instance {
        id: id.clone(),
        service: service.to_owned(),
        v4: Vec::new(),
        v6: Vec::new(),
        ready: false,
        ports: ports
            .iter()
            .map(|(name, proto)| Port { name: name.clone(), proto: *proto, port: 1 })
            .collect(),
        txt: Vec::new(),
    };
    records::instance(&zone, &origin, 0, &instance).map(|_| ()).map_err(|error| with_placeholder(error, &id))
}

fn with_placeholder(error: NameError, id: &str) -> NameError {
    let put = |text: String| if id.is_empty() { text } else { text.replace(id, "<id>") };
    match error {
        NameError::EmptyLabel { name } => NameError::EmptyLabel { name: put(name) },
        NameError::LabelTooLong { name, label, len, over } => {
            NameError::LabelTooLong { name: put(name), label: put(label), len, over }
        }
        NameError::NameTooLong { name, len, over } => NameError::NameTooLong { name: put(name), len, over },
        NameError::BadCharacter { name, label, character } => {
            NameError::BadCharacter { name: put(name), label: put(label), character }
        }
        NameError::HyphenAtEdge { name, label } => {
            NameError::HyphenAtEdge { name: put(name), label: put(label) }
        }
        NameError::BadPortName { port } => NameError::BadPortName { port },
    }
}

/// The instance by itself: counts, duplicates, TXT. Its names are checked where they are made.
pub(super) fn instance(instance: &Instance) -> Result<(), ZoneError> {
    let id = &instance.id;
    let counts = [
        ("IPv4 addresses", instance.v4.len()),
        ("IPv6 addresses", instance.v6.len()),
        ("ports", instance.ports.len()),
    ];
    for (what, count) in counts {
        if count > MAX_PER_INSTANCE {
            return Err(ZoneError::TooMany { id: id.clone(), what, count, max: MAX_PER_INSTANCE });
        }
    }
    let addresses =
        instance.v4.iter().copied().map(IpAddr::V4).chain(instance.v6.iter().copied().map(IpAddr::V6));
    let mut seen = HashSet::new();
    for address in addresses {
        if !seen.insert(address) {
            return Err(ZoneError::DuplicateAddress { id: id.clone(), address });
        }
    }
    let mut ports = HashSet::new();
    for port in &instance.ports {
        if !ports.insert((port.name.to_ascii_lowercase(), port.proto)) {
            let port = format!("_{}.{}", port.name, port.proto.label());
            return Err(ZoneError::DuplicatePort { id: id.clone(), port });
        }
    }
    for string in &instance.txt {
        if string.is_empty() || string.len() > 255 {
            return Err(ZoneError::TxtString { id: id.clone(), len: string.len() });
        }
    }
    let len = instance.txt.iter().map(|s| s.len() + 1).sum();
    if len > MAX_TXT {
        return Err(ZoneError::TxtTotal { id: id.clone(), len, max: MAX_TXT });
    }
    Ok(())
}

/// The zone by itself; its origin.
pub(super) fn zone(config: &ZoneConfig) -> Result<Name, ZoneError> {
    let origin = Name::host(&config.origin)?;
    for tree in [reverse::apexes(any_v4())?, reverse::apexes(any_v6())?].concat() {
        if origin.is_within(&tree) || tree.is_within(&origin) {
            return Err(ZoneError::OriginIsReverse { origin: origin.to_string() });
        }
    }
    let ttls = [("ttl", config.ttl, MAX_TTL), ("negative_ttl", config.negative_ttl, MAX_NEGATIVE_TTL)];
    for (what, ttl, max) in ttls {
        if ttl > max {
            return Err(ZoneError::TtlTooLong { what, origin: origin.to_string(), ttl, max });
        }
    }
    let mut labels = HashSet::new();
    for host in std::iter::once(&config.ns).chain(&config.hosts) {
        let name = origin.child(&host.label)?;
        if host.addresses.is_empty() {
            return Err(ZoneError::NoAddress { name: name.to_string() });
        }
        if !labels.insert(host.label.to_ascii_lowercase()) {
            return Err(ZoneError::NameTaken { name: name.to_string(), by: "a host of the zone" });
        }
    }
    Ok(origin)
}

fn any_v4() -> ipnet::IpNet {
    ipnet::IpNet::V4(ipnet::Ipv4Net::default())
}

fn any_v6() -> ipnet::IpNet {
    ipnet::IpNet::V6(ipnet::Ipv6Net::default())
}
