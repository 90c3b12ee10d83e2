//! The store: what is committed is read back, what has ended leaves no row, a newer file is refused.

mod support;

use support::{World, declare, shop};
use warren::lifecycle::engine::Command;
use warren::store::{Record, State, Store};

/// A fold reads the same whether it comes from memory or from the file.
fn same(a: &State, b: &State) -> bool {
    a.boot == b.boot
        && a.ipam == b.ipam
        && a.networks == b.networks
        && a.instances.keys().eq(b.instances.keys())
        && a.instances.values().zip(b.instances.values()).all(|(a, b)| {
            (&a.given, &a.spec, &a.unit, a.revision, a.named, a.joined, a.assigned)
                == (&b.given, &b.spec, &b.unit, b.revision, b.named, b.joined, b.assigned)
        })
        && a.fabrics == b.fabrics
}

#[test]
fn what_is_committed_is_read_back_at_every_point_of_a_fabrics_life() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warren.db");
    let (mut store, state) = Store::open(&path).unwrap();
    assert!(same(&state, &State::default()));
    let mut world = World::new();
    let mut written = 0;
    let mut commit = |world: &World, store: &mut Store, sync: bool| {
        store.commit(world.now, &world.log[written..], &[], sync).unwrap();
        written = world.log.len();
    };
    world.ask(declare(shop())).unwrap();
    commit(&world, &mut store, true);
    // In the middle of the start, ready, and in the middle of the stop.
    for steps in [40, 2000] {
        for _ in 0..steps {
            world.step();
        }
        commit(&world, &mut store, false);
        let (_, read) = Store::open(&path).unwrap();
        assert!(same(&world.engine.state, &read), "{:#?}\n{read:#?}", world.engine.state);
    }
    assert_eq!(world.ready("shop", "web"), 2);
    world.ask(Command::Drop("shop".into())).unwrap();
    for _ in 0..15 {
        world.step();
    }
    // Where the search for a free link starts is not told by records of instances that are gone.
    assert_eq!(world.engine.state.instances.len(), 6, "none is gone yet");
    commit(&world, &mut store, false);
    let (_, read) = Store::open(&path).unwrap();
    assert!(same(&world.engine.state, &read));
    world.settle();
    commit(&world, &mut store, false);
    let (store, read) = Store::open(&path).unwrap();
    assert!(read.instances.is_empty() && read.fabrics.is_empty() && read.networks.is_empty());
    // The boot, and the history of addresses, which is made short when a daemon starts.
    let addresses = world.log.iter().filter(|r| matches!(r, Record::Address { .. })).count();
    assert_eq!(store.rows().unwrap(), 1 + addresses as u64);
}

#[test]
fn events_are_numbered_and_resumed_after_a_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warren.db");
    let (mut store, _) = Store::open(&path).unwrap();
    let told = store
        .commit(7, &[], &[serde_json::json!({"kind": "a"}), serde_json::json!({"kind": "b"})], true)
        .unwrap();
    assert_eq!(told.iter().map(|e| e.cursor).collect::<Vec<_>>(), [1, 2]);
    drop(store);
    let (mut store, _) = Store::open(&path).unwrap();
    store.commit(8, &[], &[serde_json::json!({"kind": "c"})], false).unwrap();
    let later = store.events_after(1, 10).unwrap();
    assert_eq!(
        later.iter().map(|e| (e.cursor, e.at, e.what["kind"].as_str().unwrap())).collect::<Vec<_>>(),
        [(2, 7, "b"), (3, 8, "c")]
    );
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warren.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&path).err().unwrap().to_string();
    assert!(error.contains("version 99") && error.contains("newer warren"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
