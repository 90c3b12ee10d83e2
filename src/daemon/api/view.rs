//! What the API says and hears, in JSON. The CLI reads the same types.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::config::spec::{FabricSpec, Publish};
use crate::lifecycle::engine::Engine;
use crate::lifecycle::journal::{Mark, Way};
use crate::store::{InstanceUnit, Stage};

/// The daemon and where it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// Warren's version.
    pub version: String,
    /// The host: `freebsd`, `lab` or `sim`.
    pub host: String,
    /// The machine's boot id.
    pub boot: String,
    /// The daemon's process id, as it sees itself.
    pub pid: u32,
    /// The state directory.
    pub state_dir: String,
    /// Rows in the store: none but the boot's when nothing is up.
    pub rows: u64,
    /// Whether any operation is under way.
    pub idle: bool,
    /// What bears a name of Warren's on the machine and belongs to nothing in the store. It is left alone.
    pub strays: Vec<String>,
}

/// A fabric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Fabric {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub domain: String,
    /// The file of jail(8) it is of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Whether it is on its way out.
    pub going: bool,
    /// Its services, by name.
    pub services: Vec<Service>,
    /// Its networks, by name.
    pub networks: Vec<Network>,
    /// Whether all that is wanted is ready, and nothing else there.
    pub settled: bool,
    /// What stands in the way and will not go by itself.
    pub stuck: Vec<String>,
}

impl Fabric {
    /// What is not as it should be with its networks, a sentence each.
    pub fn drift(&self) -> impl Iterator<Item = String> {
        let of = |n: &'_ Network| {
            n.drift.iter().map(|text| format!("network {}: {text}", n.name)).collect::<Vec<_>>()
        };
        self.networks.iter().flat_map(of)
    }
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// How many instances are wanted.
    pub wanted: u32,
    /// How many of the present revision there are.
    pub current: usize,
    /// How many are ready.
    pub ready: usize,
    /// How many of an earlier revision there are still.
    pub outdated: usize,
    /// Failures in a row.
    pub failures: u32,
    /// Whether no further attempt is made, after what failed.
    pub gave_up: bool,
    /// Whether its work is done: an instance ended well, and is not to be replaced.
    #[serde(default)]
    pub done: bool,
    /// What the last failure was.
    pub trouble: Option<String>,
    /// Its published ports: `8080:80/tcp`.
    pub publish: Vec<String>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Its id.
    #[schema(value_type = String)]
    pub id: crate::ids::Id,
    /// Its name.
    pub name: String,
    /// Its fabric.
    pub fabric: String,
    /// `ready`, `starting`, ….
    pub stage: String,
    /// Its prefixes.
    #[schema(value_type = Vec<String>)]
    pub prefixes: Vec<IpNet>,
    /// The host's addresses on it.
    #[schema(value_type = Vec<String>)]
    pub gateways: Vec<IpAddr>,
    /// Its bridge's node.
    pub bridge: String,
    /// Its anchor.
    pub anchor: String,
    /// Instances linked to it.
    pub links: usize,
    /// Addresses given and still free: `3 of 252`.
    pub used: String,
    /// Whether it is isolated.
    pub isolated: bool,
    /// What a stop could not finish.
    pub left: Vec<String>,
    /// What is not as it should be on the machine and could not be put right.
    pub drift: Vec<String>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its id.
    #[schema(value_type = String)]
    pub id: crate::ids::Id,
    /// How people call it: `api-k3f9q2ab`.
    pub name: String,
    /// Its fabric.
    pub fabric: String,
    /// Its service.
    pub service: String,
    /// `planned`, `starting`, `running`, `ready`, `stopping` or `failed`.
    pub stage: String,
    /// Its addresses.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Its own name in DNS.
    pub dns: String,
    /// Its jail.
    pub jail: String,
    /// Why it goes or went down.
    pub why: Option<String>,
    /// What a stop could not finish.
    pub left: Vec<String>,
    /// What is not as it should be on the machine and could not be put right.
    pub drift: Vec<String>,
}

