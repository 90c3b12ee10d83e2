//! Users of the host that have nothing to do with Warren.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{HEAD, Lab, possible, text};

/// A number that no user database knows.
const STRANGER: u32 = 61_001;

#[test]
fn what_root_makes_in_an_instance_is_out_of_reach_for_users_of_the_host() {
    // Guard: `host::closed`. Without it a program with the set-user-ID bit, made by root of a jail, gives its caller the host's root.
    if !possible(&["find"]) {
        return;
    }
    let lab = Lab::new();
    // As rc(8) and `--group` make it, and as an older Warren left what is below.
    std::fs::set_permissions(lab.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    for dir in ["", "roots", "clones"] {
        std::fs::DirBuilder::new().mode(0o755).create(lab.state().join(dir)).unwrap();
    }
    let service = "[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\nrestart = \"no\"\n\
                   command = [\"/bin/sh\", \"-c\", \"cp /bin/sh /shell; chmod 4755 /shell; exec sleep 1000\"]\n";
    let file = lab.file("w.toml", &format!("{HEAD}{service}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    let state = lab.state();
    let find = || Command::new("find").arg(&state).args(["-name", "shell"]).output().unwrap();
    crate::lab::wait("the program in the instance", || !find().stdout.is_empty());
    let paths: Vec<PathBuf> = String::from_utf8(find().stdout).unwrap().lines().map(PathBuf::from).collect();
    let stat = |path: &Path| {
        Command::new("ls").arg("-ld").arg(path).uid(STRANGER).gid(STRANGER).current_dir("/").output().unwrap()
    };
    assert!(stat(&state).status.success(), "the way to the state directory is open: {}", text(&stat(&state)));
    for path in &paths {
        let seen = stat(path);
        assert!(!seen.status.success(), "{}", text(&seen));
        assert!(text(&seen).contains("Permission denied"), "{}", text(&seen));
    }
    // Whose root it is goes on as it did, whoever runs there.
    let inside = "cd /tmp && test -x /shell && ls -d / && pwd";
    let user = if cfg!(target_os = "freebsd") { "nobody" } else { "daemon" };
    let said = lab.warren(&["exec", "one", "--", "su", "-m", user, "-c", inside]);
    println!("{}", text(&said));
    assert!(said.status.success(), "{}{}", text(&said), lab.daemon_log());
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}
