//! What is written: each inside a transaction that is the writer's business.

use std::sync::Arc;

use flujo_core::store::{
    Blob, BlobId, Change, Claim, Created, MessageId, NewRun, Process, Record, Seen, StoreError, Summary,
    WorkerId,
};
use rusqlite::{Connection, OptionalExtension, params};

use super::end::End;
use super::failure::Failure;
use super::known::{Known, Row};
use super::purge::{cut, delete};
use super::read;
use super::statements::Statements;
use crate::log::Log;
use crate::sum::{self, Kind};

/// What is known of a run without its contents.
pub(super) fn row(connection: &Connection, id: &Arc<str>) -> Result<Row, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT run, workers.worker, token, through, last, status, due, tells, runs.worker IS NOT NULL \
         FROM runs LEFT JOIN workers ON workers.worker = runs.worker WHERE id = ?1",
    )?;
    let found = statement.query_row((&**id,), |row| {
        let known = Row {
            run: row.get(0)?,
            worker: row.get(1)?,
            token: row.get::<_, i64>(2)?.cast_unsigned(),
            log: Log {
                through: row.get::<_, i64>(3)?.cast_unsigned(),
                last: row.get::<_, i64>(4)?.cast_unsigned(),
            },
            status: row.get(5)?,
            due: row.get(6)?,
            end: End::told(row.get(7)?),
        };
        Ok((known, row.get(8)?))
    });
    let (mut row, may_be_behind) = found.optional()?.ok_or_else(|| Failure::Unknown(id.clone()))?;
    if may_be_behind {
        row.end = End::found(connection, row.run, row.end.tail, &mut row.log)?;
    }
    Ok(row)
}

/// A worker's process in words, and its counter.
fn worker(connection: &Connection, worker: i64) -> Result<Option<(String, u64)>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT host, pid, beats FROM workers WHERE worker = ?1")?;
    let found = statement.query_row((worker,), |row| {
        let process = format!(
            "process {} on {}",
            row.get::<_, i64>(1)?,
            row.get::<_, String>(0)?
        );
        Ok((process, row.get::<_, i64>(2)?.cast_unsigned()))
    });
    Ok(found.optional()?)
}

fn enlisted(connection: &Connection, id: WorkerId, place: &str) -> Result<(), Failure> {
    if worker(connection, id.0)?.is_some() {
        return Ok(());
    }
    let place = place.to_owned();
    Err(StoreError::UnknownWorker { worker: id, place }.into())
}

pub(super) fn create(
    connection: &Connection,
    new: &NewRun,
    owner: Option<WorkerId>,
    place: &str,
) -> Result<Created, Failure> {
    if let Some(info) = read::info(connection, &new.id)? {
        return Ok(Created::Exists(Box::new(info)));
    }
    if let Some(owner) = owner {
        enlisted(connection, owner, place)?;
    }
    connection
        .prepare_cached(
            "INSERT INTO runs (id, pipeline, created, forked_from, status, updated, steps, cost, tokens, requests, \
             unpriced, worker, token, through, last, bytes) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?3, 0, 0, 0, 0, 0, ?6, 1, 0, 0, ?7)",
        )?
        .execute(params![
            &*new.id,
            &*new.pipeline,
            new.created,
            new.forked_from.as_deref(),
            new.status.as_str(),
            owner.map(|owner| owner.0),
            size(&new.definition) + size(&new.snapshot),
        ])?;
    let run = connection.last_insert_rowid();
    connection
        .prepare_cached("INSERT INTO definitions (run, body, sum) VALUES (?1, ?2, ?3)")?
        .execute(params![
            run,
            &*new.definition,
            sum::of(Kind::Definition, &new.id, &[], &new.definition)
        ])?;
    snapshot(connection, run, &new.id, 0, &new.snapshot)?;
    let mut bytes = 0;
    for blob in &new.blobs {
        bytes += insert_blob(connection, run, &new.id, blob)?;
    }
    if bytes != 0 {
        connection
            .prepare_cached("UPDATE runs SET bytes = bytes + ?2 WHERE run = ?1")?
            .execute((run, bytes))?;
    }
    Ok(Created::New(owner.map(|worker| Claim {
        run: new.id.clone(),
        worker,
        token: 1,
    })))
}

pub(super) fn claim(
    connection: &Connection,
    known: &mut Known,
    id: &Arc<str>,
    by: WorkerId,
    seen: Seen,
    place: &str,
) -> Result<Claim, Failure> {
    enlisted(connection, by, place)?;
    known.forget_one(id);
    let row = row(connection, id)?;
    let owner = match row.worker {
        Some(owner) => worker(connection, owner)?.map(|(process, beats)| (owner, process, beats)),
        None => None,
    };
    let fits = match (seen, &owner) {
        (Seen::Free, None) => true,
        (Seen::Owned { worker, beats }, Some((owner, _, counted))) => {
            worker.0 == *owner && (worker == by || beats == *counted)
        }
        _ => false,
    };
    if !fits {
        let owner = owner.map_or_else(|| "nobody".to_owned(), |(_, process, _)| process);
        let run = id.clone();
        return Err(StoreError::Owned { run, owner }.into());
    }
    let token = row.token + 1;
    connection
        .prepare_cached("UPDATE runs SET worker = ?2, token = ?3 WHERE run = ?1")?
        .execute((row.run, by.0, token.cast_signed()))?;
    Ok(Claim {
        run: id.clone(),
        worker: by,
        token,
    })
}

