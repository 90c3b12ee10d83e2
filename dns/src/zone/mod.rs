//! Zones as immutable snapshots.
//!
//! A [`Snapshot`] is a value: a change makes a new one, which shares everything untouched with the old, in
//! O(log n) of the number of names. The writer publishes it by swapping a pointer; who is answering a query
//! keeps the one it began with. No clock, no randomness, no I/O.

mod check;
mod error;
mod records;
mod reverse;
mod rrset;
mod tree;
mod trie;
mod types;
mod view;

use std::fmt;
use std::sync::Arc;

use foldhash::quality::FixedState;
use ipnet::IpNet;
use rpds::HashTrieMapSync;

pub use check::check_names;
pub use error::ZoneError;
pub use types::{
    Change, Host, Instance, MAX_NEGATIVE_TTL, MAX_PER_INSTANCE, MAX_TTL, MAX_TXT, Port, Proto, ZoneConfig,
};
pub use view::RecordView;

pub(crate) use rrset::RrSet;
pub(crate) use tree::Node;

use crate::name::Name;
use crate::wire::rtype;
use tree::Tree;

type Map<K, V> = HashTrieMapSync<K, V, FixedState>;

/// All zones of this server at one moment. Cloning is O(1).
#[derive(Clone)]
pub struct Snapshot {
    tree: Tree,
    zones: Map<u32, Zone>,
    by_origin: Map<Name, u32>,
    next_zone: u32,
    next_seq: u64,
}

/// A zone's own state; its names are in the tree.
#[derive(Debug, Clone)]
struct Zone {
    fixed: Arc<Fixed>,
    serial: u32,
    instances: Map<Arc<str>, Arc<Added>>,
    /// Declared services, by label.
    services: Map<Arc<str>, ()>,
    /// Aliases and where they point.
    aliases: Map<Name, Name>,
    /// Service types now listed, and the key of each in the list.
    types: Map<Name, u64>,
}

#[derive(Debug)]
struct Fixed {
    config: ZoneConfig,
    origin: Name,
    apexes: Vec<Name>,
    soa: Vec<u8>,
    soa_serial_at: usize,
}

#[derive(Debug)]
struct Added {
    seq: u64,
    instance: Instance,
}

fn map<K: Eq + std::hash::Hash, V>() -> Map<K, V> {
    HashTrieMapSync::new_with_hasher_and_ptr_kind(FixedState::default())
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("origins", &self.origins())
            .field("names", &self.name_count())
            .finish()
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Snapshot::new()
    }
}

impl Snapshot {
    /// No zone at all: everything is foreign.
    pub fn new() -> Snapshot {
        Snapshot { tree: Tree::new(), zones: map(), by_origin: map(), next_zone: 0, next_seq: 1 }
    }

    /// The origins of all zones, sorted.
    pub fn origins(&self) -> Vec<String> {
        let mut all: Vec<String> = self.by_origin.keys().map(Name::to_string).collect();
        all.sort();
        all
    }

    /// The zone's present serial, if there is such a zone.
    pub fn serial(&self, origin: &str) -> Option<u32> {
        let id = self.by_origin.get(&Name::host(origin).ok()?)?;
        Some(self.zones.get(id)?.serial)
    }

    /// How many names exist, those of reverse zones and empty non-terminals included.
    pub fn name_count(&self) -> usize {
        self.tree.len()
    }

    /// Adds a zone.
    ///
    /// # Errors
    /// When a name, a TTL or a host is wrong, or the zone overlaps another's origin or reverse prefixes.
    pub fn add_zone(&self, config: ZoneConfig) -> Result<Snapshot, ZoneError> {
        let fixed = self.check_zone(config)?;
        let mut next = self.clone();
        let id = next.next_zone;
        next.next_zone += 1;
        for apex in &fixed.apexes {
            next.tree.add_apex(apex, id);
        }
        for record in records::zone(&fixed.config, &fixed.origin, &fixed.apexes)? {
            next.insert(&record);
        }
        next.by_origin.insert_mut(fixed.origin.clone(), id);
        let zone = Zone {
            serial: fixed.config.serial,
            fixed: Arc::new(fixed),
            instances: map(),
            services: map(),
            aliases: map(),
            types: map(),
        };
        next.zones.insert_mut(id, zone);
        Ok(next)
    }

