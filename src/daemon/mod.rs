//! The daemon: decides, and may die at any time.
//!
//! - [`driver`] runs the engine: commits what it says, has the effects, feeds back what came of them.
//! - [`names`] serves DNS, [`leases`] serves DHCP, both from what the engine says and nothing else.
//! - `api` answers on a Unix socket; the CLI uses nothing else.
