//! Every reader of strangers' bytes, fed with the kept corpus, with real inputs, and with both changed at random.
//!
//! The long way is `fuzz/run` (coverage-guided, hours); this is the short one that runs with every `cargo test`. An input that
//! breaks a promise is printed with its seed: `WARREN_SEED=n cargo test --test hostile_input` does the same again.
//! `WARREN_FUZZ_RUNS` says how many changed inputs each target gets (default 4000).

#![cfg(target_os = "linux")] // Where the userland netgraph is.

mod support;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::json;
use support::dice::Dice;
use support::{World, declare, shop};
use targets::TARGETS;

/// Bytes that parsers care about.
const INTERESTING: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff",
    b"\n",
    b"\"",
    b"'",
    b"\\",
    b"..",
    b"{",
    b"}",
    b"[",
    b"]",
    b"0",
    b"-1",
    b"18446744073709551615",
    b"4294967296",
    b"null",
    b"\xc0\x0c",
    b"1e999",
    b"/",
    b"%",
    b"\x80",
    b"::",
    b"/33",
    b"/0",
];

fn changed(input: &[u8], others: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len() + 1);
        let end = (at + dice.below(16)).min(bytes.len());
        match dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.next() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 | 5 => {
                let word = INTERESTING[dice.below(INTERESTING.len())];
                let end = if dice.below(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..end, word.iter().copied());
            }
            6 => bytes.truncate(at),
            _ => {
                let other = &others[dice.below(others.len())];
                let from = dice.below(other.len() + 1);
                let piece = &other[from..(from + dice.below(64)).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes.truncate(16 << 10);
    bytes
}

/// The files of a directory, in the order of their names.
fn files(dir: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths.iter().filter(|p| p.is_file()).map(|p| std::fs::read(p).unwrap()).collect()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Inputs as they occur, made by the code that makes them in life.
fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "config" => {
            let mut all = files(&repository().join("examples"));
            all.extend(files(&repository().join("tests/config")));
            all
        }
        "fstab" => vec![
            b"/a /b nullfs ro 0 0\n# c\ntmpfs /t tmpfs rw,size=1m,mode=1777\n/with\\040blank /x\\\\y nullfs rw,late".to_vec(),
            std::fs::read(repository().join("tests/config/bad.fstab")).unwrap(),
        ],
        "jail_conf" => files(&repository().join("tests/jailconf/cases")),
        "api_body" => api_bodies(),
        "store_records" => vec![records_of_a_life()],
        "store_file" => vec![a_store()],
        "keeper_frame" => vec![keeper_frames()],
        "firewall" => vec![
            b"warren/k3f9q2ab\nfront\ngk3f9q2ab\nweb\nsvc_web\nem0\nvtnet0".to_vec(),
            b"all tcp 10.9.0.17:80 (192.0.2.1:8080) <- 192.0.2.7:51234       ESTABLISHED:ESTABLISHED\n   \
              [3146 + 65536] wscale 6  [1234 + 65700](+17) wscale 6\n   id: 0100000000000001 creatorid: abcdef01\n"
                .to_vec(),
        ],
        "netgraph_message" => netgraph_messages(),
        "netgraph_graph" => vec![a_graph()],
        "link_guard" => frames().into_iter().chain(ethernet()).collect(),
        "dhcp_message" => frames().iter().map(|frame| frame[42..].to_vec()).collect(),
        "dhcp_server" => vec![frames().iter().chain(&ethernet()).flat_map(|f| behind_length(f)).collect()],
        "dns" => dns_queries(),
        other => panic!("no seed for the target {other}: write one"),
    }
}

