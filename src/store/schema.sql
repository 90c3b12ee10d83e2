-- The store's layout, version 3: what a new file gets. Older files come here by the steps in schema.rs, which a change of
-- this file needs as well.

-- About the file itself: `written_by`, the newest Warren that wrote it.
CREATE TABLE IF NOT EXISTS meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One row per fact; memory is the fold of all rows in the order of seq.
CREATE TABLE IF NOT EXISTS log (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    at    INTEGER NOT NULL,                     -- milliseconds since the epoch, in the engine's time (src/daemon/clock.rs)
    scope TEXT NOT NULL,                        -- what the fact belongs to; deleted together
    kind  TEXT NOT NULL,
    body  TEXT NOT NULL                         -- JSON, see src/store/record.rs
);
CREATE INDEX IF NOT EXISTS log_scope ON log (scope);

-- What `warren events` prints.
CREATE TABLE IF NOT EXISTS event (
    cursor INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,                    -- milliseconds since the epoch, by the machine's clock
    body   TEXT NOT NULL
);

-- For people with sqlite3(1): units with their latest stage, and who got which address.
CREATE VIEW IF NOT EXISTS units AS
    SELECT substr(l.scope, 6) AS id, l.kind,
           coalesce(json_extract(l.body, '$.given.service'), json_extract(l.body, '$.spec.name')) AS name,
           json_extract(l.body, '$.given.fabric') AS fabric,
           (SELECT coalesce(json_extract(t.body, '$.stage'), json_extract(t.body, '$.is.stage')) FROM log t
             WHERE t.scope = l.scope AND t.kind IN ('turn', 'snapshot') ORDER BY t.seq DESC LIMIT 1) AS stage
      FROM log l WHERE l.kind IN ('instance', 'network');
CREATE VIEW IF NOT EXISTS addresses AS
    SELECT json_extract(body, '$.change.network') AS network, json_extract(body, '$.change.owner') AS owner,
           json_extract(body, '$.change.v4.address') AS v4, json_extract(body, '$.change.v6.address') AS v6, seq
      FROM log WHERE kind = 'address' AND json_extract(body, '$.change.change') = 'assigned';
