//! Configuration from outside: the examples, the schema, and the words a user reads when something is wrong.

use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};
use warren::config::{self, Report};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(here(dir)).expect("the directory is in the repository");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{dir} has no .{extension}");
    files
}

/// What a terminal without colours shows, 100 columns wide.
fn shown(report: &Report) -> String {
    let mut text = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut text, report)
        .expect("a string can be written to");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn every_example_loads_and_verifies() {
    for path in files("examples", "toml") {
        let spec = config::load(&path).unwrap_or_else(|report| panic!("{}", shown(&report)));
        config::verify(&spec).unwrap_or_else(|report| panic!("{report:#}"));
        let stored = serde_json::to_string(&spec).expect("a spec can be stored");
        let back: config::spec::FabricSpec =
            serde_json::from_str(&stored).expect("a stored spec can be read");
        assert_eq!(back, spec, "{}", path.display());
        assert!(config::diff(&spec, &back).is_empty());
    }
}

/// Each `tests/config/*.toml` is a bad file, and the `.txt` beside it is what the user sees.
/// `WARREN_BLESS=1 cargo test --test config` writes the texts anew: read the difference before it is committed.
#[test]
fn every_bad_file_is_refused_with_these_words() {
    let bless = std::env::var_os("WARREN_BLESS").is_some();
    for path in files("tests/config", "toml") {
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let name = path.file_name().and_then(|name| name.to_str()).expect("the file has a name");
        let mut read = |file: &Path| std::fs::read_to_string(here("tests/config").join(file));
        let report = config::parse_with(name, &text, &mut read).expect_err(name);
        let shown = shown(&report);
        let golden = path.with_extension("txt");
        if bless {
            std::fs::write(&golden, &shown).expect("the text can be written");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(shown, expected, "{name}: the words have changed");
    }
}

#[test]
fn the_schema_takes_what_the_loader_takes() {
    let schema = config::schema();
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let as_json = |path: &Path| -> serde_json::Value {
        let text = std::fs::read_to_string(path).expect("the file can be read");
        json(&toml::de::DeValue::Table(toml::de::DeTable::parse(&text).expect("it is TOML").into_inner()))
    };
    for path in files("examples", "toml") {
        let value = as_json(&path);
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
    for refused in ["unknown-key", "unknown-parameter"] {
        let value = as_json(&here(&format!("tests/config/{refused}.toml")));
        assert!(!validator.is_valid(&value), "{refused}");
    }
}

/// TOML as JSON; dates have no place in a configuration.
fn json(value: &toml::de::DeValue<'_>) -> serde_json::Value {
    use toml::de::DeValue;
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).expect("64 bits").into()
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().expect("a float").into(),
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(array) => array.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => serde_json::Value::Object(
            table.iter().map(|(key, item)| (key.get_ref().to_string(), json(item.get_ref()))).collect(),
        ),
    }
}

fn example(name: &str) -> config::spec::FabricSpec {
    config::load(&here("examples").join(name)).unwrap_or_else(|report| panic!("{report:#}"))
}

#[test]
fn defaults_are_filled_in() {
    use config::spec::*;
    use std::time::Duration;
    let shop = example("shop.toml");
    assert_eq!((shop.name.as_str(), shop.domain.as_str()), ("shop", "shop.internal"));
    let network = &shop.networks["shop"];
    assert_eq!(network.gateway4, Some([10, 77, 0, 1].into()));
    assert_eq!(network.dhcp4, Some([10, 77, 0, 2].into()));
    assert_eq!(network.gateway6, "fd77:7::1".parse().ok());
    assert_eq!((network.mtu, network.nat, network.isolated), (1500, true, false));
    let db = &shop.services["db"];
    assert_eq!(db.replicas, 1);
    assert_eq!(db.restart.policy, RestartPolicy::Always);
    assert_eq!(db.health.as_ref().map(|health| &health.probe), Some(&Probe::Tcp { port: 5432 }));
    assert_eq!(db.instance.template.source, TemplateSource::Host);
    assert_eq!(db.instance.stop_timeout, Duration::from_secs(10));
    assert!(db.instance.clean_env && db.instance.exec_timeout.is_none());
    assert!(db.instance.links.iter().all(|link| link.vnet && link.address == AddressMode::Auto));
    let devfs = db.instance.mounts.first().expect("devfs is mounted unless told otherwise");
    assert_eq!(
        (devfs.fstype.as_str(), devfs.options.as_slice()),
        ("devfs", ["ruleset=4".to_owned()].as_slice())
    );
    assert_eq!(
        shop.services["web"].publish,
        [Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }]
    );
    assert_eq!(shop.templates.keys().collect::<Vec<_>>(), ["host"]);
}