/// Everything about an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Detail {
    /// The short of it.
    #[serde(flatten)]
    pub instance: Instance,
    /// Its root on the host.
    pub root: String,
    /// Its links.
    pub links: Vec<Link>,
    /// The spec it was started from, which its stop will use. Members of the read group see no values of the environment.
    pub spec: Value,
    /// Its steps so far, in the order of the plan.
    pub steps: Vec<DoneStep>,
}

/// A link of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// The network.
    pub network: String,
    /// The bridge's hook.
    pub hook: String,
    /// The hardware address.
    pub mac: String,
    /// The addresses.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
    /// Whether a DHCP client inside sets them.
    pub dhcp: bool,
}

/// A step and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DoneStep {
    /// The step.
    pub key: String,
    /// `began`, `done`, or what it failed with.
    pub state: String,
}

/// An address given out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// The network.
    pub network: String,
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The hardware address.
    pub mac: Option<String>,
    /// Who has it.
    pub owner: String,
    /// `static`; or the state of the DHCP lease, `none` while no client has asked for it.
    pub state: String,
    /// Until when, milliseconds since the epoch, for a DHCP lease.
    pub until: Option<u64>,
}

/// A request for another number of instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Scale {
    /// How many.
    pub replicas: u32,
}

/// A request to take over jails that run already.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Import {
    /// The jails of a file as a fabric.
    #[schema(value_type = Object)]
    pub spec: FabricSpec,
    /// Those to take over; none: all that run and are not Warren's.
    #[serde(default)]
    pub services: Vec<String>,
}

/// What was taken over.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// The fabric they belong to now.
    pub fabric: String,
    /// The jails.
    pub taken: Vec<Taken>,
    /// Jails of the file that do not run.
    pub absent: Vec<String>,
}

/// A jail that was taken over, or could be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Taken {
    /// Its service.
    pub service: String,
    /// Its name in the kernel.
    pub jail: String,
    /// Its number.
    #[serde(default)]
    pub jid: Option<i32>,
    /// The instance's name; none: it was only asked whether it could be.
    #[serde(default)]
    pub name: Option<String>,
}

/// A request for one instance that is not a replica.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// The fabric whose networks and names it uses.
    pub fabric: String,
    /// The name it goes by.
    pub name: String,
    /// What it is.
    #[schema(value_type = Object)]
    pub spec: crate::config::spec::InstanceSpec,
}

/// A request to try again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Repair {
    /// One unit; none: all.
    #[schema(value_type = Option<String>)]
    pub unit: Option<crate::ids::Id>,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `not-found`, `conflict`, `invalid`, `forbidden`, `failed`.
    pub kind: String,
    /// In words.
    pub message: String,
}

/// A published port as people write it.
#[must_use]
pub fn publish_text(publish: &Publish) -> String {
    let address = publish.address.map(|a| format!("{a}:")).unwrap_or_default();
    format!("{address}{}:{}/{}", publish.port, publish.target, publish.proto.as_str())
}

/// What is seen of an instance.
#[must_use]
pub fn instance(engine: &Engine, unit: &InstanceUnit) -> Instance {
    let given = &unit.given;
    let domain = engine.state.fabrics.get(&given.fabric).map_or(&given.domain, |f| &f.spec.domain);
    Instance {
        id: given.id,
        name: given.name(),
        fabric: given.fabric.clone(),
        service: given.service.clone(),
        stage: unit.unit.stage.as_str().to_owned(),
        addresses: given.addresses(),
        dns: format!("{}.{}.{domain}", given.id, given.service),
        jail: given.jail(&unit.spec),
        why: unit.unit.why.as_ref().filter(|_| !unit.unit.stage.is_wanted()).map(|w| w.text.clone()),
        left: left(&unit.unit.left),
        drift: engine.drift_of(given.id).map(str::to_owned).collect(),
    }
}

