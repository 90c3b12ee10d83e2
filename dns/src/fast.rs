//! A query's bytes in, an answer's bytes out.
//!
//! The ordinary question (one, class IN, at most an OPT record beside it) is answered by a hash lookup and a copy
//! of prepared records behind the question's own bytes, which keeps the letter case it was asked in. Nothing is
//! allocated when the caller's buffer has room. Everything unusual goes to the slow path.

use crate::wire::{
    CLASS_IN, HEADER, MAX_POINTER, OPT_LEN, Parsed, Question, RR_HEAD, Transport, flag, opt_record, parse,
    rcode, rtype, u16_at,
};
use crate::zone::{Node, RrSet, Snapshot};

/// What the caller knows about a query besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// How it came.
    pub transport: Transport,
    /// Whether this client may have foreign names forwarded. Without, they are REFUSED.
    pub recursion: bool,
    /// Any number that differs between queries: where in a set the answer begins. It need not be secret.
    pub rotation: u32,
}

/// What became of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is in the buffer.
    Answered(Outcome),
    /// The name is not ours, and this client may have it forwarded. The buffer is as it was.
    Forward(Question),
    /// Nothing may be sent: too short for a header, or itself a response.
    Drop,
}

impl Verdict {
    pub(crate) fn slow(self) -> Verdict {
        match self {
            Verdict::Answered(outcome) => Verdict::Answered(Outcome { slow: true, ..outcome }),
            other => other,
        }
    }
}

/// What was answered, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// With its extended bits (see [`rcode`]).
    pub rcode: u16,
    /// Records in the answer section.
    pub answers: u16,
    /// TC is set: the client comes back over TCP.
    pub truncated: bool,
    /// Whether the slow path was taken.
    pub slow: bool,
}

/// CNAMEs followed in one answer. Aliases cannot loop; this bounds the work of a long chain.
const MAX_CHAIN: usize = 8;

/// Answers `query`, appending to `out`; what was in `out` stays (TCP's length goes before).
///
/// Does not allocate when `out` has room for the answer: 1232 bytes for UDP, 65,535 for TCP.
pub fn answer(snapshot: &Snapshot, query: &[u8], ask: Ask, out: &mut Vec<u8>) -> Verdict {
    match parse(query) {
        Parsed::Ignore => Verdict::Drop,
        Parsed::Question(question) => respond(snapshot, query, &question, ask, out),
        Parsed::Odd => crate::slow::answer(snapshot, query, ask, out),
    }
}

/// A message under construction.
struct Reply<'a> {
    out: &'a mut Vec<u8>,
    /// Where the message begins in `out`.
    base: usize,
    /// Where it must end, the OPT record not counted.
    limit: usize,
    counts: [u16; 3],
    flags: u16,
    truncated: bool,
}

const ANSWER: usize = 0;
const AUTHORITY: usize = 1;
const ADDITIONAL: usize = 2;

impl<'a> Reply<'a> {
    /// Begins with the header's room and the question as it was asked.
    fn new(query: &[u8], question: &Question, ask: Ask, out: &'a mut Vec<u8>) -> Reply<'a> {
        let base = out.len();
        out.extend_from_slice(&[0; HEADER]);
        if question.name_len > 0 {
            out.extend_from_slice(query.get(HEADER..question.end()).unwrap_or_default());
        }
        let opt = if question.edns.is_some() { OPT_LEN } else { 0 };
        let limit = base + question.limit(ask.transport) - opt;
        let echoed = question.flags & (flag::OPCODE | flag::RD | flag::CD);
        let ra = if ask.recursion { flag::RA } else { 0 };
        Reply { out, base, limit, counts: [0; 3], flags: flag::QR | echoed | ra, truncated: false }
    }

    /// The offset of the next byte, from the beginning of the message.
    fn at(&self) -> usize {
        self.out.len() - self.base
    }

    fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }

    /// Appends `set`, owned by the name at offset `owner`, as far as it fits. True when all of it did.
    fn put_set(&mut self, section: usize, set: &RrSet, start: usize, owner: usize) -> bool {
        let from = self.out.len();
        let written = set.emit(start, self.room(), self.out);
        self.counts[section] += written as u16;
        if owner != HEADER {
            repoint(self.out.get_mut(from..).unwrap_or_default(), owner);
        }
        written == set.len()
    }

