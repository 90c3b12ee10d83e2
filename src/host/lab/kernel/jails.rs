//! The jails the lab-kernel holds: one jail-init each.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Bound;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Dir, Mode, OFlags};

use super::super::failure::Context;
use super::super::proto::{JailInfo, JailSetup};
use super::super::{sys, wire};
use crate::host::{Failure, Jail};
use crate::keeper::sys::unless_gone;

/// How long a jail's processes may take to die of SIGKILL.
const DEATH: Duration = Duration::from_secs(10);
/// The most jails in one answer, so that it fits a message.
const PAGE: usize = 128;

/// All jails.
pub(super) struct Jails {
    /// By name. `None` is a name that is taken by a jail just being made.
    table: Mutex<BTreeMap<String, Option<Arc<Running>>>>,
    /// The next jail's number.
    next: AtomicI32,
}

/// A jail that is there.
struct Running {
    jid: i32,
    path: PathBuf,
    vnet: bool,
    init: sys::Child,
    /// Where jail-init is asked to signal all; one request at a time.
    control: Mutex<OwnedFd>,
    /// A proc file system of the jail's pid namespace.
    proc: OwnedFd,
}

impl Jails {
    pub(super) fn new() -> Self {
        Self { table: Mutex::default(), next: AtomicI32::new(1) }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<Running>>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jail, unless it is gone. Forgets one whose process 1 died.
    fn find(&self, name: &str) -> Option<Arc<Running>> {
        let mut table = self.table();
        let jail = table.get(name)?.clone()?;
        if jail.is_dead() {
            table.remove(name);
            return None;
        }
        Some(jail)
    }

    fn need(&self, name: &str) -> Result<Arc<Running>, Failure> {
        self.find(name).ok_or_else(|| no_such_jail(name))
    }

    /// Makes a jail and gives its number.
    pub(super) fn create(&self, jail: &Jail) -> Result<i32, Failure> {
        let _ = self.find(&jail.name);
        {
            let mut table = self.table();
            if table.contains_key(&jail.name) {
                let error = io::Error::from_raw_os_error(libc::EEXIST);
                return Err(Failure::os(format!("create jail {}", jail.name), &error));
            }
            table.insert(jail.name.clone(), None);
        }
        let jid = self.next.fetch_add(1, Ordering::Relaxed);
        let made = start(jail, jid);
        let mut table = self.table();
        match made {
            Ok(running) => {
                table.insert(jail.name.clone(), Some(Arc::new(running)));
                Ok(jid)
            }
            Err(failure) => {
                table.remove(&jail.name);
                Err(failure)
            }
        }
    }

    /// Kills a jail and waits until it is gone.
    pub(super) fn remove(&self, name: &str) -> Result<(), Failure> {
        let Some(jail) = self.find(name) else { return Ok(()) };
        let _ = rustix::process::pidfd_send_signal(&jail.init.pidfd, rustix::process::Signal::KILL);
        let wait = i32::try_from(DEATH.as_millis()).unwrap_or(i32::MAX);
        if sys::ends_within(jail.init.pidfd.as_fd(), wait)
            .doing(|| format!("wait for the end of jail {name}"))?
        {
            self.table().remove(name);
            return Ok(());
        }
        Err(Failure::new(format!(
            "jail {name} did not end in {} seconds: {}",
            DEATH.as_secs(),
            jail.survivors()
        )))
    }

    /// SIGTERM to all; returns when none is left or the time is over.
    pub(super) fn term(&self, name: &str, wait: Duration) -> Result<(), Failure> {
        let Some(jail) = self.find(name) else { return Ok(()) };
        // Where they cannot be counted there may be some.
        if wait.is_zero() || matches!(jail.count(), Ok(0)) {
            return Ok(());
        }
        jail.signal(libc::SIGTERM).doing(|| format!("send SIGTERM in jail {name}"))?;
        // Who is left is for SIGKILL to find out.
        let _ = jail.wait_until_empty(wait);
        Ok(())
    }

    /// SIGKILL to all, until none is left.
    pub(super) fn kill(&self, name: &str) -> Result<(), Failure> {
        let Some(jail) = self.find(name) else { return Ok(()) };
        let end = Instant::now() + DEATH;
        let mut left = jail.count();
        loop {
            match left {
                Ok(0) => return Ok(()),
                _ if jail.is_dead() => return Ok(()),
                _ if Instant::now() < end => {}
                Ok(_) => {
                    let survivors = jail.survivors();
                    return Err(Failure::new(format!(
                        "processes of jail {name} outlive SIGKILL: {survivors}"
                    )));
                }
                Err(error) => return Err(uncounted(name, &error)),
            }
            // Again and again: a process may have forked between the kernel's steps over the list.
            jail.signal(libc::SIGKILL).doing(|| format!("send SIGKILL in jail {name}"))?;
            left = jail.wait_until_empty(Duration::from_millis(100));
        }
    }

    /// Its namespaces: mnt, pid, net, uts, ipc.
    pub(super) fn attach(&self, name: &str) -> Result<Vec<OwnedFd>, Failure> {
        let jail = self.need(name)?;
        let mut fds = Vec::new();
        for kind in ["mnt", "pid", "net", "uts", "ipc"] {
            let path = format!("/proc/{}/ns/{kind}", jail.init.pid);
            let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            fds.push(fd.doing(|| format!("open the {kind} namespace of jail {name}"))?);
        }
        // If it still lives now, the number was its own all the time.
        if jail.is_dead() { Err(no_such_jail(name)) } else { Ok(fds) }
    }

    /// A page of the jails, and whether there are more.
    pub(super) fn page(&self, after: Option<&str>) -> Result<(BTreeMap<String, JailInfo>, bool), Failure> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let all: Vec<(String, Arc<Running>)> = self
            .table()
            .range::<str, _>((from, Bound::Unbounded))
            .filter_map(|(name, jail)| Some((name.clone(), jail.clone()?)))
            .take(PAGE + 1)
            .collect();
        let more = all.len() > PAGE;
        let jails = all
            .into_iter()
            .take(PAGE)
            .filter(|(_, jail)| !jail.is_dead())
            .map(|(name, jail)| {
                let info = JailInfo {
                    jid: jail.jid,
                    path: jail.path.clone(),
                    vnet: jail.vnet,
                    processes: jail.count().map_err(|error| uncounted(&name, &error))?,
                };
                Ok((name, info))
            })
            .collect::<Result<_, Failure>>()?;
        Ok((jails, more))
    }
}

