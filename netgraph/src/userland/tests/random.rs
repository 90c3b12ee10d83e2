//! Any messages in any order: no panic, and the graph stays one.

use super::*;
use crate::codec::generic::{Connect, MkPeer, Name, RmHook, Shutdown};
use crate::{HookName, NodeName, TypeName};
use proptest::collection::vec;
use proptest::prelude::*;

/// One thing done to the graph. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    MkPeer(u8, u8, u8, u8),
    Connect(u8, u8, u8, u8),
    RmHook(u8, u8),
    Shutdown(u8),
    Name(u8, u8),
    Persist(u8),
    Move(u8, u8, u8),
    Frame(u8, u8, u8),
    Tick(u8),
    Raw(u8, u8, u32, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = any::<u8>;
    let step = prop_oneof![
        4 => (n(), n(), n(), n()).prop_map(|(a, b, c, d)| Step::MkPeer(a, b, c, d)),
        4 => (n(), n(), n(), n()).prop_map(|(a, b, c, d)| Step::Connect(a, b, c, d)),
        2 => (n(), n()).prop_map(|(a, b)| Step::RmHook(a, b)),
        1 => n().prop_map(Step::Shutdown),
        1 => (n(), n()).prop_map(|(a, b)| Step::Name(a, b)),
        2 => n().prop_map(Step::Persist),
        2 => (n(), n(), n()).prop_map(|(a, b, c)| Step::Move(a, b, c)),
        4 => (n(), n(), n()).prop_map(|(a, b, c)| Step::Frame(a, b, c)),
        1 => n().prop_map(Step::Tick),
        2 => (n(), n(), 0u32..16, vec(any::<u8>(), 0..120)).prop_map(|(a, b, c, d)| Step::Raw(a, b, c, d)),
    ];
    vec(step, 1..120)
}

const HOOKS: [&str; 7] = ["link0", "link1", "link2", "uplink1", "ether", "a", "b"];
const TYPES: [&str; 4] = ["bridge", "hub", "bpf", "eiface"];
const COOKIES: [u32; 7] = [
    crate::sys::NGM_GENERIC_COOKIE,
    crate::sys::NGM_BRIDGE_COOKIE,
    crate::sys::NGM_BPF_COOKIE,
    crate::sys::NGM_EIFACE_COOKIE,
    crate::sys::NGM_HUB_COOKIE,
    crate::sys::NGM_SOCKET_COOKIE,
    crate::sys::NGM_ETHER_COOKIE,
];

fn hook(n: u8) -> HookName {
    HookName::new(HOOKS[usize::from(n) % HOOKS.len()]).unwrap()
}

fn run(lab: &Lab, step: Step, now: &mut u64) {
    let own = lab.handle.own().unwrap().id;
    let nodes = lab.graph.snapshot().nodes;
    let node = |n: u8| nodes[usize::from(n) % nodes.len()].id;
    // Its own end would end the test; only that is left out.
    let other = |n: u8| node(n) != own;
    match step {
        Step::MkPeer(n, t, a, b) => {
            let node_type = TypeName::new(TYPES[usize::from(t) % TYPES.len()]).unwrap();
            let _ = lab.handle.request(node(n), &MkPeer { node_type, ours: hook(a), theirs: hook(b) });
        }
        Step::Connect(n, m, a, b) => {
            let path = format!("{}:", node(m)).into_bytes();
            let _ = lab.handle.request(node(n), &Connect { path, ours: hook(a), theirs: hook(b) });
        }
        Step::RmHook(n, a) => lab.handle.request(node(n), &RmHook { hook: hook(a) }).unwrap(),
        Step::Shutdown(n) if other(n) => lab.handle.request(node(n), &Shutdown).unwrap(),
        Step::Name(n, a) => {
            let _ = lab.handle.request(node(n), &Name { name: NodeName::from_wire(&[b'a' + a % 4]) });
        }
        Step::Persist(n) => {
            let _ = lab.handle.bridge(node(n)).set_persistent();
            let _ = lab.handle.hub(node(n)).set_persistent();
        }
        Step::Move(n, m, a) => {
            let _ = lab.handle.bridge(node(n)).move_host(mac(m % 8), HOOKS[usize::from(a) % HOOKS.len()]);
        }
        Step::Frame(n, to, from) => {
            let bytes = frame(mac(to % 9), mac(from % 9));
            lab.graph.input(node(n), Side::Stack, &bytes[..usize::from(to) % (bytes.len() + 1)]);
            lab.graph.input(node(n), Side::Stack, &bytes);
        }
        Step::Tick(seconds) => {
            *now += u64::from(seconds);
            lab.graph.tick(Duration::from_secs(*now));
        }
        Step::Raw(n, cookie, command, data) if other(n) => {
            let mut message = codec::encode(&Shutdown, 1);
            message[4..8].copy_from_slice(&(data.len() as u32).to_ne_bytes());
            message[8..12].copy_from_slice(&command.to_ne_bytes());
            let cookie = COOKIES[usize::from(cookie) % COOKIES.len()];
            message[20..24].copy_from_slice(&cookie.to_ne_bytes());
            message.extend_from_slice(&data);
            let to = SockaddrNg::new(format!("{}:", node(n)).as_bytes()).unwrap();
            let _ = lab.handle.with_transport(|t| t.send(&to, &message));
        }
        _ => {}
    }
}

/// What is true of every graph.
fn check(lab: &Lab) -> Result<(), TestCaseError> {
    let snapshot = lab.graph.snapshot();
    let mut names = std::collections::HashSet::new();
    for node in &snapshot.nodes {
        prop_assert!(node.name.is_empty() || names.insert(node.name), "{} twice", node.name);
        for hook in &node.hooks {
            let peer = snapshot.node(hook.peer).unwrap();
            let back = peer.hooks.iter().find(|h| h.name == hook.peer_hook).unwrap();
            prop_assert_eq!((back.peer, back.peer_hook), (node.id, hook.name), "both ends know each other");
        }
        match &node.detail {
            Detail::Bridge { persistent, hosts, links, .. } => {
                prop_assert!(*persistent || !node.hooks.is_empty());
                prop_assert_eq!(links.len(), node.hooks.len());
                prop_assert!(hosts.iter().all(|host| node.hooks.iter().any(|h| h.name == host.hook)));
            }
            Detail::Hub { persistent } => prop_assert!(*persistent || !node.hooks.is_empty()),
            Detail::Bpf { .. } => prop_assert!(!node.hooks.is_empty()),
            Detail::Eiface { ifname, unit, .. } => {
                prop_assert_eq!(ifname.clone(), Some(format!("ngeth{unit}")))
            }
            Detail::Ether { .. } | Detail::Socket => {}
        }
    }
    let eifaces = snapshot.nodes.iter().filter(|n| matches!(n.detail, Detail::Eiface { .. })).count();
    prop_assert_eq!(lab.ports.alive(), eifaces, "an interface for each, and no more");
    prop_assert_eq!(lab.handle.nodes().unwrap().len(), snapshot.nodes.len());
    Ok(())
}

proptest! {
    #[test]
    fn the_graph_stays_a_graph(steps in steps()) {
        let lab = Lab::new();
        let mut now = 1;
        for step in steps {
            run(&lab, step, &mut now);
            check(&lab)?;
        }
        // And nothing is left of it.
        for node in lab.graph.snapshot().nodes.iter().filter(|n| !matches!(n.detail, Detail::Socket)) {
            let _ = lab.handle.node(node.id).shutdown();
        }
        prop_assert_eq!(lab.graph.snapshot().nodes.len(), 1);
        prop_assert_eq!(lab.ports.alive(), 0);
    }
}
