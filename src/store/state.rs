//! The fold: what all records together say.
//!
//! Pure: [`State::apply`] depends on nothing but the state and the record, so that memory, a store read back and a sim's
//! replay are the same value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use warren_dhcp::ipam::Ipam;
use warren_dhcp::server::LeaseTable;

use super::record::{Record, Stage, Why};
use super::snapshot::Snapshot;
use crate::config::spec::{FabricSpec, InstanceSpec, NetworkSpec, ServiceSpec};
use crate::host::Status;
use crate::ids::Id;
use crate::lifecycle::journal::{Journal, Left, Mark};
use crate::lifecycle::network::{FIRST_LINK, NetworkAssignment};
use crate::lifecycle::plan::Assignment;
use crate::lifecycle::step::{Act, Book, Plan};

/// Everything Warren knows.
#[derive(Debug, Default, PartialEq)]
pub struct State {
    /// The boot id the numbers of the kernel belong to.
    pub boot: Option<String>,
    /// The fabrics by name.
    pub fabrics: BTreeMap<String, FabricState>,
    /// The networks by id.
    pub networks: BTreeMap<Id, NetworkUnit>,
    /// The instances by id.
    pub instances: BTreeMap<Id, InstanceUnit>,
    /// Who has which address and MAC. Its networks bear our networks' ids as names.
    pub ipam: Ipam,
    /// How many records were folded.
    pub seq: u64,
}

/// A fabric.
#[derive(Debug, Clone, PartialEq)]
pub struct FabricState {
    /// What is wanted.
    pub spec: FabricSpec,
    /// Whether it is on its way out.
    pub dropped: bool,
    /// Its services, also those no longer wanted that still have instances.
    pub services: BTreeMap<String, ServiceState>,
    /// Its networks.
    pub networks: BTreeMap<String, Id>,
    /// Networks that failed to come up: failures in a row, when to try again, what the last one was.
    pub network_trouble: BTreeMap<String, (u32, u64, String)>,
}

/// What there is of a service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceState {
    /// Counts up whenever instances made so far are outdated.
    pub revision: u64,
    /// All its instances, in any stage, one-off runs included.
    pub instances: BTreeSet<Id>,
    /// Replicas of the present revision that are not on their way down.
    pub current: BTreeSet<Id>,
    /// Replicas of earlier revisions that are not on their way down.
    pub outdated: BTreeSet<Id>,
    /// Those of both that are ready.
    pub ready: BTreeSet<Id>,
    /// Failures in a row.
    pub failures: u32,
    /// No new instance before this time.
    pub not_before: u64,
    /// Whether no further attempt is made: it gave up, or all is done.
    pub halted: bool,
    /// What the last failure was.
    pub trouble: Option<String>,
}

impl ServiceState {
    /// Whether its work is done: an instance ended well, and is not to be replaced.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.halted && self.trouble.is_none()
    }

    /// Whether it failed too often, or once where once is enough.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        self.halted && self.trouble.is_some()
    }

    fn forgive(&mut self) {
        (self.failures, self.not_before, self.halted, self.trouble) = (0, 0, false, None);
    }
}

/// What instances and networks have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// How it comes up and goes down.
    pub plan: Arc<Plan>,
    /// What was done of it.
    pub journal: Journal,
    /// Where in its life it is.
    pub stage: Stage,
    /// Why it goes down.
    pub why: Option<Why>,
    /// What a stop could not finish.
    pub left: Vec<Left>,
}

/// A network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkUnit {
    /// Its numbers.
    pub given: NetworkAssignment,
    /// What it is.
    pub spec: NetworkSpec,
    /// Its life.
    pub unit: Unit,
    /// Hooks of its bridge that are taken.
    pub links: BTreeSet<u32>,
    /// Where the search for a free hook starts, so that one is reused as late as possible.
    pub next_link: u32,
    /// What the network's DHCP server promised.
    pub leases: LeaseTable,
}

/// An instance.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceUnit {
    /// Its numbers.
    pub given: Arc<Assignment>,
    /// What it is.
    pub spec: Arc<InstanceSpec>,
    /// Its life.
    pub unit: Unit,
    /// The revision it was made from; none: a one-off run.
    pub revision: Option<u64>,
    /// Tells the older of two instances: it has the smaller number.
    pub born: u64,
    /// Whether its own name is published.
    pub named: bool,
    /// Whether it is known under its service's name.
    pub joined: bool,
    /// Whether it holds addresses and links.
    pub assigned: bool,
    /// Whether it refused to stop: a hook failed and `on_stop_failure` is "abort". It is left alone until somebody asks again.
    pub refused: bool,
    /// How its main process ended.
    pub exit: Option<Status>,
    /// Links whose DHCP client acknowledged.
    pub leased: BTreeSet<usize>,
}

