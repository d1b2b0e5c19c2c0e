//! Random histories: two workers with a store each in one place, stale claims, crashes. Two stores must answer alike.

use std::collections::HashSet;
use std::fmt::Debug;
use std::mem::discriminant;
use std::sync::Arc;

use flujo_core::store::{
    Change, Claim, Created, MessageId, NewRun, Page, PurgeQuery, Record, RunInfo, RunQuery, RunStatus,
    RunStore, Seen, StoreError, Summary, WorkerId,
};
use flujo_core::usage::Usage;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::check::{blob, new, process, wait};
use crate::{Broken, Place};

const RUNS: usize = 3;
/// How long a history is at most.
const LONGEST: usize = 40;

/// What is done, with runs, workers and claims by their place among those there are.
#[derive(Debug, Clone)]
enum Act {
    Create {
        run: usize,
        owned: bool,
        by: usize,
    },
    Claim {
        run: usize,
        by: usize,
        stale: bool,
    },
    Write {
        claim: usize,
        changes: Vec<Part>,
    },
    Post {
        run: usize,
    },
    Beat {
        by: usize,
    },
    Dismiss {
        of: usize,
        stale: bool,
    },
    Purge {
        status: usize,
        keep: Option<u64>,
    },
    List {
        status: Option<usize>,
        limit: u32,
        due: bool,
        waiting: bool,
    },
    Messages {
        of: usize,
    },
    Crash {
        of: usize,
    },
}

#[derive(Debug, Clone)]
enum Part {
    Append { count: u64, gap: bool },
    Snapshot { back: u64 },
    Blob(u8),
    Keep(Vec<u8>),
    Summary { status: usize, due: Option<i64> },
    Taken(usize),
    Release,
    Delete,
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        8 => (0..4_u64, prop::bool::weighted(0.05)).prop_map(|(count, gap)| Part::Append { count, gap }),
        3 => (0..5_u64).prop_map(|back| Part::Snapshot { back }),
        2 => (0..3_u8).prop_map(Part::Blob),
        1 => prop::collection::vec(0..3_u8, 0..3).prop_map(Part::Keep),
        3 => (0..7_usize, prop::option::of(0..5_i64)).prop_map(|(status, due)| Part::Summary { status, due }),
        1 => (0..9_usize).prop_map(Part::Taken),
        1 => Just(Part::Release),
        1 => Just(Part::Delete),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let by = 0..2_usize;
    prop_oneof![
        4 => (0..RUNS, any::<bool>(), by.clone()).prop_map(|(run, owned, by)| Act::Create { run, owned, by }),
        4 => (0..RUNS, by.clone(), prop::bool::weighted(0.3)).prop_map(|(run, by, stale)| Act::Claim { run, by, stale }),
        12 => (0..4_usize, vec(part(), 0..4)).prop_map(|(claim, changes)| Act::Write { claim, changes }),
        2 => (0..RUNS).prop_map(|run| Act::Post { run }),
        2 => by.clone().prop_map(|by| Act::Beat { by }),
        1 => (by.clone(), any::<bool>()).prop_map(|(of, stale)| Act::Dismiss { of, stale }),
        1 => (0..7_usize, prop::option::of(0..2_u64)).prop_map(|(status, keep)| Act::Purge { status, keep }),
        2 => (prop::option::of(0..7_usize), 0..4_u32, any::<bool>(), any::<bool>())
            .prop_map(|(status, limit, due, waiting)| Act::List { status, limit, due, waiting }),
        2 => by.clone().prop_map(|of| Act::Messages { of }),
        1 => by.prop_map(|of| Act::Crash { of }),
    ]
}

/// Plays so many random histories on both and wants the same answers; when they differ, tells the shortest such history
/// that was found.
pub fn compare<A: Place, B: Place>(
    one: impl Fn() -> A,
    other: impl Fn() -> B,
    cases: u32,
) -> Result<(), Broken> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let history = vec(act(), 1..LONGEST);
    let mut runner = TestRunner::new(config);
    let played = runner.run(&history, |history| {
        let (one, other) = (one(), other());
        let fail = |broken: Broken| TestCaseError::fail(broken.0);
        let (mut one, mut other) = (Side::new(&one).map_err(fail)?, Side::new(&other).map_err(fail)?);
        for act in &history {
            let (said, wanted) = (one.play(act), other.play(act));
            prop_assert_eq!(said, wanted, "after {:?}", act);
            if matches!(act, Act::Crash { .. }) {
                prop_assert_eq!(one.all(), other.all());
            }
        }
        prop_assert_eq!(one.all(), other.all());
        Ok(())
    });
    played.map_err(|failure| Broken(failure.to_string()))
}

