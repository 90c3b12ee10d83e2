//! The records of one name and type, as the bytes an answer carries.
//!
//! A set is sorted by key and cut into chunks, so that changing one member of 10,000 copies one chunk (at most
//! [`CHUNK`] members) and the list of chunks, not the set. Each member is a whole resource record whose owner is
//! a pointer to offset 12: the question's name, so most answers are one or two copies out of here.

use std::sync::Arc;

/// Members per chunk: small enough that copying one is cheaper than a system call, big enough that a list of
/// chunks stays short.
pub(crate) const CHUNK: usize = 128;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chunk {
    /// Key, and the end of the record in `wire`.
    members: Vec<(u64, u32)>,
    wire: Vec<u8>,
}

impl Chunk {
    fn first_key(&self) -> u64 {
        self.members.first().map_or(0, |m| m.0)
    }

    fn start_of(&self, index: usize) -> usize {
        match index.checked_sub(1).and_then(|i| self.members.get(i)) {
            Some(before) => before.1 as usize,
            None => 0,
        }
    }

    fn slice(&self, from: usize, to: usize) -> &[u8] {
        self.wire.get(self.start_of(from)..self.start_of(to)).unwrap_or_default()
    }

    fn insert(&mut self, key: u64, record: &[u8]) -> bool {
        let (index, fresh) = match self.members.binary_search_by_key(&key, |m| m.0) {
            Ok(index) => {
                self.take(index);
                (index, false)
            }
            Err(index) => (index, true),
        };
        let at = self.start_of(index);
        let grown = record.len() as u32;
        self.wire.splice(at..at, record.iter().copied());
        self.members.insert(index, (key, at as u32));
        for member in &mut self.members[index..] {
            member.1 += grown;
        }
        fresh
    }

    fn take(&mut self, index: usize) {
        let (from, to) = (self.start_of(index), self.start_of(index + 1));
        self.wire.drain(from..to);
        self.members.remove(index);
        for member in &mut self.members[index..] {
            member.1 -= (to - from) as u32;
        }
    }

    fn remove(&mut self, key: u64) -> bool {
        match self.members.binary_search_by_key(&key, |m| m.0) {
            Ok(index) => {
                self.take(index);
                true
            }
            Err(_) => false,
        }
    }

    fn split_off(&mut self, index: usize) -> Chunk {
        let at = self.start_of(index);
        let wire = self.wire.split_off(at);
        let mut members = self.members.split_off(index);
        for member in &mut members {
            member.1 -= at as u32;
        }
        Chunk { members, wire }
    }
}

/// The records of one name and type. All have one TTL (RFC 2181 section 5.2), by construction of the zone.
///
/// Cloning is O(1). Nearly all sets have one record: it is one pointer away, because what an answer costs is the
/// memory it has to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RrSet {
    One(u64, Arc<[u8]>),
    /// None (only while it is being changed), or two and more.
    Many(Arc<Many>),
}

impl RrSet {
    pub(crate) fn new(key: u64, record: &[u8]) -> RrSet {
        RrSet::One(key, record.into())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            RrSet::One(..) => 1,
            RrSet::Many(many) => many.len,
        }
    }

    /// Puts `record` under `key`, replacing what was there.
    pub(crate) fn insert(&mut self, key: u64, record: &[u8]) {
        match self {
            RrSet::One(present, wire) if *present == key => *wire = record.into(),
            RrSet::One(present, wire) => {
                let mut many = Many::default();
                many.insert(*present, wire);
                many.insert(key, record);
                *self = RrSet::Many(Arc::new(many));
            }
            RrSet::Many(many) if many.len == 0 => *self = RrSet::new(key, record),
            RrSet::Many(many) => Arc::make_mut(many).insert(key, record),
        }
    }

    /// Takes the record of `key` out; false when there is none.
    pub(crate) fn remove(&mut self, key: u64) -> bool {
        match self {
            RrSet::One(present, _) if *present == key => {
                *self = RrSet::Many(Arc::default());
                true
            }
            RrSet::One(..) => false,
            RrSet::Many(many) => {
                let many = Arc::make_mut(many);
                let removed = many.remove(key);
                if let Some((key, wire)) = many.only() {
                    *self = RrSet::One(key, wire);
                }
                removed
            }
        }
    }

    /// Appends the records from member `start` on, wrapping round, as long as they fit in `room` bytes.
    /// Returns how many were written; fewer than `len()` means truncation.
    pub(crate) fn emit(&self, start: usize, room: usize, out: &mut Vec<u8>) -> usize {
        match self {
            RrSet::One(_, wire) if wire.len() <= room => {
                out.extend_from_slice(wire);
                1
            }
            RrSet::One(..) => 0,
            RrSet::Many(many) => many.emit(start, room, out),
        }
    }

    /// Every record in key order.
    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many) = match self {
            RrSet::One(_, wire) => (Some(&**wire), None),
            RrSet::Many(many) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|many| many.records()))
    }
}

/// A set in chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Many {
    /// Never empty unless the set is. Ordered by key; no chunk is empty.
    chunks: Vec<Arc<Chunk>>,
    len: usize,
}

impl Many {
    /// The record, when there is exactly one.
    fn only(&self) -> Option<(u64, Arc<[u8]>)> {
        match (&self.chunks[..], self.len) {
            ([chunk], 1) => Some((chunk.first_key(), chunk.wire.as_slice().into())),
            _ => None,
        }
    }

