//! The lab as a [`Host`](crate::host::Host): each operation by the means of Linux.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::client::{Client, unexpected};
use super::clones::Clones;
use super::failure::Context;
use super::proto::{Answer, Relay, Request};
use super::{below, interfaces, layout, mountinfo, mounts, params};
use crate::config::spec::Proto;
use crate::firewall::{Policy, conntrack, nft, outside};
use crate::host::{Failure, Inventory, Jail, Mount, Op, Reply, SeenJail};

/// The address of the lab's host that published ports are reached at from the machine.
const WAN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Where on the machine the lab's DNS is reached, unless said otherwise.
pub const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5300);

/// The lab, seen from its host side. The process has [entered](super::enter()) it.
pub struct Lab {
    state_dir: PathBuf,
    client: Client,
    boot: String,
    clones: Clones,
    /// The host side's network namespace, where interfaces come home to.
    home: OwnedFd,
    /// Where DNS is relayed to from the machine; none: nowhere.
    dns: Option<SocketAddr>,
    /// Which listening sockets are relayed for DNS, by name: one per protocol.
    dns_names: Mutex<BTreeMap<Proto, String>>,
    /// Addresses that were added to interfaces of the host by this process.
    aliases: Mutex<std::collections::BTreeSet<(String, ipnet::IpNet)>>,
}

impl Lab {
    /// Opens the lab this process is in.
    ///
    /// # Errors
    /// The process has not entered the lab of this directory.
    pub fn open(state_dir: &Path, dns: Option<SocketAddr>) -> Result<Self, Failure> {
        let what = || format!("open the lab in {}", state_dir.display());
        let state_dir = state_dir.canonicalize().doing(what)?;
        let client = Client::connect(&state_dir).doing(what)?;
        let (hello, _) = client.ask(&Request::Hello)?;
        let Answer::Hello { boot, pid_namespace, user_namespace, .. } = hello else { return Err(unexpected(&hello)) };
        let mine = std::fs::metadata("/proc/self/ns/pid").doing(what)?;
        if std::os::unix::fs::MetadataExt::ino(&mine) != pid_namespace {
            return Err(Failure::new(format!("{}: this process is outside of it", what())));
        }
        Ok(Self {
            clones: Clones { state_dir: state_dir.clone(), user_namespace },
            home: interfaces::home().doing(what)?,
            state_dir,
            client,
            boot,
            dns,
            dns_names: Mutex::default(),
            aliases: Mutex::default(),
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
    fn network(&self, jail: &str) -> Result<Option<OwnedFd>, Failure> {
        match self.attach(jail) {
            Ok([_, _, net, _, _]) => Ok(Some(net)),
            Err(failure) if failure.errno == Some(libc::ESRCH) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn need_network(&self, jail: &str) -> Result<OwnedFd, Failure> {
        self.network(jail)?.ok_or_else(|| {
            Failure::os(format!("jail {jail}"), &io::Error::from_raw_os_error(libc::ESRCH))
        })
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
