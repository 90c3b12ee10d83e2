//! Ids, names, addresses, limits, replies.

use super::*;

#[test]
fn ids_count_from_one_and_are_not_used_again() {
    let lab = Lab::new();
    assert_eq!(lab.handle.own().unwrap().id, NodeId(1));
    let first = lab.make("hub", "a", "x");
    assert_eq!(first, NodeId(2));
    lab.handle.node(first).shutdown().unwrap();
    assert_eq!(errno(lab.handle.node(first).info()), Errno::ENOENT);
    assert!(lab.make("hub", "a", "x") > first);
}

#[test]
fn names() {
    let lab = Lab::new();
    let (a, b) = (lab.make("hub", "a", "x"), lab.make("hub", "b", "x"));
    lab.handle.node(a).set_name("one").unwrap();
    lab.handle.node(a).set_name("one").unwrap();
    assert_eq!(errno(lab.handle.node(b).set_name("one")), Errno::EADDRINUSE);
    assert_eq!(lab.handle.node(NodeRef::Name("one")).info().unwrap().id, a);
    lab.handle.node(a).set_name("two").unwrap();
    assert_eq!(errno(lab.handle.node(NodeRef::Name("one")).info()), Errno::ENOENT);
    lab.handle.node(b).set_name("one").unwrap();
    assert_eq!(lab.handle.names().unwrap().len(), 2);
    lab.handle.node(b).shutdown().unwrap();
    assert_eq!(lab.handle.names().unwrap().len(), 1);
    // Names that the handle would not send. (To a node without a name, none is the one it has.)
    lab.handle
        .request(lab.make("hub", "c", "x"), &codec::generic::Name { name: crate::NodeName::from_wire(b"") })
        .unwrap();
    for bad in ["", "a.b", "a:b", "[1f]"] {
        let request = codec::generic::Name { name: crate::NodeName::from_wire(bad.as_bytes()) };
        assert_eq!(errno(lab.handle.request(a, &request)), Errno::EINVAL, "{bad}");
        assert!(matches!(lab.handle.node(a).set_name(bad), Err(Error::Name(_))), "{bad}");
    }
}

#[test]
fn addresses() {
    let lab = Lab::new();
    let hub = lab.make("hub", "a", "x");
    lab.handle.node(hub).mkpeer("hub", "b", "y").unwrap();
    lab.handle.node(hub).set_name("hub").unwrap();
    let far = lab.handle.node(NodeRef::Path("a.b")).info().unwrap().id;
    for path in ["hub:b", "[2]:b", ".:a.b", "a.b.", ".a.b"] {
        assert_eq!(lab.handle.node(NodeRef::Path(path)).info().unwrap().id, far, "{path}");
    }
    assert_eq!(lab.handle.node(NodeRef::Path("[2]:b.y.x")).info().unwrap().id, lab.handle.own().unwrap().id);
    for (path, expected) in [
        ("nobody:", Errno::ENOENT),
        ("hub:c", Errno::ENOENT),
        ("[ff]:", Errno::ENOENT),
        (":", Errno::EINVAL),
        ("a:b:", Errno::EINVAL),
        ("a..b", Errno::EINVAL),
        ("h.b:", Errno::EINVAL),
    ] {
        assert_eq!(errno(lab.handle.node(NodeRef::Path(path)).info()), expected, "{path}");
    }
    assert!(matches!(lab.handle.node(NodeRef::Path(&"x".repeat(32))).info(), Err(Error::Address { .. })));
}

#[test]
fn mkpeer() {
    let lab = Lab::new();
    let before = lab.graph.snapshot().topology();
    let own = lab.handle.node(NodeRef::Own);
    assert_eq!(errno(own.mkpeer("frobnicator", "a", "x")), Errno::ENOENT);
    assert_eq!(errno(own.mkpeer("socket", "a", "x")), Errno::EINVAL);
    assert_eq!(errno(own.mkpeer("ether", "a", "lower")), Errno::EINVAL);
    assert_eq!(errno(own.mkpeer("eiface", "a", "other")), Errno::EPFNOSUPPORT);
    for link in ["uplink0", "link01", "lnk1", "ether"] {
        assert_eq!(errno(own.mkpeer("bridge", "a", link)), Errno::EINVAL, "{link}");
    }
    // What failed left nothing behind.
    assert_eq!(lab.graph.snapshot().topology(), before);
    assert_eq!(lab.ports.alive(), 0);
    own.mkpeer("hub", "a", "x").unwrap();
    assert_eq!(errno(own.mkpeer("hub", "a", "x")), Errno::EEXIST);
    assert_eq!(errno(own.mkpeer("eiface", "a", "ether")), Errno::EEXIST);
    assert_eq!(lab.handle.nodes().unwrap().len(), 2);
    assert_eq!(lab.ports.alive(), 0);
}

