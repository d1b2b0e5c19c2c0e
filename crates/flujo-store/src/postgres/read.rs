//! What is read: each inside a transaction, so that it is of one moment.

use std::sync::Arc;

use flujo_core::store::{
    BlobId, Message, MessageId, Owner, Process, Record, RunInfo, RunStatus, StoredRun, Summary, Worker,
    WorkerId,
};
use flujo_core::usage::{Cost, Usage};
use tokio_postgres::Row;

use super::failure::Failure;
use super::session::Session;
use crate::sum::{self, Kind};

/// What `info_of` reads.
macro_rules! info {
    ($more:literal) => {
        concat!(
            "SELECT runs.run, id, pipeline, created, forked_from, status, updated, due, steps, cost, tokens, requests, ",
            "unpriced, message, last, bytes, workers.worker, host, pid, beats, through ",
            $more
        )
    };
}

/// By rows' numbers.
pub(super) const INFOS: &str =
    info!("FROM runs LEFT JOIN workers ON workers.worker = runs.worker WHERE runs.run = ANY ($1)");
pub(super) const INFO: &str =
    info!("FROM runs LEFT JOIN workers ON workers.worker = runs.worker WHERE id = $1");
pub(super) const LOAD: &str = info!(
    ", definition, definition_sum, snapshot, snapshot_sum FROM runs LEFT JOIN workers ON workers.worker = runs.worker \
     LEFT JOIN contents ON contents.run = runs.run WHERE id = $1"
);
pub(super) const RECORDS: &str =
    "SELECT body, sum, number FROM records WHERE run = $1 AND number > $2 AND number <= $3 ORDER BY number";
pub(super) const BLOB: &str = "SELECT (SELECT run FROM runs WHERE id = $1), body, sum \
     FROM (SELECT 1) AS one LEFT JOIN blobs ON blobs.run = (SELECT run FROM runs WHERE id = $1) AND blobs.id = $2";
pub(super) const MESSAGES: &str = "SELECT messages.body, sum, messages.message, id FROM messages JOIN runs USING (run) \
     WHERE worker = $1 ORDER BY messages.message";
pub(super) const WORKERS: &str = "SELECT worker, host, boot, pid, began, beats FROM workers ORDER BY worker";

fn text(row: &Row, at: usize) -> Result<Arc<str>, Failure> {
    Ok(row.try_get::<_, &str>(at)?.into())
}

fn number(row: &Row, at: usize) -> Result<u64, Failure> {
    Ok(row.try_get::<_, i64>(at)?.cast_unsigned())
}

pub(super) fn info_of(row: &Row) -> Result<RunInfo, Failure> {
    let wrong = || Failure::Damaged("its row".to_owned(), "it holds what no run has");
    let owner = match row.try_get::<_, Option<i64>>(16)? {
        Some(worker) => Some(Owner {
            worker: WorkerId(worker),
            process: format!("process {} on {}", number(row, 18)?, text(row, 17)?).into(),
            beats: number(row, 19)?,
        }),
        None => None,
    };
    Ok(RunInfo {
        id: text(row, 1)?,
        pipeline: text(row, 2)?,
        created: row.try_get(3)?,
        forked_from: row.try_get::<_, Option<&str>>(4)?.map(Into::into),
        summary: Summary {
            status: RunStatus::named(row.try_get(5)?).ok_or_else(wrong)?,
            updated: row.try_get(6)?,
            due: row.try_get(7)?,
            steps: number(row, 8)?,
            usage: Usage {
                cost: Cost::from_nanos(row.try_get(9)?).ok_or_else(wrong)?,
                tokens: number(row, 10)?,
                requests: number(row, 11)?,
                unpriced: row.try_get(12)?,
            },
            message: row.try_get::<_, Option<&str>>(13)?.map(Into::into),
        },
        owner,
        last_record: number(row, 14)?,
        bytes: number(row, 15)?,
    })
}

