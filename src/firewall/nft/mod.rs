//! The policy on Linux, for the lab: nf_tables by netlink, in the network namespace of the calling thread.
//!
//! Every change is one transaction, made against the generation of the rules it was computed from: if somebody else changed
//! something in between, the kernel refuses and it is computed anew. Every change is read back. Only tables `warren_<id>` of
//! family inet are ever touched; nobody needs the nft program.
//!
//! The calls block, like all of a host. They must not be made from a task of an async runtime, but may be from its blocking
//! pool. CAP_NET_ADMIN in the user namespace that owns the network namespace is enough.

pub mod ruleset;
mod seen;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nlink::netlink::nftables::{Chain, Family, Transaction};
use nlink::netlink::{Connection, Nftables};

use super::loaded;
use super::policy::{BadPolicy, Inet, Policy};
use crate::host::Failure;
use ruleset::{Members, Ruleset, anchor_of, map_name, ruleset, set_name, table_of};
use seen::{Seen, map_of, set_names, set_of};

/// How often a change is computed anew when others change rules at the same time.
const ATTEMPTS: usize = 10;

/// The rules of a policy, without members, as text.
pub fn text(policy: &Policy, outside: &[String]) -> Result<String, BadPolicy> {
    Ok(text::render(&ruleset(policy, outside, &Members::new())?))
}

/// Loads the whole anchor in one transaction and verifies it by reading it back. Tables keep their members; a table of a
/// service that is no more is removed. `outside` as in [`pf::text`](super::pf::text).
///
/// Verified are the names of chains and sets, the number of rules in each chain with their comments, and that published
/// ports lead to the members. Since nf_tables takes all of a transaction or nothing, that suffices to know it took this one.
pub fn apply(policy: &Policy, outside: &[String]) -> Result<(), Failure> {
    let rules = ruleset(policy, outside, &Members::new()).map_err(|e| Failure::new(e.to_string()))?;
    let what = format!("loading the rules of {}", policy.anchor);
    run(async {
        let connection = connect(&what)?;
        for _ in 0..ATTEMPTS {
            let seen = Seen::read(&connection, &rules.table).await.map_err(|e| failure(&what, &e))?;
            let mut members = seen.as_ref().map(|s| s.members.clone()).unwrap_or_default();
            members.retain(|table, _| rules.members.contains(table));
            for table in &rules.members {
                members.entry(table.clone()).or_default();
            }
            // The rules that depend on members can be written only now.
            let rules = ruleset(policy, outside, &members).map_err(|e| Failure::new(e.to_string()))?;
            let generation = match &seen {
                Some(seen) => seen.generation,
                None => connection.generation().await.map_err(|e| failure(&what, &e))?,
            };
            let transaction = load(&connection, seen.as_ref(), &rules).map_err(|e| failure(&what, &e))?;
            match transaction.expect_generation(generation).commit(&connection).await {
                Ok(()) => return verify(&connection, &rules, &what).await,
                Err(e) if e.is_restart() => {}
                Err(e) => return Err(failure(&what, &e)),
            }
        }
        Err(crowded(&what))
    })
}

/// Removes the anchor with everything in it. It need not be there.
pub fn remove(anchor: &str) -> Result<(), Failure> {
    let (table, what) = (ours(anchor)?, format!("removing the rules of {anchor}"));
    run(async {
        let connection = connect(&what)?;
        loaded::forget(&place(&table));
        connection.del_table_if_exists(table.as_str(), Family::Inet).await.map_err(|e| failure(&what, &e))?;
        match Seen::read(&connection, &table).await.map_err(|e| failure(&what, &e))? {
            None => Ok(()),
            Some(_) => Err(Failure::new(format!("{what}: table {table} is still there"))),
        }
    })
}