fn api_bodies() -> Vec<Vec<u8>> {
    let of = |kind: u8, body: Vec<u8>| [vec![kind], body].concat();
    let spec = shop();
    let service = spec.services.values().next().unwrap();
    let run = json!({ "fabric": "shop", "name": "one", "spec": service.instance });
    vec![
        of(0, br#"{"replicas":3}"#.to_vec()),
        of(1, br#"{"unit":"k3f9q2ab"}"#.to_vec()),
        of(2, br#"{"command":["sh","-c","true"],"terminal":[80,24],"term":"xterm"}"#.to_vec()),
        of(3, b"\0\0\0\0\x02hi\x03\0\0\0\x04\0\x50\0\x18\x04\0\0\0\x0c{\"exited\":3}".to_vec()),
        of(4, serde_json::to_vec(&spec).unwrap()),
        of(1, serde_json::to_vec(&run).unwrap()),
    ]
}

/// What a fabric's coming, scaling and going writes down.
fn records_of_a_life() -> Vec<u8> {
    let mut world = World::new();
    world.ask(declare(shop())).unwrap();
    world.settle();
    let mut log = world.log.clone();
    log.truncate(400);
    log.iter().flat_map(|record| [serde_json::to_vec(record).unwrap(), b"\n".to_vec()].concat()).collect()
}

fn a_store() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warren.db");
    let (mut store, _) = warren::store::Store::open(&path).unwrap();
    let boot = warren::store::Record::Boot { id: "b".into() };
    store.commit(1_u64, &[boot], &[json!({ "kind": "ready" })], true).unwrap();
    drop(store);
    std::fs::read(path).unwrap()
}

fn keeper_frames() -> Vec<u8> {
    let frame = |body: &[u8]| [&(body.len() as u32).to_le_bytes()[..], &0u32.to_le_bytes(), body].concat();
    // What both sides said in the test of the protocol's versions.
    let said = std::fs::read_to_string(repository().join("tests/keeper/v2.jsonl")).unwrap();
    said.lines().flat_map(|line| frame(&line.as_bytes()[2..])).collect()
}

fn netgraph_messages() -> Vec<Vec<u8>> {
    use warren_netgraph::codec::{Payload, bridge, encode, generic};
    use warren_netgraph::{HookName, TypeName};
    let hook = |name: &str| HookName::new(name).unwrap();
    let (ours, theirs) = (hook("h"), hook("link0"));
    let mkpeer = generic::MkPeer { node_type: TypeName::new("bridge").unwrap(), ours, theirs };
    let program = warren_netgraph::guard::closed();
    let filter = warren_netgraph::codec::bpf::HookProgram {
        hook: ours,
        if_match: theirs,
        if_not_match: theirs,
        program,
    };
    vec![
        encode(&mkpeer, 1),
        encode(&generic::Connect { path: b"[1]:".to_vec(), ours, theirs }, 2),
        encode(&generic::RmHook { hook: ours }, 3),
        encode(&generic::ListHooks, 4),
        encode(&bridge::GetTable, 5),
        filter.to_bytes(),
    ]
}

/// Messages for a graph, as `userland::fuzz` reads them: kind, length of the address, length of the message, both.
fn a_graph() -> Vec<u8> {
    let mut tape = vec![0];
    for message in netgraph_messages() {
        tape.extend([0, 2, message.len() as u8]);
        tape.extend(b".:");
        tape.extend(&message);
    }
    for frame in ethernet() {
        tape.extend([5, 1, b'h', frame.len() as u8]);
        tape.extend(&frame);
    }
    tape
}

/// A client's way to an address, as frames.
fn frames() -> Vec<Vec<u8>> {
    use warren_dhcp::Mac;
    use warren_dhcp::wire::{Message, MessageType, Op, Options, Udp4, build_udp4, code};
    let zero = std::net::Ipv4Addr::UNSPECIFIED;
    let all = [
        MessageType::Discover,
        MessageType::Request,
        MessageType::Decline,
        MessageType::Release,
        MessageType::Inform,
    ];
    let of = |(n, kind): (usize, MessageType)| {
        let chaddr =
            if n.is_multiple_of(2) { Mac([2, 0, 0x5e, 0, 1, 1]) } else { Mac([2, 0, 0x5e, 0, 1, 9]) };
        let mut options = Options::new();
        options.set(code::REQUESTED_IP, [10, 9, 0, 100]);
        options.set(code::SERVER_ID, [10, 9, 0, 2]);
        options.set(code::CLIENT_FQDN, b"\x05\0\0\x03web\x01s\0".to_vec());
        options.set(12, b"evil\nname".to_vec());
        let (op, hops, xid, secs, flags) = (Op::Request, 0, 7, 0, 0);
        let (ciaddr, yiaddr, siaddr, giaddr) = (zero, zero, zero, zero);
        let message =
            Message { op, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, kind, options };
        let (payload, _) = message.build(1400);
        let udp = Udp4 { src: zero, dst: [255; 4].into(), src_port: 68, dst_port: 67, payload: &payload };
        build_udp4(Mac::BROADCAST, chaddr, &udp).unwrap()
    };
    all.into_iter().enumerate().map(of).collect()
}

/// Small frames of each kind a bridge sees, from the station the link guard's target knows.
fn ethernet() -> Vec<Vec<u8>> {
    let head = |kind: [u8; 2]| [&[0xff; 6][..], &[2, 0x57, 0, 0, 0, 0x11], &kind].concat();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0x57, 0, 0, 0, 0x11, 10, 9, 0, 17][..], &[0; 6], &[10, 9, 0, 2]]
        .concat();
    let ipv4 =
        [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 17, 10, 9, 0, 2, 0, 68, 0, 67, 0, 8, 0, 0];
    let mut ipv6 = vec![0x60, 0, 0, 0, 0, 24, 58, 255, 0xfd, 0, 0, 9];
    ipv6.extend([0; 10]);
    ipv6.extend([0, 0x17, 0xff, 2]);
    ipv6.extend([0; 13]);
    ipv6.extend([1, 135, 0, 0, 0, 0, 0, 0, 0]);
    ipv6.extend([0xfd; 16]);
    vec![
        [head([8, 6]), arp].concat(),
        [head([8, 0]), ipv4.to_vec()].concat(),
        [head([0x86, 0xdd]), ipv6].concat(),
    ]
}

