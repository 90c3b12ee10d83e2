//! The graph as its users hold it: cloneable, shared between threads, doing what needs no lock without one.

use super::control::{self, Need, errno_of};
use super::ether::Ether;
use super::port::{Input, Port, PortFactory, Side};
use super::snapshot::Snapshot;
use super::socket::{ControlQueue, DataSink, MemoryData, MemorySocket, Socket};
use super::state::{Effect, Kind, State};
use super::walk::{Scratch, Walk};
use crate::addr::{NodeId, SockaddrNg};
use crate::errno::Errno;
use crate::name::{HookName, NodeName};
use crate::transport::memory::MemoryTransport;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whose kernel the graph behaves like, where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Release {
    /// FreeBSD 13.2: `struct sockaddr_ng` has 16 bytes, a receive buffer at most 1,864,135; a bridge does not learn from frames
    /// that an interface in another vnet sends, and counts a memory failure for each.
    V13_2,
    /// FreeBSD 15: 34 bytes, 7,456,540; learns from all, and numbers a link that is called `link` or `uplink` and no more.
    #[default]
    V15,
}

impl Release {
    fn address_len(self) -> usize {
        match self {
            Release::V13_2 => 16,
            Release::V15 => SockaddrNg::MAX,
        }
    }

    /// `sb_max_adj`.
    fn receive_buffer_max(self) -> usize {
        match self {
            Release::V13_2 => 1_864_135,
            Release::V15 => 7_456_540,
        }
    }

    pub(super) fn learning_fails_in_vnets(self) -> bool {
        self == Release::V13_2
    }

    pub(super) fn numbers_links(self) -> bool {
        self == Release::V15
    }
}

/// How a graph behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Like which kernel.
    pub release: Release,
}

/// A graph. Clones are the same graph; it lives as long as one of them, its sockets or its server.
#[derive(Clone)]
pub struct Graph(pub(super) Arc<Shared>);

pub(super) struct Shared {
    /// Held by whoever changes the graph, across what that does to interfaces.
    control: Mutex<()>,
    state: Mutex<State>,
    factory: Box<dyn PortFactory>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something that changes the graph, and then what that entails outside of it.
    fn change<R>(&self, run: impl FnOnce(&mut State) -> R) -> R {
        let _turn = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        self.change_in_turn(run)
    }

    fn change_in_turn<R>(&self, run: impl FnOnce(&mut State) -> R) -> R {
        let (result, effects) = {
            let mut state = self.state();
            let result = run(&mut state);
            (result, std::mem::take(&mut state.effects))
        };
        for effect in effects {
            match effect {
                Effect::Carrier(port, up) => port.set_carrier(up),
                Effect::Remove(port) => port.close(),
                Effect::Notify(queue) => queue.notify(),
                Effect::Close(sink) => sink.close(),
            }
        }
        result
    }
}

/// The two sides of an interface that an ether node is put on.
pub struct EtherPort {
    /// The interface's name; `.` and `:` become `_` in the node's.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Frames for the wire go here, and frames from the wire come in by its [`Input`].
    pub wire: Box<dyn Port>,
    /// The same for the machine's network stack.
    pub stack: Box<dyn Port>,
}

impl Graph {
    /// A graph without nodes, whose eifaces get their interfaces from `factory`.
    pub fn new(factory: impl PortFactory + 'static) -> Graph {
        Graph::with_options(factory, Options::default())
    }

    /// The same, like a certain kernel.
    pub fn with_options(factory: impl PortFactory + 'static, options: Options) -> Graph {
        Graph(Arc::new(Shared {
            control: Mutex::new(()),
            state: Mutex::new(State::new(options)),
            factory: Box::new(factory),
        }))
    }

    /// A control socket in this process, with the largest receive buffer and with losses reported: what a careful program sets.
    pub fn transport(&self) -> MemoryTransport {
        let socket = self.socket();
        let limit = socket.control().limit_max();
        // The limit is what it is the limit of.
        let _ = socket.control().set_limit(limit);
        socket.control().set_report_loss(true);
        MemoryTransport::new(socket)
    }

    /// A control socket as socket(2) makes it: 20480 bytes of receive buffer, losses not reported.
    pub fn plain_transport(&self) -> MemoryTransport {
        MemoryTransport::new(self.socket())
    }

    /// A data socket on a socket node, with a receive buffer of so many bytes. EINVAL: no socket node. EADDRINUSE: it has one.
    pub fn data_socket(&self, node: NodeId, buffer: usize) -> Result<MemoryData, Errno> {
        MemoryData::attach(self, node, buffer)
    }

