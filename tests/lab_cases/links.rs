//! Links, filters, addresses.

use std::time::Duration;

use warren::host::lab::Lab;
use warren::host::{Host, NoWitness, Op, Reply};

use crate::lab_support::harness::Talk;
use crate::lab_support::instance::{Instance, Network, assert_empty, fails, perform, undo};

/// Each step may be the last one before a crash: undoing it all from there leaves nothing.
pub fn half_made_things_are_undone(lab: &Lab, _: &mut Talk) {
    let network = Network::new(lab, 0x1234_5678);
    let before = lab.observe(&[]).unwrap();
    let (_, ops) = Instance::ops(lab, Some(&network), 9);
    for done in 0..=ops.len() {
        for op in &ops[..done] {
            perform(lab, op);
        }
        // Undoing what was not done is success as well.
        let reached = (done + 1).min(ops.len());
        undo(lab, &ops[..reached]);
        assert_eq!(lab.observe(&[]).unwrap(), before, "after {done} steps");
        undo(lab, &ops[..reached]);
    }
    network.remove(lab);
    assert_empty(lab);
}

fn received(lab: &Lab, instance: &Instance) -> u64 {
    instance.output(lab, "grep eth0 /proc/net/dev | awk '{print $3}'").trim().parse().unwrap()
}

pub fn neighbours_talk_and_others_do_not_hear(lab: &Lab, _: &mut Talk) {
    let network = Network::new(lab, 0x2222_3333);
    let [one, two, three] = [11, 12, 13].map(|number| Instance::new(lab, Some(&network), number));
    one.run(lab, "busybox ping -c 1 -W 20 10.77.0.12").unwrap();
    one.run(lab, "busybox ping -c 1 -W 20 10.77.0.1").unwrap();
    one.run(lab, "busybox ping6 -c 1 -W 20 fd77::c").unwrap();
    let before = received(lab, &three);
    one.run(lab, "busybox ping -c 20 -i 0.01 -W 20 10.77.0.12").unwrap();
    let heard = received(lab, &three) - before;
    assert!(heard < 5, "the third heard {heard} of 40 frames that were not for it");
    // The host reaches them, too.
    perform(
        lab,
        &Op::Run(warren::host::Job {
            id: crate::lab_support::instance::fresh("host"),
            jail: None,
            command: warren::config::spec::CommandLine::Shell("busybox ping -c 1 -W 20 10.77.0.13".into()),
            env: Default::default(),
            clean_env: false,
            user: None,
            system_jail_user: false,
            fib: None,
            timeout: Some(Duration::from_secs(60)),
            log: "host".into(),
            consolelog: None,
            console_below: None,
        }),
    );
    for instance in [one, two, three] {
        instance.remove(lab);
    }
    network.remove(lab);
    assert_empty(lab);
}

pub fn a_stolen_address_is_dropped(lab: &Lab, _: &mut Talk) {
    let network = Network::new(lab, 0x4444_5555);
    let (thief, victim) = (Instance::new(lab, Some(&network), 21), Instance::new(lab, Some(&network), 22));
    thief.run(lab, "busybox ping -c 1 -W 20 10.77.0.1").unwrap();
    // Another address of the network.
    thief.run(lab, "ip addr add 10.77.0.99/24 dev eth0").unwrap();
    assert!(thief.run(lab, "busybox ping -c 1 -W 1 -I 10.77.0.99 10.77.0.1").is_err());
    // The neighbour's hardware address.
    let mac = Instance::mac(22).map(|byte| format!("{byte:02x}")).join(":");
    thief.run(lab, &format!("ip link set eth0 down && ip link set eth0 address {mac} && ip link set eth0 up && ip route replace default via 10.77.0.1")).unwrap();
    assert!(thief.run(lab, "busybox ping -c 2 -W 1 10.77.0.1").is_err());
    victim.run(lab, "busybox ping -c 1 -W 20 10.77.0.1").unwrap();
    thief.remove(lab);
    victim.remove(lab);
    network.remove(lab);
    assert_empty(lab);
}

