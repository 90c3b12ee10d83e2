//! Compares what the machine has with what the store says, at start and on a timer, and puts right what is ours.
//!
//! A round is one [`Host::observe`](crate::host::Host::observe). Only units at rest are judged: one that moved since the round
//! began was seen half-way. What is missed is put back by the unit's own steps ([`drift`]), one repair at a time and with the
//! unit held still; a unit that cannot go on without what is missing goes down like any other and is started anew. What bears
//! a name of ours and belongs to nobody in the store is told of and left alone: it may be another Warren's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use serde_json::json;

use super::{Effect, Engine, Flight, Ticket, Timer};
use crate::host::{Failure, Inventory, Lost, Op, Reply, Status};
use crate::ids::Id;
use crate::lifecycle::drift::{self, Cure, Missing};
use crate::lifecycle::journal::{Mark, Way};
use crate::lifecycle::plan::service_table;
use crate::lifecycle::step::Act;
use crate::store::record::Scope;
use crate::store::{Record, Stage, Why, WhyKind};

/// How long between two rounds. Listing a machine of a thousand instances takes a fraction of a second.
const LOOK_EVERY: u64 = 30_000;
/// Between the rounds that something calls for: one that failed, and a start that did.
const LOOK_AGAIN: u64 = 5_000;
/// Every so many rounds the rules are loaded anew although nothing is missed: a pf.conf without Warren's anchor points is not
/// seen in an anchor, but is refused when one is loaded.
const RELOAD_EVERY: u64 = 10;
/// What loading the rules of an anchor anew is called.
const RULES: &str = "the rules of ";
/// A repair that did not last for so many rounds is not tried again.
const TRIES: u32 = 3;

/// What is known of drift. Not stored: the next daemon looks for itself.
#[derive(Debug, Default)]
pub struct Drift {
    /// The round under way, and the units that moved since it began.
    look: Option<(Ticket, BTreeSet<Id>)>,
    rounds: u64,
    /// When the last round ended, milliseconds since the epoch.
    looked: u64,
    repairs: VecDeque<Repair>,
    /// Rounds in a row in which something was missed, by unit and object.
    missed: BTreeMap<(Id, String), u32>,
    /// What could not be put right, by unit and object.
    open: BTreeMap<(Id, String), String>,
    strays: BTreeSet<String>,
    unseen: Option<String>,
}

/// Something to be put right.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Repair {
    unit: Id,
    object: String,
    ops: VecDeque<Op>,
    /// Steps that no look would miss: in doubt until all is done.
    unseen: Vec<String>,
}

impl Engine {
    /// Begins a round.
    pub(super) fn look(&mut self) {
        if self.drift.look.is_some() {
            return;
        }
        self.last_ticket += 1;
        let mut moving = self.busy.clone();
        moving.extend(self.flights.values().filter_map(|flight| match flight {
            Flight::Policy(id, _) => Some(*id),
            _ => None,
        }));
        self.drift.look = Some((self.last_ticket, moving));
        let also = self.state.classic_jails();
        self.out.effects.push(Effect::Observe(self.last_ticket, also));
    }

    /// A start failed at something that is no command: what it needs of others may be gone, and is put back before the next one
    /// fails at it, too.
    pub(super) fn doubt(&mut self, act: Option<&Act>, failure: &Failure) {
        let command = matches!(act, Some(Act::Host(Op::Run(_) | Op::Spawn(_))));
        if !command && !failure.is_unasked() {
            self.timer(self.now.max(self.drift.looked + LOOK_AGAIN), Timer::Look);
        }
    }

    /// Something of a unit changed: what a round under way saw of it means nothing.
    pub(super) fn moved(&mut self, record: &Record) {
        if let (Some((_, moving)), Scope::Unit(id) | Scope::Learned(id)) =
            (&mut self.drift.look, record.scope())
        {
            moving.insert(id);
        }
    }

    /// What a round saw.
    pub(super) fn observed(&mut self, ticket: Ticket, seen: Result<Inventory, Failure>) {
        let Some((_, moving)) = self.drift.look.take_if(|(of, _)| *of == ticket) else { return };
        self.drift.looked = self.now;
        match seen {
            Ok(seen) => {
                self.timer(self.now + LOOK_EVERY, Timer::Look);
                self.drift.unseen = None;
                self.drift.rounds += 1;
                self.judge(&seen, &moving);
                self.note_strays(&seen, &moving);
            }
            Err(failure) => {
                self.timer(self.now + LOOK_AGAIN, Timer::Look);
                let text = failure.to_string();
                if self.drift.unseen.as_ref() != Some(&text) {
                    self.tell("look-failed", json!({ "text": text }));
                    self.drift.unseen = Some(text);
                }
            }
        }
    }

