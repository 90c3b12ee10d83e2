//! A stop that a hook refuses (`on_stop_failure = "abort"`): the instance runs on with all that it had, and goes when it is asked
//! again; wherever the daemon dies meanwhile.

use warren::config::spec::{FabricSpec, OnStopFailure};
use warren::host::Status;
use warren::host::sim::Behaviour;
use warren::lifecycle::engine::Command;

use crate::check;
use crate::drift::instance;
use crate::faults::{AFTERWARDS, named, parallel};
use crate::scenario::{Stand, everything};
use crate::support::{Death, declare};

fn refusing() -> FabricSpec {
    let mut spec = everything();
    for service in spec.services.values_mut() {
        service.instance.on_stop_failure = OnStopFailure::Abort;
    }
    spec
}

/// The commits and effects of the refusal when nobody dies.
fn refused(hook: &str, death: Option<Death>) -> (usize, usize) {
    let mut stand = Stand::new();
    stand.world.ask(declare(refusing())).unwrap();
    stand.world.settle();
    let id = instance(&stand.world, "one");
    stand.behave(&format!("{id}.hook.{hook}.0"), Behaviour::Ends(Status::Exited(1)));
    let world = &mut stand.world;
    world.events.clear();
    let before = (world.commits, world.effects);
    world.death = death.map(|death| death.after(world));
    let _ = world.request(Command::Drop("shop".into()));
    world.settle_within(AFTERWARDS);
    let length = (world.commits - before.0, world.effects - before.1);
    if death.is_some() {
        assert!(world.dead, "it did not die");
        world.crash();
        world.settle_within(AFTERWARDS);
    }
    check::at_rest(world);
    assert_eq!(world.ready("shop", "one"), 1, "it runs on: {:#?}", world.events);
    // Again, and once more if the first was never heard of.
    for _ in 0..2 {
        if world.engine.state.fabrics.contains_key("shop") {
            world.ask(Command::Drop("shop".into())).unwrap();
            world.settle_within(AFTERWARDS);
        }
    }
    world.assert_nothing_left();
    let aborted = world.events.iter().filter(|event| event["kind"] == "stop-aborted").count();
    assert_eq!(aborted, 1, "{:#?}", world.events);
    // The one before it runs once more with the next stop.
    stand.assert_hooks_ran(&["prestop", "stop"].map(|hook| format!("{id}.hook.{hook}.0")));
    length
}

#[test]
fn who_refuses_to_stop_runs_on_and_goes_when_asked_again() {
    let mut runs = 0;
    for hook in ["prestop", "stop"] {
        let (commits, effects) = refused(hook, None);
        let in_commits = (0..commits).flat_map(|n| [Death::InCommit(n), Death::AfterCommit(n)]);
        let at_effects = (0..effects).flat_map(|n| [Death::Before(n), Death::After(n)]);
        let deaths: Vec<Death> = in_commits.chain(at_effects).collect();
        runs += deaths.len();
        let what = |death: &Death| format!("{hook} refuses, and the daemon dies {death:?}");
        parallel(deaths, |death| {
            named(|| what(&death), || refused(hook, Some(death)));
        });
    }
    println!("refusals: two hooks, {runs} deaths of the daemon");
}
