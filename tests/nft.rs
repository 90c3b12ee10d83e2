//! The lab's packet filter against the kernel: real sockets through real network namespaces.
//!
//! ```text
//!   outside ── up0 host ┬ gk3f9q2ab (10.9.0.1) ── web1 (.11), web2 (.12)
//!  192.0.2.7  192.0.2.1 └ gm4f9q2ab (10.8.0.1) ── db   (.11)
//! ```
//!
//! Needs root, `ip`, `unshare` and `nsenter`. Every namespace is the test's own; the machine's is not touched. Without
//! the means the tests are skipped loudly, and under `CI=true` fail.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use warren::config::spec::{Proto, Publish};
use warren::firewall::{Policy, ServicePolicy, conntrack, nft, outside};

/// For what must come, and for what must not.
const PATIENCE: Duration = Duration::from_secs(20);
const IN_VAIN: Duration = Duration::from_secs(2);
const WEB1: &str = "10.9.0.11";
const WEB2: &str = "10.9.0.12";

/// A machine of its own: a network namespace that lives as long as this value.
struct Machine(Child);

impl Machine {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "echo; exec sleep 600"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The line comes once the namespace is there.
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let made = Self(child);
        // An address that is still being tested for duplicates asks for no neighbour, for a second or two.
        made.run(|| {
            for of in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{of}/accept_dad"), "0").unwrap();
            }
        });
        made.ip("link set lo up");
        made
    }

    /// Runs `ip` in the namespace.
    fn ip(&self, arguments: &str) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n", "ip"]).args(arguments.split(' '));
        assert!(command.status().unwrap().success(), "ip {arguments}");
    }

    /// Runs something on a thread that is in the namespace.
    fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        std::thread::scope(|scope| {
            let inside = move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                what()
            };
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A server that tells each client its own name and the client's address, then echoes.
    fn serve(&self, name: &'static str, port: u16) {
        let listener = self.run(move || TcpListener::bind(("::", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                std::thread::spawn(move || {
                    let _ = writeln!(stream, "{name} {peer}");
                    let mut buffer = [0; 64];
                    while let Ok(n @ 1..) = stream.read(&mut buffer) {
                        let _ = stream.write_all(&buffer[..n]);
                    }
                });
            }
        });
    }

    fn connect(&self, to: &str) -> Result<Talk, ErrorKind> {
        self.connect_within(PATIENCE, to)
    }

    fn connect_within(&self, time: Duration, to: &str) -> Result<Talk, ErrorKind> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            let stream = TcpStream::connect_timeout(&to, time).map_err(|e| e.kind())?;
            stream.set_read_timeout(Some(time)).unwrap();
            let mut talk = Talk { stream, greeting: String::new() };
            talk.greeting = talk.line().ok_or(ErrorKind::UnexpectedEof)?;
            Ok(talk)
        })
    }

    /// Who answers, and whom it takes us for.
    fn ask(&self, to: &str) -> Result<String, ErrorKind> {
        self.connect(to).map(|talk| talk.greeting)
    }

    /// The same where what is asked is to be dropped.
    fn ask_in_vain(&self, to: &str) -> Result<String, ErrorKind> {
        self.connect_within(IN_VAIN, to).map(|talk| talk.greeting)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Talk {
    stream: TcpStream,
    greeting: String,
}

impl Talk {
    fn line(&mut self) -> Option<String> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        loop {
            self.stream.read_exact(&mut byte).ok()?;
            match byte[0] {
                b'\n' => return String::from_utf8(line).ok(),
                other => line.push(other),
            }
        }
    }

    fn lives(&mut self) -> bool {
        self.stream.write_all(b"hello\n").is_ok() && self.line().as_deref() == Some("hello")
    }

    fn is_dead(&mut self) -> bool {
        self.stream.set_read_timeout(Some(IN_VAIN)).unwrap();
        !self.lives()
    }
}

/// Whether this machine lets us make namespaces.
fn able(test: &str) -> bool {
    let runs = |program: &str, flag: &str| {
        Command::new(program).arg(flag).output().is_ok_and(|o| o.status.success())
    };
    let tools = runs("unshare", "--version") && runs("nsenter", "--version") && runs("ip", "-V");
    if nix::unistd::geteuid().is_root() && tools {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} needs root, ip, unshare and nsenter");
    eprintln!("\n*** SKIPPED: {test} needs root, ip, unshare and nsenter ***\n");
    false
}

