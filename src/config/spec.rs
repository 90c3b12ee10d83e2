//! The resolved spec: what a configuration file means once every default is filled in and every rule checked.
//!
//! This is the value the rest of Warren works with and the store keeps. Nothing in it refers back to the file, so an
//! edited or deleted file changes nothing for what runs (DESIGN.md, point 3). It is plain data: no method here decides
//! anything.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Everything one file declares: a fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FabricSpec {
    /// The fabric's name, a DNS label. Its zone is `<name>.internal` unless `domain` says otherwise.
    pub name: String,
    /// The zone, without a final dot: `shop.internal`.
    pub domain: String,
    /// Resolvers for names outside the zone; empty means other names are refused.
    pub forward: Vec<IpAddr>,
    /// The networks by name.
    pub networks: BTreeMap<String, NetworkSpec>,
    /// What an instance of each template is without a service: what `warren run TEMPLATE` makes. No links, no command.
    #[serde(default)]
    pub templates: BTreeMap<String, InstanceSpec>,
    /// The services by name.
    pub services: BTreeMap<String, ServiceSpec>,
    /// The file of jail(8) it is of: two of one name are not one fabric. None for a warren.toml, which says its name itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<PathBuf>,
}

/// A network: one bridge (or several joined), one pair of pools, one pf anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its name, a DNS label of at most 15 bytes.
    pub name: String,
    /// The IPv4 prefix, if the network has IPv4.
    pub ipv4: Option<Ipv4Net>,
    /// The IPv6 prefix, if the network has IPv6.
    pub ipv6: Option<Ipv6Net>,
    /// The host's address on the network, where instances find their default route and DNS: by default the first.
    pub gateway4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// The DHCP server's own address: by default the second. None where the LAN's server gives the addresses.
    pub dhcp4: Option<Ipv4Addr>,
    /// Whether the DHCP server beyond the uplink gives the IPv4 addresses, and Warren's none.
    #[serde(default)]
    pub lan_dhcp: bool,
    /// Ranges that are never given out, both ends included.
    pub exclude: Vec<(IpAddr, IpAddr)>,
    /// Whether instances reach the outside through the host's address.
    pub nat: bool,
    /// Bytes in a packet, 576 to 9000.
    pub mtu: u16,
    /// Whether packets to and from other networks of Warren are dropped.
    pub isolated: bool,
    /// The networks that may talk with this one although it or they are isolated. Always on both sides, sorted.
    pub peers: Vec<String>,
    /// A real interface bridged into the network.
    pub uplink: Option<String>,
    /// How long a released address is not given out again.
    pub quarantine: Duration,
}

/// A service: so many replicas of one template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name, a DNS label.
    pub name: String,
    /// How many instances are wanted.
    pub replicas: u32,
    /// Services that must be ready before an instance of this one starts.
    pub depends_on: Vec<String>,
    /// Ports reachable from outside.
    pub publish: Vec<Publish>,
    /// Named ports, for SRV records and DNS-SD.
    pub ports: Vec<ServicePort>,
    /// When an instance that ended is replaced.
    pub restart: Restart,
    /// How an instance is known to be ready.
    pub health: Option<Health>,
    /// What every instance is made from.
    pub instance: InstanceSpec,
}

/// A port the service listens on, by the name DNS knows it under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The service name of RFC 6335, without the underscore: `http`.
    pub name: String,
    /// The protocol.
    pub proto: Proto,
    /// The port inside the instance, not 0.
    pub port: u16,
}

/// A port of the host that leads to the service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Publish {
    /// The address of the host it is bound to; none means every address of the outside.
    pub address: Option<IpAddr>,
    /// The port on the host, not 0.
    pub port: u16,
    /// The port in the instance, not 0.
    pub target: u16,
    /// The protocol.
    pub proto: Proto,
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Proto {
    /// As pf, nft and DNS write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// When and how soon an instance that ended is replaced by a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// On which endings.
    pub policy: RestartPolicy,
    /// The wait before the first replacement; it doubles with each failure in a row.
    pub backoff: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// How many failures in a row end the trying; none means never.
    pub retries: Option<u32>,
}

/// Which endings lead to a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// None.
    No,
    /// A failed start, an exit status other than 0, a signal, a failed health check for good.
    OnFailure,
    /// Every ending nobody asked for.
    Always,
}

