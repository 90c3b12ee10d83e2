//! What every test has: a state directory of its own, and the program.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::host;

pub struct Lab {
    dir: tempfile::TempDir,
    program: PathBuf,
    environment: Vec<(String, String)>,
    state: PathBuf,
}

/// Whether the tests can run here. Says loudly when not, and fails under CI.
pub fn possible(tools: &[&str]) -> bool {
    let mut missing = host::missing();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root".into());
    }
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    for tool in tools {
        if !paths.split(':').any(|dir| Path::new(dir).join(tool).exists()) {
            missing.push((*tool).to_owned());
        }
    }
    if missing.is_empty() {
        return true;
    }
    let text = format!("THIS TEST DID NOT RUN: {} missing", missing.join(", "));
    assert!(std::env::var_os("CI").is_none(), "{text}");
    eprintln!("\n*** {text} ***\n");
    false
}

/// The program under test. Where the tests were shipped to another machine than they were built on, it is told where.
fn program() -> PathBuf {
    std::env::var_os("WARREN_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_warren").into(), PathBuf::from)
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("warren-test-").tempdir_in("/var/tmp").unwrap();
        let state = dir.path().join("state");
        Self { dir, program: program(), environment: Vec::new(), state }
    }

    /// Keeps its state elsewhere.
    #[cfg(target_os = "linux")]
    pub fn keep_state_in(mut self, state: &Path) -> Self {
        self.state = state.to_owned();
        self
    }

    /// Runs this program instead.
    #[cfg(target_os = "linux")]
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Sets a variable for all verbs, and so for the daemon.
    #[cfg(target_os = "linux")]
    pub fn variable(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// Writes a file of the test's.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A directory of the test's, made, as a service's volume: the directory, and what the service's table says of it.
    pub fn volume(&self) -> (PathBuf, String) {
        let data = self.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let table = format!(
            "mounts = [{{ fstype = \"nullfs\", source = \"{}\", target = \"/data\" }}]",
            data.display()
        );
        (data, table)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--state-dir").arg(self.state()).args(arguments).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a verb to its end.
    pub fn warren(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a verb that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.warren(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "warren {arguments:?}: {}\n{out}\n{err}{}",
            output.status,
            self.daemon_log()
        );
        out.into_owned()
    }

    /// Runs a verb that must fail, and gives all it said.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.warren(arguments);
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success(), "warren {arguments:?} succeeded:\n{said}");
        said
    }

    /// Runs a verb and reads its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let out = self.ok(&all);
        serde_json::from_str(&out)
            .unwrap_or_else(|e| panic!("warren {arguments:?} printed no JSON: {e}\n{out}"))
    }

    pub fn daemon_log(&self) -> String {
        let log = std::fs::read_to_string(self.state().join("daemon.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        format!("\n-- the daemon's log --\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// The instances: name, service, state, addresses.
    pub fn instances(&self) -> Vec<Value> {
        self.json(&["ps"])["instances"].as_array().cloned().unwrap_or_default()
    }

    /// The ids of a service's instances.
    #[cfg(target_os = "linux")]
    pub fn ids(&self, service: &str) -> std::collections::BTreeSet<String> {
        let all = self.instances();
        all.iter().filter(|i| i["service"] == service).map(|i| i["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The name of the one instance of a service, or of the first.
    pub fn first(&self, service: &str) -> String {
        let all = self.instances();
        let found = all.iter().find(|i| i["service"] == service);
        found.unwrap_or_else(|| panic!("no instance of {service} in {all:#?}"))["name"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// An IPv4 address of an instance.
    pub fn address(&self, name: &str) -> String {
        let all = self.instances();
        let found = all.iter().find(|i| i["name"] == name).unwrap();
        found["addresses"][0].as_str().unwrap().to_owned()
    }

    /// A program on the machine that holds the instances.
    pub fn host_command(&self, argv: &[&str]) -> Command {
        host::command(self, argv)
    }

    /// Runs a program there to its end.
    pub fn host(&self, argv: &[&str]) -> Output {
        self.host_command(argv).output().unwrap()
    }

    /// The daemon's process.
    pub fn daemon_pid(&self) -> Pid {
        // One that a verb of the test's has just started may not listen yet.
        wait("the daemon to listen", || UnixStream::connect(self.state().join("api.sock")).is_ok());
        Pid::from_raw(host::daemon(self))
    }

    /// Ends the daemon by a signal.
    pub fn end_daemon(&self, signal: Signal) {
        let pid = self.daemon_pid();
        kill(pid, signal).unwrap();
        // Not the socket: a verb of the test's may have started another one by now.
        wait("the daemon to be gone", || host::is_dead(pid));
    }

    /// Kills the daemon as a crash would.
    pub fn kill_daemon(&self) {
        self.end_daemon(Signal::SIGKILL);
    }

    #[cfg(target_os = "linux")]
    /// Kills process 1 of the lab: everything of the machine goes with it, as with its power.
    pub fn power_off(&self) {
        let daemon = self.daemon_pid();
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(daemon.as_raw());
        let first = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let inner =
                status.lines().find(|l| l.starts_with("NSpid:"))?.split_whitespace().last()?.to_owned();
            (inner == "1" && ours.is_some() && namespace(pid) == ours).then_some(pid)
        });
        kill(Pid::from_raw(first.expect("the lab's process 1")), Signal::SIGKILL).unwrap();
        wait("everything to be gone", || UnixStream::connect(self.state().join("api.sock")).is_err());
        wait("the daemon to be gone", || host::is_dead(daemon));
    }

    /// Starts a daemon again.
    pub fn start_daemon(&self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.state().join("daemon.log")).unwrap();
        let mut command = self.command(&["daemon"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        // It ends by `shutdown`, or by what the test does to it.
        std::thread::spawn(move || child.wait());
        // That the socket takes a connection is not enough: a child that the dead daemon was just making may hold the old one for a
        // moment longer.
        let said = std::cell::RefCell::new(String::new());
        wait_and_tell(
            "the daemon to answer",
            || format!(": {}{}", said.borrow(), self.daemon_log()),
            || {
                let info = self.warren(&["info"]);
                said.replace(text(&info));
                info.status.success()
            },
        );
    }

    /// Waits until so many instances of a service are there, and all of them ready.
    #[cfg(target_os = "linux")]
    pub fn wait_ready(&self, service: &str, count: usize) {
        wait(&format!("{count} of {service} to be ready{}", self.daemon_log()), || {
            let all = self.instances();
            let of: Vec<_> = all.iter().filter(|i| i["service"] == service).collect();
            of.len() == count && of.iter().all(|i| i["stage"] == "ready")
        });
    }

    /// Nothing of Warren's is on the lab's host, in the store, or below the state directory.
    pub fn assert_nothing_left(&self) {
        let inventory = self.json(&["info", "--inventory"]);
        let left: Vec<String> = (inventory["inventory"].as_object().unwrap().iter())
            .filter(|(_, v)| {
                v.as_object().is_some_and(|o| !o.is_empty()) || v.as_array().is_some_and(|a| !a.is_empty())
            })
            .map(|(k, v)| format!("{k}: {v}"))
            .collect();
        assert!(left.is_empty(), "left on the machine: {left:#?}");
        for dir in ["roots", "clones"] {
            let entries = std::fs::read_dir(self.state().join(dir)).into_iter().flatten().flatten();
            let names: Vec<_> = entries.map(|e| e.file_name()).collect();
            assert!(names.is_empty(), "left in {dir}: {names:?}");
        }
        assert!(self.instances().is_empty());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test that failed leaves nothing all the same.
        let ended = host::end(self);
        if !ended.status.success() && !std::thread::panicking() {
            panic!("shutdown: {}{}", String::from_utf8_lossy(&ended.stderr), self.daemon_log());
        }
    }
}

/// Waits until something holds, at most three minutes: the machine may be busy, and FreeBSD run under emulation.
pub fn wait(what: &str, holds: impl FnMut() -> bool) {
    wait_and_tell(what, String::new, holds);
}

/// The same; in vain, `tell` says more.
fn wait_and_tell(what: &str, tell: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(180);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}{}", tell());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A free port of the machine.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// Free ports of the machine, no two of them the same: each is held until all are known.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| std::net::TcpListener::bind("0.0.0.0:0").unwrap());
    std::array::from_fn(|n| held[n].local_addr().unwrap().port())
}

/// What `dig +short` answers with, without what it says of a try that had no answer: `;; communications error …`, on the same stream.
#[cfg(target_os = "linux")]
pub fn answered(dig: &str) -> String {
    dig.lines().filter(|line| !line.starts_with(';')).map(|line| format!("{line}\n")).collect()
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The head of every test's file: a fabric with one network and the host's root as template.
pub const HEAD: &str = r#"
name = "t"
[networks.net]
ipv4 = "10.99.0.0/24"
ipv6 = "fd99::/64"
nat = true
quarantine = "0s"
[templates.host]
host = true
"#;

/// A service that answers on port 80.
pub fn beacon(name: &str, more: &str) -> String {
    format!(
        "[services.{name}]\ntemplate = \"host\"\nnetworks = [\"net\"]\nports = {{ http = 80 }}\n\
         command = [\"@warren\", \"beacon\", \"--port\", \"80\", \"--name\", \"{name}\"]\n\
         health = {{ http = 80, interval = \"200ms\" }}\n{more}\n"
    )
}

/// A service of twenty chains of processes, each of which forks its successor and ends: always another number, never more than these.
pub fn bomb() -> String {
    let bomb = "trap \"\" TERM INT HUP; f() { (trap \"\" TERM; f) & }; n=0; while [ $n -lt 20 ]; do f; n=$((n+1)); done; \
                while :; do sleep 1; done";
    format!(
        "[services.bomb]\ntemplate = \"host\"\nnetworks = [\"net\"]\nrestart = \"no\"\n\
         command = [\"/bin/sh\", \"-c\", '''{bomb}''']\n[services.bomb.jail]\n\"stop.timeout\" = 1\n"
    )
}

/// How often something is done: what the variable says, or few times enough for every run of the tests.
#[cfg(target_os = "linux")]
pub fn times(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}
