//! The protocol between an [`FdTransport`](super::fd::FdTransport) and the process that holds the graph.
//!
//! # Control
//!
//! A SOCK_SEQPACKET pair of Unix sockets. Every packet is a header of 12 bytes and up to [`CHUNK`] bytes of body:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | operation ([`Op`]) |
//! | 1 | 1 | 1 if the body goes on in the next packet of the same operation, 0 if this is its end |
//! | 2 | 2 | 0 |
//! | 4 | 4 | serial number of the request; 0 in what nobody asked for |
//! | 8 | 4 | value |
//!
//! Numbers are in the host's order. A body is cut into packets because a Unix socket bounds them by its send buffer, and a list
//! of ten thousand nodes is larger. The client sends
//!
//! | operation | value | body | is |
//! |---|---|---|---|
//! | `Send` | 0 | sockaddr_ng, message | sendto(2) |
//! | `Bind` | 0 | sockaddr_ng | bind(2): names the node |
//! | `ReceiveBuffer` | bytes | – | setsockopt(SO_RCVBUF) |
//! | `ReportLoss` | 0 or 1 | – | setsockopt(SO_RERROR) |
//!
//! and gets for each a `Result` of the same serial number, whose value is 0 or FreeBSD's errno: what the system call would have
//! returned. Requests are answered in order. At any time come
//!
//! | operation | value | body | is |
//! |---|---|---|---|
//! | `Message` | 0 | sockaddr_ng of the sender, message | what recvfrom(2) returns |
//! | `Error` | errno | – | what recvfrom(2) fails with: ENOBUFS when a message was lost |
//!
//! The end of file is that of a netgraph socket: its node has been shut down. When the client closes its end, its node dies.
//!
//! # Data
//!
//! A second SOCK_SEQPACKET pair. Each packet, in both directions, is a sockaddr_ng padded to 34 bytes, whose text is the hook's
//! name, and one frame. An address without text means the only hook. Nothing is answered: where sendto(2) on a data socket would
//! fail (EHOSTUNREACH for a hook that is not there), the frame is dropped. A receiver that does not read loses frames.

use crate::addr::SockaddrNg;
use crate::codec::{DecodeError, Reader, Writer};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair};

/// Bytes of a packet's header.
pub const HEADER: usize = 12;
/// Bytes of body in one packet at most. (FreeBSD's Unix sockets take packets of 8 KiB unless told otherwise.)
pub const CHUNK: usize = 4096;
/// Bytes of body altogether that a client takes from the other side; above it is not believed.
pub const BODY_MAX: usize = 64 << 20;
/// Bytes of a frame on the data socket at most.
pub const FRAME_MAX: usize = 65_535;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// A message for a node.
    Send = 1,
    /// A name for the socket's node.
    Bind = 2,
    /// The size of the receive buffer.
    ReceiveBuffer = 3,
    /// Whether losses are reported.
    ReportLoss = 4,
    /// The answer to one of the above.
    Result = 0x81,
    /// A message from a node.
    Message = 0x82,
    /// What the next receive fails with.
    Error = 0x83,
}

impl Op {
    fn from_byte(byte: u8) -> Option<Op> {
        [Op::Send, Op::Bind, Op::ReceiveBuffer, Op::ReportLoss, Op::Result, Op::Message, Op::Error]
            .into_iter()
            .find(|op| *op as u8 == byte)
    }
}

/// One packet, or a whole exchange put together from several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What it is.
    pub op: Op,
    /// Whether its body goes on.
    pub more: bool,
    /// Of which request.
    pub serial: u32,
    /// Errno, bytes, or a flag.
    pub value: u32,
    /// Address and message.
    pub body: Vec<u8>,
}

impl Packet {
    /// Reads one packet.
    pub fn parse(bytes: &[u8]) -> Result<Packet, DecodeError> {
        let mut from = Reader::new(bytes);
        let op = from.u8()?;
        let op = Op::from_byte(op).ok_or(DecodeError::Value(op.into(), "operation"))?;
        let more = match from.u8()? {
            0 => false,
            1 => true,
            other => return Err(DecodeError::Value(other.into(), "continuation")),
        };
        from.u16()?;
        Ok(Packet { op, more, serial: from.u32()?, value: from.u32()?, body: from.rest().to_vec() })
    }

