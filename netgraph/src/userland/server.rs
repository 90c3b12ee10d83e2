//! Sockets of a graph for other processes, by the protocol of [`crate::transport::frame`].
//!
//! One thread serves all of them: it carries messages to the graph and replies back, and frames from the clients into it. Frames
//! to the clients are written by whoever forwards them. A client that closes its control descriptor, or does not keep to the
//! protocol, loses its socket node; one that does not read loses replies and frames, as it would with a kernel.

use super::graph::Graph;
use super::socket::{ControlQueue, DataSink, Event, SPACE};
use crate::addr::{NodeId, SockaddrNg};
use crate::data::{receive_data, send_data};
use crate::errno::Errno;
use crate::name::HookName;
use crate::transport::frame::{
    self, Assembler, CHUNK, FRAME_MAX, HEADER, Op, Packet, pair, receive_parts, send_parts,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Packets kept for a client that asks and does not read; beyond that it is cut off.
const BACKLOG_MAX: usize = 8192;
/// Frames taken from one client before the next has its turn.
const BATCH: usize = 64;
/// Buffers wanted for frames, in bytes. Less is taken where the system's limit is less.
const DATA_BUFFER: usize = 1 << 20;

/// Serves sockets of one graph. When it is dropped, they all end.
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    graph: Graph,
    /// Sockets that were opened and that the thread does not know yet.
    opened: Mutex<Vec<Client>>,
    stop: AtomicBool,
    waker: Arc<Waker>,
}

/// Wakes the thread out of its poll.
struct Waker {
    write: OwnedFd,
    pending: AtomicBool,
}

impl Waker {
    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // Full means that there is something to wake up for already.
            let _ = send_parts(self.write.as_fd(), &[&[1]]);
        }
    }
}

/// Where frames for a client go.
struct ClientData {
    fd: OwnedFd,
    lost: AtomicU64,
}

impl DataSink for ClientData {
    fn deliver(&self, hook: &HookName, frame: &[u8]) {
        if send_data(self.fd.as_fd(), hook, frame).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn close(&self) {
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }
}

struct Client {
    node: NodeId,
    queue: Arc<ControlQueue>,
    fd: OwnedFd,
    data: Option<Arc<ClientData>>,
    assembler: Assembler,
    /// Packets that did not fit yet.
    backlog: VecDeque<Vec<u8>>,
    /// Whether something was queued for it.
    ready: Arc<AtomicBool>,
}

impl Server {
    /// Starts serving.
    pub fn new(graph: Graph) -> io::Result<Server> {
        let (read, write) = pair()?;
        let waker = Arc::new(Waker { write, pending: AtomicBool::new(false) });
        let shared =
            Arc::new(Shared { graph, opened: Mutex::default(), stop: AtomicBool::new(false), waker });
        let mine = shared.clone();
        let thread =
            std::thread::Builder::new().name("netgraph-server".into()).spawn(move || serve(&mine, &read))?;
        Ok(Server { shared, thread: Some(thread) })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.shared.graph
    }

    /// A new socket node with a data socket: the client's descriptors, control and data, to be passed on (SCM_RIGHTS) and used with
    /// [`crate::transport::fd::FdTransport`] and [`crate::data::FdData`]. They are closed on exec.
    pub fn open_socket(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let (control, theirs) = pair()?;
        let (data, their_data) = pair()?;
        for fd in [&data, &their_data] {
            // As much as the system allows; what it allows by itself is enough to work with.
            let _ = setsockopt(fd, sockopt::SndBuf, &DATA_BUFFER);
        }
        let ready = Arc::new(AtomicBool::new(false));
        let (flag, waker) = (ready.clone(), self.shared.waker.clone());
        let (node, queue) = self.shared.graph.add_socket(Box::new(move || {
            flag.store(true, Ordering::Release);
            waker.wake();
        }));
        let data = Arc::new(ClientData { fd: data, lost: AtomicU64::new(0) });
        if let Err(errno) = self.shared.graph.attach_data(node, data.clone()) {
            self.shared.graph.close_socket(node);
            return Err(errno.into());
        }
        let client = Client {
            node,
            queue,
            fd: control,
            data: Some(data),
            assembler: Assembler::default(),
            backlog: VecDeque::new(),
            ready,
        };
        self.shared.opened.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        self.shared.waker.wake();
        Ok((theirs, their_data))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for client in self.shared.opened.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.shared.graph.close_socket(client.node);
        }
    }
}

/// A client that is to be cut off.
struct Gone;

fn serve(shared: &Shared, wake: &OwnedFd) {
    let mut clients: Vec<Client> = Vec::new();
    let mut buffers = Buffers { packet: vec![0; HEADER + CHUNK], frame: vec![0; FRAME_MAX] };
    loop {
        let events = wait(&clients, wake.as_fd());
        let mut byte = [0];
        while matches!(receive_parts(wake.as_fd(), &mut [IoSliceMut::new(&mut byte)]), Ok(1..)) {}
        // Before anything is looked at, so that whatever comes from now on wakes again.
        shared.waker.pending.store(false, Ordering::Release);
        if shared.stop.load(Ordering::Acquire) {
            break;
        }
        let mut kept = Vec::with_capacity(clients.len());
        for (at, mut client) in clients.into_iter().enumerate() {
            let (control, data) = events.get(at).copied().unwrap_or_default();
            match client.turn(&shared.graph, control, data, &mut buffers) {
                Ok(()) => kept.push(client),
                Err(Gone) => shared.graph.close_socket(client.node),
            }
        }
        clients = kept;
        let opened = std::mem::take(&mut *shared.opened.lock().unwrap_or_else(PoisonError::into_inner));
        for mut client in opened {
            // Something may have been queued to it before it was known here.
            match client.flush() {
                Ok(()) => clients.push(client),
                Err(Gone) => shared.graph.close_socket(client.node),
            }
        }
    }
    clients.iter().for_each(|client| shared.graph.close_socket(client.node));
}

