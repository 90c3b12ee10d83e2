//! Warren: a networking-focused fabric manager for FreeBSD jails.
//!
//! Dependencies point one way: cli → daemon → lifecycle → (fabric, firewall, templates, config) → host. See `docs/internals`.

pub mod beacon;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod fabric;
pub mod firewall;
pub mod host;
pub mod ids;
pub mod keeper;
pub mod lifecycle;
pub mod store;