    /// The packets that carry `body`, in order.
    pub fn cut(op: Op, serial: u32, value: u32, body: &[u8]) -> Vec<Vec<u8>> {
        let chunks: Vec<&[u8]> = if body.is_empty() { vec![&[]] } else { body.chunks(CHUNK).collect() };
        let last = chunks.len() - 1;
        let packet = |(at, chunk): (usize, &&[u8])| {
            let mut out = Writer::default();
            out.put_u8(op as u8);
            out.put_u8(u8::from(at != last));
            out.put_u16(0);
            out.put_u32(serial);
            out.put_u32(value);
            out.put(chunk);
            out.into_bytes()
        };
        chunks.iter().enumerate().map(packet).collect()
    }
}

/// Puts packets together.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: Option<Packet>,
}

impl Assembler {
    /// Adds a packet; gives the whole when it is complete. A body beyond `limit` is kept no further than that, and comes out one
    /// byte longer than `limit`, for the caller to refuse.
    pub fn add(&mut self, packet: Packet, limit: usize) -> Result<Option<Packet>, DecodeError> {
        let mut whole = match self.partial.take() {
            None => Packet { more: false, body: Vec::new(), ..packet.clone() },
            Some(partial) if partial.op == packet.op && partial.serial == packet.serial => partial,
            Some(_) => return Err(DecodeError::Value(packet.op as u64, "continuation of another operation")),
        };
        let room = (limit + 1).saturating_sub(whole.body.len()).min(packet.body.len());
        whole.body.extend_from_slice(packet.body.get(..room).unwrap_or_default());
        if packet.more {
            self.partial = Some(whole);
            return Ok(None);
        }
        Ok(Some(whole))
    }
}

/// An address and a message, as the bodies of `Send` and `Message` hold them.
pub fn join(address: &SockaddrNg, message: &[u8]) -> Vec<u8> {
    [address.as_bytes(), message].concat()
}

/// The reverse of [`join`]. The address is read by its own length.
pub fn split(body: &[u8]) -> Option<(SockaddrNg, &[u8])> {
    let address = SockaddrNg::parse(body)?;
    Some((address, body.get(address.sg_len()..)?))
}

/// A connected pair of packet sockets, closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one packet from parts, without waiting and without SIGPIPE.
pub(crate) fn send_parts(fd: BorrowedFd<'_>, parts: &[&[u8]]) -> io::Result<()> {
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    // FreeBSD 15 ends a packet where it is told to, and nowhere else (uipc_usrreq.c); others ask for nothing.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_EOR;
    loop {
        match sendmsg::<()>(fd.as_raw_fd(), &slices, &[], flags, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one packet into parts, without waiting: how many bytes it had, 0 at the end of file. What does not fit is EMSGSIZE.
pub(crate) fn receive_parts(fd: BorrowedFd<'_>, parts: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    loop {
        match recvmsg::<()>(fd.as_raw_fd(), parts, None, MsgFlags::MSG_DONTWAIT) {
            Ok(got) if got.flags.contains(MsgFlags::MSG_TRUNC) => {
                return Err(nix::errno::Errno::EMSGSIZE.into());
            }
            Ok(got) => return Ok(got.bytes),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_body_is_what_it_was(body in proptest::collection::vec(any::<u8>(), 0..3 * CHUNK), serial: u32, value: u32) {
            let mut assembler = Assembler::default();
            let mut whole = None;
            for bytes in Packet::cut(Op::Message, serial, value, &body) {
                prop_assert!(whole.is_none() && bytes.len() <= HEADER + CHUNK);
                whole = assembler.add(Packet::parse(&bytes).unwrap(), BODY_MAX).unwrap();
            }
            prop_assert_eq!(whole, Some(Packet { op: Op::Message, more: false, serial, value, body }));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                let _ = split(&packet.body);
                let _ = Assembler::default().add(packet, 16);
            }
        }
    }

    #[test]
    fn a_body_without_end_is_not_kept() {
        let mut assembler = Assembler::default();
        let packet = |more| Packet { op: Op::Send, more, serial: 1, value: 0, body: vec![0; 10] };
        for _ in 0..9 {
            assert_eq!(assembler.add(packet(true), 16).unwrap(), None);
        }
        assert_eq!(assembler.add(packet(false), 16).unwrap().unwrap().body.len(), 17);
    }

    #[test]
    fn operations_do_not_mix() {
        let mut assembler = Assembler::default();
        let packet = |op| Packet { op, more: true, serial: 1, value: 0, body: vec![] };
        assert_eq!(assembler.add(packet(Op::Send), 16).unwrap(), None);
        assert!(assembler.add(packet(Op::Bind), 16).is_err());
    }
}
