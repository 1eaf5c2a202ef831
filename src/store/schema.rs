//! The tables, as steps from one schema version to the next. `PRAGMA user_version` holds the number of steps
//! taken; `application_id` tells our files from others.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::StoreError;

/// "RGRD".
const APPLICATION_ID: i64 = 0x5247_5244;

/// Step `n` leads from schema `n` to `n + 1`. Steps are never edited once released, only added.
const STEPS: [&str; 3] = [
    "
CREATE TABLE deployments (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    candidate TEXT NOT NULL,
    baseline TEXT,
    phase TEXT NOT NULL,
    verdict TEXT NOT NULL,
    ended INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    state BLOB NOT NULL
) STRICT;
CREATE INDEX deployments_by_end ON deployments (ended, updated_at);

CREATE TABLE known_versions (
    namespace TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    extra TEXT NOT NULL,
    version TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, service, environment, extra, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX known_versions_by_age ON known_versions (seen_at);

CREATE TABLE snapshots (
    namespace TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    extra TEXT NOT NULL,
    at INTEGER NOT NULL,
    digest BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (namespace, service, environment, extra)
) STRICT;

CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    deployment_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    last_error TEXT,
    delivered_at INTEGER
) STRICT;
CREATE INDEX outbox_by_due ON outbox (state, next_at);
",
    "
CREATE TABLE objectives (
    namespace TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    extra TEXT NOT NULL,
    journey TEXT NOT NULL,
    at INTEGER NOT NULL,
    digest BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (namespace, service, environment, extra, journey)
) STRICT;
CREATE INDEX objectives_by_age ON objectives (at);
",
    "
CREATE TABLE hours (
    namespace TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    extra TEXT NOT NULL,
    hour INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (namespace, service, environment, extra, hour)
) STRICT;
CREATE INDEX hours_by_age ON hours (hour);
",
];

/// Opens the connection's file for us alone and brings it to the newest schema.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let refuse = |cause: rusqlite::Error| match cause.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Foreign { path: path.into() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path: path.into() },
        _ => StoreError::Open { path: path.into(), cause },
    };
    // A restart may overlap with the end of the process before it.
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(refuse)?;
    // The lock is kept from the first access to the end: two evaluators on one file would decide twice.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(refuse)?;
    let found = pragma(connection, "user_version").map_err(refuse)?;
    let known = STEPS.len() as i64;
    let application = pragma(connection, "application_id").map_err(refuse)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(refuse)?;
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        return Err(StoreError::Foreign { path: path.into() });
    }
    if found > known {
        return Err(StoreError::Newer { path: path.into(), found, known });
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(refuse)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(refuse)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(refuse)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(refuse)?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(refuse)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(refuse)?;
    transaction.commit().map_err(refuse)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
