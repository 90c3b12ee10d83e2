//! Random schedules: starts, stops, scales, updates, leases, exits, failures, deaths of the daemon, reboots, power cuts and things
//! done by hand, in any order, with the operations of many units under way at once. All of it from a seed.
//!
//! After every step the invariants hold for what it changed, and every [`WHOLE`] steps for everything; at the end all of it goes and
//! nothing is left. A failing seed prints the line that reproduces it. `WARREN_SEEDS` and `WARREN_STEPS` make longer runs:
//! `WARREN_SEEDS=10000 cargo test --test leaks schedules -- --nocapture`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use warren::config::spec::{AddressMode, FabricSpec, Proto, Publish, RestartPolicy};
use warren::host::sim::{Behaviour, Fault, Sim};
use warren::host::{Op, Status};
use warren::ids::Id;
use warren::lifecycle::engine::{Command, Event};
use warren::store::record::Scope;
use warren::store::{Record, Stage};
use warren_dhcp::server::{ClientKey, Lease, LeaseChange, LeaseState};

use crate::check;
use crate::faults::parallel;
use crate::support::dice::Dice;
use crate::support::{World, declare, fabric, service};

/// Seeds and steps of a run in CI: a million steps.
const SEEDS: u64 = 125;
const STEPS: u64 = 8_000;
/// Beyond them, those that once found a defect.
const FOUND: [u64; 2] = [210, 296];
/// Every so many steps everything is checked.
const WHOLE: u64 = 64;
/// The services.
const SERVICES: [&str; 4] = ["db", "api", "web", "leaf"];

/// What a run did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub steps: u64,
    pub commands: u64,
    pub faults: u64,
    pub deaths: u64,
    pub leases: u64,
    pub by_hand: u64,
    /// The most instances there were at once.
    pub most: usize,
}

/// Who has what, by the records alone: kept beside the state, so that neither can cover for the other.
#[derive(Default)]
struct Ledger {
    owners: BTreeMap<String, Id>,
    plans: BTreeMap<Id, Vec<String>>,
}

impl Ledger {
    /// From a store: after a daemon's death.
    fn of(log: &[Record]) -> Self {
        let mut ledger = Self::default();
        log.iter().for_each(|record| ledger.note(record));
        ledger
    }

    fn note(&mut self, record: &Record) {
        match record {
            Record::Instance { given, .. } => {
                let mut claims = Vec::new();
                for link in &given.links {
                    claims.extend(link.plain_addresses().iter().map(ToString::to_string));
                    claims.push(format!("{} mac {:?}", link.network, link.mac));
                    claims.push(format!("{} link{}", link.network, link.number));
                }
                for claim in &claims {
                    let before = self.owners.insert(claim.clone(), given.id);
                    assert_eq!(before, None, "{claim} was given to {} and has an owner", given.id);
                }
                self.plans.insert(given.id, claims);
            }
            Record::Step { unit, key, mark: warren::lifecycle::journal::Mark::Done(_), .. }
                if key == "release" =>
            {
                self.release(*unit);
            }
            Record::Gone { unit } => self.release(*unit),
            _ => {}
        }
    }

    fn release(&mut self, unit: Id) {
        for claim in self.plans.remove(&unit).unwrap_or_default() {
            self.owners.remove(&claim);
        }
    }

    fn owner(&self, address: std::net::IpAddr) -> Option<Id> {
        self.owners.get(&address.to_string()).copied()
    }
}

fn spec() -> FabricSpec {
    let mut web = service("web", 2, &["api"]);
    web.publish = vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }];
    let mut leaf = service("leaf", 2, &[]);
    leaf.instance.links[0].address = AddressMode::Dhcp;
    let mut fabric = fabric(vec![service("db", 1, &[]), service("api", 3, &["db"]), web, leaf]);
    for service in fabric.services.values_mut() {
        service.restart.policy = RestartPolicy::Always;
        service.restart.retries = None;
    }
    let net = fabric.networks.get_mut("net").unwrap();
    net.ipv4 = Some("10.77.0.0/20".parse().unwrap());
    net.gateway4 = Some("10.77.0.1".parse().unwrap());
    net.dhcp4 = Some("10.77.0.2".parse().unwrap());
    net.quarantine = Duration::from_secs(5);
    fabric
}

