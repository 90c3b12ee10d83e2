//! The phases of a fabric's life that are failed and killed at every point, and a fabric that has every kind of step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use warren::config::spec::*;
use warren::host::sim::{Behaviour, Sim};
use warren::host::{Op, Status};
use warren::lifecycle::engine::Command;

use crate::guests;
use crate::support::{World, declare, fabric, service};

/// A fabric with every kind of step: a vnet instance with mounts below one another, a dataset and a health check by HTTP; an
/// instance that shares the host's stack and a root, without a main process, with a check by a command; an uplink.
pub fn everything() -> FabricSpec {
    let health = |probe| Health {
        probe,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 3,
        grace: Duration::from_secs(30),
    };
    let mut one = service("one", 1, &[]);
    one.health = Some(health(Probe::Http { port: 80, path: "/".into() }));
    one.publish = vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }];
    one.instance.datasets = vec!["pool/data".into()];
    let inner =
        MountSpec { target: "/data/inner".into(), source: "/inner".into(), ..one.instance.mounts[0].clone() };
    one.instance.mounts.push(inner);
    let mut two = service("two", 1, &[]);
    two.health = Some(health(Probe::Command { command: CommandLine::Shell("true".into()) }));
    two.instance.template =
        TemplateSpec { name: "shared".into(), source: TemplateSource::Shared { path: "/shared".into() } };
    two.instance.links[0].vnet = false;
    two.instance.command = None;
    let mut fabric = fabric(vec![one, two]);
    for service in fabric.services.values_mut() {
        service.restart.retries = None;
    }
    fabric.networks.get_mut("net").unwrap().uplink = Some("em0".into());
    fabric
}

