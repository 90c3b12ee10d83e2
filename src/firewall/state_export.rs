//! pf's states as the kernel exports them (`struct pf_state_export` of net/pfvar.h, DIOCGETSTATESV2, version 20210706: the same
//! 384 bytes in 13.2, 14 and 15): read into the [`State`] that the text of pfctl(8) gives. Pure.
//!
//! pfctl prints the same structure; which key is which, and which end comes first, is as in its print_state()
//! (sbin/pfctl/pf_print_state.c).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::nvlist::{self, Value};
use super::states::State;

/// Bytes of one exported state.
pub const SIZE: usize = 384;
/// PF_STATE_VERSION of 13.2, which later kernels still export.
pub const VERSION: u64 = 20_210_706;

/// Offsets in the structure; printed by a C program against the headers of 13.2.
mod at {
    pub const ID: usize = 8;
    pub const IFNAME: usize = 16;
    pub const KEYS: usize = 48;
    pub const SRC_STATE: usize = 120 + 24;
    pub const DST_STATE: usize = 152 + 24;
    pub const CREATOR: usize = 256;
    pub const AF: usize = 264;
    pub const PROTO: usize = 265;
    pub const DIRECTION: usize = 266;
}
const IFNAMSIZ: usize = 16;
/// Two addresses of 16 bytes and two ports of 2.
const KEY: usize = 36;
/// PF_SK_WIRE and PF_SK_STACK: the keys before and behind translation, as seen from the wire.
const WIRE: usize = 0;
const STACK: usize = 1;
/// PF_OUT.
const OUT: u8 = 2;
/// AF_INET and AF_INET6 of FreeBSD: the structure is read on any machine.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 28;
const IPPROTO_TCP: u8 = 6;
/// netinet/tcp_fsm.h.
const TCP: [&str; 11] = [
    "CLOSED",
    "LISTEN",
    "SYN_SENT",
    "SYN_RCVD",
    "ESTABLISHED",
    "CLOSE_WAIT",
    "FIN_WAIT_1",
    "CLOSING",
    "LAST_ACK",
    "FIN_WAIT_2",
    "TIME_WAIT",
];

/// Reads one exported state; `None` if it is of an address family that pf does not have.
#[must_use]
pub fn state(bytes: &[u8; SIZE]) -> Option<State> {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let address = |key: usize, end: usize| -> Option<IpAddr> {
        let raw: [u8; 16] = *bytes.get(at::KEYS + key * KEY + end * 16..)?.first_chunk()?;
        let [a, b, c, d, ..] = raw;
        match byte(at::AF) {
            AF_INET => Some(Ipv4Addr::new(a, b, c, d).into()),
            AF_INET6 => Some(Ipv6Addr::from(raw).into()),
            _ => None,
        }
    };
    let inbound = byte(at::DIRECTION) != OUT;
    let (in_force, stands_for) = if inbound { (STACK, WIRE) } else { (WIRE, STACK) };
    let side = |end: usize| -> Option<Vec<IpAddr>> {
        let mut side = vec![address(in_force, end)?, address(stands_for, end)?];
        side.dedup();
        Some(side)
    };
    let (near, far) = if inbound { (at::DST_STATE, at::SRC_STATE) } else { (at::SRC_STATE, at::DST_STATE) };
    let proto = byte(at::PROTO);
    let level = |at: usize| match TCP.get(usize::from(byte(at))) {
        Some(name) if proto == IPPROTO_TCP => (*name).to_owned(),
        _ => byte(at).to_string(),
    };
    let name: Vec<u8> =
        bytes.iter().skip(at::IFNAME).take(IFNAMSIZ).copied().take_while(|b| *b != 0).collect();
    let hex = |at: usize, length: usize| -> String {
        bytes.iter().skip(at).take(length).map(|b| format!("{b:02x}")).collect()
    };
    Some(State {
        interface: String::from_utf8_lossy(&name).into_owned(),
        proto: if proto == IPPROTO_TCP { "tcp".to_owned() } else { proto.to_string() },
        inbound,
        left: side(1)?,
        right: side(0)?,
        phase: format!("{}:{}", level(near), level(far)),
        // Both are in network order, as pfctl prints them.
        id: format!("{}/{}", hex(at::ID, 8), hex(at::CREATOR, 4)),
    })
}

/// What kills the state of this [`State::id`], for DIOCKILLSTATESNV (`struct pf_kstate_kill` of net/pfvar.h as a list, read by
/// pf_nvstate_kill_to_kstate_kill() of netpfil/pf/pf_nv.c: the same in 13.2 and 15). `None` if it is none.
#[must_use]
pub fn kill(id: &str) -> Option<Vec<u8>> {
    let (id, creator) = raw_id(id)?;
    let (id, creator) = (u64::from_ne_bytes(id), u32::from_ne_bytes(creator));
    // To the kernel 0 is no id: it would go by addresses, and without any that is every state there is.
    if id == 0 {
        return None;
    }
    let number = Value::Number;
    // PF_ADDR_ADDRMASK of all addresses. All of it has to be there, though nothing of it counts beside an id.
    let any = || {
        let zeroes = || Value::List(vec![("addr", Value::Binary(vec![0; 16]))]);
        let address =
            vec![("type", number(0)), ("iflags", number(0)), ("addr", zeroes()), ("mask", zeroes())];
        Value::List(vec![
            ("addr", Value::List(address)),
            ("port", Value::Numbers(vec![0, 0])),
            ("neg", number(0)),
            ("port_op", number(0)),
        ])
    };
    let one = vec![("id", number(id)), ("creatorid", number(creator.into())), ("direction", number(0))];
    Some(nvlist::pack(&vec![
        ("cmp", Value::List(one)),
        ("af", number(0)),
        ("proto", number(0)),
        ("src", any()),
        ("dst", any()),
        ("ifname", Value::String("")),
        ("label", Value::String("")),
        ("kill_match", Value::Bool(false)),
    ]))
}

