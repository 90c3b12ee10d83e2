//! Lives of nodes; hubs, eifaces, filters, ethers, sockets.

use super::*;
use crate::guard;

#[test]
fn nodes_end_with_their_last_hook_unless_they_persist() {
    let lab = Lab::new();
    for node_type in ["hub", "bridge", "bpf"] {
        let node = lab.make(node_type, "a", "link1");
        lab.handle.node(NodeRef::Own).rmhook("a").unwrap();
        assert_eq!(errno(lab.handle.node(node).info()), Errno::ENOENT, "{node_type}");
    }
    let hub = lab.hub();
    assert_eq!(lab.handle.node(hub).info().unwrap().hooks, 0);
    lab.handle.node(hub).shutdown().unwrap();
    assert_eq!(errno(lab.handle.node(hub).info()), Errno::ENOENT);
}

#[test]
fn what_hangs_on_a_node_goes_with_it() {
    let lab = Lab::new();
    let hub = lab.hub();
    for n in 0..1000 {
        lab.handle.node(hub).mkpeer("bpf", &format!("a{n}"), "x").unwrap();
    }
    let (eiface, _) = lab.station(hub, "s");
    assert_eq!(lab.handle.nodes().unwrap().len(), 1003);
    lab.handle.node(hub).shutdown().unwrap();
    let left: Vec<_> = lab.handle.nodes().unwrap().iter().map(|node| node.id).collect();
    assert_eq!(left, [lab.handle.own().unwrap().id, eiface]);
}

#[test]
fn an_eiface_lives_until_it_is_shut_down() {
    let lab = Lab::new();
    let hub = lab.hub();
    let (node, port) = lab.station(hub, "a");
    assert!(port.carrier());
    lab.handle.node(hub).rmhook("a").unwrap();
    assert!(!port.carrier());
    let info = lab.handle.node(node).info().unwrap();
    assert_eq!((info.name.to_string().as_str(), info.hooks), ("ngeth0", 0));
    assert_eq!(errno(lab.handle.node(node).connect(hub, "other", "x")), Errno::EPFNOSUPPORT);
    lab.handle.node(node).connect(hub, "ether", "x").unwrap();
    assert_eq!(errno(lab.handle.node(node).connect(hub, "ether", "y")), Errno::EEXIST);
    lab.handle.node(node).set_name("w1").unwrap();
    assert_eq!(lab.handle.eiface(node).ifname().unwrap(), "ngeth0");
    lab.handle.eiface(node).link_down().unwrap();
    assert!(!port.carrier());
    drop(port);
    lab.handle.node(node).shutdown().unwrap();
    assert_eq!(lab.ports.alive(), 0);
}

#[test]
fn unit_numbers_are_the_lowest_free() {
    let lab = Lab::new();
    let hub = lab.hub();
    let nodes: Vec<_> = (0..4).map(|n| lab.station(hub, &format!("s{n}")).0).collect();
    lab.handle.node(nodes[2]).shutdown().unwrap();
    lab.handle.node(nodes[1]).shutdown().unwrap();
    let ifname = |hook: &str| lab.handle.eiface(lab.station(hub, hook).0).ifname().unwrap();
    assert_eq!(ifname("t0"), "ngeth1");
    assert_eq!(ifname("t1"), "ngeth2");
    assert_eq!(ifname("t2"), "ngeth4");
    // A name that is taken leaves the node without one.
    lab.handle.node(nodes[3]).shutdown().unwrap();
    lab.handle.node(nodes[0]).set_name("ngeth3").unwrap();
    let (node, _) = lab.station(hub, "t3");
    assert!(lab.handle.node(node).info().unwrap().name.is_empty());
    assert_eq!(lab.handle.eiface(node).ifname().unwrap(), "ngeth3");
}

#[test]
fn an_interface_that_cannot_be_made() {
    let graph = Graph::new(NoPorts);
    let handle = Handle::new(graph.transport());
    let before = graph.snapshot().topology();
    assert_eq!(errno(handle.node(NodeRef::Own).mkpeer("eiface", "a", "ether")), Errno::EOPNOTSUPP);
    assert_eq!(graph.snapshot().topology(), before);
}

#[test]
fn ten_thousand_eifaces() {
    let lab = Lab::new();
    let hub = lab.hub();
    for n in 0..10_000 {
        lab.handle.node(hub).mkpeer("eiface", &format!("w{n}"), "ether").unwrap();
    }
    assert_eq!(lab.handle.nodes().unwrap().len(), 10_002);
    assert_eq!(lab.handle.node(hub).hooks().unwrap().links.len(), 10_000);
    assert_eq!(lab.handle.node(NodeRef::Path("[2]:w7777")).info().unwrap().name, "ngeth7777");
    for n in 0..10_000 {
        lab.handle.node(NodeRef::Name(&format!("ngeth{n}"))).shutdown().unwrap();
    }
    assert_eq!(lab.ports.alive(), 0);
}

