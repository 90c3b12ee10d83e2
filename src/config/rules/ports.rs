//! Ports: of the host, each led to one service; and of services, each name once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::diagnostics::{Problem, join};
use super::super::spec::{FabricSpec, Probe, Proto, Publish};
use super::super::text::{publish_text, shown};
use super::words;

/// Who has which port of the host. Two want the same one if number and protocol are the same, and the address too or
/// one of them wants every address.
pub(in super::super) struct Published<T>(BTreeMap<(Proto, u16), BTreeMap<Option<IpAddr>, T>>);

impl<T> Published<T> {
    pub(in super::super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Who has the port already, at which address.
    pub(in super::super) fn taken(&self, publish: &Publish) -> Option<(Option<IpAddr>, &T)> {
        let same = self.0.get(&(publish.proto, publish.port))?;
        let entry = match publish.address {
            None => same.iter().next(),
            Some(_) => same.get_key_value(&None).or_else(|| same.get_key_value(&publish.address)),
        };
        entry.map(|(address, who)| (*address, who))
    }

    /// Notes who has a port.
    pub(in super::super) fn insert(&mut self, publish: &Publish, who: T) {
        self.0.entry((publish.proto, publish.port)).or_default().insert(publish.address, who);
    }
}

pub(super) fn check(spec: &FabricSpec, found: &mut Vec<Problem>) {
    let mut published: Published<(&str, usize)> = Published::new();
    for (name, service) in &spec.services {
        let place = join("services", name);
        for (number, publish) in service.publish.iter().enumerate() {
            let at = join(&join(&place, "publish"), &number.to_string());
            one(spec, name, publish, &at, found);
            if let Some((address, (other, other_number))) = published.taken(publish) {
                let message = format!(
                    "port {}/{} of the host is published twice: by `{}` and by `{}`",
                    publish.port,
                    publish.proto.as_str(),
                    shown(other),
                    shown(name)
                );
                let first_at = join(&join(&join("services", other), "publish"), &other_number.to_string());
                let help = match (address, publish.address) {
                    (None, None) => "publish one of them on another port",
                    _ => {
                        "without an address it is every address of the host; publish one of them on another port"
                    }
                };
                found.push(
                    Problem::new("config::port-taken", at, message).also(first_at, "the first").help(help),
                );
            } else {
                published.insert(publish, (name, number));
            }
        }
        named(
            name,
            service.ports.iter().map(|port| (port.name.as_str(), port.proto, port.port)),
            spec,
            found,
        );
        if let Some(Probe::Tcp { port: 0 } | Probe::Http { port: 0, .. }) =
            service.health.as_ref().map(|health| &health.probe)
        {
            found.push(Problem::new(
                "config::health",
                join(&place, "health"),
                "a health check cannot ask port 0",
            ));
        }
    }
}

fn one(spec: &FabricSpec, name: &str, publish: &Publish, at: &str, found: &mut Vec<Problem>) {
    let wrong = |message: String| Problem::new("config::publish", at, message);
    let Some(service) = spec.services.get(name) else { return };
    if publish.port == 0 || publish.target == 0 {
        found.push(wrong("port 0 cannot be published".into()));
    }
    if service.instance.links.is_empty() {
        found.push(
            wrong(format!(
                "service `{}` publishes {} and has no network to lead it to",
                shown(name),
                publish_text(publish)
            ))
            .help("say networks = [\"…\"]")
            .because(join(&join("services", name), "networks")),
        );
        return;
    }
    let Some(address) = publish.address else { return };
    if address.is_unspecified() || address.is_multicast() || address.to_string() == "255.255.255.255" {
        found.push(
            wrong(format!("{address} is not an address of the host"))
                .help("for every address of the host leave it out: \"8080:80\""),
        );
    }
    let same_family = |network: &str| {
        spec.networks
            .get(network)
            .is_none_or(|net| if address.is_ipv4() { net.ipv4.is_some() } else { net.ipv6.is_some() })
    };
    if !service.instance.links.iter().any(|link| same_family(&link.network)) {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let mut problem =
            wrong(format!("it is published on {address}, and no network of the service has {family}"));
        for link in &service.instance.links {
            problem = problem.because(join("networks", &link.network));
        }
        found.push(problem);
    }
}

fn named<'a>(
    service: &str,
    ports: impl Iterator<Item = (&'a str, Proto, u16)>,
    spec: &FabricSpec,
    found: &mut Vec<Problem>,
) {
    let mut seen = BTreeSet::new();
    for (name, proto, port) in ports {
        let place = join(&join(&join("services", service), "ports"), name);
        let wrong = |message: String| Problem::new("config::ports", &place, message);
        if let Err(why) = words::port_name(name) {
            let help = "names of ports are a-z, 0-9 and -, at most 15 bytes, with a letter (RFC 6335)";
            found.push(wrong(format!("`{}` cannot name a port: {why}", shown(name))).help(help));
        } else {
            // `_http._tcp.web.shop.internal`
            let length = 1 + name.len() + 1 + 4 + 1 + service.len() + 1 + spec.domain.len();
            if length > 253 {
                found.push(wrong(format!(
                    "the SRV name of `{name}` would have {length} bytes, and 253 are the most in DNS"
                )));
            }
        }
        if port == 0 {
            found.push(wrong("port 0 cannot be a service's".into()));
        }
        if !seen.insert((name, proto)) {
            found.push(
                wrong(format!("`{}` has two {} ports", shown(name), proto.as_str()))
                    .help("one SRV record leads to one port"),
            );
        }
    }
}
