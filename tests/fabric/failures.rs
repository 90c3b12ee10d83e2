//! What fails, and what is left then: nothing, or what the message says.

use std::io::Write as _;

use crate::lab::{HEAD, Lab, beacon, possible, text, wait};

/// A service with every host hook writing its name, its failed phase and its reason to a file.
fn hooked(lab: &Lab, start: &str) -> String {
    let notes = lab.path().join("notes");
    let note = |hook: &str| {
        format!(
            "\"exec.{hook}\" = \"echo {hook} $WARREN_FAILED_PHASE: $WARREN_REASON >> {}\"\n",
            notes.display()
        )
    };
    let hooks: String =
        ["prepare", "prestart", "poststart", "prestop", "quiesced", "poststop", "release"].map(note).concat();
    format!("{}[services.one.jail]\n{hooks}\"exec.start\" = \"{start}\"\n", beacon("one", "restart = \"no\""))
}

fn notes(lab: &Lab) -> Vec<String> {
    let text = std::fs::read_to_string(lab.path().join("notes")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_start_that_fails_at_exec_start_undoes_everything_and_says_so() {
    if !possible(&[]) {
        return;
    }
    // The second time with processes of the instance still running when it fails.
    for start in ["exit 3;", "sleep 1000 & exit 3"] {
        let lab = Lab::new();
        let file = lab.file("w.toml", &format!("{HEAD}{}", hooked(&lab, start)));
        let said = lab.fails(&["up", file.to_str().unwrap()]);
        assert!(said.contains("exec.start") && said.contains("exit status 3"), "{said}");
        let ran: Vec<String> = notes(&lab).iter().map(|n| n.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(ran, ["prepare", "prestart", "quiesced", "poststop", "release"], "{start}");
        assert!(
            notes(&lab)[4].starts_with("release exec.start: exec.start: ")
                && notes(&lab)[4].ends_with("exit status 3"),
            "{:?}",
            notes(&lab)
        );
        lab.ok(&["down", "t"]);
        lab.assert_nothing_left();
    }
}

#[test]
fn a_file_that_is_edited_and_deleted_changes_nothing_for_what_runs() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", hooked(&lab, "true")));
    lab.ok(&["up", file.to_str().unwrap()]);
    std::fs::File::options().append(true).open(&file).unwrap().write_all(b"this is no TOML [[[").unwrap();
    std::fs::remove_file(&file).unwrap();
    lab.ok(&["down", "t"]);
    let ran: Vec<String> =
        notes(&lab).iter().map(|n| n.split(' ').next().unwrap().trim_end_matches(':').to_owned()).collect();
    assert_eq!(ran, ["prepare", "prestart", "poststart", "prestop", "quiesced", "poststop", "release"]);
    lab.assert_nothing_left();
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_whole_group() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let alive = lab.path().join("alive");
    let hook = format!("(while :; do date > {}; sleep 0.1; done) & wait", alive.display());
    let jail = format!("[services.one.jail]\n\"exec.timeout\" = 1\n\"exec.prestart\" = \"{hook}\"\n");
    let file = lab.file("w.toml", &format!("{HEAD}{}{jail}", beacon("one", "restart = \"no\"")));
    let said = lab.fails(&["up", file.to_str().unwrap()]);
    assert!(said.contains("timed out"), "{said}");
    let _ = std::fs::remove_file(&alive);
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert!(!alive.exists(), "a child of the hook is still running");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn a_volume_kept_busy_at_stop_keeps_its_files_and_repair_finishes() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let (volume, mounts) = lab.volume();
    std::fs::write(volume.join("precious"), "kept").unwrap();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("one", &mounts)));
    lab.ok(&["up", file.to_str().unwrap()]);
    let name = lab.first("one");
    let id = name.rsplit_once('-').unwrap().1.to_owned();
    // A process of the host, not of the jail, sits in the volume.
    let inside = lab.state().join("roots").join(&id).join("data");
    let sit = format!("cd {} && echo sits && exec sleep 1000", inside.display());
    let mut sitter =
        lab.host_command(&["sh", "-c", &sit]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = [0; 4];
    std::io::Read::read_exact(sitter.stdout.as_mut().unwrap(), &mut said).unwrap();
    let said = lab.fails(&["down", "t"]);
    assert!(said.contains("/data") && said.contains("warren repair"), "{said}");
    assert_eq!(std::fs::read_to_string(volume.join("precious")).unwrap(), "kept");
    // Whoever looks later is told what is in the way, of what, and what to do. It is tried again by itself meanwhile.
    wait("doctor to say so", || {
        let said = lab.warren(&["doctor"]);
        let said = (said.status.code(), text(&said));
        said.0 == Some(1)
            && [&*name, "/data", "busy", &*format!("`warren repair {name}`")]
                .iter()
                .all(|w| said.1.contains(w))
    });
    wait("ps to say so", || {
        let said = lab.ok(&["ps"]);
        said.contains(&format!("{name}: left behind: ")) && said.contains("/data") && said.contains("failed")
    });
    wait("inspect to say so", || {
        lab.ok(&["inspect", &name]).lines().any(|l| l.starts_with("left") && l.contains("/data"))
    });
    let kill = lab.host(&["pkill", "-f", "sleep 1000"]);
    assert!(kill.status.success(), "{}", text(&kill));
    let _ = sitter.wait();
    lab.ok(&["repair"]);
    wait("the repair to be done", || lab.instances().is_empty());
    assert_eq!(std::fs::read_to_string(volume.join("precious")).unwrap(), "kept");
    wait("the fabric to be gone", || {
        lab.json(&["info", "--inventory"])["inventory"]["nodes"] == serde_json::json!({})
    });
    lab.assert_nothing_left();
}

#[test]
fn a_service_that_gave_up_is_named_and_repair_starts_it_again() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let need = lab.path().join("needed");
    let jail = format!("[services.one.jail]\n\"exec.prestart\" = \"test -e {}\"\n", need.display());
    let other = beacon("other", "");
    let file = lab.file("w.toml", &format!("{HEAD}{}{jail}{other}", beacon("one", "restart = \"no\"")));
    let said = lab.fails(&["up", file.to_str().unwrap()]);
    assert!(said.contains("exec.prestart") && said.contains("exit status 1"), "{said}");
    let doctor = || {
        let said = lab.warren(&["doctor"]);
        (said.status.code(), text(&said))
    };
    let (code, said) = doctor();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("fabric t") && said.contains("exec.prestart") && said.contains("`warren repair`"),
        "{said}"
    );
    assert!(
        lab.ok(&["ps"]).lines().any(|line| line.starts_with("t: one-") && line.contains("exec.prestart"))
    );
    // The other one is not touched by it.
    let there = lab.first("other");
    std::fs::write(&need, "").unwrap();
    assert!(lab.ok(&["repair"]).contains("service one of t gets another chance"));
    wait("the service to be ready", || {
        lab.instances().iter().any(|i| i["service"] == "one" && i["stage"] == "ready")
    });
    let (code, said) = doctor();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(lab.first("other"), there);
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn bad_input_is_refused_before_anything_is_touched() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let good = lab.file("good.toml", &format!("{HEAD}{}", beacon("one", "")));
    lab.ok(&["up", good.to_str().unwrap()]);
    let before = lab.instances();
    let overlapping = HEAD.replace("name = \"t\"", "name = \"u\"") + &beacon("one", "");
    let file = lab.file("overlap.toml", &overlapping);
    let said = lab.fails(&["up", file.to_str().unwrap()]);
    assert!(said.contains("overlaps") && said.contains("10.99.0.0/24"), "{said}");
    let file = lab.file(
        "template.toml",
        &format!("{HEAD}{}", beacon("one", "")).replace("host = true", "directory = \"/nowhere/at/all\""),
    );
    let said = lab.fails(&["up", file.to_str().unwrap()]);
    assert!(said.contains("/nowhere/at/all"), "{said}");
    let file = lab.file("key.toml", &format!("{HEAD}{}", beacon("one", "replcas = 3")));
    let said = lab.fails(&["up", file.to_str().unwrap()]);
    assert!(said.contains("replcas") && said.contains("replicas"), "{said}");
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file =
        lab.file("port.toml", &format!("{HEAD}{}", beacon("one", &format!("publish = [\"{port}:80\"]"))));
    let said = lab.fails(&["up", file.to_str().unwrap()]);
    assert!(said.contains(&port.to_string()) && said.contains("in use"), "{said}");
    assert_eq!(lab.instances(), before);
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}
