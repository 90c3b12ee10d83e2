//! Keeps as many instances of each service as are wanted, in the order of their dependencies.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::json;
use warren_dhcp::ipam::{AssignRequest, Change as AddressChange, Ipam, IpamError, MacWant, Owner, Want};

use super::{Effect, Engine, Flight, NameChange, Refusal, Timer};
use crate::config::spec::{AddressMode, InstanceSpec, LinkSpec, RestartPolicy, ServiceSpec, TemplateSource};
use crate::fabric::{self, Neighbour};
use crate::firewall::Policy;
use crate::host::{Failure, Op, Status};
use crate::ids::Id;
use crate::lifecycle::network::{NetworkAssignment, gateways, network};
use crate::lifecycle::plan::{self, AssignedLink, Assignment};
use crate::lifecycle::step::{Act, Plan};
use crate::store::{Record, ServiceState, Stage, Why, WhyKind};

/// How long a service waits after a start that could not be made, in milliseconds.
const SHORTAGE: u64 = 5_000;

/// What a start that came to nothing says of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing: the machine was short of something, or nobody could be asked.
    None,
    /// It was well until now.
    First,
    /// One more in a row.
    Again,
}

impl Engine {
    /// Starts and stops what a fabric has too few or too many of.
    pub(super) fn settle_fabric(&mut self, name: &str) {
        let Some(fabric) = self.state.fabrics.get(name) else { return };
        let services: Vec<String> = fabric.services.keys().cloned().collect();
        for service in &services {
            self.settle_service(name, service);
        }
        self.settle_networks(name);
        self.end_declaration(name);
    }

    fn settle_service(&mut self, fabric_name: &str, name: &str) {
        let Some(fabric) = self.state.fabrics.get(fabric_name) else { return };
        let Some(service) = fabric.services.get(name) else { return };
        let spec = fabric.spec.services.get(name);
        let wanted = if fabric.dropped { 0 } else { spec.map_or(0, |s| s.replicas as usize) };
        if fabric.dropped && dependents_live(&fabric.services, &fabric.spec.services, name) {
            return;
        }
        if fabric.dropped {
            let all = self.newest(&service.instances, usize::MAX);
            for id in all {
                self.stop(id, asked("the fabric is to go down"));
            }
            return;
        }
        let surplus = service.current.len().saturating_sub(wanted);
        if surplus > 0 {
            for id in self.newest(&service.current, surplus) {
                self.stop(id, replaced("fewer replicas are wanted"));
            }
            return;
        }
        let missing = wanted.saturating_sub(service.current.len());
        let in_place = spec.is_some_and(|s| in_place(&s.instance));
        let ready_now = service.current.intersection(&service.ready).count();
        // Old ones go as new ones become ready; where two cannot be at once they must go first.
        let keep = if in_place || wanted == 0 { 0 } else { wanted.saturating_sub(ready_now) };
        let too_old = service.outdated.len().saturating_sub(keep);
        let old = self.newest(&service.outdated, too_old);
        let Some(spec) = spec.filter(|_| missing > 0).cloned() else {
            for id in old {
                self.stop(id, replaced("a newer revision takes its place"));
            }
            return;
        };
        let (halted, not_before, revision) = (service.halted, service.not_before, service.revision);
        for id in old {
            self.stop(id, replaced("a newer revision takes its place"));
        }
        // A jail that keeps its name can be there once only: the next one waits until the last is gone.
        let occupied = spec.instance.classic.is_some()
            && self.state.service(fabric_name, name).is_some_and(|service| !service.instances.is_empty());
        let going = in_place && self.any_going(fabric_name, name);
        if halted || occupied || going || !self.may_start(fabric_name, &spec) {
            return;
        }
        if not_before > self.now {
            self.timer(not_before, Timer::Service(fabric_name.to_owned(), name.to_owned()));
            return;
        }
        for _ in 0..missing {
            if let Err(refusal) = self.create(fabric_name, name, &spec.instance, Some(revision)) {
                self.trouble(fabric_name, name, &spec, &refusal.message, Fault::Again);
                break;
            }
        }
    }

    /// So many of these instances to stop, but none that refused.
    fn newest(&self, of: &std::collections::BTreeSet<Id>, count: usize) -> Vec<Id> {
        let born = |id: &Id| {
            self.state.instances.get(id).map_or((false, 0), |i| (i.unit.stage == Stage::Ready, i.born))
        };
        let refused = |id: &Id| self.state.instances.get(id).is_some_and(|i| i.refused);
        let mut ids: Vec<Id> = of.iter().copied().filter(|id| !refused(id)).collect();
        // Those that are not ready first, then the youngest.
        ids.sort_by_key(|id| {
            let (ready, born) = born(id);
            (ready, std::cmp::Reverse(born))
        });
        ids.truncate(count);
        ids
    }

