//! What a plan made and the machine no longer has: a pure comparison of steps that stand with what was seen.
//!
//! Only what [`Inventory`] lists can be missed: a program that was changed inside a filter cannot. What is missed is either put
//! back by doing a few steps again, or it is more than that, and the unit is lost: it goes down the one way there is, and what is
//! wanted starts anew ([`Cure`]). Of those steps one makes what no look sees: it stands as begun in the journal until it was done
//! again ([`unseen`]), so that it is not forgotten when it fails or the daemon dies before it.

use std::net::IpAddr;
use std::path::PathBuf;

use super::journal::{Journal, Mark, Way};
use super::step::{Act, Plan};
use crate::host::{Inventory, Op, Reply, SeenInterface, graph};

/// What is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cure {
    /// These steps are done again, in this order.
    Again(Vec<String>),
    /// Nothing but a word: it is not for Warren to change while the unit runs.
    Word,
    /// The unit cannot go on without it.
    None,
}

/// Something that should be there, or otherwise, and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The step that made it.
    pub key: String,
    /// What it is, for people.
    pub object: String,
    /// What is done about it.
    pub cure: Cure,
}

/// What a unit misses. `joined` says whether its steps of joining stand as well.
#[must_use]
pub fn missing(plan: &Plan, journal: &Journal, joined: bool, seen: &Inventory) -> Vec<Missing> {
    let shut = (plan.up.iter())
        .filter(|step| journal.get(Way::Up, &step.key) == Some(&Mark::Began))
        .filter_map(|step| match &step.act {
            Act::Host(Op::LinkOpen { node, .. }) => Some(Missing {
                key: step.key.clone(),
                object: format!("the link of {node}, which was not opened again,"),
                cure: Cure::Again(vec![step.key.clone()]),
            }),
            _ => None,
        });
    let steps = plan.up.iter().chain(plan.join.iter().filter(|_| joined));
    let stand = steps.filter(|step| journal.reply(&step.key).is_some());
    stand
        .filter_map(|step| match &step.act {
            Act::Host(op) => {
                let missing = |object, cure| Some(Missing { key: step.key.clone(), object, cure });
                if let Some(object) = changed(op, seen) {
                    return missing(object, Cure::Word);
                }
                let object = match (op, journal.reply(&step.key)) {
                    // Those that were there before are not ours to put back.
                    (Op::AliasAdd { interface, .. }, Some(Reply::Aliases { added })) => {
                        absent(&Op::AliasAdd { interface: interface.clone(), addresses: added.clone() }, seen)
                    }
                    (Op::IfConfigure { interface, jail, addresses, routes, .. }, _) => {
                        let home = at_home(plan, interface, jail.as_deref());
                        let there = seen.interfaces.get(home).is_some_and(|at| at == jail);
                        // One that is elsewhere, or nowhere, is missed by its own step.
                        let set = seen.settings.get(home).filter(|_| there);
                        set.and_then(|set| unset(home, set, addresses.iter().map(ipnet::IpNet::addr), routes))
                    }
                    (op, _) => absent(op, seen),
                }?;
                missing(object, cure(plan, &step.key, op))
            }
            Act::Book(_) => None,
        })
        .chain(shut)
        .collect()
}

/// What of an interface is not as it was set.
fn unset(
    name: &str,
    set: &SeenInterface,
    mut addresses: impl Iterator<Item = IpAddr>,
    routes: &[IpAddr],
) -> Option<String> {
    if !set.up {
        return Some(format!("the interface {name}, which is down,"));
    }
    if let Some(gone) = addresses.find(|address| !set.addresses.contains(address)) {
        return Some(format!("the address {gone} of {name}"));
    }
    let gateways = set.gateways.as_ref()?;
    let gone = routes.iter().find(|gateway| !gateways.contains(gateway))?;
    Some(format!("the default route of {name} by {gone}"))
}

/// The name at home of an interface that is called otherwise in a jail.
fn at_home<'a>(plan: &'a Plan, inside: &'a str, jail: Option<&str>) -> &'a str {
    let moved = plan.up.iter().find_map(|step| match &step.act {
        Act::Host(Op::IfMoveIn { interface, jail: into, inside: name }) => {
            (Some(into.as_str()) == jail && name == inside).then_some(interface.as_str())
        }
        _ => None,
    });
    moved.unwrap_or(inside)
}

/// What is there of an operation's object, but another than was made, if that is not for Warren to change.
fn changed(op: &Op, seen: &Inventory) -> Option<String> {
    match op {
        // The filter at its link takes nothing from another MAC, so it harms nobody but its own jail, whose root may do this.
        Op::EifaceCreate { node, mac, .. } => {
            let other = seen.settings.get(node)?.mac.filter(|seen| seen != mac)?;
            let hex = |mac: &crate::host::Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
            Some(format!("the MAC of {node}, which is {} and was made {},", hex(&other), hex(mac)))
        }
        // Somebody put another one in its place or over it, and that is not ours to take away.
        Op::Mount(mount) => {
            let point = mount.root.join(mount.target.strip_prefix("/").unwrap_or(&mount.target));
            let kind = seen.mounts.get(&point).filter(|kind| **kind != mount.fstype)?;
            Some(format!("the mount {}, which is of type {kind} and not {},", point.display(), mount.fstype))
        }
        _ => None,
    }
}

