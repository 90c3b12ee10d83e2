//! What is declared anew and changes no instance is in force at once.

use std::time::Duration;

use warren::config::spec::{
    AddressMode, CommandLine, FabricSpec, Health, NetworkSpec, Probe, Proto, ServicePort, ServiceSpec,
};
use warren::host::sim::Behaviour;
use warren::host::{Op, Status};
use warren::lifecycle::engine::{Command, NameChange};
use warren::store::Stage;

use crate::support::{World, declare, fabric, service};

pub fn health(command: &str) -> Option<Health> {
    Some(Health {
        probe: Probe::Command { command: CommandLine::Shell(command.into()) },
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 2,
        grace: Duration::from_secs(600),
    })
}

/// One service, whose probes say what their command says.
fn world(first: Option<Health>) -> (World, FabricSpec) {
    let world = World::new();
    world.script(|job| {
        (job.command == CommandLine::Shell("ill".into())).then_some(Behaviour::Ends(Status::Exited(1)))
    });
    let mut one = service("one", 1, &[]);
    one.health = first;
    (world, fabric(vec![one]))
}

fn one(spec: &mut FabricSpec) -> &mut ServiceSpec {
    spec.services.get_mut("one").unwrap()
}

fn net(spec: &mut FabricSpec) -> &mut NetworkSpec {
    spec.networks.get_mut("net").unwrap()
}

fn declared(world: &mut World, spec: &FabricSpec) {
    world.ask(declare(spec.clone())).unwrap();
    world.settle_within(Duration::from_secs(10));
}

fn stage(world: &World) -> Stage {
    world.engine.state.instances.values().next().unwrap().unit.stage
}

#[test]
fn a_health_check_that_never_passes_is_taken_away_and_the_instance_is_ready() {
    let (mut world, mut spec) = world(health("ill"));
    declared(&mut world, &spec);
    let ids: Vec<_> = world.engine.state.instances.keys().copied().collect();
    assert_eq!(stage(&world), Stage::Running);
    one(&mut spec).health = None;
    declared(&mut world, &spec);
    assert_eq!(stage(&world), Stage::Ready);
    // Mended instead of taken away, it is the same; and a new one is asked of a ready instance, too.
    one(&mut spec).health = health("ill");
    declared(&mut world, &spec);
    assert_eq!(stage(&world), Stage::Running, "{:#?}", world.events);
    one(&mut spec).health = health("well");
    declared(&mut world, &spec);
    assert_eq!(stage(&world), Stage::Ready);
    assert!(world.engine.state.instances.keys().copied().eq(ids), "an instance was replaced");
}

#[test]
fn another_interval_does_not_wait_for_the_end_of_the_last() {
    let (mut world, mut spec) = world(health("well"));
    one(&mut spec).health.as_mut().unwrap().interval = Duration::from_secs(3600);
    declared(&mut world, &spec);
    one(&mut spec).health = health("well");
    let asked = |world: &World| {
        world.sim.log().iter().filter(|op| matches!(op, Op::Run(job) if job.id.contains(".probe."))).count()
    };
    let before = asked(&world);
    declared(&mut world, &spec);
    assert!((9..=12).contains(&(asked(&world) - before)), "{} probes in 10 s", asked(&world) - before);
}

#[test]
fn a_health_command_runs_as_the_instances_own_do() {
    let (mut world, mut spec) = world(health("well"));
    one(&mut spec).instance.env.insert("PGPORT".into(), "5433".into());
    one(&mut spec).instance.jail_user = Some("postgres".into());
    one(&mut spec).instance.fib = Some(1);
    declared(&mut world, &spec);
    let jobs = |what: &str| -> Vec<_> {
        let of = |op: &Op| match op {
            Op::Run(job) | Op::Spawn(job) if job.id.contains(what) => {
                Some((job.env.get("PGPORT").cloned(), job.user.clone(), job.fib, job.clean_env))
            }
            _ => None,
        };
        world.sim.log().iter().filter_map(of).collect()
    };
    assert_eq!(jobs(".probe.").first(), jobs(".main").first());
    assert!(jobs(".probe.")[0].0.is_some());
}

#[test]
fn ports_that_change_are_in_the_zone() {
    let (mut world, mut spec) = world(None);
    declared(&mut world, &spec);
    one(&mut spec).ports = vec![ServicePort { name: "http".into(), port: 80, proto: Proto::Tcp }];
    world.names.clear();
    declared(&mut world, &spec);
    let id = *world.engine.state.instances.keys().next().unwrap();
    assert!(
        matches!(&world.names[..], [NameChange::Zone(_), NameChange::Publish { ports, .. }, NameChange::Ready(of, true)]
            if ports == &spec.services["one"].ports && *of == id),
        "{:?}",
        world.names
    );
}

