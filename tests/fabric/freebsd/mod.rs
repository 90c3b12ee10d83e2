//! What only FreeBSD can show: real jails, netgraph and pf, seen by the base system's own programs.

mod agreement;
mod classic;
mod dhcp;
mod drift;
mod facts;
mod import;
mod jails;
mod many;
mod parameters;
mod states;
mod uplink;
mod zfs;

use std::process::Command;

use crate::lab::Lab;

/// Loads a ruleset that shows bpf, as packaging/devfs.rules.sample has it.
const BPF_RULESET: &str = "devfs rule -s 77 show 2>/dev/null | grep -q bpf || { devfs rule -s 77 add include 1; devfs rule -s 77 add include 2; devfs rule -s 77 add include 3; devfs rule -s 77 add path 'bpf*' unhide; }";

/// Runs a shell command on the machine, shows it and what it said, and gives that.
fn show(command: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", command]).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("# {command}");
    said.lines().for_each(|line| println!("    {line}"));
    said
}

/// Whether the kernel could load a module. Says loudly when not, and fails under CI. Not by loading it: what a module brings to
/// `security.jail.param` stays when it goes.
fn loadable(module: &str) -> bool {
    let there = std::path::Path::new("/boot/kernel").join(format!("{module}.ko")).exists();
    let text = format!("THIS TEST DID NOT RUN: the module {module} missing");
    assert!(there || std::env::var_os("CI").is_none(), "{text}");
    if !there {
        eprintln!("\n*** {text} ***\n");
    }
    there
}

/// What `command` gives, as words.
fn words(command: &str) -> Vec<String> {
    show(command).split_whitespace().map(str::to_owned).collect()
}

/// The base system sees nothing of Warren's: no jail, dying ones aside, no node but the nursery, no interface, mount, anchor.
fn assert_bare(lab: &Lab) {
    lab.assert_nothing_left();
    let bare = [
        ("jls -N name 2>/dev/null | grep -c '^warren-'", "0"),
        ("ngctl list | awk '$2 ~ /^[bfgw][0-9a-z]{8}$/' | wc -l | tr -d ' '", "0"),
        ("ifconfig -l | tr ' ' '\\n' | grep -c '^[gw][0-9a-z]\\{8\\}$'", "0"),
        ("mount | grep -c /roots/", "0"),
        (
            "for a in $(pfctl -a warren -s Anchors 2>/dev/null); do pfctl -a $a -s rules; pfctl -a $a -s nat; done 2>/dev/null | wc -l | tr -d ' '",
            "0",
        ),
    ];
    for (command, wanted) in bare {
        assert_eq!(show(command).trim(), wanted, "{command}");
    }
}
