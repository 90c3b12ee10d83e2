//! ng_bridge's rules.

use super::*;
use LinkNumber::{Link, Uplink};

/// A bridge with stations on link0, link1, …
fn bridged(stations: usize) -> (Lab, NodeId, Vec<std::sync::Arc<MemoryPort>>) {
    bridged_like(Release::V15, stations)
}

fn bridged_like(release: Release, stations: usize) -> (Lab, NodeId, Vec<std::sync::Arc<MemoryPort>>) {
    let lab = Lab::like(release);
    let bridge = lab.bridge();
    let ports = (0..stations).map(|n| lab.station(bridge, &format!("link{n}")).1).collect();
    (lab, bridge, ports)
}

fn counts(ports: &[std::sync::Arc<MemoryPort>]) -> Vec<usize> {
    ports.iter().map(|port| port.take().len()).collect()
}

/// Passes this many of the kernel's seconds.
fn pass(lab: &Lab, from: &mut u64, seconds: u64) {
    if *from == 0 {
        lab.graph.tick(Duration::from_secs(1000));
        *from = 1000;
    }
    *from += seconds;
    lab.graph.tick(Duration::from_secs(*from));
}

#[test]
fn a_bare_link_is_numbered_from_14_on() {
    let (lab, bridge, _ports) = bridged(2);
    let hooks = |lab: &Lab, bridge| -> Vec<String> {
        let listed = lab.handle.node(bridge).hooks().unwrap();
        listed.links.iter().map(|link| link.ours.to_string()).collect()
    };
    for theirs in ["link", "uplink", "link"] {
        lab.handle.node(bridge).mkpeer("hub", theirs, "x").unwrap();
    }
    assert!(hooks(&lab, bridge).iter().all(|hook| hook != "link" && hook != "uplink"));
    assert!(["link2", "uplink1", "link3"].iter().all(|hook| hooks(&lab, bridge).contains(&(*hook).into())));
    let (lab, bridge, _ports) = bridged_like(Release::V13_2, 1);
    for theirs in ["link", "uplink"] {
        assert_eq!(errno(lab.handle.node(bridge).mkpeer("hub", theirs, "x")), Errno::EINVAL);
    }
}

#[test]
fn it_learns_and_forwards() {
    let (lab, bridge, ports) = bridged(3);
    ports[0].send(&frame(mac(11), mac(10)));
    assert_eq!(counts(&ports), [0, 1, 1], "unknown: to all others");
    ports[1].send(&frame(mac(10), mac(11)));
    assert_eq!(counts(&ports), [1, 0, 0], "known: to one");
    ports[0].send(&frame(mac(11), mac(10)));
    assert_eq!(counts(&ports), [0, 1, 0]);
    ports[2].send(&frame(Mac::BROADCAST, mac(12)));
    ports[2].send(&frame(Mac([1, 0, 0x5e, 0, 0, 1]), mac(12)));
    assert_eq!(counts(&ports), [2, 2, 0]);
    ports[0].send(&frame(mac(10), mac(10)));
    assert_eq!(counts(&ports), [0, 0, 0], "to where it comes from");

    let bridge = lab.handle.bridge(bridge);
    let mut table: Vec<_> = bridge.table().unwrap().iter().map(|h| (h.mac, h.hook.to_string())).collect();
    table.sort();
    assert_eq!(table, [(mac(10), "link0".into()), (mac(11), "link1".into()), (mac(12), "link2".into())]);
    let size = frame(mac(1), mac(1)).len() as u64;
    let stats = bridge.stats(Link(0)).unwrap();
    assert_eq!((stats.recv_packets, stats.recv_octets, stats.recv_unknown), (3, 3 * size, 1));
    assert_eq!((stats.xmit_packets, stats.xmit_multicasts, stats.xmit_broadcasts), (3, 1, 1));
    let stats = bridge.stats(Link(2)).unwrap();
    assert_eq!((stats.recv_multicasts, stats.recv_broadcasts, stats.xmit_packets), (1, 1, 1));
    assert_eq!(errno(bridge.stats(Link(3))), Errno::ENOTCONN);
    assert_eq!(errno(bridge.stats(Uplink(1))), Errno::ENOTCONN);
    assert_eq!(bridge.take_stats(Link(2)).unwrap(), stats);
    assert_eq!(bridge.stats(Link(2)).unwrap(), Default::default());
    bridge.reset().unwrap();
    assert!(bridge.table().unwrap().is_empty());
    assert_eq!(bridge.stats(Link(0)).unwrap(), Default::default());
}

