//! Asks running instances whether they are well: readiness, health checks, and whether anything still runs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Engine, Flight, Timer};
use crate::config::spec::{Health, Probe};
use crate::host::{Failure, Job, Op, Question, Reply, Status};
use crate::ids::Id;
use crate::lifecycle::plan;
use crate::store::{Record, Stage, Why, WhyKind};

/// How long between two looks whether an instance without a main process has any process left.
const COUNT_EVERY: u64 = 1_000;

/// What is remembered of an instance's health. Not stored: after a restart of the daemon it is asked anew.
#[derive(Debug, Clone, Default)]
pub struct Wellness {
    /// Failures in a row.
    failures: u32,
    /// Since when it is not ready, milliseconds since the epoch.
    unready_since: u64,
    /// How many probes were sent: part of a command probe's job id.
    asked: u64,
    /// Whether the last one could not be put, and it was told.
    mute: bool,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// A unit is up: it becomes ready at once, or after its lease and its health check.
    pub(super) fn came_up(&mut self, id: Id) {
        if self.stage(id) != Some(Stage::Running) {
            return;
        }
        let Some(instance) = self.state.instances.get(&id) else {
            // A network has nothing to wait for.
            self.turn(id, Stage::Joining, None);
            return;
        };
        let (spec, given, leased) =
            (Arc::clone(&instance.spec), Arc::clone(&instance.given), instance.leased.clone());
        if spec.command.is_none() && !spec.persist {
            self.timer(self.now + COUNT_EVERY, Timer::Count(id));
        }
        self.learn(id);
        let leases_missing = given.links.iter().enumerate().any(|(n, l)| l.dhcp && !leased.contains(&n));
        let health = self.health_of(id);
        if !leases_missing && health.is_none() {
            self.turn(id, Stage::Joining, None);
        } else {
            self.watch(id);
        }
    }

    /// Begins to ask an instance with a health check.
    pub(super) fn watch(&mut self, id: Id) {
        if self.health_of(id).is_some() && !self.wellness.contains_key(&id) {
            self.wellness.insert(id, Wellness { unready_since: self.now, ..Wellness::default() });
            self.probe(id);
        }
    }

    fn health_of(&self, id: Id) -> Option<Health> {
        let instance = self.state.instances.get(&id)?;
        instance.revision?;
        self.state.service_spec(&instance.given.fabric, &instance.given.service)?.health.clone()
    }

    /// Sends one probe, if it is time and none is under way.
    pub(super) fn probe(&mut self, id: Id) {
        let stage = self.stage(id);
        if !matches!(stage, Some(Stage::Running | Stage::Ready | Stage::Joining | Stage::Leaving)) {
            return;
        }
        let under_way = self.flights.values().any(|f| matches!(f, Flight::Probe(of, _) if *of == id));
        let Some(health) = self.health_of(id).filter(|_| !under_way) else { return };
        let Some(wellness) = self.wellness.get_mut(&id) else { return };
        wellness.asked += 1;
        let asked = wellness.asked;
        let Some(instance) = self.state.instances.get(&id) else { return };
        let timeout = health.timeout;
        let question = match health.probe {
            Probe::Command { command } => Err(command),
            Probe::Tcp { port } => Ok(Question::Tcp { port }),
            Probe::Http { port, path } => Ok(Question::Http { port, path }),
        };
        let op = match question {
            Err(command) => {
                // The time tells the probes of one daemon from those of the next.
                let key = format!("probe.{}.{asked}", self.now);
                let job = plan::command_inside(&instance.spec, &instance.given, &key, command);
                Op::Run(Job { timeout: Some(timeout), ..job })
            }
            Ok(question) => {
                let Some(address) = instance.given.addresses().first().copied() else {
                    // The LAN has given it none yet.
                    self.timer(self.now + millis(health.interval).max(20), Timer::Probe(id));
                    return;
                };
                Op::Probe { question, address, timeout }
            }
        };
        let job = match &op {
            Op::Run(job) => Some(job.id.clone()),
            _ => None,
        };
        self.perform(Flight::Probe(id, job), op);
    }

