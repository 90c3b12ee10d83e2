//! The engine by the rules of RFC 2131: client states, refusals, addressing, identity, bounds.

mod net;

use std::net::Ipv4Addr;

use net::*;
use proptest::prelude::*;
use warren_dhcp::Mac;
use warren_dhcp::server::*;
use warren_dhcp::wire::*;

use MessageType::*;

#[test]
fn a_reserved_station_gets_its_address_and_the_ack_only_when_durable() {
    let mut net = Net::new(config());
    let offer = net.discover(1).one();
    assert_eq!((offer.message.kind, offer.message.yiaddr, offer.durable), (Offer, ip(11), false));
    assert_eq!(net.book.leases.iter().count(), 0, "an offer stores nothing");
    // No broadcast flag: to the address it will have, at its MAC.
    assert_eq!((offer.dst_mac, offer.dst, offer.port), (mac(1), ip(11), 68));
    let o = &offer.message.options;
    assert_eq!(o.ipv4(code::SERVER_ID), Some(SERVER));
    assert_eq!([51, 58, 59].map(|c| o.u32(c)), [Some(3600), Some(1800), Some(3150)]);
    assert_eq!(o.ipv4(code::SUBNET_MASK), Some([255, 255, 255, 0].into()));
    assert_eq!(o.ipv4(code::BROADCAST), Some(ip(255)));
    assert_eq!(o.u16(code::INTERFACE_MTU), Some(1500));
    assert_eq!(o.get(code::HOST_NAME), Some(&b"h11"[..]));
    assert_eq!(o.get(code::DOMAIN_NAME), Some(&b"shop.internal"[..]));

    let ack = net.select(1, ip(11)).one();
    assert_eq!((ack.message.kind, ack.message.yiaddr, ack.durable), (Ack, ip(11), true));
    let lease = net.book.leases.at(ip(11)).unwrap();
    assert_eq!((lease.state, lease.since, lease.expiry), (LeaseState::Bound, net.now, net.now + 3_600_000));
}

#[test]
fn the_parameter_list_decides_what_is_sent_and_in_which_order() {
    let mut c = config();
    c.routes = vec![("10.10.0.0/16".parse().unwrap(), ip(1))];
    c.ntp = vec![ip(1)];
    c.ipv6_only_wait_s = Some(1800);
    c.extra = vec![(252, b"http://wpad/".to_vec())];
    let mut net = Net::new(c);
    let mut ask = |list: &[u8]| -> Vec<u8> {
        let list = list.to_vec();
        let reply = net.say(1, Discover, |m| m.options.set(code::PARAMETER_LIST, list)).one();
        reply.message.options.iter().map(|(c, _)| c).collect()
    };
    assert_eq!(ask(&[252, 121, 3, 42, 77]), [54, 51, 58, 59, 1, 252, 121, 3, 42]);
    assert_eq!(ask(&[3, 1, 3]), [54, 51, 58, 59, 1, 3]);
    assert_eq!(ask(&[108, 12]), [54, 51, 58, 59, 1, 108, 12]);
    // Nobody can ask for what the protocol itself uses.
    assert_eq!(ask(&[53, 54, 50, 61, 82, 0, 255]), [54, 51, 58, 59, 1]);
    let mut route = |code| {
        let reply = net.say(1, Discover, |m| m.options.set(55, [121])).one();
        reply.message.options.get(code).map(<[u8]>::to_vec)
    };
    // RFC 3442: the default route goes with the others.
    assert_eq!(route(121), Some(vec![16, 10, 10, 10, 9, 0, 1, 0, 10, 9, 0, 1]));
}

