//! Addresses that a LAN's DHCP server gives: Warren does not know them before, so it looks at the interface until a client inside has
//! set one, notes it, and opens the link for it and no other.
//!
//! What the LAN's server said is not seen. An instance might claim an address without asking; it can claim one within the LAN's
//! prefix and one that nobody of Warren's has, and it cannot change its mind later.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::json;

use super::{Effect, Engine, Flight, Timer};
use crate::fabric;
use crate::host::{Failure, Op, Reply};
use crate::ids::Id;
use crate::lifecycle::plan;
use crate::store::{Record, Stage};

/// How long between two looks, in milliseconds: a client takes from parts of a second to ten.
const LOOK_EVERY: u64 = 500;

impl Engine {
    /// Looks at the links whose address is still to be learned.
    pub(super) fn learn(&mut self, id: Id) {
        if self.stage(id) != Some(Stage::Running) {
            return;
        }
        let Some(instance) = self.state.instances.get(&id) else { return };
        let missing: Vec<usize> = (instance.given.links.iter().enumerate())
            .filter(|(n, link)| link.lan && !instance.leased.contains(n))
            .map(|(n, _)| n)
            .collect();
        for link in missing {
            let under_way = |flight: &Flight| matches!(flight, Flight::Learn(of, n) | Flight::Open(of, n) if (*of, *n) == (id, link));
            if !self.flights.values().any(under_way) {
                let op = Op::IfAddresses { interface: plan::inside_name(link), jail: self.jail(id) };
                self.perform(Flight::Learn(id, link), op);
            }
        }
    }

    /// What was on the interface.
    pub(super) fn looked(&mut self, id: Id, link: usize, result: Result<Reply, Failure>) {
        if self.stage(id) != Some(Stage::Running) {
            return;
        }
        let again = self.now + LOOK_EVERY;
        let Ok(Reply::Addresses { addresses }) = result else {
            self.timer(again, Timer::Learn(id));
            return;
        };
        let Some(address) = addresses.into_iter().find_map(|address| self.acceptable(id, link, address))
        else {
            self.timer(again, Timer::Learn(id));
            return;
        };
        let Some(instance) = self.state.instances.get(&id) else { return };
        let mut given = (*instance.given).clone();
        let spec = Arc::clone(&instance.spec);
        let (named, revision) = (instance.named, instance.revision);
        let Some(assigned) = given.links.get_mut(link) else { return };
        assigned.addresses.retain(|old| matches!(old, IpNet::V6(_)));
        assigned.addresses.insert(0, address);
        let open = plan::open_link(id, link, assigned);
        let plan = Self::plan_of(&spec, &given, revision);
        self.emit(Record::Learned { given: Box::new(given), plan });
        self.reserve(id);
        if named {
            let change = self.publish(id);
            self.out.effects.extend(change.map(Effect::Name));
        }
        self.perform(Flight::Open(id, link), open);
    }

    /// The address with the LAN's prefix length, if the instance may have it.
    fn acceptable(&self, id: Id, link: usize, address: IpAddr) -> Option<IpNet> {
        let instance = self.state.instances.get(&id)?;
        let network = self.state.networks.get(&instance.given.links.get(link)?.network)?;
        let prefix = (fabric::prefixes(&network.spec).into_iter())
            .find(|prefix| address.is_ipv4() && prefix.contains(&address))?;
        let gateway = network.spec.gateway4.map(IpAddr::from) == Some(address);
        let taken = gateway
            || self.state.ipam.owner_of(address).is_some()
            || self
                .state
                .instances
                .iter()
                .any(|(other, i)| *other != id && i.given.addresses().contains(&address));
        (!taken).then(|| IpNet::new(address, prefix.prefix_len()).ok())?
    }

    /// The link is open for the address.
    pub(super) fn opened(&mut self, id: Id, link: usize, result: Result<Reply, Failure>) {
        if self.stage(id) != Some(Stage::Running) {
            return;
        }
        let name = self.name(id);
        if let Err(failure) = result {
            let text = format!("its link could not be opened for the LAN's address: {failure}");
            self.tell("lease-failed", json!({ "unit": id, "name": name, "text": text }));
            self.timer(self.now + LOOK_EVERY, Timer::Learn(id));
            return;
        }
        let Some(network) =
            self.state.instances.get(&id).and_then(|i| i.given.links.get(link)).map(|l| l.network)
        else {
            return;
        };
        self.emit(Record::Leased { unit: id, link });
        self.tell("lease", json!({ "unit": id, "name": name, "network": network }));
        self.came_up(id);
    }
}
