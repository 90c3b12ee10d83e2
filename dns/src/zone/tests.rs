//! What exists, after which changes.

use super::*;
use crate::testing::{config, instance, shop};

fn dump(snapshot: &Snapshot) -> Vec<String> {
    snapshot.records(None).into_iter().map(|r| format!("{} {} {}", r.name, r.rtype, r.data)).collect()
}

fn has(snapshot: &Snapshot, line: &str) -> bool {
    dump(snapshot).iter().any(|l| l == line)
}

fn bare() -> Snapshot {
    Snapshot::new().add_zone(config("shop.internal", &["10.1.0.0/20", "fd00:1::/64"])).unwrap()
}

#[test]
fn all_records_of_an_instance() {
    let zone = bare();
    let before = dump(&zone);
    let after = zone.apply("shop.internal", &[Change::AddInstance(instance("id1", "web", 11))]).unwrap();
    let fresh: Vec<String> =
        dump(&after).into_iter().filter(|l| !before.contains(l) && !l.contains(" SOA ")).collect();
    let v6_ptr = "b.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa";
    let mut want = vec![
        "11.0.1.10.in-addr.arpa PTR id1.web.shop.internal.".to_owned(),
        "_http._tcp.shop.internal PTR web-id1._http._tcp.shop.internal.".into(),
        "_http._tcp.web.shop.internal SRV 0 1 8080 id1.web.shop.internal.".into(),
        "_services._dns-sd._udp.shop.internal PTR _http._tcp.shop.internal.".into(),
        format!("{v6_ptr} PTR id1.web.shop.internal."),
        "id1.web.shop.internal A 10.1.0.11".into(),
        "id1.web.shop.internal AAAA fd00:1::1:b".into(),
        "id1.web.shop.internal TXT version=1".into(),
        "web-id1.shop.internal A 10.1.0.11".into(),
        "web-id1.shop.internal AAAA fd00:1::1:b".into(),
        "web-id1._http._tcp.shop.internal SRV 0 1 8080 id1.web.shop.internal.".into(),
        "web-id1._http._tcp.shop.internal TXT version=1".into(),
        "web.shop.internal A 10.1.0.11".into(),
        "web.shop.internal AAAA fd00:1::1:b".into(),
    ];
    want.sort();
    assert_eq!(fresh, want);
}

#[test]
fn an_update_leaves_the_old_snapshot_and_the_serial_grows() {
    let old = shop();
    let before = dump(&old);
    let serial = old.serial("shop.internal").unwrap();
    let new = old.apply("shop.internal", &[Change::RemoveInstance { id: "id1".into() }]).unwrap();
    assert_eq!(dump(&old), before);
    assert_eq!(new.serial("Shop.Internal."), Some(serial + 1));
    assert!(!dump(&new).iter().any(|l| l.contains("id1")));
}

#[test]
fn not_ready_has_its_own_name_only() {
    let zone = shop();
    assert!(has(&zone, "id3.web.shop.internal A 10.1.0.13"));
    assert!(has(&zone, "web-id3.shop.internal A 10.1.0.13"));
    assert!(has(&zone, "13.0.1.10.in-addr.arpa PTR id3.web.shop.internal."));
    assert!(!has(&zone, "web.shop.internal A 10.1.0.13"));
    assert!(!has(&zone, "_http._tcp.web.shop.internal SRV 0 1 8080 id3.web.shop.internal."));
    let ready = Change::SetReady { id: "ID3".into(), ready: true };
    let joined = zone.apply("shop.internal", &[ready.clone(), ready]).unwrap();
    assert!(has(&joined, "web.shop.internal A 10.1.0.13"));
    assert!(has(&joined, "_http._tcp.web.shop.internal SRV 0 1 8080 id3.web.shop.internal."));
    let left = joined.apply("shop.internal", &[Change::SetReady { id: "id3".into(), ready: false }]).unwrap();
    let no_soa = |s: &Snapshot| dump(s).into_iter().filter(|l| !l.contains(" SOA ")).collect::<Vec<_>>();
    assert_eq!(no_soa(&left), no_soa(&zone));
}

#[test]
fn everything_goes_with_its_reason() {
    let zone = shop();
    let all = ["id1", "id2", "id3"].map(|id| Change::RemoveInstance { id: id.into() });
    let rest = zone.apply("shop.internal", &all).unwrap();
    assert!(rest.node(Name::host("idle.shop.internal").unwrap().wire()).is_some());
    let aliases = ["www", "home", "lost"].map(|alias| Change::RemoveAlias { alias: alias.into() });
    let rest = rest.apply("shop.internal", &aliases).unwrap();
    let rest = rest.apply("shop.internal", &[Change::WithdrawService { service: "idle".into() }]).unwrap();
    assert_eq!(rest.name_count(), bare().name_count());
    assert_eq!(zone.remove_zone("shop.internal").unwrap().name_count(), 0);
    assert_eq!(zone.remove_zone("shop.internal").unwrap().origins(), Vec::<String>::new());
}

