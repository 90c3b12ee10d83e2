//! Clones, mounts and the files written into roots.

use std::path::{Path, PathBuf};

use super::{Done, EBUSY, EPERM, Machine, error};
use crate::host::Mount;

/// The mount point of a mount.
pub(super) fn point(mount: &Mount) -> PathBuf {
    mount.root.join(mount.target.strip_prefix("/").unwrap_or(&mount.target))
}

impl Machine {
    pub(super) fn destroy_clone(&mut self, name: &str) -> Done {
        let below = |path: &Path| path.iter().any(|part| part == name);
        if let Some(busy) = self.mounts.keys().find(|p| below(p)) {
            return Err(error(EBUSY, format!("clone {name} holds the mount {}", busy.display())));
        }
        self.clones.remove(name);
        self.files.retain(|path, _| !below(path));
        Ok(())
    }

    pub(super) fn mount(&mut self, mount: &Mount) -> Done {
        if mount.target.iter().any(|part| part == "..") {
            return Err(error(EPERM, "the target leaves the root"));
        }
        // Mounts on a taken mount point stack in the kernel; Warren means to only where it says so.
        if mount.stacked {
            self.covered.extend(self.mounts.remove(&point(mount)));
        }
        if self.mounts.contains_key(&point(mount)) {
            return Err(error(EBUSY, format!("{} is a mount point already", point(mount).display())));
        }
        self.mounts.insert(point(mount), mount.clone());
        Ok(())
    }

    pub(super) fn unmount(&mut self, mount: &Mount) {
        if self.mounts.get(&point(mount)) == Some(mount) {
            self.mounts.remove(&point(mount));
            if let Some(below) = self.covered.iter().rposition(|below| point(below) == point(mount)) {
                let below = self.covered.remove(below);
                self.mounts.insert(point(&below), below);
            }
        }
    }
}