pub fn an_interface_moves_in_and_home(lab: &Lab, _: &mut Talk) {
    let network = Network::new(lab, 0x6666_7777);
    let instance = Instance::new(lab, Some(&network), 31);
    let (node, jail) = (instance.id.node(), instance.id.jail());
    let home = Op::IfMoveHome { interface: node.clone(), jail: jail.clone(), inside: "eth0".into() };
    assert_eq!(lab.observe(&[]).unwrap().interfaces[&node], Some(jail.clone()));
    assert_eq!(instance.output(lab, "cat /proc/net/dev | grep -c eth0").trim(), "1");
    perform(lab, &home);
    perform(lab, &home);
    assert_eq!(lab.observe(&[]).unwrap().interfaces[&node], None);
    assert_eq!(instance.output(lab, "cat /proc/net/dev | grep -c eth0").trim(), "0");
    let again = Op::IfMoveIn { interface: node.clone(), jail: jail.clone(), inside: "ng0".into() };
    perform(lab, &again);
    perform(lab, &again);
    assert_eq!(lab.observe(&[]).unwrap().interfaces[&node], Some(jail.clone()));
    // The jail dies with the interface inside: here that ends the interface, and the undoing finds nothing to do.
    perform(lab, &Op::JailRemove { jail });
    instance.remove(lab);
    network.remove(lab);
    assert_empty(lab);
}

pub fn frames_reach_a_hook_of_the_bridge(lab: &Lab, _: &mut Talk) {
    let network = Network::new(lab, 0x8888_9999);
    let instance = Instance::new(lab, Some(&network), 41);
    let mac = [2, 0x77, 0, 0, 0, 2];
    let frames = lab.frames(&network.id.bridge(), 0).unwrap();
    perform(lab, &Op::BridgeSeed { bridge: network.id.bridge(), link: 0, mac });
    // The answer to an ARP request of the instance makes its ping to nobody leave, addressed to us.
    instance.spawn(lab, "busybox ping -c 5 -W 1 10.77.0.2");
    let mut buffer = Vec::new();
    let mut seen = (false, false);
    for _ in 0..20 {
        if frames.receive(&mut buffer).unwrap().is_none() {
            continue;
        }
        if buffer[12..14] == [8, 6] && buffer[20..22] == [0, 1] && buffer[38..42] == [10, 77, 0, 2] {
            seen.0 = true;
            let mut answer = Vec::new();
            answer.extend_from_slice(&buffer[6..12]);
            answer.extend_from_slice(&mac);
            answer.extend_from_slice(&buffer[12..20]);
            answer.extend_from_slice(&[0, 2]);
            answer.extend_from_slice(&mac);
            answer.extend_from_slice(&[10, 77, 0, 2]);
            answer.extend_from_slice(&buffer[22..32]);
            frames.send(&answer).unwrap();
        }
        if buffer[12..14] == [8, 0] && buffer[0..6] == mac {
            seen.1 = true;
            break;
        }
    }
    assert_eq!(seen, (true, true));
    drop(frames);
    // The hook went with its owner: the number is free again.
    drop(lab.frames(&network.id.bridge(), 0).unwrap());
    instance.remove(lab);
    network.remove(lab);
    assert_empty(lab);
}

pub fn aliases_tell_which_were_new(lab: &Lab, _: &mut Talk) {
    let network = Network::new(lab, 0xaaaa_bbbb);
    let interface = network.id.gateway();
    let [a, b, c] = ["10.77.0.50/32", "10.77.0.51/32", "fd77::50/128"].map(|text| text.parse().unwrap());
    let add = |addresses: &[ipnet::IpNet]| Op::AliasAdd {
        interface: interface.clone(),
        addresses: addresses.to_vec(),
    };
    assert_eq!(perform(lab, &add(&[a])), Reply::Aliases { added: vec![a] });
    assert_eq!(perform(lab, &add(&[a, b, c])), Reply::Aliases { added: vec![b, c] });
    assert_eq!(lab.observe(&[]).unwrap().aliases.len(), 3);
    undo(lab, &[add(&[a, b, c])]);
    undo(lab, &[add(&[a, b, c])]);
    assert!(lab.observe(&[]).unwrap().aliases.is_empty());
    fails(lab, &Op::AliasAdd { interface: "nosuch0".into(), addresses: vec![a] });
    assert!(
        lab.perform(&Op::AliasRemove { interface: "nosuch0".into(), addresses: vec![a] }, &NoWitness).is_ok()
    );
    network.remove(lab);
    assert_empty(lab);
}