pub(super) fn write(
    statements: &mut Statements<'_>,
    known: &mut Known,
    claim: &Claim,
    changes: &[Change],
) -> Result<(), Failure> {
    let connection = statements.connection;
    let is_owned = known
        .row(&claim.run, || row(connection, &claim.run))
        .and_then(|row| put(statements, row, claim, changes).map(|()| row.worker.is_some()));
    if !matches!(is_owned, Ok(true)) {
        known.forget_one(&claim.run);
    }
    is_owned.map(drop)
}

/// Afterwards the row names the worker, unless the run was given back or deleted.
fn put(
    statements: &mut Statements<'_>,
    row: &mut Row,
    claim: &Claim,
    changes: &[Change],
) -> Result<(), Failure> {
    let connection = statements.connection;
    if row.worker != Some(claim.worker.0) || row.token != claim.token {
        return Err(StoreError::Fenced {
            run: claim.run.clone(),
        }
        .into());
    }
    // Nothing is written of changes that can't follow.
    row.log.after(&claim.run, changes)?;
    let before = row.log;
    let (mut bytes, mut last) = (0, None);
    for change in changes {
        match change {
            Change::Append(records) => bytes += append(statements, row, &claim.run, records)?,
            Change::Snapshot { through, body } => {
                bytes -= outgrown(connection, row, *through)?;
                snapshot(connection, row.run, &claim.run, *through, body)?;
                bytes += size(body);
            }
            Change::Blob(blob) => bytes += insert_blob(connection, row.run, &claim.run, blob)?,
            Change::Keep(kept) => bytes -= free_blobs(connection, row.run, kept)?,
            Change::Summary(summary) => last = Some(summary),
            Change::Taken(message) => {
                connection
                    .prepare_cached("DELETE FROM messages WHERE message = ?1 AND run = ?2")?
                    .execute((message.0, row.run))?;
            }
            Change::Release => row.worker = None,
            Change::Delete => {
                row.worker = None;
                return delete(connection, row.run, row.log, row.end.tail);
            }
        }
    }
    row.end.add(bytes);
    let appends = changes.iter().all(|change| matches!(change, Change::Append(_)));
    match last {
        Some(summary) => summarise(connection, row, summary)?,
        None if appends && row.end.is_near() => {}
        None if row.log == before && bytes == 0 && row.end.is_told() => {}
        None => grown(connection, row)?,
    }
    if row.worker.is_none() && last.is_none() {
        connection
            .prepare_cached("UPDATE runs SET worker = NULL WHERE run = ?1")?
            .execute((row.run,))?;
    }
    Ok(())
}

/// Tells a run's row where its log ends.
fn grown(connection: &Connection, row: &mut Row) -> Result<(), Failure> {
    let Log { through, last } = row.log;
    let bytes = row.end.tell();
    connection
        .prepare_cached(
            "UPDATE runs SET through = ?2, last = ?3, tells = ?4, bytes = bytes + ?5 WHERE run = ?1",
        )?
        .execute((
            row.run,
            through.cast_signed(),
            last.cast_signed(),
            row.end.tail,
            bytes,
        ))?;
    Ok(())
}

/// Puts records behind the run's last one, and tells their bytes.
fn append(
    statements: &mut Statements<'_>,
    row: &mut Row,
    id: &str,
    records: &[Record],
) -> Result<i64, Failure> {
    let connection = statements.connection;
    let insert = statements.append()?;
    let mut bytes = 0;
    for Record { number, body } in records {
        let sum = sum::numbered(Kind::Record, id, *number, body);
        insert.execute(params![row.run, row.end.tail, &**body, sum])?;
        row.end.tail = Some(connection.last_insert_rowid());
        row.log.last = *number;
        bytes += size(body);
    }
    Ok(bytes)
}

/// Takes out what a snapshot through this record replaces, and tells its bytes.
fn outgrown(connection: &Connection, row: &mut Row, through: u64) -> Result<i64, Failure> {
    let mut snapshot = connection.prepare_cached("SELECT length(body) FROM snapshots WHERE run = ?1")?;
    let before: Option<i64> = snapshot.query_row((row.run,), |row| row.get(0)).optional()?;
    let bytes = cut(connection, row.run, row.log, row.end.tail, through)?;
    row.log.through = through;
    if row.log.last == through {
        row.end.tail = None;
    }
    Ok(before.unwrap_or(0) + bytes)
}

