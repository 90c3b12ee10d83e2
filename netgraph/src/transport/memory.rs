//! A control socket of a graph in this process.

use super::{Received, Transport};
use crate::addr::{NodeId, SockaddrNg};
use crate::errno::Errno;
use crate::userland::MemorySocket;
use std::io;
use std::time::Duration;

/// Sends straight to a userland graph. When it is dropped, the socket's node dies.
pub struct MemoryTransport(MemorySocket);

impl MemoryTransport {
    pub(crate) fn new(socket: MemorySocket) -> MemoryTransport {
        MemoryTransport(socket)
    }

    /// The socket's node.
    pub fn node(&self) -> NodeId {
        self.0.node()
    }

    /// Sets the size of the receive buffer, in bytes.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<(), Errno> {
        self.0.control().set_limit(bytes)
    }

    /// Whether a lost message makes the next receive fail with ENOBUFS.
    pub fn set_report_loss(&self, on: bool) {
        self.0.control().set_report_loss(on);
    }
}

impl std::fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryTransport({})", self.node())
    }
}

impl Transport for MemoryTransport {
    fn send(&mut self, to: &SockaddrNg, message: &[u8]) -> io::Result<()> {
        Ok(self.0.send(to, message)?)
    }

    fn receive(&mut self, timeout: Duration) -> io::Result<Option<Received>> {
        self.0.receive(timeout)
    }
}
