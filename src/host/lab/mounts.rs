//! Mounts below a root, in FreeBSD's types: devfs, fdescfs, procfs, nullfs and tmpfs have a counterpart here.
//!
//! A mount is found again in the kernel's table by its place and told apart by its type and source, so that what is not ours is
//! never unmounted.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, StatxFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::below::components;
use super::failure::{Context, hint_if};
use super::mountinfo::{self, Mounted};
use super::{below, holders, sys};
use crate::host::{Failure, Mount};

/// What a devfs shows in the lab.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// How long a busy mount is tried again: 1 + 2 + 4 + … milliseconds, a second in all.
const TRIES: u32 = 11;

/// The types the lab has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Devfs,
    Fdescfs,
    Procfs,
    Nullfs,
    Tmpfs,
}

impl Kind {
    pub(super) fn of(mount: &Mount) -> Result<Self, Failure> {
        Ok(match mount.fstype.as_str() {
            "devfs" => Self::Devfs,
            "fdescfs" => Self::Fdescfs,
            "procfs" => Self::Procfs,
            "nullfs" => Self::Nullfs,
            "tmpfs" => Self::Tmpfs,
            other => {
                return Err(Failure::new(format!("the lab has no file system of type {other}"))
                    .hint("it has devfs, fdescfs, procfs, nullfs and tmpfs; the others need FreeBSD"));
            }
        })
    }
}

/// A mount's options, as the kernel takes them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    /// `MOUNT_ATTR_*`.
    attributes: u64,
    /// For the file system itself.
    settings: Vec<(String, String)>,
}

/// Translates the options of fstab(5) and of FreeBSD's mount_nullfs(8), mount_tmpfs(8), mount_devfs(8).
fn options(mount: &Mount, kind: Kind) -> Result<Options, Failure> {
    let mut options = Options::default();
    if mount.read_only {
        options.attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    for option in
        mount.options.iter().flat_map(|option| option.split(',')).filter(|option| !option.is_empty())
    {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, kind) {
            ("rw" | "late" | "noauto" | "failok", _) => {}
            ("ro", _) => options.attributes |= libc::MOUNT_ATTR_RDONLY,
            ("nosuid", _) => options.attributes |= libc::MOUNT_ATTR_NOSUID,
            ("noexec", _) => options.attributes |= libc::MOUNT_ATTR_NOEXEC,
            ("noatime", _) => options.attributes |= libc::MOUNT_ATTR_NOATIME,
            // What these choose, the lab has only one of.
            ("ruleset", Kind::Devfs)
            | ("linrdlnk" | "nodup", Kind::Fdescfs)
            | ("cache" | "nocache", Kind::Nullfs) => {}
            ("size" | "mode" | "uid" | "gid", Kind::Tmpfs) => {
                options.settings.push((name.into(), value.into()))
            }
            ("inodes", Kind::Tmpfs) => options.settings.push(("nr_inodes".into(), value.into())),
            _ => {
                return Err(Failure::new(format!(
                    "mount {} on {}: the lab knows no option `{option}` for {}",
                    mount.source,
                    mount.target.display(),
                    mount.fstype
                )));
            }
        }
    }
    Ok(options)
}

