//! Ctrl-C at `up`: what was declared before is back, with the instances that are left of it.

use std::net::IpAddr;
use std::time::Duration;

use warren::config::spec::{AddressMode, CommandLine, FabricSpec, Proto, Publish, RestartPolicy};
use warren::host::sim::Behaviour;
use warren::lifecycle::engine::Command;
use warren::store::Stage;

use crate::support::{World, declare, fabric, network, service};

/// Instances whose environment says so never get on.
fn world() -> World {
    let world = World::new();
    world.script(|job| {
        (job.id.contains("hook.start.") && job.env.contains_key("BROKEN")).then_some(Behaviour::Runs)
    });
    world
}

fn broken(spec: &FabricSpec) -> FabricSpec {
    let mut broken = spec.clone();
    broken.services.get_mut("one").unwrap().instance.env.insert("BROKEN".into(), "1".into());
    broken
}

fn declared(world: &mut World, spec: &FabricSpec) {
    world.ask(declare(spec.clone())).unwrap();
    world.settle_within(Duration::from_secs(30));
}

fn cancel(world: &mut World) -> serde_json::Value {
    let answer = world.ask(Command::Cancel("shop".into())).unwrap();
    world.settle_within(Duration::from_secs(60));
    answer
}

#[test]
fn an_update_that_never_gets_on_leaves_those_that_were_there() {
    let mut world = world();
    let spec = fabric(vec![service("one", 3, &[])]);
    declared(&mut world, &spec);
    let before: Vec<_> = world.engine.state.instances.keys().copied().collect();
    declared(&mut world, &broken(&spec));
    assert!(!world.engine.is_settled("shop"));
    assert_eq!(cancel(&mut world)["back"], true);
    assert!(world.engine.is_settled("shop"), "{:#?}", world.engine.state.fabrics);
    assert!(world.engine.state.instances.keys().copied().eq(before));
    assert_eq!(world.engine.state.fabrics["shop"].spec, spec);
    // There is nothing more to be undone.
    assert_eq!(cancel(&mut world)["back"], false);
    assert_eq!(world.ready("shop", "one"), 3);
}

#[test]
fn one_that_had_to_go_first_comes_back() {
    let mut world = world();
    let mut one = service("one", 1, &[]);
    let own: IpAddr = "10.77.1.30".parse().unwrap();
    one.instance.links[0].address = AddressMode::Fixed { addresses: vec![own] };
    let spec = fabric(vec![one]);
    declared(&mut world, &spec);
    declared(&mut world, &broken(&spec));
    // A second attempt is none to go back to.
    let mut worse = broken(&spec);
    worse.services.get_mut("one").unwrap().instance.command = Some(CommandLine::Shell("worse".into()));
    declared(&mut world, &worse);
    assert_eq!(world.ready("shop", "one"), 0);
    assert_eq!(cancel(&mut world)["back"], true);
    assert_eq!(world.engine.state.fabrics["shop"].spec, spec);
    let only = world.engine.state.instances.values().next().unwrap();
    assert_eq!((only.unit.stage, only.given.addresses()[0]), (Stage::Ready, own));
}

#[test]
fn what_cannot_be_gone_back_to_now_can_be_later() {
    let mut world = world();
    let mut published = service("one", 1, &[]);
    published.publish = vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }];
    let spec = fabric(vec![published]);
    declared(&mut world, &spec);
    let mut without = broken(&spec);
    without.services.get_mut("one").unwrap().publish.clear();
    declared(&mut world, &without);
    // Meanwhile another has the port.
    let mut other = FabricSpec { name: "other".into(), domain: "other.internal".into(), ..spec.clone() };
    other.networks = [("net".to_owned(), network("net", 9))].into();
    declared(&mut world, &other);
    let refused = world.ask(Command::Cancel("shop".into())).unwrap_err();
    assert!(refused.message.contains("8080"), "{}", refused.message);
    world.ask(Command::Drop("other".into())).unwrap();
    world.settle_within(Duration::from_secs(30));
    assert_eq!(cancel(&mut world)["back"], true);
    assert_eq!(world.engine.state.fabrics["shop"].spec, spec);
}

#[test]
fn of_a_new_fabric_what_is_ready_stays() {
    let mut world = world();
    let mut two = service("two", 2, &[]);
    two.restart.policy = RestartPolicy::Always;
    let spec = broken(&fabric(vec![service("one", 2, &[]), two]));
    declared(&mut world, &spec);
    assert_eq!(cancel(&mut world)["back"], false);
    assert_eq!((world.ready("shop", "one"), world.ready("shop", "two")), (0, 2));
    assert_eq!(world.engine.state.instances.len(), 2);
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    // Nothing at all is ready.
    declared(&mut world, &broken(&fabric(vec![service("one", 2, &[])])));
    cancel(&mut world);
    world.assert_nothing_left();
}

#[test]
fn what_is_declared_again_is_not_replaced() {
    let mut world = world();
    let spec = fabric(vec![service("one", 3, &[])]);
    declared(&mut world, &spec);
    let before: Vec<_> = world.engine.state.instances.keys().copied().collect();
    declared(&mut world, &broken(&spec));
    declared(&mut world, &spec);
    assert!(world.engine.is_settled("shop"));
    assert!(world.engine.state.instances.keys().copied().eq(before), "they are as they are to be");
}
