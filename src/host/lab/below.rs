//! Finding and making files below a directory that others may write to, without following their links: openat2(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub use crate::host::names::{components, split};

/// No link is followed, no `..` leads out.
const NO_LINKS: ResolveFlags =
    ResolveFlags::IN_ROOT.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens a directory that is to serve as a root; it may not be a link itself.
pub fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty()).map_err(Into::into)
}

/// Opens what is at `path` below `root`, to refer to it (`O_PATH`).
///
/// # Errors
/// `ELOOP` if a link is in the way.
pub fn refer(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    rustix::fs::openat2(root, relative(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), NO_LINKS)
        .map_err(Into::into)
}

/// Opens the directory at `path` below `root`, making what is missing of it.
pub fn make_dirs(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut dir = refer(root, Path::new("."))?;
    for component in components(path)? {
        let next = match refer(dir.as_fd(), Path::new(component)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                match rustix::fs::mkdirat(&dir, component, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                refer(dir.as_fd(), Path::new(component))?
            }
            other => other?,
        };
        dir = next;
    }
    Ok(dir)
}

/// Makes an empty file at `path` below `root` if nothing is there, and its directories.
pub fn make_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let (parent, name) = split(path)?;
    let parent = make_dirs(root, &parent)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) | Err(Errno::EXIST) => refer(parent.as_fd(), Path::new(&name)),
        Err(error) => Err(error.into()),
    }
}

/// Replaces the file at `path` below `root`. Directories that are missing are made only if `make` says so. A link at the
/// place is replaced, not followed.
pub fn write_file(root: BorrowedFd<'_>, path: &Path, contents: &[u8], make: bool) -> io::Result<()> {
    let (parent, name) = split(path)?;
    let parent = if make { make_dirs(root, &parent)? } else { refer(root, &parent)? };
    let mut temporary = name.clone();
    temporary.push(".warren-new");
    match rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&parent, &temporary, flags, Mode::from_raw_mode(0o644))?;
    let mut file = std::fs::File::from(file);
    let write = || -> io::Result<()> {
        io::Write::write_all(&mut file, contents)?;
        // Whatever the umask is: others in the jail have to read it.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        rustix::fs::renameat(&parent, &temporary, &parent, &name).map_err(Into::into)
    };
    let mut write = write;
    write().inspect_err(|_| {
        let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
    })
}

/// The path without its leading slash, `.` if nothing is left.
fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::lab::scratch::Scratch;

    #[test]
    fn a_link_is_not_followed() {
        let dir = Scratch::new();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::os::unix::fs::symlink("../outside", dir.path().join("root/etc")).unwrap();
        let root = open_root(&dir.path().join("root")).unwrap();
        let error = write_file(root.as_fd(), Path::new("/etc/passwd"), b"x", true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        assert!(make_dirs(root.as_fd(), Path::new("/etc/a/b")).is_err());
        assert!(make_dirs(root.as_fd(), Path::new("/../outside/b")).is_err());
        assert!(dir.path().join("outside").read_dir().unwrap().next().is_none());
    }

    #[test]
    fn a_link_at_the_place_itself_is_replaced() {
        let dir = Scratch::new();
        std::fs::write(dir.path().join("precious"), "old").unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::os::unix::fs::symlink("../precious", dir.path().join("root/resolv.conf")).unwrap();
        let root = open_root(&dir.path().join("root")).unwrap();
        write_file(root.as_fd(), Path::new("/resolv.conf"), b"new", false).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("precious")).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(dir.path().join("root/resolv.conf")).unwrap(), "new");
        assert!(!dir.path().join("root/resolv.conf").is_symlink());
        assert_eq!(dir.path().join("root").read_dir().unwrap().count(), 1);
    }
}
