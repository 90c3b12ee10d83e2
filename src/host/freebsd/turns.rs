//! Turns: of all that goes by one name, one at a time.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

static TAKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static GIVEN_BACK: Condvar = Condvar::new();

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub struct Turn(String);

impl Turn {
    /// Waits for it, at most so long.
    ///
    /// # Errors
    /// `ETIMEDOUT`.
    pub fn take(name: String, bound: Duration) -> io::Result<Self> {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = GIVEN_BACK.wait_timeout_while(taken, bound, |taken| taken.contains(&name));
        let (mut taken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        taken.insert(name.clone());
        Ok(Self(name))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        GIVEN_BACK.notify_all();
    }
}