#[test]
fn replies_go_where_section_4_1_says() {
    let mut net = Net::new(ServerConfig { relays: vec![[192, 0, 2, 1].into()], ..config() });
    let all = (Mac::BROADCAST, Ipv4Addr::BROADCAST, 68);
    let to = |r: &Reply| (r.dst_mac, r.dst, r.port);
    let flagged = net.say(1, Discover, |m| m.flags = FLAG_BROADCAST).one();
    assert_eq!((to(&flagged), flagged.message.flags), (all, FLAG_BROADCAST));
    let renewed = net.unicast(1, Request, |m| m.ciaddr = ip(11)).one();
    assert_eq!((to(&renewed), renewed.message.ciaddr), ((mac(1), ip(11), 68), ip(11)));
    let nak = net.select(1, ip(99)).one();
    assert_eq!((to(&nak), nak.message.kind, nak.len), (all, Nak, MIN_PAYLOAD));
    assert_eq!((nak.message.yiaddr, nak.message.ciaddr, nak.message.siaddr), (NONE, NONE, NONE));
    assert_eq!(nak.message.options.iter().map(|(c, _)| c).collect::<Vec<_>>(), [54, 56]);
    // A NAK to a renewing client is broadcast too.
    assert_eq!(to(&net.unicast(1, Request, |m| m.ciaddr = ip(99)).one()), all);

    let relayed = |address: u8| {
        let mut frame = spoken(mac(1), Request, true, |m| {
            m.giaddr = [192, 0, 2, 1].into();
            m.options.set(code::REQUESTED_IP, ip(address).octets());
            m.options.set(code::RELAY_AGENT, [1, 2, 7, 7]);
            m.options.set(code::CLIENT_ID, [1, 2, 3]);
        });
        frame[6..12].copy_from_slice(&mac(77).0);
        frame
    };
    let ack = net.frame(&relayed(11)).one();
    assert_eq!(to(&ack), (mac(77), [192, 0, 2, 1].into(), 67));
    let options: Vec<_> = ack.message.options.iter().collect();
    assert_eq!(options.last(), Some(&(82, &[1, 2, 7, 7][..])));
    let nak = net.frame(&relayed(99)).one();
    assert_eq!((nak.message.kind, nak.message.flags, nak.port), (Nak, FLAG_BROADCAST, 67));
    let mut elsewhere = Net::new(config());
    assert_eq!(elsewhere.frame(&relayed(11)).silent(), Ignored::UnknownRelay);
}

#[test]
fn each_client_state_is_judged_as_section_4_3_2_says() {
    let mut net = Net::new(config());
    let kind = |o: Outcome| o.one().message.kind;
    let init_reboot = |net: &mut Net, n, a: Ipv4Addr| net.say(n, Request, |m| m.options.set(50, a.octets()));
    let rebind = |net: &mut Net, n, a| net.say(n, Request, |m| m.ciaddr = a);
    let renew = |net: &mut Net, n, a| net.unicast(n, Request, |m| m.ciaddr = a);
    for address in [ip(12), ip(99), [192, 0, 2, 9].into()] {
        assert_eq!(kind(net.select(1, address)), Nak);
        assert_eq!(kind(init_reboot(&mut net, 1, address)), Nak);
        assert_eq!(kind(renew(&mut net, 1, address)), Nak);
        assert_eq!(kind(rebind(&mut net, 1, address)), Nak);
        net.now += 10_000;
    }
    assert_eq!(kind(net.select(1, ip(11))), Ack);
    assert_eq!(kind(init_reboot(&mut net, 1, ip(11))), Ack);
    assert_eq!(kind(renew(&mut net, 1, ip(11))), Ack);
    assert_eq!(kind(rebind(&mut net, 1, ip(11))), Ack);

    // A stranger: silence, but for what was said to us by name.
    assert_eq!(net.discover(9).silent(), Ignored::UnknownClient);
    assert_eq!(init_reboot(&mut net, 9, ip(11)).silent(), Ignored::UnknownClient);
    assert_eq!(rebind(&mut net, 9, ip(11)).silent(), Ignored::UnknownClient);
    let beyond = Ipv4Addr::new(192, 0, 2, 9);
    assert_eq!(init_reboot(&mut net, 9, beyond).silent(), Ignored::UnknownClient);
    assert_eq!(rebind(&mut net, 9, beyond).silent(), Ignored::UnknownClient);
    net.now += 10_000;
    for address in [ip(11), beyond] {
        assert_eq!(kind(net.select(9, address)), Nak);
        assert_eq!(kind(renew(&mut net, 9, address)), Nak);
    }
    // Who was offered something by us has no other server's word for an address beyond ours.
    let mut open = Net::new(dynamic());
    open.discover(9).one();
    assert_eq!(kind(init_reboot(&mut open, 9, beyond)), Nak);
    open.lease(8);
    assert_eq!(kind(rebind(&mut open, 8, beyond)), Nak);
    let mut strict = Net::new(ServerConfig { authoritative: true, ..config() });
    for address in [ip(11), beyond] {
        assert_eq!(kind(init_reboot(&mut strict, 9, address)), Nak);
        assert_eq!(kind(rebind(&mut strict, 9, address)), Nak);
    }

    let other = net.say(2, Request, |m| {
        m.options.set(54, ip(3).octets());
        m.options.set(50, ip(12).octets());
    });
    assert_eq!(other.silent(), Ignored::OtherServer);
    assert_eq!(net.say(2, Request, |_| {}).silent(), Ignored::Inconsistent);
    assert_eq!(net.say(2, Ack, |_| {}).silent(), Ignored::Inconsistent);
}