    fn judge(&mut self, seen: &Inventory, moving: &BTreeSet<Id>) {
        let at_rest = |stage: Stage| matches!(stage, Stage::Running | Stage::Ready);
        let units: Vec<Id> = (self.state.networks.keys().chain(self.state.instances.keys()))
            .filter(|id| !moving.contains(id) && !self.busy.contains(id))
            .filter(|id| self.stage(**id).is_some_and(at_rest))
            .copied()
            .collect();
        let mut missed: BTreeMap<(Id, String), u32> = BTreeMap::new();
        for id in units {
            let Some(unit) = self.state.unit(id).filter(|unit| at_rest(unit.stage)) else { continue };
            let found = drift::missing(&unit.plan, &unit.journal, unit.stage == Stage::Ready, seen);
            for object in found.iter().map(|one| &one.object) {
                let rounds = self.drift.missed.get(&(id, object.clone())).copied().unwrap_or(0) + 1;
                missed.insert((id, object.clone()), rounds);
            }
            if let Some(lost) = found.iter().find(|one| one.cure == Cure::None) {
                self.lose(id, &lost.object);
                continue;
            }
            for one in found {
                self.mend(id, one, &missed);
            }
            if self.state.networks.contains_key(&id) {
                self.judge_anchor(id, seen, moving, &mut missed);
            } else {
                self.judge_main(id, seen, &mut missed);
            }
        }
        // What is there again, or whose unit is gone, is no longer worth a word. Rules that were refused are until they are loaded.
        let state = &self.state;
        let refused =
            |(id, object): &(Id, String)| object.starts_with(RULES) && state.networks.contains_key(id);
        self.drift
            .open
            .retain(|place, _| missed.contains_key(place) || moving.contains(&place.0) || refused(place));
        self.drift.missed = missed;
    }

    /// The host saw a jail go that it was not told to remove. One that is on its way up or down is missed by what is done to it.
    pub(super) fn lost(&mut self, Lost { jail, jid }: &Lost) {
        let mut units = self.state.instances.values();
        let Some(unit) = units.find(|i| i.given.jail(&i.spec) == *jail) else { return };
        let id = unit.given.id;
        // Of a name that is its own a service may have had more than one.
        let is_its = unit.unit.journal.reply("jail") == Some(&Reply::Jail { jid: *jid });
        let at_rest = matches!(self.stage(id), Some(Stage::Running | Stage::Ready));
        if is_its && at_rest && !self.busy.contains(&id) {
            self.lose(id, &format!("the jail {jail}"));
        }
    }

    /// A unit cannot go on without what it lost. A network takes its instances with it.
    fn lose(&mut self, id: Id, object: &str) {
        let name = self.name(id);
        let text = format!("{object} went away without Warren");
        self.tell("drift", json!({ "unit": id, "name": name, "text": text }));
        let on_it: Vec<Id> = (self.state.instances.values())
            .filter(|i| i.given.links.iter().any(|link| link.network == id))
            .map(|i| i.given.id)
            .collect();
        for unit in on_it.into_iter().chain([id]) {
            self.stop(unit, Why { kind: WhyKind::Vanished, phase: None, text: text.clone() });
        }
    }

    fn mend(&mut self, id: Id, one: Missing, missed: &BTreeMap<(Id, String), u32>) {
        let place = (id, one.object.clone());
        let Cure::Again(again) = one.cure else {
            let text =
                format!("{} is not as it was made, and stays so: it is not Warren's to change", one.object);
            self.stays(place, text);
            return;
        };
        if missed.get(&place).is_some_and(|rounds| *rounds > TRIES) {
            let text = format!("{} goes away again whenever it is put back", one.object);
            self.stays(place, text);
            return;
        }
        let Some(unit) = self.state.unit(id) else { return };
        let ops: VecDeque<Op> = again.iter().flat_map(|key| drift::redo(&unit.plan, key)).collect();
        let unseen = drift::unseen(&unit.plan, &again);
        self.put_right(Repair { unit: id, object: one.object, ops, unseen });
    }

