//! The messages of forwarding, as pure functions: what is asked upstream, which reply is believed, and what
//! of it the client gets.
//!
//! OPT is between neighbours (RFC 6891 section 6.1.1), so neither the client's goes up nor the upstream's down.

use hickory_proto::op::Message;

use crate::wire::{HEADER, OPT_LEN, Question, Transport, flag, name_len, opt_record, rcode, rtype, u16_at};

/// The query for upstream, with an id of its own and the question in the client's letters.
pub(crate) fn build(query: &[u8], question: &Question, id: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(question.end() + OPT_LEN);
    let flags = flag::RD | (question.flags & (flag::AD | flag::CD));
    for word in [id, flags, 1, 0, 0, 1] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(query.get(HEADER..question.end()).unwrap_or_default());
    out.extend_from_slice(&opt_record(0, question.edns.is_some_and(|edns| edns.dnssec_ok)));
    out
}

/// Whether `reply` answers `sent` (made by [`build`]): the id, and the question up to letter case (RFC 5452
/// section 9.1). The sender's address is the connected socket's business.
pub(crate) fn answers(reply: &[u8], sent: &[u8]) -> bool {
    let Some(len) = name_len(sent, HEADER) else { return false };
    let question = HEADER..HEADER + len + 4;
    let (Some(asked), Some(echoed)) = (sent.get(question.clone()), reply.get(question)) else { return false };
    let flags = u16_at(reply, 2).unwrap_or(0);
    reply.get(..2) == sent.get(..2)
        && flags & (flag::QR | flag::OPCODE) == flag::QR
        && u16_at(reply, 4) == Some(1)
        && asked.eq_ignore_ascii_case(echoed)
}

/// The TC bit.
pub(crate) fn is_truncated(reply: &[u8]) -> bool {
    u16_at(reply, 2).is_some_and(|flags| flags & flag::TC != 0)
}

/// Whether another upstream might do better than this reply.
pub(crate) fn is_failure(reply: &[u8]) -> bool {
    let code = u16_at(reply, 2).unwrap_or(0) & 0xf;
    [rcode::FORMERR, rcode::SERVFAIL, rcode::NOTIMP, rcode::REFUSED].contains(&code)
}

/// Where the OPT record of a well-formed reply is, and whether anything comes after it.
struct Layout {
    opt: Option<Opt>,
}

struct Opt {
    start: usize,
    is_last: bool,
    extended_rcode: u8,
}

