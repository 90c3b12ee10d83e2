//! What the keeper knows of jobs, and what it does to their processes.
//!
//! A job is *preparing* until its process waits at the gate, *gated* until it is let go, *going* until its program runs,
//! *running*, and *ended*. A background job counts as ended, with success, as soon as it runs; a forgotten one is kept
//! out of sight for as long as processes of its group live, so that they can still be killed by its id.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::Token;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::child::Report;
use super::protocol::{JobInfo, Reply};
use super::sys;
use crate::host::{Exit, Failure, JobState, Process, Status};

/// How long processes that were sent SIGKILL may take to die before whoever waits is told.
const STUBBORN: Duration = Duration::from_secs(10);
/// How often groups without a leader are looked at.
const LINGER: Duration = Duration::from_secs(5);

/// A request that waits for its answer.
pub type Asked = (Token, u64);

/// What is to be said.
#[derive(Debug)]
pub enum Out {
    /// To one connection.
    To(Asked, Reply),
    /// To every subscriber.
    All(Exit),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Preparing,
    Gated,
    Going,
    Running,
    Ended(Status),
}

/// A new job, just forked.
#[derive(Debug)]
pub struct New {
    /// Its id.
    pub id: String,
    /// The forked process.
    pub forked: Pid,
    /// The end of its gate that is written.
    pub gate: OwnedFd,
    /// Whether its end is told to subscribers.
    pub spawned: bool,
    /// Whether it counts as ended as soon as it runs.
    pub background: bool,
    /// From its exec on.
    pub timeout: Option<Duration>,
    /// Who asked for it.
    pub asked: Asked,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    spawned: bool,
    background: bool,
    timeout: Option<Duration>,
    forked: i32,
    forked_gone: bool,
    /// The process that execs, once it is known.
    process: Option<Process>,
    /// How it ended; known before the phase is `Ended` while the rest of its group is being killed.
    reaped: Option<Status>,
    /// Whether somebody of the group may live although the leader is gone.
    lingering: bool,
    timed_out: bool,
    forgotten: bool,
    gate: Option<OwnedFd>,
    report: Report,
    asked: Asked,
    waiters: Vec<Asked>,
    killers: Vec<Asked>,
    killing: Option<Killing>,
    deadline: Option<TimerKey>,
}

type TimerKey = (Instant, u64);

#[derive(Debug, Clone, Copy)]
struct Killing {
    since: Instant,
    pause: Duration,
    given_up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Timer {
    Deadline(String),
    Kill(String),
    Linger,
}

impl Entry {
    fn state(&self) -> JobState {
        match (self.phase, self.process) {
            (Phase::Ended(status), _) => JobState::Ended(status),
            (Phase::Running, _) if self.background => JobState::Ended(Status::Exited(0)),
            (Phase::Running, Some(process)) => JobState::Running(process),
            // Before its exec a job has done nothing; "it never started" is what recovery must hear if it asks in between.
            _ => JobState::Unknown,
        }
    }

    fn group(&self) -> Option<i32> {
        self.process.map(|p| p.pid)
    }
}

/// All jobs.
#[derive(Debug, Default)]
pub struct Jobs {
    entries: HashMap<String, Entry>,
    pids: HashMap<i32, String>,
    lingering: HashSet<String>,
    timers: BTreeMap<TimerKey, Timer>,
    timer_count: u64,
    linger_timer: bool,
    out: Vec<Out>,
}

impl Jobs {
    /// Whether an id is taken.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.entries.contains_key(id)
    }

    /// Takes a job in.
    pub fn insert(&mut self, new: New) {
        let forked = new.forked.as_raw();
        self.pids.insert(forked, new.id.clone());
        let entry = Entry {
            phase: Phase::Preparing,
            spawned: new.spawned,
            background: new.background && !new.spawned,
            timeout: new.timeout,
            forked,
            forked_gone: false,
            process: None,
            reaped: None,
            lingering: false,
            timed_out: false,
            forgotten: false,
            gate: Some(new.gate),
            report: Report::default(),
            asked: new.asked,
            waiters: Vec::new(),
            killers: Vec::new(),
            killing: None,
            deadline: None,
        };
        self.entries.insert(new.id, entry);
    }

    /// What is to be said since the last call.
    pub fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    fn say(&mut self, to: Asked, reply: Reply) {
        self.out.push(Out::To(to, reply));
    }

