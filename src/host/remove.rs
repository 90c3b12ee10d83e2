//! Removing a tree that hostile processes have written: no link is followed, no device crossed, no depth kills us.

mod flags;

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// Directories open at a time. What lies deeper is first lifted to the top, so that neither the stack nor the descriptors of
/// the process bound the depth.
const DEPTH: usize = 64;

/// Entries of a directory that are in memory at a time, of each that is open: an instance may have made millions.
const BATCH: usize = 1024;

/// Removes the directory `name` in `parent` with all that is in it. That it is not there is no error.
///
/// # Errors
/// `EXDEV` if something of another file system is mounted in it; nothing of that is touched.
pub fn tree(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let top = match open_dir(parent, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let device = fstat(&top)?.st_dev;
    let mut lifted = 0_u64;
    loop {
        let before = lifted;
        empty(&top, &top, device, 0, &mut lifted)?;
        if lifted == before {
            break;
        }
    }
    drop(top);
    let name = CString::new(name.as_bytes())?;
    unlink(parent, &name, AtFlags::REMOVEDIR).map_err(Into::into)
}

fn open_dir(parent: &OwnedFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Empties a directory.
fn empty(top: &OwnedFd, dir: &OwnedFd, device: u64, depth: usize, lifted: &mut u64) -> io::Result<()> {
    loop {
        let batch = entries(dir)?;
        let last = batch.len() < BATCH;
        empty_batch(batch, top, dir, device, depth, lifted)?;
        if last {
            return Ok(());
        }
    }
}

fn empty_batch(
    batch: Vec<(CString, FileType)>,
    top: &OwnedFd,
    dir: &OwnedFd,
    device: u64,
    depth: usize,
    lifted: &mut u64,
) -> io::Result<()> {
    for (name, kind) in batch {
        // The type read from the directory is a hint only: unlinkat says EISDIR of what is a directory after all.
        if kind != FileType::Directory {
            match unlink(dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                // EPERM: unlink(2) of a directory on FreeBSD.
                Err(Errno::ISDIR) => {}
                Err(Errno::PERM) if is_dir(dir, &name)? => {}
                Err(error) => return Err(error.into()),
            }
        }
        let child = match open_dir(dir, &name) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        if fstat(&child)?.st_dev != device {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        }
        if depth + 1 >= DEPTH {
            drop(child);
            match lift(top, dir, &name, lifted) {
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                    flags::clear(top);
                    flags::clear(dir);
                    flags::clear_entry(dir, &name);
                    lift(top, dir, &name, lifted)?;
                }
                other => other?,
            }
            continue;
        }
        empty(top, &child, device, depth + 1, lifted)?;
        drop(child);
        match unlink(dir, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes an entry. One that may not be removed is asked for its flags and its directory's: root in a jail may have set them.
fn unlink(dir: &OwnedFd, name: &CString, how: AtFlags) -> rustix::io::Result<()> {
    match unlinkat(dir, name, how) {
        Err(Errno::PERM) => {
            flags::clear(dir);
            flags::clear_entry(dir, name);
            unlinkat(dir, name, how)
        }
        other => other,
    }
}

/// Whether an entry is a directory after all.
fn is_dir(dir: &OwnedFd, name: &CString) -> io::Result<bool> {
    let stat = statat(dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Moves a directory to the top under a name that is free there.
fn lift(top: &OwnedFd, dir: &OwnedFd, name: &CString, lifted: &mut u64) -> io::Result<()> {
    loop {
        *lifted += 1;
        let mut new = OsString::from(".warren-lifted-");
        new.push(lifted.to_string());
        // RENAME_NOREPLACE, since an empty directory of that name would be replaced and a file refused.
        #[cfg(target_os = "linux")]
        let renamed =
            rustix::fs::renameat_with(dir, name.as_c_str(), top, &new, rustix::fs::RenameFlags::NOREPLACE);
        // FreeBSD has no such flag.
        #[cfg(target_os = "freebsd")]
        let renamed = Err(Errno::INVAL);
        match renamed {
            Err(Errno::EXIST) => {}
            // A system or a file system without the flag.
            Err(Errno::INVAL) => match renameat(dir, name.as_c_str(), top, &new) {
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                other => return other.map_err(Into::into),
            },
            other => return other.map_err(Into::into),
        }
    }
}

/// The first entries of a directory but `.` and `..`.
fn entries(dir: &OwnedFd) -> io::Result<Vec<(CString, FileType)>> {
    let mut all = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(OsStr::from_bytes(entry.file_name().to_bytes()).as_bytes(), b"." | b"..") {
            all.push((entry.file_name().to_owned(), entry.file_type()));
        }
        if all.len() == BATCH {
            break;
        }
    }
    Ok(all)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::host::lab::scratch::Scratch;
    use std::fs;

    fn remove(dir: &Scratch, name: &str) -> io::Result<()> {
        tree(&OwnedFd::from(fs::File::open(dir.path()).unwrap()), OsStr::new(name))
    }

    #[test]
    fn links_are_removed_and_what_they_lead_to_stays() {
        let dir = Scratch::new();
        fs::create_dir_all(dir.path().join("keep/inner")).unwrap();
        fs::write(dir.path().join("keep/file"), "x").unwrap();
        fs::create_dir_all(dir.path().join("gone/a/b")).unwrap();
        std::os::unix::fs::symlink("../../keep", dir.path().join("gone/a/link")).unwrap();
        fs::write(dir.path().join("gone/a/b/file"), "x").unwrap();
        remove(&dir, "gone").unwrap();
        assert!(!dir.path().join("gone").exists());
        assert!(dir.path().join("keep/inner").exists() && dir.path().join("keep/file").exists());
        remove(&dir, "gone").unwrap();
    }

    #[test]
    fn what_flags_hold_fast_is_removed() {
        use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
        let dir = Scratch::new();
        fs::create_dir_all(dir.path().join("gone/a/b")).unwrap();
        fs::write(dir.path().join("kept"), "x").unwrap();
        std::os::unix::fs::symlink("../../kept", dir.path().join("gone/a/link")).unwrap();
        let set = |name: &str, flags: IFlags| {
            let file = fs::File::open(dir.path().join(name)).unwrap();
            let there = ioctl_getflags(&file)?;
            ioctl_setflags(&file, there | flags)
        };
        // Who is not root, and a file system without flags, have none to set.
        if set("kept", IFlags::IMMUTABLE).is_err() {
            eprintln!("no flags can be set here: not tried");
            return;
        }
        for name in ["gone/a/file", "gone/a/b/file", "gone/log"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        set("gone/log", IFlags::APPEND).unwrap();
        for name in ["gone/a/file", "gone/a/b/file", "gone/a/b", "gone/a", "gone"] {
            set(name, IFlags::IMMUTABLE).unwrap();
        }
        let removed = remove(&dir, "gone");
        let kept = fs::File::open(dir.path().join("kept")).unwrap();
        let flags = ioctl_getflags(&kept).unwrap();
        ioctl_setflags(&kept, flags & !IFlags::IMMUTABLE).unwrap();
        removed.unwrap();
        assert!(!dir.path().join("gone").exists());
        assert!(flags.contains(IFlags::IMMUTABLE), "a link was followed");
    }

    #[test]
    fn a_directory_of_many_entries_goes_batch_by_batch() {
        let dir = Scratch::new();
        let many = dir.path().join("gone");
        for part in ["", "inner"] {
            fs::create_dir(many.join(part)).unwrap();
            for n in 0..2 * BATCH + 5 {
                fs::write(many.join(part).join(n.to_string()), "").unwrap();
            }
        }
        assert_eq!(entries(&OwnedFd::from(fs::File::open(&many).unwrap())).unwrap().len(), BATCH);
        remove(&dir, "gone").unwrap();
        assert!(!many.exists());
    }

    #[test]
    fn a_link_instead_of_the_tree_is_refused() {
        let dir = Scratch::new();
        fs::create_dir(dir.path().join("keep")).unwrap();
        std::os::unix::fs::symlink("keep", dir.path().join("gone")).unwrap();
        assert!(remove(&dir, "gone").is_err());
        assert!(dir.path().join("keep").exists());
    }

    #[test]
    fn a_very_deep_tree_is_removed() {
        let dir = Scratch::new();
        let mut at = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "deep", Mode::from_raw_mode(0o755)).unwrap();
            at = open_dir(&at, "deep").unwrap();
        }
        drop(at);
        remove(&dir, "deep").unwrap();
        assert!(!dir.path().join("deep").exists());
    }
}