#[test]
fn nobody_speaks_in_anothers_name() {
    let mut net = Net::new(dynamic());
    // The frame's source is 2, the message says 1.
    let mut forged = spoken(mac(1), Discover, false, |_| {});
    forged[6..12].copy_from_slice(&mac(2).0);
    assert_eq!(net.frame(&forged).silent(), Ignored::ForeignHardwareAddress);
    // Another's client-id brings nothing: not its reservation, not its dynamic lease, not an end of either.
    let named = |m: &mut Message| m.options.set(61, b"victim".to_vec());
    let got = net.say(5, Discover, named).one().message.yiaddr;
    let ack = net.say(5, Request, |m| {
        named(m);
        m.options.set(54, SERVER.octets());
        m.options.set(50, got.octets());
    });
    assert_eq!(ack.one().message.options.get(61), Some(&b"victim"[..]), "RFC 6842");
    assert_ne!(net.say(6, Discover, named).one().message.yiaddr, got);
    let release = |m: &mut Message| {
        named(m);
        m.ciaddr = got;
    };
    assert_eq!(net.unicast(6, Release, release).silent(), Ignored::Inconsistent);
    let decline = |m: &mut Message| {
        named(m);
        m.options.set(50, got.octets());
    };
    assert_eq!(net.say(6, Decline, decline).silent(), Ignored::Inconsistent);
    assert_eq!(net.book.leases.at(got).unwrap().state, LeaseState::Bound);
    // A name is recorded, printable, and told to nobody.
    let reply = net.say(1, Request, |m| {
        m.options.set(50, ip(11).octets());
        m.options.set(12, b"db\n\x1b[31m".to_vec());
    });
    assert_eq!(reply.one().message.options.get(12), Some(&b"h11"[..]));
    assert_eq!(net.book.leases.at(ip(11)).unwrap().client_name.as_deref(), Some("db???31m"));
    // Its own words, come back.
    let own = spoken(mac(254), Discover, false, |_| {});
    let o = net.frame(&own);
    assert!(o.replies.is_empty() && o.events.is_empty());
}

