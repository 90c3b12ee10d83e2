//! The DNS message format, as far as the fast path needs it: reading a question, writing an answer.
//!
//! RFC 1035 section 4 and RFC 6891 (EDNS). What this reader does not take as an ordinary question goes to the
//! slow path; nothing here can panic on any bytes.

/// Record and query types used here (IANA DNS parameters).
#[allow(missing_docs)]
pub mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    /// 249 (TKEY) to 254 (MAILA) are transactions, transfers and obsolete questions.
    pub const FIRST_META: u16 = 249;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const LAST_META: u16 = 254;
    pub const ANY: u16 = 255;
}

/// Response codes used here (IANA DNS parameters).
#[allow(missing_docs)]
pub mod rcode {
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const NOTAUTH: u16 = 9;
    pub const BADVERS: u16 = 16;
}

/// The class Internet.
pub(crate) const CLASS_IN: u16 = 1;
/// Octets of a message header.
pub(crate) const HEADER: usize = 12;
/// Octets of a record before its data, when its owner is a pointer.
pub(crate) const RR_HEAD: usize = 12;
/// Octets of an OPT record without options.
pub(crate) const OPT_LEN: usize = 11;
/// Largest UDP answer, whatever the client offers (DNS flag day 2020: no fragments on any sane path).
pub const MAX_UDP: usize = 1232;
/// Largest UDP answer to a client without EDNS (RFC 1035 section 2.3.4).
pub const MAX_PLAIN_UDP: usize = 512;
/// Largest message at all: TCP's length field.
pub const MAX_TCP: usize = 65_535;
/// A pointer to the question's name, which always begins at offset 12.
pub(crate) const TO_QUESTION: [u8; 2] = [0xc0, 0x0c];
/// A compression pointer has 14 bits.
pub(crate) const MAX_POINTER: usize = 0x3fff;

/// Bits of the second header word.
pub(crate) mod flag {
    pub(crate) const QR: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const AA: u16 = 0x0400;
    pub(crate) const TC: u16 = 0x0200;
    pub(crate) const RD: u16 = 0x0100;
    pub(crate) const RA: u16 = 0x0080;
    /// Authentic data.
    pub(crate) const AD: u16 = 0x0020;
    pub(crate) const CD: u16 = 0x0010;
    /// DNSSEC OK, in the OPT record's TTL.
    pub(crate) const DO: u16 = 0x8000;
}

/// Two octets at `at`, or nothing.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([*pair.first()?, *pair.get(1)?]))
}

/// How a message came, and so how large an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// A datagram: 512 bytes, or what EDNS offers up to [`MAX_UDP`].
    Udp,
    /// A stream: [`MAX_TCP`].
    Tcp,
}

/// What the client's OPT record said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The UDP payload size it takes, as sent.
    pub payload: u16,
    /// EDNS version; this server speaks 0.
    pub version: u8,
    /// DNSSEC OK: echoed (RFC 3225), and passed upstream.
    pub dnssec_ok: bool,
}

/// One question of class IN in a well-formed query of opcode QUERY. The name is in the query's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The message id.
    pub id: u16,
    /// The second header word as sent.
    pub flags: u16,
    /// Octets of the name on the wire, with the root label.
    pub name_len: usize,
    /// Type asked for.
    pub qtype: u16,
    /// Class asked for.
    pub qclass: u16,
    /// The OPT record, if there was one.
    pub edns: Option<Edns>,
}

impl Question {
    /// The octet after the question section.
    pub(crate) fn end(&self) -> usize {
        HEADER + self.name_len + 4
    }

    /// The largest answer this client takes.
    pub(crate) fn limit(&self, transport: Transport) -> usize {
        match (transport, self.edns) {
            (Transport::Tcp, _) => MAX_TCP,
            (Transport::Udp, None) => MAX_PLAIN_UDP,
            (Transport::Udp, Some(edns)) => usize::from(edns.payload).clamp(MAX_PLAIN_UDP, MAX_UDP),
        }
    }

    /// Whether the client asks for recursion.
    pub(crate) fn recursion_desired(&self) -> bool {
        self.flags & flag::RD != 0
    }
}

/// What the fast reader makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Nothing that may be answered: too short, or itself a response.
    Ignore,
    /// An ordinary question.
    Question(Question),
    /// Anything else: the slow path decides.
    Odd,
}

/// The length of the uncompressed name at `at`, or nothing when it is none.
pub(crate) fn name_len(bytes: &[u8], at: usize) -> Option<usize> {
    let mut pos = at;
    loop {
        let len = usize::from(*bytes.get(pos)?);
        pos += 1;
        if len == 0 {
            break;
        }
        if len > 63 {
            return None;
        }
        pos += len;
        if pos - at > 254 {
            return None;
        }
    }
    Some(pos - at)
}

/// Reads the question at offset 12, whatever the rest of the message is.
pub(crate) fn read_question(message: &[u8]) -> Option<Question> {
    let name_len = name_len(message, HEADER)?;
    Some(Question {
        id: u16_at(message, 0)?,
        flags: u16_at(message, 2)?,
        name_len,
        qtype: u16_at(message, HEADER + name_len)?,
        qclass: u16_at(message, HEADER + name_len + 2)?,
        edns: None,
    })
}