    fn chunk_for(&self, key: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.first_key() <= key).saturating_sub(1)
    }

    fn insert(&mut self, key: u64, record: &[u8]) {
        if self.chunks.is_empty() {
            self.chunks.push(Arc::default());
        }
        let at = self.chunk_for(key);
        let is_last = at + 1 == self.chunks.len();
        let Some(slot) = self.chunks.get_mut(at) else { return };
        // Keys grow with time, so a full last chunk is left full and a new one begun.
        let appends = slot.members.last().is_some_and(|last| last.0 < key);
        if slot.members.len() >= CHUNK && appends && is_last {
            let mut fresh = Chunk::default();
            fresh.insert(key, record);
            self.chunks.push(Arc::new(fresh));
            self.len += 1;
            return;
        }
        let chunk = Arc::make_mut(slot);
        if chunk.insert(key, record) {
            self.len += 1;
        }
        if chunk.members.len() > CHUNK {
            let right = chunk.split_off(CHUNK / 2);
            self.chunks.insert(at + 1, Arc::new(right));
        }
    }

    fn remove(&mut self, key: u64) -> bool {
        let at = self.chunk_for(key);
        let Some(slot) = self.chunks.get_mut(at) else { return false };
        if slot.members.binary_search_by_key(&key, |m| m.0).is_err() {
            return false;
        }
        Arc::make_mut(slot).remove(key);
        self.len -= 1;
        let size = slot.members.len();
        if size == 0 {
            self.chunks.remove(at);
        } else if size < CHUNK / 4 && at + 1 < self.chunks.len() {
            // Join with the right neighbour when both fit, so that a set which shrank does not stay in crumbs.
            let next = Arc::clone(&self.chunks[at + 1]);
            if size + next.members.len() <= CHUNK {
                let chunk = Arc::make_mut(&mut self.chunks[at]);
                let base = chunk.wire.len() as u32;
                chunk.wire.extend_from_slice(&next.wire);
                chunk.members.extend(next.members.iter().map(|m| (m.0, m.1 + base)));
                self.chunks.remove(at + 1);
            }
        }
        true
    }

    fn emit(&self, start: usize, mut room: usize, out: &mut Vec<u8>) -> usize {
        let mut first = 0;
        let mut skip = if self.len == 0 { 0 } else { start % self.len };
        for (index, chunk) in self.chunks.iter().enumerate() {
            if skip < chunk.members.len() {
                first = index;
                break;
            }
            skip -= chunk.members.len();
        }
        let (before, from) = self.chunks.split_at(first);
        let head = from.iter().enumerate().map(|(i, c)| (c, if i == 0 { skip } else { 0 }, c.members.len()));
        let wrapped = before.iter().map(|c| (c, 0, c.members.len()));
        let rest = from.first().map(|c| (c, 0, skip));
        let mut written = 0;
        for (chunk, from, to) in head.chain(wrapped).chain(rest) {
            let all = chunk.slice(from, to);
            if all.len() <= room {
                out.extend_from_slice(all);
                room -= all.len();
                written += to - from;
                continue;
            }
            let limit = chunk.start_of(from) + room;
            let fits = chunk.members[from..to].partition_point(|m| m.1 as usize <= limit);
            out.extend_from_slice(chunk.slice(from, from + fits));
            return written + fits;
        }
        written
    }

    fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().flat_map(|c| (0..c.members.len()).map(|i| c.slice(i, i + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn record(key: u64) -> Vec<u8> {
        let mut r = vec![key as u8; 3 + (key % 5) as usize];
        r.extend_from_slice(&key.to_be_bytes());
        r
    }

    fn emitted(set: &RrSet, start: usize, room: usize) -> (usize, Vec<u8>) {
        let mut out = Vec::new();
        let n = set.emit(start, room, &mut out);
        (n, out)
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(ops in proptest::collection::vec((any::<bool>(), 0u64..700), 0..1500), start in 0usize..2000) {
            let mut set = RrSet::Many(Arc::default());
            let mut model = BTreeMap::new();
            for (add, key) in ops {
                if add {
                    set.insert(key, &record(key));
                    model.insert(key, record(key));
                } else {
                    prop_assert_eq!(set.remove(key), model.remove(&key).is_some());
                }
                prop_assert_eq!(set.len(), model.len());
            }
            let got: Vec<Vec<u8>> = set.records().map(<[u8]>::to_vec).collect();
            let want: Vec<Vec<u8>> = model.values().cloned().collect();
            prop_assert_eq!(&got, &want);
            match &set {
                RrSet::One(..) => prop_assert_eq!(model.len(), 1),
                RrSet::Many(many) => {
                    prop_assert_ne!(model.len(), 1);
                    prop_assert!(many.chunks.iter().all(|c| !c.members.is_empty() && c.members.len() <= CHUNK));
                }
            }
            let mut rotated = want;
            if !rotated.is_empty() {
                let by = start % rotated.len();
                rotated.rotate_left(by);
            }
            let (n, all) = emitted(&set, start, usize::MAX >> 1);
            prop_assert_eq!(n, rotated.len());
            prop_assert_eq!(&all, &rotated.concat());
            let (n, part) = emitted(&set, start, 200);
            prop_assert!(part.len() <= 200);
            prop_assert_eq!(&part, &rotated[..n].concat());
            if n < rotated.len() {
                prop_assert!(part.len() + rotated[n].len() > 200);
            }
        }
    }

    #[test]
    fn a_change_shares_the_other_chunks() {
        let mut set = Many::default();
        for key in 0..10_000 {
            set.insert(key, &record(key));
        }
        let before = set.clone();
        set.remove(5_000);
        let shared = set.chunks.iter().filter(|c| before.chunks.iter().any(|b| Arc::ptr_eq(b, c))).count();
        assert_eq!(shared + 1, set.chunks.len());
        assert_eq!((before.len, set.len), (10_000, 9_999));
        assert!(set.chunks.len() <= 10_000 / CHUNK + 1);
    }
}
