//! The plan of an instance: every step of its start and stop, in the order of DESIGN.md, as data.
//!
//! Pure: the same spec and assignment give the same plan, which is what `warren plan` prints, the store keeps and the
//! engine carries out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::step::{Act, Book, OnFailure, Phase, Plan, Step, Undo, When};
use crate::config::spec::{
    AddressMode, CommandLine, InstanceSpec, MountSpec, OnStopFailure, ParamValue, TemplateSource,
};
use crate::host::{Guard, Jail, Job, Mac, Mount, Op};
use crate::ids::Id;

/// Where the word `@warren` in a command leads: a read-only mount of the running executable.
pub const SELF_DIR: &str = "/.warren";

/// What an instance was given before its first effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its id.
    pub id: Id,
    /// The fabric it belongs to.
    pub fabric: String,
    /// The fabric's zone.
    pub domain: String,
    /// The service it is a replica of.
    pub service: String,
    /// Its links, as the spec's.
    pub links: Vec<AssignedLink>,
    /// The directory that holds the roots of clones.
    pub roots: PathBuf,
    /// The directory that holds the running executable.
    pub program: PathBuf,
}

/// One link's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedLink {
    /// The network's id.
    pub network: Id,
    /// The network's anchor.
    pub anchor: String,
    /// The number of the bridge's hook.
    pub number: u32,
    /// The instance's hardware address there.
    pub mac: Mac,
    /// Its addresses with the network's prefix length.
    pub addresses: Vec<IpNet>,
    /// The host's addresses there: default route and DNS.
    pub gateways: Vec<IpAddr>,
    /// The network's MTU in bytes.
    pub mtu: u16,
    /// How the addresses get onto the interface.
    pub dhcp: bool,
    /// Whether the IPv4 address is the LAN's to give: it is learned once a DHCP client inside has it.
    #[serde(default)]
    pub lan: bool,
    /// Whether the instance has a stack of its own there.
    pub vnet: bool,
}

impl AssignedLink {
    /// The addresses without prefix lengths.
    #[must_use]
    pub fn plain_addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(IpNet::addr).collect()
    }
}

impl Assignment {
    /// The instance's root on the host.
    #[must_use]
    pub fn root(&self, spec: &InstanceSpec) -> PathBuf {
        match &spec.template.source {
            TemplateSource::Shared { path } => path.clone(),
            _ => self.roots.join(self.id.as_str()),
        }
    }

    /// The jail's name in the kernel: the one place that decides it. A jail that was one of jail(8) keeps its own, every other
    /// is named after the instance's id.
    #[must_use]
    pub fn jail(&self, spec: &InstanceSpec) -> String {
        spec.classic.as_ref().map_or_else(|| self.id.jail(), |classic| classic.jail.clone())
    }

    /// What people call it, and its host name unless another is said: `<service>-<id>`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.service, self.id)
    }

    /// All its addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.links.iter().flat_map(AssignedLink::plain_addresses).collect()
    }
}

/// The table of a service's ready members. The service's name is a DNS label; pf's limit for a table is 31 bytes, so a longer
/// one is told apart by a checksum.
#[must_use]
pub fn service_table(service: &str) -> String {
    if service.len() <= 26 {
        return format!("svc_{}", service.replace('-', "_"));
    }
    // FNV-1a: stable for ever, unlike the standard library's hasher.
    let sum = service.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    format!("svc_{}_{sum:08x}", service[..17].replace('-', "_"))
}

/// The interface's name inside the instance: `net0` for the first link.
pub(super) fn inside_name(link: usize) -> String {
    format!("net{link}")
}

/// The interface's and node's name outside: `w<id>`, with a letter more for further links.
fn outside_name(id: Id, link: usize) -> String {
    match link {
        0 => id.node(),
        n => format!("{}{}", id.node(), char::from(b'a' + (n as u8 - 1) % 26)),
    }
}

/// Opens a link of an instance for the addresses it has by now.
pub(super) fn open_link(id: Id, number: usize, link: &AssignedLink) -> Op {
    Op::LinkOpen {
        node: outside_name(id, number),
        bridge: link.network.bridge(),
        link: link.number,
        guard: Some(Guard { mac: link.mac, addresses: link.plain_addresses() }),
        mac: link.mac,
    }
}

