//! Interfaces: what a frame leaves the graph by, and comes in by.

use super::graph::Graph;
use super::walk::Scratch;
use crate::addr::{Mac, NodeId};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// An interface of an eiface node, or one side of an ether node. Methods are called without the graph's lock held.
pub trait Port: Send + Sync {
    /// The interface's name, as it is now.
    fn name(&self) -> io::Result<String>;

    /// Its Ethernet address.
    fn mac(&self) -> io::Result<Mac>;

    /// Sets it.
    fn set_mac(&self, mac: Mac) -> io::Result<()>;

    /// Hands it a frame, as if it had come off the wire. It must not wait: what cannot be taken now is lost.
    fn transmit(&self, frame: &[u8]);

    /// Tells it whether there is a wire: the node's hook is connected, and nobody took the carrier down.
    fn set_carrier(&self, up: bool);

    /// Tells it, once, where the frames that it sends go.
    fn attach(&self, input: Input);
}

/// Makes the interface of a new eiface. The interface is gone when its [`Port`] is dropped.
pub trait PortFactory: Send + Sync {
    /// Makes the interface `ngeth<unit>`.
    fn create(&self, unit: u16) -> io::Result<Box<dyn Port>>;
}

impl<F: PortFactory + ?Sized> PortFactory for Arc<F> {
    fn create(&self, unit: u16) -> io::Result<Box<dyn Port>> {
        (**self).create(unit)
    }
}

/// Makes no interface: a graph for hubs, bridges, filters and sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPorts;

impl PortFactory for NoPorts {
    fn create(&self, _: u16) -> io::Result<Box<dyn Port>> {
        Err(crate::Errno::EOPNOTSUPP.into())
    }
}

/// Which side of a node a frame comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The machine's network stack: all an eiface has, and the upper side of an ether.
    Stack,
    /// The wire of an ether.
    Wire,
}

/// Where an interface puts the frames it sends. It does not keep the graph alive; when that is gone, frames are dropped.
#[derive(Clone)]
pub struct Input {
    pub(super) graph: Weak<super::graph::Shared>,
    pub(super) node: NodeId,
    pub(super) side: Side,
}

impl Input {
    /// The interface's node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Takes a frame from the interface and forwards it to its end.
    pub fn frame(&self, frame: &[u8]) {
        self.frames(&[frame]);
    }

    /// Takes several, for one lock. They are forwarded in order.
    pub fn frames(&self, frames: &[&[u8]]) {
        if let Some(shared) = self.graph.upgrade() {
            let mut scratch = Scratch::take();
            Graph::forward(&shared, self.node, self.side, frames, &mut scratch);
            scratch.give_back();
        }
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input({} {:?})", self.node, self.side)
    }
}

/// An interface in memory: keeps what it is handed, sends what it is told.
#[derive(Debug)]
pub struct MemoryPort {
    name: String,
    inner: Mutex<MemoryInner>,
    input: OnceLock<Input>,
}

#[derive(Debug)]
struct MemoryInner {
    mac: Mac,
    carrier: bool,
    received: VecDeque<Vec<u8>>,
    /// Frames handed over so far, kept or not.
    count: u64,
    limit: usize,
}

impl MemoryPort {
    /// An interface with this name and address that keeps the last `limit` frames.
    pub fn new(name: &str, mac: Mac, limit: usize) -> MemoryPort {
        let inner = MemoryInner { mac, carrier: false, received: VecDeque::new(), count: 0, limit };
        MemoryPort { name: name.to_owned(), inner: Mutex::new(inner), input: OnceLock::new() }
    }

    /// Sends a frame into the graph. Before the port is attached, nothing happens.
    pub fn send(&self, frame: &[u8]) {
        if let Some(input) = self.input.get() {
            input.frame(frame);
        }
    }

    /// Where it sends to.
    pub fn input(&self) -> Option<&Input> {
        self.input.get()
    }

    /// The frames kept, oldest first; they are kept no more.
    pub fn take(&self) -> Vec<Vec<u8>> {
        self.lock().received.drain(..).collect()
    }

    /// How many frames it was handed.
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// Whether it has a carrier.
    pub fn carrier(&self) -> bool {
        self.lock().carrier
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MemoryInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port for MemoryPort {
    fn name(&self) -> io::Result<String> {
        Ok(self.name.clone())
    }

    fn mac(&self) -> io::Result<Mac> {
        Ok(self.lock().mac)
    }

    fn set_mac(&self, mac: Mac) -> io::Result<()> {
        self.lock().mac = mac;
        Ok(())
    }

    fn transmit(&self, frame: &[u8]) {
        let mut inner = self.lock();
        inner.count += 1;
        if inner.limit > 0 {
            if inner.received.len() == inner.limit {
                inner.received.pop_front();
            }
            inner.received.push_back(frame.to_vec());
        }
    }

    fn set_carrier(&self, up: bool) {
        self.lock().carrier = up;
    }

    fn attach(&self, input: Input) {
        let _ = self.input.set(input);
    }
}

impl<P: Port + ?Sized> Port for Arc<P> {
    fn name(&self) -> io::Result<String> {
        (**self).name()
    }
    fn mac(&self) -> io::Result<Mac> {
        (**self).mac()
    }
    fn set_mac(&self, mac: Mac) -> io::Result<()> {
        (**self).set_mac(mac)
    }
    fn transmit(&self, frame: &[u8]) {
        (**self).transmit(frame);
    }
    fn set_carrier(&self, up: bool) {
        (**self).set_carrier(up);
    }
    fn attach(&self, input: Input) {
        (**self).attach(input);
    }
}

/// Makes [`MemoryPort`]s and lets a test reach them by unit. Clones share their ports.
#[derive(Debug, Clone)]
pub struct MemoryPorts {
    ports: Arc<Mutex<std::collections::HashMap<u16, Weak<MemoryPort>>>>,
    limit: usize,
}

impl Default for MemoryPorts {
    /// Ports that keep their last 4096 frames.
    fn default() -> MemoryPorts {
        MemoryPorts::keeping(4096)
    }
}

impl MemoryPorts {
    /// Ports that keep their last `limit` frames; with 0 they only count.
    pub fn keeping(limit: usize) -> MemoryPorts {
        MemoryPorts { ports: Arc::default(), limit }
    }

    /// The port of `ngeth<unit>`, while its node lives.
    pub fn get(&self, unit: u16) -> Option<Arc<MemoryPort>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).get(&unit)?.upgrade()
    }

    /// How many interfaces there are.
    pub fn alive(&self) -> usize {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.values().filter(|port| port.strong_count() > 0).count()
    }
}

impl PortFactory for MemoryPorts {
    fn create(&self, unit: u16) -> io::Result<Box<dyn Port>> {
        // FreeBSD's own prefix (ether_gen_addr); the unit makes it unique, which the kernel's hash does not.
        let [high, low] = unit.to_be_bytes();
        let mac = Mac([0x58, 0x9c, 0xfc, 0x10, high, low]);
        let port = Arc::new(MemoryPort::new(&format!("ngeth{unit}"), mac, self.limit));
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(unit, Arc::downgrade(&port));
        Ok(Box::new(port))
    }
}
