//! What somebody else has on the machine, under names like ours or others, is told of where it bears a name of ours and is left
//! alone: at looks, and when all of ours goes down.

use warren::host::Mount;
use warren::host::sim::{Machine, SimAnchor, SimBridge, SimEiface, SimJail};
use warren::ids::Id;
use warren::lifecycle::engine::Command;

use crate::drift::{told, up};
use crate::faults::A_LOOK;

/// What a machine holds, but for the numbers it gave and the jobs its keeper knows.
fn held(machine: Machine) -> Machine {
    let mut held = Machine::default();
    (held.jails, held.clones, held.files) = (machine.jails, machine.clones, machine.files);
    (held.mounts, held.covered, held.datasets) = (machine.mounts, machine.covered, machine.datasets);
    (held.bridges, held.eifaces, held.uplinks) = (machine.bridges, machine.eifaces, machine.uplinks);
    (held.aliases, held.anchors, held.sockets) = (machine.aliases, machine.anchors, machine.sockets);
    held
}

/// What others have on the machine: another Warren, and those who have nothing to do with one.
fn others(other: Id, machine: &mut Machine) {
    let jail =
        SimJail { jid: 99, path: "/x".into(), vnet: false, processes: [7].into(), ..SimJail::default() };
    machine.jails.insert("web".into(), jail.clone());
    machine.jails.insert(other.jail(), jail);
    let ports = [(1, "epair0a".to_owned())].into();
    machine.bridges.insert(other.bridge(), SimBridge::default());
    machine.bridges.insert("bastille0".into(), SimBridge { links: ports, ..SimBridge::default() });
    machine.uplinks.insert("em9".into(), "bastille0".into());
    let eiface = SimEiface {
        mac: [2, 0x66, 0, 0, 0, 9],
        jail: None,
        inside: None,
        addresses: vec!["192.0.2.9/24".parse().unwrap()],
        gateways: vec![],
        up: true,
        guarded: false,
        open: false,
    };
    machine.eifaces.insert(other.node(), SimEiface { mac: [2, 0x66, 0, 0, 0, 8], ..eiface.clone() });
    machine.eifaces.insert("epair0a".into(), eiface);
    machine.aliases.insert(("em0".into(), "192.0.2.1/24".parse().unwrap()));
    let tables = [("svc_one".to_owned(), ["10.77.1.3".parse().unwrap()].into())].into();
    machine.anchors.insert(format!("warren/{other}"), SimAnchor { tables, ..SimAnchor::default() });
    machine.anchors.insert("f2b/ssh".into(), SimAnchor::default());
    machine.clones.insert(other.to_string());
    for root in [format!("/roots/{other}"), "/x".to_owned()] {
        let mount = Mount {
            root: root.clone().into(),
            target: "/data".into(),
            fstype: "nullfs".into(),
            source: "/data".into(),
            options: vec![],
            read_only: false,
            stacked: false,
        };
        machine.mounts.insert(format!("{root}/data").into(), mount);
        machine.files.insert(format!("{root}/etc/hosts").into(), String::new());
    }
    machine.datasets.insert(("pool/data".into(), "web".into()));
    machine.sockets.insert(format!("dns/{other}/udp/10.0.0.1"));
}

#[test]
fn what_is_somebody_elses_is_told_of_and_left_alone() {
    let mut stand = up();
    let (world, other) = (&mut stand.world, Id::from_random(4711));
    world.sim.tamper(|machine| others(other, machine));
    let before = held(world.sim.machine());
    let expected = [
        format!("anchor warren/{other}"),
        format!("clone {other}"),
        format!("jail {}", other.jail()),
        format!("node {}", other.bridge()),
        format!("node {}", other.node()),
    ];
    for _ in 0..4 {
        world.settle_within(A_LOOK);
        assert_eq!(held(world.sim.machine()), before, "something was touched");
        assert_eq!(world.engine.strays().collect::<Vec<_>>(), expected);
        assert_eq!(told(world, "strays").len(), 1, "told once");
    }
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle_within(A_LOOK);
    assert!(world.engine.state.fabrics.is_empty());
    let mut theirs = Machine::default();
    others(other, &mut theirs);
    assert_eq!(held(world.sim.machine()), held(theirs), "what is left is theirs, all of it and nothing else");
}
