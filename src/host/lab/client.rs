//! The daemon's side of `lab.sock`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::failure::Context;
use super::proto::{Answer, JailInfo, Request};
use super::wire;
use crate::host::Failure;

/// A way to the socket in a directory that fits `sun_path`, while the directory is open.
pub(super) fn short_path(dir: &File) -> String {
    format!("/proc/self/fd/{}/lab.sock", dir.as_raw_fd())
}

/// Asks the lab-kernel. Each thread that asks has a connection for itself; idle ones are kept.
pub struct Client {
    state_dir: PathBuf,
    idle: Mutex<Vec<OwnedFd>>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Plain I/O errors; `NotFound` and `ConnectionRefused` mean that no lab runs.
    pub fn connect(state_dir: &Path) -> io::Result<Self> {
        let client = Self { state_dir: state_dir.to_owned(), idle: Mutex::default() };
        let connection = client.open()?;
        client.keep(connection);
        Ok(client)
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let dir = File::open(&self.state_dir)?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(short_path(&dir).as_str())?)?;
        Ok(socket)
    }

    fn keep(&self, connection: OwnedFd) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    /// Asks, and waits for the answer. How long that takes is bounded by the lab-kernel.
    ///
    /// # Errors
    /// What the lab-kernel says, or that it is gone.
    pub fn ask(&self, request: &Request) -> Result<(Answer, Vec<OwnedFd>), Failure> {
        let what = || "ask the lab-kernel";
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open().doing(what)?,
        };
        wire::send(connection.as_fd(), request, &[]).doing(what)?;
        let (answer, fds) = wire::receive::<Answer>(connection.as_fd()).doing(what)?.ok_or_else(|| {
            Failure::new("the lab-kernel hung up").hint("it may have died: that is the lab's reboot")
        })?;
        self.keep(connection);
        match answer {
            Answer::Failed(failure) => Err(failure),
            answer => Ok((answer, fds)),
        }
    }

    /// Asks for something that has no answer but success.
    pub fn order(&self, request: &Request) -> Result<(), Failure> {
        match self.ask(request)? {
            (Answer::Done, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Asks for descriptors, exactly `N` of them.
    pub fn fetch<const N: usize>(&self, request: &Request) -> Result<[OwnedFd; N], Failure> {
        let (_, fds) = self.ask(request)?;
        fds.try_into().map_err(|_| Failure::new("the lab-kernel sent another number of descriptors"))
    }

    /// All jails.
    pub fn jails(&self) -> Result<BTreeMap<String, JailInfo>, Failure> {
        let mut all = BTreeMap::new();
        let mut after = None;
        loop {
            match self.ask(&Request::Jails { after: after.take() })? {
                (Answer::Jails { jails, more }, _) => {
                    after = jails.keys().next_back().cloned();
                    all.extend(jails);
                    if !more || after.is_none() {
                        return Ok(all);
                    }
                }
                (other, _) => return Err(unexpected(&other)),
            }
        }
    }
}

/// The lab-kernel is of another version, or confused.
pub(super) fn unexpected(answer: &Answer) -> Failure {
    Failure::new(format!("the lab-kernel answered something unexpected: {answer:?}"))
        .hint("is it of another version? `warren lab stop` ends it")
}
