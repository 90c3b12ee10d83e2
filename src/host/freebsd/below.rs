//! Finding and making files below a directory that others may write to, without following their links.
//!
//! FreeBSD 13 has O_RESOLVE_BENEATH, which follows links that stay below; here no link is to be followed at all, so each component
//! is opened by itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::host::names::{components, split};

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What to do about a root that is not opened as it is a link.
pub const ROOT_IS_A_LINK: &str = "the root is a link, which whoever may write beside it could turn elsewhere: name the directory it leads to";

/// Opens a directory that is to serve as a root; it may not be a link itself.
pub fn open_root(root: &Path) -> io::Result<OwnedFd> {
    rustix::fs::open(root, DIR, Mode::empty()).map_err(Into::into)
}

/// Opens the directory at `path` below `root`; what is missing of it is made if `make` says so.
///
/// # Errors
/// `EMLINK` (FreeBSD's word for a link where O_NOFOLLOW allows none) or `ENOTDIR` if something else is in the way.
pub fn dirs(root: BorrowedFd<'_>, path: &Path, make: bool) -> io::Result<OwnedFd> {
    let mut dir = openat(root, ".", DIR, Mode::empty())?;
    for component in components(path)? {
        dir = match openat(&dir, component, DIR, Mode::empty()) {
            Err(Errno::NOENT) if make => {
                match rustix::fs::mkdirat(&dir, component, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                openat(&dir, component, DIR, Mode::empty())?
            }
            other => other?,
        };
    }
    Ok(dir)
}

/// Replaces the file at `path` below `root`. Directories that are missing are made only if `make` says so. A link at the
/// place is replaced, not followed.
pub fn write_file(root: BorrowedFd<'_>, path: &Path, contents: &[u8], make: bool) -> io::Result<()> {
    let (parent, name) = split(path)?;
    let parent = dirs(root, &parent, make)?;
    let mut temporary = name.clone();
    temporary.push(".warren-new");
    match rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent.as_fd(), &temporary, flags, Mode::from_raw_mode(0o644))?;
    let mut file = std::fs::File::from(file);
    let mut write = || -> io::Result<()> {
        io::Write::write_all(&mut file, contents)?;
        // Whatever the umask is: others in the jail have to read it.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        rustix::fs::renameat(&parent, &temporary, &parent, &name).map_err(Into::into)
    };
    write().inspect_err(|_| {
        let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
    })
}
