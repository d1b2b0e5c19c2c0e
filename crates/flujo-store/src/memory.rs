//! Runs in memory: as long as the process, for tests and for programs that want what a store gives and no file.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::store::{
    Blob, BlobId, Change, Claim, Created, Message, MessageId, NewRun, Order, Owner, Page, Process,
    PurgeQuery, Record, RunInfo, RunQuery, RunStore, Seen, StoreError, StoreFuture, StoredRun, Summary,
    Worker, WorkerId,
};
use flujo_core::usage::Usage;

use crate::log::Log;

/// Runs in memory.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    runs: BTreeMap<Arc<str>, Run>,
    messages: BTreeMap<MessageId, Message>,
    workers: BTreeMap<WorkerId, Worker>,
    /// The last number that was given to a worker, and to a message.
    given: (i64, i64),
}

#[derive(Debug)]
struct Run {
    new: NewRun,
    summary: Summary,
    worker: Option<WorkerId>,
    token: u64,
    /// Why writes of this token fail.
    failed: Option<StoreError>,
    through: u64,
    records: Vec<Record>,
    blobs: HashMap<BlobId, Arc<[u8]>>,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> StoreFuture<T> {
        Box::pin(ready(act(&mut self.lock())))
    }
}

fn unknown(run: &Arc<str>) -> StoreError {
    StoreError::UnknownRun {
        run: run.clone(),
        place: "memory".to_owned(),
    }
}

impl Run {
    fn last(&self) -> u64 {
        self.records.last().map_or(self.through, |record| record.number)
    }

    fn bytes(&self) -> u64 {
        let records = self.records.iter().map(|record| record.body.len());
        let blobs = self.blobs.values().map(|body| body.len());
        let whole: usize = records.chain(blobs).sum();
        (self.new.snapshot.len() + self.new.definition.len() + whole) as u64
    }

    /// Makes one change that fits.
    fn change(&mut self, change: Change) {
        match change {
            Change::Append(records) => self.records.extend(records),
            Change::Snapshot { through, body } => {
                self.records.retain(|record| record.number > through);
                self.through = through;
                self.new.snapshot = body;
            }
            Change::Blob(Blob { id, body }) => {
                self.blobs.entry(id).or_insert(body);
            }
            Change::Keep(kept) => self.blobs.retain(|id, _| kept.contains(id)),
            Change::Summary(summary) => self.summary = summary,
            Change::Release => self.worker = None,
            Change::Taken(_) | Change::Delete => {}
        }
    }
}

impl State {
    fn run(&self, run: &Arc<str>) -> Result<&Run, StoreError> {
        self.runs.get(run).ok_or_else(|| unknown(run))
    }

    fn known(&self, worker: WorkerId) -> Result<&Worker, StoreError> {
        let place = || "memory".to_owned();
        self.workers
            .get(&worker)
            .ok_or_else(|| StoreError::UnknownWorker {
                worker,
                place: place(),
            })
    }

    fn info(&self, run: &Run) -> RunInfo {
        let owner = run.worker.and_then(|worker| self.workers.get(&worker));
        RunInfo {
            id: run.new.id.clone(),
            pipeline: run.new.pipeline.clone(),
            created: run.new.created,
            forked_from: run.new.forked_from.clone(),
            summary: run.summary.clone(),
            owner: owner.map(|worker| Owner {
                worker: worker.id,
                process: worker.process.to_string().into(),
                beats: worker.beats,
            }),
            last_record: run.last(),
            bytes: run.bytes(),
        }
    }

    fn create(&mut self, new: NewRun, worker: Option<WorkerId>) -> Result<Created, StoreError> {
        if let Some(run) = self.runs.get(&new.id) {
            return Ok(Created::Exists(Box::new(self.info(run))));
        }
        if let Some(worker) = worker {
            self.known(worker)?;
        }
        let id = new.id.clone();
        let run = Run {
            summary: Summary {
                status: new.status,
                updated: new.created,
                due: None,
                steps: 0,
                usage: Usage::ZERO,
                message: None,
            },
            worker,
            token: 1,
            failed: None,
            through: 0,
            records: Vec::new(),
            blobs: new
                .blobs
                .iter()
                .cloned()
                .map(|blob| (blob.id, blob.body))
                .collect(),
            new,
        };
        self.runs.insert(id.clone(), run);
        Ok(Created::New(worker.map(|worker| Claim {
            run: id,
            worker,
            token: 1,
        })))
    }