/// A frame behind the two bytes that the DHCP server's target wants: half its length, and a pause.
fn behind_length(frame: &[u8]) -> Vec<u8> {
    let mut padded = frame.to_vec();
    padded.resize(frame.len().next_multiple_of(2), 0);
    padded.truncate(510);
    [vec![(padded.len() / 2) as u8, 5], padded].concat()
}

fn dns_queries() -> Vec<Vec<u8>> {
    let names: [&[u8]; 6] = [
        b"\x03web\x01s\x08internal\0",
        b"\x02a1\x03web\x01s\x08internal\0",
        b"\x05_http\x04_tcp\x03web\x01s\x08internal\0",
        b"\x0211\x010\x011\x0210\x07in-addr\x04arpa\0",
        b"\x07example\x03org\0",
        b"\x03www\x01s\x08internal\0",
    ];
    let mut all = Vec::new();
    for (n, name) in names.iter().enumerate() {
        for (kind, edns) in [(1u8, false), (28, true), (33, true), (255, false), (252, true)] {
            let counts = [0x47, 0x11, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
            let mut query = [&counts[..], name, &[0, kind, 0, 1]].concat();
            if edns {
                query.extend([0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0]);
            }
            let mut reply = query.clone();
            reply[2] = 0x81;
            reply[7] = 1;
            reply.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 1]);
            all.push([&[n as u8 % 4, query.len() as u8][..], &query, &reply].concat());
        }
    }
    all
}

#[test]
fn seeds_are_good_and_are_written_where_they_are_asked_for() {
    for (target, _) in TARGETS {
        let seeds = seeds_of(target);
        assert!(!seeds.is_empty(), "{target} has no seed");
        seeds.iter().for_each(|seed| targets::run(target, seed));
        let Some(dir) = std::env::var_os("WARREN_FUZZ_SEEDS") else { continue };
        let dir = Path::new(&dir).join(target);
        std::fs::create_dir_all(&dir).unwrap();
        for (n, seed) in seeds.iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{n}")), seed).unwrap();
        }
    }
}

#[test]
fn each_target_has_its_program_and_what_was_found_by_it() {
    let programs: std::collections::BTreeSet<String> =
        (std::fs::read_dir(repository().join("fuzz/fuzz_targets")).unwrap().flatten())
            .map(|file| file.path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
    assert!(
        programs.iter().eq(TARGETS.iter().map(|(name, _)| *name).collect::<std::collections::BTreeSet<_>>())
    );
    for (target, _) in TARGETS {
        assert!(!files(&repository().join("fuzz/corpus").join(target)).is_empty(), "{target} has no corpus");
    }
}

#[test]
fn no_input_breaks_a_promise() {
    let env = |name| std::env::var(name).ok().and_then(|n: String| n.parse::<u64>().ok());
    let runs = env("WARREN_FUZZ_RUNS").unwrap_or(4000);
    let only = env("WARREN_SEED");
    for (target, run) in TARGETS {
        let mut inputs = files(&repository().join("fuzz/corpus").join(target));
        for (n, kept) in inputs.iter().enumerate() {
            let ran = catch_unwind(|| run(kept));
            assert!(ran.is_ok(), "{target}: file {n} of its corpus breaks a promise again");
        }
        inputs.extend(seeds_of(target));
        // The store's targets write files and fold whole lives: a tenth of the others' runs takes as long.
        let runs = if target.starts_with("store") { runs / 10 } else { runs };
        for seed in only.map_or(0..runs, |seed| seed..seed + 1) {
            let mut dice = Dice::from(seed);
            let input = &inputs[dice.below(inputs.len())];
            let bytes = changed(input, &inputs, &mut dice);
            let ran = catch_unwind(AssertUnwindSafe(|| run(&bytes)));
            assert!(
                ran.is_ok(),
                "{target} broke a promise: WARREN_SEED={seed} cargo test --test hostile_input does it again. The input:\n{}",
                bytes.escape_ascii()
            );
        }
    }
}
