//! A number of places, of which one client may hold only so many: one instance must not take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// Only clients that hold something, so this is never larger than the total.
    by_client: HashMap<IpAddr, usize>,
}

/// The places.
#[derive(Debug)]
pub(crate) struct Quota {
    total: usize,
    per_client: usize,
    held: Mutex<Held>,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    quota: Arc<Quota>,
    client: IpAddr,
}

impl Quota {
    pub(crate) fn new(total: usize, per_client: usize) -> Arc<Quota> {
        Arc::new(Quota { total, per_client, held: Mutex::default() })
    }

    /// A place for `client`, unless all, or all of this client's, are taken.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.total >= self.total || held.by_client.get(&client).is_some_and(|n| *n >= self.per_client) {
            return None;
        }
        held.total += 1;
        *held.by_client.entry(client).or_default() += 1;
        Some(Place { quota: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.quota.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total = held.total.saturating_sub(1);
        if let Some(count) = held.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let quota = Quota::new(3, 2);
        let [a, b]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|t| t.parse().unwrap());
        let first = quota.take(a).unwrap();
        let _second = quota.take(a).unwrap();
        assert!(quota.take(a).is_none(), "its own limit");
        let other = quota.take(b).unwrap();
        assert!(quota.take(b).is_none(), "the limit of all");
        drop(first);
        let third = quota.take(a).unwrap();
        drop((third, other));
        assert_eq!(quota.held.lock().unwrap().by_client.len(), 1);
    }
}