    fn refuse(&mut self, to: Asked, failure: Failure) {
        self.say(to, Reply::Failed { failure });
    }

    fn at(&mut self, when: Instant, timer: Timer) -> TimerKey {
        self.timer_count += 1;
        let key = (when, self.timer_count);
        self.timers.insert(key, timer);
        key
    }

    fn look_again_later(&mut self, now: Instant) {
        if !self.linger_timer && !self.lingering.is_empty() {
            self.linger_timer = true;
            self.at(now + LINGER, Timer::Linger);
        }
    }

    /// Takes what a job's process reported; `end` when the pipe is closed.
    pub fn on_report(&mut self, id: &str, bytes: &[u8], end: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.report.push(bytes);
        match entry.phase {
            Phase::Preparing => {
                if let Some(failure) = entry.report.failure.take() {
                    self.drop_unstarted(id, failure);
                } else if let (Some(pid), true) = (entry.report.pid, entry.report.ready) {
                    let another = self.pids.get(&pid).is_some_and(|owner| owner != id);
                    match identify(pid, entry.forked, another) {
                        Ok(process) => {
                            entry.process = Some(process);
                            entry.phase = Phase::Gated;
                            let asked = entry.asked;
                            self.pids.insert(pid, id.to_owned());
                            self.say(asked, Reply::Ready { process });
                        }
                        Err(failure) => self.drop_unstarted(id, failure),
                    }
                } else if end {
                    self.drop_unstarted(
                        id,
                        Failure::new(format!("{id}: its process died before it was ready")),
                    );
                }
            }
            Phase::Going => {
                if let Some(failure) = entry.report.failure.take() {
                    self.drop_unstarted(id, failure);
                } else if end {
                    self.running(id, now);
                }
            }
            Phase::Gated | Phase::Running | Phase::Ended(_) => {}
        }
    }

    fn running(&mut self, id: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.phase = Phase::Running;
        let (asked, timeout, background) = (entry.asked, entry.timeout, entry.background);
        let waiters = if background { std::mem::take(&mut entry.waiters) } else { Vec::new() };
        self.say(asked, Reply::Running);
        for waiter in waiters {
            self.say(waiter, Reply::Ended { status: Status::Exited(0) });
        }
        // A deadline too far away to be one is none.
        if let (Some(deadline), false) = (timeout.and_then(|t| now.checked_add(t)), background) {
            let key = self.at(deadline, Timer::Deadline(id.to_owned()));
            if let Some(entry) = self.entries.get_mut(id) {
                entry.deadline = Some(key);
            }
        }
    }

    /// Takes a job out that did not come to its exec, killing what there is of it.
    fn drop_unstarted(&mut self, id: &str, failure: Failure) {
        let Some(entry) = self.entries.remove(id) else { return };
        let leader = entry.process.filter(|_| entry.reaped.is_none()).map(|p| p.pid);
        let forked = Some(entry.forked).filter(|_| !entry.forked_gone);
        for pid in [leader, forked].into_iter().flatten() {
            // It is our child and not reaped, so the number is its own. Without its gate it exits in any case.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for pid in [entry.forked].into_iter().chain(entry.process.map(|p| p.pid)) {
            // A number that was reaped may be another job's by now.
            if self.pids.get(&pid).is_some_and(|owner| owner == id) {
                self.pids.remove(&pid);
            }
        }
        self.refuse(entry.asked, failure.clone());
        for waiter in entry.waiters {
            self.refuse(waiter, failure.clone());
        }
        for killer in entry.killers {
            self.say(killer, Reply::Done);
        }
    }

    /// Lets a job exec, if it is the connection's own.
    pub fn go(&mut self, asked: Asked, id: &str) {
        let Some(entry) = self.entries.get_mut(id).filter(|e| e.asked.0 == asked.0) else {
            return self
                .refuse(asked, Failure::new(format!("{id}: there is no such job of this connection")));
        };
        if entry.phase != Phase::Gated {
            return self.refuse(asked, Failure::new(format!("{id}: it does not wait to be let go")));
        }
        entry.asked = asked;
        if entry.reaped.is_some() {
            return self.drop_unstarted(id, Failure::new(format!("{id}: its process died before its exec")));
        }
        entry.phase = Phase::Going;
        // A child that cannot be told has just died; its report will end.
        if let Some(gate) = entry.gate.take() {
            let _ = nix::unistd::write(&gate, b"g");
        }
    }

