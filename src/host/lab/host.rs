//! The lab as a [`Host`](crate::host::Host): each operation by the means of Linux.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use warren_netgraph::data::FdData;
use warren_netgraph::transport::fd::FdTransport;

use super::client::{Client, absent, unexpected};
use super::clones::Clones;
use super::failure::Context;
use super::jobs::dns_relays;
use super::netlink::Netlink;
use super::proto::{Answer, Relay, Request};
use super::{below, interfaces, layout, mountinfo, mounts, params, probe};
use crate::config::spec::{Proto, Publish, TemplateSource};
use crate::firewall::{Policy, conntrack, nft, outside};
use crate::host::graph::{self, Graph, Interfaces};
use crate::host::{
    Exit, Failure, Frames, Host, Inventory, Jail, Job, JobState, Mount, Op, Reply, SeenJail, Wanted, Witness,
    closed,
};
use crate::keeper;

/// The address of the lab's host that published ports are reached at from the machine.
const WAN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// What a list of some thousand nodes fits in.
const RECEIVE_BUFFER: u32 = 1 << 20;
/// Where on the machine the lab's DNS is reached, unless said otherwise.
pub const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5300);

/// The lab, seen from its host side. The process has [entered](super::enter()) it.
pub struct Lab {
    pub(super) state_dir: PathBuf,
    pub(super) client: Arc<Client>,
    pub(super) boot: String,
    pub(super) clones: Clones,
    /// The host side's network namespace, where interfaces come home to.
    pub(super) home: OwnedFd,
    /// Where DNS is relayed to from the machine; none: nowhere.
    pub(super) dns: Option<SocketAddr>,
    /// Which listening sockets are relayed for DNS, by name: one per protocol.
    pub(super) dns_names: Mutex<BTreeMap<Proto, String>>,
    pub(super) graph: Graph<FdTransport>,
    pub(super) keeper: keeper::Client,
}

impl Lab {
    /// Opens the lab this process is in.
    ///
    /// # Errors
    /// The process has not entered the lab of this directory.
    pub fn open(state_dir: &Path, dns: Option<SocketAddr>) -> Result<Self, Failure> {
        let what = || format!("open the lab in {}", state_dir.display());
        let state_dir = state_dir.canonicalize().doing(what)?;
        let (client, lab) = Client::connect(&state_dir)?.ok_or_else(|| absent(&state_dir))?;
        // A lab that an older Warren made left them open.
        for dir in [layout::roots(&state_dir), layout::clones(&state_dir)] {
            closed::make(&dir).doing(what)?;
        }
        let client = Arc::new(client);
        let mine = std::fs::metadata("/proc/self/ns/pid").doing(what)?;
        if std::os::unix::fs::MetadataExt::ino(&mine) != lab.pid_namespace {
            return Err(Failure::new(format!("{}: this process is outside of it", what())));
        }
        let dns_names = dns_relays(&client)?;
        let sockets = client.clone();
        let open = move || {
            let [control, _] = sockets.fetch(&Request::Netgraph)?;
            let mut transport = FdTransport::new(control);
            // A reply must fit, and one that does not should be an error and no silence (facts A.3).
            transport.set_receive_buffer(RECEIVE_BUFFER).doing(|| "size a netgraph socket")?;
            transport.set_report_loss(true).doing(|| "configure a netgraph socket")?;
            Ok(transport)
        };
        Ok(Self {
            graph: Graph::new(open),
            keeper: keeper::Client::start_or_connect(&state_dir)?,
            clones: Clones { state_dir: state_dir.clone(), user_namespace: lab.user_namespace },
            home: interfaces::home().doing(what)?,
            state_dir,
            client,
            boot: lab.boot,
            dns,
            dns_names: Mutex::new(dns_names),
        })
    }

    /// The root that a clone of this name has.
    #[must_use]
    pub fn root(&self, name: &str) -> PathBuf {
        layout::root(&self.state_dir, name)
    }

    /// The namespaces of a jail: mnt, pid, net, uts, ipc.
    pub fn attach(&self, jail: &str) -> Result<[OwnedFd; 5], Failure> {
        self.client.fetch(&Request::JailAttach { jail: jail.into() })
    }

