//! The lab: a Linux host that runs the same engine on namespaces, real processes, TAP devices and a userland netgraph.
//!
//! Three kinds of process. The [`kernel`] stands for the machine. The daemon moves itself into the lab's namespaces by
//! [`enter`] and from then on mounts, configures and filters with ordinary system calls, as on a machine of its own. A
//! [`jail_init`] is process 1 of each jail. See `docs/lab.md` for what the lab does not do.

mod below;
pub mod client;
mod clones;
pub mod enter;
mod holders;
pub mod host;
mod interfaces;
pub mod jail_init;
mod jobs;
pub mod kernel;
pub mod layout;
mod mountinfo;
mod mounts;
pub mod netlink;
mod params;
pub mod proto;
#[cfg(test)]
pub(in crate::host) mod scratch;
mod stands;
mod sys;
mod wire;

use super::{failure, probe, remove};

pub use enter::{dispatch, enter, exec, shutdown, start};
pub use host::{DNS, Lab};
