//! Takes over jails that somebody else started. One commit: before it nothing is Warren's, after it all of them are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use warren_dhcp::ipam::Owner;

use super::commands::Answer;
use super::{Engine, Refusal};
use crate::config::spec::FabricSpec;
use crate::host::Reply;
use crate::ids::Id;
use crate::lifecycle::import::{self, Standing};
use crate::lifecycle::journal::Way;
use crate::store::Record;

impl Engine {
    /// Takes over the jails of these services of `spec`, of which all was found standing.
    pub(super) fn import(&mut self, spec: &FabricSpec, found: &BTreeMap<String, Standing>) -> Answer {
        self.check_origin(spec)?;
        for service in found.keys() {
            self.is_takeable(spec, service)?;
        }
        let fabric = spec.name.clone();
        // Declaring gives services that gave up another chance; that is not what was asked for.
        let halted: Vec<Record> = (self.state.fabrics.get(&fabric).into_iter())
            .flat_map(|old| old.services.iter().filter(|(_, service)| service.halted))
            .map(|(name, service)| Record::Trouble {
                fabric: fabric.clone(),
                service: name.clone(),
                failures: service.failures,
                not_before: service.not_before,
                halted: true,
                text: service.trouble.clone(),
            })
            .collect();
        let old = self.state.fabrics.get(&fabric).map(|old| &old.spec);
        let merged = import::merged(old, spec, found.keys());
        self.check_declaration(&merged)?;
        self.check_links(spec, found.keys())?;
        self.declare(merged)?;
        halted.into_iter().for_each(|record| self.emit(record));
        let mut taken = Vec::new();
        for (service, standing) in found {
            let Some(wanted) = spec.services.get(service) else { continue };
            let revision = self.state.service(&fabric, service).map_or(0, |there| there.revision);
            let id = self.create(&fabric, service, &wanted.instance, Some(revision))?;
            self.count_as_done(id, standing);
            let jail = self.jail(id);
            let jid = match standing.get("jail") {
                Some(Reply::Jail { jid }) => Some(*jid),
                _ => None,
            };
            let what = json!({ "unit": id, "name": self.name(id), "fabric": fabric, "service": service, "jail": jail, "jid": jid });
            self.tell("imported", what.clone());
            taken.push(what);
        }
        Ok(Value::Array(taken))
    }

    /// Whether a jail is one that keeps its name, and nobody's of Warren's yet.
    fn is_takeable(&self, spec: &FabricSpec, service: &str) -> Result<(), Refusal> {
        let classic = spec.services.get(service).and_then(|service| service.instance.classic.as_ref());
        let Some(classic) = classic else {
            return Err(Refusal {
                kind: "invalid",
                message: format!(
                    "service `{service}` is no jail that keeps its own name: only those are taken over"
                ),
            });
        };
        let same = |unit: &&crate::store::InstanceUnit| {
            unit.spec.classic.as_ref().is_some_and(|other| other.jail == classic.jail)
        };
        if let Some(unit) = self.state.instances.values().find(same) {
            let name = self.name(unit.given.id);
            return Err(Refusal::conflict(format!(
                "jail `{}` is Warren's already: {name} of the fabric `{}`",
                classic.jail, unit.given.fabric
            )));
        }
        match self.state.service(&spec.name, service).is_some_and(|there| !there.instances.is_empty()) {
            true => Err(Refusal::conflict(format!(
                "the fabric `{}` has an instance of `{service}` already, of another jail's name: take it down first",
                spec.name
            ))),
            false => Ok(()),
        }
    }

    /// Whether all of these services' instances can have their links, tried on a copy of the address books: once the first is
    /// written down none may be refused.
    fn check_links<'a>(
        &mut self,
        spec: &FabricSpec,
        services: impl Iterator<Item = &'a String>,
    ) -> Result<(), Refusal> {
        let mut books = self.state.ipam.clone();
        for service in services {
            let Some(wanted) = spec.services.get(service) else { continue };
            let id = self.draw_id();
            let owner = Owner::new(id.as_str()).map_err(|e| Refusal::conflict(e.to_string()))?;
            for link in Self::links_of(&wanted.instance) {
                let random = self.draw();
                let (_, change) = self.decide_link(&books, &spec.name, &owner, link, random)?;
                books.apply(&change).map_err(|e| {
                    Refusal::conflict(format!("service `{service}`, network `{}`: {e}", link.network))
                })?;
            }
        }
        Ok(())
    }

    fn count_as_done(&mut self, unit: Id, standing: &Standing) {
        let Some(plan) = self.state.unit(unit).map(|unit| std::sync::Arc::clone(&unit.plan)) else { return };
        for (key, mark) in import::marks(&plan, standing) {
            self.emit(Record::Step { unit, way: Way::Up, key, mark });
        }
    }
}
