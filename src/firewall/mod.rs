//! Policy as text for packet filters. One anchor per network; rules per service; membership only in tables.
//!
//! What a network may do is one value, [`Policy`]. Two pure functions make rules of it: [`pf`] for FreeBSD and, for the
//! lab, `nft` for Linux. Both decide the same, in the same order; what they decide is written down once, in
//! [`policy`]. [`states`] reads pf's state table; `conntrack` does that job on Linux.

#[cfg(target_os = "linux")]
pub mod conntrack;
pub mod fuzz;
pub mod loaded;
#[cfg(target_os = "linux")]
pub mod nft;
pub mod nvlist;
pub mod outside;
pub mod pf;
pub mod policy;
pub mod state_export;
pub mod states;

pub use outside::outside;
pub use policy::{BadPolicy, Policy, ServicePolicy};
