//! Every payload survives the way to bytes and back; no bytes make a reader panic; sizes are the kernel's.

use super::*;
use crate::addr::{Mac, NodeId};
use crate::bpf::{Insn, Program};
use crate::name::{HookName, NodeName, TypeName};
use proptest::collection::vec;
use proptest::prelude::*;
use std::fmt::Debug;

fn bytes_of_name() -> impl Strategy<Value = Vec<u8>> {
    vec(1u8.., 0..=31)
}

prop_compose! {
    fn hook()(bytes in bytes_of_name()) -> HookName { HookName::from_wire(&bytes) }
}
prop_compose! {
    fn node_name()(bytes in bytes_of_name()) -> NodeName { NodeName::from_wire(&bytes) }
}
prop_compose! {
    fn type_name()(bytes in bytes_of_name()) -> TypeName { TypeName::from_wire(&bytes) }
}
prop_compose! {
    fn info()(name in node_name(), node_type in type_name(), id: u32, hooks: u32) -> generic::NodeInfo {
        generic::NodeInfo { name, node_type, id: NodeId(id), hooks }
    }
}
prop_compose! {
    fn link()(ours in hook(), theirs in hook(), peer in info()) -> generic::Link { generic::Link { ours, theirs, peer } }
}
prop_compose! {
    fn host()(mac: [u8; 6], hook in hook(), age: u16, staleness: u16) -> bridge::Host {
        bridge::Host { mac: Mac(mac), hook, age, staleness }
    }
}
prop_compose! {
    fn insn()(code: u16, jt: u8, jf: u8, k: u32) -> Insn { Insn { code, jt, jf, k } }
}

/// Bytes and back, and the size they must have.
fn round<P: Payload + PartialEq + Debug>(payload: &P, size: usize) -> Result<(), TestCaseError> {
    let bytes = payload.to_bytes();
    prop_assert_eq!(bytes.len(), size);
    prop_assert_eq!(&P::from_bytes(&bytes).unwrap(), payload);
    if size > 0 {
        prop_assert!(P::from_bytes(&bytes[..size - 1]).is_err() || size == 1, "a byte short");
    }
    Ok(())
}

proptest! {
    #[test]
    fn generic_payloads(
        ours in hook(), theirs in hook(), node_type in type_name(), name in node_name(),
        path in vec(1u8.., 0..511), info in info(), links in vec(link(), 0..20), nodes in vec(info(), 0..20),
        types in vec((type_name(), any::<u32>()), 0..9),
    ) {
        round(&generic::MkPeer { node_type, ours, theirs }, 96)?;
        round(&generic::Connect { path, ours, theirs }, 576)?;
        round(&generic::Name { name }, 32)?;
        round(&generic::RmHook { hook: ours }, 32)?;
        round(&info, 72)?;
        let node = generic::NodeInfo { hooks: links.len() as u32, ..info };
        let size = 72 + 136 * links.len();
        round(&generic::HookList { node, links }, size)?;
        let size = 4 + 72 * nodes.len();
        round(&generic::NodeList(nodes), size)?;
        let types: Vec<_> = types.into_iter().map(|(name, nodes)| generic::TypeInfo { name, nodes }).collect();
        let size = 4 + 36 * types.len();
        round(&generic::TypeList(types), size)?;
    }

    #[test]
    fn typed_payloads(
        hosts in vec(host(), 0..20), counters: [u64; 14], debug_level: u8, times: [u32; 3], mac: [u8; 6],
        hook in hook(), link in 0..=i32::MAX as u32, flag: bool, number: u32, ifname in "[a-z0-9]{0,15}",
    ) {
        let [loop_timeout, max_staleness, min_stable_age] = times;
        let config = bridge::Config { debug_level, loop_timeout, max_staleness, min_stable_age };
        round(&config, 16)?;
        round(&bridge::SetConfig(config), 16)?;
        let size = 4 + 42 * hosts.len();
        round(&bridge::Table(hosts), size)?;
        let stats: Vec<u8> = counters.iter().flat_map(|n| n.to_ne_bytes()).collect();
        round(&bridge::LinkStats::from_bytes(&stats).unwrap(), 112)?;
        round(&bpf::HookStats::from_bytes(&stats[..48]).unwrap(), 48)?;
        round(&bridge::MoveHost { mac: Mac(mac), hook }, 38)?;
        for link in [bridge::LinkNumber::Link(link), bridge::LinkNumber::Uplink(link.max(1))] {
            let request = bridge::GetStats::new(link).unwrap();
            round(&request, 4)?;
            prop_assert_eq!(request.link(), link);
            prop_assert_eq!(bridge::LinkNumber::parse(link.hook().as_bytes()), Some(link));
        }
        round(&eiface::SetMac(Mac(mac)), 6)?;
        round(&eiface::IfName(ifname), 16)?;
        round(&ether::SetPromisc(flag), 4)?;
        round(&ether::Number(number), 4)?;
        round(&ether::SetMac(Mac(mac)), 6)?;
        round(&generic::Shutdown, 0)?;
        round(&(), 0)?;
    }

    #[test]
    fn bpf_programs(this in hook(), if_match in hook(), if_not_match in hook(), insns in vec(insn(), 0..64)) {
        let size = 100 + 8 * insns.len();
        let payload = bpf::HookProgram { hook: this, if_match, if_not_match, program: Program(insns) };
        round(&payload, size)?;
        let get = bpf::GetProgram(this);
        prop_assert_eq!(bpf::GetProgram::from_bytes(&get.to_bytes()).unwrap(), get);
    }

    #[test]
    fn headers(arglen: u32, command: u32, flags: u32, token: u32, cookie: u32, cmdstr: [u8; 32]) {
        round(&Header { arglen, command, flags, token, cookie, cmdstr }, 56)?;
    }

    #[test]
    fn messages(token: u32, this in hook(), payload in vec(any::<u8>(), 0..64)) {
        let bytes = encode(&generic::RmHook { hook: this }, token);
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.header.token, token);
        prop_assert_eq!(message.data, &this.padded()[..]);
        prop_assert!(bytes[24..].starts_with(b"rmhook\0"));
        let reply = message.reply(&payload);
        let reply = Message::parse(&reply).unwrap();
        prop_assert!(reply.header.is_response() && reply.header.token == token);
        prop_assert_eq!(reply.data, &payload[..]);
    }

    /// Whoever answers, nothing panics.
    #[test]
    fn hostile_bytes(bytes in vec(any::<u8>(), 0..400)) {
        fuzz(&bytes);
    }

    /// The same where the counts are small enough to be believed.
    #[test]
    fn hostile_counts(count in 0u32..8, bytes in vec(any::<u8>(), 0..400)) {
        fuzz(&[&count.to_ne_bytes(), &bytes[..]].concat());
    }
}

