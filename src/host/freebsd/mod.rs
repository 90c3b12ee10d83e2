//! FreeBSD itself: the product.
//!
//! System calls and ioctls, and the base system's programs only where they are the one stable interface (`pfctl`, `zfs`, `devfs`). What
//! was seen to work, and on which release, is in `docs/internals/freebsd.md`.

use std::time::Duration;

mod aliases;
mod attach;
mod below;
mod boot;
mod clones;
mod devfs;
pub mod doctor;
mod fsstat;
pub mod host;
mod interfaces;
mod iov;
mod jails;
mod layout;
mod made;
mod mounts;
mod notes;
mod params;
mod pf;
mod pf_states;
mod pf_table;
mod processes;
mod route;
mod skeleton;
mod stack;
mod stands;
mod sysctl;
mod tool;
mod turns;
mod uplink;
mod watch;
mod zfs;

pub use host::FreeBsd;

/// How long a removed jail is waited for where something depends on its end.
const PATIENCE: Duration = Duration::from_secs(10);