#[test]
fn connect_and_rmhook() {
    let lab = Lab::new();
    let (hub, bridge) = (lab.hub(), lab.bridge());
    let node = |id| lab.handle.node(id);
    node(hub).connect(bridge, "a", "link1").unwrap();
    assert_eq!(errno(node(hub).connect(bridge, "a", "link2")), Errno::EEXIST);
    assert_eq!(errno(node(hub).connect(bridge, "b", "link1")), Errno::EEXIST);
    assert_eq!(errno(node(hub).connect(bridge, "b", "nolink")), Errno::EINVAL);
    assert_eq!(errno(node(hub).connect(NodeRef::Name("nobody"), "b", "x")), Errno::ENOENT);
    assert_eq!(errno(node(bridge).connect(bridge, "link2", "link3")), Errno::ELOOP);
    node(hub).connect(hub, "c", "d").unwrap();
    assert_eq!(node(hub).peer("c").unwrap().id, hub);
    assert_eq!(node(bridge).info().unwrap().hooks, 1);

    node(bridge).rmhook("link1").unwrap();
    node(bridge).rmhook("link1").unwrap();
    node(bridge).rmhook("never-was").unwrap();
    assert_eq!(node(hub).hooks().unwrap().links.len(), 2);
    assert!(!node(hub).is_connected("a").unwrap() && node(hub).is_connected("c").unwrap());
}

#[test]
fn peers_of_long_hooks_are_found_too() {
    let lab = Lab::new();
    let long = "a-hook-of-31-bytes-is-possible!";
    assert_eq!(long.len(), 31);
    let hub = lab.hub();
    lab.handle.node(hub).mkpeer("hub", long, "x").unwrap();
    let peer = lab.handle.node(hub).peer(long).unwrap();
    assert_eq!(peer.node_type, "hub");
    assert!(!lab.handle.node(hub).is_connected("another-hook-of-31-bytes-it-is!").unwrap());
}

#[test]
fn messages_that_are_none() {
    let lab = Lab::new();
    let mut socket = lab.graph.transport();
    let to = SockaddrNg::new(b".").unwrap();
    let good = codec::encode(&codec::generic::GetNodeInfo, 1);
    let mut send = |bytes: &[u8]| socket.send(&to, bytes).map_err(|e| Errno::from_io(&e).unwrap());
    assert_eq!(send(&good), Ok(()));
    assert_eq!(send(&good[..55]), Err(Errno::EINVAL));
    assert_eq!(send(&[]), Err(Errno::EINVAL));
    assert_eq!(send(&[&[9], &good[1..]].concat()), Err(Errno::EINVAL), "another version");
    assert_eq!(send(&[&good[..], &[0]].concat()), Err(Errno::EINVAL), "more than it says");
    assert_eq!(send(&vec![8; 20481]), Err(Errno::EMSGSIZE));
    let mut command = good.clone();
    command[8..12].copy_from_slice(&99u32.to_ne_bytes());
    assert_eq!(send(&command), Err(Errno::EINVAL), "no such command");
    // An argument of the wrong length.
    let mut short = codec::encode(&codec::generic::RmHook { hook: HookName::new("x").unwrap() }, 1);
    short.truncate(56 + 31);
    short[4..8].copy_from_slice(&31u32.to_ne_bytes());
    assert_eq!(send(&short), Err(Errno::EINVAL));
}

#[test]
fn types_know_only_their_own_commands() {
    let lab = Lab::new();
    let (hub, bridge) = (lab.hub(), lab.bridge());
    assert_eq!(errno(lab.handle.bridge(hub).config()), Errno::EINVAL);
    assert_eq!(errno(lab.handle.hub(bridge).set_persistent()), Errno::EINVAL);
    assert_eq!(errno(lab.handle.node(hub).text_status()), Errno::EINVAL);
    let types = lab.handle.types().unwrap();
    assert_eq!(types.iter().find(|t| t.name == "hub").unwrap().nodes, 1);
    assert_eq!(types.iter().find(|t| t.name == "eiface").unwrap().nodes, 0);
}

#[test]
fn a_reply_that_does_not_fit_is_lost() {
    let lab = Lab::new();
    let mut socket = lab.graph.plain_transport();
    let hub = lab.hub();
    // 20480 = 34 + 56 + 72 + n × 136: 149 hooks fit, 150 do not.
    let fill = |n: usize| lab.handle.node(hub).connect(hub, &format!("a{n}"), &format!("b{n}"));
    (0..74).for_each(|n| fill(n).unwrap());
    lab.handle.node(hub).mkpeer("hub", "c", "x").unwrap();
    let to = SockaddrNg::new(format!("{hub}:").as_bytes()).unwrap();
    let ask = codec::encode(&codec::generic::ListHooks, 7);
    socket.send(&to, &ask).unwrap();
    assert!(socket.receive(Duration::ZERO).unwrap().is_some(), "149 hooks");

    lab.handle.node(hub).mkpeer("hub", "d", "x").unwrap();
    let lost = socket.send(&to, &ask).unwrap_err();
    assert_eq!(Errno::from_io(&lost), Some(Errno::ENOBUFS), "150 hooks");
    assert_eq!(socket.receive(Duration::ZERO).unwrap(), None, "nothing, and nothing said");

    socket.set_report_loss(true);
    socket.send(&to, &ask).unwrap_err();
    let error = socket.receive(Duration::ZERO).unwrap_err();
    assert_eq!(Errno::from_io(&error), Some(Errno::ENOBUFS));
    assert_eq!(socket.receive(Duration::ZERO).unwrap(), None, "said once");

    socket.set_receive_buffer(1 << 20).unwrap();
    socket.send(&to, &ask).unwrap();
    assert!(socket.receive(Duration::ZERO).unwrap().is_some());
    assert_eq!(socket.set_receive_buffer(7_456_541), Err(Errno::ENOBUFS));
}

