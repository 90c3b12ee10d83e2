//! What is asked of each kernel in its own way: when a process started, who is in a group, closing all descriptors.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, killpg, sigaction, sigprocmask,
};
use nix::unistd::Pid;

/// When a process started, in the unit of [`Process::started`](crate::host::Process::started).
///
/// # Errors
/// The process is gone, or (Linux) `/proc` is not mounted.
#[cfg(target_os = "linux")]
pub fn start_time(pid: i32) -> io::Result<u64> {
    stat(pid)?
        .started
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat lacks field 22"))
}

/// Whether exec.clean without a user starts commands in `/`, as jail(8) does since FreeBSD 15; before, in root's home
/// (`usr.sbin/jail/command.c`).
#[must_use]
pub fn homes_of_users_only() -> bool {
    #[cfg(target_os = "freebsd")]
    {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        release.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 15)
    }
    #[cfg(not(target_os = "freebsd"))]
    false
}

/// What /proc was asked of a process that may have ended meanwhile: nothing, if it has.
///
/// # Errors
/// It could not be asked: that says nothing of the process.
#[cfg(target_os = "linux")]
pub fn unless_gone<T>(asked: io::Result<T>) -> io::Result<Option<T>> {
    match asked {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        asked => asked.map(Some),
    }
}

/// The numbers of the processes in a group that are not zombies. Walks all processes.
///
/// # Errors
/// The kernel's list cannot be read, or what it says of one.
#[cfg(target_os = "linux")]
pub fn group_members(group: i32) -> io::Result<Vec<i32>> {
    let mut members = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ends while we look is no member any more.
        let Some(it) = unless_gone(stat(pid))? else { continue };
        if it.group == Some(group) && !it.zombie {
            members.push(pid);
        }
    }
    Ok(members)
}

#[cfg(target_os = "linux")]
struct Stat {
    zombie: bool,
    group: Option<i32>,
    started: Option<u64>,
}

/// proc_pid_stat(5). The second field is the program's name in parentheses and may hold anything, so fields are counted from the last `)`.
#[cfg(target_os = "linux")]
fn parse_stat(text: &str) -> Stat {
    let fields: Vec<&str> =
        text.rsplit_once(')').map_or(text, |(_, rest)| rest).split_ascii_whitespace().collect();
    let field = |number: usize| number.checked_sub(3).and_then(|at| fields.get(at)).copied();
    Stat {
        zombie: matches!(field(3), Some("Z" | "X")),
        group: field(5).and_then(|f| f.parse().ok()),
        started: field(22).and_then(|f| f.parse().ok()),
    }
}

#[cfg(target_os = "linux")]
fn stat(pid: i32) -> io::Result<Stat> {
    Ok(parse_stat(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat"))?)))
}

/// When a process started, in the unit of [`Process::started`](crate::host::Process::started).
///
/// # Errors
/// The process is gone.
#[cfg(target_os = "freebsd")]
pub fn start_time(pid: i32) -> io::Result<u64> {
    let info = processes(libc::KERN_PROC_PID, pid)?;
    let it = info.first().ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    let seconds = u64::try_from(it.ki_start.tv_sec).unwrap_or_default();
    let micros = u64::try_from(it.ki_start.tv_usec).unwrap_or_default();
    Ok(seconds * 1_000_000 + micros)
}

/// The numbers of the processes in a group that are not zombies.
///
/// # Errors
/// The kernel's list cannot be read.
#[cfg(target_os = "freebsd")]
pub fn group_members(group: i32) -> io::Result<Vec<i32>> {
    match processes(libc::KERN_PROC_PGRP, group) {
        Ok(info) => Ok(info.iter().filter(|it| it.ki_stat != libc::SZOMB).map(|it| it.ki_pid).collect()),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// sysctl(3), `kern.proc.<what>.<number>`.
///
/// # Errors
/// The kernel's list cannot be read.
#[cfg(target_os = "freebsd")]
pub fn processes(what: libc::c_int, number: i32) -> io::Result<Vec<libc::kinfo_proc>> {
    const ONE: usize = size_of::<libc::kinfo_proc>();
    let name = [libc::CTL_KERN, libc::KERN_PROC, what, number];
    let mut room = 4;
    loop {
        let mut list: Vec<libc::kinfo_proc> = Vec::with_capacity(room);
        let mut bytes = room * ONE;
        // SAFETY: `name` and `bytes` are valid for the call, and the kernel writes at most `bytes` bytes, the vector's capacity.
        let failed = unsafe {
            libc::sysctl(name.as_ptr(), 4, list.as_mut_ptr().cast(), &raw mut bytes, std::ptr::null(), 0)
        } != 0;
        if failed {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::ENOMEM) && room < 1 << 20 {
                room *= 4;
                continue;
            }
            return Err(error);
        }
        // SAFETY: the kernel has filled so many whole structures, which are plain integers; its `ki_structsize` is
        // checked below before any is used.
        unsafe { list.set_len(bytes / ONE) };
        if list.iter().any(|it| usize::try_from(it.ki_structsize).ok() != Some(ONE)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "kinfo_proc has another size under this kernel",
            ));
        }
        return Ok(list);
    }
}

/// Signals a process group: whether there is (still) somebody in it.
///
/// # Errors
/// Of kill(2), but ESRCH.
pub fn signal_group(group: i32, signal: Option<Signal>) -> io::Result<bool> {
    // 0 and 1 would mean our own group and everybody.
    if group <= 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    match killpg(Pid::from_raw(group), signal) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Closes every descriptor from this one on, whoever owns it: only for a process about to exec or just born.
pub fn close_from(first: u32) {
    #[cfg(target_os = "freebsd")]
    // SAFETY: closing descriptors touches no memory; the caller gives them all up.
    unsafe {
        libc::closefrom(first.cast_signed());
    }
    #[cfg(target_os = "linux")]
    {
        // SAFETY: as above. By number, because not every libc has the wrapper; Linux 5.9 has the call.
        let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } == 0;
        if !done {
            let listed = std::fs::read_dir("/proc/self/fd").map(|dir| {
                dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok()).collect::<Vec<_>>()
            });
            for fd in listed.unwrap_or_else(|_| (0..65_536).collect()) {
                if u32::try_from(fd).is_ok_and(|fd| fd >= first) {
                    // SAFETY: as above.
                    unsafe { libc::close(fd) };
                }
            }
        }
    }
}