    fn claim(&mut self, id: Arc<str>, worker: WorkerId, seen: Seen) -> Result<Claim, StoreError> {
        self.known(worker)?;
        let run = self.run(&id)?;
        let owner = run.worker.and_then(|owner| self.workers.get(&owner));
        let fits = match (seen, owner) {
            (Seen::Free, None) => true,
            (Seen::Owned { worker: seen, beats }, Some(owner)) => {
                seen == owner.id && (seen == worker || beats == owner.beats)
            }
            _ => false,
        };
        if !fits {
            let owner = owner.map_or_else(|| "nobody".to_owned(), |owner| owner.process.to_string());
            return Err(StoreError::Owned { run: id, owner });
        }
        let run = self.runs.get_mut(&id).ok_or_else(|| unknown(&id))?;
        run.token += 1;
        run.worker = Some(worker);
        run.failed = None;
        let token = run.token;
        Ok(Claim {
            run: id,
            worker,
            token,
        })
    }

    fn write(&mut self, claim: &Claim, changes: Vec<Change>) -> Result<(), StoreError> {
        let run = self.runs.get_mut(&claim.run).ok_or_else(|| unknown(&claim.run))?;
        if run.worker != Some(claim.worker) || run.token != claim.token {
            return Err(StoreError::Fenced {
                run: claim.run.clone(),
            });
        }
        if let Some(failed) = &run.failed {
            return Err(failed.clone());
        }
        let log = Log {
            through: run.through,
            last: run.last(),
        };
        if let Err(error) = log.after(&claim.run, &changes) {
            run.failed = Some(error.clone());
            return Err(error);
        }
        for change in changes {
            match change {
                Change::Taken(message) => {
                    if self
                        .messages
                        .get(&message)
                        .is_some_and(|message| message.run == claim.run)
                    {
                        self.messages.remove(&message);
                    }
                }
                Change::Delete => self.delete(&claim.run),
                other => {
                    if let Some(run) = self.runs.get_mut(&claim.run) {
                        run.change(other);
                    }
                }
            }
        }
        Ok(())
    }

    fn delete(&mut self, run: &Arc<str>) {
        self.runs.remove(run);
        self.messages.retain(|_, message| message.run != *run);
    }

    /// Runs that fit, the newest first.
    fn sorted(&self, fits: impl Fn(&Run) -> bool) -> Vec<&Run> {
        let mut runs: Vec<&Run> = self.runs.values().filter(|run| fits(run)).collect();
        runs.sort_by_key(|run| (std::cmp::Reverse(run.new.created), run.new.id.clone()));
        runs
    }

    fn list(&self, query: &RunQuery) -> Page {
        let fits = |run: &Run| {
            let (created, due) = (run.new.created, run.summary.due);
            (query.statuses.is_empty() || query.statuses.contains(&run.summary.status))
                && query
                    .pipeline
                    .as_ref()
                    .is_none_or(|name| *name == run.new.pipeline)
                && query.created_before.is_none_or(|before| created < before)
                && query.created_from.is_none_or(|from| created >= from)
                && query.due_by.is_none_or(|by| due.is_some_and(|due| due <= by))
                && query.owner.is_none_or(|owner| owner == run.worker)
                && (!query.with_messages || self.messages.values().any(|message| message.run == run.new.id))
                && query.after.as_ref().is_none_or(|(time, id)| {
                    let newest = created < *time || (created == *time && run.new.id > *id);
                    match query.order {
                        Order::Newest => newest,
                        Order::Oldest => !newest && (created, &run.new.id) != (*time, id),
                    }
                })
        };
        let (mut found, limit) = (self.sorted(fits), query.limit as usize);
        if query.order == Order::Oldest {
            found.reverse();
        }
        let more = found.len() > limit;
        let runs: Vec<RunInfo> = found.into_iter().take(limit).map(|run| self.info(run)).collect();
        let last = runs.last().map(|run| (run.created, run.id.clone()));
        Page {
            next: if more { last } else { None },
            runs,
        }
    }

    fn purge(&mut self, query: &PurgeQuery) -> u64 {
        let fits = |run: &Run| {
            let status = run.summary.status;
            let asked = if query.statuses.is_empty() {
                status.has_ended()
            } else {
                query.statuses.contains(&status)
            };
            asked
                && query.run.as_ref().is_none_or(|id| *id == run.new.id)
                && query
                    .pipeline
                    .as_ref()
                    .is_none_or(|name| *name == run.new.pipeline)
                && query
                    .updated_before
                    .is_none_or(|before| run.summary.updated < before)
        };
        let keep = usize::try_from(query.keep.unwrap_or(0)).unwrap_or(usize::MAX);
        let most = query.at_most.map_or(usize::MAX, |most| most as usize);
        let behind = self.sorted(fits).into_iter().skip(keep).take(most);
        let going: Vec<_> = behind
            .filter(|run| run.worker.is_none())
            .map(|run| run.new.id.clone())
            .collect();
        for run in &going {
            self.delete(run);
        }
        going.len() as u64
    }

