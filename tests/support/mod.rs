//! Drives the engine on the sim, one effect at a time: no thread, no clock, no store but a list of records.
//!
//! What the daemon's driver hands to its pool waits in [`World::pool`] until somebody has it begun, and what came of it waits in
//! [`World::told`] until it is delivered, so that a test decides in which order things happen. Everything else is done at once
//! and in order, as in the driver.

#![allow(dead_code)] // Each test file uses its own part.

pub mod commands;
pub mod dice;
pub mod specs;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::Value;
use warren::host::sim::{Behaviour, Sim};
use warren::host::{Exit, Failure, Host, Job, JobState, Lost, Mac, Op, Process, Status, Witness};
use warren::ids::Id;
use warren::lifecycle::engine::{
    Client, Command, Effect, Engine, Event, NameChange, Output, Refusal, Settings,
};
use warren::store::{Record, State};

pub use specs::*;

/// Where a daemon dies, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// In a commit: nothing of it is in the store, and nothing that should follow happens.
    InCommit(usize),
    /// After a commit, before anything that should follow.
    AfterCommit(usize),
    /// Before an effect on the machine.
    Before(usize),
    /// After an effect, before it is told of.
    After(usize),
    /// While the command runs that an effect is: it has begun, which is in the store, and runs on.
    During(usize),
}

impl Death {
    /// The same, counted from what a world has done already.
    pub fn after(self, world: &World) -> Self {
        match self {
            Self::InCommit(n) => Self::InCommit(world.commits + n),
            Self::AfterCommit(n) => Self::AfterCommit(world.commits + n),
            Self::Before(n) => Self::Before(world.effects + n),
            Self::After(n) => Self::After(world.effects + n),
            Self::During(n) => Self::During(world.effects + n),
        }
    }
}

/// What the zone holds of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub service: String,
    pub addresses: Vec<IpAddr>,
    pub ready: bool,
}

pub struct World {
    pub engine: Engine,
    pub sim: Sim,
    pub now: u64,
    /// What is committed: the store.
    pub log: Vec<Record>,
    /// How much of it is on the disk for sure.
    pub synced: usize,
    pub events: Vec<Value>,
    pub answers: BTreeMap<u64, Result<Value, Refusal>>,
    pub names: Vec<NameChange>,
    /// What the daemon's own servers hold: the zone, the DHCP servers' clients, the networks they serve.
    pub zone: BTreeMap<Id, Named>,
    pub clients: BTreeMap<(Id, Mac), Client>,
    pub served: BTreeSet<Id>,
    pub pool: VecDeque<Effect>,
    pub told: VecDeque<Vec<Event>>,
    pub death: Option<Death>,
    pub dead: bool,
    pub commits: usize,
    /// Where commits ended in the log.
    pub bounds: Vec<usize>,
    pub effects: usize,
    /// The hooks that were run: their effect's number, and their job.
    pub hooks: Vec<(usize, String)>,
    /// The effect whose command runs until somebody ends it, or until nothing else is left to be done.
    pub held: Option<usize>,
    /// What happens on the machine by itself before an operation is performed.
    pub meanwhile: Option<fn(&Sim, &Op)>,
    /// Units that were there when the machine went down.
    pub rebooted: BTreeSet<Id>,
    /// How a command ends that outlived its daemon, or that was held.
    pub fate: Status,
    running: Option<(u64, String)>,
    /// Records of the last commit, for those who check what changed.
    pub fresh: Vec<Record>,
    settings: Settings,
    exits: Receiver<Exit>,
    lost: Option<Receiver<Lost>>,
    wake: Option<u64>,
    random: u64,
    token: u64,
}

struct Started(RefCell<Vec<(String, Process)>>);

impl Witness for Started {
    fn started(&self, job: &str, process: Process) -> Result<(), Failure> {
        self.0.borrow_mut().push((job.to_owned(), process));
        Ok(())
    }
}

impl World {
    pub fn new() -> Self {
        Self::on(Sim::new(), 8)
    }

