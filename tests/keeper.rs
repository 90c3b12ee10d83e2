//! A real keeper, started from the real program, with real processes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use warren::config::spec::CommandLine;
use warren::host::{Failure, Job, JobState, NoWitness, Process, Status, Witness};
use warren::keeper::logs::{self, Origin};
use warren::keeper::{Client, Place};

/// A keeper in a directory of its own, gone with its jobs at the end of the test.
struct Keeper {
    dir: tempfile::TempDir,
    client: Client,
}

impl Keeper {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let client =
            Client::start_or_connect_with(dir.path(), Path::new(env!("CARGO_BIN_EXE_warren"))).unwrap();
        Self { dir, client }
    }

    fn again(&self) -> Client {
        Client::connect(self.dir.path()).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn run(&self, id: &str, command: &str) -> Result<Status, Failure> {
        self.client.run(&job(id, command), host(), &NoWitness)
    }

    fn log(&self, name: &str) -> Vec<String> {
        logs::tail(self.dir.path(), name, 10_000).unwrap().0.into_iter().map(|line| line.line).collect()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.client.shutdown(true);
    }
}

fn host() -> Place {
    Place::Host { cwd: None }
}

fn job(id: &str, command: &str) -> Job {
    Job {
        id: id.into(),
        jail: None,
        command: CommandLine::Shell(command.into()),
        env: BTreeMap::new(),
        clean_env: false,
        user: None,
        system_jail_user: false,
        fib: None,
        timeout: None,
        log: "log".into(),
        consolelog: None,
        console_below: None,
    }
}

fn alive(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok()
}

/// Waits for what happens soon in another process; a test that waits in vain fails.
fn soon(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("in vain: {what}");
}

#[test]
fn statuses_come_back() {
    let it = Keeper::new();
    assert_eq!(it.run("ok", "true").unwrap(), Status::Exited(0));
    assert_eq!(it.run("seven", "exit 7;").unwrap(), Status::Exited(7));
    assert_eq!(it.run("signal", "kill -TERM $$").unwrap(), Status::Signaled(15));
    assert_eq!(it.client.state("seven").unwrap(), JobState::Ended(Status::Exited(7)));
    assert_eq!(it.client.state("never").unwrap(), JobState::Unknown);
    assert_eq!(it.client.wait("signal").unwrap(), Status::Signaled(15));
    // They survive the daemon.
    let other = it.again();
    assert_eq!(other.state("ok").unwrap(), JobState::Ended(Status::Exited(0)));
    other.forget("ok").unwrap();
    other.forget("ok").unwrap();
    assert_eq!(other.state("ok").unwrap(), JobState::Unknown);
    assert!(other.wait("ok").is_err());
    assert_eq!(other.jobs().unwrap().len(), 2);
}

#[test]
fn a_job_knows_its_arguments_and_environment() {
    let it = Keeper::new();
    let mut one = job("one", "");
    one.command = CommandLine::Argv(vec!["printf".into(), "%s|".into(), "a b".into(), "$c;".into()]);
    assert!(it.client.run(&one, host(), &NoWitness).unwrap().success());
    let mut two = job("two", "echo $PATH,$USER,$HOME,$SHELL,$JNAME,$SECRET; umask; pwd; ulimit -n; trap");
    two.clean_env = true;
    two.env.insert("JNAME".into(), "j".into());
    assert!(it.client.run(&two, Place::Host { cwd: Some("/usr".into()) }, &NoWitness).unwrap().success());
    let log = it.log("log");
    assert_eq!(log[0], "a b|$c;|");
    // FreeBSD's login classes have a PATH of their own.
    let path = if cfg!(target_os = "freebsd") { "" } else { "/bin:/usr/bin" };
    assert!(log[1].starts_with(path) && log[1].contains(",root,/root,/"), "{log:?}");
    assert!(log[1].ends_with(",j,"), "{log:?}");
    assert_eq!(log[2..4], ["0022", "/usr"]);
    assert_eq!(log[4], rlimit(), "{log:?}");
    assert_eq!(log.len(), 5);
}

fn rlimit() -> String {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().0.to_string()
}

#[test]
fn a_job_inherits_nothing() {
    let it = Keeper::new();
    // The shell adds none of its own to /proc/self/fd but the listing's.
    let status =
        it.run("fds", "exec ls -l /proc/self/fd /dev/fd/ | cat > /dev/null; ls /proc/self/fd").unwrap();
    assert!(status.success() || cfg!(target_os = "freebsd"));
    if cfg!(target_os = "linux") {
        assert_eq!(it.log("log"), ["0", "1", "2", "3"]);
        let keeper = std::fs::read_link(format!("/proc/{}/fd/0", it.client.pid())).unwrap();
        assert_eq!(keeper, Path::new("/dev/null"));
        assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", it.client.pid())).unwrap(), Path::new("/"));
    }
}

