//! The DHCP message (RFC 2131 §2).

use std::net::Ipv4Addr;

use crate::mac::Mac;

use super::options::{Options, code};
use super::reader::Reader;

/// The smallest BOOTP message old relays and clients accept (RFC 1542 §2.1).
pub const MIN_PAYLOAD: usize = 300;
/// The flag by which a client says that it cannot receive unicast yet (RFC 2131 §2, figure 2).
pub const FLAG_BROADCAST: u16 = 0x8000;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Everything before the options.
const FIXED: usize = 240;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A client.
    Request,
    /// A server.
    Reply,
}

/// Option 53 (RFC 2132 §9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum MessageType {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl MessageType {
    fn from_code(value: u8) -> Option<Self> {
        use MessageType::*;
        [Discover, Offer, Request, Decline, Ack, Nak, Release, Inform].into_iter().find(|t| *t as u8 == value)
    }
}

/// Not a DHCP message of a kind we can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MessageError {
    /// Shorter than its fixed part.
    #[error("shorter than a DHCP message")]
    Truncated,
    /// Neither request nor reply.
    #[error("neither BOOTREQUEST nor BOOTREPLY")]
    BadOp,
    /// No magic cookie: plain BOOTP.
    #[error("no DHCP magic cookie")]
    NotDhcp,
    /// Hardware other than Ethernet, or an address length that is not six.
    #[error("hardware type or address length is not Ethernet's")]
    NotEthernet,
    /// An option runs over the end of its field.
    #[error("an option runs over the end")]
    BadOptions,
    /// No valid option 53.
    #[error("no message type")]
    NoType,
}

/// A DHCP message from or to an Ethernet station. `sname` and `file` are carried only as room for options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub op: Op,
    /// How many relays it has passed.
    pub hops: u8,
    /// The client's transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// [`FLAG_BROADCAST`] and zeros.
    pub flags: u16,
    /// The address the client has and answers ARP for.
    pub ciaddr: Ipv4Addr,
    /// The address the client gets.
    pub yiaddr: Ipv4Addr,
    /// The next server to boot from.
    pub siaddr: Ipv4Addr,
    /// The relay.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: Mac,
    /// Option 53.
    pub kind: MessageType,
    /// All other options.
    pub options: Options,
}

impl Message {
    /// Reads the payload of a datagram.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse(bytes: &[u8]) -> Result<Message, MessageError> {
        let mut r = Reader::new(bytes);
        let mut fixed = || {
            let head = (r.u8()?, r.u8()?, r.u8()?, r.u8()?);
            let mid = (r.u32()?, r.u16()?, r.u16()?);
            let addresses = (r.ipv4()?, r.ipv4()?, r.ipv4()?, r.ipv4()?);
            let chaddr = r.mac()?;
            r.take(10)?;
            Some((head, mid, addresses, chaddr, r.take(64)?, r.take(128)?, r.array::<4>()?))
        };
        let (head, (xid, secs, flags), (ciaddr, yiaddr, siaddr, giaddr), chaddr, sname, file, cookie) =
            fixed().ok_or(MessageError::Truncated)?;
        let (op, htype, hlen, hops) = head;
        let op = match op {
            1 => Op::Request,
            2 => Op::Reply,
            _ => return Err(MessageError::BadOp),
        };
        if cookie != COOKIE {
            return Err(MessageError::NotDhcp);
        }
        if (htype, hlen) != (1, 6) {
            return Err(MessageError::NotEthernet);
        }
        let mut all = Options::new();
        all.read(r.rest()).ok_or(MessageError::BadOptions)?;
        let overload = all.take_overload().unwrap_or(0);
        for (bit, field) in [(1, file), (2, sname)] {
            if overload & bit != 0 {
                all.read(field).ok_or(MessageError::BadOptions)?;
            }
        }
        let kind = all.u8(code::MESSAGE_TYPE).and_then(MessageType::from_code).ok_or(MessageError::NoType)?;
        let mut options = Options::new();
        all.iter().filter(|(c, _)| *c != code::MESSAGE_TYPE).for_each(|(c, v)| options.set(c, v));
        Ok(Message { op, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, kind, options })
    }

    /// The payload of a datagram, at least [`MIN_PAYLOAD`] and at most `max` octets long, and the codes of options
    /// left out for lack of room, with `file` and `sname` used where that helps.
    pub fn build(&self, max: usize) -> (Vec<u8>, Vec<u8>) {
        let mut options = Options::new();
        options.set(code::MESSAGE_TYPE, [self.kind as u8]);
        self.options.iter().for_each(|(c, v)| options.set(c, v));
        let packed = options.pack(max.max(MIN_PAYLOAD) - FIXED);

        let mut out = Vec::with_capacity(max.max(MIN_PAYLOAD));
        out.extend([if self.op == Op::Request { 1 } else { 2 }, 1, 6, self.hops]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(address.octets());
        }
        out.extend(self.chaddr.0);
        for (field, end) in [(&[][..], 44), (&packed.sname, 108), (&packed.file, 236)] {
            out.extend_from_slice(field);
            out.resize(end, 0);
        }
        out.extend(COOKIE);
        out.extend(packed.main);
        if out.len() < MIN_PAYLOAD {
            out.resize(MIN_PAYLOAD, 0);
        }
        (out, packed.dropped)
    }
}