    /// Removes a zone with everything in it: O(names of that zone).
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn remove_zone(&self, origin: &str) -> Result<Snapshot, ZoneError> {
        let (id, zone) = self.zone_of(origin)?;
        let changes = zone
            .instances
            .keys()
            .map(|id| Change::RemoveInstance { id: id.to_string() })
            .chain(zone.services.keys().map(|s| Change::WithdrawService { service: s.to_string() }))
            .collect::<Vec<_>>();
        let mut next = self.apply(origin, &changes)?;
        for (alias, target) in &zone.aliases {
            next.remove(&records::alias(&zone.fixed.config, alias, target));
        }
        for record in records::zone(&zone.fixed.config, &zone.fixed.origin, &zone.fixed.apexes)? {
            next.remove(&record);
        }
        for apex in &zone.fixed.apexes {
            next.tree.remove_apex(apex);
        }
        next.zones.remove_mut(&id);
        next.by_origin.remove_mut(&zone.fixed.origin);
        Ok(next)
    }

    /// Replaces a zone's own configuration (a network was added, a TTL changed) and keeps its instances,
    /// services and aliases. The serial grows from where it is, whatever `config.serial` says. O(names of the zone).
    ///
    /// # Errors
    /// When there is no such zone, or as for [`Snapshot::add_zone`], or when an instance's service is now a
    /// host of the zone.
    pub fn reconfigure(&self, config: ZoneConfig) -> Result<Snapshot, ZoneError> {
        let origin = config.origin.clone();
        let (_, zone) = self.zone_of(&origin)?;
        let mut added: Vec<&Arc<Added>> = zone.instances.values().collect();
        added.sort_by_key(|a| a.seq);
        let changes: Vec<Change> = zone
            .services
            .keys()
            .map(|s| Change::DeclareService { service: s.to_string() })
            .chain(added.into_iter().map(|a| Change::AddInstance(a.instance.clone())))
            .chain(zone.aliases.iter().map(|(alias, target)| Change::SetAlias {
                alias: first_label(alias),
                target: target.to_string(),
            }))
            .collect();
        let config = ZoneConfig { serial: zone.serial, ..config };
        self.remove_zone(&origin)?.add_zone(config)?.apply(&origin, &changes)
    }

    /// Applies `changes` to a zone, in order, all or none. The serial grows by one for the whole.
    /// O(log n) for each change, plus the copy of one chunk of each set it touches.
    ///
    /// # Errors
    /// The first change that cannot be made; the present snapshot stays valid and unchanged.
    pub fn apply(&self, origin: &str, changes: &[Change]) -> Result<Snapshot, ZoneError> {
        let (zone_id, zone) = self.zone_of(origin)?;
        let mut next = self.clone();
        let mut zone = zone.clone();
        for change in changes {
            match change {
                Change::AddInstance(instance) => next.add_instance(&mut zone, instance)?,
                Change::SetReady { id, ready } => next.set_ready(&mut zone, id, *ready)?,
                Change::RemoveInstance { id } => next.remove_instance(&mut zone, id)?,
                Change::DeclareService { service } => next.declare(&mut zone, service)?,
                Change::WithdrawService { service } => {
                    let name = zone.fixed.origin.child(service)?;
                    if zone.services.remove_mut(lower(service).as_ref()) {
                        next.tree.pin(&name, false);
                    }
                }
                Change::SetAlias { alias, target } => next.set_alias(&mut zone, alias, target)?,
                Change::RemoveAlias { alias } => {
                    let name = zone.fixed.origin.child(alias)?;
                    next.drop_alias(&mut zone, &name);
                }
            }
        }
        zone.serial = zone.serial.wrapping_add(1);
        next.zones.insert_mut(zone_id, zone);
        Ok(next)
    }

    fn add_instance(&mut self, zone: &mut Zone, instance: &Instance) -> Result<(), ZoneError> {
        let fixed = Arc::clone(&zone.fixed);
        check::instance(instance)?;
        for label in [&instance.service, &instance.label()] {
            self.refuse_other(zone, &fixed.origin.child(label)?, Wanted::Service)?;
        }
        self.remove_instance(zone, &instance.id)?;
        let seq = self.next_seq;
        self.next_seq += 1;
        let records = records::instance(&fixed.config, &fixed.origin, seq, instance)?;
        records.own.iter().for_each(|r| self.insert(r));
        zone.instances.insert_mut(lower(&instance.id), Arc::new(Added { seq, instance: instance.clone() }));
        if instance.ready { self.join(zone, &records) } else { Ok(()) }
    }

