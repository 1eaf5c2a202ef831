//! The database connection: opening, committing a decision, reading everything back at start. One
//! connection behind a mutex, because the evaluator and the outbox worker write seldom and briefly. Calls
//! block: never make them on a thread of the async runtime.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, params};
use sha2::{Digest, Sha256};

use super::outbox::NewOutboxRow;
use super::{StoreError, hours, objectives, queue, schema};
use crate::deployment::Deployment;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};
use crate::model::{NANOS_PER_SECOND, ServiceKey, UnixNanos, VersionKey};
use crate::pipeline::{Commit, HourRow, Restored, ServiceSnapshot};

/// Ended deployments kept in the file.
pub const KEEP_DEPLOYMENTS: u32 = 1_000;
/// Delivered outbox rows kept, and as many dead ones.
pub const KEEP_OUTBOX: u32 = 1_000;
/// Known versions kept; the ones that were known longest ago go first.
pub const KEEP_KNOWN_VERSIONS: u32 = 100_000;
/// Ended deployments that are read back at start.
pub const RESTORE_ENDED: u32 = 200;
/// State of services that were not seen for this long is forgotten.
const KEEP_SNAPSHOTS: UnixNanos = UnixNanos(7 * 86_400 * NANOS_PER_SECOND);

/// Objectives that were not kept for this long have nothing of their budget left.
const KEEP_OBJECTIVES: UnixNanos = UnixNanos(31 * 86_400 * NANOS_PER_SECOND);

/// The durable memory.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens the database file, or makes it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let mut connection =
            Connection::open(&path).map_err(|cause| StoreError::Open { path: path.clone(), cause })?;
        schema::prepare(&mut connection, &path)?;
        Ok(Self { path, connection: Mutex::new(connection) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a decision, what is to be sent because of it and the state it was made in: all or nothing.
    /// Writing the same again changes nothing.
    pub fn commit(&self, commit: &Commit, outbox: &[NewOutboxRow]) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(StoreError::sql("begin a commit"))?;
        for deployment in &commit.deployments {
            save_deployment(&transaction, deployment, commit.at)
                .map_err(StoreError::sql("write a deployment"))?;
        }
        for row in outbox {
            queue::insert(&transaction, row, commit.at).map_err(StoreError::sql("write an outbox row"))?;
        }
        for version in &commit.known_versions {
            save_version(&transaction, version, commit.at)
                .map_err(StoreError::sql("write a known version"))?;
        }
        for snapshot in &commit.snapshots {
            save_snapshot(&transaction, snapshot).map_err(StoreError::sql("write a snapshot"))?;
        }
        for state in &commit.objectives {
            objectives::save(&transaction, state).map_err(StoreError::sql("write an objective"))?;
        }
        for hour in &commit.hours {
            hours::save(&transaction, hour).map_err(StoreError::sql("write an hour"))?;
        }
        hours::prune(&transaction, &commit.hours, commit.at).map_err(StoreError::sql("prune hours"))?;
        prune(&transaction, commit).map_err(StoreError::sql("prune"))?;
        transaction.commit().map_err(StoreError::sql("commit"))
    }

    /// Reads back what was kept: deployments that are not over and the latest ended ones, newest first, the
    /// known versions and the services' snapshots. What cannot be read (another program version wrote it, or the file
    /// was damaged) is left out and logged; the rest stands.
    pub fn restore(&self) -> Result<Restored, StoreError> {
        let connection = self.lock();
        Ok(Restored {
            snapshots: load_snapshots(&connection).map_err(StoreError::sql("read the snapshots"))?,
            deployments: load_deployments(&connection).map_err(StoreError::sql("read the deployments"))?,
            known_versions: load_versions(&connection).map_err(StoreError::sql("read the known versions"))?,
            objectives: objectives::load(&connection).map_err(StoreError::sql("read the objectives"))?,
        })
    }

    /// Those of some hours of a service that there are.
    pub fn hours(&self, service: &ServiceKey, numbers: &[i64]) -> Result<Vec<HourRow>, StoreError> {
        hours::load(&self.lock(), service, numbers).map_err(StoreError::sql("read hours"))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while holding the lock rolled its transaction back: the connection is as good as before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nanoseconds as SQLite's signed integer; enough until the year 2262.
pub(super) fn to_sql(at: UnixNanos) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// The inverse of [`to_sql`].
pub(super) fn from_sql(nanos: i64) -> UnixNanos {
    UnixNanos(u64::try_from(nanos).unwrap_or(0))
}

fn save_deployment(transaction: &Transaction<'_>, d: &Deployment, at: UnixNanos) -> rusqlite::Result<()> {
    let mut state = Writer::with_header();
    d.save(&mut state);
    let sql = "INSERT OR REPLACE INTO deployments (id, namespace, service, environment, candidate, baseline, phase, \
               verdict, ended, started_at, updated_at, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, \
               ?12)";
    transaction.prepare_cached(sql)?.execute(params![
        d.id.0,
        d.service.namespace,
        d.service.name,
        d.service.environment,
        d.candidate,
        d.baseline,
        d.phase.as_str(),
        d.verdict.as_str(),
        d.phase.is_over(),
        to_sql(d.started_at),
        to_sql(at),
        state.into_bytes(),
    ])?;
    Ok(())
}

fn save_version(transaction: &Transaction<'_>, key: &VersionKey, at: UnixNanos) -> rusqlite::Result<()> {
    // Plain columns, not the codec of snapshots: what is known outlives an upgrade.
    let sql = "INSERT OR REPLACE INTO known_versions (namespace, service, environment, extra, version, seen_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let service = &key.service;
    transaction.prepare_cached(sql)?.execute(params![
        service.namespace,
        service.name,
        service.environment,
        extra_to_sql(service),
        key.version,
        to_sql(at)
    ])?;
    Ok(())
}

fn save_snapshot(transaction: &Transaction<'_>, snapshot: &ServiceSnapshot) -> rusqlite::Result<()> {
    let ServiceSnapshot { service, at, bytes } = snapshot;
    let sql = "INSERT OR REPLACE INTO snapshots (namespace, service, environment, extra, at, digest, bytes) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    transaction.prepare_cached(sql)?.execute(params![
        service.namespace,
        service.name,
        service.environment,
        extra_to_sql(service),
        to_sql(*at),
        digest(bytes),
        bytes
    ])?;
    Ok(())
}

