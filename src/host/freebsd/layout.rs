//! Where this host keeps things below the state directory.
//!
//! `roots/<id>` is an instance's root, `uplinks/<interface>` how a real interface was before it was bridged,
//! `jails/<jail>` which mounts were below a jail's root when it was made.

use std::path::{Path, PathBuf};

/// The directory of all roots.
#[must_use]
pub fn roots(state_dir: &Path) -> PathBuf {
    state_dir.join("roots")
}

/// What a real interface was like before.
#[must_use]
pub fn uplink(state_dir: &Path, interface: &str) -> PathBuf {
    state_dir.join("uplinks").join(interface)
}

/// What was mounted before a jail's first process.
#[must_use]
pub fn mounts(state_dir: &Path, jail: &str) -> PathBuf {
    state_dir.join("jails").join(jail)
}