#[test]
fn a_timeout_kills_the_whole_group() {
    let it = Keeper::new();
    let command =
        format!("(sleep 1000 & echo $! > {0}; wait) & echo $! > {1}; wait", it.path("a"), it.path("b"));
    let mut late = job("late", &command);
    // Within it both must have been forked, and written down.
    late.timeout = Some(Duration::from_secs(3));
    assert_eq!(it.client.run(&late, host(), &NoWitness).unwrap(), Status::TimedOut);
    for name in ["a", "b"] {
        let pid = it.read(name).trim().parse().unwrap();
        // Reaped by whoever adopted it.
        soon("death of the grandchild", || !alive(pid));
    }
    assert_eq!(it.client.state("late").unwrap(), JobState::Ended(Status::TimedOut));
    assert!(it.client.jobs().unwrap().iter().all(|job| !job.alive));
}

#[test]
fn what_succeeded_may_leave_processes_until_it_is_killed() {
    let it = Keeper::new();
    let command = format!("sleep 1000 & echo $! > {}", it.path("pid"));
    assert_eq!(it.run("leave", &command).unwrap(), Status::Exited(0));
    let pid: i32 = it.read("pid").trim().parse().unwrap();
    assert!(alive(pid));
    assert!(it.client.jobs().unwrap()[0].alive);
    it.client.forget("leave").unwrap();
    assert_eq!(it.client.state("leave").unwrap(), JobState::Unknown);
    assert!(alive(pid));
    it.client.kill("leave").unwrap();
    soon("death", || !alive(pid));
    assert!(it.client.jobs().unwrap().is_empty());
    // What failed leaves nothing.
    assert_eq!(it.run("fail", &format!("{command}; exit 3")).unwrap(), Status::Exited(3));
    let pid: i32 = it.read("pid").trim().parse().unwrap();
    soon("death", || !alive(pid));
}

#[test]
fn the_table_says_what_lives_now_and_not_what_lived_at_the_last_look() {
    let it = Keeper::new();
    // The leader ends first; the rest of its group is killed by somebody else, as by the end of a jail.
    let pid = it.path("pid");
    assert!(it.run("one", &format!("sleep 1000 & echo $! > {pid}")).unwrap().success());
    let rest: i32 = it.read("pid").trim().parse().unwrap();
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(rest))).unwrap().as_raw();
    let listed = || it.client.jobs().unwrap().into_iter().find(|j| j.job == "one").unwrap().alive;
    assert!(listed());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(rest), nix::sys::signal::Signal::SIGKILL).unwrap();
    soon("the rest is dead", || warren::keeper::sys::group_members(group).unwrap().is_empty());
    // At once: the keeper looks by itself every five seconds only.
    assert!(!listed(), "a dead job is listed as living");
}

#[test]
fn a_background_job_is_not_waited_for() {
    let it = Keeper::new();
    assert_eq!(it.run("back", "sleep 1000 &").unwrap(), Status::Exited(0));
    let all = it.client.jobs().unwrap();
    assert_eq!((all[0].state, all[0].alive), (JobState::Ended(Status::Exited(0)), true));
    it.client.kill("back").unwrap();
    assert_eq!(it.client.wait("back").unwrap(), Status::Exited(0));
    assert!(!it.client.jobs().unwrap()[0].alive);
    assert!(it.run("none", "no-such-program &").is_err());
}

#[test]
fn a_job_is_gated() {
    struct Refuses(Mutex<Option<Process>>);
    impl Witness for Refuses {
        fn started(&self, _: &str, process: Process) -> Result<(), Failure> {
            *self.0.lock().unwrap() = Some(process);
            Err(Failure::new("the disk is full"))
        }
    }
    let it = Keeper::new();
    let witness = Refuses(Mutex::new(None));
    let marker = it.path("marker");
    let failure = it.client.run(&job("gated", &format!("touch {marker}")), host(), &witness).unwrap_err();
    assert_eq!(failure.message, "the disk is full");
    let process = witness.0.lock().unwrap().unwrap();
    assert!(process.started > 0);
    soon("death at the gate", || !alive(process.pid));
    assert_eq!(it.client.state("gated").unwrap(), JobState::Unknown);
    assert!(!Path::new(&marker).exists());
    // It never started, so the id is free.
    assert_eq!(it.run("gated", &format!("touch {marker}")).unwrap(), Status::Exited(0));
    assert!(Path::new(&marker).exists());
}

