//! The plan of a network: bridge, gateway, packet filter, DNS sockets; the DHCP server's place on the bridge.
//!
//! A network is a unit like an instance: the same engine brings it up and down, from the plan stored at its start.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::step::{Act, OnFailure, Phase, Plan, Step, Undo, When};
use crate::config::spec::{NetworkSpec, Proto};
use crate::firewall::Policy;
use crate::host::{Mac, Op};
use crate::ids::Id;

/// The bridge's hook of the gateway.
pub const GATEWAY_LINK: u32 = 1;
/// The bridge's hook of the DHCP server.
pub const DHCP_LINK: u32 = 2;
/// The first hook given to instances; those below are Warren's own.
pub const FIRST_LINK: u32 = 16;

/// What a network was given before its first effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAssignment {
    /// Its id.
    pub id: Id,
    /// The fabric it belongs to.
    pub fabric: String,
    /// The gateway's hardware address.
    pub gateway_mac: Mac,
    /// The DHCP server's hardware address.
    pub dhcp_mac: Mac,
}

impl NetworkAssignment {
    /// The anchor: one per network.
    #[must_use]
    pub fn anchor(&self) -> String {
        format!("warren/{}", self.id)
    }

    /// The name a DNS socket is left with the keeper under.
    #[must_use]
    pub fn socket(&self, address: IpAddr, proto: Proto) -> String {
        format!("dns/{}/{}/{address}", self.id, proto.as_str())
    }
}

/// The host's addresses on the network.
#[must_use]
pub fn gateways(spec: &NetworkSpec) -> Vec<IpAddr> {
    spec.gateway4.map(IpAddr::from).into_iter().chain(spec.gateway6.map(IpAddr::from)).collect()
}

/// The host's addresses on the network with the network's prefix length.
fn gateway_nets(spec: &NetworkSpec) -> Vec<IpNet> {
    let length = |address: IpAddr| match address {
        IpAddr::V4(_) => spec.ipv4.map_or(32, |n| n.prefix_len()),
        IpAddr::V6(_) => spec.ipv6.map_or(128, |n| n.prefix_len()),
    };
    gateways(spec).into_iter().filter_map(|a| IpNet::new(a, length(a)).ok()).collect()
}

/// Makes the plan.
#[must_use]
pub fn network(spec: &NetworkSpec, given: &NetworkAssignment, policy: &Policy) -> Plan {
    let (bridge, gateway) = (given.id.bridge(), given.id.gateway());
    let mut up: Vec<(Phase, String, Op)> =
        vec![(Phase::Create, "bridge".into(), Op::BridgeCreate { bridge: bridge.clone() })];
    if let Some(interface) = &spec.uplink {
        up.push((
            Phase::Create,
            "uplink".into(),
            Op::UplinkAttach { bridge: bridge.clone(), interface: interface.clone() },
        ));
    }
    let connect =
        Op::LinkConnect { node: gateway.clone(), bridge: bridge.clone(), link: GATEWAY_LINK, guarded: false };
    let open = Op::LinkOpen {
        node: gateway.clone(),
        bridge,
        link: GATEWAY_LINK,
        guard: None,
        mac: given.gateway_mac,
    };
    let configure = Op::IfConfigure {
        interface: gateway.clone(),
        jail: None,
        addresses: gateway_nets(spec),
        routes: Vec::new(),
        loopback: false,
    };
    let create = Op::EifaceCreate { node: gateway, mac: given.gateway_mac, mtu: spec.mtu };
    up.extend([
        (Phase::Link, "eiface".into(), create),
        (Phase::Link, "link".into(), connect),
        (Phase::Configure, "configure".into(), configure),
        (Phase::Open, "open".into(), open),
    ]);
    for address in gateways(spec) {
        for proto in [Proto::Udp, Proto::Tcp] {
            let name = given.socket(address, proto);
            let listen = Op::Listen { name, address: SocketAddr::new(address, 53), proto };
            up.push((Phase::Name, format!("listen.{}.{address}", proto.as_str()), listen));
        }
    }
    up.push((Phase::Egress, "anchor".into(), Op::AnchorLoad(policy.clone())));
    let steps: Vec<Step> =
        up.into_iter().map(|(phase, key, op)| Step { key, phase, act: Act::Host(op) }).collect();
    let mut down: Vec<Undo> = Vec::new();
    for step in steps.iter().rev() {
        let Act::Host(op) = &step.act else { continue };
        let Some(op) = op.undo() else { continue };
        // The bridge goes last, and only when nothing hangs on it any more.
        let needs = if step.key == "bridge" || step.key == "eiface" {
            down.iter().filter(|u| u.key != "un.anchor").map(|u| u.key.clone()).collect()
        } else {
            Vec::new()
        };
        down.push(Undo {
            key: format!("un.{}", step.key),
            act: Act::Host(op),
            when: When::Began(step.key.clone()),
            needs,
            failure: OnFailure::Keep,
        });
    }
    Plan { up: steps, join: Vec::new(), down, leave: Vec::new() }
}