    fn remove_instance(&mut self, zone: &mut Zone, id: &str) -> Result<(), ZoneError> {
        let Some(added) = zone.instances.get(lower(id).as_ref()).cloned() else { return Ok(()) };
        let fixed = Arc::clone(&zone.fixed);
        let records = records::instance(&fixed.config, &fixed.origin, added.seq, &added.instance)?;
        self.leave(zone, &records)?;
        records.own.iter().for_each(|r| self.remove(r));
        zone.instances.remove_mut(lower(id).as_ref());
        Ok(())
    }

    fn set_ready(&mut self, zone: &mut Zone, id: &str, ready: bool) -> Result<(), ZoneError> {
        let fixed = Arc::clone(&zone.fixed);
        let added = match zone.instances.get(lower(id).as_ref()) {
            Some(added) => Arc::clone(added),
            None if !ready => return Ok(()),
            None => {
                return Err(ZoneError::NoSuchInstance {
                    origin: fixed.origin.to_string(),
                    id: id.to_owned(),
                });
            }
        };
        if added.instance.ready == ready {
            return Ok(());
        }
        let records = records::instance(&fixed.config, &fixed.origin, added.seq, &added.instance)?;
        if ready {
            self.join(zone, &records)?
        } else {
            self.leave(zone, &records)?
        }
        let instance = Instance { ready, ..added.instance.clone() };
        zone.instances.insert_mut(lower(id), Arc::new(Added { seq: added.seq, instance }));
        Ok(())
    }

    fn join(&mut self, zone: &mut Zone, records: &records::InstanceRecords) -> Result<(), ZoneError> {
        let fixed = Arc::clone(&zone.fixed);
        records.ready.iter().for_each(|r| self.insert(r));
        for kind in &records.types {
            if !zone.types.contains_key(kind) {
                let key = self.next_seq;
                self.next_seq += 1;
                zone.types.insert_mut(kind.clone(), key);
                self.insert(&records::service_type(&fixed.config, &fixed.origin, kind, key)?);
            }
        }
        Ok(())
    }

    fn leave(&mut self, zone: &mut Zone, records: &records::InstanceRecords) -> Result<(), ZoneError> {
        let fixed = Arc::clone(&zone.fixed);
        records.ready.iter().for_each(|r| self.remove(r));
        for kind in &records.types {
            let offered = self.tree.get(kind.wire()).is_some_and(|n| n.set(rtype::PTR).is_some());
            if let Some(&key) = zone.types.get(kind)
                && !offered
            {
                zone.types.remove_mut(kind);
                self.remove(&records::service_type(&fixed.config, &fixed.origin, kind, key)?);
            }
        }
        Ok(())
    }

    fn declare(&mut self, zone: &mut Zone, service: &str) -> Result<(), ZoneError> {
        let name = zone.fixed.origin.child(service)?;
        self.refuse_other(zone, &name, Wanted::Service)?;
        self.tree.pin(&name, true);
        zone.services.insert_mut(lower(service), ());
        Ok(())
    }

    fn set_alias(&mut self, zone: &mut Zone, alias: &str, target: &str) -> Result<(), ZoneError> {
        let fixed = Arc::clone(&zone.fixed);
        let name = fixed.origin.child(alias)?;
        let to = if target.contains('.') { Name::host(target)? } else { fixed.origin.child(target)? };
        if !to.is_within(&fixed.origin) {
            return Err(ZoneError::AliasOutside {
                alias: name.to_string(),
                target: to.to_string(),
                origin: fixed.origin.to_string(),
            });
        }
        self.refuse_other(zone, &name, Wanted::Alias)?;
        let mut step = Some(&to);
        while let Some(at) = step {
            if *at == name {
                return Err(ZoneError::AliasLoop { alias: name.to_string(), target: to.to_string() });
            }
            step = zone.aliases.get(at);
        }
        self.drop_alias(zone, &name);
        self.insert(&records::alias(&fixed.config, &name, &to));
        zone.aliases.insert_mut(name, to);
        Ok(())
    }

