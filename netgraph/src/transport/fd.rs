//! A control socket of a graph that another process holds, over a descriptor it gave us. The protocol is in [`super::frame`].

use super::frame::{self, Assembler, BODY_MAX, CHUNK, HEADER, Op, Packet};
use super::{Received, Transport, gone, wait};
use crate::addr::SockaddrNg;
use crate::errno::Errno;
use nix::poll::PollFlags;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Messages kept for a caller that does not receive; the oldest goes first.
const INBOX_MAX: usize = 4096;
/// How long the other process may take to answer. The kernel takes no such time; this is for a process that hangs.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The client's end of a control socket. When it is dropped, the socket's node dies.
#[derive(Debug)]
pub struct FdTransport {
    fd: OwnedFd,
    serial: u32,
    assembler: Assembler,
    inbox: VecDeque<io::Result<Received>>,
    buffer: Vec<u8>,
}

impl FdTransport {
    /// Speaks over this descriptor: the `control` half of what the graph's holder gave out.
    pub fn new(control: OwnedFd) -> FdTransport {
        FdTransport {
            fd: control,
            serial: 0,
            assembler: Assembler::default(),
            inbox: VecDeque::new(),
            buffer: vec![0; HEADER + CHUNK],
        }
    }

    /// Names the socket's node: bind(2).
    pub fn bind(&mut self, name: &crate::NodeName) -> io::Result<()> {
        let address = SockaddrNg::new(name.as_bytes()).ok_or(Errno::EINVAL)?;
        self.call(Op::Bind, 0, address.as_bytes())
    }

    /// Sets the size of the receive buffer, in bytes: what a reply must fit in. ENOBUFS above the other side's limit.
    pub fn set_receive_buffer(&mut self, bytes: u32) -> io::Result<()> {
        self.call(Op::ReceiveBuffer, bytes, &[])
    }

    /// Whether a lost message makes the next receive fail with ENOBUFS (SO_RERROR).
    pub fn set_report_loss(&mut self, on: bool) -> io::Result<()> {
        self.call(Op::ReportLoss, on.into(), &[])
    }

    /// One request, until its result is there. What else arrives meanwhile is kept.
    fn call(&mut self, op: Op, value: u32, body: &[u8]) -> io::Result<()> {
        self.serial = self.serial.wrapping_add(1);
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        for packet in Packet::cut(op, self.serial, value, body) {
            loop {
                match frame::send_parts(self.fd.as_fd(), &[&packet]) {
                    Ok(()) => break,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        if !wait(self.fd.as_fd(), PollFlags::POLLOUT, left())? {
                            return Err(Errno::ETIMEDOUT.into());
                        }
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        loop {
            let packet = self.packet(left())?.ok_or(Errno::ETIMEDOUT)?;
            if packet.op == Op::Result && packet.serial == self.serial {
                return if packet.value == 0 { Ok(()) } else { Err(Errno(packet.value).into()) };
            }
            self.keep(packet);
        }
    }

    /// The next whole packet, or `None` when the time is up.
    fn packet(&mut self, timeout: Duration) -> io::Result<Option<Packet>> {
        let deadline = Instant::now().checked_add(timeout);
        let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, e);
        loop {
            match frame::receive_parts(self.fd.as_fd(), &mut [IoSliceMut::new(&mut self.buffer)]) {
                Ok(0) => return Err(gone()),
                Ok(len) => {
                    let packet =
                        Packet::parse(self.buffer.get(..len).unwrap_or_default()).map_err(invalid)?;
                    if let Some(whole) = self.assembler.add(packet, BODY_MAX).map_err(invalid)? {
                        return Ok(Some(whole));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let left =
                        deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
                    if !wait(self.fd.as_fd(), PollFlags::POLLIN, left)? {
                        return Ok(None);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(gone()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Puts what nobody waits for into the inbox. A result that comes after its time is dropped.
    fn keep(&mut self, packet: Packet) {
        let event = match packet.op {
            Op::Message => match frame::split(&packet.body) {
                Some((from, message)) => Ok(Received { from, message: message.to_vec() }),
                None => return,
            },
            Op::Error => Err(Errno(packet.value).into()),
            _ => return,
        };
        if self.inbox.len() == INBOX_MAX {
            self.inbox.pop_front();
        }
        self.inbox.push_back(event);
    }
}

impl AsFd for FdTransport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Transport for FdTransport {
    fn send(&mut self, to: &SockaddrNg, message: &[u8]) -> io::Result<()> {
        self.call(Op::Send, 0, &frame::join(to, message))
    }

    fn receive(&mut self, timeout: Duration) -> io::Result<Option<Received>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(event) = self.inbox.pop_front() {
                return event.map(Some);
            }
            let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
            match self.packet(left)? {
                Some(packet) => self.keep(packet),
                None => return Ok(None),
            }
        }
    }
}
