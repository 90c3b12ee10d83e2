//! The policy against pf itself: real sockets through real vnet jails, one of which is the host with a pf of its own.
//!
//! ```text
//!   outside ── em0 host ┬ gk3f9q2ab (10.9.0.1) ── web1 (.11), web2 (.12)
//!  192.0.2.7  192.0.2.1 └ gm4f9q2ab (10.8.0.1) ── db   (.11)
//! ```
//!
//! The host's main ruleset blocks everything that no anchor passes. Needs root on FreeBSD with VIMAGE, and the modules
//! pf, if_bridge and if_epair loaded; the machine's own pf, addresses and routes are not touched. Without the means the
//! tests are skipped loudly, and under `CI=true` fail. `tests/freebsd/pf.sh` runs this in a guest.
#![cfg(target_os = "freebsd")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use warren::config::spec::{Proto, Publish};
use warren::firewall::{Policy, ServicePolicy, pf, states};

const PATIENCE: Duration = Duration::from_secs(4);
const ANCHOR: &str = "warren/k3f9q2ab";

/// What the host's pf.conf says: our anchor points, and no default that would hide what the anchors lack.
const MAIN: &str = "\
nat-anchor \"warren/*\"
rdr-anchor \"warren/*\"
block all
pass on em0 inet6 proto ipv6-icmp
pass on { em0 gm4f9q2ab } proto { tcp udp } from (self)
anchor \"warren/*\"
";

/// Runs a program and gives what it printed; panics if it fails.
fn sh(program: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A vnet jail.
struct Machine {
    name: String,
    servers: Vec<Child>,
}

impl Machine {
    fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pftest{}-{}-{what}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        sh("jail", &["-c", &format!("name={name}"), "path=/", "vnet", "persist"], "");
        let made = Self { name, servers: Vec::new() };
        made.run("ifconfig lo0 127.0.0.1/8 up");
        // An address that is still being tested for duplicates is not used.
        made.run("sysctl net.inet6.ip6.dad_count=0");
        made
    }

    fn run(&self, command: &str) -> String {
        self.feed(command, "")
    }

    fn feed(&self, command: &str, input: &str) -> String {
        let mut arguments = vec![self.name.as_str()];
        arguments.extend(command.split(' '));
        sh("jexec", &arguments, input)
    }

    /// Starts this very program in the jail; see [`tool`].
    fn tool(&self, what: &str) -> Child {
        let mut command = Command::new("jexec");
        command.arg(&self.name).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "tool", "--ignored", "--nocapture"]).env("WARREN_TOOL", what);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    fn serve(&mut self, name: &str, port: u16) {
        let mut server = self.tool(&format!("serve {name} {port}"));
        assert_eq!(answer(&mut BufReader::new(server.stdout.as_mut().unwrap())), "serving");
        self.servers.push(server);
    }

    /// Who answers, and whom it takes us for; or how the connection failed.
    fn ask(&self, to: &str) -> String {
        self.talk(to).greeting.clone()
    }

    fn talk(&self, to: &str) -> Talk {
        let mut child = self.tool(&format!("talk {to}"));
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let greeting = answer(&mut stdout);
        Talk { child, stdin, stdout, greeting }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = Command::new("jail").args(["-r", &self.name]).status();
    }
}

struct Talk {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    greeting: String,
}