/// Mounts. A mount point that is missing is made if the root is a clone (`cloned`).
pub fn mount(mount: &Mount, cloned: bool) -> Result<(), Failure> {
    let kind = Kind::of(mount)?;
    let options = options(mount, kind)?;
    let what = || {
        format!(
            "mount {} ({}) on {} in {}",
            mount.source,
            mount.fstype,
            mount.target.display(),
            mount.root.display()
        )
    };
    let on_root = components(&mount.target).doing(what)?.is_empty();
    if on_root && cloned {
        return Err(Failure::new(format!("{}: a mount on / of a clone would hide it", what())));
    }
    let root = below::open_root(&mount.root).doing(|| format!("open the root {}", mount.root.display()))?;
    let is_file = kind == Kind::Nullfs
        && std::fs::metadata(&mount.source).doing(|| format!("look at {}", mount.source))?.is_file();
    if kind == Kind::Fdescfs {
        return descriptors(&root, mount, cloned).doing(what);
    }
    let target = match below::refer(root.as_fd(), &mount.target) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) && cloned => {
            if is_file {
                below::make_file(root.as_fd(), &mount.target)
            } else {
                below::make_dirs(root.as_fd(), &mount.target)
            }
        }
        other => other,
    }
    .doing(what)
    .map_err(|failure| {
        hint_if(failure, libc::ELOOP, "a link is in the way, and links are not followed below a root")
    })?;
    let onto = |mount: OwnedFd| attach(&mount, &target).map(|()| mount);
    let attached = match kind {
        Kind::Devfs => devfs(&target, &options),
        Kind::Procfs if components(&mount.target).doing(what)? != [OsStr::new("proc")] => {
            return Err(Failure::new(format!("{}: the lab has procfs on /proc only", what())));
        }
        // The real one belongs to the jail's pid namespace, which is not there yet: jail-init puts it on top.
        Kind::Procfs => memory("procfs", &[("size".into(), "4k".into()), ("mode".into(), "555".into())], options.attributes)
            .and_then(onto),
        Kind::Tmpfs => memory("tmpfs", &options.settings, options.attributes).and_then(onto),
        Kind::Nullfs => bind(OsStr::new(&mount.source), options.attributes).and_then(onto),
        Kind::Fdescfs => return Ok(()),
    }
    .doing(what)
    .map_err(|failure| {
        if kind == Kind::Nullfs {
            hint_if(
                failure,
                libc::EINVAL,
                "if another file system is mounted below it, an ordinary user may not bind it: run the lab as root",
            )
        } else {
            failure
        }
    })?;
    // Who may give the root itself another name is no jail's.
    if on_root { Ok(()) } else { in_its_place(&attached, &root, mount).doing(what) }
}

