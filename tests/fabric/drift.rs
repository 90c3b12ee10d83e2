//! Somebody changes the lab's machine by hand: what is ours is put right, what is not is left alone.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::lab::{HEAD, Lab, beacon, free_port, possible, text, wait};

/// Whether the published port answers.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut answer = String::new();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.contains(" 200 ")
}

fn told(lab: &Lab, kind: &str, what: &str) -> bool {
    lab.ok(&["events", "--since", "0", "--json"])
        .lines()
        .any(|line| line.contains(kind) && line.contains(what))
}

#[test]
fn a_renamed_gateway_and_an_unmounted_volume_come_back_and_a_stranger_stays() {
    if !possible(&["ip", "umount"]) {
        return;
    }
    let lab = Lab::new();
    let port = free_port();
    let data = lab.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let volume =
        format!("mounts = [{{ fstype = \"nullfs\", source = \"{}\", target = \"/data\" }}]", data.display());
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
    let end = Instant::now() + Duration::from_secs(60);
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
