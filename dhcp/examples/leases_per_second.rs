//! How many leases a second the engine gives on one core, with nothing but memory behind it: DISCOVER, OFFER, REQUEST,
//! Persist and ACK for each station, over an [`Ipam`] of a /16 with that many owners; then renewals; then the same for
//! a dynamic range. Run with `cargo run --release -p warren-dhcp --example leases_per_second`.

use std::net::Ipv4Addr;
use std::time::Instant;

use warren_dhcp::Mac;
use warren_dhcp::ipam::{AssignRequest, Ipam, Network, Owner};
use warren_dhcp::server::{Action, DynamicRange, IpamView, LeaseTable, Server, ServerConfig};
use warren_dhcp::wire::{Message, MessageType, Op, Options, Payload, Udp4, build_udp4, code, parse_frame};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);

fn frame(mac: Mac, kind: MessageType, ciaddr: Ipv4Addr, options: Options) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message {
        op: Op::Request,
        hops: 0,
        xid: 7,
        secs: 0,
        flags: 0,
        ciaddr,
        yiaddr: none,
        siaddr: none,
        giaddr: none,
        chaddr: mac,
        kind,
        options,
    };
    // What FreeBSD's dhclient sends.
    message.options.set(code::CLIENT_ID, [&[1][..], &mac.0].concat());
    message.options.set(code::HOST_NAME, *b"instance");
    message.options.set(code::PARAMETER_LIST, [1, 28, 2, 121, 3, 15, 6, 12, 119, 26]);
    let (payload, _) = message.build(576);
    let unicast = !ciaddr.is_unspecified();
    let (dst_mac, dst) =
        if unicast { (Mac([2, 0, 0, 0, 0, 1]), SERVER) } else { (Mac::BROADCAST, Ipv4Addr::BROADCAST) };
    let udp = Udp4 { src: ciaddr, dst, src_port: 68, dst_port: 67, payload: &payload };
    build_udp4(dst_mac, mac, &udp).expect("fits")
}

fn request(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut options = Options::new();
    options.set(code::SERVER_ID, SERVER.octets());
    options.set(code::REQUESTED_IP, address.octets());
    frame(mac, MessageType::Request, Ipv4Addr::UNSPECIFIED, options)
}

/// Handles a frame and stores what is to be stored; the address in the answer.
fn turn(
    server: &mut Server,
    frame: &[u8],
    ipam: &Ipam,
    leases: &mut LeaseTable,
    now: u64,
) -> Option<Ipv4Addr> {
    let hostname = |o: &Owner| Some(o.as_str().to_owned());
    let view = IpamView { ipam, network: "net", leases, hostname };
    let mut answer = None;
    for action in server.handle(frame, now, &view) {
        match action {
            Action::Send(frame) => answer = Some(frame),
            Action::Persist { change, then } => {
                leases.apply(&change);
                answer = then;
            }
            Action::Log(_) => {}
        }
    }
    let answer = answer?;
    let Ok(Payload::Udp4(udp)) = parse_frame(&answer).map(|f| f.payload) else { return None };
    Message::parse(udp.payload).ok().map(|m| m.yiaddr)
}

fn main() {
    let mut ipam = Ipam::new();
    let network = Network::new("net", Some("10.8.0.0/16".parse().expect("prefix")), None);
    ipam.apply(&ipam.decide_add_network(&network).expect("network")).expect("fits");
    let stations = 10_000u32;
    let began = Instant::now();
    for n in 0..stations {
        let owner = Owner::new(&format!("i{n}")).expect("name");
        let change = ipam.decide_assign(&AssignRequest::auto("net", &owner, n.into(), 0)).expect("assigned");
        ipam.apply(&change).expect("fits");
    }
    let per = |count: u32, t: Instant| f64::from(count) / t.elapsed().as_secs_f64();
    println!("IPAM: {:.0} assignments/s (address and MAC, {stations} owners on a /16)", per(stations, began));
    let macs: Vec<Mac> = ipam.assignments("net").filter_map(|(_, a)| a.mac).collect();

    let mut config =
        ServerConfig::new(Mac([2, 0, 0, 0, 0, 1]), SERVER, "10.8.0.0/16".parse().expect("prefix"));
    config.gateway = Some(Ipv4Addr::new(10, 8, 0, 1));
    config.dns = vec![Ipv4Addr::new(10, 8, 0, 1)];
    config.domain = Some("shop.internal".into());
    config.search = vec!["shop.internal".into()];
    run("reserved", config.clone(), &ipam, &macs, LeaseTable::new());

    let range = DynamicRange {
        first: Ipv4Addr::new(10, 8, 128, 0),
        last: Ipv4Addr::new(10, 8, 255, 254),
        probe_ms: 0,
    };
    config.dynamic = Some(range);
    config.limits.pending_offers = 20_000;
    let strangers: Vec<Mac> = (0..u64::from(stations)).map(|n| Mac::local_from(n << 8)).collect();
    run("dynamic", config, &ipam, &strangers, LeaseTable::with_range(&range));
}

fn run(what: &str, config: ServerConfig, ipam: &Ipam, macs: &[Mac], mut leases: LeaseTable) {
    let mut server = Server::new(config).expect("configuration");
    let discovers: Vec<_> = macs
        .iter()
        .map(|m| frame(*m, MessageType::Discover, Ipv4Addr::UNSPECIFIED, Options::new()))
        .collect();
    // Building the clients' frames is not the server's work.
    let mut busy = std::time::Duration::ZERO;
    let mut addresses = Vec::new();
    for (mac, discover) in macs.iter().zip(&discovers) {
        let t = Instant::now();
        let offered = turn(&mut server, discover, ipam, &mut leases, 1000).expect("an offer");
        busy += t.elapsed();
        let request = request(*mac, offered);
        let t = Instant::now();
        assert_eq!(turn(&mut server, &request, ipam, &mut leases, 1000), Some(offered));
        busy += t.elapsed();
        addresses.push(offered);
    }
    let rate = |n: usize, busy: std::time::Duration| n as f64 / busy.as_secs_f64();
    println!("{what}: {:.0} leases/s (four messages each)", rate(macs.len(), busy));
    let renewals: Vec<_> = macs
        .iter()
        .zip(&addresses)
        .map(|(m, a)| frame(*m, MessageType::Request, *a, Options::new()))
        .collect();
    let t = Instant::now();
    for (renewal, address) in renewals.iter().zip(&addresses) {
        assert_eq!(turn(&mut server, renewal, ipam, &mut leases, 100_000), Some(*address));
    }
    println!("{what}: {:.0} renewals/s", rate(macs.len(), t.elapsed()));
}
