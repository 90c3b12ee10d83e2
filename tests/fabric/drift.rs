//! Somebody changes the lab's machine by hand: what is ours is put right, what is not is left alone.

#[cfg(target_os = "linux")]
use std::io::{Read, Write};
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

use crate::lab::Lab;
#[cfg(target_os = "linux")]
use crate::lab::{HEAD, beacon, free_port, possible, text, wait};

/// Whether the published port answers.
#[cfg(target_os = "linux")]
fn answers(port: u16) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut answer = String::new();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.contains(" 200 ")
}

/// Whether an event of a kind says something.
pub fn told(lab: &Lab, kind: &str, what: &str) -> bool {
    lab.ok(&["events", "--since", "0", "--json"])
        .lines()
        .any(|line| line.contains(kind) && line.contains(what))
}

// As FreeBSD does it: freebsd::drift.
#[cfg(target_os = "linux")]
#[test]
fn a_renamed_gateway_and_an_unmounted_volume_come_back_and_a_stranger_stays() {
    if !possible(&["ip", "umount"]) {
        return;
    }
    let lab = Lab::new();
    let port = free_port();
    let (_, volume) = lab.volume();
    let file = lab
        .file("w.toml", &format!("{HEAD}{}", beacon("web", &format!("publish = [\"{port}:80\"]\n{volume}"))));
    lab.ok(&["up", file.to_str().unwrap()]);
    wait("an answer", || answers(port));
    let inventory = lab.json(&["info", "--inventory"])["inventory"].clone();
    let interfaces = inventory["interfaces"].as_object().unwrap();
    let gateway = interfaces.keys().find(|name| name.starts_with('g')).unwrap().clone();
    let mounts = inventory["mounts"].as_object().unwrap();
    let mount = mounts.keys().find(|path| path.ends_with("/data")).unwrap().clone();
    let web = lab.first("web");
    let host = |argv: &[&str]| {
        let output = lab.host(argv);
        assert!(output.status.success(), "{argv:?}: {}", text(&output));
    };

    // Behind a dead daemon's back: the next one looks when it starts.
    lab.kill_daemon();
    host(&["ip", "link", "set", &gateway, "down"]);
    host(&["ip", "link", "set", &gateway, "name", "mine"]);
    host(&["ip", "tuntap", "add", "dev", "wabcdefg7", "mode", "tap"]);
    assert!(!answers(port));
    lab.start_daemon();
    wait("the gateway to be there again", || told(&lab, "mended", &gateway));
    wait("an answer", || answers(port));
    assert_eq!(lab.first("web"), web, "the instance went on");

    // And under a living one, which looks every 30 seconds.
    host(&["umount", &mount]);
    let end = Instant::now() + Duration::from_secs(180);
    while !told(&lab, "mended", &mount) {
        assert!(Instant::now() < end, "the mount was not put back{}", lab.daemon_log());
        std::thread::sleep(Duration::from_millis(500));
    }
    let now = lab.json(&["info", "--inventory"])["inventory"].clone();
    assert!(now["mounts"].as_object().unwrap().contains_key(&mount));
    assert_eq!(lab.first("web"), web, "the instance went on");

    // The stranger bears a name like ours and is nobody's.
    assert_eq!(lab.json(&["info"])["strays"][0], "interface wabcdefg7");
    host(&["ip", "link", "del", "wabcdefg7"]);
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

/// What cannot be put right, of an instance and of a network, and what is nobody's, stands in `ps`, `inspect` and `doctor` until it
/// is right.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_put_right_is_told_to_whoever_looks_until_it_is() {
    if !possible(&["ip", "umount"]) {
        return;
    }
    let lab = Lab::new();
    let (data, volume) = lab.volume();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("web", &volume)));
    lab.ok(&["up", file.to_str().unwrap()]);
    let web = lab.first("web");
    let inventory = lab.json(&["info", "--inventory"])["inventory"].clone();
    let key = |of: &str, is: &dyn Fn(&str) -> bool| {
        inventory[of].as_object().unwrap().keys().find(|name| is(name)).unwrap().clone()
    };
    let (gateway, mount) =
        (key("interfaces", &|n| n.starts_with('g')), key("mounts", &|n| n.ends_with("/data")));
    let host = |argv: &[&str]| {
        let output = lab.host(argv);
        assert!(output.status.success(), "{argv:?}: {}", text(&output));
    };
    let doctor = || {
        let said = lab.warren(&["doctor"]);
        (said.status.code(), text(&said))
    };
    assert_eq!(doctor().0, Some(0), "{}", doctor().1);

    lab.kill_daemon();
    host(&["umount", &mount]);
    // There is nothing to mount any more; somebody else's interface has the gateway's name; and one is nobody's.
    std::fs::rename(&data, lab.path().join("elsewhere")).unwrap();
    host(&["ip", "link", "set", &gateway, "down"]);
    host(&["ip", "link", "set", &gateway, "name", "mine"]);
    host(&["ip", "tuntap", "add", "dev", &gateway, "mode", "tap"]);
    host(&["ip", "tuntap", "add", "dev", "wabcdefg7", "mode", "tap"]);
    lab.start_daemon();
    wait("the drift to be told", || told(&lab, "\"drift\"", &mount) && told(&lab, "\"drift\"", &gateway));
    let (code, said) = doctor();
    assert_eq!(code, Some(1), "{said}");
    for words in [
        &[&*web, &*mount, "could not be put right", &*format!("`warren stop {web}`")][..],
        &["network t/net", &gateway, "`warren down t`"],
        &["strays", "interface wabcdefg7", "left alone", "by hand"],
    ] {
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
    let ps = lab.ok(&["ps"]);
    assert!(
        ps.contains(&format!("{web}: ")) && ps.contains(&mount) && ps.contains("t: network net: "),
        "{ps}"
    );
    assert!(
        lab.ok(&["inspect", &web]).lines().any(|line| line.starts_with("drift") && line.contains(&mount))
    );

    std::fs::rename(lab.path().join("elsewhere"), &data).unwrap();
    host(&["ip", "link", "del", &gateway]);
    host(&["ip", "link", "del", "wabcdefg7"]);
    lab.kill_daemon();
    lab.start_daemon();
    wait("all to be well", || doctor().0 == Some(0));
    assert_eq!(lab.first("web"), web, "the instance went on");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

/// The variable that turns a run of this program, on the lab's host, into somebody who edits rules.
#[cfg(target_os = "linux")]
const EDIT: &str = "WARREN_TEST_EDIT";

#[cfg(target_os = "linux")]
#[test]
#[ignore = "the other test runs it on the lab's host"]
fn editor() {
    use nlink::netlink::nftables::Family;
    use nlink::netlink::{Connection, Nftables};
    let Ok(anchor) = std::env::var(EDIT) else { return };
    let table = anchor.replace('/', "_");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connection = Connection::<Nftables>::new().unwrap();
        let rules = connection.list_rules(&table, Family::Inet).await.unwrap();
        let rule = rules.first().expect("an anchor has rules");
        connection.del_rule(&table, &rule.chain, Family::Inet, rule.handle).await.unwrap();
    });
}

