//! Removes the logs of instances that have been gone for long: a fabric whose instances come and go would fill the disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::driver::Handle;
use crate::ids::Id;
use crate::keeper::logs;

/// How often. A burst may leave more logs than are kept until then.
const EVERY: Duration = Duration::from_secs(600);

/// Sweeps at once and from time to time, until the daemon ends.
pub(super) async fn run(state_dir: PathBuf, handle: Handle) {
    loop {
        let dir = state_dir.clone();
        let listed = tokio::task::spawn_blocking(move || logs::list(&dir)).await;
        match listed {
            Ok(Ok(all)) => {
                // Asked after the list was made: an instance is written down before its log is begun.
                let gone = handle.query(move |engine, _| {
                    let there = |name: &str| {
                        name.parse::<Id>().is_ok_and(|id| engine.state.instances.contains_key(&id))
                    };
                    all.into_iter().filter(|(name, _)| !there(name)).collect::<Vec<_>>()
                });
                let Ok(gone) = gone.await else { return };
                let dir = state_dir.clone();
                let _ = tokio::task::spawn_blocking(move || remove(&dir, &gone)).await;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the logs of instances that are gone could not be listed")
            }
            Err(_) => return,
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn remove(state_dir: &Path, gone: &[(String, SystemTime)]) {
    for name in logs::expired(gone, SystemTime::now()) {
        if let Err(error) = logs::remove(state_dir, name) {
            tracing::warn!(%error, name, "the log of an instance that is gone could not be removed");
        }
    }
}
