//! The outbox in SQL: rows in with the decision, due rows out, the outcome of each attempt back.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::StoreError;
use super::outbox::{AttemptOutcome, NewOutboxRow, OutboxRow, OutboxState};
use super::sqlite::{KEEP_OUTBOX, Store, from_sql, to_sql};
use crate::model::{DeploymentId, UnixNanos};

/// Longest error text kept with a row, in characters.
const ERROR_CHARS: usize = 500;
const COLUMNS: &str = "id, deployment_id, kind, endpoint, body, created_at, attempts, next_at, state, last_error, \
                       delivered_at";

impl Store {
    /// Pending rows whose time has come, the longest waiting first.
    pub fn due(&self, now: UnixNanos, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM outbox WHERE state = 'pending' AND next_at <= ?1 ORDER BY next_at, id LIMIT ?2"
        );
        select(&self.lock(), &sql, to_sql(now), limit).map_err(StoreError::sql("read what is due"))
    }

    /// When the next pending row is due; rows that are due already count.
    pub fn next_due(&self) -> Result<Option<UnixNanos>, StoreError> {
        let connection = self.lock();
        let next: Option<Option<i64>> = connection
            .query_row("SELECT min(next_at) FROM outbox WHERE state = 'pending'", [], |row| row.get(0))
            .optional()
            .map_err(StoreError::sql("read what is due next"))?;
        Ok(next.flatten().map(from_sql))
    }

    /// Rows of a state, newest first.
    pub fn list(&self, state: OutboxState, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM outbox WHERE state = ?1 ORDER BY created_at DESC, id LIMIT ?2");
        select(&self.lock(), &sql, state.as_str(), limit).map_err(StoreError::sql("list the outbox"))
    }

    /// Records how an attempt ended. A row that is no longer pending stays as it is.
    pub fn record_attempt(
        &self,
        id: &str,
        outcome: &AttemptOutcome,
        now: UnixNanos,
    ) -> Result<(), StoreError> {
        let (state, next_at, error, delivered_at) = match outcome {
            AttemptOutcome::Delivered => (OutboxState::Delivered, now, None, Some(to_sql(now))),
            AttemptOutcome::Retry { next_at, error } => (OutboxState::Pending, *next_at, Some(error), None),
            AttemptOutcome::Dead(error) => (OutboxState::Dead, now, Some(error), None),
        };
        let error = error.map(|e| e.chars().take(ERROR_CHARS).collect::<String>());
        let sql = "UPDATE outbox SET attempts = attempts + 1, state = ?2, next_at = ?3, \
                   last_error = coalesce(?4, last_error), delivered_at = ?5 WHERE id = ?1 AND state = 'pending'";
        self.lock()
            .execute(sql, params![id, state.as_str(), to_sql(next_at), error, delivered_at])
            .map_err(StoreError::sql("record an attempt"))?;
        Ok(())
    }
}

pub(super) fn insert(
    transaction: &Transaction<'_>,
    row: &NewOutboxRow,
    at: UnixNanos,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO outbox (id, deployment_id, kind, endpoint, body, created_at, next_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)";
    transaction.prepare_cached(sql)?.execute(params![
        row.id,
        row.deployment_id.as_ref().map_or("", |id| &id.0),
        row.kind,
        row.endpoint,
        row.body,
        to_sql(at)
    ])?;
    Ok(())
}

/// Drops the oldest finished rows beyond [`KEEP_OUTBOX`] of each state.
pub(super) fn prune(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let sql = "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state = ?1 \
               ORDER BY created_at DESC, id LIMIT -1 OFFSET ?2)";
    for state in [OutboxState::Delivered, OutboxState::Dead] {
        transaction.prepare_cached(sql)?.execute(params![state.as_str(), KEEP_OUTBOX])?;
    }
    Ok(())
}

fn select(
    connection: &Connection,
    sql: &str,
    what: impl rusqlite::ToSql,
    limit: usize,
) -> rusqlite::Result<Vec<OutboxRow>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection.prepare_cached(sql)?.query_map(params![what, limit], row_of)?.collect()
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    let state: String = row.get(8)?;
    Ok(OutboxRow {
        new: NewOutboxRow {
            id: row.get(0)?,
            deployment_id: Some(row.get(1)?).filter(|id: &String| !id.is_empty()).map(DeploymentId),
            kind: row.get(2)?,
            endpoint: row.get(3)?,
            body: row.get(4)?,
        },
        created_at: from_sql(row.get(5)?),
        attempts: row.get(6)?,
        next_at: from_sql(row.get(7)?),
        state: OutboxState::ALL.into_iter().find(|s| s.as_str() == state).unwrap_or(OutboxState::Dead),
        last_error: row.get(9)?,
        delivered_at: row.get::<_, Option<i64>>(10)?.map(from_sql),
    })
}
