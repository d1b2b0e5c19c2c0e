//! A run that a limit on its usage stopped, or that was cancelled: what it goes on from, in this process.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use flujo_core::config::Twins;
use flujo_core::machine::{Kept, Time};
use flujo_core::store::WallTime;
use flujo_core::telemetry::SpanContext;
use flujo_core::usage::{Usage, UsageLimits};
use flujo_durable::{LogPlace, passed};

use super::{ResumeError, RunId, Shared};
use crate::analysis::Analysed;
use crate::domain::Tokio;
use crate::runner::Running;

/// A run that was stopped, by a limit or by being cancelled. Cloning shares it; see
/// [`Runner::resume_stopped`](crate::Runner::resume_stopped).
#[derive(Clone)]
pub struct StoppedRun(pub(super) Arc<Stopped>);

impl fmt::Debug for StoppedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoppedRun")
            .field("id", &self.0.id)
            .field("used", &self.0.used)
            .finish_non_exhaustive()
    }
}

/// What is kept of a run that was stopped.
pub(super) struct Stopped {
    pub(super) id: RunId,
    runner: Arc<Running>,
    pub(super) twins: Twins,
    pub(super) parent: Option<SpanContext>,
    pub(super) analysed: Arc<Analysed>,
    /// The run's own time when it stopped.
    pub(super) at: Time,
    /// The time on the wall then.
    since: WallTime,
    /// What it had used by then.
    pub(super) used: Usage,
    /// Where it is in a store: its name there, how far its log is, and the token it was written with.
    pub(super) log: Option<(Arc<str>, LogPlace, Option<u64>)>,
    /// `None` while it goes on, and from then on.
    kept: Mutex<Option<Box<Kept<Tokio>>>>,
}

/// What a run goes on from. Puts it back when it is dropped before the run has gone on.
pub(super) struct GoingOn {
    pub(super) stopped: Arc<Stopped>,
    /// Other limits than the runner's own.
    pub(super) raised: Option<UsageLimits>,
    kept: Option<Box<Kept<Tokio>>>,
}

impl GoingOn {
    pub(super) fn take(mut self) -> Option<Kept<Tokio>> {
        let mut kept = *self.kept.take()?;
        kept.sleep_on(passed(self.stopped.since, self.stopped.runner.wall()));
        Some(kept)
    }
}

impl Drop for GoingOn {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.stopped.put(Some(kept));
        }
    }
}

impl Stopped {
    fn put(&self, kept: Option<Box<Kept<Tokio>>>) -> Option<Box<Kept<Tokio>>> {
        // A whole value is put in place, so it is good also after a panic.
        let mut place = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, kept)
    }
}

impl StoppedRun {
    pub(super) fn new(
        shared: &Shared,
        runner: &Arc<Running>,
        used: Usage,
        log: Option<(Arc<str>, LogPlace, Option<u64>)>,
        kept: Box<Kept<Tokio>>,
        since: WallTime,
    ) -> Self {
        Self(Arc::new(Stopped {
            id: shared.id.clone(),
            runner: Arc::clone(runner),
            twins: shared.twins.now(),
            parent: shared.parent,
            analysed: Arc::clone(&shared.analysed),
            at: shared.now(),
            since,
            used,
            log,
            kept: Mutex::new(Some(kept)),
        }))
    }

    /// The run.
    pub fn id(&self) -> RunId {
        self.0.id.clone()
    }

    /// What it has used so far, which counts against the limits that it goes on with.
    pub fn used(&self) -> Usage {
        self.0.used
    }

    pub(super) fn go_on(
        &self,
        runner: &Arc<Running>,
        raised: Option<UsageLimits>,
    ) -> Result<GoingOn, ResumeError> {
        let (run, used) = (self.0.id.clone(), self.0.used);
        if !Arc::ptr_eq(&self.0.runner, runner) {
            return Err(ResumeError::OtherRunner { run });
        }
        if raised.unwrap_or(runner.limits).passed_by(used).is_some() {
            return Err(ResumeError::LimitTooLow { run, used });
        }
        let kept = self.0.put(None).ok_or(ResumeError::NotStopped { run })?;
        Ok(GoingOn {
            stopped: Arc::clone(&self.0),
            raised,
            kept: Some(kept),
        })
    }
}