/// The plan of a service's replica.
#[must_use]
pub fn instance(spec: &InstanceSpec, given: &Assignment) -> Plan {
    build(spec, given, true)
}

/// The plan of an instance that is no service's: it has a name and addresses, and no traffic is meant for it.
#[must_use]
pub fn one_off(spec: &InstanceSpec, given: &Assignment) -> Plan {
    build(spec, given, false)
}

fn build(spec: &InstanceSpec, given: &Assignment, replica: bool) -> Plan {
    let (root, jail) = (given.root(spec), given.jail(spec));
    let mut b = Builder { spec, given, replica, root, jail, plan: Plan::default() };
    b.up();
    b.join();
    b.down();
    b.plan
}

/// A command in an instance's jail, as each of them runs there: with its environment, as its user. Its id is the instance's and `key`.
#[must_use]
pub fn command_inside(spec: &InstanceSpec, given: &Assignment, key: &str, command: CommandLine) -> Job {
    Job {
        id: format!("{}.{key}", given.id),
        jail: Some(given.jail(spec)),
        command,
        env: spec.env.clone(),
        clean_env: spec.clean_env,
        user: spec.jail_user.clone(),
        system_jail_user: spec.system_jail_user,
        fib: spec.fib,
        timeout: None,
        log: given.id.to_string(),
        consolelog: None,
        console_below: None,
    }
}

struct Builder<'a> {
    spec: &'a InstanceSpec,
    given: &'a Assignment,
    replica: bool,
    root: PathBuf,
    jail: String,
    plan: Plan,
}

/// Hooks whose failure ends a start, with their phases, in order.
type HookRow<'a> = (&'static str, &'a [CommandLine], Phase);

