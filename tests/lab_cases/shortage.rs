//! A lab-kernel without descriptors.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use warren::host::lab::Lab;
use warren::host::{Host, Op, Reply, Status};

use crate::lab_support::harness::{Outside, Talk, eventually, processes_of};
use crate::lab_support::instance::{Instance, assert_empty, fails, perform};

pub fn inside(lab: &Lab, talk: &mut Talk) {
    let exits = lab.exits();
    let instance = Instance::new(lab, None, 81);
    let jail = instance.id.jail();
    let polite = instance.spawn(lab, "exec sleep 1000");
    let stubborn = instance.spawn(lab, "trap '' TERM; while :; do sleep 1; done");
    eventually("both run", || lab.observe(&[]).unwrap().jails[&jail].processes >= 3);
    let count = Op::JailCount { jail: jail.clone() };
    // Once nothing can be opened, and once the list of processes alone.
    for left in ["0", "1"] {
        talk.say(left);
        assert_eq!(fails(lab, &count).errno, Some(libc::EMFILE), "{left} left");
        assert!(lab.observe(&[]).is_err(), "{left} left");
        talk.say("all");
    }
    talk.say("0");
    perform(lab, &Op::JailTerm { jail: jail.clone(), wait: Duration::from_millis(300) });
    let exit = exits.recv_timeout(Duration::from_secs(5)).expect("it was sent no SIGTERM");
    assert_eq!((exit.job, exit.status), (polite.clone(), Status::Signaled(15)));
    // They are sent SIGKILL, and that they died of it is not known.
    assert_eq!(fails(lab, &Op::JailKill { jail: jail.clone() }).errno, Some(libc::EMFILE));
    let exit = exits.recv_timeout(Duration::from_secs(5)).expect("it was sent no SIGKILL");
    assert_eq!((exit.job, exit.status), (stubborn.clone(), Status::Signaled(9)));
    talk.say("all");
    assert_eq!(perform(lab, &count), Reply::Processes { count: 0 });
    lab.forget_job(&polite).unwrap();
    lab.forget_job(&stubborn).unwrap();
    instance.remove(lab);
    assert_empty(lab);
    talk.say("end");
}

/// Leaves the lab-kernel as many descriptors as the inside says.
pub fn outside(machine: &mut Outside) {
    let mut before = None;
    loop {
        let said = machine.hear();
        let processes = processes_of(&machine.state_dir);
        let (one, _) = processes.iter().find(|(_, line)| line.contains("--process-1")).expect("no process 1");
        let pid = Pid::from_raw(*one);
        match (said.parse::<usize>(), said.as_str()) {
            (Ok(left), _) => {
                let open = |fd: &u64| std::fs::symlink_metadata(format!("/proc/{one}/fd/{fd}")).is_ok();
                let limit = (0..).filter(|fd| !open(fd)).nth(left).unwrap();
                let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
                let short = Rlimit { current: Some(limit), maximum };
                before = Some(prlimit(pid, Resource::Nofile, short).unwrap());
            }
            (_, "all") => drop(prlimit(pid, Resource::Nofile, before.take().unwrap()).unwrap()),
            _ => return machine.answer(""),
        }
        machine.answer("");
    }
}