/// A phase.
pub struct Scenario {
    pub name: &'static str,
    pub prepare: fn(&mut World),
    pub act: fn(&mut World),
    /// What a user does whose request was not answered.
    pub again: fn(&mut World),
    /// How long it may take, two failures included.
    pub patience: Duration,
    /// Whether the fabric is wanted afterwards.
    pub stays: bool,
    /// Instances that are ready afterwards.
    pub wanted: [(&'static str, usize); 2],
}

/// What most of them have in common: two instances that stay, and nobody who asks for anything.
const USUAL: Scenario = Scenario {
    name: "",
    prepare: nothing,
    act: nothing,
    again: nothing,
    patience: Duration::from_secs(8),
    stays: true,
    wanted: [("one", 1), ("two", 1)],
};

fn up(world: &mut World) {
    world.ask(declare(everything())).unwrap();
    world.settle();
    assert_eq!((world.ready("shop", "one"), world.ready("shop", "two")), (1, 1), "{:#?}", world.events);
}

fn start(world: &mut World) {
    let _ = world.request(declare(everything()));
}

fn scale(world: &mut World, replicas: u32) {
    let _ = world.request(Command::Scale { fabric: "shop".into(), service: "one".into(), replicas });
}

fn update(world: &mut World) {
    let mut changed = everything();
    for service in changed.services.values_mut() {
        service.instance.env.insert("NEW".into(), "1".into());
    }
    // The rules of the network are others then, while it stays.
    changed.services.get_mut("one").unwrap().publish[0].port = 8081;
    let _ = world.request(declare(changed));
}

pub fn stop(world: &mut World) {
    if world.engine.state.fabrics.contains_key("shop") {
        let _ = world.request(Command::Drop("shop".into()));
    }
}

/// Somebody takes away by hand what can be put back.
pub fn tamper(world: &World) {
    world.sim.tamper(|machine| {
        machine.anchors.clear();
        machine.aliases.clear();
        machine.sockets.clear();
        let inner = machine.mounts.keys().find(|path| path.ends_with("data/inner")).cloned();
        machine.mounts.remove(&inner.unwrap());
        for eiface in machine.eifaces.values_mut().filter(|e| e.jail.is_some()) {
            (eiface.jail, eiface.inside) = (None, None);
        }
        let gateway = machine.eifaces.keys().find(|name| name.starts_with('g')).cloned().unwrap();
        machine.eifaces.remove(&gateway);
        for bridge in machine.bridges.values_mut() {
            bridge.links.retain(|_, node| *node != gateway);
        }
    });
}

fn half_up(world: &mut World) {
    world.ask(declare(everything())).unwrap();
    for _ in 0..40 {
        world.step();
    }
    world.crash();
}

fn half_down(world: &mut World) {
    up(world);
    world.ask(Command::Drop("shop".into())).unwrap();
    for _ in 0..25 {
        world.step();
    }
    world.crash();
}

pub fn rebooted(world: &mut World) {
    world.sim.reboot();
    world.crash();
}

pub fn nothing(_: &mut World) {}

pub static SCENARIOS: [Scenario; 17] = [
    Scenario { name: "start", act: start, again: start, ..USUAL },
    Scenario {
        name: "scale up",
        prepare: up,
        act: |world| scale(world, 3),
        again: |world| scale(world, 3),
        wanted: [("one", 3), ("two", 1)],
        ..USUAL
    },
    Scenario {
        name: "scale down",
        prepare: |world| {
            up(world);
            scale(world, 2);
            world.settle();
        },
        act: |world| scale(world, 1),
        again: |world| scale(world, 1),
        ..USUAL
    },
    Scenario { name: "update", prepare: up, act: update, again: update, ..USUAL },
    Scenario { name: "stop", prepare: up, act: stop, again: stop, stays: false, ..USUAL },
    Scenario { name: "recovery of a start", prepare: half_up, ..USUAL },
    Scenario { name: "recovery of a stop", prepare: half_down, stays: false, ..USUAL },
    Scenario {
        name: "reboot",
        prepare: |world| {
            up(world);
            rebooted(world);
        },
        ..USUAL
    },
    Scenario {
        name: "drift",
        prepare: |world| {
            up(world);
            tamper(world);
        },
        // The look that sees it, and the one after it.
        patience: Duration::from_secs(65),
        ..USUAL
    },
    guests::START,
    guests::IMPORT,
    guests::SCALE,
    guests::UPDATE,
    guests::STOP,
    guests::STARTING,
    guests::STOPPING,
    guests::REBOOT,
];

/// A world, and the hooks that ran in it.
pub struct Stand {
    pub world: World,
    ran: Arc<Mutex<BTreeMap<(String, String), usize>>>,
    odd: Arc<Mutex<Option<(String, Behaviour)>>>,
}

impl Stand {
    pub fn new() -> Self {
        let sim = Sim::new();
        let ran: Arc<Mutex<BTreeMap<(String, String), usize>>> = Arc::default();
        let odd: Arc<Mutex<Option<(String, Behaviour)>>> = Arc::default();
        let (note, different) = (Arc::clone(&ran), Arc::clone(&odd));
        sim.script(move |job| {
            let mut words = job.id.split('.');
            if let (Some(unit), Some("hook"), Some(hook)) = (words.next(), words.next(), words.next()) {
                *note.lock().unwrap().entry((unit.to_owned(), hook.to_owned())).or_default() += 1;
            }
            match different.lock().unwrap().as_ref() {
                Some((odd, behaviour)) if *odd == job.id => *behaviour,
                _ if job.id.ends_with(".main") => Behaviour::Runs,
                _ if job.id.contains(".hook.start.") => Behaviour::Leaves(Status::Exited(0)),
                _ => Behaviour::Ends(Status::Exited(0)),
            }
        });
        let mut world = World::on(sim, 8);
        world.meanwhile = Some(guests::lease);
        Self { world, ran, odd }
    }

    /// One on which a scenario may begin.
    pub fn prepared(scenario: &Scenario) -> Self {
        let mut stand = Self::new();
        (scenario.prepare)(&mut stand.world);
        stand
    }

    /// Makes one command behave otherwise.
    pub fn behave(&self, job: &str, behaviour: Behaviour) {
        *self.odd.lock().unwrap() = Some((job.to_owned(), behaviour));
    }

    pub fn act(&mut self, scenario: &Scenario) {
        (scenario.act)(&mut self.world);
    }

    /// The jobs among the operations of these numbers.
    pub fn jobs(&self, numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
        let log = self.world.sim.log();
        let job = |at: usize| match log.get(at)? {
            Op::Run(job) => Some(job.id.clone()),
            _ => None,
        };
        numbers.into_iter().filter_map(job).collect()
    }

    /// Each hook ran once, and its partner after it. Only those of these jobs may have run once more for each time they stand
    /// there: they failed, or nobody knows their end; and one of them may be missing if its failure is reported and no more.
    pub fn assert_hooks_ran(&self, excused: &[String]) {
        let ran = self.ran.lock().unwrap();
        let times = |unit: &str, hook: &str| {
            let named = format!("{unit}.hook.{hook}.");
            excused.iter().filter(|job| job.starts_with(&named)).count()
        };
        for ((unit, hook), count) in ran.iter() {
            let most = 1 + times(unit, hook);
            assert!(
                *count <= most,
                "{hook} of {unit} ran {count} times, and not {most}: {excused:?} {ran:#?}"
            );
            // After a reboot there is no jail, and no process, that the other three could be about.
            let rebooted = self.world.rebooted.iter().any(|id| id.as_str() == unit);
            let partner = match hook.as_str() {
                "prepare" => "release",
                "prestart" => "poststop",
                "created" if !rebooted => "quiesced",
                "start" if !rebooted => "stop",
                "poststart" if !rebooted => "prestop",
                _ => continue,
            };
            let reported = matches!(partner, "stop" | "prestop") && times(unit, partner) > 0;
            let there = ran.contains_key(&(unit.clone(), partner.to_owned()));
            assert!(there || reported, "{hook} of {unit} ran without {partner}: {excused:?} {ran:#?}");
        }
    }
}
