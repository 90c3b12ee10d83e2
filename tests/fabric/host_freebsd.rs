//! The machine behind the tests on FreeBSD: the one they run on, with pf turned on and an *outside*: a vnet jail of the tests' own at
//! the other end of an epair.

use std::process::{Command, Output, Stdio};
use std::sync::Once;

use nix::unistd::Pid;

use crate::lab::Lab;

/// `ping` that gives up after two seconds: where nothing is to answer.
pub const PING: [&str; 5] = ["ping", "-c", "1", "-t", "2"];
/// `ping` that does not give up because the machine is busy: where something is.
pub const PATIENT_PING: [&str; 5] = ["ping", "-c", "1", "-t", "20"];
/// The host's address towards the outside.
pub const HOST: &str = "192.0.2.1";
/// The outside's own.
pub const OUTSIDE: &str = "192.0.2.7";

/// pf's tables are as `warren doctor` wants them (packaging/loader.conf.sample): each vnet fills its own.
const SETUP: &str = r#"
kldstat -q -m pf || { kenv net.pf.states_hashsize=4096; kenv net.pf.source_nodes_hashsize=1024; } >/dev/null
kldload -n pf ng_ether ng_bridge ng_eiface ng_bpf ng_hub ng_socket nullfs tmpfs unionfs fdescfs procfs if_epair || exit 1
sysctl net.inet.ip.forwarding=1 net.inet6.ip6.forwarding=1 >/dev/null
printf 'set skip on lo0\nnat-anchor "warren/*"\nrdr-anchor "warren/*"\nanchor "warren/*"\npass all\n' >/etc/pf.conf
pfctl -q -f /etc/pf.conf
pfctl -s info | grep -q 'Status: Enabled' || pfctl -q -e || exit 1
jls -j outside >/dev/null 2>&1 && exit 0
pair=$(ifconfig epair create) && pair=${pair%a} || exit 1
ifconfig ${pair}a inet 192.0.2.1/24 up
jail -c name=outside persist vnet path=/ || exit 1
ifconfig ${pair}b vnet outside
jexec outside ifconfig lo0 inet 127.0.0.1/8 up
jexec outside ifconfig ${pair}b inet 192.0.2.7/24 up
"#;

/// What is missing; the first call makes what can be made.
pub fn missing() -> Vec<String> {
    static ONCE: Once = Once::new();
    let mut missing = Vec::new();
    ONCE.call_once(|| {
        let done = Command::new("/bin/sh").args(["-c", SETUP]).output().unwrap();
        if !done.status.success() {
            missing.push(format!("a prepared machine ({})", String::from_utf8_lossy(&done.stderr).trim()));
        }
    });
    missing
}

/// A program on the machine.
pub fn command(_: &Lab, argv: &[&str]) -> Command {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null());
    command
}

/// The daemon's number.
pub fn daemon(lab: &Lab) -> i32 {
    i32::try_from(lab.json(&["info"])["pid"].as_i64().unwrap()).unwrap()
}

/// Ends everything.
pub fn end(lab: &Lab) -> Output {
    if std::thread::panicking() {
        // The machine is shared: the next test finds it as this one did, if that can be had.
        for fabric in ["t", "shop"] {
            let _ = lab.warren(&["down", fabric, "--timeout", "60s"]);
        }
    }
    lab.warren(&["shutdown", "--force"])
}

/// A command in the jail that stands for the outside.
pub fn outside(shell: &str) -> Output {
    Command::new("/usr/sbin/jexec")
        .args(["outside", "/bin/sh", "-c", shell])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Fetches the page behind a published port, from outside.
pub fn fetch(port: u16) -> Result<String, String> {
    let get = "GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n";
    let output = outside(&format!("printf '{get}' | nc -w 5 {HOST} {port}"));
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(format!("{output:?}")) }
}

/// Whether a process is gone. It is reaped by init, or by the forgetting of who started it.
pub fn is_dead(pid: Pid) -> bool {
    let state = Command::new("/bin/ps").args(["-o", "state=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    state.is_empty() || state.starts_with('Z')
}