#[test]
fn a_service_overrides_its_template_and_an_empty_hook_cancels_one() {
    use config::spec::*;
    let text = r#"
        name = "x"
        [networks.n]
        ipv4 = "10.0.0.0/24"
        [templates.t]
        zfs = "tank/base@v1"
        [templates.t.jail]
        "exec.prestart" = ["one", "two"]
        "exec.created" = "kept"
        "exec.stop" = "template's"
        "allow.raw_sockets" = true
        "mount" = '/a\040b /mnt nullfs ro 0 0'
        "mount.procfs" = true
        devfs_ruleset = 5
        [services.s]
        template = "t"
        networks = ["n"]
        mounts = ["/data:/data"]
        [services.s.jail]
        "exec.prestart" = "three"
        "exec.stop" = ""
        "exec.start" = [["/bin/sh", "/etc/rc"]]
        "ip4.addr" = ["10.0.0.9"]
        "stop.timeout" = 0
        "gadget.level" = 3
        persist = true
    "#;
    let spec = config::parse("x.toml", text).unwrap_or_else(|report| panic!("{report:#}"));
    let made = &spec.services["s"].instance;
    assert_eq!(made.hooks.prestart, [CommandLine::Shell("three".into())]);
    assert_eq!(made.hooks.created, [CommandLine::Shell("kept".into())]);
    assert_eq!(made.hooks.stop, []);
    assert_eq!(made.hooks.start, [CommandLine::Argv(vec!["/bin/sh".into(), "/etc/rc".into()])]);
    assert_eq!(
        made.params.keys().collect::<Vec<_>>(),
        ["allow.raw_sockets", "devfs_ruleset", "gadget.level"]
    );
    assert_eq!(
        made.links,
        [LinkSpec {
            network: "n".into(),
            address: AddressMode::Fixed { addresses: vec![[10, 0, 0, 9].into()] },
            vnet: false,
        }]
    );
    assert!(made.stop_timeout.is_zero() && made.persist);
    let mounts: Vec<_> =
        made.mounts.iter().map(|mount| (mount.kind, mount.source.as_str(), mount.read_only)).collect();
    assert_eq!(
        mounts,
        [
            (MountKind::Mount, "/data", false),
            (MountKind::Mount, "/a b", true),
            (MountKind::Devfs, "devfs", false),
            (MountKind::Procfs, "procfs", false),
        ]
    );
    assert_eq!(made.mounts[2].options, ["ruleset=5"]);
    assert_eq!(spec.templates["t"].hooks.prestart.len(), 2);
}

#[test]
fn fstab_files_are_read_once_and_beside_the_configuration() {
    let text =
        "name = \"x\"\n[templates.t]\nhost = true\n[templates.t.jail]\n\"mount.fstab\" = \"t.fstab\"\n";
    let mut asked = Vec::new();
    let mut read = |path: &Path| {
        asked.push(path.to_owned());
        Ok("# a comment\n/data /mnt nullfs rw 0 0\n".to_owned())
    };
    let spec = config::parse_with("/etc/warren/x.toml", text, &mut read)
        .unwrap_or_else(|report| panic!("{report:#}"));
    assert_eq!(asked, [PathBuf::from("/etc/warren/t.fstab")]);
    assert_eq!(spec.templates["t"].mounts[0].source, "/data");
    // From the text alone no file of the reader's machine is opened.
    let report = config::parse("/etc/warren/x.toml", text).expect_err("no files");
    assert_eq!(report.problems()[0].code, "config::fstab");
}

