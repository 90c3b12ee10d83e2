//! Moves one unit along its plan: the next step, its end, the turns between stages.

use std::sync::Arc;

use serde_json::json;
use warren_dhcp::ipam::Owner;
use warren_dhcp::server::{LeaseChange, LeaseState};

use super::{Client, Effect, Engine, Flight, NameChange, Ticket, text};
use crate::host::{Exit, Failure, JobState, Op, Process, Reply, Status};
use crate::ids::Id;
use crate::lifecycle::journal::{Left, Mark, Next, Settle, Way, settle};
use crate::lifecycle::step::{Act, Book, OnFailure, Phase};
use crate::store::{Record, Stage, Why, WhyKind};

/// How long after a stop that left something behind it is tried again, at first and at last, in milliseconds.
const FIRST_RETRY: u64 = 5_000;
const LAST_RETRY: u64 = 300_000;
/// After which a hook that could not be killed, or a refusal that could not be asked for, is tried again, in milliseconds.
const KILL_AGAIN: u64 = 1_000;

/// A step and its act, taken out of the journal's borrow.
enum Move {
    Do(String, Act),
    InDoubt(String, Act),
    StartFailed(Phase, String, Failure),
    Aborted(String, Failure),
    Finished(Vec<Left>),
}

impl Engine {
    /// Does whatever can be done of a unit's plan without waiting.
    pub(super) fn advance(&mut self, id: Id) {
        while !self.busy.contains(&id) {
            let Some(unit) = self.state.unit(id) else { return };
            let ended = self.state.instances.get(&id).and_then(|i| i.exit);
            if let Some(status) = ended
                && unit.stage.is_wanted()
            {
                self.stop(
                    id,
                    Why {
                        kind: WhyKind::Ended,
                        phase: None,
                        text: format!("the main process ended: {status}"),
                    },
                );
                continue;
            }
            let way = match unit.stage {
                Stage::Planned => {
                    self.turn(id, Stage::Starting, None);
                    // The first effect of a unit: what was drawn for it is on disk before.
                    self.out.sync = true;
                    continue;
                }
                Stage::Starting => Way::Up,
                Stage::Joining => Way::Join,
                Stage::Leaving => Way::Leave,
                // A network outlives the addresses given on it, and no load of its rules may come after their removal.
                Stage::Stopping if self.state.ipam.assignments(id.as_str()).next().is_some() => return,
                Stage::Stopping if self.loads_policy(id) => return,
                Stage::Stopping => Way::Down,
                Stage::Running | Stage::Ready | Stage::Failed => return,
            };
            let plan = Arc::clone(&unit.plan);
            let next = match unit.journal.next(&plan, way) {
                Next::Do(key, act) => Move::Do(key.to_owned(), act.clone()),
                Next::InDoubt(key, act) => Move::InDoubt(key.to_owned(), act.clone()),
                Next::Failed(step, failure) => {
                    Move::StartFailed(step.phase, step.key.clone(), failure.clone())
                }
                Next::Aborted(undo, failure) => Move::Aborted(undo.key.clone(), failure.clone()),
                Next::Finished(left) => Move::Finished(left),
            };
            match next {
                Move::Do(key, Act::Book(book)) => self.book(id, way, key, book),
                Move::Do(key, Act::Host(op)) => {
                    if self.flights.len() >= self.settings.jobs {
                        self.waiting.push_back(id);
                        return;
                    }
                    self.begin(id, way, key, op);
                }
                Move::InDoubt(key, act) => self.in_doubt(id, way, key, &act),
                Move::StartFailed(phase, key, failure) => {
                    let text = format!("{}: {failure}", text::step(phase, &key));
                    let why = Why { kind: WhyKind::StartFailed, phase: Some(phase), text };
                    self.give_up(id, why, failure.is_unasked());
                }
                Move::Aborted(key, failure) => self.aborted(id, key, &failure),
                Move::Finished(left) => self.finished(id, way, left),
            }
        }
    }

    fn begin(&mut self, id: Id, way: Way, key: String, op: Op) {
        let op = self.dress(id, way, &key, op);
        // On disk before each hook and each effect on the disk (DESIGN.md, "Durability").
        self.out.sync |= op.is_durable();
        self.emit(Record::Step { unit: id, way, key: key.clone(), mark: Mark::Began });
        self.busy.insert(id);
        self.perform(Flight::Step { unit: id, way, key }, op);
    }

