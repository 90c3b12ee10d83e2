//! The policy as text for pf's anchors, and what pfctl's answers mean. Pure: who runs pfctl is the host.
//!
//! The syntax is the classic one (`nat on`, `rdr on`), which pfctl of 13.2 and of 15 both read (pf.conf(5)); in the order
//! tables, translation, filter. What is decided is written in [`policy`](super::policy); here is how:
//!
//! - Every filter rule that decides is `quick`, so that a `pass all` further down in pf.conf does not undo an isolation.
//!   The user's rules go before the anchor, or into the child anchor `user`, which is asked first.
//! - Tables of members are `persist` and have no initialiser, so a reload keeps their members.
//! - `rdr pass` is not used, since it would skip the filter. Rules that pass carry a label: `warren:<service>` for what
//!   belongs to a service, `warren-network:<name>` for the rest, so `pfctl -k label` and `pfctl -s labels` work by them.
//! - Translated packets meet the filter under the host's address. They are recognised by the tag they got when they came
//!   in, so a main ruleset that blocks by default still lets them out.
//! - Every rule is written as one that does not expand, so that rules can be counted. [`LOAD_OPTIONS`] keeps pfctl's
//!   optimizer from merging them.
//!
//! A limit of pf before 15: it does not redirect connections the host makes to itself. From the host a published port is
//! reached by the instance's address or name; from everywhere else it works as published.

use std::fmt::Write as _;

use super::policy::{BadPolicy, Inet, Policy, Port, is_interface};
use crate::config::spec::Proto;

/// The options pfctl must be given with the anchor and `-f -` when [`text`] is loaded: without them its optimizer merges
/// and reorders rules (pfctl(8), `-o`), and [`verify`] finds a difference.
pub const LOAD_OPTIONS: [&str; 2] = ["-o", "none"];

/// The arguments with which pfctl loads [`text`] from its standard input.
#[must_use]
pub fn load_arguments(anchor: &str) -> Vec<String> {
    let mut all = vec!["-a".to_owned(), anchor.to_owned()];
    all.extend(LOAD_OPTIONS.map(str::to_owned));
    all.extend(["-f", "-"].map(str::to_owned));
    all
}

/// The arguments of the calls of pfctl that empty an anchor with its tables: the user's child anchor first.
///
/// Nothing of them is evaluated from then on. The empty anchor itself stays listed for up to half a minute, until pf's
/// purge thread has freed the rules (seen on 13.2; while pf is enabled): one without rules does not count as there.
#[must_use]
pub fn remove_arguments(anchor: &str) -> [Vec<String>; 2] {
    [format!("{anchor}/user"), anchor.to_owned()].map(|a| vec!["-a".into(), a, "-F".into(), "all".into()])
}

/// The whole text of a network's anchor. `outside` are the interfaces of the host that lead to other machines
/// ([`outside`](super::outside())).
///
/// Fails if a name could mean anything to pf's parser; nothing hostile can get into the text.
pub fn text(policy: &Policy, outside: &[String]) -> Result<String, BadPolicy> {
    policy.check()?;
    if let Some(bad) = outside.iter().find(|name| !is_interface(name)) {
        let what = format!("{bad:?} is no name of an interface");
        return Err(BadPolicy { network: policy.network.clone(), what });
    }
    let translation = translation(policy, outside);
    let tables: Vec<_> = policy.services.iter().map(|s| format!("table <{}> persist", s.table)).collect();
    let draft = [&tables[..], &translation, &filter(policy, outside, "")].concat().join("\n");
    let seal = format!("label \"{SEAL}{:016x}\"", fnv1a(draft.as_bytes()));
    let filter = filter(policy, outside, &seal);

    let mut out = String::new();
    let _ = writeln!(
        out,
        "# Warren, network {} ({}). Replaced as a whole on every change.",
        policy.network, policy.anchor
    );
    for (title, lines) in [
        ("Ready members. No initialiser: a reload keeps them.", tables),
        ("Translation.", translation),
        ("Filter.", filter),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n# {title}");
            lines.iter().for_each(|line| out.extend([line, "\n"]));
        }
    }
    Ok(out)
}

/// Starts the label that holds a digest of the whole text, by which [`verify`] knows it again.
const SEAL: &str = "warren-text:";

