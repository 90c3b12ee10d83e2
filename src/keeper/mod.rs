//! The keeper: the small process that outlives the daemon.
//!
//! It forks hooks and the main processes of instances, reaps them, and holds what must not vanish with a daemon: the
//! pipes behind the logs, exit statuses, and the listening sockets of DNS and API. It decides nothing and stores
//! nothing: what it is to do arrives as a finished request, what it knows is in memory and ends with it.
//!
//! - [`client`]: what the daemon calls. [`start`]: how a keeper comes to be. [`logs`]: what it writes down, and how that is read.
//! - [`protocol`] and [`wire`]: what passes over the socket.
//! - [`process`]: the event loop; [`jobs`]: what it knows of jobs; [`child`]: from fork to exec, with [`place`] and
//!   [`users`] (and `login` on FreeBSD); [`sys`]: the few facts that are asked of each kernel in its own way.
//!
//! Promises, and where they end:
//!
//! - A job's process exists, and its number and start time are known to the client, before it execs. It execs only when
//!   told to by the connection that asked for it; when that closes, or the keeper dies, it exits instead.
//! - Killing means the whole process group, until nobody of it is left. A group is never signalled once it is known to be
//!   empty, because its number may then be somebody else's.
//! - A job that ended keeps its status until it is forgotten, daemons or no daemons.
//! - SIGTERM ends a keeper under which nothing runs; otherwise it is written down and nothing happens. A machine that
//!   shuts down kills it later; `shutdown(force)` is the way to stop it on purpose.
//! - A keeper that is killed takes statuses, sockets and log pipes along (jobs then get SIGPIPE when they print): their
//!   status is [`Unknown`](crate::host::Status::Unknown), as documented there.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub mod child;
pub mod client;
pub mod command;
pub mod jobs;
#[cfg(target_os = "freebsd")]
pub mod login;
pub mod logs;
pub mod place;
pub mod process;
pub mod protocol;
pub mod start;
pub mod streams;
pub mod sys;
pub mod users;
pub mod wire;

pub use client::Client;
pub use start::{run, serve};

/// A line to standard error, from a process that is to live long: `eprintln!` panics where the disk is full.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Where a job runs.
#[derive(Debug)]
pub enum Place {
    /// Where the keeper is.
    Host {
        /// The working directory; none: `/`.
        cwd: Option<PathBuf>,
    },
    /// In Linux namespaces. Those that are not given are the keeper's own. The working directory is `/` of the mount
    /// namespace. A job in a pid namespace dies with that namespace's first process.
    Namespaces(Vec<OwnedFd>),
    /// In a FreeBSD jail, by its number; the working directory is the jail's root.
    Jail(i32),
}
