//! Answers byte for byte, every one read back by a second opinion: hickory-proto.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use proptest::prelude::*;

use crate::testing::{TCP, UDP, address, ask, config, exchange, instance, query, shop, texts};
use crate::{Ask, Change, Snapshot, Verdict, answer};

fn assert_negative(message: &Message, code: ResponseCode, apex: &str) {
    assert_eq!(message.metadata.response_code, code);
    assert!(message.metadata.authoritative);
    assert!(message.answers.is_empty());
    let [soa] = &message.authorities[..] else { panic!("{message}") };
    assert_eq!((soa.record_type(), soa.name.to_string()), (RecordType::SOA, format!("{apex}.")));
    assert_eq!(soa.ttl, 30);
}

#[test]
fn service_names() {
    let zone = shop();
    let message = ask(&zone, "web.shop.internal", RecordType::A);
    assert!(message.metadata.authoritative && !message.metadata.recursion_available);
    assert!(message.metadata.recursion_desired);
    assert_eq!(texts(&message.answers), ["web.shop.internal. A 10.1.0.11", "web.shop.internal. A 10.1.0.12"]);
    assert!(message.answers.iter().all(|r| r.ttl == 5));
    let message = ask(&zone, "id3.web.shop.internal", RecordType::AAAA);
    assert_eq!(texts(&message.answers), ["id3.web.shop.internal. AAAA fd00:1::1:d"]);
    let message = ask(&zone, "id1.web.shop.internal", RecordType::TXT);
    assert_eq!(texts(&message.answers), ["id1.web.shop.internal. TXT version=1"]);
}

#[test]
fn srv_carries_its_addresses() {
    let message = ask(&shop(), "_http._tcp.web.shop.internal", RecordType::SRV);
    assert_eq!(texts(&message.answers).len(), 2);
    assert_eq!(
        texts(&message.additionals),
        [
            "id1.web.shop.internal. A 10.1.0.11",
            "id1.web.shop.internal. AAAA fd00:1::1:b",
            "id2.web.shop.internal. A 10.1.0.12",
            "id2.web.shop.internal. AAAA fd00:1::1:c",
        ]
    );
}

#[test]
fn apex() {
    let zone = shop();
    let soa = ask(&zone, "shop.internal", RecordType::SOA);
    assert_eq!(
        texts(&soa.answers),
        ["shop.internal. SOA ns.shop.internal. hostmaster.shop.internal. 101 3600 600 86400 30"]
    );
    let ns = ask(&zone, "shop.internal", RecordType::NS);
    assert_eq!(texts(&ns.answers), ["shop.internal. NS ns.shop.internal."]);
    assert_eq!(texts(&ns.additionals).len(), 2);
    assert_negative(&ask(&zone, "shop.internal", RecordType::A), ResponseCode::NoError, "shop.internal");
    assert_eq!(
        texts(&ask(&zone, "gw.shop.internal", RecordType::A).answers),
        ["gw.shop.internal. A 10.1.0.1"]
    );
}

