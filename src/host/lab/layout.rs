//! Where the lab keeps things below the state directory.
//!
//! `roots/<id>` is an instance's root as everybody sees it; `clones/<id>` holds what is behind it (the writable layers). The
//! paths are the same inside the lab and outside, but mounts exist inside only.

use std::path::{Path, PathBuf};

/// The root of the instance or clone `name`.
#[must_use]
pub fn root(state_dir: &Path, name: &str) -> PathBuf {
    roots(state_dir).join(name)
}

/// The directory of all roots.
#[must_use]
pub fn roots(state_dir: &Path) -> PathBuf {
    state_dir.join("roots")
}

/// The directory of all clones' layers. That `clones/<id>` exists says that the root is a clone, which may be written to.
#[must_use]
pub fn clones(state_dir: &Path) -> PathBuf {
    state_dir.join("clones")
}

/// The lab-kernel's socket.
#[must_use]
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("lab.sock")
}

/// The lab-kernel's lock: held as long as the lab lives.
#[must_use]
pub fn lock(state_dir: &Path) -> PathBuf {
    state_dir.join("lab.lock")
}

/// What the lab-kernel has to say.
#[must_use]
pub fn log(state_dir: &Path) -> PathBuf {
    state_dir.join("lab.log")
}
