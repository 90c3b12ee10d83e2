//! Taking over jails that somebody else started, on the sim: all of it in one commit, or nothing at all.

mod support;

use std::collections::BTreeMap;

use support::commands::by_jail_8;
use support::{World, fabric, hook, service};
use warren::config::spec::*;
use warren::host::{Failure, Op, Reply};
use warren::lifecycle::engine::Command;
use warren::lifecycle::import::{self, Standing};
use warren::store::Stage;

/// As `NAME { path = /j/NAME; persist; ip4.addr = "lo1|10.0.0.1"; mount = "/data /j/NAME/data nullfs rw"; allow.raw_sockets; exec.… = …; }` comes to.
fn classic(name: &str) -> ServiceSpec {
    let mut made = service(name, 1, &[]);
    made.restart.policy = RestartPolicy::No;
    let spec = &mut made.instance;
    spec.env.clear();
    let path = format!("/j/{name}").into();
    spec.template = TemplateSpec { name: name.into(), source: TemplateSource::Shared { path } };
    spec.links.clear();
    spec.command = None;
    spec.persist = true;
    spec.params.insert("allow.raw_sockets".into(), ParamValue::Bool(true));
    spec.classic = Some(Classic {
        jail: name.into(),
        jid: None,
        vnet: false,
        addresses: vec!["10.0.0.1".parse().unwrap()],
        aliases: vec![Alias { interface: "lo1".into(), address: "10.0.0.1/24".parse().unwrap() }],
        interfaces: vec![],
    });
    made
}

/// A file's jails as a fabric: without networks.
fn file(services: Vec<ServiceSpec>) -> FabricSpec {
    FabricSpec { networks: BTreeMap::new(), ..fabric(services) }
}

fn found(world: &World, spec: &ServiceSpec) -> Result<Standing, Vec<Failure>> {
    import::look(&world.sim, &spec.instance)
}

fn take(
    world: &mut World,
    specs: &[&ServiceSpec],
) -> Result<serde_json::Value, warren::lifecycle::engine::Refusal> {
    let found: BTreeMap<String, Standing> =
        specs.iter().map(|spec| (spec.name.clone(), found(world, spec).unwrap())).collect();
    let spec = Box::new(file(specs.iter().map(|spec| (*spec).clone()).collect()));
    world.ask(Command::Import { spec, found })
}

fn hooks(world: &World) -> Vec<String> {
    let run = |op: Op| if let Op::Run(job) = op { Some(job.id) } else { None };
    let ids = world.sim.take_log().into_iter().filter_map(run);
    ids.filter_map(|id| Some(id.split_once('.')?.1.to_owned())).collect()
}

#[test]
fn a_jail_is_taken_over_as_it_is_and_goes_by_its_own_hooks() {
    let mut world = World::new();
    let web = classic("web");
    by_jail_8(&world.sim, &web);
    let before = world.sim.machine();
    let said = take(&mut world, &[&web]).unwrap();
    assert_eq!((&said[0]["jail"], &said[0]["jid"]), (&"web".into(), &before.jails["web"].jid.into()));
    world.settle();
    assert_eq!(world.ready("shop", "web"), 1, "{:#?}", world.events);
    assert_eq!(world.sim.machine(), before, "nothing was done to it");
    assert_eq!(hooks(&world), Vec::<String>::new());
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    assert_eq!(
        hooks(&world),
        ["hook.prestop.0", "hook.stop.0", "hook.quiesced.0", "hook.poststop.0", "hook.release.0"]
    );
    world.assert_nothing_left();
}

