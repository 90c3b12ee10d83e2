//! Crafted frames through the filter. Each rule has a frame that differs from a good one in that point alone, so that a
//! program without the rule fails here.

use super::*;

const MAC: Mac = Mac([0x02, 0x57, 0, 0, 0, 0x11]);
const OTHER: Mac = Mac([0x02, 0x57, 0, 0, 0, 0x22]);
const IP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 17);
const IP6: &str = "fd00:9::17";

fn guard() -> Guard {
    Guard {
        mac: MAC,
        v4: vec![IP, Ipv4Addr::new(10, 9, 0, 18)],
        v6: vec![IP6.parse().unwrap()],
        allow_dhcp: true,
    }
}

fn passes(frame: &[u8]) -> bool {
    let kept = guard().program().unwrap().run(frame);
    assert!(kept == 0 || kept == u32::MAX, "all or nothing");
    kept != 0
}

fn ether(source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&Mac::BROADCAST.0[..], &source.0, &ethertype.to_be_bytes(), payload].concat()
}

/// IPv4 with so many words of options and this fragment offset.
fn ipv4(source: Ipv4Addr, protocol: u8, options: usize, offset: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45 + options as u8, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    header[6..8].copy_from_slice(&offset.to_be_bytes());
    header.extend_from_slice(&source.octets());
    header.extend_from_slice(&[255; 4]);
    header.extend(vec![1; options * 4]);
    header.extend_from_slice(payload);
    ether(MAC, 0x0800, &header)
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes(), [0, 8], [0, 0]].concat()
}

fn arp(sha: Mac, spa: Ipv4Addr) -> Vec<u8> {
    let target = [0u8, 0, 0, 0, 0, 0, 10, 9, 0, 1];
    ether(MAC, 0x0806, &[&[0, 1, 8, 0, 6, 4, 0, 1], &sha.0[..], &spa.octets(), &target].concat())
}

fn ipv6(source: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    let destination: Ipv6Addr = "ff02::1".parse().unwrap();
    let header =
        [&[0x60, 0, 0, 0, 0, payload.len() as u8, next, 255], &source.octets()[..], &destination.octets()];
    ether(MAC, 0x86dd, &[&header.concat(), payload].concat())
}

fn icmp6(kind: u8, target: &str) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0], &target.parse::<Ipv6Addr>().unwrap().octets()[..]].concat()
}

/// The frame with one byte changed.
fn with(mut frame: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    frame[at] = value;
    frame
}

#[test]
fn open_and_closed() {
    assert_eq!((open().run(b"x"), closed().run(b"x")), (u32::MAX, 0));
    assert!(open().validate().is_ok() && closed().validate().is_ok());
}

#[test]
fn link_local_is_of_the_mac() {
    assert_eq!(link_local(MAC), "fe80::57:ff:fe00:11".parse::<Ipv6Addr>().unwrap());
}

#[test]
fn only_from_the_stations_mac() {
    let good = ipv4(IP, 6, 0, 0, &[]);
    assert!(passes(&good));
    for at in 6..12 {
        assert!(!passes(&with(good.clone(), at, good[at] ^ 1)), "byte {at} of the source");
    }
}

#[test]
fn only_ipv4_arp_and_ipv6_untagged() {
    let payload = ipv4(IP, 6, 0, 0, &[])[14..].to_vec();
    let tagged = [&[0, 5, 8, 0], payload.as_slice()].concat();
    assert!(!passes(&ether(MAC, 0x8100, &tagged)), "802.1Q");
    assert!(!passes(&ether(MAC, 0x88a8, &tagged)), "802.1ad");
    assert!(!passes(&ether(MAC, 0x8035, &payload)), "RARP");
    assert!(!passes(&ether(MAC, 60, &payload)), "an 802.3 length, as spanning tree has it");
    assert!(!passes(&ether(MAC, 0x0800, &[])), "nothing behind the header");
    assert!(!passes(&[]));
}