#[test]
fn release_decline_and_inform() {
    let mut net = Net::new(config());
    assert_eq!(net.unicast(1, Release, |m| m.ciaddr = ip(11)).silent(), Ignored::Inconsistent);
    net.lease(1);
    let released = net.unicast(1, Release, |m| m.ciaddr = ip(11));
    assert!(released.replies.is_empty());
    assert_eq!(released.events, [Event::Released { mac: mac(1), address: ip(11) }]);
    assert_eq!(net.book.leases.at(ip(11)).unwrap().state, LeaseState::Released);

    let declined = net.say(1, Decline, |m| m.options.set(50, ip(11).octets()));
    assert_eq!(declined.events, [Event::Declined { mac: mac(1), address: ip(11) }]);
    assert!(
        matches!(net.history.last(), Some(LeaseChange::Declined { until, .. }) if *until == net.now + 3_600_000)
    );

    let inform = net.unicast(2, Inform, |m| m.ciaddr = ip(12)).one();
    let m = &inform.message;
    assert_eq!((m.kind, m.yiaddr, m.ciaddr, inform.dst), (Ack, NONE, ip(12), ip(12)));
    assert!([51, 58, 59].iter().all(|c| m.options.get(*c).is_none()) && !inform.durable);
    assert_eq!(net.unicast(2, Inform, |m| m.ciaddr = ip(11)).silent(), Ignored::Inconsistent);
}

#[test]
fn lease_times_are_the_clients_within_bounds() {
    let mut net = Net::new(config());
    let mut ask =
        |s: u32| net.say(1, Discover, |m| m.options.set(51, s.to_be_bytes())).one().message.options.u32(51);
    assert_eq!([ask(0), ask(60), ask(7200), ask(u32::MAX)], [60, 60, 7200, 86_400].map(Some));
    let mut c = config();
    c.lease.max_s = u32::MAX;
    let mut net = Net::new(c);
    let ack = net.say(1, Request, |m| {
        m.options.set(50, ip(11).octets());
        m.options.set(51, [0xff; 4]);
    });
    assert_eq!(ack.one().message.options.u32(58), Some(u32::MAX));
    assert_eq!(net.book.leases.at(ip(11)).unwrap().expiry, u64::MAX);
}

#[test]
fn the_fqdn_told_is_the_fabrics_in_the_clients_encoding() {
    let mut net = Net::new(dynamic());
    let mut ask = |n: u8, value: &[u8]| {
        let value = value.to_vec();
        let reply = net.say(n, Discover, |m| m.options.set(81, value)).one();
        reply.message.options.get(81).map(<[u8]>::to_vec)
    };
    // E and S set: agreed. S clear: overridden (O). No E: ASCII.
    assert_eq!(ask(1, b"\x05\0\0\x04liar\0").unwrap(), b"\x05\xff\xff\x03h11\x04shop\x08internal\0");
    assert_eq!(ask(1, b"\x04\0\0").unwrap(), b"\x07\xff\xff\x03h11\x04shop\x08internal\0");
    assert_eq!(ask(1, b"\x01\0\0liar").unwrap(), b"\x01\xff\xffh11.shop.internal");
    // A dynamic client has no name here: nobody publishes (N), its wish overridden.
    assert_eq!(ask(5, b"\x05\0\0\x04liar\0").unwrap(), b"\x0e\xff\xff");
    assert_eq!(ask(1, b"\x05\0"), None);
}

#[test]
fn subnets_relay_links_and_autoconfiguration() {
    let mut net = Net::new(ServerConfig { forbid_autoconf: true, ..config() });
    let chosen = net.say(1, Discover, |m| m.options.set(118, ip(0).octets())).one();
    assert_eq!(chosen.message.options.ipv4(118), Some(ip(0)), "RFC 3011: copied");
    let other = net.say(1, Discover, |m| m.options.set(118, [192, 0, 2, 0]));
    assert_eq!(other.silent(), Ignored::OtherSubnet);
    let link = net.say(1, Discover, |m| m.options.set(82, [1, 1, 0, 5, 4, 192, 0, 2, 0]));
    assert_eq!(link.silent(), Ignored::OtherSubnet);
    // RFC 2563: no address, and do not make one up.
    let none = net.say(9, Discover, |m| m.options.set(116, [1])).one();
    assert_eq!((none.message.yiaddr, none.message.options.u8(116)), (NONE, Some(0)));
    assert_eq!(none.message.options.get(51), None);
    assert_eq!(net.discover(9).silent(), Ignored::UnknownClient);
}

