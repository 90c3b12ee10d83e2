//! The flags that keep files from being changed and removed, by root too: chflags(2) on FreeBSD, chattr(1) on Linux.
//!
//! That they could not be cleared is no error of its own: what follows fails as it did before, and says so.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

#[cfg(target_os = "freebsd")]
mod system {
    use super::{AsFd, CString};
    use std::os::fd::AsRawFd;

    #[allow(unsafe_code)]
    pub(super) fn clear(file: impl AsFd) {
        // SAFETY: no memory is passed.
        unsafe { libc::fchflags(file.as_fd().as_raw_fd(), 0) };
    }

    #[allow(unsafe_code)]
    pub(super) fn clear_entry(dir: impl AsFd, name: &CString) {
        // SAFETY: the name ends with a NUL and outlives the call.
        unsafe {
            libc::chflagsat(dir.as_fd().as_raw_fd(), name.as_ptr(), 0, libc::AT_SYMLINK_NOFOLLOW);
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::{AsFd, CString};
    use rustix::fs::{
        AtFlags, FileType, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, openat, statat,
    };

    pub(super) fn clear(file: impl AsFd) {
        if let Ok(flags) = ioctl_getflags(&file) {
            let _ = ioctl_setflags(&file, flags & !(IFlags::IMMUTABLE | IFlags::APPEND));
        }
    }

    pub(super) fn clear_entry(dir: impl AsFd, name: &CString) {
        // Nothing else has flags, and to open a device does something.
        let Ok(stat) = statat(&dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else { return };
        if matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
            let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let Ok(file) = openat(&dir, name.as_c_str(), how, Mode::empty()) {
                clear(file);
            }
        }
    }
}

/// Clears those of an open file.
pub(super) fn clear(file: &OwnedFd) {
    system::clear(file);
}

/// Clears those of an entry, and of nothing that it leads to.
pub(super) fn clear_entry(dir: &OwnedFd, name: &CString) {
    system::clear_entry(dir, name);
}