#[test]
fn ipv4_sources() {
    assert!(passes(&ipv4(IP, 17, 0, 0, &ports(1024, 53))));
    assert!(passes(&ipv4(Ipv4Addr::new(10, 9, 0, 18), 6, 0, 0, &ports(1024, 80))));
    assert!(passes(&ipv4(IP, 1, 0, 0, &[8, 0])), "ping");
    assert!(!passes(&ipv4(Ipv4Addr::new(10, 9, 0, 19), 6, 0, 0, &ports(1024, 80))), "a neighbour's");
    assert!(!passes(&ipv4(Ipv4Addr::UNSPECIFIED, 6, 0, 0, &ports(1024, 80))));
}

#[test]
fn ipv4_headers() {
    let good = ipv4(IP, 6, 0, 0, &ports(1, 2));
    assert!(!passes(&with(good.clone(), 14, 0x55)), "version 5");
    assert!(!passes(&with(good.clone(), 14, 0x44)), "16 bytes of header");
    assert!(!passes(&good[..29]), "cut in the source address");
}

#[test]
fn no_dhcp_server() {
    assert!(!passes(&ipv4(IP, 17, 0, 0, &ports(67, 68))));
    assert!(passes(&ipv4(IP, 17, 0, 0, &ports(68, 67))), "a client that renews");
    assert!(passes(&ipv4(IP, 6, 0, 0, &ports(67, 68))), "TCP has other ports");
    assert!(!passes(&ipv4(IP, 17, 3, 0, &ports(67, 68))), "behind options");
    assert!(passes(&ipv4(IP, 17, 3, 0, &ports(1024, 53))), "options alone do no harm");
    // What a reader without IHL would take for the port lies in the options: it must not be looked at.
    let mut frame = ipv4(IP, 17, 3, 0, &ports(1024, 53));
    frame[34..36].copy_from_slice(&67u16.to_be_bytes());
    assert!(passes(&frame));
}

#[test]
fn ipv4_fragments() {
    let first = 0x2000;
    assert!(passes(&ipv4(IP, 17, 0, 185, &[0, 67, 0, 68])), "data of a later fragment is no port");
    assert!(!passes(&ipv4(IP, 17, 0, first, &ports(67, 68))), "a first fragment has ports");
    assert!(passes(&ipv4(IP, 17, 0, first, &ports(1024, 53))));
    assert!(!passes(&ipv4(IP, 17, 0, first, &[0])), "too short to have ports");
}

#[test]
fn dhcp_clients_if_allowed() {
    let none = Ipv4Addr::UNSPECIFIED;
    let discover = ipv4(none, 17, 0, 0, &ports(68, 67));
    assert!(passes(&discover));
    let forbidden = Guard { allow_dhcp: false, ..guard() };
    assert_eq!(forbidden.program().unwrap().run(&discover), 0);
    assert!(!passes(&ipv4(none, 17, 0, 0, &ports(68, 53))));
    assert!(!passes(&ipv4(none, 17, 0, 0, &ports(69, 67))));
    assert!(!passes(&ipv4(none, 6, 0, 0, &ports(68, 67))), "not UDP");
    assert!(!passes(&ipv4(none, 17, 0, 1, &ports(68, 67))), "a later fragment");
    assert!(!passes(&with(discover, 33, 1)), "not to the broadcast address");
    assert!(passes(&ipv4(none, 17, 2, 0, &ports(68, 67))), "options are skipped");
}

#[test]
fn arp_is_the_stations_own() {
    let good = arp(MAC, IP);
    assert!(passes(&good));
    assert!(passes(&with(good.clone(), 21, 2)), "an answer");
    assert!(passes(&arp(MAC, Ipv4Addr::UNSPECIFIED)), "a probe");
    assert!(!passes(&arp(OTHER, IP)), "another's hardware address");
    assert!(!passes(&arp(MAC, Ipv4Addr::new(10, 9, 0, 1))), "the gateway's address");
    for at in 14..21 {
        assert!(!passes(&with(good.clone(), at, good[at] ^ 8)), "types, lengths, operation: byte {at}");
    }
    assert!(!passes(&with(good.clone(), 21, 3)), "a reverse request");
    assert!(!passes(&good[..41]), "a byte short");
    for at in 22..28 {
        assert!(!passes(&with(good.clone(), at, good[at] ^ 1)), "sender hardware address: byte {at}");
    }
}