    /// The same, but all or nothing, for records an answer can do without.
    fn put_whole_set(&mut self, section: usize, set: &RrSet, start: usize, owner: usize) -> bool {
        let (len, count) = (self.out.len(), self.counts[section]);
        let whole = self.put_set(section, set, start, owner);
        if !whole {
            self.out.truncate(len);
            self.counts[section] = count;
        }
        whole
    }

    fn put_soa(&mut self, section: usize, snapshot: &Snapshot, zone: u32, owner: usize) {
        let Some((before, serial, after)) = snapshot.soa(zone) else { return };
        if before.len() + 4 + after.len() > self.room() || owner > MAX_POINTER {
            self.truncated = true;
            return;
        }
        let from = self.out.len();
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(&serial.to_be_bytes());
        self.out.extend_from_slice(after);
        self.counts[section] += 1;
        repoint(self.out.get_mut(from..).unwrap_or_default(), owner);
    }

    fn finish(self, question: &Question, code: u16) -> Verdict {
        let mut additional = self.counts[ADDITIONAL];
        if let Some(edns) = question.edns {
            self.out.extend_from_slice(&opt_record((code >> 4) as u8, edns.dnssec_ok));
            additional += 1;
        }
        let tc = if self.truncated { flag::TC } else { 0 };
        let words = [
            question.id,
            self.flags | tc | (code & 0xf),
            u16::from(question.name_len > 0),
            self.counts[ANSWER],
            self.counts[AUTHORITY],
            additional,
        ];
        if let Some(header) = self.out.get_mut(self.base..self.base + HEADER) {
            for (slot, word) in header.chunks_exact_mut(2).zip(words) {
                slot.copy_from_slice(&word.to_be_bytes());
            }
        }
        Verdict::Answered(Outcome {
            rcode: code,
            answers: self.counts[ANSWER],
            truncated: self.truncated,
            slow: false,
        })
    }
}

/// Makes the records in `records`, each owned by a pointer, belong to the name at offset `owner`.
fn repoint(records: &mut [u8], owner: usize) {
    let pointer = (0xc000 | (owner & MAX_POINTER) as u16).to_be_bytes();
    let mut at = 0;
    while let Some(slot) = records.get_mut(at..at + 2) {
        slot.copy_from_slice(&pointer);
        let Some(len) = u16_at(records, at + 10) else { return };
        at += RR_HEAD + usize::from(len);
    }
}

/// A reply of a code and no records.
pub(crate) fn error_reply(
    query: &[u8],
    question: &Question,
    ask: Ask,
    code: u16,
    out: &mut Vec<u8>,
) -> Verdict {
    Reply::new(query, question, ask, out).finish(question, code)
}

/// An empty answer with TC to an ordinary question: the client comes back over TCP. False when it was none; then nothing is to be
/// sent.
pub(crate) fn truncated_reply(query: &[u8], out: &mut Vec<u8>) -> bool {
    let Parsed::Question(question) = parse(query) else { return false };
    let ask = Ask { transport: Transport::Udp, recursion: false, rotation: 0 };
    let mut reply = Reply::new(query, &question, ask, out);
    reply.truncated = true;
    matches!(reply.finish(&question, rcode::NOERROR), Verdict::Answered(_))
}

/// Answers a question that has been read.
pub(crate) fn respond(
    snapshot: &Snapshot,
    query: &[u8],
    question: &Question,
    ask: Ask,
    out: &mut Vec<u8>,
) -> Verdict {
    if question.edns.is_some_and(|edns| edns.version > 0) {
        return error_reply(query, question, ask, rcode::BADVERS, out);
    }
    let mut lowered = [0u8; 256];
    let asked = query.get(HEADER..HEADER + question.name_len).unwrap_or_default();
    let Some(name) = lowered.get_mut(..asked.len()) else { return Verdict::Drop };
    name.copy_from_slice(asked);
    // Length octets are below 64 and so no letters.
    name.make_ascii_lowercase();
    let mut name: &[u8] = name;

    let mut found = find(snapshot, name);
    if matches!(found, Found::Foreign) {
        return if ask.recursion && question.recursion_desired() {
            Verdict::Forward(*question)
        } else {
            error_reply(query, question, ask, rcode::REFUSED, out)
        };
    }

    let mut reply = Reply::new(query, question, ask, out);
    reply.flags |= flag::AA;
    let mut owner = HEADER;
    for _ in 0..MAX_CHAIN {
        let node = match found {
            Found::Node(node) => node,
            Found::Missing { apex_at, zone } => {
                reply.put_soa(AUTHORITY, snapshot, zone, owner + apex_at);
                return reply.finish(question, rcode::NXDOMAIN);
            }
            Found::Foreign => return reply.finish(question, rcode::NOERROR),
        };
        match node.set(rtype::CNAME) {
            Some(alias) if question.qtype != rtype::CNAME => {
                let target_at = reply.at() + RR_HEAD;
                if !reply.put_set(ANSWER, alias, 0, owner) {
                    reply.truncated = true;
                    return reply.finish(question, rcode::NOERROR);
                }
                // RFC 8482 section 4.3: for ANY the alias is answer enough.
                let Some(target) = alias.records().next().and_then(|record| record.get(RR_HEAD..)) else {
                    break;
                };
                if question.qtype == rtype::ANY {
                    break;
                }
                name = target;
                owner = target_at;
                found = find(snapshot, name);
            }
            _ => {
                put_node(&mut reply, snapshot, question, ask, node, owner);
                break;
            }
        }
    }
    reply.finish(question, rcode::NOERROR)
}