#[test]
fn runts_and_bogus_sources() {
    let (lab, bridge, ports) = bridged(2);
    ports[0].send(&frame(mac(1), mac(2))[..13]);
    ports[0].send(b"");
    ports[0].send(&frame(mac(1), Mac::BROADCAST));
    assert_eq!(counts(&ports), [0, 0]);
    let stats = lab.handle.bridge(bridge).stats(Link(0)).unwrap();
    assert_eq!((stats.recv_runts, stats.recv_invalid, stats.recv_packets), (2, 1, 0));
}

#[test]
fn uplinks_do_not_learn_and_get_what_is_unknown() {
    let (lab, bridge, ports) = bridged(2);
    let (_, up) = lab.station(bridge, "uplink1");
    up.send(&frame(mac(1), mac(9)));
    assert_eq!(counts(&ports), [1, 1]);
    assert!(lab.handle.bridge(bridge).table().unwrap().is_empty());
    ports[0].send(&frame(mac(9), mac(10)));
    assert_eq!((up.take().len(), counts(&ports)), (1, vec![0, 1]));
    assert_eq!(lab.handle.bridge(bridge).stats(Uplink(1)).unwrap().recv_unknown, 1);
}

#[test]
fn a_first_uplink_keeps_unknown_frames_from_links() {
    let lab = Lab::new();
    let bridge = lab.bridge();
    let (_, up) = lab.station(bridge, "uplink1");
    let ports = [lab.station(bridge, "link1").1, lab.station(bridge, "link2").1];
    ports[0].send(&frame(mac(99), mac(1)));
    assert_eq!((up.take().len(), counts(&ports)), (1, vec![0, 0]), "unknown: to the uplink only");
    up.send(&frame(mac(98), mac(50)));
    assert_eq!(counts(&ports), [0, 0]);
    up.send(&frame(mac(1), mac(50)));
    assert_eq!(counts(&ports), [1, 0], "known");
    ports[0].send(&frame(Mac::BROADCAST, mac(1)));
    assert_eq!((up.take().len(), counts(&ports)), (1, vec![0, 1]), "broadcasts go everywhere");
}

#[test]
fn stations_are_placed_by_hand() {
    let (lab, bridge, ports) = bridged(3);
    let b = lab.handle.bridge(bridge);
    b.move_host(mac(11), "link1").unwrap();
    ports[0].send(&frame(mac(11), mac(10)));
    assert_eq!(counts(&ports), [0, 1, 0]);
    assert_eq!(errno(b.move_host(mac(11), "link9")), Errno::ENOENT);
    b.move_host(mac(11), "link1").unwrap();
    assert_eq!(errno(b.move_host(mac(11), "link2")), Errno::ELOOP, "younger than a second");
    let mut now = 0;
    pass(&lab, &mut now, 1);
    b.move_host(mac(11), "link2").unwrap();
    ports[0].send(&frame(mac(11), mac(10)));
    assert_eq!(counts(&ports), [0, 0, 1]);
    // No hook means the one the message came in by.
    lab.handle.node(NodeRef::Own).connect(bridge, "b", "link7").unwrap();
    let here = codec::bridge::MoveHost { mac: mac(77), hook: HookName::from_wire(b"") };
    lab.handle.request(NodeRef::Path("b"), &here).unwrap();
    assert!(b.table().unwrap().iter().any(|h| h.mac == mac(77) && h.hook == "link7"));
    assert_eq!(errno(lab.handle.request(bridge, &here)), Errno::ENOENT, "it came in by none");
}