    /// Whether any instance of a service is on its way down, or could not give back a place that the next one needs: the mounts
    /// on a root they share look the same, so its clean-up would take away those of the next.
    fn any_going(&self, fabric: &str, service: &str) -> bool {
        let instances = self.state.service(fabric, service).map(|s| &s.instances);
        let holds = |id: &Id, act: &Act| matches!(act, Act::Host(Op::Unmount(mount)) if mount.root != self.settings.roots.join(id.as_str()));
        instances.into_iter().flatten().filter_map(|id| Some((id, self.state.unit(*id)?))).any(
            |(id, unit)| match unit.stage {
                Stage::Failed => unit.left.iter().any(|left| holds(id, &left.act)),
                stage => stage == Stage::Stopping,
            },
        )
    }

    /// Whether networks and dependencies are there.
    fn may_start(&self, fabric: &str, spec: &ServiceSpec) -> bool {
        let Some(fabric) = self.state.fabrics.get(fabric) else { return false };
        let network_ready = |name: &String| {
            let network = fabric.networks.get(name).and_then(|id| self.state.networks.get(id));
            network.is_some_and(|n| n.unit.stage == Stage::Ready)
        };
        // For the first start all of a dependency; a replacement is not held up by one of it that is away for a moment.
        let first = fabric.services.get(&spec.name).is_none_or(|s| s.ready.is_empty());
        let dependency_ready = |name: &String| {
            let (needed, declared) = (fabric.services.get(name), fabric.spec.services.get(name));
            let (Some(needed), Some(declared)) = (needed, declared) else { return false };
            let enough = if first { declared.replicas } else { declared.replicas.min(1) };
            needed.is_done() || needed.ready.len() >= enough as usize
        };
        spec.instance.links.iter().all(|l| network_ready(&l.network))
            && spec.depends_on.iter().all(dependency_ready)
    }

    /// Draws an instance's numbers and writes it down. Its start follows.
    pub(super) fn create(
        &mut self,
        fabric: &str,
        service: &str,
        spec: &InstanceSpec,
        revision: Option<u64>,
    ) -> Result<Id, Refusal> {
        let id = self.draw_id();
        let owner = Owner::new(id.as_str()).map_err(|e| Refusal::conflict(e.to_string()))?;
        let mut links = Vec::new();
        let mut changes = Vec::new();
        let wanted = Self::links_of(spec).to_vec();
        for link in &wanted {
            let random = self.draw();
            let (name, change) = self.decide_link(&self.state.ipam, fabric, &owner, link, random)?;
            links.push((name, change.clone()));
            changes.push(change);
        }
        for change in changes {
            self.emit(Record::Address { change });
        }
        let mut assigned = Vec::new();
        for ((network, _), link) in links.iter().zip(&wanted) {
            assigned.push(self.assigned_link(*network, &owner, link)?);
        }
        let fabric = self.state.fabrics.get(fabric).ok_or_else(|| Refusal::not_found("no such fabric"))?;
        let given = Assignment {
            id,
            fabric: fabric.spec.name.clone(),
            domain: fabric.spec.domain.clone(),
            service: service.to_owned(),
            links: assigned,
            roots: self.settings.roots.clone(),
            program: self.settings.program.clone(),
        };
        let plan = Self::plan_of(spec, &given, revision);
        let (name, fabric) = (given.name(), given.fabric.clone());
        let addresses = given.addresses();
        self.emit(Record::Instance { given: Box::new(given), spec: Box::new(spec.clone()), plan, revision });
        self.tell(
            "created",
            json!({ "unit": id, "name": name, "fabric": fabric, "service": service, "addresses": addresses }),
        );
        self.reserve(id);
        self.movable.push_back(id);
        Ok(id)
    }

    /// The plan of an instance: of a service's revision, or of none.
    pub(super) fn plan_of(spec: &InstanceSpec, given: &Assignment, revision: Option<u64>) -> Plan {
        let plan = if revision.is_some() { plan::instance } else { plan::one_off };
        plan(spec, given)
    }