/// A health check. Without one an instance is ready as soon as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// From the end of one probe to the next.
    pub interval: Duration,
    /// After which a probe has failed.
    pub timeout: Duration,
    /// So many failures in a row make a ready instance unready.
    pub failures: u32,
    /// How long an instance may take to become ready before its start counts as failed.
    pub grace: Duration,
}

/// One way of asking an instance whether it is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp {
        /// The port.
        port: u16,
    },
    /// A GET is answered with a status from 200 to 399.
    Http {
        /// The port.
        port: u16,
        /// The path, starting with `/`.
        path: String,
    },
    /// A command in the instance exits with 0.
    Command {
        /// Program and arguments; run by `/bin/sh -c` if it is one string (see [`CommandLine`]).
        command: CommandLine,
    },
}

/// What one instance is made from. This is stored with the instance and used until it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// The template it is a clone of.
    pub template: TemplateSpec,
    /// Its links, in order; the first gives the default route and the own name's addresses. Empty: no vnet, no address.
    pub links: Vec<LinkSpec>,
    /// The main process. None: what exec.start started.
    pub command: Option<CommandLine>,
    /// Environment of every command inside the instance.
    pub env: BTreeMap<String, String>,
    /// Mounts of the user's, in order.
    pub mounts: Vec<MountSpec>,
    /// `zfs.dataset`: datasets delegated to the jail, in order.
    #[serde(default)]
    pub datasets: Vec<String>,
    /// The hooks, each a list run in order.
    pub hooks: Hooks,
    /// Parameters for the kernel, by their jail(8) names, in order: `allow.raw_sockets`, `children.max`.
    pub params: BTreeMap<String, ParamValue>,
    /// `host.hostname`; none: `<service>-<id>`.
    pub hostname: Option<String>,
    /// `exec.timeout`: how long one hook may take. None: for ever.
    pub exec_timeout: Option<Duration>,
    /// `stop.timeout`: from SIGTERM to SIGKILL; zero sends no SIGTERM.
    pub stop_timeout: Duration,
    /// How long established connections may go on after the instance left its service.
    pub drain: Duration,
    /// `exec.jail_user`: who runs commands inside.
    pub jail_user: Option<String>,
    /// `exec.system_jail_user`: the user is looked up on the host.
    pub system_jail_user: bool,
    /// `exec.system_user`: who runs the hooks on the host.
    pub system_user: Option<String>,
    /// `exec.clean`: commands get an environment of their own, not the daemon's.
    pub clean_env: bool,
    /// `exec.fib`.
    pub fib: Option<u32>,
    /// `exec.consolelog`: a second place for what commands inside print, beside Warren's log.
    pub consolelog: Option<PathBuf>,
    /// `persist`: whether the instance lives on without processes.
    pub persist: bool,
    /// What a failing exec.prestop or exec.stop does.
    pub on_stop_failure: OnStopFailure,
    /// What it has of a jail of jail(8), if it is one that keeps its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classic: Option<Classic>,
}

/// A jail that keeps what jail(8) would have given it: its name, its addresses, its interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classic {
    /// The jail's name in the kernel, where others are `warren-<id>`.
    pub jail: String,
    /// Its number, if it has a fixed one.
    pub jid: Option<i32>,
    /// Whether it has a network stack of its own.
    pub vnet: bool,
    /// Its addresses in the host's stack, if it has none.
    pub addresses: Vec<IpAddr>,
    /// Those of them that are added to interfaces of the host.
    pub aliases: Vec<Alias>,
    /// `vnet.interface`: interfaces of the host that are moved into it, and home again.
    pub interfaces: Vec<String>,
}

/// An address that an interface of the host has while a jail needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The interface.
    pub interface: String,
    /// The address with its prefix length.
    pub address: IpNet,
}

/// What a failing hook means for a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStopFailure {
    /// It is reported and the teardown goes on: no zombie jails.
    Continue,
    /// As jail(8): the stop ends there and the instance goes on running.
    Abort,
}

/// Where an instance's root comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSpec {
    /// Its name.
    pub name: String,
    /// The back end and its source.
    pub source: TemplateSource,
}