#[test]
fn sockets() {
    let lab = Lab::new();
    let other = Handle::new(lab.graph.transport());
    let id = other.own().unwrap().id;
    let hub = {
        other.node(NodeRef::Own).mkpeer("hub", "a", "x").unwrap();
        other.node(NodeRef::Own).peer("a").unwrap().id
    };
    // Closing the socket takes its node and the hub that hung on it.
    drop(other);
    assert_eq!(errno(lab.handle.node(id).info()), Errno::ENOENT);
    assert_eq!(errno(lab.handle.node(hub).info()), Errno::ENOENT);

    let brief = Handle::new(lab.graph.transport());
    let id = brief.own().unwrap().id;
    brief.socket(NodeRef::Own).no_linger().unwrap();
    brief.node(NodeRef::Own).mkpeer("hub", "a", "x").unwrap();
    lab.handle.node(id).rmhook("a").unwrap();
    assert_eq!(errno(lab.handle.node(id).info()), Errno::ENOENT);
}

#[test]
fn data_sockets() {
    let lab = Lab::new();
    let own = lab.handle.own().unwrap().id;
    let data = lab.graph.data_socket(own, 20480).unwrap();
    assert_eq!(lab.graph.data_socket(own, 20480).err(), Some(Errno::EADDRINUSE));
    let hub = lab.hub();
    assert_eq!(lab.graph.data_socket(hub, 20480).err(), Some(Errno::EINVAL));
    let (_, port) = lab.station(hub, "s");
    let hook = |name: &str| HookName::from_wire(name.as_bytes());
    let send =
        |name: &str| data.send(&hook(name), b"from the socket").map_err(|e| Errno::from_io(&e).unwrap());
    assert_eq!(send("d"), Err(Errno::EHOSTUNREACH));
    assert_eq!(send(""), Err(Errno::EDESTADDRREQ));
    lab.handle.node(NodeRef::Own).connect(hub, "d", "x").unwrap();
    assert_eq!(send("d"), Ok(()));
    assert_eq!(send(""), Ok(()), "the only hook");
    assert_eq!(port.take(), vec![b"from the socket"; 2]);
    lab.handle.node(NodeRef::Own).connect(hub, "e", "y").unwrap();
    assert_eq!(send(""), Err(Errno::EDESTADDRREQ));

    port.send(b"from the station");
    let mut buffer = [0; 100];
    let mut hooks = Vec::new();
    while let Some((hook, len)) = data.receive(&mut buffer, Duration::ZERO).unwrap() {
        assert_eq!(&buffer[..len], b"from the station");
        hooks.push(hook.to_string());
    }
    hooks.sort();
    assert_eq!(hooks, ["d", "e"]);

    // What does not fit is lost.
    let big = vec![0; 9000];
    (0..5).for_each(|_| port.send(&big));
    let mut buffer = vec![0; 9000];
    let got = std::iter::from_fn(|| data.receive(&mut buffer, Duration::ZERO).unwrap()).count();
    assert_eq!(got, 2);
}

#[test]
fn a_hub_repeats() {
    let lab = Lab::new();
    let hub = lab.hub();
    let ports: Vec<_> = (0..4).map(|n| lab.station(hub, &format!("s{n}")).1).collect();
    ports[0].send(b"anything at all");
    assert_eq!(ports.iter().map(|p| p.count()).collect::<Vec<_>>(), [0, 1, 1, 1]);
}

#[test]
fn circles_end() {
    let lab = Lab::new();
    let hub = lab.hub();
    let (_, port) = lab.station(hub, "s");
    for n in 0..3 {
        lab.handle.node(hub).connect(hub, &format!("a{n}"), &format!("b{n}")).unwrap();
    }
    port.send(&frame(Mac::BROADCAST, mac(1)));
    assert!(port.count() > 0);
}

/// A filter between a station and a hub with another station.
fn filtered() -> (Lab, NodeId, std::sync::Arc<MemoryPort>, std::sync::Arc<MemoryPort>) {
    let lab = Lab::new();
    let hub = lab.hub();
    let (jail, inner) = lab.station(hub, "s");
    lab.handle.node(hub).rmhook("s").unwrap();
    let (_, outer) = lab.station(hub, "t");
    lab.handle.node(jail).mkpeer("bpf", "ether", "jail").unwrap();
    let bpf = lab.handle.node(jail).peer("ether").unwrap().id;
    lab.handle.node(bpf).connect(hub, "net", "f").unwrap();
    (lab, bpf, inner, outer)
}

