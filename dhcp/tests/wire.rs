//! The codec against other people's codecs, and against bytes that mean no good.

use std::net::{Ipv4Addr, Ipv6Addr};

use dhcproto::{Decodable, Decoder, Encodable, v4};
use proptest::prelude::*;
use warren_dhcp::Mac;
use warren_dhcp::wire::*;

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn ip() -> impl Strategy<Value = Ipv4Addr> {
    any::<[u8; 4]>().prop_map(Ipv4Addr::from)
}

/// Options without those that have a meaning of their own to the codec.
fn options() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let code = (1u8..255).prop_filter("reserved", |c| !matches!(c, 52 | 53));
    prop::collection::vec((code, prop::collection::vec(any::<u8>(), 0..40)), 0..12)
}

fn message(options: Vec<(u8, Vec<u8>)>, chaddr: Mac, xid: u32, yiaddr: Ipv4Addr) -> Message {
    let mut out = Options::new();
    options.into_iter().for_each(|(c, v)| out.set(c, v));
    let none = Ipv4Addr::UNSPECIFIED;
    Message {
        op: Op::Reply,
        hops: 0,
        xid,
        secs: 3,
        flags: FLAG_BROADCAST,
        ciaddr: none,
        yiaddr,
        siaddr: none,
        giaddr: none,
        chaddr,
        kind: MessageType::Ack,
        options: out,
    }
}