impl Unit {
    fn new(plan: Plan) -> Self {
        Self {
            plan: Arc::new(plan),
            journal: Journal::default(),
            stage: Stage::Planned,
            why: None,
            left: Vec::new(),
        }
    }
}

impl NetworkUnit {
    /// A free hook of the bridge, the longest unused first.
    #[must_use]
    pub fn free_link(&self) -> u32 {
        let mut link = self.next_link.max(FIRST_LINK);
        while self.links.contains(&link) {
            link += 1;
        }
        link
    }
}

impl State {
    /// The unit of an id, whichever kind it is.
    #[must_use]
    pub fn unit(&self, id: Id) -> Option<&Unit> {
        (self.instances.get(&id).map(|i| &i.unit)).or_else(|| self.networks.get(&id).map(|n| &n.unit))
    }

    fn unit_mut(&mut self, id: Id) -> Option<&mut Unit> {
        match self.instances.get_mut(&id) {
            Some(instance) => Some(&mut instance.unit),
            None => self.networks.get_mut(&id).map(|n| &mut n.unit),
        }
    }

    /// A service's spec, if it is still wanted.
    #[must_use]
    pub fn service_spec(&self, fabric: &str, service: &str) -> Option<&ServiceSpec> {
        self.fabrics.get(fabric)?.spec.services.get(service)
    }

    /// What there is of a service.
    #[must_use]
    pub fn service(&self, fabric: &str, service: &str) -> Option<&ServiceState> {
        self.fabrics.get(fabric)?.services.get(service)
    }

    /// The names of the jails that keep their own: nothing else tells that those are ours.
    #[must_use]
    pub fn classic_jails(&self) -> Vec<String> {
        let classic = self.instances.values().filter_map(|instance| instance.spec.classic.as_ref());
        classic.map(|classic| classic.jail.clone()).collect()
    }

    fn service_mut(&mut self, fabric: &str, service: &str) -> Option<&mut ServiceState> {
        Some(self.fabrics.get_mut(fabric)?.services.entry(service.to_owned()).or_default())
    }

    /// Folds one record in. A record about something unknown changes nothing: its scope has ended before.
    pub fn apply(&mut self, record: &Record) {
        self.seq += 1;
        match record {
            Record::Boot { id } => self.boot = Some(id.clone()),
            Record::Fabric { spec, revision, revisions } => self.apply_fabric(spec, *revision, revisions),
            Record::Scale { fabric, service, replicas } => {
                if let Some(spec) =
                    self.fabrics.get_mut(fabric).and_then(|f| f.spec.services.get_mut(service))
                {
                    spec.replicas = *replicas;
                }
                if let Some(service) = self.service_mut(fabric, service) {
                    service.forgive();
                }
            }
            Record::Drop { fabric } => {
                if let Some(fabric) = self.fabrics.get_mut(fabric) {
                    fabric.dropped = true;
                }
            }
            Record::FabricGone { fabric } => {
                self.fabrics.remove(fabric);
            }
            Record::Trouble { fabric, service, failures, not_before, halted, text } => {
                if let Some(service) = self.service_mut(fabric, service) {
                    (service.failures, service.not_before, service.halted) =
                        (*failures, *not_before, *halted);
                    service.trouble.clone_from(text);
                }
            }
            Record::NetworkTrouble { fabric, network, failures, not_before, text } => {
                if let Some(fabric) = self.fabrics.get_mut(fabric) {
                    fabric.network_trouble.insert(network.clone(), (*failures, *not_before, text.clone()));
                }
            }
            Record::Network { given, spec, plan } => {
                let unit = Unit::new(plan.clone());
                if let Some(fabric) = self.fabrics.get_mut(&given.fabric) {
                    fabric.networks.insert(spec.name.clone(), given.id);
                }
                let network = NetworkUnit {
                    given: given.clone(),
                    spec: spec.clone(),
                    unit,
                    links: BTreeSet::new(),
                    next_link: FIRST_LINK,
                    leases: LeaseTable::new(),
                };
                self.networks.insert(given.id, network);
            }
            Record::Instance { given, spec, plan, revision } => {
                self.apply_instance(given, spec, plan, *revision)
            }
            // A change that does not fit was refused when it was made; one read back fits by construction.
            Record::Address { change } => drop(self.ipam.apply(change)),
            Record::Step { unit, way, key, mark } => {
                if let Some(unit) = self.unit_mut(*unit) {
                    let plan = Arc::clone(&unit.plan);
                    unit.journal.mark(&plan, *way, key, mark.clone());
                    if let Mark::Done(_) = mark
                        && let Some(book) = book_of(&plan, key)
                    {
                        self.apply_book(record, book);
                    }
                }
            }
            Record::TakenBack { unit, key } => {
                if let Some(unit) = self.unit_mut(*unit) {
                    unit.journal.taken_back(key);
                }
            }
            Record::Turn { unit, stage, why } => self.apply_turn(*unit, *stage, why.as_ref()),
            Record::Left { unit, left } => {
                if let Some(unit) = self.unit_mut(*unit) {
                    unit.left.clone_from(left);
                }
            }
            Record::Retry { unit } => {
                if let Some(unit) = self.unit_mut(*unit) {
                    unit.journal.retry();
                    unit.left.clear();
                }
                if let Some(instance) = self.instances.get_mut(unit) {
                    instance.refused = false;
                }
            }
            Record::Rebooted { unit } => {
                if let Some(unit) = self.unit_mut(*unit) {
                    unit.journal.reboot();
                    unit.left.clear();
                }
                // Nobody answers under its names any more, and no daemon serves them again.
                if let Some(instance) = self.instances.get_mut(unit) {
                    (instance.named, instance.joined) = (false, false);
                }
            }
            // For people, and to have something on disk before the exec: what became of a job, the keeper is asked.
            Record::Job { .. } => {}
            Record::Exit { unit, status } => {
                if let Some(instance) = self.instances.get_mut(unit) {
                    instance.exit = Some(*status);
                }
            }
            Record::Leased { unit, link } => {
                if let Some(instance) = self.instances.get_mut(unit) {
                    instance.leased.insert(*link);
                }
            }
            Record::Learned { given, plan } => {
                if let Some(instance) = self.instances.get_mut(&given.id) {
                    instance.given = Arc::new((**given).clone());
                    instance.unit.plan = Arc::new(plan.clone());
                }
            }
            Record::Lease { network, change } => {
                if let Some(network) = self.networks.get_mut(network) {
                    network.leases.apply(change);
                }
            }
            Record::Snapshot { unit, is } => self.apply_snapshot(*unit, is),
            Record::Gone { unit } => self.apply_gone(*unit),
        }
    }

