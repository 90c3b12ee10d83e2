//! The packet filter, and the ways in from outside: from the lab's outside and from the machine's loopback.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use warren::config::spec::{Proto, Publish};
use warren::firewall::{Policy, ServicePolicy};
use warren::host::lab::Lab;
use warren::host::{Host, NoWitness, Op, Question, Reply};

use crate::lab_support::harness::{Outside, Talk, eventually};
use crate::lab_support::instance::{Instance, Network, assert_empty, fails, perform};

fn policy(network: &Network, port: u16) -> Policy {
    Policy {
        anchor: format!("warren/{}", network.id),
        network: "front".into(),
        gateway: network.id.gateway(),
        prefixes: vec!["10.77.0.0/24".parse().unwrap(), "fd77::/64".parse().unwrap()],
        resolvers: vec!["10.77.0.1".parse().unwrap()],
        nat: true,
        isolated: false,
        forbidden: Vec::new(),
        services: vec![ServicePolicy {
            name: "web".into(),
            table: "web".into(),
            publish: vec![Publish { address: None, port, target: 8000, proto: Proto::Tcp }],
        }],
    }
}

/// What the machine gets from a port of its loopback.
fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"GET /name HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub fn inside(lab: &Lab, talk: &mut Talk) {
    let port = talk.say("port?").parse().unwrap();
    let network = Network::new(lab, 0xcccc_dddd);
    let web = Instance::new(lab, Some(&network), 51);
    web.run(lab, "mkdir -p /srv/www && hostname > /srv/www/name").unwrap();
    web.spawn(lab, "exec busybox httpd -f -p 8000 -h /srv/www");
    let address = Instance::address(51);
    let http = |path: &str| Op::Probe {
        question: Question::Http { port: 8000, path: path.into() },
        address,
        timeout: Duration::from_secs(20),
    };
    eventually("the server answers", || lab.perform(&http("/name"), &NoWitness).is_ok());
    assert!(fails(lab, &http("/nothing")).message.contains("404"));
    let tcp =
        |port| Op::Probe { question: Question::Tcp { port }, address, timeout: Duration::from_secs(20) };
    perform(lab, &tcp(8000));
    fails(lab, &tcp(8001));

    let load = Op::AnchorLoad(policy(&network, port));
    // The outside has no route to the network: it answers only what comes with the host's address.
    assert!(web.run(lab, "busybox ping -c 1 -W 1 192.0.2.2").is_err());
    perform(lab, &load);
    web.run(lab, "busybox ping -c 1 -W 20 192.0.2.2").unwrap();
    web.run(lab, "busybox ping6 -c 1 -W 20 2001:db8:ffff::2").unwrap();
    let anchor = format!("warren/{}", network.id);
    perform(
        lab,
        &Op::TableAdd { anchor: anchor.clone(), tables: vec!["web".into()], addresses: vec![address] },
    );
    assert_eq!(lab.observe(&[]).unwrap().anchors[&anchor]["web"].iter().collect::<Vec<_>>(), [&address]);

    // DNS, as the daemon would: a socket left with the keeper, and answers from it.
    let listen = Op::Listen { name: "dns".into(), address: ([10, 77, 0, 1], 53).into(), proto: Proto::Udp };
    assert_eq!(perform(lab, &listen), Reply::Done);
    let dns = UdpSocket::from(lab.socket("dns").unwrap().unwrap());
    let server = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, from) = dns.recv_from(&mut buffer).unwrap();
        dns.send_to(&[b"answer to ", &buffer[..length]].concat(), from).unwrap();
    });
    assert_eq!(lab.observe(&[]).unwrap().sockets.len(), 1);

    assert_eq!(talk.say("look"), format!("web-{}", web.id));
    server.join().unwrap();

    // A held connection is drained, then killed.
    perform(
        lab,
        &Op::Drain { anchor: anchor.clone(), addresses: vec![address], wait: Duration::from_secs(10) },
    );
    perform(lab, &Op::KillStates { anchor: anchor.clone(), addresses: vec![address] });
    perform(
        lab,
        &Op::TableRemove { anchor: anchor.clone(), tables: vec!["web".into()], addresses: vec![address] },
    );
    perform(lab, &Op::Unlisten { name: "dns".into() });
    perform(lab, &load.undo().unwrap());
    perform(lab, &load.undo().unwrap());
    assert_eq!(talk.say("gone?"), "gone");
    web.remove(lab);
    network.remove(lab);
    assert_empty(lab);
}

