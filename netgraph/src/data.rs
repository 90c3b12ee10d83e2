//! Data sockets: whole frames, each with the hook it came in by or is to go out of.

use crate::addr::SockaddrNg;
use crate::errno::Errno;
use crate::name::HookName;
use crate::transport::frame::{receive_parts, send_parts};
use crate::transport::{gone, wait};
use nix::poll::PollFlags;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The data half of a socket node.
pub trait DataSocket: Send + Sync {
    /// Sends a frame out of a hook. It does not wait for room: a full buffer is WouldBlock or ENOBUFS.
    fn send(&self, hook: &HookName, frame: &[u8]) -> io::Result<()>;

    /// Waits for a frame, at most `timeout`; `Duration::ZERO` looks and returns. Gives the hook and the frame's length in
    /// `buffer`, or `None` when the time is up. A frame that does not fit is EMSGSIZE and gone; UnexpectedEof is the end of the node.
    fn receive(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<(HookName, usize)>>;

    /// What to poll for readability, if there is a descriptor.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// A data socket over a descriptor that the graph's holder gave ([`crate::transport::frame`]).
#[derive(Debug)]
pub struct FdData(OwnedFd);

impl FdData {
    /// Speaks over this descriptor: the `data` half.
    pub fn new(data: OwnedFd) -> FdData {
        FdData(data)
    }
}

impl AsFd for FdData {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl DataSocket for FdData {
    fn send(&self, hook: &HookName, frame: &[u8]) -> io::Result<()> {
        send_data(self.0.as_fd(), hook, frame)
    }

    fn receive(&self, buffer: &mut [u8], timeout: Duration) -> io::Result<Option<(HookName, usize)>> {
        receive_data(self.0.as_fd(), buffer, timeout)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// One packet of the data protocol.
pub(crate) fn send_data(fd: BorrowedFd<'_>, hook: &HookName, frame: &[u8]) -> io::Result<()> {
    let mut address = [0; SockaddrNg::MAX];
    let given = SockaddrNg::new(hook.as_bytes()).ok_or(Errno::EINVAL)?;
    for (to, from) in address.iter_mut().zip(given.as_bytes()) {
        *to = *from;
    }
    send_parts(fd, &[&address, frame])
}

/// The reverse.
pub(crate) fn receive_data(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    timeout: Duration,
) -> io::Result<Option<(HookName, usize)>> {
    let mut address = [0; SockaddrNg::MAX];
    loop {
        let mut parts = [IoSliceMut::new(&mut address), IoSliceMut::new(buffer)];
        match receive_parts(fd, &mut parts) {
            Ok(0) => return Err(gone()),
            Ok(len) => {
                let from =
                    SockaddrNg::parse(&address).filter(|_| len >= SockaddrNg::MAX).ok_or_else(|| {
                        io::Error::new(
                            io::ErrorKind::InvalidData,
                            "a data packet without the address of a hook",
                        )
                    })?;
                return Ok(Some((HookName::from_wire(from.text()), len - SockaddrNg::MAX)));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if timeout.is_zero() || !wait(fd, PollFlags::POLLIN, timeout)? {
                    return Ok(None);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(gone()),
            Err(e) => return Err(e),
        }
    }
}