impl Talk {
    fn lives(&mut self) -> bool {
        writeln!(self.stdin, "?").unwrap();
        answer(&mut self.stdout) == "alive"
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line the tool meant for us; the test harness prints some of its own.
fn answer(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    while from.read_line(&mut line).unwrap() > 0 {
        if let Some((_, answer)) = line.trim_end().split_once("ANSWER ") {
            return answer.to_owned();
        }
        line.clear();
    }
    "nothing".into()
}

/// What runs inside the jails: a server that tells each client its name and the client's address and then echoes, or a
/// client that says what it was told, and for each line it is given whether the connection lives.
#[test]
#[ignore = "run inside jails by the other tests"]
fn tool() {
    let what = std::env::var("WARREN_TOOL").expect("not to be run by itself");
    let words: Vec<_> = what.split(' ').collect();
    match words[..] {
        ["serve", name, port] => {
            let listen = |at: &str| TcpListener::bind(format!("{at}:{port}")).unwrap();
            let listeners = [listen("0.0.0.0"), listen("[::]")];
            println!("\nANSWER serving");
            std::thread::scope(|scope| {
                for listener in &listeners {
                    scope.spawn(move || {
                        for stream in listener.incoming() {
                            let mut stream = stream.unwrap();
                            let greeting = format!("{name} {}\n", stream.peer_addr().unwrap().ip());
                            scope.spawn(move || {
                                let _ = stream.write_all(greeting.as_bytes());
                                let mut buffer = [0; 64];
                                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                                    let _ = stream.write_all(&buffer[..n]);
                                }
                            });
                        }
                    });
                }
            });
        }
        ["talk", to] => {
            let to: SocketAddr = to.parse().unwrap();
            let stream = match TcpStream::connect_timeout(&to, PATIENCE) {
                Ok(stream) => stream,
                Err(e) => return println!("\nANSWER {:?}", e.kind()),
            };
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            let _ = reader.read_line(&mut line);
            println!("\nANSWER {}", line.trim_end());
            for _ in std::io::stdin().lines() {
                line.clear();
                let alive = (&stream).write_all(b"hello\n").is_ok() && reader.read_line(&mut line).is_ok();
                println!("\nANSWER {}", if alive && line == "hello\n" { "alive" } else { "dead" });
            }
        }
        _ => panic!("{what}"),
    }
}

struct World {
    outside: Machine,
    host: Machine,
    web1: Machine,
    web2: Machine,
    db: Machine,
}

impl World {
    /// `None` if this machine does not let us.
    fn new(test: &str) -> Option<Self> {
        let has = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|o| o.status.success())
        };
        if !(nix::unistd::geteuid().is_root()
            && ["pf", "if_bridge", "if_epair"].iter().all(|m| has("kldstat", &["-q", "-m", m]))
            && has("sysctl", &["kern.features.vimage"]))
        {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "{test} needs root, VIMAGE, and pf, if_bridge and if_epair loaded"
            );
            eprintln!(
                "\n*** SKIPPED: {test} needs root, VIMAGE, and pf, if_bridge and if_epair loaded ***\n"
            );
            return None;
        }
        let [outside, host, web1, web2, db] = ["outside", "host", "web1", "web2", "db"].map(Machine::new);
        let mut world = Self { outside, host, web1, web2, db };
        let host = &world.host;
        for name in [
            "inet.ip.forwarding=1",
            "inet6.ip6.forwarding=1",
            "link.bridge.pfil_member=0",
            "link.bridge.pfil_bridge=0",
        ] {
            host.run(&format!("sysctl net.{name}"));
        }
        wire(host, "em0", &world.outside);
        addresses(host, "em0", ["192.0.2.1/24", "2001:db8::1/64"]);
        addresses(&world.outside, "eth0", ["192.0.2.7/24", "2001:db8::7/64"]);
        for (gateway, net, members) in [
            ("gk3f9q2ab", 9, vec![(&world.web1, "v1", 11), (&world.web2, "v2", 12)]),
            ("gm4f9q2ab", 8, vec![(&world.db, "v3", 11)]),
        ] {
            let bridge = host.run("ifconfig bridge create");
            host.run(&format!("ifconfig {} name {gateway}", bridge.trim()));
            for (machine, end, last) in members {
                wire(host, end, machine);
                host.run(&format!("ifconfig {end} up"));
                host.run(&format!("ifconfig {gateway} addm {end}"));
                addresses(
                    machine,
                    "eth0",
                    [&format!("10.{net}.0.{last}/24"), &format!("fd00:{net}::{last}/64")],
                );
                machine.run(&format!("route add default 10.{net}.0.1"));
                machine.run(&format!("route -6 add default fd00:{net}::1"));
            }
            addresses(host, gateway, [&format!("10.{net}.0.1/24"), &format!("fd00:{net}::1/64")]);
        }
        world.outside.run("route add 10.0.0.0/8 192.0.2.1");
        world.outside.run("route -6 add fd00::/16 2001:db8::1");
        host.feed("pfctl -q -f -", MAIN);
        host.run("pfctl -q -e");
        world.web1.serve("web1", 80);
        world.web2.serve("web2", 80);
        world.db.serve("db", 80);
        world.outside.serve("outside", 99);
        world.host.serve("host", 53);
        world.host.serve("host", 22);
        Some(world)
    }

    /// Loads the policy as a host would, and verifies it.
    fn load(&self, policy: &Policy) {
        load(&self.host, &policy.anchor, &pf::text(policy, &["em0".into()]).unwrap());
    }

    fn members(&self, action: &str, addresses: &[&str]) {
        self.host.run(&format!("pfctl -q -a {ANCHOR} -t svc_web -T {action} {}", addresses.join(" ")));
    }

    fn states(&self) -> states::Table {
        states::parse(&self.host.run("pfctl -vvss"))
    }
}

