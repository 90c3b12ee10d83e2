//! ng_bridge(4): links, the table of stations, and what becomes of a frame (netgraph/ng_bridge.c).

use super::state::{HookData, HookIndex, Kind, Slot, State};
use super::walk::{Item, Walk};
use crate::addr::Mac;
use crate::codec::bridge::{
    ClearStats, Config, GetClearStats, GetStats, Host, LinkNumber, LinkStats, MoveHost, SetConfig, Table,
};
use crate::codec::{Message, Payload};
use crate::errno::Errno;
use crate::name::HookName;
use crate::sys;
use hashbrown::{HashMap, HashSet};

/// Stations a table holds. The kernel has no such bound and goes on until memory ends; here a flood of invented addresses ends
/// as memory failures of its link.
const HOSTS_MAX: usize = 1 << 17;

pub(super) struct Bridge {
    pub config: Config,
    pub hosts: HashMap<Mac, Entry>,
    pub persistent: bool,
    /// Whether new `linkN` get frames for unknown stations: until the first hook of an empty bridge is an uplink.
    send_unknown: bool,
}

/// A station in the table.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub link: HookIndex,
    pub age: u16,
    pub staleness: u16,
}

/// What a bridge keeps of a link.
#[derive(Default)]
pub(super) struct Link {
    pub stats: LinkStats,
    /// Seconds for which it stays mute.
    pub loop_count: u16,
    learn: bool,
    send_unknown: bool,
    /// Its stations, so that a link can go without a walk through the table.
    macs: HashSet<Mac>,
}

impl Bridge {
    pub fn new() -> Bridge {
        Bridge { config: Config::default(), hosts: HashMap::new(), persistent: false, send_unknown: true }
    }

    /// ng_bridge_newhook.
    pub fn new_link(&mut self, name: &HookName, links: usize, to_itself: bool) -> Result<Link, Errno> {
        let number = LinkNumber::parse(name.as_bytes()).ok_or(Errno::EINVAL)?;
        if to_itself {
            return Err(Errno::ELOOP);
        }
        Ok(match number {
            LinkNumber::Uplink(_) => {
                if links == 0 {
                    self.send_unknown = false;
                }
                Link { learn: false, send_unknown: true, ..Link::default() }
            }
            LinkNumber::Link(_) => Link { learn: true, send_unknown: self.send_unknown, ..Link::default() },
        })
    }

    /// Forgets the stations of a link that is gone.
    pub fn forget(&mut self, link: &Link) {
        for mac in &link.macs {
            self.hosts.remove(mac);
        }
    }
}

/// The name that a new hook gets: the lowest free number behind a bare `link` or `uplink` (ng_bridge_newhook of 14 and later).
pub(super) fn numbered(name: HookName, taken: impl Fn(&HookName) -> bool) -> HookName {
    let numbers: fn(u32) -> LinkNumber = match name.as_bytes() {
        b"link" => LinkNumber::Link,
        b"uplink" => |n| LinkNumber::Uplink(n + 1),
        _ => return name,
    };
    (0..u32::MAX).map(|n| numbers(n).hook()).find(|hook| !taken(hook)).unwrap_or(name)
}

impl State {
    fn bridge(&mut self, slot: Slot) -> Result<&mut Bridge, Errno> {
        match self.nodes.get_mut(slot).map(|node| &mut node.kind) {
            Some(Kind::Bridge(bridge)) => Ok(bridge),
            _ => Err(Errno::EINVAL),
        }
    }

    fn link(&mut self, hook: HookIndex) -> Option<&mut Link> {
        match self.hooks.get_mut(hook).map(|hook| &mut hook.data) {
            Some(HookData::Link(link)) => Some(link),
            _ => None,
        }
    }

