//! FreeBSD as a [`Host`](crate::host::Host): each operation by its means.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use warren_netgraph::transport::freebsd::{self as sockets, KernelTransport};

use super::aliases::Aliases;
use super::clones::Clones;
use super::interfaces::{self, ByIoctl};
use super::made::{Made, is_done_with, replaced};
use super::notes::Notes;
use super::pf_table::Change;
use super::watch::Watch;
use super::{PATIENCE, below, boot, jails, layout, mounts, pf, processes, stands, uplink, zfs};
use crate::config::spec::TemplateSource;
use crate::host::failure::{Context, hint_if};
use crate::host::graph::{self, Graph};
use crate::host::listen::bind;
use crate::host::{
    Exit, Failure, Frames, Host, Inventory, Jail, Job, JobState, Lost, Op, Reply, SeenJail, Wanted, Witness,
    closed, probe,
};
use crate::ids::Id;
use crate::keeper::{self, Place};

/// Node types that are used. Loaded before the first node is made: on 13.2 two threads that make the first node of a type at
/// once race for its module (facts A.2).
const NODE_TYPES: [&str; 5] = ["bridge", "bpf", "eiface", "ether", "hub"];
/// How long a removed jail is waited for where nothing depends on its end but tidiness.
const MOMENT: Duration = Duration::from_millis(500);

/// This machine.
pub struct FreeBsd {
    state_dir: PathBuf,
    boot: String,
    clones: Clones,
    graph: Graph<KernelTransport>,
    keeper: keeper::Client,
    watch: Watch,
    made: Made,
    uplinks: Notes,
    aliases: Aliases,
}

impl FreeBsd {
    /// Works on this machine and keeps its own things below `state_dir`. Starts a keeper if none runs: this program is executed
    /// again, with `keeper --state-dir DIR`.
    ///
    /// # Errors
    /// The directory cannot be used, netgraph cannot be loaded, or the keeper does not start.
    pub fn open(state_dir: &Path) -> Result<Self, Failure> {
        let what = || format!("use the state directory {}", state_dir.display());
        closed::make(&layout::roots(state_dir)).doing(what)?;
        let state_dir = state_dir.canonicalize().doing(what)?;
        sockets::load_types(&["socket"])
            .and_then(|()| sockets::load_types(&NODE_TYPES))
            .doing(|| "load netgraph")
            .map_err(|failure| {
                failure.hint("Warren needs root, and a kernel with the netgraph modules of GENERIC")
            })?;
        let open = || {
            let (control, _, _) = sockets::open().doing(|| "open a netgraph socket")?;
            Ok(control)
        };
        let boot = boot::id()?;
        Ok(Self {
            made: Made(Notes::open(layout::jails(&state_dir), &boot)?),
            uplinks: Notes::open(layout::uplinks(&state_dir), &boot)?,
            aliases: Aliases::new(Notes::open(layout::aliases(&state_dir), &boot)?),
            boot,
            clones: Clones { state_dir: state_dir.clone() },
            graph: Graph::new(open),
            keeper: keeper::Client::start_or_connect(&state_dir)?,
            watch: Watch::start(),
            state_dir,
        })
    }

    /// The root that a clone of this name has.
    #[must_use]
    pub fn root(&self, name: &str) -> PathBuf {
        layout::roots(&self.state_dir).join(name)
    }

    fn jail_create(&self, jail: &Jail) -> Result<Reply, Failure> {
        let jid = self.made.create(jail)?;
        self.watch.expect(jid, &jail.name);
        Ok(Reply::Jail { jid })
    }

    fn jail_remove(&self, jail: &str) -> Result<(), Failure> {
        self.watch.release(jail);
        self.made.remove(jail, MOMENT)
    }

    fn write_file(&self, root: &Path, path: &Path, contents: &str) -> Result<(), Failure> {
        let what = || format!("write {} in {}", path.display(), root.display());
        let dir = below::open_root(root)
            .doing(what)
            .map_err(|failure| hint_if(failure, libc::EMLINK, below::ROOT_IS_A_LINK))?;
        below::write_file(dir.as_fd(), path, contents.as_bytes(), self.clones.is_clone(root)).doing(what)
    }

