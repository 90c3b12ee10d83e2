//! A keeper without descriptors, and one that cannot say so.

use std::os::unix::net::UnixStream;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use warren::keeper::logs::{LineRef, Logs};

use super::*;

/// Leaves a process so many descriptors to open, until this is dropped.
struct Short {
    pid: Pid,
    before: Rlimit,
}

impl Short {
    fn of(pid: i32, left: usize) -> Self {
        let open = |fd: &u64| std::fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_ok();
        let limit = (0..).filter(|fd| !open(fd)).nth(left).unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        let now = |current| Rlimit { current, maximum: rustix::process::getrlimit(Resource::Nofile).maximum };
        let before = prlimit(Some(pid), Resource::Nofile, now(Some(limit))).unwrap();
        Self { pid, before }
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        prlimit(Some(self.pid), Resource::Nofile, self.before).unwrap();
    }
}

/// A keeper that is twice without descriptors, and serves in between and afterwards.
fn spell(it: &Keeper) {
    for time in 1..=2 {
        let short = Short::of(it.client.pid(), 0);
        let waits = UnixStream::connect(it.dir.path().join("keeper.sock")).unwrap();
        std::thread::sleep(Duration::from_millis(800));
        drop((short, waits));
        assert_eq!(it.again().pid(), it.client.pid(), "{time}");
    }
}

#[test]
fn a_spell_without_descriptors_is_told_once() {
    let it = Keeper::new();
    spell(&it);
    let said = it.read("keeper.err");
    assert_eq!(said.lines().filter(|line| line.contains("accepting a connection")).count(), 1, "{said}");
}

#[test]
fn a_keeper_whose_disk_is_full_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("keeper.err")).unwrap();
    let client = Client::start_or_connect_with(dir.path(), Path::new(env!("CARGO_BIN_EXE_warren"))).unwrap();
    let it = Keeper { dir, client };
    spell(&it);
    it.client.spawn(&job("runs", "sleep 1000"), host(), &NoWitness).unwrap();
    let pid = nix::unistd::Pid::from_raw(it.client.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(it.run("after", "true").unwrap().success());
}

#[test]
fn whoever_cannot_be_looked_at_counts_as_living() {
    let it = Keeper::new();
    let pid = it.path("pid");
    assert!(it.run("leaves", &format!("sleep 1000 & echo $! > {pid}")).unwrap().success());
    let left: i32 = it.read("pid").trim().parse().unwrap();
    // When what the keeper has of earlier calls is closed: one for a call, one for /proc, and none for who is in there.
    std::thread::sleep(Duration::from_millis(200));
    let short = Short::of(it.client.pid(), 2);
    assert!(it.client.jobs().unwrap()[0].alive, "what cannot be seen is taken for dead");
    it.client.kill("leaves").unwrap();
    soon("death", || !alive(left));
    drop(short);
    assert!(it.client.jobs().unwrap().iter().all(|job| !job.alive));
}

/// The logs of a process without descriptors: it is this test program again, running this test.
#[test]
fn a_good_log_is_left_alone_where_it_cannot_be_looked_at() {
    let print = |logs: &mut Logs, line: &str| {
        let line = LineRef { at: 5, job: "j", stream: Origin::Out, line: line.into(), part: false };
        logs.batch("a", 5).push(&line);
    };
    if let Ok(dir) = std::env::var("KEEPER_TEST_DIR") {
        let mut logs = Logs::new(Path::new(&dir)).unwrap();
        let short = Short::of(std::process::id().cast_signed(), 1);
        let opened = logs.open("a", 9).map_err(|e| e.raw_os_error());
        print(&mut logs, "unwritten");
        drop(short);
        assert_eq!(opened, Err(Some(libc::EMFILE)));
        print(&mut logs, "new");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = |generation: u64, line: &str| {
        format!(
            "{{\"log\":\"a\",\"format\":1,\"generation\":{generation}}}\n\
             {{\"at\":5,\"job\":\"j\",\"stream\":\"out\",\"line\":\"{line}\"}}\n"
        )
    };
    std::fs::create_dir(dir.path().join("log")).unwrap();
    std::fs::write(dir.path().join("log/a.log.1"), log(1, "oldest")).unwrap();
    std::fs::write(dir.path().join("log/a.log"), log(2, "old")).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "shortage::a_good_log_is_left_alone_where_it_cannot_be_looked_at"])
        .env("KEEPER_TEST_DIR", dir.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let lines = logs::tail(dir.path(), "a", 9).unwrap().0;
    let lines: Vec<&str> = lines.iter().map(|line| line.line.as_str()).collect();
    let told = "1 lines were lost because the log could not be written";
    assert_eq!(lines, ["oldest", "old", told, "new"]);
}
