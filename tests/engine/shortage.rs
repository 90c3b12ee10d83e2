//! The machine has nothing left for a while, or the keeper cannot be asked: nobody is blamed for it, and all goes on by itself
//! afterwards. Everywhere and for several times is `leaks shortage`.

use std::time::Duration;

use libc::EMFILE;
use warren::config::spec::{OnStopFailure, RestartPolicy};
use warren::host::Op;
use warren::lifecycle::engine::Command;
use warren::store::Stage;

use crate::live::health;
use crate::support::{World, declare, fabric, service};

fn hook(op: &Op, name: &str) -> Option<i32> {
    let is = matches!(op, Op::Run(job) if job.id.contains(&format!(".hook.{name}.")));
    is.then_some(EMFILE)
}

fn told(world: &World, kind: &str) -> usize {
    world.events.iter().filter(|event| event["kind"] == kind).count()
}

/// How often a hook was run, and not only asked for.
fn ran(world: &World, name: &str) -> usize {
    world.hooks.iter().filter(|(_, job)| job.contains(&format!(".hook.{name}."))).count()
}

#[test]
fn a_service_does_not_give_up_over_what_the_machine_has_not() {
    for policy in [RestartPolicy::No, RestartPolicy::OnFailure, RestartPolicy::Always] {
        let mut world = World::new();
        let mut one = service("one", 1, &[]);
        (one.restart.policy, one.restart.retries) = (policy, Some(1));
        world.sim.refuse(|op| matches!(op, Op::JailCreate(_)).then_some(EMFILE));
        world.ask(declare(fabric(vec![one]))).unwrap();
        world.settle_within(Duration::from_secs(60));
        // It goes on trying, but not all the time.
        let tried = told(&world, "trouble");
        assert!((5..20).contains(&tried), "{tried} times: {:#?}", world.events);
        world.sim.refuse(|_| None);
        world.settle_within(Duration::from_secs(10));
        assert_eq!(world.ready("shop", "one"), 1, "{policy:?}: {:#?}", world.events);
        world.ask(Command::Drop("shop".into())).unwrap();
        world.settle();
        world.assert_nothing_left();
    }
}

#[test]
fn a_clean_up_hook_that_could_not_be_begun_is_begun_later_and_once() {
    for name in ["prestop", "stop", "quiesced", "poststop", "release"] {
        let mut world = World::new();
        world.ask(declare(fabric(vec![service("one", 1, &[])]))).unwrap();
        world.settle();
        world.sim.refuse(move |op| hook(op, name));
        world.ask(Command::Drop("shop".into())).unwrap();
        world.settle_within(Duration::from_secs(2));
        let asked = ran(&world, name);
        world.sim.refuse(|_| None);
        world.settle_within(Duration::from_secs(60));
        world.assert_nothing_left();
        // Of prestop and stop the failure is reported, and the stop goes on.
        let again = if matches!(name, "prestop" | "stop") { 0 } else { 1 };
        assert_eq!(ran(&world, name) - asked, again, "{name}: {:#?}", world.events);
    }
}

#[test]
fn who_may_refuse_to_stop_is_asked_until_it_could_be_asked() {
    let mut world = World::new();
    let mut one = service("one", 1, &[]);
    one.instance.on_stop_failure = OnStopFailure::Abort;
    world.ask(declare(fabric(vec![one]))).unwrap();
    world.settle();
    world.sim.refuse(|op| hook(op, "stop").or_else(|| hook(op, "prestop")));
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle_within(Duration::from_secs(30));
    let stage = world.engine.state.instances.values().next().unwrap().unit.stage;
    assert_eq!((told(&world, "stop-aborted"), stage), (0, Stage::Stopping), "{:#?}", world.events);
    // Also by the next daemon.
    world.crash();
    world.settle_within(Duration::from_secs(5));
    world.sim.refuse(|_| None);
    world.settle_within(Duration::from_secs(5));
    world.assert_nothing_left();
    assert_eq!(told(&world, "stop-aborted"), 0, "{:#?}", world.events);
}

#[test]
fn a_hook_that_could_not_be_killed_is_killed_later() {
    let mut world = World::new();
    world.sim.refuse(|op| matches!(op, Op::KillJob { .. }).then_some(EMFILE));
    world.ask(declare(fabric(vec![service("one", 1, &[])]))).unwrap();
    let prestart = |world: &World| {
        let next = world.pool.iter().next();
        matches!(next, Some(warren::lifecycle::engine::Effect::Perform(_, op)) if hook(op, "prestart").is_some())
    };
    while !prestart(&world) {
        assert!(world.step() || world.sleep(u64::MAX), "it never ran");
    }
    world.held = Some(world.effects);
    world.step();
    world.ask(Command::Drop("shop".into())).unwrap();
    let kills = |world: &World| world.sim.log().iter().filter(|op| matches!(op, Op::KillJob { .. })).count();
    // It hangs for ever: only what is asked for is done.
    let pass = |world: &mut World, seconds: u64| {
        let end = world.now + seconds * 1000;
        loop {
            while !world.pool.is_empty() || !world.told.is_empty() {
                world.step();
            }
            if !world.sleep(end) {
                return;
            }
        }
    };
    pass(&mut world, 5);
    assert!(kills(&world) > 2, "nobody tried again: {:#?}", world.events);
    world.sim.refuse(|_| None);
    pass(&mut world, 2);
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn what_nobody_could_be_told_to_forget_is_asked_for_with_one_question() {
    let mut world = World::new();
    let mut one = service("one", 1, &[]);
    one.health = health("well");
    world.ask(declare(fabric(vec![one]))).unwrap();
    world.settle();
    let before = world.sim.asked();
    world.sim.fail_asked(before..before + 1_000_000);
    world.settle_within(Duration::from_secs(200));
    // For each second one probe's job, one question which there are, and now and then a look at the machine.
    let asked = world.sim.asked() - before;
    assert!((200..700).contains(&asked), "{asked} questions");
    world.sim.fail_asked([]);
    world.settle_within(Duration::from_secs(5));
    assert!(world.sim.machine().remembered_jobs() < 3, "{}", world.sim.machine().remembered_jobs());
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    world.assert_nothing_left();
}
