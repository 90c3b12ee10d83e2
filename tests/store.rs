//! The store: what is committed is read back, what has ended leaves no row; older files are migrated, newer ones refused; copies are
//! whole and can be put back.

mod support;

use std::path::{Path, PathBuf};

use support::{World, declare, shop};
use warren::lifecycle::engine::Command;
use warren::store::{Record, Stage, State, Store, VERSION, backup};

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
        .commit(7_u64, &[], &[serde_json::json!({"kind": "a"}), serde_json::json!({"kind": "b"})], true)
        .unwrap();
    assert_eq!(told.iter().map(|e| e.cursor).collect::<Vec<_>>(), [1, 2]);
    drop(store);
    let (mut store, _) = Store::open(&path).unwrap();
    store.commit(8_u64, &[], &[serde_json::json!({"kind": "c"})], false).unwrap();
    let later = store.events_after(1, 10).unwrap();
    assert_eq!(
        later.iter().map(|e| (e.cursor, e.at, e.what["kind"].as_str().unwrap())).collect::<Vec<_>>(),
        [(2, 7, "b"), (3, 8, "c")]
    );
}

#[test]
fn a_store_of_a_newer_version_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warren.db");
    drop(Store::open(&path).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    db.pragma_update(None, "journal_mode", "DELETE").unwrap();
    db.execute("UPDATE meta SET value = '7.0.1' WHERE key = 'written_by'", []).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&path).err().unwrap().to_string();
    assert!(error.contains("version 99 (of warren 7.0.1)") && error.contains("newer warren"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// What a file's tables, indexes and views are made by.
fn layout(path: &Path) -> Vec<(String, String)> {
    let db = rusqlite::Connection::open(path).unwrap();
    let mut query = db.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name").unwrap();
    let words = |sql: String| {
        let lines: Vec<&str> = sql.lines().map(|l| l.split("--").next().unwrap_or_default()).collect();
        lines.join(" ").split_whitespace().collect::<String>()
    };
    let rows = query.query_map([], |r| Ok((r.get(0)?, words(r.get(1)?)))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn version(path: &Path) -> i64 {
    rusqlite::Connection::open(path).unwrap().query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap()
}

/// A store of an older version, from the text that is kept of it.
fn older(dir: &Path, version: i64) -> PathBuf {
    let path = dir.join("warren.db");
    let text = format!("{}/tests/store/v{version}.sql", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    rusqlite::Connection::open(&path).unwrap().execute_batch(&text).unwrap();
    path
}

#[test]
fn a_store_of_each_older_version_is_migrated_and_kept() {
    let new = tempfile::tempdir().unwrap();
    let fresh = new.path().join("warren.db");
    drop(Store::open(&fresh).unwrap());
    for from in 1..VERSION {
        let dir = tempfile::tempdir().unwrap();
        let path = older(dir.path(), from);
        let (store, state) = Store::open(&path).unwrap();
        // What the fixture's daemon knew: examples/shop.toml, all ready.
        let shop = &state.fabrics["shop"];
        assert_eq!(shop.services.keys().collect::<Vec<_>>(), ["api", "db", "web"], "version {from}");
        assert_eq!((state.instances.len(), state.networks.len()), (6, 1));
        assert!(state.instances.values().all(|i| i.unit.stage == Stage::Ready && i.named && i.assigned));
        assert!(!store.events_after(0, 10).unwrap().is_empty());
        store.close().unwrap();
        assert_eq!(version(&path), VERSION);
        assert_eq!(layout(&path), layout(&fresh), "a migrated file is a new one");
        let kept = dir.path().join(format!("warren.db.v{from}"));
        assert_eq!(version(&kept), from);
        if from == 2 {
            let api = &shop.services["api"];
            assert_eq!((api.failures, api.trouble.as_deref()), (2, Some("two")));
            assert_eq!((shop.spec.services["web"].replicas, shop.services["web"].failures), (2, 1));
        }
        // Once is enough.
        std::fs::remove_file(&kept).unwrap();
        let (_, again) = Store::open(&path).unwrap();
        assert!(same(&state, &again) && !kept.exists());
    }
}

#[test]
fn the_file_is_its_owners_alone_whatever_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warren.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (mut store, _) = Store::open(&path).unwrap();
    store.commit(1_u64, &[Record::Boot { id: "b".into() }], &[], false).unwrap();
    backup::copy(&path, &dir.path().join("copy")).unwrap();
    for file in ["warren.db", "warren.db-wal", "warren.db-shm", "copy"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

/// A commit of two facts that belong together.
fn pair(failures: u32) -> [Record; 2] {
    let (fabric, text) = ("shop".to_owned(), "t".to_owned());
    [
        Record::Trouble {
            fabric: fabric.clone(),
            service: "web".into(),
            failures,
            not_before: 0,
            halted: false,
            text: Some(text.clone()),
        },
        Record::NetworkTrouble { fabric, network: "net".into(), failures, not_before: 0, text },
    ]
}

#[test]
fn copies_made_while_it_is_written_are_each_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("warren.db");
    let (mut store, _) = Store::open(&path).unwrap();
    store
        .commit(
            1_u64,
            &[Record::Fabric {
                spec: Box::new(shop()),
                revision: 1,
                revisions: [("web".to_owned(), 1)].into(),
            }],
            &[],
            true,
        )
        .unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0_u64;
            while !stop.load(relaxed) {
                n += 1;
                store
                    .commit(n, &pair(n as u32), &[serde_json::json!({ "kind": n })], n.is_multiple_of(7))
                    .unwrap();
            }
            n
        });
        let mut last = 0;
        for n in 0..12 {
            let copy = dir.path().join(format!("copy{n}"));
            backup::copy(&path, &copy).unwrap();
            assert!(backup::copy(&path, &copy).is_err(), "what is there is not written over");
            let contents = backup::examine(&copy, &dir.path().join("scratch")).unwrap();
            assert_eq!((contents.version, contents.fabrics.as_slice()), (VERSION, &["shop".to_owned()][..]));
            let (_, state) = Store::open(&copy).unwrap();
            let shop = &state.fabrics["shop"];
            let of_network = shop.network_trouble.get("net").map_or(0, |(failures, ..)| *failures);
            assert_eq!(shop.services["web"].failures, of_network, "half a commit was copied");
            assert!(of_network >= last, "an older moment than the copy before");
            last = of_network;
        }
        stop.store(true, relaxed);
        assert!(writer.join().unwrap() >= u64::from(last) && last > 0);
    });
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_str().unwrap().starts_with("scratch")), "{left:?}");
}

