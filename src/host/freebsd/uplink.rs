//! Bridging a real interface into a network, by the lower hook of its ng_ether(4) node (facts A.4, "ether").
//!
//! How it was before is kept in a file until it is put back, so that a new daemon can do it.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use warren_netgraph::transport::freebsd::KernelTransport;

use super::layout;
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
    uplink: Uplink,
    capabilities: u32,
}

/// Bridges an interface.
pub fn attach(
    graph: &Graph<KernelTransport>,
    state_dir: &Path,
    bridge: &str,
    interface: &str,
) -> Result<(), Failure> {
    let what = || format!("bridge {interface} into {bridge}");
    let host = Stack::host().doing(what)?;
    let capabilities = host.capabilities(interface).doing(what)?;
    let file = layout::uplink(state_dir, interface);
    if file.exists() {
        return Err(Failure::new(format!("{}: it is an uplink already ({})", what(), file.display())));
    }
    let uplink = graph.uplink_state(interface)?;
    let before = serde_json::to_vec(&Before { uplink, capabilities })
        .map_err(|error| Failure::new(format!("{}: {error}", what())))?;
    fs::create_dir_all(file.parent().unwrap_or(state_dir)).doing(what)?;
    fs::write(&file, before).doing(|| format!("write {}", file.display()))?;
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
    state_dir: &Path,
    bridge: &str,
    interface: &str,
) -> Result<(), Failure> {
    let what = || format!("take {interface} off {bridge}");
    let file = layout::uplink(state_dir, interface);
    let before = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.doing(|| format!("read {}", file.display()))?,
    };
    let before: Before = serde_json::from_slice(&before)
        .map_err(|error| Failure::new(format!("{}: {}: {error}", what(), file.display())))?;
    let host = Stack::host().doing(what)?;
    // A card that was taken out needs nothing.
    if host.has(interface).doing(what)? {
        graph.uplink_disconnect(bridge, interface, before.uplink)?;
        if host.capabilities(interface).doing(what)? != before.capabilities {
            host.set_capabilities(interface, before.capabilities)
                .doing(|| format!("turn on offloads of {interface}"))?;
        }
    }
    fs::remove_file(&file).doing(|| format!("remove {}", file.display()))
}
