//! A DHCPv4 server for one network, on raw frames (RFC 2131, 2132 and their updates).
//!
//! [`Server::handle`] takes a frame, the time and a view of reservations and leases, and returns what to do. It never
//! says "send this ACK": it says "make this lease durable, then send this frame" ([`Action::Persist`]), because an
//! ACK is a promise to someone else.
//!
//! **Identity.** The fabric pins each link's MAC, so `chaddr`, the frame's source and the registered MAC must agree;
//! what does not is dropped. A reservation is by MAC, whatever client-id its holder sends: cattle cloned from one
//! image often share a DUID. A dynamic lease belongs to the MAC *and* the client-id (RFC 2131 §4.2 keys on the latter
//! alone, which would let one client take another's lease by repeating its id). Host names sent by clients are
//! recorded and never believed.
//!
//! **Bounds.** A reserved client costs no memory until its lease is stored. Dynamic offers and rate-limit buckets
//! live in tables of fixed size.

mod action;
mod config;
mod dynamic;
mod engine;
pub mod fuzz;
mod lease;
mod limit;
mod reply;
mod request;
mod view;

pub use action::{Action, Event, Ignored, NakReason, Stats};
pub use config::{ConfigError, DynamicRange, LeaseTimes, Limits, ServerConfig};
pub use engine::Server;
pub use lease::{ClientKey, Lease, LeaseChange, LeaseState, LeaseTable};
pub use view::{IpamView, LeaseView, ReservedBinding};
