//! The graph itself: nodes, hooks, names, ids, and how they come and go (netgraph/ng_base.c).

use super::bpf::Filter;
use super::bridge::{self, Bridge, Link};
use super::eiface::{Eiface, Units};
use super::ether::Ether;
use super::graph::Options;
use super::path;
use super::port::Port;
use super::socket::{ControlQueue, DataSink, Socket};
use crate::addr::NodeId;
use crate::codec::generic::NodeInfo;
use crate::errno::Errno;
use crate::name::{HookName, NodeName, TypeName, decode_id};
use hashbrown::{DefaultHashBuilder, HashMap};
use indexmap::IndexMap;
use slab::Slab;
use std::sync::Arc;
use std::time::Duration;

/// Place of a node in the slab. Valid until the node is removed.
pub(super) type Slot = usize;
/// Place of a hook in the slab.
pub(super) type HookIndex = usize;
/// Of a hook that is being connected and has no peer yet.
const NO_PEER: HookIndex = usize::MAX;

pub(super) struct Node {
    pub id: NodeId,
    /// Empty if it has none.
    pub name: NodeName,
    pub hooks: IndexMap<HookName, HookIndex, DefaultHashBuilder>,
    pub kind: Kind,
}

/// What a node is, and what its type keeps.
pub(super) enum Kind {
    Bridge(Bridge),
    Hub { persistent: bool },
    Eiface(Eiface),
    Bpf,
    Ether(Ether),
    Socket(Socket),
}

/// The types there are, as NGM_LISTTYPES gives them.
pub(super) const TYPES: [&str; 6] = ["socket", "hub", "bridge", "eiface", "bpf", "ether"];

impl Kind {
    pub fn type_name(&self) -> &'static str {
        match self {
            Kind::Bridge(_) => "bridge",
            Kind::Hub { .. } => "hub",
            Kind::Eiface(_) => "eiface",
            Kind::Bpf => "bpf",
            Kind::Ether(_) => "ether",
            Kind::Socket(_) => "socket",
        }
    }
}

pub(super) struct Hook {
    pub node: Slot,
    pub name: HookName,
    pub peer: HookIndex,
    pub data: HookData,
}

/// What a type keeps with each hook.
pub(super) enum HookData {
    None,
    Link(Box<Link>),
    Filter(Box<Filter>),
}

/// Something to do once the graph's lock is released.
pub(super) enum Effect {
    Carrier(Arc<dyn Port>, bool),
    Remove(Arc<dyn Port>),
    Notify(Arc<ControlQueue>),
    Close(Arc<dyn DataSink>),
}

/// A hook or a node that is to go. Nodes follow one another in a chain, so this is a list and not a recursion.
enum Doomed {
    Hook(HookIndex),
    /// `true`: also if its type would survive a shutdown.
    Node(Slot, bool),
}

pub(super) struct State {
    pub nodes: Slab<Node>,
    pub hooks: Slab<Hook>,
    pub ids: HashMap<NodeId, Slot>,
    pub names: HashMap<NodeName, Slot>,
    next_id: u32,
    pub units: Units,
    pub options: Options,
    pub effects: Vec<Effect>,
    /// The eiface that the last message made: its interface wants to know.
    pub created: Option<NodeId>,
    /// The second up to which tables have been aged.
    pub aged: Option<Duration>,
}

impl State {
    pub fn new(options: Options) -> State {
        State {
            nodes: Slab::new(),
            hooks: Slab::new(),
            ids: HashMap::new(),
            names: HashMap::new(),
            next_id: 1,
            units: Units::default(),
            options,
            effects: Vec::new(),
            created: None,
            aged: None,
        }
    }

