//! How messages reach a graph: a control socket of the kernel, a descriptor somebody else gave, or a graph in this process.

pub mod fd;
pub mod frame;
#[cfg(target_os = "freebsd")]
pub mod freebsd;
#[cfg(feature = "userland")]
pub mod memory;

use crate::addr::SockaddrNg;
use std::io;
use std::time::Duration;

/// A message that arrived on a control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// `[id]:` of the node that sent it.
    pub from: SockaddrNg,
    /// Header and arguments, as they came.
    pub message: Vec<u8>,
}

/// One control socket. Errors carry the local system's errno ([`crate::Errno::from_io`] turns it into FreeBSD's).
pub trait Transport: Send {
    /// Sends a message; returns when the node has applied it and its reply, if there is one, is queued, with the error of either
    /// (ng_socket.c:ngc_send): so ENOBUFS may mean that the request was done and its reply lost. The kernel's wait has neither a timeout nor an interruption: call it on a thread that may wait.
    fn send(&mut self, to: &SockaddrNg, message: &[u8]) -> io::Result<()>;

    /// Waits for the next message: at most `timeout`, then `None`. ENOBUFS says that one was lost for lack of buffer space
    /// (SO_RERROR), UnexpectedEof that the socket's node is gone.
    fn receive(&mut self, timeout: Duration) -> io::Result<Option<Received>>;
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn send(&mut self, to: &SockaddrNg, message: &[u8]) -> io::Result<()> {
        (**self).send(to, message)
    }
    fn receive(&mut self, timeout: Duration) -> io::Result<Option<Received>> {
        (**self).receive(timeout)
    }
}

/// Receive buffers to ask for, the largest first: what FreeBSD 15, 13.2 and a shrunken `kern.ipc.maxsockbuf` allow.
pub(crate) const RECEIVE_BUFFERS: [usize; 6] = [7_456_540, 1_864_135, 1 << 20, 1 << 18, 1 << 16, 20_480];

/// The error of a socket whose node has been shut down: recv(2) on it gives an end of file.
pub(crate) fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the socket's node has been shut down")
}

/// Waits until a descriptor is ready for these events; false when the time is up. Interruptions are waited out.
pub(crate) fn wait(
    fd: std::os::fd::BorrowedFd<'_>,
    events: nix::poll::PollFlags,
    timeout: Duration,
) -> io::Result<bool> {
    use nix::poll::{PollFd, PollTimeout, poll};
    let deadline = std::time::Instant::now().checked_add(timeout);
    loop {
        let left = match deadline {
            Some(deadline) => deadline.saturating_duration_since(std::time::Instant::now()),
            None => Duration::MAX,
        };
        // Rounded up, so that the last fraction of a millisecond is not spent spinning.
        let millis = i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
        match poll(&mut [PollFd::new(fd, events)], PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX))
        {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}