/// Equal but for order: option 82 is moved to the end.
fn sorted(options: &Options) -> Vec<(u8, Vec<u8>)> {
    let mut all: Vec<_> = options.iter().map(|(c, v)| (c, v.to_vec())).collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn no_bytes_can_harm(data in prop::collection::vec(any::<u8>(), 0..700)) {
        fuzz_frame(&data);
        fuzz_message(&data);
    }

    /// Bytes that get past the fixed part, so that options and overload are really read.
    #[test]
    fn no_options_can_harm(options in prop::collection::vec(any::<u8>(), 0..400), file in any::<[u8; 32]>(), overload in 0u8..4) {
        let mut data = vec![0u8; 240];
        data[..4].copy_from_slice(&[1, 1, 6, 0]);
        data[44..76].copy_from_slice(&file);
        data[108..140].copy_from_slice(&file);
        data[236..].copy_from_slice(&[99, 130, 83, 99]);
        data.extend([53, 1, 1, 52, 1, overload]);
        data.extend(options);
        fuzz_message(&data);
    }

    /// A flipped bit anywhere is noticed or harmless, never a panic.
    #[test]
    fn no_damaged_frame_can_harm(at in 0usize..2800, opts in options()) {
        let (payload, _) = message(opts, Mac([2; 6]), 1, Ipv4Addr::LOCALHOST).build(576);
        let udp = Udp4 { src: Ipv4Addr::LOCALHOST, dst: Ipv4Addr::BROADCAST, src_port: 67, dst_port: 68, payload: &payload };
        let mut frame = build_udp4(Mac::BROADCAST, Mac([2; 6]), &udp).unwrap();
        let bit = at % (frame.len() * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
        fuzz_frame(&frame);
        if let Ok(Frame { payload: Payload::Udp4(u), .. }) = parse_frame(&frame) {
            // All after the Ethernet header is covered by a checksum, unless that was switched off.
            prop_assert!(bit / 8 < 14 || (40..42).contains(&(bit / 8)), "byte {} changed unnoticed", bit / 8);
            prop_assert_eq!(u.payload, &payload);
        }
    }

    #[test]
    fn messages_survive_the_wire(opts in options(), chaddr in mac(), xid: u32, yiaddr in ip(), max in 300usize..1472) {
        let m = message(opts, chaddr, xid, yiaddr);
        let (bytes, dropped) = m.build(max);
        prop_assert!(bytes.len() >= MIN_PAYLOAD && bytes.len() <= max);
        let back = Message::parse(&bytes).unwrap();
        let kept: Vec<_> = sorted(&m.options).into_iter().filter(|(c, _)| !dropped.contains(c)).collect();
        prop_assert_eq!(sorted(&back.options), kept);
        prop_assert_eq!(Message { options: m.options.clone(), ..back }, m);
    }

    /// What we write without overloading, dhcproto reads.
    #[test]
    fn dhcproto_reads_ours(chaddr in mac(), xid: u32, yiaddr in ip(), router in ip(), lease: u32, id in prop::collection::vec(any::<u8>(), 2..600)) {
        let opts = vec![(3, router.octets().to_vec()), (51, lease.to_be_bytes().to_vec()), (61, id.clone())];
        let (bytes, dropped) = message(opts, chaddr, xid, yiaddr).build(1472);
        prop_assert!(dropped.is_empty());
        let theirs = v4::Message::decode(&mut Decoder::new(&bytes)).unwrap();
        prop_assert_eq!((theirs.xid(), theirs.yiaddr(), theirs.chaddr()), (xid, yiaddr, &chaddr.0[..]));
        prop_assert_eq!(theirs.opts().msg_type(), Some(v4::MessageType::Ack));
        let get = |c| theirs.opts().get(c).unwrap().clone();
        prop_assert_eq!(get(v4::OptionCode::Router), v4::DhcpOption::Router(vec![router]));
        prop_assert_eq!(get(v4::OptionCode::AddressLeaseTime), v4::DhcpOption::AddressLeaseTime(lease));
        prop_assert_eq!(get(v4::OptionCode::ClientIdentifier), v4::DhcpOption::ClientIdentifier(id));
    }

    /// What dhcproto writes, long options split by it, we read.
    #[test]
    fn ours_reads_dhcproto(chaddr: [u8; 6], xid: u32, asked in ip(), id in prop::collection::vec(any::<u8>(), 1..600)) {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut m = v4::Message::new_with_id(xid, none, none, none, none, &chaddr);
        m.opts_mut().insert(v4::DhcpOption::MessageType(v4::MessageType::Discover));
        m.opts_mut().insert(v4::DhcpOption::RequestedIpAddress(asked));
        m.opts_mut().insert(v4::DhcpOption::ClientIdentifier(id.clone()));
        let ours = Message::parse(&m.to_vec().unwrap()).unwrap();
        prop_assert_eq!((ours.kind, ours.xid, ours.chaddr), (MessageType::Discover, xid, Mac(chaddr)));
        prop_assert_eq!(ours.options.ipv4(code::REQUESTED_IP), Some(asked));
        prop_assert_eq!(ours.options.get(code::CLIENT_ID), Some(&id[..]));
    }

    #[test]
    fn etherparse_agrees_on_udp(src in ip(), dst in ip(), smac in mac(), dmac in mac(), payload in prop::collection::vec(any::<u8>(), 0..900)) {
        let udp = Udp4 { src, dst, src_port: 67, dst_port: 68, payload: &payload };
        let frame = build_udp4(dmac, smac, &udp).unwrap();
        let theirs = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(etherparse::NetHeaders::Ipv4(ip, _)) = theirs.net else { panic!("not IPv4") };
        prop_assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
        let header = theirs.transport.unwrap().udp().unwrap();
        prop_assert_eq!(header.calc_checksum_ipv4(&ip, &payload).unwrap(), header.checksum);
        prop_assert_eq!(theirs.payload.slice(), &payload);

        let mut built = Vec::new();
        etherparse::PacketBuilder::ethernet2(smac.0, dmac.0)
            .ipv4(src.octets(), dst.octets(), 64)
            .udp(67, 68)
            .write(&mut built, &payload)
            .unwrap();
        let back = parse_frame(&built).unwrap();
        prop_assert_eq!(back, Frame { dst: dmac, src: smac, payload: Payload::Udp4(udp) });
    }

    #[test]
    fn etherparse_agrees_on_neighbour_discovery(src: [u8; 16], target: [u8; 16], asker in mac(), own in mac()) {
        let (src, target) = (Ipv6Addr::from(src), Ipv6Addr::from(target));
        let frame = build_neighbor_advert(&NeighborSolicit { src, target }, asker, own);
        let theirs = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(etherparse::NetHeaders::Ipv6(ip, _)) = theirs.net else { panic!("not IPv6") };
        let header = theirs.transport.unwrap().icmpv6().unwrap();
        prop_assert_eq!(ip.hop_limit, 255);
        let sum = header.icmp_type.calc_checksum(ip.source, ip.destination, theirs.payload.slice()).unwrap();
        prop_assert_eq!(sum, header.checksum);
        prop_assert!(matches!(header.icmp_type, etherparse::Icmpv6Type::NeighborAdvertisement(_)));
    }

    #[test]
    fn arp_goes_both_ways(sender_mac in mac(), sender_ip in ip(), target_mac in mac(), target_ip in ip(), request: bool) {
        let arp = Arp { op: if request { ArpOp::Request } else { ArpOp::Reply }, sender_mac, sender_ip, target_mac, target_ip };
        let frame = arp.build(target_mac);
        prop_assert_eq!(parse_frame(&frame).unwrap().payload, Payload::Arp(arp));
        let theirs = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(etherparse::NetHeaders::Arp(theirs)) = theirs.net else { panic!("not ARP") };
        let theirs = theirs.try_eth_ipv4().unwrap();
        prop_assert_eq!((theirs.sender_mac, theirs.target_ipv4), (sender_mac.0, target_ip.octets()));
    }

    #[test]
    fn search_lists_decode_to_themselves(names in prop::collection::vec("[a-c]{1,3}(\\.[a-c]{1,2}){0,3}", 1..12)) {
        let mut bytes = vec![];
        bytes.extend(encode_domains(&names).unwrap());
        prop_assert!(bytes.len() <= names.iter().map(|n| n.len() + 2).sum::<usize>());
        if bytes.len() <= 255 {
            let mut option = vec![119, bytes.len() as u8];
            option.extend(bytes);
            let v4::DhcpOption::DomainSearch(theirs) = v4::DhcpOption::decode(&mut Decoder::new(&option)).unwrap() else { panic!() };
            let theirs: Vec<_> = theirs.iter().map(|n| n.to_ascii().trim_end_matches('.').to_owned()).collect();
            prop_assert_eq!(theirs, names);
        }
    }
}

#[test]
fn routes_are_written_as_rfc_3442_shows() {
    let via = Ipv4Addr::new(10, 0, 0, 1);
    for (net, descriptor) in [
        ("0.0.0.0/0", &[0u8][..]),
        ("10.0.0.0/8", &[8, 10]),
        ("10.0.0.0/24", &[24, 10, 0, 0]),
        ("10.17.0.0/16", &[16, 10, 17]),
        ("10.27.129.0/24", &[24, 10, 27, 129]),
        ("10.229.0.128/25", &[25, 10, 229, 0, 128]),
        ("10.198.122.47/32", &[32, 10, 198, 122, 47]),
    ] {
        let expected = [descriptor, &via.octets()].concat();
        assert_eq!(encode_routes(&[(net.parse().unwrap(), via)]), expected, "{net}");
    }
}

#[test]
fn search_lists_are_compressed_as_rfc_3397_shows() {
    let bytes = encode_domains(&["eng.apple.com", "marketing.apple.com"]).unwrap();
    assert_eq!(bytes, b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04");
    for bad in ["", "a..b", ".", &"x".repeat(64), &"x.".repeat(128), "a b"] {
        assert!(encode_domains(&[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn options_spill_into_file_and_sname_and_come_back() {
    let opts: Vec<_> = (200..206).map(|c| (c, vec![c; 60])).chain([(82, vec![1, 2, 9, 9])]).collect();
    let m = message(opts, Mac([2; 6]), 1, Ipv4Addr::LOCALHOST);
    // 300 - 240 leaves 60 octets: none of the big ones fits there, two do in file and one in sname.
    let (bytes, dropped) = m.build(300);
    assert_eq!((bytes.len(), dropped), (300, vec![203, 204, 205]));
    let back = Message::parse(&bytes).unwrap();
    assert_eq!(back.options.iter().map(|(c, _)| c).collect::<Vec<_>>(), [82, 200, 201, 202]);
    assert!(back.options.get(code::OVERLOAD).is_none());
    let end = bytes.iter().rposition(|b| *b == 255).unwrap();
    assert_eq!(&bytes[end - 6..=end], [82, 4, 1, 2, 9, 9, 255], "relay information comes last");
}

#[test]
fn split_options_are_joined_over_all_fields() {
    let (mut bytes, _) = message(vec![], Mac([2; 6]), 1, Ipv4Addr::LOCALHOST).build(300);
    // RFC 3396 §7: options, then file, then sname.
    bytes[240..].fill(0);
    bytes[240..254].copy_from_slice(&[61, 1, 1, 53, 1, 1, 52, 1, 3, 61, 1, 2, 255, 9]);
    bytes[108..113].copy_from_slice(&[61, 1, 3, 255, 9]);
    bytes[44..49].copy_from_slice(&[61, 2, 4, 5, 255]);
    assert_eq!(Message::parse(&bytes).unwrap().options.get(61), Some(&[1, 2, 3, 4, 5][..]));
}

#[test]
fn offloaded_and_absent_checksums_pass_and_fragments_do_not() {
    let payload = [1, 2, 3, 4];
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let udp = Udp4 { src, dst, src_port: 68, dst_port: 67, payload: &payload };
    let frame = build_udp4(Mac([2; 6]), Mac([4; 6]), &udp).unwrap();
    let with = |sum: [u8; 2]| {
        let mut f = frame.clone();
        f[40..42].copy_from_slice(&sum);
        f
    };
    assert!(matches!(parse_frame(&with([0, 0])).unwrap().payload, Payload::Udp4(_)));
    // 0a00+0001+0a00+0002 + 17 + 12
    assert!(matches!(parse_frame(&with(0x1420u16.to_be_bytes())).unwrap().payload, Payload::Udp4(_)));
    assert_eq!(parse_frame(&with([0x12, 0x34])), Err(FrameError::TransportChecksum));
    let mut fragment = frame.clone();
    fragment[20] = 0x20;
    // 0x4000 (don't fragment) became 0x2000 (more fragments): the header sum rises by as much.
    let sum = u16::from_be_bytes([frame[24], frame[25]]);
    fragment[24..26].copy_from_slice(&ones_add(sum, 0x2000).to_be_bytes());
    assert_eq!(parse_frame(&fragment), Err(FrameError::Fragment));
    for n in 0..frame.len() {
        assert!(
            !matches!(parse_frame(&frame[..n]), Ok(Frame { payload: Payload::Udp4(_), .. })),
            "cut at {n}"
        );
    }
}

fn ones_add(a: u16, b: u16) -> u16 {
    let s = u32::from(a) + u32::from(b);
    (s & 0xffff) as u16 + (s >> 16) as u16
}

#[test]
fn what_makes_dhcproto_panic_is_refused_or_harmless() {
    for options in
        [&[53, 1, 1, 81, 2, 0, 0, 255][..], &[53, 1, 1, 80, 1, 0, 255], &[53, 1, 1, 12, 1, 0xff, 255]]
    {
        let (mut bytes, _) = message(vec![], Mac([2; 6]), 1, Ipv4Addr::LOCALHOST).build(300);
        bytes[240..240 + options.len()].copy_from_slice(options);
        fuzz_message(&bytes);
        assert!(Message::parse(&bytes).is_ok());
        bytes[2] = 200;
        assert_eq!(Message::parse(&bytes), Err(MessageError::NotEthernet));
    }
}
