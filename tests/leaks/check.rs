//! The invariants: what must hold at every step of any schedule, and what must hold at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use warren::config::spec::NetworkSpec;
use warren::fabric::{self, Neighbour};
use warren::firewall::Policy;
use warren::host::Op;
use warren::host::sim::Machine;
use warren::ids::Id;
use warren::lifecycle::journal::{Mark, Way};
use warren::lifecycle::plan::service_table;
use warren::lifecycle::step::Act;
use warren::store::state::Unit;
use warren::store::{InstanceUnit, NetworkUnit, Stage, State};

use crate::stands;
use crate::support::World;

/// Everything that must hold between any two steps.
pub fn always(world: &World) {
    owners(world);
    names(world);
    world.sim.look(|machine| {
        nothing_belongs_to_nobody(world, machine);
        members(world, machine);
    });
}

/// One owner for each address, MAC, link and interface; the address books say the same.
fn owners(world: &World) {
    let state = &world.engine.state;
    let (mut addresses, mut macs, mut links) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for unit in state.instances.values().filter(|i| i.assigned) {
        let id = unit.given.id;
        for link in &unit.given.links {
            for address in link.plain_addresses() {
                assert_eq!(addresses.insert(address, id), None, "{address} has two owners");
                let owner = state.ipam.owner_of(address);
                // One in conflict was taken from its owner.
                let owned = owner.is_none_or(|owner| owner.as_str() == id.as_str());
                assert!(owned, "{address} is {id}'s, and the books say {owner:?}");
            }
            assert_eq!(macs.insert((link.network, link.mac), id), None, "{:?} has two owners", link.mac);
            let number = (link.network, link.number);
            assert_eq!(links.insert(number, id), None, "link{} has two owners", link.number);
        }
    }
}

/// Whether the DHCP server knows an instance: while it holds its addresses, but not after a reboot, when nobody asks for them.
pub fn is_reserved(unit: &InstanceUnit) -> bool {
    unit.assigned && !unit.unit.journal.is_rebooted()
}

/// Names in DNS, clients of DHCP and the store agree.
fn names(world: &World) {
    let state = &world.engine.state;
    for (id, named) in &world.zone {
        let unit = state.instances.get(id).unwrap_or_else(|| panic!("{id} has a name and is not there"));
        assert!(unit.named && unit.assigned, "{id} is in the zone, and not named in the store");
        assert_eq!(named.addresses, unit.given.addresses(), "{id}'s addresses in the zone");
        assert_eq!(named.ready, unit.joined, "{id} under its service's name");
    }
    let mut clients = 0;
    for unit in state.instances.values() {
        let id = unit.given.id;
        assert_eq!(unit.named, world.zone.contains_key(&id), "{id}'s name in the store and in the zone");
        if unit.unit.stage == Stage::Ready {
            assert!(unit.named && unit.joined && unit.assigned, "{id} is ready, and its names are not");
        }
        for link in unit.given.links.iter().filter(|_| is_reserved(unit)) {
            clients += 1;
            let client = world.clients.get(&(link.network, link.mac));
            assert_eq!(client.map(|c| &c.addresses), Some(&link.plain_addresses()), "{id}'s reservation");
        }
    }
    assert_eq!(clients, world.clients.len(), "clients of DHCP servers that are nobody's");
    for network in &world.served {
        assert!(state.networks.contains_key(network), "{network} is served and not there");
    }
}

/// Every object on the machine belongs to a unit of the store.
fn nothing_belongs_to_nobody(world: &World, machine: &Machine) {
    let state = &world.engine.state;
    let known = |id: Option<Id>, object: &str| {
        let there = id.is_some_and(|id| state.unit(id).is_some());
        assert!(there, "{object} belongs to nobody");
    };
    // One that bears no name of Warren's may be anybody's; that none of ours is left is seen at the end.
    for name in machine.jails.keys().filter(|name| Id::of_jail(name).is_some()) {
        known(Id::of_jail(name), name);
    }
    for name in machine.clones.iter() {
        known(name.parse().ok(), name);
    }
    for name in machine.eifaces.keys().chain(machine.bridges.keys()) {
        known(Id::of_object(name), name);
    }
    for name in machine.anchors.keys() {
        known(name.strip_prefix("warren/").and_then(|id| id.parse().ok()), name);
    }
    for mount in machine.mounts.values().filter(|mount| mount.root.starts_with("/roots")) {
        let name = mount.root.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        known(name.parse().ok(), name);
    }
    let mut macs = BTreeMap::new();
    for (name, eiface) in &machine.eifaces {
        let before = macs.insert(eiface.mac, name);
        assert_eq!(before, None, "{name} has another's MAC");
    }
}

