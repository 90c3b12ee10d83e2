//! Serves DNS: the zones are made from what the engine says, the sockets come from the keeper.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use serde_json::{Value, json};
use warren_dns::server::{Limits, Policy, Route, Server};
use warren_dns::{Change, Host as FixedHost, Instance, Port, Proto, Snapshot, ZoneConfig, ZoneError};

use super::GRACE;
use crate::config::spec::{self, FabricSpec, NetworkSpec};
use crate::host::Failure;
use crate::ids::Id;
use crate::lifecycle::engine::NameChange;
use crate::lifecycle::network::{NetworkAssignment, gateways};

/// Seconds a client may remember an answer: instances come and go.
const TTL: u32 = 2;
/// Seconds a client may remember that a name does not exist.
const NEGATIVE_TTL: u32 = 2;

/// The zones and the server that answers from them.
pub struct Zones {
    snapshot: Arc<ArcSwap<Snapshot>>,
    server: Server,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    fabrics: BTreeMap<String, FabricZone>,
    /// The zone an instance's names are in.
    instances: HashMap<Id, String>,
    /// Where a network is served.
    networks: HashMap<Id, Vec<Served>>,
}

/// A socket that is answered on.
struct Served {
    at: SocketAddr,
    /// As the keeper knows it, which has the same: for the next keeper.
    name: String,
    socket: OwnedFd,
}

struct FabricZone {
    origin: String,
    services: Vec<String>,
    prefixes: Vec<IpNet>,
    /// In the file's order.
    upstreams: Vec<SocketAddr>,
}

impl Default for Zones {
    fn default() -> Self {
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::new()));
        let server = Server::new(Arc::clone(&snapshot), Policy::default(), Limits::default());
        Self { snapshot, server, known: Mutex::default() }
    }
}

impl Zones {
    /// Every record, for `warren dns ls`.
    #[must_use]
    pub fn records(&self) -> Value {
        let records = self.snapshot.load().records(None);
        let row = |r: &warren_dns::RecordView| json!({ "name": r.name, "type": r.rtype, "ttl": r.ttl, "data": r.data });
        records.iter().map(row).collect()
    }

