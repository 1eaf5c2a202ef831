//! Hours of services in SQL: one row an hour of a service, about 1.2 kB, so that a fleet of 200 writes as many rows an
//! hour. Rows older than eight days go with the first that is written after.

use rusqlite::{Connection, Transaction, params};

use super::sqlite::extra_to_sql;
use crate::model::{ServiceKey, UnixNanos};
use crate::pipeline::HourRow;
use crate::verdict::{DAYS_KEPT, HOUR_S};

const HOURS_KEPT: i64 = 24 * DAYS_KEPT;

pub(super) fn save(transaction: &Transaction<'_>, row: &HourRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO hours (namespace, service, environment, extra, hour, bytes) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let HourRow { service, number, bytes } = row;
    transaction.prepare_cached(sql)?.execute(params![
        service.namespace,
        service.name,
        service.environment,
        extra_to_sql(service),
        number,
        bytes
    ])?;
    Ok(())
}

/// Forgets what is too old, where any hour is written: beside the time, so that a row of a clock that was ahead takes
/// nothing with it.
pub(super) fn prune(transaction: &Transaction<'_>, rows: &[HourRow], now: UnixNanos) -> rusqlite::Result<()> {
    if !rows.is_empty() {
        let oldest = now.slot().div_euclid(HOUR_S) - HOURS_KEPT;
        transaction.prepare_cached("DELETE FROM hours WHERE hour < ?1")?.execute([oldest])?;
    }
    Ok(())
}

/// Those of some hours that there are, in their order.
pub(super) fn load(
    connection: &Connection,
    service: &ServiceKey,
    numbers: &[i64],
) -> rusqlite::Result<Vec<HourRow>> {
    let sql = "SELECT bytes FROM hours WHERE namespace = ?1 AND service = ?2 AND environment = ?3 AND extra = ?4 \
               AND hour = ?5";
    let mut statement = connection.prepare_cached(sql)?;
    let extra = extra_to_sql(service);
    let mut read = Vec::new();
    for number in numbers {
        let key = params![service.namespace, service.name, service.environment, extra, number];
        let mut rows = statement.query(key)?;
        if let Some(row) = rows.next()? {
            read.push(HourRow { service: service.clone(), number: *number, bytes: row.get(0)? });
        }
    }
    Ok(read)
}
