//! Files as people have them: what they come to, that they convert to the same plan, and that what cannot be run is said.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use warren::config::jailconf::{self, JailConf, OnDisk, Shown, write};
use warren::config::spec::FabricSpec;
use warren::config::{self, Document, Report};
use warren::host::Op;
use warren::ids::Id;
use warren::lifecycle::plan::{self, Assignment};
use warren::lifecycle::step::{Act, Plan};

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jailconf/cases");
    let entries = std::fs::read_dir(dir).expect("the directory is in the repository");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    assert!(files.len() >= 25);
    files
}

fn load(path: &Path) -> JailConf {
    jailconf::load(path, &mut OnDisk).unwrap_or_else(|report| panic!("{report:#}"))
}

fn read(text: &str) -> Result<JailConf, Report> {
    jailconf::parse(Path::new("jail.conf"), text.as_bytes().to_vec(), &mut OnDisk)
}

/// The plans of all services, by name.
fn plans(spec: &FabricSpec) -> Vec<(String, Plan)> {
    let plan = |name: &String| {
        let given = Assignment {
            id: Id::from_random(7),
            fabric: spec.name.clone(),
            domain: spec.domain.clone(),
            service: name.clone(),
            links: Vec::new(),
            roots: "/roots".into(),
            program: "/program".into(),
        };
        (name.clone(), plan::instance(&spec.services[name].instance, &given))
    };
    spec.services.keys().map(plan).collect()
}

