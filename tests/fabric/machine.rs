//! What a machine does to a daemon: a full disk, no descriptors, no memory, a clock that is set, a power failure. What runs goes
//! on, what was promised is kept, and afterwards all is as it was wanted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use rustix::process::{Resource, Rlimit, prlimit};

use crate::dice::Dice;
use crate::host;
use crate::lab::{HEAD, Lab, beacon, free_port, free_ports, possible, text, times, wait};
use crate::questions::Names;
use crate::traffic::Traffic;

/// Two replicas behind a port, which must answer whatever happens, and a pool to be played with.
fn spec(lab: &Lab, port: u16, pool: &str) -> PathBuf {
    let front = beacon("front", &format!("replicas = 2\npublish = [\"{port}:80\"]"));
    lab.file("w.toml", &format!("{HEAD}{front}{}", beacon("pool", pool)))
}

/// Sets a limit of a running process; its hard limit stays.
fn limit(pid: nix::unistd::Pid, resource: Resource, to: u64) {
    let pid = rustix::process::Pid::from_raw(pid.as_raw());
    let before = prlimit(pid, resource, Rlimit { current: Some(to), maximum: None });
    // A hard limit that is not infinite cannot be said to be.
    if before.is_err() {
        let text = format!("/proc/{}/limits", pid.unwrap().as_raw_nonzero());
        let hard = std::fs::read_to_string(text).unwrap();
        let line = hard.lines().find(|l| l.starts_with("Max open files")).unwrap();
        let hard = line.split_whitespace().nth(4).and_then(|n| n.parse().ok());
        prlimit(pid, resource, Rlimit { current: Some(to), maximum: hard }).unwrap();
    }
}

/// A small file system in memory; gone with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        mount(Some("small"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_makes_everything_wait_and_nothing_fail() {
    if !possible(&[]) {
        return;
    }
    let [port, dns] = free_ports();
    let dir = tempfile::Builder::new().prefix("warren-test-").tempdir_in("/var/tmp").unwrap();
    // Dropped after the lab, whose state is on it.
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_warren")).unwrap().len();
    let disk = SmallDisk::new(&dir.path().join("disk"), &(program + (48 << 20)).to_string());
    let lab =
        Lab::new().variable("WARREN_DNS", format!("127.0.0.1:{dns}")).keep_state_in(&disk.0.join("state"));
    let file = spec(&lab, port, "replicas = 1");
    lab.ok(&["up", file.to_str().unwrap()]);
    let traffic = Traffic::new(port);
    let names = Names::new(([127, 0, 0, 1], dns).into(), "front.t.internal");
    // All that is left of the disk.
    let ballast = disk.0.join("ballast");
    let fill = || {
        Command::new("dd")
            .args(["if=/dev/zero", "bs=4k"])
            .arg(format!("of={}", ballast.display()))
            .output()
            .unwrap()
    };
    assert!(!fill().status.success(), "the disk is not full");
    let mut scale = lab.command(&["scale", "pool=4", "--timeout", "100s"]);
    let mut scale =
        scale.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let before = traffic.good();
    std::thread::sleep(Duration::from_secs(3));
    wait("a page while the disk is full", || traffic.good() > before + 1);
    assert!(
        scale.try_wait().unwrap().is_none(),
        "something was promised that is not on disk{}",
        lab.daemon_log()
    );
    // Room again: the answer comes.
    std::fs::remove_file(&ballast).unwrap();
    let answered = scale.wait_with_output().unwrap();
    assert!(answered.status.success(), "{}{}", text(&answered), lab.daemon_log());
    lab.wait_ready("pool", 4);
    // Full once more, and killed in the middle of what it cannot write.
    let filled = fill();
    assert!(!filled.status.success(), "the disk is not full");
    let mut scale = lab.command(&["scale", "pool=1", "--timeout", "5s"]);
    let mut scale =
        scale.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    lab.kill_daemon();
    let _ = scale.wait();
    // The next one waits for room as well, and is there when there is some.
    std::thread::scope(|scope| {
        let started = scope.spawn(|| lab.start_daemon());
        std::thread::sleep(Duration::from_secs(2));
        std::fs::remove_file(&ballast).unwrap();
        started.join().unwrap();
    });
    lab.ok(&["scale", "pool=4", "--timeout", "60s"]);
    lab.wait_ready("pool", 4);
    let pages = traffic.end();
    let names = names.end();
    eprintln!("full disk: {pages}; {names:?}");
    assert!(pages.lost.is_empty() && names.lost == 0, "{pages}; {names:?}{}", lab.daemon_log());
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
    drop(lab);
}

