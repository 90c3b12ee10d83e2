//! Every effect Warren has on a machine, as one value: [`Op`].
//!
//! The vocabulary is FreeBSD's, because that is the product; the lab and the sim translate. An operation names its
//! objects by names that were drawn before (`warren-<id>`, `w<id>`), never by numbers of the kernel, so that after a
//! crash the same value can be performed or undone again. Rules every host keeps:
//!
//! - An operation that makes something ([`Op::undo`] is not `None`) may fail half-way; performing its undo then removes
//!   whatever was made.
//! - An operation that removes something succeeds if it is not there. It never touches what is not ours.
//! - No operation waits without a bound, except [`Op::Run`] of a command without a timeout.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::spec::{CommandLine, ParamValue, TemplateSource};
use crate::firewall::Policy;

/// A hardware address.
pub type Mac = [u8; 6];

/// One effect. See the module's rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "op")]
pub enum Op {
    /// Runs a command to its end. Fails if it exits with anything but 0, is ended by a signal or exceeds its timeout; then
    /// its whole process group has been killed.
    Run(Job),
    /// Starts the main process and returns; its end is reported by [`Host::exits`](super::Host::exits).
    Spawn(Job),
    /// Kills the process group of a job, if it is still there, and waits until it is gone.
    KillJob {
        /// The job's id.
        job: String,
    },

    /// Makes the root `name` from a template. The root is then a directory at the path the layout gives for the name.
    CloneCreate {
        /// The clone's name: the instance's id.
        name: String,
        /// What it is a clone of.
        source: TemplateSource,
    },
    /// Destroys a clone, only when nothing is mounted at or below it. Never crosses a device or follows a link.
    CloneDestroy {
        /// The clone's name.
        name: String,
        /// What it was a clone of: decides the back end.
        source: TemplateSource,
    },
    /// Mounts a file system below a root. The target is resolved below the root without following links.
    Mount(Mount),
    /// Unmounts what [`Op::Mount`] mounted: a mount point of another type or source is left alone and is an error. A busy mount is
    /// retried, then forced where that loses nothing, then reported.
    Unmount(Mount),
    /// Writes a file below a root, replacing it; links are not followed.
    WriteFile {
        /// The root's path on the host.
        root: PathBuf,
        /// The file's path as the instance sees it.
        path: PathBuf,
        /// What it is to hold.
        contents: String,
    },

    /// Fails if there is a jail of the name: before anything is done for one whose name is not drawn by Warren.
    JailAbsent {
        /// The jail's name.
        jail: String,
    },
    /// Looks whether what an operation makes is there, as it would have made it; fails with the reason where not. Changes nothing.
    /// What the host cannot tell passes. The reply is that of the operation: a jail's number, the addresses.
    Stands {
        /// The operation.
        made: Box<Op>,
    },
    /// Creates a jail, always with `persist`.
    JailCreate(Jail),
    /// Removes a jail. Its processes are dead and its interfaces are home by then.
    JailRemove {
        /// The jail's name.
        jail: String,
    },
    /// Sends SIGTERM to every process of a jail (child jails excluded) and waits until none is left or the time is over. Both succeed.
    JailTerm {
        /// The jail's name.
        jail: String,
        /// The longest wait.
        wait: Duration,
    },
    /// Removes the jail's child jails, deepest first, kills every process with SIGKILL and waits until none is left; fails after ten seconds,
    /// naming those that will not die.
    JailKill {
        /// The jail's name.
        jail: String,
    },
    /// Counts the processes of a jail ([`Reply::Processes`]). Fails if there is no such jail.
    JailCount {
        /// The jail's name.
        jail: String,
    },
    /// Delegates a dataset to a jail (`zfs jail`). A failure is reported but not an error, as in jail(8).
    DatasetJail {
        /// The jail's name.
        jail: String,
        /// The dataset.
        dataset: String,
    },
    /// Takes a dataset back (`zfs unjail`).
    DatasetUnjail {
        /// The jail's name.
        jail: String,
        /// The dataset.
        dataset: String,
    },
    /// Unmounts what processes of the jail mounted below its root.
    UnmountForeign {
        /// The jail's name.
        jail: String,
        /// The root's path on the host.
        root: PathBuf,
        /// Targets that are Warren's own and stay.
        keep: Vec<PathBuf>,
    },