    fn socket(&self) -> MemorySocket {
        let (node, control) = self.add_socket(Box::new(|| ()));
        MemorySocket { graph: self.clone(), node, control }
    }

    /// A socket node. `wake` is called, without a lock held, when something has been queued to it or it has ended.
    pub fn add_socket(&self, wake: Box<dyn Fn() + Send + Sync>) -> (NodeId, Arc<ControlQueue>) {
        self.0.change(|state| {
            let release = state.options.release;
            let control =
                Arc::new(ControlQueue::new(release.address_len(), release.receive_buffer_max(), wake));
            let socket = Socket { control: control.clone(), data: None, no_linger: false };
            let slot = state.add_node(Kind::Socket(socket));
            (state.nodes.get(slot).map_or(NodeId(0), |node| node.id), control)
        })
    }

    /// Ends a socket node, as closing its control descriptor does.
    pub fn close_socket(&self, node: NodeId) {
        self.0.change(|state| {
            let Some(slot) = state.ids.get(&node).copied() else { return };
            if matches!(state.nodes.get(slot).map(|node| &node.kind), Some(Kind::Socket(_))) {
                state.remove_node(slot, true);
            }
        });
    }

    /// Names a socket node: bind(2).
    pub fn bind_socket(&self, node: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.0.change(|state| {
            let slot = state.ids.get(&node).copied().ok_or(Errno::EINVAL)?;
            state.name_node(slot, NodeName::from_wire(name))
        })
    }

    /// Gives a socket node a data socket: connect(2) of one.
    pub fn attach_data(&self, node: NodeId, sink: Arc<dyn DataSink>) -> Result<(), Errno> {
        self.0.change(|state| {
            let slot = state.ids.get(&node).copied().ok_or(Errno::ENOENT)?;
            match state.nodes.get_mut(slot).map(|node| &mut node.kind) {
                Some(Kind::Socket(socket)) if socket.data.is_some() => Err(Errno::EADDRINUSE),
                Some(Kind::Socket(socket)) => {
                    socket.data = Some(sink);
                    Ok(())
                }
                _ => Err(Errno::EINVAL),
            }
        })
    }

    /// Takes it away.
    pub fn detach_data(&self, node: NodeId) {
        self.0.change(|state| {
            let slot = state.ids.get(&node).copied();
            if let Some(Kind::Socket(socket)) =
                slot.and_then(|slot| state.nodes.get_mut(slot)).map(|node| &mut node.kind)
            {
                let old = socket.data.take();
                state.effects.extend(old.map(Effect::Close));
            }
        });
    }

