//! What the rules of each anchor were when they were loaded, so that a change by somebody else is seen.
//!
//! Kept in memory: a daemon loads every anchor anew when it starts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By place: an anchor, and what tells apart those of one name.
static LOADED: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());

fn loaded() -> MutexGuard<'static, BTreeMap<String, Vec<u8>>> {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers what was read back after a load.
pub fn remember(place: &str, rules: Vec<u8>) {
    loaded().insert(place.to_owned(), rules);
}

/// The anchor goes.
pub fn forget(place: &str) {
    loaded().remove(place);
}

/// Whether these are other rules than were loaded. Of those that were not loaded by this process nothing is known.
pub fn differs(place: &str, rules: &[u8]) -> bool {
    loaded().get(place).is_some_and(|loaded| loaded != rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_loaded_can_differ() {
        let place = "warren/of-this-test";
        assert!(!differs(place, b"pass"));
        remember(place, b"pass".to_vec());
        assert!(!differs(place, b"pass"));
        assert!(differs(place, b"pass quick"));
        forget(place);
        assert!(!differs(place, b"pass quick"));
    }
}
