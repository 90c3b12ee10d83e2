//! A network bridged to a real interface: instances are on the LAN, and the host stays there, with its address and its connections.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use super::{BPF_RULESET, assert_bare, show};
use crate::host::{HOST, OUTSIDE};
use crate::lab::{Lab, possible, text, wait};

const NETWORK: &str = "name = \"t\"\n[templates.host]\nhost = true\n[networks.lan]\n";
/// The host's interface towards the outside.
fn pair() -> String {
    show(&format!("ifconfig | awk '/^[a-z]/{{i=$1}} /inet {HOST} /{{print i}}'"))
        .trim()
        .trim_end_matches(':')
        .to_owned()
}

#[test]
fn the_hosts_connections_survive_bridging_its_interface_a_crash_and_the_way_back() {
    if !possible(&["nc", "ping"]) {
        return;
    }
    let lab = Lab::new();
    let interface = pair();
    let look = format!(
        "ifconfig {interface} | sed 's/PROMISC,//'; ngctl msg {interface}: getpromisc; ngctl msg {interface}: getautosrc"
    );
    let before = show(&look);
    // An echo beyond the interface, and a connection to it that lives through everything.
    let mut echo = lab
        .host_command(&[
            "jexec",
            "outside",
            "sh",
            "-c",
            "mkfifo /tmp/echo.$$; cat /tmp/echo.$$ | nc -l 7790 > /tmp/echo.$$",
        ])
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    let mut talk = lab
        .host_command(&["nc", OUTSIDE, "7790"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (talk.stdin.take().unwrap(), BufReader::new(talk.stdout.take().unwrap()));
    let mut said = 0;
    let mut speak = |when: &str| {
        said += 1;
        writeln!(to, "{when} {said}").unwrap();
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{when} {said}\n"));
        println!("still connected: {line}");
    };
    speak("before");
    let services = "[services.one]\ntemplate = \"host\"\nnetworks = [\"lan\"]\naddress = [\"192.0.2.50\"]\ncommand = [\"@warren\", \"beacon\", \"--port\", \"80\", \"--name\", \"one\"]\n";
    let file = lab.file("w.toml", &format!("{NETWORK}ipv4 = \"192.0.2.0/24\"\ngateway = \"192.0.2.200\"\ndhcp = \"192.0.2.201\"\nuplink = \"{interface}\"\n{services}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    speak("bridged");
    let name = lab.first("one");
    let ping = lab.warren(&["exec", &name, "--", "ping", "-c", "2", "-t", "4", OUTSIDE]);
    assert!(ping.status.success(), "{}", text(&ping));
    assert!(show("jexec outside ping -c 1 -t 3 192.0.2.50").contains("1 packets received"));
    assert!(show("ping -c 1 -t 3 192.0.2.50").contains("1 packets received"), "host to instance");
    lab.kill_daemon();
    speak("without a daemon");
    assert!(show("jexec outside ping -c 1 -t 3 192.0.2.50").contains("1 packets received"));
    lab.start_daemon();
    speak("with another daemon");
    show(&look);
    lab.ok(&["down", "t"]);
    speak("put back");
    assert_eq!(show(&look), before);
    let _ = talk.kill();
    let _ = talk.wait();
    show("pkill -x nc; rm -f /tmp/echo.*");
    let _ = echo.wait();
    assert_bare(&lab);
}

#[test]
fn an_instance_gets_its_address_from_the_lans_own_server_and_the_host_keeps_its() {
    // The emulator's built-in server is the LAN's: it knows nothing of Warren.
    if !possible(&["dhclient", "devfs"]) {
        return;
    }
    show(BPF_RULESET);
    show("pgrep -x dhclient >/dev/null || timeout 20 dhclient vtnet0");
    let own = show("ifconfig vtnet0 inet | awk '/inet /{print $2}'").trim().to_owned();
    assert!(!own.is_empty(), "the LAN gave the host no address");
    let lab = Lab::new();
    let services = "[services.one]\ntemplate = \"host\"\nnetworks = [\"lan\"]\nreplicas = 2\nrestart = \"no\"\ncommand = [\"/sbin/dhclient\", \"-d\", \"net0\"]\n[services.one.jail]\ndevfs_ruleset = 77\n";
    let file = lab.file(
        "w.toml",
        &format!("{NETWORK}ipv4 = \"10.0.2.0/24\"\ngateway = \"10.0.2.200\"\nuplink = \"vtnet0\"\ndhcp = \"lan\"\n{services}"),
    );
    let up = lab.warren(&["up", file.to_str().unwrap(), "--timeout", "60s"]);
    let all = lab.instances();
    for instance in &all {
        println!("{}", text(&lab.warren(&["logs", instance["name"].as_str().unwrap()])));
    }
    assert!(up.status.success(), "{}{}", text(&up), lab.daemon_log());
    println!("{}", lab.ok(&["ps"]));
    let mut addresses = vec![own.clone()];
    for instance in &all {
        let name = instance["name"].as_str().unwrap();
        let (address, id) = (lab.address(name), name.rsplit_once('-').unwrap().1);
        assert!(show(&format!("jexec warren-{id} ifconfig net0")).contains(&format!("inet {address} ")));
        assert!(!addresses.contains(&address), "{address} twice");
        addresses.push(address);
        let ping = lab.warren(&["exec", name, "--", "ping", "-c", "2", "-t", "4", "10.0.2.2"]);
        assert!(ping.status.success(), "{}", text(&ping));
        // Another address than the one that was given does not pass.
        let theft = "ifconfig net0 alias 10.0.2.99/32; ping -c 1 -t 2 -S 10.0.2.99 10.0.2.2";
        assert!(!lab.warren(&["exec", name, "--", "sh", "-c", theft]).status.success());
    }
    assert!(show("ping -c 2 -t 4 10.0.2.2").contains("2 packets received"), "the host is on the LAN still");
    assert_eq!(show("ifconfig vtnet0 inet | awk '/inet /{print $2}'").trim(), own);
    // Warren's own address on the LAN answers for the names of what the LAN addressed.
    let name = all[0]["name"].as_str().unwrap();
    let asked = lab.warren(&["exec", name, "--", "host", "one.t.internal", "10.0.2.200"]);
    println!("{}", text(&asked));
    assert!(text(&asked).contains(&format!("has address {}", addresses[2])), "a name for the LAN's address");
    lab.ok(&["down", "t"]);
    wait("the host on the LAN", || show("ping -c 1 -t 2 10.0.2.2").contains("1 packets received"));
    assert_bare(&lab);
}

#[test]
fn a_network_on_a_vlan_of_the_interface_reaches_that_vlan_alone() {
    if !possible(&["ping"]) {
        return;
    }
    let lab = Lab::new();
    let interface = pair();
    let beyond =
        show("jexec outside ifconfig -l").split_whitespace().find(|i| *i != "lo0").unwrap().to_owned();
    show(&format!(
        "kldload -n if_vlan; ifconfig {interface}.5 create; ifconfig {interface}.5 up; \
         jexec outside ifconfig {beyond}.5 create; jexec outside ifconfig {beyond}.5 inet 198.51.100.7/24 up"
    ));
    let services = "[services.one]\ntemplate = \"host\"\nnetworks = [\"lan\"]\naddress = [\"198.51.100.50\"]\ncommand = [\"/bin/sleep\", \"1000\"]\n";
    let file = lab.file("w.toml", &format!("{NETWORK}ipv4 = \"198.51.100.0/24\"\ngateway = \"198.51.100.200\"\ndhcp = \"198.51.100.201\"\nuplink = \"{interface}.5\"\n{services}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    let name = lab.first("one");
    let ping = lab.warren(&["exec", &name, "--", "ping", "-c", "2", "-t", "4", "198.51.100.7"]);
    println!("{}", text(&ping));
    assert!(ping.status.success(), "{}", text(&ping));
    let node = interface.replace('.', "_");
    assert!(
        show("ngctl list").contains(&format!("Name: {node}_5 ")),
        "the VLAN's node has its dot written so"
    );
    // What is untagged on the same wire is the host's alone.
    assert!(show(&format!("ping -c 1 -t 3 {OUTSIDE}")).contains("1 packets received"));
    let hears = show(&format!(
        "timeout 3 jexec outside tcpdump -lnei {beyond} -c 1 'arp and host 198.51.100.99' 2>&1 & \
         warren=$!; jexec warren-{} arp -d -a >/dev/null; jexec warren-{0} ping -c 1 -t 1 198.51.100.99 >/dev/null; wait $warren",
        name.rsplit_once('-').unwrap().1
    ));
    assert!(!hears.contains("who-has 198.51.100.99"), "{hears}");
    lab.ok(&["down", "t"]);
    show(&format!("ifconfig {interface}.5 destroy; jexec outside ifconfig {beyond}.5 destroy"));
    assert_bare(&lab);
}