/// One of the two stores, with what the history has got from it.
struct Side<'p> {
    place: &'p dyn Place,
    stores: [Arc<dyn RunStore>; 2],
    workers: Vec<WorkerId>,
    /// The worker of each of the two.
    now: [usize; 2],
    /// Each with the one that has it.
    claims: Vec<(usize, Claim)>,
    messages: Vec<MessageId>,
    /// Claims of which a write has failed.
    failed: HashSet<(Arc<str>, u64)>,
}

impl<'p> Side<'p> {
    fn new(place: &'p dyn Place) -> Result<Self, Broken> {
        let stores = [place.open(), place.open()];
        let workers = vec![
            wait(stores[0].enlist(process(0)))?,
            wait(stores[1].enlist(process(1)))?,
        ];
        Ok(Self {
            place,
            stores,
            workers,
            now: [0, 1],
            claims: Vec::new(),
            messages: Vec::new(),
            failed: HashSet::new(),
        })
    }

    fn worker(&self, of: usize) -> WorkerId {
        self.workers[self.now[of]]
    }

    /// Does something and tells what came of it, in words that don't depend on the store.
    fn play(&mut self, act: &Act) -> String {
        match act {
            Act::Create { run, owned, by } => {
                let new = NewRun {
                    created: i64::try_from(*run).unwrap_or(0) / 2,
                    status: if *owned {
                        RunStatus::Running
                    } else {
                        RunStatus::Queued
                    },
                    blobs: vec![blob(b"given")],
                    ..new(&format!("run {run}"))
                };
                let created = wait(self.stores[*by].create(new, owned.then(|| self.worker(*by))));
                match created {
                    Ok(Created::New(claim)) => {
                        let told = format!("new, token {:?}", claim.as_ref().map(|claim| claim.token));
                        self.claims.extend(claim.map(|claim| (*by, claim)));
                        told
                    }
                    Ok(Created::Exists(info)) => self.info(&info),
                    Err(error) => kind(&error),
                }
            }
            Act::Claim { run, by, stale } => self.claim(*run, *by, *stale),
            Act::Write { claim, changes } => {
                let newest = self.claims.len().checked_sub(claim + 1);
                let Some((by, claim)) = newest.map(|at| self.claims[at].clone()) else {
                    return "no claim".to_owned();
                };
                let changes = self.changes(&claim.run, changes);
                let told = wait(self.stores[by].write(&claim, changes));
                // Which error is told behind the first one is the store's business.
                let first = told.is_ok() || self.failed.insert((claim.run, claim.token));
                if first {
                    Self::told(told)
                } else {
                    "refused".to_owned()
                }
            }
            Act::Post { run } => {
                let posted =
                    wait(self.stores[0].post(format!("run {run}").into(), b"posted".as_slice().into()));
                self.messages.extend(posted.as_ref().ok());
                Self::told(posted.map(|_| ()))
            }
            Act::Beat { by } => Self::told(wait(self.stores[*by].beat(self.worker(*by)))),
            Act::Dismiss { of, stale } => {
                let worker = self.worker(*of);
                let beats = self.beats(worker).map(|beats| beats + u64::from(*stale));
                let gone = wait(self.stores[1 - of].dismiss(worker, beats));
                let told = Self::told(gone);
                self.enlist(*of);
                told
            }
            Act::Purge { status, keep } => {
                let query = PurgeQuery {
                    statuses: if *status == 0 {
                        Vec::new()
                    } else {
                        vec![RunStatus::ALL[*status]]
                    },
                    keep: *keep,
                    ..PurgeQuery::default()
                };
                Self::told(wait(self.stores[0].purge(query)))
            }
            Act::List {
                status,
                limit,
                due,
                waiting,
            } => {
                let query = RunQuery {
                    statuses: status.iter().map(|status| RunStatus::ALL[*status]).collect(),
                    limit: *limit,
                    due_by: due.then_some(2),
                    with_messages: *waiting,
                    ..RunQuery::default()
                };
                self.page(wait(self.stores[1].list(query)))
            }
            Act::Messages { of } => {
                let messages = wait(self.stores[*of].messages(self.worker(*of))).map(|messages| {
                    let place = |id| self.messages.iter().position(|known| *known == id);
                    messages
                        .into_iter()
                        .map(|told| (place(told.id), told.run, told.body))
                        .collect::<Vec<_>>()
                });
                Self::told(messages)
            }
            Act::Crash { of } => {
                // Dropped, not closed; its claims are gone with it.
                self.claims.retain(|(by, _)| by != of);
                self.stores[*of] = self.place.open();
                self.enlist(*of);
                String::new()
            }
        }
    }