enum Found<'a> {
    Node(&'a Node),
    /// In the zone, but there is nothing of this name. `apex_at`: where in the name the zone's apex begins.
    Missing {
        apex_at: usize,
        zone: u32,
    },
    Foreign,
}

fn find<'a>(snapshot: &'a Snapshot, name: &[u8]) -> Found<'a> {
    if let Some(node) = snapshot.node(name) {
        return Found::Node(node);
    }
    match snapshot.encloser(name) {
        Some((at, node)) => Found::Missing { apex_at: at + usize::from(node.apex_at), zone: node.zone },
        None => Found::Foreign,
    }
}

/// The answer for a name that exists and is no alias.
fn put_node(
    reply: &mut Reply<'_>,
    snapshot: &Snapshot,
    question: &Question,
    ask: Ask,
    node: &Node,
    owner: usize,
) {
    let start = ask.rotation as usize;
    if question.qtype == rtype::SOA && node.is_apex() {
        reply.put_soa(ANSWER, snapshot, node.zone, owner);
    } else if question.qtype == rtype::ANY && (node.is_apex() || node.sets().next().is_some()) {
        put_hinfo(reply, snapshot.negative_ttl(node.zone), owner);
    } else if let Some(set) = node.set(question.qtype) {
        let from = reply.out.len();
        reply.truncated = !reply.put_set(ANSWER, set, start, owner);
        if !reply.truncated {
            match question.qtype {
                rtype::SRV => put_glue(reply, snapshot, from, 6),
                rtype::NS => put_glue(reply, snapshot, from, 0),
                _ => {}
            }
        }
    } else {
        reply.put_soa(AUTHORITY, snapshot, node.zone, owner + usize::from(node.apex_at));
    }
}

/// RFC 8482 section 4.2: one synthesised HINFO instead of everything.
fn put_hinfo(reply: &mut Reply<'_>, ttl: u32, owner: usize) {
    const DATA: &[u8] = b"\x07RFC8482\x00";
    if RR_HEAD + DATA.len() > reply.room() {
        reply.truncated = true;
        return;
    }
    let from = reply.out.len();
    reply.out.extend_from_slice(&[0, 0]);
    for word in [rtype::HINFO, CLASS_IN] {
        reply.out.extend_from_slice(&word.to_be_bytes());
    }
    reply.out.extend_from_slice(&ttl.to_be_bytes());
    reply.out.extend_from_slice(&(DATA.len() as u16).to_be_bytes());
    reply.out.extend_from_slice(DATA);
    reply.counts[ANSWER] += 1;
    repoint(reply.out.get_mut(from..).unwrap_or_default(), owner);
}

/// Adds the addresses of the names that the answer's records (from `from` on) point to, `skip` bytes into their
/// data. What does not fit is left out without TC: the client can ask for it (RFC 2181 section 9).
fn put_glue(reply: &mut Reply<'_>, snapshot: &Snapshot, from: usize, skip: usize) {
    let end = reply.out.len();
    let mut at = from;
    while at < end {
        let Some(len) = u16_at(reply.out, at + 10) else { return };
        let target = at + RR_HEAD + skip;
        at += RR_HEAD + usize::from(len);
        let owner = target - reply.base;
        if owner > MAX_POINTER {
            return;
        }
        let Some(node) = reply.out.get(target..at).and_then(|name| snapshot.node(name)) else { continue };
        for kind in [rtype::A, rtype::AAAA] {
            if let Some(set) = node.set(kind)
                && !reply.put_whole_set(ADDITIONAL, set, 0, owner)
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
