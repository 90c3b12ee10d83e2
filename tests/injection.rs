//! Words that try to be more than words. Everything a person or a client of the API may name ends up somewhere: in pf's text, in zone
//! data, in resolv.conf and hosts, in command lines and environments, in mount options. Wherever a hostile word is put, it is
//! refused, or everything made from it is still what it should be.
//!
//! Guards: the closed character sets of `config::rules::words`, asked by `config::verify` for files and for the API alike, and
//! `firewall::Policy::check` in front of pf's text. nftables gets netlink attributes and no text. Without the first, the
//! second test fails; without the other, the third.

mod support;

use std::time::Duration;

use proptest::prelude::*;
use support::{World, declare, shop};
use warren::config::spec::*;
use warren::firewall::{Policy, pf};
use warren::host::{Job, Op, Question};

/// What a place in a spec is called, and how a word gets there.
type Place = (&'static str, fn(&mut FabricSpec, String));

fn web(spec: &mut FabricSpec) -> &mut ServiceSpec {
    spec.services.get_mut("web").unwrap()
}

/// A jail of jail(8), which keeps its name and its root, in the place of `web`.
fn classic(spec: &mut FabricSpec) -> &mut Classic {
    let service = web(spec);
    service.replicas = 1;
    service.publish.clear();
    let instance = &mut service.instance;
    instance.links.clear();
    instance.template.source = TemplateSource::Shared { path: "/jails/www".into() };
    instance.classic.insert(Classic {
        jail: "www".into(),
        jid: None,
        vnet: false,
        addresses: vec![],
        aliases: vec![],
        interfaces: vec![],
    })
}

fn health(spec: &mut FabricSpec, probe: Probe) {
    let second = Duration::from_secs(1);
    web(spec).health =
        Some(Health { probe, interval: second, timeout: second, failures: 3, grace: 10 * second });
}

const PLACES: &[Place] = &[
    ("the fabric's name", |spec, word| spec.name = word),
    ("the domain", |spec, word| spec.domain = word),
    ("a service's name", |spec, word| {
        let mut service = spec.services.remove("web").unwrap();
        service.name.clone_from(&word);
        spec.services.insert(word, service);
    }),
    ("a network's name", |spec, word| {
        let mut network = spec.networks.remove("net").unwrap();
        network.name.clone_from(&word);
        spec.networks.insert(word.clone(), network);
        for service in spec.services.values_mut() {
            service.instance.links[0].network.clone_from(&word);
        }
    }),
    ("a network's peer", |spec, word| spec.networks.get_mut("net").unwrap().peers = vec![word]),
    ("an uplink", |spec, word| spec.networks.get_mut("net").unwrap().uplink = Some(word)),
    ("a port's name", |spec, word| {
        web(spec).ports = vec![ServicePort { name: word, port: 80, proto: Proto::Tcp }];
    }),
    ("a dependency", |spec, word| web(spec).depends_on = vec![word]),
    ("a host name", |spec, word| web(spec).instance.hostname = Some(word)),
    ("a user", |spec, word| web(spec).instance.jail_user = Some(word)),
    ("a user of the host", |spec, word| web(spec).instance.system_user = Some(word)),
    ("a template's name", |spec, word| web(spec).instance.template.name = word),
    ("a template's directory", |spec, word| {
        web(spec).instance.template.source = TemplateSource::Directory { path: word.into() };
    }),
    ("a snapshot", |spec, word| web(spec).instance.template.source = TemplateSource::Zfs { snapshot: word }),
    ("a dataset", |spec, word| web(spec).instance.datasets = vec![word]),
    ("a mount's type", |spec, word| web(spec).instance.mounts[0].fstype = word),
    ("a mount's source", |spec, word| web(spec).instance.mounts[0].source = word),
    ("a mount's place", |spec, word| web(spec).instance.mounts[0].target = word.into()),
    ("a mount's option", |spec, word| web(spec).instance.mounts[0].options = vec![word]),
    ("a variable's name", |spec, word| drop(web(spec).instance.env.insert(word, "x".into()))),
    ("a variable's value", |spec, word| drop(web(spec).instance.env.insert("X".into(), word))),
    ("a parameter", |spec, word| drop(web(spec).instance.params.insert(word, ParamValue::Bool(true)))),
    ("a parameter's value", |spec, word| {
        drop(web(spec).instance.params.insert("osrelease".into(), ParamValue::Text(word)));
    }),
    ("a jail's own name", |spec, word| classic(spec).jail = word),
    ("an interface with an alias", |spec, word| {
        let address = "10.1.1.1".parse().unwrap();
        let classic = classic(spec);
        classic.addresses = vec![address];
        classic.aliases = vec![Alias { interface: word, address: "10.1.1.1/24".parse().unwrap() }];
    }),
    ("a lent interface", |spec, word| {
        let classic = classic(spec);
        (classic.vnet, classic.interfaces) = (true, vec![word]);
    }),
    ("a health check's path", |spec, word| health(spec, Probe::Http { port: 80, path: word })),
    ("the console's log", |spec, word| web(spec).instance.consolelog = Some(word.into())),
];

/// Pieces that mean something to somebody downstream.
const SHARP: &[&str] = &[
    "\n",
    "\r\n",
    "\0",
    "\t",
    " ",
    ";",
    "|",
    "&",
    "$(id)",
    "`id`",
    "'",
    "\"",
    "\\",
    "/",
    "..",
    "../../etc",
    "<x>",
    "{",
    "}",
    "(",
    ")",
    "#",
    "!",
    "*",
    "?",
    "~",
    "=",
    ",",
    ":",
    "%0a",
    "@",
    "\u{1b}[2J",
    "\u{202e}",
    "ä",
    "-",
    "--",
    "-f",
    ".",
    "_",
    "pass all",
    "\npass quick all\n",
    "\nnameserver 6.6.6.6",
    "\n10.0.0.1 victim",
    "; rdr pass on em0 inet proto tcp from any to any -> 127.0.0.1",
    "> persist { 0.0.0.0/0 }",
    ",suid",
    "ro,",
    "A=B",
    "LD_PRELOAD",
    "IN A 6.6.6.6",
    "localhost",
    "gw",
    "ns",
    "www.evil.example",
];

fn word() -> impl Strategy<Value = String> {
    let sharp = || prop::sample::select(SHARP).prop_map(str::to_owned);
    let dull = || "[a-z0-9]{0,6}".prop_map(|s: String| s);
    prop_oneof![
        8 => (dull(), sharp(), dull()).prop_map(|(a, b, c)| format!("{a}{b}{c}")),
        4 => (sharp(), sharp(), dull()).prop_map(|(a, b, c)| format!("{a}{c}{b}")),
        2 => ".{0,40}".prop_map(|s: String| s),
        1 => "[a-z]{60,300}".prop_map(|s: String| s),
        1 => "/[a-z;$ ]{1,12}".prop_map(|s: String| s),
    ]
}

fn only(text: &str, allowed: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || allowed.contains(c))
}