#[test]
fn counts_must_fit_the_bytes() {
    let none = |count: u32| generic::NodeList::from_bytes(&count.to_ne_bytes());
    assert_eq!(none(0), Ok(generic::NodeList(vec![])));
    assert_eq!(none(1), Err(DecodeError::Count { said: 1, fit: 0 }));
    assert_eq!(
        bridge::Table::from_bytes(&u32::MAX.to_ne_bytes()),
        Err(DecodeError::Count { said: u32::MAX.into(), fit: 0 })
    );
    let mut program = vec![0; 100];
    program[96..].copy_from_slice(&(-1i32).to_ne_bytes());
    assert!(matches!(bpf::HookProgram::from_bytes(&program), Err(DecodeError::Value(..))));
}

#[test]
fn lists_may_have_empty_places_at_their_end() {
    let info = generic::NodeInfo {
        name: NodeName::from_wire(b"a"),
        node_type: TypeName::from_wire(b"hub"),
        id: NodeId(1),
        hooks: 0,
    };
    let mut bytes = generic::NodeList(vec![info, info]).to_bytes();
    bytes[..4].copy_from_slice(&1u32.to_ne_bytes());
    assert_eq!(generic::NodeList::from_bytes(&bytes), Ok(generic::NodeList(vec![info])));
}

#[test]
fn links_are_written_canonically() {
    use bridge::LinkNumber::{self, Link, Uplink};
    let parse = |name: &str| LinkNumber::parse(name.as_bytes());
    assert_eq!(parse("link0"), Some(Link(0)));
    assert_eq!(parse("link4294967295"), Some(Link(u32::MAX)));
    assert_eq!(parse("uplink7"), Some(Uplink(7)));
    for bad in
        ["", "link", "uplink", "uplink0", "link01", "link+1", "link4294967296", "link 1", "Link1", "xlink1"]
    {
        assert_eq!(parse(bad), None, "{bad}");
    }
    assert_eq!(bridge::GetStats::new(Link(u32::MAX)), None);
}

#[test]
fn another_version_is_no_message() {
    let mut bytes = encode(&generic::Shutdown, 1);
    bytes[0] = 7;
    assert_eq!(Message::parse(&bytes), Err(DecodeError::Version(7)));
    bytes[0] = 8;
    bytes.push(0);
    assert_eq!(Message::parse(&bytes), Err(DecodeError::Trailing(1)));
}

#[test]
fn interface_addresses() {
    let mut link = vec![54, 18, 0, 0, 6, 6, 6, 0];
    link.extend_from_slice(b"ngeth0");
    link.extend_from_slice(&[2, 0, 0, 0, 0, 9]);
    link.resize(54, 0);
    let inet = vec![16, 2, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let addresses = eiface::IfAddrs(vec![link, inet]);
    assert_eq!(addresses.to_bytes().len(), 56 + 16);
    let read = eiface::IfAddrs::from_bytes(&addresses.to_bytes()).unwrap();
    assert_eq!(read, addresses);
    assert_eq!(read.mac(), Some(Mac([2, 0, 0, 0, 0, 9])));
}