/// Tells the inside a port that is free at the moment.
fn give_port(machine: &mut Outside) -> u16 {
    assert_eq!(machine.hear(), "port?");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    machine.answer(&port.to_string());
    port
}

pub fn outside(machine: &mut Outside) {
    let port = give_port(machine);
    assert_eq!(machine.hear(), "look");
    let text = get(port).unwrap();
    let name = text.lines().last().unwrap().to_owned();
    // The same from the lab's outside, which comes by wan0 and not by a relay.
    let me = std::env::current_exe().unwrap();
    let url = format!("http://192.0.2.1:{port}/name");
    let output = std::process::Command::new(me)
        .args(["lab", "--state-dir", machine.state_dir.to_str().unwrap(), "exec", "--outside", "--"])
        .args(["busybox", "wget", "-q", "-O", "-", &url])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), name, "{error}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.send_to(b"x", machine.dns).unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"answer to x");
    machine.answer(&name);
    assert_eq!(machine.hear(), "gone?");
    assert!(get(port).is_err(), "the relay outlived its anchor");
    machine.answer("gone");
}

pub fn taken_inside(lab: &Lab, talk: &mut Talk) {
    let network = Network::new(lab, 0xcccc_dddd);
    let port = talk.say("port?").parse().unwrap();
    let failure = fails(lab, &Op::AnchorLoad(policy(&network, port)));
    assert!(failure.message.contains(&format!("tcp port {port}")), "{failure}");
    assert_eq!(failure.errno, Some(98));
    perform(lab, &Op::AnchorRemove { anchor: format!("warren/{}", network.id) });
    network.remove(lab);
    let nobody: IpAddr = "10.77.0.9".parse().unwrap();
    perform(
        lab,
        &Op::Drain { anchor: String::new(), addresses: vec![nobody], wait: Duration::from_secs(60) },
    );
    assert_empty(lab);
}

pub fn taken_outside(machine: &mut Outside) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(machine.hear(), "port?");
    machine.answer(&listener.local_addr().unwrap().port().to_string());
    machine.child.wait().unwrap();
}

/// In its first life it publishes a server and is killed; in its second it finds all as it was and takes it down.
pub fn daemon_inside(lab: &Lab, talk: &mut Talk) {
    let port = talk.say("port?").parse().unwrap();
    let network = Network { id: warren::ids::Id::from_random(0xabcd_1111) };
    let (id, ops) = Instance::ops(lab, Some(&network), 71);
    let load = Op::AnchorLoad(policy(&network, port));
    if lab.observe(&[]).unwrap().jails.is_empty() {
        let network = Network::new(lab, 0xabcd_1111);
        let web = Instance::new(lab, Some(&network), 71);
        web.run(lab, "mkdir -p /srv/www && hostname > /srv/www/name").unwrap();
        web.spawn(lab, "exec busybox httpd -f -p 8000 -h /srv/www");
        perform(lab, &load);
        let anchor = format!("warren/{}", network.id);
        perform(
            lab,
            &Op::TableAdd { anchor, tables: vec!["web".into()], addresses: vec![Instance::address(71)] },
        );
        let question = Question::Tcp { port: 8000 };
        let ask = Op::Probe { question, address: Instance::address(71), timeout: Duration::from_secs(1) };
        eventually("the server answers", || lab.perform(&ask, &NoWitness).is_ok());
        talk.say(&format!("web-{id}"));
        std::process::exit(1); // It was to be killed.
    }
    let seen = lab.observe(&[]).unwrap();
    assert_eq!(seen.interfaces[&id.node()], Some(id.jail()));
    assert_eq!(seen.jobs.len(), 1);
    assert!(seen.jails[&id.jail()].processes >= 1);
    talk.say("still there");
    perform(lab, &load.undo().unwrap());
    Instance { id, ops }.remove(lab);
    network.remove(lab);
    assert_empty(lab);
}

pub fn daemon_outside(machine: &mut Outside) {
    let port = give_port(machine);
    let name = machine.hear();
    let mut open = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // SIGKILL to the process that was started, which stands for the one inside.
    machine.child.kill().unwrap();
    machine.child.wait().unwrap();
    let text = get(port).unwrap();
    assert!(text.ends_with(&format!("{name}\n")), "{text:?}");
    open.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    open.write_all(b"GET /name HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert!(text.ends_with(&format!("{name}\n")));
    machine.restart();
    give_port(machine);
    assert_eq!(machine.hear(), "still there");
    machine.answer("");
}