#[test]
fn a_link_takes_its_stations_along() {
    let (lab, bridge, ports) = bridged(2);
    ports[0].send(&frame(Mac::BROADCAST, mac(1)));
    ports[1].send(&frame(Mac::BROADCAST, mac(2)));
    lab.handle.node(bridge).rmhook("link0").unwrap();
    let table = lab.handle.bridge(bridge).table().unwrap();
    assert_eq!(table.iter().map(|h| h.mac).collect::<Vec<_>>(), [mac(2)]);
}

#[test]
fn stations_age_and_expire() {
    let (lab, bridge, ports) = bridged(2);
    let b = lab.handle.bridge(bridge);
    assert_eq!(b.config().unwrap(), Config::default());
    b.set_config(Config { max_staleness: 10, ..Config::default() }).unwrap();
    let mut now = 0;
    pass(&lab, &mut now, 0);
    ports[0].send(&frame(Mac::BROADCAST, mac(1)));
    pass(&lab, &mut now, 9);
    let host = b.table().unwrap()[0];
    assert_eq!((host.age, host.staleness), (9, 9));
    ports[0].send(&frame(Mac::BROADCAST, mac(1)));
    let host = b.table().unwrap()[0];
    assert_eq!((host.age, host.staleness), (9, 0), "heard of");
    pass(&lab, &mut now, 9);
    assert_eq!(b.table().unwrap().len(), 1);
    pass(&lab, &mut now, 1);
    assert!(b.table().unwrap().is_empty());
}

#[test]
fn a_day_is_as_good_as_its_seconds() {
    // The table after n seconds at once is that after n times one.
    for max_staleness in [0, 5, 300, 0xffff, 0x1_0000, 0xffff_ffff] {
        let table = |steps: &[u64]| {
            let (lab, bridge, ports) = bridged(1);
            let b = lab.handle.bridge(bridge);
            b.set_config(Config { max_staleness, ..Config::default() }).unwrap();
            ports[0].send(&frame(Mac::BROADCAST, mac(1)));
            let mut now = 0;
            steps.iter().for_each(|step| pass(&lab, &mut now, *step));
            b.table().unwrap()
        };
        for seconds in [1, 4, 5, 299, 300, 301, 70_000] {
            assert_eq!(table(&[seconds]), table(&vec![1; seconds as usize]), "{max_staleness} {seconds}");
        }
    }
}

#[test]
fn a_station_on_two_links_is_a_loop() {
    let (lab, bridge, ports) = bridged(3);
    let b = lab.handle.bridge(bridge);
    b.set_config(Config { loop_timeout: 5, min_stable_age: 2, ..Config::default() }).unwrap();
    let mut now = 0;
    pass(&lab, &mut now, 0);
    ports[0].send(&frame(Mac::BROADCAST, mac(1)));
    ports[1].send(&frame(Mac::BROADCAST, mac(2)));
    counts(&ports);
    ports[1].send(&frame(Mac::BROADCAST, mac(1)));
    assert_eq!(counts(&ports), [0, 0, 0], "dropped");
    let stats = b.stats(Link(1)).unwrap();
    assert_eq!((stats.loop_drops, stats.loop_detects), (1, 1));
    // The link is mute and has lost its own station; the other's entry is where it was.
    ports[1].send(&frame(Mac::BROADCAST, mac(2)));
    assert_eq!(b.stats(Link(1)).unwrap().loop_drops, 2);
    assert_eq!(
        b.table().unwrap().iter().map(|h| (h.mac, h.hook.to_string())).collect::<Vec<_>>(),
        [(mac(1), "link0".into())]
    );
    pass(&lab, &mut now, 4);
    ports[1].send(&frame(Mac::BROADCAST, mac(2)));
    assert_eq!(counts(&ports), [0, 0, 0]);
    pass(&lab, &mut now, 1);
    ports[1].send(&frame(Mac::BROADCAST, mac(2)));
    assert_eq!(counts(&ports), [1, 0, 1], "the time is up");
    // Once stable, a station may move.
    ports[2].send(&frame(Mac::BROADCAST, mac(1)));
    assert_eq!(counts(&ports), [1, 1, 0]);
    assert_eq!(b.table().unwrap().iter().find(|h| h.mac == mac(1)).unwrap().hook, "link2");
}

