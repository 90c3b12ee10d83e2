//! Any frames at a server whose promises are kept at once: what the fuzz target and its replay drive.

use std::net::Ipv4Addr;

use super::{
    Action, ClientKey, DynamicRange, Lease, LeaseState, LeaseTable, LeaseView, ReservedBinding, Server,
    ServerConfig,
};
use crate::mac::Mac;
use crate::wire::parse_frame;

const RESERVED: Mac = Mac([2, 0, 0x5e, 0, 1, 1]);
const RESERVED_IP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 17);

struct Book(LeaseTable);

impl LeaseView for Book {
    fn reservation(&self, mac: Mac) -> Option<ReservedBinding> {
        (mac == RESERVED).then(|| ReservedBinding { address: RESERVED_IP, hostname: Some("web-1".into()) })
    }
    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        address == RESERVED_IP
    }
    fn lease_of(&self, client: &ClientKey) -> Option<&Lease> {
        self.0.of(client)
    }
    fn lease_at(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.0.at(address)
    }
    fn bound_to(&self, mac: Mac) -> usize {
        self.0.bound_to(mac)
    }
    fn free(&self, skip: &dyn Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        self.0.free(skip)
    }
}

/// Entry point for fuzzing: frames, each behind two bytes, how long it is and how many tenths of a second pass before it.
///
/// # Panics
/// When the server gives a reserved address to somebody else, sends what is no frame, or believes a client about its name.
pub fn fuzz(mut data: &[u8]) {
    let Ok(prefix) = "10.9.0.0/24".parse() else { return };
    let range = DynamicRange { first: [10, 9, 0, 100].into(), last: [10, 9, 0, 103].into(), probe_ms: 0 };
    let mut config = ServerConfig::new(Mac([2, 0, 0x5e, 0, 1, 254]), [10, 9, 0, 2].into(), prefix);
    config.dynamic = Some(range);
    config.domain = Some("s.internal".into());
    let Ok(mut server) = Server::new(config) else { return };
    let mut book = Book(LeaseTable::with_range(&range));
    let mut now = 1_000_000;
    while let [length, pause, rest @ ..] = data {
        let (frame, rest) = rest.split_at((usize::from(*length) * 2).min(rest.len()));
        data = rest;
        now += u64::from(*pause) * 100;
        let mut actions = server.poll(now);
        actions.extend(server.handle(frame, now, &book));
        for action in actions {
            let sent = match action {
                Action::Send(frame) => Some(frame),
                Action::Persist { change, then } => {
                    book.0.apply(&change);
                    then
                }
                Action::Log(event) => {
                    // What a client says goes to a log line: it stays one.
                    assert!(!event.to_string().contains(['\n', '\r', '\x1b']), "{event}");
                    None
                }
            };
            assert!(sent.is_none_or(|frame| parse_frame(&frame).is_ok()), "what is sent is a frame");
        }
        let reserved = book.0.at(RESERVED_IP).filter(|lease| lease.state == LeaseState::Bound);
        assert!(
            reserved.is_none_or(|lease| lease.client.mac == RESERVED),
            "a reserved address went elsewhere"
        );
    }
}
