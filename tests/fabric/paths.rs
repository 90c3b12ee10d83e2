//! Who reaches whom.

use crate::host;
use crate::lab::{HEAD, Lab, beacon, possible, text};

#[test]
fn instances_reach_each_other_but_not_across_isolated_networks() {
    if !possible(&["ping"]) {
        return;
    }
    let lab = Lab::new();
    let more = "[networks.apart]\nipv4 = \"10.98.0.0/24\"\nisolated = true\nquarantine = \"0s\"\n";
    let a = beacon("a", "replicas = 2");
    let b = beacon("b", "").replace("\"net\"", "\"apart\"");
    let file = lab.file("w.toml", &format!("{HEAD}{more}{a}{b}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    let all = lab.instances();
    let of = |service: &str| -> Vec<(String, String)> {
        let found = all.iter().filter(|i| i["service"] == service);
        found
            .map(|i| (i["name"].as_str().unwrap().to_owned(), i["addresses"][0].as_str().unwrap().to_owned()))
            .collect()
    };
    let (a, b) = (of("a"), of("b"));
    let ping =
        |ping: &[&str], from: &str, to: &str| lab.warren(&[&["exec", from, "--"], ping, &[to]].concat());
    let reached = ping(&host::PATIENT_PING, &a[0].0, &a[1].1);
    assert!(reached.status.success(), "{}", text(&reached));
    let reached = |from: &str, to: &str| ping(&host::PING, from, to).status.success();
    assert!(!reached(&a[0].0, &b[0].1), "an isolated network was reached");
    assert!(!reached(&b[0].0, &a[0].1), "an isolated network reached out");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}
