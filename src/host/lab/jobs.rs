//! What the lab leaves to the keeper: jobs, in a jail or on the host side, and listening sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;

use super::client::{Client, unexpected};
use super::host::Lab;
use super::proto::{Answer, Relay, Request};
use crate::config::spec::Proto;
use crate::host::listen::bind;
use crate::host::{Failure, Job, Reply, Witness};
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
