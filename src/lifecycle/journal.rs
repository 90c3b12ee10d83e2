//! What was done of a plan, and what comes next: a pure function of the two.
//!
//! Before an effect its step is marked begun, after it done or failed; both marks are records of the store, so a journal
//! read back after a crash is the journal that was (DESIGN.md, "Durability"). The rules:
//!
//! - Going up, steps are done in order. The first failure turns the unit round.
//! - Going down, every step whose condition holds is done once, in order; a step that needs a failed one is held.
//! - A step that began and has no end when the journal is read back is *in doubt*. Going down it is simply done again: every
//!   step down is idempotent. Going up it is taken back and done again, except commands, whose end the keeper knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::step::{Act, OnFailure, Phase, Plan, Step, Undo, When};
use crate::host::{Failure, Op, Reply};

/// Which way a unit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The start.
    Up,
    /// Becoming ready.
    Join,
    /// Ceasing to be ready.
    Leave,
    /// The stop.
    Down,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It began; how it ended is not known.
    Began,
    /// It succeeded.
    Done(Reply),
    /// It failed.
    Failed(Failure),
}

/// Something a stop could not finish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The step.
    pub key: String,
    /// What it would have done.
    pub act: Act,
    /// Why it was not done: its own failure, or none if it waits for another.
    pub failure: Option<Failure>,
}

/// The marks of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Steps up and of joining, by key.
    up: BTreeMap<String, Mark>,
    /// Steps down, by key.
    down: BTreeMap<String, Mark>,
    /// The furthest phase a step up began in.
    reached: Option<Phase>,
    /// Whether the machine was rebooted since the unit came up: then what lived in the kernel is gone.
    rebooted: bool,
    /// How often the way down was begun anew; part of the id of its hooks' jobs.
    pub round: u32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next<'a> {
    /// Mark this step begun and do it.
    Do(&'a str, &'a Act),
    /// The step began and nobody knows how it ended.
    InDoubt(&'a str, &'a Act),
    /// A step up failed: the unit turns round.
    Failed(&'a Step, &'a Failure),
    /// A step down failed whose failure ends the stop.
    Aborted(&'a Undo, &'a Failure),
    /// Everything is done. Going down, what is left.
    Finished(Vec<Left>),
}

impl Journal {
    /// Notes a mark.
    pub fn mark(&mut self, plan: &Plan, way: Way, key: &str, mark: Mark) {
        match way {
            Way::Up | Way::Join => {
                if let Some(step) = plan.up.iter().find(|s| s.key == key) {
                    self.reached = self.reached.max(Some(step.phase));
                }
                self.up.insert(key.to_owned(), mark);
            }
            Way::Leave | Way::Down => {
                self.down.insert(key.to_owned(), mark);
            }
        }
    }

    /// Forgets joining and leaving, so that both can be done again.
    pub fn left_service(&mut self, plan: &Plan) {
        for step in &plan.join {
            self.up.remove(&step.key);
        }
        for key in &plan.leave {
            self.down.remove(key);
        }
    }

    /// Forgets what failed on the way down, so that it is tried again.
    pub fn retry(&mut self) {
        self.down.retain(|_, mark| matches!(mark, Mark::Done(_)));
        self.round += 1;
    }

    /// The machine was rebooted.
    pub fn reboot(&mut self) {
        self.rebooted = true;
        self.retry();
    }

    /// Whether the machine was rebooted under the unit: nothing of it is alive.
    #[must_use]
    pub fn is_rebooted(&self) -> bool {
        self.rebooted
    }

    /// The reply of a step up that was done.
    #[must_use]
    pub fn reply(&self, key: &str) -> Option<&Reply> {
        match self.up.get(key) {
            Some(Mark::Done(reply)) => Some(reply),
            _ => None,
        }
    }

    /// The furthest phase a start got to.
    #[must_use]
    pub fn reached(&self) -> Option<Phase> {
        self.reached
    }

    /// The mark of a step.
    #[must_use]
    pub fn get(&self, way: Way, key: &str) -> Option<&Mark> {
        match way {
            Way::Up | Way::Join => self.up.get(key),
            Way::Leave | Way::Down => self.down.get(key),
        }
    }

    /// Whether the end of this job is still to be written down.
    #[must_use]
    pub fn awaits(&self, job: &str) -> bool {
        // `<unit>.<key>` or `<unit>.<key>.<round>`; the main process is awaited while its step stands.
        let key = job.split_once('.').map_or(job, |(_, key)| key);
        if key == "main" {
            return self.up.contains_key("main");
        }
        // One of an earlier round was settled before this one began.
        let key = if self.round == 0 { Some(key) } else { key.strip_suffix(&format!(".{}", self.round)) };
        let began = |marks: &BTreeMap<String, Mark>| {
            key.and_then(|key| marks.get(key)).is_some_and(|mark| *mark == Mark::Began)
        };
        began(&self.up) || began(&self.down)
    }

