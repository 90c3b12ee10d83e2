//! What is loaded in a table of nf_tables, and the way from there to other members.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nlink::netlink::nftables::{
    Family, Set, SetDataType, SetElement, SetElementData, SetKeyType, Transaction,
};
use nlink::netlink::{Connection, Nftables};

use super::ATTEMPTS;
use super::ruleset::{Members, chain_name, map_name, of_family, parse_chain, set_name, turn};
use crate::firewall::policy::Inet;

/// What is loaded in one table of nf_tables.
pub struct Seen {
    /// The generation of the rules it was read at.
    pub generation: u32,
    /// The members of each table.
    pub members: Members,
    /// Map contents by (table, family), in order of the index.
    turns: BTreeMap<(String, Inet), Vec<IpAddr>>,
    /// Chains with the comments of their rules.
    pub chains: BTreeMap<String, Vec<Option<String>>>,
    /// Sets and maps.
    pub sets: BTreeSet<String>,
    /// The rules as the kernel has them, but for those that change with the members.
    pub rules: Vec<u8>,
}

impl Seen {
    /// Reads a table; `None` if there is none. What was read is of one generation: if somebody changed rules meanwhile, it
    /// is read again.
    pub async fn read(connection: &Connection<Nftables>, table: &str) -> Result<Option<Self>, nlink::Error> {
        let mut tries = 0..ATTEMPTS;
        loop {
            let before = connection.generation().await?;
            let last = tries.next().is_none();
            match Self::read_once(connection, table, before).await {
                // It went away in the middle, or the kernel noticed the change itself.
                Err(e) if !last && (e.is_not_found() || e.is_dump_interrupted()) => {}
                Ok(_) if !last && connection.generation().await? != before => {}
                other => return other,
            }
        }
    }

    async fn read_once(
        connection: &Connection<Nftables>,
        table: &str,
        generation: u32,
    ) -> Result<Option<Self>, nlink::Error> {
        if !connection.list_tables_in(Family::Inet).await?.iter().any(|t| t.name == table) {
            return Ok(None);
        }
        let mut seen = Self {
            generation,
            members: Members::new(),
            turns: BTreeMap::new(),
            chains: BTreeMap::new(),
            sets: BTreeSet::new(),
            rules: Vec::new(),
        };
        for set in connection.list_sets_in(table, Family::Inet).await? {
            let mut parts = set.name.split('.');
            if let (Some(name), Some(family)) = (parts.next(), parts.next()) {
                let elements = connection.list_set_elements(table, &set.name, Family::Inet).await?;
                if parts.next().is_none() {
                    let members = seen.members.entry(name.to_owned()).or_default();
                    members.extend(elements.iter().filter_map(|e| address(e.key())));
                } else {
                    let inet = if family == "4" { Inet::V4 } else { Inet::V6 };
                    seen.turns.insert((name.to_owned(), inet), in_turn(&elements));
                }
            }
            seen.sets.insert(set.name);
        }
        for chain in connection.list_chains_in(table, Family::Inet).await? {
            seen.chains.insert(chain.name, Vec::new());
        }
        for rule in connection.list_rules(table, Family::Inet).await? {
            if parse_chain(&rule.chain).is_none() {
                seen.rules.extend(rule.chain.bytes().chain([0]).chain(rule.expression_bytes.iter().copied()));
            }
            seen.chains.entry(rule.chain).or_default().push(rule.comment_text);
        }
        Ok(Some(seen))
    }

