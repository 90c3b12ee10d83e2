//! Requests to nodes, one at a time over one control socket.
//!
//! A control socket has one slot for the error of a send (ng_socket.c: `priv->error`), and its replies are queued by another
//! thread. So a handle has one request in flight: threads that share it queue up, and who wants more at once opens more handles.
//! Replies are matched by token; those of a request that was given up are passed over.
//!
//! ```
//! # #[cfg(feature = "userland")] {
//! use warren_netgraph::{Handle, NodeRef, userland::{Graph, MemoryPorts}};
//! let graph = Graph::new(MemoryPorts::default());
//! let handle = Handle::new(graph.transport());
//! handle.node(NodeRef::Own).mkpeer("hub", "x", "y")?;
//! let hub = handle.node(NodeRef::Own).peer("x")?.id;
//! handle.node(hub).set_name("nursery")?;
//! handle.hub(hub).set_persistent()?;
//! # }
//! # Ok::<(), warren_netgraph::Error>(())
//! ```

mod error;
mod generic;
mod nodes;

pub use error::Error;
pub use generic::Node;
pub use nodes::{Bpf, Bridge, Eiface, Ether, Hub, Socket};

use crate::addr::{NodeRef, SockaddrNg};
use crate::codec::{Kind, Message, Payload, Request, encode};
use crate::errno::Errno;
use crate::transport::{Received, Transport};
use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a reply is waited for unless said otherwise.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a query is asked whose reply got lost.
const ATTEMPTS: usize = 3;
/// Messages nobody asked for that are kept; the oldest goes first.
const EVENTS_MAX: usize = 64;
/// How many old messages are looked at before a request; a peer that floods is not listened to for ever.
const STALE_MAX: usize = 1024;

/// A control socket, and the requests over it. It blocks: call it on a thread that may wait.
#[derive(Debug)]
pub struct Handle<T> {
    inner: Mutex<Inner<T>>,
    timeout: Duration,
}

#[derive(Debug)]
struct Inner<T> {
    transport: T,
    token: u32,
    events: VecDeque<Received>,
}

impl<T: Transport> Handle<T> {
    /// A handle over this control socket, which it has to itself.
    pub fn new(transport: T) -> Handle<T> {
        Handle {
            inner: Mutex::new(Inner { transport, token: 0, events: VecDeque::new() }),
            timeout: REPLY_TIMEOUT,
        }
    }

    /// Waits this long for each reply instead of [`REPLY_TIMEOUT`].
    pub fn with_timeout(self, timeout: Duration) -> Handle<T> {
        Handle { timeout, ..self }
    }

    /// The control socket back.
    pub fn into_transport(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner).transport
    }

    /// Does something with the control socket between two requests.
    pub fn with_transport<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        run(&mut self.lock().transport)
    }

    /// Messages that nobody asked for (a link's state, say), oldest first; at most 64 are kept, and they are noticed only while
    /// a request is under way.
    pub fn take_events(&self) -> Vec<Received> {
        self.lock().events.drain(..).collect()
    }

    /// Sends a request to a node and waits for its reply, if it has one. The typed methods are thin covers of this.
    ///
    /// # Errors
    /// [`Error`] names the node, the operation and what came of it. A query whose reply was lost is asked again; other requests
    /// are not, since they may have been done.
    pub fn request<'n, R: Request>(
        &self,
        node: impl Into<NodeRef<'n>>,
        request: &R,
    ) -> Result<R::Reply, Error> {
        let node = node.into();
        let text = node.to_string();
        let address =
            SockaddrNg::new(text.as_bytes()).ok_or_else(|| Error::Address { node: text.clone() })?;
        let asked = Asked { node: text, operation: R::NAME };
        let mut inner = self.lock();
        let mut attempt = 0;
        loop {
            attempt += 1;
            match inner.exchange(&address, request, &asked, self.timeout) {
                Err(Error::ReplyLost { .. }) if R::KIND == Kind::Query && attempt < ATTEMPTS => {}
                outcome => return outcome,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an error has to name.
struct Asked {
    node: String,
    operation: &'static str,
}

impl Asked {
    fn failed(&self, error: io::Error) -> Error {
        let (node, operation) = (self.node.clone(), self.operation);
        match Errno::from_io(&error) {
            Some(errno) => Error::Refused { node, operation, errno },
            None => Error::Io { node, operation, source: error },
        }
    }
}

impl<T: Transport> Inner<T> {
    fn exchange<R: Request>(
        &mut self,
        address: &SockaddrNg,
        request: &R,
        asked: &Asked,
        timeout: Duration,
    ) -> Result<R::Reply, Error> {
        // libnetgraph keeps tokens positive as an int, and so does this.
        self.token = self.token.wrapping_add(1) & 0x7fff_ffff;
        let answered = R::KIND != Kind::Effect;
        if answered {
            self.clear_stale();
        }
        match self.transport.send(address, &encode(request, self.token)) {
            // The kernel's sendto waits for the reply to be queued as well, and fails with what that fails with.
            Err(e) if answered && Errno::from_io(&e) == Some(Errno::ENOBUFS) => {
                return Err(Error::ReplyLost { node: asked.node.clone(), operation: asked.operation });
            }
            outcome => outcome.map_err(|e| asked.failed(e))?,
        }
        if !answered {
            return R::Reply::from_bytes(&[]).map_err(|source| asked.unreadable(source));
        }
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let received = match self.transport.receive(left) {
                Ok(Some(received)) => received,
                Ok(None) => {
                    let Asked { node, operation } = asked;
                    return Err(Error::Timeout { node: node.clone(), operation, after: timeout });
                }
                Err(e) if Errno::from_io(&e) == Some(Errno::ENOBUFS) => {
                    return Err(Error::ReplyLost { node: asked.node.clone(), operation: asked.operation });
                }
                Err(e) => return Err(asked.failed(e)),
            };
            match Message::parse(&received.message) {
                Ok(message) if self.answers::<R>(&message) => {
                    return R::Reply::from_bytes(message.data).map_err(|source| asked.unreadable(source));
                }
                Ok(message) if !message.header.is_response() => self.keep(received),
                // A reply to something given up, or nothing that can be read.
                _ => {}
            }
        }
    }

    fn answers<R: Request>(&self, message: &Message<'_>) -> bool {
        let header = &message.header;
        header.is_response()
            && header.token == self.token
            && header.cookie == R::COOKIE
            && header.command == R::COMMAND
    }

    /// Takes what has been waiting, so that a loss reported from now on is one of this request's.
    fn clear_stale(&mut self) {
        for _ in 0..STALE_MAX {
            match self.transport.receive(Duration::ZERO) {
                Ok(Some(received)) => {
                    if Message::parse(&received.message).is_ok_and(|m| !m.header.is_response()) {
                        self.keep(received);
                    }
                }
                Err(e) if Errno::from_io(&e) == Some(Errno::ENOBUFS) => {}
                // The send will meet any other error again.
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn keep(&mut self, event: Received) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl Asked {
    fn unreadable(&self, source: crate::codec::DecodeError) -> Error {
        Error::Reply { node: self.node.clone(), operation: self.operation, source }
    }
}

#[cfg(test)]
mod tests;