    /// What comes next on a way.
    #[must_use]
    pub fn next<'a>(&'a self, plan: &'a Plan, way: Way) -> Next<'a> {
        match way {
            Way::Up => self.next_up(&plan.up),
            Way::Join => self.next_up(&plan.join),
            Way::Leave => self.next_down(plan, &|u| plan.leave.contains(&u.key)),
            Way::Down => self.next_down(plan, &|_| true),
        }
    }

    fn next_up<'a>(&'a self, steps: &'a [Step]) -> Next<'a> {
        for step in steps {
            match self.up.get(&step.key) {
                None => return Next::Do(&step.key, &step.act),
                Some(Mark::Began) => return Next::InDoubt(&step.key, &step.act),
                Some(Mark::Failed(failure)) => return Next::Failed(step, failure),
                Some(Mark::Done(_)) => {}
            }
        }
        Next::Finished(Vec::new())
    }

    fn next_down<'a>(&'a self, plan: &'a Plan, which: &dyn Fn(&Undo) -> bool) -> Next<'a> {
        // Keys that stand in the way of those that need them.
        let mut open: BTreeSet<&str> = BTreeSet::new();
        let mut left = Vec::new();
        // Steps are done in order. One before the last may be in doubt again: a repair that did not come to its end.
        let last = plan.up.last();
        let finished = last.is_none_or(|step| matches!(self.up.get(&step.key), Some(Mark::Done(_))));
        for undo in plan.down.iter().filter(|u| which(u)) {
            if !self.applies(undo, finished) {
                continue;
            }
            let blocked = undo.needs.iter().any(|need| open.contains(need.as_str()));
            match self.down.get(&undo.key) {
                Some(Mark::Done(_)) => {}
                Some(Mark::Failed(failure)) => match undo.failure {
                    OnFailure::Report => {}
                    OnFailure::Abort => return Next::Aborted(undo, failure),
                    OnFailure::Keep => {
                        open.insert(&undo.key);
                        left.push(Left {
                            key: undo.key.clone(),
                            act: undo.act.clone(),
                            failure: Some(failure.clone()),
                        });
                    }
                },
                _ if blocked => {
                    open.insert(&undo.key);
                    left.push(Left { key: undo.key.clone(), act: undo.act.clone(), failure: None });
                }
                Some(Mark::Began) => return Next::InDoubt(&undo.key, &undo.act),
                None => return Next::Do(&undo.key, &undo.act),
            }
        }
        Next::Finished(left)
    }

    /// Whether a step down has anything to take back. A start that was `finished` reached every phase, also those without a step.
    fn applies(&self, undo: &Undo, finished: bool) -> bool {
        if self.rebooted && undo.is_volatile() {
            return false;
        }
        match &undo.when {
            When::Began(key) => self.up.contains_key(key),
            When::Reached(phase) => finished || self.reached >= Some(*phase),
        }
    }

    /// The stop was given up: the unit goes on running, and a later stop begins anew.
    pub fn aborted(&mut self) {
        let joined: Vec<String> =
            self.down.keys().filter_map(|k| k.strip_prefix("un.")).map(str::to_owned).collect();
        for key in joined.iter().map(String::as_str).chain(["join"]) {
            self.up.remove(key);
        }
        self.down.clear();
        self.round += 1;
    }

    /// Forgets that a step up began, after it was taken back.
    pub fn taken_back(&mut self, key: &str) {
        self.up.remove(key);
    }
}

/// How a step in doubt on the way up is settled.
#[derive(Debug, Clone, PartialEq)]
pub enum Settle {
    /// By asking the keeper what became of the job.
    AskKeeper(String),
    /// By performing this and then the step again.
    Undo(Op),
    /// By doing it again: it replaces what is there.
    Again,
}

/// How an act in doubt on the way up is settled.
#[must_use]
pub fn settle(act: &Act) -> Settle {
    match act {
        Act::Book(_) => Settle::Again,
        Act::Host(Op::Run(job) | Op::Spawn(job)) => Settle::AskKeeper(job.id.clone()),
        Act::Host(op) => op.undo().map_or(Settle::Again, Settle::Undo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_of_an_earlier_round_is_awaited_no_more() {
        let mut journal = Journal::default();
        journal.down.insert("hook.release.0".into(), Mark::Began);
        journal.up.insert("main".into(), Mark::Done(Reply::Done));
        let awaited = |journal: &Journal| {
            ["id.hook.release.0", "id.hook.release.0.1", "id.main"].map(|job| journal.awaits(job))
        };
        assert_eq!(awaited(&journal), [true, false, true]);
        journal.round = 1;
        assert_eq!(awaited(&journal), [false, true, true]);
    }
}
