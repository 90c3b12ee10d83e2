//! Addresses of shared-IP jails on interfaces of the host. Which of them are ours is noted before they are added: one that was there
//! before stays, also when nobody knows any more how the adding ended.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;

use super::notes::Notes;
use super::stack::Stack;
use crate::host::Failure;
use crate::host::failure::Context;

/// Those that were added, by interface.
pub struct Aliases {
    notes: Notes,
    /// Between reading a note and writing it.
    changing: Mutex<()>,
}

/// What is noted of an interface.
type Ours = BTreeSet<IpNet>;

impl Aliases {
    /// With the notes there are.
    pub fn new(notes: Notes) -> Self {
        Self { notes, changing: Mutex::new(()) }
    }

    fn change(&self, interface: &str, change: impl FnOnce(&mut Ours)) -> Result<(), Failure> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ours: Ours = self.notes.get(interface)?.unwrap_or_default();
        change(&mut ours);
        if ours.is_empty() { self.notes.drop(interface) } else { self.notes.put(interface, ours) }
    }

    /// Adds addresses; gives those that were not there before. What is added of them when one cannot be, the removal takes away.
    pub fn add(&self, interface: &str, addresses: &[IpNet]) -> Result<Vec<IpNet>, Failure> {
        let what = || format!("add addresses to {interface}");
        let host = Stack::host().doing(what)?;
        let there: BTreeSet<IpAddr> = (host.interfaces().doing(what)?.into_iter())
            .filter(|(name, _)| name == interface)
            .flat_map(|(_, addresses)| addresses)
            .collect();
        let new: Vec<IpNet> =
            addresses.iter().filter(|address| !there.contains(&address.addr())).copied().collect();
        self.take(interface, &new)?;
        new.iter().try_for_each(|address| host.add(interface, *address)).doing(what)?;
        Ok(new)
    }

    /// Notes addresses that are there as ours.
    pub fn take(&self, interface: &str, addresses: &[IpNet]) -> Result<(), Failure> {
        self.change(interface, |ours| ours.extend(addresses))
    }

    /// Removes those of the addresses that are ours. Neither they nor the interface need be there.
    pub fn remove(&self, interface: &str, addresses: &[IpNet]) -> Result<(), Failure> {
        let what = || format!("remove addresses from {interface}");
        let ours: Ours = self.notes.get(interface)?.unwrap_or_default();
        let host = Stack::host().doing(what)?;
        let gone: Vec<&IpNet> = addresses.iter().filter(|address| ours.contains(address)).collect();
        gone.iter().try_for_each(|address| host.remove(interface, address.addr())).doing(what)?;
        self.change(interface, |ours| ours.retain(|address| !gone.contains(&address)))
    }
}
