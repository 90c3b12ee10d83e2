//! `warren run --fabric`: one command on a fabric's networks, among its names, and no replica of anything.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::lab::{HEAD, Lab, beacon, possible, text, wait};

#[test]
fn a_command_runs_on_a_fabrics_network_and_ends_with_its_own_status() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("web", "")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let found = lab.ok(&["run", "host", "--fabric", "t", "--", "getent", "hosts", "web"]);
    assert!(found.contains(&lab.address(&lab.first("web"))) || found.contains("fd99::"), "{found}");
    // Long enough for whatever a running instance is made part of.
    let ended = lab.warren(&[
        "run",
        "host",
        "--fabric",
        "t",
        "--name",
        "job",
        "--rm",
        "--",
        "sh",
        "-c",
        "sleep 2; exit 3",
    ]);
    assert_eq!(ended.status.code(), Some(3), "{}", text(&ended));
    let refused = lab.fails(&["run", "host", "--fabric", "t", "--name", "web", "--", "true"]);
    assert!(refused.contains("`web` is a service of the fabric `t`"), "{refused}");
    assert_eq!(lab.instances().len(), 1);
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn what_is_run_by_hand_goes_with_the_daemon_that_carries_it() {
    if !possible(&["ps"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("web", "")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let name = lab.first("web");
    // A number that nobody else sleeps for.
    let seconds = (1_000_000 + std::process::id()).to_string();
    let sleeps = || {
        let all = Command::new("ps").args(["-axww", "-o", "args="]).output().unwrap();
        let all = String::from_utf8_lossy(&all.stdout).into_owned();
        all.lines().any(|line| line.trim() == format!("sleep {seconds}"))
    };
    let mut exec = lab.command(&["exec", &name, "--", "sleep", &seconds]);
    let mut exec = exec.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait("the command to run", sleeps);
    lab.end_daemon(Signal::SIGTERM);
    wait("the command to be gone", || !sleeps());
    assert!(!exec.wait().unwrap().success());
    lab.start_daemon();
    assert_eq!(lab.first("web"), name);
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}