/// A whole client process is killed between start and go. It is this test program again, running this test.
#[test]
fn a_client_killed_before_go_leaves_no_exec() {
    struct Stalls(String);
    impl Witness for Stalls {
        fn started(&self, _: &str, process: Process) -> Result<(), Failure> {
            std::fs::write(&self.0, process.pid.to_string()).unwrap();
            loop {
                std::thread::park();
            }
        }
    }
    if let Ok(dir) = std::env::var("KEEPER_TEST_DIR") {
        let client = Client::connect(Path::new(&dir)).unwrap();
        let _ =
            client.run(&job("gated", &format!("touch {dir}/marker")), host(), &Stalls(format!("{dir}/pid")));
        unreachable!("the witness never returns");
    }
    let it = Keeper::new();
    let mut client = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_client_killed_before_go_leaves_no_exec"])
        .env("KEEPER_TEST_DIR", it.dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    soon("the gate", || !it.read("pid").is_empty());
    let pid = it.read("pid").parse().unwrap();
    assert!(alive(pid));
    client.kill().unwrap();
    client.wait().unwrap();
    soon("death at the gate", || !alive(pid));
    assert_eq!(it.client.state("gated").unwrap(), JobState::Unknown);
    assert!(!Path::new(&it.path("marker")).exists());
}

#[test]
fn a_second_job_of_an_id_is_refused() {
    let it = Keeper::new();
    assert!(it.run("once", "true").unwrap().success());
    let failure = it.run("once", "true").unwrap_err();
    assert!(failure.message.contains("of this id already"), "{failure}");
    it.client.spawn(&job("runs", "sleep 1000"), host(), &NoWitness).unwrap();
    assert!(it.run("runs", "true").is_err());
    assert!(it.client.forget("runs").is_err());
    it.client.kill("runs").unwrap();
    it.client.forget("runs").unwrap();
    assert!(it.run("runs", "true").unwrap().success());
}

#[test]
fn a_program_that_is_missing_is_told_of() {
    let it = Keeper::new();
    let failure = it.run("a", "no-such-program x").unwrap_err();
    assert_eq!(failure.errno, Some(nix::libc::ENOENT));
    assert!(failure.to_string().contains("exec no-such-program"), "{failure}");
    let failure = it.run("b", "/etc").unwrap_err();
    assert_eq!(failure.errno, Some(nix::libc::EACCES));
    let failure = it
        .client
        .run(&job("c", "true"), Place::Host { cwd: Some("/no/such".into()) }, &NoWitness)
        .unwrap_err();
    assert!(failure.message.contains("/no/such"), "{failure}");
    let mut d = job("d", "true");
    d.user = Some("no-such-user".into());
    assert!(it.client.run(&d, host(), &NoWitness).unwrap_err().message.contains("no-such-user"));
    d.user = None;
    d.env.insert("A=B".into(), "c".into());
    assert!(it.client.run(&d, host(), &NoWitness).is_err());
    d.env = BTreeMap::from([("A".into(), "nul\0".into())]);
    assert!(it.client.run(&d, host(), &NoWitness).is_err());
    // None of these was a job.
    assert!(it.client.jobs().unwrap().is_empty());
}

#[test]
fn ends_of_spawned_jobs_are_pushed() {
    let it = Keeper::new();
    let process = it.client.spawn(&job("before", "exit 3;"), host(), &NoWitness).unwrap();
    assert!(process.pid > 1);
    it.client.wait("before").unwrap();
    it.client.spawn(&job("during", "cat; sleep 1000"), host(), &NoWitness).unwrap();
    assert!(matches!(it.client.state("during").unwrap(), JobState::Running(_)));
    assert!(it.run("a hook", "true").unwrap().success());
    let exits = it.again().exits().unwrap();
    let next = || exits.recv_timeout(Duration::from_secs(20)).map(|exit| (exit.job, exit.status));
    assert_eq!(next(), Ok(("before".into(), Status::Exited(3))));
    it.client.kill("during").unwrap();
    assert_eq!(next(), Ok(("during".into(), Status::Signaled(9))));
    it.client.shutdown(false).unwrap();
    assert_eq!(next(), Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn logs_hold_what_was_printed_and_are_bounded() {
    let it = Keeper::new();
    let console = it.path("console");
    let mut talks = job("talks", "echo one; echo two >&2; printf three");
    talks.consolelog = Some(console.clone().into());
    assert!(it.client.run(&talks, host(), &NoWitness).unwrap().success());
    let (lines, _) = logs::tail(it.dir.path(), "log", 10).unwrap();
    let mut seen: Vec<_> = lines.iter().map(|l| (l.line.as_str(), l.stream, l.job.as_str())).collect();
    seen.sort_unstable_by_key(|(line, ..)| *line);
    assert_eq!(
        seen,
        [("one", Origin::Out, "talks"), ("three", Origin::Out, "talks"), ("two", Origin::Err, "talks")]
    );
    assert_eq!(it.read("console").len(), "one\ntwo\nthree".len());

    let mut floods = job("floods", "head -c 20000000 /dev/zero | tr '\\0' x; yes | head -n 500000");
    floods.log = "flood".into();
    assert!(it.client.run(&floods, host(), &NoWitness).unwrap().success());
    let size = |name: &str| std::fs::metadata(it.path(name)).map_or(0, |m| m.len());
    assert!(size("log/flood.log") <= logs::MAX_FILE && size("log/flood.log") > 0);
    assert!(size("log/flood.log.1") <= logs::MAX_FILE && size("log/flood.log.1") > 0);
    assert_eq!(it.log("flood").last().map(String::as_str), Some("y"));
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", it.client.pid())) {
        let peak =
            status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
        assert!(peak.parse::<u64>().unwrap() < 64 << 10, "{peak} kB");
    }

    // An unusable second file fails the job, as in jail(8); it is not followed when it is a link.
    std::os::unix::fs::symlink("/etc/passwd", it.path("link")).unwrap();
    talks.id = "link".into();
    talks.consolelog = Some(it.path("link").into());
    assert!(it.client.run(&talks, host(), &NoWitness).is_err());

    // Below a root that an instance writes in no directory on the way is a link either.
    std::fs::create_dir_all(it.path("root/var/log")).unwrap();
    std::fs::create_dir(it.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(it.path("elsewhere"), it.path("root/var/linked")).unwrap();
    talks.console_below = Some(it.path("root").into());
    let pipe = |path: &str| {
        nix::unistd::mkfifo(Path::new(&it.path(path)), nix::sys::stat::Mode::from_bits_truncate(0o600))
            .unwrap();
        std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(it.path(path)).unwrap()
    };
    let _read = pipe("root/var/pipe");
    for (id, place, good) in [
        ("below", "root/var/log/console", true),
        ("led", "root/var/linked/console", false),
        ("piped", "root/var/pipe", false),
    ] {
        (talks.id, talks.consolelog) = (id.into(), Some(it.path(place).into()));
        assert_eq!(it.client.run(&talks, host(), &NoWitness).is_ok(), good, "{place}");
    }
    assert!(!it.read("root/var/log/console").is_empty());
    assert_eq!(std::fs::read_dir(it.path("elsewhere")).unwrap().count(), 0);

    // Elsewhere it may be a pipe, and whoever reads it may leave: that ends neither the job nor the keeper.
    let reader = pipe("logger");
    talks.log = "left".into();
    (talks.id, talks.consolelog, talks.console_below) = ("left".into(), Some(it.path("logger").into()), None);
    talks.command = CommandLine::Shell("echo one; sleep 1; echo two; echo three".into());
    it.client.spawn(&talks, host(), &NoWitness).unwrap();
    let said = |line: &str| {
        let begun = std::time::Instant::now();
        while !it.log("left").iter().any(|said| said == line) {
            assert!(begun.elapsed() < Duration::from_secs(20), "`{line}` is in no log");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    said("one");
    drop(reader);
    said("three");
    assert!(it.client.run(&job("after", "true"), host(), &NoWitness).unwrap().success());
}

#[test]
fn a_log_is_a_file_in_its_place_and_no_link() {
    let it = Keeper::new();
    let mut talks = job("escapes", "echo one");
    talks.log = "../escape".into();
    assert!(it.client.run(&talks, host(), &NoWitness).is_err());
    assert!(!Path::new(&it.path("escape.log")).exists());
    // What cannot be written is lost, and the job runs.
    // It looks like a log, so that nothing but the link is against it.
    let log = "{\"log\":\"linked\",\"format\":1,\"generation\":1}\n";
    std::fs::write(it.path("precious"), log).unwrap();
    std::os::unix::fs::symlink(it.path("precious"), it.path("log/linked.log")).unwrap();
    (talks.id, talks.log) = ("linked".into(), "linked".into());
    assert!(it.client.run(&talks, host(), &NoWitness).unwrap().success());
    assert_eq!(it.read("precious"), log);
}

#[test]
fn a_job_that_never_stops_printing_stops_nobody() {
    let it = Keeper::new();
    let mut yes = job("yes", "yes");
    yes.log = "yes".into();
    it.client.spawn(&yes, host(), &NoWitness).unwrap();
    for number in 0..5 {
        assert!(it.run(&format!("other{number}"), "true").unwrap().success());
    }
    it.client.kill("yes").unwrap();
}

#[test]
fn sockets_outlive_their_daemon() {
    let it = Keeper::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    it.client.put_socket("dns", OwnedFd::from(listener)).unwrap();
    let another = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(it.client.put_socket("dns", OwnedFd::from(another)).is_err());
    // A client comes while nobody accepts.
    let mut peer = std::net::TcpStream::connect(address).unwrap();
    let other = it.again();
    assert_eq!(other.sockets().unwrap(), ["dns"]);
    for round in 0..2 {
        let listener = TcpListener::from(other.get_socket("dns").unwrap());
        if round == 0 {
            listener.accept().unwrap().0.write_all(b"hi").unwrap();
            let mut text = String::new();
            peer.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hi");
        }
    }
    other.drop_socket("dns").unwrap();
    other.drop_socket("dns").unwrap();
    assert!(other.get_socket("dns").is_err());
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn there_is_one_keeper_per_directory() {
    let it = Keeper::new();
    let program = Path::new(env!("CARGO_BIN_EXE_warren"));
    let same = Client::start_or_connect_with(it.dir.path(), program).unwrap();
    assert_eq!(same.pid(), it.client.pid());
    let output = std::process::Command::new(program)
        .args(["keeper", "--state-dir"])
        .arg(it.dir.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("process {}", it.client.pid())), "{said}");
    // Many daemons at once, one keeper.
    let dir = tempfile::tempdir().unwrap();
    let pids: Vec<i32> = std::thread::scope(|scope| {
        let start = || Client::start_or_connect_with(dir.path(), program).unwrap().pid();
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    Client::connect(dir.path()).unwrap().shutdown(false).unwrap();
    soon("the socket to go", || !dir.path().join("keeper.sock").exists());
}

#[test]
fn a_shutdown_is_refused_while_jobs_run_unless_forced() {
    let it = Keeper::new();
    let process = it.client.spawn(&job("runs", "sleep 1000"), host(), &NoWitness).unwrap();
    let failure = it.client.shutdown(false).unwrap_err();
    assert!(failure.message.contains("runs"), "{failure}");
    // SIGTERM is no more than a shutdown that is not forced.
    let pid = nix::unistd::Pid::from_raw(it.client.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    soon("the message", || it.read("keeper.err").contains("SIGTERM ignored"));
    assert!(alive(process.pid));
    it.client.shutdown(true).unwrap();
    soon("death", || !alive(process.pid));
    soon("the keeper's end", || !alive(it.client.pid()));
    assert!(Client::connect(it.dir.path()).is_err());
}

#[test]
fn a_keeper_that_dies_is_told_of() {
    let it = Keeper::new();
    let pid = nix::unistd::Pid::from_raw(it.client.pid());
    let failure = std::thread::scope(|scope| {
        let run = scope.spawn(|| it.run("long", "sleep 1000"));
        soon("the job", || matches!(it.client.state("long"), Ok(JobState::Running(_))));
        let Ok(JobState::Running(process)) = it.client.state("long") else { panic!("it does not run") };
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let failure = run.join().unwrap().unwrap_err();
        nix::sys::signal::killpg(nix::unistd::Pid::from_raw(process.pid), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        failure
    });
    assert!(failure.message.contains("the keeper died"), "{failure}");
    // A new one takes the place of the dead one's lock and socket.
    let next = Client::start_or_connect_with(it.dir.path(), Path::new(env!("CARGO_BIN_EXE_warren"))).unwrap();
    assert_eq!(next.state("long").unwrap(), JobState::Unknown);
    next.shutdown(false).unwrap();
}

#[test]
fn exec_uses_what_it_is_given() {
    let it = Keeper::new();
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let stdio = || {
        [
            theirs.try_clone().unwrap().into(),
            theirs.try_clone().unwrap().into(),
            theirs.try_clone().unwrap().into(),
        ]
    };
    it.client.exec(&job("cat", "read a; echo \"$a\" back; exit 4"), host(), stdio(), false).unwrap();
    ours.write_all(b"hello\n").unwrap();
    assert_eq!(it.client.wait("cat").unwrap(), Status::Exited(4));
    drop(theirs);
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello back\n");
    assert!(it.log("log").is_empty());
}

#[test]
fn exec_takes_the_terminal() {
    let it = Keeper::new();
    let pty = nix::pty::openpty(None, None).unwrap();
    let slave = || pty.slave.try_clone().unwrap();
    // It lives until it is read: FreeBSD takes the terminal from everybody when its session's leader ends.
    let command = "tty; echo yes > /dev/tty; read reply";
    it.client.exec(&job("tty", command), host(), [slave(), slave(), slave()], true).unwrap();
    let mut buffer = [0; 200];
    let mut text = String::new();
    while !text.contains("yes") {
        let count = nix::unistd::read(&pty.master, &mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(text.contains("/dev/pts/"), "{text}");
    nix::unistd::write(&pty.master, b"well\n").unwrap();
    assert_eq!(it.client.wait("tty").unwrap(), Status::Exited(0));
    // What is no terminal cannot be taken.
    let null = || std::fs::File::open("/dev/null").unwrap().into();
    let failure = it.client.exec(&job("no", "true"), host(), [null(), null(), null()], true).unwrap_err();
    assert!(failure.message.contains("terminal"), "{failure}");
}

#[test]
fn many_at_once() {
    let it = Keeper::new();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let it = &it;
            scope.spawn(move || {
                for number in 0..20 {
                    let id = format!("{thread}.{number}");
                    assert_eq!(
                        it.run(&id, &format!("echo {id}; exit {number}")).unwrap(),
                        Status::Exited(number)
                    );
                    it.client.forget(&id).unwrap();
                }
            });
        }
    });
    assert!(it.client.jobs().unwrap().is_empty());
    assert_eq!(it.log("log").len(), 160);
    if let Ok(fds) = std::fs::read_dir(format!("/proc/{}/fd", it.client.pid())) {
        assert!(fds.count() < 20);
    }
}

#[cfg(target_os = "linux")]
#[path = "keeper/shortage.rs"]
mod shortage;

mod as_root {
    use super::*;

    fn root() -> bool {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            eprintln!("skipped: needs root");
        }
        root
    }

    #[test]
    fn users_are_switched_to() {
        if !root() {
            return;
        }
        let it = Keeper::new();
        let mut nobody = job("nobody", "id -u; id -g; echo $USER $HOME $SECRET");
        nobody.user = Some("nobody".into());
        assert!(it.client.run(&nobody, host(), &NoWitness).unwrap().success());
        let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        let want = [user.uid.to_string(), user.gid.to_string(), format!("nobody {}", user.dir.display())];
        assert_eq!(it.log("log"), want);
    }

    /// Whoever an instance's databases are made of: root there, who may put anything in their place.
    fn hostile_databases(it: &Keeper, place: &dyn Fn() -> Place, put: &dyn Fn(&str)) {
        let passwd = it.path("hostile");
        let run = |id: &str| {
            let mut who = job(id, "id -u");
            who.user = Some("who".into());
            let (client, place) = (&it.client, place());
            // Without the guard nothing ever comes of it.
            std::thread::scope(|scope| {
                let (done, ended) = std::sync::mpsc::channel();
                scope.spawn(move || drop(done.send(client.run(&who, place, &NoWitness))));
                ended.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| {
                    // Whoever waits for a writer has had one, and ends with the keeper.
                    let mut fifo = std::fs::File::options();
                    let _ = std::os::unix::fs::OpenOptionsExt::custom_flags(&mut fifo, libc::O_NONBLOCK)
                        .write(true)
                        .open(&passwd);
                    let keeper = nix::unistd::Pid::from_raw(client.pid());
                    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL).unwrap();
                    panic!("{id}: nothing has come of it")
                })
            })
        };
        nix::unistd::mkfifo(Path::new(&passwd), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        put(&passwd);
        let failure = run("fifo").unwrap_err();
        assert!(failure.message.contains("/etc/passwd"), "{failure}");
        // One without end, in which the user is found at once, or never.
        for (id, text, found) in [("first", "who:*:4321:4322::/:/bin/sh\n", true), ("never", "", false)] {
            std::fs::remove_file(&passwd).unwrap();
            std::fs::write(&passwd, text).unwrap();
            std::fs::File::options().write(true).open(&passwd).unwrap().set_len(1 << 40).unwrap();
            put(&passwd);
            assert_eq!(run(id).is_ok(), found, "{id}");
        }
    }

    #[cfg(target_os = "linux")]
    mod in_namespaces {
        use super::*;
        use std::os::unix::process::CommandExt;

        /// Namespaces with a first process in them, and its root's own `/etc/passwd`.
        struct Unshared(std::process::Child, i32);

        impl Unshared {
            fn new(it: &Keeper, kinds: &[&str]) -> Self {
                std::fs::write(it.path("passwd"), "who:*:4321:4322::/usr:/bin/sh\n").unwrap();
                std::fs::write(it.path("group"), "extra:*:4323:who\n").unwrap();
                let script = format!(
                    "mount --bind {0}/passwd /etc/passwd; mount --bind {0}/group /etc/group; mount -t proc proc /proc; \
                     hostname inside; touch {0}/up; exec sleep 1000",
                    it.dir.path().display()
                );
                let child = std::process::Command::new("unshare")
                    .args(kinds)
                    .args(["--fork", "--kill-child", "sh", "-c", &script])
                    .process_group(0)
                    .spawn()
                    .unwrap();
                soon("the namespaces", || Path::new(&it.path("up")).exists());
                let children = format!("/proc/{0}/task/{0}/children", child.id());
                let first = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
                Self(child, first)
            }

            fn place(&self, kinds: &[&str]) -> Place {
                let open =
                    |kind: &&str| std::fs::File::open(format!("/proc/{}/ns/{kind}", self.1)).unwrap().into();
                Place::Namespaces(kinds.iter().map(open).collect())
            }
        }

        impl Drop for Unshared {
            fn drop(&mut self) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(self.1),
                    nix::sys::signal::Signal::SIGKILL,
                );
                // Who killed `unshare` as well would have the process inside reaped by somebody else, at some time. It ends by
                // itself once it has reaped it; where that one could not be killed nobody waits for ever.
                for _ in 0..3000 {
                    if !matches!(self.0.try_wait(), Ok(None)) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
        }

        const KINDS: [&str; 5] = ["pid", "net", "uts", "ipc", "mnt"];
        const FLAGS: [&str; 5] = ["--pid", "--net", "--uts", "--ipc", "--mount"];

        #[test]
        fn a_job_is_inside_and_the_keeper_reaps_it() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let there = Unshared::new(&it, &FLAGS);
            let command =
                "hostname; cat /proc/1/comm; echo $PPID; ls /sys/class/net /proc/self/fd | wc -l; exit 5";
            assert_eq!(
                it.client.run(&job("in", command), there.place(&KINDS), &NoWitness).unwrap(),
                Status::Exited(5)
            );
            // The parent is outside, and so 0 in there.
            assert_eq!(it.log("log")[..3], ["inside", "sleep", "0"]);

            let link = |pid: i32, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            let process =
                it.client.spawn(&job("long", "sleep 1000"), there.place(&KINDS), &NoWitness).unwrap();
            for kind in KINDS {
                assert_eq!(link(process.pid, kind), link(there.1, kind), "{kind}");
            }
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
            assert!(status.contains(&format!("PPid:\t{}\n", it.client.pid())), "{status}");
            it.client.kill("long").unwrap();
            assert!(!alive(process.pid));
            assert_eq!(it.client.wait("long").unwrap(), Status::Signaled(9));
            // The one in between was reaped as well.
            let children = format!("/proc/{0}/task/{0}/children", it.client.pid());
            assert_eq!(std::fs::read_to_string(children).unwrap(), "");
        }

        #[test]
        fn users_are_those_of_the_instance_unless_told_otherwise() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let there = Unshared::new(&it, &FLAGS);
            let mut who = job("who", "id -u; id -G; pwd; echo $HOME");
            who.user = Some("who".into());
            who.clean_env = true;
            assert!(it.client.run(&who, there.place(&KINDS), &NoWitness).unwrap().success());
            assert_eq!(it.log("log"), ["4321", "4322 4323", "/usr", "/usr"]);
            who.id = "host".into();
            who.system_jail_user = true;
            let failure = it.client.run(&who, there.place(&KINDS), &NoWitness).unwrap_err();
            assert!(failure.message.contains("on the host"), "{failure}");
            who.user = Some("root".into());
            assert!(it.client.run(&who, there.place(&KINDS), &NoWitness).unwrap().success());
        }

        #[test]
        fn databases_of_an_instance_stop_nobody() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let there = Unshared::new(&it, &FLAGS);
            let put = |passwd: &str| {
                let mount = job(
                    &format!("put{passwd}"),
                    &format!("umount /etc/passwd; mount --bind {passwd} /etc/passwd"),
                );
                let done = it.client.run(&mount, there.place(&KINDS), &NoWitness).unwrap();
                assert!(done.success(), "{:?}", it.log("log"));
                it.client.forget(&mount.id).unwrap();
            };
            hostile_databases(&it, &|| there.place(&KINDS), &put);
        }

        #[test]
        fn a_namespace_without_its_first_process_is_told_of() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let there = Unshared::new(&it, &FLAGS);
            let place = there.place(&KINDS);
            drop(there);
            let failure = it.client.run(&job("late", "true"), place, &NoWitness).unwrap_err();
            assert!(failure.hint.unwrap().contains("first process"));
            let file = std::fs::File::open("/dev/null").unwrap().into();
            let failure =
                it.client.run(&job("no", "true"), Place::Namespaces(vec![file]), &NoWitness).unwrap_err();
            assert!(failure.message.contains("namespace"), "{failure}");
            assert!(it.client.run(&job("jail", "true"), Place::Jail(1), &NoWitness).is_err());
        }

        #[test]
        fn a_user_namespace_comes_first() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let flags = ["--user", "--map-root-user", "--pid", "--net", "--uts", "--ipc", "--mount"];
            let there = Unshared::new(&it, &flags);
            let kinds = ["pid", "net", "uts", "ipc", "mnt", "user"];
            assert_eq!(
                it.client.run(&job("in", "hostname; id -u"), there.place(&kinds), &NoWitness).unwrap(),
                Status::Exited(0)
            );
            assert_eq!(it.log("log"), ["inside", "0"]);
        }

        #[test]
        fn a_timeout_reaches_into_the_namespace() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let there = Unshared::new(&it, &FLAGS);
            let mut late = job("late", "sleep 1000 & sleep 1000");
            late.timeout = Some(Duration::from_millis(300));
            assert_eq!(it.client.run(&late, there.place(&KINDS), &NoWitness).unwrap(), Status::TimedOut);
            assert!(it.client.jobs().unwrap().iter().all(|job| !job.alive));
        }
    }

    #[cfg(target_os = "freebsd")]
    mod in_a_jail {
        use super::*;
        use std::process::Command;

        /// A jail with a root of its own: a shell, a few programs and what they are linked with.
        struct Jail(i32);

        impl Jail {
            fn new(it: &Keeper) -> Self {
                let root = it.path("root");
                for dir in ["dev", "etc", "home", "libexec"] {
                    std::fs::create_dir_all(format!("{root}/{dir}")).unwrap();
                }
                for from in ["/bin", "/lib", "/libexec/ld-elf.so.1", "/usr/bin/id"] {
                    let to = if from == "/usr/bin/id" { "/bin/id" } else { from };
                    assert!(
                        Command::new("cp")
                            .args(["-R", from, &format!("{root}{to}")])
                            .status()
                            .unwrap()
                            .success()
                    );
                }
                // What a shell gives to what it runs in the background.
                std::fs::write(format!("{root}/dev/null"), "").unwrap();
                std::fs::write(format!("{root}/etc/passwd"), "who:*:4321:4322::/home:/bin/sh\n").unwrap();
                std::fs::write(format!("{root}/etc/group"), "extra:*:4323:who\n").unwrap();
                let output = Command::new("jail")
                    .args(["-ic", "persist", "host.hostname=inside", &format!("path={root}")])
                    .output()
                    .unwrap();
                let jid = String::from_utf8(output.stdout).unwrap();
                Self(jid.trim().parse().unwrap_or_else(|_| panic!("{:?}", output.stderr)))
            }
        }

        impl Drop for Jail {
            fn drop(&mut self) {
                Command::new("jail").args(["-r", &self.0.to_string()]).status().unwrap();
            }
        }

        #[test]
        fn a_job_is_inside_and_the_keeper_reaps_it() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let jail = Jail::new(&it);
            let place = || Place::Jail(jail.0);
            let command = "hostname; pwd; echo /*; exit 5";
            assert_eq!(it.client.run(&job("in", command), place(), &NoWitness).unwrap(), Status::Exited(5));
            assert_eq!(it.log("log"), ["inside", "/", "/bin /dev /etc /home /lib /libexec"]);
            let process = it.client.spawn(&job("long", "sleep 1000"), place(), &NoWitness).unwrap();
            let output = Command::new("ps")
                .args(["-o", "jid=", "-o", "ppid=", "-p", &process.pid.to_string()])
                .output()
                .unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let said: Vec<i32> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
            assert_eq!(said, [jail.0, it.client.pid()]);
            it.client.kill("long").unwrap();
            assert!(!alive(process.pid));
            assert_eq!(it.client.wait("long").unwrap(), Status::Signaled(9));
            let mut late = job("late", "sleep 1000 & sleep 1000");
            late.timeout = Some(Duration::from_millis(300));
            assert_eq!(it.client.run(&late, place(), &NoWitness).unwrap(), Status::TimedOut);
            assert!(it.client.jobs().unwrap().iter().all(|job| !job.alive));
        }

        #[test]
        fn users_are_those_of_the_jail_unless_told_otherwise() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let jail = Jail::new(&it);
            let place = || Place::Jail(jail.0);
            let mut who = job("who", "id -u; id -G; pwd; echo $HOME $USER");
            who.user = Some("who".into());
            who.clean_env = true;
            assert!(it.client.run(&who, place(), &NoWitness).unwrap().success());
            assert_eq!(it.log("log"), ["4321", "4322 4323", "/home", "/home who"]);
            who.id = "host".into();
            who.system_jail_user = true;
            let failure = it.client.run(&who, place(), &NoWitness).unwrap_err();
            assert!(failure.message.contains("on the host"), "{failure}");
            who.fib = Some(70_000);
            who.id = "fib".into();
            who.user = None;
            assert!(it.client.run(&who, place(), &NoWitness).unwrap_err().message.contains("setfib"));
            who.fib = Some(0);
            assert!(it.client.run(&who, place(), &NoWitness).unwrap().success());
            assert!(it.client.run(&job("no", "true"), Place::Jail(99_999), &NoWitness).is_err());
            assert!(it.client.run(&job("ns", "true"), Place::Namespaces(vec![]), &NoWitness).is_err());
        }

        #[test]
        fn databases_of_an_instance_stop_nobody() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let jail = Jail::new(&it);
            let put = |passwd: &str| {
                let inside = it.path("root/etc/passwd");
                let _ = std::fs::remove_file(&inside);
                std::fs::hard_link(passwd, inside).unwrap();
            };
            hostile_databases(&it, &|| Place::Jail(jail.0), &put);
        }

        /// jail(8) finds `service` in exec.start with exec.clean: the PATH of the login class has /usr/sbin.
        #[test]
        fn a_clean_environment_has_the_path_of_the_login_class() {
            if !root() {
                return;
            }
            let it = Keeper::new();
            let mut path = job("path", "echo $PATH; which service;");
            path.clean_env = true;
            assert!(it.client.run(&path, host(), &NoWitness).unwrap().success(), "{:?}", it.log("log"));
            assert!(it.log("log")[0].contains("/usr/sbin"), "{:?}", it.log("log"));
        }
    }
}
