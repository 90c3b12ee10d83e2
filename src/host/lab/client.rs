//! The daemon's side of `lab.sock`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::failure::Context;
use super::proto::{Answer, JailInfo, Request};
use super::{layout, wire};
use crate::host::Failure;

/// How long a lab-kernel may take for its first answer, for which it has nothing to do.
const GREETING: Duration = Duration::from_secs(20);

/// A way to the socket in a directory that fits `sun_path`, while the directory is open.
pub(super) fn short_path(dir: &File) -> String {
    format!("/proc/self/fd/{}/lab.sock", dir.as_raw_fd())
}

/// Asks the lab-kernel. Each thread that asks has a connection for itself; idle ones are kept.
pub struct Client {
    state_dir: PathBuf,
    idle: Mutex<Vec<OwnedFd>>,
}

/// What a lab-kernel says of itself when it is met.
pub struct Greeting {
    /// The boot id.
    pub boot: String,
    /// The inode of its pid namespace.
    pub pid_namespace: u64,
    /// Whether it lives in a user namespace.
    pub user_namespace: bool,
    /// A pidfd of its process 1.
    pub process1: OwnedFd,
}

impl Client {
    /// Meets the lab-kernel of a directory, if one runs.
    ///
    /// A connection alone says nothing: the kernel makes it, and goes on doing so for a lab-kernel that was killed until the last
    /// of its processes is gone. So one counts as running when it has answered.
    ///
    /// # Errors
    /// It runs and does not answer, or it answers with a failure; or the socket cannot be reached.
    pub fn connect(state_dir: &Path) -> Result<Option<(Self, Greeting)>, Failure> {
        let client = Self { state_dir: state_dir.to_owned(), idle: Mutex::default() };
        match client.greeted().doing(|| format!("connect to {}", layout::socket(state_dir).display()))? {
            Some((Answer::Hello { boot, pid_namespace, user_namespace, .. }, fds)) => {
                let [process1] = exactly(fds)?;
                Ok(Some((client, Greeting { boot, pid_namespace, user_namespace, process1 })))
            }
            Some((Answer::Failed(failure), _)) => Err(failure),
            Some((other, _)) => Err(unexpected(&other)),
            None => Ok(None),
        }
    }

    /// The first answer of a connection, which is then kept; `None` if nobody is there to give it.
    fn greeted(&self) -> io::Result<Option<(Answer, Vec<OwnedFd>)>> {
        let greeted = (|| {
            let connection = self.open()?;
            wire::set_timeout(&connection, Some(GREETING))?;
            wire::send(connection.as_fd(), &Request::Hello, &[])?;
            let answer = wire::receive::<Answer>(connection.as_fd())?;
            wire::set_timeout(&connection, None)?;
            self.keep(connection);
            Ok(answer)
        })();
        match greeted {
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {} s", GREETING.as_secs()),
            )),
            other => other,
        }
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
        exactly(fds)
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

/// There is no lab to speak to.
pub(super) fn absent(state_dir: &Path) -> Failure {
    Failure::new(format!("no lab runs in {}", state_dir.display()))
}

fn exactly<const N: usize>(fds: Vec<OwnedFd>) -> Result<[OwnedFd; N], Failure> {
    fds.try_into().map_err(|_| Failure::new("the lab-kernel sent another number of descriptors"))
}

/// Whether it says that nobody listens, or that whoever did has just died: the connections it had not taken up are reset.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | BrokenPipe)
}

/// The lab-kernel is of another version, or confused.
pub(super) fn unexpected(answer: &Answer) -> Failure {
    Failure::new(format!("the lab-kernel answered something unexpected: {answer:?}"))
        .hint("is it of another version? `warren lab off` ends it")
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// A lab-kernel's socket, without anybody to answer on it.
    fn listener(dir: &Path) -> OwnedFd {
        let open = File::open(dir).unwrap();
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(short_path(&open).as_str()).unwrap()).unwrap();
        rustix::net::listen(&listener, 4).unwrap();
        listener
    }

    #[test]
    fn where_nobody_listens_no_lab_runs() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Client::connect(dir.path()).unwrap().is_none());
        drop(listener(dir.path()));
        assert!(Client::connect(dir.path()).unwrap().is_none());
        assert!(Client::connect(&dir.path().join("missing")).unwrap().is_none());
    }

    #[test]
    fn a_lab_kernel_that_dies_before_its_first_answer_does_not_run() {
        // Killed with the connection waiting in its backlog, with the connection taken up, and with the question read.
        for taken in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let listener = listener(dir.path());
            let dying = std::thread::spawn(move || {
                let mut listening = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                poll(&mut listening, PollTimeout::NONE).unwrap();
                if taken == 0 {
                    return;
                }
                let connection = rustix::net::accept(&listener).unwrap();
                if taken == 2 {
                    wire::receive::<Request>(connection.as_fd()).unwrap().unwrap();
                }
            });
            assert!(Client::connect(dir.path()).unwrap().is_none(), "{taken}");
            dying.join().unwrap();
        }
    }
}