fn no_such_jail(name: &str) -> Failure {
    Failure::os(format!("jail {name}"), &io::Error::from_raw_os_error(libc::ESRCH))
}

fn uncounted(name: &str, error: &io::Error) -> Failure {
    Failure::os(format!("count the processes of jail {name}"), error)
}

/// Starts a jail-init and waits until it has built its jail.
fn start(jail: &Jail, jid: i32) -> Result<Running, Failure> {
    let what = || format!("create jail {}", jail.name);
    let (ours, theirs) = wire::pair().doing(what)?;
    let mut namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if jail.vnet {
        namespaces |= libc::CLONE_NEWNET;
    }
    let number = theirs.as_raw_fd().to_string();
    let arguments = [OsStr::new("jail-init"), OsStr::new(&number)];
    let init = sys::spawn_in(namespaces, &arguments, theirs.as_fd(), None).doing(what)?;
    drop(theirs);
    let finish = || -> Result<OwnedFd, Failure> {
        let setup = JailSetup { path: jail.path.clone(), hostname: jail.hostname.clone(), vnet: jail.vnet };
        wire::set_timeout(&ours, Some(DEATH)).doing(what)?;
        wire::send(ours.as_fd(), &setup, &[]).doing(what)?;
        let gone = || Failure::new(format!("create jail {}: its jail-init died", jail.name));
        let (how, mut fds) =
            wire::receive::<Result<(), Failure>>(ours.as_fd()).doing(what)?.ok_or_else(gone)?;
        how.map_err(|failure| Failure { message: format!("{}: {}", what(), failure.message), ..failure })?;
        fds.pop().ok_or_else(gone)
    };
    match finish() {
        Ok(proc) => Ok(Running {
            jid,
            path: jail.path.clone(),
            vnet: jail.vnet,
            init,
            control: Mutex::new(ours),
            proc,
        }),
        Err(failure) => {
            let _ = rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL);
            let _ = sys::ends_within(init.pidfd.as_fd(), 10_000);
            Err(failure)
        }
    }
}

impl Running {
    /// Whether it is known to be gone: one that cannot be asked must not be forgotten.
    fn is_dead(&self) -> bool {
        sys::ends_within(self.init.pidfd.as_fd(), 0).unwrap_or(false)
    }

    /// Sends a signal to all but jail-init. That there is nobody is no error.
    fn signal(&self, signal: i32) -> io::Result<()> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        wire::send(control.as_fd(), &signal, &[])?;
        match wire::receive::<i32>(control.as_fd())? {
            None | Some((0 | libc::ESRCH, _)) => Ok(()),
            Some((errno, _)) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The processes beside jail-init, zombies not counted, by number and name. Empty when the jail is gone.
    ///
    /// # Errors
    /// It cannot be seen who is there, for want of a descriptor, say.
    fn processes(&self) -> io::Result<Vec<(i32, String)>> {
        let open = |path: &str, flags: OFlags| {
            let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&self.proc, path, flags, Mode::empty()).map_err(io::Error::from)
        };
        let Some(dir) = unless_gone(open(".", OFlags::DIRECTORY))? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for entry in Dir::new(dir)? {
            let Some(entry) = unless_gone(entry.map_err(io::Error::from))? else { continue };
            let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            if pid == 1 {
                continue;
            }
            // A process may call itself what is no UTF-8.
            let text = open(&format!("{pid}/stat"), OFlags::empty()).and_then(|stat| {
                let mut text = Vec::new();
                io::Read::read_to_end(&mut std::fs::File::from(stat), &mut text)?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            });
            // proc_pid_stat(5): "pid (name) state …"; the name may hold anything, so the last parenthesis counts.
            let Some(text) = unless_gone(text)? else { continue };
            let Some((head, tail)) = text.rsplit_once(')') else { continue };
            if !matches!(tail.trim_start().chars().next(), Some('Z' | 'X')) {
                all.push((pid, head.split_once('(').map_or("?", |(_, name)| name).to_owned()));
            }
        }
        Ok(all)
    }

    fn count(&self) -> io::Result<usize> {
        Ok(self.processes()?.len())
    }

    /// Who is still there, for a message.
    fn survivors(&self) -> String {
        let all = match self.processes() {
            Ok(all) => all,
            Err(error) => return format!("who is left cannot be seen: {error}"),
        };
        let all: Vec<String> = all.iter().take(20).map(|(pid, name)| format!("{name} ({pid})")).collect();
        if all.is_empty() { "only its jail-init is left".to_owned() } else { all.join(", ") }
    }

    /// Waits at most so long; gives how many are left, or why that is not known.
    fn wait_until_empty(&self, wait: Duration) -> io::Result<usize> {
        let end = Instant::now() + wait;
        let mut pause = Duration::from_millis(1);
        loop {
            let count = self.count();
            let left = end.saturating_duration_since(Instant::now());
            if matches!(count, Ok(0)) || left.is_zero() {
                return count;
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}
