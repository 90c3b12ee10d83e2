//! The outer process: parent of the lab's process 1, maker of sockets on the machine's loopback. It has one thread, since the
//! death signal of process 1 is bound to the thread that made it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::super::failure::Context;
use super::super::{layout, sys, wire};
use crate::config::spec::Proto;
use crate::host::Failure;
use crate::keeper::say;

/// What process 1 says to the outer process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Up {
    /// The lab is up, or why it cannot be.
    Booted(Result<(), Failure>),
    /// Make a socket on the machine's loopback.
    Socket(Proto, SocketAddr),
}

/// What the outer process says to process 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Down {
    /// You are process 1 of the lab.
    Begin {
        /// The outer process's number on the machine.
        outer: i32,
        /// Whether there is a user namespace.
        user: bool,
    },
    /// The answer to [`Up::Socket`]; the socket is in the message's descriptors.
    Socket(Result<(), Failure>),
}

/// Starts the lab and returns once it is up.
pub(super) fn boot(state_dir: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .doing(|| format!("make the state directory {}", state_dir.display()))?;
    let state_dir =
        state_dir.canonicalize().doing(|| format!("find the state directory {}", state_dir.display()))?;
    let path = layout::lock(&state_dir);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .doing(|| format!("open {}", path.display()))?;
    let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        // Another one is up or comes up: whoever wants it waits for its socket.
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(()),
        Err((_, error)) => return Err(error).doing(|| format!("lock {}", path.display())),
    };
    let single = sys::SingleThread::check().doing(|| "start the lab-kernel")?;
    let (mut told, tell) = std::io::pipe().doing(|| "make a pipe")?;
    // The caller gets its answer as soon as the lab is up; the outer process goes on in the background.
    if single.fork().doing(|| "fork the lab-kernel")?.is_some() {
        drop(tell);
        // Dropping it would unlock, for the child too: the lock belongs to the open file both have.
        std::mem::forget(lock);
        let mut text = String::new();
        told.read_to_string(&mut text).doing(|| "wait for the lab-kernel")?;
        return serde_json::from_str(&text).unwrap_or_else(|_| {
            Err(Failure::new(format!(
                "the lab-kernel died while starting; see {}",
                layout::log(&state_dir).display()
            )))
        });
    }
    drop(told);
    let mut tell = Some(tell);
    if let Err(failure) = outer(&state_dir, &lock, &mut tell) {
        say(format_args!("lab-kernel: {failure}"));
        answer(&mut tell, &Err(failure));
    }
    // Not to the caller's `main`: this process was forked out of the middle of it.
    std::process::exit(0)
}

/// Tells the waiting parent, once.
fn answer(tell: &mut Option<std::io::PipeWriter>, how: &Result<(), Failure>) {
    if let Some(mut tell) = tell.take() {
        let _ = tell.write_all(&serde_json::to_vec(how).unwrap_or_default());
    }
}

/// The life of the outer process.
fn outer(
    state_dir: &Path,
    _lock: &Flock<File>,
    tell: &mut Option<std::io::PipeWriter>,
) -> Result<(), Failure> {
    go_to_background(state_dir)?;
    check_tun()?;
    let user = !nix::unistd::geteuid().is_root();
    let (ours, theirs) = wire::pair().doing(|| "make a socket pair")?;
    let mut namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if user {
        namespaces |= libc::CLONE_NEWUSER;
    }
    let (gate, open) = std::io::pipe().doing(|| "make a pipe")?;
    let number = theirs.as_raw_fd().to_string();
    let arguments =
        [OsStr::new("lab-kernel"), OsStr::new("--process-1"), OsStr::new(&number), state_dir.as_os_str()];
    let child = sys::spawn_in(namespaces, &arguments, theirs.as_fd(), Some(gate.as_fd()))
        .map_err(|e| no_namespaces(&e, user))?;
    drop((theirs, gate));
    if user {
        map_user(child.pid).map_err(|error| no_namespaces(&error, user))?;
    }
    (&open).write_all(b"!").doing(|| "let process 1 go")?;
    drop(open);
    let begin = Down::Begin { outer: std::process::id().cast_signed(), user };
    wire::send(ours.as_fd(), &begin, &[]).doing(|| "tell process 1 to begin")?;
    while let Some((up, _)) = wire::receive::<Up>(ours.as_fd()).doing(|| "hear from process 1")? {
        match up {
            Up::Booted(how) => answer(tell, &how),
            Up::Socket(proto, address) => {
                let made = make_socket(proto, address);
                let (how, fd) = match &made {
                    Ok(fd) => (Ok(()), vec![fd.as_fd()]),
                    Err(failure) => (Err(failure.clone()), Vec::new()),
                };
                wire::send(ours.as_fd(), &Down::Socket(how), &fd).doing(|| "answer process 1")?;
            }
        }
    }
    // End of file: process 1 is dying. The lock is kept until it is dead, so that a new lab never meets the old one.
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None);
    let _ = std::fs::remove_file(layout::socket(state_dir));
    if tell.is_some() {
        return Err(Failure::new(format!(
            "process 1 of the lab died while starting; see {}",
            layout::log(state_dir).display()
        )));
    }
    Ok(())
}

