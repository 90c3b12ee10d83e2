//! ng_eiface(4): an interface whose wire is the graph (netgraph/ng_eiface.c).

use super::port::Port;
use super::state::HookIndex;
use crate::addr::Mac;
use crate::codec::eiface::{HOOK, IfAddrs};
use crate::errno::Errno;
use crate::name::HookName;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) struct Eiface {
    pub unit: u16,
    pub port: Arc<dyn Port>,
    pub ether: Option<HookIndex>,
    /// Whether the interface sits in another vnet than the node.
    pub child_vnet: bool,
}

impl Eiface {
    /// ng_eiface_newhook. (The EISCONN there cannot be reached: a second `ether` is EEXIST before.)
    pub fn new_hook(&self, name: &HookName) -> Result<(), Errno> {
        match (*name == HOOK, self.ether) {
            (false, _) => Err(Errno::EPFNOSUPPORT),
            (true, Some(_)) => Err(Errno::EISCONN),
            (true, None) => Ok(()),
        }
    }
}

/// Unit numbers: the lowest that is free, up to 0xffff (alloc_unr).
#[derive(Default)]
pub(super) struct Units {
    freed: BTreeSet<u16>,
    next: u32,
}

impl Units {
    pub fn take(&mut self) -> Result<u16, Errno> {
        if let Some(unit) = self.freed.pop_first() {
            return Ok(unit);
        }
        let unit = u16::try_from(self.next).map_err(|_| Errno::ENOSPC)?;
        self.next += 1;
        Ok(unit)
    }

    pub fn free(&mut self, unit: u16) {
        self.freed.insert(unit);
    }
}

/// The one address every interface has: its `struct sockaddr_dl` (net/if_dl.h, 54 bytes; IFT_ETHER is 6). Addresses of IP are
/// the business of whoever owns the interface, and are not known here.
pub(super) fn link_address(name: &str, mac: Mac) -> IfAddrs {
    let name = name.as_bytes().get(..15).unwrap_or(name.as_bytes());
    let mut address = vec![54, 18, 0, 0, 6, name.len() as u8, 6, 0];
    address.extend_from_slice(name);
    address.extend_from_slice(&mac.0);
    address.resize(54, 0);
    IfAddrs(vec![address])
}
