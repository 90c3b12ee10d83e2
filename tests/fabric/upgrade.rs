//! The program is replaced and the daemon restarted under fifty running instances.
//!
//! With every run of the tests the old program is a copy of the new one. `tests/upgrade-from COMMIT` builds and begins with a real
//! older one: its store is migrated, and its keeper and lab-kernel go on.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::{HEAD, Lab, beacon, free_ports, possible, times};
use crate::questions::Names;
use crate::traffic::Traffic;

/// How late an answer about a name may be because of an upgrade. What the machine stood still for is no fault of the upgrade's.
const LATEST: Duration = Duration::from_secs(1);

/// A question that is not finished yet: its connection must live until it is.
fn half_a_question(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
    stream
}

/// Ids and processes of all instances: they are the same afterwards.
fn running(lab: &Lab) -> BTreeMap<String, String> {
    let of = |i: &serde_json::Value| (i["id"].to_string(), i["addresses"].to_string());
    lab.instances().iter().map(of).collect()
}

fn install(from: &Path, to: &Path) {
    let new = to.with_extension("new");
    // Not by this process: a child that another of its threads makes meanwhile has the new file open for writing as well, for a moment
    // in which nobody can run it.
    assert!(Command::new("cp").args([from, &new]).status().unwrap().success());
    std::fs::rename(&new, to).unwrap();
}

#[test]
fn the_program_is_replaced_and_no_connection_is_lost() {
    if !possible(&[]) {
        return;
    }
    let new = Path::new(env!("CARGO_BIN_EXE_warren"));
    let old = std::env::var_os("WARREN_OLD").map_or_else(|| new.to_owned(), Into::into);
    let count = times("WARREN_MANY", 50);
    let [port, dns] = free_ports();
    let lab = Lab::new();
    let program = lab.path().join("warren");
    install(&old, &program);
    let lab = lab.program(program.clone()).variable("WARREN_DNS", format!("127.0.0.1:{dns}"));
    let web = beacon("web", &format!("replicas = {count}\npublish = [\"{port}:80\"]"));
    let file = lab.file("w.toml", &format!("{HEAD}{web}"));
    lab.ok(&["up", file.to_str().unwrap(), "--timeout", "200s"]);
    let before = running(&lab);
    assert_eq!(before.len(), count);
    let traffic = Traffic::new(port);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let names = Names::new(([127, 0, 0, 1], dns).into(), "web.t.internal");
        let held: Vec<TcpStream> = (0..count).map(|_| half_a_question(port)).collect();
        let running_program =
            |lab: &Lab| std::fs::metadata(format!("/proc/{}/exe", lab.daemon_pid())).unwrap().ino();
        let was = running_program(&lab);
        install(new, &program);
        lab.end_daemon(signal);
        lab.start_daemon();
        assert_ne!(running_program(&lab), was, "the old program still runs");
        for mut stream in held {
            stream.write_all(b"\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "a connection was lost: {answer:?}");
        }
        assert_eq!(running(&lab), before, "instances are others than before{}", lab.daemon_log());
        let names = names.end();
        eprintln!("upgrade under {count}, the old daemon ended by {signal}: {names:?}");
        assert_eq!(names.lost, 0, "{names:?}{}", lab.daemon_log());
        // One that is asked to end takes no question with it; one that is killed may.
        assert!(
            names.latest < LATEST + names.stood_still,
            "names were answered too late: {names:?}{}",
            lab.daemon_log()
        );
        if signal == Signal::SIGTERM {
            assert_eq!(names.again, 0, "{names:?}{}", lab.daemon_log());
        }
    }
    let pages = traffic.end();
    eprintln!("upgrade under {count}: {pages}");
    assert!(pages.lost.is_empty(), "{pages}{}", lab.daemon_log());
    // The new one can do with them what the old one could.
    lab.ok(&["scale", "web=3", "--timeout", "100s"]);
    let name = lab.first("web");
    assert_eq!(lab.ok(&["exec", &name, "--", "echo", "hello"]).trim(), "hello");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}