fn load(host: &Machine, anchor: &str, text: &str) {
    host.feed(&format!("pfctl -q {}", pf::load_arguments(anchor).join(" ")), text);
    let show = |what: &str| host.run(&format!("pfctl -q -a {anchor} -s {what}"));
    assert_eq!(pf::verify(&show("rules"), &show("nat"), &show("Tables"), text), Ok(()), "{}", show("rules"));
}

/// A cable between the host and another machine.
fn wire(host: &Machine, end: &str, machine: &Machine) {
    let a = sh("ifconfig", &["epair", "create"], "").trim().to_owned();
    let b = a.strip_suffix('a').unwrap().to_owned() + "b";
    for (jail, interface, name) in [(host, &a, end), (machine, &b, "eth0")] {
        sh("ifconfig", &[interface, "vnet", &jail.name], "");
        jail.run(&format!("ifconfig {interface} name {name}"));
    }
}

fn addresses(machine: &Machine, interface: &str, [v4, v6]: [&str; 2]) {
    machine.run(&format!("ifconfig {interface} inet {v4} up"));
    machine.run(&format!("ifconfig {interface} inet6 -ifdisabled"));
    machine.run(&format!("ifconfig {interface} inet6 {v6} alias"));
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|a| a.parse().unwrap()).collect()
}

fn front() -> Policy {
    Policy {
        anchor: ANCHOR.into(),
        network: "front".into(),
        gateway: "gk3f9q2ab".into(),
        prefixes: vec!["10.9.0.0/24".parse().unwrap(), "fd00:9::/64".parse().unwrap()],
        resolvers: ips(&["10.9.0.1"]),
        nat: true,
        isolated: false,
        forbidden: vec![],
        services: vec![ServicePolicy {
            name: "web".into(),
            table: "svc_web".into(),
            publish: vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }],
        }],
    }
}

fn back() -> Policy {
    Policy {
        anchor: "warren/m4f9q2ab".into(),
        network: "back".into(),
        gateway: "gm4f9q2ab".into(),
        prefixes: vec!["10.8.0.0/24".parse().unwrap(), "fd00:8::/64".parse().unwrap()],
        resolvers: ips(&["10.8.0.1"]),
        services: vec![],
        ..front()
    }
}

#[test]
fn every_golden_text_loads_reads_back_and_leaves_nothing() {
    let Some(world) = World::new("golden texts") else { return };
    let host = &world.host;
    assert!(
        pf::anchor_points_missing(&host.run("pfctl -q -s nat"), &host.run("pfctl -q -s rules")).is_empty()
    );
    for text in [
        include_str!("../src/firewall/golden/nat.pf"),
        include_str!("../src/firewall/golden/published.pf"),
        include_str!("../src/firewall/golden/isolated.pf"),
        include_str!("../src/firewall/golden/v6.pf"),
        include_str!("../src/firewall/golden/all.pf"),
    ] {
        load(host, ANCHOR, text);
    }
    for arguments in pf::remove_arguments(ANCHOR) {
        host.run(&format!("pfctl -q {}", arguments.join(" ")));
    }
    for what in ["rules", "nat", "Tables"] {
        let left = Command::new("jexec")
            .args([&host.name, "pfctl", "-q", "-a", ANCHOR, "-s", what])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "{what}");
    }
    // The empty anchors go when pf's purge thread has freed the rules.
    let gone = || host.run("pfctl -q -v -s Anchors").lines().all(|line| line.trim() == "warren");
    let mut polls = 0..90;
    while !gone() && polls.next().is_some() {
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(gone(), "{}", host.run("pfctl -q -v -s Anchors"));
    host.feed("pfctl -q -f -", "pass all\n");
    let missing = pf::anchor_points_missing(&host.run("pfctl -q -s nat"), &host.run("pfctl -q -s rules"));
    assert_eq!(missing, pf::ANCHOR_POINTS);
}

#[test]
fn a_published_port_leads_to_each_member_in_turn() {
    let Some(world) = World::new("published ports") else { return };
    world.load(&front());
    world.load(&back());
    let ports = ["192.0.2.1:8080", "[2001:db8::1]:8080"];
    for port in ports {
        for from in [&world.outside, &world.web1, &world.db] {
            assert_eq!(from.ask(port), "ConnectionRefused", "{port} without a member");
        }
    }
    world.members("add", &["10.9.0.11", "10.9.0.12", "fd00:9::11", "fd00:9::12"]);
    world.load(&front());
    let peers = [["192.0.2.7", "10.9.0.1", "10.8.0.11"], ["2001:db8::7", "fd00:9::1", "fd00:8::11"]];
    for (port, peers) in ports.iter().zip(peers) {
        for (from, peer) in [&world.outside, &world.web1, &world.db].into_iter().zip(peers) {
            let mut answers: Vec<_> = (0..4).map(|_| from.ask(port)).collect();
            answers.sort();
            let each = ["web1", "web1", "web2", "web2"].map(|name| format!("{name} {peer}"));
            assert_eq!(answers, each, "{port}");
        }
    }
    // Nobody was told of a shorter way to 192.0.2.1, which would lead past redirection.
    assert!(!world.web1.run("netstat -rn").contains("192.0.2.1"));
    world.members("delete", &["10.9.0.11"]);
    for _ in 0..3 {
        assert_eq!(world.outside.ask(ports[0]), "web2 192.0.2.7");
    }
}

