//! Process 1 of a jail: what `persist` is on FreeBSD. It builds the jail's view of the file system, then does nothing but
//! reap orphans and carry out `kill(-1)`, which only a process of the pid namespace can.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
};

use super::failure::Context;
use super::proto::JailSetup;
use super::{sys, wire};
use crate::host::Failure;

/// `warren jail-init FD`. Never returns while the jail lives.
#[must_use]
pub fn run(arguments: &[OsString]) -> ExitCode {
    let control = arguments
        .first()
        .and_then(|fd| fd.to_str()?.parse().ok())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
        .and_then(sys::inherited);
    let Ok(control) = control else {
        eprintln!("warren jail-init is started by the lab-kernel only");
        return ExitCode::from(2);
    };
    let _ = rustix::thread::set_name(c"jail-init");
    match begin(&control) {
        Ok(proc) => {
            if wire::send(control.as_fd(), &Ok::<(), Failure>(()), &[proc.as_fd()]).is_err() {
                return ExitCode::FAILURE;
            }
            drop(proc);
            let _ = serve(&control);
        }
        Err(failure) => {
            let _ = wire::send(control.as_fd(), &Err::<(), _>(failure), &[]);
        }
    }
    ExitCode::SUCCESS
}

/// Builds the jail. Gives a proc file system of its pid namespace, mounted nowhere.
fn begin(control: &OwnedFd) -> Result<OwnedFd, Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .doing(|| "set the death signal")?;
    let (setup, _): (JailSetup, _) = wire::receive(control.as_fd())
        .doing(|| "receive the jail's description")?
        .ok_or_else(|| Failure::new("the lab-kernel is gone"))?;
    let path = &setup.path;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make the jail's mounts private")?;
    nix::unistd::sethostname(&setup.hostname).doing(|| format!("set the host name {}", setup.hostname))?;
    if setup.vnet {
        quiet_ipv6();
    }
    // Both while the lab's own /proc is visible: in a user namespace the kernel allows a new proc only then.
    let proc = mount_proc()?;
    rustix::mount::mount_bind_recursive(path, path).doing(|| format!("bind the root {}", path.display()))?;
    let root = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open the root {}", path.display()))?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A root without a /proc directory gets none.
    if let Ok(target) = rustix::fs::openat2(&root, "proc", flags, Mode::empty(), resolve) {
        let to_target = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&mount_proc()?, "", &target, "", to_target)
            .doing(|| "mount /proc in the jail")?;
    }
    rustix::process::fchdir(&root).doing(|| "enter the root")?;
    drop(root);
    // pivot_root(2), NOTES: with both paths "." the old root is stacked on the new one and detached from there.
    rustix::process::pivot_root(".", ".").doing(|| format!("make {} the root", path.display()))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(|| "leave the old root")?;
    rustix::process::chdir("/").doing(|| "enter the new root")?;
    Ok(proc)
}

/// A new proc file system of this pid namespace.
fn mount_proc() -> Result<OwnedFd, Failure> {
    let make = || {
        let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, "source", "proc")?;
        rustix::mount::fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().doing(|| "make a proc file system")
}

/// Turns duplicate address detection and router discovery off for interfaces to come: in the lab addresses are given out
/// by one store and usable at once. A kernel without IPv6 has no such files.
fn quiet_ipv6() {
    for (name, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")] {
        for scope in ["default", "all"] {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/{name}"), value);
        }
    }
}

/// Reaps and kills until the lab-kernel is gone.
fn serve(control: &OwnedFd) -> io::Result<()> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    loop {
        let mut fds = [
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        if fds[1].any().unwrap_or(false) {
            while signals.read_signal()?.is_some() {}
            while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        }
        if fds[0].any().unwrap_or(false) {
            let Some((signal, _)) = wire::receive::<i32>(control.as_fd())? else { return Ok(()) };
            let errno = match sys::kill_all(signal) {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            wire::send(control.as_fd(), &errno, &[])?;
        }
    }
}
