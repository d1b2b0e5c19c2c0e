//! What is asked of the server, each a call of a function that does all of it or says why not.

use std::sync::Arc;

use flujo_core::store::{
    Blob, Change, Claim, Created, MessageId, NewRun, Process, PurgeQuery, Record, RunStatus, Seen,
    StoreError, Summary, WorkerId,
};
use tokio_postgres::Row;

use super::failure::Failure;
use super::read;
use super::session::Session;
use crate::log::Log;
use crate::sum::{self, Kind};

const CREATE: &str = "SELECT create_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
const CLAIM: &str = "SELECT code, told_token, host, pid FROM claim_run($1, $2, $3, $4)";
const WRITE: &str = "SELECT code, told_through, told_last FROM write_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
     $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)";
const PURGE: &str = "SELECT purge_runs($1, $2, $3, $4, $5, $6)";
const POST: &str = "SELECT post_message($1, $2, $3)";
const ENLIST: &str = "INSERT INTO workers (host, boot, pid, began) VALUES ($1, $2, $3, $4) RETURNING worker";
const BEAT: &str = "UPDATE workers SET beats = beats + 1 WHERE worker = $1 RETURNING worker";
const DISMISS: &str = "SELECT dismiss_worker($1, $2)";

const KEEP: &str = "WITH gone AS (DELETE FROM blobs WHERE run = (SELECT run FROM runs WHERE id = $1) AND id <> ALL($2) \
         RETURNING octet_length(body) AS size) \
     UPDATE runs SET bytes = bytes - (SELECT coalesce(sum(size), 0)::BIGINT FROM gone) WHERE id = $1 RETURNING run";

const ENTER: &str = "WITH old AS (DELETE FROM lanes WHERE used < now() - INTERVAL '30 days') \
     INSERT INTO lanes DEFAULT VALUES RETURNING lane";
const ADVANCE: &str = "UPDATE lanes SET number = $2, used = now() WHERE lane = $1 RETURNING lane";
const REACHED: &str = "SELECT number FROM lanes WHERE lane = $1 FOR UPDATE";

/// All statements that are prepared with a connection.
pub(super) const ALL: &[&str] = &[
    CREATE,
    CLAIM,
    WRITE,
    PURGE,
    POST,
    ENLIST,
    BEAT,
    DISMISS,
    KEEP,
    ENTER,
    ADVANCE,
    REACHED,
    read::INFO,
    read::INFOS,
    read::LOAD,
    read::RECORDS,
    read::BLOB,
    read::MESSAGES,
    read::WORKERS,
];

pub(super) fn unknown_worker(worker: WorkerId, place: &str) -> Failure {
    let place = place.to_owned();
    StoreError::UnknownWorker { worker, place }.into()
}

fn code(row: &Row) -> Result<String, Failure> {
    Ok(row.try_get(0)?)
}

fn unexpected() -> Failure {
    Failure::Damaged("a function".to_owned(), "it isn't this version's")
}

/// Blobs as a function takes them.
type Blobs<'b> = (Vec<&'b [u8]>, Vec<&'b [u8]>, Vec<i64>);

fn blobs<'b>(run: &str, blobs: impl Iterator<Item = &'b Blob>) -> Blobs<'b> {
    let mut taken = Blobs::default();
    for Blob { id, body } in blobs {
        taken.0.push(&id.0);
        taken.1.push(body);
        taken.2.push(sum::of(Kind::Blob, run, &id.0, body));
    }
    taken
}

pub(super) async fn create(
    session: &Session,
    new: &NewRun,
    owner: Option<WorkerId>,
    place: &str,
) -> Result<Created, Failure> {
    let (ids, bodies, sums) = blobs(&new.id, new.blobs.iter());
    let answer = session
        .one(
            CREATE,
            &[
                &&*new.id,
                &&*new.pipeline,
                &new.created,
                &new.forked_from.as_deref(),
                &new.status.as_str(),
                &owner.map(|owner| owner.0),
                &&*new.definition,
                &sum::of(Kind::Definition, &new.id, &[], &new.definition),
                &&*new.snapshot,
                &sum::numbered(Kind::Snapshot, &new.id, 0, &new.snapshot),
                &ids,
                &bodies,
                &sums,
            ],
        )
        .await?;
    match (code(&answer)?.as_str(), owner) {
        ("done", owner) => Ok(Created::New(owner.map(|worker| Claim {
            run: new.id.clone(),
            worker,
            token: 1,
        }))),
        ("unknown worker", Some(owner)) => Err(unknown_worker(owner, place)),
        ("exists", _) => {
            let info = read::info(session, &new.id).await?;
            info.map(|info| Created::Exists(Box::new(info)))
                .ok_or_else(unexpected)
        }
        _ => Err(unexpected()),
    }
}