impl Builder<'_> {
    fn step(&mut self, phase: Phase, key: impl Into<String>, op: Op) {
        self.plan.up.push(Step { key: key.into(), phase, act: Act::Host(op) });
    }

    fn hooks(&mut self, (name, commands, phase): HookRow<'_>, inside: bool) {
        for (n, command) in commands.iter().enumerate() {
            let job = self.job(&format!("hook.{name}.{n}"), command, inside);
            self.step(phase, format!("hook.{name}.{n}"), Op::Run(job));
        }
    }

    fn job(&self, key: &str, command: &CommandLine, inside: bool) -> Job {
        let (spec, given) = (self.spec, self.given);
        let command = resolve_self(command);
        if inside {
            return Job {
                timeout: spec.exec_timeout,
                consolelog: spec.consolelog.clone(),
                console_below: spec.consolelog.is_some().then(|| self.root.clone()),
                ..command_inside(spec, given, key, command)
            };
        }
        let addresses: Vec<String> = given.addresses().iter().map(ToString::to_string).collect();
        let env = [
            ("JNAME".into(), self.jail.clone()),
            ("JPATH".into(), self.root.display().to_string()),
            ("WARREN_FABRIC".into(), given.fabric.clone()),
            ("WARREN_SERVICE".into(), given.service.clone()),
            ("WARREN_INSTANCE".into(), given.id.to_string()),
            ("WARREN_ADDRESSES".into(), addresses.join(" ")),
            ("WARREN_PHASE".into(), key.split('.').nth(1).unwrap_or(key).to_owned()),
        ];
        Job {
            id: format!("{}.{key}", given.id),
            jail: None,
            command,
            env: env.into(),
            clean_env: spec.clean_env,
            user: spec.system_user.clone(),
            system_jail_user: spec.system_jail_user,
            fib: None,
            timeout: spec.exec_timeout,
            log: given.id.to_string(),
            consolelog: None,
            console_below: None,
        }
    }

    /// The mounts, in jail(8)'s order, with the executable's own last.
    fn mounts(&self) -> Vec<Mount> {
        let mut specs: Vec<&MountSpec> = self.spec.mounts.iter().collect();
        specs.sort_by_key(|m| m.kind);
        let mut mounts: Vec<Mount> = specs
            .into_iter()
            .map(|m| Mount {
                root: self.root.clone(),
                target: m.target.clone(),
                fstype: m.fstype.clone(),
                source: m.source.clone(),
                options: m.options.clone(),
                read_only: m.read_only,
                stacked: false,
            })
            .collect();
        for n in 0..mounts.len() {
            let place = plain(&mounts[n].target);
            mounts[n].stacked =
                place.as_os_str() == "/" || mounts[..n].iter().any(|below| plain(&below.target) == place);
        }
        if uses_self(self.spec) {
            mounts.push(Mount {
                root: self.root.clone(),
                target: SELF_DIR.into(),
                fstype: "nullfs".into(),
                source: self.given.program.display().to_string(),
                options: Vec::new(),
                read_only: true,
                stacked: false,
            });
        }
        mounts
    }

    fn cloned(&self) -> bool {
        !matches!(self.spec.template.source, TemplateSource::Shared { .. })
    }

    fn vnet(&self) -> bool {
        self.given.links.iter().any(|l| l.vnet) || self.spec.classic.as_ref().is_some_and(|c| c.vnet)
    }

    /// What the kernel is told as it is.
    fn params(&self) -> BTreeMap<String, ParamValue> {
        let mut params = self.spec.params.clone();
        let jid = self.spec.classic.as_ref().and_then(|classic| classic.jid);
        params.extend(jid.map(|jid| ("jid".to_owned(), ParamValue::Int(jid.into()))));
        params
    }

    fn up(&mut self) {
        let (spec, given) = (self.spec, self.given);
        if spec.classic.is_some() {
            // Its name is not ours alone: a jail that has it already is somebody else's, and nothing is done to it.
            self.step(Phase::Claim, "claim", Op::JailAbsent { jail: self.jail.clone() });
        }
        self.hooks(("prepare", &spec.hooks.prepare, Phase::Prepare), false);
        if self.cloned() {
            let op = Op::CloneCreate { name: given.id.to_string(), source: spec.template.source.clone() };
            self.step(Phase::Clone, "clone", op);
        }
        for (n, link) in given.links.iter().enumerate().filter(|(_, l)| !l.vnet) {
            let addresses = link.plain_addresses().into_iter().map(IpNet::from).collect();
            let op = Op::AliasAdd { interface: link.network.gateway(), addresses };
            self.step(Phase::Alias, format!("alias.{n}"), op);
        }
        // What a jail of jail(8) has of its own follows its links: `alias.N`, `move.N`.
        for (n, alias) in spec.classic.iter().flat_map(|c| &c.aliases).enumerate() {
            let op = Op::AliasAdd { interface: alias.interface.clone(), addresses: vec![alias.address] };
            self.step(Phase::Alias, format!("alias.{}", given.links.len() + n), op);
        }
        for (n, mount) in self.mounts().into_iter().enumerate() {
            self.step(Phase::Mount, format!("mount.{n}"), Op::Mount(mount));
        }
        self.hooks(("prestart", &spec.hooks.prestart, Phase::Prestart), false);
        let jail = Jail {
            name: self.jail.clone(),
            path: self.root.clone(),
            hostname: spec.hostname.clone().unwrap_or_else(|| match &spec.classic {
                Some(classic) => classic.jail.clone(),
                None => given.name(),
            }),
            vnet: self.vnet(),
            addresses: given
                .links
                .iter()
                .filter(|l| !l.vnet)
                .flat_map(AssignedLink::plain_addresses)
                .chain(spec.classic.iter().flat_map(|c| c.addresses.clone()))
                .collect(),
            params: self.params(),
        };
        self.step(Phase::Create, "jail", Op::JailCreate(jail));
        self.hooks(("created", &spec.hooks.created, Phase::Created), false);
        for (n, dataset) in spec.datasets.iter().cloned().enumerate() {
            let op = Op::DatasetJail { jail: self.jail.clone(), dataset };
            self.step(Phase::Dataset, format!("dataset.{n}"), op);
        }
        self.links_up();
        // On a LAN without a gateway of Warren's it is the DHCP client who writes resolv.conf.
        if self.cloned() && given.links.first().is_some_and(|link| !link.gateways.is_empty()) {
            self.files();
        }
        self.plan.up.push(Step { key: "name".into(), phase: Phase::Name, act: Act::Book(Book::NamePublish) });
        self.hooks(("start", &spec.hooks.start, Phase::Start), true);
        if let Some(command) = &spec.command {
            let job = Job { timeout: None, ..self.job("main", command, true) };
            self.step(Phase::Command, "main", Op::Spawn(job));
        }
        self.hooks(("poststart", &spec.hooks.poststart, Phase::Poststart), false);
    }

    fn links_up(&mut self) {
        let given = self.given;
        let vnet_links = || given.links.iter().enumerate().filter(|(_, l)| l.vnet);
        for (n, link) in vnet_links() {
            let node = outside_name(given.id, n);
            let create = Op::EifaceCreate { node: node.clone(), mac: link.mac, mtu: link.mtu };
            self.step(Phase::Link, format!("eiface.{n}"), create);
            let bridge = link.network.bridge();
            let connect = Op::LinkConnect { node, bridge, link: link.number, guarded: true };
            self.step(Phase::Link, format!("link.{n}"), connect);
        }
        for (n, _) in vnet_links() {
            let interface = outside_name(given.id, n);
            let op = Op::IfMoveIn { interface, jail: self.jail.clone(), inside: inside_name(n) };
            self.step(Phase::Move, format!("move.{n}"), op);
        }
        let spec = self.spec;
        for (n, interface) in spec.classic.iter().flat_map(|c| &c.interfaces).enumerate() {
            let (interface, inside) = (interface.clone(), interface.clone());
            let op = Op::IfMoveIn { interface, jail: self.jail.clone(), inside };
            self.step(Phase::Move, format!("move.{}", given.links.len() + n), op);
        }
        for (n, link) in vnet_links() {
            // Of a DHCP link IPv4 is the client's to set. There is no DHCPv6 and no router is announced, so IPv6 is set as elsewhere.
            let (mut addresses, mut gateways) = (link.addresses.clone(), link.gateways.clone());
            if link.dhcp {
                addresses.retain(|net| net.addr().is_ipv6());
                gateways.retain(IpAddr::is_ipv6);
            }
            let op = Op::IfConfigure {
                interface: inside_name(n),
                jail: Some(self.jail.clone()),
                addresses,
                // Only the first link leads out.
                routes: if n == 0 { gateways } else { Vec::new() },
                loopback: n == 0,
            };
            self.step(Phase::Configure, format!("configure.{n}"), op);
        }
        for (n, link) in vnet_links() {
            self.step(Phase::Open, format!("open.{n}"), open_link(given.id, n, link));
        }
    }

    fn files(&mut self) {
        let given = self.given;
        let mut resolv = format!("# Written by Warren.\nsearch {}\noptions ndots:1\n", given.domain);
        for gateway in given.links[0].gateways.iter().take(3) {
            let _ = writeln!(resolv, "nameserver {gateway}");
        }
        let mut hosts =
            format!("# Written by Warren.\n127.0.0.1 localhost localhost.{0}\n::1 localhost\n", given.domain);
        for address in given.addresses() {
            let _ = writeln!(hosts, "{address} {0}.{1}.{2} {1}-{0}", given.id, given.service, given.domain);
        }
        let mut files = vec![
            ("resolv".to_owned(), "/etc/resolv.conf".to_owned(), resolv),
            ("hosts".to_owned(), "/etc/hosts".to_owned(), hosts),
        ];
        for (n, link) in given.links.iter().enumerate().filter(|(_, link)| link.dhcp && !link.lan) {
            if let Some(lease) = lease_file(&inside_name(n), link) {
                files.push((
                    format!("lease.{n}"),
                    format!("/var/db/dhclient.leases.{}", inside_name(n)),
                    lease,
                ));
            }
        }
        for (key, path, contents) in files {
            let op = Op::WriteFile { root: self.root.clone(), path: path.into(), contents };
            self.step(Phase::Files, format!("file.{key}"), op);
        }
    }

    fn join(&mut self) {
        // The anchors have a table for each declared service, and for nothing else.
        for (n, link) in self.given.links.iter().enumerate().filter(|_| self.replica) {
            self.plan.join.push(Step {
                key: format!("publish.{n}"),
                phase: Phase::Join,
                act: Act::Host(Op::TableAdd {
                    anchor: link.anchor.clone(),
                    tables: vec![service_table(&self.given.service)],
                    addresses: link.plain_addresses(),
                }),
            });
        }
        self.plan.join.push(Step { key: "join".into(), phase: Phase::Join, act: Act::Book(Book::Join) });
    }

    fn undo(&mut self, key: impl Into<String>, when: When, needs: &[String], op: Op) {
        let (key, act, needs) = (key.into(), Act::Host(op), needs.to_vec());
        self.plan.down.push(Undo { key, act, when, needs, failure: OnFailure::Keep });
    }

    /// The undo of every step up whose key satisfies `which`, in reverse, under `un.<key>`; returns their keys.
    fn reverse(&mut self, which: impl Fn(&str) -> bool, needs: &[String]) -> Vec<String> {
        let undos: Vec<(String, Op)> = (self.plan.up.iter().chain(&self.plan.join).rev())
            .filter(|s| which(&s.key))
            .filter_map(|s| match &s.act {
                Act::Host(op) => Some((s.key.clone(), op.undo()?)),
                Act::Book(_) => None,
            })
            .collect();
        let mut keys = Vec::new();
        for (key, op) in undos {
            let un = format!("un.{key}");
            self.undo(un.clone(), When::Began(key), needs, op);
            keys.push(un);
        }
        keys
    }

    fn book(&mut self, key: &str, undoes: &str, needs: &[String], book: Book) {
        self.plan.down.push(Undo {
            key: key.into(),
            act: Act::Book(book),
            when: When::Began(undoes.into()),
            needs: needs.to_vec(),
            failure: OnFailure::Keep,
        });
    }

    fn undo_hooks(&mut self, row: HookRow<'_>, inside: bool, needs: &[String], failure: OnFailure) {
        let (name, commands, phase) = row;
        for (n, command) in commands.iter().enumerate() {
            let key = format!("hook.{name}.{n}");
            let act = Act::Host(Op::Run(self.job(&key, command, inside)));
            self.plan.down.push(Undo {
                key,
                act,
                when: When::Reached(phase),
                needs: needs.to_vec(),
                failure,
            });
        }
    }

    fn down(&mut self) {
        let (spec, given, jail) = (self.spec, self.given, self.jail.clone());
        let created = || When::Began("jail".into());
        let soft = match spec.on_stop_failure {
            OnStopFailure::Continue => OnFailure::Report,
            OnStopFailure::Abort => OnFailure::Abort,
        };
        self.undo_hooks(("prestop", &spec.hooks.prestop, Phase::Poststart), false, &[], soft);
        self.book("leave", "join", &[], Book::Leave);
        let mut leave = vec!["leave".to_owned()];
        leave.extend(self.reverse(|k| k.starts_with("publish."), &[]));
        self.plan.leave = leave;
        if spec.drain > Duration::ZERO {
            for (n, link) in given.links.iter().enumerate() {
                let (anchor, addresses) = (link.anchor.clone(), link.plain_addresses());
                let op = Op::Drain { anchor, addresses, wait: spec.drain };
                self.undo(format!("drain.{n}"), When::Began("join".into()), &[], op);
            }
        }
        self.undo_hooks(("stop", &spec.hooks.stop, Phase::Start), true, &[], soft);
        if spec.stop_timeout > Duration::ZERO {
            self.undo("term", created(), &[], Op::JailTerm { jail: jail.clone(), wait: spec.stop_timeout });
        }
        self.undo("kill", created(), &[], Op::JailKill { jail: jail.clone() });
        let dead = ["kill".to_owned()];
        self.undo_hooks(("quiesced", &spec.hooks.quiesced, Phase::Create), false, &dead, OnFailure::Keep);
        self.reverse(|k| k.starts_with("dataset."), &dead);
        let keep: Vec<PathBuf> = self.mounts().into_iter().map(|m| m.target).collect();
        let root = self.root.clone();
        self.undo("unmount-foreign", created(), &dead, Op::UnmountForeign { jail: jail.clone(), root, keep });
        self.book("unname", "name", &[], Book::NameWithdraw);
        // The order that does not panic (facts A.5): no process, no traffic, interface home, eiface shut, then the jail.
        let off = self.reverse(|k| k.starts_with("link."), &dead);
        // With the link closed: a last FIN of a dead process that finds no state has pf translate it, and so make it one anew.
        for (n, link) in given.links.iter().enumerate() {
            let op = Op::KillStates { anchor: link.anchor.clone(), addresses: link.plain_addresses() };
            self.undo(format!("states.{n}"), When::Began("jail".into()), &dead, op);
        }
        let home = self.reverse(|k| k.starts_with("move."), &[&dead[..], &off[..]].concat());
        let shut = self.reverse(|k| k.starts_with("eiface."), &[&off[..], &home[..]].concat());
        let before_remove = [&dead[..], &home[..], &["unmount-foreign".to_owned()][..]].concat();
        self.undo("remove", created(), &before_remove, Op::JailRemove { jail });
        let removed = ["remove".to_owned()];
        let aliases_later = [&removed[..], &shut[..]].concat();
        self.undo_hooks(
            ("poststop", &spec.hooks.poststop, Phase::Prestart),
            false,
            &removed,
            OnFailure::Keep,
        );
        let unmounted = self.unmounts(&removed);
        let unaliased = self.reverse(|k| k.starts_with("alias."), &removed);
        self.plan.down.push(Undo {
            key: "release".into(),
            act: Act::Book(Book::Release),
            when: When::Reached(Phase::Prepare),
            needs: [&aliases_later[..], &unaliased[..]].concat(),
            failure: OnFailure::Keep,
        });
        let gone = self.reverse(|k| k == "clone", &unmounted);
        let all_gone = [&removed[..], &unmounted[..], &gone[..]].concat();
        self.undo_hooks(("release", &spec.hooks.release, Phase::Prepare), false, &all_gone, OnFailure::Keep);
    }

    /// Unmounts in reverse; one that lies below another, or covers it, comes first and is needed by it.
    fn unmounts(&mut self, removed: &[String]) -> Vec<String> {
        let mounts = self.mounts();
        let mut keys = Vec::new();
        for (n, mount) in mounts.iter().enumerate().rev() {
            let over = |later: &Path| later.starts_with(&mount.target) || mount.target.starts_with(later);
            let mut needs = removed.to_vec();
            needs.extend(
                (n + 1..mounts.len())
                    .filter(|later| over(&mounts[*later].target))
                    .map(|later| format!("un.mount.{later}")),
            );
            let key = format!("un.mount.{n}");
            self.undo(key.clone(), When::Began(format!("mount.{n}")), &needs, Op::Unmount(mount.clone()));
            keys.push(key);
        }
        keys
    }
}

