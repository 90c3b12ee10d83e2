//! Authoritative names for a fabric of instances.
//!
//! - [`zone`]: what names exist. Pure values; a [`Snapshot`] is immutable, a change makes the next one in O(log n).
//! - [`answer()`]: a query's bytes in, an answer's bytes out. The ordinary question takes the fast path, which copies
//!   prepared records; anything odd is left to hickory-proto.
//! - [`server`]: the sockets, with limits. [`forward`]: everything that is not ours, sent on to other resolvers.
//!
//! The crate knows nothing of jails. The contract is E.3 of the project's facts on DNS: RFC 1034/1035, 2181, 2308,
//! 2782, 3596, 6763, 6891, 7766, 8020, 8482.
#![deny(missing_docs)]

pub mod fast;
pub mod forward;
pub mod fuzz;
pub mod name;
pub mod server;
mod slow;
#[cfg(test)]
mod testing;
pub mod wire;
pub mod zone;

pub use fast::{Ask, Outcome, Verdict, answer};
pub use name::{Name, NameError};
pub use wire::{Question, Transport};
pub use zone::{
    Change, Host, Instance, Port, Proto, RecordView, Snapshot, ZoneConfig, ZoneError, check_names,
};