    /// A jail's network namespace, or `None` if there is no such jail.
    pub(super) fn network(&self, jail: &str) -> Result<Option<OwnedFd>, Failure> {
        match self.attach(jail) {
            Ok([_, _, net, _, _]) => Ok(Some(net)),
            Err(failure) if failure.errno == Some(libc::ESRCH) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn need_network(&self, jail: &str) -> Result<OwnedFd, Failure> {
        self.network(jail)?
            .ok_or_else(|| Failure::os(format!("jail {jail}"), &io::Error::from_raw_os_error(libc::ESRCH)))
    }

    fn jail_create(&self, jail: &Jail) -> Result<Reply, Failure> {
        params::check(&jail.params)?;
        match self.client.ask(&Request::JailCreate { jail: jail.clone() })? {
            (Answer::Jail { jid }, _) => Ok(Reply::Jail { jid }),
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn write_file(&self, root: &Path, path: &Path, contents: &str) -> Result<(), Failure> {
        let what = || format!("write {} in {}", path.display(), root.display());
        let dir = below::open_root(root).doing(what)?;
        below::write_file(dir.as_fd(), path, contents.as_bytes(), self.clones.is_clone(root)).doing(what)
    }

    fn mount(&self, mount: &Mount) -> Result<(), Failure> {
        mounts::mount(mount, self.clones.is_clone(&mount.root))
    }

    /// Relays from the machine first, since they may find a port taken, and then the rules.
    fn anchor_load(&self, policy: &Policy) -> Result<(), Failure> {
        let mut relays = Vec::new();
        for publish in policy.services.iter().flat_map(|service| &service.publish) {
            // What is bound to one address of the host is reached at that one in the lab as well.
            let target = publish.address.filter(|address| !address.is_unspecified()).unwrap_or(WAN);
            relays.push(Relay {
                proto: publish.proto,
                machine: (Ipv4Addr::LOCALHOST, publish.port).into(),
                target: (target, publish.port).into(),
            });
        }
        self.client.order(&Request::Relays { owner: policy.anchor.clone(), relays })?;
        nft::apply(policy, &outside()?)
    }

    /// Whether the machine's port is free: by opening and closing it.
    fn check_port(&self, publish: &Publish) -> Result<(), Failure> {
        let machine = (Ipv4Addr::LOCALHOST, publish.port).into();
        let relay = Relay { proto: publish.proto, machine, target: (WAN, publish.port).into() };
        let owner = format!("check/{}/{}", publish.proto.as_str(), publish.port);
        let opened = self.client.order(&Request::Relays { owner: owner.clone(), relays: vec![relay] });
        self.client.order(&Request::Relays { owner, relays: Vec::new() })?;
        opened
    }

    fn anchor_remove(&self, anchor: &str) -> Result<(), Failure> {
        self.client.order(&Request::Relays { owner: anchor.into(), relays: Vec::new() })?;
        nft::remove(anchor)
    }

    /// Waits until no connection is left; the pauses grow, as a drain lasts for minutes or for nothing.
    fn drain(&self, addresses: &[IpAddr], wait: Duration) -> Result<(), Failure> {
        let end = Instant::now() + wait;
        let mut pause = Duration::from_millis(20);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || conntrack::established(addresses)? == 0 {
                return Ok(());
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

/// Interfaces by rtnetlink.
struct ByNetlink;

impl Interfaces for ByNetlink {
    fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        let rename = |netlink: &mut Netlink| {
            let index = netlink.index(from)?;
            netlink.rename(index, to)
        };
        interfaces::with(None, rename).doing(|| format!("rename the interface {from} to {to}"))
    }

    fn set_mtu(&self, interface: &str, mtu: u16) -> Result<(), Failure> {
        let set = |netlink: &mut Netlink| {
            let index = netlink.index(interface)?;
            netlink.set_mtu(index, mtu.into())
        };
        interfaces::with(None, set).doing(|| format!("set the MTU of {interface} to {mtu}"))
    }
}

impl Host for Lab {
    fn perform(&self, op: &Op, witness: &dyn Witness) -> Result<Reply, Failure> {
        match op {
            Op::Run(job) => self.run(job, witness)?,
            Op::Spawn(job) => self.spawn(job, witness)?,
            Op::KillJob { job } => self.keeper.kill(job)?,
            Op::CloneCreate { name, source } => self.clones.create(name, source)?,
            Op::CloneDestroy { name, source } => self.clones.destroy(name, source)?,
            Op::Mount(mount) => self.mount(mount)?,
            Op::Unmount(mount) => mounts::unmount(mount)?,
            Op::WriteFile { root, path, contents } => self.write_file(root, path, contents)?,
            Op::JailCreate(jail) => return self.jail_create(jail),
            Op::JailRemove { jail } => self.client.order(&Request::JailRemove { jail: jail.clone() })?,
            Op::JailTerm { jail, wait } => {
                self.client.order(&Request::JailTerm { jail: jail.clone(), wait: *wait })?;
            }
            Op::JailAbsent { jail } => {
                if self.client.jails()?.contains_key(jail) {
                    return Err(super::super::not_ours(jail));
                }
            }
            Op::Stands { made } => return self.stands(made),
            Op::JailCount { jail } => {
                let jails = self.client.jails()?;
                let gone = || Failure {
                    errno: Some(libc::ENOENT),
                    ..Failure::new(format!("jail {jail} is not there"))
                };
                return Ok(Reply::Processes { count: jails.get(jail).ok_or_else(gone)?.processes });
            }
            Op::JailKill { jail } => self.client.order(&Request::JailKill { jail: jail.clone() })?,
            Op::DatasetJail { dataset, .. } => {
                return Err(Failure::new(format!("cannot delegate {dataset}: the lab has no ZFS")));
            }
            // Nothing of the kind can be there: mounts of a jail's own processes end with its mount namespace.
            Op::DatasetUnjail { .. } | Op::UnmountForeign { .. } | Op::UplinkDetach { .. } => {}
            Op::BridgeCreate { bridge } => {
                return self.graph.bridge_create(bridge).map(|id| Reply::Node { node: id.0 });
            }
            Op::BridgeDestroy { bridge } => self.graph.bridge_destroy(bridge)?,
            Op::UplinkAttach { interface, .. } => {
                return Err(Failure::new(format!("cannot bridge {interface}: the lab has no LAN"))
                    .hint("leave `uplink` out in the lab; published ports and `nat` work without"));
            }
            Op::EifaceCreate { node, mac, mtu } => {
                return self
                    .graph
                    .eiface_create(node, *mac, *mtu, &ByNetlink)
                    .map(|id| Reply::Node { node: id.0 });
            }
            Op::EifaceDestroy { node } => self.graph.eiface_destroy(node)?,
            Op::LinkConnect { node, bridge, link, guarded } => {
                self.graph.link_connect(node, bridge, *link, *guarded)?;
            }
            Op::LinkDisconnect { node, bridge, link } => self.graph.link_disconnect(node, bridge, *link)?,
            Op::LinkOpen { node, bridge, link, guard, mac } => {
                self.graph.link_open(node, bridge, *link, guard.as_ref(), *mac)?;
            }
            Op::BridgeSeed { bridge, link, mac } => self.graph.seed(bridge, *link, *mac)?,
            Op::IfMoveIn { interface, jail, inside } => {
                let there = self.need_network(jail)?;
                interfaces::move_in(interface, &there, inside)
                    .doing(|| format!("move {interface} into {jail} as {inside}"))?;
            }
            Op::IfMoveHome { interface, jail, inside } => {
                let there = self.network(jail)?;
                interfaces::move_home(interface, there.as_ref(), inside, self.home.as_fd())
                    .doing(|| format!("bring {interface} home from {jail}"))?;
            }
            Op::IfConfigure { interface, jail, addresses, routes, loopback } => {
                let there = jail.as_deref().map(|jail| self.need_network(jail)).transpose()?;
                interfaces::configure(interface, there.as_ref(), addresses, routes, *loopback).doing(
                    || format!("configure {interface} of {}", jail.as_deref().unwrap_or("the host")),
                )?;
            }
            Op::IfAddresses { interface, jail } => {
                return interfaces::addresses(interface, &self.need_network(jail)?)
                    .doing(|| format!("list the addresses of {interface} in {jail}"))
                    .map(|addresses| Reply::Addresses { addresses });
            }
            Op::AliasAdd { interface, addresses } => {
                return interfaces::add_aliases(interface, addresses)
                    .doing(|| format!("add addresses to {interface}"))
                    .map(|added| Reply::Aliases { added });
            }
            Op::AliasRemove { interface, addresses } => interfaces::remove_aliases(interface, addresses)
                .doing(|| format!("remove addresses from {interface}"))?,
            Op::AnchorLoad(policy) => self.anchor_load(policy)?,
            Op::AnchorRemove { anchor } => self.anchor_remove(anchor)?,
            Op::TableAdd { anchor, tables, addresses } => nft::table_add(anchor, tables, addresses)?,
            Op::TableRemove { anchor, tables, addresses } => nft::table_remove(anchor, tables, addresses)?,
            Op::Drain { addresses, wait, .. } => self.drain(addresses, *wait)?,
            Op::KillStates { addresses, .. } => {
                conntrack::kill(addresses)?;
            }
            Op::Listen { name, address, proto } => return self.listen(name, *address, *proto),
            Op::Unlisten { name } => self.unlisten(name)?,
            Op::Probe { question, address, timeout } => probe::ask(question, *address, *timeout)?,
        }
        Ok(Reply::Done)
    }

    fn check(&self, wanted: &Wanted) -> Result<(), Failure> {
        match wanted {
            Wanted::Template(TemplateSource::Zfs { snapshot }) => {
                Err(Failure::new(format!("the template {snapshot}: the lab has no ZFS"))
                    .hint("use a directory, or `host = true`"))
            }
            Wanted::Template(source) => crate::host::check_directory(source),
            Wanted::Port(publish) => self.check_port(publish),
        }
    }

    fn observe(&self, _: &[String]) -> Result<Inventory, Failure> {
        let what = || "look at what exists in the lab";
        let jails = self.client.jails()?;
        let (nodes, loose) = self.graph.nodes()?;
        let (anchors, edited) = nft::inventory()?;
        let mut seen = Inventory {
            clones: self.clones.names().doing(what)?,
            mounts: mounts::inventory(mountinfo::read().doing(what)?, &layout::roots(&self.state_dir)),
            nodes,
            loose,
            anchors,
            edited,
            sockets: self.keeper.sockets()?.into_iter().collect(),
            ..Inventory::default()
        };
        let (interfaces, aliases) = interfaces::of_host().doing(what)?;
        seen.aliases = aliases;
        for (name, settings) in interfaces {
            seen.interfaces.insert(name.clone(), None);
            seen.settings.insert(name, settings);
        }
        for job in self.keeper.jobs()? {
            if job.alive || matches!(job.state, JobState::Running(_)) {
                seen.jobs.insert(job.job);
            }
        }
        for (name, jail) in jails {
            // A jail that has gone meanwhile has no interfaces.
            if jail.vnet
                && let Some(there) = self.network(&name)?
            {
                for (interface, settings) in interfaces::of_jail(&there).doing(what)? {
                    seen.interfaces.insert(interface.clone(), Some(name.clone()));
                    seen.settings.insert(interface, settings);
                }
            }
            seen.jails.insert(name, SeenJail { jid: jail.jid, path: jail.path, processes: jail.processes });
        }
        Ok(seen)
    }

    fn boot_id(&self) -> String {
        self.boot.clone()
    }

    fn job(&self, id: &str) -> Result<JobState, Failure> {
        self.keeper.state(id)
    }

    fn ended_jobs(&self) -> Result<Vec<String>, Failure> {
        let ended = |job: &crate::keeper::protocol::JobInfo| matches!(job.state, JobState::Ended(_));
        Ok(self.keeper.jobs()?.into_iter().filter(ended).map(|job| job.job).collect())
    }

    fn forget_job(&self, id: &str) -> Result<(), Failure> {
        self.keeper.forget(id)
    }

    fn exits(&self) -> Receiver<Exit> {
        self.keeper.exits_of_the_next()
    }

    fn frames(&self, bridge: &str, link: u32) -> Result<Box<dyn Frames>, Failure> {
        let [control, data] = self.client.fetch(&Request::Netgraph)?;
        graph::frames(FdTransport::new(control), FdData::new(data), bridge, link)
    }

    fn socket(&self, name: &str) -> Result<Option<OwnedFd>, Failure> {
        self.keeper.get_socket(name).map(Some)
    }

    fn keep_socket(&self, name: &str, socket: OwnedFd) -> Result<(), Failure> {
        self.keeper.put_socket(name, socket)
    }

    fn exec(&self, job: &Job, stdio: [OwnedFd; 3], terminal: bool) -> Result<(), Failure> {
        self.keeper.exec(job, self.place(job)?, stdio, terminal).map(|_| ())
    }
}
