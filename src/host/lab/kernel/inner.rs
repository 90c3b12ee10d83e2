//! Process 1 of the lab: builds its namespaces' contents, then serves.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::mount::{MountFlags, MountPropagationFlags};

use super::super::failure::{Context, hint_if};
use super::super::{layout, sys, wire};
use super::outer::{Down, Up};
use super::{network, server};
use crate::host::{Failure, closed};
use crate::keeper::say;

/// `warren lab-kernel --process-1 FD DIR`.
pub(super) fn run(fd: &str, state_dir: &Path) -> ExitCode {
    let outer = fd.parse().map_err(|_| io::Error::from_raw_os_error(libc::EBADF)).and_then(sys::inherited);
    let Ok(outer) = outer else {
        say(format_args!("--process-1 is used by the lab-kernel only"));
        return ExitCode::from(2);
    };
    if std::process::id() != 1 {
        say(format_args!("--process-1 is used by the lab-kernel only"));
        return ExitCode::from(2);
    }
    match begin(&outer, state_dir) {
        Ok(kernel) => kernel.serve(outer),
        Err(failure) => {
            say(format_args!("lab-kernel: {failure}"));
            let _ = wire::send(outer.as_fd(), &Up::Booted(Err(failure)), &[]);
            ExitCode::FAILURE
        }
    }
}

/// Boots.
fn begin(outer: &OwnedFd, state_dir: &Path) -> Result<server::Kernel, Failure> {
    let _ = rustix::thread::set_name(c"lab-kernel");
    // First the signal, then the wait for the parent's word: if it died in between, there is no word.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .doing(|| "set the death signal")?;
    let (down, _) = wire::receive::<Down>(outer.as_fd())
        .doing(|| "hear from the outer process")?
        .ok_or_else(|| Failure::new("the outer process is gone"))?;
    let Down::Begin { outer: outer_pid, user } = down else {
        return Err(Failure::new("the outer process did not begin with `begin`"));
    };
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make the lab's mounts private")
        .map_err(|failure| {
            let hint = "the kernel gave a user namespace without its rights: `sysctl kernel.apparmor_restrict_unprivileged_userns=0` \
                        allows it on Ubuntu; or run as root; or try `warren demo --host sim`";
            hint_if(hint_if(failure, libc::EACCES, hint), libc::EPERM, hint)
        })?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None::<&std::ffi::CStr>).doing(|| "mount the lab's /proc").map_err(|failure| {
        hint_if(
            failure,
            libc::EPERM,
            "in a container parts of /proc are covered: run it with `--security-opt systempaths=unconfined` or `--privileged`; \
             or try `warren demo --host sim`",
        )
    })?;
    nix::unistd::sethostname("warren-lab").doing(|| "set the host name")?;
    for dir in [layout::roots(state_dir), layout::clones(state_dir)] {
        closed::make(&dir).doing(|| format!("make {}", dir.display()))?;
    }
    layers_on_tmpfs_if_needed(&layout::clones(state_dir))?;
    let outside = network::boot()?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/uuid").doing(|| "draw a boot id")?;
    server::Kernel::new(state_dir, boot.trim().to_owned(), outer_pid, user, outside)
}

/// An overlay cannot have its writable layer on another overlay, as a state directory inside a container is. A file system
/// in memory takes its place; it goes with the lab.
fn layers_on_tmpfs_if_needed(clones: &Path) -> Result<(), Failure> {
    /// `OVERLAYFS_SUPER_MAGIC`, linux/magic.h.
    const OVERLAY: i64 = 0x794c_7630;
    let kind = rustix::fs::statfs(clones).doing(|| format!("look at {}", clones.display()))?;
    if kind.f_type as i64 != OVERLAY {
        return Ok(());
    }
    rustix::mount::mount("warren-layers", clones, "tmpfs", MountFlags::empty(), Some(c"mode=700"))
        .doing(|| format!("mount a tmpfs on {}", clones.display()))
}