/// Leaves the caller's session and terminal; what is said goes to the log.
fn go_to_background(state_dir: &Path) -> Result<(), Failure> {
    nix::unistd::setsid().doing(|| "leave the session")?;
    let path = layout::log(state_dir);
    crate::keeper::logs::set_aside(&path);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .doing(|| format!("open {}", path.display()))?;
    let null = File::open("/dev/null").doing(|| "open /dev/null")?;
    nix::unistd::dup2_stdin(&null).doing(|| "redirect the input")?;
    nix::unistd::dup2_stdout(&log).doing(|| "redirect the output")?;
    nix::unistd::dup2_stderr(&log).doing(|| "redirect the errors")?;
    // Nothing of the caller's is to be kept busy, and modes are to be as written.
    nix::unistd::chdir("/").doing(|| "leave the working directory")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

/// A lab without TAP devices is none, and the error is clearer out here.
fn check_tun() -> Result<(), Failure> {
    let path = PathBuf::from("/dev/net/tun");
    OpenOptions::new().read(true).write(true).open(&path).map(|_| ()).map_err(|error| {
        Failure::os("the lab needs TAP devices, but /dev/net/tun cannot be opened", &error).hint(
            "load the module `tun`, give your user access to the device (`setfacl -m u:$USER:rw /dev/net/tun`), in a \
             container pass it in (`--device /dev/net/tun`), or try `warren demo --host sim`, which needs none of this",
        )
    })
}

/// Explains a refused clone.
fn no_namespaces(error: &std::io::Error, user: bool) -> Failure {
    if user {
        Failure::os("the lab needs user namespaces, but making one was refused", error).hint(
            "allow them with `sysctl user.max_user_namespaces=10000`, on Debian and Ubuntu also \
             `sysctl kernel.unprivileged_userns_clone=1` and `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; or run as \
             root; or try `warren demo --host sim`, which needs none of this",
        )
    } else {
        Failure::os("the lab needs namespaces (pid, mount, net, uts, ipc), but making them was refused", error).hint(
            "in a container it needs CAP_SYS_ADMIN and CAP_NET_ADMIN (`--privileged`); or try `warren demo --host sim`, \
             which needs none of this",
        )
    }
}

/// Makes the ordinary user root of the new user namespace: user_namespaces(7), "Defining user and group ID mappings".
fn map_user(pid: i32) -> std::io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1\n")),
        ("gid_map", format!("0 {gid} 1\n")),
    ] {
        std::fs::write(format!("/proc/{pid}/{file}"), text)?;
    }
    Ok(())
}

/// A socket on the machine's loopback, and nowhere else.
fn make_socket(proto: Proto, address: SocketAddr) -> Result<OwnedFd, Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure::new(format!(
            "{address} is not on the machine's loopback, and the lab touches nothing else of it"
        )));
    }
    let made = match proto {
        Proto::Tcp => TcpListener::bind(address).map(OwnedFd::from),
        Proto::Udp => UdpSocket::bind(address).map(OwnedFd::from),
    };
    made.map_err(|error| {
        let failure = Failure::os(
            format!("open {} port {} on the machine's {}", proto.as_str(), address.port(), address.ip()),
            &error,
        );
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => {
                failure.hint("another program has the port: stop it, or publish another one")
            }
            Some(libc::EACCES) => {
                failure.hint("an ordinary user may not have ports below 1024: publish another one")
            }
            _ => failure,
        }
    })
}