    /// Members of the tables that nobody put there, and rules that are loaded anew now and then.
    fn judge_anchor(
        &mut self,
        id: Id,
        seen: &Inventory,
        moving: &BTreeSet<Id>,
        missed: &mut BTreeMap<(Id, String), u32>,
    ) {
        let Some(network) = self.state.networks.get(&id) else { return };
        let anchor = network.given.anchor();
        let Some(tables) = seen.anchors.get(&anchor) else { return };
        let on_it =
            || self.state.instances.values().filter(|i| i.given.links.iter().any(|l| l.network == id));
        // An instance that came or went during the round may be in its table or not.
        if moving.iter().any(|unit| self.state.unit(*unit).is_none()) {
            return;
        }
        let mut strangers: Vec<Op> = Vec::new();
        for (table, members) in tables {
            let known: BTreeSet<IpAddr> = on_it()
                .filter(|i| i.revision.is_some() && service_table(&i.given.service) == *table)
                .flat_map(|i| i.given.addresses())
                .collect();
            let is_ours = table.starts_with("svc_");
            let addresses: Vec<IpAddr> = members.difference(&known).copied().filter(|_| is_ours).collect();
            if !addresses.is_empty() {
                strangers.push(Op::TableRemove {
                    anchor: anchor.clone(),
                    tables: vec![table.clone()],
                    addresses,
                });
            }
        }
        if !strangers.is_empty() {
            let object = format!("strangers in the tables of {anchor}");
            missed.insert((id, object.clone()), 1);
            self.put_right(Repair { unit: id, object, ops: strangers.into(), unseen: Vec::new() });
        }
        let object = format!("{RULES}{anchor}");
        // They could not be loaded: at a look before, or when they changed.
        let refused = self.drift.open.contains_key(&(id, object.clone())) || !self.policies.contains_key(&id);
        if (refused || self.drift.rounds.is_multiple_of(RELOAD_EVERY))
            && let Some(policy) = self.present_policy(id)
        {
            let ops = [Op::AnchorLoad(policy)].into();
            self.put_right(Repair { unit: id, object, ops, unseen: Vec::new() });
        }
    }

    /// A main process the keeper no longer knows: its end was not seen. Told after the second round, because an end may be on
    /// its way.
    fn judge_main(&mut self, id: Id, seen: &Inventory, missed: &mut BTreeMap<(Id, String), u32>) {
        let Some(instance) = self.state.instances.get(&id).filter(|i| i.exit.is_none()) else { return };
        if instance.unit.journal.reply("main").is_none() || seen.jobs.contains(&format!("{id}.main")) {
            return;
        }
        let place = (id, "the main process".to_owned());
        let rounds = self.drift.missed.get(&place).copied().unwrap_or(0) + 1;
        if rounds > 1 {
            self.emit(Record::Exit { unit: id, status: Status::Unknown });
            self.movable.push_back(id);
        } else {
            missed.insert(place, rounds);
        }
    }

    fn put_right(&mut self, repair: Repair) {
        let known = |other: &Repair| (other.unit, &other.object) == (repair.unit, &repair.object);
        if !self.drift.repairs.iter().any(known) {
            self.drift.repairs.push_back(repair);
        }
    }

    /// Begins a repair if one can begin: networks first, for the tables of their anchors are what instances are put into.
    pub(super) fn begin_repair(&mut self) -> bool {
        let networks_wait = self.drift.repairs.iter().any(|r| self.state.networks.contains_key(&r.unit))
            || self.state.networks.keys().any(|unit| self.is_mended(*unit));
        let can = |repair: &Repair| {
            let network = self.state.networks.contains_key(&repair.unit);
            // Of two loads of an anchor under way the older could come last.
            let loads = network && self.loads_policy(repair.unit);
            !self.busy.contains(&repair.unit) && !loads && (network || !networks_wait)
        };
        let Some(repair) =
            self.drift.repairs.iter().position(can).and_then(|at| self.drift.repairs.remove(at))
        else {
            return false;
        };
        // It went meanwhile, or left its service: then nothing is to be put back.
        let stage = self.stage(repair.unit);
        let joins = |op: &Op| matches!(op, Op::TableAdd { .. });
        let fits =
            stage == Some(Stage::Ready) || stage == Some(Stage::Running) && !repair.ops.iter().any(joins);
        if fits {
            self.busy.insert(repair.unit);
            self.mark_unseen(&repair, &Mark::Began);
            self.next_of(repair);
        }
        true
    }

    fn mark_unseen(&mut self, repair: &Repair, mark: &Mark) {
        for key in repair.unseen.clone() {
            self.emit(Record::Step { unit: repair.unit, way: Way::Up, key, mark: mark.clone() });
        }
    }

