//! Clones, mounts, jails and processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use warren::config::spec::{ParamValue, TemplateSource};
use warren::host::lab::Lab;
use warren::host::{Host, Jail, JobState, Mount, NoWitness, Op, Status};

use crate::lab_support::harness::{Talk, eventually};
use crate::lab_support::instance::{Instance, assert_empty, fails, perform, undo};

pub fn a_jail_on_a_clone_of_the_host_runs_a_process(lab: &Lab, _: &mut Talk) {
    assert_empty(lab);
    let instance = Instance::new(lab, None, 7);
    let seen = lab.observe(&[]).unwrap();
    assert_eq!(seen.jails[&instance.id.jail()].jid, 1);
    assert_eq!(seen.jails[&instance.id.jail()].path, lab.root(instance.id.as_str()));
    assert_eq!(seen.clones.iter().next().unwrap(), instance.id.as_str());
    let kinds: Vec<_> = seen.mounts.values().map(String::as_str).collect();
    assert_eq!(kinds, ["devfs", "fdescfs", "procfs", "tmpfs"]);

    assert_eq!(instance.output(lab, "hostname").trim(), format!("web-{}", instance.id));
    assert_eq!(instance.output(lab, "cat /proc/1/comm").trim(), "jail-init");
    assert_eq!(instance.output(lab, "id -u").trim(), "0");
    assert_eq!(instance.output(lab, "cat /etc/resolv.conf").trim(), "nameserver 10.77.0.1");
    assert_eq!(instance.output(lab, "echo x > /dev/null && head -c 3 /dev/zero | wc -c").trim(), "3");
    assert_eq!(
        instance
            .output(lab, "ls /proc/self/fd | wc -l; echo y > /dev/shm/y && cat /dev/fd/0 < /dev/shm/y")
            .lines()
            .last(),
        Some("y")
    );
    // The old root is gone: no mount of the machine or of another instance is in sight.
    let mounts = instance.output(lab, "cat /proc/self/mountinfo");
    let points: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert!(points.contains(&"/usr") && !points.iter().any(|point| point.contains("roots")), "{mounts}");
    // Nobody's home and no state directory.
    let state_dir = seen.jails[&instance.id.jail()].path.ancestors().nth(2).unwrap().to_owned();
    assert!(state_dir.join("lab.sock").exists());
    let look = format!(
        "test -d /var/tmp && ! test -e {} && test -z \"$(ls -A /root; ls -A /home)\"",
        state_dir.display()
    );
    instance.run(lab, &look).unwrap();
    let again = fails(lab, &instance.ops[4]);
    assert_eq!(again.errno, Some(17), "{again}");
    let failed = instance.run(lab, "exit 3").unwrap_err();
    assert!(failed.message.contains("exit status 3"), "{failed}");
    instance.remove(lab);
    assert_empty(lab);
}

pub fn clones_do_not_see_each_other(lab: &Lab, _: &mut Talk) {
    let (one, two) = (Instance::new(lab, None, 1), Instance::new(lab, None, 2));
    one.run(
        lab,
        "echo hello > /etc/warren-test && rm -f /etc/hostname && mkdir /new && echo x > /var/cache/scratch/x",
    )
    .unwrap();
    assert!(two.run(lab, "test -e /etc/warren-test || test -e /new").is_err());
    assert!(!Path::new("/etc/warren-test").exists());
    assert!(two.run(lab, "test -e /var/cache/scratch/x").is_err());
    one.remove(lab);
    two.run(lab, "true").unwrap();
    two.remove(lab);
    assert_empty(lab);
}

pub fn a_link_in_the_way_of_a_mount_is_refused(lab: &Lab, _: &mut Talk) {
    let (id, ops) = Instance::ops(lab, None, 3);
    perform(lab, &ops[0]);
    let root = lab.root(id.as_str());
    fs::create_dir(root.join("evil")).unwrap();
    std::os::unix::fs::symlink("/srv", root.join("evil/link")).unwrap();
    std::os::unix::fs::symlink("../../../../..", root.join("evil/up")).unwrap();
    for target in ["/evil/link", "/evil/link/below", "/evil/up/var", "/../../x", "/"] {
        let mount = Mount {
            root: root.clone(),
            target: target.into(),
            fstype: "tmpfs".into(),
            source: "tmpfs".into(),
            options: Vec::new(),
            read_only: false,
            stacked: false,
        };
        fails(lab, &Op::Mount(mount));
    }
    let write = |path: &str| Op::WriteFile { root: root.clone(), path: path.into(), contents: "x".into() };
    fails(lab, &write("/evil/link/passwd"));
    fails(lab, &write("/evil/up/var/x"));
    assert!(lab.observe(&[]).unwrap().mounts.is_empty());
    undo(lab, &ops[..1]);
    assert_empty(lab);
}

