//! What a simulated machine holds, and the kernel's rules for changing it.
//!
//! - `disk`: clones, mounts, files. `jails`: jails and their processes. `wires`: nodes and interfaces. `filter`: anchors.
//! - `stands`: whether what an operation makes is there.

mod disk;
mod filter;
mod jails;
mod stands;
mod wires;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::config::spec::ParamValue;
use crate::firewall::Policy;
use crate::host::{Failure, Inventory, Mac, Mount, Op, Process, Reply, SeenJail, Status, graph};

// The numbers of FreeBSD's errno(2).
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const ENXIO: i32 = 6;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EADDRINUSE: i32 = 48;
const ENOTCONN: i32 = 57;

/// Everything there is. Two machines are equal if nothing tells them apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Counts boots.
    pub boot: u64,
    /// Jails by name.
    pub jails: BTreeMap<String, SimJail>,
    /// Clones by name: on disk.
    pub clones: BTreeSet<String>,
    /// Mounts by mount point.
    pub mounts: BTreeMap<PathBuf, Mount>,
    /// Those that others were mounted over, the last one on top.
    pub covered: Vec<Mount>,
    /// Files written into roots, by path: they go with their clone.
    pub files: BTreeMap<PathBuf, String>,
    /// Bridges by name.
    pub bridges: BTreeMap<String, SimBridge>,
    /// Eifaces by name.
    pub eifaces: BTreeMap<String, SimEiface>,
    /// Real interfaces that are bridged.
    pub uplinks: BTreeMap<String, String>,
    /// Addresses added to interfaces of the host.
    pub aliases: BTreeSet<(String, IpNet)>,
    /// Anchors by name.
    pub anchors: BTreeMap<String, SimAnchor>,
    /// Datasets delegated, with their jail: each jail has its own list of them, so one may stand in many (`zone_dataset_attach`).
    pub datasets: BTreeSet<(String, String)>,
    /// Sockets left with the keeper.
    pub sockets: BTreeSet<String>,
    /// Jobs the keeper knows.
    jobs: BTreeMap<String, SimJob>,
    last_jid: i32,
    last_pid: i32,
}

/// A jail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimJail {
    /// Its number.
    pub jid: i32,
    /// Its root.
    pub path: PathBuf,
    /// Whether it has a stack of its own.
    pub vnet: bool,
    /// Its addresses in the host's stack.
    pub addresses: Vec<IpAddr>,
    /// Its parameters as they were set.
    pub params: BTreeMap<String, ParamValue>,
    /// Its processes.
    pub processes: BTreeSet<i32>,
    /// Processes that no signal ends: tests set it.
    pub immortal: bool,
}

/// A bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimBridge {
    /// The eiface behind each `linkN`.
    pub links: BTreeMap<u32, String>,
    /// The seeded table.
    pub table: BTreeMap<Mac, u32>,
}

/// An eiface and its filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimEiface {
    /// Its hardware address.
    pub mac: Mac,
    /// The jail it is in.
    pub jail: Option<String>,
    /// The name it has there.
    pub inside: Option<String>,
    /// Addresses set on it.
    pub addresses: Vec<IpNet>,
    /// Default routes by it.
    pub gateways: Vec<IpAddr>,
    /// Whether it is up.
    pub up: bool,
    /// Whether a filter stands between it and the bridge.
    pub guarded: bool,
    /// Whether anything passes.
    pub open: bool,
}

/// An anchor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimAnchor {
    /// What it was loaded from.
    pub policy: Option<Policy>,
    /// Whether somebody changed its rules since: tests set it.
    pub edited: bool,
    /// Its tables.
    pub tables: BTreeMap<String, BTreeSet<IpAddr>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SimJob {
    process: Process,
    jail: Option<String>,
    ended: Option<Status>,
}

/// What an operation gave, and whose processes it ended.
pub struct Outcome {
    pub reply: Reply,
    pub ended: Vec<(String, Status)>,
}

type Done = Result<(), Failure>;

fn error(errno: i32, message: impl Into<String>) -> Failure {
    Failure { errno: Some(errno), ..Failure::new(message) }
}

impl Machine {
    /// All that lived in the kernel is gone.
    pub(super) fn reboot(&mut self) {
        let disk = (self.boot + 1, std::mem::take(&mut self.clones), std::mem::take(&mut self.files));
        *self = Self { boot: disk.0, clones: disk.1, files: disk.2, ..Self::default() };
    }

    pub(super) fn perform(&mut self, op: &Op) -> Result<Outcome, Failure> {
        let mut ended = Vec::new();
        let reply = match op {
            Op::JailCreate(jail) => Reply::Jail { jid: self.create_jail(jail)? },
            Op::Stands { made } => self.stands(made)?,
            Op::JailAbsent { jail } if self.jails.contains_key(jail) => {
                return Err(crate::host::not_ours(jail));
            }
            Op::JailCount { jail } => {
                let jail =
                    self.jails.get(jail).ok_or_else(|| error(ENOENT, format!("jail {jail} is not there")))?;
                Reply::Processes { count: jail.processes.len() }
            }
            Op::IfAddresses { interface, jail } => {
                let mut all = self.eifaces.values();
                let found =
                    all.find(|e| e.jail.as_ref() == Some(jail) && e.inside.as_ref() == Some(interface));
                let found =
                    found.ok_or_else(|| error(ENXIO, format!("interface {interface} is not in {jail}")))?;
                Reply::Addresses { addresses: found.addresses.iter().map(IpNet::addr).collect() }
            }
            Op::AliasAdd { interface, addresses } => {
                let fresh =
                    addresses.iter().filter(|a| self.aliases.insert((interface.clone(), **a))).copied();
                Reply::Aliases { added: fresh.collect() }
            }
            Op::JailTerm { jail, .. } => {
                ended = self.ask_all(jail);
                Reply::Done
            }
            Op::JailKill { jail } => {
                ended = self.kill_all(jail);
                if let Some(stuck) = self.jails.get(jail).filter(|j| !j.processes.is_empty()) {
                    return Err(error(
                        EBUSY,
                        format!("processes {:?} of {jail} will not die", stuck.processes),
                    ));
                }
                Reply::Done
            }
            Op::JailRemove { jail } => {
                self.remove_jail(jail);
                Reply::Done
            }
            Op::KillJob { job } => {
                if self.jobs.get(job).is_some_and(|j| j.ended.is_none()) {
                    self.end_job(job, Status::Signaled(9));
                    ended.push((job.clone(), Status::Signaled(9)));
                }
                Reply::Done
            }
            op => {
                self.change(op)?;
                Reply::Done
            }
        };
        Ok(Outcome { reply, ended })
    }