/// Whether the addresses of an instance may be in the table of its service: its joining began and was not taken back whole.
fn may_be_member(unit: &InstanceUnit, link: usize) -> bool {
    let journal = &unit.unit.journal;
    let began = journal.get(Way::Join, &format!("publish.{link}")).is_some();
    let back = matches!(journal.get(Way::Leave, &format!("un.publish.{link}")), Some(Mark::Done(_)));
    began && !back
}

/// Whoever is in a table of an anchor is a member of the service.
fn members(world: &World, machine: &Machine) {
    let state = &world.engine.state;
    let mut allowed: BTreeMap<(&str, String, IpAddr), Id> = BTreeMap::new();
    for unit in state.instances.values() {
        for (_, link) in unit.given.links.iter().enumerate().filter(|(n, _)| may_be_member(unit, *n)) {
            for address in link.plain_addresses() {
                let table = service_table(&unit.given.service);
                allowed.insert((link.anchor.as_str(), table, address), unit.given.id);
            }
        }
    }
    for (anchor, loaded) in &machine.anchors {
        for (table, members) in &loaded.tables {
            for address in members {
                let there = allowed.contains_key(&(anchor.as_str(), table.clone(), *address));
                assert!(there, "{address} is in {table} of {anchor}, and no member of the service");
            }
        }
    }
}

/// At rest the machine holds all that the steps of what is ready made, as they made it, and nothing ended unseen.
pub fn at_rest(world: &World) {
    always(world);
    let state = &world.engine.state;
    world.sim.look(|machine| {
        let running = machine.inventory().jobs;
        for (id, unit) in state.instances.iter().filter(|(_, i)| i.unit.stage == Stage::Ready) {
            made(*id, &unit.unit, machine, &running);
            // By what it was given and not by its plan: either could be wrong.
            for link in &unit.given.links {
                let anchor = machine.anchors.get(&link.anchor);
                let table = service_table(&unit.given.service);
                let members = anchor.and_then(|anchor| anchor.tables.get(&table));
                // A one-off is no service's.
                for address in link.plain_addresses().into_iter().filter(|_| unit.revision.is_some()) {
                    let there = members.is_some_and(|members| members.contains(&address));
                    assert!(there, "{address} of {id} is ready and not in {table}");
                }
            }
        }
        for (id, unit) in state.networks.iter().filter(|(_, n)| n.unit.stage == Stage::Ready) {
            made(*id, &unit.unit, machine, &running);
            assert!(world.served.contains(id), "{id} is ready and not served");
            let anchor = &machine.anchors[&unit.given.anchor()];
            assert_eq!(anchor.policy, Some(policy(state, unit)), "the rules of {id}");
        }
    });
}

/// Every step of a start and of joining was done, and what it made is there.
fn made(id: Id, unit: &Unit, machine: &Machine, running: &BTreeSet<String>) {
    for step in unit.plan.up.iter().chain(&unit.plan.join) {
        assert!(unit.journal.reply(&step.key).is_some(), "{id} is ready, and {} is not done", step.key);
        let there = match &step.act {
            // That the rules are those of now is compared by itself: the step has those of its start.
            Act::Host(Op::AnchorLoad(_)) | Act::Book(_) => true,
            Act::Host(Op::Spawn(job)) => running.contains(&job.id),
            Act::Host(op) => stands::whole(machine, op),
        };
        assert!(there, "{id} is ready, and what {} made is not there: {:#?}", step.key, step.act);
    }
}

/// What the packet filter is to do for a network by what is declared and what other networks there are.
fn policy(state: &State, network: &NetworkUnit) -> Policy {
    let declared = |network: &NetworkUnit| {
        let fabric = &state.fabrics[&network.given.fabric].spec;
        fabric.networks.get(&network.spec.name).unwrap_or(&network.spec).clone()
    };
    let others: Vec<(&str, NetworkSpec)> = (state.networks.values())
        .filter(|other| other.unit.stage.is_wanted())
        .map(|other| (other.given.fabric.as_str(), declared(other)))
        .collect();
    let others = others.iter().map(|(fabric, spec)| Neighbour { fabric, spec });
    let fabric = &state.fabrics[&network.given.fabric].spec;
    fabric::policy(fabric, &declared(network), &network.given, others)
}
