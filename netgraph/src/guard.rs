//! The filter at the door of one link: what a station may send.
//!
//! A station on a shared bridge must not take a neighbour's address, answer for it, or play DHCP server or router. The program
//! made here runs in ng_bpf(4), between the station and the bridge, and lets a frame pass only if
//!
//! - its Ethernet source is the station's, and it carries IPv4, ARP or IPv6 directly behind the Ethernet header
//!   (so neither a VLAN tag nor an 802.3 length nor anything else);
//! - **IPv4**: the header is one (version 4, at least 20 bytes), the source is one of the station's addresses, and it is no
//!   answer of a DHCP server (UDP from port 67). From 0.0.0.0 there is only a DHCP client's broadcast (RFC 2131 4.1: UDP 68 to
//!   67), if that is allowed;
//! - **ARP**: it is of Ethernet and IPv4 by types and lengths, a request or an answer, from the station's Ethernet address, and its
//!   sender protocol address is one of the station's or 0 (a probe, RFC 5227);
//! - **IPv6**: the source is the station's link-local address (of its MAC, RFC 4291 appendix A), one of its own, or ::, and the next
//!   header is TCP, UDP, SCTP or ICMPv6. A chain of extension headers would hide what follows (RFC 7113), so it is dropped, and
//!   with it fragments and MLD reports. No router advertisement or redirect (RFC 6105), no answer of a DHCPv6 server (UDP from
//!   port 547), and a neighbour advertisement only for an address of the station's own, or it would do what the ARP rule forbids.
//!
//! Fragments of IPv4 pass: ports are looked at in the first one, and a first fragment that is too short to have them is dropped.

use crate::addr::Mac;
use crate::bpf::{Asm, AsmError, Label, Program};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What one station may send as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IPv4 addresses.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses besides the link-local one of its MAC.
    pub v6: Vec<Ipv6Addr>,
    /// Whether it may ask for an address (from 0.0.0.0).
    pub allow_dhcp: bool,
}

const ETHERTYPE: u32 = 12;
const NET: u32 = 14;
const TYPE_IPV4: u32 = 0x0800;
const TYPE_ARP: u32 = 0x0806;
const TYPE_IPV6: u32 = 0x86dd;
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;
const SCTP: u32 = 132;
const DHCP_SERVER: u32 = 67;
const DHCP_CLIENT: u32 = 68;
const DHCPV6_SERVER: u32 = 547;
const ROUTER_ADVERTISEMENT: u32 = 134;
const NEIGHBOUR_ADVERTISEMENT: u32 = 136;
const REDIRECT: u32 = 137;

/// The program that drops everything.
pub fn closed() -> Program {
    single(|asm| asm.drop_frame())
}

/// The program that passes everything.
pub fn open() -> Program {
    single(|asm| asm.accept())
}

fn single(write: impl FnOnce(&mut Asm) -> &mut Asm) -> Program {
    let mut asm = Asm::new();
    write(&mut asm);
    asm.finish().unwrap_or_default()
}

