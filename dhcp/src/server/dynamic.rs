//! Offers of dynamic addresses that wait for their REQUEST, or for the silence that follows an ARP probe.
//!
//! Nothing is stored for an offer (RFC 2131 §3.1: the server need not reserve it), but two clients offered the same
//! address would be one too many. The table is bounded, overall and per MAC, and forgets by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::lease::ClientKey;
use crate::mac::Mac;

/// How long an offer is held for its client: dhclient's and dhcpcd's patience with one offer, and some.
pub(super) const OFFER_HOLD_MS: u64 = 60_000;

/// An address promised for a while.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) address: Ipv4Addr,
    /// When it is forgotten or, while probing, sent.
    at: u64,
    /// The frame that waits for the probe's silence.
    probing: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub(super) struct Offers {
    by_client: BTreeMap<ClientKey, Offer>,
    by_address: BTreeMap<Ipv4Addr, ClientKey>,
    by_time: BTreeSet<(u64, ClientKey)>,
    capacity: usize,
}

impl Offers {
    pub(super) fn new(capacity: usize) -> Self {
        Offers { by_client: BTreeMap::new(), by_address: BTreeMap::new(), by_time: BTreeSet::new(), capacity }
    }

    pub(super) fn of(&self, client: &ClientKey) -> Option<&Offer> {
        self.by_client.get(client)
    }

    pub(super) fn holder(&self, address: Ipv4Addr) -> Option<&ClientKey> {
        self.by_address.get(&address)
    }

    pub(super) fn count_of(&self, mac: Mac) -> usize {
        self.by_client.range(ClientKey { mac, client_id: None }..).take_while(|(k, _)| k.mac == mac).count()
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_client.len() >= self.capacity
    }

    /// Holds an address for a client; replaces what was held for it. With a frame, it is sent after `probe_ms`
    /// without a conflict.
    pub(super) fn hold(
        &mut self,
        client: &ClientKey,
        address: Ipv4Addr,
        now: u64,
        probing: Option<(u64, Vec<u8>)>,
    ) {
        self.forget(client);
        let at = now.saturating_add(probing.as_ref().map_or(OFFER_HOLD_MS, |(wait, _)| *wait));
        self.by_time.insert((at, client.clone()));
        self.by_address.insert(address, client.clone());
        self.by_client
            .insert(client.clone(), Offer { address, at, probing: probing.map(|(_, frame)| frame) });
    }

    pub(super) fn forget(&mut self, client: &ClientKey) -> Option<Offer> {
        let offer = self.by_client.remove(client)?;
        self.by_time.remove(&(offer.at, client.clone()));
        self.by_address.remove(&offer.address);
        Some(offer)
    }

    /// What is due: offers whose probe met silence, with their frames. Old ones are forgotten.
    pub(super) fn due(&mut self, now: u64) -> Vec<(Mac, Ipv4Addr, Vec<u8>)> {
        let mut ready = Vec::new();
        while let Some((at, client)) = self.by_time.first().cloned()
            && at <= now
        {
            if let Some(Offer { address, probing: Some(frame), .. }) = self.forget(&client) {
                ready.push((client.mac, address, frame));
                self.hold(&client, address, now, None);
            }
        }
        ready
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }

    pub(super) fn is_probing(&self, client: &ClientKey) -> bool {
        self.of(client).is_some_and(|o| o.probing.is_some())
    }
}
