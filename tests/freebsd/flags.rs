//! The removal of a clone in which root set flags that forbid it (chflags(1)).

use std::process::Command;

use warren::config::spec::TemplateSource;
use warren::host::{Host, Op};

use super::rig::{Rig, id};

fn run(words: &[&str]) {
    let done = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

pub fn what_flags_hold_fast_is_removed(rig: &Rig) {
    let me = id(31);
    let root = rig.host.root(me.as_str());
    rig.perform(&Op::CloneCreate { name: me.to_string(), source: TemplateSource::Host });
    let (kept, held) = ("/tmp/warren-kept", root.join("held"));
    std::fs::create_dir_all(held.join("inner")).unwrap();
    for file in ["inner/file", "log", "own"] {
        std::fs::write(held.join(file), "x").unwrap();
    }
    std::fs::write(kept, "x").unwrap();
    std::os::unix::fs::symlink(kept, held.join("link")).unwrap();
    run(&["chflags", "schg", kept]);
    let path = |of: &str| held.join(of).to_str().unwrap().to_owned();
    run(&["chflags", "uchg", &path("own")]);
    run(&["chflags", "sappnd", &path("log")]);
    run(&["chflags", "-h", "schg", &path("link")]);
    for of in ["inner/file", "inner", ""] {
        run(&["chflags", "schg,sunlnk", &path(of)]);
    }
    let removed = rig.host.perform(
        &Op::CloneDestroy { name: me.to_string(), source: TemplateSource::Host },
        &warren::host::NoWitness,
    );
    let flags = Command::new("stat").args(["-f", "%Sf", kept]).output().unwrap();
    run(&["chflags", "0", kept]);
    std::fs::remove_file(kept).unwrap();
    removed.unwrap();
    assert!(String::from_utf8_lossy(&flags.stdout).contains("schg"), "a link was followed");
}