/// Takes a mount back that did not come to lie at its place: between being found and being mounted upon, a directory can be given
/// another name by whoever may write to the root.
fn in_its_place(attached: &OwnedFd, root: &OwnedFd, mount: &Mount) -> io::Result<()> {
    let number = |of: &OwnedFd| -> io::Result<u64> {
        Ok(rustix::fs::statx(of, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
    };
    let ours = number(attached)?;
    // A rename that found no mount there may still be under way. It holds the directory's lock, for which this waits; those that
    // begin later are refused.
    let (parent, name) = below::split(&mount.target)?;
    let waited = below::refer(root.as_fd(), &parent)
        .and_then(|dir| rustix::fs::mkdirat(&dir, &name, Mode::RWXU).map_err(Into::into).map(|()| dir));
    if let Ok(dir) = waited {
        // The place was empty. Whoever has put something into it meanwhile keeps it.
        let _ = rustix::fs::unlinkat(&dir, &name, AtFlags::REMOVEDIR);
    }
    if below::refer(root.as_fd(), &mount.target).and_then(|there| number(&there)).is_ok_and(|it| it == ours) {
        return Ok(());
    }
    let astray = Path::new("/proc/self/fd").join(attached.as_raw_fd().to_string());
    rustix::mount::unmount(&astray, UnmountFlags::DETACH)?;
    Err(io::Error::other("the directory was moved away meanwhile"))
}

/// Unmounts what [`mount`] mounted.
pub fn unmount(mount: &Mount) -> Result<(), Failure> {
    let Ok(kind) = Kind::of(mount) else { return Ok(()) }; // What cannot be mounted is not there.
    if kind == Kind::Fdescfs {
        return Ok(());
    }
    let point = place(mount)?;
    let what = || format!("unmount {}", point.display());
    let Some(seen) = mountinfo::at(&point).doing(what)? else { return Ok(()) };
    if !is_ours(mount, kind, &seen, &point) {
        // What it was to lie on; it never came to lie there.
        if mount.stacked {
            return Ok(());
        }
        return Err(Failure::new(format!(
            "{} is a mount of {} ({}), not of {} ({}): left alone",
            point.display(),
            seen.source,
            seen.fstype,
            mount.source,
            mount.fstype
        )));
    }
    if kind == Kind::Devfs {
        for name in DEVICES {
            let device = point.join(name);
            if mountinfo::at(&device).doing(what)?.is_some() {
                unmount_at(&mount.root, &mount.target.join(name), true)
                    .doing(|| format!("unmount {}", device.display()))?;
            }
        }
    }
    // Nothing is lost by cutting these loose: they hold no data of anybody's.
    let harmless = matches!(kind, Kind::Devfs | Kind::Procfs) || mount.read_only;
    unmount_at(&mount.root, &mount.target, harmless).map_err(|error| {
        let failure = Failure::os(what(), &error);
        if error.raw_os_error() == Some(libc::EBUSY) {
            failure.hint(holders::sentence(&point))
        } else {
            failure
        }
    })
}

/// Where it is, as the table names it.
pub(super) fn place(mount: &Mount) -> Result<PathBuf, Failure> {
    let names = components(&mount.target).doing(|| format!("mount point {}", mount.target.display()))?;
    // A root that is gone has no other spelling.
    let root = std::fs::canonicalize(&mount.root).unwrap_or_else(|_| mount.root.clone());
    Ok(names.iter().fold(root, |path, name| path.join(name)))
}

/// Whether what is seen there is what was asked for.
pub(super) fn is_ours(mount: &Mount, kind: Kind, seen: &Mounted, point: &Path) -> bool {
    match kind {
        Kind::Devfs | Kind::Procfs | Kind::Tmpfs => seen.fstype == "tmpfs" && seen.source == mount.fstype,
        Kind::Nullfs => {
            // A bind has its origin's type and source; but it is the same directory. If that was deleted, the table says so.
            let same =
                |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
            match (std::fs::metadata(&mount.source), std::fs::symlink_metadata(point)) {
                (Ok(source), Ok(there)) => same(&source, &there),
                _ => seen.root.as_os_str().as_encoded_bytes().ends_with(b"//deleted"),
            }
        }
        Kind::Fdescfs => false,
    }
}

/// Unmounts at a path below a root, trying a busy one again for two seconds; then detaches it if that loses nothing.
///
/// # Errors
/// `EBUSY`.
pub fn unmount_at(root: &Path, target: &Path, harmless: bool) -> io::Result<()> {
    // What lies on the root itself is found from the directory around it.
    let (root, parent, name) = match (components(target)?.is_empty(), root.parent(), root.file_name()) {
        (true, Some(around), Some(name)) => (around, PathBuf::new(), name.to_owned()),
        _ => {
            let (parent, name) = below::split(target)?;
            (root, parent, name)
        }
    };
    let mut pause = Duration::from_millis(1);
    for left in (0..TRIES).rev() {
        // Only the parent is opened: a descriptor on the mount itself would keep it busy.
        let dir = below::refer(below::open_root(root)?.as_fd(), &parent)?;
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(&name);
        match rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW) {
            Err(rustix::io::Errno::BUSY) if left > 0 => {
                std::thread::sleep(pause);
                pause *= 2;
            }
            Err(rustix::io::Errno::BUSY) if harmless => {
                return rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                    .map_err(Into::into);
            }
            // Not a mount point any more.
            Err(rustix::io::Errno::INVAL) if mountinfo::at(&root.join(&parent).join(&name))?.is_none() => {
                return Ok(());
            }
            other => return other.map_err(Into::into),
        }
    }
    Ok(())
}

/// A new file system in memory, not yet mounted anywhere.
pub fn memory(source: &str, settings: &[(String, String)], attributes: u64) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    for (name, value) in settings {
        fsconfig_set_string(&context, name.as_str(), value.as_str())?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or_default());
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(Into::into)
}

/// A second view of a directory or file, not yet mounted anywhere. What is mounted below it is not part of it, as with nullfs.
pub fn bind(source: &OsStr, attributes: u64) -> io::Result<OwnedFd> {
    let mount = open_tree(CWD, source, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    if attributes != 0 {
        sys::mount_attributes(mount.as_fd(), attributes)?;
    }
    Ok(mount)
}

/// Mounts what was made on what was resolved.
pub fn attach(mount: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).map_err(Into::into)
}

