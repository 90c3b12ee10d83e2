//! The base system's dhclient in a vnet jail: from its first word to its last.

use std::net::Ipv4Addr;

use warren_dhcp::Mac;
use warren_dhcp::wire::{Message, MessageType, Op, Options};

use super::{BPF_RULESET, assert_bare, show};
use crate::lab::{HEAD, Lab, possible, text, wait};

fn service(command: &str) -> String {
    format!(
        "{HEAD}[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\naddress = \"dhcp\"\nrestart = \"no\"\n\
         command = {command}\n[services.one.jail]\ndevfs_ruleset = 77\n\
         \"exec.created\" = \"printf 'interface \\\"net0\\\" {{ supersede dhcp-renewal-time 4; }}' > $JPATH/etc/dhclient.conf\"\n"
    )
}

/// What the client says, once it says that it is done: it is ready a moment before.
fn log(lab: &Lab, name: &str) -> String {
    let mut said = String::new();
    wait("the client's words", || {
        // Its words went to standard error, and come back there.
        said = text(&lab.warren(&["logs", name]));
        said.contains("bound to")
    });
    said
}

/// The state of the one lease.
fn lease(lab: &Lab, address: &str) -> String {
    let leases = lab.json(&["lease", "ls"]);
    let found = leases.as_array().unwrap().iter().find(|l| l["address"] == address).unwrap();
    found["state"].as_str().unwrap().to_owned()
}

#[test]
fn dhclient_asks_gets_renews_and_releases_its_reserved_address() {
    if !possible(&["dhclient", "tcpdump", "devfs"]) {
        return;
    }
    show(BPF_RULESET);
    let lab = Lab::new();
    let command = r#"["/sbin/dhclient", "-d", "net0"]"#;
    let file = lab.file("w.toml", &service(command));
    let up = lab.warren(&["up", file.to_str().unwrap(), "--timeout", "60s"]);
    assert!(up.status.success(), "{}\n{}", text(&up), lab.daemon_log());
    let name = lab.first("one");
    let address = lab.address(&name);
    assert_eq!(lease(&lab, &address), "bound");
    let id = name.rsplit_once('-').unwrap().1.to_owned();
    let said = log(&lab, &name);
    println!("{said}");
    // Its reserved address, asked for at once: no offer, and so no two seconds of listening for another owner.
    assert!(said.contains("DHCPREQUEST on net0") && said.contains("DHCPACK from 10.99.0.2"), "{said}");
    assert!(!said.contains("DHCPOFFER"), "{said}");
    let seen = show(&format!(
        "jexec warren-{id} ifconfig net0; jexec warren-{id} netstat -rn -f inet; jexec warren-{id} cat /etc/resolv.conf"
    ));
    assert!(
        seen.contains(&format!("inet {address} ")) && seen.contains("default            10.99.0.1"),
        "{seen}"
    );

    // A renewal goes to the server alone.
    let filter = format!("tcpdump -lnei net0 -c 2 'udp port 67 and host {address}'");
    let renewal = show(&format!("timeout 30 jexec warren-{id} {filter}"));
    assert!(renewal.contains(&format!("{address}.68 > 10.99.0.2.67: BOOTP/DHCP, Request")), "{renewal}");
    assert!(renewal.contains(&format!("10.99.0.2.67 > {address}.68: BOOTP/DHCP, Reply")), "{renewal}");

    // From nothing: discover, offer, request, acknowledgement.
    show(&format!(
        "jexec warren-{id} sh -c 'pkill dhclient'; rm -f {}/roots/{id}/var/db/dhclient.leases.net0",
        lab.state().display()
    ));
    wait("the instance to be gone", || lab.instances().is_empty());
    lab.ok(&["down", "t"]);
    let file = lab.file(
        "v.toml",
        &service(r#"["/bin/sh", "-c", "rm -f /var/db/dhclient.leases.net0; exec /sbin/dhclient -d net0"]"#),
    );
    lab.ok(&["up", file.to_str().unwrap(), "--timeout", "60s"]);
    let name = lab.first("one");
    let said = log(&lab, &name);
    for word in
        ["DHCPDISCOVER on net0", "DHCPOFFER from 10.99.0.2", "DHCPREQUEST on net0", "DHCPACK from 10.99.0.2"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }

    // The base system's client never releases, so the last word is said for it.
    let (address, id) = (lab.address(&name), name.rsplit_once('-').unwrap().1.to_owned());
    let mac = lab.json(&["inspect", &name])["links"][0]["mac"].as_str().unwrap().to_owned();
    let chaddr: Mac = mac.parse().unwrap();
    let mut options = Options::new();
    options.set(54, [10, 99, 0, 2]);
    options.set(61, [&[1][..], &chaddr.0].concat());
    let nobody = Ipv4Addr::UNSPECIFIED;
    let release = Message {
        op: Op::Request,
        hops: 0,
        xid: 77,
        secs: 0,
        flags: 0,
        ciaddr: address.parse().unwrap(),
        yiaddr: nobody,
        siaddr: nobody,
        giaddr: nobody,
        chaddr,
        kind: MessageType::Release,
        options,
    };
    std::fs::write(lab.state().join(format!("roots/{id}/tmp/release")), release.build(576).0).unwrap();
    show(&format!(
        "jexec warren-{id} sh -c 'pkill -STOP dhclient; nc -u -w 1 -s {address} -p 68 10.99.0.2 67 < /tmp/release'"
    ));
    wait("the release to be noted", || lease(&lab, &address) == "released");
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}
