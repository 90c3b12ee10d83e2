//! `lab.sock`: one thread per connection, one answer per request.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{SigSet, Signal};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::super::failure::Context;
use super::super::proto::{Answer, Request};
use super::super::{layout, wire};
use super::graph::Netgraph;
use super::jails::Jails;
use super::outer::Up;
use super::relays::Relays;
use crate::host::Failure;
use crate::keeper::say;

/// Connections at a time. A daemon needs as many as it has threads.
const CONNECTIONS: usize = 256;

/// The lab-kernel when it is up.
pub(super) struct Kernel {
    listener: OwnedFd,
    boot: String,
    pid_namespace: u64,
    outer_pid: i32,
    user: bool,
    outside: OwnedFd,
}

/// What the connections' threads share.
struct Shared {
    kernel: Kernel,
    jails: Jails,
    relays: Relays,
    netgraph: Netgraph,
    connections: AtomicUsize,
}

impl Kernel {
    /// Opens the socket.
    pub(super) fn new(
        state_dir: &Path,
        boot: String,
        outer_pid: i32,
        user: bool,
        outside: OwnedFd,
    ) -> Result<Self, Failure> {
        let path = layout::socket(state_dir);
        // We hold the lock, so that a socket found here is a dead lab's.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).doing(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
        let bind = || -> io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC;
            let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            // sun_path holds 107 bytes; the way through a descriptor has room for any directory.
            let dir = std::fs::File::open(state_dir)?;
            let short = super::super::client::short_path(&dir);
            rustix::net::bind(&listener, &SocketAddrUnix::new(short.as_str())?)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            rustix::net::listen(&listener, 64)?;
            Ok(listener)
        };
        let listener = bind().doing(|| format!("listen on {}", path.display()))?;
        let pid_namespace = std::fs::metadata("/proc/self/ns/pid").doing(|| "find the pid namespace")?.ino();
        Ok(Self { listener, boot, pid_namespace, outer_pid, user, outside })
    }

    /// Serves until the power is switched off.
    pub(super) fn serve(self, outer: OwnedFd) -> ExitCode {
        // Before any thread is made, since they inherit the mask: only the reaper hears of children.
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        if let Err(error) = children.thread_block() {
            say(format_args!("lab-kernel: block SIGCHLD: {error}"));
            return ExitCode::FAILURE;
        }
        std::thread::spawn(move || reap(&children));
        // A copy, since the relays take the socket and the answer is sent last, when everything else works.
        let begun = outer
            .try_clone()
            .and_then(Relays::new)
            .doing(|| "start the relays")
            .and_then(|relays| Ok((relays, Netgraph::start()?)));
        let (relays, netgraph) = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                say(format_args!("lab-kernel: {failure}"));
                let _ = wire::send(outer.as_fd(), &Up::Booted(Err(failure)), &[]);
                return ExitCode::FAILURE;
            }
        };
        if let Err(error) = wire::send(outer.as_fd(), &Up::Booted(Ok(())), &[]) {
            say(format_args!("lab-kernel: the outer process is gone: {error}"));
            return ExitCode::FAILURE;
        }
        drop(outer);
        let connections = AtomicUsize::new(0);
        let shared = Arc::new(Shared { kernel: self, jails: Jails::new(), relays, netgraph, connections });
        loop {
            let accepted = rustix::net::accept_with(&shared.kernel.listener, SocketFlags::CLOEXEC);
            let Ok(connection) = accepted else {
                std::thread::sleep(std::time::Duration::from_millis(20));
                continue;
            };
            if shared.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                shared.connections.fetch_sub(1, Ordering::Relaxed);
                continue; // Closed: the client sees the end and says so.
            }
            let theirs = shared.clone();
            let thread = std::thread::Builder::new().name("lab.sock".into()).spawn(move || {
                theirs.converse(&connection);
                theirs.connections.fetch_sub(1, Ordering::Relaxed);
            });
            if thread.is_err() {
                shared.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Reaps what has no parent any more. Jails are watched by pidfd, which this does not disturb.
fn reap(children: &SigSet) {
    loop {
        // What died before the signal was blocked is found by the first round.
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        let _ = children.wait();
    }
}

impl Shared {
    /// One client, until it hangs up or says something we do not understand.
    fn converse(&self, connection: &OwnedFd) {
        loop {
            let request = match wire::receive::<Request>(connection.as_fd()) {
                Ok(Some((request, _))) => request,
                Ok(None) => return,
                Err(error) => {
                    let failure = Failure::os("understand the request", &error);
                    let _ = wire::send(connection.as_fd(), &Answer::Failed(failure), &[]);
                    return;
                }
            };
            if matches!(request, Request::Shutdown) {
                let _ = wire::send(connection.as_fd(), &Answer::Done, &[]);
                // Process 1 ends, and with it the pid namespace and everything in it.
                std::process::exit(0);
            }
            let (answer, fds) = match self.answer(request) {
                Ok(answer) => answer,
                Err(failure) => (Answer::Failed(failure), Vec::new()),
            };
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            if let Err(error) = wire::send(connection.as_fd(), &answer, &fds) {
                say(format_args!("lab-kernel: an answer was not sent: {error}"));
                return;
            }
        }
    }

    fn answer(&self, request: Request) -> Result<(Answer, Vec<OwnedFd>), Failure> {
        let mut fds = Vec::new();
        let answer = match request {
            Request::Hello => {
                let myself = rustix::process::pidfd_open(
                    rustix::process::getpid(),
                    rustix::process::PidfdFlags::empty(),
                );
                fds.push(myself.doing(|| "open process 1")?);
                Answer::Hello {
                    boot: self.kernel.boot.clone(),
                    pid_namespace: self.kernel.pid_namespace,
                    user_namespace: self.kernel.user,
                    outer: self.kernel.outer_pid,
                }
            }
            Request::JailCreate { jail } => Answer::Jail { jid: self.jails.create(&jail)? },
            Request::JailRemove { jail } => {
                self.jails.remove(&jail)?;
                Answer::Done
            }
            Request::JailTerm { jail, wait } => {
                self.jails.term(&jail, wait)?;
                Answer::Done
            }
            Request::JailKill { jail } => {
                self.jails.kill(&jail)?;
                Answer::Done
            }
            Request::JailAttach { jail } => {
                fds = self.jails.attach(&jail)?;
                Answer::Done
            }
            Request::Jails { after } => {
                let (jails, more) = self.jails.page(after.as_deref())?;
                Answer::Jails { jails, more }
            }
            Request::Outside => {
                fds.push(self.kernel.outside.try_clone().doing(|| "give out the outside")?);
                Answer::Done
            }
            Request::Relays { owner, relays } => {
                self.relays.set(&owner, &relays)?;
                Answer::Done
            }
            Request::RelayList => Answer::Relays { relays: self.relays.list() },
            Request::Netgraph => {
                fds.extend(self.netgraph.socket()?);
                Answer::Done
            }
            Request::Shutdown => Answer::Done, // Done before this is called.
        };
        Ok((answer, fds))
    }
}
