//! Replies: which options they carry, and where they are sent.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::action::NakReason;
use super::config::ServerConfig;
use super::request::Incoming;
use crate::mac::Mac;
use crate::wire::{
    FLAG_BROADCAST, Message, MessageType, Op, Options, Udp4, build_udp4, code, encode_name, parse_fqdn,
};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// IPv4 and UDP headers.
const HEADERS: u16 = 28;
/// What every client must accept (RFC 2132 §9.10), with headers.
const MIN_MESSAGE_SIZE: u16 = 576;

/// What a client gets that does not ask for anything in particular.
const DEFAULT_LIST: [u8; 10] = [
    code::SUBNET_MASK,
    code::BROADCAST,
    code::CLASSLESS_ROUTES,
    code::ROUTER,
    code::DOMAIN_NAME,
    code::DNS_SERVERS,
    code::HOST_NAME,
    code::DOMAIN_SEARCH,
    code::INTERFACE_MTU,
    code::NTP_SERVERS,
];

/// A positive answer's content.
pub(super) struct Grant<'a> {
    pub(super) kind: MessageType,
    /// Zero in the answer to an INFORM.
    pub(super) yiaddr: Ipv4Addr,
    /// Seconds; none in the answer to an INFORM.
    pub(super) lease_s: Option<u32>,
    pub(super) hostname: Option<&'a str>,
}

/// A frame, and the options it had no room for.
pub(super) struct Built {
    pub(super) frame: Option<Vec<u8>>,
    pub(super) left_out: Vec<u8>,
}

/// Builds replies from what is the same for all clients.
#[derive(Debug, Clone)]
pub(super) struct Replier {
    pub(super) config: ServerConfig,
    pub(super) table: BTreeMap<u8, Vec<u8>>,
}

impl Replier {
    /// OFFER or ACK.
    pub(super) fn grant(&self, to: &Incoming, grant: &Grant<'_>) -> Built {
        let mut reply = self.reply(to, grant.kind);
        reply.yiaddr = grant.yiaddr;
        reply.siaddr = self.config.next_server.unwrap_or(Ipv4Addr::UNSPECIFIED);
        if grant.kind == MessageType::Ack {
            reply.ciaddr = to.message.ciaddr;
        }
        let options = &mut reply.options;
        if let Some(seconds) = grant.lease_s {
            options.set(code::LEASE_TIME, seconds.to_be_bytes());
            // RFC 2131 §4.4.5: one half and seven eighths.
            let (t1, t2) = match seconds {
                u32::MAX => (u32::MAX, u32::MAX),
                s => (s / 2, (u64::from(s) * 7 / 8) as u32),
            };
            options.set(code::RENEWAL_T1, t1.to_be_bytes());
            options.set(code::REBINDING_T2, t2.to_be_bytes());
        }
        self.requested(to, grant.hostname, options);
        if grant.kind == MessageType::Offer
            && self.config.forbid_autoconf
            && to.message.options.get(code::AUTO_CONFIGURE).is_some()
        {
            options.set(code::AUTO_CONFIGURE, [0]);
        }
        self.fqdn(to, grant.hostname, options);
        self.echo(to, options);
        self.send(to, &reply)
    }

    /// NAK (RFC 2131 table 3: server identifier, message, and what is echoed; nothing else).
    pub(super) fn nak(&self, to: &Incoming, why: NakReason) -> Built {
        let mut reply = self.reply(to, MessageType::Nak);
        reply.options.set(code::MESSAGE, why.to_string().into_bytes());
        self.echo(to, &mut reply.options);
        if !reply.giaddr.is_unspecified() {
            // §4.3.2: the relay must broadcast it, the client's address being wrong.
            reply.flags |= FLAG_BROADCAST;
        }
        self.send(to, &reply)
    }

