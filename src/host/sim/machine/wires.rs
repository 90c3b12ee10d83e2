//! Nodes of the graph, and the interfaces they are.

use std::net::IpAddr;

use super::{
    Done, EADDRINUSE, EEXIST, EINVAL, ENOENT, ENOTCONN, ENXIO, Machine, SimBridge, SimEiface, error,
};
use crate::host::{Failure, Op, SeenInterface};

impl SimEiface {
    /// It comes home: down, and without its addresses.
    pub(super) fn leave(&mut self) {
        (self.jail, self.inside, self.up) = (None, None, false);
        self.addresses.clear();
        self.gateways.clear();
    }

    pub(super) fn settings(&self) -> SeenInterface {
        SeenInterface {
            up: self.up,
            mac: Some(self.mac),
            addresses: self.addresses.iter().map(ipnet::IpNet::addr).collect(),
            gateways: Some(self.gateways.iter().copied().collect()),
        }
    }
}

impl Machine {
    pub(super) fn graph(&mut self, op: &Op) -> Done {
        match op {
            Op::BridgeCreate { bridge } => match self.bridges.contains_key(bridge) {
                true => Err(error(EEXIST, format!("node {bridge} is there already"))),
                false => {
                    self.bridges.insert(bridge.clone(), SimBridge::default());
                    Ok(())
                }
            },
            Op::BridgeDestroy { bridge } => {
                self.bridges.remove(bridge);
                Ok(())
            }
            Op::UplinkAttach { bridge, interface } => {
                self.bridge(bridge)?;
                self.uplinks.insert(interface.clone(), bridge.clone());
                Ok(())
            }
            Op::UplinkDetach { interface, .. } => {
                self.uplinks.remove(interface);
                Ok(())
            }
            Op::EifaceCreate { node, mac, .. } => {
                if self.eifaces.contains_key(node) {
                    return Err(error(EADDRINUSE, format!("node {node} is there already")));
                }
                let eiface = SimEiface {
                    mac: *mac,
                    jail: None,
                    inside: None,
                    addresses: Vec::new(),
                    gateways: Vec::new(),
                    up: false,
                    guarded: false,
                    open: false,
                };
                self.eifaces.insert(node.clone(), eiface);
                Ok(())
            }
            Op::EifaceDestroy { node } => {
                let inside = self.eifaces.get(node).and_then(|e| e.jail.clone());
                assert!(
                    inside.is_none(),
                    "kernel panic: eiface {node} shut down inside jail {inside:?} (PR 292993)"
                );
                for bridge in self.bridges.values_mut() {
                    bridge.links.retain(|_, n| n != node);
                }
                self.eifaces.remove(node);
                Ok(())
            }
            Op::LinkConnect { node, bridge, link, guarded } => {
                if !self.eifaces.contains_key(node) {
                    return Err(error(ENOENT, format!("node {node} is not there")));
                }
                let bridge = self.bridge(bridge)?;
                if bridge.links.contains_key(link) {
                    return Err(error(EEXIST, format!("hook link{link} is taken")));
                }
                bridge.links.insert(*link, node.clone());
                self.eifaces.entry(node.clone()).and_modify(|e| e.guarded = *guarded);
                Ok(())
            }
            Op::LinkDisconnect { node, bridge, link } => {
                if let Some(bridge) = self.bridges.get_mut(bridge)
                    && bridge.links.get(link) == Some(node)
                {
                    bridge.links.remove(link);
                    bridge.table.retain(|_, l| l != link);
                }
                if let Some(eiface) = self.eifaces.get_mut(node) {
                    (eiface.guarded, eiface.open) = (false, false);
                }
                Ok(())
            }
            Op::LinkOpen { node, bridge, link, mac, .. } => {
                let bridge = self.bridge(bridge)?;
                if bridge.links.get(link) != Some(node) {
                    return Err(error(ENOTCONN, format!("{node} is not at link{link}")));
                }
                bridge.table.insert(*mac, *link);
                self.eifaces.entry(node.clone()).and_modify(|e| e.open = true);
                Ok(())
            }
            Op::BridgeSeed { bridge, link, mac } => {
                self.bridge(bridge)?.table.insert(*mac, *link);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn bridge(&mut self, name: &str) -> Result<&mut SimBridge, Failure> {
        self.bridges.get_mut(name).ok_or_else(|| error(ENOENT, format!("node {name} is not there")))
    }

    pub(super) fn interface(&mut self, op: &Op) -> Done {
        match op {
            Op::IfMoveIn { interface, jail, inside } => {
                if !self.jail(jail)?.vnet {
                    return Err(error(EINVAL, format!("jail {jail} has no stack of its own")));
                }
                let taken = self
                    .eifaces
                    .values()
                    .any(|e| e.jail.as_ref() == Some(jail) && e.inside.as_ref() == Some(inside));
                let eiface = self.eifaces.get_mut(interface);
                let eiface =
                    eiface.ok_or_else(|| error(ENXIO, format!("interface {interface} is not there")))?;
                if taken {
                    return Err(error(EEXIST, format!("{inside} is taken in {jail}")));
                }
                (eiface.jail, eiface.inside) = (Some(jail.clone()), Some(inside.clone()));
                Ok(())
            }
            Op::IfMoveHome { interface, .. } => {
                if let Some(eiface) = self.eifaces.get_mut(interface) {
                    eiface.leave();
                }
                Ok(())
            }
            Op::IfConfigure { interface, jail, addresses, routes, .. } => {
                let found = self.eifaces.iter_mut().find(|(name, e)| {
                    e.jail == *jail
                        && (e.inside.as_ref() == Some(interface) || jail.is_none() && *name == interface)
                });
                let (_, eiface) =
                    found.ok_or_else(|| error(ENXIO, format!("interface {interface} is not there")))?;
                eiface.addresses.clone_from(addresses);
                eiface.gateways.clone_from(routes);
                eiface.up = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn probe(&self, address: IpAddr) -> Done {
        let owner = self.eifaces.values().find(|e| e.addresses.iter().any(|a| a.addr() == address));
        let jail =
            owner.filter(|e| e.open).and_then(|e| e.jail.as_ref()).and_then(|name| self.jails.get(name));
        match jail {
            Some(jail) if !jail.processes.is_empty() => Ok(()),
            _ => Err(error(61, format!("{address}: connection refused"))),
        }
    }
}