    /// A control message from a socket node: sendto(2) on its control descriptor. Returns when it has been applied, with what the
    /// node said; a reply is queued to the socket by then.
    pub fn send_control(&self, socket: NodeId, to: &SockaddrNg, message: &[u8]) -> Result<(), Errno> {
        let message = control::parse(message)?;
        let shared = &self.0;
        // Nobody else changes the graph meanwhile, so what is found now is there afterwards.
        let _turn = shared.control.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, need) = {
            let mut state = shared.state();
            let place = state.address(socket, to)?;
            (place, state.need(place.0, &message)?)
        };
        let unit = if let Need::Create(unit) = need { Some(unit) } else { None };
        let outside = match need.meet(&*shared.factory) {
            Ok(outside) => outside,
            Err(errno) => {
                unit.into_iter().for_each(|unit| shared.state().units.free(unit));
                return Err(errno);
            }
        };
        let created = match &outside {
            control::Outside::Created { port, .. } => Some(port.clone()),
            _ => None,
        };
        let (outcome, node) = shared.change_in_turn(|state| {
            let outcome = state.apply(socket, place, &message, outside);
            (outcome, state.created.take())
        });
        if let (Some(port), Some(node)) = (created, node) {
            port.attach(Input { graph: Arc::downgrade(shared), node, side: Side::Stack });
        }
        outcome
    }

    /// A frame from a socket node: sendto(2) on its data descriptor. An empty name means the only hook (EDESTADDRREQ if there is not
    /// exactly one); EHOSTUNREACH: no such hook.
    pub fn send_data(&self, socket: NodeId, hook: &HookName, frame: &[u8]) -> Result<(), Errno> {
        let mut scratch = Scratch::take();
        let outcome = {
            let mut state = self.0.state();
            state.socket_hook(socket, hook).map(|hook| {
                state.frame_out(hook, &mut Walk::new(frame, 0, false, &mut scratch));
            })
        };
        scratch.deliver(&[frame]);
        scratch.give_back();
        outcome
    }

    /// A frame that the interface of a node sends.
    pub fn input(&self, node: NodeId, side: Side, frame: &[u8]) {
        self.handle_of(node, side).frame(frame);
    }

    /// Where the frames go that an interface sends, for one that was not told.
    pub fn handle_of(&self, node: NodeId, side: Side) -> Input {
        Input { graph: Arc::downgrade(&self.0), node, side }
    }

    pub(super) fn forward(
        shared: &Shared,
        node: NodeId,
        side: Side,
        frames: &[&[u8]],
        scratch: &mut Scratch,
    ) {
        {
            let mut state = shared.state();
            let Some(slot) = state.ids.get(&node).copied() else { return };
            for (number, frame) in frames.iter().enumerate() {
                state.frame_from(slot, side, &mut Walk::new(frame, number, false, scratch));
            }
        }
        scratch.deliver(frames);
    }

    /// Puts an ether node on an interface, as loading ng_ether(4) does. EADDRINUSE if a node has its name: the kernel makes none then.
    pub fn attach_ether(&self, port: EtherPort) -> Result<NodeId, Errno> {
        let name = NodeName::from_wire(port.name.replace(['.', ':'], "_").as_bytes());
        let mac = port.wire.mac().map_err(|e| errno_of(&e))?;
        let (wire, stack): (Arc<dyn Port>, Arc<dyn Port>) = (Arc::from(port.wire), Arc::from(port.stack));
        let node = self.0.change(|state| {
            if state.names.contains_key(&name) {
                return Err(Errno::EADDRINUSE);
            }
            let ether = Ether::new(&port.name, port.index, mac, wire.clone(), stack.clone());
            let slot = state.add_node(Kind::Ether(ether));
            if let Err(errno) = state.name_node(slot, name) {
                state.remove_node(slot, true);
                return Err(errno);
            }
            state.nodes.get(slot).map(|node| node.id).ok_or(Errno::ENOENT)
        })?;
        wire.attach(Input { graph: Arc::downgrade(&self.0), node, side: Side::Wire });
        stack.attach(Input { graph: Arc::downgrade(&self.0), node, side: Side::Stack });
        Ok(node)
    }

    /// Says that the interface of an eiface sits in another vnet than its node, or is back: it matters on [`Release::V13_2`].
    pub fn set_child_vnet(&self, node: NodeId, child: bool) -> Result<(), Errno> {
        self.0.change(|state| {
            let slot = state.ids.get(&node).copied().ok_or(Errno::ENOENT)?;
            match state.nodes.get_mut(slot).map(|node| &mut node.kind) {
                Some(Kind::Eiface(eiface)) => {
                    eiface.child_vnet = child;
                    Ok(())
                }
                _ => Err(Errno::EINVAL),
            }
        })
    }

    /// Lets the bridges' one-second timers run up to `now`, counted from any fixed moment; the first call only sets it.
    pub fn tick(&self, now: Duration) {
        let mut state = self.0.state();
        let Some(since) = state.aged else {
            state.aged = Some(now);
            return;
        };
        let seconds = u32::try_from(now.saturating_sub(since).as_secs()).unwrap_or(u32::MAX);
        if seconds == 0 {
            return;
        }
        state.aged = Some(since + Duration::from_secs(seconds.into()));
        let bridges: Vec<_> = state
            .nodes
            .iter()
            .filter(|(_, n)| matches!(n.kind, Kind::Bridge(_)))
            .map(|(slot, _)| slot)
            .collect();
        bridges.into_iter().for_each(|slot| state.bridge_tick(slot, seconds));
    }

    /// The graph as a value.
    pub fn snapshot(&self) -> Snapshot {
        let _turn = self.0.control.lock().unwrap_or_else(PoisonError::into_inner);
        // Interfaces are asked for their names and addresses without the graph's lock.
        let (mut snapshot, ports) = self.0.state().snapshot();
        snapshot.ask(&ports);
        snapshot
    }
}

impl State {
    /// The hook a socket's frame leaves by (ngd_send).
    fn socket_hook(&self, socket: NodeId, hook: &HookName) -> Result<usize, Errno> {
        let slot = *self.ids.get(&socket).ok_or(Errno::EPIPE)?;
        let node = self.nodes.get(slot).ok_or(Errno::EPIPE)?;
        if !hook.is_empty() {
            return node.hooks.get(hook).copied().ok_or(Errno::EHOSTUNREACH);
        }
        match node.hooks.get_index(0) {
            Some((_, only)) if node.hooks.len() == 1 => Ok(*only),
            _ => Err(Errno::EDESTADDRREQ),
        }
    }
}
