//! Addresses: of nodes (ids, names, paths) and of Ethernet stations.
//!
//! `struct sockaddr_ng` is 16 bytes on FreeBSD 13.2 and 34 on 15; the kernels go by `sg_len`, not by the size. So there is one
//! of 34 bytes here, with `sg_len = 2 + strlen + 1` always set, and never more than those bytes are passed on.

use crate::name::decode_id;
use crate::sys;
use std::fmt;

/// The id of a node: unique in its graph, never 0, never reused until the counter wraps (ng_base.c:ng_make_node_common).
/// It means nothing after the machine has started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// Reads `[1f]:` or `[1f]`.
    pub fn parse(path: &[u8]) -> Option<NodeId> {
        decode_id(path.strip_suffix(b":").unwrap_or(path)).map(NodeId)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:x}]", self.0)
    }
}

/// How a request names its node. An id is best: names may be taken over, and a long name does not fit an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeRef<'a> {
    /// `[1f]:`
    Id(NodeId),
    /// `name:`
    Name(&'a str),
    /// A path as netgraph(4) writes it, `node:hook.hook`; not checked here.
    Path(&'a str),
    /// The socket's own node.
    Own,
}

impl From<NodeId> for NodeRef<'_> {
    fn from(id: NodeId) -> Self {
        NodeRef::Id(id)
    }
}

impl fmt::Display for NodeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeRef::Id(id) => write!(f, "{id}:"),
            NodeRef::Name(name) => write!(f, "{name}:"),
            NodeRef::Path(path) => f.write_str(path),
            NodeRef::Own => f.write_str("."),
        }
    }
}

/// Bytes of text an address carries at most: with its NUL it fills `sg_data` (ng_socket.c: `sg_len > NG_NODESIZ + 2` is EINVAL).
pub const PATH_MAX: usize = sys::NG_NODESIZ as usize - 1;

/// `struct sockaddr_ng`: length, family, NUL-terminated text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SockaddrNg {
    bytes: [u8; SockaddrNg::MAX],
}

impl SockaddrNg {
    /// Its size on FreeBSD 15, and the most that either kernel takes.
    pub const MAX: usize = 34;
    const TEXT: usize = sys::WARREN_SOCKADDR_NG_DATA as usize;

    /// The address with this text (a path, or a hook's name on a data socket). `None` if it does not fit or holds a NUL.
    pub fn new(text: &[u8]) -> Option<SockaddrNg> {
        if text.len() > PATH_MAX || text.contains(&0) {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        let [len, family, data @ ..] = &mut bytes;
        *len = (Self::TEXT + text.len() + 1) as u8;
        *family = sys::AF_NETGRAPH as u8;
        data.get_mut(..text.len())?.copy_from_slice(text);
        Some(SockaddrNg { bytes })
    }

    /// Reads one from the front of a buffer: exactly `sg_len` bytes of it. The family is not looked at, nor what follows the
    /// text. `None` if it is shorter than it says, or longer than one can be.
    pub fn parse(buffer: &[u8]) -> Option<SockaddrNg> {
        let len = usize::from(*buffer.first()?);
        if !(Self::TEXT..=Self::MAX).contains(&len) {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..len)?.copy_from_slice(buffer.get(..len)?);
        Some(SockaddrNg { bytes })
    }

    /// `sg_len` bytes: what goes to the kernel.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.sg_len()).unwrap_or_default()
    }

    /// `sg_len`: 2 + strlen + 1 for an address of ours.
    pub fn sg_len(&self) -> usize {
        usize::from(self.bytes[0])
    }

    /// The text up to its NUL, or to the end if there is none.
    pub fn text(&self) -> &[u8] {
        let data = self.as_bytes().get(Self::TEXT..).unwrap_or_default();
        data.split(|b| *b == 0).next().unwrap_or_default()
    }
}

impl fmt::Debug for SockaddrNg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.text()))
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Whether the group bit is set: multicast, or broadcast.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not six hexadecimal pairs between colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address (six hexadecimal pairs, as in 02:00:5e:10:00:01)")]
pub struct MacError(pub String);

impl std::str::FromStr for Mac {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Mac, MacError> {
        let error = || MacError(text.to_owned());
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Mac(mac)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sg_len_rules() {
        let address = SockaddrNg::new(b"[1f]:").unwrap();
        assert_eq!(address.as_bytes(), [8, 32, b'[', b'1', b'f', b']', b':', 0]);
        assert_eq!(SockaddrNg::parse(address.as_bytes()), Some(address));
        assert_eq!(SockaddrNg::new(&[b'a'; 31]).unwrap().sg_len(), 34);
        assert_eq!(SockaddrNg::new(&[b'a'; 32]), None);
        assert_eq!(SockaddrNg::new(b"a\0"), None);
        // 13.2 answers from a 16-byte structure with the text and padding, 15 from one of 34.
        let mut answer = [0; 34];
        answer[..8].copy_from_slice(address.as_bytes());
        answer[0] = 16;
        assert_eq!(SockaddrNg::parse(&answer[..16]).unwrap().text(), b"[1f]:");
        answer[0] = 34;
        assert_eq!(SockaddrNg::parse(&answer).unwrap().text(), b"[1f]:");
        assert_eq!(SockaddrNg::parse(&answer[..33]), None);
        assert_eq!(SockaddrNg::parse(&[35; 64]), None);
        assert_eq!(SockaddrNg::parse(&[1, 32]), None);
        assert_eq!(SockaddrNg::parse(&[]), None);
    }

    #[test]
    fn macs() {
        assert_eq!("02:00:5e:10:00:Ab".parse(), Ok(Mac([2, 0, 0x5e, 0x10, 0, 0xab])));
        for bad in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:ab:cd",
            "2:0:5e:10:0:ab",
            "02-00-5e-10-00-ab",
            "02:00:5e:10:00:+b",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        assert_eq!(Mac([2, 0, 0x5e, 0x10, 0, 0xab]).to_string(), "02:00:5e:10:00:ab");
        assert!(Mac::BROADCAST.is_multicast() && !Mac([2, 0, 0, 0, 0, 1]).is_multicast());
    }
}