#[test]
fn adding_again_replaces() {
    let zone = shop();
    let mut moved = instance("id1", "api", 77);
    moved.ports.clear();
    let after = zone.apply("shop.internal", &[Change::AddInstance(moved)]).unwrap();
    assert!(has(&after, "id1.api.shop.internal A 10.1.0.77"));
    assert!(!dump(&after).iter().any(|l| l.contains("id1.web") || l.contains("10.1.0.11")));
}

#[test]
fn repeatable_undo_and_unknown_ids() {
    let zone = shop();
    let gone = Change::RemoveInstance { id: "nobody".into() };
    let left = Change::SetReady { id: "nobody".into(), ready: false };
    zone.apply("shop.internal", &[gone, left, Change::RemoveAlias { alias: "nobody".into() }]).unwrap();
    let error =
        zone.apply("shop.internal", &[Change::SetReady { id: "nobody".into(), ready: true }]).unwrap_err();
    assert_eq!(error.to_string(), "zone shop.internal has no instance nobody");
    assert!(matches!(zone.apply("other.internal", &[]), Err(ZoneError::NoSuchZone { .. })));
}

#[test]
fn one_name_one_thing() {
    let zone = shop();
    let refused = |change| zone.apply("shop.internal", &[change]).unwrap_err().to_string();
    let ns = refused(Change::AddInstance(instance("x", "NS", 5)));
    assert_eq!(ns, "ns.shop.internal is already a host of the zone; choose another name");
    let www = refused(Change::AddInstance(instance("x", "www", 5)));
    assert_eq!(www, "www.shop.internal is already an alias; choose another name");
    // Of the labels directly below the origin one is the host name of each instance.
    let named =
        zone.apply("shop.internal", &[Change::SetAlias { alias: "web-x".into(), target: "web".into() }]);
    let host_name = named.unwrap().apply("shop.internal", &[Change::AddInstance(instance("X", "web", 5))]);
    let said = "web-x.shop.internal is already an alias; choose another name";
    assert_eq!(host_name.unwrap_err().to_string().to_lowercase(), said);
    let host_name = refused(Change::SetAlias { alias: "web-id1".into(), target: "idle".into() });
    assert_eq!(host_name, "web-id1.shop.internal is already a service; choose another name");
    // A service that is called like another's instance has its own answers beside that one's, and takes none away.
    let both = zone.apply("shop.internal", &[Change::AddInstance(instance("y", "web-id1", 6))]).unwrap();
    assert!(
        has(&both, "web-id1.shop.internal A 10.1.0.11") && has(&both, "web-id1.shop.internal A 10.1.0.6")
    );
    let one = both.apply("shop.internal", &[Change::RemoveInstance { id: "y".into() }]).unwrap();
    assert!(has(&one, "web-id1.shop.internal A 10.1.0.11") && one.name_count() == zone.name_count());
    let web = refused(Change::SetAlias { alias: "web".into(), target: "idle".into() });
    assert_eq!(web, "web.shop.internal is already a service; choose another name");
    assert!(matches!(
        zone.apply("shop.internal", &[Change::SetAlias { alias: "www".into(), target: "home".into() }]),
        Err(ZoneError::AliasLoop { .. })
    ));
    assert!(matches!(
        zone.apply("shop.internal", &[Change::SetAlias { alias: "x".into(), target: "example.org".into() }]),
        Err(ZoneError::AliasOutside { .. })
    ));
}

#[test]
fn a_failing_change_changes_nothing() {
    let zone = shop();
    let before = dump(&zone);
    let changes =
        [Change::AddInstance(instance("id9", "web", 99)), Change::AddInstance(instance("-", "web", 1))];
    zone.apply("shop.internal", &changes).unwrap_err();
    assert_eq!(dump(&zone), before);
}

#[test]
fn instance_limits() {
    let try_with = |edit: fn(&mut Instance)| {
        let mut i = instance("id9", "web", 99);
        edit(&mut i);
        bare().apply("shop.internal", &[Change::AddInstance(i)]).unwrap_err()
    };
    assert!(matches!(try_with(|i| i.txt = vec!["x".repeat(256)]), ZoneError::TxtString { len: 256, .. }));
    assert!(matches!(try_with(|i| i.txt = vec!["x".repeat(255); 6]), ZoneError::TxtTotal { len: 1536, .. }));
    assert!(matches!(try_with(|i| i.ports.extend(i.ports.clone())), ZoneError::DuplicatePort { .. }));
    assert!(matches!(try_with(|i| i.v4.extend(i.v4.clone())), ZoneError::DuplicateAddress { .. }));
    assert!(matches!(
        try_with(|i| i.v4 = (0u32..257).map(Into::into).collect()),
        ZoneError::TooMany { count: 257, max: 256, .. }
    ));
    assert!(matches!(try_with(|i| i.ports[0].name = "_x".into()), ZoneError::Name(_)));
}