/// Whether a client's control and data descriptors have something, or room for something.
fn wait(clients: &[Client], wake: BorrowedFd<'_>) -> Vec<(bool, bool)> {
    let mut fds = Vec::with_capacity(1 + 2 * clients.len());
    fds.push(PollFd::new(wake, PollFlags::POLLIN));
    for client in clients {
        let out = if client.backlog.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        fds.push(PollFd::new(client.fd.as_fd(), PollFlags::POLLIN | out));
        let (fd, events) = match &client.data {
            Some(data) => (data.fd.as_fd(), PollFlags::POLLIN),
            None => (client.fd.as_fd(), PollFlags::empty()),
        };
        fds.push(PollFd::new(fd, events));
    }
    // An interruption or a shortage of memory: look at everything, it costs nothing but time.
    let all = poll(&mut fds, PollTimeout::NONE).is_err();
    let any = |fd: &PollFd<'_>| all || fd.revents().is_none_or(|events| !events.is_empty());
    fds.get(1..).unwrap_or_default().chunks_exact(2).map(|two| (any(&two[0]), any(&two[1]))).collect()
}

struct Buffers {
    packet: Vec<u8>,
    frame: Vec<u8>,
}

impl Client {
    fn turn(&mut self, graph: &Graph, control: bool, data: bool, buffers: &mut Buffers) -> Result<(), Gone> {
        if control {
            self.requests(graph, &mut buffers.packet)?;
        }
        if data {
            self.frames(graph, &mut buffers.frame);
        }
        // A flag set after this is seen in the next round: it woke us.
        let ready = self.ready.swap(false, Ordering::AcqRel);
        if ready || control || !self.backlog.is_empty() { self.flush() } else { Ok(()) }
    }

    /// Takes requests, one after the other.
    fn requests(&mut self, graph: &Graph, buffer: &mut [u8]) -> Result<(), Gone> {
        for _ in 0..BATCH {
            if self.backlog.len() > BACKLOG_MAX {
                return Err(Gone);
            }
            let packet = match receive_parts(self.fd.as_fd(), &mut [IoSliceMut::new(buffer)]) {
                Ok(0) => return Err(Gone),
                Ok(len) => Packet::parse(buffer.get(..len).unwrap_or_default()).map_err(|_| Gone)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Gone),
            };
            // The address and the largest message: what is longer is EMSGSIZE, however much longer.
            let limit = SockaddrNg::MAX + SPACE;
            if let Some(request) = self.assembler.add(packet, limit).map_err(|_| Gone)? {
                let outcome = self.answer(graph, &request)?;
                let errno = outcome.err().map_or(0, |errno| errno.0);
                self.backlog.extend(Packet::cut(Op::Result, request.serial, errno, &[]));
            }
        }
        Ok(())
    }

    fn answer(&self, graph: &Graph, request: &Packet) -> Result<Result<(), Errno>, Gone> {
        Ok(match request.op {
            Op::Send => match frame::split(&request.body) {
                Some((to, message)) => graph.send_control(self.node, &to, message),
                None => Err(Errno::EINVAL),
            },
            Op::Bind => bind(graph, self.node, &request.body),
            Op::ReceiveBuffer => self.queue.set_limit(request.value as usize),
            Op::ReportLoss => {
                self.queue.set_report_loss(request.value != 0);
                Ok(())
            }
            Op::Result | Op::Message | Op::Error => return Err(Gone),
        })
    }

    /// Takes frames into the graph. What does not go anywhere is dropped.
    fn frames(&mut self, graph: &Graph, buffer: &mut [u8]) {
        let Some(data) = &self.data else { return };
        for _ in 0..BATCH {
            match receive_data(data.fd.as_fd(), buffer, Duration::ZERO) {
                Ok(Some((hook, len))) => {
                    let _ = graph.send_data(self.node, &hook, buffer.get(..len).unwrap_or_default());
                }
                Ok(None) => return,
                // A packet too long, or without an address: that one is gone.
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {}
                Err(e) if Errno::from_io(&e) == Some(Errno::EMSGSIZE) => {}
                Err(_) => {
                    graph.detach_data(self.node);
                    self.data = None;
                    return;
                }
            }
        }
    }

    /// Sends what there is, as far as it fits.
    fn flush(&mut self) -> Result<(), Gone> {
        loop {
            while let Some(packet) = self.backlog.front() {
                match send_parts(self.fd.as_fd(), &[packet]) {
                    Ok(()) => drop(self.backlog.pop_front()),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(_) => return Err(Gone),
                }
            }
            match self.queue.pop() {
                None => return Ok(()),
                Some(Event::Message(received)) => {
                    let body = frame::join(&received.from, &received.message);
                    self.backlog.extend(Packet::cut(Op::Message, 0, 0, &body));
                }
                Some(Event::Error(errno)) => self.backlog.extend(Packet::cut(Op::Error, 0, errno.0, &[])),
                Some(Event::Closed) => return Err(Gone),
            }
        }
    }
}

/// ng_bind: a name of at least one byte, with its NUL.
fn bind(graph: &Graph, node: NodeId, body: &[u8]) -> Result<(), Errno> {
    let address = SockaddrNg::parse(body).ok_or(Errno::EINVAL)?;
    if address.sg_len() < 4 || address.text().is_empty() || address.as_bytes().last() != Some(&0) {
        return Err(Errno::EINVAL);
    }
    graph.bind_socket(node, address.text())
}
