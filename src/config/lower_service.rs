//! A service: its template's `jail` table overridden, its links, ports and health check resolved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::classic::classic;
use super::decode::At;
use super::diagnostics::{Problem, join, nearest};
use super::forms::{HttpEntry, MountEntry, PortRef, PublishEntry, RestartEntry};
use super::fstab;
use super::lower::{Lowering, or, point_items};
use super::lower_instance::{instance, merged, note_mounts};
use super::lower_links::links;
use super::raw::{RawHealth, RawRestart, RawService, RawTemplate};
use super::spec::{
    Health, InstanceSpec, MountKind, MountSpec, NetworkSpec, OnStopFailure, Probe, Proto, Publish, Restart,
    RestartPolicy, ServicePort, ServiceSpec, TemplateSource, TemplateSpec,
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
    made.classic = classic(place, &jail, low);
    // The addresses of a jail that keeps its own are in no network.
    made.links = if made.classic.is_none() { links(raw, place, &jail, networks, low) } else { Vec::new() };
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
    let wait = |field: &Option<At<super::forms::Wait>>, seconds| {
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