/// The kinds of template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateSource {
    /// A ZFS dataset with a snapshot: one clone per instance.
    Zfs {
        /// `pool/path@snapshot`.
        snapshot: String,
    },
    /// A directory, read-only below a writable layer (nullfs and unionfs; overlay in the lab).
    Directory {
        /// An absolute path on the host.
        path: PathBuf,
    },
    /// A directory used as it is by every instance: nothing is cloned, nothing destroyed.
    Shared {
        /// An absolute path on the host.
        path: PathBuf,
    },
    /// The root of the host itself, read-only below a writable layer: what the demo uses, so that it needs no image.
    Host,
}

/// One link of an instance to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSpec {
    /// The network's name.
    pub network: String,
    /// How the address is chosen and set.
    pub address: AddressMode,
    /// Whether the instance has a network stack of its own. Without, the address is an alias on the gateway interface.
    pub vnet: bool,
}

/// How a link gets its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressMode {
    /// From the pool, set by Warren before the first process runs.
    Auto,
    /// From the pool, set by a DHCP client inside; the instance is ready only after its ACK.
    Dhcp,
    /// These, one per replica in order.
    Fixed {
        /// IPv4 and IPv6 mixed: the n-th of each family belongs to the n-th replica. There are at least as many of a
        /// family as replicas, or none; then that family's address comes from the pool.
        addresses: Vec<IpAddr>,
    },
}

/// A command: one string for a shell, or an argument vector run as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CommandLine {
    /// Run as jail(8) does: by `/bin/sh -c` if it holds a character the shell knows, else split at white space.
    Shell(String),
    /// Run without a shell. Not empty.
    Argv(Vec<String>),
}

/// A mount inside an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// `nullfs`, `tmpfs`, `devfs`, `fdescfs`, `procfs`, `unionfs`, ….
    pub fstype: String,
    /// What is mounted: a path of the host for nullfs, else a word without meaning.
    pub source: String,
    /// Where, as the instance sees it: absolute.
    pub target: PathBuf,
    /// Options as in fstab(5), without `ro`.
    pub options: Vec<String>,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Which step it belongs to: decides the order among `mount`, `mount.fstab`, devfs, fdescfs, procfs.
    pub kind: MountKind,
}

/// The order of jail(8) among mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// `mount`.
    Mount,
    /// A line of `mount.fstab`.
    Fstab,
    /// `mount.devfs`.
    Devfs,
    /// `mount.fdescfs`.
    Fdescfs,
    /// `mount.procfs`.
    Procfs,
}

/// The hooks, in jail(8)'s names. In-jail ones are `start` and `stop`; the rest run on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Before anything; undone by `release`.
    pub prepare: Vec<CommandLine>,
    /// After the mounts, before the jail; undone by `poststop`.
    pub prestart: Vec<CommandLine>,
    /// The jail is there, nothing runs in it.
    pub created: Vec<CommandLine>,
    /// In the jail; undone by `stop`.
    pub start: Vec<CommandLine>,
    /// After the main process was started; undone by `prestop`.
    pub poststart: Vec<CommandLine>,
    /// The first step of a stop.
    pub prestop: Vec<CommandLine>,
    /// In the jail.
    pub stop: Vec<CommandLine>,
    /// Every process is dead and the jail still there: Warren's own.
    pub quiesced: Vec<CommandLine>,
    /// The jail is gone, its mounts are not.
    pub poststop: Vec<CommandLine>,
    /// The last step.
    pub release: Vec<CommandLine>,
}

impl Hooks {
    /// All of them under their names, in the order in which they run.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &[CommandLine]); 10] {
        [
            ("exec.prepare", &self.prepare),
            ("exec.prestart", &self.prestart),
            ("exec.created", &self.created),
            ("exec.start", &self.start),
            ("exec.poststart", &self.poststart),
            ("exec.prestop", &self.prestop),
            ("exec.stop", &self.stop),
            ("exec.quiesced", &self.quiesced),
            ("exec.poststop", &self.poststop),
            ("exec.release", &self.release),
        ]
    }
}

/// The value of a kernel parameter, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// A boolean: present or negated.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A string.
    Text(String),
    /// Several, joined by commas for the kernel.
    List(Vec<String>),
}