    /// What a link of an instance would get by these address books.
    pub(super) fn decide_link(
        &self,
        books: &Ipam,
        fabric: &str,
        owner: &Owner,
        link: &LinkSpec,
        random: u64,
    ) -> Result<(Id, AddressChange), Refusal> {
        let missing = || Refusal::not_found(format!("network `{}` is not there", link.network));
        let fabric = self.state.fabrics.get(fabric).ok_or_else(missing)?;
        let network = (fabric.networks.get(&link.network)).and_then(|id| self.state.networks.get(id));
        let network = network.ok_or_else(missing)?;
        // The LAN's addresses are its own to give.
        let pool4 = if network.spec.lan_dhcp { Want::Nothing } else { Want::AutoIfPresent };
        let (v4, v6) = match &link.address {
            AddressMode::Fixed { addresses } => (
                free_fixed(books, addresses, true).unwrap_or(pool4),
                free_fixed(books, addresses, false).unwrap_or(Want::AutoIfPresent),
            ),
            _ => (pool4, Want::AutoIfPresent),
        };
        let name = network.given.id;
        let request = AssignRequest {
            network: name.as_str(),
            owner,
            v4,
            v6,
            mac: MacWant::Derive(random),
            now: self.now,
        };
        let refuse = |e: IpamError| Refusal::conflict(format!("network `{}`: {e}", link.network));
        Ok((name, books.decide_assign(&request).map_err(refuse)?))
    }

    fn assigned_link(&self, network: Id, owner: &Owner, link: &LinkSpec) -> Result<AssignedLink, Refusal> {
        let missing = || Refusal::not_found(format!("network `{}` is not there", link.network));
        let unit = self.state.networks.get(&network).ok_or_else(missing)?;
        let books = self.state.ipam.assignment(network.as_str(), owner).ok_or_else(missing)?;
        let addresses = books.v4.into_iter().chain(books.v6);
        let addresses = addresses
            .filter_map(|address| {
                let prefix = fabric::prefixes(&unit.spec).into_iter().find(|p| p.contains(&address))?;
                ipnet::IpNet::new(address, prefix.prefix_len()).ok()
            })
            .collect();
        Ok(AssignedLink {
            network,
            anchor: unit.given.anchor(),
            number: unit.free_link(),
            mac: books.mac.map(|m| m.0).unwrap_or_default(),
            addresses,
            gateways: gateways(&unit.spec),
            mtu: unit.spec.mtu,
            dhcp: plan::is_dhcp(&link.address),
            lan: unit.spec.lan_dhcp && plan::is_dhcp(&link.address),
            vnet: link.vnet,
        })
    }

    /// Writes a network down. Its start follows.
    pub(super) fn create_network(&mut self, fabric: &str, name: &str) -> Result<(), Refusal> {
        let (id, gateway, dhcp) = (self.draw_id(), self.draw(), self.draw());
        let given = NetworkAssignment {
            id,
            fabric: fabric.to_owned(),
            gateway_mac: fabric::draw_mac(gateway),
            dhcp_mac: fabric::draw_mac(dhcp),
        };
        let declared = self.state.fabrics.get(fabric).map(|there| &there.spec);
        let Some((whole, spec)) = declared.and_then(|whole| Some((whole, whole.networks.get(name)?.clone())))
        else {
            return Err(Refusal::not_found(format!("network `{name}` is not declared")));
        };
        let pool = fabric::pool(whole, &spec, &given);
        let change =
            self.state.ipam.decide_add_network(&pool).map_err(|e| Refusal::conflict(e.to_string()))?;
        self.emit(Record::Address { change });
        let Some(policy) = self.policy_of(fabric, &spec, &given) else { return Ok(()) };
        let plan = network(&spec, &given, &policy);
        self.policies.insert(id, policy);
        self.emit(Record::Network { given, spec, plan });
        self.movable.push_back(id);
        Ok(())
    }

    fn policy_of(
        &self,
        fabric: &str,
        spec: &crate::config::spec::NetworkSpec,
        given: &NetworkAssignment,
    ) -> Option<Policy> {
        let others = (self.state.networks.values())
            .filter(|n| n.unit.stage.is_wanted())
            .map(|n| Neighbour { fabric: &n.given.fabric, spec: self.declared(n).unwrap_or(&n.spec) });
        let fabric = self.state.fabrics.get(fabric)?;
        Some(fabric::policy(&fabric.spec, spec, given, others))
    }

    /// A network's spec as declared now: its policy may have changed since it came up.
    fn declared(&self, network: &crate::store::NetworkUnit) -> Option<&crate::config::spec::NetworkSpec> {
        self.state.fabrics.get(&network.given.fabric)?.spec.networks.get(&network.spec.name)
    }