/// The link-local address a station makes of its MAC: fe80::/64 and the modified EUI-64 (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Entry point for fuzzing: any bytes as a frame at the door of a station. What passes is looked at by other means.
///
/// # Panics
/// When a frame passes that pretends to be somebody else's.
pub fn fuzz(frame: &[u8]) {
    let guard = Guard {
        mac: Mac([2, 0x57, 0, 0, 0, 0x11]),
        v4: vec![Ipv4Addr::new(10, 9, 0, 17)],
        v6: vec![Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 0x17)],
        allow_dhcp: true,
    };
    let Ok(program) = guard.program() else { return };
    let whole = program.validate().is_ok() && matches!(program.run(frame), 0 | u32::MAX);
    assert!(whole, "a filter takes a frame whole or not at all");
    if program.run(frame) == 0 {
        return;
    }
    assert_eq!(frame.get(6..12), Some(&guard.mac.0[..]), "another's MAC");
    let byte = |at: usize| frame.get(at).copied();
    match (byte(12), byte(13)) {
        (Some(8), Some(0)) => {
            let source = frame.get(26..30).unwrap_or_default();
            let header = NET as usize + usize::from(byte(14).unwrap_or(0) & 0xf) * 4;
            let first = byte(20).unwrap_or(0) & 0x1f == 0 && byte(21) == Some(0);
            let dhcp = byte(23) == Some(17) && first && frame.get(header..header + 2) == Some(&[0, 67][..]);
            assert!(!dhcp, "the answer of a DHCP server");
            assert!(source == [0; 4] || source == guard.v4[0].octets(), "another's IPv4 address");
        }
        (Some(8), Some(6)) => {
            assert_eq!(frame.get(22..28), Some(&guard.mac.0[..]), "another's MAC in ARP");
            let sender = frame.get(28..32).unwrap_or_default();
            assert!(sender == [0; 4] || sender == guard.v4[0].octets(), "another's address in ARP");
        }
        (Some(0x86), Some(0xdd)) => {
            let source = frame.get(22..38).unwrap_or_default();
            let own = [Ipv6Addr::UNSPECIFIED, link_local(guard.mac), guard.v6[0]];
            assert!(own.iter().any(|a| a.octets() == source), "another's IPv6 address");
            match byte(20) {
                Some(58) => {
                    assert!(!matches!(byte(54), Some(134 | 137)), "a router's message");
                    let target = frame.get(62..78).unwrap_or_default();
                    let mine = own[1..].iter().any(|a| a.octets() == target);
                    assert!(byte(54) != Some(136) || mine, "another's neighbour advertisement");
                }
                Some(17) => {
                    assert_ne!(frame.get(54..56), Some(&[2, 35][..]), "the answer of a DHCPv6 server")
                }
                next => assert!(matches!(next, Some(6 | 132)), "behind header {next:?} anything may be"),
            }
        }
        other => panic!("frames of type {other:?} do not pass"),
    }
}

impl Guard {
    /// The program. It fails with [`AsmError`] only for more addresses than classic BPF can jump over: about 250 of IPv4, 12 of
    /// IPv6.
    pub fn program(&self) -> Result<Program, AsmError> {
        let mut asm = Asm::new();
        let [drop, to_arp, to_ipv6, arp, ipv6, ipv4] = [(); 6].map(|()| asm.label());

        let [a, b, c, d, e, f] = self.mac.0;
        let (mac_high, mac_low) = (u32::from_be_bytes([a, b, c, d]), u32::from(u16::from_be_bytes([e, f])));
        asm.ld(6).unless_eq(mac_high, drop).ldh(10).unless_eq(mac_low, drop);
        asm.ldh(ETHERTYPE).if_eq(TYPE_IPV4, ipv4).if_eq(TYPE_ARP, to_arp).if_eq(TYPE_IPV6, to_ipv6);
        asm.place(drop).drop_frame();
        // A list of addresses may be longer than a conditional jump.
        asm.place(to_arp).goto(arp);
        asm.place(to_ipv6).goto(ipv6);

        asm.place(ipv4);
        self.ipv4(&mut asm);
        asm.place(arp);
        self.arp(&mut asm, mac_high, mac_low);
        asm.place(ipv6);
        self.ipv6(&mut asm);
        asm.finish()
    }

