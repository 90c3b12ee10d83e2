//! The versions of the store's file: what a new one gets, and the way from each older one to the next.
//!
//! A version is the layout of the tables and the meaning of the records together. A change of either is a new version: `schema.sql`
//! is changed, and [`STEPS`] gets one more. A step is never changed afterwards; `tests/store/` keeps a file of every version.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::backup;
use super::db::StoreError;

/// One version's way to the next.
type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// The first leads from version 1 to 2, and so on.
const STEPS: &[Step] = &[says_who_wrote_it, keeps_last_words];

/// Today's version. A newer one is refused, an older one migrated.
pub const VERSION: i64 = 1 + STEPS.len() as i64;

/// 2: the file says which Warren wrote it, so that an older one can name it when it refuses the file.
fn says_who_wrote_it(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;")
}

/// 3: of what is said again and again of a fabric's parts, and of what a LAN gave, the last word is kept; `snapshot` records stand for
/// long histories of units.
fn keeps_last_words(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute_batch(
        "UPDATE log SET scope = scope || '/' || kind || '/' || coalesce(
                json_extract(body, '$.service'), json_extract(body, '$.network'), '')
          WHERE kind IN ('drop', 'scale', 'trouble', 'network-trouble');
         UPDATE log SET scope = scope || '/learned' WHERE kind = 'learned';
         DELETE FROM log WHERE kind IN ('drop', 'scale', 'trouble', 'network-trouble', 'learned')
            AND seq < (SELECT max(later.seq) FROM log later WHERE later.scope = log.scope);
         DROP VIEW units;
         CREATE VIEW units AS
    SELECT substr(l.scope, 6) AS id, l.kind,
           coalesce(json_extract(l.body, '$.given.service'), json_extract(l.body, '$.spec.name')) AS name,
           json_extract(l.body, '$.given.fabric') AS fabric,
           (SELECT coalesce(json_extract(t.body, '$.stage'), json_extract(t.body, '$.is.stage')) FROM log t
             WHERE t.scope = l.scope AND t.kind IN ('turn', 'snapshot') ORDER BY t.seq DESC LIMIT 1) AS stage
      FROM log l WHERE l.kind IN ('instance', 'network');",
    )
}

/// Where the file as it was before a migration is kept.
#[must_use]
pub fn kept_path(path: &Path, version: i64) -> PathBuf {
    PathBuf::from(format!("{}.v{version}", path.display()))
}

/// Brings an open file to today's version, in one transaction: it is the old one or the new one, whenever the machine stops.
pub(super) fn prepare(db: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sqlite = |error| StoreError::Sqlite { path: path.display().to_string(), error };
    let found: i64 = db.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(sqlite)?;
    if !(0..=VERSION).contains(&found) {
        return Err(StoreError::Newer { path: path.display().to_string(), found, writer: writer(db) });
    }
    db.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
    if (1..VERSION).contains(&found) {
        backup::copy_over(path, &kept_path(path, found))?;
    }
    let mut migrate = || {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match usize::try_from(found).ok().and_then(|found| found.checked_sub(1)) {
            None => tx.execute_batch(include_str!("schema.sql"))?,
            Some(done) => STEPS.iter().skip(done).try_for_each(|step| step(&tx))?,
        }
        tx.pragma_update(None, "user_version", VERSION)?;
        tx.execute(
            "INSERT INTO meta (key, value) VALUES ('written_by', ?1)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
            [env!("CARGO_PKG_VERSION")],
        )?;
        // Before the first promise that rests on it.
        tx.commit()
    };
    migrate().map_err(sqlite)?;
    if (1..VERSION).contains(&found) {
        tracing::info!(from = found, to = VERSION, kept = %kept_path(path, found).display(), "the store was migrated");
    }
    Ok(())
}

/// The Warren that wrote the file, as versions from 2 on say.
fn writer(db: &Connection) -> Option<String> {
    db.query_row("SELECT value FROM meta WHERE key = 'written_by'", [], |r| r.get(0))
        .optional()
        .ok()
        .flatten()
}
