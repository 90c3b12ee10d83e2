//! Commands that take their time: the sim's end at once, and what happens while one runs is to be tried as well.

use std::cell::RefCell;

use warren::config::spec::ServiceSpec;
use warren::host::sim::Sim;
use warren::host::{Failure, Host, Job, JobState, NoWitness, Op, Reply};
use warren::lifecycle::engine::Event;
use warren::lifecycle::plan::{self, Assignment};
use warren::lifecycle::step::Act;

use super::{Started, World};

impl World {
    /// Begins a command and goes on without waiting for it, or dies.
    pub(super) fn leave_running(&mut self, ticket: u64, job: &Job) {
        let started = Started(RefCell::default());
        if let Err(failure) = self.sim.begin(job, &started) {
            self.told.push_back(vec![Event::Done(ticket, Err(failure))]);
            return;
        }
        for (job, process) in started.0.take() {
            self.handle(Event::Started { ticket, job, process });
        }
        if self.held.take().is_some() {
            self.running = Some((ticket, job.id.clone()));
        } else {
            self.dead = true;
        }
    }

    /// Tells of the end of the command that was held, if it has ended.
    pub(super) fn ended(&mut self) -> bool {
        let Some((ticket, job)) = self.running.take() else { return false };
        let JobState::Ended(status) = self.sim.job(&job).unwrap() else {
            self.running = Some((ticket, job));
            return false;
        };
        let result = if status.success() { Ok(Reply::Done) } else { Err(Failure::new(status.to_string())) };
        self.handle(Event::Done(ticket, result));
        true
    }
}

/// What jail(8) does on the machine for a jail, hooks left out.
pub fn by_jail_8(sim: &Sim, spec: &ServiceSpec) {
    let given = Assignment {
        id: warren::ids::Id::from_random(1),
        fabric: "shop".into(),
        domain: "shop.internal".into(),
        service: spec.name.clone(),
        links: Vec::new(),
        roots: "/roots".into(),
        program: "/program".into(),
    };
    for step in plan::instance(&spec.instance, &given).up {
        if let Act::Host(op) = step.act
            && !matches!(op, Op::Run(_))
        {
            sim.perform(&op, &NoWitness).unwrap();
        }
    }
}
