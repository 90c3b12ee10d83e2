//! The demo itself, on the sim and, where it may be, on the lab.

use std::process::Command;

use serde_json::Value;

fn demo(host: &str) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_warren")).args(["demo", "--json", "--host", host]).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out} {output:?}"));
    let failed: Vec<&Value> =
        report["checks"].as_array().unwrap().iter().filter(|check| check["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!((output.status.code(), &report["ok"]), (Some(0), &Value::Bool(true)));
    assert!(report["checks"].as_array().unwrap().len() > 12);
}

#[test]
fn on_the_sim() {
    demo("sim");
}

#[cfg(target_os = "linux")]
#[test]
fn on_the_lab() {
    if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
        assert!(std::env::var_os("CI").is_none(), "CI must run the demo as root, with /dev/net/tun");
        eprintln!("SKIPPED: the demo on the lab needs root and /dev/net/tun here");
        return;
    }
    demo("lab");
}
