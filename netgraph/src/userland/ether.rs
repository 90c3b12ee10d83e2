//! ng_ether(4): the node of a real interface, between its wire and the machine's stack (netgraph/ng_ether.c).

use super::port::Port;
use super::state::HookIndex;
use crate::addr::Mac;
use crate::errno::Errno;
use crate::name::HookName;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) struct Ether {
    pub ifname: String,
    pub ifindex: u32,
    /// The wire.
    pub wire: Arc<dyn Port>,
    /// The machine's stack above it.
    pub stack: Arc<dyn Port>,
    pub lower: Option<HookIndex>,
    pub upper: Option<HookIndex>,
    orphans: Option<HookIndex>,
    pub promisc: bool,
    pub autosrc: bool,
    pub mac: Mac,
    pub groups: BTreeSet<Mac>,
}

/// The hooks there are; `divert` is another name of the first.
enum Which {
    Lower,
    Upper,
    Orphans,
}

fn which(name: &HookName) -> Option<Which> {
    match name.as_bytes() {
        b"lower" | b"divert" => Some(Which::Lower),
        b"upper" => Some(Which::Upper),
        b"orphans" => Some(Which::Orphans),
        _ => None,
    }
}

impl Ether {
    pub fn new(ifname: &str, ifindex: u32, mac: Mac, wire: Arc<dyn Port>, stack: Arc<dyn Port>) -> Ether {
        Ether {
            ifname: ifname.to_owned(),
            ifindex,
            wire,
            stack,
            lower: None,
            upper: None,
            orphans: None,
            promisc: false,
            autosrc: false,
            mac,
            groups: BTreeSet::new(),
        }
    }

    fn place(&mut self, which: Which) -> &mut Option<HookIndex> {
        match which {
            Which::Lower => &mut self.lower,
            Which::Upper => &mut self.upper,
            Which::Orphans => &mut self.orphans,
        }
    }

    /// ng_ether_newhook.
    pub fn new_hook(&mut self, name: &HookName) -> Result<(), Errno> {
        let which = which(name).ok_or(Errno::EINVAL)?;
        if self.place(which).is_some() { Err(Errno::EISCONN) } else { Ok(()) }
    }

    pub fn connected(&mut self, name: &HookName, hook: HookIndex) {
        if let Some(which) = which(name) {
            *self.place(which) = Some(hook);
        }
    }

    pub fn disconnected(&mut self, hook: HookIndex) {
        for place in [&mut self.lower, &mut self.upper, &mut self.orphans] {
            if *place == Some(hook) {
                *place = None;
            }
        }
    }
}
