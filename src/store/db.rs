//! The file: records in SQLite, in WAL mode, read back into the fold at start.
//!
//! Every commit survives the death of the process. A commit with `sync` is on disk when it returns and survives the loss
//! of power as well (DESIGN.md, "Durability"): the WAL is synced for those alone. The file can be read with sqlite3(1);
//! the views `units` and `addresses` say the most asked.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, params};
use serde_json::Value;
use warren_dhcp::ipam::Change as AddressChange;

use super::record::{RELEASE, Record, Scope};
use super::schema::{self, VERSION};
use super::state::State;
use crate::ids::Id;

/// After how many rows the history of a unit is made short: more than a start and a stop take.
const UNIT_ROWS: usize = 256;
/// After how many rows the history of the address books is made short, if they are twice what they were when it last was.
const ADDRESS_ROWS: usize = 1000;
/// How many events are kept for `warren events --since`.
const EVENTS_KEPT: i64 = 10_000;

/// The store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite said no.
    #[error("the store {path}: {error}")]
    Sqlite {
        /// The file.
        path: String,
        /// What SQLite said.
        error: rusqlite::Error,
    },
    /// A newer Warren wrote the file.
    #[error(
        "the store {path} has version {found}{}, this warren reads versions up to {VERSION}: run the newer warren, or restore a backup",
        .writer.as_ref().map(|v| format!(" (of warren {v})")).unwrap_or_default()
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
        /// The Warren that wrote it, if it says so.
        writer: Option<String>,
    },
    /// A file could not be written, read or put in its place.
    #[error("{doing} {path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is no whole store.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// What SQLite found.
        what: String,
    },
    /// A record could not be read.
    #[error("the store {path} holds a record that does not read back, number {seq}: {error}")]
    Record {
        /// The file.
        path: String,
        /// The record.
        seq: i64,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

/// An event, as `warren events` prints it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// The cursor to resume after.
    pub cursor: i64,
    /// When, milliseconds since the epoch.
    pub at: u64,
    /// What: `kind`, and what the kind has.
    #[serde(flatten)]
    pub what: Value,
}

/// When something is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// In the engine's time, which deadlines are in: of records.
    pub engine: u64,
    /// By the machine's clock, for people: of events.
    pub wall: u64,
}

impl From<u64> for Stamp {
    /// A moment at which both agree.
    fn from(at: u64) -> Self {
        Self { engine: at, wall: at }
    }
}

/// An open store.
pub struct Store {
    db: Connection,
    path: String,
    cursor: i64,
    lengths: Lengths,
}

/// How long the histories are that grow for ever.
#[derive(Debug, Default)]
struct Lengths {
    units: HashMap<Id, usize>,
    addresses: usize,
    /// As many as there were when they were last made short.
    short: usize,
    /// Whether a network left the books: nothing of it is to stay.
    network_gone: bool,
}

impl Lengths {
    fn note(&mut self, record: &Record) {
        match (record, record.scope()) {
            (Record::Address { change }, _) => {
                self.addresses += 1;
                self.network_gone |= matches!(change, AddressChange::NetworkRemoved { .. });
            }
            (_, Scope::Unit(id)) if record.ends_scope() => drop(self.units.remove(&id)),
            (_, Scope::Unit(id)) => *self.units.entry(id).or_default() += 1,
            _ => {}
        }
    }
}

impl Store {
    /// Opens or makes the store and folds what it holds. An older file is brought to today's version; what it was stays beside it.
    ///
    /// # Errors
    /// When the file cannot be opened, is from a newer version, or holds something that is not a record.
    pub fn open(path: &Path) -> Result<(Self, State), StoreError> {
        let name = path.display().to_string();
        let sqlite = |error| StoreError::Sqlite { path: name.clone(), error };
        private(path)?;
        let mut db = Connection::open(path).map_err(sqlite)?;
        schema::prepare(&mut db, path)?;
        let cursor =
            db.query_row("SELECT coalesce(max(cursor), 0) FROM event", [], |r| r.get(0)).map_err(sqlite)?;
        let mut store = Self { db, path: name, cursor, lengths: Lengths::default() };
        let state = store.fold()?;
        Ok((store, state))
    }

