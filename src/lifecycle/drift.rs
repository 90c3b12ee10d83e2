//! What a plan made and the machine no longer has: a pure comparison of steps that stand with what was seen.
//!
//! Only what [`Inventory`] lists can be missed: a program that was changed inside a filter, or a route, cannot. What is missed
//! is either put back by doing a few steps again ([`Missing::again`]), or it is more than that, and the unit is lost: it goes
//! down the one way there is, and what is wanted starts anew.

use std::path::PathBuf;

use super::journal::Journal;
use super::step::{Act, Plan};
use crate::host::{Inventory, Op, Reply, graph};

/// Something that should be there and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The step that made it.
    pub key: String,
    /// What it is, for people.
    pub object: String,
    /// The steps that put it back, in their order; none: the unit cannot go on without it.
    pub again: Vec<String>,
}

/// What a unit misses. `joined` says whether its steps of joining stand as well.
#[must_use]
pub fn missing(plan: &Plan, journal: &Journal, joined: bool, seen: &Inventory) -> Vec<Missing> {
    let steps = plan.up.iter().chain(plan.join.iter().filter(|_| joined));
    let stand = steps.filter(|step| journal.reply(&step.key).is_some());
    stand
        .filter_map(|step| match &step.act {
            Act::Host(op) => {
                let object = match (op, journal.reply(&step.key)) {
                    // Those that were there before are not ours to put back.
                    (Op::AliasAdd { interface, .. }, Some(Reply::Aliases { added })) => {
                        absent(&Op::AliasAdd { interface: interface.clone(), addresses: added.clone() }, seen)
                    }
                    (op, _) => absent(op, seen),
                }?;
                Some(Missing { key: step.key.clone(), object, again: again(plan, &step.key, op) })
            }
            Act::Book(_) => None,
        })
        .collect()
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
            unless(seen.nodes.contains_key(&filter), format!("the filter {filter}"))
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
            unless(seen.anchors.contains_key(&policy.anchor), format!("the anchor {}", policy.anchor))
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

/// The steps that put back what a step made. None where others stand on it: a jail, its root, its interface, a bridge.
fn again(plan: &Plan, key: &str, op: &Op) -> Vec<String> {
    let number = key.split_once('.').map(|(_, number)| number);
    let wanted: Vec<String> = match (op, number) {
        (
            Op::Mount(_) | Op::AliasAdd { .. } | Op::AnchorLoad(_) | Op::TableAdd { .. } | Op::Listen { .. },
            _,
        ) => vec![key.to_owned()],
        (Op::IfMoveIn { .. }, Some(n)) => vec![key.to_owned(), format!("configure.{n}")],
        (Op::LinkConnect { .. }, Some(n)) => vec![key.to_owned(), format!("open.{n}")],
        // The gateway of a network, which nothing stands on but addresses.
        (Op::EifaceCreate { .. }, None) => {
            ["eiface", "link", "configure", "open"].map(str::to_owned).to_vec()
        }
        _ => Vec::new(),
    };
    wanted.into_iter().filter(|key| plan.up.iter().chain(&plan.join).any(|step| step.key == *key)).collect()
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