#[test]
fn it_is_one_commit_whenever_the_daemon_dies() {
    for commit in 0.. {
        let mut world = World::new();
        let web = classic("web");
        by_jail_8(&world.sim, &web);
        let before = world.sim.machine();
        let number = world.commits + commit;
        world.death = Some(support::Death::InCommit(number));
        let found = BTreeMap::from([("web".to_owned(), found(&world, &web).unwrap())]);
        let spec = Box::new(file(vec![web]));
        let answered = world.request(Command::Import { spec, found }).is_some();
        world.settle();
        let died = world.dead;
        world.crash();
        world.settle();
        match (died, answered) {
            (true, false) => {
                assert!(world.engine.state.instances.is_empty() && world.engine.state.fabrics.is_empty());
            }
            _ => assert_eq!(world.ready("shop", "web"), 1, "{commit}"),
        }
        assert_eq!(world.sim.machine(), before, "{commit}");
        if !died {
            assert!(commit > 0);
            return;
        }
    }
}

#[test]
fn what_is_not_as_the_file_says_is_a_reason_not_to() {
    type Change = fn(&mut ServiceSpec);
    let reasons: [(&str, Change); 8] = [
        ("jail other does not run", |spec| spec.instance.classic.as_mut().unwrap().jail = "other".into()),
        ("path is /j/web, not /j/elsewhere", |spec| {
            spec.instance.template.source = TemplateSource::Shared { path: "/j/elsewhere".into() };
        }),
        ("vnet is false, not true", |spec| {
            let classic = spec.instance.classic.as_mut().unwrap();
            (classic.vnet, classic.addresses, classic.aliases) = (true, vec![], vec![]);
        }),
        ("allow.raw_sockets is Some(Bool(true)), not None", |spec| spec.instance.params.clear()),
        ("children.max is None, not Some(Int(3))", |spec| {
            drop(spec.instance.params.insert("children.max".into(), ParamValue::Int(3)));
        }),
        ("/j/web/data is a mount of /data (nullfs), not of /elsewhere (nullfs)", |spec| {
            spec.instance.mounts[0].source = "/elsewhere".into();
        }),
        ("/data (nullfs) is not mounted on /j/web/here", |spec| {
            spec.instance.mounts[0].target = "/here".into();
        }),
        ("the address 10.0.0.2/24 is not on lo1", |spec| {
            spec.instance.classic.as_mut().unwrap().aliases[0].address = "10.0.0.2/24".parse().unwrap();
        }),
    ];
    let world = World::new();
    by_jail_8(&world.sim, &classic("web"));
    for (words, change) in reasons {
        let mut spec = classic("web");
        change(&mut spec);
        let said: Vec<String> = found(&world, &spec).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|reason| reason.contains(words)), "{words}: {said:#?}");
    }
    by_jail_8(&world.sim, &{
        let mut child = classic("web");
        child.instance.classic.as_mut().unwrap().jail = "web.child".into();
        child.instance.mounts.clear();
        child
    });
    let said = found(&world, &classic("web")).unwrap_err();
    assert!(said.iter().any(|reason| reason.message.contains("has the child jail web.child")), "{said:#?}");
}

#[test]
fn every_look_that_fails_is_a_reason_and_changes_nothing() {
    for at in 0.. {
        let world = World::new();
        let web = classic("web");
        by_jail_8(&world.sim, &web);
        let (before, begun) = (world.sim.machine(), world.sim.performed());
        let fault = warren::host::sim::Fault { at: begun + at, errno: 5, after: false };
        world.sim.fail([fault]);
        let looked = found(&world, &web);
        assert_eq!(world.sim.machine(), before);
        if world.sim.performed() <= begun + at {
            assert!(looked.is_ok() && at == 3, "the jail, its mount, its alias: {at}");
            return;
        }
        assert_eq!(looked.unwrap_err().len(), 1, "{at}");
    }
}