/// The object of an operation, if it is not there.
fn absent(op: &Op, seen: &Inventory) -> Option<String> {
    let unless = |there: bool, object: String| (!there).then_some(object);
    match op {
        Op::CloneCreate { name, .. } => unless(seen.clones.contains(name), format!("the clone {name}")),
        Op::Mount(mount) => {
            let point: PathBuf = mount.root.join(mount.target.strip_prefix("/").unwrap_or(&mount.target));
            // Mounts of a root that is not a clone are not listed.
            let listed = seen.clones.iter().any(|clone| mount.root.ends_with(clone));
            unless(!listed || seen.mounts.contains_key(&point), format!("the mount {}", point.display()))
        }
        Op::JailCreate(jail) => {
            unless(seen.jails.contains_key(&jail.name), format!("the jail {}", jail.name))
        }
        Op::BridgeCreate { bridge } => {
            unless(seen.nodes.contains_key(bridge), format!("the bridge {bridge}"))
        }
        Op::EifaceCreate { node, .. } => unless(
            seen.nodes.contains_key(node) && seen.interfaces.contains_key(node),
            format!("the interface {node}"),
        ),
        Op::LinkConnect { node, guarded: true, .. } => {
            let filter = graph::filter_of(node);
            let whole = seen.nodes.contains_key(&filter) && !seen.loose.contains(&filter);
            unless(whole, format!("the filter {filter} at its link"))
        }
        Op::LinkConnect { node, bridge, .. } => {
            unless(!seen.loose.contains(node), format!("the link of {node} to {bridge}"))
        }
        // One that is nowhere is missed already as an eiface.
        Op::IfMoveIn { interface, jail, .. } => unless(
            seen.interfaces.get(interface).is_none_or(|at| at.as_ref() == Some(jail)),
            format!("the interface {interface} in {jail}"),
        ),
        Op::AliasAdd { interface, addresses } => {
            // Those of interfaces that are not ours are not listed.
            let mut addresses = addresses.iter().filter(|_| seen.interfaces.contains_key(interface));
            let gone = addresses.find(|a| !seen.aliases.contains(&(interface.clone(), **a)))?;
            Some(format!("the alias {gone} on {interface}"))
        }
        Op::AnchorLoad(policy) => {
            let whole = seen.anchors.contains_key(&policy.anchor) && !seen.edited.contains(&policy.anchor);
            unless(whole, format!("the anchor {}", policy.anchor))
        }
        Op::TableAdd { anchor, tables, addresses } => {
            let holds = |table: &String| {
                let members = seen.anchors.get(anchor).and_then(|tables| tables.get(table));
                members.is_some_and(|members| addresses.iter().all(|a| members.contains(a)))
            };
            let table = tables.iter().find(|table| !holds(table))?;
            Some(format!("its addresses in the table {table} of {anchor}"))
        }
        Op::Listen { name, .. } => unless(seen.sockets.contains(name), format!("the socket {name}")),
        _ => None,
    }
}

/// What is done about what a step made. Nothing where others stand on it: a jail, its root, its interface, a bridge.
fn cure(plan: &Plan, key: &str, op: &Op) -> Cure {
    let number = key.split_once('.').map(|(_, number)| number);
    let wanted: Vec<String> = match (op, number) {
        (
            Op::Mount(_)
            | Op::AliasAdd { .. }
            | Op::AnchorLoad(_)
            | Op::TableAdd { .. }
            | Op::Listen { .. }
            | Op::IfConfigure { .. },
            _,
        ) => vec![key.to_owned()],
        (Op::IfMoveIn { .. }, Some(n)) => vec![key.to_owned(), format!("configure.{n}")],
        (Op::LinkConnect { .. }, Some(n)) => vec![key.to_owned(), format!("open.{n}")],
        (Op::LinkConnect { .. }, None) => ["link", "open"].map(str::to_owned).to_vec(),
        // The gateway of a network, which nothing stands on but addresses.
        (Op::EifaceCreate { .. }, None) => {
            ["eiface", "link", "configure", "open"].map(str::to_owned).to_vec()
        }
        _ => return Cure::None,
    };
    let there = |key: &String| plan.up.iter().chain(&plan.join).any(|step| step.key == *key);
    Cure::Again(wanted.into_iter().filter(there).collect())
}

/// Those of these steps whose work no look sees.
#[must_use]
pub fn unseen(plan: &Plan, keys: &[String]) -> Vec<String> {
    let opens = |key: &&String| {
        let step = plan.up.iter().find(|step| step.key == **key);
        step.is_some_and(|step| matches!(step.act, Act::Host(Op::LinkOpen { .. })))
    };
    keys.iter().filter(opens).cloned().collect()
}

/// The operations of a step that is done again. What makes a node is taken back first: half of it may be there.
#[must_use]
pub fn redo(plan: &Plan, key: &str) -> Vec<Op> {
    let step = plan.up.iter().chain(&plan.join).find(|step| step.key == key);
    let Some(Act::Host(op)) = step.map(|step| &step.act) else { return Vec::new() };
    let first = match op {
        Op::EifaceCreate { .. } | Op::LinkConnect { .. } => op.undo(),
        _ => None,
    };
    first.into_iter().chain([op.clone()]).collect()
}
