//! Mounts and the roots they are made in: no link is followed, nothing of anybody else goes.

use super::rig::{Rig, id, show};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use warren::config::spec::TemplateSource;
use warren::host::{Host, Mount, NoWitness, Op};
pub fn mounts_follow_no_links(rig: &Rig) {
    let me = id(14);
    let root = rig.host.root(me.as_str());
    let clone = Op::CloneCreate { name: me.to_string(), source: TemplateSource::Host };
    rig.perform(&clone);
    std::fs::create_dir_all("/tmp/outside").unwrap();
    std::os::unix::fs::symlink("/tmp/outside", root.join("data")).unwrap();
    let tmpfs = |target: &str| {
        Op::Mount(Mount {
            root: root.clone(),
            target: target.into(),
            fstype: "tmpfs".into(),
            source: "tmpfs".into(),
            options: vec!["size=10m,mode=1777".into()],
            read_only: false,
            stacked: false,
        })
    };
    println!("{}", rig.refuse(&tmpfs("/data")));
    println!("{}", rig.refuse(&tmpfs("/data/x")));
    let write = |path: &str| Op::WriteFile { root: root.clone(), path: path.into(), contents: "x\n".into() };
    println!("{}", rig.refuse(&write("/data/passwd")));
    rig.perform(&write("/etc/resolv.conf"));
    rig.perform(&write("/new/dir/file"));
    assert_eq!(std::fs::read_dir("/tmp/outside").unwrap().count(), 0);
    rig.perform(&tmpfs("/a/b"));
    let destroy = clone.undo().unwrap();
    println!("{}", rig.refuse(&destroy));
    // Not what was mounted there.
    let other = Op::Unmount(Mount {
        root: root.clone(),
        target: "/a/b".into(),
        fstype: "nullfs".into(),
        source: "/usr".into(),
        options: vec![],
        read_only: true,
        stacked: false,
    });
    println!("{}", rig.refuse(&other));
    rig.perform(&tmpfs("/a/b").undo().unwrap());
    let unknown = Op::Mount(Mount {
        root: root.clone(),
        target: "/dev".into(),
        fstype: "devfs".into(),
        source: "devfs".into(),
        options: vec!["ruleset=777".into()],
        read_only: false,
        stacked: false,
    });
    println!("{}", rig.refuse(&unknown));
    rig.perform(&destroy);
    std::fs::remove_dir("/tmp/outside").unwrap();
}

/// Ends the race, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody who may write to the root puts a link in the place of a directory, and the directory back, all the time.
pub fn a_mount_never_stays_where_a_racing_link_points(rig: &Rig) {
    let me = id(16);
    let root = rig.host.root(me.as_str());
    let clone = Op::CloneCreate { name: me.to_string(), source: TemplateSource::Host };
    rig.perform(&clone);
    let (spot, aside, trap) = (root.join("spot"), root.join("aside"), root.join("trap"));
    std::fs::create_dir_all("/tmp/outside/precious").unwrap();
    std::fs::create_dir(&spot).unwrap();
    let over = AtomicBool::new(false);
    let (mut mounted, mut refused, mut astray) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Refused while something is mounted there; and what is missing of a clone is made.
                if std::fs::rename(&spot, &aside).is_ok() {
                    let _ = std::os::unix::fs::symlink("/tmp/outside", &trap);
                    let _ = std::fs::rename(&trap, &spot);
                    let _ = std::fs::remove_file(&spot);
                    let _ = std::fs::remove_dir(&spot);
                    let _ = std::fs::rename(&aside, &spot);
                    let _ = std::fs::remove_file(&trap);
                }
            }
        });
        let _end = End(&over);
        // How often a race is won is the scheduler's affair: until each way has been seen, within reason.
        for _ in 0..600 {
            if mounted >= 20 && refused >= 20 && astray >= 2 {
                break;
            }
            let mount = Op::Mount(Mount {
                root: root.clone(),
                target: "/spot".into(),
                fstype: "tmpfs".into(),
                source: "tmpfs".into(),
                options: vec!["size=1m".into()],
                read_only: false,
                stacked: false,
            });
            match rig.host.perform(&mount, &NoWitness) {
                Ok(_) => mounted += 1,
                Err(failure) if failure.message.contains("went to") => astray += 1,
                Err(_) => refused += 1,
            }
            assert!(Path::new("/tmp/outside/precious").exists(), "it stayed where the link points");
            rig.perform(&mount.undo().unwrap());
            let left = rig.host.observe(&[]).unwrap().mounts;
            assert!(
                left.keys().all(|point| !point.starts_with(&spot) && !point.starts_with(&aside)),
                "{left:?}"
            );
        }
    });
    println!("{mounted} went through, {refused} were refused, {astray} went astray and were taken back");
    assert!(mounted > 0 && refused > 0, "there was no race");
    rig.perform(&clone.undo().unwrap());
    std::fs::remove_dir_all("/tmp/outside").unwrap();
}

