//! Clones of templates: a writable overlay over what is not to be changed.
//!
//! The host's own root is cloned by one overlay per top-level directory, as root and as an ordinary user alike: in a user
//! namespace the kernel refuses `lowerdir=/`, because that would uncover what is hidden below the mounts on it.
//! Homes and places for other file systems stay empty: a demo instance has no business with anybody's keys.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::failure::{Context, hint_if};
use super::{below, holders, layout, mountinfo, mounts, remove};
use crate::config::spec::TemplateSource;
use crate::host::Failure;

/// What the overlays call their source: how they are known again.
pub const SOURCE: &str = "warren-clone";

/// Top-level directories of the host that a clone has empty.
const EMPTY: [&str; 14] = [
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "home",
    "root",
    "mnt",
    "media",
    "boot",
    "lost+found",
    "snap",
    "cdrom",
    "efi",
];
/// How deep directories with mounts below them are taken apart, when the kernel does not let them be cloned whole.
const DEPTH: u32 = 3;
/// The largest file copied when its directory was taken apart.
const LARGEST_COPY: u64 = 1 << 20;

/// Makes and destroys clones below a state directory.
#[derive(Debug, Clone)]
pub struct Clones {
    /// The state directory, canonical.
    pub state_dir: PathBuf,
    /// Whether we live in a user namespace.
    pub user_namespace: bool,
}

/// A clone in the making.
struct Making<'a> {
    clones: &'a Clones,
    root: PathBuf,
    layers: PathBuf,
    next: u32,
}

impl Clones {
    /// Makes the root `name`. On failure what was made is left for [`Clones::destroy`].
    pub fn create(&self, name: &str, source: &TemplateSource) -> Result<(), Failure> {
        check_name(name)?;
        let root = layout::root(&self.state_dir, name);
        let layers = layout::clones(&self.state_dir).join(name);
        let what = || format!("make the clone {name}");
        match source {
            TemplateSource::Zfs { snapshot } => {
                return Err(Failure::new(format!("cannot clone {snapshot}: the lab has no ZFS"))
                    .hint("use a directory or `host` as the template"));
            }
            TemplateSource::Shared { path } => {
                let view = mounts::bind(path.as_os_str(), 0)
                    .doing(|| format!("open the template {}", path.display()))?;
                make_dir(&root).doing(what)?;
                let target = below::open_root(&root).doing(what)?;
                return mounts::attach(&view, &target).doing(what);
            }
            TemplateSource::Directory { .. } | TemplateSource::Host => {
                make_dir(&root).doing(what)?;
                make_dir(&layers).doing(what)?;
            }
        }
        let mut making = Making { clones: self, root, layers, next: 0 };
        match source {
            TemplateSource::Directory { path } => {
                making.overlay(path, Path::new("")).map_err(|error| {
                    hint_if(
                        hint_if(
                            Failure::os(format!("{}: overlay over {}", what(), path.display()), &error),
                            libc::EINVAL,
                            "the state directory's file system must be able to hold an overlay's upper layer (ext4, xfs, btrfs, \
                             tmpfs), and an ordinary user's template may have no other file system mounted below it",
                        ),
                        libc::ENODEV,
                        "the kernel has no overlay file system: `modprobe overlay`",
                    )
                })
            }
            _ => making.host().map_err(|error| {
                hint_if(
                    Failure::os(format!("{}: overlay over the host's root", what()), &error),
                    libc::EINVAL,
                    "the state directory's file system must be able to hold an overlay's upper layer: ext4, xfs, btrfs or tmpfs",
                )
            }),
        }
    }

    /// Whether a root is a clone, so that it may be written to.
    #[must_use]
    pub fn is_clone(&self, root: &Path) -> bool {
        root.file_name().is_some_and(|name| {
            root.parent() == Some(&layout::roots(&self.state_dir))
                && layout::clones(&self.state_dir).join(name).is_dir()
        })
    }