#[test]
fn zones_do_not_overlap() {
    let one = bare();
    let add = |origin: &str, reverse: &[&str]| one.add_zone(config(origin, reverse)).map(|_| ());
    assert!(matches!(add("shop.internal", &[]), Err(ZoneError::OriginOverlaps { .. })));
    assert!(matches!(add("a.shop.internal", &[]), Err(ZoneError::OriginOverlaps { .. })));
    assert!(matches!(add("internal", &[]), Err(ZoneError::OriginOverlaps { .. })));
    assert!(matches!(add("x.in-addr.arpa", &[]), Err(ZoneError::OriginIsReverse { .. })));
    assert!(matches!(add("arpa", &[]), Err(ZoneError::OriginIsReverse { .. })));
    assert!(matches!(add("lab.internal", &["10.1.3.0/24"]), Err(ZoneError::PrefixOverlaps { .. })));
    assert!(matches!(
        add("lab.internal", &["10.2.0.0/16", "10.2.0.0/24"]),
        Err(ZoneError::PrefixOverlaps { .. })
    ));
    add("lab.internal", &["10.1.16.0/20", "fd00:1:0:1::/64"]).unwrap();
    let mut wrong = config("lab.internal", &[]);
    wrong.ttl = 6;
    let error = one.add_zone(wrong).unwrap_err().to_string();
    assert_eq!(
        error,
        "ttl of zone lab.internal is 6 s; at most 5 s are allowed, because instances come and go"
    );
}

#[test]
fn addresses_outside_the_owned_prefixes_have_no_ptr() {
    let mut odd = instance("id9", "web", 1);
    odd.v4 = vec!["10.1.16.9".parse().unwrap()];
    let after = bare().apply("shop.internal", &[Change::AddInstance(odd)]).unwrap();
    assert!(!dump(&after).iter().any(|l| l.starts_with("9.16.1.10")));
    assert!(has(&after, "id9.web.shop.internal A 10.1.16.9"));
}

#[test]
fn a_new_configuration_keeps_the_instances() {
    let zone = shop();
    let mut wider = config("shop.internal", &["10.1.0.0/16"]);
    wider.hosts.clear();
    let after = zone.reconfigure(wider).unwrap();
    assert!(has(&after, "11.0.1.10.in-addr.arpa PTR id1.web.shop.internal."));
    assert!(has(&after, "www.shop.internal CNAME web.shop.internal."));
    assert!(!dump(&after).iter().any(|l| l.starts_with("gw.")));
    assert!(after.node(Name::host("idle.shop.internal").unwrap().wire()).is_some());
    assert!(!has(&after, "web.shop.internal A 10.1.0.13"));
    assert!(after.serial("shop.internal") > zone.serial("shop.internal"));
}

#[test]
fn names_are_checked_before_anything_is_touched() {
    let http = [("http".to_owned(), Proto::Tcp)];
    check_names("shop.internal", "web", 8, &http).unwrap();
    let error = check_names(&"o".repeat(64), "web", 8, &[]).unwrap_err().to_string();
    assert!(error.contains("1 more than the 63"), "{error}");
    let service = "s".repeat(60);
    check_names("shop.internal", &"s".repeat(54), 8, &http).unwrap();
    let error = check_names("shop.internal", &service, 8, &http).unwrap_err().to_string();
    assert!(
        error.contains(&format!("\"{service}-<id>\"")) && error.contains("6 more than the 63"),
        "{error}"
    );
    let origin = ["o".repeat(63), "o".repeat(63), "o".repeat(63), "o".repeat(45)].join(".");
    check_names(&origin, "abcdef", 8, &[]).unwrap();
    let error = check_names(&origin, "abcdefg", 8, &[]).unwrap_err().to_string();
    assert!(error.contains("the name <id>.abcdefg.ooo") && error.contains("254 characters"), "{error}");
    assert!(error.contains("1 more than the 253"), "{error}");
}

#[test]
fn ten_thousand_instances_share_what_did_not_change() {
    let changes: Vec<Change> =
        (0..10_000).map(|n| Change::AddInstance(instance(&format!("i{n}"), "web", n))).collect();
    let big = Snapshot::new().add_zone(config("shop.internal", &["10.1.0.0/16"])).unwrap();
    let big = big.apply("shop.internal", &changes).unwrap();
    let service = Name::host("web.shop.internal").unwrap();
    assert_eq!(big.node(service.wire()).unwrap().set(rtype::A).unwrap().len(), 10_000);
    let less = big.apply("shop.internal", &[Change::RemoveInstance { id: "i5000".into() }]).unwrap();
    assert_eq!(less.node(service.wire()).unwrap().set(rtype::A).unwrap().len(), 9_999);
    assert_eq!(big.node(service.wire()).unwrap().set(rtype::A).unwrap().len(), 10_000);
}