fn prune(transaction: &Transaction<'_>, commit: &Commit) -> rusqlite::Result<()> {
    if !commit.deployments.is_empty() {
        let sql = "DELETE FROM deployments WHERE id IN (SELECT id FROM deployments WHERE ended = 1 \
                   ORDER BY updated_at DESC, id LIMIT -1 OFFSET ?1)";
        transaction.prepare_cached(sql)?.execute([KEEP_DEPLOYMENTS])?;
    }
    if !commit.deployments.is_empty() || !commit.alerts.is_empty() {
        queue::prune(transaction)?;
    }
    if !commit.known_versions.is_empty() {
        let sql = "DELETE FROM known_versions WHERE seen_at < (SELECT seen_at FROM known_versions \
                   ORDER BY seen_at DESC LIMIT 1 OFFSET ?1)";
        transaction.prepare_cached(sql)?.execute([KEEP_KNOWN_VERSIONS - 1])?;
    }
    if !commit.objectives.is_empty() {
        let oldest = to_sql(commit.at).saturating_sub(to_sql(KEEP_OBJECTIVES));
        transaction.prepare_cached("DELETE FROM objectives WHERE at < ?1")?.execute([oldest])?;
    }
    if !commit.snapshots.is_empty() {
        let oldest = to_sql(commit.at).saturating_sub(to_sql(KEEP_SNAPSHOTS));
        transaction.prepare_cached("DELETE FROM snapshots WHERE at < ?1")?.execute([oldest])?;
    }
    Ok(())
}

fn load_deployments(connection: &Connection) -> rusqlite::Result<Vec<Arc<Deployment>>> {
    let sql = "SELECT id, state, started_at FROM deployments WHERE ended = 0 UNION ALL \
               SELECT * FROM (SELECT id, state, started_at FROM deployments WHERE ended = 1 \
               ORDER BY updated_at DESC, id LIMIT ?1) ORDER BY started_at DESC, id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([RESTORE_ENDED])?;
    let mut deployments = Vec::new();
    while let Some(row) = rows.next()? {
        let state: Vec<u8> = row.get(1)?;
        let read = Reader::header(&state).and_then(|mut reader| {
            let deployment = Deployment::load(&mut reader)?;
            if reader.is_empty() { Ok(deployment) } else { Err(Corrupt::Body) }
        });
        match read {
            Ok(deployment) => deployments.push(Arc::new(deployment)),
            Err(why) => {
                let id: String = row.get(0)?;
                tracing::warn!(deployment = %id, ?why, "a deployment in the database cannot be read; left out");
            }
        }
    }
    Ok(deployments)
}

fn load_versions(connection: &Connection) -> rusqlite::Result<Vec<VersionKey>> {
    let sql =
        "SELECT namespace, service, environment, extra, version FROM known_versions ORDER BY 1, 2, 3, 4, 5";
    let mut statement = connection.prepare(sql)?;
    let rows = statement
        .query_map([], |row| Ok(VersionKey { service: service_from_sql(row)?, version: row.get(4)? }))?;
    rows.collect()
}

fn load_snapshots(connection: &Connection) -> rusqlite::Result<Vec<ServiceSnapshot>> {
    let sql =
        "SELECT namespace, service, environment, extra, at, digest, bytes FROM snapshots ORDER BY 1, 2, 3, 4";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let (at, expected, bytes): (i64, Vec<u8>, Vec<u8>) = (row.get(4)?, row.get(5)?, row.get(6)?);
        let usable = digest(&bytes) == expected && Reader::header(&bytes).is_ok();
        Ok((usable, ServiceSnapshot { service: service_from_sql(row)?, at: from_sql(at), bytes }))
    })?;
    let mut snapshots = Vec::new();
    for row in rows {
        let (usable, snapshot) = row?;
        if usable {
            snapshots.push(snapshot);
        } else {
            tracing::warn!(service = %snapshot.service,
                "the state snapshot of a service in the database cannot be read; it is learned anew");
        }
    }
    Ok(snapshots)
}

/// The identity attributes of a service as one column.
pub(super) fn extra_to_sql(service: &ServiceKey) -> String {
    serde_json::Value::from(service.extra.clone()).to_string()
}

/// The service named by the first four columns.
pub(super) fn service_from_sql(row: &rusqlite::Row<'_>) -> rusqlite::Result<ServiceKey> {
    let extra: String = row.get(3)?;
    Ok(ServiceKey {
        namespace: row.get(0)?,
        name: row.get(1)?,
        environment: row.get(2)?,
        extra: serde_json::from_str(&extra).unwrap_or_default(),
    })
}

pub(super) fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
