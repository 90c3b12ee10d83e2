//! The policy as nf_tables objects: one value, from which both the netlink messages and the text come. Pure.
//!
//! One table of family inet for each anchor. What is decided is written in [`policy`](super::super::policy); here is how:
//!
//! - A table of members becomes two sets, `<table>.4` and `<table>.6`, which outlive a reload.
//! - nf_tables has no "one of this set in turn". A published port jumps to the chain `to_<table>.<4|6>.<port>`, whose only
//!   rule takes `numgen inc mod N` as the index into the map `<table>.4.turn` from 0..N to the members. When members
//!   change, set, map and these chains change in one transaction, and nothing else does. The chain's name says all that is
//!   needed to write its rule, so a join needs no policy.
//! - Redirection is in prerouting and in output, so that the host itself reaches published ports, too; but not at
//!   127.0.0.0/8 and ::1, where others may listen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nlink::netlink::nftables::{
    BaseChain, ChainName, CtState, CtStatus, Expr, Family, FibFlags, Field, FilterHook, IcmpxCode,
    LookupExpr, Match, NatAddr, NatExpr, NatHook, NumgenKind, PacketField, Priority, Register, Rule,
    TcpFlags, Value,
};
use nlink::netlink::types::route::RouteType;

use super::super::policy::{ANCHOR_PREFIX, BadPolicy, Inet, Policy, Port, is_anchor, is_interface};
use crate::config::spec::{Proto, Publish};

/// Members of each table by its pf name.
pub type Members = BTreeMap<String, BTreeSet<IpAddr>>;

/// Everything in one table of nf_tables.
pub struct Ruleset {
    /// The table's name: `warren_<id>`.
    pub table: String,
    /// Names of the tables of members, in pf's sense.
    pub members: BTreeSet<String>,
    /// The chains in the order they are made.
    pub chains: Vec<Chain>,
}

/// A chain with its rules.
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where the kernel enters it; none: others jump to it.
    pub base: Option<BaseChain>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// The nf_tables table of an anchor.
#[must_use]
pub fn table_of(anchor: &str) -> Option<String> {
    is_anchor(anchor).then(|| anchor.replacen('/', "_", 1))
}

/// The anchor of an nf_tables table, if it is one of ours.
#[must_use]
pub fn anchor_of(table: &str) -> Option<String> {
    let anchor = format!("{ANCHOR_PREFIX}{}", table.strip_prefix("warren_")?);
    is_anchor(&anchor).then_some(anchor)
}

/// The set that holds a table's members of one family.
#[must_use]
pub fn set_name(table: &str, inet: Inet) -> String {
    format!("{table}.{}", digit(inet))
}

/// The map from 0..N to these members.
#[must_use]
pub fn map_name(table: &str, inet: Inet) -> String {
    format!("{table}.{}.turn", digit(inet))
}

/// The chain that sends a connection to one of the members.
#[must_use]
pub fn chain_name(table: &str, inet: Inet, target: u16) -> String {
    format!("to_{table}.{}.{target}", digit(inet))
}

/// What [`chain_name`] was made from.
#[must_use]
pub fn parse_chain(name: &str) -> Option<(&str, Inet, u16)> {
    let mut parts = name.strip_prefix("to_")?.split('.');
    let (table, inet, target) = (parts.next()?, parts.next()?, parts.next()?);
    let inet = match inet {
        "4" => Inet::V4,
        "6" => Inet::V6,
        _ => return None,
    };
    (parts.next().is_none()).then_some((table, inet, target.parse().ok()?))
}

fn digit(inet: Inet) -> char {
    match inet {
        Inet::V4 => '4',
        Inet::V6 => '6',
    }
}

/// The members of one family, in order.
pub fn of_family(members: &BTreeSet<IpAddr>, inet: Inet) -> impl Iterator<Item = IpAddr> {
    members.iter().copied().filter(move |a| Inet::of(*a) == inet)
}

/// The one rule of a `to_` chain, if the table has members of the family.
#[must_use]
pub fn turn(
    nft_table: &str,
    table: &str,
    inet: Inet,
    target: u16,
    members: &BTreeSet<IpAddr>,
) -> Option<Rule> {
    let count = u32::try_from(of_family(members, inet).count()).ok().filter(|n| *n > 0)?;
    let (address, port) = (Register::R0, Register::R1);
    let family = match inet {
        Inet::V4 => Family::Ip,
        Inet::V6 => Family::Ip6,
    };
    let mut nat = NatExpr::dnat(family).port(target);
    nat.addr = NatAddr::Reg;
    let rule = Rule::new(nft_table, &chain_name(table, inet, target)).family(Family::Inet);
    Some(
        rule.expr(Expr::Numgen { dreg: address, kind: NumgenKind::Incremental, modulus: count, offset: 0 })
            .expr(LookupExpr::new(map_name(table, inet), address).dreg(address))
            .expr(Expr::Immediate { dreg: port, data: target.to_be_bytes().to_vec() })
            .expr(Expr::Nat(nat)),
    )
}

