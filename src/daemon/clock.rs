//! The daemon's time: the one place where the time of day comes in.
//!
//! The engine counts in milliseconds since the epoch, but a deadline must not depend on what somebody does to the machine's clock: set
//! forward it would end every start that is under way, set back it would make a service wait for a day. So time goes on by the
//! monotonic clock from what the time of day was when the daemon started, and never begins before what an earlier daemon
//! wrote down last. For people ([`wall`]) it is what the machine's clock says now.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

struct Clock {
    at: u64,
    began: Instant,
}

static CLOCK: OnceLock<Clock> = OnceLock::new();

impl Clock {
    fn new(wall: u64, floor: u64) -> Self {
        Self { at: wall.max(floor), began: Instant::now() }
    }

    fn after(&self, elapsed: Duration) -> u64 {
        self.at.saturating_add(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Starts the daemon's time, not before `floor`. Only the first call counts.
pub fn begin(floor: u64) {
    let clock = CLOCK.get_or_init(|| Clock::new(wall(), floor));
    if clock.at > wall() {
        let ahead = Duration::from_millis(clock.at - wall());
        tracing::warn!(
            ?ahead,
            "the machine's clock was set back since the store was written; deadlines go by the store's time"
        );
    }
}

/// The daemon's time, in milliseconds since the epoch.
#[must_use]
pub fn now() -> u64 {
    let clock = CLOCK.get_or_init(|| Clock::new(wall(), 0));
    clock.after(clock.began.elapsed())
}

/// What the machine's clock says, in milliseconds since the epoch.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the one place where the time of day comes in")]
pub fn wall() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_begins_where_the_store_ended_and_goes_on_by_itself() {
        assert_eq!(Clock::new(5000, 0).after(Duration::from_millis(7)), 5007);
        assert_eq!(Clock::new(5000, 9000).after(Duration::from_millis(7)), 9007, "the clock was set back");
        assert_eq!(Clock::new(5000, 9000).after(Duration::MAX), u64::MAX);
    }
}
