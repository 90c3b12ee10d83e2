//! What the server may look at: the fabric's reservations and the leases so far.

use std::net::{IpAddr, Ipv4Addr};

use super::lease::{ClientKey, Lease, LeaseTable};
use crate::ipam::{Ipam, Owner};
use crate::mac::Mac;

/// The address the fabric chose for a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedBinding {
    /// The address.
    pub address: Ipv4Addr,
    /// Its host name, without the domain: what the client is told (options 12 and 81), not what it says.
    pub hostname: Option<String>,
}

/// Reservations and leases of one network, as of now: everything durable, nothing else.
pub trait LeaseView {
    /// The reservation of a station.
    fn reservation(&self, mac: Mac) -> Option<ReservedBinding>;
    /// Does the address belong to the fabric (a reservation, an infrastructure address), whoever asks?
    fn is_reserved(&self, address: Ipv4Addr) -> bool;
    /// The lease record of a client.
    fn lease_of(&self, client: &ClientKey) -> Option<&Lease>;
    /// The lease record of an address.
    fn lease_at(&self, address: Ipv4Addr) -> Option<&Lease>;
    /// How many bound leases a MAC has.
    fn bound_to(&self, mac: Mac) -> usize;
    /// An address of the dynamic range for a newcomer, other than those to be skipped.
    fn free(&self, skip: &dyn Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr>;
}

/// The view over an [`Ipam`]'s network and a [`LeaseTable`].
#[derive(Debug, Clone, Copy)]
pub struct IpamView<'a, F> {
    /// The addresses.
    pub ipam: &'a Ipam,
    /// Which of its networks this is.
    pub network: &'a str,
    /// The leases of that network.
    pub leases: &'a LeaseTable,
    /// An owner's host name.
    pub hostname: F,
}

impl<F: Fn(&Owner) -> Option<String>> LeaseView for IpamView<'_, F> {
    fn reservation(&self, mac: Mac) -> Option<ReservedBinding> {
        let (owner, assignment) = self.ipam.by_mac(self.network, mac)?;
        let IpAddr::V4(address) = assignment.v4? else { return None };
        Some(ReservedBinding { address, hostname: (self.hostname)(owner) })
    }

    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.ipam.owner_of(address.into()).is_some()
    }

    fn lease_of(&self, client: &ClientKey) -> Option<&Lease> {
        self.leases.of(client)
    }

    fn lease_at(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.leases.at(address)
    }

    fn bound_to(&self, mac: Mac) -> usize {
        self.leases.bound_to(mac)
    }

    fn free(&self, skip: &dyn Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        self.leases.free(skip)
    }
}