#[test]
fn without_descriptors_starts_fail_cleanly_and_are_tried_again() {
    if !possible(&[]) {
        return;
    }
    let port = free_port();
    let lab = Lab::new();
    let file = spec(&lab, port, "replicas = 1\nrestart = { backoff = \"200ms\", backoff_max = \"500ms\" }");
    lab.ok(&["up", file.to_str().unwrap()]);
    let traffic = Traffic::new(port);
    let pid = lab.daemon_pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let went_without = |event: &&str| event.contains("step-failed") && event.contains("Too many open files");
    let (heard, mut failed) = (lab.path().join("heard"), false);
    // With one to spare the order itself may find no way in, behind the events that go with it: two come first.
    for spare in [0, 2, 3, 1, 5, 8] {
        limit(pid, Resource::Nofile, open + spare);
        let pool = format!("pool={}", 2 + spare % 3);
        let mut scale = lab.command(&["scale", &pool, "--json", "--timeout", "20s"]);
        scale.stdout(std::fs::File::create(&heard).unwrap()).stderr(std::process::Stdio::null());
        let mut scale = scale.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        // One start at least must come to it, whatever else the machine does. Who gave the order hears of it; nobody else could ask.
        let end = Instant::now() + Duration::from_secs(20);
        while !failed && spare > 0 && Instant::now() < end && scale.try_wait().unwrap().is_none() {
            failed = std::fs::read_to_string(&heard).unwrap_or_default().lines().any(|e| went_without(&e));
            std::thread::sleep(Duration::from_millis(100));
        }
        limit(pid, Resource::Nofile, 1024);
        let _ = scale.wait();
        lab.ok(&["repair"]);
    }
    lab.ok(&["scale", "pool=3", "--timeout", "60s"]);
    lab.wait_ready("pool", 3);
    assert_eq!(lab.daemon_pid(), pid, "the daemon died of it{}", lab.daemon_log());
    let told = lab.ok(&["events", "--json"]);
    assert!(
        told.lines().any(|e| went_without(&e)),
        "no start went without a descriptor:\n{told}{}",
        lab.daemon_log()
    );
    let pages = traffic.end();
    assert!(pages.lost.is_empty(), "{pages}\n{told}{}", lab.daemon_log());
    // Who cannot ask whether an instance is well does not know that it is not.
    assert!(!told.contains("health checks failed"), "{told}{}", lab.daemon_log());
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn a_daemon_that_gets_no_memory_dies_as_by_a_kill_and_the_next_goes_on() {
    if !possible(&[]) {
        return;
    }
    let port = free_port();
    let lab = Lab::new();
    let file = spec(&lab, port, "replicas = 2");
    lab.ok(&["up", file.to_str().unwrap()]);
    let traffic = Traffic::new(port);
    let mut deaths = 0;
    for round in 0..times("WARREN_KILLS", 9) / 3 {
        let pid = lab.daemon_pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        // Less each time: the first ones die in the middle of work, the last ones at once.
        limit(pid, Resource::As, (pages * 4096).saturating_sub(round as u64 % 3 * (64 << 20)));
        let mut scale = lab.command(&["scale", &format!("pool={}", 1 + round % 5), "--timeout", "3s"]);
        let mut scale =
            scale.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        // Whether it dies of the limit or struggles on: it ends here. One at least is to die of it, and has the time.
        let end = Instant::now() + Duration::from_secs(if deaths == 0 { 10 } else { 0 });
        let died = loop {
            let gone = std::os::unix::net::UnixStream::connect(lab.state().join("api.sock")).is_err();
            if gone || Instant::now() >= end {
                break gone;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        if died {
            deaths += 1;
        } else {
            // It may die by itself meanwhile.
            let _ = kill(pid, Signal::SIGKILL);
        }
        wait("the daemon to be gone", || host::is_dead(pid));
        let _ = scale.wait();
        lab.start_daemon();
    }
    assert!(deaths > 0, "no daemon died of the limit{}", lab.daemon_log());
    lab.ok(&["scale", "pool=3", "--timeout", "60s"]);
    lab.wait_ready("pool", 3);
    let pages = traffic.end();
    assert!(pages.lost.is_empty(), "{pages}{}", lab.daemon_log());
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

/// The library of shim.c, made anew.
fn shim(lab: &Lab) -> PathBuf {
    let library = lab.path().join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fabric/shim.c");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made));
    library
}

#[test]
fn a_clock_that_is_set_ends_nothing_and_stops_nothing() {
    if !possible(&["cc"]) {
        return;
    }
    let port = free_port();
    let lab = Lab::new();
    let clock = lab.path().join("clock");
    std::fs::write(&clock, 0_i64.to_ne_bytes()).unwrap();
    let library = shim(&lab);
    let lab = lab.variable("LD_PRELOAD", library.display()).variable("WARREN_TEST_CLOCK", clock.display());
    // In place: the daemon has the file in its memory.
    let set = |hours: i64| {
        let file = std::fs::File::options().write(true).open(&clock).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &(hours * 3_600_000).to_ne_bytes(), 0).unwrap();
    };
    // One fails the first time, and is tried again after its backoff.
    let once = lab.path().join("once");
    let jail = format!(
        "[services.pool.jail]\n\"exec.prestart\" = \"test -e {0} || {{ touch {0}; exit 1; }}\"\n",
        once.display()
    );
    let file = spec(&lab, port, &format!("replicas = 2\nrestart = {{ backoff = \"300ms\" }}\n{jail}"));
    lab.ok(&["up", file.to_str().unwrap(), "--timeout", "60s"]);
    let fronts = lab.ids("front");
    let traffic = Traffic::new(port);
    for hours in [24, -24, 24 * 365 * 20, -24 * 365 * 20, 0] {
        set(hours);
        std::thread::sleep(Duration::from_millis(700));
        // A stop and a start each have deadlines; health checks go on all the time.
        let _ = std::fs::remove_file(&once);
        let _ = lab.warren(&["scale", "pool=3", "--timeout", "100s"]);
        lab.wait_ready("pool", 3);
        lab.ok(&["scale", "pool=2", "--timeout", "100s"]);
        assert_eq!(lab.ids("front"), fronts, "the clock ended instances{}", lab.daemon_log());
    }
    // And while no daemon runs.
    for hours in [48, -48] {
        lab.kill_daemon();
        set(hours);
        lab.start_daemon();
        lab.ok(&["scale", "pool=4", "--timeout", "100s"]);
        lab.wait_ready("pool", 4);
        lab.ok(&["scale", "pool=2", "--timeout", "100s"]);
        lab.wait_ready("pool", 2);
        assert_eq!(lab.ids("front"), fronts, "the clock ended instances{}", lab.daemon_log());
    }
    let pages = traffic.end();
    assert!(pages.lost.is_empty(), "{pages}{}", lab.daemon_log());
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn after_a_power_failure_what_was_promised_is_known_and_every_clean_up_runs() {
    if !possible(&["cc"]) {
        return;
    }
    let cuts = times("WARREN_POWER", 3);
    let mut dice = Dice::thrown();
    let port = free_port();
    let lab = Lab::new();
    let disk = lab.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let library = shim(&lab);
    let lab = lab.variable("LD_PRELOAD", library.display()).variable("WARREN_TEST_SYNCED", disk.display());
    let note = |hook: &str| {
        format!("\"exec.{hook}\" = \"echo $WARREN_INSTANCE >> {}\"\n", lab.path().join(hook).display())
    };
    let noted = |hook: &str| -> Vec<String> {
        let text = std::fs::read_to_string(lab.path().join(hook)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let pool = format!("replicas = 2\n[services.pool.jail]\n{}{}", note("prepare"), note("release"));
    let file = spec(&lab, port, &pool);
    lab.ok(&["up", file.to_str().unwrap()]);
    let mut wanted = 2;
    for cut in 0..cuts {
        // Promised: the answer is out.
        let answered = lab.warren(&["scale", &format!("pool={}", 1 + cut % 4), "--timeout", "100s"]);
        assert!(answered.status.success(), "{}{}", text(&answered), lab.daemon_log());
        let promised = 1 + cut % 4;
        let mut more = lab.command(&["scale", "pool=6", "--timeout", "5s"]);
        let mut more =
            more.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(dice.below(600) as u64));
        lab.power_off();
        let _ = more.wait();
        // The disk has what was synced; the rest of the files was in memory.
        for name in ["warren.db", "warren.db-wal", "warren.db-shm"] {
            let _ = std::fs::remove_file(lab.state().join(name));
            if disk.join(name).exists() && !name.ends_with("-shm") {
                std::fs::copy(disk.join(name), lab.state().join(name)).unwrap();
            }
        }
        lab.start_daemon();
        lab.wait_ready("front", 2);
        wait("what was promised, or what was asked for after it", || {
            let ready =
                lab.instances().iter().filter(|i| i["service"] == "pool" && i["stage"] == "ready").count();
            ready == promised || ready == 6
        });
        wanted = promised;
    }
    wait("the port to answer", || host::fetch(port).is_ok());
    lab.ok(&["scale", &format!("pool={wanted}"), "--timeout", "100s"]);
    lab.ok(&["down", "t"]);
    let ended = noted("release");
    let left: Vec<String> = noted("prepare").into_iter().filter(|id| !ended.contains(id)).collect();
    assert!(
        left.is_empty(),
        "{cuts} power failures, and these were never cleaned up: {left:?}{}",
        lab.daemon_log()
    );
    lab.assert_nothing_left();
}