    /// Adds what only the moment knows. To a hook the jail's number, the failed phase and the reason, the round; from the
    /// removal of aliases it takes those that had been there before the instance.
    fn dress(&self, id: Id, way: Way, key: &str, op: Op) -> Op {
        let Some(unit) = self.state.unit(id) else { return op };
        let undone = key.strip_prefix("un.").and_then(|key| unit.journal.reply(key));
        let mut job = match (op, undone) {
            (Op::AliasRemove { interface, .. }, Some(Reply::Aliases { added })) => {
                return Op::AliasRemove { interface, addresses: added.clone() };
            }
            (Op::Run(job), _) => job,
            (op, _) => return op,
        };
        let removed = unit.journal.is_rebooted()
            || unit.journal.get(Way::Down, "remove").is_some_and(|m| matches!(m, Mark::Done(_)));
        if job.jail.is_none() {
            if let (Some(Reply::Jail { jid }), false) = (unit.journal.reply("jail"), removed) {
                job.env.insert("JID".into(), jid.to_string());
            }
            if let (Way::Down, Some(why)) = (way, &unit.why) {
                job.env.insert("WARREN_REASON".into(), why.text.clone());
                if let Some(phase) = why.phase {
                    job.env.insert("WARREN_FAILED_PHASE".into(), phase.to_string());
                }
            }
        }
        job.id = self.job_id(id, job.id);
        Op::Run(job)
    }

    /// The id of a hook's job: the round makes it a new one when the way down is begun anew.
    fn job_id(&self, unit: Id, job: String) -> String {
        match self.state.unit(unit).map_or(0, |u| u.journal.round) {
            0 => job,
            round => format!("{job}.{round}"),
        }
    }

    fn book(&mut self, id: Id, way: Way, key: String, book: Book) {
        if book == Book::Release {
            self.release(id);
        }
        self.emit(Record::Step { unit: id, way, key, mark: Mark::Done(Reply::Done) });
        let Some(instance) = self.state.instances.get(&id) else { return };
        let given = Arc::clone(&instance.given);
        let change = match book {
            Book::NamePublish => self.publish(id),
            Book::NameWithdraw => Some(NameChange::Withdraw(id)),
            Book::Join => Some(NameChange::Ready(id, true)),
            Book::Leave => Some(NameChange::Ready(id, false)),
            Book::Release => None,
        };
        self.out.effects.extend(change.map(Effect::Name));
        self.unsettled.insert(given.fabric.clone());
    }

    /// The zone's entry of an instance.
    pub(super) fn publish(&self, id: Id) -> Option<NameChange> {
        let instance = self.state.instances.get(&id)?;
        let given = &instance.given;
        let ports =
            self.state.service_spec(&given.fabric, &given.service).map_or_else(Vec::new, |s| s.ports.clone());
        Some(NameChange::Publish {
            id,
            fabric: given.fabric.clone(),
            service: given.service.clone(),
            addresses: given.addresses(),
            ports,
        })
    }

    /// Gives addresses, MACs and links back.
    pub(super) fn release(&mut self, id: Id) {
        let Some(instance) = self.state.instances.get(&id) else { return };
        let given = Arc::clone(&instance.given);
        let Ok(owner) = Owner::new(id.as_str()) else { return };
        for link in &given.links {
            // An address in conflict was taken from its owner before: then there is nothing to give back.
            if let Ok(change) = self.state.ipam.decide_release(link.network.as_str(), &owner, self.now) {
                self.emit(Record::Address { change });
            }
            self.out.effects.push(Effect::Reserve { network: link.network, mac: link.mac, client: None });
            self.movable.push_back(link.network);
        }
        if let Some(at) = self.state.ipam.next_expiry() {
            self.timer(at.max(self.now + 1000), super::Timer::Quarantine);
        }
    }