fn left(left: &[crate::lifecycle::journal::Left]) -> Vec<String> {
    let line = |one: &crate::lifecycle::journal::Left| match &one.failure {
        Some(failure) => format!("{}: {failure}", one.key),
        None => format!("{}: waits for the above", one.key),
    };
    left.iter().map(line).collect()
}

/// What a reader sees in the place of a value of an environment.
pub const HIDDEN: &str = "(hidden)";

/// Everything about an instance; the values of its environment for those alone who may see `secrets`.
#[must_use]
pub fn detail(engine: &Engine, unit: &InstanceUnit, secrets: bool) -> Detail {
    let mut spec = (*unit.spec).clone();
    if !secrets {
        spec.env.values_mut().for_each(|value| HIDDEN.clone_into(value));
    }
    let state = |way, key: &str| match unit.unit.journal.get(way, key)? {
        Mark::Began => Some("began".to_owned()),
        Mark::Done(_) => Some("done".to_owned()),
        Mark::Failed(failure) => Some(format!("failed: {failure}")),
    };
    let plan = &unit.unit.plan;
    let up = plan.up.iter().chain(&plan.join).map(|s| (Way::Up, &s.key));
    let down = plan.down.iter().map(|u| (Way::Down, &u.key));
    let steps =
        up.chain(down).filter_map(|(way, key)| Some(DoneStep { key: key.clone(), state: state(way, key)? }));
    let links = unit.given.links.iter().map(|link| Link {
        network: engine
            .state
            .networks
            .get(&link.network)
            .map_or_else(|| link.network.to_string(), |n| n.spec.name.clone()),
        hook: format!("link{}", link.number),
        mac: warren_dhcp::Mac(link.mac).to_string(),
        addresses: link.addresses.clone(),
        dhcp: link.dhcp,
    });
    Detail {
        instance: instance(engine, unit),
        root: unit.given.root(&unit.spec).display().to_string(),
        links: links.collect(),
        spec: serde_json::to_value(&spec).unwrap_or(Value::Null),
        steps: steps.collect(),
    }
}

/// What is seen of the networks of a fabric, or of all.
#[must_use]
pub fn networks(engine: &Engine, fabric: Option<&str>) -> Vec<Network> {
    let state = &engine.state;
    let of = state.networks.values().filter(|n| fabric.is_none_or(|f| f == n.given.fabric));
    let mut networks: Vec<Network> = of
        .map(|n| {
            let id = n.given.id;
            let usage = state.ipam.usage(id.as_str());
            let used = usage.0.or(usage.1).map_or_else(String::new, |u| format!("{} of {}", u.used, u.size));
            Network {
                id,
                name: n.spec.name.clone(),
                fabric: n.given.fabric.clone(),
                stage: n.unit.stage.as_str().to_owned(),
                prefixes: crate::fabric::prefixes(&n.spec),
                gateways: crate::lifecycle::network::gateways(&n.spec),
                bridge: id.bridge(),
                anchor: n.given.anchor(),
                links: n.links.len(),
                used,
                isolated: n.spec.isolated,
                left: left(&n.unit.left),
                drift: engine.drift_of(id).map(str::to_owned).collect(),
            }
        })
        .collect();
    networks.sort_by(|a, b| (&a.fabric, &a.name).cmp(&(&b.fabric, &b.name)));
    networks
}