    fn drop_alias(&mut self, zone: &mut Zone, name: &Name) {
        if let Some(target) = zone.aliases.get(name).cloned() {
            self.remove(&records::alias(&zone.fixed.config, name, &target));
            zone.aliases.remove_mut(name);
        }
    }

    /// A name directly below the origin is one thing: a service, an alias or a host of the zone.
    fn refuse_other(&self, zone: &Zone, name: &Name, wanted: Wanted) -> Result<(), ZoneError> {
        let taken = |by| Err(ZoneError::NameTaken { name: name.to_string(), by });
        let config = &zone.fixed.config;
        for host in std::iter::once(&config.ns).chain(&config.hosts) {
            if zone.fixed.origin.child(&host.label)? == *name {
                return taken("a host of the zone");
            }
        }
        if zone.aliases.contains_key(name) {
            return if wanted == Wanted::Alias { Ok(()) } else { taken("an alias") };
        }
        if wanted != Wanted::Service && self.tree.get(name.wire()).is_some() {
            return taken("a service");
        }
        Ok(())
    }

    fn insert(&mut self, record: &records::Record) {
        self.tree.insert(&record.name, record.rtype, record.key, &record.wire);
    }

    fn remove(&mut self, record: &records::Record) {
        self.tree.remove(&record.name, record.rtype, record.key);
    }

    fn zone_of(&self, origin: &str) -> Result<(u32, &Zone), ZoneError> {
        let missing = || ZoneError::NoSuchZone { origin: origin.to_owned() };
        let id = *self.by_origin.get(&Name::host(origin)?).ok_or_else(missing)?;
        Ok((id, self.zones.get(&id).ok_or_else(missing)?))
    }

    fn check_zone(&self, mut config: ZoneConfig) -> Result<Fixed, ZoneError> {
        let origin = check::zone(&config)?;
        for other in self.by_origin.keys() {
            if origin.is_within(other) || other.is_within(&origin) {
                return Err(ZoneError::OriginOverlaps {
                    origin: origin.to_string(),
                    other: other.to_string(),
                });
            }
        }
        for prefix in &mut config.reverse {
            *prefix = prefix.trunc();
        }
        let others = self
            .zones
            .values()
            .flat_map(|z| z.fixed.config.reverse.iter().map(|p| (*p, z.fixed.origin.to_string())));
        let mut seen: Vec<(IpNet, String)> = others.collect();
        let mut apexes = vec![origin.clone()];
        for &prefix in &config.reverse {
            if let Some((other, owner)) = seen.iter().find(|(o, _)| o.contains(&prefix) || prefix.contains(o))
            {
                return Err(ZoneError::PrefixOverlaps {
                    prefix,
                    origin: origin.to_string(),
                    other: *other,
                    owner: owner.clone(),
                });
            }
            seen.push((prefix, origin.to_string()));
            apexes.extend(reverse::apexes(prefix)?);
        }
        let (soa, soa_serial_at) = records::soa(&config, &origin)?;
        Ok(Fixed { config, origin, apexes, soa, soa_serial_at })
    }

    // What the answering side needs.

    pub(crate) fn node(&self, wire: &[u8]) -> Option<&Node> {
        self.tree.get(wire)
    }

    pub(crate) fn encloser(&self, wire: &[u8]) -> Option<(usize, &Node)> {
        self.tree.encloser(wire)
    }

    /// The zone's SOA with its present serial: everything of the record before the serial, the serial, the rest.
    pub(crate) fn soa(&self, zone: u32) -> Option<(&[u8], u32, &[u8])> {
        let zone = self.zones.get(&zone)?;
        let (before, rest) = zone.fixed.soa.split_at_checked(zone.fixed.soa_serial_at)?;
        Some((before, zone.serial, rest.get(4..)?))
    }

    /// The zone's negative TTL in seconds.
    pub(crate) fn negative_ttl(&self, zone: u32) -> u32 {
        self.zones.get(&zone).map_or(0, |z| z.fixed.config.negative_ttl)
    }
}

/// What a name directly below the origin is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Service,
    Alias,
}

/// Ids and labels are compared without regard to case, as their names are.
fn lower(text: &str) -> Arc<str> {
    text.to_ascii_lowercase().into()
}

fn first_label(name: &Name) -> String {
    name.to_string().split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