    /// Tells the DHCP servers about an instance.
    pub(super) fn reserve(&mut self, id: Id) {
        let Some(instance) = self.state.instances.get(&id) else { return };
        let given = Arc::clone(&instance.given);
        // Not the jail's own idea of its name: the client is told that this one is in the zone.
        let hostname = given.name();
        for link in &given.links {
            let client = Client { addresses: link.plain_addresses(), hostname: hostname.clone() };
            self.out.effects.push(Effect::Reserve {
                network: link.network,
                mac: link.mac,
                client: Some(client),
            });
        }
    }

    fn in_doubt(&mut self, id: Id, way: Way, key: String, act: &Act) {
        match (settle(act), act) {
            (Settle::AskKeeper(job), _) => {
                // A main process has no rounds: it belongs to the way up.
                let job = if matches!(act, Act::Host(Op::Run(_))) { self.job_id(id, job) } else { job };
                self.busy.insert(id);
                self.last_ticket += 1;
                self.flights.insert(self.last_ticket, Flight::Ask { unit: id, way, key });
                let wait = !matches!(act, Act::Host(Op::Spawn(_)));
                self.out.effects.push(Effect::AskJob { ticket: self.last_ticket, job, wait });
            }
            (Settle::Undo(op), _) if way == Way::Up || way == Way::Join => {
                self.busy.insert(id);
                self.perform(Flight::TakeBack { unit: id, key }, op);
            }
            // Steps down, and those that replace what is there, are simply done again.
            (_, Act::Host(op)) => self.begin(id, way, key, op.clone()),
            (_, Act::Book(book)) => self.book(id, way, key, *book),
        }
    }

    /// A hook's process exists: it may exec once that is on disk.
    pub(super) fn started(&mut self, ticket: Ticket, job: String, process: Process) {
        if let Some(Flight::Step { unit, way, .. } | Flight::Ask { unit, way, .. }) =
            self.flights.get(&ticket)
        {
            let (unit, up) = (*unit, *way == Way::Up);
            self.out.sync = true;
            self.emit(Record::Job { unit, job: job.clone(), process });
            // The start was given up before there was anything that could be ended.
            if up && !self.stage(unit).is_some_and(Stage::is_wanted) {
                self.perform(Flight::Interrupt(unit), Op::KillJob { job });
            }
        }
        self.out.effects.push(Effect::Release(ticket));
    }

    /// An operation ended.
    pub(super) fn done(&mut self, ticket: Ticket, result: Result<Reply, Failure>) {
        let Some(flight) = self.flights.remove(&ticket) else { return };
        match flight {
            Flight::Step { unit, way, key } => self.step_done(unit, way, key, result),
            Flight::TakeBack { unit, key } => {
                self.busy.remove(&unit);
                match result {
                    Ok(_) => self.emit(Record::TakenBack { unit, key }),
                    Err(failure) => {
                        self.emit(Record::Step { unit, way: Way::Up, key, mark: Mark::Failed(failure) })
                    }
                }
                self.movable.push_back(unit);
            }
            Flight::Ask { unit, way, key } => {
                // The keeper could not be asked: as good as a failure of the step.
                self.step_done(unit, way, key, result);
            }
            Flight::Probe(id, job) => {
                self.out.effects.extend(job.map(Effect::ForgetJob));
                self.probed(id, result.err());
            }
            Flight::Count(id) => self.counted(id, result),
            Flight::Learn(id, link) => self.looked(id, link, result),
            Flight::Open(id, link) => self.opened(id, link, result),
            Flight::Policy(id, policy) => self.policy_loaded(id, *policy, result.err()),
            // It may run for ever: whoever has no descriptor left gets one back.
            Flight::Interrupt(id) if result.is_err() => {
                self.timer(self.now + KILL_AGAIN, super::Timer::Interrupt(id));
            }
            Flight::Interrupt(_) => {}
            Flight::Orphan { unit, key } => {
                let failure = Failure::new("the start was given up, and the daemon that ran it died");
                self.step_done(unit, Way::Up, key, result.and(Err(failure)));
            }
            Flight::Repair(repair) => self.repaired(repair, result),
        }
    }