/// A hook in thirty-two fails, a main process in thirty-two ends at once; hooks that undo on disk do not fail.
fn behaviour(sim: &Sim, salt: u64) {
    sim.script(move |job| {
        let sum = job.id.bytes().fold(salt, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        match () {
            () if job.id.contains(".hook.release") || job.id.contains(".hook.poststop") => {
                Behaviour::Ends(Status::Exited(0))
            }
            () if job.id.ends_with(".main") && sum % 32 == 0 => Behaviour::Ends(Status::Exited(1)),
            () if job.id.ends_with(".main") => Behaviour::Runs,
            () if job.id.contains(".hook.start.") && sum % 3 == 0 => Behaviour::Leaves(Status::Exited(0)),
            () if sum % 32 == 0 => Behaviour::Ends(Status::Exited(1)),
            () => Behaviour::Ends(Status::Exited(0)),
        }
    });
}

struct Run {
    world: World,
    dice: Dice,
    ledger: Ledger,
    tally: Tally,
    /// The most replicas a service is scaled to.
    most: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let sim = Sim::new();
        behaviour(&sim, seed);
        // One seed in ten is large.
        let (most, jobs) = if seed.is_multiple_of(10) { (120, 64) } else { (12, 8 + seed as usize % 24) };
        let mut world = World::on(sim, jobs);
        world.ask(declare(spec())).unwrap();
        let ledger = Ledger::of(&world.log);
        world.fresh.clear();
        Self { world, dice: Dice::from(seed), ledger, tally: Tally::default(), most }
    }

    /// What the last step changed.
    fn check(&mut self) {
        for op in self.world.sim.take_log() {
            self.check_op(&op);
        }
        let fresh = std::mem::take(&mut self.world.fresh);
        for record in &fresh {
            self.ledger.note(record);
        }
        for record in &fresh {
            if let Scope::Unit(id) | Scope::Learned(id) = record.scope() {
                self.check_unit(id);
            }
        }
        self.world.events.clear();
        self.world.names.clear();
        self.world.answers.clear();
        if self.tally.steps.is_multiple_of(WHOLE) {
            check::always(&self.world);
        }
    }

    /// Nothing is made for nobody, and no table gets an address that is nobody's.
    fn check_op(&self, op: &Op) {
        let state = &self.world.engine.state;
        let known = |id: Option<Id>| {
            assert!(id.is_some_and(|id| state.unit(id).is_some()), "{op:?} is for nobody");
        };
        match op {
            Op::CloneCreate { name, .. } => known(name.parse().ok()),
            Op::JailCreate(jail) => known(Id::of_jail(&jail.name)),
            Op::BridgeCreate { bridge } => known(Id::of_object(bridge)),
            Op::EifaceCreate { node, .. } | Op::LinkConnect { node, .. } => known(Id::of_object(node)),
            Op::TableAdd { addresses, .. } => {
                let owners = addresses.iter().map(|address| self.ledger.owner(*address));
                owners.for_each(known);
            }
            Op::Run(job) | Op::Spawn(job) => {
                known(job.id.split('.').next().and_then(|id| id.parse().ok()));
            }
            _ => {}
        }
    }

    /// The zone, the DHCP servers and the machine say of a unit what the store says.
    fn check_unit(&self, id: Id) {
        let world = &self.world;
        let Some(unit) = world.engine.state.instances.get(&id) else {
            assert!(!world.zone.contains_key(&id), "{id} is gone and has a name");
            return;
        };
        let named = world.zone.get(&id);
        assert_eq!(unit.named, named.is_some(), "{id}'s name");
        assert_eq!(unit.joined, named.is_some_and(|named| named.ready), "{id} under its service's name");
        assert!(unit.assigned || !unit.named && !unit.joined, "{id} has no address, but a name");
        for link in &unit.given.links {
            let client = world.clients.get(&(link.network, link.mac));
            assert_eq!(check::is_reserved(unit), client.is_some(), "{id}'s reservation");
            for address in link.plain_addresses().into_iter().filter(|_| unit.assigned) {
                assert_eq!(self.ledger.owner(address), Some(id), "{address}");
            }
        }
        if unit.unit.stage == Stage::Ready {
            assert!(unit.named && unit.joined && unit.assigned, "{id} is ready, and its names are not");
        }
    }

    /// One step of the scheduler: any of what could happen next.
    fn step(&mut self) {
        self.tally.steps += 1;
        if self.dice.below(48) == 0 {
            self.action();
        } else {
            let (pool, told) = (self.world.pool.len(), self.world.told.len());
            let which = self.dice.below(pool + told + 1);
            if which < pool {
                self.world.begin(which);
            } else if which < pool + told {
                self.world.deliver(which - pool);
            } else if !self.world.exit() && pool + told == 0 {
                let end = self.world.now + 2_000;
                if !self.world.sleep(end) {
                    self.world.now = end;
                }
            }
        }
        self.tally.most = self.tally.most.max(self.world.engine.state.instances.len());
        self.check();
    }

    fn instances(&self, which: impl Fn(&warren::store::InstanceUnit) -> bool) -> Vec<Id> {
        let all = self.world.engine.state.instances.values();
        all.filter(|i| which(i)).map(|i| i.given.id).collect()
    }

    fn died(&mut self) {
        self.tally.deaths += 1;
        self.ledger = Ledger::of(&self.world.log);
        self.world.fresh.clear();
        self.world.sim.fail([]);
        check::always(&self.world);
    }

    fn action(&mut self) {
        self.tally.commands += 1;
        match self.dice.below(32) {
            0..=7 => {
                let service = SERVICES[self.dice.below(SERVICES.len())].to_owned();
                let replicas = self.dice.below(self.most) as u32;
                self.ask(Command::Scale { fabric: "shop".into(), service, replicas });
            }
            8 | 9 => {
                let all = self.instances(|_| true);
                if let Some(id) = self.dice.pick(&all) {
                    self.ask(Command::Stop(id));
                }
            }
            10..=12 => {
                let all = self.instances(|i| i.unit.stage >= Stage::Running && i.unit.stage.is_wanted());
                if let Some(id) = self.dice.pick(&all) {
                    self.world.sim.end(&format!("{id}.main"), Status::Exited(7));
                }
            }
            13..=16 => self.fault(),
            17 => {
                self.world.crash();
                self.died();
            }
            18 if self.dice.below(4) == 0 => {
                self.world.sim.reboot();
                self.world.crash();
                self.died();
            }
            19 if self.dice.below(4) == 0 => {
                let bounds: Vec<usize> =
                    self.world.bounds.iter().copied().filter(|b| *b >= self.world.synced).collect();
                if let Some(kept) = self.dice.pick(&bounds) {
                    self.world.lose_power(kept);
                    self.died();
                }
            }
            20 => self.ask(Command::Repair(None)),
            21 => {
                let mut changed = spec();
                let service = changed.services.get_mut(SERVICES[self.dice.below(4)]).unwrap();
                service.instance.env.insert("N".into(), self.dice.below(9).to_string());
                self.ask(declare(changed));
            }
            22..=26 => self.lease(),
            27 => self.by_hand(),
            28 => self.ask(Command::Scale { fabric: "shop".into(), service: "nobody".into(), replicas: 1 }),
            29 => {
                let spec = Box::new(spec().services["web"].instance.clone());
                self.ask(Command::Run { fabric: "shop".into(), service: "once".into(), spec });
            }
            30 if self.dice.below(8) == 0 => self.ask(Command::Cancel("shop".into())),
            _ => {
                self.world.now += self.dice.below(3_000) as u64;
                self.world.handle(Event::Tick);
            }
        }
    }

    /// Anything may be refused: what it names may just have gone.
    fn ask(&mut self, command: Command) {
        let _ = self.world.ask(command);
        if !self.world.engine.state.fabrics.contains_key("shop") {
            let _ = self.world.ask(declare(spec()));
        }
    }

    fn fault(&mut self) {
        self.tally.faults += 1;
        let at = self.world.sim.performed() + self.dice.below(30);
        let errno = [1, 2, 5, 12, 16, 22, 28, 60][self.dice.below(8)];
        let second = Fault { at: at + self.dice.below(8), errno: 5, after: false };
        let first = Fault { at, errno, after: self.dice.below(2) == 0 };
        self.world.sim.fail(if self.dice.below(3) == 0 { vec![first, second] } else { vec![first] });
    }

    /// A client inside an instance gets, renews, gives back or declines its lease.
    fn lease(&mut self) {
        let all = self.instances(|i| i.assigned && i.given.links[0].dhcp && i.unit.stage >= Stage::Running);
        let Some(id) = self.dice.pick(&all) else { return };
        self.tally.leases += 1;
        let link = self.world.engine.state.instances[&id].given.links[0].clone();
        let Some(std::net::IpAddr::V4(address)) = link.plain_addresses().into_iter().find(|a| a.is_ipv4())
        else {
            return;
        };
        let client = ClientKey { mac: link.mac.into(), client_id: None };
        let now = self.world.now;
        let change = match self.dice.below(20) {
            0 => LeaseChange::Declined { address, client, at: now, until: now + 5_000 },
            1 => LeaseChange::Released { address, at: now },
            _ => LeaseChange::Bound(Lease {
                address,
                client,
                state: LeaseState::Bound,
                since: now,
                expiry: now + 3_600_000,
                last_seen: now,
                client_name: None,
            }),
        };
        self.world.handle(Event::Lease { network: link.network, change, token: self.tally.leases });
    }

    /// Somebody does something to the machine.
    fn by_hand(&mut self) {
        self.tally.by_hand += 1;
        let sim = self.world.sim.clone();
        let jails: Vec<String> = sim.look(|machine| machine.jails.keys().cloned().collect());
        match self.dice.below(4) {
            0 => {
                if !jails.is_empty() {
                    sim.lose_jail(&jails[self.dice.below(jails.len())]);
                }
            }
            1 => sim.tamper(|machine| machine.anchors.clear()),
            2 => sim.tamper(|machine| machine.sockets.clear()),
            _ => sim.tamper(|machine| {
                for anchor in machine.anchors.values_mut() {
                    anchor.tables.values_mut().for_each(std::collections::BTreeSet::clear);
                }
            }),
        }
    }

    /// Everything settles, all that is wanted is there, then it goes and leaves nothing.
    fn end(&mut self) {
        let world = &mut self.world;
        world.sim.fail([]);
        world.settle_within(Duration::from_secs(200));
        for _ in 0..20 {
            if !world.engine.state.instances.values().any(|i| i.unit.stage == Stage::Failed) {
                break;
            }
            world.ask(Command::Repair(None)).unwrap();
            world.settle_within(Duration::from_secs(100));
        }
        check::at_rest(world);
        // It may have been cancelled, and gone.
        let _ = world.ask(Command::Drop("shop".into()));
        world.settle_within(Duration::from_secs(60));
        for _ in 0..20 {
            if world.engine.state.fabrics.is_empty() {
                break;
            }
            world.ask(Command::Repair(None)).unwrap();
            world.settle_within(Duration::from_secs(60));
        }
        world.assert_nothing_left();
    }
}

