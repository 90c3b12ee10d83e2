//! FreeBSD's error numbers, wherever this code runs.
//!
//! netgraph's rules are written in errno, and the numbers differ between systems (ENOTCONN is 57 on FreeBSD, 107 on
//! Linux). Inside this crate an error has FreeBSD's number; at the edge it becomes the local [`std::io::Error`].

use std::fmt;
use std::io;

/// An error number as FreeBSD counts them (sys/errno.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub u32);

macro_rules! errnos {
    ($($name:ident $text:literal),* $(,)?) => {
        impl Errno {
            $(#[doc = $text]
            pub const $name: Errno = Errno(crate::sys::$name);)*
        }
        /// Name, text, FreeBSD's number, the local one.
        const TABLE: &[(&str, &str, u32, i32)] = &[$((stringify!($name), $text, crate::sys::$name, libc::$name)),*];
    };
}

errnos! {
    EPERM "Operation not permitted", ENOENT "No such file or directory", EINTR "Interrupted system call",
    EIO "Input/output error", ENXIO "Device not configured", EBADF "Bad file descriptor",
    ENOMEM "Cannot allocate memory", EACCES "Permission denied", EBUSY "Device busy", EEXIST "File exists",
    ENODEV "Operation not supported by device", EINVAL "Invalid argument", ENFILE "Too many open files in system",
    EMFILE "Too many open files", ENOSPC "No space left on device", EPIPE "Broken pipe",
    EAGAIN "Resource temporarily unavailable", EALREADY "Operation already in progress",
    ENOTSOCK "Socket operation on non-socket", EDESTADDRREQ "Destination address required",
    EMSGSIZE "Message too long", EPROTONOSUPPORT "Protocol not supported", EOPNOTSUPP "Operation not supported",
    EPFNOSUPPORT "Protocol family not supported", EAFNOSUPPORT "Address family not supported by protocol family",
    EADDRINUSE "Address already in use", EADDRNOTAVAIL "Can't assign requested address",
    ENETDOWN "Network is down", ECONNRESET "Connection reset by peer", ENOBUFS "No buffer space available",
    EISCONN "Socket is already connected", ENOTCONN "Socket is not connected", ETIMEDOUT "Operation timed out",
    ECONNREFUSED "Connection refused", ELOOP "Too many levels of symbolic links", EHOSTUNREACH "No route to host",
    ENOSYS "Function not implemented", EPROTO "Protocol error",
}

impl Errno {
    /// The symbol, `ENOENT`, or `E?` for a number this crate has no business with.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|row| row.2 == self.0).map_or("E?", |row| row.0)
    }

    /// The local system's error of the same meaning. A number without one keeps its FreeBSD number in the text.
    pub fn to_io(self) -> io::Error {
        match TABLE.iter().find(|row| row.2 == self.0) {
            Some(row) => io::Error::from_raw_os_error(row.3),
            None if cfg!(target_os = "freebsd") => io::Error::from_raw_os_error(self.0 as i32),
            None => io::Error::other(self.to_string()),
        }
    }

    /// FreeBSD's number for a local error; an error that is not the system's is `None`.
    pub fn from_io(error: &io::Error) -> Option<Errno> {
        let raw = error.raw_os_error()?;
        if cfg!(target_os = "freebsd") {
            return u32::try_from(raw).ok().map(Errno);
        }
        TABLE.iter().find(|row| row.3 == raw).map(|row| Errno(row.2))
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        errno.to_io()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TABLE.iter().find(|row| row.2 == self.0) {
            Some(row) => write!(f, "{} ({})", row.1, row.0),
            None => write!(f, "FreeBSD error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_the_way_through_the_local_system() {
        for row in TABLE {
            let errno = Errno(row.2);
            assert_eq!(Errno::from_io(&errno.to_io()), Some(errno), "{}", row.0);
        }
    }

    #[test]
    fn numbers_are_freebsds() {
        assert_eq!(Errno::ENOTCONN.0, 57);
        assert_eq!(Errno::EPFNOSUPPORT.to_string(), "Protocol family not supported (EPFNOSUPPORT)");
        assert_eq!(Errno::ENOTCONN.to_io().raw_os_error(), Some(libc::ENOTCONN));
        assert_eq!(Errno(4711).name(), "E?");
    }
}
