//! Somebody changes the machine by hand: what is ours is put right, what is not is left alone.

use std::time::{Duration, Instant};

use super::{assert_bare, show};
use crate::drift::told;
use crate::host;
use crate::lab::{HEAD, Lab, beacon, possible, text, wait};

#[test]
fn what_is_changed_by_hand_is_put_right_and_a_stranger_stays() {
    if !possible(&["ifconfig", "pfctl", "umount"]) {
        return;
    }
    let lab = Lab::new();
    let (_, volume) = lab.volume();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("web", &volume)));
    lab.ok(&["up", file.to_str().unwrap()]);
    let (web, inventory) = (lab.first("web"), lab.json(&["info", "--inventory"])["inventory"].clone());
    let key = |of: &str, which: &dyn Fn(&str) -> bool| {
        let all = inventory[of].as_object().unwrap();
        all.keys().find(|name| which(name)).unwrap().clone()
    };
    let gateway = key("interfaces", &|name| name.starts_with('g'));
    let interface = key("interfaces", &|name| name.starts_with('w'));
    let mount = key("mounts", &|path| path.ends_with("/data"));
    let anchor = key("anchors", &|_| true);
    let jail = format!("warren-{}", web.rsplit_once('-').unwrap().1);
    let address = lab.address(&web);
    show("ifconfig lo7 create && ifconfig lo7 name wabcdefg7");

    let cases = [
        (gateway.clone(), format!("ifconfig {gateway} down name mine")),
        (format!("the interface {gateway}, which is down,"), format!("ifconfig {gateway} down")),
        (format!("the address 10.99.0.1 of {gateway}"), format!("ifconfig {gateway} inet 10.99.0.1 -alias")),
        (
            format!("the address {address} of {interface}"),
            format!("jexec {jail} ifconfig net0 inet {address} -alias"),
        ),
        (mount.clone(), format!("umount {mount}")),
        (anchor.clone(), format!("pfctl -q -a {anchor} -F all")),
    ];
    for (what, change) in &cases {
        show(change);
        // The next daemon looks when it starts; it loads all rules anew, so that an emptied anchor is for one that lives to see.
        if *what != anchor {
            lab.kill_daemon();
            lab.start_daemon();
        }
        let end = Instant::now() + Duration::from_secs(90);
        while !told(&lab, "mended", what) {
            assert!(Instant::now() < end, "{what} was not put right{}", lab.daemon_log());
            std::thread::sleep(Duration::from_millis(500));
        }
        let answered = lab.host(&["ping", "-c", "1", "-t", "5", &address]).status.success();
        assert!(answered, "{what}: the instance does not answer{}", lab.daemon_log());
        assert_eq!(lab.first("web"), web, "{what}: the instance went on");
    }
    assert!(show(&format!("pfctl -a {anchor} -sr")).contains("pass"), "the rules are there again");
    assert_eq!(lab.json(&["info"])["strays"][0], "interface wabcdefg7");
    show("ifconfig wabcdefg7 destroy");
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}

/// Puts pf.conf back, also when the test fails: the machine is shared.
struct PfConf(String);

impl PfConf {
    fn load(text: &str) {
        std::fs::write("/etc/pf.conf", text).unwrap();
        assert_eq!(show("pfctl -q -f /etc/pf.conf"), "");
    }
}

impl Drop for PfConf {
    fn drop(&mut self) {
        Self::load(&self.0);
    }
}

#[test]
fn a_pf_conf_without_the_anchors_is_told_of_and_nothing_is_lost_by_it() {
    if !possible(&["pfctl"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("web", "publish = [\"8123:80\"]")));
    lab.ok(&["up", file.to_str().unwrap()]);
    wait("an answer", || host::fetch(8123).is_ok());
    let inventory = lab.json(&["info", "--inventory"])["inventory"].clone();
    let anchor = inventory["anchors"].as_object().unwrap().keys().next().unwrap().clone();
    let rules = || {
        show(&format!("pfctl -a {anchor} -s nat; pfctl -a {anchor} -s rules; pfctl -a {anchor} -s Tables"))
    };
    let before = rules();
    let kept = PfConf(std::fs::read_to_string("/etc/pf.conf").unwrap());
    // With keep state: connections that are open would go on.
    PfConf::load("set skip on lo0\npass all\n");
    assert!(host::fetch(8123).is_err(), "a port is published without the rules for it");
    let missing = "does not ask Warren's anchors";
    // At once by who looks, and by the daemon when it loads: the next one at its start, this one within five minutes.
    assert!(text(&lab.warren(&["doctor"])).contains(missing));
    lab.kill_daemon();
    lab.start_daemon();
    wait("the daemon to tell", || lab.ok(&["ps"]).contains(missing));
    assert!(told(&lab, "policy-failed", missing));
    drop(kept);
    wait("an answer", || host::fetch(8123).is_ok());
    wait("the daemon to find it well", || !lab.ok(&["ps"]).contains(missing));
    assert!(!text(&lab.warren(&["doctor"])).contains(missing));
    assert_eq!(rules(), before);
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}
