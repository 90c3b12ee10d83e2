//! A ruleset as `nft list` would show it, for `--dry-run` and for people. Not meant to be loaded: Warren speaks to the
//! kernel itself.

use std::fmt::Write as _;

use nlink::netlink::nftables::Rule;

use super::ruleset::{Ruleset, map_name, set_name};
use crate::firewall::policy::Inet;

/// Writes a ruleset out.
#[must_use]
pub fn render(ruleset: &Ruleset) -> String {
    let mut out = format!("table inet {} {{\n", ruleset.table);
    for table in &ruleset.members {
        for (inet, kind) in [(Inet::V4, "ipv4_addr"), (Inet::V6, "ipv6_addr")] {
            let _ = writeln!(out, "\tset {} {{ type {kind}; }}", set_name(table, inet));
            let _ = writeln!(out, "\tmap {} {{ type mark : {kind}; }}", map_name(table, inet));
        }
    }
    for chain in &ruleset.chains {
        let _ = writeln!(out, "\n\tchain {} {{", chain.name);
        if let Some(base) = &chain.base {
            let (kind, hook) = (base.chain_type().as_str(), base.hook());
            let priority = base.priority().to_i32();
            let _ = writeln!(out, "\t\ttype {kind} hook {hook} priority {priority}; policy accept;");
        }
        for rule in &chain.rules {
            let _ = writeln!(out, "\t\t{}", line(rule));
        }
        out.push_str("\t}\n");
    }
    out.push_str("}\n");
    out
}

fn line(rule: &Rule) -> String {
    rule.nft_syntax_stateless().unwrap_or_else(|| format!("# {rule:?}"))
}
