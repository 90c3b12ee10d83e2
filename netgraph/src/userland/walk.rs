//! The way of a frame through the graph: from node to node until it leaves by an interface or a socket.
//!
//! Nothing is copied on the way: what comes out is a list of who gets which frame and how much of it, delivered when the graph's
//! lock is released. Only an ether that rewrites the source address makes a frame of its own.

use super::port::{Port, Side};
use super::socket::DataSink;
use super::state::{HookIndex, Kind, Slot, State};
use crate::name::HookName;
use std::cell::RefCell;
use std::sync::Arc;

/// Nodes a frame may pass before it is taken to be going in circles.
pub const HOPS_MAX: u8 = 32;
/// Ways that one frame may take altogether; circles that also multiply would have no other end.
const WAYS_MAX: u32 = 1 << 17;

/// A frame at a hook it has come to.
#[derive(Clone, Copy)]
pub(super) struct Item {
    pub hook: HookIndex,
    /// How much of it is left: a filter may cut it.
    pub len: u32,
    /// Which of the walk's own frames it is; 0 is the one that came in.
    own: u32,
    hops: u8,
}

/// One frame on its ways.
pub(super) struct Walk<'a> {
    frame: &'a [u8],
    /// Which of the batch it is.
    number: u32,
    pub child_vnet: bool,
    ways: u32,
    scratch: &'a mut Scratch,
}

/// Who gets a frame.
enum Taker {
    Port(Arc<dyn Port>),
    Socket(Arc<dyn DataSink>, HookName),
}

struct Delivery {
    taker: Taker,
    number: u32,
    own: u32,
    len: u32,
}

/// What walks need, kept from one to the next so that forwarding does not allocate.
#[derive(Default)]
pub(super) struct Scratch {
    stack: Vec<Item>,
    owned: Vec<Vec<u8>>,
    deliveries: Vec<Delivery>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// This thread's, or a fresh one if it is in use: a port may send from within a delivery.
    pub fn take() -> Scratch {
        SCRATCH
            .with(|scratch| scratch.try_borrow_mut().map(|mut s| std::mem::take(&mut *s)).unwrap_or_default())
    }

    pub fn give_back(self) {
        SCRATCH.with(|scratch| {
            if let Ok(mut place) = scratch.try_borrow_mut() {
                *place = self;
            }
        });
    }

    /// Hands out what has come out. Not to be called with the graph's lock held.
    pub fn deliver(&mut self, frames: &[&[u8]]) {
        for delivery in self.deliveries.drain(..) {
            let whole = match delivery.own {
                0 => frames.get(delivery.number as usize).copied(),
                own => self.owned.get(own as usize - 1).map(Vec::as_slice),
            };
            let Some(frame) = whole.and_then(|frame| frame.get(..delivery.len as usize)) else { continue };
            match delivery.taker {
                Taker::Port(port) => port.transmit(frame),
                Taker::Socket(sink, hook) => sink.deliver(&hook, frame),
            }
        }
        self.owned.clear();
    }
}

impl<'a> Walk<'a> {
    pub fn new(frame: &'a [u8], number: usize, child_vnet: bool, scratch: &'a mut Scratch) -> Walk<'a> {
        Walk { frame, number: number as u32, child_vnet, ways: 0, scratch }
    }

    /// The bytes of a frame that has come somewhere.
    pub fn bytes(&self, item: Item) -> &[u8] {
        let whole = match item.own {
            0 => self.frame,
            own => self.scratch.owned.get(own as usize - 1).map(Vec::as_slice).unwrap_or_default(),
        };
        whole.get(..item.len as usize).unwrap_or_default()
    }

    /// Sends a frame on to a hook.
    pub fn push(&mut self, item: Item, to: HookIndex) {
        self.ways += 1;
        if item.hops < HOPS_MAX && self.ways < WAYS_MAX {
            self.scratch.stack.push(Item { hook: to, hops: item.hops + 1, ..item });
        }
    }

    fn give(&mut self, taker: Taker, item: Item) {
        self.scratch.deliveries.push(Delivery { taker, number: self.number, own: item.own, len: item.len });
    }

    fn start(&self) -> Item {
        Item { hook: usize::MAX, len: self.frame.len() as u32, own: 0, hops: 0 }
    }
}

impl State {
    /// A frame that an interface sends.
    pub fn frame_from(&mut self, slot: Slot, side: Side, walk: &mut Walk<'_>) {
        let Some(node) = self.nodes.get(slot) else { return };
        let hook = match &node.kind {
            Kind::Eiface(eiface) => {
                walk.child_vnet = eiface.child_vnet;
                eiface.ether
            }
            Kind::Ether(ether) => {
                let start = walk.start();
                match (side, ether.lower, ether.upper) {
                    // ng_ether_input and ng_ether_output: a hook that is not connected lets the frame go on.
                    (Side::Wire, None, _) => return walk.give(Taker::Port(ether.stack.clone()), start),
                    (Side::Stack, _, None) => return walk.give(Taker::Port(ether.wire.clone()), start),
                    (Side::Wire, lower, _) => lower,
                    (Side::Stack, _, upper) => upper,
                }
            }
            _ => None,
        };
        if let Some(hook) = hook {
            self.frame_out(hook, walk);
        }
    }

    /// A frame that leaves a node by a hook, and its ways from there.
    pub fn frame_out(&mut self, hook: HookIndex, walk: &mut Walk<'_>) {
        let Some(peer) = self.hooks.get(hook).map(|hook| hook.peer) else { return };
        walk.push(walk.start(), peer);
        while let Some(item) = walk.scratch.stack.pop() {
            self.arrive(walk, item);
        }
    }

    fn arrive(&mut self, walk: &mut Walk<'_>, item: Item) {
        let Some(hook) = self.hooks.get(item.hook) else { return };
        let Some(node) = self.nodes.get(hook.node) else { return };
        match &node.kind {
            Kind::Bridge(_) => self.bridge_frame(walk, item),
            Kind::Bpf => self.bpf_frame(walk, item),
            Kind::Eiface(eiface) => walk.give(Taker::Port(eiface.port.clone()), item),
            Kind::Hub { .. } => {
                for other in node.hooks.values().filter(|other| **other != item.hook) {
                    if let Some(other) = self.hooks.get(*other) {
                        walk.push(item, other.peer);
                    }
                }
            }
            Kind::Socket(socket) => {
                // Without a data socket a socket node is a black hole.
                if let Some(sink) = &socket.data {
                    walk.give(Taker::Socket(sink.clone(), hook.name), item);
                }
            }
            Kind::Ether(ether) => {
                if walk.bytes(item).len() < 14 {
                    return;
                }
                if ether.upper == Some(item.hook) {
                    return walk.give(Taker::Port(ether.stack.clone()), item);
                }
                let mut item = item;
                if ether.autosrc {
                    let mut own = walk.bytes(item).to_vec();
                    own.iter_mut().skip(6).zip(ether.mac.0).for_each(|(to, from)| *to = from);
                    walk.scratch.owned.push(own);
                    item.own = walk.scratch.owned.len() as u32;
                }
                walk.give(Taker::Port(ether.wire.clone()), item);
            }
        }
    }
}