    /// Loads the policies that are not what they should be: networks came, went or were declared anew.
    pub(super) fn refresh_policies(&mut self) {
        let ready: Vec<Id> = self
            .state
            .networks
            .iter()
            .filter(|(_, n)| n.unit.stage == Stage::Ready)
            .map(|(id, _)| *id)
            .collect();
        for id in ready {
            let Some(policy) = self.present_policy(id) else { continue };
            if self.policies.get(&id) != Some(&policy) && !self.loads_policy(id) {
                self.policies.insert(id, policy.clone());
                self.perform(Flight::Policy(id, Box::new(policy.clone())), Op::AnchorLoad(policy));
            }
        }
    }

    /// Whether a load of the network's rules is under way.
    pub(super) fn loads_policy(&self, id: Id) -> bool {
        self.is_mended(id) || self.flights.values().any(|f| matches!(f, Flight::Policy(n, _) if *n == id))
    }

    /// The policy of a network as it should be now.
    pub(super) fn present_policy(&self, id: Id) -> Option<Policy> {
        let network = self.state.networks.get(&id)?;
        let spec = self.declared(network).unwrap_or(&network.spec);
        self.policy_of(&network.given.fabric, spec, &network.given)
    }

    pub(super) fn policy_loaded(&mut self, id: Id, policy: Policy, failure: Option<Failure>) {
        self.movable.push_back(id);
        if let Some(failure) = failure {
            let name = self.name(id);
            let text = format!("the rules of the anchor {} could not be loaded: {failure}", policy.anchor);
            self.tell("policy-failed", json!({ "unit": id, "name": name, "text": text }));
            self.note_rules(id, &policy.anchor, Some(text));
            self.policies.remove(&id);
        } else {
            self.note_rules(id, &policy.anchor, None);
            // What changed meanwhile is loaded now.
            self.policies_stale = true;
        }
    }

    fn settle_networks(&mut self, name: &str) {
        let Some(fabric) = self.state.fabrics.get(name) else { return };
        let missing: Vec<String> = match fabric.dropped {
            true => Vec::new(),
            false => (fabric.spec.networks.keys())
                .filter(|n| !fabric.networks.contains_key(*n))
                .filter(|n| fabric.network_trouble.get(*n).is_none_or(|(_, at, _)| *at <= self.now))
                .cloned()
                .collect(),
        };
        let mut idle = Vec::new();
        for (network, id) in &fabric.networks {
            let declared = !fabric.dropped && fabric.spec.networks.contains_key(network);
            let used = self.state.ipam.assignments(id.as_str()).next().is_some();
            if !declared && !used {
                idle.push(*id);
            }
        }
        let nothing_left = fabric.dropped
            && fabric.networks.is_empty()
            && fabric.services.values().all(|s: &ServiceState| s.instances.is_empty());
        for network in missing {
            if let Err(refusal) = self.create_network(name, &network) {
                self.tell(
                    "network-failed",
                    json!({ "fabric": name, "network": network, "text": refusal.message }),
                );
            }
        }
        for id in idle {
            self.stop(id, asked("nothing uses the network any more"));
        }
        if nothing_left {
            self.emit(Record::FabricGone { fabric: name.to_owned() });
            self.out.effects.push(Effect::Name(NameChange::DropZone(name.to_owned())));
            self.tell("fabric-gone", json!({ "fabric": name }));
        }
    }

    /// Notes what an ending means for the next attempt. A `blameless` one is tried again whatever the policy, and does not count.
    pub(super) fn note_trouble(&mut self, id: Id, why: &Why, blameless: bool) {
        let Some(instance) = self.state.instances.get(&id) else {
            self.note_network_trouble(id, why);
            return;
        };
        if instance.revision.is_none() {
            return;
        }
        let given = Arc::clone(&instance.given);
        let Some(spec) = self.state.service_spec(&given.fabric, &given.service).cloned() else { return };
        let succeeded = why.kind == WhyKind::Ended && instance.exit.is_some_and(Status::success);
        let again = match (why.kind, spec.restart.policy) {
            (WhyKind::Asked | WhyKind::Replaced | WhyKind::Rebooted, _) => return,
            _ if blameless => true,
            (_, RestartPolicy::No) => false,
            (_, RestartPolicy::OnFailure) => !succeeded,
            (_, RestartPolicy::Always) => true,
        };
        let text = format!("{}: {}", self.name(id), why.text);
        // Ready for longer than the longest pause, it was well; what happens now is the first failure.
        let steady = self.ready_since.get(&id).is_some_and(|since| {
            u128::from(self.now.saturating_sub(*since)) >= spec.restart.backoff_max.as_millis()
        });
        if again {
            let fault = match (blameless, steady) {
                (true, _) => Fault::None,
                (false, true) => Fault::First,
                (false, false) => Fault::Again,
            };
            self.trouble(&given.fabric, &given.service, &spec, &text, fault);
        } else {
            let before = self.state.service(&given.fabric, &given.service);
            // One replica's good end does not make good what another gave up for.
            let text = if succeeded { before.and_then(|s| s.trouble.clone()) } else { Some(text) };
            self.emit(Record::Trouble {
                fabric: given.fabric.clone(),
                service: given.service.clone(),
                failures: before.map_or(0, |s| s.failures),
                not_before: 0,
                halted: true,
                text,
            });
        }
    }

