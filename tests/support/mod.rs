//! Drives the engine on the sim, one effect at a time: no thread, no clock, no store but a list of records.

#![allow(dead_code)] // Each test file uses its own part.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use serde_json::Value;
use warren::config::spec::*;
use warren::host::sim::Sim;
use warren::host::{Exit, Failure, Host, JobState, Process, Witness};
use warren::lifecycle::engine::{Command, Effect, Engine, Event, NameChange, Output, Refusal, Settings};
use warren::store::{Record, State};

pub struct World {
    pub engine: Engine,
    pub sim: Sim,
    pub now: u64,
    /// What is committed: the store.
    pub log: Vec<Record>,
    pub events: Vec<Value>,
    pub answers: BTreeMap<u64, Result<Value, Refusal>>,
    pub names: Vec<NameChange>,
    queue: VecDeque<Effect>,
    exits: Receiver<Exit>,
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

fn settings() -> Settings {
    Settings { roots: "/roots".into(), program: "/program".into(), jobs: 8 }
}

impl World {
    pub fn new() -> Self {
        Self::on(Sim::new())
    }

    pub fn on(sim: Sim) -> Self {
        let mut world = Self {
            engine: Engine::new(State::default(), settings()),
            exits: sim.exits(),
            sim,
            now: 1_000_000,
            log: Vec::new(),
            events: Vec::new(),
            answers: BTreeMap::new(),
            names: Vec::new(),
            queue: VecDeque::new(),
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
        let ended = self.sim.ended_jobs().unwrap();
        self.handle(Event::Remembered(ended));
    }

    /// The daemon dies: what was not committed, and every effect not yet had, is lost.
    pub fn crash(&mut self) {
        let mut state = State::default();
        let log = compact(&self.log);
        for record in &log {
            state.apply(record);
        }
        self.log = log;
        self.queue.clear();
        self.wake = None;
        self.engine = Engine::new(state, settings());
        self.sim.reattach();
        self.exits = self.sim.exits();
        self.recover();
    }

    pub fn handle(&mut self, event: Event) {
        self.random += 1;
        let out = self.engine.handle(event, self.now, self.random);
        self.take(out);
    }

    fn take(&mut self, out: Output) {
        self.log.extend(out.records);
        self.events.extend(out.events);
        self.queue.extend(out.effects);
        self.wake = out.wake;
    }

    pub fn ask(&mut self, command: Command) -> Result<Value, Refusal> {
        self.token += 1;
        let token = self.token;
        self.handle(Event::Ask(token, command));
        while !self.answers.contains_key(&token) {
            assert!(self.step(), "the question was never answered");
        }
        self.answers.remove(&token).unwrap()
    }

    /// Has one effect, or lets an exit be known. False when there is nothing to do but wait.
    pub fn step(&mut self) -> bool {
        if let Ok(exit) = self.exits.try_recv() {
            self.handle(Event::Exited(exit));
            return true;
        }
        let Some(effect) = self.queue.pop_front() else { return false };
        match effect {
            Effect::Perform(ticket, op) => {
                let started = Started(RefCell::default());
                let result = self.sim.perform(&op, &started);
                for (job, process) in started.0.take() {
                    self.handle(Event::Started { ticket, job, process });
                }
                self.handle(Event::Done(ticket, result));
            }
            Effect::AskJob { ticket, job, wait } => {
                let state = self.sim.job(&job).unwrap();
                assert!(!matches!(state, JobState::Running(_)) || !wait, "{job} runs for ever");
                self.handle(Event::Job(ticket, state));
            }
            Effect::ForgetJob(job) => self.sim.forget_job(&job).unwrap(),
            Effect::Answer(token, answer) => drop(self.answers.insert(token, answer)),
            Effect::Name(change) => self.names.push(change),
            Effect::Release(_)
            | Effect::Acknowledge { .. }
            | Effect::Reserve { .. }
            | Effect::Serve(_)
            | Effect::Unserve(_) => {}
        }
        true
    }

    /// Runs until nothing moves, letting at most `time` pass.
    pub fn settle_within(&mut self, time: Duration) {
        let end = self.now + time.as_millis() as u64;
        loop {
            while self.step() {}
            match self.wake {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.handle(Event::Tick);
                }
                _ => return,
            }
        }
    }

    pub fn settle(&mut self) {
        self.settle_within(Duration::from_secs(5));
    }

    pub fn ready(&self, fabric: &str, service: &str) -> usize {
        self.engine.state.service(fabric, service).map_or(0, |s| s.ready.len())
    }

