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
    assert_eq!(conf.services_down(&["*".into()]).expect("all").len(), conf.jails.len());
    let text = "path = /j/$name; persist; a { } a.b { } a.c.d { } e { }";
    let conf = read(text).expect("it is right");
    let spec = conf.fabric(&["a.*".into()]).unwrap_or_else(|report| panic!("{report:#}"));
    assert_eq!(spec.services.keys().collect::<Vec<_>>(), ["a", "a-b", "a-c-d"]);
    assert_eq!(conf.services_of("a.*").expect("it covers two"), ["a-b", "a-c-d"]);
    assert!(conf.services_of("x.*").expect_err("none").to_string().contains("a problem"));
}

#[test]
fn what_cannot_be_run_is_said_with_its_place() {
    for (text, words) in [
        ("a { persist; }", "a: it has no `path`"),
        ("a { path = /; persist; }", "cannot be made from `/`"),
        ("a { path = /a; }", "nothing runs in service `a`"),
        (
            "a { path = /a; persist; ip_hostname; host.hostname = nobody.invalid; }",
            "`nobody.invalid` has no address for `ip_hostname`",
        ),
        ("a { path = /a; persist; depends = b; }", "did you mean `depend`?"),
        ("a { path = /a; persist; exec.poststopp = x; }", "did you mean `exec.poststop`?"),
        ("a { path = /a; persist; enforce_statf = 1; }", "did you mean `enforce_statfs`?"),
        ("a { path = /a; persist; vnet = \n persist; }", "it is `new` or `inherit`"),
        ("a { path = /a; persist; vnet \n persist; }", "a `;` is missing after `vnet`"),
        (
            "a { path = /a; persist; ip4.addr = \"em0|10.0.0.1/24 vhid 1\"; }",
            "has arguments for ifconfig(8): `vhid`",
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

/// What jail(8) starts with a parameter Warren does not know, Warren starts with it too; and a `no` is never lost.
#[test]
fn parameters_only_the_kernel_knows_go_to_it_as_they_are_written() {
    let text = "web { path = /x; persist; allow.mount.lindebugfs; zfs = inherit; allow.nofuture; mod.nobaz; notify.x; mod.y = a, b;
        allow.mount.newfs = 0; meta = 'a=b\\nc=d\\n'; env.k = 'x\\ty'; }";
    let conf = read(text).unwrap_or_else(|report| panic!("{report:#}"));
    let spec = conf.fabric(&[]).unwrap_or_else(|report| panic!("{report:#}"));
    let params = serde_json::to_value(&spec.services["web"].instance.params).expect("it is JSON");
    let wanted = serde_json::json!({
        "allow.mount.lindebugfs": true, "zfs": "inherit", "allow.nofuture": true, "mod.nobaz": true, "notify.x": true,
        "mod.y": ["a", "b"], "allow.mount.newfs": "0", "meta": "a=b\nc=d\n", "env.k": "x\ty",
    });
    assert_eq!(params, wanted);
    let toml = conf.convert().unwrap_or_else(|report| panic!("{report:#}"));
    let converted = config::parse("warren.toml", &toml).unwrap_or_else(|r| panic!("{r:#}\n{toml}"));
    assert_eq!(plans(&converted), plans(&spec), "{toml}");
    let modules = conf.remarks().iter().filter(|remark| remark.code == "jail.conf::module-parameter").count();
    assert_eq!(modules, 5);
}

#[test]
fn no_two_jails_have_one_service() {
    let text = "X { path = /j/X; persist; } x_ { path = /j/x_; persist; } X-2 { path = /j/X-2; persist; } x-2 { path = /j/y; persist; }
        _ { path = /j/_; persist; } jail { path = /j/j; persist; }";
    let conf = read(text).unwrap_or_else(|report| panic!("{report:#}"));
    let spec = conf.fabric(&[]).unwrap_or_else(|report| panic!("{report:#}"));
    let root = |service: &str| match &spec.services[service].instance.template.source {
        warren::config::spec::TemplateSource::Shared { path } => path.display().to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(spec.services.len(), 6);
    assert_eq!((root("x"), root("x-2"), root("jail")), ("/j/X".into(), "/j/y".into(), "/j/j".into()));
    for jail in &conf.jails {
        let service = conf.services_of(&jail.name).expect("it is there").remove(0);
        assert_eq!(root(&service), jail.text("path").unwrap_or_default());
    }
}

/// What jail(8) would refuse is an error; what only Warren refuses a remark.
#[test]
fn check_says_what_jail_8_would() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let fstab = dir.path().join("fstab");
    std::fs::write(&fstab, "# mounts\n/b /x/b nullfs rw\n/b /x/b # nullfs\n").expect("it can be written");
    for (params, words) in [
        ("securelevel = high", "`securelevel` cannot be `high`"),
        ("children.max = lots", "`children.max` cannot be `lots`"),
        ("enforce_statfs = 9", "it is a whole number from 0 to 2"),
        ("ip4 = maybe", "`ip4` cannot be `maybe`"),
        ("ip4.addr = foo", "`foo` in `ip4.addr` is not an IPv4 address"),
        ("ip4.addr = 10.0.0.1, \"10.0.0.2,::1\"", "`::1` in `ip4.addr` is not an IPv4 address"),
        ("ip6.addr = 10.0.0.1", "is not an IPv6 address"),
        ("ip4.addr = \"em0|10.0.0.1,10.0.0.2\"", "several addresses on one interface"),
        ("mount.fstab = /nope", "/nope cannot be read"),
        ("mount = x", "has not the three fields"),
        ("devfs_ruleset = foo", "`devfs_ruleset` cannot be `foo`"),
        ("gadget", "`gadget` is not a parameter of jail(8)"),
        ("exec.timeout = 5s", "`exec.timeout` is a whole number"),
    ] {
        let text = format!("web {{ path = /x; persist; {params}; }}");
        let report = read(&text).expect("its syntax is right").check().expect_err(&text);
        let said = format!("{report:#}");
        assert!(said.contains(words) && report.problems().len() == 1, "{text}\n{said}");
        assert!(report.problems()[0].position().is_some(), "no place: {said}");
    }
    // A line of an fstab has the place it was written at.
    let text = format!("web {{ path = /x; persist; mount.fstab = '{}'; }}", fstab.display());
    let report = read(&text).expect("its syntax is right").check().expect_err("a line is wrong");
    let problem = &report.problems()[0];
    assert_eq!((problem.file(), problem.position()), (fstab.to_str(), Some((3, 1))));
    assert!(problem.message.contains("line 3"), "{problem}");
    let remarked = "web { path = /x; host = inherit; mount = \"/a /elsewhere nullfs\"; } sql { persist; }";
    let checked = read(remarked).and_then(|conf| conf.check()).unwrap_or_else(|report| panic!("{report:#}"));
    assert!(!checked.runs && checked.remarks.len() >= 3, "{checked:?}");
    let right = "web { path = /x; persist; ip4.addr = \"10.0.0.1,10.0.0.2\", -; ip6.addr = -; mount = \"/a /x/a nullfs rw 0 0 more\"; }";
    let report = read(right).and_then(|conf| conf.check()).expect_err("`-` stands alone");
    assert!(report.to_string().contains("a problem"), "{report:#}");
    let right = right.replace(", -;", ";");
    let conf = read(&right).unwrap_or_else(|report| panic!("{report:#}"));
    assert!(conf.check().unwrap_or_else(|report| panic!("{report:#}")).runs);
    let spec = conf.fabric(&[]).expect("it runs");
    let classic = spec.services["web"].instance.classic.as_ref().expect("it keeps its name");
    assert_eq!(
        classic.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.1", "10.0.0.2"]
    );
}

#[test]
fn addresses_may_be_looked_up_and_masks_be_said_as_to_ifconfig() {
    let text = "a { path = /a; persist; host.hostname = 127.0.0.9; ip_hostname; interface = lo1; }
        b { path = /b; persist; ip4.addr = 'em0|10.0.0.1 netmask 255.255.255.0'; ip6.addr = 'em0|2001:db8::1 prefixlen 64'; }";
    let spec = read(text).and_then(|conf| conf.fabric(&[])).unwrap_or_else(|report| panic!("{report:#}"));
    let aliases = |jail: &str| -> Vec<String> {
        let classic = spec.services[jail].instance.classic.as_ref().expect("it keeps its name");
        classic.aliases.iter().map(|alias| format!("{}|{}", alias.interface, alias.address)).collect()
    };
    assert_eq!(aliases("a"), ["lo1|127.0.0.9/32"]);
    assert_eq!(aliases("b"), ["em0|10.0.0.1/24", "em0|2001:db8::1/64"]);
}

#[test]
fn mount_goes_before_mount_fstab_whatever_stands_first() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let fstab = dir.path().join("fstab");
    std::fs::write(&fstab, "/b /x/a/sub nullfs rw\n").expect("it can be written");
    let text = format!(
        "web {{ path = /x; persist; mount.fstab = '{}'; mount = '/a /x/a nullfs rw'; }}",
        fstab.display()
    );
    let conf = read(&text).unwrap_or_else(|report| panic!("{report:#}"));
    let spec = conf.fabric(&[]).unwrap_or_else(|report| panic!("{report:#}"));
    let targets: Vec<_> =
        spec.services["web"].instance.mounts.iter().map(|mount| mount.target.display().to_string()).collect();
    assert_eq!(targets, ["/a", "/a/sub"]);
    let converted =
        config::parse("warren.toml", &conf.convert().expect("it can be converted")).expect("it is right");
    assert_eq!(plans(&converted), plans(&spec));
}

/// The Handbook's thin jail on nullfs: the base system on the root itself, the jail's own below it. And what unionfs stacks.
#[test]
fn file_systems_may_be_mounted_on_the_root_and_over_one_another() {
    let text = "thin { path = /x; persist; mount = '/base /x/ nullfs ro', '/skeleton /x/skeleton nullfs rw'; }
        union { path = /u; persist; mount = '/base /u nullfs ro', '/own /u unionfs rw,noatime', '/a /u/a nullfs rw', '/b /u/a nullfs rw'; }";
    let conf = read(text).unwrap_or_else(|report| panic!("{report:#}"));
    let spec = conf.fabric(&[]).unwrap_or_else(|report| panic!("{report:#}"));
    let all = plans(&spec);
    let mounts = |plan: &Plan| -> Vec<(String, bool)> {
        let mount = |act: &Act| match act {
            Act::Host(Op::Mount(mount)) => Some((mount.target.display().to_string(), mount.stacked)),
            _ => None,
        };
        plan.up.iter().filter_map(|step| mount(&step.act)).collect()
    };
    assert_eq!(mounts(&all[0].1), [("/".into(), true), ("/skeleton".into(), false)]);
    let wanted = [("/".into(), true), ("/".into(), true), ("/a".into(), false), ("/a".into(), true)];
    assert_eq!(mounts(&all[1].1), wanted);
    // What lies over another goes first, and the other stays if it does not go.
    let needs =
        |key: &str| all[1].1.down.iter().find(|undo| undo.key == key).expect("it is undone").needs.clone();
    assert!(needs("un.mount.2").contains(&"un.mount.3".to_owned()));
    assert!(
        ["un.mount.1", "un.mount.2", "un.mount.3"]
            .iter()
            .all(|key| needs("un.mount.0").contains(&(*key).to_owned()))
    );
    let toml = conf.convert().unwrap_or_else(|report| panic!("{report:#}"));
    let converted = config::parse("warren.toml", &toml).unwrap_or_else(|r| panic!("{r:#}\n{toml}"));
    assert_eq!(plans(&converted), plans(&spec), "{toml}");
}

/// What FreeBSD's own tests of jail(8) look at, as far as a plan shows it: which commands run, and by which name and number the jail is
/// known to them.
#[test]
fn upstream_tests_of_names_and_numbers_hold() {
    let file =
        cases().into_iter().find(|path| path.ends_with("31-upstream-tests.conf")).expect("it is there");
    let spec = load(&file).fabric(&[]).unwrap_or_else(|report| panic!("{report:#}"));
    let seen = |service: &str| {
        let (_, plan) = plans(&spec).into_iter().find(|(name, _)| name == service).expect("it is a service");
        let created = plan.up.iter().find_map(|step| match &step.act {
            Act::Host(Op::JailCreate(jail)) => {
                Some((jail.name.clone(), jail.params.get("jid").cloned(), jail.hostname.clone()))
            }
            _ => None,
        });
        let (name, jid, hostname) = created.expect("a jail is made");
        let keys: Vec<String> = plan.up.iter().map(|step| step.key.clone()).collect();
        assert!(
            keys.iter().any(|key| key == "hook.prestart.0")
                && plan.down.iter().any(|u| u.key == "hook.prestop.0")
        );
        (name, jid, hostname)
    };
    let number = |jid: i64| Some(warren::config::spec::ParamValue::Int(jid));
    assert_eq!(seen("basejail").0, "basejail");
    assert_eq!((seen("j5309").0, seen("j5309").1), ("named".into(), number(5309)));
    assert_eq!(seen("j5310"), ("5310".into(), number(5310), "5310".into()));
    assert_eq!((seen("numbered").0, seen("numbered").1), ("numbered".into(), number(5311)));
}

#[test]
fn comments_and_proposals_come_along() {
    let text = "# My jails.\n\n# Serves the shop.\n// Ask Jo before changing it.\nshop { # the root\n path = /j/shop; vnet;\n\
        vnet.interface = ng0_shop; exec.prestart = \"jng bridge shop em0\"; exec.start = \"ifconfig ng0_shop 10.0.7.5/22\";\n}\n";
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
    assert!(
        toml.contains("# address = [\"10.0.7.5\"]") && toml.contains("# ipv4 = \"10.0.4.0/22\""),
        "{toml}"
    );
}

#[test]
fn a_network_that_is_proposed_on_a_lan_is_good_and_takes_no_address_of_it() {
    let text = "shop { path = /j/shop; vnet; vnet.interface = ng0_shop; exec.prestart = \"jng bridge shop em0\";\n\
        exec.start = \"ifconfig ng0_shop 192.168.1.5/24\"; }\n";
    let toml = read(text).and_then(|conf| conf.convert()).unwrap_or_else(|report| panic!("{report:#}"));
    let proposed =
        toml.lines().skip_while(|line| *line != "# [networks.lan]").map_while(|l| l.strip_prefix("# "));
    let proposed: Vec<&str> =
        proposed.take_while(|line| line.starts_with('[') || line.contains(" = ")).collect();
    let file = format!(
        "name = \"t\"\n{}\n[templates.host]\nhost = true\n[services.shop]\ntemplate = \"host\"\n\
         networks = [\"lan\"]\naddress = [\"192.168.1.5\"]\ncommand = [\"/bin/true\"]\n",
        proposed.join("\n")
    );
    let spec = config::parse("warren.toml", &file).unwrap_or_else(|report| panic!("{report:#}\n{file}"));
    let lan = &spec.networks["lan"];
    assert_eq!(lan.uplink.as_deref(), Some("em0"));
    assert_eq!(
        (lan.gateway4, lan.dhcp4),
        (None, None),
        "the host would have the address of the LAN's router"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn converting_changes_no_plan(jails in prop::collection::btree_map("[a-zA-Z][a-zA-Z0-9_]{0,6}(\\.[a-z]{1,3})?", jail(), 1..5)) {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let first = jails.keys().next().cloned();
        let jails: Vec<Shown> = jails.into_iter().map(|(name, mut parameters)| {
            parameters.insert("path".into(), vec![format!("/j/{name}")]);
            // Mount points are paths of the host, and what is depended on has to be there.
            for lines in parameters.iter_mut().filter(|(param, _)| *param == "mount").map(|(_, lines)| lines) {
                lines.iter_mut().for_each(|line| *line = line.replace("ROOT", &format!("/j/{name}")));
            }
            if let Some(files) = parameters.get_mut("mount.fstab") {
                let file = dir.path().join(format!("{name}.fstab"));
                std::fs::write(&file, format!("/f /j/{name}/a/z nullfs rw\n")).expect("it can be written");
                *files = vec![file.display().to_string()];
            }
            if let Some(needs) = parameters.get_mut("depend") {
                *needs = first.iter().filter(|first| **first != name).cloned().collect();
            }
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
        (
            "mount",
            prop::collection::vec(
                "/src/[a-z]{1,3} ROOT/[a-c](/[a-c])? (nullfs|tmpfs) r[ow](,noatime)?",
                1..3
            )
        ),
        ("mount\\.fstab", Just(vec![String::new()])),
        ("depend", Just(vec![String::new()])),
        ("(mod\\.nox|allow\\.nofuture|meta\\.k)", Just(vec![])),
    ];
    prop::collection::vec(one, 0..8).prop_map(|all| all.into_iter().collect())
}