    pub fn on(sim: Sim, jobs: usize) -> Self {
        let settings = Settings { roots: "/roots".into(), program: "/program".into(), jobs };
        let mut world = Self {
            engine: Engine::new(State::default(), settings.clone()),
            exits: sim.exits(),
            lost: sim.lost(),
            sim,
            now: 1_000_000,
            log: Vec::new(),
            synced: 0,
            events: Vec::new(),
            answers: BTreeMap::new(),
            names: Vec::new(),
            zone: BTreeMap::new(),
            clients: BTreeMap::new(),
            served: BTreeSet::new(),
            pool: VecDeque::new(),
            told: VecDeque::new(),
            death: None,
            dead: false,
            commits: 0,
            bounds: Vec::new(),
            effects: 0,
            hooks: Vec::new(),
            held: None,
            meanwhile: None,
            rebooted: BTreeSet::new(),
            fate: Status::Exited(0),
            running: None,
            fresh: Vec::new(),
            settings,
            wake: None,
            random: 7,
            token: 0,
        };
        world.recover();
        world
    }

    fn recover(&mut self) {
        let boot = self.sim.boot_id();
        self.random += 1;
        let out = self.engine.recover(&boot, self.now, self.random);
        self.take(out);
        let ended = self.sim.ended_jobs();
        self.handle(Event::Remembered(ended));
    }

    /// What commands do that do not what they usually do.
    pub fn script(&self, unusual: impl Fn(&Job) -> Option<Behaviour> + Send + 'static) {
        self.sim.script(move |job| unusual(job).unwrap_or_else(|| Behaviour::usual(job)));
    }

    /// A daemon that died is followed by another: what was not committed, and every effect not yet had, is lost.
    pub fn crash(&mut self) {
        let log = compact(&self.log);
        let state = fold(&log);
        let short = shorten(&log, &state);
        // What the database does only to long histories is done to every one, each other time.
        assert_eq!(comparable(&short), comparable(&log), "a history that was made short says something else");
        let (state, log) = if self.random.is_multiple_of(2) { (fold(&short), short) } else { (state, log) };
        self.log = log;
        self.synced = self.log.len();
        self.bounds = vec![self.log.len()];
        self.pool.clear();
        self.told.clear();
        self.running = None;
        self.zone.clear();
        self.clients.clear();
        self.served.clear();
        self.wake = None;
        (self.death, self.dead) = (None, false);
        self.engine = Engine::new(state, self.settings.clone());
        self.sim.reattach();
        self.exits = self.sim.exits();
        self.lost = self.sim.lost();
        self.recover();
    }

    /// The power is cut: of the store the first `kept` records are left, of the machine what is on its disk.
    pub fn lose_power(&mut self, kept: usize) {
        assert!(kept >= self.synced, "what was synced stays");
        self.log.truncate(kept);
        self.sim.reboot();
        self.crash();
    }

    pub fn handle(&mut self, event: Event) {
        if self.dead {
            return;
        }
        self.random += 1;
        let out = self.engine.handle(event, self.now, self.random);
        self.take(out);
    }

    fn take(&mut self, out: Output) {
        if !out.records.is_empty() || !out.events.is_empty() {
            let number = self.commits;
            self.commits += 1;
            if self.death == Some(Death::InCommit(number)) {
                self.dead = true;
                return;
            }
            self.log.extend(out.records.iter().cloned());
            self.rebooted.extend(out.records.iter().filter_map(|record| match record {
                Record::Rebooted { unit } => Some(*unit),
                _ => None,
            }));
            self.fresh.extend(out.records);
            if out.sync {
                self.synced = self.log.len();
                self.bounds.clear();
            }
            self.bounds.push(self.log.len());
            self.events.extend(out.events);
            if self.death == Some(Death::AfterCommit(number)) {
                self.dead = true;
                return;
            }
        }
        self.wake = out.wake;
        for effect in out.effects {
            match effect {
                Effect::Perform(..)
                | Effect::AskJob { .. }
                | Effect::Observe(..)
                | Effect::ForgetJob(_)
                | Effect::AskEnded => {
                    self.pool.push_back(effect);
                }
                Effect::Answer(token, answer) => drop(self.answers.insert(token, answer)),
                Effect::Name(change) => self.name(change),
                Effect::Reserve { network, mac, client: Some(client) } => {
                    self.clients.insert((network, mac), client);
                }
                Effect::Reserve { network, mac, client: None } => {
                    self.clients.remove(&(network, mac));
                }
                Effect::Serve(network) => drop(self.served.insert(network)),
                Effect::Unserve(network) => drop(self.served.remove(&network)),
                Effect::Release(_) | Effect::Acknowledge { .. } => {}
            }
        }
    }