    /// Shuts an eiface down; never while the jail that has its interface is dying, which panics the kernel (PR 292993, seen on 13.2).
    fn eiface_destroy(&self, node: &str) -> Result<(), Failure> {
        let what = || format!("shut the interface {node} down");
        // `w<id>`, with a letter more for further links; a gateway is in no jail.
        if let Some(jail) = node.get(..9).and_then(Id::of_node).map(|id| id.jail()) {
            if !jails::gone(&jail, PATIENCE)? {
                return Err(Failure::new(format!("{}: its jail {jail} is still dying", what())).hint(
                    "shutting it down now would panic the kernel; `jls -d` shows when the jail is gone",
                ));
            }
            if let Some(interface) = self.graph.eiface_interface(node)?
                && !interfaces::is_home(node, &interface).doing(what)?
            {
                return Err(Failure::new(format!("{}: {interface} is not home but in a jail", what())));
            }
        }
        self.graph.eiface_destroy(node)
    }
}

/// Jobs.
impl FreeBsd {
    /// Where a job runs.
    fn place(job: &Job) -> Result<Place, Failure> {
        match &job.jail {
            None => Ok(Place::Host { cwd: None }),
            Some(jail) => Ok(Place::Jail(jails::need(jail)?.jid)),
        }
    }

    fn run(&self, job: &Job, witness: &dyn Witness) -> Result<(), Failure> {
        let status = self.keeper.run(job, Self::place(job)?, witness)?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("{}: {status}", job.describe()))) }
    }
}

impl FreeBsd {
    /// The living jails that are ours; those they made themselves are not among them.
    fn our_jails(&self, also: &[String]) -> Result<Vec<jails::Seen>, Failure> {
        let bears_a_name =
            |jail: &jails::Seen| Id::of_jail(&jail.name).is_some() || also.contains(&jail.name);
        let mut ours = Vec::new();
        for jail in jails::all()? {
            if !jail.dying && bears_a_name(&jail) && !self.made.is_other(&jail.name, jail.jid)? {
                ours.push(jail);
            }
        }
        Ok(ours)
    }
}

