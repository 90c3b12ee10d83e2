//! Bridging a real interface into a network, by the lower hook of its ng_ether(4) node (facts A.4, "ether").
//!
//! How it was before is kept in a file until it is put back, so that a new daemon can do it.

use serde::{Deserialize, Serialize};
use warren_netgraph::transport::freebsd::KernelTransport;

use super::notes::Notes;
use super::stack::Stack;
use crate::host::Failure;
use crate::host::failure::Context;
use crate::host::graph::{Graph, Uplink};

/// net/if.h: offloads that merge or strip frames, which may not happen to frames that are passed on. TSO4, TSO6, LRO,
/// VLAN_HWFILTER, VLAN_HWTSO.
const OFFLOADS: u32 = 0x100 | 0x200 | 0x400 | 0x1_0000 | 0x4_0000;

/// How an interface was.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    /// The bridge it is an uplink of.
    bridge: String,
    uplink: Uplink,
    capabilities: u32,
}

/// Bridges an interface.
pub fn attach(
    graph: &Graph<KernelTransport>,
    notes: &Notes,
    bridge: &str,
    interface: &str,
) -> Result<(), Failure> {
    let what = || format!("bridge {interface} into {bridge}");
    let host = Stack::host().doing(what)?;
    let capabilities = host.capabilities(interface).doing(what)?;
    if let Some(before) = notes.get::<Before>(interface)? {
        let hint = "an interface is the uplink of one network; VLANs of it may be those of others";
        let text = format!("{}: it is the uplink of {} already", what(), before.bridge);
        return Err(Failure::new(text).hint(hint));
    }
    let uplink = graph.uplink_state(interface)?;
    notes.put(interface, Before { bridge: bridge.to_owned(), uplink, capabilities })?;
    if capabilities & OFFLOADS != 0 {
        host.set_capabilities(interface, capabilities & !OFFLOADS)
            .doing(|| format!("turn off offloads of {interface}"))?;
    }
    graph.uplink_connect(bridge, interface)?;
    host.up(interface).doing(what)
}

/// Puts an interface back as it was. Nothing to do if it is no uplink.
pub fn detach(
    graph: &Graph<KernelTransport>,
    notes: &Notes,
    bridge: &str,
    interface: &str,
) -> Result<(), Failure> {
    let what = || format!("take {interface} off {bridge}");
    // Another network's is not ours to put back.
    let Some(before) = notes.get::<Before>(interface)?.filter(|before| before.bridge == bridge) else {
        return Ok(());
    };
    let host = Stack::host().doing(what)?;
    // A card that was taken out needs nothing.
    if host.has(interface).doing(what)? {
        graph.uplink_disconnect(bridge, interface, before.uplink)?;
        if host.capabilities(interface).doing(what)? != before.capabilities {
            host.set_capabilities(interface, before.capabilities)
                .doing(|| format!("turn on offloads of {interface}"))?;
        }
    }
    notes.drop(interface)
}
