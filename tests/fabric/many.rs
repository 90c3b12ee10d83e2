//! Many instances of one service.

use std::collections::BTreeSet;

use crate::lab::{HEAD, Lab, answered, beacon, possible, text};

/// 200 unless `WARREN_MANY` says otherwise.
fn count() -> usize {
    std::env::var("WARREN_MANY").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

#[test]
fn two_hundred_instances_come_up_are_all_different_and_go_without_a_trace() {
    if !possible(&["dig"]) {
        return;
    }
    let count = count();
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("one", &format!("replicas = {count}"))));
    let began = std::time::Instant::now();
    lab.ok(&["up", file.to_str().unwrap(), "--timeout", "900s"]);
    let up = began.elapsed();
    let all = lab.instances();
    assert_eq!(all.iter().filter(|i| i["stage"] == "ready").count(), count);
    let distinct =
        |key: &dyn Fn(&serde_json::Value) -> String| all.iter().map(key).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(&|i| i["id"].to_string()), count);
    assert_eq!(distinct(&|i| i["addresses"][0].to_string()), count);
    let names: Vec<String> = all.iter().map(|i| i["dns"].as_str().unwrap().to_owned()).collect();
    let mut argv = vec!["dig", "@10.99.0.1", "+short", "+time=20", "+tries=1"];
    argv.extend(names.iter().map(String::as_str));
    let resolved = answered(&text(&lab.host(&argv)));
    let addresses: BTreeSet<&str> = resolved.lines().collect();
    assert_eq!(addresses.len(), count, "{resolved}");
    let began = std::time::Instant::now();
    lab.ok(&["down", "t"]);
    eprintln!("{count} instances: up {:.1} s, down {:.1} s", up.as_secs_f64(), began.elapsed().as_secs_f64());
    lab.assert_nothing_left();
}
