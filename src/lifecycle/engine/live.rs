//! What a new declaration changes of things that stay: health checks, ports, address pools. The rest of what may change without an
//! instance being replaced (`restart`, `depends_on`, `publish`, the rules) is read where it is used.

use std::collections::BTreeSet;

use warren_dhcp::ipam::Network;

use super::{Effect, Engine, NameChange, Refusal};
use crate::config::spec::{FabricSpec, NetworkSpec};
use crate::fabric;
use crate::ids::Id;
use crate::store::{NetworkUnit, Record, Stage};

impl Engine {
    /// Applies the differences between the declaration before and the one that has just been written down.
    pub(super) fn apply_live(&mut self, before: &FabricSpec) {
        let Some(fabric) = self.state.fabrics.get(&before.name) else { return };
        let mut pools = Vec::new();
        for (name, declared) in &fabric.spec.networks {
            let unit = fabric.networks.get(name).and_then(|id| self.state.networks.get(id));
            pools.extend(unit.and_then(|unit| self.changed_pool(&fabric.spec, declared, unit)));
        }
        let (mut asked, mut named) = (BTreeSet::new(), BTreeSet::new());
        for (name, declared) in &fabric.spec.services {
            let (Some(old), Some(service)) = (before.services.get(name), fabric.services.get(name)) else {
                continue;
            };
            if old.health != declared.health {
                asked.extend(&service.instances);
            }
            if old.ports != declared.ports {
                named.extend(&service.instances);
            }
        }
        for pool in pools {
            // The declaration was refused if the pool could not be so.
            if let Ok(change) = self.state.ipam.decide_update_network(&pool) {
                self.emit(Record::Address { change });
            }
        }
        for id in asked {
            self.ask_anew(id);
        }
        for id in named {
            self.name_anew(id);
        }
    }

    /// The pool of a network as it would be declared, if the books have another.
    fn changed_pool(&self, spec: &FabricSpec, declared: &NetworkSpec, unit: &NetworkUnit) -> Option<Network> {
        let pool = fabric::pool(spec, declared, &unit.given);
        (self.state.ipam.network(&pool.name) != Some(&pool)).then_some(pool)
    }

    /// Whether those who have addresses of a network could keep them if it were declared like this.
    pub(super) fn check_pool(
        &self,
        spec: &FabricSpec,
        declared: &NetworkSpec,
        unit: &NetworkUnit,
    ) -> Result<(), Refusal> {
        let Some(pool) = self.changed_pool(spec, declared, unit) else { return Ok(()) };
        self.state.ipam.decide_update_network(&pool).map(drop).map_err(|e| Refusal::conflict(e.to_string()))
    }

    fn name_anew(&mut self, id: Id) {
        let Some(instance) = self.state.instances.get(&id).filter(|instance| instance.named) else { return };
        let ready = NameChange::Ready(id, instance.joined);
        let published = self.publish(id);
        self.out.effects.extend(published.into_iter().chain([ready]).map(Effect::Name));
    }

    /// Begins anew with another health check, or goes on without any.
    fn ask_anew(&mut self, id: Id) {
        self.wellness.remove(&id);
        match self.stage(id) {
            Some(Stage::Running) => self.came_up(id),
            Some(Stage::Ready | Stage::Joining | Stage::Leaving) => self.watch(id),
            _ => {}
        }
    }
}
