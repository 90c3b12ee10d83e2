//! Frames on the keeper's socket: so many bytes and so many descriptors.
//!
//! A frame is the length of its body and the number of its descriptors, each as a little-endian `u32`, and the body. The
//! descriptors travel as SCM_RIGHTS with the first byte. A stream socket and not SOCK_SEQPACKET, because FreeBSD caps a
//! packet of the latter at 8 KiB (`net.local.seqpacket.maxseqpacket`) and an environment is bigger than that.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::{Ask, Say};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The longest body, in bytes. An argument list and environment cannot be longer than this on either system.
pub const MAX_BODY: usize = 4 << 20;
/// The most descriptors in one frame.
pub const MAX_FDS: usize = 16;
const HEADER: usize = 8;

/// One message.
#[derive(Debug)]
pub struct Frame {
    /// JSON.
    pub body: Vec<u8>,
    /// What it carries.
    pub fds: Vec<OwnedFd>,
}

/// Puts frames together from what a socket gives, in whatever pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Decoder {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8], fds: impl IntoIterator<Item = OwnedFd>) {
        self.bytes.extend_from_slice(bytes);
        self.fds.extend(fds);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// What cannot be a frame: the peer speaks another language, and the connection is of no further use.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let count = u32::from_le_bytes([e, f, g, h]) as usize;
        if length > MAX_BODY || count > MAX_FDS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame of the keeper's protocol"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let body = body.to_vec();
        if self.fds.len() < count {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors were lost on the way"));
        }
        self.bytes.drain(..HEADER + length);
        Ok(Some(Frame { body, fds: self.fds.drain(..count).collect() }))
    }
}

/// A frame on its way out.
#[derive(Debug)]
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    /// Makes the bytes of a frame.
    ///
    /// # Errors
    /// A body or a number of descriptors above the limits.
    pub fn new(body: &[u8], fds: Vec<OwnedFd>) -> io::Result<Self> {
        let too_long =
            || io::Error::new(io::ErrorKind::InvalidInput, "a message too long for the keeper's protocol");
        if body.len() > MAX_BODY || fds.len() > MAX_FDS {
            return Err(too_long());
        }
        let length = u32::try_from(body.len()).map_err(|_| too_long())?;
        let count = u32::try_from(fds.len()).map_err(|_| too_long())?;
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(body);
        Ok(Self { bytes, sent: 0, fds })
    }

    /// How many bytes are still to go.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.sent)
    }

    /// Sends what the socket takes; `true` once everything is gone. On a socket that blocks, that is after the first call or so.
    ///
    /// # Errors
    /// Of sendmsg(2), `WouldBlock` among them.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let raw: Vec<RawFd> = self.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage] = if raw.is_empty() { &[] } else { &rights };
        let chunk = [IoSlice::new(self.bytes.get(self.sent..).unwrap_or_default())];
        let sent = sendmsg::<()>(socket.as_raw_fd(), &chunk, control, MsgFlags::MSG_NOSIGNAL, None)?;
        if sent > 0 {
            self.fds.clear();
        }
        self.sent += sent;
        Ok(self.left() == 0)
    }
}

/// Reads once from a socket into a decoder: the number of bytes, 0 at the end. The descriptors are close-on-exec.
///
/// # Errors
/// Of recvmsg(2); EMFILE also where descriptors came and could not be taken; and a control message that did not fit, after which frames and descriptors would no longer belong together.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], decoder: &mut Decoder) -> io::Result<usize> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let (count, fds, truncated) = {
        let mut chunk = [IoSliceMut::new(buffer)];
        let message =
            recvmsg::<()>(socket.as_raw_fd(), &mut chunk, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut fds = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                fds.extend(raw.into_iter().map(own));
            }
        }
        (message.bytes, fds, message.flags.contains(MsgFlags::MSG_CTRUNC))
    };
    // Those that came and for which there was no room here are lost.
    if truncated && fds.len() < MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    if truncated {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than the protocol allows"));
    }
    decoder.push(buffer.get(..count).unwrap_or_default(), fds);
    Ok(count)
}

#[allow(unsafe_code)]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us in recvmsg(2); nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sends a whole frame over a socket that blocks.
///
/// # Errors
/// As [`Outgoing::new`] and [`Outgoing::send`].
pub fn send(socket: impl AsFd, body: &[u8], fds: Vec<OwnedFd>) -> io::Result<()> {
    let mut frame = Outgoing::new(body, fds)?;
    loop {
        match frame.send(socket.as_fd()) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// What a stranger's bytes do to the decoder, and what comes out of it to the two who read it: the keeper and its client. For
/// fuzzing.
///
/// # Panics
/// When a message that was understood is another one after it was said again.
pub fn fuzz_decoder(data: &[u8]) {
    let mut decoder = Decoder::default();
    for piece in data.chunks(7) {
        decoder.push(piece, None);
        while let Ok(Some(frame)) = decoder.next_frame() {
            said_again::<Ask>(&frame.body);
            said_again::<Say>(&frame.body);
        }
    }
}

fn said_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(body) else { return };
    let text = serde_json::to_vec(&message).unwrap_or_default();
    assert_eq!(serde_json::from_slice::<T>(&text).ok().as_ref(), Some(&message));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_cutting(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8), cut in 1_usize..50) {
            let mut stream = Vec::new();
            for body in &bodies {
                stream.extend(Outgoing::new(body, vec![]).unwrap().bytes);
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.push(piece, None);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame.body);
                }
            }
            prop_assert_eq!(seen, bodies);
        }

        #[test]
        fn strangers_do_no_harm(data in prop::collection::vec(any::<u8>(), 0..600)) {
            fuzz_decoder(&data);
        }
    }

    #[test]
    fn descriptors_stay_with_their_frames() {
        let (a, b) = UnixStream::pair().unwrap();
        let file = |text: &str| {
            let (r, w) = nix::unistd::pipe().unwrap();
            nix::unistd::write(w, text.as_bytes()).unwrap();
            r
        };
        send(&a, b"none", vec![]).unwrap();
        send(&a, b"one", vec![file("1")]).unwrap();
        send(&a, b"two", vec![file("2"), file("3")]).unwrap();
        drop(a);
        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        while receive(b.as_fd(), &mut buffer, &mut decoder).unwrap() > 0 {}
        let mut seen = Vec::new();
        while let Some(frame) = decoder.next_frame().unwrap() {
            let mut text = String::new();
            for fd in &frame.fds {
                let mut byte = [0; 1];
                nix::unistd::read(fd, &mut byte).unwrap();
                text.push(byte[0].into());
            }
            seen.push((String::from_utf8(frame.body).unwrap(), text));
        }
        let want = [("none", ""), ("one", "1"), ("two", "23")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(seen, want);
    }

    #[test]
    fn nonsense_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(b"GET / HTTP/1.1\r\n", None);
        assert!(decoder.next_frame().is_err());
    }
}
