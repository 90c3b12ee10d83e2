//! The store's real file, cut back: a daemon that opens it finds a commit's end, and none before the last synced one.

use std::path::Path;

use warren::host::sim::Sim;
use warren::lifecycle::engine::Command;
use warren::store::{Record, Store};

use crate::scenario::everything;
use crate::support::{World, compact, declare};

/// A frame of the WAL: its header and a page of 4 KiB (sqlite.org, "Database File Format", section 4).
const FRAME: u64 = 24 + 4096;
const WAL_HEADER: u64 = 32;
/// SQLite moves the WAL into the file after 1000 pages; the test ends before, so that a length is a place.
const LONGEST: u64 = WAL_HEADER + 900 * FRAME;

fn wal(path: &Path) -> std::path::PathBuf {
    path.with_extension("db-wal")
}

/// The records in a file.
fn records(path: &Path) -> Vec<String> {
    let (store, _) = Store::open(path).unwrap();
    drop(store);
    let db = rusqlite::Connection::open(path).unwrap();
    let mut query = db.prepare("SELECT body FROM log ORDER BY seq").unwrap();
    let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn texts(log: &[Record]) -> Vec<String> {
    compact(log).iter().map(|record| serde_json::to_value(record).unwrap().to_string()).collect()
}

#[test]
fn a_torn_commit_is_no_commit_and_what_was_synced_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warren.db");
    let (mut store, _) = Store::open(&path).unwrap();
    let mut world = World::on(Sim::new(), 8);
    let mut commits: Vec<(usize, u64, bool)> = Vec::new();
    let mut written = 0;
    let mut commit = |world: &World, store: &mut Store| {
        let sync = world.synced == world.log.len();
        if world.log.len() > written {
            store.commit(world.now, &world.log[written..], &[], sync).unwrap();
            written = world.log.len();
            commits.push((written, std::fs::metadata(wal(&path)).unwrap().len(), sync));
        }
        std::fs::metadata(wal(&path)).unwrap().len() < LONGEST
    };
    commit(&world, &mut store);
    world.ask(declare(everything())).unwrap();
    while commit(&world, &mut store) && world.step() {}
    if commit(&world, &mut store) {
        world.ask(Command::Drop("shop".into())).unwrap();
        while commit(&world, &mut store) && world.step() {}
    }
    let whole = std::fs::read(wal(&path)).unwrap();
    let file = std::fs::read(&path).unwrap();
    assert!(commits.len() > 50, "{}", commits.len());
    let expected: Vec<Vec<String>> = commits.iter().map(|(at, _, _)| texts(&world.log[..*at])).collect();
    let mut cuts = 0;
    let mut torn = 0;
    for frame in 0..(whole.len() as u64 - WAL_HEADER) / FRAME {
        // At the frame's end, in its middle, and with its page full of what was there before.
        let end = WAL_HEADER + (frame + 1) * FRAME;
        for (length, junk) in [(end, 0), (end - 2000, 0), (end, 3000)] {
            let copy = dir.path().join("cut.db");
            for old in ["cut.db-wal", "cut.db-shm"] {
                let _ = std::fs::remove_file(dir.path().join(old));
            }
            std::fs::write(&copy, &file).unwrap();
            let mut cut = whole[..length as usize].to_vec();
            let from = cut.len() - junk;
            cut[from..].fill(0xa5);
            std::fs::write(wal(&copy), &cut).unwrap();
            let intact = if junk > 0 || length < end { end - FRAME } else { length };
            let last = commits.iter().rposition(|(_, length, _)| *length <= intact);
            let found = records(&copy);
            match last {
                Some(last) => assert_eq!(found, expected[last], "cut at {length}"),
                None => assert!(found.is_empty(), "cut at {length}"),
            }
            torn += usize::from(!commits.iter().any(|(_, at, _)| *at == length) || junk > 0);
            cuts += 1;
        }
    }
    let synced = commits.iter().filter(|(_, _, sync)| *sync).count();
    println!(
        "torn store: {} commits ({synced} synced), {cuts} cuts of the WAL, {torn} inside a commit",
        commits.len()
    );
}