    fn sqlite(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        |error| StoreError::Sqlite { path: self.path.clone(), error }
    }

    fn fold(&mut self) -> Result<State, StoreError> {
        let Self { db, path, lengths, .. } = self;
        let sqlite = |error| StoreError::Sqlite { path: path.clone(), error };
        let mut state = State::default();
        let mut query = db.prepare("SELECT seq, body FROM log ORDER BY seq").map_err(sqlite)?;
        let mut rows = query.query([]).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            let (seq, body): (i64, String) =
                row.get(0).and_then(|seq| Ok((seq, row.get(1)?))).map_err(sqlite)?;
            let record: Record = serde_json::from_str(&body).map_err(|error| StoreError::Record {
                path: path.clone(),
                seq,
                error,
            })?;
            state.apply(&record);
            lengths.note(&record);
        }
        state.complete();
        Ok(state)
    }

    /// Commits records and events in one transaction. With `sync` it is on disk on return.
    ///
    /// # Errors
    /// When SQLite cannot write, a full disk for one; nothing of it is committed then.
    pub fn commit(
        &mut self,
        at: impl Into<Stamp>,
        records: &[Record],
        events: &[Value],
        sync: bool,
    ) -> Result<Vec<Event>, StoreError> {
        let Stamp { engine, wall } = at.into();
        let path = self.path.clone();
        let sqlite = |error| StoreError::Sqlite { path: path.clone(), error };
        self.db.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" }).map_err(sqlite)?;
        let mut cursor = self.cursor;
        let made = (|| {
            let tx = self.db.transaction()?;
            for record in records {
                write(&tx, engine, record)?;
            }
            let mut made = Vec::with_capacity(events.len());
            for what in events {
                cursor += 1;
                tx.prepare_cached("INSERT INTO event (cursor, at, body) VALUES (?1, ?2, ?3)")?
                    .execute(params![cursor, wall.cast_signed(), what.to_string()])?;
                made.push(Event { cursor, at: wall, what: what.clone() });
            }
            if cursor / 1000 != self.cursor / 1000 {
                tx.execute("DELETE FROM event WHERE cursor <= ?1", [cursor - EVENTS_KEPT])?;
            }
            tx.commit()?;
            Ok(made)
        })()
        .map_err(sqlite)?;
        self.cursor = cursor;
        records.iter().for_each(|record| self.lengths.note(record));
        Ok(made)
    }

    /// Makes short what has grown long. `state` is the fold of everything committed, and stays the fold of what is left.
    ///
    /// # Errors
    /// When SQLite cannot write; the long history says the same.
    pub fn shorten(&mut self, at: u64, state: &State) -> Result<(), StoreError> {
        let Lengths { units, addresses, short, network_gone } = &self.lengths;
        let long: Vec<Id> = units.iter().filter(|(_, rows)| **rows >= UNIT_ROWS).map(|(id, _)| *id).collect();
        if *network_gone || *addresses >= ADDRESS_ROWS.max(2 * short) {
            self.shorten_addresses(at, state)?;
        }
        for id in long {
            self.shorten_unit(at, state, id)?;
        }
        Ok(())
    }

    /// Puts what the address books say in the place of how they came to say it.
    ///
    /// # Errors
    /// When SQLite cannot write.
    pub fn shorten_addresses(&mut self, at: u64, state: &State) -> Result<(), StoreError> {
        let path = self.path.clone();
        let records: Vec<Record> =
            state.ipam.snapshot().into_iter().map(|change| Record::Address { change }).collect();
        (|| {
            let tx = self.db.transaction()?;
            tx.execute("DELETE FROM log WHERE scope = ?1", [Scope::Addresses.to_string()])?;
            for record in &records {
                write(&tx, at, record)?;
            }
            tx.commit()
        })()
        .map_err(|error| StoreError::Sqlite { path, error })?;
        (self.lengths.addresses, self.lengths.short) = (records.len(), records.len());
        self.lengths.network_gone = false;
        Ok(())
    }

    fn shorten_unit(&mut self, at: u64, state: &State, id: Id) -> Result<(), StoreError> {
        let path = self.path.clone();
        let Some(snapshot) = state.snapshot(id) else { return Ok(()) };
        (|| {
            let tx = self.db.transaction()?;
            // Record::is_in_snapshot in SQLite's words.
            let superfluous = "DELETE FROM log WHERE scope = ?1 AND kind NOT IN ('network', 'instance')
                AND NOT (kind = 'step' AND json_extract(body, '$.key') = ?2)";
            tx.execute(superfluous, [snapshot.scope().to_string().as_str(), RELEASE])?;
            write(&tx, at, &snapshot)?;
            tx.commit()
        })()
        .map_err(|error| StoreError::Sqlite { path, error })?;
        // The first record and the snapshot, and of one that is going the release.
        self.lengths.units.insert(id, 3);
        Ok(())
    }

    /// The engine's time at which a record was written last, as far as records are left; 0 without any.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn last_at(&self) -> Result<u64, StoreError> {
        let at: i64 = (self.db)
            .query_row("SELECT coalesce(max(at), 0) FROM log", [], |r| r.get(0))
            .map_err(self.sqlite())?;
        Ok(at.unsigned_abs())
    }

    /// The cursor of the last event.
    #[must_use]
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// The next event's cursor is above this one. For a store in another's place: who follows events resumes after one of the other's.
    pub(super) fn cursor_above(&mut self, other: i64) {
        self.cursor = self.cursor.max(other);
    }

    /// The events after a cursor, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn events_after(&self, cursor: i64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let mut query = (self.db)
            .prepare_cached("SELECT cursor, at, body FROM event WHERE cursor > ?1 ORDER BY cursor LIMIT ?2")
            .map_err(self.sqlite())?;
        let rows = query
            .query_map(params![cursor, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                let (cursor, at, body): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let what = serde_json::from_str(&body).unwrap_or(Value::Null);
                Ok(Event { cursor, at: at.unsigned_abs(), what })
            })
            .map_err(self.sqlite())?;
        rows.collect::<Result<_, _>>().map_err(self.sqlite())
    }

    /// Closes the store, with its log taken into the one file, which is on disk on return.
    ///
    /// # Errors
    /// When SQLite cannot write.
    pub fn close(self) -> Result<(), StoreError> {
        let Self { db, path, .. } = self;
        let sqlite = |error| StoreError::Sqlite { path: path.clone(), error };
        db.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(sqlite)?;
        db.close().map_err(|(_, error)| sqlite(error))
    }

    /// How many rows the log holds: what is left of a fabric that is gone is none.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn rows(&self) -> Result<u64, StoreError> {
        let count: i64 =
            self.db.query_row("SELECT count(*) FROM log", [], |r| r.get(0)).map_err(self.sqlite())?;
        Ok(count.unsigned_abs())
    }
}