    /// The job whose process has this number and that has not come to its exec.
    #[must_use]
    pub fn reporting(&self, pid: Pid) -> Option<&str> {
        let id = self.pids.get(&pid.as_raw())?;
        let entry = self.entries.get(id)?;
        matches!(entry.phase, Phase::Preparing | Phase::Going).then_some(id)
    }

    /// Takes the end of a child of the keeper. Those it does not know have been given up before their exec.
    ///
    /// Returns the job that ended, before anybody is told: its last output is still to be read.
    pub fn on_reaped(&mut self, pid: Pid, wait: WaitStatus) -> Option<String> {
        let status = match wait {
            WaitStatus::Exited(_, code) => Status::Exited(code),
            WaitStatus::Signaled(_, signal, _) => Status::Signaled(signal as i32),
            _ => return None,
        };
        let id = self.pids.remove(&pid.as_raw())?;
        let entry = self.entries.get_mut(&id)?;
        if entry.forked == pid.as_raw() {
            entry.forked_gone = true;
        }
        let process = entry.process.filter(|p| p.pid == pid.as_raw())?;
        entry.reaped = Some(if entry.timed_out { Status::TimedOut } else { status });
        // The number may be given to another process from here on, unless somebody of the group is left.
        entry.lingering = sys::signal_group(process.pid, None).unwrap_or(false);
        matches!(entry.phase, Phase::Running | Phase::Going).then_some(id)
    }

    /// Makes the end of a job known, or waits with that until the rest of its group is dead if it is being killed.
    pub fn settle(&mut self, id: &str, now: Instant) {
        let Some(entry) = self.entries.get(id) else { return };
        if entry.phase == Phase::Going {
            self.running(id, now);
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        let (Phase::Running, Some(status)) = (entry.phase, entry.reaped) else { return };
        if entry.killing.is_some() && entry.lingering {
            return;
        }
        let status = if entry.background { Status::Exited(0) } else { status };
        entry.phase = Phase::Ended(status);
        if let Some(key) = entry.deadline.take() {
            self.timers.remove(&key);
        }
        let waiters = std::mem::take(&mut entry.waiters);
        let (spawned, killing, lingering) = (entry.spawned, entry.killing.is_some(), entry.lingering);
        for waiter in waiters {
            self.say(waiter, Reply::Ended { status });
        }
        if spawned {
            self.out.push(Out::All(Exit { job: id.to_owned(), status }));
        }
        if killing {
            self.killed(id);
        } else if lingering {
            self.lingering.insert(id.to_owned());
            self.look_again_later(now);
        } else {
            self.drop_if_forgotten(id);
        }
    }

    fn drop_if_forgotten(&mut self, id: &str) {
        let over = |e: &Entry| e.forgotten && matches!(e.phase, Phase::Ended(_)) && !e.lingering;
        if self.entries.get(id).is_some_and(over) {
            self.entries.remove(id);
        }
    }

    /// Nobody of the group is left.
    fn killed(&mut self, id: &str) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.killing = None;
        entry.lingering = false;
        for killer in std::mem::take(&mut entry.killers) {
            self.say(killer, Reply::Done);
        }
        self.lingering.remove(id);
        self.drop_if_forgotten(id);
    }

    /// Kills what is left of a job; `asked` hears when it is gone.
    pub fn kill(&mut self, asked: Option<Asked>, id: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else {
            asked.into_iter().for_each(|to| self.say(to, Reply::Done));
            return;
        };
        entry.killers.extend(asked);
        match entry.phase {
            Phase::Preparing | Phase::Gated => {
                self.drop_unstarted(id, Failure::new(format!("{id}: it was killed before its exec")));
            }
            Phase::Going | Phase::Running => self.begin_kill(id, now),
            Phase::Ended(_) => {
                self.look_for_group(id);
                match self.entries.get(id).map(|e| e.lingering) {
                    Some(true) => self.begin_kill(id, now),
                    Some(false) => self.killed(id),
                    None => {}
                }
            }
        }
    }

    fn begin_kill(&mut self, id: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Some(killing) = &mut entry.killing {
            // Whoever asks now gets the whole patience again.
            if killing.given_up {
                *killing = Killing { since: now, pause: Duration::from_millis(100), given_up: false };
            }
            return;
        }
        entry.killing = Some(Killing { since: now, pause: Duration::from_millis(1), given_up: false });
        self.kill_round(id, now);
    }