    /// A network that cannot come up is tried again, ever more rarely.
    fn note_network_trouble(&mut self, id: Id, why: &Why) {
        let Some(network) = self.state.networks.get(&id).filter(|_| why.kind == WhyKind::StartFailed) else {
            return;
        };
        let (fabric, name) = (network.given.fabric.clone(), network.spec.name.clone());
        let before =
            self.state.fabrics.get(&fabric).and_then(|f| f.network_trouble.get(&name)).map_or(0, |t| t.0);
        let not_before = self.now + (1000_u64 << before.min(6)).min(60_000);
        let text = format!("network {name}: {}", why.text);
        self.timer(not_before, Timer::Service(fabric.clone(), name.clone()));
        self.emit(Record::NetworkTrouble { fabric, network: name, failures: before + 1, not_before, text });
    }

    /// Waits before the next attempt, longer with each failure in a row, or gives up.
    fn trouble(&mut self, fabric: &str, service: &str, spec: &ServiceSpec, text: &str, fault: Fault) {
        let before = self.state.service(fabric, service).map_or(0, |s| s.failures);
        let failures = match fault {
            Fault::None => before,
            Fault::First => 1,
            Fault::Again => before + 1,
        };
        let shortest = u64::try_from(spec.restart.backoff.as_millis()).unwrap_or(u64::MAX);
        let longest = u64::try_from(spec.restart.backoff_max.as_millis()).unwrap_or(u64::MAX);
        let wait = match fault {
            // Of a machine that has nothing left no more is asked each second.
            Fault::None => SHORTAGE,
            _ => shortest.saturating_mul(1 << (failures - 1).min(20)).min(longest),
        };
        let halted = fault != Fault::None
            && (spec.restart.policy == RestartPolicy::No
                || spec.restart.retries.is_some_and(|most| failures > most));
        self.emit(Record::Trouble {
            fabric: fabric.to_owned(),
            service: service.to_owned(),
            failures,
            not_before: self.now.saturating_add(wait),
            halted,
            text: Some(text.to_owned()),
        });
        self.tell(
            "trouble",
            json!({ "fabric": fabric, "service": service, "failures": failures, "gave_up": halted, "retry_in_ms": wait, "text": text }),
        );
        if !halted {
            self.timer(self.now.saturating_add(wait), Timer::Service(fabric.to_owned(), service.to_owned()));
        }
        self.unsettled.insert(fabric.to_owned());
    }
}

/// The first of a list that is free, else the first: its holder is named by the refusal. None has none of the family.
fn free_fixed(books: &Ipam, addresses: &[IpAddr], v4: bool) -> Option<Want> {
    let of_family = || addresses.iter().copied().filter(|a| a.is_ipv4() == v4);
    let address = of_family().find(|a| books.owner_of(*a).is_none()).or_else(|| of_family().next())?;
    Some(Want::Fixed { address, force: true })
}

/// Whether two instances of this cannot be at once: they would have the same address, or mount on the same places.
fn in_place(spec: &InstanceSpec) -> bool {
    let fixed = spec.links.iter().any(|link| matches!(link.address, AddressMode::Fixed { .. }));
    let shared = matches!(spec.template.source, TemplateSource::Shared { .. });
    fixed || spec.classic.is_some() || shared && !spec.mounts.is_empty()
}

/// Whether a service that needs this one still has instances: on the way down they go first.
fn dependents_live(
    states: &std::collections::BTreeMap<String, ServiceState>,
    specs: &std::collections::BTreeMap<String, ServiceSpec>,
    name: &str,
) -> bool {
    let needs = |spec: &&ServiceSpec| spec.depends_on.iter().any(|d| d == name);
    specs.values().filter(needs).any(|s| states.get(&s.name).is_some_and(|s| !s.instances.is_empty()))
}

pub(super) fn asked(text: &str) -> Why {
    Why { kind: WhyKind::Asked, phase: None, text: text.to_owned() }
}

fn replaced(text: &str) -> Why {
    Why { kind: WhyKind::Replaced, phase: None, text: text.to_owned() }
}
