//! Pages of runs. Each is read from an index that has it in order, so that it costs the same among a million runs as
//! among a thousand.

use std::sync::Arc;

use flujo_core::store::{Order, Page, RunQuery, RunStatus, WallTime};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::failure::Failure;
use super::read;

/// A run as an index has it.
type Found = (WallTime, Arc<str>, i64);

pub(super) fn list(connection: &Connection, query: &RunQuery) -> Result<Page, Failure> {
    let limit = query.limit as usize;
    let mut found = find(connection, query)?;
    found.sort_by(|(created, id, _), (other, other_id, _)| {
        let newest = other.cmp(created).then_with(|| id.cmp(other_id));
        if query.order == Order::Newest {
            newest
        } else {
            newest.reverse()
        }
    });
    let more = found.len() > limit;
    found.truncate(limit);
    let mut runs = Vec::with_capacity(found.len());
    for (_, _, run) in &found {
        runs.push(read::info_at(connection, *run)?);
    }
    let last = found.pop().map(|(created, id, _)| (created, id));
    Ok(Page {
        runs,
        next: if more { last } else { None },
    })
}

/// More than enough of those that fit, not in order.
fn find(connection: &Connection, query: &RunQuery) -> Result<Vec<Found>, Failure> {
    let mut statuses = query.statuses.clone();
    statuses.sort_unstable();
    statuses.dedup();
    if statuses.is_empty() {
        statuses = RunStatus::ALL.to_vec();
    }
    let mut found = Vec::new();
    if query.due_by.is_some() || query.with_messages || matches!(query.owner, Some(Some(_))) {
        // These are few by themselves.
        let index = if query.with_messages {
            ""
        } else if query.due_by.is_some() {
            "INDEXED BY runs_due"
        } else {
            "INDEXED BY runs_worker"
        };
        select(connection, query, index, &statuses, &mut found)?;
    } else {
        let index = if query.pipeline.is_some() {
            "INDEXED BY runs_pipeline"
        } else {
            "INDEXED BY runs_status"
        };
        for status in statuses {
            select(connection, query, index, &[status], &mut found)?;
        }
    }
    Ok(found)
}

fn select(
    connection: &Connection,
    query: &RunQuery,
    index: &str,
    statuses: &[RunStatus],
    found: &mut Vec<Found>,
) -> Result<(), Failure> {
    let wanted = query.limit as usize + 1;
    let Some((time, id)) = &query.after else {
        return part(connection, query, index, statuses, &[], wanted, found);
    };
    // What was created at the same time comes first; each of the two is a range of the index.
    let (later, behind) = match query.order {
        Order::Newest => ("created < ?", "id > ?"),
        Order::Oldest => ("created > ?", "id < ?"),
    };
    let before = found.len();
    let same = [
        ("created = ?", Value::from(*time)),
        (behind, id.to_string().into()),
    ];
    part(connection, query, index, statuses, &same, wanted, found)?;
    let left = wanted - (found.len() - before).min(wanted);
    let older = [(later, Value::from(*time))];
    part(connection, query, index, statuses, &older, left, found)
}

fn part(
    connection: &Connection,
    query: &RunQuery,
    index: &str,
    statuses: &[RunStatus],
    place: &[(&str, Value)],
    limit: usize,
    found: &mut Vec<Found>,
) -> Result<(), Failure> {
    let mut values: Vec<Value> = statuses
        .iter()
        .map(|status| Value::from(status.as_str().to_owned()))
        .collect();
    let places = vec!["?"; values.len()].join(", ");
    let mut sql = format!("SELECT created, id, run FROM runs {index} WHERE status IN ({places})");
    let mut and = |condition: &str, value: Option<Value>| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.extend(value);
    };
    if let Some(pipeline) = &query.pipeline {
        and("pipeline = ?", Some(pipeline.to_string().into()));
    }
    if let Some(before) = query.created_before {
        and("created < ?", Some(before.into()));
    }
    if let Some(from) = query.created_from {
        and("created >= ?", Some(from.into()));
    }
    if let Some(by) = query.due_by {
        and("due <= ?", Some(by.into()));
    }
    match query.owner {
        // A row may name one that is gone.
        Some(Some(worker)) => and(
            "worker = ? AND EXISTS (SELECT 1 FROM workers WHERE workers.worker = runs.worker)",
            Some(worker.0.into()),
        ),
        Some(None) => and(
            "NOT EXISTS (SELECT 1 FROM workers WHERE workers.worker = runs.worker)",
            None,
        ),
        None => {}
    }
    if query.with_messages {
        and("run IN (SELECT run FROM messages)", None);
    }
    for (condition, value) in place {
        and(condition, Some(value.clone()));
    }
    // The index the one way or the other.
    sql.push_str(match query.order {
        Order::Newest => " ORDER BY created DESC, id LIMIT ?",
        Order::Oldest => " ORDER BY created, id DESC LIMIT ?",
    });
    values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    for row in rows {
        found.push(row?);
    }
    Ok(())
}