/// What a file comes to is in the `.json` beside it. `WARREN_BLESS=1` writes it anew: read the difference.
#[test]
fn every_case_comes_to_what_is_written_beside_it() {
    for path in cases() {
        let document = Document::load(&path, false).unwrap_or_else(|report| panic!("{report:#}"));
        assert!(matches!(document, Document::Jails(_)), "{}", path.display());
        let shown = document.shown(None).unwrap_or_else(|report| panic!("{report:#}"));
        let shown = serde_json::to_string_pretty(&shown).expect("it is JSON") + "\n";
        let golden = path.with_extension("json");
        if std::env::var_os("WARREN_BLESS").is_some() {
            std::fs::write(&golden, &shown).expect("it can be written");
        }
        assert_eq!(shown, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", path.display());
        let again = read(&write::text(&load(&path).shown())).unwrap_or_else(|report| panic!("{report:#}"));
        assert_eq!(again.shown(), load(&path).shown(), "{}", path.display());
    }
}

#[test]
fn every_case_converts_to_the_same_plan() {
    for path in cases() {
        let conf = load(&path);
        let spec = conf.fabric(&[]).unwrap_or_else(|report| panic!("{report:#}"));
        let toml = conf.convert().unwrap_or_else(|report| panic!("{report:#}"));
        let converted = config::parse("warren.toml", &toml).unwrap_or_else(|r| panic!("{r:#}\n{toml}"));
        assert_eq!(plans(&converted), plans(&spec), "{}\n{toml}", path.display());
        let depends = |spec: &FabricSpec| -> Vec<_> {
            spec.services.values().map(|service| (service.name.clone(), service.depends_on.clone())).collect()
        };
        assert_eq!(depends(&converted), depends(&spec), "{toml}");
    }
}

#[test]
fn the_steps_are_in_the_order_of_jail_8() {
    let text = r#"
        w { path = /j/w; vnet; vnet.interface = em1; zfs.dataset = tank/w; ip4.addr = ""; mount.devfs;
            mount = "/a /j/w/a nullfs rw"; command = "c";
            exec.prepare = pr; exec.prestart = ps; exec.created = cr; exec.start = st; exec.poststart = po;
            exec.prestop = pt; exec.stop = sp; exec.poststop = pp; exec.release = re; }
        s { path = /j/s; persist; ip4.addr = "lo1|10.0.0.1"; }"#;
    let spec = read(text).and_then(|conf| conf.fabric(&[])).unwrap_or_else(|report| panic!("{report:#}"));
    let all = plans(&spec);
    let up = |plan: &Plan| plan.up.iter().map(|step| step.key.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(up(&all[0].1), "claim alias.0 jail name");
    assert_eq!(
        up(&all[1].1),
        "claim hook.prepare.0 mount.0 mount.1 hook.prestart.0 jail hook.created.0 dataset.0 move.0 name hook.start.0 \
         hook.start.1 hook.poststart.0"
    );
    let down: Vec<&str> = all[1].1.down.iter().map(|undo| undo.key.as_str()).collect();
    let order = [
        "hook.prestop.0",
        "hook.stop.0",
        "term",
        "kill",
        "un.dataset.0",
        "un.move.0",
        "remove",
        "hook.poststop.0",
        "un.mount.1",
        "un.mount.0",
        "hook.release.0",
    ];
    let places: Vec<_> = order.iter().map(|key| down.iter().position(|undo| undo == key)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{down:?}");
    // The kernel knows it by its own name, and every command in it or for it does.
    for step in &all[1].1.up {
        match &step.act {
            Act::Host(Op::JailCreate(jail)) => assert_eq!((jail.name.as_str(), jail.vnet), ("w", true)),
            Act::Host(Op::Run(job)) if job.jail.is_none() => assert_eq!(job.env["JNAME"], "w"),
            Act::Host(Op::Run(job)) => assert_eq!(job.jail.as_deref(), Some("w")),
            _ => {}
        }
    }
}

#[test]
fn named_jails_bring_what_they_depend_on_and_take_what_depends_on_them() {
    let conf =
        load(&cases().into_iter().find(|path| path.ends_with("14-dependencies.conf")).expect("it is there"));
    let spec = conf.fabric(&["db".into()]).expect("it can be run");
    assert_eq!(spec.services.keys().collect::<Vec<_>>(), ["db", "net"]);
    assert_eq!(conf.services_down(&["db".into()]).expect("it is there"), ["app", "db"]);
    assert_eq!(conf.services_down(&["net".into()]).expect("it is there"), ["app", "db", "cache", "net"]);
    assert!(conf.fabric(&["nobody".into()]).is_err());
}

#[test]
fn what_cannot_be_run_is_said_with_its_place() {
    for (text, words) in [
        ("a { persist; }", "a: it has no `path`"),
        ("a { path = /; persist; }", "cannot be made from `/`"),
        ("a { path = /a; }", "nothing runs in service `a`"),
        ("a { path = /a; persist; ip_hostname; }", "`ip_hostname` are not supported"),
        (
            "a { path = /a; persist; ip4.addr = \"em0|10.0.0.1/24 vhid 1\"; }",
            "has arguments for ifconfig(8): `vhid 1`",
        ),
        (
            "a { path = /a; persist; mount = \"/x /elsewhere nullfs rw\"; }",
            "/elsewhere is not below its root /a",
        ),
        ("a { path = /a; persist; mount.fstab = /no/such/fstab; }", "/no/such/fstab cannot be read"),
        ("a { path = /a; persist; } a { path = /b; persist; }", "jail `a` is defined twice"),
        ("a { path = /a; persist; vnet; ip4.addr = 10.0.0.1; }", "a jail with `vnet` has no addresses"),
        ("a { path = /a; persist; vnet.interface = em1; }", "`vnet.interface` without `vnet`"),
        ("warren-x { path = /a; persist; }", "Warren draws names that begin with warren-"),
        ("'a b' { path = /a; persist; }", "cannot be a jail's name"),
        ("a { path = /a; persist; securelevel = high; }", "`securelevel` cannot be `high`"),
        ("a { path = /a; persist; host = inherit; }", "`host` cannot be `inherit`"),
    ] {
        let report = read(text).and_then(|conf| conf.fabric(&[])).expect_err(text);
        let said = format!("{report:#}");
        assert!(said.contains(words), "{text}\n{said}");
        assert!(report.problems()[0].position().is_some(), "no place: {said}");
    }
}

#[test]
fn comments_and_proposals_come_along() {
    let text = "# My jails.\n\n# Serves the shop.\n// Ask Jo before changing it.\nshop { # the root\n path = /j/shop; vnet;\n\
        vnet.interface = ng0_shop; exec.prestart = \"jng bridge shop em0\"; exec.start = \"ifconfig ng0_shop inet 192.0.2.5/24\";\n}\n";
    let toml = read(text).and_then(|conf| conf.convert()).unwrap_or_else(|report| panic!("{report:#}"));
    let line = |words: &str| {
        toml.lines().position(|line| line == words).unwrap_or_else(|| panic!("{words}\n{toml}"))
    };
    assert!(line("# My jails.") < line("name = \"jail\""));
    assert!(line("# Serves the shop.") < line("# Ask Jo before changing it."));
    assert!(
        line("# Ask Jo before changing it.") < line("# the root")
            && line("# the root") < line("[services.shop]")
    );
    assert!(toml.contains("# networks = [\"lan\"]") && toml.contains("# uplink = \"em0\""), "{toml}");
    assert!(toml.contains("# address = [\"192.0.2.5\"]"), "{toml}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn converting_changes_no_plan(jails in prop::collection::btree_map("[a-zA-Z][a-zA-Z0-9_]{0,6}(\\.[a-z]{1,3})?", jail(), 1..5)) {
        let jails: Vec<Shown> = jails.into_iter().map(|(name, mut parameters)| {
            parameters.insert("path".into(), vec![format!("/j/{name}")]);
            parameters.insert("name".into(), vec![name.clone()]);
            Shown { name, parameters }
        }).collect();
        let text = write::text(&jails);
        let conf = read(&text).unwrap_or_else(|report| panic!("{report:#}\n{text}"));
        // Some of what is made cannot be run; then it cannot be converted either, for the same reasons.
        match (conf.fabric(&[]), conf.convert()) {
            (Ok(spec), Ok(toml)) => {
                let converted = config::parse("warren.toml", &toml).unwrap_or_else(|r| panic!("{r:#}\n{toml}"));
                prop_assert_eq!(plans(&converted), plans(&spec), "{}", toml);
            }
            (Err(one), Err(other)) => prop_assert_eq!(one.to_json(), other.to_json()),
            (one, other) => prop_assert!(false, "{one:?}\n{other:?}"),
        }
    }
}

fn jail() -> impl Strategy<Value = std::collections::BTreeMap<String, Vec<String>>> {
    let command = "[ -~]{0,12}[a-z]";
    let one = prop_oneof![
        (
            "exec\\.(prepare|prestart|created|start|poststart|prestop|stop|poststop|release)",
            prop::collection::vec(command, 1..3)
        ),
        ("command", prop::collection::vec(command, 1..3)),
        (
            "(persist|vnet|exec\\.clean|mount\\.devfs|mount\\.procfs|allow\\.mount|allow\\.raw_sockets)",
            "(true|false|1|0)".prop_map(|v| vec![v])
        ),
        (
            "ip4\\.addr",
            prop::collection::vec("(em0\\||lo1\\||)10\\.0\\.0\\.[1-9](/24|/255\\.255\\.0\\.0|)", 1..3)
        ),
        ("interface", "em[0-3]".prop_map(|v| vec![v])),
        ("vnet\\.interface", prop::collection::vec("ng[0-9]_[a-z]{1,4}", 1..3)),
        (
            "(exec\\.timeout|stop\\.timeout|exec\\.fib|securelevel|children\\.max|devfs_ruleset|jid)",
            "[0-3]".prop_map(|v| vec![v])
        ),
        ("(host\\.hostname|exec\\.jail_user|meta|mod\\.x)", "[a-z]{1,8}".prop_map(|v| vec![v])),
        ("zfs\\.dataset", prop::collection::vec("tank/[a-z]{1,5}", 1..3)),
    ];
    prop::collection::vec(one, 0..8).prop_map(|all| all.into_iter().collect())
}
