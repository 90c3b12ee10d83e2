//! The packet filter, and the ways in from outside: from the lab's outside and from the machine's loopback.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use warren::config::spec::{Probe, Proto, Publish};
use warren::firewall::{Policy, ServicePolicy};
use warren::host::lab::Lab;
use warren::host::{Host, NoWitness, Op, Reply};

use crate::lab_support::harness::{Outside, Talk, eventually};
use crate::lab_support::instance::{Instance, Network, fails, perform};

const PORT: u16 = 18_080;

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
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /name HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub fn inside(lab: &Lab, talk: &mut Talk) {
    let network = Network::new(lab, 0xcccc_dddd);
    let web = Instance::new(lab, Some(&network), 51);
    web.run(lab, "mkdir -p /srv/www && hostname > /srv/www/name").unwrap();
    web.spawn(lab, "exec busybox httpd -f -p 8000 -h /srv/www");
    let address = Instance::address(51);
    let http = |path: &str| Op::Probe {
        probe: Probe::Http { port: 8000, path: path.into() },
        address,
        timeout: Duration::from_secs(2),
    };
    eventually("the server answers", || lab.perform(&http("/name"), &NoWitness).is_ok());
    assert!(fails(lab, &http("/nothing")).message.contains("404"));
    let tcp = |port| Op::Probe { probe: Probe::Tcp { port }, address, timeout: Duration::from_secs(2) };
    perform(lab, &tcp(8000));
    fails(lab, &tcp(8001));
    let command = |text: &str| Op::Probe {
        probe: Probe::Command { command: warren::config::spec::CommandLine::Shell(text.into()) },
        address,
        timeout: Duration::from_secs(5),
    };
    perform(lab, &command("test -e /srv/www/name"));
    fails(lab, &command("test -e /srv/www/nothing"));

    let load = Op::AnchorLoad(policy(&network, PORT));
    perform(lab, &load);
    let anchor = format!("warren/{}", network.id);
    perform(
        lab,
        &Op::TableAdd { anchor: anchor.clone(), tables: vec!["web".into()], addresses: vec![address] },
    );
    assert_eq!(lab.observe().unwrap().anchors[&anchor]["web"].iter().collect::<Vec<_>>(), [&address]);

    // DNS, as the daemon would: a socket left with the keeper, and answers from it.
    let listen = Op::Listen { name: "dns".into(), address: ([10, 77, 0, 1], 53).into(), proto: Proto::Udp };
    assert_eq!(perform(lab, &listen), Reply::Done);
    let dns = UdpSocket::from(lab.socket("dns").unwrap());
    let server = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, from) = dns.recv_from(&mut buffer).unwrap();
        dns.send_to(&[b"answer to ", &buffer[..length]].concat(), from).unwrap();
    });
    assert_eq!(lab.observe().unwrap().sockets.len(), 1);

    // From the instance to the outside: with the host's address. The outside listens by a shell in its namespace.
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
    let left = lab.observe().unwrap();
    assert!(left.is_empty(), "{left:?}");
}

pub fn outside(machine: &mut Outside) {
    assert_eq!(machine.hear(), "look");
    let text = get(PORT).unwrap();
    let name = text.lines().last().unwrap().to_owned();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"x", "127.0.0.1:53999").unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"answer to x");
    machine.answer(&name);
    assert_eq!(machine.hear(), "gone?");
    assert!(get(PORT).is_err(), "the relay outlived its anchor");
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
    assert!(lab.observe().unwrap().is_empty());
}

pub fn taken_outside(machine: &mut Outside) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(machine.hear(), "port?");
    machine.answer(&listener.local_addr().unwrap().port().to_string());
    machine.child.wait().unwrap();
}