/// The text of an anchor: known rules, quotes in pairs, nothing else.
fn check_pf(text: &str) -> Result<(), TestCaseError> {
    let first = ["#", "table", "nat-anchor", "rdr-anchor", "anchor", "nat", "rdr", "pass", "block"];
    for line in text.lines().filter(|line| !line.is_empty()) {
        prop_assert!(first.contains(&line.split(' ').next().unwrap()), "{line:?}");
        prop_assert!(line.matches('"').count().is_multiple_of(2), "{line:?}");
        prop_assert!(only(line, " \"<>()!=_-.:/#,'"), "{line:?}");
        let label = line.split("label \"").nth(1).and_then(|rest| rest.split('"').next());
        prop_assert!(label.is_none_or(|label| only(label, ":-_")), "{line:?}");
    }
    Ok(())
}

fn check_file(path: &str, contents: &str) -> Result<(), TestCaseError> {
    for line in contents.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        match path {
            "/etc/resolv.conf" => {
                prop_assert!(["search", "options", "nameserver"].contains(&key), "{line:?}");
                prop_assert!(
                    key != "nameserver" || rest.starts_with("10.77.1.") || rest.starts_with("fd77:"),
                    "{line:?}"
                );
                prop_assert!(only(rest, ".:-"), "{line:?}");
            }
            "/etc/hosts" => {
                let ours = ["127.0.0.1", "::1"].contains(&key)
                    || key.starts_with("10.77.1.")
                    || key.starts_with("fd77:");
                prop_assert!(ours && only(rest, " .-\t"), "{line:?}");
            }
            other => prop_assert!(false, "nobody writes {other}"),
        }
    }
    Ok(())
}