#[test]
fn negative_answers() {
    let zone = shop();
    let nodata = ResponseCode::NoError;
    assert_negative(&ask(&zone, "web.shop.internal", RecordType::MX), nodata, "shop.internal");
    assert_negative(&ask(&zone, "_tcp.web.shop.internal", RecordType::A), nodata, "shop.internal");
    assert_negative(&ask(&zone, "_tcp.web.shop.internal", RecordType::ANY), nodata, "shop.internal");
    assert_negative(&ask(&zone, "idle.shop.internal", RecordType::A), nodata, "shop.internal");
    assert_negative(&ask(&zone, "web.shop.internal", RecordType::SOA), nodata, "shop.internal");
    let missing = ResponseCode::NXDomain;
    assert_negative(&ask(&zone, "nobody.shop.internal", RecordType::A), missing, "shop.internal");
    assert_negative(&ask(&zone, "a.b.c.id1.web.shop.internal", RecordType::A), missing, "shop.internal");
    let refused = ask(&zone, "example.org", RecordType::A);
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    assert!(!refused.metadata.authoritative && refused.authorities.is_empty());
    assert_eq!(ask(&zone, "internal", RecordType::A).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn reverse_zones_are_exactly_the_owned_prefixes() {
    let zone = shop();
    let ptr = ask(&zone, "11.0.1.10.in-addr.arpa", RecordType::PTR);
    assert_eq!(texts(&ptr.answers), ["11.0.1.10.in-addr.arpa. PTR id1.web.shop.internal."]);
    let gateway = ask(&zone, "1.0.1.10.in-addr.arpa", RecordType::PTR);
    assert_eq!(gateway.answers.len(), 2);
    let missing = ResponseCode::NXDomain;
    assert_negative(&ask(&zone, "99.15.1.10.in-addr.arpa", RecordType::PTR), missing, "15.1.10.in-addr.arpa");
    assert_negative(&ask(&zone, "x.y.0.1.10.in-addr.arpa", RecordType::PTR), missing, "0.1.10.in-addr.arpa");
    assert_negative(
        &ask(&zone, "0.1.10.in-addr.arpa", RecordType::PTR),
        ResponseCode::NoError,
        "0.1.10.in-addr.arpa",
    );
    let v6 = "0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa";
    assert_negative(&ask(&zone, v6, RecordType::PTR), ResponseCode::NoError, v6);
    assert_negative(&ask(&zone, &format!("0.0.{v6}"), RecordType::PTR), ResponseCode::NoError, v6);
    assert_negative(&ask(&zone, &format!("f.f.{v6}"), RecordType::PTR), missing, v6);
    for foreign in
        ["1.16.1.10.in-addr.arpa", "1.10.in-addr.arpa", "01.0.1.10.in-addr.arpa.x", "1.10.in-addr.arpa"]
    {
        let message = ask(&zone, foreign, RecordType::PTR);
        assert_eq!(message.metadata.response_code, ResponseCode::Refused, "{foreign}");
    }
}

#[test]
fn aliases() {
    let zone = shop();
    let message = ask(&zone, "home.shop.internal", RecordType::A);
    assert_eq!(
        texts(&message.answers),
        [
            "home.shop.internal. CNAME www.shop.internal.",
            "web.shop.internal. A 10.1.0.11",
            "web.shop.internal. A 10.1.0.12",
            "www.shop.internal. CNAME web.shop.internal.",
        ]
    );
    let message = ask(&zone, "www.shop.internal", RecordType::CNAME);
    assert_eq!(texts(&message.answers), ["www.shop.internal. CNAME web.shop.internal."]);
    let message = ask(&zone, "lost.shop.internal", RecordType::A);
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!((message.answers.len(), message.authorities.len()), (1, 1));
    let message = ask(&zone, "www.shop.internal", RecordType::MX);
    assert_eq!((message.answers.len(), message.authorities.len()), (1, 1));
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
}

#[test]
fn any_is_minimal() {
    let zone = shop();
    let message = ask(&zone, "web.shop.internal", RecordType::ANY);
    assert_eq!(texts(&message.answers), ["web.shop.internal. HINFO \"RFC8482\" \"\"".replace('"', "")]);
    assert_eq!(ask(&zone, "www.shop.internal", RecordType::ANY).answers.len(), 1);
}

#[test]
fn service_discovery() {
    let zone = shop();
    let types = ask(&zone, "_services._dns-sd._udp.shop.internal", RecordType::PTR);
    assert_eq!(
        texts(&types.answers),
        ["_services._dns-sd._udp.shop.internal. PTR _http._tcp.shop.internal."]
    );
    assert_eq!(ask(&zone, "_http._tcp.shop.internal", RecordType::PTR).answers.len(), 2);
    assert_eq!(ask(&zone, "web-id1._http._tcp.shop.internal", RecordType::SRV).additionals.len(), 2);
    assert_eq!(ask(&zone, "web-id1._http._tcp.shop.internal", RecordType::TXT).answers.len(), 1);
    let browse = ask(&zone, "lb._dns-sd._udp.shop.internal", RecordType::PTR);
    assert_eq!(texts(&browse.answers), ["lb._dns-sd._udp.shop.internal. PTR shop.internal."]);
}

#[test]
fn case_is_kept_and_ignored() {
    let sent = query("WeB.sHOp.INTERnal", RecordType::A, None);
    let (outcome, message, bytes) = exchange(&shop(), &sent, UDP);
    assert_eq!(outcome.answers, 2);
    assert_eq!(bytes[12..35], sent[12..35]);
    assert!(message.answers[0].name.to_string().starts_with("WeB."));
}

#[test]
fn rotation_goes_round() {
    let zone = shop();
    let first = |rotation| {
        let (_, message, _) =
            exchange(&zone, &query("web.shop.internal", RecordType::A, None), Ask { rotation, ..UDP });
        message.answers[0].data.to_string()
    };
    assert_eq!([first(0), first(1), first(2)], ["10.1.0.11", "10.1.0.12", "10.1.0.11"]);
}

#[test]
fn edns() {
    let zone = shop();
    let (_, message, bytes) = exchange(&zone, &query("web.shop.internal", RecordType::A, Some(4096)), UDP);
    assert_eq!(message.edns.as_ref().unwrap().max_payload(), 1232);
    assert_eq!(message.edns.as_ref().unwrap().version(), 0);
    assert!(!message.edns.as_ref().unwrap().flags().dnssec_ok);
    assert_eq!(bytes[bytes.len() - 11..][..3], [0, 0, 41]);
    assert!(exchange(&zone, &query("web.shop.internal", RecordType::A, None), UDP).1.edns.is_none());

    let mut sent = query("web.shop.internal", RecordType::A, Some(4096));
    let opt = sent.len() - 11;
    sent[opt + 7] = 0x80;
    let (_, message, _) = exchange(&zone, &sent, UDP);
    assert!(message.edns.as_ref().unwrap().flags().dnssec_ok, "RFC 3225: DO is copied");
    sent[opt + 6] = 1;
    let (outcome, message, bytes) = exchange(&zone, &sent, UDP);
    assert_eq!(outcome.rcode, 16);
    assert_eq!(bytes[3] & 0xf, 0, "BADVERS is in the extended bits");
    assert_eq!(message.edns.as_ref().unwrap().version(), 0);
    assert!(message.answers.is_empty());
}

fn crowd(count: u16) -> Snapshot {
    let changes: Vec<Change> =
        (0..count).map(|n| Change::AddInstance(instance(&format!("i{n}"), "web", n))).collect();
    Snapshot::new()
        .add_zone(config("shop.internal", &["10.1.0.0/16"]))
        .unwrap()
        .apply("shop.internal", &changes)
        .unwrap()
}

#[test]
fn truncation() {
    let zone = crowd(200);
    for (edns, limit) in
        [(None, 512), (Some(100), 512), (Some(600), 600), (Some(1232), 1232), (Some(65_000), 1232)]
    {
        let (outcome, message, bytes) =
            exchange(&zone, &query("web.shop.internal", RecordType::A, edns), UDP);
        assert!(outcome.truncated && bytes.len() <= limit, "{edns:?}: {}", bytes.len());
        assert!(bytes.len() + 16 > limit, "as much as fits, for clients without TCP");
        assert!(message.authorities.is_empty());
    }
    let (outcome, ..) = exchange(&zone, &query("web.shop.internal", RecordType::A, None), TCP);
    assert_eq!((outcome.truncated, outcome.answers), (false, 200));
    let (outcome, message, _) =
        exchange(&zone, &query("_http._tcp.web.shop.internal", RecordType::SRV, None), TCP);
    assert_eq!((outcome.truncated, outcome.answers), (false, 200));
    assert_eq!(message.additionals.len(), 400);
    // What does not fit a TCP message either is truncated there too.
    let (outcome, _, bytes) = exchange(&crowd(5_000), &query("web.shop.internal", RecordType::A, None), TCP);
    assert!(outcome.truncated && bytes.len() > 65_000 && bytes.len() <= 65_535);
    // Glue stops where a pointer does not reach, without TC.
    let srv = query("_http._tcp.web.shop.internal", RecordType::SRV, Some(1232));
    let (outcome, message, _) = exchange(&crowd(1_000), &srv, TCP);
    assert!(!outcome.truncated && outcome.answers == 1_000 && !message.additionals.is_empty());
}

#[test]
fn glue_that_does_not_fit_is_left_out_without_tc() {
    let zone = crowd(9);
    let (outcome, message, bytes) =
        exchange(&zone, &query("_http._tcp.web.shop.internal", RecordType::SRV, None), UDP);
    assert_eq!((outcome.truncated, outcome.answers), (false, 9));
    assert!(message.additionals.len() < 18 && bytes.len() <= 512);
}

#[test]
fn forwarding_is_offered_only_to_whom_it_may() {
    let zone = shop();
    let mut out = Vec::new();
    let sent = query("example.org", RecordType::A, Some(1232));
    let Verdict::Forward(question) = answer(&zone, &sent, Ask { recursion: true, ..UDP }, &mut out) else {
        panic!()
    };
    assert!(out.is_empty());
    assert_eq!((question.qtype, question.name_len), (1, 13));
    let mut no_rd = sent;
    no_rd[2] = 0;
    assert!(matches!(answer(&zone, &no_rd, Ask { recursion: true, ..UDP }, &mut out), Verdict::Answered(_)));
    let (_, message, _) =
        exchange(&zone, &query("web.shop.internal", RecordType::A, None), Ask { recursion: true, ..UDP });
    assert!(message.metadata.recursion_available && message.metadata.authoritative);
}

fn message_of(op: OpCode, edit: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, op);
    edit(&mut message);
    message.to_vec().unwrap()
}

fn question(name: &str, rtype: RecordType) -> Query {
    Query::query(hickory_proto::rr::Name::from_ascii(name).unwrap(), rtype)
}

#[test]
fn odd_messages() {
    let zone = shop();
    let code = |bytes: &[u8]| {
        let (outcome, ..) = exchange(&zone, bytes, UDP);
        assert!(outcome.slow);
        outcome.rcode
    };
    let web = || question("web.shop.internal.", RecordType::A);
    for (op, want) in [(OpCode::Notify, 4), (OpCode::Update, 4), (OpCode::Status, 4)] {
        assert_eq!(
            code(&message_of(op, |m| {
                m.add_query(web());
            })),
            want,
            "{op:?}"
        );
    }
    assert_eq!(code(&message_of(OpCode::Query, |_| ())), 1, "no question");
    assert_eq!(
        code(&message_of(OpCode::Query, |m| {
            m.add_query(web()).add_query(web());
        })),
        1,
        "two questions"
    );
    let chaos = message_of(OpCode::Query, |m| {
        let mut q = web();
        q.set_query_class(DNSClass::CH);
        m.add_query(q);
    });
    assert_eq!(code(&chaos), 5);
    for (rtype, want) in
        [(RecordType::AXFR, 5), (RecordType::IXFR, 5), (RecordType::Unknown(253), 4), (RecordType::OPT, 1)]
    {
        assert_eq!(
            code(&message_of(OpCode::Query, |m| {
                m.add_query(question("shop.internal.", rtype));
            })),
            want,
            "{rtype}"
        );
    }
    let plain = query("web.shop.internal", RecordType::A, Some(1232));
    let mut trailing = plain.clone();
    trailing.push(0);
    assert_eq!(code(&trailing), 1);
    let mut two_opts = plain.clone();
    two_opts.extend_from_slice(&plain[plain.len() - 11..]);
    two_opts[11] = 2;
    assert_eq!(code(&two_opts), 1);
    let mut pointer = plain.clone();
    pointer[12..14].copy_from_slice(&[0xc0, 0x0c]);
    assert_eq!(code(&pointer), 1);
    let mut many = plain.clone();
    many[6..8].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(code(&many), 1);
    // A record beside the question is no reason not to answer it.
    let mut company = query("web.shop.internal", RecordType::A, None);
    company[11] = 1;
    company.extend_from_slice(b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x0a\x00\x00\x01");
    let (outcome, ..) = exchange(&zone, &company, UDP);
    assert_eq!((outcome.rcode, outcome.answers, outcome.slow), (0, 2, true));
    let tsig = [&company[..company.len() - 15], b"\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x11\x00\x00\x00\x00\x00\x00\x00\x01\x2c\x00\x00\x00\x00\x00\x00\x00\x00"].concat();
    assert_eq!(code(&tsig), 9);
}

#[test]
fn responses_and_scraps_are_dropped() {
    let zone = shop();
    let mut out = Vec::new();
    let mut response = query("web.shop.internal", RecordType::A, None);
    response[2] |= 0x80;
    assert_eq!(answer(&zone, &response, UDP, &mut out), Verdict::Drop);
    assert_eq!(answer(&zone, &response[..11], UDP, &mut out), Verdict::Drop);
    assert_eq!(answer(&zone, &[], UDP, &mut out), Verdict::Drop);
    assert!(out.is_empty());
}

#[test]
fn nothing_is_allocated_in_a_buffer_with_room() {
    let zone = crowd(200);
    let mut out = Vec::with_capacity(1232);
    for (name, rtype) in
        [("web.shop.internal", RecordType::A), ("_http._tcp.web.shop.internal", RecordType::SRV)]
    {
        out.clear();
        answer(&zone, &query(name, rtype, Some(1232)), UDP, &mut out);
        assert_eq!(out.capacity(), 1232);
    }
}

/// What a snapshot is compared with: a list, searched from the front.
#[derive(Default)]
struct Model(BTreeMap<u16, bool>);

impl Model {
    fn addresses(&self, service: u16) -> BTreeSet<String> {
        let ready = self.0.iter().filter(|(id, ready)| **ready && **id % 3 == service);
        ready.map(|(id, _)| format!("10.1.{}.{}", id >> 8, id & 255)).collect()
    }

    fn exists(&self, service: u16) -> bool {
        self.0.keys().any(|id| id % 3 == service)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_answers_as_a_plain_list_would(ops in proptest::collection::vec((0u8..4, 0u16..60), 0..120)) {
        let start = Snapshot::new().add_zone(config("shop.internal", &["10.1.0.0/20"])).unwrap();
        let names = start.name_count();
        let mut zone = start;
        let mut model = Model::default();
        for (op, id) in ops {
            let text = format!("i{id}");
            let change = match op {
                0 | 3 => {
                    let mut fresh = instance(&text, &format!("s{}", id % 3), id);
                    fresh.ready = op == 3;
                    model.0.insert(id, fresh.ready);
                    Change::AddInstance(fresh)
                }
                1 => {
                    let Some(ready) = model.0.get_mut(&id) else { continue };
                    *ready = !*ready;
                    Change::SetReady { id: text, ready: *ready }
                }
                _ => {
                    model.0.remove(&id);
                    Change::RemoveInstance { id: text }
                }
            };
            zone = zone.apply("shop.internal", &[change]).unwrap();
        }
        for service in 0..3 {
            let want = model.addresses(service);
            let (outcome, message, _) = exchange(&zone, &query(&format!("s{service}.shop.internal"), RecordType::A, None), TCP);
            let got: BTreeSet<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
            prop_assert_eq!(message.answers.len(), got.len());
            prop_assert_eq!(&got, &want);
            prop_assert_eq!(outcome.rcode, if model.exists(service) { 0 } else { 3 });
            prop_assert_eq!(message.authorities.len(), usize::from(want.is_empty()));
            let (_, srv, _) = exchange(&zone, &query(&format!("_http._tcp.s{service}.shop.internal"), RecordType::SRV, None), TCP);
            prop_assert_eq!(srv.answers.len(), want.len());
        }
        let any = model.0.values().any(|ready| *ready);
        let (_, types, _) = exchange(&zone, &query("_services._dns-sd._udp.shop.internal", RecordType::PTR, None), TCP);
        prop_assert_eq!(types.answers.len(), usize::from(any));
        for id in 0..60u16 {
            let (_, own, _) = exchange(&zone, &query(&format!("i{id}.s{}.shop.internal", id % 3), RecordType::A, None), UDP);
            prop_assert_eq!(own.answers.len(), usize::from(model.0.contains_key(&id)));
            let (_, host, _) = exchange(&zone, &query(&format!("s{}-i{id}.shop.internal", id % 3), RecordType::A, None), UDP);
            prop_assert_eq!(host.answers.len(), own.answers.len());
            let (_, ptr, _) = exchange(&zone, &query(&format!("{id}.0.1.10.in-addr.arpa"), RecordType::PTR, None), UDP);
            let gateway = if id == 1 { 2 } else { 0 };
            prop_assert_eq!(ptr.answers.len(), usize::from(model.0.contains_key(&id)) + gateway);
        }
        let all: Vec<Change> = model.0.keys().map(|id| Change::RemoveInstance { id: format!("i{id}") }).collect();
        prop_assert_eq!(zone.apply("shop.internal", &all).unwrap().name_count(), names);
    }

    #[test]
    fn any_bytes_get_a_readable_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), tcp: bool) {
        check_any(&shop(), &bytes, if tcp { TCP } else { UDP })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_bent_query_gets_a_readable_answer_or_none(
        which in 0usize..6,
        edns in proptest::option::of(0u16..5000),
        bends in proptest::collection::vec((0usize..80, any::<u8>()), 0..4),
        cut in proptest::option::of(0usize..80),
        rtype in prop_oneof![Just(1u16), Just(28), Just(33), Just(12), Just(255), Just(6), any::<u16>()],
        rotation: u32,
    ) {
        let names = ["web.shop.internal", "home.shop.internal", "_http._tcp.web.shop.internal", "11.0.1.10.in-addr.arpa", "x.y.shop.internal", "example.org"];
        let mut bytes = query(names[which], RecordType::from(rtype), edns);
        for (at, value) in bends {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        check_any(&shop(), &bytes, Ask { rotation, recursion: rotation & 1 == 0, ..UDP })?;
    }
}

/// Whatever is sent, what comes back is a message hickory reads, of the right size, id and question.
fn check_any(zone: &Snapshot, sent: &[u8], how: Ask) -> Result<(), TestCaseError> {
    let mut out = Vec::new();
    match answer(zone, sent, how, &mut out) {
        Verdict::Answered(outcome) => {
            let message = Message::from_vec(&out);
            prop_assert!(message.is_ok(), "{:?} for {:?}", message, sent);
            let message = message.unwrap();
            prop_assert_eq!(message.metadata.message_type, MessageType::Response);
            prop_assert_eq!(&out[..2], &sent[..2]);
            prop_assert_eq!(message.answers.len(), usize::from(outcome.answers));
            if how == UDP {
                prop_assert!(out.len() <= 1232);
            }
            if message.edns.is_none() && how.transport == UDP.transport {
                prop_assert!(out.len() <= 512);
            }
            if let [asked] = &message.queries[..] {
                prop_assert_eq!(&out[12..12 + asked.name().len()], &sent[12..12 + asked.name().len()]);
            }
        }
        Verdict::Forward(_) => prop_assert!(how.recursion && out.is_empty()),
        Verdict::Drop => prop_assert!(out.is_empty() && (sent.len() < 12 || sent[2] & 0x80 != 0)),
    }
    Ok(())
}

#[test]
fn gateway_addresses_resolve_both_ways() {
    let zone = shop();
    assert_eq!(
        address("10.1.0.1").to_string(),
        ask(&zone, "ns.shop.internal", RecordType::A).answers[0].data.to_string()
    );
}
