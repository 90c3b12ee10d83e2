//! The kernel's rules, one by one, through the handle: every request here is the kernel's bytes.

use super::*;
use crate::addr::{Mac, NodeId, NodeRef, SockaddrNg};
use crate::codec::bridge::{Config, LinkNumber};
use crate::codec::{self, Request};
use crate::data::DataSocket;
use crate::errno::Errno;
use crate::handle::{Error, Handle};
use crate::name::HookName;
use crate::transport::Transport;
use crate::transport::memory::MemoryTransport;
use std::time::Duration;

mod bridge;
mod nodes;
mod rules;
mod served;

struct Lab {
    graph: Graph,
    ports: MemoryPorts,
    handle: Handle<MemoryTransport>,
}

impl Lab {
    fn new() -> Lab {
        Lab::like(Release::V15)
    }

    fn like(release: Release) -> Lab {
        let ports = MemoryPorts::default();
        let graph = Graph::with_options(ports.clone(), Options { release });
        let handle = Handle::new(graph.transport());
        Lab { graph, ports, handle }
    }

    /// A node of this type on the handle's own hook `hook`.
    fn make(&self, node_type: &str, hook: &str, theirs: &str) -> NodeId {
        self.handle.node(NodeRef::Own).mkpeer(node_type, hook, theirs).unwrap();
        self.handle.node(NodeRef::Own).peer(hook).unwrap().id
    }

    /// A persistent hub without hooks.
    fn hub(&self) -> NodeId {
        let hub = self.make("hub", "h", "x");
        self.handle.hub(hub).set_persistent().unwrap();
        self.handle.node(NodeRef::Own).rmhook("h").unwrap();
        hub
    }

    /// A persistent bridge without hooks.
    fn bridge(&self) -> NodeId {
        let bridge = self.make("bridge", "b", "link999");
        self.handle.bridge(bridge).set_persistent().unwrap();
        self.handle.node(NodeRef::Own).rmhook("b").unwrap();
        bridge
    }

    /// An eiface on this link of a bridge: its unit is what the last `ngethN` says.
    fn station(&self, bridge: NodeId, link: &str) -> (NodeId, std::sync::Arc<MemoryPort>) {
        self.handle.node(bridge).mkpeer("eiface", link, "ether").unwrap();
        let node = self.handle.node(bridge).peer(link).unwrap().id;
        let unit = self.handle.eiface(node).ifname().unwrap()["ngeth".len()..].parse().unwrap();
        (node, self.ports.get(unit).unwrap())
    }
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn frame(to: Mac, from: Mac) -> Vec<u8> {
    [&to.0[..], &from.0, &[8, 0], b"payload"].concat()
}

fn errno<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Errno {
    match outcome {
        Err(e) => e.errno().unwrap_or_else(|| panic!("no errno: {e}")),
        Ok(value) => panic!("it worked: {value:?}"),
    }
}