/// The whole ruleset of a policy with these members. `outside` as in [`pf::text`](super::super::pf::text).
pub fn ruleset(policy: &Policy, outside: &[String], members: &Members) -> Result<Ruleset, BadPolicy> {
    let bad = |what: String| BadPolicy { network: policy.network.clone(), what };
    policy.check()?;
    if let Some(name) = outside.iter().find(|name| !is_interface(name)) {
        return Err(bad(format!("{name:?} is no name of an interface")));
    }
    let table = table_of(&policy.anchor).ok_or_else(|| bad("the anchor is not one of ours".into()))?;
    let make = Make { policy, outside, table: &table };
    let mut chains = make.targets(members);
    chains.extend([
        make.base("prerouting", BaseChain::nat(NatHook::Prerouting, Priority::DstNat), make.redirect(false)),
        make.base("output", BaseChain::nat(NatHook::Output, Priority::DstNat), make.redirect(true)),
        make.base("postrouting", BaseChain::nat(NatHook::Postrouting, Priority::SrcNat), make.translate()),
        make.base("forward", BaseChain::filter(FilterHook::Forward, Priority::Filter), make.forward()),
        make.base("input", BaseChain::filter(FilterHook::Input, Priority::Filter), make.input()),
    ]);
    let members = policy.services.iter().map(|s| s.table.clone()).collect();
    Ok(Ruleset { table, members, chains })
}

struct Make<'a> {
    policy: &'a Policy,
    outside: &'a [String],
    table: &'a str,
}