    /// Makes a bridge: persistent, flooding no unknown unicast between links, its table frozen (facts A.4).
    BridgeCreate {
        /// The node's name, `b<id>`.
        bridge: String,
    },
    /// Shuts a bridge down.
    BridgeDestroy {
        /// The node's name.
        bridge: String,
    },
    /// Bridges a real interface into a network: uplink hook, promiscuous, no autosrc, offloads off; all put back by the undo.
    UplinkAttach {
        /// The bridge.
        bridge: String,
        /// The interface of the host.
        interface: String,
    },
    /// Puts the real interface back as it was.
    UplinkDetach {
        /// The bridge.
        bridge: String,
        /// The interface of the host.
        interface: String,
    },
    /// Makes an eiface on the nursery, sets its MAC and MTU, and names node and interface `node`.
    EifaceCreate {
        /// Name of node and interface, at most 15 bytes.
        node: String,
        /// Its hardware address.
        mac: Mac,
        /// Bytes, 72 to 9018.
        mtu: u16,
    },
    /// Shuts an eiface down, wherever on its way it got to. Only when the interface is home.
    EifaceDestroy {
        /// Name of the node.
        node: String,
    },
    /// Connects an eiface to a bridge: through a filter that passes nothing yet if `guarded`, else directly.
    LinkConnect {
        /// The eiface.
        node: String,
        /// The bridge.
        bridge: String,
        /// The number of the bridge's hook `link<N>`.
        link: u32,
        /// Whether a filter node stands between.
        guarded: bool,
    },
    /// Takes the link off the bridge and removes the filter.
    LinkDisconnect {
        /// The eiface.
        node: String,
        /// The bridge.
        bridge: String,
        /// The number of the bridge's hook.
        link: u32,
    },
    /// Opens a connected link: sets the filter's program and seeds the bridge's table.
    LinkOpen {
        /// The eiface.
        node: String,
        /// The bridge.
        bridge: String,
        /// The number of the bridge's hook.
        link: u32,
        /// What the filter lets through; `None` on a link without a filter.
        guard: Option<Guard>,
        /// The address seeded at this link.
        mac: Mac,
    },
    /// Seeds the bridge's table for the hook of the DHCP server, whose frames come from a data socket.
    BridgeSeed {
        /// The bridge.
        bridge: String,
        /// The number of the bridge's hook.
        link: u32,
        /// The address.
        mac: Mac,
    },

    /// Moves an interface into a jail and gives it the name it has there.
    IfMoveIn {
        /// The interface's name on the host.
        interface: String,
        /// The jail.
        jail: String,
        /// Its name inside.
        inside: String,
    },
    /// Brings an interface home and gives it its name there back. Nothing to do if it is home.
    IfMoveHome {
        /// The interface's name on the host.
        interface: String,
        /// The jail.
        jail: String,
        /// Its name inside.
        inside: String,
    },
    /// Sets addresses on an interface and brings it up, in a jail or on the host.
    IfConfigure {
        /// The interface's name there.
        interface: String,
        /// The jail; none: the host.
        jail: Option<String>,
        /// Addresses with the network's prefix length.
        addresses: Vec<IpNet>,
        /// Default routes, at most one per family.
        routes: Vec<IpAddr>,
        /// Whether `lo0` there is configured as well.
        loopback: bool,
    },
    /// Lists the addresses on an interface of a jail ([`Reply::Addresses`]): what a DHCP client there set.
    IfAddresses {
        /// The interface's name in the jail.
        interface: String,
        /// The jail.
        jail: String,
    },
    /// Adds addresses of shared-IP jails to an interface of the host. One that was there before is not ours: see [`Reply::Aliases`].
    AliasAdd {
        /// The interface of the host.
        interface: String,
        /// The addresses, /32 or /128 unless given otherwise.
        addresses: Vec<IpNet>,
    },
    /// Removes the addresses.
    AliasRemove {
        /// The interface of the host.
        interface: String,
        /// The addresses.
        addresses: Vec<IpNet>,
    },