    fn name(&mut self, change: NameChange) {
        match &change {
            NameChange::Publish { id, service, addresses, .. } => {
                let named = Named { service: service.clone(), addresses: addresses.clone(), ready: false };
                self.zone.insert(*id, named);
            }
            NameChange::Withdraw(id) => drop(self.zone.remove(id)),
            NameChange::Ready(id, ready) => {
                self.zone.entry(*id).and_modify(|named| named.ready = *ready);
            }
            NameChange::Zone(_) | NameChange::DropZone(_) => {}
        }
        self.names.push(change);
    }

    /// Asks for something; no answer from a daemon that died over it.
    pub fn request(&mut self, command: Command) -> Option<Result<Value, Refusal>> {
        self.token += 1;
        let token = self.token;
        self.handle(Event::Ask(token, command));
        self.answers.remove(&token)
    }

    pub fn ask(&mut self, command: Command) -> Result<Value, Refusal> {
        self.request(command).expect("the question was never answered")
    }

    /// An exit, or a loss of a jail, that nobody was told of yet.
    pub fn exit(&mut self) -> bool {
        let event = match self.exits.try_recv() {
            Ok(exit) => Some(Event::Exited(exit)),
            Err(_) => self.lost.as_ref().and_then(|lost| lost.try_recv().ok()).map(Event::Lost),
        };
        match event {
            Some(event) if !self.dead => {
                self.handle(event);
                true
            }
            _ => false,
        }
    }

    /// Has the effect at a place in the pool; what came of it is to be delivered.
    pub fn begin(&mut self, at: usize) {
        let Some(effect) = self.pool.remove(at).filter(|_| !self.dead) else { return };
        let number = self.effects;
        self.effects += 1;
        if self.death == Some(Death::Before(number)) {
            self.dead = true;
            return;
        }
        let mut told = Vec::new();
        match effect {
            Effect::Perform(ticket, Op::Run(job))
                if self.death == Some(Death::During(number)) || self.held == Some(number) =>
            {
                self.hooks.push((number, job.id.clone()));
                return self.leave_running(ticket, &job);
            }
            Effect::Perform(ticket, op) => {
                if let Op::Run(job) = &op
                    && job.id.contains(".hook.")
                {
                    self.hooks.push((number, job.id.clone()));
                }
                if let Some(happens) = self.meanwhile {
                    happens(&self.sim, &op);
                }
                let started = Started(RefCell::default());
                let result = self.sim.perform(&op, &started);
                for (job, process) in started.0.take() {
                    told.push(Event::Started { ticket, job, process });
                }
                told.push(Event::Done(ticket, result));
            }
            Effect::AskJob { ticket, job, wait } => {
                // As the driver does: whom the keeper does not answer asks again.
                let ask = || self.sim.job(&job).or_else(|_| self.sim.job(&job));
                if wait && let Ok(JobState::Running(_)) = ask() {
                    self.sim.end(&job, self.fate);
                }
                told.push(match ask() {
                    Ok(state) => Event::Job(ticket, state),
                    Err(failure) => Event::Done(ticket, Err(failure)),
                });
            }
            Effect::Observe(ticket, also) => told.push(Event::Observed(ticket, self.sim.observe(&also))),
            Effect::ForgetJob(job) => {
                if self.sim.forget_job(&job).is_err() {
                    told.push(Event::NotForgotten);
                }
            }
            Effect::AskEnded => told.push(Event::Remembered(self.sim.ended_jobs())),
            other => unreachable!("{other:?} is not for the pool"),
        }
        if self.death == Some(Death::After(number)) {
            self.dead = true;
            return;
        }
        self.told.push_back(told);
    }

    /// Delivers what is at a place of what came of effects.
    pub fn deliver(&mut self, at: usize) {
        for event in self.told.remove(at).unwrap_or_default() {
            self.handle(event);
        }
    }

    /// Has one effect and delivers what came of it, or lets an exit be known. False when there is nothing to do but wait.
    pub fn step(&mut self) -> bool {
        if self.dead {
            return false;
        }
        if self.exit() || self.ended() {
            return true;
        }
        if self.told.is_empty() {
            if self.pool.is_empty() {
                if let Some((_, job)) = &self.running {
                    self.sim.end(job, self.fate);
                }
                return self.ended();
            }
            self.begin(0);
        }
        self.deliver(0);
        true
    }

    /// Lets time pass until the engine wants to be woken, but not beyond `end`. False if it does not want to be.
    pub fn sleep(&mut self, end: u64) -> bool {
        match self.wake {
            Some(at) if at <= end && !self.dead => {
                self.now = self.now.max(at);
                self.handle(Event::Tick);
                true
            }
            _ => false,
        }
    }

