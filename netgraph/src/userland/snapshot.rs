//! The graph as a value: sorted, comparable, without references.

use super::port::Port;
use super::state::{HookData, HookIndex, Kind, State};
use crate::addr::{Mac, NodeId};
use crate::bpf::Program;
use crate::codec::bpf::HookStats;
use crate::codec::bridge::{Config, Host, LinkStats};
use crate::name::{HookName, NodeName};
use std::sync::Arc;

/// All nodes, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The nodes.
    pub nodes: Vec<NodeSnapshot>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSnapshot {
    /// Its id.
    pub id: NodeId,
    /// Its name; empty if it has none.
    pub name: NodeName,
    /// Its hooks, by name.
    pub hooks: Vec<HookSnapshot>,
    /// What its type keeps.
    pub detail: Detail,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookSnapshot {
    /// The hook.
    pub name: HookName,
    /// The node at the other end.
    pub peer: NodeId,
    /// Its hook.
    pub peer_hook: HookName,
}

/// What a type keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// ng_bridge(4).
    Bridge {
        /// Its configuration.
        config: Config,
        /// Whether it lives without hooks.
        persistent: bool,
        /// Its table, by address.
        hosts: Vec<Host>,
        /// Its links, by name.
        links: Vec<BridgeLink>,
    },
    /// ng_hub(4).
    Hub {
        /// Whether it lives without hooks.
        persistent: bool,
    },
    /// ng_eiface(4).
    Eiface {
        /// The N of `ngethN`.
        unit: u16,
        /// The interface's name now, if it could be asked.
        ifname: Option<String>,
        /// Its address, if it could be asked.
        mac: Option<Mac>,
    },
    /// ng_bpf(4).
    Bpf {
        /// Its hooks, by name.
        hooks: Vec<BpfHook>,
    },
    /// ng_ether(4).
    Ether {
        /// The interface's name.
        ifname: String,
        /// Its address.
        mac: Mac,
        /// Whether the node made it promiscuous.
        promisc: bool,
        /// Whether it writes its own source address.
        autosrc: bool,
    },
    /// ng_socket(4).
    Socket,
}

/// A link of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeLink {
    /// Its hook.
    pub hook: HookName,
    /// Its counters.
    pub stats: LinkStats,
    /// Seconds for which it stays mute.
    pub muted: u16,
}

/// A hook of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BpfHook {
    /// The hook.
    pub hook: HookName,
    /// Its program.
    pub program: Program,
    /// Where what matches goes; empty: nowhere.
    pub if_match: HookName,
    /// Where the rest goes; empty: nowhere.
    pub if_not_match: HookName,
    /// Its counters.
    pub stats: HookStats,
}

/// Interfaces to ask, with the places of their nodes.
pub(super) type Asked = Vec<(usize, Arc<dyn Port>)>;

impl Snapshot {
    /// The node of this name.
    pub fn named(&self, name: &str) -> Option<&NodeSnapshot> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The node of this id.
    pub fn node(&self, id: NodeId) -> Option<&NodeSnapshot> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        self.nodes.get(at)
    }

    /// The same without what changes by itself: counters, ages, mutings. What is left changes by control messages, and by what a
    /// bridge learns.
    pub fn topology(mut self) -> Snapshot {
        for node in &mut self.nodes {
            match &mut node.detail {
                Detail::Bridge { hosts, links, .. } => {
                    for host in hosts {
                        (host.age, host.staleness) = (0, 0);
                    }
                    for link in links {
                        (link.stats, link.muted) = (LinkStats::default(), 0);
                    }
                }
                Detail::Bpf { hooks } => hooks.iter_mut().for_each(|hook| hook.stats = HookStats::default()),
                _ => {}
            }
        }
        self
    }

    /// Fills in what only the interfaces know.
    pub(super) fn ask(&mut self, ports: &Asked) {
        for (at, port) in ports {
            if let Some(Detail::Eiface { ifname, mac, .. }) =
                self.nodes.get_mut(*at).map(|node| &mut node.detail)
            {
                (*ifname, *mac) = (port.name().ok(), port.mac().ok());
            }
        }
    }
}

impl State {
    /// The graph without what only interfaces know, and those to ask, with the places of their nodes.
    pub fn snapshot(&self) -> (Snapshot, Asked) {
        let mut slots: Vec<_> = self.nodes.iter().collect();
        slots.sort_by_key(|(_, node)| node.id);
        let mut ports = Vec::new();
        let mut nodes = Vec::with_capacity(slots.len());
        for (at, (slot, node)) in slots.into_iter().enumerate() {
            let mut hooks: Vec<_> =
                node.hooks.values().filter_map(|hook| self.hook_snapshot(*hook)).collect();
            hooks.sort();
            let mut by_name: Vec<_> = node.hooks.iter().map(|(name, hook)| (*name, *hook)).collect();
            by_name.sort();
            let detail = match &node.kind {
                Kind::Bridge(bridge) => {
                    let mut hosts = self.bridge_table(slot).map(|table| table.0).unwrap_or_default();
                    hosts.sort();
                    let link = |(hook, index): &(HookName, HookIndex)| match &self.hooks.get(*index)?.data {
                        HookData::Link(link) => {
                            Some(BridgeLink { hook: *hook, stats: link.stats, muted: link.loop_count })
                        }
                        _ => None,
                    };
                    let links = by_name.iter().filter_map(link).collect();
                    Detail::Bridge { config: bridge.config, persistent: bridge.persistent, hosts, links }
                }
                Kind::Hub { persistent } => Detail::Hub { persistent: *persistent },
                Kind::Eiface(eiface) => {
                    ports.push((at, eiface.port.clone()));
                    Detail::Eiface { unit: eiface.unit, ifname: None, mac: None }
                }
                Kind::Bpf => {
                    let hook = |(hook, index): &(HookName, HookIndex)| match &self.hooks.get(*index)?.data {
                        HookData::Filter(filter) => Some(BpfHook {
                            hook: *hook,
                            program: filter.program.clone(),
                            if_match: filter.if_match,
                            if_not_match: filter.if_not_match,
                            stats: filter.stats,
                        }),
                        _ => None,
                    };
                    Detail::Bpf { hooks: by_name.iter().filter_map(hook).collect() }
                }
                Kind::Ether(ether) => Detail::Ether {
                    ifname: ether.ifname.clone(),
                    mac: ether.mac,
                    promisc: ether.promisc,
                    autosrc: ether.autosrc,
                },
                Kind::Socket(_) => Detail::Socket,
            };
            nodes.push(NodeSnapshot { id: node.id, name: node.name, hooks, detail });
        }
        (Snapshot { nodes }, ports)
    }

    fn hook_snapshot(&self, index: HookIndex) -> Option<HookSnapshot> {
        let hook = self.hooks.get(index)?;
        let peer = self.hooks.get(hook.peer)?;
        let peer_node = self.nodes.get(peer.node)?;
        Some(HookSnapshot { name: hook.name, peer: peer_node.id, peer_hook: peer.name })
    }
}
