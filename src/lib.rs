//! Warren: a networking-focused fabric manager for FreeBSD jails.
//!
//! Dependencies point one way: cli → daemon → lifecycle → (fabric, firewall, templates, config) → host. See `docs/internals`.

pub mod config;
pub mod firewall;
pub mod host;
pub mod ids;
pub mod keeper;