    /// Runs until nothing moves, letting at most `time` pass.
    pub fn settle_within(&mut self, time: Duration) {
        self.settle_until(time, |_| false);
    }

    /// Runs until nothing moves or something holds, letting at most `time` pass.
    pub fn settle_until(&mut self, time: Duration, holds: impl Fn(&Self) -> bool) {
        let end = self.now + time.as_millis() as u64;
        while !holds(self) && (self.step() || self.sleep(end)) {}
    }

    pub fn settle(&mut self) {
        self.settle_within(Duration::from_secs(5));
    }

    pub fn ready(&self, fabric: &str, service: &str) -> usize {
        self.engine.state.service(fabric, service).map_or(0, |s| s.ready.len())
    }

    /// Nothing of Warren's is left: on the machine, in the store, in the books, in what its servers hold.
    pub fn assert_nothing_left(&self) {
        let machine = self.sim.machine();
        assert!(machine.is_clean(), "left on the machine: {machine:#?}");
        assert_eq!(
            machine.remembered_jobs(),
            0,
            "jobs the keeper still remembers: {:?}",
            self.sim.ended_jobs()
        );
        assert!(self.engine.state.instances.is_empty(), "instances in the store");
        assert!(self.engine.state.networks.is_empty(), "networks in the store");
        assert!(self.engine.state.fabrics.is_empty(), "fabrics in the store");
        assert_eq!(self.engine.state.ipam.networks().count(), 0, "networks in the address books");
        assert!(self.zone.is_empty(), "names in the zone: {:?}", self.zone);
        assert!(self.clients.is_empty(), "clients of the DHCP servers: {:?}", self.clients);
        assert!(self.served.is_empty(), "networks that are served: {:?}", self.served);
        let log = compact(&self.log);
        let other: Vec<_> =
            log.iter().filter(|r| !matches!(r, Record::Boot { .. } | Record::Address { .. })).collect();
        assert!(other.is_empty(), "records left: {other:#?}");
    }
}

pub fn fold(log: &[Record]) -> State {
    let mut state = State::default();
    log.iter().for_each(|record| state.apply(record));
    state.complete();
    state
}

/// A fold without what only says how many records it was made of.
pub fn comparable(log: &[Record]) -> State {
    let mut state = fold(log);
    state.seq = 0;
    let mut ages: Vec<_> = state.instances.iter().map(|(id, i)| (i.born, *id)).collect();
    ages.sort_unstable();
    for (age, (_, id)) in (0..).zip(ages) {
        state.instances.get_mut(&id).unwrap().born = age;
    }
    state
}

/// What the database does to the log when histories are long: one record stands for all but a unit's first, and one for each
/// thing that the address books say.
pub fn shorten(log: &[Record], state: &State) -> Vec<Record> {
    let addresses = state.ipam.snapshot().into_iter().map(|change| Record::Address { change });
    let units = state.networks.keys().chain(state.instances.keys());
    let kept = log.iter().filter(|r| !r.is_in_snapshot() && !matches!(r, Record::Address { .. })).cloned();
    kept.chain(addresses).chain(units.filter_map(|id| state.snapshot(*id))).collect()
}

/// What the database does to the log: scopes that ended are deleted.
pub fn compact(log: &[Record]) -> Vec<Record> {
    // From the end: what a later record makes superfluous is not kept.
    let mut ended: BTreeSet<String> = BTreeSet::new();
    let mut kept: Vec<Option<Record>> = Vec::new();
    // Where the record goes that takes the place of the oldest, by its scope.
    let mut places: BTreeMap<String, (usize, Record)> = BTreeMap::new();
    for record in log.iter().rev() {
        let scope = record.scope().to_string();
        let whole = scope.split('/').next().unwrap_or_default();
        if let Some((place, _)) = places.get_mut(&scope) {
            *place = kept.len();
            kept.push(None);
        }
        if ended.contains(&scope) || ended.contains(whole) {
            continue;
        }
        if record.takes_place() {
            places.insert(scope.clone(), (kept.len(), record.clone()));
            kept.push(None);
        } else if !record.ends_scope() {
            kept.push(Some(record.clone()));
        }
        if record.ends_scope() || record.begins_scope() {
            ended.insert(scope);
        }
    }
    for (place, record) in places.into_values() {
        kept[place] = Some(record);
    }
    kept.reverse();
    kept.into_iter().flatten().collect()
}
