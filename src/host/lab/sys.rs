//! The system calls no safe library wraps: `clone3` into new namespaces, `mount_setattr`, and entering namespaces by a
//! process descriptor. The only unsafe code of the lab is here.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// A child made by [`spawn_in`].
pub struct Child {
    /// Its number in the caller's pid namespace.
    pub pid: i32,
    /// A descriptor that becomes readable when it ends, and through which it is signalled without a race.
    pub pidfd: OwnedFd,
}

/// The layout of `struct clone_args`, version 0 (`linux/sched.h`): 64 bytes.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// Runs this very program with `arguments` in new namespaces (`CLONE_NEW*` in `namespaces`).
///
/// The child keeps `keep` open over the exec. With `gate` it first waits for one byte from there and gives up at the
/// end of file: an ordinary user's child must not exec before its user namespace has its map, or it loses its capabilities.
///
/// Between clone and exec the child makes system calls only, as the caller may have threads.
pub fn spawn_in(
    namespaces: i32,
    arguments: &[&OsStr],
    keep: BorrowedFd<'_>,
    gate: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    let exe = c"/proc/self/exe";
    let argv: Vec<CString> = std::iter::once(OsStr::new("warren"))
        .chain(arguments.iter().copied())
        .map(|argument| CString::new(argument.as_bytes()))
        .collect::<Result<_, _>>()?;
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let keep = keep.as_raw_fd();
    let gate = gate.map(|fd| fd.as_raw_fd());
    let mut pidfd: RawFd = -1;
    let args = CloneArgs {
        flags: u64::from(namespaces.cast_unsigned()) | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM and with a null stack this is a fork. The child branch touches nothing but its own copy
    // of the memory prepared above, and makes only async-signal-safe calls before execve or _exit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: see above; `environ` is libc's own, unchanged since the clone.
        0 => unsafe { exec_or_exit(exe.as_ptr(), pointers.as_ptr(), keep, gate) },
        // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
        _ => Ok(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// The child's half of [`spawn_in`].
///
/// # Safety
/// Only in a freshly cloned child; `argv` is a null-terminated array of C strings.
unsafe fn exec_or_exit(
    exe: *const libc::c_char,
    argv: *const *const libc::c_char,
    keep: RawFd,
    gate: Option<RawFd>,
) -> ! {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: plain system calls on values that live on this stack.
    unsafe {
        if let Some(gate) = gate {
            let mut byte = 0_u8;
            if libc::read(gate, (&raw mut byte).cast(), 1) != 1 {
                libc::_exit(126);
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::fcntl(keep, libc::F_SETFD, 0);
        libc::execve(exe, argv, environ);
        libc::_exit(127)
    }
}

/// Takes over a descriptor that was inherited under a number given on the command line.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only asks; an invalid number gives EBADF.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    // Descriptors with close-on-exec set were opened by this program itself and have an owner.
    if flags == -1 || flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and everything Rust opens has close-on-exec, so that it can only have come through exec.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Enters the namespaces `kinds` (`CLONE_NEW*`) of the process behind a descriptor, all or none.
pub fn enter(process: BorrowedFd<'_>, kinds: i32) -> io::Result<()> {
    // SAFETY: no memory is passed; the call changes the calling thread's namespaces only.
    match unsafe { libc::setns(process.as_raw_fd(), kinds) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling thread network namespace of its own.
pub fn unshare_net() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET does not unshare the descriptor table, which is what rustix warns about.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
}

/// Proof that the process had one thread, and so may fork.
pub struct SingleThread(());

impl SingleThread {
    /// Looks. Must be done while `/proc` is of the process's own pid namespace.
    ///
    /// # Errors
    /// `InvalidInput` if there are more threads: another one might hold a lock at the fork.
    pub fn check() -> io::Result<Self> {
        if std::fs::read_dir("/proc/self/task")?.count() != 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the process has threads already"));
        }
        Ok(Self(()))
    }

    /// Forks: the child's number, or `None` in the child.
    pub fn fork(self) -> io::Result<Option<i32>> {
        // SAFETY: the process has one thread (nothing between check and fork makes one), so the child's memory is whole.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(None),
            pid => Ok(Some(pid)),
        }
    }
}

/// Sets attributes (`MOUNT_ATTR_*`) of a mount that `open_tree` gave.
pub fn mount_attributes(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    // The kinds of access time are one field of several bits, which must be cleared to be set: mount_setattr(2).
    let clear = if set & libc::MOUNT_ATTR_NOATIME == 0 { 0 } else { libc::MOUNT_ATTR__ATIME };
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: the attribute and its size belong together, the path is an empty C string.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to every process of the caller's pid namespace but process 1 and the caller: `kill(-1)`.
pub fn kill_all(signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    match unsafe { libc::kill(-1, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether what is behind a pidfd or the reading end of a pipe ends within so many milliseconds.
pub fn ends_within(process: BorrowedFd<'_>, milliseconds: i32) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other? > 0),
        }
    }
}
