//! The engine: a state machine without effects. Events and time go in; records to keep and effects to have come out.
//!
//! Its driver (`daemon::driver`, or a test) commits the records of an [`Output`] first and has the effects after, so that
//! whatever happens in the world was written down before. Time and randomness are arguments: a seed replays a run.
//!
//! - `units` moves one unit along its plan.
//! - `services` keeps as many instances of each service as are wanted.
//! - `commands` does what somebody asked for.
//! - `import` takes over jails that somebody else started.
//! - `health` asks instances whether they are well.
//! - `learn` finds out the addresses that a LAN gave.
//! - `serving` has names and leases served on the networks that are up.
//! - `drift` compares what the machine has with what it should have.

mod commands;
mod drift;
mod health;
mod import;
mod learn;
mod live;
mod recovery;
mod services;
mod serving;
mod settled;
mod text;
mod units;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use warren_dhcp::server::LeaseChange;

use super::import::Standing;
use super::journal::Way;
use crate::config::spec::{FabricSpec, InstanceSpec, LinkSpec, ServicePort};
use crate::firewall::Policy;
use crate::host::{Exit, Failure, Inventory, JobState, Lost, Mac, Op, Reply};
use crate::ids::Id;
use crate::store::{Record, Stage, State};

pub use health::Wellness;

/// What the engine is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory that holds the roots of clones.
    pub roots: PathBuf,
    /// The directory that holds the running executable, for `@warren`.
    pub program: PathBuf,
    /// How many operations may be under way at once, at least 1.
    pub jobs: usize,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// Somebody asks for something; the answer bears the token.
    Ask(u64, Command),
    /// An operation ended.
    Done(Ticket, Result<Reply, Failure>),
    /// The keeper told what became of a job in doubt.
    Job(Ticket, JobState),
    /// What exists on the machine, for a round of [`Effect::Observe`].
    Observed(Ticket, Result<Inventory, Failure>),
    /// Jobs that ended and that the keeper still remembers: told after recovery, and for [`Effect::AskEnded`].
    Remembered(Result<Vec<String>, Failure>),
    /// The keeper could not be told to forget a job.
    NotForgotten,
    /// The main process of an instance ended.
    Exited(Exit),
    /// A network is served as [`Effect::Serve`] asked, or why not.
    Served(Id, Result<(), Failure>),
    /// A jail is gone without our doing.
    Lost(Lost),
    /// A DHCP server promises something, or takes note of something.
    Lease {
        /// The network.
        network: Id,
        /// What.
        change: LeaseChange,
        /// Comes back in [`Effect::Acknowledge`], once the lease is on disk.
        token: u64,
    },
    /// A hook's process is about to exec; it waits until this is durable.
    Started {
        /// The operation it belongs to.
        ticket: Ticket,
        /// The job.
        job: String,
        /// Its process.
        process: crate::host::Process,
    },
    /// Time passed.
    Tick,
}

/// Something somebody asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Have this fabric, changing what there is of it.
    Declare(Box<FabricSpec>),
    /// Have nothing of this fabric.
    Drop(String),
    /// Give up what of this fabric is not ready.
    Cancel(String),
    /// Have so many instances of a service.
    Scale {
        /// The fabric.
        fabric: String,
        /// The service.
        service: String,
        /// How many.
        replicas: u32,
    },
    /// Stop one instance; its service is wanted with one replica fewer.
    Stop(Id),
    /// Take over jails that run already, of which all that a start makes was found.
    Import {
        /// The file's jails as a fabric.
        spec: Box<FabricSpec>,
        /// The services whose jails are taken over, with what was found of each.
        found: BTreeMap<String, Standing>,
    },
    /// Run one instance that is not a replica.
    Run {
        /// The fabric whose networks and names it uses.
        fabric: String,
        /// The name it goes by.
        service: String,
        /// What it is.
        spec: Box<InstanceSpec>,
    },
    /// Try again what failed on the way down: of one unit, or of all.
    Repair(Option<Id>),
}

/// Names an operation under way.
pub type Ticket = u64;