#[test]
fn dynamic_clients_share_a_range_and_come_back_to_their_address() {
    let mut net = Net::new(dynamic());
    let addresses: Vec<_> = (20..24).map(|n| net.lease(n)).collect();
    assert_eq!(addresses, [ip(100), ip(101), ip(102), ip(103)]);
    assert_eq!(net.discover(24).silent(), Ignored::PoolExhausted);
    // Released and then expired ones are reused, longest unused first; each client finds its own again before that.
    net.now += 100_000;
    net.unicast(21, Release, |m| m.ciaddr = ip(101));
    net.now += 100_000;
    net.unicast(20, Release, |m| m.ciaddr = ip(100));
    assert_eq!(net.lease(20), ip(100));
    assert_eq!(net.discover(24).one().message.yiaddr, ip(101));
    // That is offered now, so its old holder cannot have it.
    assert_eq!(net.discover(21).silent(), Ignored::PoolExhausted);
    net.now += 5_000_000;
    net.expire();
    assert_eq!(net.lease(22), ip(102));
    // The client is asked first: it may name a free one.
    let asked = net.say(30, Discover, |m| m.options.set(50, ip(103).octets())).one();
    assert_eq!(asked.message.yiaddr, ip(103));
    let reserved = net.say(31, Discover, |m| m.options.set(50, ip(11).octets())).one();
    assert_ne!(reserved.message.yiaddr, ip(11));
    // Replayed, the history gives the same table.
    let mut replayed = LeaseTable::with_range(&net.server.config().dynamic.unwrap());
    net.history.iter().for_each(|c| replayed.apply(c));
    assert_eq!(replayed, net.book.leases);
}

#[test]
fn an_offer_survives_a_restart_if_its_address_does() {
    let mut net = Net::new(dynamic());
    let address = net.discover(20).one().message.yiaddr;
    net.server = Server::new(dynamic()).unwrap();
    assert_eq!(net.select(20, address).one().message.kind, Ack);
    assert_eq!(net.select(21, address).one().message.kind, Nak);
}

#[test]
fn two_acks_before_either_is_stored_do_not_share_an_address() {
    let mut net = Net::new(dynamic());
    let view =
        Book { leases: LeaseTable::with_range(&net.server.config().dynamic.unwrap()), ..Book::default() };
    let select = |n| {
        spoken(mac(n), Request, false, |m| {
            m.options.set(54, SERVER.octets());
            m.options.set(50, ip(100).octets());
        })
    };
    let first = net.server.handle(&select(20), 0, &view);
    assert!(matches!(first[0], Action::Persist { .. }));
    let second = net.server.handle(&select(21), 0, &view);
    assert!(matches!(second[0], Action::Send(_)), "a NAK: {second:?}");
}

#[test]
fn addresses_in_use_are_found_by_arp_before_they_are_offered() {
    let mut c = dynamic();
    c.dynamic.as_mut().unwrap().probe_ms = 500;
    let mut net = Net::new(c);
    let probe = net.discover(20);
    assert!(probe.replies.is_empty());
    let Payload::Arp(arp) = parse_frame(&probe.frames[0]).unwrap().payload else { panic!() };
    assert_eq!(arp, Arp::probe(mac(254), ip(100)));
    // Not offered yet, so not to be had.
    assert_eq!(net.select(20, ip(100)).one().message.kind, Nak);
    net.discover(20);
    let squatter = Arp { op: ArpOp::Reply, sender_mac: mac(66), sender_ip: ip(100), ..arp };
    let found = net.frame(&squatter.build(mac(254)));
    assert_eq!(found.events, [Event::Conflict { address: ip(100).into(), by: mac(66) }]);
    assert_eq!(net.book.leases.at(ip(100)).unwrap().state, LeaseState::Declined);
    // The next one is silent: offered when the time is up, not before.
    net.discover(20);
    assert_eq!(net.server.next_deadline(), Some(net.now + 500));
    net.now += 499;
    assert!(net.poll().replies.is_empty());
    net.now += 1;
    assert_eq!(net.poll().one().message.yiaddr, ip(101));
    assert_eq!(net.select(20, ip(101)).one().message.kind, Ack);
    // Known to be its own now: no second probe.
    net.now += 100_000;
    assert_eq!(net.discover(20).one().message.yiaddr, ip(101));
}

