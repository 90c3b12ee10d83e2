//! What the design takes for granted of the kernel, and reading its source alone had told: links that go while frames fly, nodes made
//! at the nursery while a bridge is busy, the filter that holds a jail to its own addresses.

use std::process::{Child, Stdio};
use std::time::Duration;

use super::{assert_bare, show};
use crate::lab::{HEAD, Lab, beacon, possible, wait};

/// A fabric with so many instances, and each one's id and address.
fn fabric(lab: &Lab, count: usize) -> Vec<(String, String)> {
    let service = beacon("one", &format!("replicas = {count}\ndrain = \"0s\""));
    let file = lab.file("w.toml", &format!("{HEAD}{service}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    let all = lab.instances();
    let of = |i: &serde_json::Value, key: &str| i[key].as_str().unwrap().to_owned();
    all.iter().map(|i| (of(i, "id"), i["addresses"][0].as_str().unwrap().to_owned())).collect()
}

/// Floods from inside a jail until it is dropped.
struct Flood(Child);

impl Flood {
    fn new(lab: &Lab, id: &str, to: &str) -> Self {
        let mut ping = lab.host_command(&["jexec", &format!("warren-{id}"), "ping", "-f", "-q", to]);
        Self(ping.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Netgraph's nodes, hooks and messages in the kernel's memory, and its items in use.
fn held() -> Vec<String> {
    let memory = "vmstat -m | awk '$1 ~ /^netgraph/{print $1, $2}'";
    let items = "vmstat -z | awk -F'[:,]' '/^NetGraph/{gsub(/ /, \"\", $4); print $1, $4}'";
    show(&format!("{memory}; {items}")).lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn links_come_and_go_while_every_frame_floods_the_bridge() {
    if !possible(&["ping", "vmstat"]) {
        return;
    }
    let lab = Lab::new();
    let steady = fabric(&lab, 2);
    // Unicast, and broadcasts that the bridge gives to every link there is at the moment.
    let floods =
        [Flood::new(&lab, &steady[0].0, &steady[1].1), Flood::new(&lab, &steady[1].0, "10.99.0.255")];
    let rounds: usize = std::env::var("WARREN_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let go_round = |times: usize| {
        for _ in 0..times {
            lab.ok(&["scale", "one=8"]);
            lab.ok(&["scale", "one=2"]);
        }
        held()
    };
    let (first, last) = (go_round(1), go_round(rounds));
    drop(floods);
    // Hooks are counted exactly. Nodes' memory is not: a dying jail has some of its stack's, and an unanswered FIN keeps it dying for
    // minutes (that they go, `many` shows). Messages and items under way are the flood's.
    let hooks = |held: &[String]| held.iter().find(|line| line.starts_with("netgraph_hook")).cloned();
    assert!(hooks(&first).is_some());
    assert_eq!(hooks(&first), hooks(&last));
    // The frames under way have all come back.
    wait("the items to come back", || held().iter().any(|line| line == "NetGraph data items 0"));
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}

#[test]
fn nodes_are_made_at_the_nursery_however_busy_a_bridge_is() {
    if !possible(&["ping", "ngctl"]) {
        return;
    }
    let lab = Lab::new();
    let steady = fabric(&lab, 2);
    let _floods =
        [Flood::new(&lab, &steady[0].0, &steady[1].1), Flood::new(&lab, &steady[1].0, "10.99.0.255")];
    std::thread::sleep(Duration::from_secs(1));
    // MKPEER's reply must mean that the node is there: ngctl(8) asks for it by its path at once.
    let made = |at: &str, hook: &str, n: usize| {
        let make = format!("ngctl mkpeer {at}: eiface {hook}{n} ether && ngctl msg {at}:{hook}{n} getifname");
        show(&format!("timeout 10 sh -c '{make}' >/dev/null 2>&1; r=$?; timeout 10 ngctl shutdown {at}:{hook}{n} 2>/dev/null; echo $r"))
            .trim()
            == "0"
    };
    let at_the_nursery = (0..40).filter(|n| made("warren-nursery", "fact", *n)).count();
    assert_eq!(at_the_nursery, 40);
    // At the bridge itself it may be late, or hang; nothing here relies on it. What came is told, not judged.
    let bridge = lab.json(&["ps"])["fabrics"][0]["networks"][0]["bridge"].as_str().unwrap().to_owned();
    let at_the_bridge = (0..20).filter(|n| made(&bridge, "link", 600 + n)).count();
    println!("nodes made at a busy bridge and found at once: {at_the_bridge} of 20");
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}

#[test]
fn a_jail_speaks_with_its_own_addresses_alone() {
    if !possible(&["ping", "arp"]) {
        return;
    }
    let lab = Lab::new();
    let all = fabric(&lab, 2);
    let ((spoofer, own), (_, neighbour)) = (&all[0], &all[1]);
    let inside = |command: &str| show(&format!("jexec warren-{spoofer} sh -c '{command}'; echo status $?"));
    let pings = |from: &str| {
        inside(&format!("ping -c 2 -t 4 -S {from} 10.99.0.1 | grep received")).contains(" 2 packets received")
    };
    let reached = |address: &str| {
        show(&format!("arp -nd {address}; ping -c 2 -t 4 {address}")).contains(" 2 packets received")
    };
    assert!(pings(own), "with its own address it speaks");
    inside("ifconfig net0 inet 10.99.0.200/24 alias");
    assert!(!pings("10.99.0.200"), "with a free one it does not");
    // Its claim to the neighbour's address is heard by nobody.
    inside(&format!("ifconfig net0 inet {neighbour}/24 alias"));
    assert!(reached(neighbour), "the neighbour is still where it was");
    let arp = show(&format!("arp -n {neighbour}"));
    let mac = show(&format!("jexec warren-{} ifconfig net0 | awk '/ether/{{print $2}}'", all[1].0));
    assert!(arp.contains(mac.trim()), "{arp}");
    // Another Ethernet address: nothing comes through, and with its own it is heard again.
    let own_mac = show(&format!("jexec warren-{spoofer} ifconfig net0 | awk '/ether/{{print $2}}'"));
    inside("ifconfig net0 ether 02:00:00:00:66:66");
    assert!(!pings(own), "with another Ethernet address it does not");
    inside(&format!("ifconfig net0 ether {}", own_mac.trim()));
    inside(&format!(
        "ifconfig net0 inet {neighbour} -alias; ifconfig net0 inet 10.99.0.200 -alias; arp -d -a"
    ));
    wait("it to be heard again", || pings(own));
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}