    /// Loads the whole anchor of a network, in one transaction, and verifies it by reading it back. Tables keep their members.
    AnchorLoad(Policy),
    /// Empties the anchor and its tables.
    AnchorRemove {
        /// The anchor: `warren/<network>`.
        anchor: String,
    },
    /// Adds addresses to tables of an anchor.
    TableAdd {
        /// The anchor.
        anchor: String,
        /// Table names.
        tables: Vec<String>,
        /// The addresses, both families.
        addresses: Vec<IpAddr>,
    },
    /// Removes addresses from tables of an anchor.
    TableRemove {
        /// The anchor.
        anchor: String,
        /// Table names.
        tables: Vec<String>,
        /// The addresses, both families.
        addresses: Vec<IpAddr>,
    },
    /// Waits until no established connection to the addresses is left, or the time is over. Both succeed.
    Drain {
        /// The anchor.
        anchor: String,
        /// The addresses of one instance.
        addresses: Vec<IpAddr>,
        /// The longest wait.
        wait: Duration,
    },
    /// Kills the states of one instance: its own, rdr'd and NATed ones, and nobody else's.
    KillStates {
        /// The anchor.
        anchor: String,
        /// The addresses of one instance.
        addresses: Vec<IpAddr>,
    },

    /// Opens a listening socket on the host and leaves it with the keeper, which holds it while daemons come and go.
    Listen {
        /// The name it is asked for by.
        name: String,
        /// Where it listens.
        address: std::net::SocketAddr,
        /// UDP, or TCP with a backlog.
        proto: crate::config::spec::Proto,
    },
    /// Closes a listening socket.
    Unlisten {
        /// Its name.
        name: String,
    },
    /// Asks an instance whether it is well, over the network. Fails if it is not. A check by a command is a job: [`Op::Run`].
    Probe {
        /// What is asked.
        question: Question,
        /// The address asked.
        address: IpAddr,
        /// After which it has failed.
        timeout: Duration,
    },
}

/// What an instance can be asked from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Whether a TCP connection is accepted.
    Tcp {
        /// The port.
        port: u16,
    },
    /// Whether a GET is answered with a status from 200 to 399.
    Http {
        /// The port.
        port: u16,
        /// The path, starting with `/`.
        path: String,
    },
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Unique for ever: `<instance>.<step>.<round>`. The keeper refuses a second job of the same id.
    pub id: String,
    /// The jail it runs in; none: the host.
    pub jail: Option<String>,
    /// What is run.
    pub command: CommandLine,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// Whether the environment is emptied first (exec.clean).
    pub clean_env: bool,
    /// Who runs it; none: root.
    pub user: Option<String>,
    /// Whether the user is looked up on the host although the command runs in a jail.
    pub system_jail_user: bool,
    /// The routing table; none: the default.
    pub fib: Option<u32>,
    /// After which its process group is killed.
    pub timeout: Option<Duration>,
    /// Whose log gets what it prints: an instance's id.
    pub log: String,
    /// A second file for what it prints.
    pub consolelog: Option<PathBuf>,
    /// A directory that strangers write below: if the second file lies there, no link leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_below: Option<PathBuf>,
}

#[cfg(test)]
impl Job {
    /// Of which nothing is said but what it runs: `true`, on the host.
    pub fn plain(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            jail: None,
            command: CommandLine::Argv(vec!["true".into()]),
            env: BTreeMap::new(),
            clean_env: true,
            user: None,
            system_jail_user: false,
            fib: None,
            timeout: None,
            log: id.to_owned(),
            consolelog: None,
            console_below: None,
        }
    }
}

