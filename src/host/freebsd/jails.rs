//! Jails by jail_set(2), jail_get(2) and jail_remove(2), and by descriptors where the kernel has them (FreeBSD 15).
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::iov::Iov;
use super::params;
use crate::host::failure::Context;
use crate::host::{Failure, Jail};

/// MAXHOSTNAMELEN and MAXPATHLEN.
const NAME: usize = 256;
const PATH: usize = 1024;

/// sys/jail.h and sys/syscall.h of FreeBSD 15, which the libc crate does not have.
const JAIL_GET_DESC: c_int = 0x40;
const SYS_JAIL_REMOVE_JD: c_int = 598;

/// A jail there is.
#[derive(Debug)]
pub struct Seen {
    /// Its number.
    pub jid: i32,
    /// Its name, as this process sees it: child jails are `parent.child`.
    pub name: String,
    /// Its root.
    pub path: PathBuf,
    /// Whether it has a network stack of its own.
    pub vnet: bool,
    /// Whether it has been removed and something still holds it (facts B.2).
    pub dying: bool,
    /// Holds it fast where it is to be removed: what is done by a descriptor is never done to another jail that was given the number
    /// meanwhile. None before FreeBSD 15, and none of a jail that was only listed.
    desc: Option<OwnedFd>,
}

impl Seen {
    /// Sends this process into the jail, for good: 0, or -1 with an error number. System calls only, for the child of a fork.
    ///
    /// By number where there are descriptors too: jail_attach_jd(2) of 15.1 keeps a reference for each call (`kern_jail.c`:
    /// do_jail_attach() forgets the one that jaildesc_find() took), and the jail stays dying until the machine is booted (seen).
    pub fn attach(&self) -> c_int {
        crate::keeper::place::attach(self.jid)
    }

    /// Removes it, unless it has gone by itself.
    fn remove(&self) -> io::Result<()> {
        // SAFETY: both take a number and touch no memory.
        let done = unsafe {
            match &self.desc {
                Some(desc) => libc::syscall(SYS_JAIL_REMOVE_JD, desc.as_raw_fd()) as c_int,
                None => libc::jail_remove(self.jid),
            }
        };
        match io::Error::last_os_error() {
            _ if done == 0 => Ok(()),
            error if is_gone(&error) => Ok(()),
            error => Err(error),
        }
    }
}

/// Whether a call says that the jail it was for is no more: what the kernel says of its number, and of its descriptor.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT))
}

/// Whether this kernel has jail descriptors; one that has none refuses the flag before it looks for a jail.
pub fn have_descriptors() -> bool {
    static HAVE: OnceLock<bool> = OnceLock::new();
    *HAVE.get_or_init(|| {
        let mut iov = Iov::default();
        // Not a jail's number, so that none is found.
        iov.int("desc", -1).int("jid", -1);
        let refused = iov.call(libc::jail_get, JAIL_GET_DESC);
        !matches!(refused, Err(refusal) if refusal.error.raw_os_error() == Some(libc::EINVAL))
    })
}

fn get(flags: c_int, key: impl FnOnce(&mut Iov)) -> io::Result<Option<Seen>> {
    let mut iov = Iov::default();
    key(&mut iov);
    if flags & JAIL_GET_DESC != 0 {
        iov.int("desc", -1);
    }
    // Of two that bear one name the kernel goes by the last (vfs_sanitizeopts()): what is asked for is no room for an answer as well.
    for (name, room) in [("jid", 4), ("path", PATH), ("vnet", 4), ("dying", 4), ("name", NAME)] {
        if iov.value(name).is_empty() {
            iov.room(name, room);
        }
    }
    match iov.call(libc::jail_get, flags) {
        Ok(jid) => Ok(Some(Seen {
            jid,
            name: iov.string("name"),
            path: iov.string("path").into(),
            vnet: iov.number("vnet") == libc::JAIL_SYS_NEW,
            dying: iov.number("dying") != 0,
            desc: (flags & JAIL_GET_DESC != 0).then(|| kept(iov.number("desc"))).transpose()?,
        })),
        Err(refusal) if refusal.error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(refusal) => Err(refusal.error),
    }
}

