//! Address management: which owner holds which address and MAC on which network.
//!
//! Event-sourced. `Ipam::decide_*` look at the state and say what would happen as a [`Change`], or why it cannot;
//! they alter nothing. [`Ipam::apply`] folds a change in. The caller stores the change between the two, so that memory
//! is always a pure fold of the store, and a crash between them loses nothing that was promised.
//!
//! Invariants, held by `decide_*` and checked again by `apply`: an address has one owner, a MAC has one owner on its
//! network, an owner has at most one address per family and one MAC per network; network, broadcast, gateway and
//! server addresses, exclusions and other owners' reservations are never given.
//!
//! A released address waits in quarantine, since neighbours' ARP caches, DNS caches and pf states still name it. Free
//! addresses are taken next-fit after the last one given, so an address comes back as late as the pool allows;
//! quarantined ones only when nothing else is left, and never before their time.

mod change;
mod decide;
mod error;
mod network;
mod owner;
mod pool;
mod state;

pub use change::{Change, Granted, How};
pub use decide::{AssignRequest, MacWant, Want};
pub use error::{ApplyError, IpamError, MAC_ATTEMPTS};
pub use network::{AddressRange, Network, Reservation, Role, Subnet, check_overlaps};
pub use owner::{MAX_OWNER_LEN, Owner};
pub use pool::{Hold, HoldReason, PoolUsage};
pub use state::{Assignment, Ipam};