/// What is to be had after the records are committed.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Perform an operation; its end comes back as [`Event::Done`].
    Perform(Ticket, Op),
    /// Ask the keeper for a job. Comes back as [`Event::Job`].
    AskJob {
        /// The answer bears it.
        ticket: Ticket,
        /// The job.
        job: String,
        /// Whether the end is waited for, if it runs.
        wait: bool,
    },
    /// List what exists, with the jails of these names. Comes back as [`Event::Observed`].
    Observe(Ticket, Vec<String>),
    /// Let the keeper forget a job. If that fails it comes back as [`Event::NotForgotten`].
    ForgetJob(String),
    /// Ask the keeper for the jobs that ended. Comes back as [`Event::Remembered`].
    AskEnded,
    /// Let a hook that waits exec.
    Release(Ticket),
    /// Answer who asked.
    Answer(u64, Result<Value, Refusal>),
    /// Change the zone.
    Name(NameChange),
    /// Change what the DHCP server of a network gives.
    Reserve {
        /// The network.
        network: Id,
        /// The client.
        mac: Mac,
        /// Its addresses; none: the client is forgotten.
        client: Option<Client>,
    },
    /// Let the DHCP server of a network send the acknowledgement it holds back.
    Acknowledge {
        /// The network.
        network: Id,
        /// What it was held back under.
        token: u64,
    },
    /// Serve DHCP and DNS on a network, what of it is not served yet. Comes back as [`Event::Served`].
    Serve(Id),
    /// Serve it no longer.
    Unserve(Id),
}

/// A client of the DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The name it is given.
    pub hostname: String,
}

/// A change of the zone.
#[derive(Debug, Clone, PartialEq)]
pub enum NameChange {
    /// A fabric's zone appears or changes.
    Zone(String),
    /// It disappears.
    DropZone(String),
    /// An instance's own name appears.
    Publish {
        /// The instance.
        id: Id,
        /// Its fabric.
        fabric: String,
        /// Its service.
        service: String,
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// Its service's named ports.
        ports: Vec<ServicePort>,
    },
    /// It disappears.
    Withdraw(Id),
    /// The instance appears under its service's name, or disappears there.
    Ready(Id, bool),
}

/// A request that was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// `not-found`, `conflict`, `invalid`.
    pub kind: &'static str,
    /// In words.
    pub message: String,
}

impl Refusal {
    fn not_found(message: impl Into<String>) -> Self {
        Self { kind: "not-found", message: message.into() }
    }

    fn conflict(message: impl Into<String>) -> Self {
        Self { kind: "conflict", message: message.into() }
    }
}

/// What came of an event.
#[derive(Debug, Default)]
pub struct Output {
    /// To be committed, in this order, in one transaction.
    pub records: Vec<Record>,
    /// To be committed with them, for `warren events`.
    pub events: Vec<Value>,
    /// Whether the commit must be on disk before the effects.
    pub sync: bool,
    /// To be had after the commit, in this order.
    pub effects: Vec<Effect>,
    /// When the engine wants to be called with [`Event::Tick`] at the latest.
    pub wake: Option<u64>,
}

/// What an operation under way belongs to.
#[derive(Debug, Clone, PartialEq)]
enum Flight {
    /// A step of a unit's plan.
    Step { unit: Id, way: Way, key: String },
    /// Taking back a step in doubt.
    TakeBack { unit: Id, key: String },
    /// Asking the keeper about a step in doubt.
    Ask { unit: Id, way: Way, key: String },
    /// A health check, with its job if it is a command.
    Probe(Id, Option<String>),
    /// A look whether anything runs in the jail.
    Count(Id),
    /// A look at the addresses that the LAN gave on a link.
    Learn(Id, usize),
    /// Opening a link for an address that was learned.
    Open(Id, usize),
    /// Loading a network's policy anew.
    Policy(Id, Box<Policy>),
    /// Ending a hook of a start that was given up.
    Interrupt(Id),
    /// Ending a hook of a start that was given up, which outlived its daemon.
    Orphan { unit: Id, key: String },
    /// Putting right what is not as it should be.
    Repair(drift::Repair),
}

/// Something to be done at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Probe(Id),
    Count(Id),
    Learn(Id),
    Retry(Id),
    Serve(Id),
    Service(String, String),
    Quarantine,
    Leases,
    Look,
    Sweep,
    Interrupt(Id),
    Again(Id),
}