/// What is seen of a fabric.
#[must_use]
pub fn fabric(engine: &Engine, name: &str) -> Option<Fabric> {
    let state = &engine.state;
    let fabric = state.fabrics.get(name)?;
    let mut stuck = Vec::new();
    let mut services = Vec::new();
    for (name, service) in &fabric.services {
        let spec = fabric.spec.services.get(name);
        let wanted = spec.map_or(0, |s| s.replicas);
        let complete = engine.is_complete(service, wanted);
        // A service that gave up stands in nobody's way while it is cleaned up after, nor where all is to go.
        if service.gave_up() && !complete && !engine.is_going(service) && !fabric.dropped {
            stuck.push(service.trouble.clone().unwrap_or_else(|| format!("service {name} gave up")));
        }
        services.push(Service {
            name: name.clone(),
            wanted,
            current: service.current.len(),
            ready: service.ready.len(),
            outdated: service.outdated.len(),
            failures: service.failures,
            gave_up: service.gave_up(),
            done: service.is_done(),
            trouble: service.trouble.clone(),
            publish: spec.map_or_else(Vec::new, |s| s.publish.iter().map(publish_text).collect()),
        });
        for id in &service.instances {
            let Some(unit) = state.instances.get(id) else { continue };
            match unit.unit.stage {
                Stage::Failed => {
                    let text = left(&unit.unit.left).join("; ");
                    stuck.push(format!("{name}-{id} could not be taken down whole: {text}"));
                }
                _ if unit.refused && fabric.dropped => {
                    stuck.push(format!(
                        "{name}-{id} refused to stop: a stop hook failed and on_stop_failure is \"abort\""
                    ));
                }
                _ => {}
            }
        }
    }
    let networks = networks(engine, Some(name));
    for network in &networks {
        if network.stage == Stage::Failed.as_str() {
            stuck.push(format!(
                "network {} could not be taken down whole: {}",
                network.name,
                network.left.join("; ")
            ));
        }
    }
    // A network that did not come up is in nobody's way where all is to go, nor known to be while something moves: a stop may be
    // quiet for as long as its hooks and timeouts are.
    let moves =
        |stage: Stage| matches!(stage, Stage::Starting | Stage::Joining | Stage::Leaving | Stage::Stopping);
    let instances = fabric.services.values().flat_map(|s| &s.instances);
    let moving = (instances.chain(fabric.networks.values()))
        .any(|id| state.unit(*id).is_some_and(|unit| moves(unit.stage)));
    if !fabric.dropped && !moving {
        stuck.extend(fabric.network_trouble.values().map(|(_, _, text)| text.clone()));
    }
    Some(Fabric {
        name: fabric.spec.name.clone(),
        domain: fabric.spec.domain.clone(),
        origin: fabric.spec.origin.as_ref().map(|path| path.display().to_string()),
        going: fabric.dropped,
        services,
        networks,
        settled: engine.is_settled(&fabric.spec.name),
        stuck,
    })
}

/// All addresses given out.
#[must_use]
pub fn leases(engine: &Engine) -> Vec<LeaseView> {
    let state = &engine.state;
    let mut rows = Vec::new();
    for network in state.networks.values() {
        for (owner, books) in state.ipam.assignments(network.given.id.as_str()) {
            let id = owner.as_str().parse::<crate::ids::Id>().ok();
            let unit = id.and_then(|id| state.instances.get(&id));
            let name = unit.map_or_else(|| owner.to_string(), |u| u.given.name());
            for address in books.v4.into_iter().chain(books.v6) {
                let lease = match address {
                    IpAddr::V4(v4) => network.leases.at(v4),
                    IpAddr::V6(_) => None,
                };
                // IPv4 of a DHCP link is its client's to take; everything else is set when the instance starts.
                let is_asked_for = |u: &crate::store::InstanceUnit| {
                    u.given.links.iter().any(|l| l.network == network.given.id && l.dhcp)
                };
                let unasked =
                    if address.is_ipv4() && unit.is_some_and(is_asked_for) { "none" } else { "static" };
                rows.push(LeaseView {
                    network: network.spec.name.clone(),
                    address,
                    mac: books.mac.map(|m| m.to_string()),
                    owner: name.clone(),
                    state: lease
                        .map_or_else(|| unasked.to_owned(), |l| format!("{:?}", l.state).to_lowercase()),
                    until: lease.map(|l| l.expiry),
                });
            }
        }
    }
    rows.sort_by_key(|r| r.address);
    rows
}