pub(super) async fn claim(
    session: &Session,
    run: &Arc<str>,
    by: WorkerId,
    seen: Seen,
    place: &str,
) -> Result<Claim, Failure> {
    let (seen, beats) = match seen {
        Seen::Free => (None, None),
        Seen::Owned { worker, beats } => (Some(worker.0), Some(beats.cast_signed())),
    };
    let answer = session.one(CLAIM, &[&&**run, &by.0, &seen, &beats]).await?;
    match code(&answer)?.as_str() {
        "done" => Ok(Claim {
            run: run.clone(),
            worker: by,
            token: answer.try_get::<_, i64>(1)?.cast_unsigned(),
        }),
        "unknown worker" => Err(unknown_worker(by, place)),
        "unknown run" => Err(Failure::Unknown(run.clone())),
        "owned" => {
            let host: Option<String> = answer.try_get(2)?;
            let pid: Option<i64> = answer.try_get(3)?;
            let owner = match (host, pid) {
                (Some(host), Some(pid)) => format!("process {pid} on {host}"),
                _ => "nobody".to_owned(),
            };
            let run = run.clone();
            Err(StoreError::Owned { run, owner }.into())
        }
        _ => Err(unexpected()),
    }
}

/// Changes as the function takes them: what they come to.
#[derive(Default)]
struct Effect<'c> {
    /// The number of the last record before the first that is appended.
    before: Option<i64>,
    last: Option<i64>,
    records: Vec<&'c Record>,
    low: Option<i64>,
    snapshot: Option<(u64, &'c [u8])>,
    blobs: Vec<&'c Blob>,
    /// The blobs that stay, if others are freed.
    kept: Option<Vec<&'c [u8]>>,
    summary: Option<&'c Summary>,
    taken: Vec<i64>,
    release: bool,
    delete: bool,
}

impl<'c> Effect<'c> {
    /// Whether they can follow one another is known but for where the log stands.
    fn of(run: &Arc<str>, changes: &'c [Change]) -> Result<Self, StoreError> {
        let mut effect = Self::default();
        for change in changes {
            match change {
                Change::Append(records) => {
                    let (Some(first), Some(last)) = (records.first(), records.last()) else {
                        continue;
                    };
                    effect
                        .before
                        .get_or_insert(first.number.wrapping_sub(1).cast_signed());
                    effect.last = Some(last.number.cast_signed());
                    effect.records.extend(records);
                }
                Change::Snapshot { through, body } => {
                    effect.low.get_or_insert(through.cast_signed());
                    effect.snapshot = Some((*through, body));
                }
                Change::Blob(blob) => {
                    effect.blobs.push(blob);
                    effect.kept.iter_mut().for_each(|kept| kept.push(&blob.id.0));
                }
                Change::Keep(kept) => {
                    effect.blobs.retain(|blob| kept.contains(&blob.id));
                    effect.kept = Some(kept.iter().map(|blob| &blob.0[..]).collect());
                }
                Change::Summary(summary) => effect.summary = Some(summary),
                Change::Taken(message) => effect.taken.push(message.0),
                Change::Release => effect.release = true,
                Change::Delete => effect.delete = true,
            }
        }
        // As if the log stood where the first change wants it.
        let assumed = Log {
            through: effect.low.unwrap_or(0).cast_unsigned(),
            last: effect.before.map_or(u64::MAX / 2, i64::cast_unsigned),
        };
        if assumed.last == u64::MAX {
            // A record 0: no log stands before it.
            return Log { through: 0, last: 0 }.after(run, changes).map(|_| effect);
        }
        assumed.after(run, changes)?;
        let through = effect.snapshot.map_or(0, |(through, _)| through);
        effect.records.retain(|record| record.number > through);
        Ok(effect)
    }
}

