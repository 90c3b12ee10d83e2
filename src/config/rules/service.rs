//! Services: names that fit into DNS, replicas, links, health checks and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::super::diagnostics::{Problem, join, nearest};
use super::super::spec::{AddressMode, CommandLine, FabricSpec, Health, Probe, ServiceSpec, TemplateSource};
use super::super::text::{LONGEST, duration_text, shown};
use super::{instance, words};

/// The host name `<service>-<id>` is one label of DNS: 63 bytes less 9.
const LONGEST_NAME: usize = 54;
/// Far beyond what one machine runs, and far below what overflows anything; the file's `replicas` is a `u16` for it.
const MOST_REPLICAS: u32 = u16::MAX as u32;
/// More often than this a probe is load and not a question.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

pub(super) fn check(spec: &FabricSpec, service: &ServiceSpec, place: &str, found: &mut Vec<Problem>) {
    name(spec, service, place, found);
    if service.replicas > MOST_REPLICAS {
        let message =
            format!("{} replicas are beyond {MOST_REPLICAS}, the most a service may have", service.replicas);
        found.push(Problem::new("config::range", join(place, "replicas"), message));
    }
    links(spec, service, place, found);
    if let Some(health) = &service.health {
        self::health(service, health, &join(place, "health"), found);
    }
    let restart = &service.restart;
    let restart_place = join(place, "restart");
    if restart.backoff_max < restart.backoff {
        let message = format!(
            "the longest wait before a restart, {}, is shorter than the first, {}",
            duration_text(restart.backoff_max),
            duration_text(restart.backoff)
        );
        found.push(Problem::new("config::restart", join(&restart_place, "backoff_max"), message));
    }
    if restart.backoff_max > LONGEST {
        found.push(Problem::new("config::range", restart_place, "a wait is at most 366 days"));
    } else if restart.backoff < SHORTEST_WAIT {
        let message =
            "without a wait of at least 10ms a service that cannot start would be started without end";
        found.push(Problem::new("config::restart", join(&restart_place, "backoff"), message));
    }
    instance::check(&service.instance, place, found);
    // A template of the file has its name checked there; a spec sent to the API may name any.
    let template = &service.instance.template.name;
    if !spec.templates.contains_key(template) {
        let place = join(place, "template");
        let mut wrong = Vec::new();
        words::object_name("template", template, &place, 63, &mut wrong);
        found.extend(wrong.into_iter().map(|problem| problem.because(&place)));
    }
    runs_something(service, place, found);
}

fn name(spec: &FabricSpec, service: &ServiceSpec, place: &str, found: &mut Vec<Problem>) {
    let name = &service.name;
    if words::label(name, 63).is_ok() && name.len() > LONGEST_NAME {
        let message = format!(
            "`{name}` is too long for a service: with an instance's id it makes a host name of {} bytes",
            name.len() + 9
        );
        let help =
            format!("a label of DNS has at most 63 bytes, so a service's name has at most {LONGEST_NAME}");
        found.push(Problem::new("config::dns-length", place, message).help(help).alone());
    } else {
        words::object_name("service", name, place, LONGEST_NAME, found);
    }
    // `<id>.<service>.<domain>`
    let length = 8 + 1 + name.len() + 1 + spec.domain.len();
    if length > 253 {
        let message = format!(
            "the names of service `{}`'s instances are too long for DNS: <id>.{}.{} has {length} bytes, and 253 are the most",
            shown(name),
            shown(name),
            shown(&spec.domain)
        );
        found.push(
            Problem::new("config::dns-length", place, message)
                .also("domain", "the domain")
                .help("shorten `domain` or the service's name")
                .alone()
                .because("domain")
                .because("name"),
        );
    }
}

fn links(spec: &FabricSpec, service: &ServiceSpec, place: &str, found: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    let links = &service.instance.links;
    for (number, link) in links.iter().enumerate() {
        let at = join(&join(place, "networks"), &number.to_string());
        let Some(network) = spec.networks.get(&link.network) else {
            let message = format!(
                "service `{}` wants network `{}`, which is not there",
                shown(&service.name),
                shown(&link.network)
            );
            let help = match nearest(&link.network, spec.networks.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if spec.networks.is_empty() => {
                    format!("add [networks.{}] with ipv4 or ipv6", shown(&link.network))
                }
                None => {
                    format!("there are: {}", spec.networks.keys().cloned().collect::<Vec<_>>().join(", "))
                }
            };
            found.push(
                Problem::new("config::missing-network", at, message)
                    .label("no such network")
                    .help(help)
                    .because(join("networks", &link.network)),
            );
            continue;
        };
        if !seen.insert(&link.network) {
            found.push(Problem::new(
                "config::networks",
                &at,
                format!("network `{}` is said twice", shown(&link.network)),
            ));
        }
        if link.vnet != links.first().is_some_and(|first| first.vnet) {
            found.push(Problem::new(
                "config::vnet",
                &at,
                "an instance has a network stack of its own or it has not: its links cannot differ",
            ));
        }
        if network.lan_dhcp && link.address == AddressMode::Auto {
            let message = format!(
                "the LAN gives the addresses of network `{}`: there is no pool",
                shown(&link.network)
            );
            let problem = Problem::new("config::address", join(&at, "address"), message);
            found.push(
                problem.help("say address = \"dhcp\", or a fixed one that the LAN's server leaves free"),
            );
        }
        if matches!(link.address, AddressMode::Dhcp) {
            let address = join(&at, "address");
            if !link.vnet {
                let problem = Problem::new(
                    "config::address",
                    &address,
                    "address = \"dhcp\" needs `vnet`: a client inside sets the address on an interface of its own",
                );
                found.push(problem.help("leave `vnet` as it is by default, or say \"auto\""));
            }
            if network.ipv4.is_none() {
                let message = format!(
                    "address = \"dhcp\" needs IPv4, which network `{}` has not",
                    shown(&link.network)
                );
                found.push(
                    Problem::new("config::address", &address, message)
                        .because(join("networks", &link.network)),
                );
            }
        }
    }
    let params = &service.instance.params;
    if !links.is_empty() {
        for name in ["ip4", "ip6"] {
            if params.contains_key(name) {
                let message = format!(
                    "`{name}` is for instances without networks: Warren restricts these to their addresses itself"
                );
                found.push(
                    Problem::new("config::params", instance::jail_place(place, name), message)
                        .help("leave it out"),
                );
            }
        }
    }
    if links.iter().any(|link| link.vnet) {
        for name in ["ip4.saddrsel", "ip6.saddrsel"] {
            if params.contains_key(name) {
                let message = format!("`{name}` is for instances without `vnet`");
                found.push(
                    Problem::new("config::params", instance::jail_place(place, name), message)
                        .help("leave it out"),
                );
            }
        }
    }
}

