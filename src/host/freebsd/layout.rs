//! Where this host keeps things below the state directory.
//!
//! `roots/<id>` is an instance's root, `uplinks/<interface>` how a real interface was before it was bridged,
//! `aliases/<interface>` which addresses on it are ours,
//! `jails/<jail>` a jail's number, and which mounts were below its root when it was made.

use std::path::{Path, PathBuf};

/// The directory of all roots.
#[must_use]
pub fn roots(state_dir: &Path) -> PathBuf {
    state_dir.join("roots")
}

/// The notes of how real interfaces were before.
#[must_use]
pub fn uplinks(state_dir: &Path) -> PathBuf {
    state_dir.join("uplinks")
}

/// The notes of jails.
#[must_use]
pub fn jails(state_dir: &Path) -> PathBuf {
    state_dir.join("jails")
}

/// The notes of addresses that were added to interfaces of the host.
#[must_use]
pub fn aliases(state_dir: &Path) -> PathBuf {
    state_dir.join("aliases")
}
