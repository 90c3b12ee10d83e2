//! Hooks that do not end as they should, each hook of each phase: killed half-way, timed out, failed, with a process left behind;
//! still running when their daemon dies, or when their start is given up.
//!
//! After each the same holds as after any other failure: what is wanted is there all the same or after a repair, clean-up hooks
//! ran, nothing is left.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use warren::host::sim::Behaviour;
use warren::host::{Op, Status};
use warren::lifecycle::engine::Command;

use crate::check;
use crate::errnos;
use crate::faults::{AFTERWARDS, assert_recovered, named, parallel};
use crate::scenario::{SCENARIOS, Scenario, Stand};
use crate::support::Death;

/// How a hook can end that does not do what it should.
const ENDS: [Behaviour; 6] = [
    Behaviour::Ends(Status::Exited(1)),
    Behaviour::Ends(Status::Signaled(9)),
    // It never ends, so it is killed when its time is over.
    Behaviour::Runs,
    Behaviour::Leaves(Status::Exited(1)),
    Behaviour::Leaves(Status::Signaled(9)),
    Behaviour::Leaves(Status::TimedOut),
];

/// How one can end that outlives its daemon.
const FATES: [Status; 4] = [Status::Exited(0), Status::Exited(1), Status::Signaled(9), Status::TimedOut];

/// What was tried.
#[derive(Debug, Default)]
pub struct Counts {
    pub hooks: usize,
    pub names: BTreeSet<String>,
    pub ends: AtomicUsize,
    pub deaths: AtomicUsize,
    pub cancelled: AtomicUsize,
}

/// The hooks a phase runs when nothing fails: the number of their effect beyond the preparation, and their job.
fn hooks(scenario: &Scenario) -> Vec<(usize, String)> {
    let mut stand = Stand::prepared(scenario);
    let (effects, before) = (stand.world.effects, stand.world.hooks.len());
    stand.act(scenario);
    stand.world.settle_within(scenario.patience);
    let hooks = stand.world.hooks.split_off(before);
    hooks.into_iter().map(|(number, job)| (number - effects, job)).collect()
}

fn ends(scenario: &'static Scenario, job: &str, behaviour: Behaviour) {
    named(
        || format!("{}: {job} {behaviour:?}", scenario.name),
        || {
            let mut stand = Stand::prepared(scenario);
            stand.world.events.clear();
            stand.behave(job, behaviour);
            stand.act(scenario);
            stand.world.settle_within(scenario.patience + AFTERWARDS);
            let failed = stand.world.events.iter().any(|event| event["kind"] == "step-failed");
            assert!(failed, "its failure was not told of: {:#?}", stand.world.events);
            assert_recovered(&mut stand, scenario, 1);
            stand.assert_hooks_ran(&[job.to_owned()]);
        },
    );
}

/// The daemon dies while the hook runs; the hook ends like this, with a process left behind or without.
fn outlives(scenario: &'static Scenario, number: usize, job: &str, fate: Status, leaves: bool) {
    named(
        || {
            format!(
                "{}: the daemon dies while {job} runs, which {fate:?}; it leaves a process: {leaves}",
                scenario.name
            )
        },
        || {
            let mut stand = Stand::prepared(scenario);
            if leaves {
                stand.behave(job, Behaviour::Leaves(fate));
            }
            stand.world.fate = fate;
            stand.world.death = Some(Death::During(number).after(&stand.world));
            stand.act(scenario);
            stand.world.settle_within(scenario.patience);
            assert!(stand.world.dead, "it did not die");
            stand.world.crash();
            check::always(&stand.world);
            (scenario.again)(&mut stand.world);
            stand.world.settle_within(scenario.patience + AFTERWARDS);
            assert_recovered(&mut stand, scenario, usize::from(!fate.success()));
            let failed: Vec<String> = [job.to_owned()].into_iter().filter(|_| !fate.success()).collect();
            stand.assert_hooks_ran(&failed);
        },
    );
}

/// The fabric is dropped while a hook of its start runs: the hook is killed; if that fails too it has its time.
fn given_up(job: &str, number: usize, errno: Option<i32>) {
    let start = &SCENARIOS[0];
    named(
        || format!("the fabric is dropped while {job} runs; the killing of it fails with {errno:?}"),
        || {
            let mut stand = Stand::new();
            stand.world.held = Some(stand.world.effects + number);
            stand.world.fate = Status::TimedOut;
            stand.act(start);
            while stand.world.held.is_some() {
                assert!(stand.world.step(), "{job} never ran");
            }
            let killing = job.to_owned();
            stand.world.sim.refuse(move |op| match op {
                Op::KillJob { job } if *job == killing => errno,
                _ => None,
            });
            stand.world.ask(Command::Drop("shop".into())).unwrap();
            stand.world.settle_within(start.patience);
            let killed =
                stand.world.sim.log().iter().any(|op| matches!(op, Op::KillJob { job: of } if of == job));
            assert!(killed, "nobody ended {job}");
            check::always(&stand.world);
            stand.world.assert_nothing_left();
            stand.assert_hooks_ran(&[]);
        },
    );
}

/// All of it, once for all tests.
pub fn results() -> &'static Counts {
    static ALL: OnceLock<Counts> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut counts = Counts::default();
        let count = |of: &AtomicUsize| of.fetch_add(1, Ordering::Relaxed);
        for (of, scenario) in SCENARIOS.iter().enumerate() {
            let hooks = hooks(scenario);
            counts.hooks += hooks.len();
            counts.names.extend(hooks.iter().filter_map(|(_, job)| job.split('.').nth(2).map(str::to_owned)));
            parallel(hooks, |(number, job)| {
                for behaviour in ENDS {
                    ends(scenario, &job, behaviour);
                    count(&counts.ends);
                }
                for (fate, leaves) in FATES.iter().flat_map(|fate| [(*fate, false), (*fate, true)]) {
                    outlives(scenario, number, &job, fate, leaves);
                    count(&counts.deaths);
                }
                if of == 0 {
                    let killing = Op::KillJob { job: job.clone() };
                    let errnos = errnos::of(&killing).iter().map(|(errno, _)| Some(*errno));
                    for errno in errnos.chain([None]) {
                        given_up(&job, number, errno);
                        count(&counts.cancelled);
                    }
                }
            });
        }
        counts
    })
}

#[test]
fn however_a_hook_ends_nothing_is_left() {
    let counts = results();
    println!("hooks: {counts:?}");
    let names: Vec<&str> = counts.names.iter().map(String::as_str).collect();
    let all = [
        "created",
        "poststart",
        "poststop",
        "prepare",
        "prestart",
        "prestop",
        "quiesced",
        "release",
        "start",
        "stop",
    ];
    assert_eq!(names, all);
}
