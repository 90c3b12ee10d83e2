//! How many answers one client gets over UDP: response rate limiting.
//!
//! An instance that asks without pause must not take the others' turns, and who pretends to be somebody else must not make us
//! shower that one with answers. Beyond its rate a client gets nothing, or, every so often, an empty answer with TC: who really is
//! there comes back over TCP, where a connection proves the address and limits itself. Such an answer is no longer than its
//! question.
//!
//! A table of fixed size without locks: a client's bucket is found by a hash whose key nobody outside knows, so that a place
//! shared with another is chance and cannot be aimed at.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use tokio::time::Instant;

/// Buckets. Ten thousand clients share one now and then; a bucket is wide enough for two.
const BUCKETS: usize = 1 << 14;
/// One in so many answers held back is sent empty, with TC.
const SLIP: u64 = 3;

/// What a client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Answers at once.
    pub burst: u32,
    /// Answers per second in the long run; 0: as many as it likes.
    pub per_second: u32,
}

impl Default for Rate {
    /// Far above what a busy proxy asks that keeps nothing, far below what one processor answers.
    fn default() -> Self {
        Self { burst: 8000, per_second: 4000 }
    }
}

/// What becomes of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is answered.
    Answer,
    /// It is answered with TC and nothing else.
    Slip,
    /// It is not answered.
    Drop,
}

pub(super) struct Limiter {
    /// Nanoseconds that one answer costs; 0: no limit.
    cost: u64,
    /// Nanoseconds that may be spent in advance.
    depth: u64,
    /// For each bucket the time at which it is full again (the generic cell rate algorithm), in nanoseconds since `began`.
    buckets: Box<[AtomicU64]>,
    held_back: AtomicU64,
    hasher: RandomState,
    began: Instant,
}

impl Limiter {
    pub(super) fn new(rate: Rate, began: Instant) -> Self {
        let cost = 1_000_000_000_u64.checked_div(rate.per_second.into()).unwrap_or(0);
        let count = if cost == 0 { 0 } else { BUCKETS };
        Self {
            cost,
            depth: cost.saturating_mul(rate.burst.max(1).into()),
            buckets: (0..count).map(|_| AtomicU64::new(0)).collect(),
            held_back: AtomicU64::new(0),
            hasher: RandomState::default(),
            began,
        }
    }

    /// One more answer for a client.
    pub(super) fn take(&self, client: IpAddr, now: Instant) -> Turn {
        let Some(bucket) = self.bucket(client) else { return Turn::Answer };
        let now = now.saturating_duration_since(self.began);
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let paid = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now).saturating_add(self.cost);
            (full_at - now <= self.depth).then_some(full_at)
        });
        match paid {
            Ok(_) => Turn::Answer,
            Err(_) if self.held_back.fetch_add(1, Ordering::Relaxed).is_multiple_of(SLIP) => Turn::Slip,
            Err(_) => Turn::Drop,
        }
    }

    fn bucket(&self, client: IpAddr) -> Option<&AtomicU64> {
        // A host has a whole /64 to ask from.
        let key = match client.to_canonical() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => ((v6.to_bits() >> 64) as u64) ^ (1 << 63),
        };
        let index = self.hasher.hash_one(key) as usize % self.buckets.len().max(1);
        self.buckets.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RATE: Rate = Rate { burst: 10, per_second: 5 };

    fn answered(limiter: &Limiter, client: &str, now: Instant, asked: usize) -> usize {
        let client = client.parse().unwrap();
        (0..asked).filter(|_| limiter.take(client, now) == Turn::Answer).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_the_rate_and_all_of_it_again_after_a_rest() {
        let began = Instant::now();
        let limiter = Limiter::new(RATE, began);
        assert_eq!(answered(&limiter, "10.0.0.1", began, 100), 10);
        assert_eq!(answered(&limiter, "10.0.0.2", began, 100), 10, "another client has its own");
        let later = began + Duration::from_secs(1);
        assert_eq!(answered(&limiter, "10.0.0.1", later, 100), 5);
        assert_eq!(
            answered(&limiter, "10.0.0.1", later + Duration::from_secs(2), 100),
            10,
            "burst / rate later"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn some_of_what_is_held_back_slips_through_empty() {
        let began = Instant::now();
        let limiter = Limiter::new(RATE, began);
        let turns: Vec<Turn> = (0..40).map(|_| limiter.take([10, 0, 0, 1].into(), began)).collect();
        assert_eq!(turns.iter().filter(|t| **t == Turn::Slip).count(), 10);
        assert_eq!(turns.iter().filter(|t| **t == Turn::Drop).count(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_does_not_get_more_by_asking_from_many_addresses() {
        let began = Instant::now();
        let limiter = Limiter::new(RATE, began);
        let all: usize = (0..50).map(|n| answered(&limiter, &format!("fd00::{n:x}"), began, 1)).sum();
        assert_eq!(all, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_there_is_none() {
        let began = Instant::now();
        let limiter = Limiter::new(Rate { burst: 1, per_second: 0 }, began);
        assert_eq!(answered(&limiter, "10.0.0.1", began, 100_000), 100_000);
    }
}
