//! The address state as its users see it: the invariants under random histories, and each refusal's words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use warren_dhcp::Mac;
use warren_dhcp::ipam::*;

const MIN: u64 = 60_000;

fn owner(n: u32) -> Owner {
    Owner::new(&format!("o{n}")).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// 10.9.0.0/28: .1 gateway and DNS, .2 DHCP, .8 to .9 excluded, .14 reserved for o3; 10 addresses can be given.
fn small() -> Network {
    let mut n =
        Network::new("shop", Some("10.9.0.0/28".parse().unwrap()), Some("fd00:9::/64".parse().unwrap()));
    n.quarantine_ms = 10 * MIN;
    n.conflict_quarantine_ms = 60 * MIN;
    let v4 = n.v4.as_mut().unwrap();
    v4.exclusions.push(AddressRange { first: ip("10.9.0.8"), last: ip("10.9.0.9") });
    v4.reservations.push(Reservation { owner: owner(3), address: ip("10.9.0.14") });
    n.reserved_macs.push("02:00:00:00:00:01".parse().unwrap());
    n
}

fn with(network: &Network) -> Ipam {
    let mut ipam = Ipam::new();
    let change = ipam.decide_add_network(network).unwrap();
    ipam.apply(&change).unwrap();
    ipam
}

fn assign(ipam: &mut Ipam, n: u32, v4: Want, now: u64) -> Result<IpAddr, IpamError> {
    let owner = owner(n);
    let request =
        AssignRequest { network: "shop", owner: &owner, v4, v6: Want::Nothing, mac: MacWant::Nothing, now };
    let change = ipam.decide_assign(&request)?;
    ipam.apply(&change).unwrap();
    Ok(ipam.assignment("shop", &owner).unwrap().v4.unwrap())
}

fn release(ipam: &mut Ipam, n: u32, now: u64) {
    let change = ipam.decide_release("shop", &owner(n), now).unwrap();
    ipam.apply(&change).unwrap();
}

#[test]
fn addresses_come_in_sequence_and_back_as_late_as_possible() {
    let mut ipam = with(&small());
    assert_eq!(assign(&mut ipam, 1, Want::Auto, 0), Ok(ip("10.9.0.3")));
    release(&mut ipam, 1, 0);
    // Long after its rest the cursor is still ahead of it.
    for expected in ["10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.7", "10.9.0.10", "10.9.0.11", "10.9.0.12"] {
        let n = u32::from(expected.parse::<std::net::Ipv4Addr>().unwrap());
        assert_eq!(assign(&mut ipam, n, Want::Auto, 20 * MIN), Ok(ip(expected)));
    }
    assert_eq!(assign(&mut ipam, 90, Want::Auto, 20 * MIN), Ok(ip("10.9.0.13")));
    // The pool is used up; the rested address is taken without anyone having expired it.
    assert_eq!(assign(&mut ipam, 91, Want::Auto, 20 * MIN), Ok(ip("10.9.0.3")));
    let full = assign(&mut ipam, 92, Want::Auto, 20 * MIN).unwrap_err();
    assert!(matches!(
        full,
        IpamError::Exhausted { size: 10, used: 9, quarantined: 0, next_free_at: None, .. }
    ));
    // The reserved address is still there for its owner.
    assert_eq!(assign(&mut ipam, 3, Want::Auto, 20 * MIN), Ok(ip("10.9.0.14")));
}

#[test]
fn an_exhausted_pool_says_what_rests_and_for_how_long() {
    let mut ipam = with(&small());
    for n in 10..19 {
        assign(&mut ipam, n, Want::Auto, 0).unwrap();
    }
    release(&mut ipam, 10, MIN);
    let e = assign(&mut ipam, 50, Want::Auto, 2 * MIN).unwrap_err();
    assert_eq!(
        e.to_string(),
        "network \"shop\" has no free address in 10.9.0.0/28: 8 of 10 in use, 1 put aside (the first for another 9 min); \
         release some, or use a larger prefix"
    );
    let fixed = |force| Want::Fixed { address: ip("10.9.0.3"), force };
    let e = assign(&mut ipam, 50, fixed(false), 2 * MIN).unwrap_err();
    assert_eq!(
        e.to_string(),
        "10.9.0.3 on network \"shop\" is put aside (lately released) for another 9 min; wait, or force it"
    );
    assert_eq!(assign(&mut ipam, 50, fixed(true), 2 * MIN), Ok(ip("10.9.0.3")));
}

#[test]
fn what_is_kept_apart_is_given_by_number_alone() {
    let mut network = small();
    let apart = ip("10.9.0.11");
    network.v4.as_mut().unwrap().apart = vec![apart];
    let mut ipam = with(&network);
    assert_eq!(assign(&mut ipam, 1, Want::Fixed { address: apart, force: false }, 0), Ok(apart));
    release(&mut ipam, 1, 1);
    // Neither when it is preferred, nor when it has rested and all others are given.
    assert_ne!(assign(&mut ipam, 2, Want::Prefer(apart), 1_000_000), Ok(apart));
    let mut n = 10;
    while let Ok(address) = assign(&mut ipam, n, Want::Auto, 1_000_000) {
        assert_ne!(address, apart);
        n += 1;
    }
    assert_eq!(assign(&mut ipam, 2 + n, Want::Fixed { address: apart, force: false }, 1_000_000), Ok(apart));
}

#[test]
fn an_owner_gets_its_old_address_back_at_once_and_others_do_not() {
    let mut ipam = with(&small());
    assign(&mut ipam, 1, Want::Auto, 0).unwrap();
    release(&mut ipam, 1, 0);
    let prefer = Want::Prefer(ip("10.9.0.3"));
    assert_eq!(assign(&mut ipam, 2, prefer, 1), Ok(ip("10.9.0.4")));
    assert_eq!(assign(&mut ipam, 1, prefer, 1), Ok(ip("10.9.0.3")));
    // After a conflict not even its owner.
    let change = ipam.decide_conflict("shop", ip("10.9.0.3"), 2).unwrap();
    assert!(
        matches!(&change, Change::Held { owner: Some(o), until, .. } if *o == owner(1) && *until == 60 * MIN + 2)
    );
    ipam.apply(&change).unwrap();
    assert_eq!(ipam.assignment("shop", &owner(1)), None);
    assert_eq!(assign(&mut ipam, 1, prefer, 3), Ok(ip("10.9.0.5")));
}

#[test]
fn each_refusal_names_its_reason() {
    let mut ipam = with(&small());
    assign(&mut ipam, 1, Want::Auto, 0).unwrap();
    let mut refused = |address: &str| {
        assign(&mut ipam, 2, Want::Fixed { address: ip(address), force: true }, 0).unwrap_err().to_string()
    };
    assert_eq!(refused("10.9.0.1"), "10.9.0.1 is the gateway of network \"shop\" and cannot be given out");
    assert_eq!(
        refused("10.9.0.2"),
        "10.9.0.2 is the DHCP server of network \"shop\" and cannot be given out"
    );
    assert_eq!(
        refused("10.9.0.0"),
        "10.9.0.0 is the network address of network \"shop\" and cannot be given out"
    );
    assert_eq!(
        refused("10.9.0.15"),
        "10.9.0.15 is the broadcast address of network \"shop\" and cannot be given out"
    );
    assert_eq!(refused("10.9.0.9"), "10.9.0.9 is excluded from network \"shop\" by its definition");
    assert_eq!(refused("10.9.0.14"), "10.9.0.14 on network \"shop\" is reserved for o3");
    assert_eq!(refused("10.9.0.3"), "10.9.0.3 on network \"shop\" is taken by o1");
    assert_eq!(refused("10.9.1.3"), "10.9.1.3 is not in network \"shop\" (10.9.0.0/28)");
    let again = assign(&mut ipam, 1, Want::Auto, 0).unwrap_err().to_string();
    assert_eq!(again, "o1 has 10.9.0.3 on network \"shop\" already; release it first");
    let none = ipam.decide_release("shop", &owner(7), 0).unwrap_err().to_string();
    assert_eq!(none, "o7 holds nothing on network \"shop\"");
    assert!(matches!(Owner::new(&"x".repeat(65)), Err(IpamError::BadOwner { .. })));
    assert!(Owner::new("").is_err() && Owner::new("a\nb").is_err());
}

#[test]
fn macs_are_local_unique_and_never_the_networks_own() {
    let mut ipam = with(&small());
    let mut seen = BTreeSet::new();
    // The same random number every time: each must still be new.
    for n in 0..MAC_ATTEMPTS {
        let owner = owner(n);
        let request = AssignRequest {
            mac: MacWant::Derive(7),
            ..AssignRequest {
                v4: Want::Nothing,
                v6: Want::Nothing,
                ..AssignRequest::auto("shop", &owner, 0, 0)
            }
        };
        let change = ipam.decide_assign(&request).unwrap();
        ipam.apply(&change).unwrap();
        let mac = ipam.assignment("shop", &owner).unwrap().mac.unwrap();
        assert!(mac.is_local() && mac.is_unicast() && seen.insert(mac));
        assert_eq!(ipam.by_mac("shop", mac).unwrap().0, &owner);
    }
    let last = owner(999);
    let with_mac = |mac| AssignRequest {
        mac,
        ..AssignRequest { v4: Want::Nothing, v6: Want::Nothing, ..AssignRequest::auto("shop", &last, 0, 0) }
    };
    assert!(matches!(ipam.decide_assign(&with_mac(MacWant::Derive(7))), Err(IpamError::MacExhausted { .. })));
    let own = "02:00:00:00:00:01".parse().unwrap();
    let e = ipam.decide_assign(&with_mac(MacWant::Fixed(own))).unwrap_err().to_string();
    assert_eq!(e, "02:00:00:00:00:01 on network \"shop\" is taken by the network itself");
    assert!(matches!(
        ipam.decide_assign(&with_mac(MacWant::Fixed(Mac::BROADCAST))),
        Err(IpamError::BadMac { .. })
    ));
}

#[test]
fn networks_may_not_overlap_in_either_family() {
    let ipam = with(&small());
    let net = |name, v4: &str| Network::new(name, Some(v4.parse().unwrap()), None);
    for clash in ["10.9.0.0/24", "10.0.0.0/8", "10.9.0.0/29", "10.9.0.8/29"] {
        let e = ipam.decide_add_network(&net("x", clash)).unwrap_err();
        assert_eq!(
            e.to_string(),
            format!(
                "network \"x\" ({clash}) overlaps network \"shop\" (10.9.0.0/28); choose a prefix of its own"
            )
        );
    }
    assert!(ipam.decide_add_network(&net("x", "10.9.0.16/28")).is_ok());
    let six = Network::new("y", None, Some("fd00:9:0:0:1::/80".parse().unwrap()));
    assert!(matches!(ipam.decide_add_network(&six), Err(IpamError::Overlap { .. })));
    assert!(matches!(check_overlaps(&[small(), six]), Err(IpamError::Overlap { .. })));
    assert!(check_overlaps(&[small(), net("x", "10.9.0.16/28"), net("z", "10.8.0.0/16")]).is_ok());
    for (bad, says) in [
        ("10.9.0.1/24", "network \"x\": 10.9.0.1/24 has host bits set; write 10.9.0.0/24"),
        ("10.9.0.0/31", "network \"x\": its DHCP server 10.9.0.2 is not in 10.9.0.0/31"),
        (
            "10.9.0.0/30",
            "network \"x\": 10.9.0.0/30 leaves no address to give out; use a larger prefix or fewer exclusions",
        ),
    ] {
        assert_eq!(net("x", bad).validate().unwrap_err().to_string(), says);
    }
}

#[test]
fn a_definition_changes_only_if_every_holder_keeps_its_address() {
    let mut ipam = with(&small());
    assign(&mut ipam, 1, Want::Auto, 0).unwrap();
    let mut wider = small();
    wider.v4.as_mut().unwrap().prefix = "10.9.0.0/24".parse().unwrap();
    let change = ipam.decide_update_network(&wider).unwrap();
    ipam.apply(&change).unwrap();
    assert_eq!(ipam.owner_of(ip("10.9.0.3")), Some(&owner(1)));
    assert_eq!(assign(&mut ipam, 2, Want::Auto, 0), Ok(ip("10.9.0.4")));
    assert_eq!(ipam.network_of(ip("10.9.0.200")).map(|n| n.name.as_str()), Some("shop"));

    let mut hostile = wider.clone();
    hostile
        .v4
        .as_mut()
        .unwrap()
        .exclusions
        .push(AddressRange { first: ip("10.9.0.3"), last: ip("10.9.0.4") });
    let e = ipam.decide_update_network(&hostile).unwrap_err();
    assert_eq!(e.to_string(), "network \"shop\" cannot change: o1 holds 10.9.0.3 (excluded)");
    hostile.v4 = None;
    let e = ipam.decide_update_network(&hostile).unwrap_err();
    assert!(e.to_string().ends_with("holds 10.9.0.3 (the network would have no IPv4 prefix)"), "{e}");
    let e = ipam.decide_remove_network("shop").unwrap_err();
    assert_eq!(
        e.to_string(),
        "network \"shop\" is still used by 2 owner(s), o1 among them; release them first"
    );
}

#[test]
fn a_damaged_history_is_refused_and_changes_nothing() {
    let mut ipam = with(&small());
    assign(&mut ipam, 1, Want::Auto, 0).unwrap();
    let before = ipam.clone();
    let granted = |a: &str| Some(Granted { address: ip(a), how: How::Auto });
    let stolen =
        |v4| Change::Assigned { network: "shop".into(), owner: owner(2), v4, v6: None, mac: None, at: 0 };
    for bad in [
        stolen(granted("10.9.0.3")),
        stolen(granted("10.9.0.1")),
        stolen(granted("fd00:9::5")),
        stolen(granted("192.0.2.1")),
        Change::Released { network: "shop".into(), owner: owner(2), at: 0, until: None },
        Change::NetworkRemoved { name: "shop".into() },
        Change::NetworkAdded { network: Box::new(small()) },
        Change::Expired { network: "none".into(), addresses: vec![] },
    ] {
        assert!(ipam.apply(&bad).is_err(), "{bad:?}");
        assert_eq!(ipam, before);
    }
}

#[test]
fn ten_thousand_owners_share_a_16() {
    let mut ipam = with(&Network::new(
        "shop",
        Some("10.8.0.0/16".parse().unwrap()),
        Some("fd00:8::/64".parse().unwrap()),
    ));
    let (mut v4, mut v6, mut macs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for n in 0..10_000u32 {
        let owner = owner(n);
        let request = AssignRequest::auto("shop", &owner, u64::from(n % 500), u64::from(n));
        let change = ipam.decide_assign(&request).unwrap();
        ipam.apply(&change).unwrap();
        let a = ipam.assignment("shop", &owner).unwrap().clone();
        assert!(v4.insert(a.v4.unwrap()) && v6.insert(a.v6.unwrap()) && macs.insert(a.mac.unwrap()));
        if n % 3 == 0 {
            // Addresses rest; a MAC, being random, need not.
            macs.remove(&a.mac.unwrap());
            let change = ipam.decide_release("shop", &owner, u64::from(n)).unwrap();
            ipam.apply(&change).unwrap();
        }
    }
    assert_eq!(ipam.usage("shop").0.unwrap().used, 6666);
    assert_eq!(Ipam::replay(&ipam.snapshot()).unwrap(), ipam);
}

#[derive(Debug, Clone)]
enum Step {
    Assign { who: u32, v4: Want, v6: Want, mac: u64 },
    Release { who: u32 },
    Conflict { at: u8 },
    Expire,
    Wait { ms: u64 },
}

fn want() -> impl Strategy<Value = Want> {
    let address = (0u8..20).prop_map(|n| IpAddr::from([10, 9, 0, n]));
    prop_oneof![
        1 => Just(Want::Nothing),
        4 => Just(Want::Auto),
        1 => address.clone().prop_map(Want::Prefer),
        1 => (address, any::<bool>()).prop_map(|(address, force)| Want::Fixed { address, force }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u32..14, want(), prop_oneof![Just(Want::Nothing), Just(Want::Auto)], 0u64..3)
            .prop_map(|(who, v4, v6, mac)| Step::Assign { who, v4, v6, mac }),
        4 => (0u32..14).prop_map(|who| Step::Release { who }),
        1 => (0u8..20).prop_map(|at| Step::Conflict { at }),
        1 => Just(Step::Expire),
        3 => (0u64..20 * MIN).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_histories_keep_the_invariants(steps in prop::collection::vec(step(), 1..120)) {
        let mut ipam = with(&small());
        let mut history = ipam.snapshot();
        let mut now = 1_000u64;
        // When each address may be given to someone other than its last owner.
        let mut rests: BTreeMap<IpAddr, (u64, Option<Owner>)> = BTreeMap::new();
        for step in steps {
            let changes = match &step {
                Step::Wait { ms } => { now += ms; vec![] }
                Step::Expire => ipam.decide_expire(now),
                Step::Release { who } => ipam.decide_release("shop", &owner(*who), now).into_iter().collect(),
                Step::Conflict { at } => {
                    ipam.decide_conflict("shop", IpAddr::from([10, 9, 0, *at]), now).into_iter().collect()
                }
                Step::Assign { who, v4, v6, mac } => {
                    let who = owner(*who);
                    let has_mac = ipam.assignment("shop", &who).is_some_and(|a| a.mac.is_some());
                    let mac = if has_mac { MacWant::Nothing } else { MacWant::Derive(*mac) };
                    let request = AssignRequest { network: "shop", owner: &who, v4: *v4, v6: *v6, mac, now };
                    ipam.decide_assign(&request).into_iter().collect()
                }
            };
            for change in changes {
                // The store's text form is lossless.
                let text = serde_json::to_string(&change).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Change>(&text).unwrap(), &change);
                match &change {
                    Change::Assigned { owner, v4, v6, .. } => {
                        let forced = matches!(step, Step::Assign { v4: Want::Fixed { force: true, .. }, .. });
                        for address in [v4, v6].into_iter().flatten().map(|g| g.address) {
                            prop_assert_eq!(ipam.owner_of(address), None, "given twice");
                            if let Some((until, last)) = rests.remove(&address) {
                                prop_assert!(forced || until <= now || last.as_ref() == Some(owner));
                            }
                        }
                    }
                    Change::Released { owner, until: Some(until), .. } => {
                        let a = ipam.assignment("shop", owner).unwrap();
                        for address in [a.v4, a.v6].into_iter().flatten() {
                            rests.insert(address, (*until, Some(owner.clone())));
                        }
                    }
                    Change::Held { address, until, .. } => { rests.insert(*address, (*until, None)); }
                    _ => {}
                }
                ipam.apply(&change).unwrap();
                history.push(change);
            }
            let (mut addresses, mut macs) = (BTreeSet::new(), BTreeSet::new());
            for (who, a) in ipam.assignments("shop") {
                for address in [a.v4, a.v6].into_iter().flatten() {
                    prop_assert!(addresses.insert(address), "{} has two owners", address);
                    prop_assert_eq!(ipam.owner_of(address), Some(who));
                    prop_assert_eq!(ipam.hold_of(address), None);
                    if let IpAddr::V4(v4) = address {
                        let last = v4.octets()[3];
                        prop_assert!((3..=7).contains(&last) || (10..=14).contains(&last), "{} given", v4);
                        prop_assert!(last != 14 || *who == owner(3));
                    }
                }
                if let Some(mac) = a.mac {
                    prop_assert!(macs.insert(mac));
                }
                prop_assert!(a.v4.is_some() || a.v6.is_some() || a.mac.is_some());
            }
        }
        prop_assert_eq!(&Ipam::replay(&history).unwrap(), &ipam);
        prop_assert_eq!(&Ipam::replay(&ipam.snapshot()).unwrap(), &ipam);
        // An unchanged definition changes nothing.
        let same = ipam.decide_update_network(ipam.network("shop").unwrap()).unwrap();
        let before = ipam.clone();
        ipam.apply(&same).unwrap();
        prop_assert_eq!(&ipam, &before);
    }
}
