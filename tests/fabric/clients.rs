//! Third-party clients of the lab: dig, curl, ping, and three DHCP clients.

use crate::lab::{HEAD, Lab, answered, beacon, free_port, possible, text, wait};

#[test]
fn names_are_found_by_dig_in_every_way_it_asks() {
    if !possible(&["dig"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}{}", beacon("db", ""), beacon("web", "replicas = 3")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let dig = |arguments: &[&str]| {
        let mut argv = vec!["dig", "@10.99.0.1", "+time=20", "+tries=1"];
        argv.extend(arguments);
        let said = text(&lab.host(&argv));
        if arguments.contains(&"+short") { answered(&said) } else { said }
    };
    let one = lab.first("web");
    let id = one.rsplit_once('-').unwrap().1;
    let address = lab.address(&one);
    let all = dig(&["+short", "web.t.internal", "A"]);
    assert_eq!(all.lines().count(), 3, "{all}");
    assert!(all.contains(&address));
    assert_eq!(dig(&["+short", "web.t.internal", "AAAA"]).lines().count(), 3);
    // The second is what a DHCP client is told, and what /etc/hosts has.
    for name in [format!("{id}.web.t.internal"), format!("web-{id}.t.internal")] {
        assert_eq!(dig(&["+short", &name, "A"]).trim(), address);
        assert_eq!(dig(&["+short", &name, "AAAA"]).lines().count(), 1, "{name}");
    }
    assert_eq!(dig(&["+short", "-x", &address]).trim(), format!("{id}.web.t.internal."));
    let srv = dig(&["+short", "_http._tcp.web.t.internal", "SRV"]);
    assert_eq!(srv.lines().count(), 3, "{srv}");
    assert!(srv.contains(" 80 "), "{srv}");
    assert!(dig(&["nobody.t.internal"]).contains("status: NXDOMAIN"));
    let nodata = dig(&["web.t.internal", "MX"]);
    assert!(nodata.contains("status: NOERROR") && nodata.contains("SOA"), "{nodata}");
    assert_eq!(dig(&["+tcp", "+short", "db.t.internal"]).lines().count(), 1);
    assert!(dig(&["example.com"]).contains("status: REFUSED"));
    // From inside an instance, by the resolv.conf Warren wrote.
    let inside = lab.ok(&["exec", &one, "--", "getent", "hosts", "db"]);
    assert!(inside.contains("db.t.internal"), "{inside}");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn exec_waits_for_who_reads_slowly_and_ends_with_who_leaves() {
    use std::io::Read as _;
    use std::process::Stdio;
    if !possible(&["pgrep"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("one", "")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let count = "600000";
    let mut slow = lab.command(&["exec", "one", "--", "head", "-c", count, "/dev/zero"]);
    let mut slow = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The command is long done, and its output in everybody's buffers.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let mut all = Vec::new();
    slow.stdout.take().unwrap().read_to_end(&mut all).unwrap();
    let ended = slow.wait_with_output().unwrap();
    assert_eq!((all.len().to_string().as_str(), ended.status.code()), (count, Some(0)), "{}", text(&ended));

    let runs = || lab.host(&["pgrep", "-f", "sleep 98765"]).status.success();
    let mut left = lab.command(&["exec", "one", "--", "sleep", "98765"]);
    let mut left = left.stdin(std::fs::File::open("/dev/zero").unwrap()).spawn().unwrap();
    wait("the command to run", runs);
    // Until nothing more of its input finds a place.
    std::thread::sleep(std::time::Duration::from_secs(1));
    left.kill().unwrap();
    left.wait().unwrap();
    wait("the command to end with its caller", || !runs());
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn a_published_port_answers_on_the_machines_loopback_and_goes_to_every_member() {
    if !possible(&["curl"]) {
        return;
    }
    let lab = Lab::new();
    let port = free_port();
    let file = lab.file(
        "w.toml",
        &format!("{HEAD}{}", beacon("web", &format!("replicas = 2\npublish = [\"{port}:80\"]"))),
    );
    lab.ok(&["up", file.to_str().unwrap()]);
    let url = format!("http://127.0.0.1:{port}/");
    let fetch = || {
        let output =
            std::process::Command::new("curl").args(["-sS", "--max-time", "5", &url]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let answers: std::collections::BTreeSet<String> = (0..12)
        .map(|_| fetch().lines().find(|l| l.starts_with("host ")).unwrap_or_default().to_owned())
        .collect();
    assert!(answers.len() >= 2, "one member answered everything: {answers:?}");
    lab.ok(&["down", "t"]);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is still open");
    lab.assert_nothing_left();
}

#[test]
fn who_was_pinged_over_ipv6_goes_like_any_other() {
    if !possible(&["ping"]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("one", "replicas = 2")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let instances = lab.instances();
    let [from, to] = instances.as_slice() else { panic!("{instances:?}") };
    let (from, to) = (from["name"].as_str().unwrap(), to["addresses"][1].as_str().unwrap());
    for address in [to, "fd99::1"] {
        lab.ok(&["exec", from, "--", "ping", "-6", "-c", "1", "-W", "20", address]);
    }
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

/// A DHCP client as the main process: ready means that it acknowledged its reserved address.
fn dhcp(client: &str, command: &str) {
    if !possible(&[client, "ip", "ping"]) {
        return;
    }
    let lab = Lab::new();
    let service = format!(
        "[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\naddress = \"dhcp\"\nrestart = \"no\"\ncommand = {command}\n"
    );
    let file = lab.file("w.toml", &format!("{HEAD}{service}{}", beacon("two", "")));
    let up = lab.warren(&["up", file.to_str().unwrap(), "--timeout", "60s"]);
    let name = lab.first("one");
    assert!(up.status.success(), "{}\n{}{}", text(&up), lab.ok(&["logs", &name]), lab.daemon_log());
    let address = lab.address(&name);
    wait("the address to be on the interface", || {
        text(&lab.warren(&["exec", &name, "--", "ip", "-4", "addr", "show", "net0"])).contains(&address)
    });
    let leases = lab.json(&["lease", "ls"]);
    let lease = leases.as_array().unwrap().iter().find(|l| l["address"] == address.as_str()).unwrap();
    assert_eq!(lease["state"], "bound", "{lease}");
    // What the client was told works. dhcpcd adds even the route to its own network after the address.
    wait("the gateway to be reached", || {
        lab.warren(&["exec", &name, "--", "ping", "-c", "1", "-W", "2", "10.99.0.1"]).status.success()
    });
    // Its other address is Warren's to set, and no client's to take away: what is published leads there, and it leads out.
    let instances = lab.instances();
    let all = &instances.iter().find(|i| i["name"] == name.as_str()).unwrap()["addresses"];
    let six = all[1].as_str().unwrap();
    let on = text(&lab.warren(&["exec", &name, "--", "ip", "-6", "addr", "show", "net0"]));
    assert!(on.contains(&format!("{six}/64")), "{six}: {on}");
    let routes = text(&lab.warren(&["exec", &name, "--", "ip", "-6", "route", "show", "default"]));
    assert!(routes.contains("via fd99::1 "), "{routes}");
    let ping =
        |from: &str, to: &str| lab.warren(&["exec", from, "--", "ping", "-6", "-c", "1", "-W", "20", to]);
    let (there, back) = (ping(&lab.first("two"), six), ping(&name, "fd99::1"));
    assert!(there.status.success() && back.status.success(), "{}{}", text(&there), text(&back));
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn dhclient_gets_the_reserved_address() {
    dhcp("dhclient", r#"["/usr/sbin/dhclient", "-4", "-d", "-v", "net0"]"#);
}

#[test]
fn dhcpcd_gets_the_reserved_address() {
    dhcp("dhcpcd", r#"["/usr/sbin/dhcpcd", "-4", "-B", "-d", "net0"]"#);
}

#[test]
fn udhcpc_gets_the_reserved_address() {
    dhcp("udhcpc", r#"["/sbin/udhcpc", "-f", "-i", "net0"]"#);
}
