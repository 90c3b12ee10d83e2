//! The groups of a process at the other end of a Unix socket, as the kernel knew them when it connected.
//!
//! Not the user database's: a process that gave its groups up must not get them back from there, and one that has more
//! (newgrp, a service manager's supplementary groups) has them.

use std::os::fd::{AsRawFd, BorrowedFd};

/// All groups of the peer beside the one its user id came with. None when the kernel does not tell.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn groups(socket: BorrowedFd<'_>) -> Option<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    // Twice at most: ERANGE says how many there are.
    for _ in 0..2 {
        let mut length = libc::socklen_t::try_from(std::mem::size_of_val(groups.as_slice())).ok()?;
        // SAFETY: SO_PEERGROUPS (Linux 4.13) writes at most `length` bytes of gid_t, which is u32, to the buffer that has them,
        // and the length to `length`; both live for the call.
        let done = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        if done == 0 {
            groups.truncate(count);
            return Some(groups);
        }
        if std::io::Error::last_os_error().raw_os_error() != Some(libc::ERANGE) {
            return None;
        }
        groups.resize(count, 0);
    }
    None
}

/// All groups of the peer, the effective one first: unix(4), LOCAL_PEERCRED. The kernel keeps sixteen of them.
#[cfg(target_os = "freebsd")]
#[allow(unsafe_code)]
pub(super) fn groups(socket: BorrowedFd<'_>) -> Option<Vec<u32>> {
    // SAFETY: a struct of numbers and one pointer that nobody follows; all zeros is a value of it.
    let mut credentials: libc::xucred = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::xucred>()).ok()?;
    // SAFETY: LOCAL_PEERCRED writes at most `length` bytes of xucred to the xucred, and the length to `length`; both live for the
    // call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            0,
            libc::LOCAL_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    // Behind cr_ngroups are zeros, which would be wheel.
    let count = usize::try_from(credentials.cr_ngroups).ok().filter(|_| done == 0)?;
    credentials.cr_groups.get(..count).map(<[u32]>::to_vec)
}
