//! Addresses, pf, frames and uplinks.

use super::rig::{ANCHOR_ID, NETWORK, Rig, id, ip, job, mac, show};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use warren::config::spec::{ParamValue, Proto, Publish};
use warren::firewall::{Policy, ServicePolicy};
use warren::host::{Host, Jail, Op, Reply};
pub fn shared_addresses_are_aliases(rig: &Rig) {
    let network = rig.all(rig.network(None));
    let me = id(17);
    let alias = |text: &str| Op::AliasAdd {
        interface: id(NETWORK).gateway(),
        addresses: vec![text.parse().unwrap(), "fd77::17/128".parse().unwrap()],
    };
    let added = rig.perform(&alias("10.77.0.17/32"));
    assert!(matches!(&added, Reply::Aliases { added } if added.len() == 2), "{added:?}");
    assert_eq!(rig.perform(&alias("10.77.0.17/32")), Reply::Aliases { added: vec![] });
    assert_eq!(rig.host.observe(&[]).unwrap().aliases.len(), 2);
    let jail = Jail {
        name: me.jail(),
        path: "/".into(),
        hostname: "shared".into(),
        vnet: false,
        addresses: vec![ip("10.77.0.17")],
        params: BTreeMap::new(),
    };
    rig.perform(&Op::JailCreate(jail.clone()));
    show("jls -n name ip4 ip4.addr ip6 ip6.addr");
    let bad =
        Jail { params: BTreeMap::from([("allow.raw_socket".to_owned(), ParamValue::Bool(true))]), ..jail };
    println!("{}", rig.refuse(&Op::JailCreate(bad)));
    rig.perform(&Op::JailRemove { jail: me.jail() });
    rig.perform(&alias("10.77.0.17/32").undo().unwrap());
    rig.perform(&alias("10.77.0.17/32").undo().unwrap());
    rig.undo(&network);
}

fn policy() -> Policy {
    Policy {
        anchor: format!("warren/{ANCHOR_ID}"),
        network: "front".into(),
        gateway: id(NETWORK).gateway(),
        prefixes: vec!["10.77.0.0/24".parse().unwrap(), "fd77::/64".parse().unwrap()],
        resolvers: vec![ip("10.77.0.1")],
        nat: true,
        isolated: false,
        forbidden: vec!["10.78.0.0/24".parse().unwrap()],
        services: vec![ServicePolicy {
            name: "web".into(),
            table: "svc_web".into(),
            publish: vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }],
        }],
    }
}

pub fn the_packet_filter_does_as_told(rig: &Rig) {
    let network = rig.all(rig.network(None));
    println!("{}", rig.refuse(&Op::AnchorLoad(policy())));
    show("kldload pf; echo 'pass all' | pfctl -f -");
    println!("{}", rig.refuse(&Op::AnchorLoad(policy())));
    show("pfctl -e");
    println!("{}", rig.refuse(&Op::AnchorLoad(policy())));
    show(
        "printf 'nat-anchor \"warren/*\"\\nrdr-anchor \"warren/*\"\\nanchor \"warren/*\"\\npass all\\n' | pfctl -f -; sysctl net.inet.ip.forwarding=1; ifconfig epair create; ifconfig epair0a inet 192.0.2.1/24 up",
    );
    let load = Op::AnchorLoad(policy());
    rig.perform(&load);
    let (me, tables) = (id(18), vec!["svc_web".to_owned()]);
    rig.all(rig.instance(18));
    // A machine of the outside: a jail of the test's own on the other end of the pair.
    show(
        "jail -c name=lan persist vnet path=/; ifconfig epair0b vnet lan; jexec lan ifconfig epair0b inet 192.0.2.7/24 up; jexec lan ifconfig lo0 up",
    );
    rig.perform(&Op::Spawn(job("main", Some(me.jail()), "while :; do echo hello | nc -N -l 80; done")));
    let add =
        Op::TableAdd { anchor: policy().anchor, tables, addresses: vec![ip("10.77.0.18"), ip("fd77::12")] };
    rig.perform(&add);
    rig.perform(&load); // A reload keeps the members.
    show("pfctl -a warren/net1 -sr; pfctl -a warren/net1 -sn; pfctl -a warren/net1 -t svc_web -T show");
    let seen = rig.host.observe(&[]).unwrap();
    assert_eq!(seen.anchors["warren/net1"]["svc_web"].len(), 2, "{:?}", seen.anchors);
    let answer = show("sleep 1; jexec lan nc -w 3 192.0.2.1 8080 </dev/null");
    assert!(answer.contains("hello"), "a published port");
    assert!(rig.runs(me, "nat", "ping -c 1 -t 5 192.0.2.7"), "NAT");
    show("pfctl -vss");
    rig.perform(&Op::KillStates { anchor: policy().anchor, addresses: vec![ip("10.77.0.18")] });
    let left = show("pfctl -ss");
    assert!(!left.contains("10.77.0.18"), "{left}");
    rig.perform(&Op::Drain {
        anchor: policy().anchor,
        addresses: vec![ip("10.77.0.18")],
        wait: Duration::from_secs(5),
    });
    rig.perform(&add.undo().unwrap());
    let answer = show("jexec lan nc -w 3 192.0.2.1 8080 </dev/null; echo $?");
    assert!(!answer.contains("hello"), "with no member the port refuses");
    for op in rig.stop(18) {
        rig.perform(&op);
    }
    rig.perform(&Op::KillJob { job: "main".into() });
    rig.host.forget_job("main").unwrap();
    rig.perform(&load.undo().unwrap());
    rig.perform(&load.undo().unwrap());
    show("jail -r lan; sleep 1; ifconfig epair0a destroy; pfctl -d");
    rig.undo(&network);
}