#[test]
fn what_is_warrens_already_is_not_taken_twice() {
    let mut world = World::new();
    let web = classic("web");
    by_jail_8(&world.sim, &web);
    take(&mut world, &[&web]).unwrap();
    world.settle();
    let log = world.log.clone();
    let refused = take(&mut world, &[&web]).unwrap_err();
    assert_eq!(refused.kind, "conflict");
    assert!(refused.message.contains("jail `web` is Warren's already: web-"), "{refused}");
    let refused = world.ask(Command::Import {
        spec: Box::new(file(vec![service("api", 1, &[])])),
        found: BTreeMap::from([("api".to_owned(), Standing::new())]),
    });
    assert!(refused.unwrap_err().message.contains("no jail that keeps its own name"));
    assert_eq!(world.log, log, "a refusal changes nothing");
}

#[test]
fn others_of_the_file_are_neither_started_nor_touched() {
    let mut world = World::new();
    let (mut web, db, mut cache) = (classic("web"), classic("db"), classic("cache"));
    cache.instance.classic.as_mut().unwrap().aliases[0].address = "10.0.0.3/24".parse().unwrap();
    web.depends_on = vec!["db".into()];
    // One is Warren's and gave up; what is taken over depends on another, which does not run.
    cache.instance.hooks.prestart = hook("fails");
    world.sim.script(|job| {
        let fails = matches!(&job.command, CommandLine::Shell(text) if text == "hook fails");
        warren::host::sim::Behaviour::Ends(warren::host::Status::Exited(i32::from(fails)))
    });
    world.ask(support::declare(file(vec![cache.clone()]))).unwrap();
    world.settle();
    assert_eq!(world.ready("shop", "cache"), 0);
    by_jail_8(&world.sim, &web);
    hooks(&world);
    let found = BTreeMap::from([("web".to_owned(), found(&world, &web).unwrap())]);
    let spec = Box::new(file(vec![web, db.clone(), cache]));
    world.ask(Command::Import { spec, found }).unwrap();
    world.settle();
    assert_eq!(hooks(&world), Vec::<String>::new());
    assert_eq!((world.ready("shop", "web"), world.ready("shop", "db")), (1, 0), "{:#?}", world.events);
    assert_eq!(world.engine.state.service_spec("shop", "db").unwrap().replicas, 0);
    assert_eq!(world.sim.machine().jails.len(), 1);
}

#[test]
fn without_persist_it_goes_with_its_last_process() {
    let mut world = World::new();
    let mut web = classic("web");
    web.instance.persist = false;
    by_jail_8(&world.sim, &web);
    world.sim.tamper(|machine| assert!(machine.jails.get_mut("web").unwrap().processes.insert(77)));
    take(&mut world, &[&web]).unwrap();
    world.settle();
    let unit = world.engine.state.instances.values().next().unwrap();
    assert_eq!(
        (unit.unit.stage, unit.unit.journal.reply("jail").cloned()),
        (Stage::Ready, Some(Reply::Jail { jid: 1 }))
    );
    // The kernel removes a jail without persist together with its last process.
    world.sim.lose_jail("web");
    world.now += 60_000;
    world.handle(warren::lifecycle::engine::Event::Tick);
    world.settle();
    assert!(hooks(&world).contains(&"hook.poststop.0".to_owned()));
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn a_jail_that_cannot_have_its_link_is_refused_before_anything_is_written() {
    let mut world = World::new();
    let (first, second) = (classic("a"), classic("web"));
    by_jail_8(&world.sim, &first);
    by_jail_8(&world.sim, &second);
    let found: BTreeMap<String, Standing> =
        [&first, &second].map(|spec| (spec.name.clone(), found(&world, spec).unwrap())).into();
    let mut linked = second;
    // Of a network that does not run.
    linked.instance.links = support::instance("net").links;
    let before = world.log.len();
    let refusal =
        world.ask(Command::Import { spec: Box::new(file(vec![first, linked])), found }).unwrap_err();
    assert!(refusal.message.contains("network `net`"), "{refusal:?}");
    assert_eq!(world.log[before..], [], "a refused request changes nothing");
    assert!(world.engine.state.fabrics.is_empty() && world.engine.state.instances.is_empty());
}
