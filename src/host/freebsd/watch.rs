//! Tells of jails that are gone without our doing: at once where the kernel tells (EVFILT_JAIL, FreeBSD 15), within a second where it
//! has to be asked.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::jails;
use crate::host::Lost;

/// sys/event.h of FreeBSD 15, which the libc crate does not have.
const EVFILT_JAIL: i16 = -14;
const NOTE_JAIL_REMOVE: u32 = 0x1000_0000;
/// How often a kernel that does not tell is asked: one system call for each jail, of some microseconds.
const EVERY: Duration = Duration::from_secs(1);

/// Watches over jails.
pub struct Watch {
    jails: Arc<Jails>,
    lost: Mutex<Option<Receiver<Lost>>>,
}

struct Jails {
    /// Those that should be there, by number. An event of another is one of our own doing.
    there: Mutex<BTreeMap<i32, String>>,
    /// Where the kernel tells.
    queue: Option<OwnedFd>,
}

impl Watch {
    /// Starts watching over no jail.
    pub fn start() -> Self {
        let (tell, lost) = channel();
        let jails = Arc::new(Jails { there: Mutex::default(), queue: queue() });
        let watched = Arc::clone(&jails);
        std::thread::spawn(move || watched.watch(&tell));
        Self { jails, lost: Mutex::new(Some(lost)) }
    }

    /// From now on the jail should be there. One that is watched over already is no other.
    pub fn expect(&self, jid: i32, name: &str) {
        if self.jails.there().insert(jid, name.to_owned()).is_some() {
            return;
        }
        // One that is gone by now is found by the next look at the machine, as is one that cannot be watched.
        if self.jails.queue.as_ref().is_some_and(|queue| add(queue, jid).is_err()) {
            self.jails.there().remove(&jid);
        }
    }

    /// The jail is about to be removed, by us.
    pub fn release(&self, name: &str) {
        self.jails.there().retain(|_, there| there != name);
    }

    /// Those that are gone; can be taken once.
    pub fn lost(&self) -> Option<Receiver<Lost>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Jails {
    fn there(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, String>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until nobody listens any more.
    fn watch(&self, tell: &Sender<Lost>) {
        loop {
            for jid in self.gone() {
                let jail = self.there().remove(&jid);
                if jail.is_some_and(|jail| tell.send(Lost { jail, jid }).is_err()) {
                    return;
                }
            }
        }
    }

    /// Waits, and gives the numbers of jails that are gone; some may be ours to remove.
    fn gone(&self) -> Vec<i32> {
        match self.queue.as_ref().map(next) {
            Some(Ok(jid)) => vec![jid],
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Vec::new(),
            // A queue that fails is no way to wait.
            Some(Err(_)) | None => {
                std::thread::sleep(EVERY);
                let watched: Vec<i32> = self.there().keys().copied().collect();
                watched.into_iter().filter(|jid| matches!(jails::is_alive(*jid), Ok(false))).collect()
            }
        }
    }
}

/// An event of one jail, with nothing told of it yet.
fn event(jid: i32) -> libc::kevent {
    libc::kevent {
        ident: usize::try_from(jid).unwrap_or_default(),
        filter: EVFILT_JAIL,
        flags: libc::EV_ADD,
        fflags: NOTE_JAIL_REMOVE,
        data: 0,
        udata: std::ptr::null_mut(),
        ext: [0; 4],
    }
}

fn add(queue: &OwnedFd, jid: i32) -> io::Result<()> {
    let change = event(jid);
    // SAFETY: one change is read, and no event is written.
    let done = unsafe {
        libc::kevent(queue.as_raw_fd(), &raw const change, 1, std::ptr::null_mut(), 0, std::ptr::null())
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for the next event.
fn next(queue: &OwnedFd) -> io::Result<i32> {
    let mut event = event(0);
    // SAFETY: no change is read, and at most one event is written.
    let done =
        unsafe { libc::kevent(queue.as_raw_fd(), std::ptr::null(), 0, &raw mut event, 1, std::ptr::null()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(event.ident).unwrap_or_default())
}

/// A queue that tells of jails; none where the kernel has no such filter, and refuses it for any jail.
fn queue() -> Option<OwnedFd> {
    // SAFETY: makes a descriptor, touches no memory.
    let queue = unsafe { libc::kqueue() };
    if queue < 0 {
        return None;
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let queue = unsafe { OwnedFd::from_raw_fd(queue) };
    // No jail has the number; a kernel that has the filter says so.
    match add(&queue, i32::MAX) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Some(queue),
        _ => None,
    }
}
