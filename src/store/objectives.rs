//! The states of objectives in SQL: the budget of 28 or 30 days outlives restarts and upgrades, so its bytes have a
//! layout of their own, and a service that is silent for weeks still finds what it has spent.

use rusqlite::{Connection, Transaction, params};

use super::sqlite::{digest, extra_to_sql, from_sql, service_from_sql, to_sql};
use crate::pipeline::ObjectiveState;

pub(super) fn save(transaction: &Transaction<'_>, state: &ObjectiveState) -> rusqlite::Result<()> {
    let ObjectiveState { service, journey, at, bytes } = state;
    let sql = "INSERT OR REPLACE INTO objectives (namespace, service, environment, extra, journey, at, digest, bytes) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    transaction.prepare_cached(sql)?.execute(params![
        service.namespace,
        service.name,
        service.environment,
        extra_to_sql(service),
        journey,
        to_sql(*at),
        digest(bytes),
        bytes
    ])?;
    Ok(())
}

/// All of them; what is damaged is left out and logged.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<ObjectiveState>> {
    let sql = "SELECT namespace, service, environment, extra, journey, at, digest, bytes FROM objectives \
               ORDER BY 1, 2, 3, 4, 5";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let (expected, bytes): (Vec<u8>, Vec<u8>) = (row.get(6)?, row.get(7)?);
        let usable = digest(&bytes) == expected;
        let (service, journey, at) = (service_from_sql(row)?, row.get(4)?, from_sql(row.get(5)?));
        Ok((usable, ObjectiveState { service, journey, at, bytes }))
    })?;
    let mut states = Vec::new();
    for row in rows {
        let (usable, state) = row?;
        if usable {
            states.push(state);
        } else {
            tracing::warn!(service = %state.service, journey = state.journey,
                "the error budget of a service in the database cannot be read; it is counted anew");
        }
    }
    Ok(states)
}