    /// A probe was answered, or was not.
    pub(super) fn probed(&mut self, id: Id, failure: Option<Failure>) {
        let (Some(health), Some(stage)) = (self.health_of(id), self.stage(id)) else { return };
        let now = self.now;
        let leases_there =
            self.state.instances.get(&id).is_some_and(|i| {
                i.given.links.iter().enumerate().all(|(n, l)| !l.dhcp || i.leased.contains(&n))
            });
        let Some(wellness) = self.wellness.get_mut(&id) else { return };
        // Impatient while it comes up: the user waits for it.
        let mut next = millis(health.interval);
        // Who has nothing left to ask with learns nothing: an instance that is well stays in service, and one that comes up has
        // its grace once it can be asked.
        let short = failure.as_ref().filter(|failure| failure.is_unasked());
        let told = std::mem::replace(&mut wellness.mute, short.is_some());
        if let Some(short) = short {
            wellness.unready_since = now;
            if !told {
                let name = self.name(id);
                let text = format!("its health check could not be asked, and counts for nothing: {short}");
                self.tell("remark", json!({ "unit": id, "name": name, "step": "health", "text": text }));
            }
            self.timer(now + next.max(20), Timer::Probe(id));
            return;
        }
        match (&failure, stage) {
            (None, Stage::Running) if leases_there => {
                wellness.failures = 0;
                self.turn(id, Stage::Joining, None);
            }
            (None, _) => wellness.failures = 0,
            (Some(failure), Stage::Ready) => {
                wellness.failures += 1;
                if wellness.failures >= health.failures {
                    wellness.unready_since = now;
                    let text = format!("{} health checks failed in a row: {failure}", wellness.failures);
                    self.turn(id, Stage::Leaving, Some(Why { kind: WhyKind::Unhealthy, phase: None, text }));
                }
            }
            (Some(failure), Stage::Running) => {
                wellness.failures += 1;
                next = next.min(50 << wellness.failures.min(6));
                if now.saturating_sub(wellness.unready_since) > millis(health.grace) {
                    let text = format!("it was not ready within {} s: {failure}", health.grace.as_secs());
                    self.stop(id, Why { kind: WhyKind::Unhealthy, phase: None, text });
                    return;
                }
            }
            (Some(_), _) => {}
        }
        self.timer(now + next.max(20), Timer::Probe(id));
    }

    /// The name of an instance's jail.
    pub(super) fn jail(&self, id: Id) -> String {
        self.state.instances.get(&id).map_or_else(|| id.jail(), |i| i.given.jail(&i.spec))
    }

    /// Looks whether anything runs in an instance without a main process.
    pub(super) fn count(&mut self, id: Id) {
        if self.stage(id).is_some_and(|s| s.is_wanted() && s > Stage::Starting)
            && !self.flights.values().any(|f| *f == Flight::Count(id))
        {
            self.perform(Flight::Count(id), Op::JailCount { jail: self.jail(id) });
        }
    }

    /// What the look showed.
    pub(super) fn counted(&mut self, id: Id, result: Result<Reply, Failure>) {
        if !self.stage(id).is_some_and(Stage::is_wanted) {
            return;
        }
        match result {
            Ok(Reply::Processes { count: 0 }) => {
                self.emit(Record::Exit { unit: id, status: Status::Exited(0) });
                self.movable.push_back(id);
            }
            // Any other failure says that the look failed, not that the jail has gone.
            Err(failure) if matches!(failure.errno, Some(libc::ENOENT | libc::ESRCH)) => {
                let text = format!("the jail went away without Warren: {failure}");
                self.stop(id, Why { kind: WhyKind::Vanished, phase: None, text });
            }
            _ => self.timer(self.now + COUNT_EVERY, Timer::Count(id)),
        }
    }

    /// The addresses a probe may be sent to.
    #[must_use]
    pub fn addresses(&self, id: Id) -> Vec<IpAddr> {
        self.state.instances.get(&id).map_or_else(Vec::new, |i| i.given.addresses())
    }
}
