//! The sim: a kernel in memory, for exhaustive failure tests, for scale, and for a demo where nothing else may run.
//!
//! [`Machine`] holds what a machine would hold, comparable by value; [`Sim`] performs operations on it with the kernel's
//! errors. Two things make it a test instrument: every operation can be made to fail, before or after it took effect
//! ([`Fault`]), and what would panic a kernel (facts A.5: an eiface shut down inside a dying jail) panics here.
//! A process is what [`Behaviour`] says of its command.

mod machine;

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    Exit, Failure, Frames, Host, Inventory, Job, JobState, Lost, Op, Process, Reply, Status, Wanted, Witness,
};
use crate::ids::Id;
pub use machine::{Machine, SimAnchor, SimBridge, SimEiface, SimJail};

/// How a command behaves in the sim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It ends at once with this status.
    Ends(Status),
    /// A hook: it never ends by itself. A main process: it runs until it is killed.
    Runs,
    /// It ends at once with this status, and leaves a process behind in its jail.
    Leaves(Status),
}

impl Behaviour {
    /// What a command does of which nothing else is said: a main process runs, everything else ends well.
    #[must_use]
    pub fn usual(job: &Job) -> Self {
        if job.id.ends_with(".main") { Self::Runs } else { Self::Ends(Status::Exited(0)) }
    }
}

/// One operation that is to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The number of the operation, counted from 0 by [`Sim::performed`].
    pub at: usize,
    /// The error number it fails with.
    pub errno: i32,
    /// Whether it took effect all the same: what a crash or a lost reply looks like.
    pub after: bool,
}

type Script = Box<dyn Fn(&Job) -> Behaviour + Send>;
type Refusal = Box<dyn Fn(&Op) -> Option<i32> + Send>;

struct Inner {
    machine: Machine,
    faults: VecDeque<Fault>,
    performed: usize,
    asked: usize,
    deaf: BTreeSet<usize>,
    starving: Option<(usize, i32)>,
    log: Vec<Op>,
    script: Script,
    refusal: Refusal,
    exits: Sender<Exit>,
    lost: Sender<Lost>,
}

