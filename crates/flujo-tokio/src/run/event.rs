//! What a run tells while it goes on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::machine::{Failure, LanePlace, Notice, NoticeKind};
use flujo_core::stats::Alert;
use flujo_core::usage::Usage;
use flujo_core::value::Value;

use super::parked::Pause;
use super::{RunId, Shared};
use crate::domain::Tokio;
use crate::scope::{Place, lane_name};

/// Something that happened in a run. Shown as one line of text without inputs or outputs.
#[derive(Debug, Clone)]
pub struct Event {
    /// Where.
    pub place: Place,
    /// What.
    pub kind: EventKind,
    /// When, as the run's active time.
    pub at: Duration,
}

/// What happened. `usage` is what a step has used by then, failed attempts and everything inside it included.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventKind {
    /// The run began.
    RunStarted,
    /// A step began.
    StepStarted,
    /// An attempt began.
    AttemptStarted,
    /// A piece of a streamed answer came.
    Chunk(Value),
    /// An attempt failed.
    AttemptFailed {
        /// Why.
        failure: Arc<Failure<Tokio>>,
        /// What the attempts so far have used.
        usage: Usage,
    },
    /// The step's result was found in the cache; no attempt is made.
    CacheHit {
        /// What had been used to make it.
        saved: Usage,
    },
    /// All attempts failed, and the fallback begins.
    FallbackStarted,
    /// A step asks somebody outside and waits.
    Paused(Box<Pause>),
    /// It was answered.
    Resumed,
    /// A step succeeded.
    StepFinished {
        /// What it has used.
        usage: Usage,
        /// How many attempts were made; 0 for constructs.
        attempts: u32,
    },
    /// A step failed.
    StepFailed {
        /// Why.
        failure: Arc<Failure<Tokio>>,
        /// What it has used.
        usage: Usage,
        /// How many attempts were made; 0 for constructs.
        attempts: u32,
    },
    /// A step was stopped.
    StepStopped {
        /// What it has used.
        usage: Usage,
        /// How many attempts were made; 0 for constructs.
        attempts: u32,
    },
    /// A threshold was crossed, or a part gave way to its plain twin; of a step, or of the run as a whole.
    Alert(Box<Alert>),
    /// The run ended, or stands still for answers; nothing follows.
    RunFinished {
        /// How: `completed`, `failed`, `paused`, `cancelled` or `limit_exceeded`.
        status: &'static str,
        /// What all steps and attempts have used.
        usage: Usage,
    },
}

impl Event {
    /// The event of a notice; `None` for a pause, which is told of with its question.
    pub(super) fn of(shared: &Shared, lane: Option<&LanePlace>, notice: Notice<Tokio>) -> Option<Self> {
        let (usage, attempts) = (notice.usage, notice.attempt);
        Some(Self {
            place: shared.place(notice.node, lane, notice.attempt, notice.round.as_ref()),
            kind: match notice.kind {
                NoticeKind::StepStarted => EventKind::StepStarted,
                NoticeKind::AttemptStarted => EventKind::AttemptStarted,
                NoticeKind::AttemptFailed(failure) => EventKind::AttemptFailed { failure, usage },
                NoticeKind::CacheHit(saved) => EventKind::CacheHit { saved },
                NoticeKind::FallbackStarted => EventKind::FallbackStarted,
                NoticeKind::Paused => return None,
                NoticeKind::Resumed => EventKind::Resumed,
                NoticeKind::StepFinished => EventKind::StepFinished { usage, attempts },
                NoticeKind::StepFailed(failure) => EventKind::StepFailed {
                    failure,
                    usage,
                    attempts,
                },
                NoticeKind::StepStopped { .. } => EventKind::StepStopped { usage, attempts },
            },
            at: Duration::from_nanos(notice.at),
        })
    }

    /// An event of the run as a whole.
    pub(super) fn of_run(shared: &Shared, kind: EventKind) -> Self {
        Self {
            place: Place {
                run: shared.id.clone(),
                step: Arc::clone(shared.plan.name()),
                path: Arc::from(""),
                lane: String::new(),
                attempt: 0,
                iterations: Vec::new(),
                span: None,
            },
            kind,
            at: Duration::from_nanos(shared.now()),
        }
    }

    /// The event of an alert.
    pub(super) fn alert(shared: &Shared, alert: Alert) -> Self {
        let step = alert.step.clone();
        let mut event = Self::of_run(shared, EventKind::Alert(Box::new(alert)));
        if let Some(step) = step {
            event.place.step = step;
        }
        event
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.place.run.clone()
    }
}

impl EventKind {
    /// The event's name, as in logs: `step_started`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunStarted => "run_started",
            Self::StepStarted => "step_started",
            Self::AttemptStarted => "attempt_started",
            Self::Chunk(_) => "chunk",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::CacheHit { .. } => "cache_hit",
            Self::FallbackStarted => "fallback_started",
            Self::Paused(_) => "paused",
            Self::Resumed => "resumed",
            Self::StepFinished { .. } => "step_finished",
            Self::StepFailed { .. } => "step_failed",
            Self::StepStopped { .. } => "step_stopped",
            Self::Alert(_) => "alert",
            Self::RunFinished { .. } => "run_finished",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:>8.3}s] ", self.at.as_secs_f64())?;
        if !self.place.lane.is_empty() {
            write!(f, "{} ", self.place.lane)?;
        }
        write!(f, "{}: {}", self.place.step, self.kind.name().replace('_', " "))?;
        if self.place.attempt > 0 {
            write!(f, " (attempt {})", self.place.attempt)?;
        }
        match &self.kind {
            EventKind::AttemptFailed { failure, .. } | EventKind::StepFailed { failure, .. } => {
                write!(f, ": {}", failure.error_type)
            }
            EventKind::Alert(alert) => write!(f, ": {}", alert.message),
            EventKind::RunFinished { status, .. } => write!(f, ": {status}"),
            _ => Ok(()),
        }
    }
}

/// Writes a notice as a `tracing` event.
pub(super) fn trace(shared: &Shared, lane: Option<&LanePlace>, notice: &Notice<Tokio>) {
    let node = shared.plan.node(notice.node);
    let (run, lane, attempt) = (&shared.id, lane_name(&shared.plan, lane), notice.attempt);
    macro_rules! emit {
        ($level:ident, $message:literal $(, $field:ident = $value:expr)*) => {
            tracing::$level!(
                target: "flujo::run", run = %run, step = &*node.path, lane = lane, attempt = attempt,
                $($field = $value,)* $message
            )
        };
    }
    match &notice.kind {
        NoticeKind::StepStarted => emit!(debug, "step started"),
        NoticeKind::AttemptStarted => emit!(debug, "attempt started"),
        NoticeKind::AttemptFailed(failure) => {
            emit!(debug, "attempt failed", error_type = &*failure.error_type);
        }
        NoticeKind::CacheHit(_) => emit!(debug, "cache hit"),
        NoticeKind::FallbackStarted => emit!(debug, "fallback started"),
        NoticeKind::Paused => emit!(debug, "paused"),
        NoticeKind::Resumed => emit!(debug, "resumed"),
        NoticeKind::StepFinished => emit!(debug, "step finished"),
        NoticeKind::StepFailed(failure) => emit!(warn, "step failed", error_type = &*failure.error_type),
        NoticeKind::StepStopped { .. } => emit!(debug, "step stopped"),
    }
}
