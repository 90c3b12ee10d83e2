//! DHCP options as code and octets, in order, however they were split (RFC 3396) or overloaded (RFC 2132 §9.3).

use std::net::Ipv4Addr;

use super::reader::Reader;

/// Option codes this crate knows by name (IANA "BOOTP Vendor Extensions and DHCP Options").
#[allow(missing_docs)]
pub mod code {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS_SERVERS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const INTERFACE_MTU: u8 = 26;
    pub const BROADCAST: u8 = 28;
    pub const NTP_SERVERS: u8 = 42;
    pub const REQUESTED_IP: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETER_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    pub const RENEWAL_T1: u8 = 58;
    pub const REBINDING_T2: u8 = 59;
    pub const CLIENT_ID: u8 = 61;
    pub const CLIENT_FQDN: u8 = 81;
    pub const RELAY_AGENT: u8 = 82;
    pub const IPV6_ONLY: u8 = 108;
    pub const AUTO_CONFIGURE: u8 = 116;
    pub const SUBNET_SELECTION: u8 = 118;
    pub const DOMAIN_SEARCH: u8 = 119;
    pub const CLASSLESS_ROUTES: u8 = 121;
    pub const END: u8 = 255;
}

/// Options in the order of their first appearance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The octets of an option, joined if it was split.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(c, _)| *c == code).map(|(_, v)| v.as_slice())
    }

    /// An option of exactly one octet.
    pub fn u8(&self, code: u8) -> Option<u8> {
        self.get(code)?.try_into().ok().map(|[b]: [u8; 1]| b)
    }

    /// An option of exactly two octets.
    pub fn u16(&self, code: u8) -> Option<u16> {
        self.get(code)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// An option of exactly four octets.
    pub fn u32(&self, code: u8) -> Option<u32> {
        self.get(code)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// An option that is one IPv4 address.
    pub fn ipv4(&self, code: u8) -> Option<Ipv4Addr> {
        self.u32(code).map(Ipv4Addr::from)
    }

    /// Adds an option at the end; one that is there already keeps its place and gets the new value. Pad, end and
    /// overload are not options of their own and are ignored.
    pub fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        if matches!(code, code::PAD | code::END | code::OVERLOAD) {
            return;
        }
        match self.0.iter_mut().find(|(c, _)| *c == code) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((code, value.into())),
        }
    }

    /// All options, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(c, v)| (*c, v.as_slice()))
    }

    /// Reads one field; `None` if an option runs over its end. Repeated options are joined in order, which over the
    /// fields options, file, sname is the aggregate of RFC 3396 §7.
    pub(super) fn read(&mut self, field: &[u8]) -> Option<()> {
        let mut r = Reader::new(field);
        while !r.is_empty() {
            let code = match r.u8()? {
                code::PAD => continue,
                code::END => break,
                code => code,
            };
            let len = usize::from(r.u8()?);
            let value = r.take(len)?;
            match self.0.iter_mut().find(|(c, _)| *c == code) {
                Some((_, joined)) => joined.extend_from_slice(value),
                None => self.0.push((code, value.to_vec())),
            }
        }
        Some(())
    }

    pub(super) fn take_overload(&mut self) -> Option<u8> {
        let at = self.0.iter().position(|(c, _)| *c == code::OVERLOAD)?;
        let (_, value) = self.0.remove(at);
        value.first().copied()
    }

    /// Lays the options out. What does not fit is left out and named, last first in importance.
    pub(super) fn pack(&self, room: usize) -> Packed {
        let total: usize = self.0.iter().map(|(_, v)| encoded_len(v)).sum();
        let overload = total + 1 > room;
        // RFC 3046 §2.2: option 82 comes last, so its room is set aside first.
        let last = self.0.iter().find(|(c, _)| *c == code::RELAY_AGENT);
        let reserved = last.map_or(0, |(_, v)| encoded_len(v)) + 1 + if overload { 3 } else { 0 };
        let mut fields = [Vec::new(), Vec::new(), Vec::new()];
        // One octet of file (128) and sname (64) is for their own end mark.
        let rooms = [room.saturating_sub(reserved), 127, 63];
        let mut dropped = Vec::new();
        for (code, value) in self.0.iter().filter(|(c, _)| *c != code::RELAY_AGENT) {
            let usable = if overload { 3 } else { 1 };
            let mut places = fields.iter_mut().zip(rooms).take(usable);
            match places.find(|(field, room)| field.len() + encoded_len(value) <= *room) {
                Some((field, _)) => put(field, *code, value),
                None => dropped.push(*code),
            }
        }
        let [mut main, mut file, mut sname] = fields;
        let used = u8::from(!file.is_empty()) + 2 * u8::from(!sname.is_empty());
        if used > 0 {
            put(&mut main, code::OVERLOAD, &[used]);
        }
        if let Some((code, value)) = last {
            if main.len() + encoded_len(value) < room {
                put(&mut main, *code, value);
            } else {
                dropped.push(*code);
            }
        }
        main.push(code::END);
        for field in [&mut file, &mut sname].into_iter().filter(|f| !f.is_empty()) {
            field.push(code::END);
        }
        Packed { main, file, sname, dropped }
    }
}

/// Options laid out over the three fields that can hold them.
pub(super) struct Packed {
    pub(super) main: Vec<u8>,
    pub(super) file: Vec<u8>,
    pub(super) sname: Vec<u8>,
    /// Codes that found no room.
    pub(super) dropped: Vec<u8>,
}

fn encoded_len(value: &[u8]) -> usize {
    value.len() + 2 * value.len().div_ceil(255).max(1)
}

/// RFC 3396 §5: longer than 255 octets becomes several options of the same code, in order.
fn put(field: &mut Vec<u8>, code: u8, value: &[u8]) {
    let mut chunks = value.chunks(255);
    let first = chunks.next().unwrap_or(&[]);
    for chunk in std::iter::once(first).chain(chunks) {
        field.extend([code, chunk.len() as u8]);
        field.extend_from_slice(chunk);
    }
}
