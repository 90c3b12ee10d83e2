//! Golden texts, hostile names, and pfctl's answers.

use proptest::prelude::*;

use super::*;
use crate::firewall::policy::samples;

fn outside() -> Vec<String> {
    vec!["em0".into()]
}

/// `WARREN_BLESS=1 cargo test` writes the golden files anew.
#[test]
fn texts_are_as_in_the_golden_files() {
    for (name, policy) in samples::all() {
        let text = text(&policy, &outside()).unwrap();
        let path = format!("{}/src/firewall/golden/{name}.pf", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("WARREN_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
    }
}

#[test]
fn every_outside_interface_is_translated() {
    let two = text(&samples::nat(), &["em0".into(), "igb1.7".into()]).unwrap();
    assert!(two.contains("nat on em0 inet from 10.9.0.0/24 to any -> (em0:0)"));
    assert!(two.contains("nat on igb1.7 inet from 10.9.0.0/24 to any -> (igb1.7:0)"));
    assert!(text(&samples::nat(), &["em0\npass all".into()]).is_err());
}

#[test]
fn the_seal_tells_versions_apart() {
    let text = |policy: &Policy| text(policy, &outside()).unwrap();
    let (a, b) = (text(&samples::nat()), text(&Policy { nat: false, ..samples::nat() }));
    assert_ne!(seal(&a), seal(&b));
    assert_eq!(seal(&a), seal(&text(&samples::nat())));
}

/// The answers of pfctl of FreeBSD 13.2 after golden/all.pf was loaded.
const RULES: &str = include_str!("../golden/read-back/all.rules");
const NAT: &str = include_str!("../golden/read-back/all.nat");
const TABLES: &str = include_str!("../golden/read-back/all.tables");

#[test]
fn reading_back_finds_every_kind_of_loss() {
    let text = |policy: &Policy| text(policy, &outside()).unwrap();
    let all = samples::all().pop().unwrap().1;
    let wanted = text(&all);
    assert_eq!(verify(RULES, NAT, TABLES, &wanted), Ok(()));
    let fails = |rules: &str, nat: &str, tables: &str| verify(rules, nat, tables, &wanted).unwrap_err();
    assert!(fails("", NAT, TABLES).contains("does not hold"));
    assert!(fails(RULES, "", TABLES).contains("0 translation rules"));
    assert!(fails(RULES, NAT, "svc_dns\n").contains("svc_web is missing"));
    assert!(fails(RULES.rsplit_once("pass").unwrap().0, NAT, TABLES).contains("filter rules"));
    let newer = text(&Policy { nat: false, ..all });
    assert!(verify(RULES, NAT, TABLES, &newer).unwrap_err().contains("another version"));
}

#[test]
fn missing_anchor_points_are_named() {
    let nat = "nat-anchor \"warren/*\" all\nrdr-anchor \"warren/*\" all\n";
    let rules = "anchor \"warren/*\" all\npass all flags S/SA keep state\n";
    assert!(anchor_points_missing(nat, rules).is_empty());
    assert_eq!(anchor_points_missing("", ""), ANCHOR_POINTS);
    assert_eq!(anchor_points_missing(nat, "anchor \"warren/*x\" all\n"), [ANCHOR_POINTS[2]]);
    assert_eq!(anchor_points_missing("rdr-anchor \"warren/*\"\n", rules), [ANCHOR_POINTS[0]]);
    assert_eq!(anchor_points_missing(nat, "# anchor \"warren/*\"\n"), [ANCHOR_POINTS[2]]);
}

proptest! {
    /// Whatever the names are, either nothing is made, or a text whose lines all start as ours do and hold no more quotes,
    /// brackets or comments than ours do.
    #[test]
    fn no_name_gets_into_the_text_unless_it_is_harmless(
        anchor in hostile("warren/"), network in hostile("n"), gateway in hostile("g"),
        service in hostile("s"), table in hostile("t"), interface in hostile("e"),
    ) {
        let mut policy = samples::all().remove(1).1;
        policy.anchor = anchor;
        policy.network = network;
        policy.gateway = gateway;
        policy.services[0].name = service;
        policy.services[0].table = table;
        if let Ok(text) = text(&policy, &[interface]) {
            let plain = super::text(&samples::all().remove(1).1, &outside()).unwrap();
            prop_assert_eq!(text.lines().count(), plain.lines().count());
            for (ours, theirs) in plain.lines().zip(text.lines()) {
                prop_assert_eq!(ours.split(' ').next(), theirs.split(' ').next());
                prop_assert_eq!(ours.split(' ').count(), theirs.split(' ').count());
                for special in ['"', '<', '>', '#', '$', '{', '}', '(', ')', ';', '\\', '!'] {
                    prop_assert_eq!(ours.matches(special).count(), theirs.matches(special).count());
                }
            }
        }
    }

    #[test]
    fn answers_of_any_kind_do_no_harm(a in ".*", b in ".*", c in ".*", d in ".*") {
        let _ = verify(&a, &b, &c, &d);
        let _ = anchor_points_missing(&a, &b);
    }
}

fn hostile(start: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(format!("{start}1")),
        1 => "[ -~\n]{0,20}".prop_map(move |rest| format!("{start}{rest}")),
        1 => ".{0,70}",
    ]
}