/// The same for a directory on the way, while something is mounted and unmounted below it, and a file written.
pub fn nothing_is_unmounted_or_written_where_a_racing_link_points(rig: &Rig) {
    let me = id(19);
    let root = rig.host.root(me.as_str());
    let clone = Op::CloneCreate { name: me.to_string(), source: TemplateSource::Host };
    rig.perform(&clone);
    let (way, aside, outside) = (root.join("way"), root.join("aside"), Path::new("/tmp/outside"));
    for dir in [&way, &way.join("spot"), outside, &outside.join("spot")] {
        std::fs::create_dir(dir).unwrap();
    }
    // What the link shows is just like ours.
    assert_eq!(show("mount -t tmpfs tmpfs /tmp/outside/spot && echo precious > /tmp/outside/spot/file"), "");
    let mount = Op::Mount(Mount {
        root: root.clone(),
        target: "/way/spot".into(),
        fstype: "tmpfs".into(),
        source: "tmpfs".into(),
        options: vec!["size=1m".into()],
        read_only: false,
        stacked: false,
    });
    let write = Op::WriteFile { root: root.clone(), path: "/way/file".into(), contents: "ours\n".into() };
    let over = AtomicBool::new(false);
    let (mut unmounted, mut written, mut refused) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if std::fs::rename(&way, &aside).is_ok() {
                    let _ = std::os::unix::fs::symlink(outside, &way);
                    let _ = std::fs::remove_file(&way);
                }
                // Unless another was made when it was missed, and something mounted there.
                if std::fs::rename(&aside, &way).is_err() {
                    let _ = std::fs::remove_dir_all(&way);
                }
            }
        });
        let _end = End(&over);
        for _ in 0..600 {
            if unmounted >= 20 && written >= 20 && refused >= 20 {
                break;
            }
            for op in [&write, &mount, &write, &mount.undo().unwrap()] {
                match (rig.host.perform(op, &NoWitness), op) {
                    (Ok(_), Op::WriteFile { .. }) => written += 1,
                    (Ok(_), Op::Unmount(_)) => unmounted += 1,
                    (Ok(_), _) => {}
                    (Err(_), _) => refused += 1,
                }
                let kept = std::fs::read_to_string(outside.join("spot/file")).unwrap_or_default();
                assert_eq!(kept, "precious\n", "another's was unmounted, or mounted over: {op:?}");
                assert!(!outside.join("file").exists(), "something was written where the link points");
            }
        }
    });
    println!("{unmounted} unmounted, {written} written, {refused} refused");
    assert!(unmounted > 0 && written > 0 && refused > 0, "there was no race");
    // Whatever the race left where it was.
    while !rig.host.observe(&[]).unwrap().mounts.is_empty() {
        rig.perform(&mount.undo().unwrap());
    }
    rig.perform(&clone.undo().unwrap());
    assert_eq!(show("umount /tmp/outside/spot"), "");
    std::fs::remove_dir_all(outside).unwrap();
}

pub fn what_a_jail_mounts_itself_is_unmounted(rig: &Rig) {
    let network = rig.all(rig.network(None));
    rig.all(rig.instance(15));
    assert!(rig.runs(
        id(15),
        "mnt",
        "mkdir -p /tmp/m && mount -t tmpfs tmpfs /tmp/m && mount -t tmpfs tmpfs /tmp/m"
    ));
    show("mount | grep warren");
    for op in rig.stop(15) {
        rig.perform(&op);
    }
    rig.undo(&network);
}

/// A program for mount(8) that waits for ever, as mount_nfs(8) does for a server that does not answer.
pub fn a_mount_that_hangs_holds_up_no_other(rig: &Rig) {
    let program = Path::new("/sbin/mount_udf");
    let kept = program.exists().then(|| std::fs::read(program).unwrap());
    let _ = std::fs::remove_file(program);
    std::fs::write(program, "#!/bin/sh\nsleep 7001\n").unwrap();
    show("chmod 755 /sbin/mount_udf");
    let me = id(18);
    let root = rig.host.root(me.as_str());
    let clone = Op::CloneCreate { name: me.to_string(), source: TemplateSource::Host };
    rig.perform(&clone);
    let mount = |fstype: &str, source: &str, target: &str| {
        Op::Mount(Mount {
            root: root.clone(),
            target: target.into(),
            fstype: fstype.into(),
            source: source.into(),
            options: vec![],
            read_only: true,
            stacked: false,
        })
    };
    let (disc, other) = (mount("udf", "/dev/disc", "/disc"), mount("tmpfs", "tmpfs", "/other"));
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| rig.host.perform(&disc, &NoWitness).unwrap_err());
        while show("pgrep -f 'sleep 7001'").is_empty() {
            assert!(!hanging.is_finished(), "{:?}", hanging.join());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        rig.perform(&other);
        assert!(!hanging.is_finished(), "the other waited for it");
        let failure = hanging.join().unwrap();
        println!("{failure}");
        assert!(failure.message.contains("did not end within 60 s and was killed"), "{failure}");
    });
    assert_eq!(show("pgrep -f 'sleep 7001'"), "", "what it had started is left");
    for op in [disc, other, clone] {
        rig.perform(&op.undo().unwrap());
    }
    std::fs::remove_file(program).unwrap();
    if let Some(kept) = kept {
        std::fs::write(program, kept).unwrap();
        show("chmod 555 /sbin/mount_udf");
    }
}