/// The host. Cloning it gives another handle of the same machine.
#[derive(Clone)]
pub struct Sim {
    inner: Arc<Mutex<Inner>>,
    exits: Arc<Mutex<Option<Receiver<Exit>>>>,
    lost: Arc<Mutex<Option<Receiver<Lost>>>>,
}

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl Sim {
    /// A machine just booted. Every hook succeeds at once; every main process runs until it is killed.
    #[must_use]
    pub fn new() -> Self {
        let (sender, receiver) = channel();
        let (lost, told) = channel();
        let inner = Inner {
            machine: Machine::default(),
            faults: VecDeque::new(),
            performed: 0,
            asked: 0,
            deaf: BTreeSet::new(),
            starving: None,
            log: Vec::new(),
            script: Box::new(Behaviour::usual),
            refusal: Box::new(|_| None),
            exits: sender,
            lost,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            exits: Arc::new(Mutex::new(Some(receiver))),
            lost: Arc::new(Mutex::new(Some(told))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A test that panicked while it held the machine has failed already.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Decides how commands behave.
    pub fn script(&self, script: impl Fn(&Job) -> Behaviour + Send + 'static) {
        self.lock().script = Box::new(script);
    }

    /// Makes operations fail, in the order of their numbers.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults = faults.into_iter().collect();
    }

    /// Makes every operation fail for which an error number is given, from now on.
    pub fn refuse(&self, refusal: impl Fn(&Op) -> Option<i32> + Send + 'static) {
        self.lock().refusal = Box::new(refusal);
    }

    /// Makes calls fail that are no operations, by their numbers: looks, questions to the keeper, and taking for one's own.
    pub fn fail_asked(&self, numbers: impl IntoIterator<Item = usize>) {
        self.lock().deaf = numbers.into_iter().collect();
    }

    /// Makes every operation fail from this one on, and every call that is none: what Warren does without a descriptor or memory left.
    /// [`Sim::feed`] ends it.
    pub fn starve(&self, from: usize, errno: i32) {
        self.lock().starving = Some((from, errno));
    }

    /// There is enough of everything again.
    pub fn feed(&self) {
        self.lock().starving = None;
    }

    /// How many such calls there were so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    /// Counts a call that is no operation, and lets it fail if it is to.
    fn ask(&self) -> Result<MutexGuard<'_, Inner>, Failure> {
        let mut inner = self.lock();
        let number = inner.asked;
        inner.asked += 1;
        let failure = inner.deaf.remove(&number).then_some(5).or_else(|| inner.hunger());
        match failure {
            Some(errno) => Err(injected(&Fault { at: number, errno, after: false })),
            None => Ok(inner),
        }
    }

    /// How many operations were performed so far.
    #[must_use]
    pub fn performed(&self) -> usize {
        self.lock().performed
    }

    /// The operations performed so far.
    #[must_use]
    pub fn log(&self) -> Vec<Op> {
        self.lock().log.clone()
    }

    /// The operations performed since this was last asked, for runs that are too long to be kept whole.
    #[must_use]
    pub fn take_log(&self) -> Vec<Op> {
        std::mem::take(&mut self.lock().log)
    }

    /// What the machine holds.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.lock().machine.clone()
    }

    /// Looks at what the machine holds.
    pub fn look<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.lock().machine)
    }

    /// Changes the machine behind Warren's back.
    pub fn tamper(&self, change: impl FnOnce(&mut Machine)) {
        change(&mut self.lock().machine);
    }

    /// Reboots the machine: all that lived in the kernel is gone, what was on disk is not.
    pub fn reboot(&self) {
        self.lock().machine.reboot();
    }

    /// Begins a command whose end is not waited for: its daemon dies meanwhile, or wants something else. [`Sim::end`] ends it.
    ///
    /// # Errors
    /// As [`Op::Run`].
    pub fn begin(&self, job: &Job, witness: &dyn Witness) -> Result<(), Failure> {
        let mut inner = self.lock();
        let process = inner.machine.start_job(job)?;
        witness.started(&job.id, process)?;
        if let Behaviour::Leaves(_) = (inner.script)(job) {
            inner.machine.leave_process(job);
        }
        Ok(())
    }

    /// Ends a job by itself.
    pub fn end(&self, job: &str, status: Status) {
        let mut inner = self.lock();
        inner.machine.end_job(job, status);
        // Nobody listening means that the daemon is dead; the status waits in `job`.
        let _ = inner.exits.send(Exit { job: job.to_owned(), status });
    }

    /// Somebody removes a jail by hand.
    pub fn lose_jail(&self, jail: &str) {
        let mut inner = self.lock();
        let Some(jid) = inner.machine.jails.get(jail).map(|jail| jail.jid) else { return };
        for (job, status) in inner.machine.lose_jail(jail) {
            let _ = inner.exits.send(Exit { job, status });
        }
        let _ = inner.lost.send(Lost { jail: jail.to_owned(), jid });
    }

    /// A new daemon takes the place of a dead one: it is told of every end that is not forgotten.
    pub fn reattach(&self) {
        let (sender, receiver) = channel();
        let mut inner = self.lock();
        let mains = inner.machine.ended_jobs().into_iter().filter(|id| id.ends_with(".main"));
        for job in mains {
            let JobState::Ended(status) = inner.machine.job(&job) else { continue };
            let _ = sender.send(Exit { job, status });
        }
        inner.exits = sender;
        // Of a jail that went while no daemon was there its look at the start tells.
        let (lost, told) = channel();
        inner.lost = lost;
        *self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(told);
        *self.exits.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(receiver);
    }
}

impl Inner {
    /// What the next operation fails with for want of everything.
    fn hunger(&self) -> Option<i32> {
        self.starving.filter(|(from, _)| self.performed >= *from).map(|(_, errno)| errno)
    }

    fn perform(&mut self, op: &Op, witness: &dyn Witness) -> Result<Reply, Failure> {
        let number = self.performed;
        let fault = self.faults.iter().position(|f| f.at == number).and_then(|at| self.faults.remove(at));
        let hunger = self.hunger();
        self.performed += 1;
        self.log.push(op.clone());
        let refused =
            hunger.or_else(|| (self.refusal)(op)).map(|errno| Fault { at: number, errno, after: false });
        let fault = fault.or(refused);
        if let Some(fault) = &fault
            && !fault.after
        {
            return Err(injected(fault));
        }
        let reply = self.effect(op, witness);
        match fault {
            Some(fault) => Err(injected(&fault)),
            None => reply,
        }
    }