/// Makes these descriptors 0, 1, 2, … and closes all others; those from 3 on are closed by an exec.
///
/// # Errors
/// Of fcntl(2) and dup2(2).
pub fn arrange(wanted: &[BorrowedFd<'_>]) -> io::Result<()> {
    let count = RawFd::try_from(wanted.len()).map_err(io::Error::other)?;
    // First all out of the way, so that none is overwritten before it was moved.
    let mut high = Vec::with_capacity(wanted.len());
    for fd in wanted {
        // SAFETY: the descriptor is borrowed for the call.
        let moved = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, count) };
        high.push(Errno::result(moved)?);
    }
    for (target, fd) in (0..).zip(high) {
        // SAFETY: numbers only; whoever owned `target` is closed along with everything else, as the function says.
        Errno::result(unsafe { libc::dup2(fd, target) })?;
        if target > 2 {
            // SAFETY: as above.
            Errno::result(unsafe { libc::fcntl(target, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        }
    }
    close_from(count.cast_unsigned());
    Ok(())
}

/// Gives every signal its default action and blocks none, as a program expects to find it. Rust's runtime ignores SIGPIPE.
pub fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs none of our code. It fails for no signal that can be set.
        let _ = unsafe { sigaction(signal, &default) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Has writing to a pipe that nobody reads fail by EPIPE instead of killing the process.
pub fn ignore_broken_pipes() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring runs none of our code.
    let _ = unsafe { sigaction(Signal::SIGPIPE, &ignore) };
}

/// Allows as many open files as the system lets us, because each job holds two pipes. Returns what it was before.
#[must_use]
pub fn raise_open_files() -> Option<(rlim_t, rlim_t)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
    Some((soft, hard))
}

/// Makes the terminal behind descriptor 0 the controlling one of this session.
///
/// # Errors
/// It is no terminal, or somebody else's.
pub fn take_terminal() -> io::Result<()> {
    // SAFETY: the request takes an integer and touches no memory of ours.
    Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY as _, 0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_start_time() {
        let me = std::process::id().cast_signed();
        let first = start_time(me).unwrap();
        assert_eq!(start_time(me).unwrap(), first);
        assert!(first > 0);
        assert!(start_time(i32::MAX).is_err());
    }

    #[test]
    fn a_group_has_its_members() {
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new("sleep").arg("100").process_group(0).spawn().unwrap();
        let group = child.id().cast_signed();
        assert_eq!(group_members(group).unwrap(), [group]);
        assert!(signal_group(group, Some(Signal::SIGKILL)).unwrap());
        child.wait().unwrap();
        assert_eq!(group_members(group).unwrap(), [0; 0]);
        assert!(!signal_group(group, None).unwrap());
    }

    #[test]
    fn nobody_signals_everybody() {
        for group in [-5, -1, 0, 1] {
            assert!(signal_group(group, None).is_err());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_may_be_called_anything() {
        let rest = "S 7 42 42 0 -1 4194304 1 0 0 0 1 2 3 4 20 0 1 0 123456 1000 10";
        for name in ["sh", "a b", ") Z 1 1", "((", ""] {
            let it = parse_stat(&format!("41 ({name}) {rest}"));
            assert_eq!((it.zombie, it.group, it.started), (false, Some(42), Some(123_456)), "{name}");
        }
        let it = parse_stat("");
        assert_eq!((it.zombie, it.group, it.started), (false, None, None));
    }
}
