//! Somebody who may write to a root turns its names to and fro while Warren works in it.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::RenameFlags;
use warren::host::lab::Lab;
use warren::host::{Host, Mount, NoWitness, Op};

use crate::lab_support::harness::Talk;
use crate::lab_support::instance::{Instance, assert_empty, perform, undo};

/// Ends the race, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody who may write to the root gives a directory the name of a link and the link that of the directory, all the time.
pub fn a_mount_never_goes_where_a_racing_link_points(lab: &Lab, _: &mut Talk) {
    let (id, ops) = Instance::ops(lab, None, 5);
    perform(lab, &ops[0]);
    let root = lab.root(id.as_str());
    let elsewhere = root.parent().unwrap().parent().unwrap().join("elsewhere");
    let volume = elsewhere.with_file_name("racing-volume");
    for dir in [&elsewhere, &volume, &root.join("race"), &root.join("race/spot")] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(elsewhere.join("precious"), "").unwrap();
    std::os::unix::fs::symlink(&elsewhere, root.join("race/trap")).unwrap();
    let over = AtomicBool::new(false);
    let (mut mounted, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let race = fs::File::open(root.join("race")).unwrap();
            while !over.load(Ordering::Relaxed) {
                // Refused while something is mounted there.
                let _ = rustix::fs::renameat_with(&race, "spot", &race, "trap", RenameFlags::EXCHANGE);
            }
        });
        let _end = End(&over);
        for n in 0..20_000 {
            let mount = Mount {
                root: root.clone(),
                target: "/race/spot".into(),
                fstype: ["tmpfs", "nullfs"][n % 2].into(),
                source: ["tmpfs", volume.to_str().unwrap()][n % 2].into(),
                options: Vec::new(),
                read_only: false,
                stacked: false,
            };
            match lab.perform(&Op::Mount(mount.clone()), &NoWitness) {
                Ok(_) => mounted += 1,
                Err(_) => refused += 1,
            }
            let seen: Vec<_> = lab.observe(&[]).unwrap().mounts.into_keys().collect();
            assert!(seen.iter().all(|point| *point == root.join("race/spot")), "{seen:?}");
            assert!(elsewhere.join("precious").exists(), "something was mounted where the link points");
            perform(lab, &Op::Unmount(mount));
            assert!(lab.observe(&[]).unwrap().mounts.is_empty());
            if mounted > 100 && refused > 100 {
                break;
            }
        }
    });
    assert!(mounted > 100 && refused > 100, "no race: {mounted} went through, {refused} were refused");
    undo(lab, &ops[..1]);
    fs::remove_file(elsewhere.join("precious")).unwrap();
    fs::remove_dir(&elsewhere).unwrap();
    fs::remove_dir(&volume).unwrap();
    assert_empty(lab);
}

/// The same for a directory on the way, while something is unmounted below it, and a file written.
pub fn nothing_is_unmounted_or_written_where_a_racing_link_points(lab: &Lab, _: &mut Talk) {
    let (id, ops) = Instance::ops(lab, None, 6);
    perform(lab, &ops[0]);
    let root = lab.root(id.as_str());
    let elsewhere = root.parent().unwrap().parent().unwrap().join("elsewhere");
    for dir in ["race/way/spot", "race"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::create_dir_all(elsewhere.join("spot")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, root.join("race/trap")).unwrap();
    // What the link shows is just like ours.
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", elsewhere.join("spot"), "tmpfs", flags, None::<&std::ffi::CStr>).unwrap();
    fs::write(elsewhere.join("spot/file"), "precious").unwrap();
    let mount = Op::Mount(Mount {
        root: root.clone(),
        target: "/race/way/spot".into(),
        fstype: "tmpfs".into(),
        source: "tmpfs".into(),
        options: Vec::new(),
        read_only: false,
        stacked: false,
    });
    let unmount = mount.undo().unwrap();
    let write = Op::WriteFile { root: root.clone(), path: "/race/way/file".into(), contents: "ours".into() };
    let over = AtomicBool::new(false);
    let (mut unmounted, mut written, mut refused) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let race = fs::File::open(root.join("race")).unwrap();
            while !over.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(&race, "way", &race, "trap", RenameFlags::EXCHANGE);
                let _ = rustix::fs::renameat_with(&race, "way", &race, "trap", RenameFlags::EXCHANGE);
            }
        });
        let _end = End(&over);
        for _ in 0..20_000 {
            for op in [&write, &mount, &write, &unmount] {
                match (lab.perform(op, &NoWitness), op) {
                    (Ok(_), Op::WriteFile { .. }) => written += 1,
                    (Ok(_), Op::Unmount(_)) => unmounted += 1,
                    (Ok(_), _) => {}
                    (Err(_), _) => refused += 1,
                }
                let kept = fs::read_to_string(elsewhere.join("spot/file")).unwrap_or_default();
                assert_eq!(kept, "precious", "another's was unmounted, or mounted over: {op:?}");
                assert!(!elsewhere.join("file").exists(), "something was written where the link points");
            }
            if unmounted > 100 && written > 100 && refused > 100 {
                break;
            }
        }
    });
    assert!(
        unmounted > 100 && written > 100 && refused > 100,
        "no race: {unmounted} unmounted, {written} written, {refused} refused"
    );
    // Whatever the race left where it was: it is unmounted now that the way is clear.
    while lab.observe(&[]).unwrap().mounts.keys().any(|point| point.starts_with(root.join("race"))) {
        perform(lab, &unmount);
    }
    undo(lab, &ops[..1]);
    rustix::mount::unmount(elsewhere.join("spot"), rustix::mount::UnmountFlags::empty()).unwrap();
    fs::remove_dir_all(&elsewhere).unwrap();
    assert_empty(lab);
}
