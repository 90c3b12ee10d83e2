//! A service: its template's `jail` table overridden, its links, ports and health check resolved.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::decode::At;
use super::diagnostics::{Problem, join, nearest};
use super::fstab;
use super::jail::{self, JailTable};
use super::lower::{Lowering, or, point_items};
use super::lower_instance::{instance, merged, note_mounts};
use super::raw::{
    AddressEntry, HttpEntry, MountEntry, NetworkEntry, PortRef, PublishEntry, RawHealth, RawRestart,
    RawService, RawTemplate, RestartEntry,
};
use super::spec::{
    AddressMode, Health, InstanceSpec, LinkSpec, MountKind, MountSpec, NetworkSpec, OnStopFailure, Probe,
    Proto, Publish, Restart, RestartPolicy, ServicePort, ServiceSpec, TemplateSource, TemplateSpec,
};
use super::text::shown;

pub(super) fn service(
    name: &str,
    raw: &RawService,
    place: &str,
    raw_template: Option<&RawTemplate>,
    templates: &BTreeMap<String, InstanceSpec>,
    networks: &BTreeMap<String, NetworkSpec>,
    low: &mut Lowering<'_>,
) -> ServiceSpec {
    let template = template(name, raw, place, templates, low);
    let jail =
        merged(place, raw_template.and_then(|template| template.jail.as_ref()), raw.jail.as_ref(), low);
    let mut made = instance(template, &jail, low);
    let (own, own_places) = mounts(raw, low);
    made.mounts.splice(0..0, own);
    note_mounts(place, &jail, &made, &own_places, low);
    made.links = links(raw, place, &jail, networks, low);
    made.command = raw.command.as_ref().map(|command| command.value.clone());
    made.env = raw
        .env
        .iter()
        .flat_map(|env| env.iter())
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect();
    made.drain = raw.drain.as_ref().map_or(made.drain, |wait| wait.0);
    made.on_stop_failure = raw.on_stop_failure.as_ref().map_or(OnStopFailure::Continue, |on| on.0);
    let depends = raw.depends_on.iter().flat_map(|list| list.iter().map(|name| name.place.as_str()));
    point_items(&join(place, "depends_on"), depends, low);
    let ports = ports(raw);
    ServiceSpec {
        name: name.to_owned(),
        replicas: or(&raw.replicas, 1).into(),
        depends_on: raw
            .depends_on
            .iter()
            .flat_map(|list| list.iter().map(|name| name.value.clone()))
            .collect(),
        publish: publish(raw, place, low),
        restart: restart(raw),
        health: raw.health.as_ref().and_then(|health| self::health(&health.value, place, &ports, low)),
        ports,
        instance: made,
    }
}