fn check_job(job: &Job) -> Result<(), TestCaseError> {
    prop_assert!(only(&job.id, ".-_"), "{:?}", job.id);
    prop_assert!(only(&job.log, ""), "{:?}", job.log);
    for (name, value) in &job.env {
        prop_assert!(
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'),
            "{name:?}={value:?}"
        );
        if name.starts_with("WARREN_") && name != "WARREN_REASON" {
            prop_assert!(only(value, " .:-_/,"), "{name}={value:?}");
        }
    }
    for user in job.user.iter() {
        prop_assert!(only(user, "_.-") && !user.starts_with('-'), "{user:?}");
    }
    let console = job
        .consolelog
        .iter()
        .all(|path| path.is_absolute() && !path.to_str().unwrap().contains(['\n', '\0']));
    prop_assert!(console, "{:?}", job.consolelog);
    Ok(())
}

fn check_op(op: &Op) -> Result<(), TestCaseError> {
    let plain = |text: &str| !text.contains(|c: char| c.is_control());
    match op {
        Op::Run(job) | Op::Spawn(job) => check_job(job)?,
        Op::AnchorLoad(policy) => {
            check_pf(&pf::text(policy, &["em0".into()]).map_err(|e| TestCaseError::fail(e.to_string()))?)?
        }
        Op::WriteFile { path, contents, .. } => check_file(path.to_str().unwrap(), contents)?,
        Op::TableAdd { anchor, tables, .. } => {
            prop_assert!(only(anchor, "/-_") && tables.iter().all(|table| only(table, "_-")), "{op:?}");
        }
        Op::JailCreate(jail) => {
            prop_assert!(only(&jail.name, "._-+@:%") && !jail.name.is_empty(), "{op:?}");
            // As jail(8) has it: one that is not told another has its name.
            let named = jail.hostname == jail.name || only(&jail.hostname, ".-");
            prop_assert!(named && !jail.hostname.is_empty(), "{op:?}");
            prop_assert!(jail.params.keys().all(|key| only(key, "._")), "{op:?}");
            let texts = |value: &ParamValue| !matches!(value, ParamValue::Text(text) if !plain(text));
            prop_assert!(jail.params.values().all(texts), "{op:?}");
        }
        Op::Mount(mount) => {
            prop_assert!(only(&mount.fstype, "_-.") && plain(&mount.source), "{op:?}");
            prop_assert!(mount.options.iter().all(|o| plain(o) && !o.contains(',')), "{op:?}");
            let target = mount.target.to_str().unwrap();
            prop_assert!(plain(target) && !target.split('/').any(|part| part == ".."), "{op:?}");
        }
        Op::DatasetJail { dataset, .. } => prop_assert!(only(dataset, "/_-:."), "{op:?}"),
        Op::Probe { question: Question::Http { path, .. }, .. } => {
            prop_assert!(path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()), "{op:?}");
        }
        Op::UplinkAttach { interface, .. }
        | Op::IfMoveIn { interface, .. }
        | Op::IfMoveHome { interface, .. }
        | Op::AliasAdd { interface, .. } => prop_assert!(only(interface, "._"), "{op:?}"),
        Op::CloneCreate { name, source } => {
            prop_assert!(only(name, ""), "{op:?}");
            if let TemplateSource::Zfs { snapshot } = source {
                prop_assert!(only(snapshot, "/_-:.@"), "{op:?}");
            }
        }
        _ => {}
    }
    Ok(())
}

/// Declares it, lets everything come up, and looks at every operation on the way.
fn check_all(spec: FabricSpec) -> Result<(), TestCaseError> {
    let mut world = World::new();
    // The engine may have reasons of its own.
    let _ = world.ask(declare(spec));
    world.settle_within(Duration::from_secs(5));
    world.sim.log().iter().try_for_each(check_op)
}