#[test]
fn the_server_is_found_by_arp_and_nd_and_defends_its_address() {
    let v6 = "fd00:9::2".parse().unwrap();
    let mut net = Net::new(ServerConfig { ipv6: Some(v6), ..config() });
    let who = |target| Arp { sender_ip: ip(11), ..Arp::probe(mac(1), target) };
    let answer = net.frame(&who(SERVER).build(Mac::BROADCAST)).frames;
    let expected = who(SERVER).reply(mac(254));
    assert_eq!(parse_frame(&answer[0]).unwrap().payload, Payload::Arp(expected));
    assert_eq!((expected.sender_mac, expected.sender_ip), (mac(254), SERVER));
    // A probe for it is answered too, one for anyone else's is not.
    assert_eq!(net.frame(&Arp::probe(mac(1), SERVER).build(Mac::BROADCAST)).frames.len(), 1);
    assert!(net.frame(&Arp::probe(mac(1), ip(12)).build(Mac::BROADCAST)).frames.is_empty());
    // Someone claims it: defended, once in ten seconds.
    let claim = Arp::announcement(mac(1), SERVER).build(Mac::BROADCAST);
    assert_eq!(net.frame(&claim).frames, [net.server.announcement()]);
    assert!(net.frame(&claim).frames.is_empty());
    net.now += 10_000;
    assert_eq!(net.frame(&claim).frames.len(), 1);

    let mut ns = vec![135, 0, 0, 0, 0, 0, 0, 0];
    ns.extend(v6.octets());
    let mut frame = Vec::new();
    let src: std::net::Ipv6Addr = "fd00:9::11".parse().unwrap();
    etherparse::PacketBuilder::ethernet2(mac(1).0, mac(254).0)
        .ipv6(src.octets(), v6.octets(), 255)
        .icmpv6(etherparse::Icmpv6Type::NeighborSolicitation)
        .write(&mut frame, &v6.octets())
        .unwrap();
    let advert = net.frame(&frame).frames;
    let theirs = etherparse::PacketHeaders::from_ethernet_slice(&advert[0]).unwrap();
    let Some(etherparse::NetHeaders::Ipv6(ip6, _)) = theirs.net else { panic!() };
    assert_eq!((ip6.source, ip6.destination), (v6.octets(), src.octets()));
    frame[21] = 64;
    assert!(net.frame(&frame).frames.is_empty(), "a hop limit below 255 came from off the link");
}

#[test]
fn floods_cost_bounded_memory_and_do_not_shut_reserved_stations_out() {
    let mut net = Net::new(dynamic());
    // 200,000 invented MACs at one instant.
    let mut offers = 0;
    for n in 0..200_000u64 {
        let from = Mac::local_from(n << 3);
        let actions = net.server.handle(&spoken(from, Discover, false, |_| {}), net.now, &net.book);
        offers += actions.iter().filter(|a| matches!(a, Action::Send(_))).count();
    }
    assert_eq!(offers, 4, "the range has four addresses");
    assert_eq!(net.lease(1), ip(11));
    // One station may say so much and no more, under however many client-ids.
    let mut net = Net::new(dynamic());
    let seen: Vec<_> = (0..50u8).map(|n| net.say(20, Discover, |m| m.options.set(61, [n]))).collect();
    let offered: Vec<_> = seen.iter().flat_map(|o| o.replies.iter().map(|r| r.message.yiaddr)).collect();
    assert_eq!(offered.len(), 4);
    let limited =
        |o: &&Outcome| o.events.iter().any(|e| matches!(e, Event::Ignored { why: Ignored::RateLimited, .. }));
    assert_eq!(seen.iter().filter(limited).count(), 1, "said once");
    assert_eq!(net.server.stats().rate_limited, 30);
}