/// The service's template; if there is none of that name, one that stands for it until the report is out.
fn template(
    name: &str,
    raw: &RawService,
    place: &str,
    templates: &BTreeMap<String, InstanceSpec>,
    low: &mut Lowering<'_>,
) -> TemplateSpec {
    let Some(wanted) = &raw.template else {
        low.missing(place, "template", "say which of [templates] its instances are made from");
        return TemplateSpec { name: String::new(), source: TemplateSource::Host };
    };
    if let Some(instance) = templates.get(&wanted.value) {
        return instance.template.clone();
    }
    let help = match nearest(&wanted.value, templates.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if templates.is_empty() => format!("add [templates.{}] with its source", shown(&wanted.value)),
        None => format!("there are: {}", templates.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    let message =
        format!("service `{}` wants template `{}`, which is not there", shown(name), shown(&wanted.value));
    low.report(
        Problem::new("config::missing-template", &wanted.place, message)
            .label("no such template")
            .help(help)
            .because(join("templates", &wanted.value)),
    );
    TemplateSpec { name: wanted.value.clone(), source: TemplateSource::Host }
}

/// The links, with their addresses: said at the network, else at the service, else by `ip4.addr` and `ip6.addr`.
fn links(
    raw: &RawService,
    place: &str,
    jail: &JailTable,
    networks: &BTreeMap<String, NetworkSpec>,
    low: &mut Lowering<'_>,
) -> Vec<LinkSpec> {
    let shared_ip = [jail.get("ip4.addr"), jail.get("ip6.addr")].into_iter().flatten().next();
    let said = jail.bool("vnet");
    let entries: &[At<NetworkEntry>] = raw.networks.as_ref().map_or(&[], |list| &list.value);
    let vnet = said.unwrap_or(shared_ip.is_none());
    if let (Some(true), Some(addr)) = (said, shared_ip) {
        low.report(
            Problem::new("config::vnet", jail::place(place, "vnet"), "`vnet` and `ip4.addr` or `ip6.addr` exclude each other")
                .label("a network stack of its own")
                .also(&addr.place, "addresses of the host's stack")
                .help("fixed addresses of an instance with vnet are said in the service: address = [\"10.77.0.10\"]"),
        );
    }
    let mut links: Vec<LinkSpec> = Vec::new();
    let mut moves = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let (network, own) = match &entry.value {
            NetworkEntry::Name(name) => (name.clone(), None),
            NetworkEntry::Table(table) => {
                if table.name.is_none() {
                    low.missing(&entry.place, "name", "say which of [networks] is meant");
                }
                (
                    table.name.as_ref().map_or_else(String::new, |name| name.value.clone()),
                    table.address.as_ref(),
                )
            }
        };
        let link_place = join(&join(place, "networks"), &number.to_string());
        moves.push((link_place.clone(), entry.place.clone()));
        let address = own.or(raw.address.as_ref());
        let written = join(&link_place, "address");
        moves.push((written.clone(), address.map_or(&entry.place, |address| &address.place).clone()));
        let address = match address.map(|address| &address.value) {
            None | Some(AddressEntry::Auto) => AddressMode::Auto,
            Some(AddressEntry::Dhcp) => AddressMode::Dhcp,
            Some(AddressEntry::Fixed(list)) => {
                let items = list.iter().enumerate();
                moves.extend(
                    items.map(|(number, item)| (join(&written, &number.to_string()), item.place.clone())),
                );
                AddressMode::Fixed { addresses: list.iter().map(|address| address.value).collect() }
            }
        };
        links.push(LinkSpec { network, address, vnet });
    }
    low.places.point(moves);
    if let Some(address) = &raw.address {
        if links.is_empty() {
            let problem =
                Problem::new("config::address", &address.place, "`address` without a network has no meaning");
            low.report(problem.help("say networks = [\"…\"]").because(join(place, "networks")));
        } else if links.len() > 1 && matches!(address.value, AddressEntry::Fixed(_)) {
            let problem = Problem::new(
                "config::address",
                &address.place,
                "fixed addresses for several networks at once",
            );
            low.report(problem.help(
                "say them at each network: networks = [{ name = \"a\", address = [\"10.0.0.5\"] }, \"b\"]",
            ));
        }
    }
    if !vnet {
        shared_addresses(raw, place, jail, networks, &mut links, low);
    }
    if links.is_empty() && said == Some(true) {
        let problem = Problem::new(
            "config::vnet",
            jail::place(place, "vnet"),
            "`vnet` without a network: there is nothing to move into it",
        );
        low.report(
            problem.help("say networks = [\"…\"], or leave `vnet` out").because(join(place, "networks")),
        );
    }
    links
}

/// Gives each address of `ip4.addr` and `ip6.addr` to the link of the network it is in.
fn shared_addresses(
    raw: &RawService,
    place: &str,
    jail: &JailTable,
    networks: &BTreeMap<String, NetworkSpec>,
    links: &mut [LinkSpec],
    low: &mut Lowering<'_>,
) {
    let said: Vec<&At<String>> = jail.texts("ip4.addr").iter().chain(jail.texts("ip6.addr")).collect();
    if let (Some(address), Some(first)) = (&raw.address, said.first()) {
        low.report(
            Problem::new(
                "config::address",
                &address.place,
                "`address` and `ip4.addr` or `ip6.addr` say the same thing twice",
            )
            .also(&first.place, "here too")
            .help("keep `address`: it is for instances with and without vnet"),
        );
        return;
    }
    for text in said {
        let address = match shared_address(&text.value) {
            Ok(address) => address,
            Err((why, help)) => {
                low.report(Problem::new("config::address", &text.place, why).help(help));
                continue;
            }
        };
        let inside =
            |link: &&mut LinkSpec| networks.get(&link.network).is_some_and(|net| contains(net, address));
        let Some((number, link)) = links.iter_mut().enumerate().find(|(_, link)| inside(link)) else {
            let message = format!("{address} is in none of the service's networks");
            let mut problem = Problem::new("config::address", &text.place, message)
                .help("the address of a jail without vnet is an alias on its network's gateway interface");
            problem = problem.because(join(place, "networks"));
            for link in links.iter() {
                problem = problem.because(join("networks", &link.network));
            }
            low.report(problem);
            continue;
        };
        if !matches!(link.address, AddressMode::Fixed { .. }) {
            link.address = AddressMode::Fixed { addresses: Vec::new() };
        }
        let AddressMode::Fixed { addresses } = &mut link.address else { continue };
        let link_place = join(&join(&join(place, "networks"), &number.to_string()), "address");
        low.places.point(vec![(join(&link_place, &addresses.len().to_string()), text.place.clone())]);
        addresses.push(address);
    }
}

/// The address in jail(8)'s `interface|address/mask arguments`, of which Warren leaves only the address to the user.
fn shared_address(text: &str) -> Result<IpAddr, (String, &'static str)> {
    if text.contains('|') {
        let why =
            format!("`{}` names an interface: addresses go to the network's gateway interface", shown(text));
        return Err((why, "write the address alone; `uplink` bridges a network to a real interface"));
    }
    let alone = text.strip_suffix("/32").or_else(|| text.strip_suffix("/128")).unwrap_or(text);
    alone.parse().map_err(|_| {
        (format!("`{}` is not an address", shown(text)), "write the address alone: \"10.77.0.10\"")
    })
}

/// Whether the address is in one of the network's prefixes.
pub(super) fn contains(network: &NetworkSpec, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => network.ipv4.is_some_and(|net| net.contains(&address)),
        IpAddr::V6(address) => network.ipv6.is_some_and(|net| net.contains(&address)),
    }
}