pub(super) async fn write(session: &Session, claim: &Claim, changes: &[Change]) -> Result<(), Failure> {
    let run = &claim.run;
    // When they can't follow one another, nothing is written; what to say depends on where the log stands.
    let (effect, wrong) = match Effect::of(run, changes) {
        Ok(effect) => (effect, None),
        Err(error) => (
            Effect {
                before: Some(-2),
                ..Effect::default()
            },
            Some(error),
        ),
    };
    let (ids, blobs, blob_sums) = blobs(run, effect.blobs.iter().copied());
    let numbers: Vec<i64> = effect
        .records
        .iter()
        .map(|record| record.number.cast_signed())
        .collect();
    let bodies: Vec<&[u8]> = effect.records.iter().map(|record| &*record.body).collect();
    let sums = effect
        .records
        .iter()
        .map(|record| sum::numbered(Kind::Record, run, record.number, &record.body));
    let sums: Vec<i64> = sums.collect();
    let through = effect.snapshot.map(|(through, _)| through.cast_signed());
    let snapshot = effect.snapshot.map(|(_, body)| body);
    let snapshot_sum = effect
        .snapshot
        .map(|(through, body)| sum::numbered(Kind::Snapshot, run, through, body));
    let summary = effect.summary;
    let usage = summary.map(|summary| summary.usage);
    let answer = session
        .one(
            WRITE,
            &[
                &&**run,
                &claim.worker.0,
                &claim.token.cast_signed(),
                &effect.before,
                &effect.last,
                &numbers,
                &bodies,
                &sums,
                &effect.low,
                &through,
                &snapshot,
                &snapshot_sum,
                &ids,
                &blobs,
                &blob_sums,
                &summary.map(|summary| summary.status.as_str()),
                &summary.map(|summary| summary.updated),
                &summary.and_then(|summary| summary.due),
                &summary.map(|summary| summary.steps.cast_signed()),
                &usage.map(|usage| usage.cost.nanos()),
                &usage.map(|usage| usage.tokens.cast_signed()),
                &usage.map(|usage| usage.requests.cast_signed()),
                &usage.map(|usage| usage.unpriced),
                &summary.and_then(|summary| summary.message.as_deref()),
                &effect.taken,
                &effect.release,
                &effect.delete,
            ],
        )
        .await?;
    match code(&answer)?.as_str() {
        "done" => match effect.kept.filter(|_| !effect.delete) {
            Some(kept) => session.one(KEEP, &[&&**run, &kept]).await.map(drop),
            None => Ok(()),
        },
        "unknown run" => Err(Failure::Unknown(run.clone())),
        "fenced" => Err(StoreError::Fenced { run: run.clone() }.into()),
        "out of order" => {
            let log = Log {
                through: answer.try_get::<_, i64>(1)?.cast_unsigned(),
                last: answer.try_get::<_, i64>(2)?.cast_unsigned(),
            };
            match (log.after(run, changes), wrong) {
                (Err(error), _) | (Ok(_), Some(error)) => Err(error.into()),
                (Ok(_), None) => Err(unexpected()),
            }
        }
        _ => Err(unexpected()),
    }
}

pub(super) async fn purge(session: &Session, query: &PurgeQuery) -> Result<u64, Failure> {
    let ended = RunStatus::ALL.into_iter().filter(|status| status.has_ended());
    let statuses: Vec<RunStatus> = if query.statuses.is_empty() {
        ended.collect()
    } else {
        query.statuses.clone()
    };
    let statuses: Vec<&str> = statuses.into_iter().map(RunStatus::as_str).collect();
    let keep = i64::try_from(query.keep.unwrap_or(0)).unwrap_or(i64::MAX);
    let most = query.at_most.map(i64::from);
    let (run, pipeline) = (query.run.as_deref(), query.pipeline.as_deref());
    let answer = session
        .one(
            PURGE,
            &[&statuses, &run, &pipeline, &query.updated_before, &keep, &most],
        )
        .await?;
    Ok(answer.try_get::<_, i64>(0)?.cast_unsigned())
}

pub(super) async fn post(session: &Session, run: &Arc<str>, body: &[u8]) -> Result<MessageId, Failure> {
    let sum = sum::of(Kind::Message, run, &[], body);
    let answer = session.one(POST, &[&&**run, &body, &sum]).await?;
    let message: Option<i64> = answer.try_get(0)?;
    message
        .map(MessageId)
        .ok_or_else(|| Failure::Unknown(run.clone()))
}

pub(super) async fn enlist(session: &Session, process: &Process) -> Result<WorkerId, Failure> {
    let (host, boot) = (&*process.host, &*process.boot);
    let (pid, began) = (i64::from(process.pid), process.began.cast_signed());
    let answer = session.one(ENLIST, &[&host, &boot, &pid, &began]).await?;
    Ok(WorkerId(answer.try_get(0)?))
}

pub(super) async fn beat(session: &Session, worker: WorkerId, place: &str) -> Result<(), Failure> {
    let raised = session.rows(BEAT, &[&worker.0]).await?;
    if raised.is_empty() {
        Err(unknown_worker(worker, place))
    } else {
        Ok(())
    }
}

pub(super) async fn dismiss(session: &Session, worker: WorkerId, seen: Option<u64>) -> Result<bool, Failure> {
    let answer = session
        .one(DISMISS, &[&worker.0, &seen.map(u64::cast_signed)])
        .await?;
    Ok(answer.try_get(0)?)
}

/// Gives a writing thread a name under which it counts its transactions.
pub(super) async fn enter(session: &Session) -> Result<i64, Failure> {
    Ok(session.one(ENTER, &[]).await?.try_get(0)?)
}

/// Says that the transaction around it is the one of this number.
pub(super) async fn advance(session: &Session, lane: i64, number: i64) -> Result<(), Failure> {
    session.one(ADVANCE, &[&lane, &number]).await.map(drop)
}

/// The number of the last transaction that was done. One that is still on its way to its end is waited for.
pub(super) async fn reached(session: &Session, lane: i64) -> Result<i64, Failure> {
    Ok(session.one(REACHED, &[&lane]).await?.try_get(0)?)
}
