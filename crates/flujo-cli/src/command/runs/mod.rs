//! `flujo runs`: what is kept of runs, and going on with them.

mod differences;
mod goes_on;
mod list;
mod look;
mod player;
mod purge;
mod reading;
mod replay;
mod shown;
mod watch;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ArgMatches;
use flujo_blueprint::Functions;
use flujo_core::store::{Page, RunInfo, RunQuery, StoreError, StoreFuture, StoredRun, WallTime};
use flujo_durable::{DurableError, load};
use tokio::runtime::Runtime;

use super::{folder, session};
use crate::arguments::{RunsArguments, RunsCommand};
use crate::outcome::{Exit, Failure};
use crate::settings::Settings;
use crate::store::{self, Store};

pub(super) use reading::Reading;

/// The JSON schema of what `list` and `show` print.
pub(crate) const SCHEMA: &str = include_str!("runs.schema.json");

pub(crate) fn runs(
    arguments: &RunsArguments,
    matches: &ArgMatches,
    functions: Option<&dyn Functions>,
    debug: bool,
) -> Result<Exit, Failure> {
    let settings = Settings::resolve(Some(matches), &folder())?;
    let runs = Runs::open(&settings)?;
    let program = goes_on::Program {
        settings,
        functions,
        debug,
    };
    match &arguments.command {
        RunsCommand::List(list) => list::list(&runs, list),
        RunsCommand::Show(run) => look::show(&runs, run),
        RunsCommand::Watch(run) => watch::watch(&runs, run),
        RunsCommand::Resume(resume) => goes_on::resume(runs, resume, program),
        RunsCommand::Answer(answer) => goes_on::answer(runs, answer, program),
        RunsCommand::Cancel(cancel) => goes_on::cancel(runs, cancel, program),
        RunsCommand::Fork(fork) => goes_on::fork(runs, fork, program),
        RunsCommand::Replay(replay) => replay::replay(&runs, replay, &program),
        RunsCommand::Purge(purge) => purge::purge(&runs, purge),
        RunsCommand::Export { id } => look::export(&runs, id),
    }
}

/// A store, and somebody who waits for its answers.
pub(super) struct Runs {
    store: Store,
    runtime: Runtime,
}

impl Runs {
    pub(super) fn open(settings: &Settings) -> Result<Self, Failure> {
        let runtime = session::runtime()?;
        let store = Store::to_read(settings)?;
        Ok(Self { store, runtime })
    }

    fn ask<T>(&self, asked: StoreFuture<T>) -> Result<T, Failure> {
        self.runtime
            .block_on(asked)
            .map_err(|error| store::failed(&error.into()))
    }

    /// What is known of a run without its contents.
    fn info(&self, id: &str) -> Result<RunInfo, Failure> {
        let runs = self.store.runs();
        let run: Arc<str> = Arc::from(id);
        let info = self.ask(runs.info(Arc::clone(&run)))?;
        info.ok_or_else(|| {
            let place = runs.place();
            store::failed(&DurableError::from(StoreError::UnknownRun { run, place }))
        })
    }

    /// A page of runs.
    pub(super) fn list(&self, query: RunQuery) -> Result<Page, Failure> {
        self.ask(self.store.runs().list(query))
    }

    pub(super) fn load(&self, id: &str) -> Result<StoredRun, Failure> {
        self.ask(load(Arc::clone(self.store.runs()), Arc::from(id)))
    }
}

/// Milliseconds since 1970 began.
fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::try_from(since.as_millis()).unwrap_or(WallTime::MAX)
}

/// So long before now.
pub(super) fn ago(time: std::time::Duration) -> WallTime {
    now().saturating_sub(WallTime::try_from(time.as_millis()).unwrap_or(WallTime::MAX))
}