    /// Destroys a clone, whatever of it is there.
    pub fn destroy(&self, name: &str, source: &TemplateSource) -> Result<(), Failure> {
        check_name(name)?;
        let roots = layout::roots(&self.state_dir);
        let (root, layers) = (roots.join(name), layout::clones(&self.state_dir).join(name));
        let what = || format!("destroy the clone {name}");
        let shared = matches!(source, TemplateSource::Shared { .. });
        let (mut ours, foreign): (Vec<_>, Vec<_>) =
            self.mounts_of(&root, &layers).doing(what)?.into_iter().partition(|mount| {
                let overlay = mount.fstype == "overlay" && mount.source == SOURCE;
                if shared { mount.point == root && !overlay } else { overlay }
            });
        if let Some(mount) = foreign.first() {
            return Err(Failure::new(format!(
                "the clone {name} has a mount on {} ({}): left alone",
                mount.point.display(),
                mount.source
            ))
            .hint("unmount it; the clone is removed then"));
        }
        // Later mounts lie on or below earlier ones.
        while let Some(mount) = ours.pop() {
            let relative = Path::new("/").join(mount.point.strip_prefix(&roots).unwrap_or(&mount.point));
            // The upper layer is on disk, or about to be removed: cutting a view of it loose loses nothing. But files held open
            // there would make the removal below incomplete, so it is not done.
            mounts::unmount_at(&roots, &relative, false).map_err(|error| {
                let failure = Failure::os(format!("{}: unmount {}", what(), mount.point.display()), &error);
                if error.raw_os_error() == Some(libc::EBUSY) {
                    failure.hint(holders::sentence(&mount.point))
                } else {
                    failure
                }
            })?;
        }
        if let Some(mount) = self.mounts_of(&root, &layers).doing(what)?.first() {
            return Err(Failure::new(format!("{}: {} is still mounted", what(), mount.point.display())));
        }
        if shared {
            // Never more than an empty directory: what is shared is not ours to remove.
            return match fs::remove_dir(&root) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing(what),
                _ => Ok(()),
            };
        }
        for dir in [roots, layout::clones(&self.state_dir)] {
            let parent = match rustix::fs::open(
                &dir,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                Err(rustix::io::Errno::NOENT) => continue,
                other => other.doing(what)?,
            };
            remove::tree(&parent, OsStr::new(name))
                .doing(|| format!("remove {}", dir.join(name).display()))?;
        }
        Ok(())
    }

    fn mounts_of(&self, root: &Path, layers: &Path) -> io::Result<Vec<mountinfo::Mounted>> {
        let mut all = mountinfo::read()?;
        all.retain(|mount| mount.point.starts_with(root) || mount.point.starts_with(layers));
        Ok(all)
    }

    /// The clones there are, whole or in parts.
    pub fn names(&self) -> io::Result<std::collections::BTreeSet<String>> {
        let mut names = std::collections::BTreeSet::new();
        for dir in [layout::roots(&self.state_dir), layout::clones(&self.state_dir)] {
            match fs::read_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                entries => {
                    for entry in entries? {
                        names.insert(entry?.file_name().to_string_lossy().into_owned());
                    }
                }
            }
        }
        Ok(names)
    }
}