/// The id and creator of [`State::id`] in the kernel's own order of bytes; `None` if it is none.
fn raw_id(id: &str) -> Option<([u8; 8], [u8; 4])> {
    let (id, creator) = id.split_once('/')?;
    // pfctl leaves leading zeroes of the creator out.
    let id = u64::from_str_radix(id, 16).ok()?;
    let creator = u32::from_str_radix(creator, 16).ok()?;
    Some((id.to_be_bytes(), creator.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A state as the kernel would give it.
    struct Exported([u8; SIZE]);

    impl Exported {
        fn new(af: u8, proto: u8, direction: u8) -> Self {
            let mut it = Self([0; SIZE]);
            it.put(at::AF, &[af, proto, direction]);
            it.put(at::IFNAME, b"all");
            it.put(at::ID, &[1, 0, 0, 0, 0, 0, 0, 9]);
            it.put(at::CREATOR, &[0x0b, 0xcd, 0xef, 1]);
            it
        }
        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }
        fn key(mut self, key: usize, addresses: [[u8; 4]; 2]) -> Self {
            for (end, address) in addresses.iter().enumerate() {
                self.put(at::KEYS + key * KEY + end * 16, address);
            }
            self
        }
        fn levels(mut self, src: u8, dst: u8) -> Self {
            self.put(at::SRC_STATE, &[src]);
            self.put(at::DST_STATE, &[dst]);
            self
        }
    }

    const CLIENT: [u8; 4] = [192, 0, 2, 7];
    const HOST: [u8; 4] = [192, 0, 2, 1];
    const WEB: [u8; 4] = [10, 9, 0, 11];

    fn ip(raw: [u8; 4]) -> IpAddr {
        raw.into()
    }

    #[test]
    fn a_redirected_connection_names_the_instance_and_the_public_address() {
        // all tcp 10.9.0.11:80 (192.0.2.1:8080) <- 192.0.2.7:51234       ESTABLISHED:ESTABLISHED
        let it = Exported::new(AF_INET, IPPROTO_TCP, 1)
            .key(WIRE, [CLIENT, HOST])
            .key(STACK, [CLIENT, WEB])
            .levels(4, 4);
        let state = state(&it.0).unwrap();
        assert!(state.inbound && state.established() && state.serves(&[ip(WEB)]));
        assert_eq!((state.left, state.right), (vec![ip(WEB), ip(HOST)], vec![ip(CLIENT)]));
        assert_eq!((state.interface.as_str(), state.id.as_str()), ("all", "0100000000000009/0bcdef01"));
    }

    #[test]
    fn a_translated_one_going_out_names_both_too() {
        // em0 tcp 192.0.2.1:61000 (10.9.0.11:40000) -> 192.0.2.7:53       SYN_SENT:CLOSED
        let it = Exported::new(AF_INET, IPPROTO_TCP, OUT)
            .key(WIRE, [CLIENT, HOST])
            .key(STACK, [CLIENT, WEB])
            .levels(2, 0);
        let state = state(&it.0).unwrap();
        assert_eq!((state.left, state.right), (vec![ip(HOST), ip(WEB)], vec![ip(CLIENT)]));
        assert_eq!((state.inbound, state.phase.as_str()), (false, "SYN_SENT:CLOSED"));
    }

    #[test]
    fn other_protocols_have_numbers_and_other_families_are_not_read() {
        let udp = state(&Exported::new(AF_INET6, 17, 1).levels(1, 2).0).unwrap();
        assert_eq!((udp.proto.as_str(), udp.phase.as_str()), ("17", "2:1"));
        assert_eq!(udp.left, ["::".parse::<IpAddr>().unwrap()]);
        assert_eq!(state(&Exported::new(99, 17, 1).0), None);
    }

    #[test]
    fn an_id_goes_to_the_kernel_as_it_came() {
        assert_eq!(
            raw_id("0100000000000009/bcdef01"),
            Some(([1, 0, 0, 0, 0, 0, 0, 9], [0x0b, 0xcd, 0xef, 1]))
        );
        assert_eq!(raw_id("0100000000000009"), None);
        assert!(kill("0100000000000009/bcdef01").is_some());
        assert_eq!(kill("0000000000000000/bcdef01"), None, "no id is every state");
        assert_eq!(raw_id("x/y"), None);
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_it_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), SIZE)) {
            let bytes: &[u8; SIZE] = bytes.first_chunk().unwrap();
            if let Some(state) = state(bytes) {
                prop_assert_eq!(
                    raw_id(&state.id),
                    Some((*bytes[at::ID..].first_chunk().unwrap(), *bytes[at::CREATOR..].first_chunk().unwrap()))
                );
            }
        }
    }
}