    /// What the keeper says of a job in doubt.
    pub(super) fn job_known(&mut self, ticket: Ticket, state: JobState) {
        let Some(Flight::Ask { unit, way, key }) = self.flights.remove(&ticket) else { return };
        let spawned = self.act(unit, &key).is_some_and(|act| matches!(act, Act::Host(Op::Spawn(_))));
        match state {
            // It never started, so it is started now.
            JobState::Unknown => {
                self.busy.remove(&unit);
                if let Some(Act::Host(op)) = self.act(unit, &key) {
                    self.begin(unit, way, key, op);
                }
            }
            // A main process runs on, or its end will be told like any other.
            _ if spawned => self.step_done(unit, way, key, Ok(Reply::Done)),
            JobState::Ended(status) if status.success() => self.step_done(unit, way, key, Ok(Reply::Done)),
            JobState::Ended(status) => self.step_done(unit, way, key, Err(Failure::new(status.to_string()))),
            // Those who carry effects out wait for the end before they answer.
            JobState::Running(_) => {
                self.step_done(unit, way, key, Err(Failure::new("the command still runs")))
            }
        }
    }

    fn act(&self, id: Id, key: &str) -> Option<Act> {
        let plan = &self.state.unit(id)?.plan;
        let up = plan.up.iter().chain(&plan.join).find(|s| s.key == key).map(|s| s.act.clone());
        up.or_else(|| plan.down.iter().find(|u| u.key == key).map(|u| u.act.clone()))
    }

    fn step_done(&mut self, id: Id, way: Way, key: String, result: Result<Reply, Failure>) {
        // Whether it refuses to stop is still to be asked: meanwhile nothing moves.
        if let Err(failure) = &result
            && failure.is_unasked()
            && way == Way::Down
            && self.may_refuse(id, &key)
        {
            self.timer(self.now + KILL_AGAIN, super::Timer::Again(id));
            return;
        }
        self.busy.remove(&id);
        let act = self.act(id, &key);
        if let Some(Act::Host(Op::Run(job))) = &act {
            let job = self.job_id(id, job.id.clone());
            self.out.effects.push(Effect::ForgetJob(job));
        }
        let mark = match result {
            Ok(reply) => {
                if let Reply::Remark { text } = &reply {
                    let name = self.name(id);
                    self.tell("remark", json!({ "unit": id, "name": name, "step": key, "text": text }));
                }
                Mark::Done(reply)
            }
            Err(failure) => {
                if matches!(way, Way::Up | Way::Join) {
                    self.doubt(act.as_ref(), &failure);
                }
                let name = self.name(id);
                let text = format!("{}: {failure}", text::key(&key));
                self.tell(
                    "step-failed",
                    json!({ "unit": id, "name": name, "step": key, "way": way, "text": text }),
                );
                Mark::Failed(failure)
            }
        };
        self.emit(Record::Step { unit: id, way, key, mark });
        self.movable.push_back(id);
    }

    fn may_refuse(&self, id: Id, key: &str) -> bool {
        let undo = self.state.unit(id).and_then(|unit| unit.plan.down.iter().find(|undo| undo.key == key));
        undo.is_some_and(|undo| undo.failure == OnFailure::Abort)
    }

    /// What was begun and is in doubt goes on.
    pub(super) fn again(&mut self, id: Id) {
        self.busy.remove(&id);
        self.movable.push_back(id);
    }

    /// How people call a unit: `api-k3f9q2ab`, or the network's name.
    pub(super) fn name(&self, id: Id) -> String {
        match (self.state.instances.get(&id), self.state.networks.get(&id)) {
            (Some(instance), _) => instance.given.name(),
            (_, Some(network)) => format!("network {}", network.spec.name),
            _ => id.to_string(),
        }
    }

    pub(super) fn turn(&mut self, id: Id, stage: Stage, why: Option<Why>) {
        let Some(before) = self.stage(id) else { return };
        let (name, fabric) = (self.name(id), self.fabric_of(id));
        self.emit(Record::Turn { unit: id, stage, why: why.clone() });
        if before.as_str() != stage.as_str() {
            let text = why.as_ref().map(|w| w.text.clone());
            self.tell(stage.as_str(), json!({ "unit": id, "name": name, "fabric": fabric, "why": text }));
        }
        self.movable.push_back(id);
        self.unsettled.extend(fabric);
    }

    pub(super) fn fabric_of(&self, id: Id) -> Option<String> {
        let instance = self.state.instances.get(&id).map(|i| i.given.fabric.clone());
        instance.or_else(|| self.state.networks.get(&id).map(|n| n.given.fabric.clone()))
    }

