//! Policy as text for packet filters. One anchor per network; rules per service; membership only in tables.

pub mod policy;

pub use policy::{Policy, ServicePolicy};