/// A devfs: a small file system with the harmless devices of the machine bound into it.
fn devfs(target: &OwnedFd, options: &Options) -> io::Result<OwnedFd> {
    let settings = [("size".into(), "1m".into()), ("mode".into(), "755".into())];
    // Made read-only, if wanted, only after it is filled.
    let mount = memory("devfs", &settings, libc::MOUNT_ATTR_NOSUID)?;
    attach(&mount, target)?;
    for name in DEVICES {
        let place = below::make_file(mount.as_fd(), Path::new(name))?;
        match bind(&Path::new("/dev").join(name).into_os_string(), 0) {
            Ok(device) => attach(&device, &place)?,
            // A machine without one (containers may lack `full`) has jails without it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        rustix::fs::symlinkat(to, &mount, name)?;
    }
    rustix::fs::mkdirat(&mount, "shm", Mode::from_raw_mode(0o1777))?;
    rustix::fs::chmodat(&mount, "shm", Mode::from_raw_mode(0o1777), AtFlags::empty())?;
    if options.attributes != 0 {
        sys::mount_attributes(mount.as_fd(), options.attributes)?;
    }
    Ok(mount)
}

/// fdescfs: in the lab `/dev/fd` is a link that devfs brings; where it is missing a clone gets it.
fn descriptors(root: &OwnedFd, mount: &Mount, cloned: bool) -> io::Result<()> {
    let (parent, name) = below::split(&mount.target)?;
    let parent =
        if cloned { below::make_dirs(root.as_fd(), &parent)? } else { below::refer(root.as_fd(), &parent)? };
    match rustix::fs::symlinkat("/proc/self/fd", &parent, &name) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The mounts below `roots`, by place, with their types in FreeBSD's words; layers of clones and parts of a devfs left out. A devfs
/// brings the link that is the lab's fdescfs, so with it goes one.
pub fn inventory(all: Vec<Mounted>, roots: &Path) -> std::collections::BTreeMap<PathBuf, String> {
    let mut found = std::collections::BTreeMap::new();
    for mount in all {
        let is_root = mount.point.parent() == Some(roots);
        let is_device = found.get(mount.point.parent().unwrap_or(roots)).is_some_and(|kind| kind == "devfs");
        if mount.point.starts_with(roots) && !is_root && !is_device && mount.source != super::clones::SOURCE {
            let kind = match (mount.fstype.as_str(), mount.source.as_str()) {
                ("tmpfs", kind @ ("devfs" | "procfs" | "tmpfs")) => kind,
                _ => "nullfs",
            };
            if kind == "devfs" {
                found.insert(mount.point.join("fd"), "fdescfs".to_owned());
            }
            found.insert(mount.point, kind.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(fstype: &str, options: &[&str]) -> Mount {
        Mount {
            root: "/roots/x".into(),
            target: "/a/./b".into(),
            fstype: fstype.into(),
            source: "s".into(),
            options: options.iter().map(|o| (*o).into()).collect(),
            read_only: true,
            stacked: false,
        }
    }

    #[test]
    fn options_are_translated_or_refused_but_never_ignored() {
        let mount = sample("tmpfs", &["size=10m,inodes=5", "noexec"]);
        let got = options(&mount, Kind::Tmpfs).unwrap();
        assert_eq!(got.attributes, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOEXEC);
        assert_eq!(got.settings, [("size".into(), "10m".into()), ("nr_inodes".to_owned(), "5".to_owned())]);
        assert!(options(&sample("tmpfs", &["maxfilesize=1"]), Kind::Tmpfs).is_err());
        assert!(options(&sample("nullfs", &["size=1"]), Kind::Nullfs).is_err());
        assert!(Kind::of(&sample("unionfs", &[])).unwrap_err().message.contains("unionfs"));
    }

    #[test]
    fn the_place_is_spelled_as_the_kernel_spells_it() {
        assert_eq!(place(&sample("tmpfs", &[])).unwrap(), Path::new("/roots/x/a/b"));
        let mut mount = sample("tmpfs", &[]);
        mount.target = "/".into();
        assert_eq!(place(&mount).unwrap(), Path::new("/roots/x"));
        mount.target = "/../b".into();
        assert!(place(&mount).is_err());
    }
}