    fn apply_fabric(&mut self, spec: &FabricSpec, revision: u64, revisions: &BTreeMap<String, u64>) {
        let old = self.fabrics.remove(&spec.name);
        let (mut services, networks, old_spec) =
            old.map_or_else(Default::default, |o| (o.services, o.networks, Some(o.spec)));
        for (name, service) in &spec.services {
            let entry = services.entry(name.clone()).or_default();
            if revisions.contains_key(name) {
                continue;
            }
            let before = old_spec.as_ref().and_then(|s| s.services.get(name));
            if before.is_none_or(|b| b.instance != service.instance) {
                entry.revision = revision;
                entry.outdated.append(&mut entry.current);
            }
        }
        for (name, revision) in revisions {
            let entry = services.entry(name.clone()).or_default();
            if entry.revision != *revision {
                entry.revision = *revision;
                entry.outdated.append(&mut entry.current);
                // An earlier revision may be the present one again.
                let again = |id: &Id| self.instances.get(id).is_some_and(|i| i.revision == Some(*revision));
                let (current, outdated) = std::mem::take(&mut entry.outdated).into_iter().partition(again);
                (entry.current, entry.outdated) = (current, outdated);
            }
        }
        services.values_mut().for_each(ServiceState::forgive);
        services.retain(|name, service| {
            spec.services.contains_key(name) || revisions.contains_key(name) || !service.instances.is_empty()
        });
        let fabric = FabricState {
            spec: spec.clone(),
            dropped: false,
            services,
            networks,
            network_trouble: BTreeMap::new(),
        };
        self.fabrics.insert(spec.name.clone(), fabric);
    }

    fn apply_instance(
        &mut self,
        given: &Assignment,
        spec: &InstanceSpec,
        plan: &Plan,
        revision: Option<u64>,
    ) {
        if let Some(service) = self.service_mut(&given.fabric, &given.service) {
            service.instances.insert(given.id);
            // In the file a fabric's last declaration comes before its instances of earlier revisions.
            match revision {
                Some(revision) if revision == service.revision => drop(service.current.insert(given.id)),
                Some(_) => drop(service.outdated.insert(given.id)),
                None => {}
            }
        }
        for link in &given.links {
            if let Some(network) = self.networks.get_mut(&link.network) {
                network.links.insert(link.number);
                network.next_link = link.number + 1;
            }
        }
        let instance = InstanceUnit {
            given: Arc::new(given.clone()),
            spec: Arc::new(spec.clone()),
            unit: Unit::new(plan.clone()),
            revision,
            born: self.seq,
            named: false,
            joined: false,
            assigned: true,
            refused: false,
            exit: None,
            leased: BTreeSet::new(),
        };
        self.instances.insert(given.id, instance);
    }