/// FNV-1a, 64 bits (draft-eastlake-fnv): tells versions of a text apart and stays the same over releases of Warren. It
/// protects against mistakes, not against forgers, who would need root and could as well turn pf off.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn translation(policy: &Policy, outside: &[String]) -> Vec<String> {
    let gateway = &policy.gateway;
    let mut out = vec!["nat-anchor \"user\"".to_owned(), "rdr-anchor \"user\"".to_owned()];
    // An instance that asks for its own network's published port: without the gateway's address as the source the answer
    // would go straight to it, from an address it did not ask.
    let mut seen = Vec::new();
    for Port { service, publish, inet } in policy.ports() {
        let key = (&service.table, publish.target, publish.proto, inet);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        for prefix in prefixes(policy, inet) {
            out.push(format!(
                "nat on {gateway} {} proto {} from {prefix} to <{}> port = {} -> ({gateway}:0)",
                inet.pf(),
                publish.proto.as_str(),
                service.table,
                publish.target
            ));
        }
    }
    if policy.nat {
        for interface in outside {
            for prefix in &policy.prefixes {
                let inet = Inet::of(prefix.addr()).pf();
                out.push(format!(
                    "nat on {interface} {inet} from {} to any -> ({interface}:0)",
                    prefix.trunc()
                ));
            }
        }
    }
    for port in policy.ports() {
        out.push(format!(
            "rdr on ! lo0 {} -> <{}> port {} round-robin",
            published(&port),
            port.service.table,
            port.publish.target
        ));
    }
    out
}

/// The head of a rule about a published port as the client sees it.
fn published(Port { publish, inet, .. }: &Port<'_>) -> String {
    let to = publish.address.map_or_else(|| "(self)".to_owned(), |address| address.to_string());
    format!("{} proto {} from any to {to} port = {}", inet.pf(), publish.proto.as_str(), publish.port)
}

fn prefixes(policy: &Policy, inet: Inet) -> impl Iterator<Item = ipnet::IpNet> {
    policy.prefixes.iter().filter(move |p| Inet::of(p.addr()) == inet).map(ipnet::IpNet::trunc)
}

/// The filter rules. `seal` becomes the label of the first that every policy has.
fn filter(policy: &Policy, outside: &[String], seal: &str) -> Vec<String> {
    let gateway = &policy.gateway;
    let network = format!("label \"warren-network:{}\"", policy.network);
    let tag = format!("warren_{}", policy.id());
    let mut out = vec!["anchor \"user\" all".to_owned()];

    // Neighbour discovery, which a main ruleset that blocks by default would stop.
    for (kind, label) in [("neighbrsol", seal), ("neighbradv", network.as_str())] {
        out.push(format!(
            "pass quick on {gateway} inet6 proto ipv6-icmp all icmp6-type {kind} keep state {label}"
        ));
    }
    for resolver in &policy.resolvers {
        let inet = Inet::of(*resolver).pf();
        for proto in ["tcp", "udp"] {
            out.push(format!(
                "pass in quick on {gateway} {inet} proto {proto} from any to {resolver} port = 53 keep state {network}"
            ));
        }
    }
    for prefix in &policy.forbidden {
        let (inet, prefix) = (Inet::of(prefix.addr()).pf(), prefix.trunc());
        out.push(format!("block drop in quick on {gateway} {inet} from any to {prefix}"));
        out.push(format!("block drop out quick on {gateway} {inet} from {prefix} to any"));
    }
    for port in policy.ports() {
        let Port { service, publish, inet } = port;
        let label = format!("label \"warren:{}\"", service.name);
        let (inet, proto, table, target) =
            (inet.pf(), publish.proto.as_str(), &service.table, publish.target);
        for (direction, on) in [("in", format!("! {gateway}")), ("out", gateway.clone())] {
            out.push(format!(
                "pass {direction} quick on {on} {inet} proto {proto} from any to <{table}> port = {target} keep state {label}"
            ));
        }
        // Only what rdr left alone gets here: the table is empty.
        let refuse = match publish.proto {
            Proto::Tcp => "return-rst",
            Proto::Udp => "return",
        };
        out.push(format!("block {refuse} in quick on ! lo0 {}", published(&port)));
    }
    if policy.nat {
        for interface in outside {
            for prefix in &policy.prefixes {
                let inet = Inet::of(prefix.addr()).pf();
                out.push(format!("block drop in quick on {interface} {inet} from any to {}", prefix.trunc()));
            }
        }
    }
    for prefix in &policy.prefixes {
        let (inet, prefix) = (Inet::of(prefix.addr()).pf(), prefix.trunc());
        for service in &policy.services {
            out.push(format!(
                "pass in quick on {gateway} {inet} from <{}> to any keep state label \"warren:{}\" tag {tag}",
                service.table, service.name
            ));
        }
        out.push(format!(
            "pass in quick on {gateway} {inet} from {prefix} to any keep state {network} tag {tag}"
        ));
        out.push(format!("pass out quick on {gateway} {inet} from any to {prefix} keep state {network}"));
    }
    // Not quick: another network's anchor may still object to what leaves through its gateway.
    out.push(format!("pass out on ! {gateway} all keep state {network} tagged {tag}"));
    out
}

