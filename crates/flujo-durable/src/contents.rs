//! A stored run, read: replayed on its plan, or as far as a step of it.

use std::sync::Arc;

use flujo_core::plan::Plan;
use flujo_core::store::{Record, StoredRun};

use crate::snapshot::Snapshot;
use crate::{DurableError, Entry, ForkError, ForkPoint, Recorded, Replay};

/// A stored run's snapshot and what came after it.
#[derive(Debug)]
pub struct Contents<D: Recorded> {
    run: Arc<str>,
    /// The snapshot.
    pub snapshot: Snapshot<D>,
    /// What came after it, by the numbers of the records.
    pub records: Vec<(u64, Vec<Entry<D>>)>,
}

impl<D: Recorded> Contents<D> {
    /// What is stored of a run.
    ///
    /// # Errors
    /// [`DurableError::Corrupt`] says which part can't be read.
    pub fn of(stored: &StoredRun) -> Result<Self, DurableError> {
        let run = &stored.info.id;
        let corrupt = |location: String, reason: String| DurableError::Corrupt {
            run: Arc::clone(run),
            location,
            reason,
        };
        let snapshot = Snapshot::from_bytes(&stored.snapshot)
            .map_err(|reason| corrupt("the snapshot".to_owned(), reason))?;
        let mut records = Vec::with_capacity(stored.records.len());
        for Record { number, body } in &stored.records {
            let entries =
                Entry::read_all(body).map_err(|reason| corrupt(format!("record {number}"), reason))?;
            records.push((*number, entries));
        }
        Ok(Self {
            run: Arc::clone(run),
            snapshot,
            records,
        })
    }

    /// Calls steps by other paths.
    pub(crate) fn rename(&mut self, now: impl Fn(&Arc<str>) -> Arc<str>) {
        for entry in self.records.iter_mut().flat_map(|(_, entries)| entries) {
            entry.step = entry.step.as_ref().map(&now);
        }
        if let Snapshot::Machines { machines, .. } = &mut self.snapshot {
            for once in machines.iter_mut().filter_map(|saved| saved.once.as_mut()) {
                once.step = now(&once.step);
            }
        }
    }

    /// What the run was when a step of it began, for another run to begin with.
    ///
    /// # Errors
    /// [`DurableError::Fork`] when there is no such step, or it didn't begin; [`DurableError::Diverged`] when the plan isn't
    /// what the run began with up to there.
    pub fn fork(self, plan: Arc<Plan<D::Callable>>, from: &ForkPoint) -> Result<Snapshot<D>, DurableError> {
        let run = Arc::clone(&self.run);
        let forked = |error| DurableError::Fork {
            run: Arc::clone(&run),
            error,
        };
        let step = from.find(&plan).map_err(forked)?;
        let diverged = |location: String, reason| DurableError::Diverged {
            run: Arc::clone(&run),
            location,
            reason,
        };
        let from_start = matches!(self.snapshot, Snapshot::Start(_));
        let mut replay =
            Replay::new(plan, self.snapshot).map_err(|reason| diverged("the snapshot".to_owned(), reason))?;
        if replay.has_begun(step, from.iteration) {
            return if from_start {
                replay
                    .into_snapshot()
                    .map_err(|reason| diverged("its beginning".to_owned(), reason))
            } else {
                Err(forked(ForkError::Forgotten { step: from.clone() }))
            };
        }
        for (number, entries) in self.records {
            for entry in entries {
                let begun = replay
                    .feed_until(entry, step, from.iteration)
                    .map_err(|reason| diverged(format!("record {number}"), reason))?;
                if begun {
                    let snapshot = replay.into_snapshot();
                    return snapshot.map_err(|reason| diverged(format!("record {number}"), reason));
                }
            }
        }
        let step = from.clone();
        Err(forked(match replay.into_finish() {
            Some(_) if !from_start => ForkError::Forgotten { step },
            _ => ForkError::NotReached { step },
        }))
    }

    /// Replays it on a plan.
    ///
    /// # Errors
    /// [`DurableError::Diverged`] when the plan isn't what the run began with.
    pub fn replay(self, plan: Arc<Plan<D::Callable>>) -> Result<Replay<D>, DurableError> {
        let run = self.run;
        let diverged = |location: String, reason| DurableError::Diverged {
            run: Arc::clone(&run),
            location,
            reason,
        };
        let mut replay =
            Replay::new(plan, self.snapshot).map_err(|reason| diverged("the snapshot".to_owned(), reason))?;
        for (number, entries) in self.records {
            for entry in entries {
                replay
                    .feed(entry)
                    .map_err(|reason| diverged(format!("record {number}"), reason))?;
            }
        }
        Ok(replay)
    }
}
