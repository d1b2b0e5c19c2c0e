//! What is taken out.

use std::sync::Arc;

use flujo_core::store::{PurgeQuery, RunStatus};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::failure::Failure;
use super::known::Known;
use super::write::row;
use crate::log::Log;

/// Deletes a run's records up to this one, and tells their bytes.
pub(super) fn cut(
    connection: &Connection,
    run: i64,
    log: Log,
    mut tail: Option<i64>,
    through: u64,
) -> Result<i64, Failure> {
    let mut kept =
        connection.prepare_cached("SELECT previous FROM records WHERE record = ?1 AND run = ?2")?;
    let mut deleted = connection.prepare_cached(
        "DELETE FROM records WHERE record = ?1 AND run = ?2 RETURNING previous, length(body)",
    )?;
    let mut bytes = 0;
    for number in (log.through + 1..=log.last).rev() {
        let found = if number > through {
            kept.query_row((tail, run), |row| Ok((row.get(0)?, 0)))
                .optional()?
        } else {
            deleted
                .query_row((tail, run), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?
        };
        let Some((previous, size)) = found else {
            return Err(Failure::Damaged(format!("record {number}"), "it is missing"));
        };
        (tail, bytes) = (previous, bytes + size);
    }
    Ok(bytes)
}

/// Deletes a run.
pub(super) fn delete(connection: &Connection, run: i64, log: Log, tail: Option<i64>) -> Result<(), Failure> {
    match cut(connection, run, log, tail, log.last) {
        // What doesn't lead from one to the next any more is looked for among all.
        Err(Failure::Damaged(..)) => {
            let mut all = connection.prepare_cached("DELETE FROM records WHERE run = ?1")?;
            all.execute((run,))?;
        }
        cut => drop(cut?),
    }
    for sql in [
        "DELETE FROM definitions WHERE run = ?1",
        "DELETE FROM snapshots WHERE run = ?1",
        "DELETE FROM blobs WHERE run = ?1",
        "DELETE FROM messages WHERE run = ?1",
        "DELETE FROM runs WHERE run = ?1",
    ] {
        connection.prepare_cached(sql)?.execute((run,))?;
    }
    Ok(())
}

pub(super) fn purge(connection: &Connection, known: &mut Known, query: &PurgeQuery) -> Result<u64, Failure> {
    known.forget();
    let ended = RunStatus::ALL.into_iter().filter(|status| status.has_ended());
    let statuses: Vec<RunStatus> = if query.statuses.is_empty() {
        ended.collect()
    } else {
        query.statuses.clone()
    };
    let mut values: Vec<Value> = statuses
        .iter()
        .map(|status| Value::from(status.as_str().to_owned()))
        .collect();
    let places = vec!["?"; values.len()].join(", ");
    let mut sql = format!(
        "SELECT id, workers.worker IS NULL FROM runs LEFT JOIN workers ON workers.worker = runs.worker \
         WHERE status IN ({places})"
    );
    if let Some(run) = &query.run {
        sql.push_str(" AND id = ?");
        values.push(run.to_string().into());
    }
    if let Some(pipeline) = &query.pipeline {
        sql.push_str(" AND pipeline = ?");
        values.push(pipeline.to_string().into());
    }
    if let Some(before) = query.updated_before {
        sql.push_str(" AND updated < ?");
        values.push(before.into());
    }
    sql.push_str(" ORDER BY created DESC, id LIMIT ? OFFSET ?");
    values.push(query.at_most.map_or(-1, i64::from).into());
    values.push(i64::try_from(query.keep.unwrap_or(0)).unwrap_or(i64::MAX).into());
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found = rows.collect::<Result<Vec<(Arc<str>, bool)>, _>>()?;
    let mut purged = 0;
    for (id, _) in found.into_iter().filter(|(_, free)| *free) {
        let row = row(connection, &id)?;
        delete(connection, row.run, row.log, row.end.tail)?;
        purged += 1;
    }
    if purged > 0 {
        // The disk gets its room back, so much at a time that nobody waits for long. The rest is used again.
        let mut vacuum = connection.prepare_cached("PRAGMA incremental_vacuum(16384)")?;
        let mut pages = vacuum.query(())?;
        while pages.next()?.is_some() {}
    }
    Ok(purged)
}