    fn next_of(&mut self, mut repair: Repair) {
        match repair.ops.pop_front() {
            // The rules of now, not of when it was seen.
            Some(Op::AnchorLoad(policy)) => {
                let policy = self.present_policy(repair.unit).unwrap_or(policy);
                self.policies.insert(repair.unit, policy.clone());
                self.perform(Flight::Repair(repair), Op::AnchorLoad(policy));
            }
            Some(op) => self.perform(Flight::Repair(repair), op),
            None => {
                self.mark_unseen(&repair, &Mark::Done(Reply::Done));
                let (unit, name) = (repair.unit, self.name(repair.unit));
                let place = (unit, repair.object);
                let was_told = self.drift.open.remove(&place).is_some();
                // Loading what is there anew is no news.
                if was_told || !place.1.starts_with(RULES) {
                    let text = format!("{} was not as it should be, and was put right", place.1);
                    self.tell("mended", json!({ "unit": unit, "name": name, "text": text }));
                }
                self.still_no_more(unit);
            }
        }
    }

    /// An operation of a repair ended.
    pub(super) fn repaired(&mut self, repair: Repair, result: Result<Reply, Failure>) {
        match result {
            Ok(_) => self.next_of(repair),
            Err(failure) => {
                let text = format!("{} could not be put right: {failure}", repair.object);
                let (unit, place) = (repair.unit, (repair.unit, repair.object));
                // What was never put back does not go away again.
                self.drift.missed.insert(place.clone(), 0);
                self.policies.remove(&unit);
                self.stays(place, text);
                self.still_no_more(unit);
            }
        }
    }

    fn still_no_more(&mut self, unit: Id) {
        self.busy.remove(&unit);
        self.movable.push_back(unit);
        // What was declared meanwhile waited for this.
        self.policies_stale |= self.policies.contains_key(&unit);
    }

    /// Whether something of a unit is being put right.
    pub(super) fn is_mended(&self, unit: Id) -> bool {
        self.flights.values().any(|flight| matches!(flight, Flight::Repair(repair) if repair.unit == unit))
    }

    /// Whether the rules of an anchor were loaded; if not, with what was told of it. They are tried again with each round.
    pub(super) fn note_rules(&mut self, id: Id, anchor: &str, refused: Option<String>) {
        let place = (id, format!("{RULES}{anchor}"));
        match refused {
            Some(text) => drop(self.drift.open.insert(place, text)),
            None => drop(self.drift.open.remove(&place)),
        }
    }

    /// Something could not be put right: told once.
    fn stays(&mut self, place: (Id, String), text: String) {
        if self.drift.open.get(&place) != Some(&text) {
            let name = self.name(place.0);
            self.tell("drift", json!({ "unit": place.0, "name": name, "text": text }));
            self.drift.open.insert(place, text);
        }
    }

    fn note_strays(&mut self, seen: &Inventory, moving: &BTreeSet<Id>) {
        let jails = seen.jails.keys().map(|name| (Id::of_jail(name), format!("jail {name}")));
        let clones = seen.clones.iter().map(|name| (name.parse().ok(), format!("clone {name}")));
        let nodes = seen.nodes.keys().map(|name| (Id::of_object(name), format!("node {name}")));
        let interfaces = seen.interfaces.keys().filter(|name| !seen.nodes.contains_key(*name)).map(|name| {
            let object = format!("interface {name}");
            (Id::of_object(name), object)
        });
        let anchors = seen.anchors.keys().map(|name| {
            let id = name.strip_prefix("warren/").and_then(|id| id.parse().ok());
            (id, format!("anchor {name}"))
        });
        let strays: BTreeSet<String> = (jails.chain(clones).chain(nodes).chain(interfaces).chain(anchors))
            .filter(|(id, _): &(Option<Id>, _)| {
                id.is_some_and(|id| self.state.unit(id).is_none() && !moving.contains(&id))
            })
            .map(|(_, object)| object)
            .collect();
        if !strays.is_subset(&self.drift.strays) {
            let text = "they bear names of Warren's and belong to nothing in this store; they are left alone";
            self.tell("strays", json!({ "objects": strays, "text": text }));
        }
        self.drift.strays = strays;
    }

    /// What is not as it should be with a unit and could not be put right.
    pub fn drift_of(&self, id: Id) -> impl Iterator<Item = &str> {
        let open = self.drift.open.iter().filter(move |((of, _), _)| *of == id).map(|(_, text)| text);
        open.chain(self.unserved.get(&id)).map(String::as_str)
    }

    /// What bears a name of ours and belongs to nobody.
    pub fn strays(&self) -> impl Iterator<Item = &str> {
        self.drift.strays.iter().map(String::as_str)
    }
}