    /// Makes one change. It is visible to the next query when this returns.
    ///
    /// # Errors
    /// When the zone cannot hold it; what was there stays.
    pub fn change(
        &self,
        change: NameChange,
        fabric: Option<&FabricSpec>,
        serial: u32,
    ) -> Result<(), ZoneError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.snapshot.load();
        let next = match change {
            NameChange::Zone(name) => match fabric.and_then(|f| zone_config(f, serial).map(|c| (f, c))) {
                Some((fabric, config)) => known.declare(&now, name, fabric, config)?,
                None => return Ok(()),
            },
            NameChange::DropZone(name) => match known.fabrics.remove(&name) {
                Some(zone) => now.remove_zone(&zone.origin)?,
                None => return Ok(()),
            },
            NameChange::Publish { id, fabric, service, addresses, ports } => {
                let Some(zone) = known.fabrics.get(&fabric) else { return Ok(()) };
                let origin = zone.origin.clone();
                known.instances.insert(id, origin.clone());
                now.apply(&origin, &[Change::AddInstance(instance(id, service, &addresses, &ports))])?
            }
            NameChange::Withdraw(id) => match known.instances.remove(&id) {
                Some(origin) => now.apply(&origin, &[Change::RemoveInstance { id: id.to_string() }])?,
                None => return Ok(()),
            },
            NameChange::Ready(id, ready) => match known.instances.get(&id) {
                Some(origin) => now.apply(origin, &[Change::SetReady { id: id.to_string(), ready }])?,
                None => return Ok(()),
            },
        };
        self.snapshot.store(Arc::new(next));
        self.server.set_policy(known.policy());
        Ok(())
    }

    /// Answers on a network's gateway addresses, with the sockets left with the keeper, which `socket` has by name. Needs a tokio
    /// runtime around it.
    ///
    /// # Errors
    /// When a socket cannot be had. Then the network is not answered on at all.
    pub fn serve(
        &self,
        socket: &dyn Fn(&str) -> Result<Option<OwnedFd>, Failure>,
        network: &NetworkAssignment,
        spec: &NetworkSpec,
    ) -> Result<(), Failure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.networks.contains_key(&network.id) {
            return Ok(());
        }
        let mut served = Vec::new();
        let added = gateways(spec).into_iter().try_for_each(|gateway| {
            [spec::Proto::Udp, spec::Proto::Tcp].into_iter().try_for_each(|proto| {
                let name = network.socket(gateway, proto);
                let Some(socket) = socket(&name)? else { return Ok(()) };
                let held = socket.try_clone().map_err(|e| Failure::os(format!("hold {name}"), &e))?;
                let added = match proto {
                    spec::Proto::Udp => self.server.add_udp(UdpSocket::from(socket)),
                    spec::Proto::Tcp => self.server.add_tcp(TcpListener::from(socket)),
                };
                let what = format!("DNS on {gateway} over {}", proto.as_str());
                let at = added.map_err(|e| Failure::os(what, &e))?;
                served.push(Served { at, name, socket: held });
                Ok(())
            })
        });
        match added {
            Ok(()) => drop(known.networks.insert(network.id, served)),
            // Half of it would be in the way of the next attempt.
            Err(_) => served.iter().for_each(|served| {
                self.server.remove(served.at);
            }),
        }
        added
    }

    /// Answers on a network no longer.
    pub fn unserve(&self, network: Id) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for served in known.networks.remove(&network).into_iter().flatten() {
            self.server.remove(served.at);
        }
    }

    /// Answers what was taken out of the sockets, and takes no more: questions wait there for the next daemon.
    pub async fn end(&self) {
        if !self.server.shutdown(GRACE).await {
            tracing::info!("questions that were forwarded had no answer yet; who asked them asks again");
        }
    }

    /// Leaves all sockets that are answered on with a keeper that has none of them.
    pub fn leave_sockets(&self, keep: &dyn Fn(&str, OwnedFd) -> Result<(), Failure>) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for Served { name, socket, .. } in known.networks.values().flatten() {
            let copy = socket.try_clone().map_err(|e| Failure::os("copying it", &e));
            if let Err(failure) = copy.and_then(|copy| keep(name, copy)) {
                tracing::error!(%failure, name, "a socket could not be left with the keeper");
            }
        }
    }
}

impl Known {
    fn declare(
        &mut self,
        now: &Snapshot,
        name: String,
        fabric: &FabricSpec,
        config: ZoneConfig,
    ) -> Result<Snapshot, ZoneError> {
        let origin = config.origin.clone();
        let services: Vec<String> = fabric.services.keys().cloned().collect();
        let before = self.fabrics.get(&name);
        let placed = if before.is_some() { now.reconfigure(config)? } else { now.add_zone(config)? };
        let gone = before.iter().flat_map(|z| &z.services).filter(|s| !services.contains(s));
        let changes: Vec<Change> = (gone.map(|s| Change::WithdrawService { service: s.clone() }))
            .chain(services.iter().map(|s| Change::DeclareService { service: s.clone() }))
            .collect();
        let next = placed.apply(&origin, &changes)?;
        let prefixes = fabric.networks.values().flat_map(crate::fabric::prefixes).collect();
        let upstreams = fabric.forward.iter().map(|a| SocketAddr::new(*a, 53)).collect();
        self.fabrics.insert(name, FabricZone { origin, services, prefixes, upstreams });
        Ok(next)
    }

    /// Instances may have foreign names forwarded where their fabric says to whom, and to nobody else: what an office's
    /// instances ask for is nothing to the resolver of another fabric.
    fn policy(&self) -> Policy {
        let route = |z: &FabricZone| Route { clients: z.prefixes.clone(), upstreams: z.upstreams.clone() };
        Policy { routes: self.fabrics.values().map(route).collect() }
    }
}

