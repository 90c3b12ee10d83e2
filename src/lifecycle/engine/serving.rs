//! Has names and leases served on the networks that are up. Where that fails it is told and tried again: instances come up on a
//! network without names, and nothing on it finds anything.

use serde_json::json;

use super::{Effect, Engine, Timer};
use crate::host::Failure;
use crate::ids::Id;
use crate::store::Stage;

/// How long after a failure the next attempt is made.
const AGAIN: u64 = 2_000;

impl Engine {
    /// What came of [`Effect::Serve`].
    pub(super) fn served(&mut self, id: Id, result: Result<(), Failure>) {
        if self.stage(id) != Some(Stage::Ready) {
            return;
        }
        let name = self.name(id);
        match result {
            Ok(()) => {
                if self.unserved.remove(&id).is_some() {
                    self.tell("mended", json!({ "unit": id, "name": name, "text": "it is served again" }));
                }
            }
            Err(failure) => {
                let text = format!("no names are served on it, which is tried again by itself: {failure}");
                if self.unserved.insert(id, text.clone()).as_ref() != Some(&text) {
                    self.tell("drift", json!({ "unit": id, "name": name, "text": text }));
                }
                self.timer(self.now + AGAIN, Timer::Serve(id));
            }
        }
    }

    pub(super) fn serve_again(&mut self, id: Id) {
        if self.unserved.contains_key(&id) {
            self.out.effects.push(Effect::Serve(id));
        }
    }

    /// A network is served no longer.
    pub(super) fn unserve(&mut self, id: Id) {
        self.unserved.remove(&id);
        self.out.effects.push(Effect::Unserve(id));
    }
}