#[test]
fn a_frozen_table_holds() {
    let (lab, bridge, ports) = bridged(3);
    let b = lab.handle.bridge(bridge);
    b.set_config(Config::FROZEN).unwrap();
    for n in 0..3 {
        b.move_host(mac(n), &format!("link{n}")).unwrap();
    }
    let mut now = 0;
    pass(&lab, &mut now, 200_000);
    // A thief.
    ports[1].send(&frame(mac(2), mac(0)));
    assert_eq!(counts(&ports), [0, 0, 0]);
    let stats = b.stats(Link(1)).unwrap();
    assert_eq!((stats.loop_drops, stats.loop_detects), (1, 1));
    // Its victim is where it was, the thief's own entry is gone, and it is not mute.
    ports[2].send(&frame(mac(0), mac(2)));
    assert_eq!(counts(&ports), [1, 0, 0]);
    assert!(!b.table().unwrap().iter().any(|h| h.mac == mac(1)));
    b.move_host(mac(1), "link1").unwrap();
    ports[1].send(&frame(mac(2), mac(1)));
    assert_eq!(counts(&ports), [0, 0, 1]);
    // Not even an uplink may take an address.
    let (_, up) = lab.station(bridge, "uplink1");
    up.send(&frame(mac(1), mac(0)));
    assert_eq!(counts(&ports), [0, 0, 0]);
    assert_eq!(b.table().unwrap().len(), 3);
    assert_eq!(b.table().unwrap().iter().find(|h| h.mac == mac(0)).unwrap().age, 0xffff, "it stops there");
}

#[test]
fn on_13_2_a_bridge_does_not_learn_from_a_vnet() {
    let (lab, bridge, ports) = bridged_like(Release::V13_2, 3);
    let b = lab.handle.bridge(bridge);
    let eiface = lab.handle.node(bridge).peer("link0").unwrap().id;
    lab.graph.set_child_vnet(eiface, true).unwrap();
    ports[0].send(&frame(mac(11), mac(10)));
    assert_eq!(counts(&ports), [0, 1, 1]);
    assert!(b.table().unwrap().is_empty());
    assert_eq!(b.stats(Link(0)).unwrap().memory_failures, 1);
    ports[1].send(&frame(mac(10), mac(11)));
    assert_eq!(counts(&ports), [1, 0, 1], "flooded, since it is not known");
    // Placed by hand it is.
    b.move_host(mac(10), "link0").unwrap();
    ports[1].send(&frame(mac(10), mac(11)));
    assert_eq!(counts(&ports), [1, 0, 0]);
    lab.graph.set_child_vnet(eiface, false).unwrap();
    ports[0].send(&frame(mac(11), mac(12)));
    assert!(b.table().unwrap().iter().any(|h| h.mac == mac(12)));
    assert_eq!(lab.graph.set_child_vnet(bridge, true), Err(Errno::EINVAL));
    // 15 learns.
    let (lab, bridge, ports) = bridged(1);
    let eiface = lab.handle.node(bridge).peer("link0").unwrap().id;
    lab.graph.set_child_vnet(eiface, true).unwrap();
    ports[0].send(&frame(mac(11), mac(10)));
    assert_eq!(lab.handle.bridge(bridge).table().unwrap().len(), 1);
}

#[test]
fn two_bridges_by_their_uplinks() {
    let lab = Lab::new();
    let (a, b) = (lab.bridge(), lab.bridge());
    lab.handle.node(a).connect(b, "uplink1", "uplink1").unwrap();
    let (_, here) = lab.station(a, "link1");
    let (_, there) = lab.station(b, "link1");
    here.send(&frame(mac(2), mac(1)));
    assert_eq!(there.take().len(), 0, "unknown, and both are restrictive");
    there.send(&frame(mac(1), mac(2)));
    assert_eq!(here.take().len(), 1);
    here.send(&frame(mac(2), mac(1)));
    assert_eq!(there.take().len(), 1);
}