impl Host for FreeBsd {
    fn perform(&self, op: &Op, witness: &dyn Witness) -> Result<Reply, Failure> {
        if self.made.is_replaced(op)? {
            return if is_done_with(op) { Ok(Reply::Done) } else { Err(replaced(op)) };
        }
        match op {
            Op::Run(job) => self.run(job, witness)?,
            Op::Spawn(job) => drop(self.keeper.spawn(job, Self::place(job)?, witness)?),
            Op::KillJob { job } => self.keeper.kill(job)?,
            Op::CloneCreate { name, source } => self.clones.create(name, source)?,
            Op::CloneDestroy { name, source } => self.clones.destroy(name, source)?,
            Op::Mount(mount) => mounts::mount(mount, self.clones.is_clone(&mount.root))?,
            Op::Unmount(mount) => mounts::unmount(mount)?,
            Op::WriteFile { root, path, contents } => self.write_file(root, path, contents)?,
            Op::JailCreate(jail) => return self.jail_create(jail),
            Op::JailRemove { jail } => self.jail_remove(jail)?,
            Op::JailTerm { jail, wait } => processes::terminate(jail, *wait)?,
            Op::JailKill { jail } => processes::kill_every(jail)?,
            Op::JailAbsent { jail } => {
                if jails::alive(jail)?.is_some() {
                    return Err(super::super::not_ours(jail));
                }
            }
            Op::Stands { made } => return stands::stands(made),
            Op::JailCount { jail } => {
                return processes::count(jails::need(jail)?.jid).map(|count| Reply::Processes { count });
            }
            Op::DatasetJail { jail, dataset } => {
                if let Err(failure) = zfs::jail(jails::need(jail)?.jid, dataset) {
                    return Ok(Reply::Remark { text: failure.to_string() });
                }
            }
            Op::DatasetUnjail { jail, dataset } => {
                if let Some(jail) = jails::alive(jail)?
                    && let Err(failure) = zfs::unjail(jail.jid, dataset)
                {
                    return Ok(Reply::Remark { text: failure.to_string() });
                }
            }
            Op::UnmountForeign { jail, root, .. } => self.made.unmount_foreign(jail, root)?,
            Op::BridgeCreate { bridge } => {
                return self.graph.bridge_create(bridge).map(|id| Reply::Node { node: id.0 });
            }
            Op::BridgeDestroy { bridge } => self.graph.bridge_destroy(bridge)?,
            Op::UplinkAttach { bridge, interface } => {
                uplink::attach(&self.graph, &self.uplinks, bridge, interface)?;
            }
            Op::UplinkDetach { bridge, interface } => {
                uplink::detach(&self.graph, &self.uplinks, bridge, interface)?;
            }
            Op::EifaceCreate { node, mac, mtu } => {
                return self
                    .graph
                    .eiface_create(node, *mac, *mtu, &ByIoctl)
                    .map(|id| Reply::Node { node: id.0 });
            }
            Op::EifaceDestroy { node } => self.eiface_destroy(node)?,
            Op::LinkConnect { node, bridge, link, guarded } => {
                self.graph.link_connect(node, bridge, *link, *guarded)?;
            }
            Op::LinkDisconnect { node, bridge, link } => self.graph.link_disconnect(node, bridge, *link)?,
            Op::LinkOpen { node, bridge, link, guard, mac } => {
                self.graph.link_open(node, bridge, *link, guard.as_ref(), *mac)?;
            }
            Op::BridgeSeed { bridge, link, mac } => self.graph.seed(bridge, *link, *mac)?,
            Op::IfMoveIn { interface, jail, inside } => interfaces::move_in(interface, jail, inside)?,
            Op::IfMoveHome { interface, jail, inside } => {
                interfaces::move_home(interface, jail, inside, || self.graph.eiface_interface(interface))?;
            }
            Op::IfConfigure { interface, jail, addresses, routes, loopback } => {
                interfaces::configure(interface, jail.as_deref(), addresses, routes, *loopback)?;
            }
            Op::IfAddresses { interface, jail } => {
                return interfaces::addresses(interface, jail)
                    .map(|addresses| Reply::Addresses { addresses });
            }
            Op::AliasAdd { interface, addresses } => {
                return self.aliases.add(interface, addresses).map(|added| Reply::Aliases { added });
            }
            Op::AliasRemove { interface, addresses } => self.aliases.remove(interface, addresses)?,
            Op::AnchorLoad(policy) => pf::load(policy)?,
            Op::AnchorRemove { anchor } => pf::remove(anchor)?,
            Op::TableAdd { anchor, tables, addresses } => pf::table(Change::Add, anchor, tables, addresses)?,
            Op::TableRemove { anchor, tables, addresses } => {
                pf::table(Change::Remove, anchor, tables, addresses)?
            }
            Op::Drain { addresses, wait, .. } => pf::drain(addresses, *wait)?,
            Op::KillStates { addresses, .. } => return pf::kill_states(addresses),
            Op::Listen { name, address, proto } => {
                let socket = bind(*address, *proto).map_err(|error| {
                    Failure::os(format!("listen on {} {address}", proto.as_str()), &error)
                })?;
                self.keeper.put_socket(name, socket)?;
            }
            Op::Unlisten { name } => self.keeper.drop_socket(name)?,
            Op::Probe { question, address, timeout } => probe::ask(question, *address, *timeout)?,
        }
        Ok(Reply::Done)
    }

    fn own(&self, made: &Op, reply: &Reply) -> Result<(), Failure> {
        match (made, reply) {
            (Op::JailCreate(jail), Reply::Jail { jid }) => self.made.take_over(&jail.name, *jid),
            (Op::AliasAdd { interface, .. }, Reply::Aliases { added }) => self.aliases.take(interface, added),
            _ => Ok(()),
        }
    }

