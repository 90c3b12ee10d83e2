//! What the tests over sockets share: a fabric, a server on ports the system chose, and an upstream that misbehaves
//! as asked.
#![allow(dead_code)] // each test binary uses its part

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use warren_dns::forward::Patience;
use warren_dns::server::{Limits, Policy, Route, Server};
use warren_dns::{Change, Host, Instance, Port, Proto, Snapshot, ZoneConfig};

pub fn config() -> ZoneConfig {
    ZoneConfig {
        origin: "shop.internal".into(),
        ttl: 5,
        negative_ttl: 30,
        serial: 2026,
        ns: Host { label: "ns".into(), addresses: vec![Ipv4Addr::new(10, 1, 0, 1).into()] },
        hosts: vec![Host { label: "gw".into(), addresses: vec![Ipv4Addr::new(10, 1, 0, 1).into()] }],
        reverse: vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
    }
}

pub fn instance(id: &str, service: &str, n: u16) -> Instance {
    let [high, low] = n.to_be_bytes();
    Instance {
        id: id.into(),
        service: service.into(),
        v4: vec![Ipv4Addr::new(10, 1, high, low)],
        v6: vec![Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 1, n)],
        ready: true,
        ports: vec![Port { name: "http".into(), proto: Proto::Tcp, port: 8080 }],
        txt: vec!["version=1".into()],
    }
}

/// Two web instances, 200 of crowd, an alias.
pub fn shop() -> Snapshot {
    let mut changes = vec![
        Change::AddInstance(instance("k3f9q2ab", "web", 0x0b0b)),
        Change::AddInstance(instance("m7h2w4cd", "web", 0x0b0c)),
        Change::SetAlias { alias: "www".into(), target: "web".into() },
    ];
    changes.extend((0..200).map(|n| Change::AddInstance(instance(&format!("c{n}"), "crowd", 0x1000 + n))));
    Snapshot::new().add_zone(config()).unwrap().apply("shop.internal", &changes).unwrap()
}

/// UDP and TCP on one port of the loopback.
pub fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        // The port may be taken for TCP; then the system chooses another.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

pub fn limits() -> Limits {
    let patience = Patience { attempt: Duration::from_secs(2), rounds: 1, total: Duration::from_secs(10) };
    Limits { patience, ..Limits::default() }
}

pub struct Running {
    pub server: Server,
    pub address: SocketAddr,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
}

/// Clients with one upstream each.
pub fn to(routes: &[(&str, SocketAddr)]) -> Policy {
    let route = |(clients, upstream): &(&str, SocketAddr)| Route {
        clients: vec![clients.parse().unwrap()],
        upstreams: vec![*upstream],
    };
    Policy { routes: routes.iter().map(route).collect() }
}

/// A server for the loopback's clients; must be called within a runtime.
pub fn start(upstreams: &[SocketAddr], limits: Limits) -> Running {
    let snapshot = Arc::new(ArcSwap::from_pointee(shop()));
    let clients = vec!["127.0.0.0/8".parse().unwrap()];
    let policy = Policy { routes: vec![Route { clients, upstreams: upstreams.to_vec() }] };
    let server = Server::new(Arc::clone(&snapshot), policy, limits);
    let (udp, tcp) = sockets();
    let address = server.add_udp(udp).unwrap();
    assert_eq!(server.add_tcp(tcp).unwrap(), address);
    Running { server, address, snapshot }
}

pub fn query(name: &str, rtype: RecordType, edns: bool) -> Vec<u8> {
    let mut message = Message::new(rand_id(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), rtype));
    if edns {
        message.set_edns(Edns::new());
    }
    message.to_vec().unwrap()
}

fn rand_id() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    (NEXT.fetch_add(7919, Ordering::Relaxed) & 0xffff) as u16
}

/// How long a test waits for something that must come.
pub const PATIENT: Duration = Duration::from_secs(20);

pub fn over_udp(server: SocketAddr, query: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENT)).unwrap();
    socket.connect(server).unwrap();
    socket.send(query).unwrap();
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..2], query[..2]);
    Message::from_vec(&buffer[..len]).unwrap()
}

pub fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENT)).unwrap();
    stream
}

pub fn framed(query: &[u8]) -> Vec<u8> {
    [&(query.len() as u16).to_be_bytes(), query].concat()
}

pub fn read_message(stream: &mut TcpStream) -> Message {
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut bytes).unwrap();
    Message::from_vec(&bytes).unwrap()
}

pub fn over_tcp(server: SocketAddr, query: &[u8]) -> Message {
    let mut stream = connect(server);
    stream.write_all(&framed(query)).unwrap();
    read_message(&mut stream)
}

/// A resolver whose answer depends on the first label: `plain`, `big` (TC over UDP), `liar` (strangers' replies
/// first), `silent`, `fail` (SERVFAIL), `nowhere` (NXDOMAIN).
pub struct Upstream {
    pub address: SocketAddr,
    pub asked: Arc<AtomicUsize>,
}

pub fn upstream() -> Upstream {
    let (udp, tcp) = sockets();
    let address = udp.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, client)) = udp.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let Some(reply) = upstream_reply(&buffer[..len], false) else { continue };
            if buffer[..len].windows(5).any(|w| w == b"\x04liar") {
                let mut wrong_id = reply.clone();
                wrong_id[0] ^= 0xff;
                udp.send_to(&wrong_id, client).unwrap();
                let mut wrong_name = reply.clone();
                wrong_name[13] = b'x';
                udp.send_to(&wrong_name, client).unwrap();
            }
            udp.send_to(&reply, client).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut len = [0; 2];
            if stream.read_exact(&mut len).is_err() {
                continue;
            }
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut bytes).unwrap();
            if let Some(reply) = upstream_reply(&bytes, true) {
                stream.write_all(&framed(&reply)).unwrap();
            }
        }
    });
    Upstream { address, asked }
}

fn upstream_reply(bytes: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let asked = Message::from_vec(bytes).unwrap();
    assert!(asked.metadata.recursion_desired && asked.edns.is_some());
    let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    let name = asked.queries[0].name().clone();
    reply.add_query(asked.queries[0].clone());
    reply.set_edns(Edns::new());
    let first = name.to_string().split('.').next().unwrap_or_default().to_ascii_lowercase();
    match first.as_str() {
        "silent" => return None,
        "fail" => reply.metadata.response_code = ResponseCode::ServFail,
        "nowhere" => reply.metadata.response_code = ResponseCode::NXDomain,
        "big" if !tcp => reply.metadata.truncation = true,
        "big" => {
            for n in 0..30 {
                let text = format!("{n:0>100}");
                reply.add_answer(Record::from_rdata(name.clone(), 60, RData::TXT(TXT::new(vec![text]))));
            }
        }
        _ => {
            reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        }
    }
    Some(reply.to_vec().unwrap())
}