/// Makes the file for its owner alone, whatever the umask is, and closes one that is open to others: specs hold environments, and
/// those passwords. SQLite gives its other files the rights of this one.
fn private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let done = (|| {
        let file = std::fs::File::options().create(true).append(true).mode(0o600).open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    })();
    done.map_err(|error| StoreError::File { path: path.display().to_string(), doing: "opening", error })
}

fn write(tx: &rusqlite::Transaction<'_>, at: u64, record: &Record) -> rusqlite::Result<()> {
    let scope = record.scope().to_string();
    let mut place: Option<i64> = None;
    if record.takes_place() {
        place = tx
            .prepare_cached("SELECT min(seq) FROM log WHERE scope = ?1")?
            .query_row([&scope], |row| row.get(0))?;
    }
    if record.ends_scope() || record.begins_scope() {
        // `unit:x/lease/…` goes with `unit:x`; '0' follows '/'.
        let delete = "DELETE FROM log WHERE scope = ?1 OR (scope > ?1 || '/' AND scope < ?1 || '0')";
        tx.prepare_cached(delete)?.execute([&scope])?;
    }
    if record.ends_scope() {
        return Ok(());
    }
    let body = serde_json::to_value(record).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    let kind = body.get("record").and_then(Value::as_str).unwrap_or_default();
    // Without a place it gets the next one.
    tx.prepare_cached("INSERT INTO log (seq, at, scope, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![place, at.cast_signed(), scope, kind, body.to_string()])?;
    Ok(())
}