fn run(seed: u64, steps: u64) -> Tally {
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.step();
    }
    run.end();
    run.tally
}

fn wanted(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn any_schedule_keeps_the_invariants_and_ends_clean() {
    let steps = wanted("WARREN_STEPS").unwrap_or(STEPS);
    let seeds: Vec<u64> = match wanted("WARREN_SEED") {
        Some(seed) => vec![seed],
        None => {
            let seeds = wanted("WARREN_SEEDS").unwrap_or(SEEDS);
            (0..seeds).chain(FOUND.into_iter().filter(|seed| *seed >= seeds)).collect()
        }
    };
    let count = seeds.len();
    let total = Mutex::new(Tally::default());
    parallel(seeds, |seed| {
        let tally = crate::faults::named(
            || format!("WARREN_SEED={seed} WARREN_STEPS={steps} cargo test --test leaks schedules"),
            || run(seed, steps),
        );
        let mut total = total.lock().unwrap();
        total.steps += tally.steps;
        total.commands += tally.commands;
        total.faults += tally.faults;
        total.deaths += tally.deaths;
        total.leases += tally.leases;
        total.by_hand += tally.by_hand;
        total.most = total.most.max(tally.most);
    });
    let total = total.into_inner().unwrap();
    println!("schedules: {count} seeds, {total:?}");
    // One seed alone may be a small one.
    assert!(count < SEEDS as usize || steps < STEPS || total.most >= 200, "{} at once at most", total.most);
}
