//! A keeper without descriptors, and one that cannot say so.

use std::os::unix::net::UnixStream;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

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