#[test]
fn a_spec_sent_by_anyone_is_judged_by_the_rules_of_a_file() {
    use config::spec::*;
    type Change = fn(&mut FabricSpec);
    let cases: [(&str, Change); 16] = [
        ("origin", |spec| spec.origin = Some("/etc/\u{1b}[2J".into())),
        ("name", |spec| spec.name = "x\" pass all".into()),
        ("domain", |spec| spec.domain = "shop.internal\nserver=evil".into()),
        ("networks.shop", |spec| with_net(spec, |net| net.name = "other".into())),
        ("networks.shop.uplink", |spec| with_net(spec, |net| net.uplink = Some("em0 } pass".into()))),
        ("networks.a.peers", |spec| {
            let mut other = spec.networks["shop"].clone();
            (other.name, other.peers, other.isolated) = ("a".into(), vec!["shop".into()], true);
            spec.networks.insert("a".into(), other);
        }),
        ("networks.shop.gateway", |spec| with_net(spec, |net| net.gateway4 = None)),
        ("services.api.networks.0", |spec| {
            with_api(spec, |api| api.instance.links[0].network = "gone".into())
        }),
        ("services.api.template", |spec| with_api(spec, |api| api.instance.template.name = "../x".into())),
        ("services.api.jail.path", |spec| with_param(spec, "path", ParamValue::Text("/".into()))),
        ("services.api.jail.\"allow.mount\"", |spec| {
            with_param(spec, "allow.mount", ParamValue::Text("1".into()))
        }),
        ("services.api.jail.\"a;b\"", |spec| with_param(spec, "a;b", ParamValue::Bool(true))),
        ("services.api.jail.\"exec.jail_user\"", |spec| {
            with_api(spec, |api| api.instance.jail_user = Some("-x".into()))
        }),
        ("services.api.jail.\"exec.stop\".0", |spec| {
            with_api(spec, |api| api.instance.hooks.stop = vec![CommandLine::Argv(Vec::new())]);
        }),
        ("services.api.mounts.0", |spec| {
            with_api(spec, |api| api.instance.mounts[0].target = "/../etc".into())
        }),
        ("services.api.replicas", |spec| with_api(spec, |api| api.replicas = u32::MAX)),
    ];
    for (place, change) in cases {
        let mut spec = example("shop.toml");
        change(&mut spec);
        let report = config::verify(&spec).expect_err(place);
        let places: Vec<&str> = report.problems().iter().map(|problem| problem.place.as_str()).collect();
        assert!(places.contains(&place), "{place}: {places:?}");
    }

    fn with_net(spec: &mut FabricSpec, change: impl Fn(&mut NetworkSpec)) {
        spec.networks.values_mut().for_each(change);
    }
    fn with_api(spec: &mut FabricSpec, change: impl Fn(&mut ServiceSpec)) {
        change(spec.services.get_mut("api").expect("the example has it"));
    }
    fn with_param(spec: &mut FabricSpec, name: &str, value: ParamValue) {
        with_api(spec, |api| {
            api.instance.params.insert(name.to_owned(), value.clone());
        });
    }
}

#[test]
fn scaling_asks_the_same_rules() {
    let many = example("many.toml");
    let to = |count| config::scaled(&many, &[("worker".to_owned(), count)].into());
    assert_eq!(to(1020).map(|spec| spec.services["worker"].replicas).ok(), Some(1020));
    let codes = |report: Report| report.problems().iter().map(|problem| problem.code).collect::<Vec<_>>();
    assert_eq!(to(1021).map_err(codes), Err(vec!["config::pool-exhausted"]));
    let wrong =
        config::scaled(&many, &[("wroker".to_owned(), 1)].into()).expect_err("there is no such service");
    assert_eq!(wrong.problems()[0].help.as_deref(), Some("did you mean `worker`?"));
}

#[test]
fn fabrics_get_into_each_others_way() {
    let shop = example("shop.toml");
    assert!(config::conflicts(&shop, &[&shop]).is_empty(), "a fabric replaces itself");
    assert!(config::conflicts(&shop, &[&example("many.toml"), &example("isolated.toml")]).is_empty());
    let mut other = shop.clone();
    other.name = "other".into();
    let said: Vec<String> = config::conflicts(&shop, &[&other]).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "fabric `other` has the domain `shop.internal` already",
            "network `shop` (10.77.0.0/24) overlaps with network `shop` (10.77.0.0/24) of fabric `other`",
            "network `shop` (fd77:7::/64) overlaps with network `shop` (fd77:7::/64) of fabric `other`",
            "8080:80/tcp cannot be published: service `web` of fabric `other` has port 8080/tcp",
        ]
    );
    let (lan, dev) =
        (in_domain(&shop, "a", "corp.lan"), in_domain(&example("many.toml"), "b", "dev.corp.lan"));
    let said = |one, two| config::conflicts(one, &[two]).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(said(&dev, &lan), ["the domain `dev.corp.lan` is below `corp.lan`, which fabric `a` has"]);
    assert_eq!(said(&lan, &dev), ["fabric `b` has the domain `dev.corp.lan`, which is below `corp.lan`"]);
    // It ends alike, and is beside it.
    assert!(said(&in_domain(&dev, "b", "devcorp.lan"), &lan).is_empty());
}

