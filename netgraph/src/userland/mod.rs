//! A netgraph in this process: the kernel's bytes, the kernel's rules.
//!
//! It takes the messages that [`crate::codec`] makes and answers as FreeBSD does: the same grammar of addresses, the same limits,
//! the same errno, the same lives of nodes, and a data plane that forwards real frames. Types: socket, hub, bridge, eiface, bpf,
//! ether. A laboratory hangs TAP devices on its eifaces ([`tap`], [`pump`]) and hands its sockets to other processes
//! ([`server`]); tests hang [`MemoryPorts`] on them.
//!
//! # Locks
//!
//! One mutex holds the graph, for as long as a message or a batch of frames needs to find its way; what comes out is collected
//! and delivered after it is released. A second one lets one control message at a time change the graph, and is held while
//! interfaces are made, named or removed: those are system calls, and frames go on meanwhile.
//!
//! # What differs from the kernel
//!
//! - There are no queues between nodes: a frame is forwarded to its end before the next. A table learns after the frame that
//!   taught it, as the kernel's self-sent message does.
//! - A frame that an interface does not take is counted as sent.
//! - A graph with a loop of hubs ends a frame after [`HOPS_MAX`] nodes; the kernel would go on.
//! - BINARY2ASCII and ASCII2BINARY are ENOSYS: nobody but ngctl(8) wants them.

mod bpf;
mod bridge;
mod control;
mod eiface;
mod ether;
pub mod fuzz;
mod generic;
mod graph;
mod path;
mod port;
#[cfg(target_os = "linux")]
pub mod pump;
pub mod server;
mod snapshot;
mod socket;
mod state;
#[cfg(target_os = "linux")]
pub mod tap;
mod walk;

pub use graph::{EtherPort, Graph, Options, Release};
pub use port::{Input, MemoryPort, MemoryPorts, NoPorts, Port, PortFactory, Side};
pub use snapshot::{BpfHook, BridgeLink, Detail, HookSnapshot, NodeSnapshot, Snapshot};
pub(crate) use socket::MemorySocket;
pub use socket::{ControlQueue, DataSink, Event, MemoryData};
pub use walk::HOPS_MAX;

#[cfg(test)]
mod tests;
