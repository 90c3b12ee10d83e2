//! Jails that keep their own names, on the sim: nothing of anybody else's is touched, and nothing of ours is left.

mod support;

use std::time::Duration;

use support::{World, declare, fabric, hook, service};
use warren::config::spec::*;
use warren::host::{Failure, Host, Jail, Op, Process, Witness};
use warren::lifecycle::engine::Command;

/// As `web { path = /j/web; persist; ip4.addr = "lo1|10.0.0.1"; exec.start = …; }` comes to.
fn web() -> ServiceSpec {
    let mut web = service("web", 1, &[]);
    web.restart.policy = RestartPolicy::No;
    let made = &mut web.instance;
    made.template =
        TemplateSpec { name: "web".into(), source: TemplateSource::Shared { path: "/j/web".into() } };
    made.links.clear();
    made.command = None;
    made.persist = true;
    made.classic = Some(Classic {
        jail: "web".into(),
        jid: None,
        vnet: false,
        addresses: vec!["10.0.0.1".parse().unwrap()],
        aliases: vec![Alias { interface: "lo1".into(), address: "10.0.0.1/24".parse().unwrap() }],
        interfaces: vec![],
    });
    web
}

struct Nobody;

impl Witness for Nobody {
    fn started(&self, _: &str, _: Process) -> Result<(), Failure> {
        Ok(())
    }
}

fn jails(world: &World) -> Vec<String> {
    world.sim.machine().jails.keys().cloned().collect()
}

fn hooks(world: &World) -> usize {
    world.sim.log().iter().filter(|op| matches!(op, Op::Run(_))).count()
}

#[test]
fn it_comes_up_under_its_own_name_and_goes_without_a_trace() {
    let mut world = World::new();
    world.ask(declare(fabric(vec![web()]))).unwrap();
    world.settle();
    assert_eq!((world.ready("shop", "web"), jails(&world)), (1, vec!["web".to_owned()]));
    assert_eq!(world.sim.machine().aliases.len(), 1);
    for op in world.sim.log() {
        if let Op::Run(job) = op {
            let known = job.env.get("JNAME").map(String::as_str).or(job.jail.as_deref());
            assert_eq!(known, Some("web"), "{}", job.id);
        }
    }
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn a_jail_of_the_name_that_is_somebody_elses_is_not_touched() {
    let mut world = World::new();
    let theirs = Jail {
        name: "web".into(),
        path: "/j/web".into(),
        hostname: "web".into(),
        vnet: false,
        addresses: vec![],
        params: Default::default(),
    };
    world.sim.perform(&Op::JailCreate(theirs), &Nobody).unwrap();
    let jid = world.sim.machine().jails["web"].jid;
    world.ask(declare(fabric(vec![web()]))).unwrap();
    world.settle();
    assert_eq!((world.ready("shop", "web"), hooks(&world)), (0, 0), "{:#?}", world.events);
    let told = world.events.iter().any(|event| event.to_string().contains("Warren did not start it"));
    assert!(told, "{:#?}", world.events);
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    assert_eq!(world.sim.machine().jails["web"].jid, jid, "the very jail is still there");
    assert_eq!(hooks(&world), 0);
}

#[test]
fn looking_at_the_machine_finds_it_and_misses_it_when_it_goes() {
    let mut world = World::new();
    world.ask(declare(fabric(vec![web()]))).unwrap();
    world.settle_within(Duration::from_secs(200));
    let told = |world: &World, kind: &str| world.events.iter().any(|event| event["kind"] == kind);
    assert!(!told(&world, "drift") && !told(&world, "mended"), "{:#?}", world.events);
    assert_eq!(world.ready("shop", "web"), 1);
    world.sim.lose_jail("web");
    world.settle_within(Duration::from_secs(200));
    assert!(told(&world, "drift"), "{:#?}", world.events);
    assert_eq!(world.ready("shop", "web"), 0, "it is started once");
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn hooks_of_the_stop_run_without_any_of_the_start() {
    let mut world = World::new();
    let mut bare = web();
    let hooks = &mut bare.instance.hooks;
    *hooks = Hooks {
        prestop: hook("prestop"),
        stop: hook("stop"),
        poststop: hook("poststop"),
        release: hook("release"),
        ..Hooks::default()
    };
    world.ask(declare(fabric(vec![bare]))).unwrap();
    world.settle();
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    let ran = |op: Op| {
        if let Op::Run(job) = op {
            job.id.rsplit_once("hook.").map(|(_, hook)| hook.to_owned())
        } else {
            None
        }
    };
    let ran: Vec<String> = world.sim.log().into_iter().filter_map(ran).collect();
    assert_eq!(ran, ["prestop.0", "stop.0", "poststop.0", "release.0"]);
    world.assert_nothing_left();
}

#[test]
fn a_new_revision_waits_until_the_old_one_is_gone() {
    let mut world = World::new();
    world.ask(declare(fabric(vec![web()]))).unwrap();
    world.settle();
    let jid = world.sim.machine().jails["web"].jid;
    let mut changed = web();
    changed.instance.hooks.start = hook("changed");
    world.ask(declare(fabric(vec![changed]))).unwrap();
    world.settle();
    assert_eq!(world.ready("shop", "web"), 1, "{:#?}", world.events);
    assert_ne!(world.sim.machine().jails["web"].jid, jid);
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn the_daemon_may_die_at_any_step_of_its_life() {
    for steps in 0..60 {
        let mut world = World::new();
        world.ask(declare(fabric(vec![web()]))).unwrap();
        (0..steps).take_while(|_| world.step()).for_each(drop);
        world.crash();
        world.settle();
        assert!(jails(&world).iter().all(|name| name == "web"), "{steps}");
        world.ask(Command::Drop("shop".into())).unwrap();
        (0..steps).take_while(|_| world.step()).for_each(drop);
        world.crash();
        world.settle();
        world.assert_nothing_left();
    }
}
