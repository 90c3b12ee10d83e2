//! Socket nodes: a control queue with the kernel's bounds, and where their frames go (netgraph/ng_socket.c).

use super::graph::Graph;
use crate::addr::{NodeId, SockaddrNg};
use crate::data::DataSocket;
use crate::errno::Errno;
use crate::name::HookName;
use crate::transport::{Received, gone};
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `net.graph.recvspace` and `net.graph.maxdgram`.
pub(super) const SPACE: usize = 20480;

/// What the state keeps of a socket node.
pub(super) struct Socket {
    pub control: Arc<ControlQueue>,
    pub data: Option<Arc<dyn DataSink>>,
    /// NGM_SOCK_CMD_NOLINGER: the node ends with its last hook.
    pub no_linger: bool,
}

/// Where the frames go that arrive at a socket node. Called without the graph's lock held.
pub trait DataSink: Send + Sync {
    /// Takes a frame that came in by a hook; it must not wait.
    fn deliver(&self, hook: &HookName, frame: &[u8]);
    /// The node is gone.
    fn close(&self);
}

/// What a receive on a control socket gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message(Received),
    /// An error: ENOBUFS when a message was lost.
    Error(Errno),
    /// The node is gone.
    Closed,
}

/// The receive buffer of a control socket: bounded in bytes, all or nothing. A message takes the sender's address and itself.
pub struct ControlQueue {
    inner: Mutex<Inner>,
    ready: Condvar,
    /// Size of `struct sockaddr_ng`: 16 on 13.2, 34 on 15.
    address_len: usize,
    limit_max: usize,
    wake: Box<dyn Fn() + Send + Sync>,
}

struct Inner {
    messages: VecDeque<Received>,
    used: usize,
    limit: usize,
    report_loss: bool,
    lost: bool,
    closed: bool,
}

