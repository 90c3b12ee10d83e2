//! The daemon dies in, before and after every commit and every effect of every phase; the power is cut at every commit, with every
//! part of the store that was not synced lost.
//!
//! After each, the next daemon finishes: what is wanted is there, nothing is left, no address was given twice, no step failed
//! because it was done a second time, and each hook ran once. After the death of the daemon alone nothing was made, stopped or
//! mended that would not have been without it; after a power cut each clean-up hook ran of what had been prepared, once if its end
//! was on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use warren::host::{Host, Op};
use warren::ids::Id;
use warren::lifecycle::journal::{Mark, Way};
use warren::lifecycle::step::Act;
use warren::store::{InstanceUnit, Record, Stage, State};

use crate::check;
use crate::faults::{assert_recovered, named, parallel};
use crate::scenario::{SCENARIOS, Scenario, Stand};
use crate::support::{Death, World, fold};

/// What was tried.
#[derive(Debug, Default)]
pub struct Counts {
    pub commits: usize,
    pub effects: usize,
    pub deaths: usize,
    pub cuts: usize,
    pub after_deaths: Seen,
    pub after_cuts: Seen,
}

/// What was seen after them and is not without.
#[derive(Debug, Default)]
pub struct Seen {
    /// The kinds of events.
    pub events: BTreeSet<String>,
    /// Instances that were ready then and ran on, and those that did not.
    pub kept: usize,
    pub replaced: usize,
}

impl Seen {
    fn note(seen: &Mutex<Self>, world: &World, undisturbed: &Undisturbed, ready: &[Id]) {
        let runs = |id: &&Id| world.engine.state.instances.get(*id).is_some_and(|i| i.unit.stage.is_wanted());
        let kept = ready.iter().filter(runs).count();
        let mut seen = seen.lock().unwrap();
        seen.events.extend(kinds(world).difference(&undisturbed.kinds).cloned());
        seen.kept += kept;
        seen.replaced += ready.len() - kept;
    }
}

fn kinds(world: &World) -> BTreeSet<String> {
    world.events.iter().filter_map(|event| event["kind"].as_str()).map(str::to_owned).collect()
}

fn ready(state: &State) -> Vec<Id> {
    let ready = state.instances.iter().filter(|(_, i)| i.unit.stage == Stage::Ready);
    ready.map(|(id, _)| *id).collect()
}

/// A scenario beyond its preparation when nobody dies.
struct Undisturbed {
    scenario: &'static Scenario,
    commits: usize,
    effects: usize,
    turns: BTreeMap<String, usize>,
    kinds: BTreeSet<String>,
}

impl Undisturbed {
    fn of(scenario: &'static Scenario) -> Self {
        let mut stand = Stand::prepared(scenario);
        stand.world.events.clear();
        let (commits, effects) = (stand.world.commits, stand.world.effects);
        stand.act(scenario);
        stand.world.settle_within(scenario.patience);
        let world = &stand.world;
        let (commits, effects) = (world.commits - commits, world.effects - effects);
        Self { scenario, commits, effects, turns: turns(world), kinds: kinds(world) }
    }
}

/// How often something came, turned round and went: one that was replaced by another of its kind is seen in this alone.
fn turns(world: &World) -> BTreeMap<String, usize> {
    let kinds = ["created", "imported", "stopping", "gone"];
    let mut turns = BTreeMap::new();
    for kind in world.events.iter().filter_map(|event| event["kind"].as_str()) {
        if kinds.contains(&kind) {
            *turns.entry(kind.to_owned()).or_default() += 1;
        }
    }
    turns
}

/// What is told only where something is not as it should be: after a crash of the daemon alone nothing is.
fn troubles(world: &World, scenario: &Scenario) -> Vec<String> {
    let kinds = [
        "step-failed",
        "policy-failed",
        "network-failed",
        "lease-failed",
        "look-failed",
        "left",
        "drift",
        "mended",
        "strays",
        "remark",
    ];
    // There somebody took away what is to be put right, whoever of the two daemons does it.
    let expected = |kind: &str| kind == "mended" && scenario.name == "drift";
    let bad = kinds.iter().filter(|kind| !expected(kind));
    let bad = |event: &serde_json::Value| bad.clone().any(|kind| event["kind"] == *kind);
    world.events.iter().filter(|event| bad(event)).map(ToString::to_string).collect()
}

fn die(undisturbed: &Undisturbed, death: Death, seen: &Mutex<Seen>) {
    let scenario = undisturbed.scenario;
    named(
        || format!("{}: the daemon dies {death:?}", scenario.name),
        || {
            let mut stand = Stand::prepared(scenario);
            stand.world.events.clear();
            stand.world.death = Some(death.after(&stand.world));
            stand.act(scenario);
            stand.world.settle_within(scenario.patience);
            assert!(stand.world.dead, "it did not die");
            stand.world.crash();
            check::always(&stand.world);
            let ran = ready(&stand.world.engine.state);
            // Whoever asked had no answer, and asks again.
            (scenario.again)(&mut stand.world);
            stand.world.settle_within(scenario.patience);
            assert_eq!(troubles(&stand.world, scenario), Vec::<String>::new());
            assert_eq!(turns(&stand.world), undisturbed.turns, "{:#?}", stand.world.events);
            Seen::note(seen, &stand.world, undisturbed, &ran);
            assert_recovered(&mut stand, scenario, 0);
            stand.assert_hooks_ran(&[]);
        },
    );
}

