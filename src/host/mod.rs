//! The narrow port to an operating system.
//!
//! Everything Warren does to a machine goes through [`Host::perform`], everything it sees of one through
//! [`Host::observe`]: that one point serves the journal, `--dry-run`, tracing, fault injection and comparison. There are
//! three hosts: `freebsd` (the product), `lab` (Linux namespaces) and `sim` (a kernel in memory). Code that is not a host
//! may not ask which one it runs on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use crate::config::spec::{Publish, TemplateSource};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

mod booleans;
mod closed;
mod failure;
#[cfg(target_os = "freebsd")]
pub mod freebsd;
pub mod graph;
#[cfg(target_os = "linux")]
pub mod lab;
mod listen;
mod names;
pub mod op;
mod probe;
mod remove;
pub mod requirements;
pub mod sim;
mod stands;

pub use op::{Guard, Jail, Job, Mac, Mount, Op, Question, Reply};

/// An operating system Warren runs on. Calls block; the daemon makes them on a bounded pool of threads.
pub trait Host: Send + Sync + 'static {
    /// Carries out one operation. Idempotence and undoing are as [`op`] says.
    ///
    /// `witness` is told of what must be durable *inside* the operation: a hook's process before its exec.
    fn perform(&self, op: &Op, witness: &dyn Witness) -> Result<Reply, Failure>;

    /// Whether something a fabric wants can be had here, asked before anything is touched.
    fn check(&self, wanted: &Wanted) -> Result<(), Failure>;

    /// Takes what stands, as [`Op::Stands`] has shown, for what this host made itself: it is Warren's from now on.
    fn own(&self, _made: &Op, _reply: &Reply) -> Result<(), Failure> {
        Ok(())
    }

    /// Lists what exists and bears a name of ours, and the jails called `also`: those of ours that keep their own names.
    fn observe(&self, also: &[String]) -> Result<Inventory, Failure>;

    /// Identifies the boot of the machine; numbers given by the kernel mean nothing under another one.
    fn boot_id(&self) -> String;

    /// What became of a job, as far as the keeper knows. After a crash of the daemon this tells whether a hook ran.
    fn job(&self, id: &str) -> Result<JobState, Failure>;

    /// The jobs that ended and are not forgotten yet.
    fn ended_jobs(&self) -> Result<Vec<String>, Failure>;

    /// Forgets a job that has ended, after its end has been written down.
    fn forget_job(&self, id: &str) -> Result<(), Failure>;

    /// The stream of ends of spawned jobs; ends that happened while no daemon ran come first. It ends when whoever watches them
    /// is gone, and is to be taken anew then.
    fn exits(&self) -> Receiver<Exit>;

    /// The stream of jails that are gone without our doing; none where the machine cannot tell, and a look at it has to.
    /// Can be taken once.
    fn lost(&self) -> Option<Receiver<Lost>> {
        None
    }

    /// A socket that sends and receives whole Ethernet frames on a hook of a bridge (facts D.1). It goes with its owner.
    fn frames(&self, bridge: &str, link: u32) -> Result<Box<dyn Frames>, Failure>;

    /// The socket that [`Op::Listen`] left with the keeper under a name. None where nobody could ask at one.
    fn socket(&self, name: &str) -> Result<Option<OwnedFd>, Failure>;

    /// Leaves such a socket with the keeper again, which is another one than it was left with.
    fn keep_socket(&self, _name: &str, _socket: OwnedFd) -> Result<(), Failure> {
        Ok(())
    }

    /// Runs a command inside a jail or on the host with its standard descriptors given, for `warren exec`. Returns the job's id; its
    /// end comes by [`Host::exits`].
    fn exec(&self, job: &Job, stdio: [OwnedFd; 3], terminal: bool) -> Result<(), Failure>;
}

/// What [`Op::JailAbsent`] says of a jail that is there.
fn not_ours(jail: &str) -> Failure {
    Failure {
        errno: Some(17),
        ..Failure::new(format!("jail {jail} runs already, and Warren did not start it"))
    }
    .hint("stop it by what started it (`jail -r NAME`), then bring it up with Warren")
}

/// Something only the machine can tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A template to clone.
    Template(TemplateSource),
    /// A port of the host to publish.
    Port(Publish),
}

/// Whether the directory of a template is there; hosts that know more ask more.
pub fn check_directory(source: &TemplateSource) -> Result<(), Failure> {
    let (TemplateSource::Directory { path } | TemplateSource::Shared { path }) = source else {
        return Ok(());
    };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::new(format!("the template {} is not a directory", path.display()))),
        Err(error) => Err(Failure::os(format!("the template {}", path.display()), &error)),
    }
}

