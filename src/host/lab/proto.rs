//! What is said on `lab.sock`: one request, one answer, on a connection that may be used again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::spec::Proto;
use crate::host::{Failure, Jail};

/// What the lab-kernel is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub enum Request {
    /// Who are you? Answered by [`Answer::Hello`] with a pidfd of process 1.
    Hello,
    /// Make a jail.
    JailCreate {
        /// The jail.
        jail: Jail,
    },
    /// Kill a jail and all in it.
    JailRemove {
        /// Its name.
        jail: String,
    },
    /// SIGTERM, and a wait.
    JailTerm {
        /// Its name.
        jail: String,
        /// The longest wait.
        wait: Duration,
    },
    /// SIGKILL, and a wait of ten seconds.
    JailKill {
        /// Its name.
        jail: String,
    },
    /// The namespaces of a jail: answered with descriptors of mnt, pid, net, uts, ipc, in this order.
    JailAttach {
        /// Its name.
        jail: String,
    },
    /// The jails in order of their names, a page of them.
    Jails {
        /// The last name of the page before.
        after: Option<String>,
    },
    /// The network namespace that stands for the outside of the lab: answered with its descriptor.
    Outside,
    /// Sets the relays of an owner, all of them; an empty list takes them away.
    Relays {
        /// An anchor or the name of a listening socket.
        owner: String,
        /// What it wants.
        relays: Vec<Relay>,
    },
    /// A socket of the userland netgraph: answered with descriptors of its control and its data half.
    Netgraph,
    /// The power switch.
    Shutdown,
}

/// A port of the machine's loopback that leads into the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Relay {
    /// The protocol.
    pub proto: Proto,
    /// Where it listens on the machine.
    pub machine: SocketAddr,
    /// Where it leads in the lab.
    pub target: SocketAddr,
}

/// What the lab-kernel answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// To [`Request::Hello`].
    Hello {
        /// The boot id.
        boot: String,
        /// The inode of its pid namespace, by which one knows whether one is inside already.
        pid_namespace: u64,
        /// Whether it lives in a user namespace.
        user_namespace: bool,
        /// Its process number in the machine's pid namespace is not known to itself; this is the outer one's.
        outer: i32,
    },
    /// Nothing to tell, or what is asked for is in the descriptors.
    Done,
    /// A jail was made.
    Jail {
        /// Its number.
        jid: i32,
    },
    /// A page of jails.
    Jails {
        /// By name.
        jails: BTreeMap<String, JailInfo>,
        /// Whether there are more.
        more: bool,
    },
    /// It failed.
    Failed(Failure),
}

/// A jail as the lab-kernel knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JailInfo {
    /// Its number.
    pub jid: i32,
    /// Its root.
    pub path: PathBuf,
    /// Whether it has a network namespace of its own.
    pub vnet: bool,
    /// Its processes, jail-init not counted.
    pub processes: usize,
}

/// What jail-init is told by its first message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JailSetup {
    /// The root.
    pub path: PathBuf,
    /// The host name.
    pub hostname: String,
    /// Whether the network namespace is its own.
    pub vnet: bool,
}