pub fn binds_are_verified_and_volumes_survive(lab: &Lab, _: &mut Talk) {
    let (id, ops) = Instance::ops(lab, None, 4);
    perform(lab, &ops[0]);
    let root = lab.root(id.as_str());
    let volume = root.parent().unwrap().parent().unwrap().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("data"), "precious").unwrap();
    let bind = |target: &str, read_only: bool| Mount {
        root: root.clone(),
        target: target.into(),
        fstype: "nullfs".into(),
        source: volume.to_str().unwrap().into(),
        options: vec!["nosuid".into()],
        read_only,
        stacked: false,
    };
    let (data, fixed) = (bind("/srv/data", false), bind("/srv/fixed", true));
    perform(lab, &Op::Mount(data.clone()));
    perform(lab, &Op::Mount(fixed.clone()));
    fs::write(root.join("srv/data/more"), "x").unwrap();
    assert!(fs::write(root.join("srv/fixed/more"), "y").is_err());
    // A clone with something mounted in it stays, and so does what is mounted.
    let busy = fails(lab, &ops[0].undo().unwrap());
    assert!(busy.message.contains("has a mount on"), "{busy}");
    // Another source is not ours to unmount.
    let other = Mount { source: "/usr".into(), ..data.clone() };
    assert!(fails(lab, &Op::Unmount(other)).message.contains("left alone"));
    // A busy one names its holder.
    let file = fs::File::open(root.join("srv/data/data")).unwrap();
    let busy = fails(lab, &Op::Unmount(data.clone()));
    assert_eq!(busy.errno, Some(16));
    assert!(busy.to_string().contains("held by lab_host"), "{busy}");
    drop(file);
    perform(lab, &Op::Unmount(data.clone()));
    perform(lab, &Op::Unmount(data));
    perform(lab, &Op::Unmount(fixed));
    undo(lab, &ops[..1]);
    assert_eq!(fs::read_to_string(volume.join("data")).unwrap(), "precious");
    assert!(volume.join("more").exists());
    assert_empty(lab);
}