    fn claim(&mut self, run: usize, by: usize, stale: bool) -> String {
        let run: Arc<str> = format!("run {run}").into();
        let owner = wait(self.stores[by].info(run.clone()))
            .ok()
            .flatten()
            .and_then(|info| info.owner);
        let seen = match owner {
            Some(owner) if !stale => Seen::Owned {
                worker: owner.worker,
                beats: owner.beats,
            },
            Some(owner) => Seen::Owned {
                worker: owner.worker,
                beats: owner.beats + 1,
            },
            None if stale => Seen::Owned {
                worker: self.worker(1 - by),
                beats: 0,
            },
            None => Seen::Free,
        };
        match wait(self.stores[by].claim(run, self.worker(by), seen)) {
            Ok(claim) => {
                let told = format!("claimed, token {}", claim.token);
                self.claims.push((by, claim));
                told
            }
            Err(error) => kind(&error),
        }
    }

    fn changes(&self, run: &Arc<str>, parts: &[Part]) -> Vec<Change> {
        let info = wait(self.stores[0].info(run.clone())).ok().flatten();
        let mut last = info.map_or(0, |info| info.last_record);
        let mut changes = Vec::new();
        for part in parts {
            changes.push(match part {
                Part::Append { count, gap } => {
                    let first = last + 1 + u64::from(*gap);
                    last = first + count - 1;
                    let record = |number: u64| Record {
                        number,
                        body: format!("{run} {number}").into_bytes().into(),
                    };
                    Change::Append((first..first + count).map(record).collect())
                }
                Part::Snapshot { back } => Change::Snapshot {
                    through: last.saturating_sub(*back),
                    body: format!("snapshot {last} {back}").into_bytes().into(),
                },
                Part::Blob(body) => Change::Blob(blob(&[*body; 5])),
                Part::Keep(bodies) => Change::Keep(bodies.iter().map(|body| blob(&[*body; 5]).id).collect()),
                Part::Summary { status, due } => Change::Summary(Summary {
                    status: RunStatus::ALL[*status],
                    updated: 3,
                    due: *due,
                    steps: last,
                    usage: Usage::ZERO,
                    message: due.map(|due| due.to_string().into()),
                }),
                Part::Taken(at) => {
                    Change::Taken(self.messages.get(*at).copied().unwrap_or(MessageId(i64::MAX)))
                }
                Part::Release => Change::Release,
                Part::Delete => Change::Delete,
            });
        }
        changes
    }

    fn beats(&self, worker: WorkerId) -> Option<u64> {
        let workers = wait(self.stores[0].workers()).ok()?;
        workers
            .iter()
            .find(|known| known.id == worker)
            .map(|known| known.beats)
    }

    fn enlist(&mut self, of: usize) {
        if let Ok(worker) = wait(self.stores[of].enlist(process(9))) {
            self.now[of] = self.workers.len();
            self.workers.push(worker);
        }
    }

    /// Everything there is.
    fn all(&self) -> String {
        let page = wait(self.stores[0].list(RunQuery::default()));
        let mut all = self.page(page.clone());
        for run in page.iter().flat_map(|page| &page.runs) {
            let loaded = wait(self.stores[1].load(run.id.clone()));
            let loaded = match loaded {
                Ok(run) => format!(
                    "{} {:?}",
                    self.info(&run.info),
                    (run.through, run.snapshot, run.records)
                ),
                Err(error) => kind(&error),
            };
            all += &loaded;
            for body in [&b"given"[..], &[0; 5], &[1; 5], &[2; 5]] {
                all += &Self::told(wait(self.stores[1].blob(run.id.clone(), blob(body).id)));
            }
        }
        all
    }

    fn page(&self, page: Result<Page, StoreError>) -> String {
        match page {
            Ok(page) => {
                let runs: Vec<_> = page.runs.iter().map(|info| self.info(info)).collect();
                format!("{runs:?}, next {:?}", page.next)
            }
            Err(error) => kind(&error),
        }
    }

    /// A run, its owner by its place.
    fn info(&self, info: &RunInfo) -> String {
        let owner = info.owner.as_ref();
        let place = |worker| self.workers.iter().position(|known| *known == worker);
        let owner = owner.map(|owner| (place(owner.worker), owner.beats));
        let info = RunInfo {
            owner: None,
            ..info.clone()
        };
        format!("{info:?} of {owner:?}")
    }

    fn told<T: Debug>(told: Result<T, StoreError>) -> String {
        match told {
            Ok(value) => format!("{value:?}"),
            Err(error) => kind(&error),
        }
    }
}

/// Which error it is, without what names the store.
fn kind(error: &StoreError) -> String {
    format!("{:?}", discriminant(error))
}
