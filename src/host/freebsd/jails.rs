//! Jails by jail_set(2), jail_get(2) and jail_remove(2).
#![allow(unsafe_code)]

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::iov::Iov;
use super::params;
use crate::host::failure::Context;
use crate::host::{Failure, Jail};

/// MAXHOSTNAMELEN and MAXPATHLEN.
const NAME: usize = 256;
const PATH: usize = 1024;

/// A jail there is.
#[derive(Debug, Clone)]
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
}

fn get(key: impl FnOnce(&mut Iov)) -> io::Result<Option<Seen>> {
    let mut iov = Iov::default();
    key(&mut iov);
    iov.room("jid", 4).room("path", PATH).room("vnet", 4).room("dying", 4);
    if iov.value("name").is_empty() {
        iov.room("name", NAME);
    }
    match iov.call(libc::jail_get, libc::JAIL_DYING) {
        Ok(jid) => Ok(Some(Seen {
            jid,
            name: iov.string("name"),
            path: iov.string("path").into(),
            vnet: iov.number("vnet") == libc::JAIL_SYS_NEW,
            dying: iov.number("dying") != 0,
        })),
        Err(refusal) if refusal.error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(refusal) => Err(refusal.error),
    }
}

/// The jail of a name, a living one before a dying one.
pub fn find(name: &str) -> Result<Option<Seen>, Failure> {
    get(|iov| {
        iov.text("name", name);
    })
    .doing(|| format!("look for the jail {name}"))
}

/// The living jail of a name.
pub fn alive(name: &str) -> Result<Option<Seen>, Failure> {
    Ok(find(name)?.filter(|jail| !jail.dying))
}

/// The living jail of a name, which must be there.
pub fn need(name: &str) -> Result<Seen, Failure> {
    alive(name)?
        .ok_or_else(|| Failure::os(format!("jail {name}"), &io::Error::from_raw_os_error(libc::ESRCH)))
}

/// All jails, dying ones too.
pub fn all() -> Result<Vec<Seen>, Failure> {
    let (mut all, mut last) = (Vec::new(), 0);
    let next = |last| {
        get(|iov| {
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
    // SAFETY: takes a number, touches no memory.
    if unsafe { libc::jail_remove(jail.jid) } != 0 {
        let error = io::Error::last_os_error();
        // EINVAL: it has gone meanwhile.
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error).doing(|| format!("remove the jail {name}"));
        }
    }
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
