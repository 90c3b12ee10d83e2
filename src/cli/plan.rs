//! `warren plan FILE`: every step of what a file declares, and what undoes it. The plan is the one the engine carries out; only
//! ids and hardware addresses are made up, and addresses are those an empty pool gives.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Value, json};
use warren_dhcp::ipam::{AssignRequest, Ipam, Owner};

use super::Fail;
use super::fabrics::Source;
use super::out::{self, Output};
use crate::config::spec::{FabricSpec, NetworkSpec, ServiceSpec};
use crate::fabric::{Neighbour, draw_mac, policy, pool, prefixes};
use crate::ids::Id;
use crate::lifecycle::network::{FIRST_LINK, NetworkAssignment, gateways, network};
use crate::lifecycle::plan::{self, AssignedLink, Assignment};
use crate::lifecycle::step::{Act, OnFailure, Plan, Undo, When};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Only this service, without the networks
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

pub fn run(args: &Args) -> Result<u8, Fail> {
    let spec = args.source.load()?;
    if let Some(wanted) = args.service.as_ref().filter(|wanted| !spec.services.contains_key(*wanted)) {
        let known: Vec<&str> = spec.services.keys().map(String::as_str).collect();
        return Err(Fail::of(
            3,
            "not-found",
            format!("there is no service `{wanted}`: there is {}", known.join(", ")),
        ));
    }
    let mut made = Made::new(&spec)?;
    let mut units = Vec::new();
    if args.service.is_none() {
        for network in spec.networks.values() {
            units.push(Unit {
                kind: "network",
                name: network.name.clone(),
                replicas: 1,
                plan: made.network(network),
            });
        }
    }
    for service in in_order(&spec) {
        if args.service.as_ref().is_none_or(|wanted| *wanted == service.name) {
            let plan = made.service(service)?;
            units.push(Unit {
                kind: "service",
                name: service.name.clone(),
                replicas: service.replicas,
                plan,
            });
        }
    }
    if args.output.json {
        let units: Vec<Value> = units.iter().map(Unit::to_json).collect();
        out::json(&json!({ "fabric": spec.name, "units": units }));
    } else {
        units.iter().for_each(Unit::show);
    }
    Ok(0)
}

/// Services, those that others wait for first. The file was checked: there is no loop.
fn in_order(spec: &FabricSpec) -> Vec<&ServiceSpec> {
    let mut done: Vec<&ServiceSpec> = Vec::new();
    while done.len() < spec.services.len() {
        let before = done.len();
        for service in spec.services.values() {
            let has = |name: &str| done.iter().any(|d| d.name == name);
            if !has(&service.name) && service.depends_on.iter().all(|name| has(name)) {
                done.push(service);
            }
        }
        if done.len() == before {
            break;
        }
    }
    done
}

/// What was made up in place of what the store would give.
struct Made<'a> {
    spec: &'a FabricSpec,
    ipam: Ipam,
    networks: BTreeMap<&'a str, NetworkAssignment>,
    drawn: u64,
}

impl<'a> Made<'a> {
    fn new(spec: &'a FabricSpec) -> Result<Self, Fail> {
        let mut made = Self { spec, ipam: Ipam::new(), networks: BTreeMap::new(), drawn: 0 };
        for network in spec.networks.values() {
            let given = NetworkAssignment {
                id: made.id(),
                fabric: spec.name.clone(),
                gateway_mac: draw_mac(made.draw()),
                dhcp_mac: draw_mac(made.draw()),
            };
            let change = made
                .ipam
                .decide_add_network(&pool(spec, network, &given))
                .map_err(|e| Fail::new(e.to_string()))?;
            made.ipam.apply(&change).map_err(|e| Fail::new(e.to_string()))?;
            made.networks.insert(&network.name, given);
        }
        Ok(made)
    }

