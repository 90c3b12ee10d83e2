//! What the lab leaves to the keeper: jobs, in a jail or on the host side, and listening sockets; and probes, of which one kind is a
//! job.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::Duration;

use super::client::{Client, unexpected};
use super::failure::Context;
use super::host::Lab;
use super::netlink::Netlink;
use super::proto::{Answer, Relay, Request};
use super::{interfaces, probe};
use crate::config::spec::{Probe, Proto};
use crate::host::listen::bind;
use crate::host::{Failure, Job, NoWitness, Reply, Witness};
use crate::ids::Id;
use crate::keeper::Place;

impl Lab {
    /// Where a job runs.
    pub(super) fn place(&self, job: &Job) -> Result<Place, Failure> {
        match &job.jail {
            None => Ok(Place::Host { cwd: None }),
            Some(jail) => Ok(Place::Namespaces(self.attach(jail)?.into())),
        }
    }

    pub(super) fn run(&self, job: &Job, witness: &dyn Witness) -> Result<(), Failure> {
        if job.fib.is_some_and(|fib| fib != 0) {
            return Err(Failure::new("the lab has one routing table: exec.fib must be 0"));
        }
        let status = self.keeper.run(job, self.place(job)?, witness)?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("{}: {status}", job.describe()))) }
    }

    pub(super) fn spawn(&self, job: &Job, witness: &dyn Witness) -> Result<(), Failure> {
        self.keeper.spawn(job, self.place(job)?, witness).map(|_| ())
    }

    /// Asks an instance for its health.
    pub(super) fn probe(&self, what: &Probe, address: IpAddr, timeout: Duration) -> Result<(), Failure> {
        match what {
            Probe::Tcp { port } => probe::tcp(address, *port, timeout),
            Probe::Http { port, path } => probe::http(address, *port, path, timeout),
            Probe::Command { command } => {
                let jail = self.jail_of(address)?;
                // Its id is not needed again, but the keeper wants each to be new.
                let unique =
                    std::fs::read_to_string("/proc/sys/kernel/random/uuid").doing(|| "draw a job id")?;
                let job = Job {
                    id: format!("probe-{}", unique.trim()),
                    log: Id::of_jail(&jail).map_or_else(|| jail.clone(), |id| id.to_string()),
                    jail: Some(jail),
                    command: command.clone(),
                    env: BTreeMap::new(),
                    clean_env: true,
                    user: None,
                    system_jail_user: false,
                    fib: None,
                    timeout: Some(timeout),
                    consolelog: None,
                };
                let done = self.run(&job, &NoWitness);
                self.keeper.forget(&job.id)?;
                done
            }
        }
    }

    /// The jail that has an address. Remembered from when it was set; after a restart of the daemon, or with DHCP, looked for.
    fn jail_of(&self, address: IpAddr) -> Result<String, Failure> {
        let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
        if let Some(jail) = known {
            return Ok(jail);
        }
        for (name, jail) in self.client.jails()? {
            if jail.vnet
                && let Some(there) = self.network(&name)?
                && interfaces::with(Some(&there), Netlink::addresses)
                    .doing(|| format!("look for addresses in {name}"))?
                    .iter()
                    .any(|(_, net)| net.addr() == address)
            {
                self.remember([address], &name);
                return Ok(name);
            }
        }
        Err(Failure::new(format!("no jail has the address {address}")))
    }

    pub(super) fn remember(&self, addresses: impl IntoIterator<Item = IpAddr>, jail: &str) {
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(addresses.into_iter().map(|address| (address, jail.to_owned())));
    }

    pub(super) fn forget(&self, jail: &str) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, owner| owner != jail);
    }

    pub(super) fn listen(&self, name: &str, address: SocketAddr, proto: Proto) -> Result<Reply, Failure> {
        let socket = bind(address, proto).map_err(|error| {
            Failure::os(format!("listen on {} {address} in the lab", proto.as_str()), &error)
        })?;
        self.keeper.put_socket(name, socket)?;
        let Some(machine) = self.dns.filter(|_| address.port() == 53) else { return Ok(Reply::Done) };
        let mut names = self.dns_names.lock().unwrap_or_else(PoisonError::into_inner);
        // All gateways serve the same zone: the first is as good as any.
        if names.contains_key(&proto) {
            return Ok(Reply::Done);
        }
        let relay = Relay { proto, machine, target: address };
        match self.client.order(&Request::Relays { owner: dns_owner(name), relays: vec![relay] }) {
            Ok(()) => {
                names.insert(proto, name.to_owned());
                Ok(Reply::Done)
            }
            // Nobody asked for this port in so many words, so that a taken one is no reason to fail.
            Err(failure) => Ok(Reply::Remark {
                text: format!("DNS is not reachable from the machine at {machine}: {failure}"),
            }),
        }
    }

    pub(super) fn unlisten(&self, name: &str) -> Result<(), Failure> {
        self.client.order(&Request::Relays { owner: dns_owner(name), relays: Vec::new() })?;
        self.dns_names.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, owner| owner != name);
        self.keeper.drop_socket(name)
    }
}

/// The listening sockets that are relayed for DNS by an earlier daemon's doing.
pub(super) fn dns_relays(client: &Client) -> Result<BTreeMap<Proto, String>, Failure> {
    match client.ask(&Request::RelayList)? {
        (Answer::Relays { relays }, _) => Ok(relays
            .into_iter()
            .filter_map(|(owner, relays)| {
                Some((relays.first()?.proto, owner.strip_prefix("listen ")?.to_owned()))
            })
            .collect()),
        (other, _) => Err(unexpected(&other)),
    }
}

/// The owner of the relays of a listening socket; anchors, the other owners, start otherwise.
fn dns_owner(name: &str) -> String {
    format!("listen {name}")
}
