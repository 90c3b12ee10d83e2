//! The daemon dies, the machine reboots: what goes on, what is known afterwards, what is made good.

use std::time::Duration;

use crate::lab::{HEAD, Lab, beacon, free_port, possible, text, wait};
use crate::traffic::Traffic;

#[test]
fn kill_9_in_the_middle_of_a_scale_up_costs_no_request_and_loses_nothing() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let port = free_port();
    let file = lab.file(
        "w.toml",
        &format!("{HEAD}{}", beacon("web", &format!("replicas = 2\npublish = [\"{port}:80\"]"))),
    );
    lab.ok(&["up", file.to_str().unwrap()]);
    let traffic = Traffic::new(port);
    let mut scale = lab.command(&["scale", "web=8"]);
    let mut scale =
        scale.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    lab.kill_daemon();
    let before = traffic.good();
    // No other daemon runs before the test starts one. The first may have been asked for before the kill.
    wait("a page while the daemon is dead", || traffic.good() > before + 1);
    let _ = scale.wait();
    lab.start_daemon();
    // It may have died before it knew: who was not answered asks again.
    lab.ok(&["scale", "web=8"]);
    wait("all to be ready", || {
        lab.instances().iter().filter(|i| i["stage"] == "ready").count() == 8 && lab.instances().len() == 8
    });
    let addresses: std::collections::BTreeSet<String> =
        lab.instances().iter().map(|i| i["addresses"][0].as_str().unwrap().to_owned()).collect();
    assert_eq!(addresses.len(), 8, "an address was given twice");
    // And in the middle of the way down.
    let mut down = lab.command(&["scale", "web=2"]);
    let mut down =
        down.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    lab.kill_daemon();
    let _ = down.wait();
    lab.start_daemon();
    lab.ok(&["scale", "web=2"]);
    wait("two to be left", || lab.instances().len() == 2);
    let pages = traffic.end();
    assert!(pages.lost.is_empty(), "{pages}{}", lab.daemon_log());
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn a_hook_that_outlives_the_daemon_does_not_race_its_clean_up_and_exits_are_known() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let notes = lab.path().join("notes");
    let n = notes.display();
    let jail = format!(
        "[services.one.jail]\n\"exec.prestart\" = \"echo prestart begins >> {n}; sleep 2; echo prestart ends >> {n}\"\n\
         \"exec.poststop\" = \"echo poststop >> {n}\"\n"
    );
    let file = lab.file("w.toml", &format!("{HEAD}{}{jail}", beacon("one", "restart = \"no\"")));
    let mut up = lab.command(&["up", file.to_str().unwrap()]);
    let mut up = up.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait("the hook to begin", || std::fs::read_to_string(&notes).unwrap_or_default().contains("begins"));
    lab.kill_daemon();
    let _ = up.wait();
    lab.start_daemon();
    lab.ok(&["down", "t"]);
    let lines: Vec<String> = std::fs::read_to_string(&notes).unwrap().lines().map(str::to_owned).collect();
    // Either the hook was waited for, or it was ended before its partner ran; never side by side, never twice.
    let poststop = lines.iter().position(|l| l == "poststop").unwrap();
    assert!(lines.iter().skip(poststop).all(|l| l == "poststop"), "{lines:?}");
    assert_eq!(lines.iter().filter(|l| *l == "prestart begins").count(), 1, "{lines:?}");
    lab.assert_nothing_left();

    // A main process that ends while no daemon runs.
    let file = lab.file("x.toml", &format!("{HEAD}{}", beacon("one", "restart = \"no\"")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let name = lab.first("one");
    lab.kill_daemon();
    let killed = lab.host(&["pkill", "-TERM", "-f", "beacon --port 80"]);
    assert!(killed.status.success(), "{}", text(&killed));
    std::thread::sleep(Duration::from_millis(300));
    lab.start_daemon();
    wait("the end to be known", || lab.instances().is_empty());
    let events = lab.ok(&["events", "--json"]);
    assert!(events.lines().any(|l| l.contains("\"gone\"") && l.contains(&name)), "{events}");
    let logs = lab.ok(&["logs", &name]);
    assert!(!logs.is_empty(), "the log outlives the instance");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[cfg(target_os = "linux")]
#[test]
fn killing_the_lab_kernel_is_a_reboot_and_what_is_wanted_comes_back() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let notes = lab.path().join("notes");
    let jail = format!(
        "[services.one.jail]\n\"exec.release\" = \"echo release $WARREN_INSTANCE >> {}\"\n",
        notes.display()
    );
    let file = lab.file("w.toml", &format!("{HEAD}{}{jail}", beacon("one", "replicas = 2")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let before: Vec<String> = lab.instances().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect();
    let boot = lab.json(&["info"])["boot"].clone();
    lab.power_off();
    lab.start_daemon();
    assert_ne!(lab.json(&["info"])["boot"], boot);
    wait("what is wanted to be ready again", || {
        let all = lab.instances();
        all.len() == 2
            && all
                .iter()
                .all(|i| i["stage"] == "ready" && !before.contains(&i["id"].as_str().unwrap().to_owned()))
    });
    let released = std::fs::read_to_string(&notes).unwrap();
    assert!(before.iter().all(|id| released.contains(id.as_str())), "{released}");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[cfg(target_os = "linux")]
#[test]
fn a_lab_whose_daemon_and_keeper_are_dead_is_neither_restored_over_nor_ended_unasked() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("one", "")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let backup = lab.path().join("backup").display().to_string();
    lab.ok(&["backup", &backup]);
    lab.kill_daemon();
    let killed = lab.host(&["pkill", "-KILL", "-f", "warren keeper"]);
    assert!(killed.status.success(), "{}", text(&killed));
    for verb in [&["restore", &backup][..], &["shutdown"]] {
        let said = lab.fails(verb);
        assert!(said.contains("a lab or a keeper runs"), "{verb:?}: {said}");
    }
    assert_eq!(lab.json(&["shutdown", "--force"])["ended"], serde_json::json!(["lab"]));
    assert_eq!(lab.json(&["shutdown", "--force"])["ended"], serde_json::json!([]));
    lab.ok(&["restore", &backup]);
    lab.start_daemon();
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn a_keeper_that_dies_is_followed_by_another_and_nothing_it_ran_is_left() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let more = "replicas = 2\nrestart = { policy = \"always\", backoff = \"100ms\" }";
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("one", more)));
    lab.ok(&["up", file.to_str().unwrap()]);
    let killed = lab.host(&["pkill", "-KILL", "-f", "warren keeper"]);
    assert!(killed.status.success(), "{}", text(&killed));
    wait("a command to run again", || {
        lab.warren(&["exec", &lab.first("one"), "--", "true"]).status.success()
    });
    lab.ok(&["scale", "one=4", "--timeout", "60s"]);
    assert!(lab.daemon_log().contains("the keeper is gone"));
    // The next daemon finds with it what the dead one had held: nothing of the network is missed.
    lab.kill_daemon();
    lab.start_daemon();
    lab.ok(&["scale", "one=1", "--timeout", "60s"]);
    let told = lab.ok(&["events", "--json"]);
    assert!(!told.contains("socket"), "{told}");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}