fn snapshot(connection: &Connection, run: i64, id: &str, through: u64, body: &[u8]) -> Result<(), Failure> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO snapshots (run, body, sum) VALUES (?1, ?2, ?3)")?
        .execute(params![
            run,
            body,
            sum::numbered(Kind::Snapshot, id, through, body)
        ])?;
    Ok(())
}

/// Tells how many bytes came.
fn insert_blob(connection: &Connection, run: i64, id: &str, blob: &Blob) -> Result<i64, Failure> {
    let came = connection
        .prepare_cached("INSERT OR IGNORE INTO blobs (run, id, body, sum) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            run,
            blob.id.0,
            &*blob.body,
            sum::of(Kind::Blob, id, &blob.id.0, &blob.body)
        ])?;
    Ok(if came == 0 { 0 } else { size(&blob.body) })
}

/// Deletes the blobs of a run but for these, and tells their bytes.
fn free_blobs(connection: &Connection, run: i64, kept: &[BlobId]) -> Result<i64, Failure> {
    let mut all = connection.prepare_cached("SELECT blob, id, length(body) FROM blobs WHERE run = ?1")?;
    let all = all.query_map((run,), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let all = all.collect::<Result<Vec<(i64, [u8; 32], i64)>, _>>()?;
    let mut delete = connection.prepare_cached("DELETE FROM blobs WHERE blob = ?1")?;
    let mut freed = 0;
    for (blob, id, size) in all {
        if !kept.contains(&BlobId(id)) {
            delete.execute((blob,))?;
            freed += size;
        }
    }
    Ok(freed)
}

/// The columns of a run's row that a summary changes, and more.
macro_rules! summary_and {
    ($more:literal) => {
        concat!(
            "UPDATE runs SET updated = ?2, steps = ?3, cost = ?4, tokens = ?5, requests = ?6, unpriced = ?7, ",
            "message = ?8, through = ?9, last = ?10, tells = ?11, bytes = bytes + ?12",
            $more,
            " WHERE run = ?1"
        )
    };
}

fn summarise(connection: &Connection, row: &mut Row, summary: &Summary) -> Result<(), Failure> {
    // An index is written even when nothing changes.
    let same = row.worker.is_some() && row.status == summary.status.as_str() && row.due == summary.due;
    let (status, usage, bytes) = (summary.status.as_str(), &summary.usage, row.end.tell());
    let values = params![
        row.run,
        summary.updated,
        summary.steps.cast_signed(),
        usage.cost.nanos(),
        usage.tokens.cast_signed(),
        usage.requests.cast_signed(),
        usage.unpriced,
        summary.message.as_deref(),
        row.log.through.cast_signed(),
        row.log.last.cast_signed(),
        row.end.tail,
        bytes,
        status,
        summary.due,
        row.worker,
    ];
    if same {
        let of_the_row = values.split_at(12).0;
        connection.prepare_cached(summary_and!(""))?.execute(of_the_row)?;
    } else {
        let sql = summary_and!(", status = ?13, due = ?14, worker = ?15");
        connection.prepare_cached(sql)?.execute(values)?;
        status.clone_into(&mut row.status);
        row.due = summary.due;
    }
    Ok(())
}

pub(super) fn post(connection: &Connection, id: &Arc<str>, body: &[u8]) -> Result<MessageId, Failure> {
    let run = row(connection, id)?.run;
    connection
        .prepare_cached("INSERT INTO messages (run, body, sum) VALUES (?1, ?2, ?3)")?
        .execute(params![run, body, sum::of(Kind::Message, id, &[], body)])?;
    Ok(MessageId(connection.last_insert_rowid()))
}

pub(super) fn enlist(connection: &Connection, process: &Process) -> Result<WorkerId, Failure> {
    connection
        .prepare_cached("INSERT INTO workers (host, boot, pid, began, beats) VALUES (?1, ?2, ?3, ?4, 0)")?
        .execute(params![
            &*process.host,
            &*process.boot,
            process.pid,
            process.began.cast_signed()
        ])?;
    Ok(WorkerId(connection.last_insert_rowid()))
}

pub(super) fn beat(connection: &Connection, worker: WorkerId, place: &str) -> Result<(), Failure> {
    let raised = connection
        .prepare_cached("UPDATE workers SET beats = beats + 1 WHERE worker = ?1")?
        .execute((worker.0,))?;
    if raised == 0 {
        let place = place.to_owned();
        return Err(StoreError::UnknownWorker { worker, place }.into());
    }
    Ok(())
}

pub(super) fn dismiss(connection: &Connection, worker: WorkerId, seen: Option<u64>) -> Result<bool, Failure> {
    let gone = connection
        .prepare_cached("DELETE FROM workers WHERE worker = ?1 AND (?2 IS NULL OR beats = ?2)")?
        .execute((worker.0, seen.map(u64::cast_signed)))?;
    // Its runs are nobody's now. That their rows name it still tells that these may be behind.
    Ok(gone > 0)
}

fn size(body: &[u8]) -> i64 {
    i64::try_from(body.len()).unwrap_or(i64::MAX)
}