    fn change(&mut self, op: &Op) -> Done {
        match op {
            Op::CloneCreate { name, .. } if !self.clones.insert(name.clone()) => {
                Err(error(EEXIST, format!("clone {name} is there already")))
            }
            Op::CloneDestroy { name, .. } => self.destroy_clone(name),
            Op::Mount(mount) => self.mount(mount),
            Op::Unmount(mount) => {
                self.unmount(mount);
                Ok(())
            }
            Op::WriteFile { root, path, contents } => {
                let path = root.join(path.strip_prefix("/").unwrap_or(path));
                self.files.insert(path, contents.clone());
                Ok(())
            }
            Op::DatasetJail { jail, dataset } => {
                self.jail(jail)?;
                self.datasets.insert((dataset.clone(), jail.clone()));
                Ok(())
            }
            Op::DatasetUnjail { jail, dataset } => {
                self.datasets.remove(&(dataset.clone(), jail.clone()));
                Ok(())
            }
            Op::AliasRemove { interface, addresses } => {
                for address in addresses {
                    self.aliases.remove(&(interface.clone(), *address));
                }
                Ok(())
            }
            Op::Listen { name, .. } if !self.sockets.insert(name.clone()) => {
                Err(error(EADDRINUSE, format!("{name} is listened on already")))
            }
            Op::Unlisten { name } => {
                self.sockets.remove(name);
                Ok(())
            }
            Op::Probe { address, .. } => self.probe(*address),
            Op::BridgeCreate { .. }
            | Op::BridgeDestroy { .. }
            | Op::UplinkAttach { .. }
            | Op::UplinkDetach { .. }
            | Op::EifaceCreate { .. }
            | Op::EifaceDestroy { .. }
            | Op::LinkConnect { .. }
            | Op::LinkDisconnect { .. }
            | Op::LinkOpen { .. }
            | Op::BridgeSeed { .. } => self.graph(op),
            Op::IfMoveIn { .. } | Op::IfMoveHome { .. } | Op::IfConfigure { .. } => self.interface(op),
            Op::AnchorLoad(_) | Op::AnchorRemove { .. } | Op::TableAdd { .. } | Op::TableRemove { .. } => {
                self.filter(op)
            }
            // Succeed without a trace: nothing in memory drains, has states or foreign mounts.
            _ => Ok(()),
        }
    }

    /// What a host would observe.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let seen = |j: &SimJail| SeenJail { jid: j.jid, path: j.path.clone(), processes: j.processes.len() };
        let bridges = self.bridges.keys().map(|b| (b.clone(), "bridge".to_owned()));
        let eifaces = self.eifaces.keys().map(|e| (e.clone(), "eiface".to_owned()));
        let filters = self.eifaces.iter().filter(|(_, e)| e.guarded).map(|(e, _)| graph::filter_of(e));
        let filters = filters.map(|f| (f, "bpf".to_owned()));
        let linked = |node: &String| self.bridges.values().any(|b| b.links.values().any(|at| at == node));
        let ends =
            |(node, e): (&String, &SimEiface)| if e.guarded { graph::filter_of(node) } else { node.clone() };
        Inventory {
            jails: self.jails.iter().map(|(name, jail)| (name.clone(), seen(jail))).collect(),
            clones: self.clones.clone(),
            mounts: self.mounts.iter().map(|(path, mount)| (path.clone(), mount.fstype.clone())).collect(),
            nodes: bridges.chain(eifaces).chain(filters).collect(),
            loose: self.eifaces.iter().filter(|(node, _)| !linked(node)).map(ends).collect(),
            settings: self.eifaces.iter().map(|(name, e)| (name.clone(), e.settings())).collect(),
            edited: self.anchors.iter().filter(|(_, a)| a.edited).map(|(name, _)| name.clone()).collect(),
            interfaces: self.eifaces.iter().map(|(name, e)| (name.clone(), e.jail.clone())).collect(),
            aliases: self.aliases.clone(),
            anchors: self
                .anchors
                .iter()
                .map(|(name, anchor)| (name.clone(), anchor.tables.clone()))
                .collect(),
            jobs: self.jobs.iter().filter(|(_, j)| j.ended.is_none()).map(|(id, _)| id.clone()).collect(),
            sockets: self.sockets.clone(),
        }
    }

    /// Whether nothing of Warren's is left, processes and files included.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.inventory().is_empty()
            && self.files.is_empty()
            && self.datasets.is_empty()
            && self.uplinks.is_empty()
    }

    /// Jobs the keeper still remembers, ended ones included.
    #[must_use]
    pub fn remembered_jobs(&self) -> usize {
        self.jobs.len()
    }
}