/// The state machine. See the module.
#[derive(Debug)]
pub struct Engine {
    /// The fold of everything emitted so far.
    pub state: State,
    settings: Settings,
    now: u64,
    flights: BTreeMap<Ticket, Flight>,
    last_ticket: Ticket,
    /// Units with a step under way.
    busy: BTreeSet<Id>,
    /// Units that may be able to move.
    movable: VecDeque<Id>,
    /// Units that wait for a place among the operations under way.
    waiting: VecDeque<Id>,
    /// Fabrics whose services may need more or fewer instances.
    unsettled: BTreeSet<String>,
    /// Declarations that have not come true yet, with what each replaces; nothing, for a new fabric. Not stored.
    under_way: BTreeMap<String, Option<Box<FabricSpec>>>,
    /// When each timer goes off: the heap may hold later times of it, too.
    armed: BTreeMap<Timer, u64>,
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    /// Since when instances are ready. Not stored: the next daemon counts from its start.
    ready_since: BTreeMap<Id, u64>,
    wellness: BTreeMap<Id, Wellness>,
    /// The policies as they were last loaded.
    policies: BTreeMap<Id, Policy>,
    policies_stale: bool,
    drift: drift::Drift,
    /// Networks that are not served, and why. Not stored: the next daemon serves anew.
    unserved: BTreeMap<Id, String>,
    /// Whether what earlier daemons left with the keeper was swept.
    swept: bool,
    out: Output,
    random: u64,
}

impl Engine {
    /// An engine that knows `state`; call [`Engine::recover`] before anything else.
    #[must_use]
    pub fn new(state: State, settings: Settings) -> Self {
        Self {
            state,
            settings,
            now: 0,
            flights: BTreeMap::new(),
            last_ticket: 0,
            busy: BTreeSet::new(),
            movable: VecDeque::new(),
            waiting: VecDeque::new(),
            unsettled: BTreeSet::new(),
            under_way: BTreeMap::new(),
            armed: BTreeMap::new(),
            timers: BinaryHeap::new(),
            ready_since: BTreeMap::new(),
            wellness: BTreeMap::new(),
            policies: BTreeMap::new(),
            policies_stale: false,
            drift: drift::Drift::default(),
            unserved: BTreeMap::new(),
            swept: false,
            out: Output::default(),
            random: 0,
        }
    }

    /// Takes an event in. `random` is fresh for every call.
    pub fn handle(&mut self, event: Event, now: u64, random: u64) -> Output {
        self.now = now;
        self.random = random;
        match event {
            Event::Ask(token, command) => {
                let answer = self.command(command);
                // An answer is a promise: it is on disk before it is given.
                self.out.sync = true;
                self.out.effects.push(Effect::Answer(token, answer));
            }
            Event::Done(ticket, result) => self.done(ticket, result),
            Event::Job(ticket, state) => self.job_known(ticket, state),
            Event::Observed(ticket, seen) => self.observed(ticket, seen),
            Event::Remembered(jobs) => self.sweep(jobs),
            Event::NotForgotten => self.sweep_later(),
            Event::Exited(exit) => self.exited(&exit),
            Event::Lost(lost) => self.lost(&lost),
            Event::Served(network, result) => self.served(network, result),
            Event::Lease { network, change, token } => {
                self.leased(network, change);
                self.out.effects.push(Effect::Acknowledge { network, token });
            }
            Event::Started { ticket, job, process } => self.started(ticket, job, process),
            Event::Tick => {}
        }
        self.finish()
    }

    /// Runs until nothing moves, and hands out what came of it.
    fn finish(&mut self) -> Output {
        self.run_timers();
        loop {
            if let Some(id) = self.movable.pop_front() {
                self.advance(id);
            } else if let Some(fabric) = self.unsettled.pop_first() {
                self.settle_fabric(&fabric);
            } else if self.flights.len() < self.settings.jobs
                && let Some(id) = self.waiting.pop_front()
            {
                self.movable.push_back(id);
            } else if self.flights.len() < self.settings.jobs && self.begin_repair() {
                // As many as there is room for.
            } else if self.policies_stale {
                self.policies_stale = false;
                self.refresh_policies();
            } else {
                break;
            }
        }
        let mut out = std::mem::take(&mut self.out);
        out.wake = self.timers.peek().map(|Reverse((at, _))| *at);
        out
    }

    /// The next number of a sequence that begins with the call's random one (splitmix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An id nobody bears.
    fn draw_id(&mut self) -> Id {
        loop {
            let id = Id::from_random(self.draw());
            if self.state.unit(id).is_none() {
                return id;
            }
        }
    }