/// A descriptor that the kernel has just made, from now on not for those we execute.
fn kept(desc: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: jail_get(2) gave it to us, and nobody else knows of it.
    let desc = unsafe { OwnedFd::from_raw_fd(desc) };
    // SAFETY: takes numbers, touches no memory.
    match unsafe { libc::fcntl(desc.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(desc),
    }
}

fn by_name(name: &str, flags: c_int) -> Result<Option<Seen>, Failure> {
    get(flags, |iov| {
        iov.text("name", name);
    })
    .doing(|| format!("look for the jail {name}"))
}

/// The jail of a name, a living one before a dying one; to look at.
pub fn find(name: &str) -> Result<Option<Seen>, Failure> {
    by_name(name, libc::JAIL_DYING)
}

/// The living jail of a name, to act upon.
pub fn alive(name: &str) -> Result<Option<Seen>, Failure> {
    by_name(name, if have_descriptors() { JAIL_GET_DESC } else { 0 })
}

/// Whether there is a living jail of this number.
pub fn is_alive(jid: i32) -> io::Result<bool> {
    let found = get(0, |iov| {
        iov.int("jid", jid);
    })?;
    Ok(found.is_some())
}

/// The living jail of a name, which must be there.
pub fn need(name: &str) -> Result<Seen, Failure> {
    alive(name)?
        .ok_or_else(|| Failure::os(format!("jail {name}"), &io::Error::from_raw_os_error(libc::ESRCH)))
}

/// Whether a jail may do something: a parameter that is true or false.
pub fn may(jid: i32, what: &str) -> Result<bool, Failure> {
    let mut iov = Iov::default();
    iov.int("jid", jid).room(what, 4);
    iov.call(libc::jail_get, 0).map_err(|refusal| refusal.failure(format!("read {what} of jail {jid}")))?;
    Ok(iov.number(what) != 0)
}

/// All jails, dying ones too.
pub fn all() -> Result<Vec<Seen>, Failure> {
    let (mut all, mut last) = (Vec::new(), 0);
    let next = |last| {
        get(libc::JAIL_DYING, |iov| {
            iov.int("lastjid", last);
        })
    };
    while let Some(jail) = next(last).doing(|| "list the jails")? {
        last = jail.jid;
        all.push(jail);
    }
    Ok(all)
}

/// The child jails of a jail, deepest first.
pub fn children(name: &str) -> Result<Vec<Seen>, Failure> {
    let mut found: Vec<Seen> = (all()?.into_iter())
        .filter(|jail| !jail.dying && jail.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
        .collect();
    found.sort_by_key(|jail| std::cmp::Reverse(jail.name.matches('.').count()));
    Ok(found)
}

/// Makes a jail, with `persist`.
pub fn create(jail: &Jail) -> Result<i32, Failure> {
    params::of(jail)?.call(libc::jail_set, libc::JAIL_CREATE).map_err(|refusal| {
        let errno = refusal.error.raw_os_error();
        let failure = refusal.failure(format!("make the jail {}", jail.name));
        match errno {
            Some(libc::EPERM) => failure.hint("only root makes jails; in a jail, children.max says how many"),
            _ => failure,
        }
    })
}

/// Removes a jail, if it is there, and waits a moment for what holds it. One that stays dying is no error: sockets in TIME_WAIT
/// keep it, and its name is free already.
pub fn remove(name: &str, patience: Duration) -> Result<(), Failure> {
    let Some(jail) = alive(name)? else { return Ok(()) };
    jail.remove().doing(|| format!("remove the jail {name}"))?;
    drop(jail);
    gone(name, patience).map(|_| ())
}

/// Waits until nothing is left of a removed jail; says whether that is so.
pub fn gone(name: &str, patience: Duration) -> Result<bool, Failure> {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    while find(name)?.is_some_and(|jail| jail.dying) {
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    Ok(true)
}