/// The zone of a fabric; none without a network, since nobody could ask.
fn zone_config(fabric: &FabricSpec, serial: u32) -> Option<ZoneConfig> {
    let gateways: Vec<IpAddr> = fabric.networks.values().flat_map(gateways).collect();
    if gateways.is_empty() {
        return None;
    }
    Some(ZoneConfig {
        origin: fabric.domain.clone(),
        ttl: TTL,
        negative_ttl: NEGATIVE_TTL,
        serial,
        ns: FixedHost { label: "ns".into(), addresses: gateways.clone() },
        hosts: vec![FixedHost { label: "gw".into(), addresses: gateways }],
        reverse: fabric.networks.values().flat_map(crate::fabric::prefixes).collect(),
    })
}

fn instance(id: Id, service: String, addresses: &[IpAddr], ports: &[spec::ServicePort]) -> Instance {
    let port = |p: &spec::ServicePort| Port {
        name: p.name.clone(),
        proto: match p.proto {
            spec::Proto::Tcp => Proto::Tcp,
            spec::Proto::Udp => Proto::Udp,
        },
        port: p.port,
    };
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(a) => v4.push(*a),
            IpAddr::V6(a) => v6.push(*a),
        }
    }
    let txt = vec![format!("id={id}"), format!("service={service}")];
    Instance {
        id: id.to_string(),
        service,
        v4,
        v6,
        ready: false,
        ports: ports.iter().map(port).collect(),
        txt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fabric(name: &str, net: &str, forward: &str) -> FabricSpec {
        let text =
            format!("name = \"{name}\"\nforward = [\"{forward}\"]\n[networks.{name}]\nipv4 = \"{net}\"\n");
        crate::config::parse("test.toml", &text).unwrap()
    }

    #[tokio::test]
    async fn questions_go_to_the_resolvers_of_the_fabric_they_are_asked_in() {
        let zones = Zones::default();
        let (office, public) =
            (fabric("office", "10.1.0.0/24", "192.0.2.1"), fabric("public", "10.2.0.0/24", "192.0.2.2"));
        for spec in [&office, &public] {
            zones.change(NameChange::Zone(spec.name.clone()), Some(spec), 1).unwrap();
        }
        let route = |net: &str, to: &str| Route {
            clients: vec![net.parse().unwrap()],
            upstreams: vec![to.parse().unwrap()],
        };
        let both = vec![route("10.1.0.0/24", "192.0.2.1:53"), route("10.2.0.0/24", "192.0.2.2:53")];
        assert_eq!(zones.known.lock().unwrap().policy(), Policy { routes: both });
        zones.change(NameChange::DropZone("office".into()), None, 2).unwrap();
        let left = vec![route("10.2.0.0/24", "192.0.2.2:53")];
        assert_eq!(zones.known.lock().unwrap().policy(), Policy { routes: left });
    }

    #[tokio::test]
    async fn a_network_that_could_not_be_served_whole_is_not_served_and_can_be_served_later() {
        let zones = Zones::default();
        let office = fabric("office", "10.1.0.0/24", "192.0.2.1");
        let network = NetworkAssignment {
            id: Id::from_random(1),
            fabric: "office".into(),
            gateway_mac: [0; 6],
            dhcp_mac: [0; 6],
        };
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind(udp.local_addr().unwrap()).unwrap();
        let serve = |tcp_there: bool| {
            let socket = |name: &str| match name.contains("/udp/") {
                true => Ok(Some(udp.try_clone().unwrap().into())),
                false if tcp_there => Ok(Some(tcp.try_clone().unwrap().into())),
                false => Err(Failure::new("the keeper does not answer")),
            };
            zones.serve(&socket, &network, &office.networks["office"])
        };
        assert!(serve(false).unwrap_err().to_string().contains("the keeper does not answer"));
        assert_eq!(zones.server.listening(), []);
        serve(true).unwrap();
        assert_eq!(zones.server.listening().len(), 2);
        // What is served is not in its own way.
        serve(true).unwrap();
        zones.unserve(network.id);
        assert_eq!(zones.server.listening(), []);
    }
}