fn in_domain(spec: &config::spec::FabricSpec, name: &str, domain: &str) -> config::spec::FabricSpec {
    config::spec::FabricSpec { name: name.into(), domain: domain.into(), ..spec.clone() }
}

#[test]
fn a_changed_file_says_what_it_will_do() {
    use config::spec::*;
    let old = example("shop.toml");
    let said = |change: &dyn Fn(&mut FabricSpec)| {
        let mut new = old.clone();
        change(&mut new);
        config::diff(&old, &new).sentences()
    };
    let service = |spec: &mut FabricSpec, name: &str, change: &dyn Fn(&mut ServiceSpec)| {
        change(spec.services.get_mut(name).expect("the example has it"));
    };
    assert!(said(&|_| {}).is_empty());
    assert_eq!(
        said(&|new| service(new, "api", &|api| api.replicas = 20)),
        ["service `api`: 20 instances instead of 3"]
    );
    assert_eq!(
        said(&|new| service(new, "web", &|web| web.publish.clear())),
        ["service `web`: publish changed, its instances stay"]
    );
    assert_eq!(
        said(&|new| service(new, "web", &|web| {
            web.instance.command = None;
            web.instance.env.insert("A".into(), "b".into());
        })),
        ["service `web`: its instances are replaced: command and env changed"]
    );
    assert_eq!(
        said(&|new| {
            new.services.remove("web");
            if let Some(net) = new.networks.get_mut("shop") {
                net.nat = false;
            }
        }),
        ["network `shop`: nat changed, without an interruption", "service `web` is removed: 2 instances"]
    );
    assert_eq!(
        said(&|new| {
            new.services.retain(|name, _| name == "db");
            if let Some(net) = new.networks.get_mut("shop") {
                net.mtu = 9000;
            }
        }),
        [
            "network `shop`: mtu changed, which is refused while the fabric is up: take it down first",
            "service `api` is removed: 3 instances",
            "service `db`: its instances are replaced: network `shop` changed",
            "service `web` is removed: 2 instances",
        ]
    );
    // A longer list of fixed addresses leaves those alone who have theirs.
    let fixed = |spec: &mut FabricSpec, last: &[u8]| {
        let addresses = last.iter().map(|last| [10, 77, 0, *last].into()).collect();
        service(spec, "api", &|api| {
            api.instance.links[0].address = AddressMode::Fixed { addresses: Vec::clone(&addresses) }
        });
    };
    let (mut three, mut four, mut moved) = (old.clone(), old.clone(), old.clone());
    fixed(&mut three, &[10, 11, 12]);
    fixed(&mut four, &[10, 11, 12, 13]);
    fixed(&mut moved, &[11, 10, 12]);
    service(&mut four, "api", &|api| api.replicas = 4);
    assert_eq!(
        config::diff(&three, &four).sentences(),
        ["service `api`: 4 instances instead of 3", "service `api`: address changed, its instances stay",]
    );
    assert_eq!(
        config::diff(&three, &moved).sentences(),
        ["service `api`: its instances are replaced: networks changed"]
    );
}

