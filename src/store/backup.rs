//! Copies of the store: taken while it is written, and put back.
//!
//! A copy is one file without a log beside it, made by `VACUUM INTO`: it reads one snapshot, keeps no writer waiting, and does not
//! begin anew when something is written meanwhile, as SQLite's backup interface does.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use super::db::{Stamp, Store, StoreError};
use super::record::Record;
use super::schema::{VERSION, kept_path};

/// The boot id of a store that was put back: no machine has it, so that the next daemon takes nothing for running.
const RESTORED: &str = "restored from a backup";

/// What is in a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The file's version, before it was brought to today's.
    pub version: i64,
    /// The fabrics it knows.
    pub fabrics: Vec<String>,
    /// How many instances.
    pub instances: usize,
    /// How many networks.
    pub networks: usize,
}

fn file_error<'a>(path: &'a Path, doing: &'static str) -> impl Fn(std::io::Error) -> StoreError + 'a {
    move |error| StoreError::File { path: path.display().to_string(), doing, error }
}

fn sqlite_error(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    |error| StoreError::Sqlite { path: path.display().to_string(), error }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", path.display()))
}

/// Copies a store, be it in use or not, to a new file for its owner alone. It is on disk on return; after an error it is not there.
///
/// # Errors
/// When the store cannot be read, or the new file is there already or cannot be written.
pub fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let target = to.to_str().ok_or_else(|| {
        file_error(to, "writing")(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "the path is not UTF-8",
        ))
    })?;
    let made = File::options().create_new(true).write(true).mode(0o600).open(to);
    let file = made.map_err(file_error(to, "writing"))?;
    // SQLITE_OPEN_CREATE is left out: a store that is not there is not made by being copied.
    let copied = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|db| db.execute("VACUUM INTO ?1", [target]))
        .map_err(sqlite_error(from))
        .and_then(|_| file.sync_all().map_err(file_error(to, "writing")));
    if copied.is_err() {
        let _ = std::fs::remove_file(to);
    }
    copied
}

/// The same over a file that may be there: that one or the new one, at any time.
pub(super) fn copy_over(from: &Path, to: &Path) -> Result<(), StoreError> {
    let new = beside(to, ".new");
    let _ = std::fs::remove_file(&new);
    copy(from, &new)?;
    into_place(&new, to)
}

/// Renames a file that is on disk, and has the name on disk, too.
fn into_place(new: &Path, place: &Path) -> Result<(), StoreError> {
    let renamed = std::fs::rename(new, place).and_then(|()| {
        let dir = place.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    });
    renamed.map_err(file_error(place, "replacing"))
}

/// Removes a file that was looked at, and what SQLite and a migration put beside it.
fn remove(scratch: &Path) {
    for end in ["", "-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(beside(scratch, end));
    }
    for version in 1..VERSION {
        let _ = std::fs::remove_file(kept_path(scratch, version));
    }
}

/// What is in a backup, if it is a whole store of a version this Warren reads. A copy at `scratch` is looked at, and removed.
///
/// # Errors
/// When it is not.
pub fn examine(backup: &Path, scratch: &Path) -> Result<Contents, StoreError> {
    let looked = look_at(backup, scratch).map(|(contents, _)| contents);
    remove(scratch);
    looked
}

/// Looks whether a file is a store, whole, and of a version this Warren reads. The file is not changed: a copy is looked at, at
/// `scratch`, which is then today's version of it.
fn look_at(backup: &Path, scratch: &Path) -> Result<(Contents, Store), StoreError> {
    remove(scratch);
    // Whoever's rights the backup has: the copy is the owner's alone.
    let mut from = File::open(backup).map_err(file_error(backup, "reading"))?;
    let to = File::options().create_new(true).write(true).mode(0o600).open(scratch);
    let mut to = to.map_err(file_error(scratch, "writing"))?;
    std::io::copy(&mut from, &mut to).map_err(file_error(scratch, "writing"))?;
    drop(to);
    let damaged = |what: String| StoreError::Damaged { path: backup.display().to_string(), what };
    let version = {
        let db = Connection::open(scratch).map_err(sqlite_error(backup))?;
        let whole: String = db
            .query_row("PRAGMA integrity_check(1)", [], |r| r.get(0))
            .map_err(|error| damaged(error.to_string()))?;
        if whole != "ok" {
            return Err(damaged(whole));
        }
        let version: i64 =
            db.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(sqlite_error(backup))?;
        if version == 0 {
            return Err(damaged("it is no store of Warren's".into()));
        }
        version
    };
    let (store, state) = Store::open(scratch).map_err(|error| match error {
        StoreError::Newer { found, writer, .. } => {
            StoreError::Newer { path: backup.display().to_string(), found, writer }
        }
        StoreError::Record { seq, error, .. } => damaged(format!("record {seq} does not read back: {error}")),
        other => other,
    })?;
    let contents = Contents {
        version,
        fabrics: state.fabrics.keys().cloned().collect(),
        instances: state.instances.len(),
        networks: state.networks.len(),
    };
    Ok((contents, store))
}

/// The cursor of a store's last event; 0 of one that is not there or cannot be read, for which a restore is the remedy.
fn last_cursor(place: &Path) -> i64 {
    Connection::open_with_flags(place, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|db| db.query_row("SELECT coalesce(max(cursor), 0) FROM event", [], |r| r.get(0)))
        .unwrap_or(0)
}

/// Puts a backup in the store's place. No daemon may run, and nothing of Warren's on the machine: the next daemon goes by what
/// the backup says is wanted and takes nothing for running. The store that was there stays beside it; its path is returned.
/// An event says so, with a cursor above the other store's: who resumes after one of those sees it and what comes. `wall` is its time.
///
/// # Errors
/// When the backup is no whole store, or is newer than this Warren; then nothing was changed. Or when a file cannot be written.
pub fn restore(backup: &Path, place: &Path, wall: u64) -> Result<(Contents, Option<PathBuf>), StoreError> {
    let new = beside(place, ".restoring");
    let prepared = look_at(backup, &new).and_then(|(contents, mut store)| {
        store.cursor_above(last_cursor(place));
        let event = serde_json::json!({ "kind": "restored" });
        let at = Stamp { engine: 0, wall };
        store.commit(at, &[Record::Boot { id: RESTORED.into() }], &[event], true)?;
        store.close()?;
        Ok(contents)
    });
    let contents = prepared.inspect_err(|_| remove(&new))?;
    // What a migration of the copy kept is the backup itself.
    for version in 1..VERSION {
        let _ = std::fs::remove_file(kept_path(&new, version));
    }
    let replaced = beside(place, ".replaced");
    let had = place.exists();
    if had {
        // With its log taken in, the old one is one file. One that SQLite cannot read is kept as it is.
        if copy_over(place, &replaced).is_err() {
            std::fs::copy(place, &replaced).map_err(file_error(&replaced, "writing"))?;
        }
        // Nobody has it open, so the log can be taken in; a log left behind would be taken for the new file's.
        drop(Connection::open(place).and_then(|db| db.pragma_update(None, "journal_mode", "DELETE")));
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(beside(place, end));
        }
    }
    into_place(&new, place)?;
    Ok((contents, had.then_some(replaced)))
}