    /// ng_bridge_rcvmsg: the reply's payload, if there is one.
    pub fn bridge_message(
        &mut self,
        slot: Slot,
        message: &Message<'_>,
        last: Option<HookIndex>,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let invalid = |_| Errno::EINVAL;
        let number = |from_wire: Result<LinkNumber, _>| {
            from_wire.map_err(|_: crate::codec::DecodeError| Errno::EINVAL)
        };
        match message.header.command {
            sys::NGM_BRIDGE_GET_CONFIG => Ok(Some(self.bridge(slot)?.config.to_bytes())),
            sys::NGM_BRIDGE_SET_CONFIG => {
                self.bridge(slot)?.config = SetConfig::from_bytes(message.data).map_err(invalid)?.0;
                Ok(None)
            }
            sys::NGM_BRIDGE_RESET => self.bridge_reset(slot).map(|()| None),
            sys::NGM_BRIDGE_GET_STATS => {
                let link = number(GetStats::from_bytes(message.data).map(GetStats::link))?;
                self.link_stats(slot, link, false).map(|stats| Some(stats.to_bytes()))
            }
            sys::NGM_BRIDGE_CLR_STATS => {
                let link = number(ClearStats::from_bytes(message.data).map(ClearStats::link))?;
                self.link_stats(slot, link, true).map(|_| None)
            }
            sys::NGM_BRIDGE_GETCLR_STATS => {
                let link = number(GetClearStats::from_bytes(message.data).map(GetClearStats::link))?;
                self.link_stats(slot, link, true).map(|stats| Some(stats.to_bytes()))
            }
            sys::NGM_BRIDGE_GET_TABLE => Ok(Some(self.bridge_table(slot)?.to_bytes())),
            sys::NGM_BRIDGE_SET_PERSISTENT => {
                self.bridge(slot)?.persistent = true;
                Ok(None)
            }
            sys::NGM_BRIDGE_MOVE_HOST => {
                // More than the structure is taken too.
                let args = message.data.get(..size_of::<sys::ng_bridge_move_host>()).ok_or(Errno::EINVAL)?;
                let MoveHost { mac, hook } = MoveHost::from_bytes(args).map_err(invalid)?;
                let link = if hook.is_empty() { last } else { self.find_hook(slot, &hook) };
                self.bridge_put(slot, mac, link.ok_or(Errno::ENOENT)?)?;
                Ok(None)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn bridge_reset(&mut self, slot: Slot) -> Result<(), Errno> {
        self.bridge(slot)?.hosts.clear();
        let links: Vec<_> = self.nodes.get(slot).ok_or(Errno::EINVAL)?.hooks.values().copied().collect();
        for hook in links {
            if let Some(link) = self.link(hook) {
                link.macs.clear();
                link.loop_count = 0;
                link.stats = LinkStats::default();
            }
        }
        Ok(())
    }

    fn link_stats(&mut self, slot: Slot, number: LinkNumber, clear: bool) -> Result<LinkStats, Errno> {
        let hook = self.find_hook(slot, &number.hook()).ok_or(Errno::ENOTCONN)?;
        let link = self.link(hook).ok_or(Errno::ENOTCONN)?;
        let stats = link.stats;
        if clear {
            link.stats = LinkStats::default();
        }
        Ok(stats)
    }

    pub fn bridge_table(&self, slot: Slot) -> Result<Table, Errno> {
        let Some(Kind::Bridge(bridge)) = self.nodes.get(slot).map(|node| &node.kind) else {
            return Err(Errno::EINVAL);
        };
        let host = |(mac, entry): (&Mac, &Entry)| {
            let hook = self.hooks.get(entry.link).map(|hook| hook.name)?;
            Some(Host { mac: *mac, hook, age: entry.age, staleness: entry.staleness })
        };
        Ok(Table(bridge.hosts.iter().filter_map(host).collect()))
    }

    /// Puts a station on a link (ng_bridge_put). ELOOP if it is on another one and younger than `min_stable_age`: then this link
    /// is muted for `loop_timeout` and loses its stations.
    fn bridge_put(&mut self, slot: Slot, mac: Mac, link: HookIndex) -> Result<(), Errno> {
        let bridge = self.bridge(slot)?;
        let config = bridge.config;
        let full = bridge.hosts.len() >= HOSTS_MAX;
        let old = match bridge.hosts.get_mut(&mac) {
            Some(entry) if entry.link == link => return Ok(()),
            Some(entry) if u32::from(entry.age) >= config.min_stable_age => {
                entry.age = 0;
                Some(std::mem::replace(&mut entry.link, link))
            }
            Some(_) => {
                let lost = match self.link(link) {
                    Some(link) => {
                        // The kernel's field has 16 bits.
                        link.loop_count = config.loop_timeout as u16;
                        link.stats.loop_detects += 1;
                        std::mem::take(&mut link.macs)
                    }
                    None => return Err(Errno::ENOENT),
                };
                let bridge = self.bridge(slot)?;
                for mac in &lost {
                    bridge.hosts.remove(mac);
                }
                return Err(Errno::ELOOP);
            }
            None if full => return Err(Errno::ENOMEM),
            None => {
                bridge.hosts.insert(mac, Entry { link, age: 0, staleness: 0 });
                None
            }
        };
        if let Some(old) = old.and_then(|old| self.link(old)) {
            old.macs.remove(&mac);
        }
        if let Some(link) = self.link(link) {
            link.macs.insert(mac);
        }
        Ok(())
    }

    /// ng_bridge_rcvdata: a frame came in by a link.
    pub fn bridge_frame(&mut self, walk: &mut Walk<'_>, item: Item) {
        let frame = walk.bytes(item);
        let Some(hook) = self.hooks.get_mut(item.hook) else { return };
        let (slot, HookData::Link(link)) = (hook.node, &mut hook.data) else { return };
        let (Some(destination), Some(source)) = (mac_at(frame, 0), mac_at(frame, 6)) else {
            link.stats.recv_runts += 1;
            return;
        };
        if frame.len() < 14 {
            link.stats.recv_runts += 1;
            return;
        }
        if source.is_multicast() {
            link.stats.recv_invalid += 1;
            return;
        }
        if link.loop_count != 0 {
            link.stats.loop_drops += 1;
            return;
        }
        let octets = frame.len() as u64;
        link.stats.recv_packets += 1;
        link.stats.recv_octets += octets;
        let cast = Cast::of(destination);
        match cast {
            Cast::Unicast => {}
            Cast::Multicast => link.stats.recv_multicasts += 1,
            Cast::Broadcast => link.stats.recv_broadcasts += 1,
        }
        let learns = link.learn;

        let Some(node) = self.nodes.get_mut(slot) else { return };
        let Kind::Bridge(bridge) = &mut node.kind else { return };
        let (mut learn, mut drop_it) = (false, false);
        match bridge.hosts.get_mut(&source) {
            Some(entry) => {
                entry.staleness = 0;
                if entry.link != item.hook {
                    learn = true;
                    drop_it = u32::from(entry.age) < bridge.config.min_stable_age;
                }
            }
            None => learn = learns,
        }
        let known = match cast {
            Cast::Unicast if !drop_it => bridge.hosts.get(&destination).map(|entry| entry.link),
            _ => None,
        };
        if drop_it {
            link.stats.loop_drops += 1;
        } else if let Some(to) = known {
            if to != item.hook {
                send_link(&mut self.hooks, walk, item, to, cast, octets);
            }
        } else {
            if cast == Cast::Unicast {
                link.stats.recv_unknown += 1;
            }
            for to in node.hooks.values().copied() {
                let wanted = match self.hooks.get(to).map(|hook| &hook.data) {
                    Some(HookData::Link(link)) => cast != Cast::Unicast || link.send_unknown,
                    _ => false,
                };
                if to != item.hook && wanted {
                    send_link(&mut self.hooks, walk, item, to, cast, octets);
                }
            }
        }
        // The kernel's message to itself, which is handled when the frame is through.
        if learn {
            let impaired = walk.child_vnet && self.options.release.learning_fails_in_vnets();
            let failed = impaired || self.bridge_put(slot, source, item.hook) == Err(Errno::ENOMEM);
            if let (true, Some(link)) = (failed, self.link(item.hook)) {
                link.stats.memory_failures += 1;
            }
        }
    }

    /// So many of the kernel's one-second timers at once (ng_bridge_timeout).
    pub fn bridge_tick(&mut self, slot: Slot, seconds: u32) {
        let Ok(bridge) = self.bridge(slot) else { return };
        let max = bridge.config.max_staleness;
        let mut gone = Vec::new();
        for (mac, entry) in &mut bridge.hosts {
            // Beyond 16 bits the staleness wraps before it can reach the limit.
            if max <= 0xffff && u32::from(entry.staleness).saturating_add(seconds) >= max {
                gone.push((*mac, entry.link));
                continue;
            }
            entry.staleness = entry.staleness.wrapping_add(seconds as u16);
            entry.age = entry.age.saturating_add(u16::try_from(seconds).unwrap_or(u16::MAX));
        }
        for (mac, _) in &gone {
            bridge.hosts.remove(mac);
        }
        for (mac, hook) in gone {
            if let Some(link) = self.link(hook) {
                link.macs.remove(&mac);
            }
        }
        let links: Vec<_> =
            self.nodes.get(slot).map(|node| node.hooks.values().copied().collect()).unwrap_or_default();
        for hook in links {
            if let Some(link) = self.link(hook) {
                link.loop_count = link.loop_count.saturating_sub(u16::try_from(seconds).unwrap_or(u16::MAX));
            }
        }
    }
}

/// To how many stations a frame goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cast {
    Unicast,
    Multicast,
    Broadcast,
}

impl Cast {
    fn of(destination: Mac) -> Cast {
        match destination {
            Mac::BROADCAST => Cast::Broadcast,
            mac if mac.is_multicast() => Cast::Multicast,
            _ => Cast::Unicast,
        }
    }
}

fn mac_at(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..)?.first_chunk().map(|mac| Mac(*mac))
}

/// ng_bridge_send_data: counts a frame as sent by a link and sends it.
fn send_link(
    hooks: &mut slab::Slab<super::state::Hook>,
    walk: &mut Walk<'_>,
    item: Item,
    to: HookIndex,
    cast: Cast,
    octets: u64,
) {
    let Some(hook) = hooks.get_mut(to) else { return };
    if let HookData::Link(link) = &mut hook.data {
        link.stats.xmit_packets += 1;
        link.stats.xmit_octets += octets;
        match cast {
            Cast::Unicast => {}
            Cast::Multicast => link.stats.xmit_multicasts += 1,
            Cast::Broadcast => link.stats.xmit_broadcasts += 1,
        }
    }
    walk.push(item, hook.peer);
}