    /// Notes a fact: it will be committed, and is true from here on.
    fn emit(&mut self, record: Record) {
        self.state.apply(&record);
        self.moved(&record);
        self.out.records.push(record);
    }

    /// Tells those who follow the events.
    fn tell(&mut self, kind: &str, mut what: Value) {
        if let Value::Object(map) = &mut what {
            map.insert("kind".into(), json!(kind));
            // Whoever follows one fabric need not know its units.
            let unit = map.get("unit").and_then(Value::as_str).and_then(|unit| unit.parse().ok());
            if !map.contains_key("fabric")
                && let Some(fabric) = unit.and_then(|unit| self.fabric_of(unit))
            {
                map.insert("fabric".into(), json!(fabric));
            }
        }
        self.out.events.push(what);
    }

    /// Begins an operation.
    fn perform(&mut self, flight: Flight, op: Op) {
        self.last_ticket += 1;
        self.flights.insert(self.last_ticket, flight);
        self.out.effects.push(Effect::Perform(self.last_ticket, op));
    }

    /// How many things wait for their time: it goes by what there is, and not by what there was.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.timers.len()
    }

    /// Has something done at a time. It is done once, at the earliest of the times that were asked for.
    fn timer(&mut self, at: u64, timer: Timer) {
        if self.armed.get(&timer).is_some_and(|armed| *armed <= at) {
            return;
        }
        self.armed.insert(timer.clone(), at);
        self.timers.push(Reverse((at, timer)));
    }

    fn run_timers(&mut self) {
        while let Some(Reverse((at, _))) = self.timers.peek() {
            if *at > self.now {
                break;
            }
            let Some(Reverse((at, timer))) = self.timers.pop() else { break };
            // An earlier one took its place.
            if self.armed.get(&timer) != Some(&at) {
                continue;
            }
            self.armed.remove(&timer);
            match timer {
                Timer::Probe(id) => self.probe(id),
                Timer::Count(id) => self.count(id),
                Timer::Learn(id) => self.learn(id),
                Timer::Retry(id) if self.stage(id) == Some(Stage::Failed) => self.retry(id),
                Timer::Retry(_) => {}
                Timer::Serve(id) => self.serve_again(id),
                Timer::Service(fabric, _) => drop(self.unsettled.insert(fabric)),
                Timer::Quarantine => self.expire_quarantine(),
                Timer::Leases => self.expire_leases(),
                Timer::Look => self.look(),
                Timer::Sweep => self.out.effects.push(Effect::AskEnded),
                Timer::Interrupt(id) => self.interrupt_running(id),
                Timer::Again(id) => self.again(id),
            }
        }
    }

    fn expire_quarantine(&mut self) {
        for change in self.state.ipam.decide_expire(self.now) {
            self.emit(Record::Address { change });
        }
        if let Some(at) = self.state.ipam.next_expiry() {
            self.timer(at.max(self.now + 1000), Timer::Quarantine);
        }
    }

    /// Notes which leases nobody renewed in time. The address stays its instance's: that is its books' to say.
    fn expire_leases(&mut self) {
        let of = |(id, network): (&Id, &crate::store::NetworkUnit)| {
            let due = network.leases.decide_expire(self.now).into_iter();
            due.map(|change| (*id, change)).collect::<Vec<_>>()
        };
        for (network, change) in self.state.networks.iter().flat_map(of).collect::<Vec<_>>() {
            self.emit(Record::Lease { network, change });
        }
        self.await_leases();
    }

    /// Waits for the next lease to end, if any ever does.
    fn await_leases(&mut self) {
        let next = self.state.networks.values().filter_map(|network| network.leases.next_expiry()).min();
        if let Some(at) = next.filter(|at| *at < u64::MAX) {
            self.timer(at.max(self.now + 1000), Timer::Leases);
        }
    }

    /// Whether nothing is under way and nothing waits: for tests and for a daemon that is to end.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.waiting.is_empty()
    }

    /// The stage of a unit.
    fn stage(&self, id: Id) -> Option<Stage> {
        self.state.unit(id).map(|u| u.stage)
    }

    /// The links of an instance as wanted.
    fn links_of(spec: &InstanceSpec) -> &[LinkSpec] {
        &spec.links
    }
}