#[test]
fn a_backup_is_put_back_and_what_was_there_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let path = older(dir.path(), 1);
    std::fs::rename(&path, at("backup")).unwrap();
    let (mut store, _) = Store::open(&path).unwrap();
    let events = vec![serde_json::json!({ "kind": "declared" }); 1500];
    store.commit(1_u64, &[Record::Boot { id: "later".into() }], &events, true).unwrap();
    let seen = store.cursor();
    // The daemon died: its log is still beside the file.
    std::fs::copy(at("warren.db-wal"), at("wal")).unwrap();
    std::fs::copy(at("warren.db"), at("db")).unwrap();
    drop(store);
    std::fs::rename(at("wal"), at("warren.db-wal")).unwrap();
    std::fs::rename(at("db"), at("warren.db")).unwrap();

    let before = std::fs::read(at("backup")).unwrap();
    let (contents, replaced) = backup::restore(&at("backup"), &path, 77).unwrap();
    assert_eq!((contents.version, contents.instances, contents.networks), (1, 6, 1));
    assert_eq!(std::fs::read(at("backup")).unwrap(), before, "the backup itself stays as it is");
    let (store, state) = Store::open(&path).unwrap();
    assert_eq!(state.instances.len(), 6);
    let news = store.events_after(seen, 9).unwrap();
    let [told] = news.as_slice() else { panic!("who resumes after {seen} sees {news:?}") };
    assert_eq!((told.cursor, told.at, &told.what["kind"]), (seen + 1, 77, &"restored".into()));
    drop(store);
    assert_eq!(state.boot.as_deref(), Some("restored from a backup"), "no machine has this boot id");
    let (_, old) = Store::open(&replaced.unwrap()).unwrap();
    assert_eq!(old.boot.as_deref(), Some("later"), "the log of the replaced store was taken in");
    let mut left: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .flatten()
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    left.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
    left.sort();
    assert_eq!(left, ["backup", "warren.db", "warren.db.replaced"]);
}

#[test]
fn what_is_no_whole_store_is_not_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    drop(Store::open(&at("warren.db")).unwrap().0.close());
    let good = {
        let other = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&older(other.path(), 1)).unwrap();
        store.close().unwrap();
        std::fs::read(other.path().join("warren.db")).unwrap()
    };
    let before = std::fs::read(at("warren.db")).unwrap();
    let changed = |change: &dyn Fn(&rusqlite::Connection)| {
        std::fs::write(at("tmp"), &good).unwrap();
        change(&rusqlite::Connection::open(at("tmp")).unwrap());
        std::fs::read(at("tmp")).unwrap()
    };
    let mut torn = good.clone();
    let middle = torn.len() / 2;
    torn[middle..middle + 3000].fill(0xa5);
    for (what, bytes, said) in [
        ("empty", vec![], "no store of Warren's"),
        ("text", b"this is no database at all, but a text of some length ".repeat(40), "not a database"),
        ("cut", good[..good.len() / 2].to_vec(), "damaged"),
        ("torn", torn, "damaged"),
        ("another program's", changed(&|db| db.pragma_update(None, "user_version", 0).unwrap()), "no store"),
        ("newer", changed(&|db| db.pragma_update(None, "user_version", 50).unwrap()), "version 50"),
        (
            "a record that is none",
            changed(&|db| {
                db.execute("UPDATE log SET body = '{\"record\":\"x\"}' WHERE seq = 2", []).unwrap();
            }),
            "record 2",
        ),
    ] {
        std::fs::write(at("backup"), bytes).unwrap();
        let error = backup::restore(&at("backup"), &at("warren.db"), 77).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("backup"), "{what}: {error}");
        assert_eq!(std::fs::read(at("warren.db")).unwrap(), before, "{what}");
        assert!(!at("warren.db.restoring").exists() && !at("warren.db.replaced").exists(), "{what}");
    }
}