    fn ipv4(&self, asm: &mut Asm) {
        let [drop, own, dhcp, pass, first] = [(); 5].map(|()| asm.label());
        // Version 4 and at least five words, or nothing further on is where it seems to be.
        asm.ldb(NET).unless_ge(0x45, drop).if_set(0xb0, drop).ldx_msh(NET);
        asm.ld(NET + 12);
        if self.allow_dhcp {
            asm.if_eq(0, dhcp);
        }
        for address in &self.v4 {
            asm.if_eq(u32::from(*address), own);
        }
        asm.place(drop).drop_frame();

        // From an address of its own: anything but a DHCP server's answer.
        asm.place(own).ldb(NET + 9).unless_eq(UDP, pass);
        asm.ldh(NET + 6).and(0x1fff).if_eq(0, first).accept();
        asm.place(first).ldh_x(NET).unless_eq(DHCP_SERVER, pass).drop_frame();
        asm.place(pass).accept();

        if self.allow_dhcp {
            let drop = asm.label();
            asm.place(dhcp).ldb(NET + 9).unless_eq(UDP, drop);
            asm.ldh(NET + 6).and(0x1fff).unless_eq(0, drop);
            asm.ld(NET + 16).unless_eq(u32::MAX, drop);
            asm.ldh_x(NET).unless_eq(DHCP_CLIENT, drop).ldh_x(NET + 2).unless_eq(DHCP_SERVER, drop).accept();
            asm.place(drop).drop_frame();
        }
    }

    fn arp(&self, asm: &mut Asm, mac_high: u32, mac_low: u32) {
        let [drop, operation, own] = [(); 3].map(|()| asm.label());
        // Ethernet, IPv4; lengths 6 and 4; request or answer (RFC 826).
        asm.ld(NET).unless_eq(0x0001_0800, drop).ldh(NET + 4).unless_eq(0x0604, drop);
        asm.ldh(NET + 6).if_eq(1, operation).unless_eq(2, drop).place(operation);
        asm.ld(NET + 8).unless_eq(mac_high, drop).ldh(NET + 12).unless_eq(mac_low, drop);
        // The last field, so that the frame is known to hold them all.
        asm.ld(NET + 24).ld(NET + 14).if_eq(0, own);
        for address in &self.v4 {
            asm.if_eq(u32::from(*address), own);
        }
        asm.place(drop).drop_frame();
        asm.place(own).accept();
    }

    fn ipv6(&self, asm: &mut Asm) {
        let [drop, own, icmp, udp, pass, advertised] = [(); 6].map(|()| asm.label());
        let mine: Vec<Ipv6Addr> =
            std::iter::once(link_local(self.mac)).chain(self.v6.iter().copied()).collect();

        asm.ldb(NET).and(0xf0).unless_eq(0x60, drop);
        for address in mine.iter().chain([&Ipv6Addr::UNSPECIFIED]) {
            if_v6(asm, NET + 8, *address, own);
        }
        asm.place(drop).drop_frame();

        let drop = asm.label();
        asm.place(own).ldb(NET + 6).if_eq(ICMPV6, icmp).if_eq(UDP, udp).if_eq(TCP, pass).if_eq(SCTP, pass);
        asm.drop_frame();
        asm.place(udp).ldh(NET + 40).if_eq(DHCPV6_SERVER, drop);
        asm.place(pass).accept();

        let other = asm.label();
        asm.place(icmp).ldb(NET + 40).if_eq(ROUTER_ADVERTISEMENT, drop).if_eq(REDIRECT, drop);
        asm.unless_eq(NEIGHBOUR_ADVERTISEMENT, other);
        for address in &mine {
            if_v6(asm, NET + 48, *address, advertised);
        }
        asm.place(drop).drop_frame();
        asm.place(other).place(advertised).accept();
    }
}

/// To `label` if the IPv6 address at `at` is this one; otherwise on.
fn if_v6(asm: &mut Asm, at: u32, address: Ipv6Addr, label: Label) {
    let other = asm.label();
    let bits = u128::from(address);
    for word in 0..4u32 {
        let value = (bits >> (96 - 32 * word)) as u32;
        asm.ld(at + 4 * word);
        if word < 3 {
            asm.unless_eq(value, other)
        } else {
            asm.if_eq(value, label)
        };
    }
    asm.place(other);
}

#[cfg(test)]
mod tests;
