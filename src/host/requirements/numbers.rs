//! The kernel's and pf's numbers that Warren works better with, or not at all: what each should be, and what it costs otherwise.

use std::collections::BTreeMap;

use super::{Check, Seen};

/// A number that is better large, or better small, for many instances.
struct Tunable {
    name: &'static str,
    at_least: Option<i64>,
    at_most: Option<i64>,
    /// `/boot/loader.conf` or `/etc/sysctl.conf`.
    file: &'static str,
    line: &'static str,
    cost: &'static str,
}

pub(super) const LOADER: &str = "/boot/loader.conf (read at boot)";
const SYSCTL: &str = "/etc/sysctl.conf, and sysctl(8) now";

const TUNABLES: [Tunable; 13] = [
    Tunable {
        name: "net.graph.maxdata",
        at_least: Some(16_384),
        at_most: None,
        file: LOADER,
        line: "net.graph.maxdata=\"65536\"",
        cost: "a broadcast takes one item for each link: with few, frames are lost on networks of many instances (8 MiB for 65536)",
    },
    Tunable {
        name: "net.graph.maxalloc",
        at_least: Some(16_384),
        at_most: None,
        file: LOADER,
        line: "net.graph.maxalloc=\"65536\"",
        cost: "netgraph's control messages fail with ENOMEM when many are under way",
    },
    Tunable {
        name: "net.link.ifqmaxlen",
        at_least: Some(512),
        at_most: None,
        file: LOADER,
        line: "net.link.ifqmaxlen=\"2048\"",
        cost: "a burst of more packets than this is cut short at each instance's interface",
    },
    Tunable {
        name: "net.pf.states_hashsize",
        at_least: None,
        at_most: Some(16_384),
        file: LOADER,
        line: "net.pf.states_hashsize=\"4096\"",
        cost: "with pf loaded each vnet instance wires 80 bytes for each of them, 10 MB with 131072, and its start fills them: making the jail took five times as long (seen)",
    },
    Tunable {
        name: "net.pf.source_nodes_hashsize",
        at_least: None,
        at_most: Some(4_096),
        file: LOADER,
        line: "net.pf.source_nodes_hashsize=\"1024\"",
        cost: "with pf loaded each vnet instance wires 40 bytes for each of them",
    },
    Tunable {
        name: "net.inet.tcp.tcbhashsize",
        at_least: None,
        at_most: Some(8_192),
        file: LOADER,
        line: "net.inet.tcp.tcbhashsize=\"512\"",
        cost: "each vnet instance has TCP tables of its own: 1 to 3 MB with the default of a large machine",
    },
    Tunable {
        name: "kern.racct.enable",
        at_least: Some(1),
        at_most: None,
        file: LOADER,
        line: "kern.racct.enable=\"1\"",
        cost: "rctl(8) can neither limit nor account for an instance",
    },
    Tunable {
        name: "kern.ipc.maxsockbuf",
        at_least: Some(2 << 20),
        at_most: None,
        file: SYSCTL,
        line: "kern.ipc.maxsockbuf=2097152",
        cost: "netgraph's answers about many nodes do not fit into a socket's buffer, and are lost",
    },
    Tunable {
        name: "net.graph.recvspace",
        at_least: Some(128 << 10),
        at_most: None,
        file: SYSCTL,
        line: "net.graph.recvspace=262144",
        cost: "ngctl(8) and other managers lose answers about many nodes; Warren's own sockets ask for more by themselves",
    },
    Tunable {
        name: "net.graph.maxdgram",
        at_least: Some(64 << 10),
        at_most: None,
        file: SYSCTL,
        line: "net.graph.maxdgram=131072",
        cost: "a request longer than this is refused: the frozen table of a bridge, the filter of an instance with very many addresses",
    },
    Tunable {
        name: "net.link.ether.inet.maxhold",
        at_least: Some(8),
        at_most: None,
        file: SYSCTL,
        line: "net.link.ether.inet.maxhold=16",
        cost: "of what is sent to an instance that has just come, all but so many packets are dropped until it has answered ARP",
    },
    Tunable {
        name: "net.link.ether.inet.garp_rexmit_count",
        at_least: Some(1),
        at_most: None,
        file: SYSCTL,
        line: "net.link.ether.inet.garp_rexmit_count=1",
        cost: "an address of the host is announced once when it is set: a neighbour on the LAN that misses it sends to its former owner for up to 20 minutes",
    },
    Tunable {
        name: "kern.ipc.maxsockets",
        at_least: Some(16_384),
        at_most: None,
        file: SYSCTL,
        line: "kern.ipc.maxsockets=65536",
        cost: "instances share one pool of sockets: each that runs out takes it from all",
    },
];

/// What the numbers of the kernel are worth.
pub(super) fn tuned(seen: &Seen) -> impl Iterator<Item = Check> {
    TUNABLES.iter().filter_map(|tunable| one(tunable, seen))
}

/// Their names.
pub(super) fn sysctls() -> impl Iterator<Item = &'static str> {
    TUNABLES.iter().map(|tunable| tunable.name)
}

/// Values that are just good enough.
#[cfg(test)]
pub(super) fn fitting() -> impl Iterator<Item = (&'static str, i64)> {
    TUNABLES.iter().map(|tunable| (tunable.name, tunable.at_least.or(tunable.at_most).unwrap_or_default()))
}

fn one(tunable: &Tunable, seen: &Seen) -> Option<Check> {
    let value = *seen.sysctls.get(tunable.name)?;
    let fits = tunable.at_least.is_none_or(|least| value >= least)
        && tunable.at_most.is_none_or(|most| value <= most);
    let detail = value.to_string();
    Some(if fits {
        Check::good(tunable.name, detail)
    } else {
        Check::advice(tunable.name, detail, format!("{}: {}", tunable.file, tunable.line)).costs(tunable.cost)
    })
}

/// A limit of pf's that is better large.
struct Limit {
    name: &'static str,
    at_least: i64,
    cost: &'static str,
}

/// pf.conf(5), `set limit`. The one of anchors is new in FreeBSD 15 (`PF_ANCHOR_HIWAT`: 512).
const LIMITS: [Limit; 3] = [
    Limit {
        name: "states",
        at_least: 50_000,
        cost: "all instances and the host share them: new connections fail when they are used up",
    },
    Limit {
        name: "table-entries",
        at_least: 20_000,
        cost: "each instance takes one for each service and address",
    },
    Limit {
        name: "anchors",
        at_least: 512,
        cost: "each network takes one: when they are used up no further network comes up",
    },
];

/// What pf's limits are worth.
pub(super) fn limits_of(seen: &Seen) -> impl Iterator<Item = Check> {
    LIMITS.iter().filter_map(|limit| limited(limit, seen))
}

fn limited(limit: &Limit, seen: &Seen) -> Option<Check> {
    let value = *seen.limits.get(limit.name)?;
    let name = format!("pf limit {}", limit.name);
    Some(if value >= limit.at_least {
        Check::good(name, value.to_string())
    } else {
        let line =
            format!("/etc/pf.conf: set limit {} {}; then service pf reload", limit.name, limit.at_least);
        Check::advice(name, value.to_string(), line).costs(limit.cost)
    })
}

/// Reads `pfctl -sm`: `states        hard limit   100000`.
#[must_use]
pub fn limits(text: &str) -> BTreeMap<String, i64> {
    let lines = text.lines().filter_map(|line| line.split_once("hard limit"));
    lines.filter_map(|(name, value)| Some((name.trim().to_owned(), value.trim().parse().ok()?))).collect()
}
