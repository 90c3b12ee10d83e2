//! Frames and messages as they are on the wire, parsed and built.
//!
//! All of it reads hostile bytes. Parsing goes through one bounds-checked reader and never indexes, so that no input
//! can panic; nothing is allocated beyond the size of the input.
//!
//! The codec is our own, for reasons that were tried: `dhcproto` 0.15 panics on a client FQDN of two octets and on a
//! rapid-commit with a length (debug assertions), and in `chaddr()` for an `hlen` above 16; it joins split options
//! only where they are adjacent and does not read overloaded fields; its default message draws a random xid. What
//! is left after guarding all that is smaller than the guards. `etherparse` reads headers well, through unchecked
//! accesses, where two hundred lines of checked ones do. Both serve as independent oracles in the tests.

mod arp;
mod frame;
mod message;
mod nd;
mod options;
mod reader;
mod udp;
mod values;

pub use arp::{Arp, ArpOp};
pub use frame::{Frame, FrameError, Payload, parse_frame};
pub use message::{FLAG_BROADCAST, MIN_PAYLOAD, Message, MessageError, MessageType, Op};
pub(crate) use nd::finish_icmp6;
pub use nd::{NeighborSolicit, build_neighbor_advert};
pub use options::{Options, code};
pub use udp::{Udp4, build_udp4};
pub(crate) use values::printable;
pub use values::{NameError, ParsedFqdn, encode_domains, encode_ips, encode_name, encode_routes, parse_fqdn};

/// Entry point for fuzzing: any bytes as an Ethernet frame, and as the DHCP message in it.
pub fn fuzz_frame(data: &[u8]) {
    if let Ok(Frame { payload: Payload::Udp4(udp), .. }) = parse_frame(data) {
        fuzz_message(udp.payload);
    }
}

/// Entry point for fuzzing: any bytes as a DHCP message; what parses is built and parsed again.
pub fn fuzz_message(data: &[u8]) {
    if let Ok(message) = Message::parse(data) {
        if let Some(fqdn) = message.options.get(code::CLIENT_FQDN) {
            let _ = parse_fqdn(fqdn);
        }
        let (bytes, _) = message.build(1472);
        assert!(Message::parse(&bytes).is_ok(), "what we build, we can read");
    }
}
