//! Nothing can be done for a while, at each operation of each phase: what a daemon does that has no descriptor left, or no memory.
//! It gets enough again before a health check has failed too often, after that, and after looks and graces are over.
//!
//! What runs and was not to be changed is the same afterwards, and was ready all the time; everything else is as after any other
//! failure.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libc::EMFILE;
use warren::ids::Id;
use warren::store::{Record, Stage};

use crate::faults::{A_LOOK, AFTERWARDS, assert_recovered, named, parallel};
use crate::scenario::{SCENARIOS, Scenario, Stand};
use crate::support::World;

/// How long, in seconds.
pub const TIMES: [u64; 3] = [2, 12, 95];

fn ready(world: &World) -> BTreeSet<Id> {
    let instances = world.engine.state.instances.iter();
    instances.filter(|(_, i)| i.unit.stage == Stage::Ready).map(|(id, _)| *id).collect()
}

/// Instances that turned from one stage of their lives to another since the last time of asking.
fn turned(world: &mut World) -> BTreeSet<Id> {
    let turns = std::mem::take(&mut world.fresh).into_iter();
    let units =
        turns.filter_map(|record| if let Record::Turn { unit, .. } = record { Some(unit) } else { None });
    units.filter(|id| world.engine.state.instances.contains_key(id)).collect()
}

/// What a scenario is when there is enough of everything.
struct Undisturbed {
    /// The number of its first operation, and of the first after it.
    operations: std::ops::Range<usize>,
    /// The instances that are ready all the time.
    calm: BTreeSet<Id>,
}

fn undisturbed(scenario: &Scenario) -> Undisturbed {
    let mut stand = Stand::prepared(scenario);
    let (first, before) = (stand.world.sim.performed(), ready(&stand.world));
    turned(&mut stand.world);
    stand.act(scenario);
    stand.world.settle_within(scenario.patience);
    let turned = turned(&mut stand.world);
    let calm = before.intersection(&ready(&stand.world)).filter(|id| !turned.contains(id)).copied().collect();
    Undisturbed { operations: first..stand.world.sim.performed(), calm }
}

fn starved(scenario: &Scenario, from: usize, seconds: u64, usual: &Undisturbed) {
    let mut stand = Stand::prepared(scenario);
    let world = &mut stand.world;
    world.events.clear();
    turned(world);
    world.sim.starve(from, EMFILE);
    (scenario.act)(world);
    world.settle_until(scenario.patience, |world| world.sim.performed() > from);
    world.settle_within(Duration::from_secs(seconds));
    let until = world.sim.performed();
    world.sim.feed();
    // Whoever was refused asks again; what waits longest is a look.
    (scenario.again)(world);
    world.settle_within(scenario.patience + AFTERWARDS + A_LOOK * 2);
    let turned = turned(world);
    assert!(usual.calm.is_disjoint(&turned), "{turned:?} of {:?}: {:#?}", usual.calm, world.events);
    let ready = ready(world);
    assert!(ready.is_superset(&usual.calm), "{ready:?}, not {:?}: {:#?}", usual.calm, world.events);
    let excused = stand.jobs(from..until);
    assert_recovered(&mut stand, scenario, 2);
    stand.assert_hooks_ran(&excused);
}

/// All of it, once for all tests.
pub fn results() -> usize {
    static ALL: OnceLock<usize> = OnceLock::new();
    *ALL.get_or_init(|| {
        let count = AtomicUsize::new(0);
        for scenario in &SCENARIOS {
            let usual = undisturbed(scenario);
            let first = usual.operations.start;
            let all = usual.operations.clone().flat_map(|from| TIMES.map(|seconds| (from, seconds)));
            parallel(all.collect(), |(from, seconds)| {
                let what = || {
                    format!("{}: nothing from operation {} on, for {seconds} s", scenario.name, from - first)
                };
                named(what, || starved(scenario, from, seconds, &usual));
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        count.into_inner()
    })
}

#[test]
fn a_daemon_that_can_do_nothing_for_a_while_loses_and_stops_nothing() {
    println!("shortage: {} times nothing could be done for a while", results());
}