#[test]
fn ipv6_sources() {
    let tcp = |source| ipv6(source, 6, &ports(1024, 80));
    assert!(passes(&tcp(IP6)));
    assert!(passes(&tcp("fe80::57:ff:fe00:11")));
    assert!(passes(&ipv6("::", 58, &icmp6(135, IP6))), "duplicate address detection");
    assert!(!passes(&tcp("fe80::57:ff:fe00:22")), "a neighbour's link-local");
    assert!(!passes(&tcp("fd00:9::18")));
    assert!(!passes(&tcp("fd00:8::17")));
    assert!(!passes(&with(tcp(IP6), 14, 0x40)), "version 4");
    assert!(!passes(&tcp(IP6)[..37]), "cut in the source address");
}

#[test]
fn ipv6_hides_nothing() {
    for extension in [0, 43, 44, 50, 51, 60, 135, 139, 140] {
        assert!(
            !passes(&ipv6(IP6, extension, &[58, 0, 0, 0, 0, 0, 0, 0, 134, 0, 0, 0])),
            "next header {extension}"
        );
    }
    for upper in [6, 17, 58, 132] {
        assert!(passes(&ipv6(IP6, upper, &[128, 0, 0, 0])), "next header {upper}");
    }
}

#[test]
fn no_router() {
    assert!(!passes(&ipv6("fe80::57:ff:fe00:11", 58, &icmp6(134, "::"))), "advertisement");
    assert!(!passes(&ipv6("fe80::57:ff:fe00:11", 58, &icmp6(137, "::"))), "redirect");
    assert!(passes(&ipv6("fe80::57:ff:fe00:11", 58, &icmp6(133, "::"))), "a solicitation is a host's");
    assert!(!passes(&ipv6(IP6, 58, &[])), "a type that is not there");
}

#[test]
fn no_dhcpv6_server() {
    assert!(!passes(&ipv6(IP6, 17, &ports(547, 546))));
    assert!(passes(&ipv6(IP6, 17, &ports(546, 547))));
    assert!(passes(&ipv6(IP6, 6, &ports(547, 546))), "TCP has other ports");
    assert!(!passes(&ipv6(IP6, 17, &[2])), "a port that is not there");
}

#[test]
fn neighbours_are_advertised_by_themselves() {
    assert!(passes(&ipv6(IP6, 58, &icmp6(136, IP6))));
    assert!(passes(&ipv6(IP6, 58, &icmp6(136, "fe80::57:ff:fe00:11"))));
    assert!(!passes(&ipv6(IP6, 58, &icmp6(136, "fd00:9::1"))), "the gateway's address");
    assert!(passes(&ipv6(IP6, 58, &icmp6(135, "fd00:9::1"))), "asking for it is free");
}

#[test]
fn no_address_yet() {
    let waiting = Guard { v4: vec![], v6: vec![], ..guard() }.program().unwrap();
    assert_ne!(waiting.run(&ipv4(Ipv4Addr::UNSPECIFIED, 17, 0, 0, &ports(68, 67))), 0);
    assert_ne!(waiting.run(&arp(MAC, Ipv4Addr::UNSPECIFIED)), 0);
    assert_eq!(waiting.run(&ipv4(IP, 17, 0, 0, &ports(68, 67))), 0);
    assert_eq!(waiting.run(&arp(MAC, IP)), 0);
}

#[test]
fn many_addresses_or_an_error() {
    let with = |v4, v6| Guard {
        v4: (0..v4).map(|n| Ipv4Addr::from(0x0a00_0001 + n)).collect(),
        v6: (0..v6).map(|n| Ipv6Addr::from(0xfd00_u128 << 112 | n)).collect(),
        ..guard()
    };
    let program = with(100, 8).program().unwrap();
    assert_ne!(program.run(&ipv4(Ipv4Addr::from(0x0a00_0064), 6, 0, 0, &[])), 0);
    assert_eq!(program.run(&ipv4(Ipv4Addr::from(0x0a00_0065), 6, 0, 0, &[])), 0);
    assert_ne!(program.run(&ipv6("fd00::7", 6, &[])), 0);
    assert_eq!(program.run(&ipv6("fd00::8", 6, &[])), 0);
    assert!(with(300, 0).program().is_err());
    assert!(with(0, 60).program().is_err());
}
