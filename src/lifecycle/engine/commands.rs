//! Does what somebody asked for, or says why not. A refused request changes nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::services::asked;
use super::{Command, Effect, Engine, NameChange, Refusal};
use crate::config::spec::{FabricSpec, InstanceSpec, NetworkSpec};
use crate::config::{domain_taken, rewired, scaled};
use crate::fabric;
use crate::ids::Id;
use crate::lifecycle::plan::Assignment;
use crate::store::{Record, Stage};

pub(super) type Answer = Result<Value, Refusal>;

impl Engine {
    pub(super) fn command(&mut self, command: Command) -> Answer {
        match command {
            Command::Declare(spec) => self.declare(*spec),
            Command::Drop(fabric) => self.drop_fabric(&fabric),
            Command::Cancel(fabric) => self.cancel(&fabric),
            Command::Scale { fabric, service, replicas } => self.scale(fabric, service, replicas),
            Command::Import { spec, found } => self.import(&spec, &found),
            Command::Stop(id) => self.stop_instance(id),
            Command::Run { fabric, service, spec } => self.run(&fabric, &service, &spec),
            Command::Repair(id) => self.repair(id),
        }
    }

    pub(super) fn declare(&mut self, spec: FabricSpec) -> Answer {
        self.check_declaration(&spec)?;
        self.begin_declaration(&spec.name);
        let name = spec.name.clone();
        self.put(spec);
        Ok(json!({ "fabric": name }))
    }

    /// Writes down a declaration that was checked.
    pub(super) fn put(&mut self, spec: FabricSpec) {
        let name = spec.name.clone();
        let before = self.state.fabrics.get(&name).map(|old| old.spec.clone());
        let revision = self.now.max(self.last_revision(&name) + 1);
        let revisions = self.revisions(&spec, revision);
        self.emit(Record::Fabric { spec: Box::new(spec), revision, revisions });
        self.out.effects.push(Effect::Name(NameChange::Zone(name.clone())));
        if let Some(before) = before {
            self.apply_live(&before);
        }
        self.policies_stale = true;
        self.unsettled.insert(name.clone());
        self.tell("declared", json!({ "fabric": name }));
    }

    /// Everything that could make a declaration fail half-way, asked before anything is changed.
    ///
    /// # Errors
    /// What stands in its way.
    pub fn check_declaration(&self, spec: &FabricSpec) -> Result<(), Refusal> {
        let old = self.state.fabrics.get(&spec.name);
        if old.is_some_and(|o| o.dropped) {
            return Err(Refusal::conflict(format!(
                "the fabric `{}` is on its way down; wait until it is gone",
                spec.name
            )));
        }
        self.check_origin(spec)?;
        if let Some(old) = old.filter(|old| old.spec.domain != spec.domain) {
            // Instances have it in their resolv.conf and hosts, and the zone is served under it.
            return Err(Refusal::conflict(format!(
                "the fabric `{}` cannot change its domain from {} to {} while it is up: take it down first, `warren down {}`",
                spec.name, old.spec.domain, spec.domain, spec.name
            )));
        }
        for other in self.state.fabrics.values().filter(|f| f.spec.name != spec.name) {
            if let Some(taken) = domain_taken(spec, &other.spec) {
                return Err(Refusal::conflict(format!("{taken}: give one of them another `domain`")));
            }
            let taken = other.spec.services.values().flat_map(|s| s.publish.iter().map(move |p| (s, p)));
            for (theirs, port) in taken {
                let ours = spec.services.values().flat_map(|s| s.publish.iter().map(move |p| (s, p)));
                for (service, wanted) in ours {
                    if (wanted.port, wanted.proto) == (port.port, port.proto) {
                        return Err(Refusal::conflict(format!(
                            "service `{}` cannot publish port {}/{}: `{}` of the fabric `{}` does",
                            service.name,
                            wanted.port,
                            wanted.proto.as_str(),
                            theirs.name,
                            other.spec.name
                        )));
                    }
                }
            }
        }
        let one_offs =
            self.state.instances.values().filter(|i| i.revision.is_none() && i.given.fabric == spec.name);
        let mut named = one_offs.filter(|i| spec.services.contains_key(&i.given.service));
        if let Some(one) = named.next() {
            return Err(Refusal::conflict(format!(
                "`{}` of `warren run` is called as the service is, and would be found under its name: stop it first, `warren stop {}`",
                self.name(one.given.id),
                self.name(one.given.id)
            )));
        }
        for network in spec.networks.values() {
            let there =
                old.and_then(|o| o.networks.get(&network.name)).and_then(|id| self.state.networks.get(id));
            match there {
                Some(there) => {
                    let keys = rewired(&there.spec, network);
                    if !keys.is_empty() {
                        return Err(Refusal::conflict(format!(
                            "network `{}` is in use and cannot change its {} while it is: take the fabric down first, `warren down {}`",
                            network.name,
                            keys.join(", "),
                            spec.name
                        )));
                    }
                    self.check_pool(spec, network, there)?;
                }
                None => self.check_overlap(spec, network)?,
            }
        }
        Ok(())
    }

