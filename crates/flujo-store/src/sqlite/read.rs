//! What is read: each inside a transaction, so that it is of one moment.

use std::sync::Arc;

use flujo_core::store::{
    BlobId, Message, MessageId, Owner, Process, Record, RunInfo, RunStatus, StoredRun, Summary, Worker,
    WorkerId,
};
use flujo_core::usage::{Cost, Usage};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row};

use super::end::{self, End};
use super::failure::Failure;
use crate::log::Log;
use crate::sum::{self, Kind};

/// What is known of a run, as `Told::of` reads it.
const INFO: &str = "SELECT runs.run, id, pipeline, created, forked_from, status, updated, due, steps, cost, tokens, \
     requests, unpriced, message, last, bytes, workers.worker, host, pid, beats, through, tells, runs.worker \
     FROM runs LEFT JOIN workers ON workers.worker = runs.worker";

/// A run's row.
struct Told {
    run: i64,
    info: RunInfo,
    log: Log,
    tail: Option<i64>,
    /// Whether it names an owner, so that it may be behind.
    owned: bool,
}

impl Told {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let info = info_of(row)?;
        Ok(Self {
            run: row.get(0)?,
            log: Log {
                through: row.get::<_, i64>(20)?.cast_unsigned(),
                last: info.last_record,
            },
            tail: row.get(21)?,
            owned: row.get::<_, Option<i64>>(22)?.is_some(),
            info,
        })
    }

    /// Adds the records that it doesn't tell of.
    fn bring_up(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.owned {
            let end = End::found(connection, self.run, self.tail, &mut self.log)?;
            self.tail = end.tail;
            self.info.last_record = self.log.last;
            self.info.bytes += end.untold().cast_unsigned();
        }
        Ok(())
    }

    /// What is shown of it. Where its log can't be read, that is what its row tells.
    fn shown(mut self, connection: &Connection) -> rusqlite::Result<RunInfo> {
        match self.bring_up(connection) {
            Err(error) if end::is_malformed(&error) => {}
            found => found?,
        }
        Ok(self.info)
    }
}

fn info_of(row: &Row<'_>) -> rusqlite::Result<RunInfo> {
    let text = |index| row.get::<_, Arc<str>>(index);
    let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    let wrong = |index| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(FromSqlError::InvalidType))
    };
    let owner: Option<i64> = row.get(16)?;
    let owner = match owner {
        Some(worker) => Some(Owner {
            worker: WorkerId(worker),
            process: format!("process {} on {}", row.get::<_, i64>(18)?, text(17)?).into(),
            beats: number(19)?,
        }),
        None => None,
    };
    let status: String = row.get(5)?;
    Ok(RunInfo {
        id: text(1)?,
        pipeline: text(2)?,
        created: row.get(3)?,
        forked_from: row.get(4)?,
        summary: Summary {
            status: RunStatus::named(&status).ok_or_else(|| wrong(5))?,
            updated: row.get(6)?,
            due: row.get(7)?,
            steps: number(8)?,
            usage: Usage {
                cost: Cost::from_nanos(row.get(9)?).ok_or_else(|| wrong(9))?,
                tokens: number(10)?,
                requests: number(11)?,
                unpriced: row.get(12)?,
            },
            message: row.get(13)?,
        },
        owner,
        last_record: number(14)?,
        bytes: number(15)?,
    })
}

pub(super) fn info(connection: &Connection, run: &Arc<str>) -> Result<Option<RunInfo>, Failure> {
    let mut statement = connection.prepare_cached(&format!("{INFO} WHERE id = ?1"))?;
    let told = statement.query_row((&**run,), Told::of).optional()?;
    Ok(told.map(|told| told.shown(connection)).transpose()?)
}

/// The same by the row's number.
pub(super) fn info_at(connection: &Connection, run: i64) -> Result<RunInfo, Failure> {
    let mut statement = connection.prepare_cached(&format!("{INFO} WHERE runs.run = ?1"))?;
    let found = statement.query_row((run,), Told::of).optional()?;
    let told = found.ok_or_else(|| {
        Failure::Damaged(
            format!("row {run} of the runs"),
            "an index names it, and it is missing",
        )
    })?;
    Ok(told.shown(connection)?)
}

fn row_of(connection: &Connection, run: &Arc<str>) -> Result<i64, Failure> {
    let mut statement = connection.prepare_cached("SELECT run FROM runs WHERE id = ?1")?;
    let found = statement.query_row((&**run,), |row| row.get(0)).optional()?;
    found.ok_or_else(|| Failure::Unknown(run.clone()))
}

