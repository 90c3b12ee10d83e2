//! A network in memory: the engine, its durable state, and clients that speak to it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use warren_dhcp::Mac;
use warren_dhcp::server::*;
use warren_dhcp::wire::*;

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

pub fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, last)
}

pub fn mac(n: u8) -> Mac {
    Mac([2, 0, 0x5e, 0, 1, n])
}

pub fn config() -> ServerConfig {
    let mut c = ServerConfig::new(mac(254), SERVER, "10.9.0.0/24".parse().unwrap());
    c.gateway = Some(ip(1));
    c.dns = vec![ip(1)];
    c.domain = Some("shop.internal".into());
    c.search = vec!["shop.internal".into(), "internal".into()];
    c
}

/// Dynamic addresses .100 to .103, without probing.
pub fn dynamic() -> ServerConfig {
    ServerConfig { dynamic: Some(DynamicRange { first: ip(100), last: ip(103), probe_ms: 0 }), ..config() }
}

#[derive(Default)]
pub struct Book {
    pub reserved: BTreeMap<Mac, Ipv4Addr>,
    pub leases: LeaseTable,
}

impl LeaseView for Book {
    fn reservation(&self, mac: Mac) -> Option<ReservedBinding> {
        self.reserved
            .get(&mac)
            .map(|a| ReservedBinding { address: *a, hostname: Some(format!("h{}", a.octets()[3])) })
    }
    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.reserved.values().any(|a| *a == address)
    }
    fn lease_of(&self, client: &ClientKey) -> Option<&Lease> {
        self.leases.of(client)
    }
    fn lease_at(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.leases.at(address)
    }
    fn bound_to(&self, mac: Mac) -> usize {
        self.leases.bound_to(mac)
    }
    fn free(&self, skip: &dyn Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        self.leases.free(skip)
    }
}

pub struct Net {
    pub server: Server,
    pub book: Book,
    pub now: u64,
    pub history: Vec<LeaseChange>,
}

/// A reply with where it was sent.
#[derive(Debug)]
pub struct Reply {
    pub message: Message,
    pub dst_mac: Mac,
    pub dst: Ipv4Addr,
    pub port: u16,
    pub durable: bool,
    pub len: usize,
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub replies: Vec<Reply>,
    pub frames: Vec<Vec<u8>>,
    pub events: Vec<Event>,
}

impl Outcome {
    pub fn one(mut self) -> Reply {
        assert_eq!(self.replies.len(), 1, "{self:?}");
        self.replies.remove(0)
    }

    pub fn silent(&self) -> Ignored {
        assert!(self.replies.is_empty() && self.frames.is_empty(), "{self:?}");
        match self.events.as_slice() {
            [Event::Ignored { why, .. }] => *why,
            other => panic!("{other:?}"),
        }
    }
}

impl Net {
    /// Station 1 has .11 reserved, station 2 .12.
    pub fn new(config: ServerConfig) -> Net {
        let leases = config.dynamic.as_ref().map_or_else(LeaseTable::new, LeaseTable::with_range);
        let reserved = [(mac(1), ip(11)), (mac(2), ip(12))].into();
        Net {
            server: Server::new(config).unwrap(),
            book: Book { reserved, leases },
            now: 1_000_000,
            history: vec![],
        }
    }

    pub fn frame(&mut self, frame: &[u8]) -> Outcome {
        let actions = self.server.handle(frame, self.now, &self.book);
        self.fold(actions)
    }

    pub fn poll(&mut self) -> Outcome {
        let actions = self.server.poll(self.now);
        self.fold(actions)
    }

    pub fn expire(&mut self) {
        for change in self.book.leases.decide_expire(self.now) {
            self.book.leases.apply(&change);
            self.history.push(change);
        }
    }

    fn fold(&mut self, actions: Vec<Action>) -> Outcome {
        let mut out = Outcome::default();
        for action in actions {
            let (frame, durable) = match action {
                Action::Send(frame) => (Some(frame), false),
                Action::Persist { change, then } => {
                    let text = serde_json::to_string(&change).unwrap();
                    assert_eq!(serde_json::from_str::<LeaseChange>(&text).unwrap(), change);
                    self.book.leases.apply(&change);
                    self.history.push(change);
                    (then, true)
                }
                Action::Log(event) => {
                    assert!(!event.to_string().is_empty());
                    out.events.push(event);
                    continue;
                }
            };
            let Some(frame) = frame else { continue };
            match parse_frame(&frame).unwrap() {
                Frame { dst: dst_mac, payload: Payload::Udp4(udp), .. } => out.replies.push(Reply {
                    message: Message::parse(udp.payload).unwrap(),
                    dst_mac,
                    dst: udp.dst,
                    port: udp.dst_port,
                    durable,
                    len: udp.payload.len(),
                }),
                _ => out.frames.push(frame),
            }
        }
        out
    }

    /// From a station's mouth: broadcast unless it has an address and names no server.
    pub fn say(&mut self, n: u8, kind: MessageType, edit: impl FnOnce(&mut Message)) -> Outcome {
        let frame = spoken(mac(n), kind, false, edit);
        self.frame(&frame)
    }

    pub fn unicast(&mut self, n: u8, kind: MessageType, edit: impl FnOnce(&mut Message)) -> Outcome {
        let frame = spoken(mac(n), kind, true, edit);
        self.frame(&frame)
    }

    pub fn discover(&mut self, n: u8) -> Outcome {
        self.say(n, MessageType::Discover, |_| {})
    }

    /// Takes an offer.
    pub fn select(&mut self, n: u8, address: Ipv4Addr) -> Outcome {
        self.say(n, MessageType::Request, |m| {
            m.options.set(code::SERVER_ID, SERVER.octets());
            m.options.set(code::REQUESTED_IP, address.octets());
        })
    }

    /// The whole of it; the address.
    pub fn lease(&mut self, n: u8) -> Ipv4Addr {
        let address = self.discover(n).one().message.yiaddr;
        let ack = self.select(n, address).one();
        assert_eq!((ack.message.kind, ack.message.yiaddr, ack.durable), (MessageType::Ack, address, true));
        address
    }
}

pub fn spoken(from: Mac, kind: MessageType, unicast: bool, edit: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut m = Message {
        op: Op::Request,
        hops: 0,
        xid: 0x1234_5678,
        secs: 0,
        flags: 0,
        ciaddr: NONE,
        yiaddr: NONE,
        siaddr: NONE,
        giaddr: NONE,
        chaddr: from,
        kind,
        options: Options::new(),
    };
    edit(&mut m);
    let (payload, _) = m.build(1400);
    let (dst_mac, dst) = if unicast { (mac(254), SERVER) } else { (Mac::BROADCAST, Ipv4Addr::BROADCAST) };
    let udp = Udp4 { src: m.ciaddr, dst, src_port: 68, dst_port: 67, payload: &payload };
    build_udp4(dst_mac, from, &udp).unwrap()
}