#[test]
fn behind_nat_instances_reach_out_and_nobody_reaches_in() {
    let Some(world) = World::new("NAT") else { return };
    world.load(&front());
    world.load(&back());
    assert_eq!(world.web1.ask("192.0.2.7:99"), "outside 192.0.2.1");
    assert_eq!(world.web1.ask("[2001:db8::7]:99"), "outside 2001:db8::1");
    assert_eq!(world.outside.ask("10.9.0.11:80"), "TimedOut");
    assert_eq!(world.outside.ask("[fd00:9::11]:80"), "TimedOut");
    assert_eq!(world.web1.ask("10.8.0.11:80"), "db 10.9.0.11", "not translated to a network of Warren");
    assert_eq!(world.web1.ask("10.9.0.1:22"), "host 10.9.0.11");
    assert_eq!(world.host.ask("10.9.0.11:80"), "web1 10.9.0.1");
}

#[test]
fn isolated_networks_reach_nothing_of_each_other_but_their_resolver() {
    let Some(world) = World::new("isolation") else { return };
    let (front, back) = (front(), back());
    world.load(&Policy { isolated: true, forbidden: back.prefixes.clone(), ..front.clone() });
    world.load(&Policy { forbidden: front.prefixes.clone(), ..back.clone() });
    world.members("add", &["10.9.0.11"]);
    for (from, to) in [
        (&world.db, "10.9.0.11:80"),
        (&world.db, "[fd00:9::11]:80"),
        (&world.db, "192.0.2.1:8080"),
        (&world.web1, "10.8.0.11:80"),
        (&world.web1, "10.8.0.1:22"),
    ] {
        assert_eq!(from.ask(to), "TimedOut", "{to}");
    }
    assert_eq!(world.web1.ask("10.9.0.1:53"), "host 10.9.0.11");
    assert_eq!(world.web1.ask("192.0.2.7:99"), "outside 192.0.2.1");
    assert_eq!(world.outside.ask("192.0.2.1:8080"), "web1 192.0.2.7");
    world.load(&Policy {
        forbidden: vec!["10.8.0.0/24".parse().unwrap()],
        resolvers: ips(&["10.8.0.1"]),
        ..front
    });
    assert_eq!(world.web1.ask("10.8.0.1:53"), "host 10.9.0.11");
}

#[test]
fn killing_the_states_of_one_instance_spares_its_neighbour() {
    let Some(world) = World::new("killing states") else { return };
    world.load(&front());
    world.members("add", &["10.9.0.11", "10.9.0.12"]);
    let mut redirected = [0; 2].map(|_| world.outside.talk("192.0.2.1:8080"));
    redirected.sort_by(|a, b| a.greeting.cmp(&b.greeting));
    let [mut to1, mut to2] = redirected;
    let mut from1 = world.web1.talk("192.0.2.7:99");
    let mut from2 = world.web2.talk("192.0.2.7:99");
    let [web1, web2] = ["10.9.0.11", "10.9.0.12"].map(|a| ips(&[a]));
    let before = world.states();
    assert_eq!(before.strange, Vec::<String>::new());
    assert_eq!((before.established(&web1), before.established(&web2)), (1, 1));
    // Two legs each of the redirected and of the translated connection.
    assert_eq!((before.ids_of(&web1).len(), before.ids_of(&web2).len()), (4, 4), "{before:#?}");

    world.members("delete", &["10.9.0.11"]);
    assert!(to1.lives(), "leaving a service leaves connections alone");
    for id in before.ids_of(&web1) {
        world.host.run(&format!("pfctl -q {}", states::kill_arguments(id).join(" ")));
    }
    let after = world.states();
    assert_eq!((after.ids_of(&web1).len(), after.ids_of(&web2).len()), (0, 4));
    assert!(!to1.lives());
    assert!(!from1.lives());
    assert!(to2.lives());
    assert!(from2.lives());
}
