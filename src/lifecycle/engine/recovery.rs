//! What a new daemon does with the state it found: finish or undo (DESIGN.md, "What it must do", 4).

use serde_json::json;

use super::{Effect, Engine, Flight, NameChange, Output, Timer};
use crate::host::{Failure, Op};
use crate::ids::Id;
use crate::lifecycle::journal::{Mark, Way};
use crate::lifecycle::step::Act;
use crate::store::{Record, Stage, Why, WhyKind};

/// How long after the keeper could not be asked it is asked again, in milliseconds: whoever has no descriptor left gets one back.
const ASK_AGAIN: u64 = 1_000;

impl Engine {
    /// Takes up what an earlier daemon left. Under another boot id all that lived in the kernel is gone: every unit goes down, its
    /// clean-up hooks run, and what is wanted starts anew. Under the same one every unit goes on where it was.
    pub fn recover(&mut self, boot: &str, now: u64, random: u64) -> Output {
        self.now = now;
        self.random = random;
        let rebooted = self.state.boot.as_deref() != Some(boot);
        let units: Vec<Id> = self.state.networks.keys().chain(self.state.instances.keys()).copied().collect();
        if rebooted {
            self.emit(Record::Boot { id: boot.to_owned() });
            self.out.sync = true;
        }
        if !units.is_empty() {
            self.tell("recovering", json!({ "units": units.len(), "rebooted": rebooted }));
        }
        for fabric in self.state.fabrics.keys().cloned().collect::<Vec<_>>() {
            self.out.effects.push(Effect::Name(NameChange::Zone(fabric.clone())));
            self.unsettled.insert(fabric);
        }
        for id in units {
            if rebooted {
                self.emit(Record::Rebooted { unit: id });
                let text = "the machine was rebooted".to_owned();
                let why = Why { kind: WhyKind::Rebooted, phase: None, text };
                self.turn(id, Stage::Stopping, Some(why));
            } else {
                if self.stage(id) == Some(Stage::Ready) {
                    self.ready_since.insert(id, self.now);
                }
                self.resume(id);
            }
        }
        if let Some(at) = self.state.ipam.next_expiry() {
            self.timer(at, Timer::Quarantine);
        }
        self.await_leases();
        self.policies_stale = !rebooted;
        self.look();
        let mut out = self.finish();
        // Questions wait in the keeper's sockets: they are taken up when every name is there again, or the first ones would be
        // told that there is none.
        let (serve, rest): (Vec<_>, Vec<_>) =
            out.effects.into_iter().partition(|effect| matches!(effect, Effect::Serve(_)));
        out.effects = rest;
        out.effects.extend(serve);
        out
    }

    /// Lets the keeper forget jobs whose ends were written down, or whose unit is gone.
    pub(super) fn sweep(&mut self, jobs: Result<Vec<String>, Failure>) {
        let Ok(jobs) = jobs else {
            self.sweep_later();
            return;
        };
        let swept = std::mem::replace(&mut self.swept, true);
        for job in jobs {
            // Asked late, there are checks whose end is yet to be told.
            let probes = |flight: &Flight| matches!(flight, Flight::Probe(_, Some(of)) if *of == job);
            // Commands that somebody runs by hand are forgotten by those who carry them; those of the daemon before, here.
            if self.flights.values().any(probes) || swept && job.contains(".exec.") {
                continue;
            }
            let id = job.split_once('.').and_then(|(id, _)| id.parse::<Id>().ok());
            let awaited = id.and_then(|id| self.state.unit(id)).is_some_and(|unit| unit.journal.awaits(&job));
            if !awaited {
                self.out.effects.push(Effect::ForgetJob(job));
            }
        }
    }

    /// What the keeper was not told it is told again: else it would remember the job for as long as this daemon lives. All of them
    /// with one question, however many there are by then.
    pub(super) fn sweep_later(&mut self) {
        self.timer(self.now + ASK_AGAIN, Timer::Sweep);
    }

    fn resume(&mut self, id: Id) {
        let Some(stage) = self.stage(id) else { return };
        if let Some(instance) = self.state.instances.get(&id) {
            let (named, joined) = (instance.named, instance.joined);
            if named {
                let change = self.publish(id);
                self.out.effects.extend(change.map(Effect::Name));
            }
            if joined {
                self.out.effects.push(Effect::Name(NameChange::Ready(id, true)));
            }
            if instance_holds(&self.state, id) {
                self.reserve(id);
            }
        } else if matches!(stage, Stage::Ready) {
            self.out.effects.push(Effect::Serve(id));
        }
        match stage {
            Stage::Running => self.came_up(id),
            Stage::Ready | Stage::Joining | Stage::Leaving => self.watch(id),
            Stage::Failed => self.retry_later(id),
            _ => {}
        }
        if stage == Stage::Stopping {
            self.end_orphan(id);
        }
        self.movable.push_back(id);
    }

    /// A hook of a start that was given up may run on, or be remembered, after the daemon that ran it: it is ended before any
    /// clean-up.
    pub(super) fn end_orphan(&mut self, id: Id) {
        let Some(unit) = self.state.unit(id) else { return };
        let orphan = unit.plan.up.iter().find_map(|step| match &step.act {
            Act::Host(Op::Run(job)) if unit.journal.get(Way::Up, &step.key) == Some(&Mark::Began) => {
                Some((step.key.clone(), job.id.clone()))
            }
            _ => None,
        });
        if let Some((key, job)) = orphan {
            self.busy.insert(id);
            self.perform(Flight::Orphan { unit: id, key }, Op::KillJob { job });
        }
    }
}

fn instance_holds(state: &crate::store::State, id: Id) -> bool {
    state.instances.get(&id).is_some_and(|i| i.assigned && !i.unit.journal.is_rebooted())
}
