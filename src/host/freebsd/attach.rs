//! Short visits to a jail: a child process attaches, does one thing and exits (facts B.5).
//!
//! jail_attach(2) is for a whole process and for good, so never in ours. The child of a process with threads may do nothing but
//! system calls: whatever it needs is made before the fork.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::jails::Seen;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};

/// Descriptors that the child sends: AF_INET, AF_INET6, PF_ROUTE.
const SOCKETS: usize = 3;

/// How often a visitor that was killed is followed by another.
const TRIES: u32 = 3;

/// Sockets that work on a jail's network stack: a socket keeps the stack of its maker (`so_vnet`).
///
/// While one is open the jail cannot die: close them before it is removed.
pub fn sockets(jail: &Seen) -> io::Result<[OwnedFd; SOCKETS]> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let mut letter = Letter::new();
    let kinds = [
        (libc::AF_INET, libc::SOCK_DGRAM),
        (libc::AF_INET6, libc::SOCK_DGRAM),
        (libc::AF_ROUTE, libc::SOCK_RAW),
    ];
    let to = theirs.as_raw_fd();
    visit(jail, Some(to), || {
        let mut fds = [-1; SOCKETS];
        for (fd, (family, kind)) in fds.iter_mut().zip(kinds) {
            // SAFETY: takes numbers, touches no memory.
            *fd = unsafe { libc::socket(family, kind, 0) };
            if *fd < 0 {
                return false;
            }
        }
        letter.send(to, fds)
    })?;
    drop(theirs);
    receive(ours.as_raw_fd())
}

/// Sends a signal to every process of a jail and of its children. Whoever forks cannot outrun it, as with a list.
pub fn kill_all(jail: &Seen, signal: i32) -> io::Result<()> {
    visit(jail, None, || {
        // SAFETY: takes numbers, touches no memory. -1 leaves out the sender.
        let done = unsafe { libc::kill(-1, signal) } == 0;
        // SAFETY: the address of this thread's error number is always valid.
        done || unsafe { *libc::__error() } == libc::ESRCH
    })
}

/// Runs `work` in a child attached to the jail; it may do nothing but system calls, and says whether they worked. Of our descriptors
/// it has `keep` alone: jail_attach(2) refuses a process that has any directory open, whatever kern.chroot_allow_open_directories
/// says (pwd_chroot_chdir()), and another thread may have one open at any moment.
///
/// # Errors
/// What the kernel says of the visit; `EINTR` if visitors are killed again and again.
fn visit(jail: &Seen, keep: Option<RawFd>, mut work: impl FnMut() -> bool) -> io::Result<()> {
    let mut result = Ok(());
    for _ in 0..TRIES {
        result = visit_once(jail, keep, &mut work);
        // It was there when every process of the jail was killed, by us or by `jail -r`.
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
            break;
        }
    }
    result
}

fn visit_once(jail: &Seen, keep: Option<RawFd>, work: &mut impl FnMut() -> bool) -> io::Result<()> {
    // SAFETY: the child makes system calls only and ends with _exit, so no lock of another thread's is waited for and nothing is
    // freed or flushed twice.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: see above; __error() is this thread's error number.
            unsafe {
                close_all_but(keep);
                if jail.attach() == 0 && work() {
                    libc::_exit(0)
                }
                libc::_exit(*libc::__error())
            }
        }
        child => {
            let mut status = 0;
            loop {
                // SAFETY: `status` is valid for the call.
                match unsafe { libc::waitpid(child, &raw mut status, 0) } {
                    -1 => match io::Error::last_os_error() {
                        error if error.kind() == io::ErrorKind::Interrupted => {}
                        error => return Err(error),
                    },
                    _ if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 => return Ok(()),
                    // Error numbers of FreeBSD are below 128.
                    _ if libc::WIFEXITED(status) => {
                        return Err(io::Error::from_raw_os_error(libc::WEXITSTATUS(status)));
                    }
                    _ => return Err(io::Error::from_raw_os_error(libc::EINTR)),
                }
            }
        }
    }
}

/// Called in the child.
fn close_all_but(kept: Option<RawFd>) {
    let mut from = 0;
    if let Some(fd) = kept.and_then(|fd| libc::c_uint::try_from(fd).ok()) {
        if from < fd {
            // SAFETY: numbers only; nothing in the child uses the descriptors that are closed.
            unsafe { libc::close_range(from, fd - 1, 0) };
        }
        from = fd + 1;
    }
    // SAFETY: as above.
    unsafe { libc::close_range(from, libc::c_uint::MAX, 0) };
}

/// A message with descriptors, made before the fork.
struct Letter {
    byte: [u8; 1],
    /// Room for one control message, aligned as its header wants.
    control: [u64; 8],
}

impl Letter {
    fn new() -> Self {
        Self { byte: [0], control: [0; 8] }
    }

    /// Sends it. Called in the child.
    fn send(&mut self, to: RawFd, fds: [RawFd; SOCKETS]) -> bool {
        let size = (SOCKETS * size_of::<RawFd>()) as libc::c_uint;
        let mut part = libc::iovec { iov_base: self.byte.as_mut_ptr().cast(), iov_len: 1 };
        // SAFETY: `msghdr` is plain data, for which all zeroes are valid. Name, vector and control point to buffers that live
        // through the call; the control buffer has 64 bytes, CMSG_SPACE of three descriptors is 32.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = self.control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if header.is_null() {
                return false;
            }
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(header).cast(), SOCKETS);
            libc::sendmsg(to, &raw const message, 0) == 1
        }
    }
}

/// Takes the descriptors out of the message that has arrived.
fn receive(from: RawFd) -> io::Result<[OwnedFd; SOCKETS]> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut room = nix::cmsg_space!([RawFd; SOCKETS]);
    let message = recvmsg::<()>(from, &mut parts, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(list) = control {
            // SAFETY: the kernel has just made these descriptors for us.
            fds.extend(list.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    fds.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"))
}
