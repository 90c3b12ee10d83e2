//! How a keeper comes to be: one per state directory, a session of its own, nothing left of its starter.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, fork, pipe2, setsid};

use super::process::Keeper;
use super::sys;
use crate::host::Failure;

/// Where a keeper listens.
#[must_use]
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("keeper.sock")
}

/// Detaches a keeper and returns once it answers: the body of `warren keeper --state-dir DIR`. Its own messages go to
/// `keeper.err` in the state directory.
///
/// Must be called while the process has one thread only.
///
/// # Errors
/// Another keeper runs for this directory; or the directory cannot be used.
pub fn run(state_dir: &Path) -> Result<(), Failure> {
    let os = |what: &str| {
        let what = what.to_owned();
        move |e: Errno| Failure::os(what, &e.into())
    };
    let state_dir = make_directory(state_dir)?;
    let null = File::open("/dev/null").map_err(|e| Failure::os("opening /dev/null", &e))?;
    let messages_path = state_dir.join("keeper.err");
    super::logs::set_aside(&messages_path);
    let messages = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&messages_path)
        .map_err(|e| Failure::os(messages_path.display(), &e))?;
    let (ready, tell) = pipe2(OFlag::O_CLOEXEC).map_err(os("making a pipe"))?;

    match fork_once().map_err(os("fork"))? {
        ForkResult::Parent { .. } => {
            drop(tell);
            let mut answer = String::new();
            File::from(ready)
                .read_to_string(&mut answer)
                .map_err(|e| Failure::os("waiting for the keeper", &e))?;
            match answer.strip_prefix("ready") {
                Some(_) => Ok(()),
                None if answer.is_empty() => Err(Failure::new("the keeper died before it was ready")
                    .hint(format!("see {}", messages_path.display()))),
                None => Err(serde_json::from_str(&answer).unwrap_or_else(|_| Failure::new(answer))),
            }
        }
        ForkResult::Child => {
            let arranged = sys::arrange(&[null.as_fd(), messages.as_fd(), messages.as_fd(), tell.as_fd()]);
            // Their numbers mean something else now.
            std::mem::forget((null, messages, ready, tell));
            let mut tell = descriptor_3();
            let result = arranged
                .map_err(|e| Failure::os("arranging descriptors", &e))
                .and_then(|()| {
                    setsid().map_err(os("setsid"))?;
                    Opened::new(&state_dir)
                })
                .inspect(|_| {
                    // Whoever waits may have gone away meanwhile; that changes nothing.
                    let _ = tell.write_all(b"ready");
                });
            let code = match result {
                Ok(opened) => {
                    drop(tell);
                    opened.serve().map_or_else(
                        |failure| {
                            super::say(format_args!("warren keeper: {failure}"));
                            1
                        },
                        |()| 0,
                    )
                }
                Err(failure) => {
                    let _ = tell.write_all(&serde_json::to_vec(&failure).unwrap_or_default());
                    1
                }
            };
            std::process::exit(code)
        }
    }
}

/// Runs a keeper in this process until it is told to stop, for service managers that want it so.
///
/// # Errors
/// As [`run`]; and if its event loop fails.
pub fn serve(state_dir: &Path) -> Result<(), Failure> {
    Opened::new(&make_directory(state_dir)?)?.serve()
}

/// A keeper that can already be connected to.
struct Opened {
    keeper: Keeper,
    socket: PathBuf,
    /// Held as long as the keeper lives.
    _lock: Flock<File>,
}

impl Opened {
    fn new(state_dir: &Path) -> Result<Self, Failure> {
        sys::reset_signals();
        // A pipe that somebody closes is an error of that pipe's, and not the end of everybody's keeper.
        sys::ignore_broken_pipes();
        // What the keeper makes is for its own user; a job gets its own mask.
        umask(Mode::from_bits_truncate(0o077));
        let _ = std::env::set_current_dir("/");
        let lock = lock(&state_dir.join("keeper.lock"))?;
        let socket = socket_path(state_dir);
        match std::fs::remove_file(&socket) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Failure::os(socket.display(), &e)),
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(|e| {
            Failure::os(format!("listening on {}", socket.display()), &e)
                .hint("the path of a socket has at most 103 bytes; choose a shorter state directory")
        })?;
        let keeper = Keeper::new(state_dir, listener).map_err(|e| Failure::os("starting the keeper", &e))?;
        Ok(Self { keeper, socket, _lock: lock })
    }

    fn serve(self) -> Result<(), Failure> {
        let result = self.keeper.serve();
        // Before the lock goes, so that it cannot be the next one's.
        let _ = std::fs::remove_file(&self.socket);
        result.map_err(|e| Failure::os("the keeper's event loop", &e))
    }
}

/// Absolute, because the keeper works in `/`.
fn make_directory(state_dir: &Path) -> Result<PathBuf, Failure> {
    let what = |e: io::Error| Failure::os(format!("the state directory {}", state_dir.display()), &e);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(what)?;
    state_dir.canonicalize().map_err(what)
}

fn lock(path: &Path) -> Result<Flock<File>, Failure> {
    let what = |e: io::Error| Failure::os(path.display(), &e);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(what)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // For people only: a full disk keeps no keeper from starting.
            let _ = lock
                .set_len(0)
                .and_then(|()| lock.rewind())
                .and_then(|()| writeln!(lock, "{}", std::process::id()));
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let text = format!("a keeper runs for this state directory already, process {}", pid.trim());
            Err(Failure { errno: Some(Errno::EWOULDBLOCK as i32), ..Failure::new(text) })
        }
        Err((_, e)) => Err(what(e.into())),
    }
}

#[allow(unsafe_code)]
fn fork_once() -> nix::Result<ForkResult> {
    // SAFETY: `run` asks its caller for a process with one thread; then the child may do whatever it likes.
    unsafe { fork() }
}

#[allow(unsafe_code)]
fn descriptor_3() -> File {
    use std::os::fd::FromRawFd;
    // SAFETY: `sys::arrange` has just put the pipe there, and nobody else owns the number.
    unsafe { File::from_raw_fd(3) }
}