pub(super) async fn info(session: &Session, run: &Arc<str>) -> Result<Option<RunInfo>, Failure> {
    let found = session.rows(INFO, &[&&**run]).await?;
    found.first().map(info_of).transpose()
}

/// A body whose sum is right: two columns of a row.
fn body(
    row: Option<&Row>,
    at: usize,
    location: impl Fn() -> String,
    fits: impl Fn(&[u8], i64) -> bool,
) -> Result<Arc<[u8]>, Failure> {
    let found = match row {
        Some(row) => row.try_get::<_, Option<&[u8]>>(at)?.map(|body| (row, body)),
        None => None,
    };
    match found {
        None => Err(Failure::Damaged(location(), "it is missing")),
        Some((row, body)) if fits(body, row.try_get(at + 1)?) => Ok(body.into()),
        Some(_) => Err(Failure::Damaged(location(), "its checksum doesn't fit")),
    }
}

pub(super) async fn load(session: &Session, id: &Arc<str>) -> Result<StoredRun, Failure> {
    let found = session.rows(LOAD, &[&&**id]).await?;
    let row = found.first().ok_or_else(|| Failure::Unknown(id.clone()))?;
    let (info, through) = (info_of(row)?, number(row, 20)?);
    let definition = body(
        Some(row),
        21,
        || "its definition".to_owned(),
        |body, sum| sum::fits(sum, Kind::Definition, id, &[], body),
    )?;
    let snapshot = body(
        Some(row),
        23,
        || "its snapshot".to_owned(),
        |body, sum| sum::fits_numbered(sum, Kind::Snapshot, id, through, body),
    )?;
    let range = (through.cast_signed(), info.last_record.cast_signed());
    let rows = session
        .rows(RECORDS, &[&row.try_get::<_, i64>(0)?, &range.0, &range.1])
        .await?;
    let mut rows = rows.iter().peekable();
    let mut records = Vec::with_capacity(rows.len());
    for number in through + 1..=info.last_record {
        let row = rows.next_if(|row| {
            row.try_get(2)
                .is_ok_and(|found: i64| found.cast_unsigned() == number)
        });
        let location = || format!("record {number}");
        let body = body(row, 0, location, |body, sum| {
            sum::fits_numbered(sum, Kind::Record, id, number, body)
        })?;
        records.push(Record { number, body });
    }
    Ok(StoredRun {
        info,
        definition,
        through,
        snapshot,
        records,
    })
}

pub(super) async fn blob(session: &Session, id: &Arc<str>, blob: BlobId) -> Result<Arc<[u8]>, Failure> {
    let row = session.one(BLOB, &[&&**id, &blob.0.as_slice()]).await?;
    if row.try_get::<_, Option<i64>>(0)?.is_none() {
        return Err(Failure::Unknown(id.clone()));
    }
    body(
        Some(&row),
        1,
        || format!("blob {blob}"),
        |body, sum| sum::fits(sum, Kind::Blob, id, &blob.0, body),
    )
}

pub(super) async fn messages(session: &Session, worker: WorkerId) -> Result<Vec<Message>, Failure> {
    let mut messages = Vec::new();
    for row in session.rows(MESSAGES, &[&worker.0]).await? {
        let (id, run) = (row.try_get(2)?, text(&row, 3)?);
        let location = || format!("message {id} of run `{run}`");
        let body = body(Some(&row), 0, location, |body, sum| {
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

pub(super) async fn workers(session: &Session) -> Result<Vec<Worker>, Failure> {
    let rows = session.rows(WORKERS, &[]).await?;
    let worker = |row: &Row| {
        Ok(Worker {
            id: WorkerId(row.try_get(0)?),
            process: Process {
                host: text(row, 1)?,
                boot: text(row, 2)?,
                pid: u32::try_from(number(row, 3)?).unwrap_or(0),
                began: number(row, 4)?,
            },
            beats: number(row, 5)?,
        })
    };
    rows.iter().map(worker).collect()
}
