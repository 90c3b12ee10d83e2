//! What the driver tells of every change: names and leases together.

use std::sync::Arc;

use super::clock::now;
use super::driver::{Handle, Runtime};
use super::leases::Leases;
use super::names::Zones;
use crate::host::{Failure, Mac};
use crate::ids::Id;
use crate::lifecycle::engine::{Client, NameChange};
use crate::store::State;

/// DNS and DHCP.
pub struct Services {
    zones: Arc<Zones>,
    leases: Leases,
    handle: Handle,
    tokio: tokio::runtime::Handle,
}

impl Services {
    /// Both, for the engine behind `handle`.
    #[must_use]
    pub fn new(zones: Arc<Zones>, handle: Handle, tokio: tokio::runtime::Handle) -> Self {
        Self { zones, leases: Leases::new(handle.clone()), handle, tokio }
    }
}

impl Runtime for Services {
    fn name(&mut self, change: NameChange, state: &State) {
        let fabric = match &change {
            NameChange::Zone(name) => state.fabrics.get(name).map(|f| &f.spec),
            _ => None,
        };
        // Seconds: grows across restarts, and more slowly than any clock runs back unnoticed.
        let serial = u32::try_from((now() / 1000) & u64::from(u32::MAX)).unwrap_or(1);
        let what = format!("{change:?}");
        if let Err(error) = self.zones.change(change, fabric, serial) {
            tracing::error!(%error, change = what, "the zone could not be changed");
        }
    }

    fn reserve(&mut self, network: Id, mac: Mac, client: Option<Client>) {
        self.leases.reserve(network, mac, client);
    }

    fn acknowledge(&mut self, network: Id, token: u64) {
        self.leases.acknowledge(network, token);
    }

    fn serve(&mut self, network: Id, state: &State) -> Result<(), Failure> {
        let Some(unit) = state.networks.get(&network) else { return Ok(()) };
        let domain = state.fabrics.get(&unit.given.fabric).map_or("internal", |f| f.spec.domain.as_str());
        self.leases.serve(unit, domain)?;
        let host = self.handle.host();
        let _inside = self.tokio.enter();
        self.zones.serve(&|name| host.socket(name), &unit.given, &unit.spec)
    }

    fn keeper_anew(&mut self) {
        let host = self.handle.host();
        self.zones.leave_sockets(&|name, socket| host.keep_socket(name, socket));
    }

    fn unserve(&mut self, network: Id) {
        self.leases.unserve(network);
        self.zones.unserve(network);
    }
}
