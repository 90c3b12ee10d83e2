//! Address management and a DHCPv4 server, as pure machines.
//!
//! Nothing here opens a socket, reads a clock, draws a random number or touches a file: frames, the time
//! (milliseconds since the Unix epoch) and random numbers come in as arguments, decisions go out as values. That is
//! what lets the same server sit on a netgraph data hook, on a Linux packet socket and in a test.
//!
//! - [`ipam`]: who holds which address and MAC. Event-sourced.
//! - [`server`]: the DHCP server: states, leases, replies, limits.
//! - [`wire`]: Ethernet, ARP, IPv4, UDP, neighbour discovery and DHCP messages as bytes.
//! - [`ra`]: router advertisements as bytes.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod ipam;
mod mac;
pub mod ra;
mod ranges;
pub mod server;
pub mod wire;

pub use mac::{Mac, MacParseError};
