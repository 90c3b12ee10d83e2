//! Many instances up and down, again and again, under traffic: no clash, no leak, no panic.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{assert_bare, show};
use crate::lab::{HEAD, Lab, beacon, possible, wait};

/// How many: `WARREN_MANY`, a list; rounds: `WARREN_ROUNDS`.
fn numbers() -> (Vec<usize>, usize) {
    let many = std::env::var("WARREN_MANY").unwrap_or_else(|_| "12".into());
    let rounds = std::env::var("WARREN_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    (many.split(',').map(|n| n.parse().unwrap()).collect(), rounds)
}

/// What the kernel and the daemon hold: types of the kernel's memory that jails, interfaces and nodes live in.
fn held(lab: &Lab) -> String {
    let pid = crate::host::daemon(lab);
    show(&format!(
        "vmstat -m | awk '$1 ~ /^(ifnet|ifaddr|netgraph_node|netgraph_hook|netgraph|prison|vnet|BPF|rtentry|lltable|mount|newblk)$/{{print $1, $2}}' | tr '\\n' ' '; echo; \
         echo daemon $(ps -o rss= -p {pid}) KB, keeper $(pgrep -f 'warren keeper' | xargs -n1 ps -o rss= -p) KB; ngctl list 2>/dev/null | wc -l; mount | wc -l"
    ))
}

#[test]
fn many_come_and_go_under_traffic_and_nothing_grows() {
    if !possible(&["ping"]) {
        return;
    }
    let (many, rounds) = numbers();
    let lab = Lab::new();
    let mut resident = Vec::new();
    for count in many {
        for round in 1..=rounds {
            let file = lab.file(
                "w.toml",
                &format!("{HEAD}{}", beacon("one", &format!("replicas = {count}\ndrain = \"0s\""))),
            );
            let began = Instant::now();
            lab.ok(&["up", file.to_str().unwrap(), "--timeout", "600s"]);
            let up = began.elapsed().as_secs_f64();
            let all = lab.instances();
            let distinct = |key: &str| all.iter().map(|i| i[key].to_string()).collect::<BTreeSet<_>>().len();
            assert_eq!((all.len(), distinct("id"), distinct("addresses")), (count, count, count));
            let jails = show("jls -N name | grep -c '^warren-'");
            assert_eq!(jails.trim(), count.to_string());
            // Each floods another one while they go down: the panics of PR 238326 need traffic.
            let ids: Vec<String> = all.iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect();
            let mut floods: Vec<_> = (0..count.min(20))
                .map(|n| {
                    let to = all[(n + 1) % count]["addresses"][0].as_str().unwrap().to_owned();
                    let jail = format!("warren-{}", ids[n]);
                    lab.host_command(&["jexec", &jail, "ping", "-f", "-q", &to])
                        .stdout(std::process::Stdio::null())
                        .stderr(std::process::Stdio::null())
                        .spawn()
                        .unwrap()
                })
                .collect();
            std::thread::sleep(std::time::Duration::from_secs(1));
            let began = Instant::now();
            lab.ok(&["down", "t", "--timeout", "600s"]);
            let down = began.elapsed().as_secs_f64();
            for flood in &mut floods {
                let _ = flood.kill();
                let _ = flood.wait();
            }
            assert_bare(&lab);
            wait("no jail to be dying", || show("jls -dN name").lines().all(|l| !l.starts_with("warren-")));
            println!("{count} instances, round {round}: up {up:.1} s, down {down:.1} s");
            let held = held(&lab);
            let pages = held
                .split("daemon ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok())
                .unwrap();
            resident.push(pages);
        }
    }
    println!("the daemon's resident KB after each round: {resident:?}");
    // It keeps nothing of what has gone: the later rounds are no larger than the first of the largest, give or take a fifth.
    if let (Some(last), Some(most)) = (resident.last(), resident.iter().rev().skip(1).max()) {
        assert!(*last < most + most / 5, "{resident:?}");
    }
}