    /// Turns a unit to its way down. A hook of the start that still runs is ended.
    pub(super) fn stop(&mut self, id: Id, why: Why) {
        self.give_up(id, why, false);
    }

    /// The same; `blameless` is one that cannot help it, and whose service does not fail by it.
    fn give_up(&mut self, id: Id, why: Why, blameless: bool) {
        let Some(stage) = self.stage(id) else { return };
        if !stage.is_wanted() {
            return;
        }
        if self.state.networks.contains_key(&id) {
            self.unserve(id);
        }
        self.note_trouble(id, &why, blameless);
        self.wellness.remove(&id);
        self.interrupt_running(id);
        self.turn(id, Stage::Stopping, Some(why));
        // Right after a recovery nothing is in flight of a start that is in doubt.
        if !self.busy.contains(&id) {
            self.end_orphan(id);
        }
    }

    /// Ends the hook of a start that is given up, if one runs.
    pub(super) fn interrupt_running(&mut self, id: Id) {
        let running = self.flights.values().find_map(|flight| match flight {
            // Begun by this daemon, or by the one before it.
            Flight::Step { unit, way: Way::Up, key } | Flight::Ask { unit, way: Way::Up, key }
                if *unit == id =>
            {
                Some(key.clone())
            }
            _ => None,
        });
        if let Some(Act::Host(Op::Run(job))) = running.and_then(|key| self.act(id, &key)) {
            let job = self.job_id(id, job.id);
            self.perform(Flight::Interrupt(id), Op::KillJob { job });
        }
    }

    fn aborted(&mut self, id: Id, key: String, failure: &Failure) {
        let asked =
            (self.state.unit(id)).is_some_and(|u| u.why.as_ref().is_some_and(|w| w.kind == WhyKind::Asked));
        let name = self.name(id);
        if asked {
            let text = format!(
                "{} failed, and on_stop_failure is \"abort\": {failure}; the instance goes on running",
                text::key(&key)
            );
            self.tell("stop-aborted", json!({ "unit": id, "name": name, "text": text }));
            self.turn(id, Stage::Running, None);
            self.came_up(id);
        } else {
            // Nobody asked for this stop: there is nothing to go back to.
            let reply = Reply::Remark { text: format!("{failure}; the stop went on") };
            self.emit(Record::Step { unit: id, way: Way::Down, key, mark: Mark::Done(reply) });
        }
    }

    fn finished(&mut self, id: Id, way: Way, left: Vec<Left>) {
        match way {
            Way::Up => {
                self.turn(id, Stage::Running, None);
                self.came_up(id);
            }
            Way::Join => {
                self.turn(id, Stage::Ready, None);
                self.ready_since.insert(id, self.now);
                if self.state.networks.contains_key(&id) {
                    self.out.effects.push(Effect::Serve(id));
                    self.policies_stale = true;
                }
            }
            Way::Leave => self.turn(id, Stage::Running, None),
            Way::Down if left.is_empty() => self.gone(id),
            Way::Down => {
                let (name, fabric) = (self.name(id), self.fabric_of(id));
                let text = text::left(&left);
                self.emit(Record::Left { unit: id, left });
                self.tell("left", json!({ "unit": id, "name": name, "fabric": fabric, "text": text }));
                self.turn(id, Stage::Failed, None);
                self.retry_later(id);
            }
        }
    }

    /// What is left is tried again by itself, ever more rarely: a jail that was dying has died by then, a volume is no longer busy.
    /// Not where a hook failed: it is the user's, and runs again when somebody asks for it. One that was never begun is no such.
    pub(super) fn retry_later(&mut self, id: Id) {
        let Some(unit) = self.state.unit(id).filter(|unit| unit.stage == Stage::Failed) else { return };
        let began = |failure: &Option<Failure>| failure.as_ref().is_some_and(|f| !f.is_unasked());
        let hook = unit.left.iter().any(|l| began(&l.failure) && matches!(l.act, Act::Host(Op::Run(_))));
        if !hook {
            let wait = (FIRST_RETRY << unit.journal.round.min(10)).min(LAST_RETRY);
            self.timer(self.now + wait, super::Timer::Retry(id));
        }
    }