    /// Sends SIGKILL to a group that is known to be there, and looks again later.
    fn kill_round(&mut self, id: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let (Some(group), Some(mut killing)) = (entry.group(), entry.killing) else { return };
        // Not yet reaped: the number is the leader's own. Reaped: nobody can get it while the group has members.
        if entry.reaped.is_none() || entry.lingering {
            let alive = sys::signal_group(group, Some(Signal::SIGKILL)).unwrap_or(true);
            if entry.reaped.is_some() {
                // Zombies that their parent does not reap are dead enough; looking for that costs a walk over all processes.
                let only_zombies = alive
                    && killing.pause >= Duration::from_millis(50)
                    && sys::group_members(group).is_ok_and(|members| members.is_empty());
                entry.lingering = alive && !only_zombies;
            }
        }
        if entry.reaped.is_some() && !entry.lingering {
            match entry.phase {
                Phase::Ended(_) => self.killed(id),
                _ => self.settle(id, now),
            }
            return;
        }
        let (mut killers, mut waiters) = (Vec::new(), Vec::new());
        if !killing.given_up && now.duration_since(killing.since) >= STUBBORN {
            killing.given_up = true;
            killers = std::mem::take(&mut entry.killers);
            waiters = std::mem::take(&mut entry.waiters);
        }
        killing.pause = if killing.given_up {
            Duration::from_secs(1)
        } else {
            (killing.pause * 2).min(Duration::from_millis(100))
        };
        entry.killing = Some(killing);
        self.at(now + killing.pause, Timer::Kill(id.to_owned()));
        if killing.given_up && !(killers.is_empty() && waiters.is_empty()) {
            let members = match sys::group_members(group) {
                Ok(members) => format!("{members:?}"),
                Err(e) => format!("which they are cannot be seen: {e}"),
            };
            let failure = Failure::new(format!(
                "{id}: its processes do not die although they were sent SIGKILL {} s ago: {members}",
                STUBBORN.as_secs()
            ))
            .hint("they wait for a device or a file server; it will go on being tried");
            for to in killers.into_iter().chain(waiters) {
                self.refuse(to, failure.clone());
            }
        }
    }

    /// Finds out whether processes of an ended job are left.
    ///
    /// While they are, nobody else can get the number of their group. They may have gone since the last look, and the number
    /// may be another's; then a process of that number is there, which cannot be while the old group lives.
    fn look_for_group(&mut self, id: &str) {
        let Some(entry) = self.entries.get_mut(id).filter(|e| e.lingering && e.reaped.is_some()) else {
            return;
        };
        let Some(group) = entry.group() else { return };
        let taken = kill(Pid::from_raw(group), None) != Err(Errno::ESRCH);
        // A killed jail's processes are zombies until its own process 1 reaps them: dead enough, as in `kill_round`.
        let gone = || !sys::signal_group(group, None).unwrap_or(true);
        let only_zombies = || sys::group_members(group).is_ok_and(|members| members.is_empty());
        if taken || gone() || only_zombies() {
            entry.lingering = false;
            self.lingering.remove(id);
            self.drop_if_forgotten(id);
        }
    }

    /// Answers when a job has ended.
    pub fn wait(&mut self, asked: Asked, id: &str) {
        match self.entries.get_mut(id).filter(|e| !e.forgotten) {
            None => self.refuse(asked, Failure::new(format!("{id}: the keeper knows no such job"))),
            Some(entry) => match entry.state() {
                JobState::Ended(status) => self.say(asked, Reply::Ended { status }),
                _ => entry.waiters.push(asked),
            },
        }
    }

    /// What a job is doing.
    #[must_use]
    pub fn state(&self, id: &str) -> JobState {
        self.entries.get(id).filter(|e| !e.forgotten).map_or(JobState::Unknown, Entry::state)
    }

    /// Drops the status of an ended job.
    pub fn forget(&mut self, asked: Asked, id: &str) {
        if self.entries.contains_key(id) && !matches!(self.state_of_any(id), JobState::Ended(_)) {
            return self.refuse(
                asked,
                Failure::new(format!("{id}: it has not ended")).hint("kill it, or wait for its end"),
            );
        }
        if let Some(entry) = self.entries.get_mut(id) {
            entry.forgotten = true;
        }
        self.look_for_group(id);
        self.drop_if_forgotten(id);
        self.say(asked, Reply::Done);
    }

    fn state_of_any(&self, id: &str) -> JobState {
        self.entries.get(id).map_or(JobState::Unknown, Entry::state)
    }