    /// Nothing of Warren's is left: on the machine, in the store, in the books.
    pub fn assert_nothing_left(&self) {
        assert!(self.sim.machine().is_clean(), "left on the machine: {:#?}", self.sim.machine());
        assert_eq!(self.sim.machine().remembered_jobs(), 0, "jobs the keeper still remembers");
        assert!(self.engine.state.instances.is_empty(), "instances in the store");
        assert!(self.engine.state.networks.is_empty(), "networks in the store");
        assert!(self.engine.state.fabrics.is_empty(), "fabrics in the store");
        assert_eq!(self.engine.state.ipam.networks().count(), 0, "networks in the address books");
        let log = compact(&self.log);
        let other: Vec<_> =
            log.iter().filter(|r| !matches!(r, Record::Boot { .. } | Record::Address { .. })).collect();
        assert!(other.is_empty(), "records left: {other:#?}");
    }
}

/// What the database does to the log: scopes that ended are deleted.
pub fn compact(log: &[Record]) -> Vec<Record> {
    let mut kept: Vec<Record> = Vec::new();
    for record in log {
        if record.ends_scope() || record.begins_scope() {
            let scope = record.scope();
            kept.retain(|r| r.scope() != scope);
        }
        if !record.ends_scope() {
            kept.push(record.clone());
        }
    }
    kept
}

pub fn hook(name: &str) -> Vec<CommandLine> {
    vec![CommandLine::Shell(format!("hook {name}"))]
}

pub fn instance(network: &str) -> InstanceSpec {
    InstanceSpec {
        classic: None,
        template: TemplateSpec { name: "host".into(), source: TemplateSource::Host },
        links: vec![LinkSpec { network: network.into(), address: AddressMode::Auto, vnet: true }],
        command: Some(CommandLine::Argv(vec!["@warren".into(), "beacon".into()])),
        env: BTreeMap::new(),
        mounts: vec![MountSpec {
            fstype: "nullfs".into(),
            source: "/data".into(),
            target: "/data".into(),
            options: vec![],
            read_only: false,
            kind: MountKind::Mount,
        }],
        hooks: Hooks {
            prepare: hook("prepare"),
            prestart: hook("prestart"),
            created: hook("created"),
            start: hook("start"),
            poststart: hook("poststart"),
            prestop: hook("prestop"),
            stop: hook("stop"),
            quiesced: hook("quiesced"),
            poststop: hook("poststop"),
            release: hook("release"),
        },
        params: BTreeMap::new(),
        datasets: vec![],
        hostname: None,
        exec_timeout: None,
        stop_timeout: Duration::from_secs(10),
        drain: Duration::from_secs(1),
        jail_user: None,
        system_jail_user: false,
        system_user: None,
        clean_env: true,
        fib: None,
        consolelog: None,
        persist: false,
        on_stop_failure: OnStopFailure::Continue,
    }
}

pub fn network(name: &str, third: u8) -> NetworkSpec {
    NetworkSpec {
        name: name.into(),
        ipv4: Some(format!("10.77.{third}.0/24").parse().unwrap()),
        ipv6: Some(format!("fd77:{third}::/64").parse().unwrap()),
        gateway4: Some(format!("10.77.{third}.1").parse().unwrap()),
        gateway6: Some(format!("fd77:{third}::1").parse().unwrap()),
        dhcp4: Some(format!("10.77.{third}.2").parse().unwrap()),
        exclude: vec![],
        nat: true,
        mtu: 1500,
        isolated: false,
        peers: vec![],
        uplink: None,
        quarantine: Duration::from_secs(60),
    }
}

pub fn service(name: &str, replicas: u32, depends_on: &[&str]) -> ServiceSpec {
    ServiceSpec {
        name: name.into(),
        replicas,
        depends_on: depends_on.iter().map(|s| (*s).to_owned()).collect(),
        publish: vec![],
        ports: vec![],
        restart: Restart {
            policy: RestartPolicy::OnFailure,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            retries: Some(3),
        },
        health: None,
        instance: instance("net"),
    }
}

pub fn fabric(services: Vec<ServiceSpec>) -> FabricSpec {
    FabricSpec {
        name: "shop".into(),
        domain: "shop.internal".into(),
        forward: vec![],
        templates: BTreeMap::new(),
        networks: [("net".to_owned(), network("net", 1))].into(),
        services: services.into_iter().map(|s| (s.name.clone(), s)).collect(),
    }
}

pub fn shop() -> FabricSpec {
    let mut web = service("web", 2, &["api"]);
    web.publish = vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }];
    fabric(vec![service("db", 1, &[]), service("api", 3, &["db"]), web])
}

pub fn declare(spec: FabricSpec) -> Command {
    Command::Declare(Box::new(spec))
}