/// What is there still, but not as it was set: rules, addresses, routes, interfaces that are down.
#[cfg(target_os = "linux")]
#[test]
fn what_is_set_otherwise_by_hand_is_set_right() {
    if !possible(&["ip"]) {
        return;
    }
    let lab = Lab::new();
    let me = lab.path().join("editor");
    std::fs::copy(std::env::current_exe().unwrap(), &me).unwrap();
    let port = free_port();
    // With every kind of mount the lab has a way of its own for.
    let mounts =
        "[services.web.jail]\n\"mount.devfs\" = true\n\"mount.fdescfs\" = true\n\"mount.procfs\" = true";
    let web = beacon("web", &format!("publish = [\"{port}:80\"]\n{mounts}"));
    let file = lab.file("w.toml", &format!("{HEAD}{web}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    wait("an answer", || answers(port));
    let (web, inventory) = (lab.first("web"), lab.json(&["info", "--inventory"])["inventory"].clone());
    let key = |of: &str, first: char| {
        let all = inventory[of].as_object().unwrap();
        all.keys().find(|name| name.starts_with(first)).unwrap().clone()
    };
    let (gateway, interface, anchor) = (key("interfaces", 'g'), key("interfaces", 'w'), key("anchors", 'w'));
    let host = |argv: &[&str]| {
        let output = lab.host(argv);
        assert!(output.status.success(), "{argv:?}: {}", text(&output));
    };
    let inside = |argv: &[&str]| drop(lab.ok(&[&["exec", &web, "--"], argv].concat()));
    let edit = |kind: &str| {
        let words = ["env", &format!("{EDIT}={anchor}"), me.to_str().unwrap(), kind, "--exact", "--ignored"];
        host(&words);
    };
    let address = lab.address(&web);
    let cases: [(&str, &dyn Fn()); 6] = [
        (&anchor, &|| edit("drift::editor")),
        (&format!("the address 10.99.0.1 of {gateway}"), &|| {
            host(&["ip", "address", "del", "10.99.0.1/24", "dev", &gateway]);
        }),
        (&format!("the interface {gateway}, which is down,"), &|| {
            host(&["ip", "link", "set", &gateway, "down"])
        }),
        (&format!("the address {address} of {interface}"), &|| {
            inside(&["ip", "address", "del", &format!("{address}/24"), "dev", "net0"]);
        }),
        (&format!("the default route of {interface} by 10.99.0.1"), &|| {
            inside(&["ip", "route", "del", "default"]);
        }),
        (&format!("the interface {interface}, which is down,"), &|| {
            inside(&["ip", "link", "set", "net0", "down"]);
        }),
    ];
    for (what, change) in cases {
        change();
        // A new daemon looks when it starts. It loads all rules anew, whatever it finds: that an anchor was edited is seen by the one
        // that loaded it, which looks every 30 seconds.
        if what != anchor {
            lab.kill_daemon();
            lab.start_daemon();
        }
        let end = Instant::now() + Duration::from_secs(180);
        while !told(&lab, "mended", what) {
            assert!(Instant::now() < end, "{what} was not put right{}", lab.daemon_log());
            std::thread::sleep(Duration::from_millis(200));
        }
        wait("an answer", || answers(port));
        assert_eq!(lab.first("web"), web, "{what}: the instance went on");
    }
    // Nothing that is as it should be is put right.
    let mended = lab.ok(&["events", "--since", "0", "--json"]).matches("\"mended\"").count();
    assert_eq!(mended, cases.len());
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}
