//! `warren import` on the lab: jails that run and that no store knows, as jail(8) leaves them, become Warren's without a restart.

use crate::lab::{Lab, possible, wait};

/// Two jails on roots of their own, made of the machine's /usr.
fn jails(lab: &Lab) -> String {
    let place = lab.path().display().to_string();
    for jail in ["db", "web"] {
        let root = lab.path().join(jail);
        for dir in ["usr", "log", "tmp", "proc", "dev"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (link, to) in
            [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")]
        {
            std::os::unix::fs::symlink(to, root.join(link)).unwrap();
        }
    }
    std::fs::create_dir_all(lab.path().join("log")).unwrap();
    let text = format!(
        "$place = \"{place}\"; path = \"$place/$name\"; mount = \"/usr $path/usr nullfs ro\", \"$place/log $path/log nullfs rw\";\n\
         mount.procfs; stop.timeout = 1;\n\
         exec.start = \"/bin/sh -c 'echo $name start >> /log/log; sleep 3000 >/dev/null 2>&1 &'\";\n\
         exec.prestop = \"echo $name prestop >> $place/log/log;\"; exec.release = \"echo $name release >> $place/log/log;\";\n\
         db {{ }} web {{ depend = db; }} idle {{ depend = web; }}\n"
    );
    lab.file("jail.conf", &text).display().to_string()
}

#[test]
fn what_runs_without_a_store_is_taken_over_and_taken_down() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let conf = jails(&lab);
    let notes = || std::fs::read_to_string(lab.path().join("log/log")).unwrap_or_default();
    lab.ok(&["up", "--jail-conf", &conf, "web"]);
    let started = notes();
    // The daemon ends and the store is lost: the jails go on, and are nobody's.
    lab.kill_daemon();
    for file in std::fs::read_dir(lab.state()).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("warren.db") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    lab.start_daemon();
    assert!(lab.instances().is_empty(), "the store was not lost");

    // A mount that the file says and that is not there: nothing of either jail is taken.
    let wrong = std::fs::read_to_string(&conf)
        .unwrap()
        .replace("mount.procfs;", "mount += \"tmpfs $path/tmp tmpfs rw\";");
    let wrong = lab.file("other.conf", &wrong);
    let said = lab.fails(&["import", "--jail-conf", wrong.to_str().unwrap(), "web", "db"]);
    assert!(said.contains("web: tmpfs (tmpfs) is not mounted on") && said.contains("db: tmpfs"), "{said}");
    assert!(lab.instances().is_empty());

    let taken = lab.json(&["import", "--jail-conf", &conf]);
    assert_eq!(taken["absent"], serde_json::json!(["idle"]));
    assert_eq!(taken["taken"].as_array().unwrap().len(), 2, "{taken}");
    lab.wait_ready("web", 1);
    lab.wait_ready("db", 1);
    assert_eq!(notes(), started, "no hook ran");
    lab.ok(&["down", "--jail-conf", &conf, "web"]);
    wait("web to be gone", || lab.instances().len() == 1);
    lab.ok(&["down", "--jail-conf", &conf]);
    assert_eq!(notes(), format!("{started}web prestop\nweb release\ndb prestop\ndb release\n"));
    lab.assert_nothing_left();
    let mounts = std::fs::read_dir(lab.path().join("web/usr")).unwrap().count();
    assert_eq!(mounts, 0, "/usr is still mounted");
}