    /// Adds what brings one family of one table from what was seen to `members`.
    pub fn step(
        &self,
        transaction: Transaction,
        nft: &str,
        table: &str,
        inet: Inet,
        members: &BTreeSet<IpAddr>,
    ) -> Transaction {
        let none = BTreeSet::new();
        let old: BTreeSet<_> = of_family(self.members.get(table).unwrap_or(&none), inet).collect();
        let new: BTreeSet<_> = of_family(members, inet).collect();
        if old == new {
            return transaction;
        }
        let keys = |a: &mut dyn Iterator<Item = &IpAddr>| a.map(|a| key(*a)).collect::<Vec<_>>();
        let places = |list: &[IpAddr]| {
            (0u32..).zip(list).map(|(i, a)| SetElement::mark(i).value(key(*a))).collect::<Vec<_>>()
        };
        let (set, map) = (set_of(nft, table, inet), map_of(nft, table, inet));
        let gone = keys(&mut old.difference(&new));
        let come = keys(&mut new.difference(&old));
        let before = places(self.turns.get(&(table.to_owned(), inet)).map_or(&[], Vec::as_slice));
        let after = places(&new.iter().copied().collect::<Vec<_>>());
        let mut transaction = transaction;
        // The rule first: it must not be there with an index the map has not.
        let targets =
            self.chains.keys().filter_map(|c| parse_chain(c)).filter(|(t, f, _)| *t == table && *f == inet);
        let targets: Vec<u16> = targets.map(|(_, _, target)| target).collect();
        for target in &targets {
            transaction = transaction.flush_chain(nft, &chain_name(table, inet, *target), Family::Inet);
        }
        for (set, elements, add) in
            [(&set, gone, false), (&set, come, true), (&map, before, false), (&map, after, true)]
        {
            transaction = match (elements.is_empty(), add) {
                (true, _) => transaction,
                (false, true) => transaction.add_set_elements(set, &elements),
                (false, false) => transaction.del_set_elements(set, &elements),
            };
        }
        targets
            .iter()
            .filter_map(|target| turn(nft, table, inet, *target, &new))
            .fold(transaction, Transaction::add_rule)
    }

    /// Whether every map holds exactly the members of its set, and every chain that uses it has a rule if there are any.
    pub fn turns_fit(&self) -> bool {
        let maps = self.members.iter().all(|(table, members)| {
            [Inet::V4, Inet::V6].into_iter().all(|inet| {
                let map = self.turns.get(&(table.clone(), inet)).map_or(&[][..], Vec::as_slice);
                of_family(members, inet).eq(map.iter().copied())
            })
        });
        let chains = self.chains.iter().filter_map(|(name, rules)| Some((parse_chain(name)?, rules.len())));
        let mut chains = chains.map(|((table, inet, _), rules)| {
            let any = self.members.get(table).is_some_and(|m| of_family(m, inet).next().is_some());
            rules == usize::from(any)
        });
        maps && chains.all(|fits| fits)
    }
}

/// The names of a table's sets and maps.
pub fn set_names(table: &str) -> [String; 4] {
    [
        set_name(table, Inet::V4),
        set_name(table, Inet::V6),
        map_name(table, Inet::V4),
        map_name(table, Inet::V6),
    ]
}

fn key_type(inet: Inet) -> SetKeyType {
    match inet {
        Inet::V4 => SetKeyType::Ipv4Addr,
        Inet::V6 => SetKeyType::Ipv6Addr,
    }
}

/// The set of one family.
pub fn set_of(nft: &str, table: &str, inet: Inet) -> Set {
    Set::new(nft, &set_name(table, inet)).family(Family::Inet).key_type(key_type(inet))
}

/// The map from an index to the member whose turn it is.
pub fn map_of(nft: &str, table: &str, inet: Inet) -> Set {
    let map = Set::new(nft, &map_name(table, inet)).family(Family::Inet).key_type(SetKeyType::Mark);
    map.map(SetDataType::Value(key_type(inet)))
}

fn key(address: IpAddr) -> SetElement {
    match address {
        IpAddr::V4(a) => SetElement::ipv4(a),
        IpAddr::V6(a) => SetElement::ipv6(a),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The values of a map in the order of their keys, which are numbers in the machine's own order.
fn in_turn(elements: &[SetElement]) -> Vec<IpAddr> {
    let pair = |e: &SetElement| {
        let index = u32::from_ne_bytes(e.key().try_into().ok()?);
        match e.data()? {
            SetElementData::Value(bytes) => Some((index, address(bytes)?)),
            _ => None,
        }
    };
    elements.iter().filter_map(pair).collect::<BTreeMap<_, _>>().into_values().collect()
}