#[test]
fn one_client_cannot_decline_the_range_away() {
    let mut c = dynamic();
    c.dynamic.as_mut().unwrap().last = ip(120);
    let mut net = Net::new(c);
    for _ in 0..10 {
        let address = net.discover(20).one().message.yiaddr;
        net.say(20, Decline, |m| m.options.set(50, address.octets()));
        net.now += 10_000;
    }
    let declined = net.book.leases.iter().filter(|l| l.state == LeaseState::Declined).count();
    assert_eq!(declined, 4);
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let says = |edit: &dyn Fn(&mut ServerConfig)| {
        let mut c = dynamic();
        edit(&mut c);
        Server::new(c).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(says(&|c| c.ip = [192, 0, 2, 1].into()), "the DHCP server 192.0.2.1 is not in 10.9.0.0/24");
    assert_eq!(says(&|c| c.mtu = 500), "an MTU of 500 is too small for DHCP; at least 576");
    assert!(says(&|c| c.lease.min_s = 0).starts_with("lease times must"));
    assert!(says(&|c| c.search = vec!["a..b".into()]).starts_with("\"a..b\" is not a domain name"));
    assert!(says(&|c| c.extra = vec![(53, vec![2])]).starts_with("option 53 is set by the server itself"));
    assert!(says(&|c| c.dynamic.as_mut().unwrap().first = ip(1)).contains("holds the gateway's"));
    assert!(says(&|c| c.limits.burst = 0).ends_with("burst must not be zero"));
}

proptest! {
    /// Whatever is said by whomever: no panic, no address to two at once, no reserved address to another, every ACK
    /// durable, and the lease table a fold of its changes.
    #[test]
    fn any_conversation_keeps_the_promises(
        talk in prop::collection::vec((1u8..8, 0usize..8, 95u8..110, any::<[bool; 5]>(), 0u8..3, 0u64..2_000_000), 1..80),
        probe_ms in prop_oneof![Just(0u64), Just(500)],
    ) {
        let mut c = dynamic();
        c.dynamic.as_mut().unwrap().probe_ms = probe_ms;
        c.limits.burst = 100;
        let mut net = Net::new(c);
        let kinds = [Discover, Discover, Request, Request, Request, Decline, Release, Inform];
        for (n, kind, address, [server, asked, ciaddr, unicast, expire], id, wait) in talk {
            net.now += wait;
            if expire {
                net.expire();
            }
            net.poll();
            let address = if address < 100 { ip(address - 84) } else { ip(address - 2) };
            let frame = spoken(mac(n), kinds[kind], unicast, |m| {
                if server { m.options.set(54, SERVER.octets()); }
                if asked { m.options.set(50, address.octets()); }
                if ciaddr { m.ciaddr = address; }
                if id > 0 { m.options.set(61, [id]); }
            });
            let before: Vec<_> = net.book.leases.iter().cloned().collect();
            for reply in net.frame(&frame).replies {
                prop_assert_eq!(reply.durable, reply.message.kind == Ack && kinds[kind] == Request);
                let (given, now) = (reply.message.yiaddr, net.now);
                if given == NONE { continue; }
                match net.book.reserved.get(&mac(n)) {
                    Some(own) => prop_assert_eq!(given, *own),
                    None => prop_assert!((ip(100)..=ip(103)).contains(&given)),
                }
                let other = before.iter().find(|l| l.address == given && l.state == LeaseState::Bound && l.expiry > now);
                prop_assert!(other.is_none_or(|l| l.client.mac == mac(n)), "{} taken from {:?}", given, other);
            }
        }
        let mut replayed = LeaseTable::with_range(&net.server.config().dynamic.unwrap());
        net.history.iter().for_each(|c| replayed.apply(c));
        prop_assert_eq!(&replayed, &net.book.leases);
    }

    #[test]
    fn any_bytes_as_a_frame(data in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut net = Net::new(dynamic());
        net.frame(&data);
    }
}
