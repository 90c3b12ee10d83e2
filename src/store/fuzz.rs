//! Any bytes as a store: what the fuzz targets and their replay drive.

use std::path::Path;

use super::{Record, State, Store};
use crate::lifecycle::engine::{Engine, Event, Settings};

/// Entry point for fuzzing: each line a record, folded in the order given; an engine then takes the fold up, as a daemon does
/// at its start. A record that says nothing sensible may change nothing, and never ends the daemon.
///
/// # Panics
/// When the fold depends on more than its records.
pub fn records(data: &[u8]) {
    let records: Vec<Record> =
        data.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let fold = || {
        let mut state = State::default();
        records.iter().for_each(|record| state.apply(record));
        state
    };
    let state = fold();
    assert_eq!(state, fold(), "the fold is a function of its records");
    let settings = Settings { roots: "/roots".into(), program: "/program".into(), jobs: 4 };
    let mut engine = Engine::new(state, settings);
    let out = engine.recover("boot", 1_000_000, 7);
    for record in &out.records {
        let text = serde_json::to_string(record).unwrap_or_default();
        assert_eq!(
            serde_json::from_str::<Record>(&text).ok().as_ref(),
            Some(record),
            "what is written reads back"
        );
    }
    for second in 1..4 {
        let _ = engine.handle(Event::Tick, 1_000_000 + second * 60_000, second);
    }
}

/// Entry point for fuzzing: these bytes as the store's file, at a path of the caller's. It opens, or says why not.
pub fn file(data: &[u8], path: &Path) {
    if std::fs::write(path, data).is_err() {
        return;
    }
    if let Ok((mut store, _)) = Store::open(path) {
        let _ = store.events_after(0, 10);
        let _ = store.rows();
        let _ = store.commit(1_u64, &[Record::Boot { id: "b".into() }], &[serde_json::json!({})], false);
    }
}
