//! Jails with their links, and what is in them.

use super::rig::{NETWORK, Rig, id, job, show};
use std::time::{Duration, Instant};
use warren::host::{Failure, Host, Op, Process, Reply, Witness};
pub fn two_jails_on_a_bridge_talk(rig: &Rig) {
    let network = rig.all(rig.network(None));
    for n in [11, 12] {
        let begin = Instant::now();
        for op in rig.instance(n) {
            let begin = Instant::now();
            rig.perform(&op);
            let text = format!("{op:?}");
            println!("{:>6} us {}", begin.elapsed().as_micros(), text.split(['{', '(']).next().unwrap());
        }
        println!("instance {n} up in {} ms", begin.elapsed().as_millis());
    }
    show(
        "jls -n name vnet host.hostname enforce_statfs children.max allow.raw_sockets path; ngctl list; mount | grep warren",
    );
    let (a, b) = (id(11), id(12));
    show(&format!("jexec {} ifconfig; jexec {0} netstat -rn; jexec {0} ls -la / /dev /etc", a.jail()));
    show(&format!("jexec {} /sbin/ping6 -c 2 -t 5 fd77::c; jexec {0} ndp -an", a.jail()));
    for (n, command) in [
        "ping -c 2 -t 5 10.77.0.12",
        "ping -c 1 -t 5 10.77.0.1",
        "ping6 -c 2 -t 5 fd77::c",
        "ping -c 1 -t 5 127.0.0.1",
        "test $(hostname) = web-$(hostname | cut -d- -f2)",
        "touch /tmp/x /var/tmp/y /etc/z && ! touch /usr/nothing",
        "test ! -e /etc/master.passwd",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(rig.runs(a, &format!("a.{n}"), command), "{command}");
    }
    show(&format!("ngctl msg {}: gettable; ngctl msg {0}: getstats 11", id(NETWORK).bridge()));
    let seen = rig.host.observe(&[]).unwrap();
    assert_eq!(seen.jails.len(), 2);
    assert_eq!(seen.interfaces[&a.node()], Some(a.jail()));
    assert_eq!(seen.interfaces[&id(NETWORK).gateway()], None);
    assert_eq!(seen.mounts[&rig.host.root(a.as_str()).join("dev")], "devfs");
    assert_eq!(seen.mounts.len(), 2, "{:?}", seen.mounts);
    // Somebody else's address does not pass the filter.
    assert!(rig.runs(a, "theft", "ifconfig net0 alias 10.77.0.99/32"));
    assert!(!rig.runs(a, "theft.2", "ping -c 1 -t 2 -S 10.77.0.99 10.77.0.12"));
    rig.perform(&Op::Spawn(job("main", Some(b.jail()), "sleep 1000")));
    assert_eq!(rig.perform(&Op::JailCount { jail: b.jail() }), Reply::Processes { count: 1 });
    for n in [11, 12] {
        let begin = Instant::now();
        // Twice: what is not there is no error.
        for _ in 0..2 {
            for op in rig.stop(n) {
                let begin = Instant::now();
                rig.perform(&op);
                let text = format!("{op:?}");
                println!("{:>6} us {}", begin.elapsed().as_micros(), text.split(['{', '(']).next().unwrap());
            }
        }
        println!("instance {n} down, twice, in {} ms", begin.elapsed().as_millis());
    }
    rig.perform(&Op::KillJob { job: "main".into() });
    rig.host.forget_job("main").unwrap();
    rig.undo(&network);
    show("jls -d; ngctl list; ifconfig -l; mount | grep warren; ls /tmp/warren/*");
}

pub fn undoing_half_of_it_leaves_nothing(rig: &Rig) {
    let network = rig.all(rig.network(None));
    let count = rig.instance(13).len();
    for stop_after in 0..=count {
        let begin = Instant::now();
        for op in rig.instance(13).into_iter().take(stop_after) {
            rig.perform(&op);
        }
        for op in rig.stop(13) {
            rig.perform(&op);
        }
        assert_eq!(rig.host.observe(&[]).unwrap().jails.len(), 0, "after {stop_after}");
        assert!(rig.host.observe(&[]).unwrap().clones.is_empty(), "after {stop_after}");
        println!("{stop_after} steps and back: {} ms", begin.elapsed().as_millis());
    }
    rig.undo(&network);
}

pub fn child_jails_and_stubborn_processes_die(rig: &Rig) {
    let network = rig.all(rig.network(None));
    rig.all(rig.instance(16));
    let jail = id(16).jail();
    let made = "jail -c name=child persist path=/ children.max=2; jail -c name=child.deep path=/ persist";
    assert!(rig.runs(id(16), "children", made));
    let deaf =
        "trap '' TERM; for i in 1 2 3 4 5 6 7 8 9; do /bin/sleep 1000 & done; while :; do /bin/sleep 1; done";
    rig.perform(&Op::Spawn(job("deaf", Some(jail.clone()), deaf)));
    std::thread::sleep(Duration::from_millis(300));
    show("jls -n jid name; ps axo pid,jid,command | grep -c 'sleep\\|/bin/sh'");
    for op in rig.stop(16) {
        rig.perform(&op);
    }
    rig.perform(&Op::KillJob { job: "deaf".into() });
    rig.host.forget_job("deaf").unwrap();
    rig.undo(&network);
}

/// Root of a jail, who takes a picture of a process's memory.
struct Thief {
    jail: String,
    taken: std::cell::RefCell<Vec<bool>>,
}

impl Thief {
    fn takes(&self, pid: i32) {
        let said = show(&format!(
            "jexec {} sh -c 'gcore -c /tmp/core /bin/sh {pid}; test -s /tmp/core && echo taken; rm -f /tmp/core'",
            self.jail
        ));
        self.taken.borrow_mut().push(said.contains("taken"));
    }
}

impl Witness for Thief {
    fn started(&self, _: &str, process: Process) -> Result<(), Failure> {
        self.takes(process.pid);
        Ok(())
    }
}

/// Between its entering and its program a process has the keeper's memory, or the daemon's.
pub fn who_enters_a_jail_is_traced_by_nobody_there(rig: &Rig) {
    let network = rig.all(rig.network(None));
    rig.all(rig.instance(17));
    let thief = Thief { jail: id(17).jail(), taken: std::cell::RefCell::default() };
    rig.host.perform(&Op::Spawn(job("held", Some(id(17).jail()), "sleep 1000")), &thief).unwrap();
    let pid = || show(&format!("pgrep -j {} sleep", id(17).jail()));
    let end = Instant::now() + Duration::from_secs(30);
    while pid().trim().is_empty() {
        assert!(Instant::now() < end, "the job does not run");
        std::thread::sleep(Duration::from_millis(200));
    }
    // What runs in the jail is its root's affair again.
    thief.takes(pid().trim().parse().unwrap());
    assert_eq!(*thief.taken.borrow(), [false, true]);
    for op in rig.stop(17) {
        rig.perform(&op);
    }
    rig.perform(&Op::KillJob { job: "held".into() });
    rig.host.forget_job("held").unwrap();
    rig.undo(&network);
}