fn publish(raw: &RawService, place: &str, low: &mut Lowering<'_>) -> Vec<Publish> {
    let mut all = Vec::new();
    let mut written = Vec::new();
    for entry in raw.publish.iter().flat_map(|list| list.iter()) {
        match &entry.value {
            PublishEntry::Text(publish) => {
                all.push(publish.clone());
                written.push(entry.place.as_str());
            }
            PublishEntry::Table(table) => {
                let Some(port) = &table.port else {
                    low.missing(&entry.place, "port", "say the port on the host: port = 8080");
                    continue;
                };
                written.push(entry.place.as_str());
                all.push(Publish {
                    address: table.address.as_ref().map(|address| address.value),
                    port: port.value,
                    target: or(&table.target, port.value),
                    proto: table.proto.as_ref().map_or(Proto::Tcp, |proto| proto.0),
                });
            }
        }
    }
    point_items(&join(place, "publish"), written.into_iter(), low);
    all
}

fn ports(raw: &RawService) -> Vec<ServicePort> {
    let named = raw.ports.iter().flat_map(|ports| ports.iter());
    named
        .flat_map(|(name, entries)| {
            let all = entries.value.list().iter();
            all.map(|entry| ServicePort { name: name.clone(), proto: entry.1, port: entry.0 })
        })
        .collect()
}

fn restart(raw: &RawService) -> Restart {
    let nothing = RawRestart { policy: None, backoff: None, backoff_max: None, retries: None };
    let (policy, table) = match raw.restart.as_ref().map(|restart| &restart.value) {
        Some(RestartEntry::Policy(policy)) => (Some(policy.0), &nothing),
        Some(RestartEntry::Table(table)) => (table.policy.as_ref().map(|policy| policy.0), table),
        None => (None, &nothing),
    };
    let backoff = table.backoff.as_ref().map_or(Duration::from_secs(1), |wait| wait.0);
    Restart {
        policy: policy.unwrap_or(RestartPolicy::Always),
        backoff,
        // Who says a long first wait and nothing else means at least that one.
        backoff_max: table.backoff_max.as_ref().map_or(backoff.max(Duration::from_secs(60)), |wait| wait.0),
        retries: table.retries.as_ref().map(|retries| retries.value),
    }
}