    /// The same numbers at every call: a plan can be compared with an earlier one.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn id(&mut self) -> Id {
        Id::from_random(self.draw())
    }

    fn network(&self, spec: &NetworkSpec) -> Plan {
        let given = &self.networks[spec.name.as_str()];
        let others = self.spec.networks.values().map(|spec| Neighbour { fabric: &self.spec.name, spec });
        network(spec, given, &policy(self.spec, spec, given, others))
    }

    fn service(&mut self, service: &ServiceSpec) -> Result<Plan, Fail> {
        let id = self.id();
        let refused = |e: String| Fail::new(format!("service `{}`: {e}", service.name));
        let owner = Owner::new(id.as_str()).map_err(|e| refused(e.to_string()))?;
        let mut links = Vec::new();
        for link in &service.instance.links {
            let random = self.draw();
            let network = &self.spec.networks[&link.network];
            let given = &self.networks[link.network.as_str()];
            let request = AssignRequest::auto(given.id.as_str(), &owner, random, 0);
            let change = self.ipam.decide_assign(&request).map_err(|e| refused(e.to_string()))?;
            self.ipam.apply(&change).map_err(|e| refused(e.to_string()))?;
            let books = self.ipam.assignment(given.id.as_str(), &owner);
            let fixed = match &link.address {
                crate::config::spec::AddressMode::Fixed { addresses } => addresses.as_slice(),
                _ => &[],
            };
            // The first replica has the first fixed address of each family.
            let first = |v4: bool| fixed.iter().find(|a| a.is_ipv4() == v4).copied();
            let v4 = first(true).or_else(|| books.and_then(|b| b.v4));
            let v6 = first(false).or_else(|| books.and_then(|b| b.v6));
            let with_length = |address: std::net::IpAddr| {
                let prefix = prefixes(network).into_iter().find(|p| p.contains(&address))?;
                IpNet::new(address, prefix.prefix_len()).ok()
            };
            links.push(AssignedLink {
                network: given.id,
                anchor: given.anchor(),
                number: FIRST_LINK,
                mac: books.and_then(|b| b.mac).map_or_else(|| draw_mac(random), |mac| mac.0),
                addresses: v4.into_iter().chain(v6).filter_map(with_length).collect(),
                gateways: gateways(network),
                mtu: network.mtu,
                dhcp: plan::is_dhcp(&link.address),
                lan: network.lan_dhcp && plan::is_dhcp(&link.address),
                vnet: link.vnet,
            });
        }
        let given = Assignment {
            id,
            fabric: self.spec.name.clone(),
            domain: self.spec.domain.clone(),
            service: service.name.clone(),
            links,
            roots: "roots".into(),
            program: "program".into(),
        };
        Ok(plan::instance(&service.instance, &given))
    }
}

struct Unit {
    kind: &'static str,
    name: String,
    replicas: u32,
    plan: Plan,
}

/// What an act does, shortly: the operation, and the values in it that tell most.
fn act(act: &Act) -> String {
    let op = match act {
        Act::Book(book) => {
            return format!(
                "books: {}",
                serde_json::to_value(book)
                    .ok()
                    .and_then(|v| v.as_str().map(str::to_owned))
                    .unwrap_or_default()
            );
        }
        Act::Host(op) => op,
    };
    let value = serde_json::to_value(op).unwrap_or_default();
    let Value::Object(map) = &value else { return value.to_string() };
    let name = map.get("op").and_then(Value::as_str).unwrap_or_default();
    let mut words = vec![name.to_owned()];
    for (key, value) in map {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Array(items) if items.is_empty() => continue,
            value => value.to_string(),
        };
        let telling = [
            "command",
            "name",
            "target",
            "path",
            "jail",
            "bridge",
            "node",
            "link",
            "interface",
            "inside",
            "addresses",
            "routes",
            "anchor",
            "tables",
            "address",
            "source",
        ];
        if key != "op" && telling.contains(&key.as_str()) && words.len() < 5 && text.len() <= 90 {
            words.push(format!("{key}={text}"));
        }
    }
    words.join(" ")
}

impl Unit {
    fn show(&self) {
        let many = if self.replicas == 1 { String::new() } else { format!(", {} times", self.replicas) };
        out::line(out::strong(&format!("{} {}{many}", self.kind, self.name)));
        out::line(out::faint("  up"));
        for step in self.plan.up.iter().chain(&self.plan.join) {
            out::line(format_args!(
                "    {:<15} {:<20} {}",
                step.phase.to_string(),
                step.key,
                out::plain(&act(&step.act))
            ));
        }
        out::line(out::faint("  down"));
        for undo in &self.plan.down {
            let when = match &undo.when {
                When::Began(key) => format!("if {key} began"),
                When::Reached(phase) => format!("if {phase} was reached"),
            };
            out::line(format_args!("    {:<26} {:<20} {}", when, undo.key, out::plain(&act(&undo.act))));
            if let Some(remark) = remark(undo) {
                out::line(format_args!("    {:<26} {}", "", out::faint(&remark)));
            }
        }
    }

    fn to_json(&self) -> Value {
        json!({ "kind": self.kind, "name": self.name, "replicas": self.replicas, "plan": self.plan })
    }
}

fn remark(undo: &Undo) -> Option<String> {
    let failure = match undo.failure {
        OnFailure::Report => Some("a failure is reported, and the stop goes on"),
        OnFailure::Abort => Some("a failure ends the stop: the instance goes on running"),
        OnFailure::Keep => None,
    };
    let needs = (!undo.needs.is_empty()).then(|| format!("after {}", undo.needs.join(", ")));
    let parts: Vec<String> = needs.into_iter().chain(failure.map(str::to_owned)).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