    fn gone(&mut self, id: Id) {
        self.ready_since.remove(&id);
        // A start that failed before its first step has nothing to release but what was drawn for it.
        if self.state.instances.get(&id).is_some_and(|i| i.assigned) {
            self.release(id);
        }
        let (name, fabric) = (self.name(id), self.fabric_of(id));
        let why = self.state.unit(id).and_then(|u| u.why.clone());
        let exit = self.state.instances.get(&id).and_then(|i| i.exit);
        if self.state.instances.get(&id).is_some_and(|i| i.spec.command.is_some()) {
            self.out.effects.push(Effect::ForgetJob(format!("{id}.main")));
        }
        let network = self.state.networks.contains_key(&id);
        if network {
            if let Ok(change) = self.state.ipam.decide_remove_network(id.as_str()) {
                self.emit(Record::Address { change });
            }
            self.policies.remove(&id);
            self.policies_stale = true;
        }
        self.emit(Record::Gone { unit: id });
        let code = exit.map(|status| match status {
            Status::Exited(code) => code,
            Status::Signaled(signal) => 128 + signal,
            Status::TimedOut | Status::Unknown => 255,
        });
        self.tell(
            "gone",
            json!({ "unit": id, "name": name, "fabric": fabric, "why": why.map(|w| w.text), "exit": code }),
        );
        self.unsettled.extend(fabric);
    }

    /// The main process of an instance ended.
    pub(super) fn exited(&mut self, exit: &Exit) {
        let Some(id) = exit.job.strip_suffix(".main").and_then(|id| id.parse::<Id>().ok()) else {
            return;
        };
        if self.state.instances.get(&id).is_some_and(|i| i.exit.is_none()) {
            self.emit(Record::Exit { unit: id, status: exit.status });
            self.movable.push_back(id);
        } else if !self.state.instances.contains_key(&id) {
            self.out.effects.push(Effect::ForgetJob(exit.job.clone()));
        }
    }

    /// The DHCP server of a network promises something, or takes note of something.
    pub(super) fn leased(&mut self, network: Id, change: LeaseChange) {
        let lease =
            |address| self.state.networks.get(&network).and_then(|network| network.leases.at(address));
        // Who gives back what it has not, as often as it likes, writes nothing.
        if let LeaseChange::Released { address, .. } = change
            && lease(address).is_none_or(|lease| lease.state != LeaseState::Bound)
        {
            return;
        }
        // A promise is on disk before it is given.
        self.out.sync = true;
        self.emit(Record::Lease { network, change: change.clone() });
        self.await_leases();
        match change {
            LeaseChange::Bound(lease) => self.bound(network, lease.client.mac),
            LeaseChange::Declined { address, .. } => self.conflict(network, address.into()),
            // The reservation stands, whatever the client does with it.
            LeaseChange::Released { .. } | LeaseChange::Expired { .. } => {}
        }
    }

    fn bound(&mut self, network: Id, mac: warren_dhcp::Mac) {
        let owner = self.state.ipam.by_mac(network.as_str(), mac).map(|(owner, _)| owner.as_str().to_owned());
        let Some(id) = owner.and_then(|o| o.parse::<Id>().ok()) else { return };
        let Some(instance) = self.state.instances.get(&id) else { return };
        let Some(link) = instance.given.links.iter().position(|l| l.network == network && l.mac == mac.0)
        else {
            return;
        };
        if !instance.leased.contains(&link) {
            self.emit(Record::Leased { unit: id, link });
            let name = self.name(id);
            self.tell("lease", json!({ "unit": id, "name": name, "network": network }));
            self.came_up(id);
        }
    }

    fn conflict(&mut self, network: Id, address: std::net::IpAddr) {
        if let Ok(change) = self.state.ipam.decide_conflict(network.as_str(), address, self.now) {
            let owner = self.state.ipam.owner_of(address).and_then(|o| o.as_str().parse::<Id>().ok());
            self.emit(Record::Address { change });
            self.tell("address-conflict", json!({ "network": network, "address": address, "unit": owner }));
            if let Some(id) = owner {
                let text = format!("somebody else uses its address {address}");
                self.stop(id, Why { kind: WhyKind::Unhealthy, phase: None, text });
            }
        }
    }
}