    fn observe(&self, also: &[String]) -> Result<Inventory, Failure> {
        let what = || "look at what exists";
        let (nodes, loose) = self.graph.nodes()?;
        let (anchors, edited) = pf::inventory()?;
        let mut seen = Inventory {
            clones: self.clones.names().doing(what)?,
            mounts: self.clones.mounts().doing(what)?,
            nodes,
            loose,
            anchors,
            edited,
            sockets: self.keeper.sockets()?.into_iter().collect(),
            ..Inventory::default()
        };
        let (interfaces, aliases) = interfaces::of_host()?;
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
        let counts = processes::counts()?;
        for jail in self.our_jails(also)? {
            if jail.vnet {
                match interfaces::of_jail(&jail) {
                    Ok(interfaces) => {
                        for (name, settings) in interfaces {
                            seen.interfaces.insert(name.clone(), Some(jail.name.clone()));
                            seen.settings.insert(name, settings);
                        }
                    }
                    // It has gone meanwhile.
                    Err(error) if jails::is_gone(&error) => continue,
                    Err(error) => {
                        return Err(error).doing(|| format!("list the interfaces of {}", jail.name));
                    }
                }
            }
            // Those that another daemon made, or jail(8).
            self.watch.expect(jail.jid, &jail.name);
            let processes = counts.get(&jail.jid).copied().unwrap_or_default();
            seen.jails.insert(jail.name, SeenJail { jid: jail.jid, path: jail.path, processes });
        }
        Ok(seen)
    }

    fn check(&self, wanted: &Wanted) -> Result<(), Failure> {
        match wanted {
            Wanted::Template(TemplateSource::Zfs { snapshot }) => zfs::check(snapshot),
            Wanted::Template(source) => crate::host::check_directory(source),
            Wanted::Port(publish) => {
                // A program that listens there would be hidden behind the rule.
                let any = std::net::Ipv4Addr::UNSPECIFIED.into();
                let address = SocketAddr::new(publish.address.unwrap_or(any), publish.port);
                bind(address, publish.proto).map(drop).map_err(|error| {
                    Failure::os(
                        format!("port {}/{} of the host", publish.port, publish.proto.as_str()),
                        &error,
                    )
                    .hint("another program has the port: stop it, or publish another one")
                })
            }
        }
    }

    fn boot_id(&self) -> String {
        self.boot.clone()
    }

    fn job(&self, id: &str) -> Result<JobState, Failure> {
        self.keeper.state(id)
    }

    fn ended_jobs(&self) -> Result<Vec<String>, Failure> {
        let jobs = self.keeper.jobs()?.into_iter();
        Ok(jobs.filter(|job| matches!(job.state, JobState::Ended(_))).map(|job| job.job).collect())
    }

    fn forget_job(&self, id: &str) -> Result<(), Failure> {
        self.keeper.forget(id)
    }

    fn exits(&self) -> Receiver<Exit> {
        self.keeper.exits_of_the_next()
    }

    fn lost(&self) -> Option<Receiver<Lost>> {
        self.watch.lost()
    }

    fn frames(&self, bridge: &str, link: u32) -> Result<Box<dyn Frames>, Failure> {
        let (control, data, _) = sockets::open().doing(|| "open a netgraph socket")?;
        graph::frames(control, data, bridge, link)
    }

    fn socket(&self, name: &str) -> Result<Option<OwnedFd>, Failure> {
        self.keeper.get_socket(name).map(Some)
    }

    fn keep_socket(&self, name: &str, socket: OwnedFd) -> Result<(), Failure> {
        self.keeper.put_socket(name, socket)
    }

    fn exec(&self, job: &Job, stdio: [OwnedFd; 3], terminal: bool) -> Result<(), Failure> {
        self.keeper.exec(job, Self::place(job)?, stdio, terminal).map(|_| ())
    }
}