#[test]
fn a_new_filter_drops() {
    let (lab, bpf, inner, outer) = filtered();
    inner.send(b"out");
    outer.send(b"in");
    assert_eq!((inner.count(), outer.count()), (0, 0));
    let program = lab.handle.bpf(bpf).program("jail").unwrap();
    assert_eq!(program.program, guard::closed());
    assert!(program.if_match.is_empty() && program.if_not_match.is_empty());
    assert_eq!(lab.handle.bpf(bpf).stats("jail").unwrap().recv_frames, 1);
}

#[test]
fn a_filter_filters() {
    let (lab, node, inner, outer) = filtered();
    let bpf = lab.handle.bpf(node);
    assert_eq!(errno(bpf.set_program("other", "net", "", &guard::open())), Errno::ENOENT);
    let nothing = crate::bpf::Program(vec![]);
    assert!(matches!(bpf.set_program("jail", "net", "", &nothing), Err(Error::Program(_))));
    let hook = |name: &[u8]| HookName::from_wire(name);
    let (hook, if_match) = (hook(b"jail"), hook(b"net"));
    let invalid = codec::bpf::HookProgram { hook, if_match, if_not_match: hook, program: nothing };
    assert_eq!(errno(lab.handle.request(node, &invalid)), Errno::EINVAL);
    assert_eq!(errno(bpf.stats("other")), Errno::ENOENT);
    let guard = guard::Guard {
        mac: inner.mac().unwrap(),
        v4: vec![[10, 0, 0, 1].into()],
        v6: vec![],
        allow_dhcp: false,
    };
    bpf.set_program("jail", "net", "", &guard.program().unwrap()).unwrap();
    bpf.set_program("net", "jail", "", &guard::open()).unwrap();
    let mut good = frame(Mac::BROADCAST, inner.mac().unwrap());
    good.truncate(14);
    good.extend([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let mut bad = good.clone();
    bad[29] = 2;
    inner.send(&good);
    inner.send(&bad);
    outer.send(b"anything");
    assert_eq!(outer.take(), [good.clone()]);
    assert_eq!(inner.take(), [b"anything"]);
    let stats = bpf.take_stats("jail").unwrap();
    assert_eq!((stats.recv_frames, stats.recv_match_frames, stats.xmit_frames), (2, 1, 1));
    assert_eq!((stats.recv_octets, stats.recv_match_octets), (2 * good.len() as u64, good.len() as u64));
    assert_eq!(bpf.stats("jail").unwrap(), Default::default());
}

#[test]
fn a_filter_routes_and_cuts() {
    let (lab, node, inner, outer) = filtered();
    let bpf = lab.handle.bpf(node);
    let keep =
        |k| crate::bpf::Program(vec![crate::bpf::Insn { code: crate::bpf::code::RET, jt: 0, jf: 0, k }]);
    // What does not match goes back where it came from.
    bpf.set_program("jail", "net", "jail", &keep(0)).unwrap();
    inner.send(b"echo");
    assert_eq!(inner.take(), [b"echo"]);
    bpf.set_program("jail", "net", "jail", &keep(2)).unwrap();
    inner.send(b"echo");
    assert_eq!(outer.take(), [b"ec"]);
    // A hook that comes later is found by its name; one that goes is forgotten.
    bpf.set_program("jail", "later", "", &guard::open()).unwrap();
    inner.send(b"lost");
    lab.handle.node(node).mkpeer("eiface", "later", "ether").unwrap();
    inner.send(b"found");
    assert_eq!(lab.ports.get(2).unwrap().take(), [b"found"]);
    lab.handle.node(node).rmhook("later").unwrap();
    inner.send(b"lost");
    assert_eq!(bpf.program("jail").unwrap().if_match, "later");
}

fn ether(lab: &Lab, name: &str) -> (NodeId, std::sync::Arc<MemoryPort>, std::sync::Arc<MemoryPort>) {
    let side = || std::sync::Arc::new(MemoryPort::new(name, mac(0xee), 16));
    let (wire, stack) = (side(), side());
    let (w, s) = (Box::new(wire.clone()), Box::new(stack.clone()));
    let node = lab.graph.attach_ether(EtherPort { name: name.into(), index: 3, wire: w, stack: s }).unwrap();
    (node, wire, stack)
}

#[test]
fn an_ether_is_the_node_of_an_interface() {
    let lab = Lab::new();
    let (node, wire, stack) = ether(&lab, "em0.7");
    assert_eq!(lab.handle.node(NodeRef::Name("em0_7")).info().unwrap().id, node);
    let again = MemoryPort::new("em0.7", mac(1), 0);
    let port =
        EtherPort { name: "em0.7".into(), index: 4, wire: Box::new(again), stack: Box::new(stack.clone()) };
    assert_eq!(lab.graph.attach_ether(port), Err(Errno::EADDRINUSE));
    let e = lab.handle.ether(node);
    assert_eq!(
        (e.ifname().unwrap().as_str(), e.ifindex().unwrap(), e.mac().unwrap()),
        ("em0.7", 3, mac(0xee))
    );
    e.set_mac(mac(0xef)).unwrap();
    assert_eq!((e.mac().unwrap(), wire.mac().unwrap()), (mac(0xef), mac(0xef)));
    let group = Mac([1, 0, 0x5e, 0, 0, 1]);
    e.add_multicast(group).unwrap();
    assert_eq!(errno(e.add_multicast(group)), Errno::EADDRINUSE);
    e.del_multicast(group).unwrap();
    assert_eq!(errno(e.del_multicast(group)), Errno::ENOENT);
    assert_eq!(errno(lab.handle.node(node).mkpeer("hub", "middle", "x")), Errno::EINVAL);

    // Unconnected it lets everything through.
    wire.send(&frame(mac(1), mac(2)));
    stack.send(&frame(mac(2), mac(1)));
    assert_eq!((wire.take().len(), stack.take().len()), (1, 1));

    // A shutdown resets it: it loses its hooks and its promiscuity, and stays.
    e.set_promisc(true).unwrap();
    lab.handle.node(node).mkpeer("hub", "lower", "x").unwrap();
    assert_eq!(errno(lab.handle.node(node).mkpeer("hub", "divert", "x")), Errno::EISCONN);
    lab.handle.node(node).shutdown().unwrap();
    assert_eq!(lab.handle.node(node).info().unwrap().hooks, 0);
    assert!(!e.promisc().unwrap());
    e.detach().unwrap();
    assert_eq!(errno(lab.handle.node(node).info()), Errno::ENOENT);
}

#[test]
fn an_ether_bridges_the_wire() {
    let lab = Lab::new();
    let (node, wire, stack) = ether(&lab, "em0");
    let bridge = lab.bridge();
    lab.handle.node(node).connect(bridge, "lower", "uplink1").unwrap();
    let (_, port) = lab.station(bridge, "link1");
    wire.send(&frame(Mac::BROADCAST, mac(7)));
    assert_eq!((port.take().len(), stack.take().len()), (1, 0), "the stack above sees nothing");
    port.send(&frame(mac(7), mac(1)));
    assert_eq!(wire.take(), [frame(mac(7), mac(1))]);
    lab.handle.ether(node).set_autosrc(true).unwrap();
    port.send(&frame(mac(7), mac(1)));
    assert_eq!(wire.take(), [frame(mac(7), mac(0xee))], "the interface's own source");
    // The upper hook leads to and from the stack.
    lab.handle.node(node).connect(bridge, "upper", "link2").unwrap();
    stack.send(&frame(mac(1), mac(8)));
    assert_eq!(port.take(), [frame(mac(1), mac(8))]);
    port.send(&frame(mac(8), mac(1)));
    assert_eq!(stack.take(), [frame(mac(8), mac(1))]);
}

#[test]
fn snapshots_are_values() {
    let lab = Lab::new();
    let bridge = lab.bridge();
    let empty = lab.graph.snapshot();
    let (node, port) = lab.station(bridge, "link1");
    lab.station(bridge, "link2");
    lab.handle.bridge(bridge).move_host(mac(1), "link1").unwrap();
    let seeded = lab.graph.snapshot();
    assert_ne!(seeded, empty);
    assert_eq!(seeded.node(node).unwrap().hooks[0].peer_hook, "link1");
    assert_eq!(seeded.named("ngeth0").unwrap().id, node);
    port.send(&frame(Mac::BROADCAST, mac(1)));
    assert_ne!(lab.graph.snapshot(), seeded);
    assert_eq!(lab.graph.snapshot().topology(), seeded.topology(), "but for counters");
    drop(port);
    for name in ["ngeth0", "ngeth1"] {
        lab.handle.node(NodeRef::Name(name)).shutdown().unwrap();
    }
    assert_eq!(lab.graph.snapshot(), empty);
}
