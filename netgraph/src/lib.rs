//! netgraph(4) for programs: control messages, typed node types, one handle over a control socket.
//!
//! The manner is rtnetlink's: builders that name the operation, one connection, typed attributes.
//!
//! - [`sys`] holds FreeBSD's numbers and layouts, generated from its headers.
//! - [`codec`] turns typed requests and replies into the kernel's bytes and back. It is pure.
//! - [`handle`] sends requests over a [`transport::Transport`] and waits for their replies.
//! - [`bpf`] assembles, validates and interprets classic BPF; [`guard`] writes the filter of one link with it.
//! - `userland` (a feature) is a netgraph in this process: it takes the same bytes and keeps the kernel's rules.
//!
//! Nothing here knows what a jail is.
#![deny(missing_docs)]

pub mod addr;
pub mod bpf;
pub mod codec;
pub mod data;
pub mod errno;
pub mod guard;
pub mod handle;
pub mod name;
pub mod sys;
pub mod transport;
#[cfg(feature = "userland")]
pub mod userland;

pub use addr::{Mac, NodeId, NodeRef, SockaddrNg};
pub use errno::Errno;
pub use handle::{Error, Handle};
pub use name::{HookName, NameError, NodeName, TypeName};
pub use transport::{Received, Transport};