impl Make<'_> {
    fn rule(&self, chain: &str) -> Rule {
        Rule::new(self.table, chain).family(Family::Inet)
    }

    fn base(&self, name: &str, base: BaseChain, rules: Vec<Rule>) -> Chain {
        Chain { name: name.into(), base: Some(base), rules }
    }

    fn targets(&self, members: &Members) -> Vec<Chain> {
        let none = BTreeSet::new();
        let mut chains = BTreeMap::new();
        for Port { service, publish, inet } in self.policy.ports() {
            let members = members.get(&service.table).unwrap_or(&none);
            let rule = turn(self.table, &service.table, inet, publish.target, members);
            chains.insert(chain_name(&service.table, inet, publish.target), rule);
        }
        chains
            .into_iter()
            .map(|(name, rule)| Chain { name, base: None, rules: rule.into_iter().collect() })
            .collect()
    }

    /// A packet for a published port of the host. `own`: of the host's own making.
    fn published(&self, chain: &str, port: &Port<'_>) -> Rule {
        let rule = self.rule(chain);
        let rule = match port.publish.address {
            Some(address) => rule.match_daddr(address, if address.is_ipv4() { 32 } else { 128 }),
            None => {
                let (loopback, len) = match port.inet {
                    Inet::V4 => (IpAddr::from([127, 0, 0, 0]), 8),
                    Inet::V6 => (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128),
                };
                rule.match_daddr_not(loopback, len).match_fib_type(FibFlags::DADDR, RouteType::Local)
            }
        };
        dport(rule, port.publish.proto, port.publish.port)
    }

    fn redirect(&self, own: bool) -> Vec<Rule> {
        let chain = if own { "output" } else { "prerouting" };
        let jump = |port: Port<'_>| {
            let Port { service, publish: Publish { target, .. }, inet } = port;
            let to = ChainName::new(chain_name(&service.table, inet, *target)).ok()?;
            Some(self.published(chain, &port).jump(to))
        };
        self.policy.ports().filter_map(jump).collect()
    }

    fn translate(&self) -> Vec<Rule> {
        let Policy { gateway, prefixes, nat, .. } = self.policy;
        let from = |prefix: &ipnet::IpNet| {
            let net = prefix.trunc();
            self.rule("postrouting").match_saddr(net.addr(), net.prefix_len())
        };
        // An instance that asked for its own network's published port: the answer must come back this way.
        let own = prefixes
            .iter()
            .map(|p| from(p).match_oif(gateway).match_ct_status(CtStatus::DST_NAT).masquerade());
        let outside = self.outside.iter().filter(|_| *nat);
        let out =
            outside.flat_map(|interface| prefixes.iter().map(|p| from(p).match_oif(interface).masquerade()));
        own.chain(out).collect()
    }

    /// Rules that forward and input have in common: resolvers, then what is forbidden to instances.
    fn inbound(&self, chain: &str) -> Vec<Rule> {
        let Policy { gateway, resolvers, forbidden, .. } = self.policy;
        let mut rules = Vec::new();
        for resolver in resolvers {
            for proto in [Proto::Tcp, Proto::Udp] {
                let to = self.rule(chain).match_iif(gateway);
                let to = to.match_daddr(*resolver, if resolver.is_ipv4() { 32 } else { 128 });
                rules.push(dport(to, proto, 53).accept());
            }
        }
        for prefix in forbidden {
            let net = prefix.trunc();
            rules.push(self.rule(chain).match_iif(gateway).match_daddr(net.addr(), net.prefix_len()).drop());
        }
        rules
    }

    fn forward(&self) -> Vec<Rule> {
        let Policy { gateway, forbidden, nat, .. } = self.policy;
        let rule = || self.rule("forward");
        let mut rules = self.inbound("forward");
        for prefix in forbidden {
            let net = prefix.trunc();
            rules.push(rule().match_oif(gateway).match_saddr(net.addr(), net.prefix_len()).drop());
        }
        // Only a SYN begins a connection, as with pf's `flags S/SA`. Else conntrack takes up what was killed in its middle.
        for rule in [rule().match_iif(gateway), rule().match_oif(gateway)] {
            let all = TcpFlags::FIN | TcpFlags::SYN | TcpFlags::RST | TcpFlags::ACK;
            let syn = Value::Masked { value: TcpFlags::SYN.bits().into(), mask: all.bits().into() };
            let middle = rule.match_ct_state(CtState::NEW).then(Match::ne(Field::TcpFlags, syn));
            rules.push(middle.reject_tcp_reset());
        }
        // Counted by service, as pf's labels do.
        for Port { service, publish, inet } in self.policy.ports() {
            let field = match inet {
                Inet::V4 => PacketField::Ip4Daddr,
                Inet::V6 => PacketField::Ip6Daddr,
            };
            let to = rule().match_oif(gateway).match_in_set(field, &set_name(&service.table, inet));
            let label = format!("warren:{}", service.name);
            rules.push(dport(to, publish.proto, publish.target).counter().accept().comment(&label));
        }
        for interface in self.outside.iter().filter(|_| *nat) {
            let entering = || rule().match_iif(interface).match_oif(gateway);
            rules.push(entering().match_ct_state(CtState::ESTABLISHED | CtState::RELATED).accept());
            rules.push(entering().match_ct_status(CtStatus::DST_NAT).accept());
            rules.push(entering().drop());
        }
        rules
    }

    fn input(&self) -> Vec<Rule> {
        let mut rules = self.inbound("input");
        // Only what was not redirected gets here: there is no member.
        for port in self.policy.ports() {
            let refused = self.published("input", &port);
            rules.push(match port.publish.proto {
                Proto::Tcp => refused.reject_tcp_reset(),
                Proto::Udp => refused.reject_icmpx(IcmpxCode::PortUnreachable),
            });
        }
        rules
    }
}

fn dport(rule: Rule, proto: Proto, port: u16) -> Rule {
    match proto {
        Proto::Tcp => rule.match_tcp_dport(port),
        Proto::Udp => rule.match_udp_dport(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_read_back() {
        assert_eq!(table_of("warren/k3f9q2ab").as_deref(), Some("warren_k3f9q2ab"));
        assert_eq!(anchor_of("warren_k3f9q2ab").as_deref(), Some("warren/k3f9q2ab"));
        for other in ["filter", "warren", "warren_", "warren_A", "docker_warren_x"] {
            assert_eq!(anchor_of(other), None, "{other}");
        }
        for anchor in ["warren/", "warren/a/b", "x/y", "warren/a;b"] {
            assert_eq!(table_of(anchor), None, "{anchor}");
        }
        let name = chain_name("svc_to_web-1", Inet::V6, 8080);
        assert_eq!(parse_chain(&name), Some(("svc_to_web-1", Inet::V6, 8080)));
        for other in ["forward", "to_", "to_a.5.80", "to_a.4.99999", "to_a.4.80.1"] {
            assert_eq!(parse_chain(other), None, "{other}");
        }
    }
}
