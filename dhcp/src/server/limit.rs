//! Token buckets per MAC, in a table of bounded size.
//!
//! A full bucket says no more than no bucket, so those are dropped first and the table holds only MACs that spoke
//! lately. If it is full even so, newcomers share one bucket: a flood from invented MACs slows other newcomers down,
//! not those already known.

use std::collections::{BTreeMap, BTreeSet};

use crate::mac::Mac;

#[derive(Debug, Clone)]
pub(super) struct RateLimit {
    /// Milliseconds a token takes to come back.
    token_ms: u64,
    /// Milliseconds an empty bucket takes to fill.
    fill_ms: u64,
    capacity: usize,
    buckets: BTreeMap<Mac, Bucket>,
    /// Orders buckets by the time at which they are full, and so forgettable.
    by_full: BTreeSet<(u64, Mac)>,
    shared: Bucket,
}

/// A bucket as the moment it will be full again (the generic cell rate algorithm's "theoretical arrival time").
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    full_at: u64,
    reported: bool,
}

/// Whether a message may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// The first refused since one passed: worth a line in the log.
    Refuse,
    /// Refused again.
    RefuseSilently,
}

impl RateLimit {
    pub(super) fn new(burst: u32, per_second: u32, capacity: usize) -> Self {
        Self::with_token(burst.into(), (1000 / u64::from(per_second.max(1))).max(1), capacity)
    }

    /// One token comes back every `token_ms` milliseconds.
    pub(super) fn with_token(burst: u64, token_ms: u64, capacity: usize) -> Self {
        RateLimit {
            token_ms,
            fill_ms: token_ms.saturating_mul(burst.max(1)),
            capacity,
            buckets: BTreeMap::new(),
            by_full: BTreeSet::new(),
            shared: Bucket::default(),
        }
    }

    pub(super) fn take(&mut self, mac: Mac, now: u64) -> Verdict {
        while let Some(&(full_at, old)) = self.by_full.first()
            && full_at <= now
        {
            self.by_full.remove(&(full_at, old));
            self.buckets.remove(&old);
        }
        let known = self.buckets.get(&mac).copied();
        if known.is_none() && self.buckets.len() >= self.capacity {
            return take_from(&mut self.shared, now, self.token_ms, self.fill_ms);
        }
        let mut bucket = known.unwrap_or_default();
        self.by_full.remove(&(bucket.full_at, mac));
        let verdict = take_from(&mut bucket, now, self.token_ms, self.fill_ms);
        self.by_full.insert((bucket.full_at, mac));
        self.buckets.insert(mac, bucket);
        verdict
    }
}

fn take_from(bucket: &mut Bucket, now: u64, token_ms: u64, fill_ms: u64) -> Verdict {
    // A clock set back must not lock anyone out for longer than a whole bucket takes.
    bucket.full_at = bucket.full_at.clamp(now, now.saturating_add(fill_ms));
    let full_at = bucket.full_at.saturating_add(token_ms);
    if full_at > now.saturating_add(fill_ms) {
        let first = !std::mem::replace(&mut bucket.reported, true);
        return if first { Verdict::Refuse } else { Verdict::RefuseSilently };
    }
    *bucket = Bucket { full_at, reported: false };
    Verdict::Pass
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u64) -> Mac {
        Mac::local_from(n)
    }

    #[test]
    fn a_burst_then_the_steady_rate() {
        let mut limit = RateLimit::new(3, 10, 8);
        let mut take = |now| limit.take(mac(1), now);
        assert_eq!([take(0), take(0), take(0)], [Verdict::Pass; 3]);
        assert_eq!(
            [take(0), take(1), take(99)],
            [Verdict::Refuse, Verdict::RefuseSilently, Verdict::RefuseSilently]
        );
        assert_eq!([take(100), take(100)], [Verdict::Pass, Verdict::Refuse]);
        assert_eq!([take(1000), take(1000), take(1000)], [Verdict::Pass; 3]);
        // The clock goes back an hour: whoever was there is slowed, not shut out.
        assert_eq!(take(0), Verdict::Refuse);
        assert_eq!(take(300), Verdict::Pass);
    }

    #[test]
    fn a_flood_of_macs_is_bounded_and_spares_the_known() {
        let mut limit = RateLimit::new(2, 1, 100);
        assert_eq!(limit.take(mac(0), 0), Verdict::Pass);
        let passed = (1..100_000).filter(|n| limit.take(mac(*n), 0) == Verdict::Pass).count();
        assert_eq!(passed, 99 + 2, "99 have a bucket, the others share one");
        assert!(limit.buckets.len() == 100 && limit.by_full.len() == 100);
        assert_eq!(limit.take(mac(0), 0), Verdict::Pass);
        // Once their buckets are full again they are forgotten.
        assert_eq!(limit.take(mac(7), 10_000), Verdict::Pass);
        assert_eq!((limit.buckets.len(), limit.by_full.len()), (1, 1));
    }
}