/// Adds addresses to tables of a loaded anchor. Those that are there already stay. Fails if a table is not there.
pub fn table_add(anchor: &str, tables: &[String], addresses: &[IpAddr]) -> Result<(), Failure> {
    let what = format!("adding {} to tables of {anchor}", list(addresses));
    change(anchor, &what, |seen| {
        let seen = seen.ok_or_else(|| Failure::new(format!("{what}: the anchor is not loaded")))?;
        let mut members = seen.members.clone();
        for table in tables {
            let missing = || Failure::new(format!("{what}: there is no table {table}"));
            members.get_mut(table).ok_or_else(missing)?.extend(addresses);
        }
        Ok(members)
    })
}

/// Removes addresses from tables of an anchor. Neither need be there.
pub fn table_remove(anchor: &str, tables: &[String], addresses: &[IpAddr]) -> Result<(), Failure> {
    let what = format!("removing {} from tables of {anchor}", list(addresses));
    change(anchor, &what, |seen| {
        let mut members = seen.map(|s| s.members.clone()).unwrap_or_default();
        for table in tables {
            if let Some(members) = members.get_mut(table) {
                members.retain(|a| !addresses.contains(a));
            }
        }
        Ok(members)
    })
}

/// Loaded anchors and the members of their tables; only ours. And which of them have other rules than were loaded.
pub fn inventory() -> Result<(BTreeMap<String, Members>, BTreeSet<String>), Failure> {
    let what = "listing the rules of Warren";
    run(async {
        let connection = connect(what)?;
        let (mut all, mut edited) = (BTreeMap::new(), BTreeSet::new());
        for table in connection.list_tables_in(Family::Inet).await.map_err(|e| failure(what, &e))? {
            if let Some(anchor) = anchor_of(&table.name)
                && let Some(seen) =
                    Seen::read(&connection, &table.name).await.map_err(|e| failure(what, &e))?
            {
                if loaded::differs(&place(&table.name), &seen.rules) || !seen.turns_fit() {
                    edited.insert(anchor.clone());
                }
                all.insert(anchor, seen.members);
            }
        }
        Ok((all, edited))
    })
}

/// Changes members: sets, maps and the rules that hold their number, in one transaction.
fn change(
    anchor: &str,
    what: &str,
    wanted: impl Fn(Option<&Seen>) -> Result<Members, Failure>,
) -> Result<(), Failure> {
    let table = ours(anchor)?;
    run(async {
        let connection = connect(what)?;
        let mut written = false;
        for _ in 0..ATTEMPTS {
            let seen = Seen::read(&connection, &table).await.map_err(|e| failure(what, &e))?;
            let members = wanted(seen.as_ref())?;
            let Some(seen) = seen else { return Ok(()) };
            // What is asked for is idempotent, so this is the reading back, too; whatever others did meanwhile.
            if members == seen.members && seen.turns_fit() {
                return Ok(());
            }
            let mut transaction = connection.transaction().expect_generation(seen.generation);
            for (name, members) in &members {
                for inet in [Inet::V4, Inet::V6] {
                    transaction = seen.step(transaction, &table, name, inet, members);
                }
            }
            match transaction.commit(&connection).await {
                Ok(()) => written = true,
                Err(e) if e.is_restart() => {}
                Err(e) => return Err(failure(what, &e)),
            }
        }
        let lost = Failure::new(format!("{what}: read back, the tables are not as they were written"));
        Err(if written { lost } else { crowded(what) })
    })
}

/// The transaction that makes a ruleset of what is there.
fn load(
    connection: &Connection<Nftables>,
    seen: Option<&Seen>,
    rules: &Ruleset,
) -> Result<Transaction, nlink::Error> {
    let table = rules.table.as_str();
    let wanted: BTreeSet<_> = rules.members.iter().flat_map(|name| set_names(name)).collect();
    let none = (BTreeMap::new(), BTreeSet::new());
    let (chains, sets) = seen.map_or((&none.0, &none.1), |s| (&s.chains, &s.sets));
    let mut transaction = connection.transaction();
    transaction = match seen {
        None => transaction.add_table(table, Family::Inet),
        Some(_) => transaction.flush_table(table, Family::Inet),
    };
    for gone in chains.keys().filter(|name| !rules.chains.iter().any(|c| c.name == **name)) {
        transaction = transaction.del_chain(table, gone, Family::Inet);
    }
    for gone in sets.difference(&wanted) {
        transaction = transaction.del_set(table, gone, Family::Inet);
    }
    for name in &rules.members {
        for inet in [Inet::V4, Inet::V6] {
            if !sets.contains(&set_name(name, inet)) {
                transaction = transaction.add_set(set_of(table, name, inet));
            }
            if !sets.contains(&map_name(name, inet)) {
                transaction = transaction.add_set(map_of(table, name, inet));
            }
        }
    }
    for chain in &rules.chains {
        let new = Chain::new(table, chain.name.as_str())?.family(Family::Inet);
        transaction = transaction.update_chain(match &chain.base {
            Some(base) => new.base(base.clone()),
            None => new,
        });
    }
    Ok(rules.chains.iter().flat_map(|c| c.rules.iter().cloned()).fold(transaction, Transaction::add_rule))
}