struct World {
    outside: Machine,
    host: Machine,
    web1: Machine,
    web2: Machine,
    db: Machine,
}

impl World {
    fn new(test: &str) -> Option<Self> {
        if !able(test) {
            return None;
        }
        let [outside, host, web1, web2, db] = std::array::from_fn(|_| Machine::new());
        host.run(|| {
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{key}"), "1").unwrap();
            }
            // The bridges stand in for Warren's own, whose frames meet no packet filter. These files are there only where
            // br_netfilter is loaded.
            for family in ["ip", "ip6"] {
                let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables"), "0");
            }
        });
        let address = |machine: &Machine, interface: &str, addresses: [&str; 2]| {
            for address in addresses {
                machine.ip(&format!("address add {address} dev {interface}"));
            }
            machine.ip(&format!("link set {interface} up"));
        };
        let wire = |machine: &Machine, end: &str, addresses: [&str; 2]| {
            host.ip(&format!("link add {end} type veth peer name eth0 netns {}", machine.0.id()));
            host.ip(&format!("link set {end} up"));
            address(machine, "eth0", addresses);
        };
        wire(&outside, "up0", ["192.0.2.7/24", "2001:db8::7/64"]);
        address(&host, "up0", ["192.0.2.1/24", "2001:db8::1/64"]);
        wire(&web1, "v1", ["10.9.0.11/24", "fd00:9::11/64"]);
        wire(&web2, "v2", ["10.9.0.12/24", "fd00:9::12/64"]);
        wire(&db, "v3", ["10.8.0.11/24", "fd00:8::11/64"]);
        host.ip("link add gk3f9q2ab type bridge");
        host.ip("link add gm4f9q2ab type bridge");
        address(&host, "gk3f9q2ab", ["10.9.0.1/24", "fd00:9::1/64"]);
        address(&host, "gm4f9q2ab", ["10.8.0.1/24", "fd00:8::1/64"]);
        for (end, gateway) in [("v1", "gk3f9q2ab"), ("v2", "gk3f9q2ab"), ("v3", "gm4f9q2ab")] {
            host.ip(&format!("link set {end} master {gateway}"));
        }
        for (machine, net) in [(&web1, 9), (&web2, 9), (&db, 8)] {
            machine.ip(&format!("route add default via 10.{net}.0.1"));
            machine.ip(&format!("route add default via fd00:{net}::1"));
        }
        for route in ["10.9.0.0/24 via 192.0.2.1", "10.8.0.0/24 via 192.0.2.1", "fd00:9::/64 via 2001:db8::1"]
        {
            outside.ip(&format!("route add {route}"));
        }
        web1.serve("web1", 80);
        web2.serve("web2", 80);
        db.serve("db", 80);
        outside.serve("outside", 99);
        host.serve("host", 53);
        host.serve("host", 22);
        Some(Self { outside, host, web1, web2, db })
    }

    fn apply(&self, policy: &Policy) {
        self.host.run(|| nft::apply(policy, &outside().unwrap()).unwrap());
    }

    fn add(&self, addresses: &[&str]) {
        self.host.run(|| nft::table_add(ANCHOR, &tables(), &ips(addresses)).unwrap());
    }

    fn remove(&self, addresses: &[&str]) {
        self.host.run(|| nft::table_remove(ANCHOR, &tables(), &ips(addresses)).unwrap());
    }

    fn members(&self) -> BTreeSet<IpAddr> {
        self.host.run(|| nft::inventory().unwrap().0[ANCHOR]["svc_web"].clone())
    }
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|a| a.parse().unwrap()).collect()
}

const ANCHOR: &str = "warren/k3f9q2ab";

fn tables() -> Vec<String> {
    vec!["svc_web".into()]
}

