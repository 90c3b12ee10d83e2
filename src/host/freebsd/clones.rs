//! Clones of templates: a ZFS clone, or a skeleton of one's own with the system's directories below it read-only.
//!
//! There is no overlay: FreeBSD's unionfs(5) calls itself unfinished, and 13.2's has panics that only 14 mends. What programs
//! write to (`/etc`, `/var`, `/root`, `/tmp`) is copied or made anew; what only packages write to (`/bin`, `/lib`, `/usr`, …) is the
//! template's own, by nullfs and read-only. Who wants to write to `/usr` uses ZFS.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::fsstat::{self, Mounted};
use super::{layout, mounts, skeleton, zfs};
use crate::config::spec::TemplateSource;
use crate::host::failure::{Context, hint_if};
use crate::host::{Failure, remove};

/// Makes and destroys clones below a state directory.
#[derive(Debug, Clone)]
pub struct Clones {
    /// The state directory, canonical.
    pub state_dir: PathBuf,
}

/// A name is one component: what is made and removed lies where it should.
fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0', '@', ' ']) {
        return Err(Failure::new(format!("`{name}` is no name for a clone")));
    }
    Ok(())
}

impl Clones {
    fn root(&self, name: &str) -> PathBuf {
        layout::roots(&self.state_dir).join(name)
    }

    /// Whether a root is a clone, so that it may be written to.
    #[must_use]
    pub fn is_clone(&self, root: &Path) -> bool {
        root.parent() == Some(&layout::roots(&self.state_dir))
    }

    /// Makes the root `name`. On failure what was made is left for [`Clones::destroy`].
    pub fn create(&self, name: &str, source: &TemplateSource) -> Result<(), Failure> {
        check_name(name)?;
        let root = self.root(name);
        let what = || format!("make the clone {name}");
        let template = match source {
            // Used as it is; the root is the directory itself.
            TemplateSource::Shared { .. } => return Ok(()),
            TemplateSource::Zfs { snapshot } => {
                fs::create_dir(&root).doing(what)?;
                return zfs::clone(snapshot, name, &root);
            }
            TemplateSource::Directory { path } => path.as_path(),
            TemplateSource::Host => Path::new("/"),
        };
        let template =
            template.canonicalize().doing(|| format!("{}: the template {}", what(), template.display()))?;
        fs::create_dir(&root).doing(what)?;
        let whole = !matches!(source, TemplateSource::Host);
        let system = skeleton::make(&template, &root, whole, &self.state_dir)
            .doing(|| format!("{}: copy from {}", what(), template.display()))?;
        for directory in system {
            let (from, to) = (template.join(&directory), root.join(&directory));
            mounts::nmount("nullfs", &from.to_string_lossy(), &to, &[("ro", None)])
                .map_err(|refusal| refusal.failure(format!("{}: mount {} on it", what(), from.display())))
                .map_err(|failure| hint_if(failure, libc::ENODEV, "`kldload nullfs`"))?;
        }
        Ok(())
    }

    /// Destroys a clone, whatever of it is there.
    pub fn destroy(&self, name: &str, source: &TemplateSource) -> Result<(), Failure> {
        check_name(name)?;
        if matches!(source, TemplateSource::Shared { .. }) {
            return Ok(());
        }
        let root = self.root(name);
        let what = || format!("destroy the clone {name}");
        let (own, foreign): (Vec<_>, Vec<_>) =
            (fsstat::below(&root).doing(what)?.into_iter()).partition(|mount| is_part(mount, &root, source));
        if let Some(mount) = foreign.first() {
            return Err(Failure::new(format!(
                "{}: {} is mounted on {}: left alone",
                what(),
                mount.source,
                mount.point.display()
            ))
            .hint("unmount it; the clone is removed then"));
        }
        if let TemplateSource::Zfs { snapshot } = source {
            zfs::destroy(snapshot, name)?;
        } else {
            // Read-only: cutting them loose loses nothing.
            own.iter().rev().try_for_each(|mount| mounts::release(mount, true))?;
        }
        if let Some(mount) = fsstat::below(&root).doing(what)?.first() {
            return Err(Failure::new(format!("{}: {} is still mounted", what(), mount.point.display())));
        }
        let parent = match fs::File::open(layout::roots(&self.state_dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => OwnedFd::from(other.doing(what)?),
        };
        remove::tree(&parent, OsStr::new(name)).doing(|| format!("remove {}", root.display())).map_err(
            |failure| {
                hint_if(
                    failure,
                    libc::EPERM,
                    "a file may have a flag that forbids it: `chflags -R 0` takes flags off",
                )
            },
        )
    }

    /// The clones there are, whole or in parts.
    pub fn names(&self) -> io::Result<BTreeSet<String>> {
        match fs::read_dir(layout::roots(&self.state_dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            entries => entries?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        }
    }

    /// The mounts of instances below the roots, by place, with their types; parts of the clones left out.
    pub fn mounts(&self) -> io::Result<std::collections::BTreeMap<PathBuf, String>> {
        let roots = layout::roots(&self.state_dir);
        Ok((fsstat::below(&roots)?.into_iter())
            .filter(|mount| {
                let Ok(inside) = mount.point.strip_prefix(&roots) else { return false };
                let mut names = inside.components();
                let (root, rest) = (names.next(), names.as_path());
                // The root itself is a ZFS clone; a system directory is one by nullfs, from a place of the same name.
                let system = mount.fstype == "nullfs"
                    && skeleton::SYSTEM.iter().any(|name| Path::new(name) == rest)
                    && Path::new(&mount.source).ends_with(rest);
                root.is_some() && !rest.as_os_str().is_empty() && !system
            })
            .map(|mount| (mount.point, mount.fstype))
            .collect())
    }
}

/// Whether a mount is a part of the clone.
fn is_part(mount: &Mounted, root: &Path, source: &TemplateSource) -> bool {
    let template = match source {
        TemplateSource::Zfs { .. } => return mount.point == root && mount.fstype == "zfs",
        TemplateSource::Shared { .. } => return false,
        TemplateSource::Directory { path } => path.as_path(),
        TemplateSource::Host => Path::new("/"),
    };
    let Ok(inside) = mount.point.strip_prefix(root) else { return false };
    let same = |template: &Path| Path::new(&mount.source) == template.join(inside);
    mount.fstype == "nullfs"
        && skeleton::SYSTEM.iter().any(|name| Path::new(name) == inside)
        && (same(template) || template.canonicalize().is_ok_and(|template| same(&template)))
}