/// A store that is written as the daemon writes it, beside a world.
struct Written {
    store: Store,
    path: PathBuf,
    written: usize,
    most: u64,
}

impl Written {
    fn new(dir: &Path) -> Self {
        let path = dir.join("warren.db");
        Self { store: Store::open(&path).unwrap().0, path, written: 0, most: 0 }
    }

    fn commit(&mut self, world: &World) {
        self.store.commit(world.now, &world.log[self.written..], &[], false).unwrap();
        self.store.shorten(world.now, &world.engine.state).unwrap();
        self.written = world.log.len();
        self.most = self.most.max(self.store.rows().unwrap());
    }

    fn read(&self) -> State {
        Store::open(&self.path).unwrap().1
    }
}

/// One service of one instance that is started again for ever, and whose health check fails a few times whenever `ill` says so.
fn crashing(ill: &std::sync::Arc<std::sync::atomic::AtomicBool>) -> World {
    use warren::config::spec::{CommandLine, Health, Probe, RestartPolicy};
    use warren::host::{Status, sim::Behaviour};
    let mut web = support::service("web", 1, &[]);
    (web.restart.policy, web.restart.retries) = (RestartPolicy::Always, None);
    web.restart.backoff_max = web.restart.backoff;
    web.health = Some(Health {
        probe: Probe::Command { command: CommandLine::Shell("true".into()) },
        interval: std::time::Duration::from_secs(1),
        timeout: std::time::Duration::from_secs(1),
        failures: 1,
        grace: std::time::Duration::from_secs(3600),
    });
    let mut world = World::new();
    let ill = std::sync::Arc::clone(ill);
    world.sim.script(move |job| match job.id.ends_with(".main") {
        true => Behaviour::Runs,
        false if job.id.contains(".probe.") && ill.load(std::sync::atomic::Ordering::Relaxed) => {
            Behaviour::Ends(Status::Exited(1))
        }
        false => Behaviour::Ends(Status::Exited(0)),
    });
    world.ask(declare(support::fabric(vec![web]))).unwrap();
    world.settle();
    assert_eq!(world.ready("shop", "web"), 1);
    world
}

#[test]
fn a_thousand_crashes_and_a_thousand_flaps_leave_a_short_history() {
    use std::sync::atomic::Ordering::Relaxed;
    let dir = tempfile::tempdir().unwrap();
    let ill = std::sync::Arc::default();
    let mut world = crashing(&ill);
    let mut written = Written::new(dir.path());
    written.commit(&world);
    let id = |world: &World| *world.engine.state.instances.keys().next().unwrap();
    for round in 0..1000 {
        let old = id(&world);
        world.sim.end(&format!("{old}.main"), warren::host::Status::Exited(1));
        world.settle_until(std::time::Duration::from_secs(600), |world| {
            !world.engine.state.instances.contains_key(&old) && world.ready("shop", "web") == 1
        });
        // Declared and scaled again, as people do.
        if round % 10 == 0 {
            let spec = world.engine.state.fabrics["shop"].spec.clone();
            world.ask(Command::Declare(Box::new(spec))).unwrap();
            world.ask(Command::Scale { fabric: "shop".into(), service: "web".into(), replicas: 1 }).unwrap();
        }
        written.commit(&world);
        if round % 200 == 0 {
            assert!(same(&world.engine.state, &written.read()), "round {round}");
        }
    }
    let crashes = written.most;
    // The address books may have a thousand, and the lives of two instances and a network.
    assert!(crashes < 1500, "{crashes} rows after a thousand crashes");
    let unit = id(&world);
    for round in 0..1000 {
        for sick in [true, false] {
            ill.store(sick, Relaxed);
            world.settle_until(std::time::Duration::from_secs(600), |world| {
                (world.ready("shop", "web") == 0) == sick
                    && !matches!(
                        world.engine.state.instances[&unit].unit.stage,
                        Stage::Leaving | Stage::Joining
                    )
            });
            written.commit(&world);
        }
        if round % 200 == 0 {
            assert!(same(&world.engine.state, &written.read()), "round {round}");
        }
    }
    assert!(written.most < 1800, "{} rows after a thousand flaps", written.most);
    assert!(same(&world.engine.state, &written.read()));
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle_within(std::time::Duration::from_secs(60));
    written.commit(&world);
    assert_eq!(written.store.rows().unwrap(), 1, "the boot's");
}