impl Making<'_> {
    /// The host's root.
    fn host(&mut self) -> io::Result<()> {
        let mounted = mountinfo::read()?;
        copy_attributes(&fs::metadata("/")?, &self.root)?;
        for entry in sorted("/".as_ref())? {
            let name = entry.file_name();
            if EMPTY.iter().any(|empty| *empty == name) {
                self.empty_dir(&entry.path(), Path::new(&name))?;
            } else {
                self.take(&entry.path(), Path::new(&name), &mounted, 0)?;
            }
        }
        Ok(())
    }

    /// Brings one entry of the host into the clone at `inside`.
    fn take(
        &mut self,
        from: &Path,
        inside: &Path,
        mounted: &[mountinfo::Mounted],
        depth: u32,
    ) -> io::Result<()> {
        let meta = fs::symlink_metadata(from)?;
        let kind = FileType::from_raw_mode(meta.mode());
        let to = self.root.join(inside);
        match kind {
            FileType::Symlink => std::os::unix::fs::symlink(fs::read_link(from)?, to),
            FileType::Directory if from == self.clones.state_dir => self.empty_dir(from, inside),
            FileType::Directory => {
                if self.next >= 64 {
                    // A host this scattered would cost too many mounts.
                    return self.empty_dir(from, inside);
                }
                match self.overlay(from, inside) {
                    // In a user namespace what is covered by a mount must stay covered: the parts are taken one by one.
                    Err(error)
                        if error.raw_os_error() == Some(libc::EINVAL) && has_mount_below(from, mounted) =>
                    {
                        self.apart(from, inside, &meta, mounted, depth)
                    }
                    Err(error)
                        if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))
                            && self.clones.user_namespace =>
                    {
                        self.empty_dir(from, inside)
                    }
                    other => other,
                }
            }
            FileType::RegularFile if depth > 0 && meta.len() <= LARGEST_COPY => match fs::copy(from, &to) {
                // What the user may not read, the clone does not have.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                other => other.map(|_| ()),
            },
            _ => Ok(()),
        }
    }

    /// A directory entry by entry.
    fn apart(
        &mut self,
        from: &Path,
        inside: &Path,
        meta: &Metadata,
        mounted: &[mountinfo::Mounted],
        depth: u32,
    ) -> io::Result<()> {
        self.empty_dir(from, inside)?;
        if depth >= DEPTH || meta.permissions().mode() & 0o5 != 0o5 {
            return Ok(());
        }
        for entry in sorted(from)? {
            let place = entry.path();
            // A mount point is another file system's: not part of the host's root.
            if !mounted.iter().any(|mount| mount.point == place) {
                self.take(&place, &inside.join(entry.file_name()), mounted, depth + 1)?;
            } else if place.is_dir() {
                self.empty_dir(&place, &inside.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    /// An empty directory with the owner and mode of another.
    fn empty_dir(&self, from: &Path, inside: &Path) -> io::Result<()> {
        let to = self.root.join(inside);
        // It is there if an overlay was to be mounted on it and was refused.
        ensure_dir(&to)?;
        copy_attributes(&fs::metadata(from)?, &to)
    }

    /// One overlay over `lower`, mounted at `inside`.
    fn overlay(&mut self, lower: &Path, inside: &Path) -> io::Result<()> {
        let layer = self.layers.join(self.next.to_string());
        self.next += 1;
        let (upper, work, target) = (layer.join("upper"), layer.join("work"), self.root.join(inside));
        for dir in [&layer, &upper, &work] {
            make_dir(dir)?;
        }
        let meta = fs::metadata(lower)?;
        copy_attributes(&meta, &upper)?;
        if self.clones.user_namespace {
            adopt(
                lower,
                &upper,
                if inside == Path::new("var") || inside == Path::new("etc") { 2 } else { 1 },
            )?;
        }
        if !inside.as_os_str().is_empty() {
            make_dir(&target)?;
            copy_attributes(&meta, &target)?;
        }
        self.hide_state_dir(lower, &upper)?;
        let mount = self.mount_overlay(lower, &upper, &work)?;
        mounts::attach(&mount, &below::open_root(&target)?)
    }

    fn mount_overlay(&self, lower: &Path, upper: &Path, work: &Path) -> io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", SOURCE)?;
        let mut open = Vec::new();
        for (option, path) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
            // By descriptor, since the option has its own meaning for `:`, `,` and `\` and holds 255 bytes.
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(path, flags, Mode::empty())?;
            fsconfig_set_string(&context, option, format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
            open.push(dir);
        }
        if self.clones.user_namespace {
            fsconfig_set_flag(&context, "userxattr")?;
        }
        // A clone is never mounted again after a crash, so that nothing needs to be on disk.
        fsconfig_set_flag(&context, "volatile")?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(Into::into)
    }

    /// Puts a whiteout over the state directory if it lies below what is cloned: an instance is not to see the others.
    fn hide_state_dir(&self, lower: &Path, upper: &Path) -> io::Result<()> {
        let lower = fs::canonicalize(lower)?;
        let Ok(relative) = self.clones.state_dir.strip_prefix(&lower) else { return Ok(()) };
        let Some(parent) = relative.parent() else { return Ok(()) };
        let (mut there, mut here) = (lower.clone(), upper.to_owned());
        for name in parent {
            there.push(name);
            here.push(name);
            ensure_dir(&here)?;
            copy_attributes(&fs::metadata(&there)?, &here)?;
        }
        let name = relative.file_name().unwrap_or_default();
        match fs::remove_dir(here.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {} // Or it was adopted.
        }
        // Overlayfs documentation, "whiteouts and opaque directories": a character device 0/0.
        rustix::fs::mknodat(rustix::fs::CWD, here.join(name), FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(Into::into)
    }
}

/// A name is one component: what is made and removed lies where it should.
fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Failure::new(format!("`{name}` is no name for a clone")));
    }
    Ok(())
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

fn ensure_dir(path: &Path) -> io::Result<()> {
    match make_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Gives the upper layer directories of its own where the lower one has them, so many levels deep. A directory that is in both
/// layers has the upper one's owner: without this an ordinary user, whose namespace knows no number for root's files, could
/// write nowhere in `/var`.
fn adopt(lower: &Path, upper: &Path, levels: u32) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(lower) else { return Ok(()) }; // What may not be read stays as it is.
    for entry in entries {
        let entry = entry?;
        let meta = entry.metadata()?;
        if !meta.is_dir() {
            continue;
        }
        let own = upper.join(entry.file_name());
        ensure_dir(&own)?;
        copy_attributes(&meta, &own)?;
        if levels > 1 {
            adopt(&entry.path(), &own, levels - 1)?;
        }
    }
    Ok(())
}

/// Owner and mode. In a user namespace owners that have no number there stay ours.
fn copy_attributes(from: &Metadata, to: &Path) -> io::Result<()> {
    match std::os::unix::fs::chown(to, Some(from.uid()), Some(from.gid())) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL)) => return Err(error),
        _ => {}
    }
    fs::set_permissions(to, fs::Permissions::from_mode(from.mode() & 0o7777))
}

fn has_mount_below(path: &Path, mounted: &[mountinfo::Mounted]) -> bool {
    mounted.iter().any(|mount| mount.point != path && mount.point.starts_with(path))
}

/// The entries of a directory by name, so that layers are numbered the same each time.
fn sorted(dir: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}