    /// A new node, with an id that no living node has and none had until the counter wraps.
    pub fn add_node(&mut self, kind: Kind) -> Slot {
        let id = loop {
            let id = NodeId(self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
            if id.0 != 0 && !self.ids.contains_key(&id) {
                break id;
            }
        };
        let slot =
            self.nodes.insert(Node { id, name: NodeName::from_wire(b""), hooks: IndexMap::default(), kind });
        self.ids.insert(id, slot);
        slot
    }

    /// Names a node (ng_name_node). The name it has already is no error, nor is none for one that has none.
    pub fn name_node(&mut self, slot: Slot, name: NodeName) -> Result<(), Errno> {
        if self.nodes.get(slot).ok_or(Errno::ENOENT)?.name == name {
            return Ok(());
        }
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.iter().any(|b| matches!(b, b'.' | b':')) || decode_id(bytes).is_some() {
            return Err(Errno::EINVAL);
        }
        if self.names.contains_key(&name) {
            return Err(Errno::EADDRINUSE);
        }
        let node = self.nodes.get_mut(slot).ok_or(Errno::ENOENT)?;
        let old = std::mem::replace(&mut node.name, name);
        self.names.remove(&old);
        self.names.insert(name, slot);
        Ok(())
    }

    pub fn find_hook(&self, slot: Slot, name: &HookName) -> Option<HookIndex> {
        self.nodes.get(slot)?.hooks.get(name).copied()
    }

    /// Follows an address from a node: where it leads, and the hook it comes in by (ng_path2noderef).
    pub fn resolve(&self, here: Slot, address: &[u8]) -> Result<(Slot, Option<HookIndex>), Errno> {
        let path = path::parse(address)?;
        let mut slot = match path.node {
            None | Some(b".") => here,
            Some(name) => match decode_id(name) {
                Some(id) => self.ids.get(&NodeId(id)),
                None if name.len() > crate::name::NAME_MAX => None,
                None => self.names.get(&NodeName::from_wire(name)),
            }
            .copied()
            .ok_or(Errno::ENOENT)?,
        };
        let mut last = None;
        for segment in path.hooks.into_iter().flat_map(|hooks| hooks.split(|b| *b == b'.')) {
            if segment.len() > crate::name::NAME_MAX {
                return Err(Errno::ENOENT);
            }
            let hook = self.find_hook(slot, &HookName::from_wire(segment)).ok_or(Errno::ENOENT)?;
            let peer = self.hooks.get(hook).map(|hook| hook.peer).ok_or(Errno::ENOENT)?;
            slot = self.hooks.get(peer).map(|peer| peer.node).ok_or(Errno::ENOENT)?;
            last = Some(peer);
        }
        Ok((slot, last))
    }

    /// Adds a hook to a node, if its type agrees (ng_add_hook). It has no peer yet.
    pub fn add_hook(&mut self, slot: Slot, name: HookName, peer: Option<Slot>) -> Result<HookIndex, Errno> {
        let numbers = self.options.release.numbers_links();
        let node = self.nodes.get_mut(slot).ok_or(Errno::ENOENT)?;
        if node.hooks.contains_key(&name) {
            return Err(Errno::EEXIST);
        }
        let name = match &node.kind {
            Kind::Bridge(_) if numbers => bridge::numbered(name, |taken| node.hooks.contains_key(taken)),
            _ => name,
        };
        let links = node.hooks.len();
        let data = match &mut node.kind {
            Kind::Bridge(bridge) => {
                HookData::Link(Box::new(bridge.new_link(&name, links, peer == Some(slot))?))
            }
            Kind::Eiface(eiface) => eiface.new_hook(&name).map(|()| HookData::None)?,
            Kind::Ether(ether) => ether.new_hook(&name).map(|()| HookData::None)?,
            Kind::Bpf => HookData::Filter(Box::default()),
            Kind::Hub { .. } | Kind::Socket(_) => HookData::None,
        };
        let index = self.hooks.insert(Hook { node: slot, name, peer: NO_PEER, data });
        node.hooks.insert(name, index);
        match &mut node.kind {
            Kind::Eiface(eiface) => {
                eiface.ether = Some(index);
                self.effects.push(Effect::Carrier(eiface.port.clone(), true));
            }
            Kind::Ether(ether) => ether.connected(&name, index),
            Kind::Bpf => self.refer_to(slot, &name, Some(index)),
            _ => {}
        }
        Ok(index)
    }

    /// Connects two nodes (ng_con_nodes): if the second refuses, the first's hook goes again.
    pub fn connect(&mut self, slot: Slot, ours: HookName, peer: Slot, theirs: HookName) -> Result<(), Errno> {
        if self.find_hook(peer, &theirs).is_some() {
            return Err(Errno::EEXIST);
        }
        let first = self.add_hook(slot, ours, None)?;
        match self.add_hook(peer, theirs, Some(slot)) {
            Ok(second) => {
                self.join(first, second);
                Ok(())
            }
            Err(errno) => {
                self.remove_hook(first);
                Err(errno)
            }
        }
    }

    /// Makes two hooks each other's peer.
    fn join(&mut self, first: HookIndex, second: HookIndex) {
        for (one, other) in [(first, second), (second, first)] {
            if let Some(hook) = self.hooks.get_mut(one) {
                hook.peer = other;
            }
        }
    }

    /// Breaks a connection, at both ends (ng_destroy_hook).
    pub fn remove_hook(&mut self, hook: HookIndex) {
        self.reap(Doomed::Hook(hook));
    }

    /// Shuts a node down (ng_rmnode). With `really`, also one that would survive it.
    pub fn remove_node(&mut self, slot: Slot, really: bool) {
        self.reap(Doomed::Node(slot, really));
    }

    fn reap(&mut self, first: Doomed) {
        let mut doomed = vec![first];
        while let Some(next) = doomed.pop() {
            match next {
                Doomed::Hook(hook) => self.detach(hook, &mut doomed),
                Doomed::Node(slot, really) => {
                    let hooks: Vec<_> = match self.nodes.get(slot) {
                        Some(node) => node.hooks.values().copied().collect(),
                        None => continue,
                    };
                    hooks.into_iter().for_each(|hook| self.detach(hook, &mut doomed));
                    self.finish_node(slot, really);
                }
            }
        }
    }

    /// Takes a hook and its peer off their nodes, and lists the nodes that do not outlive that.
    fn detach(&mut self, hook: HookIndex, doomed: &mut Vec<Doomed>) {
        let Some(one) = self.hooks.try_remove(hook) else { return };
        let peer = one.peer;
        let other = self.hooks.try_remove(peer).map(|other| (peer, other));
        for (index, end) in [(hook, one)].into_iter().chain(other) {
            if let Some(node) = self.nodes.get_mut(end.node) {
                node.hooks.swap_remove(&end.name);
                if self.disconnected(&end, index) {
                    doomed.push(Doomed::Node(end.node, false));
                }
            }
        }
    }

    /// What a type does when a hook is gone; whether the node goes with it.
    fn disconnected(&mut self, hook: &Hook, index: HookIndex) -> bool {
        let Some(node) = self.nodes.get_mut(hook.node) else { return false };
        let last = node.hooks.is_empty();
        match &mut node.kind {
            Kind::Bridge(bridge) => {
                if let HookData::Link(link) = &hook.data {
                    bridge.forget(link);
                }
                last && !bridge.persistent
            }
            Kind::Hub { persistent } => last && !*persistent,
            Kind::Eiface(eiface) => {
                eiface.ether = None;
                self.effects.push(Effect::Carrier(eiface.port.clone(), false));
                false
            }
            Kind::Bpf => {
                self.refer_to(hook.node, &hook.name, None);
                last
            }
            // Not its end: losing the last hook resets an ether.
            Kind::Ether(ether) => {
                ether.disconnected(index);
                last
            }
            Kind::Socket(socket) => last && socket.no_linger,
        }
    }

    /// The end of a node that has no hooks any more, unless its type survives.
    fn finish_node(&mut self, slot: Slot, really: bool) {
        let Some(node) = self.nodes.get_mut(slot) else { return };
        if let (Kind::Ether(ether), false) = (&mut node.kind, really) {
            ether.promisc = false;
            return;
        }
        let Some(node) = self.nodes.try_remove(slot) else { return };
        self.ids.remove(&node.id);
        self.names.remove(&node.name);
        match node.kind {
            Kind::Eiface(eiface) => {
                self.units.free(eiface.unit);
                self.effects.push(Effect::Remove(eiface.port));
            }
            Kind::Ether(ether) => {
                self.effects.extend([Effect::Remove(ether.wire), Effect::Remove(ether.stack)]);
            }
            Kind::Socket(socket) => {
                socket.control.close();
                self.effects.push(Effect::Notify(socket.control));
                self.effects.extend(socket.data.map(Effect::Close));
            }
            Kind::Bridge(_) | Kind::Hub { .. } | Kind::Bpf => {}
        }
    }

    pub fn info(&self, slot: Slot) -> Result<NodeInfo, Errno> {
        let node = self.nodes.get(slot).ok_or(Errno::ENOENT)?;
        Ok(NodeInfo {
            name: node.name,
            node_type: TypeName::from_wire(node.kind.type_name().as_bytes()),
            id: node.id,
            hooks: node.hooks.len() as u32,
        })
    }
}