    fn dismiss(&mut self, worker: WorkerId, seen: Option<u64>) -> bool {
        let known = self.workers.get(&worker);
        if known.is_none_or(|worker| seen.is_some_and(|seen| seen != worker.beats)) {
            return false;
        }
        self.workers.remove(&worker);
        let owned = self.runs.values_mut().filter(|run| run.worker == Some(worker));
        owned.for_each(|run| run.worker = None);
        true
    }
}

impl RunStore for Memory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn create(&self, run: NewRun, worker: Option<WorkerId>) -> StoreFuture<Created> {
        self.answer(|state| state.create(run, worker))
    }

    fn claim(&self, run: Arc<str>, worker: WorkerId, seen: Seen) -> StoreFuture<Claim> {
        self.answer(|state| state.claim(run, worker, seen))
    }

    fn write(&self, claim: &Claim, changes: Vec<Change>) -> StoreFuture<()> {
        self.answer(|state| state.write(claim, changes))
    }

    fn info(&self, run: Arc<str>) -> StoreFuture<Option<RunInfo>> {
        self.answer(|state| Ok(state.runs.get(&run).map(|run| state.info(run))))
    }

    fn load(&self, run: Arc<str>) -> StoreFuture<StoredRun> {
        self.answer(|state| {
            let run = state.run(&run)?;
            Ok(StoredRun {
                info: state.info(run),
                definition: run.new.definition.clone(),
                through: run.through,
                snapshot: run.new.snapshot.clone(),
                records: run.records.clone(),
            })
        })
    }

    fn blob(&self, run: Arc<str>, blob: BlobId) -> StoreFuture<Arc<[u8]>> {
        self.answer(|state| {
            let found = state.run(&run)?.blobs.get(&blob);
            found.cloned().ok_or_else(|| StoreError::Corrupt {
                run: Some(run),
                place: "memory".to_owned(),
                location: format!("blob {blob}"),
                reason: "it is missing".to_owned(),
            })
        })
    }

    fn list(&self, query: RunQuery) -> StoreFuture<Page> {
        self.answer(|state| Ok(state.list(&query)))
    }

    fn purge(&self, query: PurgeQuery) -> StoreFuture<u64> {
        self.answer(|state| Ok(state.purge(&query)))
    }

    fn post(&self, run: Arc<str>, message: Arc<[u8]>) -> StoreFuture<MessageId> {
        self.answer(|state| {
            state.run(&run)?;
            state.given.1 += 1;
            let id = MessageId(state.given.1);
            state.messages.insert(
                id,
                Message {
                    id,
                    run,
                    body: message,
                },
            );
            Ok(id)
        })
    }

    fn messages(&self, worker: WorkerId) -> StoreFuture<Vec<Message>> {
        self.answer(|state| {
            let owned = |message: &&Message| {
                let run = state.runs.get(&message.run);
                run.is_some_and(|run| run.worker == Some(worker))
            };
            Ok(state.messages.values().filter(owned).cloned().collect())
        })
    }

    fn enlist(&self, process: Process) -> StoreFuture<WorkerId> {
        self.answer(|state| {
            state.given.0 += 1;
            let id = WorkerId(state.given.0);
            state.workers.insert(
                id,
                Worker {
                    id,
                    process,
                    beats: 0,
                },
            );
            Ok(id)
        })
    }

    fn beat(&self, worker: WorkerId) -> StoreFuture<()> {
        self.answer(|state| {
            state.known(worker)?;
            state.workers.entry(worker).and_modify(|worker| worker.beats += 1);
            Ok(())
        })
    }

    fn dismiss(&self, worker: WorkerId, seen: Option<u64>) -> StoreFuture<bool> {
        self.answer(|state| Ok(state.dismiss(worker, seen)))
    }

    fn workers(&self) -> StoreFuture<Vec<Worker>> {
        self.answer(|state| Ok(state.workers.values().cloned().collect()))
    }

    fn flush(&self) -> StoreFuture<()> {
        Box::pin(ready(Ok(())))
    }
}