/// The hooks that a store says began, and not how they ended: a clean-up hook of those runs once more after the power went.
fn in_doubt(log: &[Record]) -> Vec<String> {
    let state = fold(log);
    let of = |unit: &InstanceUnit| {
        let (plan, journal) = (&unit.unit.plan, &unit.unit.journal);
        let steps = plan.down.iter().filter(|undo| journal.get(Way::Down, &undo.key) == Some(&Mark::Began));
        let jobs = steps.filter_map(|undo| match &undo.act {
            Act::Host(Op::Run(job)) => Some(job.id.clone()),
            _ => None,
        });
        jobs.collect::<Vec<_>>()
    };
    state.instances.values().flat_map(of).collect()
}

/// Power is lost after a commit, and with it each part of the store that was not synced.
fn cut(undisturbed: &Undisturbed, commit: usize, cuts: &AtomicUsize, seen: &Mutex<Seen>) {
    let scenario = undisturbed.scenario;
    // Boundaries of commits among the records.
    let mut drop_behind = 0;
    loop {
        let more = named(
            || {
                format!(
                    "{}: power is lost after commit {commit}, {drop_behind} commits behind",
                    scenario.name
                )
            },
            || {
                let mut stand = Stand::prepared(scenario);
                stand.world.events.clear();
                stand.world.death = Some(Death::AfterCommit(stand.world.commits + commit));
                stand.act(scenario);
                stand.world.settle_within(scenario.patience);
                let world = &mut stand.world;
                let bounds: Vec<usize> =
                    world.bounds.iter().copied().filter(|bound| *bound >= world.synced).rev().collect();
                let Some(kept) = bounds.get(drop_behind).copied() else { return false };
                let open = in_doubt(&world.log[..kept]);
                let ran = ready(&fold(&world.log[..kept]));
                world.lose_power(kept);
                check::always(world);
                (scenario.again)(world);
                world.settle_within(scenario.patience);
                Seen::note(seen, world, undisturbed, &ran);
                assert_recovered(&mut stand, scenario, 0);
                stand.assert_hooks_ran(&open);
                true
            },
        );
        if !more {
            return;
        }
        cuts.fetch_add(1, Ordering::Relaxed);
        drop_behind += 1;
    }
}

/// All of it, once for all tests.
pub fn results() -> &'static Counts {
    static ALL: OnceLock<Counts> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut counts = Counts::default();
        let cuts = AtomicUsize::new(0);
        let (dead, dark) = (Mutex::default(), Mutex::default());
        for scenario in &SCENARIOS {
            let undisturbed = Undisturbed::of(scenario);
            let Undisturbed { commits, effects, .. } = undisturbed;
            counts.commits += commits;
            counts.effects += effects;
            let in_commits = (0..commits).flat_map(|n| [Death::InCommit(n), Death::AfterCommit(n)]);
            let at_effects = (0..effects).flat_map(|n| [Death::Before(n), Death::After(n)]);
            let deaths: Vec<Death> = in_commits.chain(at_effects).collect();
            counts.deaths += deaths.len();
            parallel(deaths, |death| die(&undisturbed, death, &dead));
            parallel((0..commits).collect(), |commit| cut(&undisturbed, commit, &cuts, &dark));
        }
        counts.cuts = cuts.into_inner();
        (counts.after_deaths, counts.after_cuts) = (dead.into_inner().unwrap(), dark.into_inner().unwrap());
        counts
    })
}

#[test]
fn wherever_the_daemon_dies_the_next_one_finishes() {
    let counts = results();
    println!(
        "crashes: {} commits and {} effects in {} phases: {} deaths, {} power cuts",
        counts.commits,
        counts.effects,
        SCENARIOS.len(),
        counts.deaths,
        counts.cuts
    );
    println!(
        "crashes: seen after deaths {:?}, after power cuts {:?}",
        counts.after_deaths, counts.after_cuts
    );
    assert_eq!(counts.after_cuts.kept, 0, "what ran before the power went is not what runs after it");
}

/// A machine that was rebooted while the daemon was dead knows no job of before; the store does not mind.
#[test]
fn what_the_store_says_of_jobs_of_another_boot_means_nothing() {
    let mut stand = Stand::prepared(&SCENARIOS[4]);
    let jobs = |world: &World| world.log.iter().filter(|r| matches!(r, Record::Job { .. })).count();
    assert!(jobs(&stand.world) > 0);
    let kept = stand.world.log.len();
    stand.world.lose_power(kept);
    assert_eq!(stand.world.sim.ended_jobs().unwrap(), Vec::<String>::new());
    let before = stand.world.sim.log().len();
    stand.world.settle();
    // Nor does a jail's number of before: another jail may have it by now.
    let log = stand.world.sim.log();
    let cleaning = log[before..].iter().filter_map(|op| match op {
        Op::Run(job) if job.id.contains(".hook.poststop.") => Some(job),
        _ => None,
    });
    let numbers: Vec<bool> = cleaning.map(|job| job.env.contains_key("JID")).collect();
    assert_eq!(numbers, [false, false]);
    assert_recovered(&mut stand, &SCENARIOS[0], 0);
}
