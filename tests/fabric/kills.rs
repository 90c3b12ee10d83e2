//! The daemon is killed at random moments while everything happens at once.
//!
//! A dozen times with every run of the tests. The long way, seeded:
//! `WARREN_KILLS=300 cargo test --test fabric kills:: -- --nocapture`; `WARREN_SEED=n` does a run again, as far as a real machine can.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::dice::Dice;
use crate::lab::{HEAD, Lab, beacon, free_ports, possible, times, wait};
use crate::questions::Names;
use crate::traffic::Traffic;

/// Ids that a hook wrote down, one line for each time it ran.
fn noted(lab: &Lab, hook: &str) -> Vec<String> {
    let text = std::fs::read_to_string(lab.path().join(hook)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A service whose host hooks write its instances down, when they begin to be and when they have ceased to.
fn noting(lab: &Lab, name: &str, more: &str) -> String {
    let hook = |hook: &str| {
        format!("\"exec.{hook}\" = \"echo $WARREN_INSTANCE >> {}\"\n", lab.path().join(hook).display())
    };
    format!("{}[services.{name}.jail]\n{}{}", beacon(name, more), hook("prepare"), hook("release"))
}

/// One owner for each address and name.
fn check_owners(lab: &Lab) {
    let all = lab.instances();
    for key in ["id", "name", "dns"] {
        let distinct: BTreeSet<_> = all.iter().map(|i| i[key].to_string()).collect();
        assert_eq!(distinct.len(), all.len(), "{key} twice in {all:#?}");
    }
    let addresses: Vec<String> =
        all.iter().flat_map(|i| i["addresses"].as_array().unwrap()).map(ToString::to_string).collect();
    let distinct: BTreeSet<_> = addresses.iter().collect();
    assert_eq!(distinct.len(), addresses.len(), "an address was given twice: {all:#?}");
}

#[test]
fn killed_at_any_moment_of_a_mixed_load_it_loses_and_leaks_nothing() {
    if !possible(&[]) {
        return;
    }
    let kills = times("WARREN_KILLS", 12);
    let mut dice = Dice::thrown();
    let [port, dns] = free_ports();
    let lab = Lab::new().variable("WARREN_DNS", format!("127.0.0.1:{dns}"));
    let front = beacon("front", &format!("replicas = 2\npublish = [\"{port}:80\"]"));
    let pool = noting(
        &lab,
        "pool",
        "replicas = 2\nrestart = { policy = \"always\", backoff = \"100ms\", backoff_max = \"300ms\" }",
    );
    let file = lab.file("w.toml", &format!("{HEAD}{front}{pool}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    let fronts = lab.ids("front");
    let traffic = Traffic::new(port);
    let names = Names::new(([127, 0, 0, 1], dns).into(), "front.t.internal");
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let relaxed = Ordering::Relaxed;
    std::thread::scope(|scope| {
        // What is asked for while the daemon dies may fail; what becomes of it then is the daemon's business.
        let quietly = |words: &[&str]| {
            asked.fetch_add(1, relaxed);
            let _ = lab.warren(words);
        };
        let rolled = dice.next();
        let (stop, file) = (&stop, &file);
        let lab = &lab;
        scope.spawn(move || {
            let mut dice = Dice::from(rolled);
            while !stop.load(relaxed) {
                match dice.below(8) {
                    0..=3 => quietly(&["scale", &format!("pool={}", dice.below(6)), "--timeout", "2s"]),
                    4 => quietly(&["exec", "pool", "--", "true"]),
                    5 => quietly(&["run", "host", "--fabric", "t", "--rm", "--", "true"]),
                    6 => quietly(&["up", file.to_str().unwrap(), "--timeout", "2s"]),
                    _ => {
                        let _ = lab.host(&["pkill", "-KILL", "-o", "-f", "beacon --port 80 --name pool"]);
                    }
                }
            }
        });
        // Also when the test fails: the other thread ends by it.
        let _stopping = Stopping(stop);
        for n in 0..kills {
            std::thread::sleep(Duration::from_millis(dice.below(700) as u64));
            lab.kill_daemon();
            std::thread::sleep(Duration::from_millis(dice.below(150) as u64));
            lab.start_daemon();
            if n % 10 == 9 {
                check_owners(lab);
            }
        }
    });
    lab.ok(&["scale", "pool=3", "--timeout", "60s"]);
    lab.wait_ready("pool", 3);
    lab.wait_ready("front", 2);
    assert_eq!(lab.ids("front"), fronts, "what nothing was wanted of was replaced{}", lab.daemon_log());
    check_owners(&lab);
    let pages = traffic.end();
    let names = names.end();
    eprintln!(
        "{kills} kills under {} requests: {pages}; {names:?}; {} instances",
        asked.load(relaxed),
        noted(&lab, "prepare").len()
    );
    assert!(pages.lost.is_empty(), "{pages}{}", lab.daemon_log());
    assert!(names.lost == 0, "names were not answered: {names:?}{}", lab.daemon_log());
    lab.ok(&["down", "t", "--timeout", "60s"]);
    wait("the one-off runs to be gone", || lab.instances().is_empty());
    // Every instance that began has ended.
    let (began, ended) = (noted(&lab, "prepare"), noted(&lab, "release"));
    let ended: BTreeSet<_> = ended.iter().collect();
    let left: Vec<_> = began.iter().filter(|id| !ended.contains(id)).collect();
    assert!(left.is_empty(), "their clean-up hooks never ran: {left:?}");
    lab.assert_nothing_left();
}

/// Says stop when it goes.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