/// The Handbook's thin jail: the root is what is mounted on it, and what is mounted below it lies in that.
pub fn a_shared_root_may_be_mounted_upon(lab: &Lab, _: &mut Talk) {
    let dir = lab.root("x").parent().unwrap().parent().unwrap().to_owned();
    let (root, base, own) = (dir.join("thin"), dir.join("base"), dir.join("own"));
    for path in [&root, &base.join("skeleton"), &own] {
        fs::create_dir_all(path).unwrap();
    }
    fs::write(base.join("motd"), "base").unwrap();
    let bind = |target: &str, source: &std::path::Path, read_only: bool| Mount {
        root: root.clone(),
        target: target.into(),
        fstype: "nullfs".into(),
        source: source.to_str().unwrap().into(),
        options: Vec::new(),
        read_only,
        stacked: target == "/",
    };
    let mounts = [bind("/", &base, true), bind("/skeleton", &own, false)];
    let over = Mount { fstype: "tmpfs".into(), source: "tmpfs".into(), ..bind("/", &base, false) };
    // What never came to lie on the root is not missed, whatever lies there.
    perform(lab, &Op::Unmount(mounts[0].clone()));
    for mount in &mounts {
        perform(lab, &Op::Mount(mount.clone()));
    }
    perform(lab, &Op::Unmount(over.clone()));
    assert_eq!(fs::read_to_string(root.join("motd")).unwrap(), "base");
    assert!(fs::write(root.join("motd"), "x").is_err());
    fs::write(root.join("skeleton/mine"), "x").unwrap();
    assert!(own.join("mine").exists() && !base.join("skeleton/mine").exists());
    perform(lab, &Op::Mount(over.clone()));
    assert!(!root.join("motd").exists());
    perform(lab, &Op::Unmount(over));
    for mount in mounts.iter().rev() {
        perform(lab, &Op::Unmount(mount.clone()));
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    for path in [&root, &base, &own] {
        fs::remove_dir_all(path).unwrap();
    }
    assert_empty(lab);
}

pub fn directories_are_cloned_and_shared_ones_kept(lab: &Lab, _: &mut Talk) {
    let base = lab.root("x").parent().unwrap().parent().unwrap().join("template: a,b");
    fs::create_dir_all(base.join("etc")).unwrap();
    fs::write(base.join("etc/motd"), "hello").unwrap();
    let clone =
        Op::CloneCreate { name: "dir".into(), source: TemplateSource::Directory { path: base.clone() } };
    perform(lab, &clone);
    let root = lab.root("dir");
    fs::write(root.join("etc/motd"), "changed").unwrap();
    fs::remove_dir_all(root.join("etc")).unwrap();
    assert_eq!(fs::read_to_string(base.join("etc/motd")).unwrap(), "hello");
    assert!(lab.perform(&clone, &NoWitness).is_err());
    let clone = [clone];
    undo(lab, &clone);
    undo(lab, &clone);

    let shared =
        Op::CloneCreate { name: "shared".into(), source: TemplateSource::Shared { path: base.clone() } };
    perform(lab, &shared);
    assert_eq!(fs::read_to_string(lab.root("shared").join("etc/motd")).unwrap(), "hello");
    fails(
        lab,
        &Op::WriteFile { root: lab.root("shared"), path: "/no/such/dir".into(), contents: String::new() },
    );
    undo(lab, &[shared]);
    assert_eq!(fs::read_to_string(base.join("etc/motd")).unwrap(), "hello");

    let zfs =
        Op::CloneCreate { name: "z".into(), source: TemplateSource::Zfs { snapshot: "tank/x@y".into() } };
    assert!(fails(lab, &zfs).message.contains("no ZFS"));
    undo(lab, &[zfs]);
    assert_empty(lab);
}

pub fn processes_are_ended_and_counted(lab: &Lab, _: &mut Talk) {
    let exits = lab.exits();
    let instance = Instance::new(lab, None, 5);
    let jail = instance.id.jail();
    let polite = instance.spawn(lab, "exec sleep 1000");
    let stubborn = instance.spawn(lab, "trap '' TERM; while :; do sleep 1; done");
    // The shell's own `sleep` shows that its trap is set.
    eventually("both run", || lab.observe(&[]).unwrap().jails[&jail].processes >= 3);
    perform(lab, &Op::JailTerm { jail: jail.clone(), wait: Duration::from_millis(300) });
    let exit = exits.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!((exit.job, exit.status), (polite.clone(), Status::Signaled(15)));
    assert!(lab.observe(&[]).unwrap().jails[&jail].processes >= 1);
    perform(lab, &Op::JailKill { jail: jail.clone() });
    assert_eq!(lab.observe(&[]).unwrap().jails[&jail].processes, 0);
    let exit = exits.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!((exit.job.as_str(), exit.status), (stubborn.as_str(), Status::Signaled(9)));
    assert_eq!(lab.job(&polite).unwrap(), JobState::Ended(Status::Signaled(15)));
    lab.forget_job(&polite).unwrap();
    lab.forget_job(&stubborn).unwrap();
    // The jail outlives its processes, and its removal ends whatever is left.
    let last = instance.spawn(lab, "exec sleep 1000");
    undo(lab, &instance.ops);
    eventually("the last one ended", || matches!(lab.job(&last), Ok(JobState::Ended(_))));
    perform(lab, &Op::JailRemove { jail });
    assert_empty(lab);
}

pub fn what_is_refused(lab: &Lab, _: &mut Talk) {
    let jail = |param: &str| {
        Op::JailCreate(Jail {
            name: "warren-abcdefgh".into(),
            path: "/".into(),
            hostname: "x".into(),
            vnet: false,
            addresses: Vec::new(),
            params: BTreeMap::from([(param.to_owned(), ParamValue::Bool(true))]),
        })
    };
    assert_eq!(fails(lab, &jail("allow.raw_socket")).message, "unknown parameter: allow.raw_socket");
    let mut missing = jail("allow.raw_sockets");
    if let Op::JailCreate(jail) = &mut missing {
        jail.path = "/no/such/root".into();
    }
    let failure = fails(lab, &missing);
    assert!(failure.message.contains("/no/such/root") && failure.errno == Some(2), "{failure:?}");
    fails(lab, &Op::UplinkAttach { bridge: "b".into(), interface: "em0".into() });
    fails(lab, &Op::DatasetJail { jail: "x".into(), dataset: "tank/x".into() });
    fails(lab, &Op::CloneCreate { name: "../x".into(), source: TemplateSource::Host });
    assert_empty(lab);
}