pub fn frames_arrive_at_a_hook(rig: &Rig) {
    let network = rig.all(rig.network(None));
    rig.all(rig.instance(19));
    let frames = rig.host.frames(&id(NETWORK).bridge(), 2).unwrap();
    rig.perform(&Op::BridgeSeed { bridge: id(NETWORK).bridge(), link: 2, mac: mac(2) });
    std::thread::scope(|scope| {
        scope.spawn(|| rig.runs(id(19), "arp", "ping -c 1 -t 1 10.77.0.250; true"));
        let mut buffer = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let got = frames.receive(&mut buffer).unwrap();
            // An ARP request of the instance's.
            if got.is_some() && buffer.get(6..14) == Some(&[2, 0, 0, 0, 9, 19, 8, 6]) {
                println!("ARP: {buffer:02x?}");
                return;
            }
        }
        panic!("no frame");
    });
    drop(frames);
    let listen =
        Op::Listen { name: "dns".into(), address: "10.77.0.1:53".parse().unwrap(), proto: Proto::Udp };
    rig.perform(&listen);
    rig.host.socket("dns").unwrap().unwrap();
    rig.perform(&listen.undo().unwrap());
    for op in rig.stop(19) {
        rig.perform(&op);
    }
    rig.undo(&network);
}

pub fn an_uplink_is_put_back(rig: &Rig) {
    // One that is down is brought up, and left so.
    show("ifconfig vtnet0 up");
    let before = show("ifconfig vtnet0; ngctl msg vtnet0: getpromisc; ngctl msg vtnet0: getautosrc");
    let bridge = id(NETWORK).bridge();
    let attach = Op::UplinkAttach { bridge: bridge.clone(), interface: "vtnet0".into() };
    let undo = rig.all(vec![Op::BridgeCreate { bridge: bridge.clone() }, attach.clone()]);
    println!("{}", rig.refuse(&attach));
    // Another network wants it as well, and takes back what it did not get.
    let other = Op::UplinkAttach { bridge: id(NETWORK + 1).bridge(), interface: "vtnet0".into() };
    println!("{}", rig.refuse(&other));
    rig.perform(&other.undo().unwrap());
    let text = show(&format!(
        "ifconfig vtnet0; ngctl show {bridge}:; ngctl msg vtnet0: getpromisc; ngctl msg vtnet0: getautosrc"
    ));
    assert!(text.contains("lower"), "{text}");
    rig.undo(&undo);
    let after = show("ifconfig vtnet0; ngctl msg vtnet0: getpromisc; ngctl msg vtnet0: getautosrc");
    assert_eq!(before, after);
}
