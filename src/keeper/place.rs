//! Entering the place a job runs in, in the process that was forked for it.
//!
//! Order on FreeBSD as in jail(8): routing table, root cpuset, attach; each of them may be forbidden after the attach.
#![allow(unsafe_code)]

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::host::Failure;

/// A [`Place`](super::Place) that this system has.
#[derive(Debug)]
pub enum Here {
    /// Where the keeper is.
    Host(Option<PathBuf>),
    /// In namespaces.
    #[cfg(target_os = "linux")]
    Namespaces(Vec<OwnedFd>),
    /// In a jail.
    #[cfg(target_os = "freebsd")]
    Jail(i32),
}

impl Here {
    /// Whether files and users there are those of the keeper.
    #[must_use]
    pub fn is_host(&self) -> bool {
        matches!(self, Self::Host(_))
    }
}

/// Sets the routing table of this process.
///
/// # Errors
/// There are fewer tables, or the system has no such thing.
pub fn set_fib(fib: u32) -> Result<(), Failure> {
    #[cfg(target_os = "freebsd")]
    {
        unsafe extern "C" {
            fn setfib(fib: libc::c_int) -> libc::c_int;
        }
        // SAFETY: setfib(2) takes a number and touches no memory.
        let done = unsafe { setfib(fib.try_into().unwrap_or(i32::MAX)) } == 0;
        if done { Ok(()) } else { Err(Failure::os(format!("setfib {fib}"), &io::Error::last_os_error())) }
    }
    #[cfg(target_os = "linux")]
    if fib == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!("setfib {fib}: Linux has no numbered routing tables for a process"))
            .hint("leave exec.fib out in the lab"))
    }
}

/// Sends this process into a jail, for good: 0, or -1 with an error number. System calls only, for the child of a fork.
///
/// Until it executes a program it has the memory of whom it was forked from, with what other instances are told in their environments;
/// root of the jail may trace whatever is in the jail (`kern_prot.c`, p_candebug()). It may not what has asked not to be traced:
/// PRIV_DEBUG_DENIED is no privilege of a jail (prison_priv_check()). execve(2) ends that, as procctl(2) says of DISABLE.
#[cfg(target_os = "freebsd")]
pub fn attach(jid: i32) -> libc::c_int {
    let mut state: libc::c_int = libc::PROC_TRACE_CTL_DISABLE;
    // SAFETY: `state` is the integer that is read; the call lasts no longer than this one.
    let done = unsafe {
        let me = libc::id_t::from(libc::getpid().cast_unsigned());
        libc::procctl(libc::P_PID, me, libc::PROC_TRACE_CTL, (&raw mut state).cast())
    };
    // EBUSY: root of the host traces us already (`truss -f`, `ktrace -i`), since nobody of the jail could yet.
    // SAFETY: the address of this thread's error number is always valid.
    if done != 0 && unsafe { *libc::__error() } != libc::EBUSY {
        return done;
    }
    // SAFETY: takes a number, touches no memory.
    unsafe { libc::jail_attach(jid) }
}

/// Enters a jail with the CPUs of the whole machine to choose from; the working directory is then its root.
///
/// # Errors
/// There is no such jail.
#[cfg(target_os = "freebsd")]
pub fn enter_jail(jid: i32) -> Result<(), Failure> {
    let failed = |what: &str| Failure::os(what, &io::Error::last_os_error());
    let mut set = 0;
    // SAFETY: `set` is valid for the call; -1 is this process.
    if unsafe { libc::cpuset_getid(libc::CPU_LEVEL_ROOT, libc::CPU_WHICH_PID, -1, &raw mut set) } != 0 {
        return Err(failed("finding the root cpuset"));
    }
    // SAFETY: takes numbers, touches no memory.
    if unsafe { libc::cpuset_setid(libc::CPU_WHICH_PID, -1, set) } != 0 {
        return Err(failed("returning to the root cpuset"));
    }
    if attach(jid) != 0 {
        return Err(failed(&format!("attaching to the jail {jid}")));
    }
    std::env::set_current_dir("/").map_err(|e| Failure::os(format!("chdir / in the jail {jid}"), &e))
}

/// Enters namespaces: the user namespace first, because it gives the right to enter the others. Returns whether a pid
/// namespace is among them; then only children of this process will be in it.
///
/// # Errors
/// A descriptor is not a namespace's, or it may not be entered.
#[cfg(target_os = "linux")]
pub fn enter_namespaces(namespaces: Vec<OwnedFd>) -> Result<bool, Failure> {
    use nix::sched::{CloneFlags, setns};
    use std::os::fd::AsRawFd;

    let mut kinds = Vec::with_capacity(namespaces.len());
    for fd in namespaces {
        // SAFETY: ioctl_nsfs(2): takes no argument, touches no memory.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
        if kind < 0 {
            let error = io::Error::last_os_error();
            return Err(Failure::os("entering a namespace by a descriptor that is none", &error));
        }
        kinds.push((kind, fd));
    }
    kinds.sort_by_key(|(kind, _)| *kind != libc::CLONE_NEWUSER);
    // Once inside, whoever is root there must not look into this process, which came from outside.
    nix::sys::prctl::set_dumpable(false).map_err(|e| Failure::os("prctl PR_SET_DUMPABLE", &e.into()))?;
    for (kind, fd) in &kinds {
        setns(fd, CloneFlags::from_bits_truncate(*kind)).map_err(|e| {
            Failure::os(format!("entering the {} namespace", namespace_name(*kind)), &io::Error::from(e))
        })?;
    }
    std::env::set_current_dir("/").map_err(|e| Failure::os("chdir / in the instance", &e))?;
    Ok(kinds.iter().any(|(kind, _)| *kind == libc::CLONE_NEWPID))
}

#[cfg(target_os = "linux")]
fn namespace_name(kind: i32) -> &'static str {
    match kind {
        libc::CLONE_NEWUSER => "user",
        libc::CLONE_NEWNS => "mount",
        libc::CLONE_NEWPID => "pid",
        libc::CLONE_NEWNET => "network",
        libc::CLONE_NEWUTS => "UTS",
        libc::CLONE_NEWIPC => "IPC",
        libc::CLONE_NEWCGROUP => "cgroup",
        libc::CLONE_NEWTIME => "time",
        _ => "unknown",
    }
}

/// Forks a sibling: its parent is our parent, so that the keeper reaps it although we stand between. `None` in the sibling.
///
/// # Errors
/// Of clone(2); ENOMEM means that the pid namespace's first process is dead.
#[cfg(target_os = "linux")]
pub fn fork_sibling() -> Result<Option<i32>, Failure> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is a fork with another parent: memory is copied, a null stack means the same one. There is
    // one thread here, so whatever runs in the copy finds no lock held.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Some(pid)),
        _ => {
            let error = io::Error::last_os_error();
            let failure = Failure::os("forking into the pid namespace", &error);
            Err(if error.raw_os_error() == Some(libc::ENOMEM) {
                failure.hint("the namespace's first process is dead")
            } else {
                failure
            })
        }
    }
}
