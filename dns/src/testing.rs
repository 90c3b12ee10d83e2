//! What the unit tests share: a small fabric, and a client made of hickory-proto, which reads every answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, Record, RecordType};

use crate::{
    Ask, Change, Host, Instance, Outcome, Port, Proto, Snapshot, Transport, Verdict, ZoneConfig, answer,
};

pub(crate) const UDP: Ask = Ask { transport: Transport::Udp, recursion: false, rotation: 0 };
pub(crate) const TCP: Ask = Ask { transport: Transport::Tcp, recursion: false, rotation: 0 };

pub(crate) fn config(origin: &str, reverse: &[&str]) -> ZoneConfig {
    ZoneConfig {
        origin: origin.into(),
        ttl: 5,
        negative_ttl: 30,
        serial: 100,
        ns: Host {
            label: "ns".into(),
            addresses: vec!["10.1.0.1".parse().unwrap(), "fd00:1::1".parse().unwrap()],
        },
        hosts: vec![Host { label: "gw".into(), addresses: vec!["10.1.0.1".parse().unwrap()] }],
        reverse: reverse.iter().map(|p| p.parse().unwrap()).collect(),
    }
}

pub(crate) fn instance(id: &str, service: &str, n: u16) -> Instance {
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

/// shop.internal on 10.1.0.0/20 and fd00:1::/64, three web instances of which the third is not ready.
pub(crate) fn shop() -> Snapshot {
    let mut third = instance("id3", "web", 13);
    third.ready = false;
    Snapshot::new()
        .add_zone(config("shop.internal", &["10.1.0.0/20", "fd00:1::/64"]))
        .unwrap()
        .apply(
            "shop.internal",
            &[
                Change::AddInstance(instance("id1", "web", 11)),
                Change::AddInstance(instance("id2", "web", 12)),
                Change::AddInstance(third),
                Change::SetAlias { alias: "www".into(), target: "web".into() },
                Change::SetAlias { alias: "home".into(), target: "www.shop.internal".into() },
                Change::SetAlias { alias: "lost".into(), target: "nobody".into() },
                Change::DeclareService { service: "idle".into() },
            ],
        )
        .unwrap()
}

pub(crate) fn query(name: &str, rtype: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(0x4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), rtype));
    if let Some(payload) = edns {
        let mut opt = Edns::new();
        opt.set_max_payload(payload);
        message.set_edns(opt);
    }
    message.to_vec().unwrap()
}

/// Asks and reads the answer; checks what holds for every answer.
pub(crate) fn exchange(snapshot: &Snapshot, query: &[u8], ask: Ask) -> (Outcome, Message, Vec<u8>) {
    let mut out = vec![0xaa, 0xbb];
    let Verdict::Answered(outcome) = answer(snapshot, query, ask, &mut out) else { panic!("not answered") };
    assert_eq!(out[..2], [0xaa, 0xbb], "what was in the buffer stays");
    let bytes = out.split_off(2);
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!(message.metadata.message_type, MessageType::Response);
    assert_eq!(bytes[..2], query[..2], "the id");
    assert_eq!(u16::from(message.metadata.response_code), outcome.rcode);
    assert_eq!(message.metadata.truncation, outcome.truncated);
    assert_eq!(message.answers.len(), usize::from(outcome.answers));
    (outcome, message, bytes)
}

pub(crate) fn ask(snapshot: &Snapshot, name: &str, rtype: RecordType) -> Message {
    exchange(snapshot, &query(name, rtype, Some(1232)), UDP).1
}

/// Records as sorted text: `name TYPE data`.
pub(crate) fn texts(records: &[Record]) -> Vec<String> {
    let mut all: Vec<String> =
        records.iter().map(|r| format!("{} {} {}", r.name, r.record_type(), r.data)).collect();
    all.sort();
    all
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