    /// Every job that is not forgotten, and those of which processes live: now, and not when they were last looked at. The leader
    /// of a jail's job is often reaped a moment before the rest of its group is dead.
    #[must_use]
    pub fn list(&mut self) -> Vec<JobInfo> {
        for id in self.lingering.iter().cloned().collect::<Vec<_>>() {
            self.look_for_group(&id);
        }
        let info = |(id, entry): (&String, &Entry)| JobInfo {
            job: id.clone(),
            state: entry.state(),
            spawned: entry.spawned,
            alive: entry.lingering || !matches!(entry.phase, Phase::Ended(_)),
        };
        self.entries.iter().map(info).filter(|job| job.alive || !self.is_forgotten(&job.job)).collect()
    }

    fn is_forgotten(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|e| e.forgotten)
    }

    /// The ends of spawned jobs that are not forgotten, for a new subscriber.
    #[must_use]
    pub fn ends(&self) -> Vec<Exit> {
        let end = |(id, entry): (&String, &Entry)| match entry.phase {
            Phase::Ended(status) if entry.spawned && !entry.forgotten => {
                Some(Exit { job: id.clone(), status })
            }
            _ => None,
        };
        self.entries.iter().filter_map(end).collect()
    }

    /// Ids of jobs whose process has not ended.
    #[must_use]
    pub fn live(&self) -> Vec<String> {
        let live = |(_, e): &(&String, &Entry)| !matches!(e.phase, Phase::Ended(_));
        self.entries.iter().filter(live).map(|(id, _)| id.clone()).collect()
    }

    /// Kills every job and everything left of ended ones.
    pub fn kill_all(&mut self, now: Instant) {
        let lingering = self.lingering.iter().cloned();
        let all: Vec<String> = self.live().into_iter().chain(lingering).collect();
        for id in all {
            self.kill(None, &id, now);
        }
    }

    /// Whether nobody is left to be killed.
    #[must_use]
    pub fn all_gone(&self) -> bool {
        self.lingering.is_empty() && self.live().is_empty()
    }

    /// A connection is gone: what it had started and not let go is killed, what it waited for is told to nobody.
    pub fn on_closed(&mut self, connection: Token, concerned: impl IntoIterator<Item = String>) {
        for id in concerned {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.waiters.retain(|(to, _)| *to != connection);
            entry.killers.retain(|(to, _)| *to != connection);
            if entry.asked.0 == connection && matches!(entry.phase, Phase::Preparing | Phase::Gated) {
                self.drop_unstarted(&id, Failure::new(format!("{id}: its client went away before its exec")));
            }
        }
    }

    /// When [`on_timers`](Self::on_timers) is to be called next.
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((when, _), _)| *when)
    }

    /// Does what is due.
    pub fn on_timers(&mut self, now: Instant) {
        while let Some(first) = self.timers.first_entry().filter(|t| t.key().0 <= now) {
            match first.remove() {
                Timer::Kill(id) => self.kill_round(&id, now),
                Timer::Deadline(id) => {
                    let running = |e: &&mut Entry| e.phase == Phase::Running && e.reaped.is_none();
                    if let Some(entry) = self.entries.get_mut(&id).filter(running) {
                        entry.timed_out = entry.killing.is_none();
                        self.begin_kill(&id, now);
                    }
                }
                Timer::Linger => {
                    self.linger_timer = false;
                    for id in self.lingering.iter().cloned().collect::<Vec<_>>() {
                        self.look_for_group(&id);
                    }
                    self.look_again_later(now);
                }
            }
        }
    }
}

/// Makes sure that a reported number is a living child of ours and of no other job, and finds out when it started.
///
/// The report came from a process that had entered a place where others may have power over it, and the number will be
/// sent signals by root.
fn identify(pid: i32, forked: i32, another: bool) -> Result<Process, Failure> {
    if pid != forked {
        if another || cfg!(not(target_os = "linux")) {
            return Err(Failure::new(format!(
                "the process {forked} reported the number {pid}, which is not its own"
            )));
        }
        // A sibling. One that was reaped before it was known is no child any more.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(Pid::from_raw(pid)), flags)
            .map_err(|e| Failure::os(format!("the process {pid} died before it was ready"), &e.into()))?;
    }
    let started = sys::start_time(pid)
        .map_err(|e| Failure::os(format!("finding the start time of the process {pid}"), &e))?;
    Ok(Process { pid, started })
}