#[test]
fn a_pool_keeps_to_what_is_declared_now() {
    let (mut world, mut spec) = world(None);
    declared(&mut world, &spec);
    let address = |world: &World| world.engine.state.instances.values().next().unwrap().given.addresses()[0];
    let first = address(&world);
    // What somebody holds cannot be another's.
    net(&mut spec).exclude = vec![(first, first)];
    let refused = world.ask(declare(spec.clone())).unwrap_err();
    assert!(refused.message.contains(&format!("holds {first} (excluded)")), "{}", refused.message);
    let others = ["10.77.1.4".parse().unwrap(), "10.77.1.20".parse().unwrap()];
    net(&mut spec).exclude = vec![(others[0], others[1])];
    net(&mut spec).quarantine = Duration::from_secs(7200);
    declared(&mut world, &spec);
    let scale = |world: &mut World, replicas| {
        let (fabric, service) = ("shop".into(), "one".into());
        world.ask(Command::Scale { fabric, service, replicas }).unwrap();
        world.settle_within(Duration::from_secs(600));
    };
    for _ in 0..3 {
        scale(&mut world, 0);
        scale(&mut world, 1);
        let next = address(&world);
        assert!(next != first, "{next} rests for two hours");
        assert!(next < others[0] || next > others[1], "{next} is excluded");
    }
}

#[test]
fn a_fixed_address_is_nobody_elses_and_the_other_family_comes_from_the_pool() {
    let mut world = World::new();
    let mut fixed = service("fixed", 1, &["many"]);
    // The first two that the pool would give.
    let own: Vec<std::net::IpAddr> = vec!["10.77.1.3".parse().unwrap(), "10.77.1.4".parse().unwrap()];
    fixed.instance.links[0].address = AddressMode::Fixed { addresses: own.clone() };
    let spec = fabric(vec![service("many", 3, &[]), fixed]);
    declared(&mut world, &spec);
    assert_eq!((world.ready("shop", "many"), world.ready("shop", "fixed")), (3, 1), "{:#?}", world.events);
    for instance in world.engine.state.instances.values() {
        let addresses = instance.given.addresses();
        assert_eq!(own.contains(&addresses[0]), instance.given.service == "fixed", "{addresses:?}");
        assert!(addresses[1].is_ipv6(), "{addresses:?}");
    }
    // Declared later, they are kept from then on.
    let mut spec = spec;
    let later: std::net::IpAddr = "10.77.1.8".parse().unwrap();
    let mut other = service("other", 1, &[]);
    other.instance.links[0].address = AddressMode::Fixed { addresses: vec![later] };
    other.replicas = 0;
    spec.services.insert("other".into(), other);
    declared(&mut world, &spec);
    let (fabric, service) = ("shop".into(), "many".into());
    world.ask(Command::Scale { fabric, service, replicas: 20 }).unwrap();
    world.settle_within(Duration::from_secs(10));
    assert_eq!(world.ready("shop", "many"), 20);
    assert!(world.engine.state.ipam.owner_of(later).is_none());
}

#[test]
fn a_check_that_could_not_be_asked_says_nothing_of_the_instance() {
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS] {
        let (mut world, mut spec) = world(health("well"));
        declared(&mut world, &spec);
        assert_eq!(stage(&world), Stage::Ready);
        let ids: Vec<_> = world.engine.state.instances.keys().copied().collect();
        let short = move |op: &Op| matches!(op, Op::Run(job) if job.id.contains(".probe.")).then_some(errno);
        world.sim.refuse(short);
        world.settle_within(Duration::from_secs(3600));
        assert_eq!(stage(&world), Stage::Ready, "{errno}: {:#?}", world.events);
        let told = world.events.iter().filter(|e| e["kind"] == "remark").count();
        assert_eq!(told, 1, "{errno}: {:#?}", world.events);
        // Nor is one given up that comes up meanwhile.
        one(&mut spec).replicas = 2;
        declared(&mut world, &spec);
        world.settle_within(Duration::from_secs(3600));
        let stages = |world: &World| -> Vec<_> {
            world.engine.state.instances.values().map(|i| i.unit.stage).collect()
        };
        let mut there = stages(&world);
        there.sort();
        assert_eq!(there, [Stage::Running, Stage::Ready], "{errno}: {:#?}", world.events);
        world.sim.refuse(|_| None);
        world.settle_within(Duration::from_secs(60));
        assert_eq!(stages(&world), [Stage::Ready, Stage::Ready]);
        assert!(ids.iter().all(|id| world.engine.state.instances.contains_key(id)), "one was replaced");
        // An answer that is a bad one counts, as does one that does not come.
        world.script(|job| job.id.contains(".probe.").then_some(Behaviour::Ends(Status::Exited(1))));
        world.settle_within(Duration::from_secs(10));
        assert_eq!(stages(&world), [Stage::Running, Stage::Running]);
    }
}