impl Job {
    /// What it is, for a message: the command, and the jail.
    #[must_use]
    pub fn describe(&self) -> String {
        let command = match &self.command {
            CommandLine::Shell(text) => text.clone(),
            CommandLine::Argv(words) => words.join(" "),
        };
        match &self.jail {
            Some(jail) => format!("`{command}` in {jail}"),
            None => format!("`{command}`"),
        }
    }
}

/// A mount below a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The root's path on the host.
    pub root: PathBuf,
    /// The mount point, as the instance sees it.
    pub target: PathBuf,
    /// The type, as in fstab(5).
    pub fstype: String,
    /// What is mounted.
    pub source: String,
    /// Options.
    pub options: Vec<String>,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Whether another mount may lie at its place below it: on the root, or a second one of the same instance at one place. What is
    /// seen there and is not ours is then not in its way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stacked: bool,
}

/// A jail to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jail {
    /// Its name: `warren-<id>`, or the one of a jail that keeps its own.
    pub name: String,
    /// Its root on the host.
    pub path: PathBuf,
    /// `host.hostname`.
    pub hostname: String,
    /// Whether it has a network stack of its own.
    pub vnet: bool,
    /// Addresses of a jail without one.
    pub addresses: Vec<IpAddr>,
    /// Further parameters by their jail(8) names.
    pub params: BTreeMap<String, ParamValue>,
}

/// What a link lets through from the instance (facts A.4, "Recommended per-jail graph").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The only source hardware address.
    pub mac: Mac,
    /// The only source addresses, beside link-local and unspecified ones where protocols need them.
    pub addresses: Vec<IpAddr>,
}

/// What performing an operation gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Nothing to tell.
    Done,
    /// The jail's number, valid under this boot only.
    Jail {
        /// `jid`.
        jid: i32,
    },
    /// The node's number, valid under this boot only.
    Node {
        /// The id behind `[id]:`.
        node: u32,
    },
    /// How many processes there are.
    Processes {
        /// The number.
        count: usize,
    },
    /// Which of the addresses were added; the others had been there before and are not ours to remove.
    Aliases {
        /// Those that are ours.
        added: Vec<IpNet>,
    },
    /// The addresses of an interface.
    Addresses {
        /// Both families.
        addresses: Vec<IpAddr>,
    },
    /// A remark for the user: the operation succeeded, but not as well as it might have.
    Remark {
        /// What was the matter.
        text: String,
    },
}

impl Op {
    /// The operation that takes this one back. `None` for those that leave nothing behind of their own.
    #[must_use]
    pub fn undo(&self) -> Option<Self> {
        Some(match self.clone() {
            Self::Run(job) | Self::Spawn(job) => Self::KillJob { job: job.id },
            Self::CloneCreate { name, source } => Self::CloneDestroy { name, source },
            Self::Mount(mount) => Self::Unmount(mount),
            Self::JailCreate(jail) => Self::JailRemove { jail: jail.name },
            Self::DatasetJail { jail, dataset } => Self::DatasetUnjail { jail, dataset },
            Self::BridgeCreate { bridge } => Self::BridgeDestroy { bridge },
            Self::UplinkAttach { bridge, interface } => Self::UplinkDetach { bridge, interface },
            Self::EifaceCreate { node, .. } => Self::EifaceDestroy { node },
            Self::LinkConnect { node, bridge, link, .. } => Self::LinkDisconnect { node, bridge, link },
            Self::IfMoveIn { interface, jail, inside } => Self::IfMoveHome { interface, jail, inside },
            Self::AliasAdd { interface, addresses } => Self::AliasRemove { interface, addresses },
            Self::AnchorLoad(policy) => Self::AnchorRemove { anchor: policy.anchor },
            Self::TableAdd { anchor, tables, addresses } => Self::TableRemove { anchor, tables, addresses },
            Self::Listen { name, .. } => Self::Unlisten { name },
            _ => return None,
        })
    }

    /// Whether its effect outlives a reboot of the machine. What does not is gone after one and needs no undoing.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        matches!(
            self,
            Self::Run(_) | Self::CloneCreate { .. } | Self::CloneDestroy { .. } | Self::WriteFile { .. }
        )
    }
}
