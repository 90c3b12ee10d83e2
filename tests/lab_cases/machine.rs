//! The power cut: what is left on the machine, and what the next lab makes of it.

use warren::config::spec::TemplateSource;
use warren::host::Host;
use warren::host::Op;
use warren::host::lab::Lab;

use crate::lab_support::harness::{Outside, Talk, eventually, processes_of};
use crate::lab_support::instance::{Instance, Network, assert_empty, perform};

/// In its first life it makes an instance and is killed; in its second it finds the clone and removes it.
pub fn inside(lab: &Lab, talk: &mut Talk) {
    let (id, ops) = Instance::ops(lab, None, 61);
    if lab.observe(&[]).unwrap().clones.is_empty() {
        let network = Network::new(lab, 0xeeee_ffff);
        let instance = Instance::new(lab, Some(&network), 61);
        instance.spawn(lab, "echo x > /etc/written; exec sleep 1000");
        talk.say(&format!("boot {}", lab.boot_id()));
        std::process::exit(1); // It was to be killed.
    }
    let seen = lab.observe(&[]).unwrap();
    assert_eq!(seen.clones.len(), 1);
    assert!(seen.jails.is_empty() && seen.mounts.is_empty() && seen.nodes.is_empty() && seen.jobs.is_empty());
    assert!(!lab.root(id.as_str()).join("usr/bin").exists());
    perform(lab, &ops[0].undo().unwrap());
    perform(lab, &Op::CloneDestroy { name: id.to_string(), source: TemplateSource::Host });
    assert_empty(lab);
    talk.say(&format!("boot {}", lab.boot_id()));
}

pub fn outside(machine: &mut Outside) {
    let first = machine.hear();
    let processes = processes_of(&machine.state_dir);
    let (one, _) = processes.iter().find(|(_, line)| line.contains("--process-1")).expect("no process 1");
    let status = std::process::Command::new("kill").args(["-9", &one.to_string()]).status().unwrap();
    assert!(status.success());
    assert!(!machine.child.wait().unwrap().success());
    eventually("everything died with process 1", || processes_of(&machine.state_dir).is_empty());

    machine.restart();
    let second = machine.hear();
    assert!(first.starts_with("boot ") && second.starts_with("boot ") && first != second, "{first} {second}");
    machine.answer("");
}