impl ControlQueue {
    pub(super) fn new(
        address_len: usize,
        limit_max: usize,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> ControlQueue {
        let inner = Inner {
            messages: VecDeque::new(),
            used: 0,
            limit: SPACE,
            report_loss: false,
            lost: false,
            closed: false,
        };
        ControlQueue { inner: Mutex::new(inner), ready: Condvar::new(), address_len, limit_max, wake }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a message if it fits (sbappendaddr_locked); whether it did. It does not wake anybody: [`ControlQueue::notify`]
    /// does, once the graph's lock is released.
    pub(super) fn push(&self, from: NodeId, message: Vec<u8>) -> bool {
        let mut inner = self.lock();
        let size = self.address_len + message.len();
        let address = SockaddrNg::new(format!("{from}:").as_bytes());
        match address {
            Some(from) if !inner.closed && inner.used + size <= inner.limit => {
                inner.used += size;
                inner.messages.push_back(Received { from, message });
                true
            }
            _ => {
                inner.lost |= inner.report_loss;
                false
            }
        }
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// Wakes who waits.
    pub(super) fn notify(&self) {
        self.ready.notify_all();
        (self.wake)();
    }

    /// Takes the next event, if there is one: messages first, then the loss, then the end.
    pub fn pop(&self) -> Option<Event> {
        self.lock().pop(self.address_len)
    }

    fn wait(&self, timeout: Duration) -> Option<Event> {
        let deadline = Instant::now().checked_add(timeout);
        let mut inner = self.lock();
        loop {
            if let Some(event) = inner.pop(self.address_len) {
                return Some(event);
            }
            let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            inner = self.ready.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// SO_RCVBUF: the limit in bytes. ENOBUFS above what the release allows.
    pub fn set_limit(&self, bytes: usize) -> Result<(), Errno> {
        if bytes == 0 || bytes > self.limit_max {
            return Err(if bytes == 0 { Errno::EINVAL } else { Errno::ENOBUFS });
        }
        self.lock().limit = bytes;
        Ok(())
    }

    /// The most [`ControlQueue::set_limit`] takes.
    pub fn limit_max(&self) -> usize {
        self.limit_max
    }

    /// SO_RERROR: whether a loss is an event.
    pub fn set_report_loss(&self, on: bool) {
        let mut inner = self.lock();
        inner.report_loss = on;
        inner.lost &= on;
    }
}

impl Inner {
    fn pop(&mut self, address_len: usize) -> Option<Event> {
        if let Some(received) = self.messages.pop_front() {
            self.used = self.used.saturating_sub(address_len + received.message.len());
            return Some(Event::Message(received));
        }
        if std::mem::take(&mut self.lost) {
            return Some(Event::Error(Errno::ENOBUFS));
        }
        self.closed.then_some(Event::Closed)
    }
}

/// A control socket in this process, straight on the graph. When it is dropped, its node dies.
pub struct MemorySocket {
    pub(super) graph: Graph,
    pub(super) node: NodeId,
    pub(super) control: Arc<ControlQueue>,
}

impl MemorySocket {
    pub(crate) fn send(&self, to: &SockaddrNg, message: &[u8]) -> Result<(), Errno> {
        self.graph.send_control(self.node, to, message)
    }

    pub(crate) fn receive(&self, timeout: Duration) -> io::Result<Option<Received>> {
        match self.control.wait(timeout) {
            None => Ok(None),
            Some(Event::Message(received)) => Ok(Some(received)),
            Some(Event::Error(errno)) => Err(errno.into()),
            Some(Event::Closed) => Err(gone()),
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn control(&self) -> &ControlQueue {
        &self.control
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.graph.close_socket(self.node);
    }
}

/// A data socket in this process. Frames it has no room for are lost.
pub struct MemoryData {
    graph: Graph,
    node: NodeId,
    sink: Arc<MemorySink>,
}

struct MemorySink {
    inner: Mutex<SinkInner>,
    ready: Condvar,
    limit: usize,
}

#[derive(Default)]
struct SinkInner {
    frames: VecDeque<(HookName, Vec<u8>)>,
    used: usize,
    closed: bool,
}

impl MemorySink {
    fn lock(&self) -> MutexGuard<'_, SinkInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DataSink for MemorySink {
    fn deliver(&self, hook: &HookName, frame: &[u8]) {
        let mut inner = self.lock();
        // The address ngs_rcvdata makes: the name, its NUL, length and family.
        let size = hook.as_bytes().len() + 3 + frame.len();
        if !inner.closed && inner.used + size <= self.limit {
            inner.used += size;
            inner.frames.push_back((*hook, frame.to_vec()));
            self.ready.notify_all();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }
}

impl MemoryData {
    /// Attaches a data socket to a socket node that has none (EADDRINUSE), with a buffer of so many bytes.
    pub(super) fn attach(graph: &Graph, node: NodeId, limit: usize) -> Result<MemoryData, Errno> {
        let sink = Arc::new(MemorySink { inner: Mutex::default(), ready: Condvar::new(), limit });
        graph.attach_data(node, sink.clone())?;
        Ok(MemoryData { graph: graph.clone(), node, sink })
    }
}

impl DataSocket for MemoryData {
    fn send(&self, hook: &HookName, frame: &[u8]) -> io::Result<()> {
        Ok(self.graph.send_data(self.node, hook, frame)?)
    }

    fn receive(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<(HookName, usize)>> {
        let deadline = Instant::now().checked_add(timeout);
        let mut inner = self.sink.lock();
        loop {
            if let Some((hook, frame)) = inner.frames.pop_front() {
                inner.used = inner.used.saturating_sub(hook.as_bytes().len() + 3 + frame.len());
                buffer.get_mut(..frame.len()).ok_or(Errno::EMSGSIZE)?.copy_from_slice(&frame);
                return Ok(Some((hook, frame.len())));
            }
            if inner.closed {
                return Err(gone());
            }
            let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            inner = self.sink.ready.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for MemoryData {
    fn drop(&mut self) {
        self.graph.detach_data(self.node);
    }
}