/// Whole Ethernet frames in and out of a bridge.
pub trait Frames: Send + Sync {
    /// Waits for a frame, at most a second; `None` if none came.
    fn receive(&self, buffer: &mut Vec<u8>) -> std::io::Result<Option<()>>;
    /// Sends a frame.
    fn send(&self, frame: &[u8]) -> std::io::Result<()>;
}

/// Who is told of things that must be durable in the middle of an operation.
pub trait Witness {
    /// A process group exists and will exec once this returns `Ok`; it has been written down by then.
    fn started(&self, job: &str, process: Process) -> Result<(), Failure>;
}

/// A witness for operations whose jobs need not be remembered.
pub struct NoWitness;

impl Witness for NoWitness {
    fn started(&self, _: &str, _: Process) -> Result<(), Failure> {
        Ok(())
    }
}

/// A process, told apart from a later one of the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The number of the process and of its group.
    pub pid: i32,
    /// When it started, in the kernel's own unit (clock ticks since boot on Linux, microseconds since the epoch on FreeBSD).
    pub started: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It exited with this status.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// It was killed because its time was over.
    TimedOut,
    /// Nobody saw the end: the keeper itself was gone.
    Unknown,
}

impl Status {
    /// Whether it did what it should.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit status {code}"),
            Self::Signaled(signal) => write!(f, "ended by signal {signal}"),
            Self::TimedOut => f.write_str("timed out and was killed"),
            Self::Unknown => f.write_str("ended unseen"),
        }
    }
}

/// What the keeper knows of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It never started.
    Unknown,
    /// It runs.
    Running(Process),
    /// It ended.
    Ended(Status),
}

/// The end of a spawned job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its id.
    pub job: String,
    /// How.
    pub status: Status,
}

/// A jail that is gone without our doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its name.
    pub jail: String,
    /// The number it had: a later jail of its name has another.
    pub jid: i32,
}

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}{}", hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct Failure {
    /// What the system said, with the object it said it of.
    pub message: String,
    /// The system's error number, where there was one, in the numbering of the host.
    pub errno: Option<i32>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether it was never begun, as nobody could be asked to: then it says nothing of what was asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unasked: bool,
}

impl Failure {
    /// A failure with nothing but a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), errno: None, hint: None, unasked: false }
    }

    /// A failure of a system call: `what` names object and action.
    pub fn os(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self { errno: error.raw_os_error(), ..Self::new(format!("{what}: {error}")) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same of what was never begun.
    #[must_use]
    pub fn unasked(mut self) -> Self {
        self.unasked = true;
        self
    }

    /// Whether it says of this machine that it is short, of descriptors, memory or local ports, or of Warren that nobody could be
    /// asked, and so nothing of what was asked. EAGAIN is none of these: a jail that may have no more processes says it, too.
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        let short = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EADDRNOTAVAIL];
        self.unasked || self.errno.is_some_and(|errno| short.contains(&errno))
    }
}

/// What exists on a machine under names of ours, comparable by value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Jails by name.
    pub jails: BTreeMap<String, SeenJail>,
    /// Clones by name.
    pub clones: BTreeSet<String>,
    /// Mount points at or below a clone's root, by path.
    pub mounts: BTreeMap<PathBuf, String>,
    /// Netgraph nodes of ours by name, with their type.
    pub nodes: BTreeMap<String, String>,
    /// Those of them that lead nowhere: an interface without a hook, a filter with one.
    pub loose: BTreeSet<String>,
    /// Interfaces of ours by name, with the jail they are in.
    pub interfaces: BTreeMap<String, Option<String>>,
    /// How those are set, there.
    pub settings: BTreeMap<String, SeenInterface>,
    /// Addresses that were added to interfaces of the host.
    pub aliases: BTreeSet<(String, IpNet)>,
    /// Loaded anchors, and the members of their tables.
    pub anchors: BTreeMap<String, BTreeMap<String, BTreeSet<IpAddr>>>,
    /// Anchors whose rules are not those that this daemon loaded.
    pub edited: BTreeSet<String>,
    /// Jobs the keeper knows that still run.
    pub jobs: BTreeSet<String>,
    /// Sockets left with the keeper.
    pub sockets: BTreeSet<String>,
}

impl Inventory {
    /// Whether nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How an interface is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenInterface {
    /// Whether it is up.
    pub up: bool,
    /// Its hardware address, where the host tells.
    pub mac: Option<Mac>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The default routes of the stack it is in, where the host tells.
    pub gateways: Option<BTreeSet<IpAddr>>,
}

/// A jail that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenJail {
    /// Its number.
    pub jid: i32,
    /// Its root.
    pub path: PathBuf,
    /// How many processes it holds.
    pub processes: usize,
}