    fn effect(&mut self, op: &Op, witness: &dyn Witness) -> Result<Reply, Failure> {
        match op {
            Op::Run(job) => self.run(job, witness),
            Op::Spawn(job) => {
                let process = self.machine.start_job(job)?;
                witness.started(&job.id, process)?;
                if let Behaviour::Ends(status) = (self.script)(job) {
                    self.machine.end_job(&job.id, status);
                    let _ = self.exits.send(Exit { job: job.id.clone(), status });
                }
                Ok(Reply::Done)
            }
            op => {
                let killed = self.machine.perform(op)?;
                for (job, status) in killed.ended {
                    let _ = self.exits.send(Exit { job, status });
                }
                Ok(killed.reply)
            }
        }
    }

    fn run(&mut self, job: &Job, witness: &dyn Witness) -> Result<Reply, Failure> {
        let process = self.machine.start_job(job)?;
        witness.started(&job.id, process)?;
        let status = match (self.script)(job) {
            Behaviour::Ends(status) => status,
            Behaviour::Runs => Status::TimedOut,
            Behaviour::Leaves(status) => {
                self.machine.leave_process(job);
                status
            }
        };
        self.machine.end_job(&job.id, status);
        if status.success() { Ok(Reply::Done) } else { Err(Failure::new(status.to_string())) }
    }
}

fn injected(fault: &Fault) -> Failure {
    let error = std::io::Error::from_raw_os_error(fault.errno);
    Failure { errno: Some(fault.errno), ..Failure::new(format!("injected: {error}")) }
}

impl Host for Sim {
    fn perform(&self, op: &Op, witness: &dyn Witness) -> Result<Reply, Failure> {
        self.lock().perform(op, witness)
    }

    fn check(&self, _: &Wanted) -> Result<(), Failure> {
        // The sim has every template and every port.
        Ok(())
    }

    fn own(&self, _: &Op, _: &Reply) -> Result<(), Failure> {
        self.ask().map(drop)
    }

    fn observe(&self, also: &[String]) -> Result<Inventory, Failure> {
        let mut seen = self.ask()?.machine.inventory();
        // As on FreeBSD, where the machine's other jails and addresses are nobody's business.
        seen.jails.retain(|name, _| Id::of_jail(name).is_some() || also.contains(name));
        seen.aliases.retain(|(interface, _)| seen.interfaces.contains_key(interface));
        Ok(seen)
    }

    fn boot_id(&self) -> String {
        format!("sim-{}", self.lock().machine.boot)
    }

    fn job(&self, id: &str) -> Result<JobState, Failure> {
        Ok(self.ask()?.machine.job(id))
    }

    fn ended_jobs(&self) -> Result<Vec<String>, Failure> {
        Ok(self.ask()?.machine.ended_jobs())
    }

    fn forget_job(&self, id: &str) -> Result<(), Failure> {
        self.ask()?.machine.forget_job(id);
        Ok(())
    }

    fn exits(&self) -> Receiver<Exit> {
        let taken = self.exits.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        taken.unwrap_or_else(|| channel().1)
    }

    fn lost(&self) -> Option<Receiver<Lost>> {
        drop(self.ask().ok()?);
        self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn frames(&self, _: &str, _: u32) -> Result<Box<dyn Frames>, Failure> {
        Ok(Box::new(NoFrames))
    }

    fn socket(&self, _: &str) -> Result<Option<OwnedFd>, Failure> {
        Ok(None)
    }

    fn exec(&self, job: &Job, _: [OwnedFd; 3], _: bool) -> Result<(), Failure> {
        let mut inner = self.lock();
        inner.machine.start_job(job)?;
        let status = match (inner.script)(job) {
            Behaviour::Ends(status) => status,
            _ => Status::Exited(0),
        };
        inner.machine.end_job(&job.id, status);
        let _ = inner.exits.send(Exit { job: job.id.clone(), status });
        Ok(())
    }
}

/// No frame ever comes: nothing in the sim sends any.
struct NoFrames;

impl Frames for NoFrames {
    fn receive(&self, _: &mut Vec<u8>) -> std::io::Result<Option<()>> {
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(None)
    }

    fn send(&self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

/// A process number that is never given twice.
pub(super) fn process(pid: i32, boot: u64) -> Process {
    Process { pid, started: boot * 1_000_000 + u64::from(pid.unsigned_abs()) }
}