/// Says whether what pfctl reads back is what [`text`] made. `rules` is the output of `pfctl -a ANCHOR -s rules`,
/// `translation` that of `-s nat`, `tables` that of `-s Tables`.
///
/// Compared are the digest of the whole text, which is in a label and went into the kernel in the same transaction as
/// everything else, the number of rules of each kind, and the tables' names. That proves that this very text was the last
/// one loaded whole and that no class of rules was flushed or replaced since (pfctl changes classes, not single rules). It
/// does not compare rule by rule: how pfctl prints one differs between releases.
pub fn verify(rules: &str, translation: &str, tables: &str, wanted: &str) -> Result<(), String> {
    let wanted_rules: Vec<_> = lines(wanted).collect();
    let count = |kinds: &[&str]| wanted_rules.iter().filter(|line| starts(line, kinds)).count();
    let wanted_seal = seal(wanted).ok_or("the wanted text bears no digest; it was not made by pf::text")?;
    match seal(rules) {
        None => return Err("the anchor does not hold Warren's rules".into()),
        Some(found) if found != wanted_seal => {
            return Err(format!("another version is loaded ({found}, not {wanted_seal})"));
        }
        Some(_) => {}
    }
    let filters = count(&["pass", "block", "anchor"]);
    if lines(rules).count() != filters {
        return Err(format!("{} filter rules are loaded, not {filters}", lines(rules).count()));
    }
    let translations = count(&["nat", "rdr", "nat-anchor", "rdr-anchor"]);
    if lines(translation).count() != translations {
        return Err(format!(
            "{} translation rules are loaded, not {translations}",
            lines(translation).count()
        ));
    }
    for line in wanted_rules.iter().filter(|line| starts(line, &["table"])) {
        let name = line.split(['<', '>']).nth(1).unwrap_or_default();
        if !lines(tables).any(|table| table == name) {
            return Err(format!("table {name} is missing"));
        }
    }
    Ok(())
}

fn seal(text: &str) -> Option<&str> {
    text.split_once(SEAL).and_then(|(_, rest)| rest.get(..16))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn starts(line: &str, words: &[&str]) -> bool {
    line.split(' ').next().is_some_and(|first| words.contains(&first))
}

/// The lines a main ruleset needs for anchors of ours to be asked, in the order pf.conf wants them.
pub const ANCHOR_POINTS: [&str; 3] =
    ["nat-anchor \"warren/*\"", "rdr-anchor \"warren/*\"", "anchor \"warren/*\""];

/// Which of [`ANCHOR_POINTS`] are missing, going by the outputs of `pfctl -s nat` and `pfctl -s rules` for the main
/// ruleset. pfctl prints them with ` all` behind the name, and with conditions if the user wrote some.
#[must_use]
pub fn anchor_points_missing(main_nat: &str, main_rules: &str) -> Vec<&'static str> {
    let there = |point: &&str| {
        let text = if point.starts_with("anchor") { main_rules } else { main_nat };
        lines(text).any(|line| {
            line.strip_prefix(*point).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
    };
    ANCHOR_POINTS.into_iter().filter(|point| !there(point)).collect()
}

#[cfg(test)]
mod tests;