/// A mount point without its `.`, as two spellings of one place compare.
fn plain(target: &Path) -> PathBuf {
    target.components().filter(|part| *part != std::path::Component::CurDir).collect()
}

/// What FreeBSD's dhclient(8) would have noted of its reserved address, so that it asks for that one at once (RFC 2131, 3.2): after an
/// offer it would wait two seconds for another owner to speak up, on 13.2. Whether the address is still its own is the server's word,
/// so the dates may lie in the far future.
fn lease_file(interface: &str, link: &AssignedLink) -> Option<String> {
    let net =
        link.addresses.iter().find_map(|net| if let IpNet::V4(net) = net { Some(net) } else { None })?;
    let (address, mask) = (net.addr(), net.netmask());
    Some(format!(
        "lease {{\n  interface \"{interface}\";\n  fixed-address {address};\n  option subnet-mask {mask};\n\
         \x20 renew 4 2037/01/01 00:00:00;\n  rebind 4 2037/01/01 00:00:00;\n  expire 4 2037/01/01 00:00:00;\n}}\n"
    ))
}

/// Whether a command of the instance is the running executable itself.
fn uses_self(spec: &InstanceSpec) -> bool {
    let first = |c: &CommandLine| match c {
        CommandLine::Argv(argv) => argv.first().is_some_and(|a| a == "@warren"),
        CommandLine::Shell(line) => line.split_whitespace().next() == Some("@warren"),
    };
    spec.command.iter().chain(&spec.hooks.start).chain(&spec.hooks.stop).any(first)
}

/// Puts the path of the mounted executable in the place of `@warren`.
fn resolve_self(command: &CommandLine) -> CommandLine {
    let path = format!("{SELF_DIR}/warren");
    match command {
        CommandLine::Argv(argv) => CommandLine::Argv(
            argv.iter()
                .enumerate()
                .map(|(n, a)| if n == 0 && a == "@warren" { path.clone() } else { a.clone() })
                .collect(),
        ),
        CommandLine::Shell(line) => match line.trim_start().strip_prefix("@warren") {
            Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => {
                CommandLine::Shell(format!("{path}{rest}"))
            }
            _ => command.clone(),
        },
    }
}

/// Whether a link's address comes by DHCP.
#[must_use]
pub fn is_dhcp(mode: &AddressMode) -> bool {
    matches!(mode, AddressMode::Dhcp)
}
