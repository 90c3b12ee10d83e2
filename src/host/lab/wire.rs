//! One message: JSON in one packet of a SEQPACKET socket, with descriptors beside it (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest message. Below the default `net.core.wmem_max` (212,992), so that no privilege is needed to send it.
pub const LARGEST: usize = 128 * 1024;
/// The most descriptors in one message.
const MOST_FDS: usize = 8;

/// Sends a message with descriptors.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LARGEST || fds.len() > MOST_FDS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|_| ()).map_err(Into::into),
        }
    }
}

/// Waits for a message. `None` is the end: the other side is gone.
///
/// # Errors
/// `WouldBlock` when the socket's receive timeout is over, EMFILE where descriptors came and could not be taken, `InvalidData` for
/// what is not a whole message of the type.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LARGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    // Those that came and for which there was no room here are lost.
    if received.flags.contains(ReturnFlags::CTRUNC) && fds.len() < MOST_FDS {
        return Err(rustix::io::Errno::MFILE.into());
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message cut short"));
    }
    Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, fds)))
}

/// Sets how long a receive may wait. `None`: for ever.
pub fn set_timeout(socket: impl AsFd, timeout: Option<std::time::Duration>) -> io::Result<()> {
    rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, timeout)
        .map_err(Into::into)
}

/// A pair of connected sockets of this kind.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &vec!["x".repeat(60_000)], &[a.as_fd(), b.as_fd()]).unwrap();
        let (message, fds): (Vec<String>, _) = receive(b.as_fd()).unwrap().unwrap();
        assert_eq!((message[0].len(), fds.len()), (60_000, 2));
        drop(fds);
        drop(a);
        assert!(receive::<String>(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_message_of_another_type_is_an_error_and_not_a_panic() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &7, &[]).unwrap();
        assert_eq!(receive::<String>(b.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
