//! What the pure part costs: `cargo run --release -p warren-dns --example memory [instances]`.
//!
//! Prints answers per second of the fast path and changes per second of the snapshot. Figures, not judgements.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use warren_dns::{
    Ask, Change, Host, Instance, Port, Proto, Snapshot, Transport, Verdict, ZoneConfig, answer,
};

const ROUNDS: u32 = 1_000_000;

fn instance(n: u32, services: u32) -> Instance {
    Instance {
        id: format!("i{n:07}"),
        service: format!("s{}", n % services),
        v4: vec![Ipv4Addr::from(0x0a00_0100 + n)],
        v6: vec![Ipv6Addr::from((0xfd00u128 << 112) + u128::from(n) + 256)],
        ready: true,
        ports: vec![Port { name: "http".into(), proto: Proto::Tcp, port: 8080 }],
        txt: Vec::new(),
    }
}

fn zone() -> Snapshot {
    let config = ZoneConfig {
        origin: "shop.internal".into(),
        ttl: 5,
        negative_ttl: 30,
        serial: 1,
        ns: Host { label: "ns".into(), addresses: vec![Ipv4Addr::new(10, 0, 0, 1).into()] },
        hosts: Vec::new(),
        reverse: vec!["10.0.0.0/8".parse().expect("a prefix"), "fd00::/64".parse().expect("a prefix")],
    };
    Snapshot::new().add_zone(config).expect("a valid zone")
}

fn query(name: &str, rtype: u16) -> Vec<u8> {
    let mut out = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01".to_vec();
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&rtype.to_be_bytes());
    out.extend_from_slice(b"\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
    out
}

fn answers(snapshot: &Snapshot, what: &str, queries: &[Vec<u8>]) {
    let mut out = Vec::with_capacity(65_535);
    let mut bytes = 0;
    let start = Instant::now();
    for rotation in 0..ROUNDS {
        out.clear();
        let ask = Ask { transport: Transport::Udp, recursion: false, rotation };
        let query = &queries[rotation as usize % queries.len()];
        let verdict = answer(snapshot, black_box(query), ask, &mut out);
        assert!(matches!(verdict, Verdict::Answered(_)));
        bytes += out.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{what:34} {:>11.0} answers/s {:>6} bytes each",
        f64::from(ROUNDS) / seconds,
        bytes / ROUNDS as usize
    );
}

fn main() {
    let count: u32 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(10_000);
    for services in [count.div_ceil(10), 1] {
        println!("{count} instances of {services} services");
        let start = Instant::now();
        let mut snapshot = zone();
        for n in 0..count {
            let add = [Change::AddInstance(instance(n, services))];
            snapshot = snapshot.apply("shop.internal", &add).expect("a valid instance");
        }
        let each = f64::from(count) / start.elapsed().as_secs_f64();
        println!("{:34} {each:>11.0} snapshots/s, {} names", "adding one at a time", snapshot.name_count());

        let start = Instant::now();
        let toggles = 20_000.min(count);
        for n in 0..toggles {
            for ready in [false, true] {
                let id = instance(n * 7 % count, services).id;
                snapshot =
                    snapshot.apply("shop.internal", &[Change::SetReady { id, ready }]).expect("it exists");
            }
        }
        let each = f64::from(toggles * 2) / start.elapsed().as_secs_f64();
        println!("{:34} {each:>11.0} snapshots/s", "leaving and joining");

        let names: Vec<_> = (0..count).map(|n| instance(n.wrapping_mul(7919) % count, services)).collect();
        let all = |make: fn(&Instance) -> Vec<u8>| names.iter().map(make).collect::<Vec<_>>();
        let own = all(|i| query(&format!("{}.{}.shop.internal", i.id, i.service), 1));
        answers(&snapshot, "A of an instance", &own);
        let service = all(|i| query(&format!("{}.shop.internal", i.service), 1));
        answers(&snapshot, "A of a service", &service);
        let srv = all(|i| query(&format!("_http._tcp.{}.shop.internal", i.service), 33));
        answers(&snapshot, "SRV of a service", &srv);
        let missing = all(|i| query(&format!("x.{}.{}.shop.internal", i.id, i.service), 1));
        answers(&snapshot, "NXDOMAIN", &missing);
        let mut odd = own.clone();
        for query in &mut odd {
            query[2] |= 0x20;
        }
        answers(&snapshot, "NOTIMP by the slow path", &odd);
        println!();
    }
}