#[test]
fn the_reference_names_every_key() {
    let reference =
        std::fs::read_to_string(here("docs/reference/config.md")).expect("the reference is there");
    let schema = config::schema();
    let mut keys = Vec::new();
    let mut collect = |object: &serde_json::Value| {
        keys.extend(
            object["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, about)| **about != false)
                .map(|(key, _)| key.clone()),
        );
    };
    collect(&schema);
    schema["$defs"].as_object().expect("there are definitions").values().for_each(&mut collect);
    let missing: Vec<_> = keys.iter().filter(|key| !reference.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/reference/config.md does not name {missing:?}");
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    static SCHEMA: std::sync::LazyLock<jsonschema::Validator> = std::sync::LazyLock::new(|| {
        jsonschema::validator_for(&config::schema()).expect("the schema is a schema")
    });

    /// Text that is nearly a configuration: its own words in any order.
    fn nearly() -> impl Strategy<Value = String> {
        let words = prop::sample::select(vec![
            "name",
            "=",
            "[",
            "]",
            "[[",
            "{",
            "}",
            ",",
            "\"",
            "\n",
            ".",
            "\"shop\"",
            "networks",
            "[networks.a]\n",
            "[services.b]\n",
            "[templates.c]\n",
            "[services.b.jail]\n",
            "ipv4",
            "\"10.0.0.0/24\"",
            "jail",
            "template",
            "\"exec.start\"",
            "\"ip4.addr\"",
            "vnet",
            "true",
            "0",
            "-1",
            "replicas",
            "ports",
            "health",
            "publish",
            "\"8080:80\"",
            "networks = [\"a\", 5]\n",
            "\"mount\"",
            "\"/a /b c\"",
            "depends_on = [\"b\"]\n",
            "é",
            "\0",
            "address = [\"10.0.0.5\", 5, \"::1\"]\n",
            "peers = [\"a\", \"d\"]\n",
            "[networks.d]\nipv6 = \"::/0\"\n",
        ]);
        prop::collection::vec(words, 0..40).prop_map(|words| words.join(" "))
    }

    /// A valid configuration: up to six services on up to three networks, in every mode that needs no other.
    fn valid() -> impl Strategy<Value = String> {
        let service =
            (0_usize..3, 0_u16..40, any::<bool>(), any::<bool>(), 0_usize..6, prop::option::of(1024_u16..));
        (1_usize..=3, prop::collection::vec(service, 0..6), 1_u16..3600).prop_map(|(networks, services, seconds)| {
            let mut text = format!("name = \"x\"\n[templates.t]\nhost = true\n[templates.t.jail]\n\"exec.timeout\" = {seconds}\n");
            for net in 0..networks {
                text += &format!("[networks.n{net}]\nipv4 = \"10.{net}.0.0/16\"\nipv6 = \"fd00:{net}::/64\"\nisolated = true\n");
            }
            let mut published = std::collections::BTreeSet::new();
            for (at, (net, replicas, dhcp, tcp, depends, port)) in services.iter().enumerate() {
                text += &format!("[services.s{at}]\ntemplate = \"t\"\ncommand = [\"run\"]\nreplicas = {replicas}\n");
                text += &format!("networks = [\"n{}\"]\naddress = \"{}\"\n", net % networks, if *dhcp { "dhcp" } else { "auto" });
                if *tcp {
                    text += "health = { tcp = 80, interval = \"1m30s\" }\n";
                }
                if *depends < at {
                    text += &format!("depends_on = [\"s{depends}\"]\n");
                }
                if let Some(port) = port.filter(|port| published.insert(*port)) {
                    text += &format!("publish = [\"{port}:80\", \"127.0.0.1:{port}:53/udp\"]\n");
                }
            }
            text
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_written_there_is_an_answer(text in prop_oneof![any::<String>(), nearly()]) {
            config::fuzz(text.as_bytes());
            if let Err(report) = config::parse("x.toml", &text) {
                prop_assert!(!shown(&report).is_empty());
            }
        }

        #[test]
        fn every_bad_line_in_a_good_file_is_an_answer(text in valid(), line in nearly()) {
            config::fuzz(format!("{text}{line}").as_bytes());
        }

        #[test]
        fn every_valid_configuration_passes(text in valid()) {
            let spec = config::parse("x.toml", &text).map_err(|report| TestCaseError::fail(format!("{report:#}\n{text}")))?;
            prop_assert!(config::verify(&spec).is_ok());
            let tree = toml::de::DeTable::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(SCHEMA.is_valid(&json(&toml::de::DeValue::Table(tree.into_inner()))));
            prop_assert!(config::diff(&spec, &spec).is_empty());
            let stored = serde_json::to_value(&spec).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(serde_json::from_value::<config::spec::FabricSpec>(stored).ok(), Some(spec));
        }
    }
}
