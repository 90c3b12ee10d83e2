//! When an instance leaves, its connections through pf end: those that were redirected to it and those it made through NAT. Nobody
//! else's do.

use super::{assert_bare, show};
use crate::host::{HOST, OUTSIDE};
use crate::lab::{HEAD, Lab, free_port, possible, wait};

#[test]
fn states_of_one_instance_die_with_it_and_its_neighbours_live() {
    if !possible(&["nc", "pfctl"]) {
        return;
    }
    let lab = Lab::new();
    let port = free_port();
    let service = format!(
        "[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\nreplicas = 2\ndrain = \"0s\"\npublish = [\"{port}:80\"]\n\
         command = [\"/bin/sh\", \"-c\", \"while :; do nc -l 80 >/dev/null; done\"]\n"
    );
    let file = lab.file("w.toml", &format!("{HEAD}{service}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    let all = lab.instances();
    let of = |n: usize| {
        let name = all[n]["name"].as_str().unwrap().to_owned();
        (lab.address(&name), name.rsplit_once('-').unwrap().1.to_owned(), name)
    };
    let ((a, a_id, a_name), (b, b_id, _)) = (of(0), of(1));
    // One redirected connection to each, round robin, and one through NAT from each.
    let mut all = Vec::new();
    for shell in [
        format!("jexec outside sh -c 'sleep 600 | nc {HOST} {port}'"),
        format!("jexec outside sh -c 'sleep 600 | nc {HOST} {port}'"),
        "jexec outside nc -l 7781".to_owned(),
        "jexec outside nc -l 7782".to_owned(),
        format!("sleep 1; jexec warren-{a_id} sh -c 'sleep 600 | nc {OUTSIDE} 7781'"),
        format!("sleep 1; jexec warren-{b_id} sh -c 'sleep 600 | nc {OUTSIDE} 7782'"),
    ] {
        all.push(lab.host_command(&["/bin/sh", "-c", &shell]).spawn().unwrap());
        // So that the first two do not race for one member.
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let established = |address: &str| {
        let states = show("pfctl -ss");
        let of = states
            .lines()
            .filter(|l| l.contains("ESTABLISHED:ESTABLISHED") && l.contains(&format!("{address}:")));
        (of.clone().filter(|l| l.contains("<-")).count(), of.filter(|l| l.contains("->")).count())
    };
    // Each has a redirected and a translated one; a connection through the host has a state on each of its interfaces.
    wait("all four", || {
        [&a, &b].into_iter().all(|x| {
            let (r, n) = established(x);
            r >= 2 && n >= 2
        })
    });
    let before = established(&b);
    lab.ok(&["stop", &a_name]);
    let left = show("pfctl -ss");
    assert!(!left.contains(&format!("{a}:")), "{left}");
    assert_eq!(established(&b), before, "{left}");
    show("pkill -f 'sleep 600'; pkill -x nc");
    for mut child in all {
        let _ = child.wait();
    }
    lab.ok(&["down", "t"]);
    assert_bare(&lab);
}
