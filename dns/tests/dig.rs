//! The server as ISC's dig sees it: a client that shares no code with us.
//!
//! Without dig these tests say so and pass, because not every machine has it; with CI=true they fail.

mod common;

use std::net::SocketAddr;
use std::process::Command;

use common::*;

/// Runs the test with a server, if there is a dig.
fn with_dig(test: impl FnOnce(&dyn Fn(&[&str]) -> String, SocketAddr) + Send + 'static) {
    if Command::new("dig").arg("-v").output().is_err() {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "dig is missing: apt-get install bind9-dnsutils"
        );
        eprintln!(
            "NOT TESTED: dig is missing; apt-get install bind9-dnsutils (FreeBSD: pkg install bind-tools)"
        );
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let upstream = upstream();
    let run = start(&[upstream.address], limits());
    let server = run.address;
    test(
        &|arguments| {
            let out = Command::new("dig")
                .args([
                    &format!("@{}", server.ip()),
                    "-p",
                    &server.port().to_string(),
                    "+tries=1",
                    "+time=10",
                ])
                .args(arguments)
                .output()
                .unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            assert!(out.status.success(), "dig {arguments:?}: {text}");
            for complaint in ["WARNING", "Warning", "malformed", "bad packet", "mismatch"] {
                assert!(!text.contains(complaint), "dig {arguments:?}: {text}");
            }
            text
        },
        server,
    );
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// The records of a section of dig's output, white space made single.
fn section(text: &str, name: &str) -> Vec<String> {
    let start = format!(";; {name} SECTION:");
    let lines = text.lines().skip_while(|l| *l != start).skip(1).take_while(|l| !l.is_empty());
    lines.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn addresses() {
    with_dig(|dig, _| {
        assert_eq!(sorted(&dig(&["+short", "web.shop.internal"])), ["10.1.11.11", "10.1.11.12"]);
        assert_eq!(dig(&["+short", "AAAA", "k3f9q2ab.web.shop.internal"]), "fd00:1::1:b0b\n");
        assert_eq!(dig(&["+short", "-x", "10.1.11.11"]), "k3f9q2ab.web.shop.internal.\n");
        assert_eq!(dig(&["+short", "-x", "fd00:1::1:b0c"]), "m7h2w4cd.web.shop.internal.\n");
        has(&dig(&["WEB.Shop.Internal"]), &["status: NOERROR", "flags: qr aa rd ra;", ";WEB.Shop.Internal."]);
        has(&dig(&["www.shop.internal"]), &["CNAME\tweb.shop.internal.", "10.1.11.12"]);
        assert_eq!(dig(&["+short", "gw.shop.internal"]), "10.1.0.1\n");
    });
}

#[test]
fn srv_with_glue() {
    with_dig(|dig, _| {
        let text = dig(&["SRV", "_http._tcp.web.shop.internal"]);
        let mut srv = section(&text, "ANSWER");
        srv.sort();
        assert_eq!(
            srv,
            [
                "_http._tcp.web.shop.internal. 5 IN SRV 0 1 8080 k3f9q2ab.web.shop.internal.",
                "_http._tcp.web.shop.internal. 5 IN SRV 0 1 8080 m7h2w4cd.web.shop.internal.",
            ]
        );
        let mut glue = section(&text, "ADDITIONAL");
        glue.sort();
        assert_eq!(
            glue,
            [
                "k3f9q2ab.web.shop.internal. 5 IN A 10.1.11.11",
                "k3f9q2ab.web.shop.internal. 5 IN AAAA fd00:1::1:b0b",
                "m7h2w4cd.web.shop.internal. 5 IN A 10.1.11.12",
                "m7h2w4cd.web.shop.internal. 5 IN AAAA fd00:1::1:b0c",
            ]
        );
    });
}

#[test]
fn negative() {
    with_dig(|dig, _| {
        let soa =
            ["shop.internal. 30 IN SOA ns.shop.internal. hostmaster.shop.internal. 2027 3600 600 86400 30"];
        let text = dig(&["nobody.shop.internal"]);
        has(&text, &["status: NXDOMAIN", " aa "]);
        assert_eq!(section(&text, "AUTHORITY"), soa);
        for nodata in [["MX", "web.shop.internal"], ["A", "_tcp.web.shop.internal"]] {
            let text = dig(&nodata);
            has(&text, &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1"]);
            assert_eq!(section(&text, "AUTHORITY"), soa);
        }
        let text = dig(&["-x", "10.1.99.99"]);
        has(&text, &["status: NXDOMAIN"]);
        assert!(section(&text, "AUTHORITY")[0].starts_with("1.10.in-addr.arpa. 30 IN SOA"), "{text}");
    });
}

#[test]
fn the_zone_itself() {
    with_dig(|dig, _| {
        has(&dig(&["SOA", "shop.internal"]), &["ANSWER: 1", "2027 3600 600 86400 30"]);
        let text = dig(&["NS", "shop.internal"]);
        assert_eq!(section(&text, "ANSWER"), ["shop.internal. 5 IN NS ns.shop.internal."]);
        assert_eq!(section(&text, "ADDITIONAL"), ["ns.shop.internal. 5 IN A 10.1.0.1"]);
        has(&dig(&["+notcp", "ANY", "web.shop.internal"]), &["HINFO\t\"RFC8482\" \"\""]);
        has(&dig(&["+tcp", "ANY", "web.shop.internal"]), &["HINFO\t\"RFC8482\" \"\""]);
        assert_eq!(dig(&["+short", "TXT", "k3f9q2ab.web.shop.internal"]), "\"version=1\"\n");
        // dig itself objects to a refused transfer, by its exit status or in words; the server has said REFUSED.
        has(&dig(&["CH", "TXT", "version.bind"]), &["status: REFUSED"]);
    });
}

#[test]
fn service_discovery() {
    with_dig(|dig, _| {
        let types = dig(&["+short", "PTR", "_services._dns-sd._udp.shop.internal"]);
        assert_eq!(types, "_http._tcp.shop.internal.\n");
        let text = dig(&["+tcp", "+short", "PTR", "_http._tcp.shop.internal"]);
        assert_eq!(text.lines().count(), 202);
        has(&text, &["web-k3f9q2ab._http._tcp.shop.internal."]);
        let srv = dig(&["+short", "SRV", "web-k3f9q2ab._http._tcp.shop.internal"]);
        assert_eq!(srv, "0 1 8080 k3f9q2ab.web.shop.internal.\n");
        assert_eq!(dig(&["+short", "TXT", "web-k3f9q2ab._http._tcp.shop.internal"]), "\"version=1\"\n");
    });
}

#[test]
fn edns() {
    with_dig(|dig, _| {
        has(&dig(&["web.shop.internal"]), &["EDNS: version: 0, flags:; udp: 1232"]);
        has(
            &dig(&["+dnssec", "web.shop.internal"]),
            &["EDNS: version: 0, flags: do; udp: 1232", "status: NOERROR"],
        );
        let text = dig(&["+edns=1", "+noednsneg", "web.shop.internal"]);
        has(&text, &["status: BADVERS", "EDNS: version: 0", "ANSWER: 0"]);
        for option in
            ["+ednsopt=100", "+ednsopt=100:0102", "+cookie=0102030405060708", "+nsid", "+subnet=10.0.0.0/8"]
        {
            has(&dig(&[option, "web.shop.internal"]), &["status: NOERROR", "ANSWER: 2"]);
        }
        has(
            &dig(&["+ednsflags=0x40", "web.shop.internal"]),
            &["status: NOERROR", "EDNS: version: 0, flags:; udp"],
        );
        let text = dig(&["+noedns", "web.shop.internal"]);
        assert!(!text.contains("EDNS:"), "{text}");
        has(&dig(&["+opcode=status", "web.shop.internal"]), &["status: NOTIMP"]);
        has(&dig(&["+header-only", "+noedns"]), &["status: FORMERR"]);
    });
}

#[test]
fn truncation_then_tcp() {
    with_dig(|dig, _| {
        has(&dig(&["+ignore", "crowd.shop.internal"]), &["flags: qr aa tc rd ra;"]);
        has(&dig(&["+ignore", "+noedns", "crowd.shop.internal"]), &["flags: qr aa tc rd ra;"]);
        let text = dig(&["crowd.shop.internal"]);
        has(&text, &["ANSWER: 200", "flags: qr aa rd ra;"]);
        let all: std::collections::BTreeSet<_> = section(&text, "ANSWER").into_iter().collect();
        assert_eq!(all.len(), 200);
        has(
            &dig(&["+tcp", "+keepopen", "web.shop.internal", "api.shop.internal"]),
            &["ANSWER: 2", "NXDOMAIN"],
        );
    });
}

#[test]
fn other_names_go_upstream() {
    with_dig(|dig, _| {
        let text = dig(&["plain.example.org"]);
        has(&text, &["status: NOERROR", "flags: qr rd ra;", "192.0.2.1"]);
        has(&dig(&["nowhere.example.org"]), &["status: NXDOMAIN"]);
        has(&dig(&["+norecurse", "plain.example.org"]), &["status: REFUSED"]);
        has(&dig(&["TXT", "big.example.org"]), &["ANSWER: 30"]);
        has(&dig(&["fail.example.org"]), &["status: SERVFAIL"]);
    });
}
