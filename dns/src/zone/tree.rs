//! The tree of names: one persistent map from wire name to node, shared by all zones of a snapshot.
//!
//! A name exists when it has records, is pinned (a declared service), or has a name below it: the last makes the
//! empty non-terminals of RFC 8020, which answer NODATA and not NXDOMAIN. Each node counts its children, so
//! adding or removing a record touches the name and as many ancestors as appear or vanish with it.

use smallvec::SmallVec;

use super::rrset::RrSet;
use super::trie::Trie;
use crate::name::{Name, parent};

/// One name.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Which zone it is in.
    pub(crate) zone: u32,
    /// Where the zone's apex begins in this name's wire form; 0 at the apex itself.
    pub(crate) apex_at: u8,
    children: u32,
    pinned: bool,
    /// By type. Most names have one or two, which stay with the node.
    sets: SmallVec<[(u16, RrSet); 2]>,
}

impl Node {
    fn new(zone: u32, apex_at: u8) -> Node {
        Node { zone, apex_at, children: 0, pinned: false, sets: SmallVec::new() }
    }

    pub(crate) fn is_apex(&self) -> bool {
        self.apex_at == 0
    }

    pub(crate) fn set(&self, rtype: u16) -> Option<&RrSet> {
        self.sets.iter().find(|s| s.0 == rtype).map(|s| &s.1)
    }

    pub(crate) fn sets(&self) -> impl Iterator<Item = (u16, &RrSet)> {
        self.sets.iter().map(|s| (s.0, &s.1))
    }

    fn is_needed(&self) -> bool {
        self.is_apex() || self.pinned || self.children > 0 || !self.sets.is_empty()
    }
}

/// All names of all zones. Cloning is O(1).
#[derive(Clone)]
pub(crate) struct Tree {
    nodes: Trie<Node>,
}

impl Tree {
    pub(crate) fn new() -> Tree {
        Tree { nodes: Trie::new() }
    }

    pub(crate) fn get(&self, wire: &[u8]) -> Option<&Node> {
        self.nodes.get(wire)
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter()
    }

    /// The closest existing ancestor of a name that does not exist: its offset in `wire`, and the node.
    pub(crate) fn encloser(&self, wire: &[u8]) -> Option<(usize, &Node)> {
        let mut rest = wire;
        while let Some(up) = parent(rest) {
            if let Some(node) = self.nodes.get(up) {
                return Some((wire.len() - up.len(), node));
            }
            rest = up;
        }
        None
    }

    /// Makes `name` the top of a zone (or of one of its reverse zones).
    pub(crate) fn add_apex(&mut self, name: &Name, zone: u32) {
        self.nodes.insert(name.wire(), Node::new(zone, 0));
    }

    /// Takes an apex away. Whatever is below must be gone; that is the caller's order of work.
    pub(crate) fn remove_apex(&mut self, name: &Name) {
        self.nodes.remove(name.wire());
    }

    /// Puts a record under `key`, replacing what was there. Nothing happens outside every zone.
    pub(crate) fn insert(&mut self, name: &Name, rtype: u16, key: u64, record: &[u8]) {
        self.ensure(name.wire());
        self.nodes.update(name.wire(), |node| match node.sets.iter_mut().find(|s| s.0 == rtype) {
            Some((_, set)) => set.insert(key, record),
            None => node.sets.push((rtype, RrSet::new(key, record))),
        });
    }

    /// Takes a record out, and the names that existed for it only.
    pub(crate) fn remove(&mut self, name: &Name, rtype: u16, key: u64) {
        let found = self.nodes.update(name.wire(), |node| {
            if let Some((_, set)) = node.sets.iter_mut().find(|s| s.0 == rtype) {
                set.remove(key);
            }
            node.sets.retain(|(_, set)| set.len() > 0);
        });
        if found {
            self.prune(name.wire());
        }
    }

    /// Keeps a name in existence without records, or no longer.
    pub(crate) fn pin(&mut self, name: &Name, pinned: bool) {
        if pinned {
            self.ensure(name.wire());
        }
        if self.nodes.update(name.wire(), |node| node.pinned = pinned) {
            self.prune(name.wire());
        }
    }

    /// Makes the name exist, and so what is between it and its zone.
    fn ensure(&mut self, name: &[u8]) {
        if self.nodes.get(name).is_some() {
            return;
        }
        let Some((at, above)) = self.encloser(name) else { return };
        let (mut apex_at, zone) = (at + usize::from(above.apex_at), above.zone);
        // From the new name upwards: each missing one is made with one child, the first existing counts one more.
        let mut wire = name;
        let mut children = 0;
        while !self.nodes.update(wire, |existing| existing.children += 1) {
            self.nodes.insert(wire, Node { children, ..Node::new(zone, apex_at as u8) });
            children = 1;
            let Some(up) = parent(wire) else { return };
            apex_at -= wire.len() - up.len();
            wire = up;
        }
    }

    fn prune(&mut self, mut wire: &[u8]) {
        while self.nodes.get(wire).is_some_and(|node| !node.is_needed()) {
            self.nodes.remove(wire);
            let Some(up) = parent(wire) else { return };
            self.nodes.update(up, |above| above.children = above.children.saturating_sub(1));
            wire = up;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::host(text).unwrap()
    }

    #[test]
    fn empty_non_terminals_come_and_go() {
        let mut tree = Tree::new();
        tree.add_apex(&name("z"), 7);
        tree.insert(&name("a.b.c.z"), 1, 1, b"x");
        tree.insert(&name("d.b.c.z"), 1, 2, b"x");
        assert_eq!(tree.len(), 5);
        assert!(tree.get(name("b.c.z").wire()).unwrap().set(1).is_none());
        assert_eq!(tree.get(name("a.b.c.z").wire()).unwrap().apex_at, 6);
        assert_eq!(tree.get(name("c.z").wire()).unwrap().apex_at, 2);
        let (at, node) = tree.encloser(name("q.r.b.c.z").wire()).unwrap();
        assert_eq!((at, node.zone, node.apex_at), (4, 7, 4));
        assert!(tree.encloser(name("q.y").wire()).is_none());
        tree.remove(&name("a.b.c.z"), 1, 1);
        assert_eq!(tree.len(), 4);
        tree.pin(&name("b.c.z"), true);
        tree.remove(&name("d.b.c.z"), 1, 2);
        assert_eq!(tree.len(), 3);
        tree.pin(&name("b.c.z"), false);
        assert_eq!(tree.len(), 1);
        tree.insert(&name("elsewhere"), 1, 1, b"x");
        assert_eq!(tree.len(), 1);
    }
}