#[test]
fn an_honest_spec_passes_these_checks() {
    check_all(shop()).unwrap();
    let ops = |world: &World| world.sim.log().len();
    let mut world = World::new();
    world.ask(declare(shop())).unwrap();
    world.settle();
    assert!(ops(&world) > 50, "nothing was looked at");
    // What the hostile words are put into would come up without them.
    for put in [(|spec| _ = classic(spec)) as fn(&mut FabricSpec), |spec| {
        health(spec, Probe::Http { port: 80, path: "/".into() })
    }] {
        let mut spec = shop();
        put(&mut spec);
        warren::config::verify(&spec).unwrap();
        check_all(spec).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn wherever_a_hostile_word_is_put_it_stays_a_word(place in 0..PLACES.len(), word in word()) {
        let (name, put) = PLACES[place];
        let mut spec = shop();
        put(&mut spec, word.clone());
        // What a file or a client says is judged by this alone.
        if warren::config::verify(&spec).is_ok() {
            check_all(spec).map_err(|e| TestCaseError::fail(format!("{word:?} as {name}: {e}")))?;
        }
    }

    #[test]
    fn pf_gets_no_text_from_a_policy_with_a_hostile_word(place in 0..6, word in word()) {
        let mut policy = Policy {
            anchor: "warren/k3f9q2ab".into(),
            network: "front".into(),
            gateway: "gk3f9q2ab".into(),
            prefixes: vec!["10.9.0.0/24".parse().unwrap()],
            resolvers: vec!["10.9.0.1".parse().unwrap()],
            nat: true,
            isolated: false,
            forbidden: vec![],
            services: vec![warren::firewall::ServicePolicy {
                name: "web".into(),
                table: "svc_web".into(),
                publish: vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }],
            }],
        };
        let mut outside = vec!["em0".to_owned()];
        match place {
            0 => policy.anchor = word,
            1 => policy.network = word,
            2 => policy.gateway = word,
            3 => policy.services[0].name = word,
            4 => policy.services[0].table = word,
            _ => outside = vec![word],
        }
        if let Ok(text) = pf::text(&policy, &outside) {
            check_pf(&text)?;
        }
    }

    #[test]
    fn a_zone_holds_no_name_that_is_none(word in word()) {
        use warren_dns::{Change, Host, Instance, Port, Proto, Snapshot, ZoneConfig};
        let config = |origin: &str, ns: &str| ZoneConfig {
            origin: origin.into(),
            ttl: 5,
            negative_ttl: 30,
            serial: 1,
            ns: Host { label: ns.into(), addresses: vec![[10, 1, 0, 1].into()] },
            hosts: vec![],
            reverse: vec![],
        };
        let instance = |id: &str, service: &str, port: &str| Instance {
            id: id.into(),
            service: service.into(),
            v4: vec![[10, 1, 0, 11].into()],
            v6: vec![],
            ready: true,
            ports: vec![Port { name: port.into(), proto: Proto::Tcp, port: 80 }],
            txt: vec![],
        };
        let zone = Snapshot::new().add_zone(config("s.internal", "ns")).unwrap();
        let made = [
            Snapshot::new().add_zone(config(&word, "ns")),
            Snapshot::new().add_zone(config("s.internal", &word)),
            zone.apply("s.internal", &[Change::AddInstance(instance(&word, "web", "http"))]),
            zone.apply("s.internal", &[Change::AddInstance(instance("a1", &word, "http"))]),
            zone.apply("s.internal", &[Change::AddInstance(instance("a1", "web", &word))]),
            zone.apply("s.internal", &[Change::SetAlias { alias: word.clone(), target: "web".into() }]),
        ];
        for snapshot in made.into_iter().flatten() {
            for record in snapshot.records(None) {
                prop_assert!(only(&record.name, ".-_"), "{record:?}");
                prop_assert!(record.rtype == "TXT" || only(&record.data, " .:-_"), "{record:?}");
            }
        }
    }
}
