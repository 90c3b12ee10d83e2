//! The processes of a jail: counted, asked to end, killed.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{attach, jails};
use crate::host::Failure;
use crate::host::failure::Context;
use crate::keeper::sys;

/// How long killed processes may take to be gone.
const KILL: Duration = Duration::from_secs(10);

/// The numbers and names of a jail's processes, zombies and child jails left out.
fn list(jid: i32) -> Result<Vec<(i32, String)>, Failure> {
    let all = sys::processes(libc::KERN_PROC_PROC, 0).doing(|| "list the processes")?;
    Ok((all.iter().filter(|it| it.ki_jid == jid && it.ki_stat != libc::SZOMB))
        .map(|it| {
            let name: Vec<u8> = it.ki_comm.iter().map(|c| c.cast_unsigned()).collect();
            (it.ki_pid, super::iov::string(&name))
        })
        .collect())
}

/// How many there are.
pub fn count(jid: i32) -> Result<usize, Failure> {
    list(jid).map(|list| list.len())
}

/// How many each jail has, by its number: one look for all of them.
pub fn counts() -> Result<std::collections::BTreeMap<i32, usize>, Failure> {
    let mut counts = std::collections::BTreeMap::new();
    for it in sys::processes(libc::KERN_PROC_PROC, 0).doing(|| "list the processes")? {
        if it.ki_jid != 0 && it.ki_stat != libc::SZOMB {
            *counts.entry(it.ki_jid).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Calls `until` with growing pauses until it says so or the time is over; says whether it did.
fn wait(time: Duration, mut until: impl FnMut() -> Result<bool, Failure>) -> Result<bool, Failure> {
    let end = Instant::now() + time;
    let mut pause = Duration::from_millis(2);
    loop {
        if until()? {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Sends SIGTERM to every process of a jail and waits until none is left or the time is over.
pub fn terminate(jail: &str, time: Duration) -> Result<(), Failure> {
    let Some(jail) = jails::alive(jail)? else { return Ok(()) };
    for (pid, _) in list(jail.jid)? {
        // One that has ended meanwhile needs no signal.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    wait(time, || Ok(count(jail.jid)? == 0)).map(|_| ())
}

/// Removes the child jails, deepest first, and kills every process.
pub fn kill_every(name: &str) -> Result<(), Failure> {
    let Some(jail) = jails::alive(name)? else { return Ok(()) };
    // A process may make another child jail while we remove them; the killing comes again, too.
    let done = wait(KILL, || {
        for child in jails::children(name)? {
            jails::remove(&child.name, Duration::ZERO)?;
        }
        if list(jail.jid)?.is_empty() && jails::children(name)?.is_empty() {
            return Ok(true);
        }
        match attach::kill_all(&jail, libc::SIGKILL) {
            // It has gone by itself.
            Err(error) if jails::is_gone(&error) => Ok(true),
            // With allow.nosuser root in the jail may not signal others' processes; the host may.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                for (pid, _) in list(jail.jid)? {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                Ok(false)
            }
            other => other.doing(|| format!("kill the processes of {name}")).map(|()| false),
        }
    })?;
    if done {
        return Ok(());
    }
    let left: Vec<String> = list(jail.jid)?.iter().map(|(pid, name)| format!("{name} ({pid})")).collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("processes of {name} do not die: {}", left.join(", ")))
        .hint("`procstat -kk PID` shows what they wait for in the kernel"))
}