/// The octet after the possibly compressed name at `at`.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let len = usize::from(*bytes.get(at)?);
        match len {
            0 => return Some(at + 1),
            1..=63 => at += 1 + len,
            0xc0..=0xff => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Walks the records of a reply whose question ends at `at`; nothing when they do not fill it exactly.
fn layout(reply: &[u8], mut at: usize) -> Option<Layout> {
    let body = u32::from(u16_at(reply, 6)?) + u32::from(u16_at(reply, 8)?);
    let total = body + u32::from(u16_at(reply, 10)?);
    let mut opt = None;
    for index in 0..total {
        let start = at;
        at = skip_name(reply, at)?;
        if u16_at(reply, at)? == rtype::OPT {
            if opt.is_some() || index < body {
                return None;
            }
            let extended_rcode = *reply.get(at + 4)?;
            opt = Some(Opt { start, is_last: index + 1 == total, extended_rcode });
        }
        at = at + 10 + usize::from(u16_at(reply, at + 8)?);
    }
    (at == reply.len()).then_some(Layout { opt })
}

/// What the client gets for an upstream's `reply`; nothing when the reply is no well-formed message.
pub(crate) fn relay(
    reply: &[u8],
    query: &[u8],
    question: &Question,
    transport: Transport,
) -> Option<Vec<u8>> {
    let layout = layout(reply, question.end())?;
    let extended = layout.opt.as_ref().map_or(0, |opt| opt.extended_rcode);
    if extended != 0 && question.edns.is_none() {
        // A code that a client without EDNS cannot be told.
        return None;
    }
    let mut out = match layout.opt {
        None => reply.to_vec(),
        Some(Opt { start, is_last: true, .. }) => {
            let mut out = reply.get(..start)?.to_vec();
            set_additional(&mut out, u16_at(reply, 10)? - 1);
            out
        }
        // Cutting out of the middle would move what compression pointers point to.
        Some(_) => {
            let mut message = Message::from_vec(reply).ok()?;
            message.edns = None;
            message.to_vec().ok()?
        }
    };
    let upstream = u16_at(reply, 2)?;
    let asked_ad = question.flags & flag::AD != 0 || question.edns.is_some_and(|edns| edns.dnssec_ok);
    // RFC 6840 section 5.8: AD only to who asked for it.
    let ad = if asked_ad { upstream & flag::AD } else { 0 };
    let own = flag::QR | flag::RA | (question.flags & (flag::RD | flag::CD));
    let mut flags = own | ad | (upstream & (flag::TC | 0xf));
    let opt = if question.edns.is_some() { OPT_LEN } else { 0 };
    if out.len() + opt > question.limit(transport) {
        out.truncate(question.end());
        out.get_mut(6..HEADER)?.fill(0);
        flags |= flag::TC;
    }
    out.get_mut(..2)?.copy_from_slice(&question.id.to_be_bytes());
    out.get_mut(2..4)?.copy_from_slice(&flags.to_be_bytes());
    out.get_mut(HEADER..question.end())?.copy_from_slice(query.get(HEADER..question.end())?);
    if let Some(edns) = question.edns {
        out.extend_from_slice(&opt_record(extended, edns.dnssec_ok));
        let additional = u16_at(&out, 10)?.checked_add(1)?;
        set_additional(&mut out, additional);
    }
    Some(out)
}

fn set_additional(message: &mut [u8], count: u16) {
    if let Some(slot) = message.get_mut(10..12) {
        slot.copy_from_slice(&count.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Parsed, parse};
    use hickory_proto::op::{Edns, MessageType, OpCode, ResponseCode};
    use hickory_proto::rr::rdata::TXT;
    use hickory_proto::rr::{RData, Record, RecordType};
    use proptest::prelude::*;

    fn client(edns: Option<u16>) -> (Vec<u8>, Question) {
        let query = crate::testing::query("WWW.Example.org", RecordType::TXT, edns);
        let Parsed::Question(question) = parse(&query) else { panic!() };
        (query, question)
    }

    fn upstream_reply(sent: &[u8], strings: usize, edns: bool) -> Vec<u8> {
        let asked = Message::from_vec(sent).unwrap();
        let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
        let name = asked.queries[0].name().to_lowercase();
        reply.add_query(hickory_proto::op::Query::query(name.clone(), RecordType::TXT));
        reply.metadata.authoritative = true;
        reply.metadata.authentic_data = true;
        for n in 0..strings {
            let data = RData::TXT(TXT::new(vec![format!("{n:0>100}")]));
            reply.add_answer(Record::from_rdata(name.clone(), 60, data));
        }
        if edns {
            reply.set_edns(Edns::new());
        }
        reply.to_vec().unwrap()
    }

    #[test]
    fn up_and_down() {
        for edns in [None, Some(1232)] {
            for upstream_edns in [false, true] {
                let (query, question) = client(edns);
                let sent = build(&query, &question, 99);
                let asked = Message::from_vec(&sent).unwrap();
                assert!(asked.metadata.recursion_desired && asked.metadata.id == 99);
                assert_eq!(asked.queries[0].name().to_string(), "WWW.Example.org.");
                let reply = upstream_reply(&sent, 2, upstream_edns);
                assert!(answers(&reply, &sent));
                let relayed = relay(&reply, &query, &question, Transport::Udp).unwrap();
                let message = Message::from_vec(&relayed).unwrap();
                assert_eq!(message.metadata.id, question.id);
                assert_eq!(message.queries[0].name().to_string(), "WWW.Example.org.");
                assert_eq!((message.answers.len(), message.edns.is_some()), (2, edns.is_some()));
                assert!(!message.metadata.authoritative && !message.metadata.authentic_data);
                assert!(message.metadata.recursion_available);
            }
        }
    }

    #[test]
    fn too_large_for_the_client() {
        let (query, question) = client(None);
        let sent = build(&query, &question, 99);
        let reply = upstream_reply(&sent, 8, true);
        let relayed = relay(&reply, &query, &question, Transport::Udp).unwrap();
        let message = Message::from_vec(&relayed).unwrap();
        assert!(message.metadata.truncation && message.answers.is_empty() && message.queries.len() == 1);
        let relayed = relay(&reply, &query, &question, Transport::Tcp).unwrap();
        assert_eq!(Message::from_vec(&relayed).unwrap().answers.len(), 8);
    }

    #[test]
    fn an_opt_in_the_middle() {
        let (query, question) = client(Some(1232));
        let sent = build(&query, &question, 99);
        let mut reply = upstream_reply(&sent, 1, true);
        reply[11] = 2;
        reply.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01");
        let message = Message::from_vec(&relay(&reply, &query, &question, Transport::Udp).unwrap()).unwrap();
        assert_eq!((message.answers.len(), message.additionals.len(), message.edns.is_some()), (1, 1, true));
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    }

    #[test]
    fn only_the_reply_to_this_question() {
        let (query, question) = client(None);
        let sent = build(&query, &question, 99);
        let good = upstream_reply(&sent, 1, false);
        for (at, value) in [(1, 98), (2, 0x01), (5, 2), (13, b'x'), (good.len().min(12), 4)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(!answers(&bad, &sent), "byte {at}");
        }
        assert!(!answers(&good[..14], &sent));
        assert!(relay(&good[..good.len() - 1], &query, &question, Transport::Udp).is_none());
    }

    proptest! {
        #[test]
        fn any_reply(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), honest: bool, edns in proptest::option::of(0u16..2000)) {
            let (query, question) = client(edns);
            if honest {
                let mut reply = upstream_reply(&build(&query, &question, 1), 2, true);
                for pair in bytes.chunks_exact(2).take(3) {
                    let at = usize::from(pair[0]) % reply.len();
                    reply[at] = pair[1];
                }
                bytes = reply;
            }
            let _ = answers(&bytes, &build(&query, &question, 1));
            if let Some(out) = relay(&bytes, &query, &question, Transport::Udp) {
                prop_assert!(out.len() <= question.limit(Transport::Udp));
                prop_assert_eq!(&out[12..question.end()], &query[12..question.end()]);
            }
        }
    }
}
