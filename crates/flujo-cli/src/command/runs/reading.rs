//! A stored run, read without its code: on the plan that was stored with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::machine::Finish;
use flujo_core::plan::Plan;
use flujo_core::store::{StoredRun, WallTime};
use flujo_durable::{Contents, Definition, DurableError, Questions, Raw, Replay, Uncalled};

use crate::outcome::Failure;
use crate::store;

/// What can be read of a stored run.
pub(in crate::command) struct Reading {
    pub(in crate::command) definition: Definition,
    /// What happened in it; why that can't be read, when it can't.
    pub(in crate::command) steps: Result<Steps, String>,
}

/// What happened in a run.
pub(in crate::command) struct Steps {
    pub(in crate::command) plan: Arc<Plan<Uncalled>>,
    /// How it ended, or what it has done so far.
    pub(in crate::command) finish: Arc<Finish<Raw>>,
    /// The run's active time as of its last record.
    pub(super) now: Duration,
    /// The questions that wait for answers.
    pub(super) questions: Questions<Raw>,
    /// When they were asked, as far as that is known: by the numbers of their machines.
    pub(super) asked: BTreeMap<u32, WallTime>,
    /// Why the rest of the log can't be followed without the pipeline, when it can't.
    pub(super) cut: Option<String>,
}

impl Reading {
    /// Reads a run.
    ///
    /// # Errors
    /// Damage, with its place.
    pub(in crate::command) fn of(stored: &StoredRun) -> Result<Self, Failure> {
        Self::read(stored).map_err(|error| store::failed(&error))
    }

    fn read(stored: &StoredRun) -> Result<Self, DurableError> {
        let definition = Definition::of_stored(stored)?;
        let contents = Contents::<Raw>::of(stored)?;
        let steps = match definition.plan() {
            Ok(plan) => steps(Arc::clone(&stored.info.id), Arc::new(plan), contents),
            Err(reason) => Err(reason),
        };
        Ok(Self { definition, steps })
    }
}

fn steps(run: Arc<str>, plan: Arc<Plan<Uncalled>>, contents: Contents<Raw>) -> Result<Steps, String> {
    let mut replay = Replay::new(Arc::clone(&plan), contents.snapshot)?;
    let mut entries = contents.records.into_iter().flat_map(|(_, entries)| entries);
    let cut = entries.try_for_each(|entry| replay.feed(entry)).err();
    let (asked, questions) = (replay.asked(), Questions::of(run, &replay));
    let now = Duration::from_nanos(replay.now());
    let finish = replay.into_done().ok_or("it has neither begun nor ended")?;
    Ok(Steps {
        plan,
        finish: Arc::from(finish),
        now,
        questions,
        asked: asked.into_iter().collect(),
        cut,
    })
}
