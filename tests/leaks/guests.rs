//! A fabric of what the first has not: a jail of a jail.conf, which keeps its name and has addresses on the host's interface, and
//! a guest of a LAN, whose address a client inside gets from a server that is not Warren's.

use std::collections::BTreeMap;
use std::time::Duration;

use warren::config::spec::*;
use warren::host::Op;
use warren::host::sim::Sim;
use warren::lifecycle::engine::Command;
use warren::lifecycle::import::{self, Standing};

use crate::scenario::{Scenario, nothing, rebooted, stop};
use crate::support::commands::by_jail_8;
use crate::support::{World, declare, fabric, network, service};

/// As `old { path = /j/old; persist; ip4.addr = "lo1|10.0.0.1/24"; mount = …; exec.… = …; zfs.dataset = pool/old; }` comes to, in a
/// fabric with a network whose addresses are the LAN's to give.
pub fn guests() -> FabricSpec {
    let mut old = service("old", 1, &[]);
    let spec = &mut old.instance;
    spec.env.clear();
    spec.template =
        TemplateSpec { name: "old".into(), source: TemplateSource::Shared { path: "/j/old".into() } };
    spec.links.clear();
    spec.command = None;
    spec.persist = true;
    spec.datasets = vec!["pool/old".into()];
    spec.params.insert("allow.raw_sockets".into(), ParamValue::Bool(true));
    spec.classic = Some(Classic {
        jail: "old".into(),
        jid: None,
        vnet: false,
        addresses: vec!["10.0.0.1".parse().unwrap()],
        aliases: vec![Alias { interface: "lo1".into(), address: "10.0.0.1/24".parse().unwrap() }],
        interfaces: vec![],
    });
    let mut guest = service("guest", 1, &[]);
    guest.instance.links = vec![LinkSpec { network: "lan".into(), address: AddressMode::Dhcp, vnet: true }];
    let lan = NetworkSpec {
        ipv4: Some("10.88.0.0/16".parse().unwrap()),
        ipv6: None,
        gateway4: None,
        gateway6: None,
        dhcp4: None,
        lan_dhcp: true,
        nat: false,
        uplink: Some("em1".into()),
        ..network("lan", 88)
    };
    let mut fabric = FabricSpec { networks: [("lan".to_owned(), lan)].into(), ..fabric(vec![old, guest]) };
    for service in fabric.services.values_mut() {
        // A jail of a jail.conf is started once; here all that is wanted is to be there in the end.
        service.restart.retries = None;
    }
    fabric
}

/// What the client inside a guest has done by the time somebody looks: its address comes from its MAC, as a LAN's server would
/// give no two clients the same.
pub fn lease(sim: &Sim, op: &Op) {
    let Op::IfAddresses { interface, jail } = op else { return };
    sim.tamper(|machine| {
        let runs = machine.jails.get(jail).is_some_and(|jail| !jail.processes.is_empty());
        let inside = machine
            .eifaces
            .values_mut()
            .find(|eiface| eiface.jail.as_ref() == Some(jail) && eiface.inside.as_ref() == Some(interface));
        if let Some(eiface) = inside.filter(|eiface| runs && eiface.up) {
            let [.., high, low] = eiface.mac;
            eiface.addresses = vec![format!("10.88.{high}.{low}/16").parse().unwrap()];
        }
    });
}

fn up(world: &mut World) {
    world.ask(declare(guests())).unwrap();
    world.settle();
    assert_eq!((world.ready("shop", "old"), world.ready("shop", "guest")), (1, 1), "{:#?}", world.events);
}

fn start(world: &mut World) {
    let _ = world.request(declare(guests()));
}

fn update(world: &mut World) {
    let mut changed = guests();
    for service in changed.services.values_mut() {
        service.instance.hostname = Some("new".into());
    }
    let _ = world.request(declare(changed));
}

fn scale(world: &mut World) {
    let _ = world.request(Command::Scale { fabric: "shop".into(), service: "guest".into(), replicas: 2 });
}

/// The guest is Warren's; the other was started by jail(8).
fn one_by_jail_8(world: &mut World) {
    let mut first = guests();
    first.services.remove("old");
    world.ask(declare(first)).unwrap();
    world.settle();
    by_jail_8(&world.sim, &guests().services["old"]);
}

/// Takes the jail over as the API does. Who is refused asks again; what does not run any more is started; what is Warren's is.
fn take_over(world: &mut World) {
    let spec = guests();
    for _ in 0..3 {
        if world.dead || world.engine.state.service("shop", "old").is_some_and(|s| !s.instances.is_empty()) {
            return;
        }
        let before = world.sim.machine();
        let found = import::look(&world.sim, &spec.services["old"].instance);
        assert_eq!(world.sim.machine(), before, "a look changed something");
        match found {
            Ok(standing) => {
                let spec = Box::new(spec.clone());
                let found = BTreeMap::from([("old".to_owned(), standing)]);
                take(world, spec, found);
            }
            Err(reasons) if reasons.iter().all(import::is_absence) && !injected(&reasons) => {
                return start(world);
            }
            Err(_) => {}
        }
    }
}

fn injected(reasons: &[warren::host::Failure]) -> bool {
    reasons.iter().any(|reason| reason.message.contains("injected"))
}

fn take(world: &mut World, spec: Box<FabricSpec>, found: BTreeMap<String, Standing>) {
    if import::own(&world.sim, &spec.services["old"].instance, &found["old"]).is_ok() {
        let _ = world.request(Command::Import { spec, found });
    }
}

fn half_up(world: &mut World) {
    world.ask(declare(guests())).unwrap();
    for _ in 0..30 {
        world.step();
    }
    world.crash();
}

fn half_down(world: &mut World) {
    up(world);
    world.ask(Command::Drop("shop".into())).unwrap();
    for _ in 0..15 {
        world.step();
    }
    world.crash();
}

/// What they have in common.
const USUAL: Scenario = Scenario {
    name: "",
    prepare: nothing,
    act: nothing,
    again: nothing,
    patience: Duration::from_secs(8),
    stays: true,
    wanted: [("old", 1), ("guest", 1)],
};

pub const START: Scenario = Scenario { name: "guests: start", act: start, again: start, ..USUAL };
pub const IMPORT: Scenario =
    Scenario { name: "guests: import", prepare: one_by_jail_8, act: take_over, again: take_over, ..USUAL };
pub const SCALE: Scenario = Scenario {
    name: "guests: scale up",
    prepare: up,
    act: scale,
    again: scale,
    wanted: [("old", 1), ("guest", 2)],
    ..USUAL
};
pub const UPDATE: Scenario =
    Scenario { name: "guests: update", prepare: up, act: update, again: update, ..USUAL };
pub const STOP: Scenario =
    Scenario { name: "guests: stop", prepare: up, act: stop, again: stop, stays: false, ..USUAL };
pub const STARTING: Scenario = Scenario { name: "guests: recovery of a start", prepare: half_up, ..USUAL };
pub const STOPPING: Scenario =
    Scenario { name: "guests: recovery of a stop", prepare: half_down, stays: false, ..USUAL };
pub const REBOOT: Scenario = Scenario {
    name: "guests: reboot",
    prepare: |world| {
        up(world);
        rebooted(world);
    },
    ..USUAL
};
