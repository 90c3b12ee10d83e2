//! `warren run --fabric`: one command on a fabric's networks, among its names, and no replica of anything.

use crate::lab::{HEAD, Lab, beacon, possible, text};

#[test]
fn a_command_runs_on_a_fabrics_network_and_ends_with_its_own_status() {
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("web", "")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let found = lab.ok(&["run", "host", "--fabric", "t", "--", "getent", "hosts", "web"]);
    assert!(found.contains(&lab.address(&lab.first("web"))) || found.contains("fd99::"), "{found}");
    // Long enough for whatever a running instance is made part of.
    let ended = lab.warren(&[
        "run",
        "host",
        "--fabric",
        "t",
        "--name",
        "job",
        "--rm",
        "--",
        "sh",
        "-c",
        "sleep 2; exit 3",
    ]);
    assert_eq!(ended.status.code(), Some(3), "{}", text(&ended));
    let refused = lab.fails(&["run", "host", "--fabric", "t", "--name", "web", "--", "true"]);
    assert!(refused.contains("`web` is a service of the fabric `t`"), "{refused}");
    assert_eq!(lab.instances().len(), 1);
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}
