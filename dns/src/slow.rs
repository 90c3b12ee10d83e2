//! Messages that are no ordinary question: hickory-proto reads them, this decides.
//!
//! | message | answer |
//! |---|---|
//! | opcode other than QUERY | NOTIMP |
//! | not exactly one question, or it does not decode, or bytes are left over | FORMERR |
//! | class other than IN | REFUSED |
//! | signed (TSIG, SIG(0)): no key is known here | NOTAUTH |
//! | AXFR, IXFR | REFUSED |
//! | type 0, OPT | FORMERR |
//! | other meta types (MAILB, TKEY, …) | NOTIMP |
//! | an ordinary question with unusual company | as the fast path |

use hickory_proto::op::Message;
use hickory_proto::rr::{Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::fast::{Ask, Verdict, error_reply, respond};
use crate::wire::{CLASS_IN, Edns, HEADER, Question, flag, rcode, read_question, rtype, u16_at};
use crate::zone::Snapshot;

/// Octets of the shortest possible record: root name, type, class, TTL, length.
const SHORTEST_RECORD: usize = 11;

pub(crate) fn answer(snapshot: &Snapshot, query: &[u8], ask: Ask, out: &mut Vec<u8>) -> Verdict {
    let (Some(id), Some(flags)) = (u16_at(query, 0), u16_at(query, 2)) else { return Verdict::Drop };
    let header_only = Question { id, flags, name_len: 0, qtype: 0, qclass: 0, edns: None };
    let one_question = u16_at(query, 4) == Some(1);
    let question = read_question(query).filter(|_| one_question);
    let refuse = |question: Option<Question>, code: u16, out: &mut Vec<u8>| {
        let bytes = if question.is_some() { query } else { &[] };
        error_reply(bytes, &question.unwrap_or(header_only), ask, code, out).slow()
    };
    if flags & flag::OPCODE != 0 {
        return refuse(question, rcode::NOTIMP, out);
    }
    let Some(mut question) = question else { return refuse(None, rcode::FORMERR, out) };
    // hickory sizes its tables by the counts of the header: no more than the bytes can hold.
    let records: usize = [6, 8, 10].iter().filter_map(|at| u16_at(query, *at)).map(usize::from).sum();
    if records > query.len().saturating_sub(HEADER) / SHORTEST_RECORD {
        return refuse(Some(question), rcode::FORMERR, out);
    }
    let mut decoder = BinDecoder::new(query);
    let message = match Message::read(&mut decoder) {
        Ok(message) if decoder.is_empty() => message,
        _ => return refuse(Some(question), rcode::FORMERR, out),
    };
    question.edns = message.edns.as_ref().map(|edns| Edns {
        payload: edns.max_payload(),
        version: edns.version(),
        dnssec_ok: edns.flags().dnssec_ok,
    });
    // Without its DNSSEC feature hickory leaves a signature among the additional records.
    let signed = |record: &Record| matches!(record.record_type(), RecordType::TSIG | RecordType::SIG);
    let is_signed = message.signature.is_some() || message.additionals.iter().any(signed);
    let code = match question.qtype {
        _ if question.qclass != CLASS_IN => rcode::REFUSED,
        _ if is_signed => rcode::NOTAUTH,
        0 | rtype::OPT => rcode::FORMERR,
        rtype::AXFR | rtype::IXFR => rcode::REFUSED,
        rtype::FIRST_META..=rtype::LAST_META => rcode::NOTIMP,
        _ => return respond(snapshot, query, &question, ask, out).slow(),
    };
    refuse(Some(question), code, out)
}