    fn reply(&self, to: &Incoming, kind: MessageType) -> Message {
        let mut options = Options::new();
        options.set(code::SERVER_ID, self.config.ip.octets());
        Message {
            op: Op::Reply,
            hops: 0,
            xid: to.message.xid,
            secs: 0,
            flags: to.message.flags & FLAG_BROADCAST,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: to.message.giaddr,
            chaddr: to.message.chaddr,
            kind,
            options,
        }
    }

    /// The parameters, in the order the client asked for them (RFC 2132 §9.8).
    fn requested(&self, to: &Incoming, hostname: Option<&str>, options: &mut Options) {
        let list = to.message.options.get(code::PARAMETER_LIST).unwrap_or(&DEFAULT_LIST);
        // RFC 2132 §3.3: the mask comes before any router; every client needs it.
        for code in std::iter::once(&code::SUBNET_MASK).chain(list) {
            if options.get(*code).is_some() {
                continue;
            }
            match (*code, hostname) {
                (code::HOST_NAME, Some(name)) => options.set(code::HOST_NAME, name.as_bytes()),
                (code, _) => {
                    if let Some(value) = self.table.get(&code) {
                        options.set(code, value.as_slice());
                    }
                }
            }
        }
    }

    /// RFC 4702 §4: the fabric publishes its own name for the client (S) or none at all (N), whatever the client
    /// wished (O); the name told is the fabric's.
    fn fqdn(&self, to: &Incoming, hostname: Option<&str>, options: &mut Options) {
        let Some(asked) = to.message.options.get(code::CLIENT_FQDN).and_then(parse_fqdn) else { return };
        let full = hostname.map(|h| match &self.config.domain {
            Some(domain) => format!("{h}.{}", domain.trim_end_matches('.')),
            None => h.to_owned(),
        });
        let encoded =
            full.and_then(
                |name| {
                    if asked.dns_encoding { encode_name(&name).ok() } else { Some(name.into_bytes()) }
                },
            );
        let publish = encoded.is_some();
        let (s, o) = (u8::from(publish), u8::from(publish != asked.server_updates));
        let (e, n) = (u8::from(asked.dns_encoding), u8::from(!publish));
        // Both result codes are 255 by decree (§3.2).
        let mut value = vec![n << 3 | e << 2 | o << 1 | s, 255, 255];
        value.extend(encoded.unwrap_or_default());
        options.set(code::CLIENT_FQDN, value);
    }

    /// What goes back unchanged: client-id (RFC 6842), subnet selection (RFC 3011), relay information (RFC 3046).
    fn echo(&self, to: &Incoming, options: &mut Options) {
        for code in [code::CLIENT_ID, code::SUBNET_SELECTION, code::RELAY_AGENT] {
            if let Some(value) = to.message.options.get(code) {
                options.set(code, value);
            }
        }
    }

    /// RFC 2131 §4.1.
    fn send(&self, to: &Incoming, reply: &Message) -> Built {
        let asked = to.message.options.u16(code::MAX_MESSAGE_SIZE).unwrap_or(0);
        let size = asked.max(MIN_MESSAGE_SIZE).min(self.config.mtu);
        let (payload, left_out) = reply.build(usize::from(size - HEADERS));

        let (dst_mac, dst, dst_port) = if !reply.giaddr.is_unspecified() {
            (to.from, reply.giaddr, SERVER_PORT)
        } else if reply.kind == MessageType::Nak {
            (Mac::BROADCAST, Ipv4Addr::BROADCAST, CLIENT_PORT)
        } else if !to.message.ciaddr.is_unspecified() {
            (reply.chaddr, to.message.ciaddr, CLIENT_PORT)
        } else if reply.flags & FLAG_BROADCAST != 0 || reply.yiaddr.is_unspecified() {
            (Mac::BROADCAST, Ipv4Addr::BROADCAST, CLIENT_PORT)
        } else {
            (reply.chaddr, reply.yiaddr, CLIENT_PORT)
        };
        let udp = Udp4 { src: self.config.ip, dst, src_port: SERVER_PORT, dst_port, payload: &payload };
        Built { frame: build_udp4(dst_mac, self.config.mac, &udp), left_out }
    }
}
