//! Whether what an operation makes is on the machine: any of it, or all of it and as it was made.

use warren::host::sim::{Machine, SimEiface};
use warren::host::{Mount, Op};

/// Whether anything of the object is there.
pub fn any(machine: &Machine, op: &Op) -> bool {
    match op {
        Op::Mount(mount) => is_mounted(machine, mount),
        Op::JailCreate(jail) => machine.jails.contains_key(&jail.name),
        Op::UplinkAttach { interface, .. } => machine.uplinks.contains_key(interface),
        Op::EifaceCreate { node, .. } => machine.eifaces.contains_key(node),
        Op::LinkConnect { node, bridge, link, .. } => is_linked(machine, node, bridge, *link),
        Op::IfMoveIn { interface, .. } => machine.eifaces.get(interface).is_some_and(|e| e.jail.is_some()),
        Op::AliasAdd { interface, addresses } => {
            addresses.iter().any(|a| machine.aliases.contains(&(interface.clone(), *a)))
        }
        Op::AnchorLoad(policy) => machine.anchors.contains_key(&policy.anchor),
        Op::TableAdd { anchor, tables, addresses } => machine.anchors.get(anchor).is_some_and(|anchor| {
            let members = tables.iter().filter_map(|table| anchor.tables.get(table));
            members.flatten().any(|member| addresses.contains(member))
        }),
        Op::CloneCreate { .. } | Op::DatasetJail { .. } | Op::BridgeCreate { .. } | Op::Listen { .. } => {
            whole(machine, op)
        }
        _ => false,
    }
}

/// Whether all of it is there, as it was made; true of what makes nothing.
pub fn whole(machine: &Machine, op: &Op) -> bool {
    match op {
        Op::CloneCreate { name, .. } => machine.clones.contains(name),
        Op::Mount(mount) => is_mounted(machine, mount),
        Op::WriteFile { root, path, contents } => {
            machine.files.get(&root.join(path.strip_prefix("/").unwrap_or(path))) == Some(contents)
        }
        Op::JailCreate(jail) => machine.jails.get(&jail.name).is_some_and(|there| {
            (&there.path, there.vnet, &there.addresses, &there.params)
                == (&jail.path, jail.vnet, &jail.addresses, &jail.params)
        }),
        Op::DatasetJail { jail, dataset } => machine.datasets.contains(&(dataset.clone(), jail.clone())),
        Op::BridgeCreate { bridge } => machine.bridges.contains_key(bridge),
        Op::UplinkAttach { bridge, interface } => machine.uplinks.get(interface) == Some(bridge),
        Op::EifaceCreate { node, mac, .. } => machine.eifaces.get(node).is_some_and(|e| e.mac == *mac),
        Op::LinkConnect { node, bridge, link, guarded } => {
            is_linked(machine, node, bridge, *link) && machine.eifaces[node].guarded == *guarded
        }
        Op::LinkOpen { node, bridge, link, mac, .. } => {
            let seeded = machine.bridges.get(bridge).and_then(|bridge| bridge.table.get(mac));
            machine.eifaces.get(node).is_some_and(|eiface| eiface.open) && seeded == Some(link)
        }
        Op::IfMoveIn { interface, jail, inside } => {
            machine.eifaces.get(interface).is_some_and(|e| is_in(e, jail, inside))
        }
        Op::IfConfigure { interface, jail, addresses, routes, .. } => {
            let found = match jail {
                Some(jail) => machine.eifaces.values().find(|e| is_in(e, jail, interface)),
                None => machine.eifaces.get(interface).filter(|e| e.jail.is_none()),
            };
            // Where a client inside sets them they are not the step's.
            let set = |e: &SimEiface| addresses.is_empty() || e.addresses == *addresses;
            found.is_some_and(|e| e.up && set(e) && e.gateways == *routes)
        }
        Op::AliasAdd { interface, addresses } => {
            addresses.iter().all(|a| machine.aliases.contains(&(interface.clone(), *a)))
        }
        Op::AnchorLoad(policy) => machine
            .anchors
            .get(&policy.anchor)
            .is_some_and(|anchor| anchor.policy.as_ref() == Some(policy) && !anchor.edited),
        Op::TableAdd { anchor, tables, addresses } => tables.iter().all(|table| {
            let members = machine.anchors.get(anchor).and_then(|anchor| anchor.tables.get(table));
            members.is_some_and(|members| addresses.iter().all(|address| members.contains(address)))
        }),
        Op::Listen { name, .. } => machine.sockets.contains(name),
        _ => true,
    }
}

fn is_mounted(machine: &Machine, mount: &Mount) -> bool {
    machine.mounts.values().chain(&machine.covered).any(|there| there == mount)
}

fn is_linked(machine: &Machine, node: &str, bridge: &str, link: u32) -> bool {
    let links = machine.bridges.get(bridge).map(|bridge| &bridge.links);
    machine.eifaces.contains_key(node)
        && links.is_some_and(|links| links.get(&link).is_some_and(|there| there == node))
}

fn is_in(eiface: &SimEiface, jail: &str, inside: &str) -> bool {
    (eiface.jail.as_deref(), eiface.inside.as_deref()) == (Some(jail), Some(inside))
}