/// A body whose sum is right.
fn body(
    found: Option<(Vec<u8>, i64)>,
    location: impl Fn() -> String,
    fits: impl Fn(&[u8], i64) -> bool,
) -> Result<Arc<[u8]>, Failure> {
    match found {
        None => Err(Failure::Damaged(location(), "it is missing")),
        Some((body, sum)) if fits(&body, sum) => Ok(body.into()),
        Some(_) => Err(Failure::Damaged(location(), "its checksum doesn't fit")),
    }
}

fn with_sum(row: &Row<'_>) -> rusqlite::Result<(Vec<u8>, i64)> {
    Ok((row.get(0)?, row.get(1)?))
}

pub(super) fn load(connection: &Connection, id: &Arc<str>) -> Result<StoredRun, Failure> {
    let mut statement = connection.prepare_cached(&format!("{INFO} WHERE id = ?1"))?;
    let told = statement.query_row((&**id,), Told::of).optional()?;
    let mut told = told.ok_or_else(|| Failure::Unknown(id.clone()))?;
    told.bring_up(connection)?;
    let Told {
        run, info, log, tail, ..
    } = told;
    let through = log.through;
    let one = |sql| -> Result<_, Failure> {
        Ok(connection
            .prepare_cached(sql)?
            .query_row((run,), with_sum)
            .optional()?)
    };
    let definition = body(
        one("SELECT body, sum FROM definitions WHERE run = ?1")?,
        || "its definition".to_owned(),
        |body, sum| sum::fits(sum, Kind::Definition, id, &[], body),
    )?;
    let snapshot = body(
        one("SELECT body, sum FROM snapshots WHERE run = ?1")?,
        || "its snapshot".to_owned(),
        |body, sum| sum::fits_numbered(sum, Kind::Snapshot, id, through, body),
    )?;
    let records = records(connection, (id, run), log, tail)?;
    Ok(StoredRun {
        info,
        definition,
        through,
        snapshot,
        records,
    })
}

/// The records behind a snapshot, found from the last to the first.
fn records(
    connection: &Connection,
    (id, run): (&str, i64),
    log: Log,
    mut tail: Option<i64>,
) -> Result<Vec<Record>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT body, sum, previous FROM records WHERE record = ?1 AND run = ?2")?;
    let mut records = Vec::new();
    for number in (log.through + 1..=log.last).rev() {
        let found = statement.query_row((tail, run), |row| Ok((with_sum(row)?, row.get(2)?)));
        let (found, previous) = found.optional()?.unzip();
        let location = || format!("record {number}");
        let body = body(found, location, |body, sum| {
            sum::fits_numbered(sum, Kind::Record, id, number, body)
        })?;
        records.push(Record { number, body });
        tail = previous.flatten();
    }
    records.reverse();
    Ok(records)
}

pub(super) fn blob(connection: &Connection, id: &Arc<str>, blob: BlobId) -> Result<Arc<[u8]>, Failure> {
    let run = row_of(connection, id)?;
    let mut statement =
        connection.prepare_cached("SELECT body, sum FROM blobs WHERE run = ?1 AND id = ?2")?;
    let found = statement.query_row((run, blob.0), with_sum).optional()?;
    body(
        found,
        || format!("blob {blob}"),
        |body, sum| sum::fits(sum, Kind::Blob, id, &blob.0, body),
    )
}

pub(super) fn messages(connection: &Connection, worker: WorkerId) -> Result<Vec<Message>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT messages.body, sum, messages.message, id FROM messages CROSS JOIN runs ON runs.run = messages.run \
         WHERE worker = ?1 AND EXISTS (SELECT 1 FROM workers WHERE workers.worker = ?1) ORDER BY messages.message",
    )?;
    let mut rows = statement.query((worker.0,))?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, run) = (row.get(2)?, row.get::<_, Arc<str>>(3)?);
        let location = || format!("message {id} of run `{run}`");
        let body = body(Some(with_sum(row)?), location, |body, sum| {
            sum::fits(sum, Kind::Message, &run, &[], body)
        })?;
        messages.push(Message {
            id: MessageId(id),
            run,
            body,
        });
    }
    Ok(messages)
}

pub(super) fn workers(connection: &Connection) -> Result<Vec<Worker>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT worker, host, boot, pid, began, beats FROM workers ORDER BY worker")?;
    let rows = statement.query_map((), |row| {
        Ok(Worker {
            id: WorkerId(row.get(0)?),
            process: Process {
                host: row.get(1)?,
                boot: row.get(2)?,
                pid: row.get(3)?,
                began: row.get::<_, i64>(4)?.cast_unsigned(),
            },
            beats: row.get::<_, i64>(5)?.cast_unsigned(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
