//! What can go wrong with a request.

use crate::codec::DecodeError;
use crate::codec::bridge::LinkNumber;
use crate::errno::Errno;
use crate::name::NameError;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// A request that did not do what it should.
#[derive(Debug, Error)]
pub enum Error {
    /// A name that netgraph would misread; nothing was sent.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An address that does not fit (31 bytes); nothing was sent.
    #[error("netgraph cannot address {node:?}: more than 31 bytes; use the node's id")]
    Address {
        /// The address.
        node: String,
    },
    /// A program that ng_bpf would refuse, or worse: 13.2 takes an empty one and then runs what lies behind it. Nothing was sent.
    #[error("not a valid filter program: {0}")]
    Program(#[from] crate::bpf::Invalid),
    /// A link number the stats commands cannot carry; nothing was sent.
    #[error(
        "ng_bridge keeps counters for {0}, but has no way to ask for them: its number is above 2147483647"
    )]
    Link(LinkNumber),
    /// The node, or the way to it, refused.
    #[error("netgraph: {operation} at {node} {errno}{}", hint(*errno, operation))]
    Refused {
        /// The node's address.
        node: String,
        /// The command.
        operation: &'static str,
        /// What it said.
        errno: Errno,
    },
    /// Something else in the way.
    #[error("netgraph: {operation} at {node}: {source}")]
    Io {
        /// The node's address.
        node: String,
        /// The command.
        operation: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// No reply came in time. The request was delivered; its effect, if it has one, is done.
    #[error(
        "netgraph: {operation} at {node}: no reply after {after:?}, though the request was delivered; \
             without SO_RERROR a reply larger than the receive buffer is lost without a word"
    )]
    Timeout {
        /// The node's address.
        node: String,
        /// The command.
        operation: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The reply did not fit the receive buffer. The request's effect, if it has one, is done (unless memory was so short that
    /// the request itself could not be sent: that has the same errno).
    #[error(
        "netgraph: {operation} at {node}: the reply was lost for lack of buffer space; \
             raise the socket's receive buffer (kern.ipc.maxsockbuf, net.graph.recvspace)"
    )]
    ReplyLost {
        /// The node's address.
        node: String,
        /// The command.
        operation: &'static str,
    },
    /// A reply that cannot be read.
    #[error("netgraph: {operation} at {node}: the reply is not one: {source}")]
    Reply {
        /// The node's address.
        node: String,
        /// The command.
        operation: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
}

impl Error {
    /// FreeBSD's error number, if the system gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            Error::ReplyLost { .. } => Some(Errno::ENOBUFS),
            Error::Io { source, .. } => Errno::from_io(source),
            _ => None,
        }
    }
}

/// What to do next, where the number alone leads astray.
fn hint(errno: Errno, operation: &str) -> &'static str {
    match (operation, errno) {
        ("mkpeer", Errno::ENOENT) => {
            ": no such node (it may be gone), or no such type (there is no module ng_TYPE)"
        }
        ("mkpeer", Errno::ENXIO) => {
            ": no such node type; its module (ng_TYPE) is not loaded and could not be"
        }
        (_, Errno::ENOENT) => ": no such node or hook; it may be gone",
        (_, Errno::EADDRINUSE) => ": another node has this name",
        ("movehost", Errno::ELOOP) => {
            ": the address is on another link and may not move; the link lost its entries"
        }
        ("getstats" | "clrstats" | "getclrstats", Errno::ENOTCONN) => ": the bridge has no such link",
        _ => "",
    }
}