fn health(service: &ServiceSpec, health: &Health, place: &str, found: &mut Vec<Problem>) {
    let wrong = |key: &str, message: String| Problem::new("config::health", join(place, key), message);
    match &health.probe {
        Probe::Command { command } => {
            instance::command(command, "the health check's command", &join(place, "command"), found)
        }
        Probe::Http { path, .. } => {
            let plain = |c: char| c.is_ascii_graphic();
            if !path.starts_with('/') || !path.chars().all(plain) || path.len() > 1024 {
                let problem = wrong("http", format!("`{}` cannot be asked for by HTTP", shown(path)));
                found.push(problem.help(
                    "a path starts with / and holds no blanks or special characters: write them as %20",
                ));
            }
        }
        Probe::Tcp { .. } => {}
    }
    if !matches!(health.probe, Probe::Command { .. }) && service.instance.links.is_empty() {
        let at = Problem::new(
            "config::health",
            place,
            "the health check asks over the network, and the service has none",
        );
        let networks = place.strip_suffix("health").map(|service| format!("{service}networks"));
        found.push(
            at.help("say networks = [\"…\"], or check with a command").because(networks.unwrap_or_default()),
        );
    }
    if health.failures == 0 {
        found.push(wrong("failures", "0 failures would make every instance unready at once".into()));
    }
    for (key, wait) in [("interval", health.interval), ("timeout", health.timeout), ("grace", health.grace)] {
        if wait < SHORTEST_WAIT || wait > LONGEST {
            found.push(wrong(key, format!("`{key}` is from 10ms to 366 days")));
        }
    }
    if health.grace < health.timeout {
        let message = format!(
            "a probe may take {} and the whole start only {}",
            duration_text(health.timeout),
            duration_text(health.grace)
        );
        found.push(wrong("grace", message).help("`grace` is how long an instance may take to become ready"));
    }
}

/// jail(8): with neither `persist` nor a process the kernel refuses the jail.
fn runs_something(service: &ServiceSpec, place: &str, found: &mut Vec<Problem>) {
    let instance = &service.instance;
    let hooks = &instance.hooks;
    let runs = instance.persist
        || instance.command.is_some()
        || [&hooks.created, &hooks.start, &hooks.poststart].into_iter().any(|hook| !hook.is_empty());
    if !runs {
        let message = format!(
            "nothing runs in service `{}`: its instances would end as soon as they began",
            shown(&service.name)
        );
        found.push(
            Problem::new("config::nothing-runs", place, message)
                .help("say `command`, \"exec.start\", or persist = true in the jail table")
                .alone()
                .because(join(place, "command"))
                .because(join(place, "jail"))
                .because(join(&join("templates", &instance.template.name), "jail")),
        );
    }
}

/// Services towards each other: a shared root with mounts holds one instance only.
pub(super) fn together(spec: &FabricSpec, found: &mut Vec<Problem>) {
    let mut shared: BTreeMap<&Path, Vec<&ServiceSpec>> = BTreeMap::new();
    for service in spec.services.values() {
        if let TemplateSource::Shared { path } = &service.instance.template.source {
            shared.entry(path).or_default().push(service);
        }
    }
    for (path, services) in shared {
        let count: u64 = services.iter().map(|service| u64::from(service.replicas)).sum();
        let Some(mounting) = services.iter().find(|service| !service.instance.mounts.is_empty()) else {
            continue;
        };
        if count > 1 {
            let message = format!(
                "service `{}` mounts into {}, which {count} instances share",
                shown(&mounting.name),
                shown(&path.display().to_string())
            );
            let place = join(&join(&join("services", &mounting.name), "mounts"), "0");
            found.push(
                Problem::new("config::shared-mounts", place, message)
                    .help("each would mount on top of the other: take a `directory` or `zfs` template, or leave the mounts out"),
            );
        }
    }
}

/// Whether a command is Warren's own program inside the instance.
pub(super) fn is_warren(command: &CommandLine) -> Option<bool> {
    let word = match command {
        CommandLine::Argv(argv) => argv.first()?.as_str(),
        CommandLine::Shell(text) => text.split_ascii_whitespace().next()?,
    };
    word.starts_with('@').then_some(word == "@warren")
}
