//! Everything that is asked of the host and is no operation fails, once at each call of each phase: looks at the machine, questions
//! to the keeper and what it is told, the stream of jails that are gone, and taking what stands for one's own.
//!
//! After each the same holds as after any other failure, and no hook ran twice: who was not answered asks again.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::check;
use crate::faults::{A_LOOK, AFTERWARDS, assert_recovered, named, parallel};
use crate::scenario::{SCENARIOS, Scenario, Stand};

/// The calls of a scenario when none fails: those before its daemon's end, and those of the next one.
fn calls(scenario: &Scenario) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let mut stand = Stand::prepared(scenario);
    let first = stand.world.sim.asked();
    act(&mut stand, scenario);
    let between = stand.world.sim.asked();
    follow(&mut stand, scenario);
    (first..between, between..stand.world.sim.asked())
}

fn act(stand: &mut Stand, scenario: &Scenario) {
    stand.act(scenario);
    stand.world.settle_within(scenario.patience);
}

/// What a new daemon asks for is asked as well.
fn follow(stand: &mut Stand, scenario: &Scenario) {
    stand.world.crash();
    (scenario.again)(&mut stand.world);
    stand.world.settle_within(scenario.patience);
}

fn fails(scenario: &'static Scenario, call: usize, followed: bool) {
    named(
        || format!("{}: call {call} fails", scenario.name),
        || {
            let mut stand = Stand::prepared(scenario);
            stand.world.sim.fail_asked([call]);
            act(&mut stand, scenario);
            // One that stays has to make up for it itself, at the latest by the next look.
            if followed {
                follow(&mut stand, scenario);
            }
            stand.world.settle_within(AFTERWARDS + A_LOOK);
            check::always(&stand.world);
            assert_recovered(&mut stand, scenario, 0);
            stand.assert_hooks_ran(&[]);
        },
    );
}

/// All of it, once for all tests.
pub fn results() -> usize {
    static ALL: OnceLock<usize> = OnceLock::new();
    *ALL.get_or_init(|| {
        let count = AtomicUsize::new(0);
        for scenario in &SCENARIOS {
            let (own, next) = calls(scenario);
            let all = own.map(|call| (call, false)).chain(next.map(|call| (call, true)));
            parallel(all.collect(), |(call, followed)| {
                fails(scenario, call, followed);
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        count.into_inner()
    })
}

#[test]
fn whatever_cannot_be_asked_is_asked_again() {
    println!("asks: {} calls in {} phases, each failed once", results(), SCENARIOS.len());
}