#[test]
fn replies_share_the_buffer() {
    let lab = Lab::new();
    let mut socket = lab.graph.plain_transport();
    socket.set_report_loss(true);
    let to = SockaddrNg::new(b".").unwrap();
    // 34 + 56 + 72 bytes each, in 20480.
    let mut ask = |n| socket.send(&to, &codec::encode(&codec::generic::GetNodeInfo, n));
    (0..126).for_each(|n| ask(n).unwrap());
    ask(126).unwrap_err();
    for n in 0..126 {
        let received = socket.receive(Duration::ZERO).unwrap().unwrap();
        assert_eq!(codec::Message::parse(&received.message).unwrap().header.token, n);
        assert_eq!(received.from.text(), format!("{}:", socket.node()).as_bytes());
    }
    assert!(socket.receive(Duration::ZERO).is_err());
}

#[test]
fn the_handle_says_that_a_reply_was_lost_and_asks_no_more_than_it_may() {
    let lab = Lab::new();
    let transport = lab.graph.plain_transport();
    transport.set_report_loss(true);
    transport.set_receive_buffer(100).unwrap();
    let handle = Handle::new(transport);
    assert!(matches!(handle.own(), Err(Error::ReplyLost { .. })));
    // One that changes something is not asked again: what it did is done once.
    let bridge = lab.bridge();
    let (_, port) = lab.station(bridge, "link0");
    port.send(&frame(Mac::BROADCAST, mac(1)));
    assert!(matches!(handle.bridge(bridge).take_stats(LinkNumber::Link(0)), Err(Error::ReplyLost { .. })));
    assert_eq!(lab.handle.bridge(bridge).stats(LinkNumber::Link(0)).unwrap().recv_packets, 0);
}

#[test]
fn without_loss_reports_the_send_still_says_it() {
    let lab = Lab::new();
    let transport = lab.graph.plain_transport();
    transport.set_receive_buffer(100).unwrap();
    assert!(matches!(Handle::new(transport).own(), Err(Error::ReplyLost { .. })));
}

#[test]
fn messages_between_sockets_are_passed_up() {
    let lab = Lab::new();
    let mut other = lab.graph.transport();
    let to = SockaddrNg::new(format!("{}:", lab.handle.own().unwrap().id).as_bytes()).unwrap();
    let message = codec::encode(&codec::eiface::LinkDown, 3);
    other.send(&to, &message).unwrap();
    lab.handle.own().unwrap();
    let events = lab.handle.take_events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].message, message);
    assert_eq!(events[0].from.text(), format!("{}:", other.node()).as_bytes());
}

#[test]
fn a_socket_that_was_shut_down_is_at_its_end() {
    let lab = Lab::new();
    let other = Handle::new(lab.graph.transport());
    let id = other.own().unwrap().id;
    lab.handle.node(id).shutdown().unwrap();
    assert_eq!(errno(other.node(NodeRef::Own).shutdown()), Errno::EPIPE);
    let end = other.with_transport(|t| t.receive(Duration::ZERO)).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn requests_of_the_codec_are_all_understood_somewhere() {
    // A guard against a command that the graph forgot: each is sent to a node of its type and must not be EINVAL.
    let lab = Lab::new();
    let bridge = lab.bridge();
    let (eiface, _) = lab.station(bridge, "link0");
    let bpf = lab.make("bpf", "f", "in");
    let ask = |name: &str, outcome: Result<(), Error>| {
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    };
    let b = lab.handle.bridge(bridge);
    ask("config", b.config().map(drop));
    ask("set_config", b.set_config(Config::FROZEN));
    ask("stats", b.stats(LinkNumber::Link(0)).map(drop));
    ask("clear", b.clear_stats(LinkNumber::Link(0)));
    ask("take", b.take_stats(LinkNumber::Link(0)).map(drop));
    ask("table", b.table().map(drop));
    ask("move", b.move_host(mac(1), "link0"));
    ask("reset", b.reset());
    let e = lab.handle.eiface(eiface);
    ask("set_mac", e.set_mac(mac(9)));
    assert_eq!(e.addresses().unwrap().mac(), Some(mac(9)));
    ask("up", e.link_up());
    ask("down", e.link_down());
    let f = lab.handle.bpf(bpf);
    ask("set_program", f.set_program("in", "", "", &crate::guard::open()));
    ask("program", f.program("in").map(drop));
    ask("stats", f.stats("in").map(drop));
    ask("clear", f.clear_stats("in"));
    ask("take", f.take_stats("in").map(drop));
    let s = lab.handle.socket(NodeRef::Own);
    ask("nolinger", s.no_linger());
    ask("linger", s.linger());
    assert_eq!(codec::bridge::MoveHost::NAME, "movehost");
}
