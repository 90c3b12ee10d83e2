//! The example up: the base system's programs say what Warren says, names are found, ports answer, nothing is left.

use std::collections::BTreeSet;

use super::{assert_bare, show, words};
use crate::host::{self, HOST, OUTSIDE};
use crate::lab::{Lab, possible, text, wait};

const SHOP: &str = include_str!("../../../examples/shop.toml");

/// The values of a JSON array of strings.
fn strings(value: &serde_json::Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_shop_is_what_the_base_system_sees_and_goes_without_a_trace() {
    if !possible(&["jls", "ngctl", "pfctl", "ifconfig", "host", "drill"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("shop.toml", SHOP);
    lab.ok(&["up", file.to_str().unwrap(), "--timeout", "120s"]);
    println!("{}", lab.ok(&["ps"]));
    let all = lab.instances();
    assert_eq!(all.len(), 6);
    let inspected: Vec<serde_json::Value> =
        all.iter().map(|i| lab.json(&["inspect", i["name"].as_str().unwrap()])).collect();

    let jails: BTreeSet<String> =
        words("jls -N name").into_iter().filter(|w| w.starts_with("warren-")).collect();
    let of_warren: BTreeSet<String> =
        all.iter().map(|i| format!("warren-{}", i["id"].as_str().unwrap())).collect();
    assert_eq!(jails, of_warren);

    let nodes = show("ngctl list");
    for (instance, inspected) in all.iter().zip(&inspected) {
        let id = instance["id"].as_str().unwrap();
        for name in [format!("w{id}"), format!("f{id}")] {
            assert!(nodes.contains(&format!("Name: {name} ")), "{name} is not a node");
        }
        let seen = show(&format!(
            "jexec warren-{id} ifconfig net0; jexec warren-{id} netstat -rn; jls -j warren-{id} -n path host.hostname vnet"
        ));
        for address in strings(&instance["addresses"]) {
            assert!(
                seen.contains(&format!("inet {address} ")) || seen.contains(&format!("inet6 {address} ")),
                "{address}"
            );
        }
        let mac = inspected["links"][0]["mac"].as_str().unwrap().to_owned();
        assert!(seen.contains(&mac), "{mac}: {inspected}");
        assert!(seen.contains("10.77.0.1") && seen.contains("fd77:7::1"), "default routes");
        assert!(!seen.contains("IFDISABLED"), "IPv6 is enabled");
    }
    let network = lab.json(&["network", "ls"]);
    println!("{network}");

    // Names, by the base system's resolver and by its tools, from inside.
    let web = lab.first("web");
    let inside = |command: &str| {
        let said = text(&lab.warren(&["exec", &web, "--", "sh", "-c", command]));
        println!("[{web}] {command}\n{said}");
        said
    };
    let db = lab.address(&lab.first("db"));
    assert!(inside("host db.shop.internal").contains(&format!("has address {db}")));
    assert!(inside("drill api.shop.internal @10.77.0.1").matches("\tA\t10.77.0.").count() == 3);
    assert!(inside("drill api.shop.internal AAAA @fd77:7::1").matches("\tAAAA\tfd77:7:").count() == 3);
    assert!(inside("getent hosts db").contains(&db) || inside("getent hosts db").contains("fd77:7:"));
    assert!(inside("ping -c 1 -t 3 db").contains("1 packets received"));
    assert!(inside("ping -6 -c 1 -t 3 api").contains("1 packets received"));

    // A published port from outside, by all members; NAT the other way.
    let mut hosts = BTreeSet::new();
    wait("both members to have answered", || {
        hosts.extend(
            host::fetch(8080)
                .ok()
                .and_then(|page| page.lines().find(|l| l.starts_with("host ")).map(str::to_owned)),
        );
        hosts.len() == 2
    });
    let listen = std::thread::spawn(|| host::outside("nc -N -l 7777 </dev/null; sockstat -4 >/dev/null"));
    wait("NAT", || inside(&format!("echo hello | nc -N -w 3 {OUTSIDE} 7777; echo rc=$?")).contains("rc=0"));
    listen.join().unwrap();
    // pf goes on listing an anchor for half a minute after it was emptied, so which one it is, is Warren's word.
    let anchor = lab.json(&["ps"])["fabrics"][0]["networks"][0]["anchor"].as_str().unwrap().to_owned();
    assert!(words("pfctl -a warren -s Anchors").contains(&anchor));
    let rules =
        show(&format!("pfctl -a {anchor} -sn; pfctl -a {anchor} -sr; pfctl -a {anchor} -t svc_web -T show"));
    assert!(rules.contains(&lab.address(&web)));
    println!("the host is {HOST}");

    lab.ok(&["down", "shop"]);
    assert_bare(&lab);
    assert!(host::fetch(8080).is_err(), "the port is closed");
}

#[test]
fn doctor_says_what_this_machine_lacks() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    println!("{}", text(&lab.warren(&["doctor"])));
    let checks = lab.json(&["doctor"])["checks"].as_array().cloned().unwrap();
    let level = |name: &str| {
        let found =
            checks.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}: {checks:#?}"));
        found["level"].as_str().unwrap().to_owned()
    };
    for name in ["rights", "vnet", "modules", "pf", "IPv4 forwarding", "port 53", "devfs ruleset"] {
        assert_eq!(level(name), "good", "{name}");
    }
    // A program on every address has port 53: it is named.
    let mut taken = lab.host_command(&["nc", "-u", "-l", "53"]).spawn().unwrap();
    wait("nc to be named", || {
        let said = lab.warren(&["doctor", "--json"]);
        !said.status.success() && text(&said).contains("nc (")
    });
    taken.kill().unwrap();
    taken.wait().unwrap();
    // Without its anchor points pf does nothing for Warren, and doctor has the lines.
    show("cp /etc/pf.conf /tmp/pf.conf.good; echo 'pass all' | pfctl -q -f -");
    let said = text(&lab.warren(&["doctor"]));
    show("pfctl -q -f /tmp/pf.conf.good");
    assert!(said.contains("nat-anchor \"warren/*\""), "{said}");
}
