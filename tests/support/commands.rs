//! Commands that take their time: the sim's end at once, and what happens while one runs is to be tried as well.

use std::cell::RefCell;

use warren::host::{Failure, Host, Job, JobState, Reply};
use warren::lifecycle::engine::Event;

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