    /// A file of jail(8) is not another one of its name: what is not in it would be taken down.
    pub(super) fn check_origin(&self, spec: &FabricSpec) -> Result<(), Refusal> {
        let there = self.state.fabrics.get(&spec.name).and_then(|old| old.spec.origin.as_ref());
        match (there, &spec.origin) {
            (Some(there), Some(own)) if there != own => Err(Refusal::conflict(format!(
                "the fabric `{}` is of {}, and this is {}: give one of the two files another name, as a copy or a hard link",
                spec.name,
                there.display(),
                own.display()
            ))),
            _ => Ok(()),
        }
    }

    fn check_overlap(&self, spec: &FabricSpec, network: &NetworkSpec) -> Result<(), Refusal> {
        for other in self.state.networks.values() {
            for theirs in fabric::prefixes(&other.spec) {
                for ours in fabric::prefixes(network) {
                    if ours.contains(&theirs) || theirs.contains(&ours) {
                        return Err(Refusal::conflict(format!(
                            "network `{}` of `{}` ({ours}) overlaps network `{}` of `{}` ({theirs})",
                            network.name, spec.name, other.spec.name, other.given.fabric
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// The revisions of a fabric's services once it is declared as `spec`: a new one for those whose instances are outdated by it.
    fn revisions(&self, spec: &FabricSpec, new: u64) -> BTreeMap<String, u64> {
        let old = self.state.fabrics.get(&spec.name);
        let of_old = |name: &String| old.and_then(|old| old.services.get(name)).map(|there| there.revision);
        // What was declared before and is declared again finds those that are left of it.
        let again = |name: &String, instance: &InstanceSpec| {
            let left = old.and_then(|old| old.services.get(name)).into_iter().flat_map(|s| &s.outdated);
            let mut left = left.filter_map(|id| self.state.instances.get(id));
            left.find(|unit| *unit.spec == *instance).and_then(|unit| unit.revision)
        };
        let wanted = spec.services.iter().map(|(name, service)| {
            let same = (old.and_then(|old| old.spec.services.get(name)))
                .is_some_and(|before| before.instance == service.instance);
            let there = if same { of_old(name) } else { again(name, &service.instance) };
            (name.clone(), there.unwrap_or(new))
        });
        let unwanted = (old.into_iter().flat_map(|old| &old.services))
            .filter(|(name, _)| !spec.services.contains_key(*name))
            .map(|(name, there)| (name.clone(), there.revision));
        wanted.chain(unwanted).collect()
    }

    fn last_revision(&self, fabric: &str) -> u64 {
        let services = self.state.fabrics.get(fabric).into_iter().flat_map(|f| f.services.values());
        services.map(|s| s.revision).max().unwrap_or(0)
    }

    pub(super) fn known(&self, fabric: &str) -> Result<(), Refusal> {
        if self.state.fabrics.contains_key(fabric) {
            return Ok(());
        }
        let names: Vec<&str> = self.state.fabrics.keys().map(String::as_str).collect();
        let there =
            if names.is_empty() { "none is up".to_owned() } else { format!("there is {}", names.join(", ")) };
        Err(Refusal::not_found(format!("no fabric is called `{fabric}`: {there}")))
    }

    pub(super) fn drop_fabric(&mut self, fabric: &str) -> Answer {
        self.known(fabric)?;
        self.emit(Record::Drop { fabric: fabric.to_owned() });
        self.unsettled.insert(fabric.to_owned());
        // A second `down` is the user's way of saying: try again.
        let failed: Vec<Id> =
            self.failed_units().filter(|id| self.fabric_of(*id).as_deref() == Some(fabric)).collect();
        for id in failed {
            self.retry(id);
        }
        self.ask_again(|given| given.fabric == fabric);
        Ok(json!({ "fabric": fabric }))
    }

    fn scale(&mut self, fabric: String, service: String, replicas: u32) -> Answer {
        self.known(&fabric)?;
        let spec = self.state.service_spec(&fabric, &service);
        let Some(spec) = spec else {
            return Err(Refusal::not_found(format!("the fabric `{fabric}` has no service `{service}`")));
        };
        // More of it must be as right as if the file said so. Fewer always may be, whatever rules came since.
        if replicas > spec.replicas {
            let more = BTreeMap::from([(service.clone(), replicas)]);
            if let Err(report) = scaled(&self.state.fabrics[&fabric].spec, &more) {
                return Err(Refusal::conflict(format!("{report:#}")));
            }
        }
        self.emit(Record::Scale { fabric: fabric.clone(), service: service.clone(), replicas });
        self.ask_again(|given| given.fabric == fabric && given.service == service);
        self.unsettled.insert(fabric.clone());
        Ok(json!({ "fabric": fabric, "service": service, "replicas": replicas }))
    }

    fn stop_instance(&mut self, id: Id) -> Answer {
        let Some(instance) = self.state.instances.get(&id) else {
            return Err(Refusal::not_found(format!("no instance has the id {id}")));
        };
        let (fabric, service) = (instance.given.fabric.clone(), instance.given.service.clone());
        let replica = instance.revision.is_some() && instance.unit.stage.is_wanted();
        if let Some(spec) = self.state.service_spec(&fabric, &service).filter(|_| replica) {
            let replicas = spec.replicas.saturating_sub(1);
            self.emit(Record::Scale { fabric: fabric.clone(), service: service.clone(), replicas });
        }
        self.ask_again(|given| given.id == id);
        self.stop(id, asked("somebody asked for it"));
        let replicas = self.state.service_spec(&fabric, &service).map(|s| s.replicas);
        Ok(json!({ "unit": id, "fabric": fabric, "service": service, "replicas": replicas }))
    }

    fn run(&mut self, fabric: &str, service: &str, spec: &InstanceSpec) -> Answer {
        self.known(fabric)?;
        if self.state.service_spec(fabric, service).is_some() {
            // It would answer under the service's name without being one of its replicas.
            return Err(Refusal::conflict(format!(
                "`{service}` is a service of the fabric `{fabric}`: call this instance something else, `--name NAME`"
            )));
        }
        let id = self.create(fabric, service, spec, None)?;
        Ok(json!({ "unit": id, "name": self.name(id), "fabric": fabric }))
    }

    fn failed_units(&self) -> impl Iterator<Item = Id> + '_ {
        let instances = self.state.instances.iter().map(|(id, i)| (id, &i.unit));
        let networks = self.state.networks.iter().map(|(id, n)| (id, &n.unit));
        instances.chain(networks).filter(|(_, unit)| unit.stage == Stage::Failed).map(|(id, _)| *id)
    }

    /// Somebody asks again those to stop that refused.
    fn ask_again(&mut self, which: impl Fn(&Assignment) -> bool) {
        let refused =
            self.state.instances.iter().filter(|(_, i)| i.refused && which(&i.given)).map(|(id, _)| *id);
        for unit in refused.collect::<Vec<_>>() {
            self.emit(Record::Retry { unit });
        }
    }

    pub(super) fn retry(&mut self, id: Id) {
        self.emit(Record::Retry { unit: id });
        self.turn(id, Stage::Stopping, None);
    }

    fn repair(&mut self, id: Option<Id>) -> Answer {
        let failed: Vec<Id> = match id {
            Some(id) if self.state.unit(id).is_none() => {
                return Err(Refusal::not_found(format!("no instance has the id {id}")));
            }
            Some(id) => self.failed_units().filter(|f| *f == id).collect(),
            None => self.failed_units().collect(),
        };
        for id in &failed {
            self.retry(*id);
        }
        // A service that gave up gets another chance.
        let halted: Vec<(String, String)> = (self.state.fabrics.iter())
            .flat_map(|(f, fabric)| {
                fabric.services.iter().filter(|(_, s)| s.gave_up()).map(move |(s, _)| (f.clone(), s.clone()))
            })
            .collect();
        if id.is_none() {
            for (fabric, service) in &halted {
                self.emit(Record::Trouble {
                    fabric: fabric.clone(),
                    service: service.clone(),
                    failures: 0,
                    not_before: 0,
                    halted: false,
                    text: None,
                });
                self.unsettled.insert(fabric.clone());
            }
        }
        Ok(json!({ "units": failed, "services": halted }))
    }
}
