//! What a simulated machine holds, and the kernel's rules for changing it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::super::{Failure, Inventory, Job, JobState, Mount, Op, Process, Reply, SeenJail, Status};
use crate::firewall::Policy;
use crate::host::Mac;

// The numbers of FreeBSD's errno(2).
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
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
    /// Datasets delegated, with their jail.
    pub datasets: BTreeMap<String, String>,
    /// Sockets left with the keeper.
    pub sockets: BTreeSet<String>,
    /// Jobs the keeper knows.
    jobs: BTreeMap<String, SimJob>,
    last_jid: i32,
    last_pid: i32,
}

/// A jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimJail {
    /// Its number.
    pub jid: i32,
    /// Its root.
    pub path: PathBuf,
    /// Whether it has a stack of its own.
    pub vnet: bool,
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
    /// Whether its filter lets anything through.
    pub open: bool,
}

/// An anchor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimAnchor {
    /// What it was loaded from.
    pub policy: Option<Policy>,
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
pub(super) struct Outcome {
    pub reply: Reply,
    pub ended: Vec<(String, Status)>,
}

type Done = Result<(), Failure>;

fn error(errno: i32, message: impl Into<String>) -> Failure {
    Failure { message: message.into(), errno: Some(errno), hint: None }
}

/// The mount point of a mount.
fn point(mount: &Mount) -> PathBuf {
    mount.root.join(mount.target.strip_prefix("/").unwrap_or(&mount.target))
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
            Op::JailCreate(jail) => Reply::Jail { jid: self.create_jail(&jail.name, &jail.path, jail.vnet)? },
            Op::JailAbsent { jail } if self.jails.contains_key(jail) => {
                return Err(super::super::not_ours(jail));
            }
            Op::JailCount { jail } => {
                let jail =
                    self.jails.get(jail).ok_or_else(|| error(ENOENT, format!("jail {jail} is not there")))?;
                Reply::Processes { count: jail.processes.len() }
            }
            Op::AliasAdd { interface, addresses } => {
                let fresh =
                    addresses.iter().filter(|a| self.aliases.insert((interface.clone(), **a))).copied();
                Reply::Aliases { added: fresh.collect() }
            }
            Op::JailTerm { jail, .. } => {
                ended = self.kill_all(jail);
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
                ended = self.remove_jail(jail);
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
                self.datasets.insert(dataset.clone(), jail.clone());
                Ok(())
            }
            Op::DatasetUnjail { dataset, .. } => {
                self.datasets.remove(dataset);
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

    fn graph(&mut self, op: &Op) -> Done {
        match op {
            Op::BridgeCreate { bridge } => match self.bridges.contains_key(bridge) {
                true => Err(error(EEXIST, format!("node {bridge} is there already"))),
                false => {
                    self.bridges.insert(bridge.clone(), SimBridge::default());
                    Ok(())
                }
            },
            Op::BridgeDestroy { bridge } => {
                self.bridges.remove(bridge);
                Ok(())
            }
            Op::UplinkAttach { bridge, interface } => {
                self.bridge(bridge)?;
                self.uplinks.insert(interface.clone(), bridge.clone());
                Ok(())
            }
            Op::UplinkDetach { interface, .. } => {
                self.uplinks.remove(interface);
                Ok(())
            }
            Op::EifaceCreate { node, mac, .. } => {
                if self.eifaces.contains_key(node) {
                    return Err(error(EADDRINUSE, format!("node {node} is there already")));
                }
                let eiface =
                    SimEiface { mac: *mac, jail: None, inside: None, addresses: Vec::new(), open: false };
                self.eifaces.insert(node.clone(), eiface);
                Ok(())
            }
            Op::EifaceDestroy { node } => {
                let inside = self.eifaces.get(node).and_then(|e| e.jail.clone());
                assert!(
                    inside.is_none(),
                    "kernel panic: eiface {node} shut down inside jail {inside:?} (PR 292993)"
                );
                for bridge in self.bridges.values_mut() {
                    bridge.links.retain(|_, n| n != node);
                }
                self.eifaces.remove(node);
                Ok(())
            }
            Op::LinkConnect { node, bridge, link, .. } => {
                if !self.eifaces.contains_key(node) {
                    return Err(error(ENOENT, format!("node {node} is not there")));
                }
                let bridge = self.bridge(bridge)?;
                if bridge.links.contains_key(link) {
                    return Err(error(EEXIST, format!("hook link{link} is taken")));
                }
                bridge.links.insert(*link, node.clone());
                Ok(())
            }
            Op::LinkDisconnect { node, bridge, link } => {
                if let Some(bridge) = self.bridges.get_mut(bridge)
                    && bridge.links.get(link) == Some(node)
                {
                    bridge.links.remove(link);
                    bridge.table.retain(|_, l| l != link);
                }
                if let Some(eiface) = self.eifaces.get_mut(node) {
                    eiface.open = false;
                }
                Ok(())
            }
            Op::LinkOpen { node, bridge, link, mac, .. } => {
                let bridge = self.bridge(bridge)?;
                if bridge.links.get(link) != Some(node) {
                    return Err(error(ENOTCONN, format!("{node} is not at link{link}")));
                }
                bridge.table.insert(*mac, *link);
                self.eifaces.entry(node.clone()).and_modify(|e| e.open = true);
                Ok(())
            }
            Op::BridgeSeed { bridge, link, mac } => {
                self.bridge(bridge)?.table.insert(*mac, *link);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn bridge(&mut self, name: &str) -> Result<&mut SimBridge, Failure> {
        self.bridges.get_mut(name).ok_or_else(|| error(ENOENT, format!("node {name} is not there")))
    }

    fn jail(&self, name: &str) -> Result<&SimJail, Failure> {
        self.jails.get(name).ok_or_else(|| error(ENOENT, format!("jail {name} is not there")))
    }

    fn interface(&mut self, op: &Op) -> Done {
        match op {
            Op::IfMoveIn { interface, jail, inside } => {
                if !self.jail(jail)?.vnet {
                    return Err(error(EINVAL, format!("jail {jail} has no stack of its own")));
                }
                let taken = self
                    .eifaces
                    .values()
                    .any(|e| e.jail.as_ref() == Some(jail) && e.inside.as_ref() == Some(inside));
                let eiface = self.eifaces.get_mut(interface);
                let eiface =
                    eiface.ok_or_else(|| error(ENXIO, format!("interface {interface} is not there")))?;
                if taken {
                    return Err(error(EEXIST, format!("{inside} is taken in {jail}")));
                }
                (eiface.jail, eiface.inside) = (Some(jail.clone()), Some(inside.clone()));
                Ok(())
            }
            Op::IfMoveHome { interface, .. } => {
                if let Some(eiface) = self.eifaces.get_mut(interface) {
                    (eiface.jail, eiface.inside) = (None, None);
                    eiface.addresses.clear();
                }
                Ok(())
            }
            Op::IfConfigure { interface, jail, addresses, .. } => {
                let found = self.eifaces.iter_mut().find(|(name, e)| {
                    e.jail == *jail
                        && (e.inside.as_ref() == Some(interface) || jail.is_none() && *name == interface)
                });
                let (_, eiface) =
                    found.ok_or_else(|| error(ENXIO, format!("interface {interface} is not there")))?;
                eiface.addresses.clone_from(addresses);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn filter(&mut self, op: &Op) -> Done {
        match op {
            Op::AnchorLoad(policy) => {
                let anchor = self.anchors.entry(policy.anchor.clone()).or_default();
                for service in &policy.services {
                    anchor.tables.entry(service.table.clone()).or_default();
                }
                anchor.policy = Some(policy.clone());
                Ok(())
            }
            Op::AnchorRemove { anchor } => {
                self.anchors.remove(anchor);
                Ok(())
            }
            Op::TableAdd { anchor, tables, addresses } => {
                let loaded = self.anchors.get_mut(anchor);
                let loaded = loaded.ok_or_else(|| error(ENOENT, format!("anchor {anchor} is not loaded")))?;
                for table in tables {
                    loaded.tables.entry(table.clone()).or_default().extend(addresses);
                }
                Ok(())
            }
            Op::TableRemove { anchor, tables, addresses } => {
                for table in tables {
                    if let Some(members) = self.anchors.get_mut(anchor).and_then(|a| a.tables.get_mut(table))
                    {
                        members.retain(|a| !addresses.contains(a));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn create_jail(&mut self, name: &str, path: &Path, vnet: bool) -> Result<i32, Failure> {
        if self.jails.contains_key(name) {
            return Err(error(EEXIST, format!("jail {name} is there already")));
        }
        self.last_jid += 1;
        let jail = SimJail {
            jid: self.last_jid,
            path: path.to_owned(),
            vnet,
            processes: BTreeSet::new(),
            immortal: false,
        };
        self.jails.insert(name.to_owned(), jail);
        Ok(self.last_jid)
    }

    fn remove_jail(&mut self, name: &str) -> Vec<(String, Status)> {
        let Some(jail) = self.jails.get(name) else { return Vec::new() };
        assert!(jail.processes.is_empty(), "kernel trap: jail {name} removed with processes that run");
        let inside = self.eifaces.iter().find(|(_, e)| e.jail.as_deref() == Some(name));
        assert!(inside.is_none(), "kernel panic: jail {name} removed with {inside:?} inside (PR 238326)");
        self.jails.remove(name);
        self.datasets.retain(|_, jail| jail != name);
        Vec::new()
    }

    fn kill_all(&mut self, name: &str) -> Vec<(String, Status)> {
        let Some(jail) = self.jails.get_mut(name).filter(|j| !j.immortal) else { return Vec::new() };
        jail.processes.clear();
        let mut ended = Vec::new();
        for (id, job) in &mut self.jobs {
            if job.jail.as_deref() == Some(name) && job.ended.is_none() {
                job.ended = Some(Status::Signaled(15));
                ended.push((id.clone(), Status::Signaled(15)));
            }
        }
        ended
    }

    fn destroy_clone(&mut self, name: &str) -> Done {
        let below = |path: &Path| path.iter().any(|part| part == name);
        if let Some(busy) = self.mounts.keys().find(|p| below(p)) {
            return Err(error(EBUSY, format!("clone {name} holds the mount {}", busy.display())));
        }
        self.clones.remove(name);
        self.files.retain(|path, _| !below(path));
        Ok(())
    }

    fn mount(&mut self, mount: &Mount) -> Done {
        if mount.target.iter().any(|part| part == "..") {
            return Err(error(EPERM, "the target leaves the root"));
        }
        // Mounts on a taken mount point stack in the kernel; Warren never means to.
        if self.mounts.contains_key(&point(mount)) {
            return Err(error(EBUSY, format!("{} is a mount point already", point(mount).display())));
        }
        self.mounts.insert(point(mount), mount.clone());
        Ok(())
    }

    fn unmount(&mut self, mount: &Mount) {
        if self.mounts.get(&point(mount)) == Some(mount) {
            self.mounts.remove(&point(mount));
        }
    }

    fn probe(&self, address: IpAddr) -> Done {
        let owner = self.eifaces.values().find(|e| e.addresses.iter().any(|a| a.addr() == address));
        let jail =
            owner.filter(|e| e.open).and_then(|e| e.jail.as_ref()).and_then(|name| self.jails.get(name));
        match jail {
            Some(jail) if !jail.processes.is_empty() => Ok(()),
            _ => Err(error(61, format!("{address}: connection refused"))),
        }
    }

    pub(super) fn start_job(&mut self, job: &Job) -> Result<Process, Failure> {
        if self.jobs.contains_key(&job.id) {
            return Err(error(EEXIST, format!("a job {} is known already", job.id)));
        }
        self.last_pid += 1;
        let pid = self.last_pid;
        if let Some(name) = &job.jail {
            let jail =
                self.jails.get_mut(name).ok_or_else(|| error(ENOENT, format!("jail {name} is not there")))?;
            jail.processes.insert(pid);
        }
        let process = super::process(pid, self.boot);
        self.jobs.insert(job.id.clone(), SimJob { process, jail: job.jail.clone(), ended: None });
        Ok(process)
    }

    pub(super) fn leave_process(&mut self, job: &Job) {
        self.last_pid += 1;
        if let Some(jail) = job.jail.as_ref().and_then(|name| self.jails.get_mut(name)) {
            jail.processes.insert(self.last_pid);
        }
    }

    pub(super) fn end_job(&mut self, id: &str, status: Status) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.ended = Some(status);
        let pid = job.process.pid;
        if let Some(jail) = job.jail.as_ref().and_then(|name| self.jails.get_mut(name)) {
            jail.processes.remove(&pid);
        }
    }

    pub(super) fn job(&self, id: &str) -> JobState {
        match self.jobs.get(id) {
            None => JobState::Unknown,
            Some(SimJob { ended: Some(status), .. }) => JobState::Ended(*status),
            Some(job) => JobState::Running(job.process),
        }
    }

    pub(super) fn forget_job(&mut self, id: &str) {
        if self.jobs.get(id).is_some_and(|j| j.ended.is_some()) {
            self.jobs.remove(id);
        }
    }

    pub(super) fn ended_jobs(&self) -> Vec<String> {
        self.jobs.iter().filter(|(_, job)| job.ended.is_some()).map(|(id, _)| id.clone()).collect()
    }

    /// What a host would observe.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let seen = |j: &SimJail| SeenJail { jid: j.jid, path: j.path.clone(), processes: j.processes.len() };
        let bridges = self.bridges.keys().map(|b| (b.clone(), "bridge".to_owned()));
        let eifaces = self.eifaces.keys().map(|e| (e.clone(), "eiface".to_owned()));
        Inventory {
            jails: self.jails.iter().map(|(name, jail)| (name.clone(), seen(jail))).collect(),
            clones: self.clones.clone(),
            mounts: self.mounts.iter().map(|(path, mount)| (path.clone(), mount.fstype.clone())).collect(),
            nodes: bridges.chain(eifaces).collect(),
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