async fn verify(connection: &Connection<Nftables>, rules: &Ruleset, what: &str) -> Result<(), Failure> {
    let differs = |how: &str| Failure::new(format!("{what}: read back, {how}"));
    let seen = Seen::read(connection, &rules.table).await.map_err(|e| failure(what, &e))?;
    let seen = seen.ok_or_else(|| differs("the table is not there"))?;
    let comment = |rule: &nlink::netlink::nftables::Rule| rule.comment_ref().map(str::to_owned);
    let wanted: BTreeMap<String, Vec<_>> =
        rules.chains.iter().map(|c| (c.name.clone(), c.rules.iter().map(comment).collect())).collect();
    if seen.chains != wanted {
        return Err(differs("chains or rules differ"));
    }
    if seen.sets != rules.members.iter().flat_map(|name| set_names(name)).collect() {
        return Err(differs("sets differ"));
    }
    if !seen.turns_fit() {
        return Err(differs("ports lead to others than the members"));
    }
    loaded::remember(&place(&rules.table), seen.rules);
    Ok(())
}

/// A table of this thread's network namespace: another one may have one of the same name.
fn place(table: &str) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let namespace = std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |it| it.ino());
    format!("{namespace} {table}")
}

fn ours(anchor: &str) -> Result<String, Failure> {
    table_of(anchor).ok_or_else(|| Failure::new(format!("{anchor:?} is no anchor of Warren's")))
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn crowded(what: &str) -> Failure {
    Failure::new(format!("{what}: somebody else kept changing the rules, {ATTEMPTS} times in a row"))
}

fn connect(what: &str) -> Result<Connection<Nftables>, Failure> {
    Connection::<Nftables>::new().map_err(|e| failure(what, &e))
}

/// A failure that says what the kernel said.
pub(super) fn failure(what: &str, error: &nlink::Error) -> Failure {
    let made = Failure { errno: error.errno().map(i32::abs), ..Failure::new(format!("{what}: {error}")) };
    if error.is_permission_denied() {
        return made.hint("needs CAP_NET_ADMIN over the network namespace");
    }
    made
}

/// Runs netlink's futures to their end on this thread, so that the sockets are of its network namespace.
pub(super) fn run<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::os("starting to talk netlink", &e))?.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::policy::samples;

    /// `WARREN_BLESS=1 cargo test` writes the golden files anew.
    #[test]
    fn texts_are_as_in_the_golden_files() {
        for (name, policy) in samples::all() {
            let mut members = Members::new();
            members.insert("svc_web".into(), ["10.9.0.11", "10.9.0.12"].map(|a| a.parse().unwrap()).into());
            let text = text::render(&ruleset(&policy, &["eth0".into()], &members).unwrap());
            let path = format!("{}/src/firewall/golden/{name}.nft", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("WARREN_BLESS").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_before_anything_is_done() {
        assert!(remove("filter").unwrap_err().message.contains("no anchor"));
        assert!(table_add("warren/a/b", &[], &[]).unwrap_err().message.contains("no anchor"));
        let bad = Policy { gateway: "g\" drop".into(), ..samples::nat() };
        assert!(apply(&bad, &[]).unwrap_err().message.contains("interface"));
    }
}