fn front() -> Policy {
    let publish = |port, target, proto| Publish { address: None, port, target, proto };
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
            publish: vec![publish(8080, 80, Proto::Tcp), publish(5353, 5300, Proto::Udp)],
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
fn a_published_port_leads_to_each_member_in_turn_from_everywhere() {
    let Some(world) = World::new("published ports") else { return };
    world.apply(&front());
    let ports = ["192.0.2.1:8080", "[2001:db8::1]:8080"];
    let clients = [&world.outside, &world.host, &world.web1, &world.db];
    for port in ports {
        for from in clients {
            assert_eq!(from.ask(port), Err(ErrorKind::ConnectionRefused), "{port} without a member");
        }
    }
    world.add(&[WEB1, WEB2, "fd00:9::11", "fd00:9::12"]);
    // Whom the server sees. An instance of the same network comes by way of the gateway, or the answer would not.
    let peers = [
        ["192.0.2.7", "192.0.2.1", "10.9.0.1", "10.8.0.11"],
        ["2001:db8::7", "2001:db8::1", "fd00:9::1", "fd00:8::11"],
    ];
    for (port, peers) in ports.iter().zip(peers) {
        for (from, peer) in clients.into_iter().zip(peers) {
            let mut answers: Vec<_> =
                (0..4).map(|_| from.ask(port).unwrap_or_else(|e| panic!("{peer} to {port}: {e}"))).collect();
            assert!(answers[0] != answers[1] && answers[0] == answers[2], "{answers:?}");
            answers.sort();
            let each = ["web1", "web1", "web2", "web2"].map(|name| format!("{name} {peer}"));
            assert_eq!(answers, each);
        }
    }
    world.remove(&[WEB1]);
    for _ in 0..3 {
        assert_eq!(world.outside.ask(ports[0]), Ok("web2 192.0.2.7".into()));
    }
}

#[test]
fn an_instance_is_not_told_of_a_shorter_way_to_a_published_port() {
    let Some(world) = World::new("redirects") else { return };
    world.apply(&front());
    world.add(&[WEB2]);
    // The host would say: 192.0.2.1 is to be had at 10.9.0.12 directly, which is where redirection led.
    for _ in 0..3 {
        let mut talk = world.web1.connect("192.0.2.1:8080").unwrap();
        for _ in 0..30 {
            assert!(talk.lives());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let pid = world.web1.0.id().to_string();
    let route =
        Command::new("nsenter").args(["-t", &pid, "-n", "ip", "route", "get", "192.0.2.1"]).output().unwrap();
    let route = String::from_utf8_lossy(&route.stdout).into_owned();
    assert!(route.contains("via 10.9.0.1 ") && !route.contains("redirected"), "{route}");
}

#[test]
fn a_published_udp_port_is_redirected_or_refused() {
    let Some(world) = World::new("published UDP ports") else { return };
    world.apply(&front());
    let ask = || {
        world.outside.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect("192.0.2.1:5353").unwrap();
            socket.send(b"who").unwrap();
            let mut buffer = [0; 16];
            socket.recv(&mut buffer).map(|n| buffer[..n].to_vec()).map_err(|e| e.kind())
        })
    };
    assert_eq!(ask(), Err(ErrorKind::ConnectionRefused));
    world.add(&[WEB1]);
    let socket = world.web1.run(|| UdpSocket::bind("10.9.0.11:5300").unwrap());
    std::thread::spawn(move || {
        let (_, peer) = socket.recv_from(&mut [0; 16]).unwrap();
        socket.send_to(b"web1", peer).unwrap();
    });
    assert_eq!(ask(), Ok(b"web1".to_vec()));
}

#[test]
fn behind_nat_instances_reach_out_and_nobody_reaches_in() {
    let Some(world) = World::new("NAT") else { return };
    assert_eq!(world.outside.ask("10.9.0.11:80"), Ok("web1 192.0.2.7".into()), "the topology routes");
    world.apply(&front());
    world.apply(&back());
    assert_eq!(world.web1.ask("192.0.2.7:99"), Ok("outside 192.0.2.1".into()));
    assert_eq!(world.web1.ask("[2001:db8::7]:99"), Ok("outside 2001:db8::1".into()));
    assert_eq!(world.outside.ask_in_vain("10.9.0.11:80"), Err(ErrorKind::TimedOut));
    assert_eq!(world.outside.ask_in_vain("[fd00:9::11]:80"), Err(ErrorKind::TimedOut));
    assert_eq!(
        world.web1.ask("10.8.0.11:80"),
        Ok("db 10.9.0.11".into()),
        "not translated to a network of Warren"
    );
    assert_eq!(world.web1.ask("10.9.0.1:22"), Ok("host 10.9.0.11".into()));
    assert_eq!(world.host.ask("10.9.0.11:80"), Ok("web1 10.9.0.1".into()));
    world.apply(&Policy { nat: false, ..front() });
    assert_eq!(world.outside.ask("10.9.0.11:80"), Ok("web1 192.0.2.7".into()));
    assert_eq!(world.web1.ask("192.0.2.7:99"), Ok("outside 10.9.0.11".into()));
}

#[test]
fn isolated_networks_reach_nothing_of_each_other_but_their_resolver() {
    let Some(world) = World::new("isolation") else { return };
    let (front, back) = (front(), back());
    world.apply(&Policy { isolated: true, forbidden: back.prefixes.clone(), ..front.clone() });
    world.add(&[WEB1]);
    let dropped = [
        (&world.db, "10.9.0.11:80"),
        (&world.db, "[fd00:9::11]:80"),
        (&world.db, "192.0.2.1:8080"),
        (&world.web1, "10.8.0.11:80"),
        (&world.web1, "10.8.0.1:22"),
    ];
    for (from, to) in dropped {
        assert_eq!(from.ask_in_vain(to), Err(ErrorKind::TimedOut), "{to}");
    }
    assert_eq!(world.web1.ask("10.9.0.1:53"), Ok("host 10.9.0.11".into()));
    assert_eq!(world.web1.ask("192.0.2.7:99"), Ok("outside 192.0.2.1".into()));
    assert_eq!(world.outside.ask("192.0.2.1:8080"), Ok("web1 192.0.2.7".into()));
    // A resolver stays reachable even where it lies in what is forbidden.
    let forbidden = vec!["10.8.0.0/24".parse().unwrap()];
    world.apply(&Policy { forbidden, resolvers: ips(&["10.8.0.1"]), ..front.clone() });
    assert_eq!(world.web1.ask("10.8.0.1:53"), Ok("host 10.9.0.11".into()));
    world.apply(&front);
    assert_eq!(world.db.ask("10.9.0.11:80"), Ok("web1 10.8.0.11".into()));
}

#[test]
fn a_reload_keeps_members_and_a_removal_leaves_nothing() {
    let Some(world) = World::new("reload and removal") else { return };
    let missing = world.host.run(|| nft::table_add(ANCHOR, &tables(), &ips(&[WEB1]))).unwrap_err();
    assert!(missing.message.contains("not loaded"), "{missing}");
    world.remove(&[WEB1]);
    world.apply(&front());
    world.add(&[WEB1, "fd00:9::11"]);
    world.add(&[WEB2, WEB1]);
    let all: BTreeSet<_> = ips(&[WEB1, WEB2, "fd00:9::11"]).into_iter().collect();
    assert_eq!(world.members(), all);

    // Other ports and another service; then without the first service.
    let mut changed = front();
    changed.services[0].publish[0] =
        Publish { port: 8081, target: 81, ..changed.services[0].publish[0].clone() };
    changed.services.push(ServicePolicy { name: "api".into(), table: "svc_api".into(), publish: vec![] });
    world.apply(&changed);
    assert_eq!(world.members(), all);
    assert_eq!(world.outside.ask("192.0.2.1:8080"), Err(ErrorKind::ConnectionRefused));
    world.web1.serve("web1", 81);
    world.web2.serve("web2", 81);
    let two: BTreeSet<_> = (0..2).map(|_| world.outside.ask("192.0.2.1:8081").unwrap()).collect();
    assert_eq!(two.len(), 2);
    changed.services.remove(0);
    world.apply(&changed);
    let seen = world.host.run(|| nft::inventory().unwrap().0);
    assert_eq!(seen[ANCHOR].keys().collect::<Vec<_>>(), ["svc_api"]);
    let unknown = world.host.run(|| nft::table_add(ANCHOR, &tables(), &ips(&[WEB1]))).unwrap_err();
    assert!(unknown.message.contains("no table svc_web"), "{unknown}");

    for _ in 0..2 {
        world.host.run(|| nft::remove(ANCHOR).unwrap());
    }
    assert!(world.host.run(|| nft::inventory().unwrap().0).is_empty());
    // The program as a second witness, where there is one.
    match world.host.run(|| Command::new("nft").args(["list", "ruleset"]).output()) {
        Ok(output) if output.status.success() => assert_eq!(String::from_utf8_lossy(&output.stdout), ""),
        _ => eprintln!("*** nft is not installed: only Warren's own listing was compared ***"),
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let Some(world) = World::new("foreign rules") else { return };
    let list = || world.host.run(|| Command::new("nft").args(["list", "ruleset"]).output());
    let add = |words: &'static str| world.host.run(|| Command::new("nft").args(words.split(' ')).status());
    if !add("add table inet warren-of-another").is_ok_and(|s| s.success()) {
        eprintln!("\n*** SKIPPED: what_is_not_ours_is_left_alone needs the nft program ***\n");
        return;
    }
    assert!(add("add chain inet warren-of-another c").unwrap().success());
    let before = list().unwrap().stdout;
    world.apply(&front());
    world.add(&[WEB1]);
    assert_eq!(world.host.run(|| nft::inventory().unwrap().0).len(), 1);
    world.host.run(|| nft::remove(ANCHOR).unwrap());
    assert_eq!(list().unwrap().stdout, before);
}

#[test]
fn changes_at_the_same_time_are_all_made() {
    let Some(world) = World::new("concurrent changes") else { return };
    world.apply(&front());
    std::thread::scope(|scope| {
        for last in 20..26 {
            let world = &world;
            scope.spawn(move || world.add(&[&format!("10.9.0.{last}")]));
        }
    });
    assert_eq!(world.members().len(), 6);
}

#[test]
fn killing_the_connections_of_one_instance_spares_its_neighbour() {
    let Some(world) = World::new("killing connections") else { return };
    world.apply(&front());
    world.add(&[WEB1, WEB2]);
    let mut redirected = [0; 2].map(|_| world.outside.connect("192.0.2.1:8080").unwrap());
    redirected.sort_by(|a, b| a.greeting.cmp(&b.greeting));
    let [mut to1, mut to2] = redirected;
    let mut from1 = world.web1.connect("192.0.2.7:99").unwrap();
    let mut from2 = world.web2.connect("192.0.2.7:99").unwrap();
    let counts = |address| world.host.run(move || conntrack::established(&ips(&[address])).unwrap());
    assert_eq!(
        (counts(WEB1), counts(WEB2), counts("192.0.2.7")),
        (1, 1, 2),
        "only connections to an address count"
    );

    world.remove(&[WEB1]);
    assert!(to1.lives(), "leaving a service leaves connections alone");
    assert_eq!(world.host.run(|| conntrack::kill(&ips(&[WEB1])).unwrap()), 2);
    assert_eq!((counts(WEB1), counts(WEB2)), (0, 1));
    assert!(to1.is_dead());
    assert!(to2.lives());
    assert!(from2.lives());
    assert!(from1.is_dead(), "nor does the kernel take it up again in its middle");
}

/// Run again by [`an_ordinary_user_can_load_rules_in_a_user_namespace`], in the namespaces.
#[test]
#[ignore = "run inside namespaces by another test"]
fn inside_a_user_namespace() {
    assert!(std::env::var_os("WARREN_IN_USER_NAMESPACE").is_some(), "not to be run by itself");
    nft::apply(&front(), &["lo".into()]).unwrap();
    nft::table_add(ANCHOR, &tables(), &ips(&[WEB1])).unwrap();
    assert_eq!(nft::inventory().unwrap().0[ANCHOR]["svc_web"].len(), 1);
    assert_eq!(conntrack::kill(&ips(&[WEB1])).unwrap(), 0);
    nft::remove(ANCHOR).unwrap();
}

/// The unprivileged lab: a network namespace owned by a user namespace.
#[test]
fn an_ordinary_user_can_load_rules_in_a_user_namespace() {
    let unshare = ["--user", "--map-root-user", "--net"];
    let works = Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|s| s.success());
    if !works {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "user namespaces are not allowed here");
        eprintln!("\n*** SKIPPED: user namespaces are not allowed here ***\n");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(unshare).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "inside_a_user_namespace", "--ignored"]).env("WARREN_IN_USER_NAMESPACE", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