    fn apply_book(&mut self, record: &Record, book: Book) {
        let Record::Step { unit, .. } = record else { return };
        let Some(instance) = self.instances.get_mut(unit) else { return };
        match book {
            Book::NamePublish => instance.named = true,
            Book::NameWithdraw => instance.named = false,
            Book::Join => instance.joined = true,
            Book::Leave => instance.joined = false,
            Book::Release => self.release_links(*unit),
        }
    }

    fn apply_turn(&mut self, id: Id, stage: Stage, why: Option<&Why>) {
        let Some(unit) = self.unit_mut(id) else { return };
        let before = std::mem::replace(&mut unit.stage, stage);
        if why.is_some() {
            unit.why = why.cloned();
        }
        if before == Stage::Leaving && stage == Stage::Running {
            let plan = Arc::clone(&unit.plan);
            unit.journal.left_service(&plan);
        }
        if before == Stage::Stopping && stage == Stage::Running {
            unit.journal.aborted();
        }
        let Some(instance) = self.instances.get_mut(&id) else {
            self.network_turned(id, stage);
            return;
        };
        instance.refused |= before == Stage::Stopping && stage == Stage::Running;
        self.instance_turned(id, stage);
    }

    fn instance_turned(&mut self, id: Id, stage: Stage) {
        let Some(instance) = self.instances.get(&id) else { return };
        let Some(revision) = instance.revision else { return };
        let given = Arc::clone(&instance.given);
        let Some(service) = self.service_mut(&given.fabric, &given.service) else { return };
        if stage == Stage::Ready {
            service.ready.insert(id);
        } else {
            service.ready.remove(&id);
        }
        if !stage.is_wanted() {
            service.current.remove(&id);
            service.outdated.remove(&id);
        } else if revision == service.revision {
            service.current.insert(id);
        } else {
            service.outdated.insert(id);
        }
    }

    fn network_turned(&mut self, id: Id, stage: Stage) {
        if stage == Stage::Ready
            && let Some(network) = self.networks.get(&id)
            && let Some(fabric) = self.fabrics.get_mut(&network.given.fabric)
        {
            fabric.network_trouble.remove(&network.spec.name);
        }
    }

    fn apply_snapshot(&mut self, id: Id, is: &Snapshot) {
        let Some(unit) = self.unit_mut(id) else { return };
        unit.journal = is.journal.clone();
        unit.stage = is.stage;
        unit.why.clone_from(&is.why);
        unit.left.clone_from(&is.left);
        let came_up = unit.plan.up.iter().all(|step| is.journal.reply(&step.key).is_some());
        let (Some(of), Some(instance)) = (&is.instance, self.instances.get_mut(&id)) else {
            // A network that is on its way down was ready before.
            self.network_turned(id, if came_up { Stage::Ready } else { is.stage });
            return;
        };
        (instance.named, instance.joined, instance.refused) = (of.named, of.joined, of.refused);
        instance.exit = of.exit;
        instance.leased.clone_from(&of.leased);
        // Its links may be another's since: the step that gave them back is kept where it was.
        instance.assigned = of.assigned;
        self.instance_turned(id, is.stage);
    }

    fn release_links(&mut self, id: Id) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.assigned = false;
        for link in &instance.given.links {
            if let Some(network) = self.networks.get_mut(&link.network) {
                network.links.remove(&link.number);
            }
        }
    }

    /// Ends a fold of records some of which were made superfluous by others: what is left of services that are neither wanted nor
    /// have instances goes, as it went when their last instance did.
    pub fn complete(&mut self) {
        for fabric in self.fabrics.values_mut() {
            let wanted = &fabric.spec.services;
            fabric
                .services
                .retain(|name, service| wanted.contains_key(name) || !service.instances.is_empty());
        }
    }

    fn apply_gone(&mut self, id: Id) {
        if let Some(network) = self.networks.remove(&id)
            && let Some(fabric) = self.fabrics.get_mut(&network.given.fabric)
        {
            fabric.networks.retain(|_, n| *n != id);
        }
        let Some(instance) = self.instances.remove(&id) else { return };
        let given = &instance.given;
        if let Some(fabric) = self.fabrics.get_mut(&given.fabric)
            && let Some(service) = fabric.services.get_mut(&given.service)
        {
            service.instances.remove(&id);
            if service.instances.is_empty() && !fabric.spec.services.contains_key(&given.service) {
                fabric.services.remove(&given.service);
            }
        }
    }
}

/// The book act of a step, if it is one.
fn book_of(plan: &Plan, key: &str) -> Option<Book> {
    let up = plan.up.iter().chain(&plan.join).map(|s| (&s.key, &s.act));
    let down = plan.down.iter().map(|u| (&u.key, &u.act));
    up.chain(down).find(|(k, _)| *k == key).and_then(|(_, act)| match act {
        Act::Book(book) => Some(*book),
        Act::Host(_) => None,
    })
}