/// Reads a query.
pub(crate) fn parse(message: &[u8]) -> Parsed {
    let Some(&[_, _, f1, f2, q1, q2, a1, a2, n1, n2, r1, r2]) = message.first_chunk::<HEADER>() else {
        return Parsed::Ignore;
    };
    let flags = u16::from_be_bytes([f1, f2]);
    if flags & flag::QR != 0 {
        return Parsed::Ignore;
    }
    if flags & (flag::OPCODE | flag::TC) != 0 || [q1, q2, a1, a2, n1, n2, r1] != [0, 1, 0, 0, 0, 0, 0] {
        return Parsed::Odd;
    }
    let Some(mut question) = read_question(message) else { return Parsed::Odd };
    let meta = matches!(question.qtype, 0 | rtype::OPT | rtype::FIRST_META..=rtype::LAST_META);
    if question.qclass != CLASS_IN || meta {
        return Parsed::Odd;
    }
    let rest = message.get(question.end()..).unwrap_or_default();
    match (r2, rest) {
        (0, []) => Parsed::Question(question),
        // Root name, type OPT, payload size, extended rcode, version, flags, then exactly its options.
        (1, &[0, 0, 41, p1, p2, _, version, z1, _, l1, l2, ref options @ ..])
            if options.len() == usize::from(u16::from_be_bytes([l1, l2])) && options_are_whole(options) =>
        {
            let payload = u16::from_be_bytes([p1, p2]);
            question.edns = Some(Edns { payload, version, dnssec_ok: z1 & 0x80 != 0 });
            Parsed::Question(question)
        }
        _ => Parsed::Odd,
    }
}

/// Whether the bytes are a sequence of EDNS options; what they say is not looked at (RFC 6891 section 6.1.2).
fn options_are_whole(mut options: &[u8]) -> bool {
    while let Some((&[_, _, l1, l2], rest)) = options.split_first_chunk::<4>() {
        let Some(after) = rest.get(usize::from(u16::from_be_bytes([l1, l2]))..) else { return false };
        options = after;
    }
    options.is_empty()
}

/// A resource record owned by the question's name.
pub(crate) fn record(rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(RR_HEAD + rdata.len());
    out.extend_from_slice(&TO_QUESTION);
    out.extend_from_slice(&rtype.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    // Callers bound their data (TXT by 1300 bytes, names by 255), so this cannot cut.
    out.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
    out.extend_from_slice(rdata);
    out
}

/// The OPT record of an answer.
pub(crate) fn opt_record(extended_rcode: u8, dnssec_ok: bool) -> [u8; OPT_LEN] {
    let [p1, p2] = (MAX_UDP as u16).to_be_bytes();
    let [z1, z2] = (if dnssec_ok { flag::DO } else { 0 }).to_be_bytes();
    [0, 0, rtype::OPT as u8, p1, p2, extended_rcode, 0, z1, z2, 0, 0]
}

/// Data of a TXT record: each string behind its length. RFC 6763 section 6.1: no strings is one empty string.
pub(crate) fn txt_rdata(strings: &[String]) -> Vec<u8> {
    if strings.is_empty() {
        return vec![0];
    }
    let mut out = Vec::new();
    for string in strings {
        out.push(string.len().min(255) as u8);
        out.extend(string.bytes().take(255));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wEb\x01z\x00\x00\x01\x00\x01";

    fn with_opt(opt: &[u8]) -> Vec<u8> {
        let mut q = PLAIN.to_vec();
        q[11] = 1;
        q.extend_from_slice(opt);
        q
    }

    #[test]
    fn ordinary() {
        let Parsed::Question(q) = parse(PLAIN) else { panic!() };
        assert_eq!((q.id, q.name_len, q.qtype, q.edns), (0x1234, 7, 1, None));
        assert_eq!(q.limit(Transport::Udp), 512);
        let Parsed::Question(q) = parse(&with_opt(b"\0\0\x29\x10\0\0\0\x80\0\0\x04\0\x64\0\0")) else {
            panic!()
        };
        assert_eq!(q.edns, Some(Edns { payload: 4096, version: 0, dnssec_ok: true }));
        assert_eq!(q.limit(Transport::Udp), 1232);
    }

    #[test]
    fn odd_or_ignored() {
        assert_eq!(parse(&PLAIN[..11]), Parsed::Ignore);
        let mut response = PLAIN.to_vec();
        response[2] |= 0x80;
        assert_eq!(parse(&response), Parsed::Ignore);
        let mut trailing = PLAIN.to_vec();
        trailing.push(0);
        assert_eq!(parse(&trailing), Parsed::Odd);
        assert_eq!(parse(&PLAIN[..20]), Parsed::Odd);
        let cut_option = with_opt(b"\0\0\x29\x10\0\0\0\x80\0\0\x04\0\x64\0\x01");
        assert_eq!(parse(&cut_option), Parsed::Odd);
        let mut pointer = PLAIN.to_vec();
        pointer[12] = 0xc0;
        assert_eq!(parse(&pointer), Parsed::Odd);
    }

    #[test]
    fn name_length_limit() {
        let mut name = Vec::new();
        for _ in 0..3 {
            name.push(63);
            name.extend_from_slice(&[b'a'; 63]);
        }
        let mut longest = name.clone();
        longest.push(61);
        longest.extend_from_slice(&[b'a'; 61]);
        longest.push(0);
        assert_eq!(name_len(&longest, 0), Some(255));
        let mut over = name;
        over.push(62);
        over.extend_from_slice(&[b'a'; 62]);
        over.push(0);
        assert_eq!(name_len(&over, 0), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
