//! Any bytes as a query, and as an upstream's reply: what the fuzz target and its replay drive.

use std::sync::OnceLock;

use hickory_proto::op::{Message, MessageType};

use crate::forward::fuzz_relay;
use crate::wire::{MAX_TCP, MAX_UDP, Transport};
use crate::{Ask, Change, Host, Instance, Port, Proto, Snapshot, Verdict, ZoneConfig, answer};

/// A zone with everything in it: services, aliases, reverse zones, SRV and TXT.
fn zone() -> Snapshot {
    let member = |id: &str, last: u8| {
        Change::AddInstance(Instance {
            id: id.into(),
            service: "web".into(),
            v4: vec![[10, 1, 0, last].into()],
            v6: vec![[0xfd00, 1, 0, 0, 0, 0, 1, last.into()].into()],
            ready: true,
            ports: vec![Port { name: "http".into(), proto: Proto::Tcp, port: 8080 }],
            txt: vec!["version=1".into()],
        })
    };
    let config = ZoneConfig {
        origin: "s.internal".into(),
        ttl: 5,
        negative_ttl: 30,
        serial: 1,
        ns: Host { label: "ns".into(), addresses: vec![[10, 1, 0, 1].into()] },
        hosts: vec![Host { label: "gw".into(), addresses: vec![[10, 1, 0, 1].into()] }],
        reverse: ["10.1.0.0/24", "fd00:1::/64"].iter().filter_map(|p| p.parse().ok()).collect(),
    };
    let changes = [
        member("a1", 11),
        member("a2", 12),
        Change::SetAlias { alias: "www".into(), target: "web".into() },
        Change::DeclareService { service: "idle".into() },
    ];
    let made = Snapshot::new().add_zone(config).and_then(|zone| zone.apply("s.internal", &changes));
    made.unwrap_or_default()
}

/// Entry point for fuzzing: the first two bytes say how the query came and how long it is; what is behind it is taken for an
/// upstream's reply.
///
/// # Panics
/// When an answer is longer than its transport allows, is no DNS message, or belongs to another query.
pub fn fuzz(data: &[u8]) {
    static ZONE: OnceLock<Snapshot> = OnceLock::new();
    let zone = ZONE.get_or_init(zone);
    let [how, length, rest @ ..] = data else { return };
    let (query, reply) = rest.split_at(usize::from(*length).min(rest.len()));
    let transport = if how & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let limit = if how & 1 == 0 { MAX_UDP } else { MAX_TCP };
    let ask = Ask { transport, recursion: how & 2 != 0, rotation: u32::from(how >> 2) };
    let mut out = Vec::new();
    match answer(zone, query, ask, &mut out) {
        Verdict::Drop => assert!(out.is_empty(), "dropped, and yet there is something to send"),
        Verdict::Answered(_) => {
            assert!(out.len() <= limit, "an answer of {} bytes", out.len());
            assert_eq!(out.get(..2), query.get(..2), "the answer to another query");
            let message = Message::from_vec(&out).expect("an answer that is no message");
            assert_eq!(message.metadata.message_type, MessageType::Response);
        }
        Verdict::Forward(question) => {
            assert!(out.is_empty() && ask.recursion, "forwarded for one who may not");
            fuzz_relay(query, &question, transport, reply, limit);
        }
    }
}
