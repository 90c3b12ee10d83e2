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

/// Octets of the shortest possible entry of a section: a question with the root name.
const SHORTEST_ENTRY: usize = 5;

pub(crate) fn answer(snapshot: &Snapshot, query: &[u8], ask: Ask, out: &mut Vec<u8>) -> Verdict {
    let (Some(id), Some(flags)) = (u16_at(query, 0), u16_at(query, 2)) else { return Verdict::Drop };
    let message = decode(query);
    // RFC 6891 section 6.1.1: who sends an OPT gets one back, in errors also.
    let edns = message.as_ref().and_then(|message| message.edns.as_ref()).map(|edns| Edns {
        payload: edns.max_payload(),
        version: edns.version(),
        dnssec_ok: edns.flags().dnssec_ok,
    });
    let one_question = u16_at(query, 4) == Some(1);
    let question =
        read_question(query).filter(|_| one_question).map(|question| Question { edns, ..question });
    let code = match (&question, &message) {
        _ if flags & flag::OPCODE != 0 => rcode::NOTIMP,
        (Some(question), Some(message)) => match judge(question, message) {
            Ok(()) => return respond(snapshot, query, question, ask, out).slow(),
            Err(code) => code,
        },
        _ => rcode::FORMERR,
    };
    let header_only = Question { id, flags, name_len: 0, qtype: 0, qclass: 0, edns };
    error_reply(query, &question.unwrap_or(header_only), ask, code, out).slow()
}

/// The whole message, if it is one from the first byte to the last.
fn decode(query: &[u8]) -> Option<Message> {
    // hickory sizes its tables by the counts of the header: no more than the bytes can hold.
    let entries: usize = [4, 6, 8, 10].iter().filter_map(|at| u16_at(query, *at)).map(usize::from).sum();
    if entries > query.len().saturating_sub(HEADER) / SHORTEST_ENTRY {
        return None;
    }
    let mut decoder = BinDecoder::new(query);
    Message::read(&mut decoder).ok().filter(|_| decoder.is_empty())
}

/// Whether a question that decodes is answered after all, or with which code it is turned down.
fn judge(question: &Question, message: &Message) -> Result<(), u16> {
    // Without its DNSSEC feature hickory leaves a signature among the additional records.
    let signed = |record: &Record| matches!(record.record_type(), RecordType::TSIG | RecordType::SIG);
    match question.qtype {
        _ if question.qclass != CLASS_IN => Err(rcode::REFUSED),
        _ if message.signature.is_some() || message.additionals.iter().any(signed) => Err(rcode::NOTAUTH),
        0 | rtype::OPT => Err(rcode::FORMERR),
        rtype::AXFR | rtype::IXFR => Err(rcode::REFUSED),
        rtype::FIRST_META..=rtype::LAST_META => Err(rcode::NOTIMP),
        _ => Ok(()),
    }
}