fn health(raw: &RawHealth, service: &str, ports: &[ServicePort], low: &mut Lowering<'_>) -> Option<Health> {
    let place = join(service, "health");
    let mut port = |reference: &PortRef, at: &str| match reference {
        PortRef::Number(number) => Some(*number),
        PortRef::Name(name) => {
            let named = ports.iter().find(|port| port.name == *name && port.proto == Proto::Tcp);
            if named.is_none() {
                let message = format!("`{}` is not a tcp port of the service", shown(name));
                let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
                let help = if names.is_empty() {
                    format!("add it: ports = {{ {} = 80 }}", shown(name))
                } else {
                    format!("its ports are: {}", names.join(", "))
                };
                low.report(
                    Problem::new("config::health", at, message).help(help).because(join(service, "ports")),
                );
            }
            named.map(|port| port.port)
        }
    };
    let mut probes = Vec::new();
    if let Some(tcp) = &raw.tcp {
        probes.push((&tcp.place, port(&tcp.value, &tcp.place).map(|port| Probe::Tcp { port })));
    }
    if let Some(http) = &raw.http {
        let probe = match &http.value {
            HttpEntry::Port(reference) => {
                port(reference, &http.place).map(|port| Probe::Http { port, path: "/".into() })
            }
            HttpEntry::Table(table) => match &table.port {
                Some(reference) => {
                    let path = or(&table.path, "/".to_owned());
                    port(&reference.value, &reference.place).map(|port| Probe::Http { port, path })
                }
                None => {
                    low.missing(&http.place, "port", "say which port answers: port = 80");
                    None
                }
            },
        };
        probes.push((&http.place, probe));
    }
    if let Some(command) = &raw.command {
        probes.push((&command.place, Some(Probe::Command { command: command.value.clone() })));
    }
    match probes.as_slice() {
        [] => low.report(
            Problem::new("config::health", &place, "the health check asks nothing")
                .help("say one of: tcp = 5432, http = { port = 80, path = \"/\" }, command = \"…\""),
        ),
        [_] => {}
        [_, (second, _), ..] => low.report(
            Problem::new("config::health", *second, "the health check asks two things")
                .help("keep one of tcp, http and command; a command may ask several things"),
        ),
    }
    let wait = |field: &Option<At<super::raw::Wait>>, seconds| {
        field.as_ref().map_or(Duration::from_secs(seconds), |wait| wait.0)
    };
    Some(Health {
        probe: probes.into_iter().next()?.1?,
        interval: wait(&raw.interval, 2),
        timeout: wait(&raw.timeout, 2),
        failures: or(&raw.failures, 3),
        grace: wait(&raw.grace, 60),
    })
}

/// The service's own mounts, each with its place.
fn mounts(raw: &RawService, low: &mut Lowering<'_>) -> (Vec<MountSpec>, Vec<String>) {
    let mut mounts = Vec::new();
    let mut places = Vec::new();
    for entry in raw.mounts.iter().flat_map(|list| list.iter()) {
        let mount = match &entry.value {
            MountEntry::Text(text) => match text.split(':').collect::<Vec<_>>().as_slice() {
                [source, target, options @ ..] if options.len() <= 1 => {
                    let (options, read_only) = fstab::options(options.first().copied().unwrap_or("rw"));
                    MountSpec {
                        fstype: "nullfs".into(),
                        source: (*source).into(),
                        target: PathBuf::from(target),
                        options,
                        read_only,
                        kind: MountKind::Mount,
                    }
                }
                _ => {
                    let message = format!("`{}` is not source:target", shown(text));
                    let problem = Problem::new("config::mount", &entry.place, message);
                    low.report(problem.help("write it as \"/data:/var/db\" or \"/data:/var/db:ro\""));
                    continue;
                }
            },
            MountEntry::Table(table) => {
                let Some(target) = &table.target else {
                    low.missing(&entry.place, "target", "say where in the instance: target = \"/var/db\"");
                    continue;
                };
                let fstype = or(&table.fstype, "nullfs".to_owned());
                let listed =
                    table.options.iter().flat_map(|list| list.iter().map(|option| option.value.as_str()));
                let (options, read_only) = fstab::options(&listed.collect::<Vec<_>>().join(","));
                MountSpec {
                    source: table
                        .source
                        .as_ref()
                        .map_or_else(|| fstype.clone(), |source| source.value.clone()),
                    fstype,
                    target: PathBuf::from(&target.value),
                    options,
                    read_only: read_only || or(&table.read_only, false),
                    kind: MountKind::Mount,
                }
            }
        };
        mounts.push(mount);
        places.push(entry.place.clone());
    }
    (mounts, places)
}
