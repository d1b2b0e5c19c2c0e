//! A run, typed: its handle, its result, and why it didn't complete.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};

use futures_core::Stream;

use flujo_core::context::Context as Fields;
use flujo_core::machine::{Failure, FailureKind, LimitBreach, Outcome, Stop};
use flujo_core::telemetry::SpanContext;
use flujo_core::usage::Usage;
use flujo_core::value::{CodecError, Value};
use flujo_durable::DurableError;
use flujo_tokio::{
    BuildError, Canceller, Done, Event, Events, PausedRun, ResumeError, Run as Untyped, RunId, StoppedRun,
    Tokio, user_error,
};

use crate::payload::unwrap;
use crate::{Context, ContextError, Payload, Steps};

/// A run that completed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Run<O, C = ()> {
    /// The run.
    pub id: RunId,
    /// The last step's output.
    pub output: O,
    /// The context as it was committed last.
    pub context: C,
    /// What happened, step by step.
    pub steps: Steps,
    /// The sum over all steps and attempts.
    pub usage: Usage,
}

/// What there is of a run that didn't complete.
#[derive(Debug)]
#[non_exhaustive]
pub struct PartialRun {
    /// The run.
    pub id: RunId,
    /// The context as it was committed last.
    pub context: Fields,
    /// What happened, step by step.
    pub steps: Steps,
    /// The sum over all steps and attempts.
    pub usage: Usage,
    /// What it goes on from, when a limit on the run's usage stopped it or it was cancelled: see
    /// [`Flujo::resume_stopped`](crate::Flujo::resume_stopped).
    pub stopped: Option<StoppedRun>,
}

/// Why a run didn't complete. [`source`](Error::source) is the user's own error.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// A step failed and nothing caught it.
    Failed {
        /// What failed, in which step and stage, on which attempt.
        failure: Arc<Failure<Tokio>>,
        /// The run so far.
        partial: Box<PartialRun>,
    },
    /// A usage limit was reached.
    LimitExceeded {
        /// Which limit, and what had been used.
        breach: Arc<LimitBreach>,
        /// The run so far.
        partial: Box<PartialRun>,
    },
    /// The run can go no further but for answers: see [`Flujo::resume`](crate::Flujo::resume).
    Paused {
        /// What it asks, and what it is resumed by.
        paused: PausedRun,
        /// The run so far.
        partial: Box<PartialRun>,
    },
    /// Cost is limited, and a step uses a model whose price nobody has given.
    PricingNotConfigured {
        /// Which step, under which limit.
        failure: Arc<Failure<Tokio>>,
        /// The run so far.
        partial: Box<PartialRun>,
    },
    /// The run was cancelled.
    Cancelled {
        /// Why, when a step asked for it.
        reason: Option<Arc<str>>,
        /// The run so far.
        partial: Box<PartialRun>,
    },
    /// The run can't be kept in the store, or not be found there as it is to be.
    Durable {
        /// Why.
        error: DurableError,
        /// The run so far.
        partial: Box<PartialRun>,
    },
    /// The run could not begin, or its result not be read.
    Invalid(InvalidRun),
}

/// Why a run could not begin, or its result not be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidRun {
    /// The pipeline cannot run.
    #[error(transparent)]
    Pipeline(#[from] BuildError),
    /// The context cannot be kept or read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A paused run cannot be resumed like this; it stays paused.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// An answer cannot be kept as data; the run stays paused.
    #[error("the answer: {0}")]
    Answer(CodecError),
    /// The store can't be used like this.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// An untyped part of the pipeline gave another type than its pipeline says.
    #[error("the run's output: {0}")]
    Output(String),
}

impl From<InvalidRun> for RunError {
    fn from(invalid: InvalidRun) -> Self {
        Self::Invalid(invalid)
    }
}

impl RunError {
    /// What the run is resumed by, when it is paused.
    pub fn paused(&self) -> Option<&PausedRun> {
        match self {
            Self::Paused { paused, .. } => Some(paused),
            _ => None,
        }
    }

    /// What the run goes on from, when it was stopped.
    pub fn stopped(&self) -> Option<&StoppedRun> {
        self.partial()?.stopped.as_ref()
    }

    /// The run so far; `None` when it never began.
    pub fn partial(&self) -> Option<&PartialRun> {
        match self {
            Self::Failed { partial, .. }
            | Self::Paused { partial, .. }
            | Self::LimitExceeded { partial, .. }
            | Self::PricingNotConfigured { partial, .. }
            | Self::Cancelled { partial, .. }
            | Self::Durable { partial, .. } => Some(partial),
            Self::Invalid(_) => None,
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { failure, .. } => write!(f, "step `{}` failed: {failure}", failure.step),
            Self::LimitExceeded { breach, .. } => {
                let how = if breach.refused { "before" } else { "by" };
                write!(
                    f,
                    "{breach} {how} step `{}`, after {} and {} tokens: raise the limit, or let the pipeline use less",
                    breach.step, breach.used.cost, breach.used.tokens
                )
            }
            Self::Paused { paused, .. } => {
                f.write_str("the run waits for answers: ")?;
                for (place, pause) in paused.pauses().iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}step `{}` asks as `{}`", pause.step, pause.id)?;
                }
                Ok(())
            }
            Self::PricingNotConfigured { failure, .. } => failure.fmt(f),
            Self::Cancelled { reason: None, .. } => f.write_str("the run was cancelled"),
            Self::Cancelled {
                reason: Some(reason), ..
            } => write!(f, "the run was ended: {reason}"),
            Self::Durable { error, .. } => error.fmt(f),
            Self::Invalid(invalid) => invalid.fmt(f),
        }
    }
}

impl Error for RunError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { failure, .. } => user_error(failure),
            Self::Durable { error, .. } => Some(error),
            Self::Invalid(InvalidRun::Pipeline(error)) => error.source(),
            Self::Invalid(InvalidRun::Context(error)) => error.source(),
            _ => None,
        }
    }
}

/// One run under way. Await it to drive it to its end, or read its [events](Self::events) to drive it as far as they
/// are read. Nothing happens before that; dropping it cancels the run. To let it go on by itself, spawn it.
#[must_use = "a run does nothing until it is awaited"]
pub struct RunHandle<O, C = ()> {
    run: Result<Untyped, Option<InvalidRun>>,
    id: RunId,
    types: PhantomData<fn() -> (O, C)>,
}

impl<O, C> RunHandle<O, C> {
    pub(crate) fn new(run: Result<Untyped, InvalidRun>) -> Self {
        Self {
            id: run.as_ref().map_or_else(|_| RunId::new(), Untyped::id),
            run: run.map_err(Some),
            types: PhantomData,
        }
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.id.clone()
    }

    /// Asks the run to end: user futures are dropped, branches and items are awaited, and the run ends as cancelled.
    pub fn cancel(&self) {
        if let Ok(run) = &self.run {
            run.cancel();
        }
    }

    /// Something that cancels this run from elsewhere; `None` for a run that can't begin.
    pub fn canceller(&self) -> Option<Canceller> {
        self.run.as_ref().ok().map(Untyped::canceller)
    }

    /// Makes the run part of its caller's trace; a run that goes on after a pause stays in the one it was in. Does nothing
    /// to a run that has begun.
    pub fn set_parent(&mut self, parent: SpanContext) {
        if let Ok(run) = &mut self.run {
            run.set_parent(parent);
        }
    }

    /// What happens in the run, as it happens. A run that can't begin has no events.
    pub fn events(&mut self) -> Events<'_> {
        match &mut self.run {
            Ok(run) => run.events(),
            Err(_) => Events::none(),
        }
    }
}

/// The events of a run as a stream that owns it: dropping it half-way cancels the run.
#[must_use = "a run does nothing until its events are read"]
pub struct EventStream<O, C = ()>(RunHandle<O, C>);

impl<O, C> RunHandle<O, C> {
    /// The run as the stream of its events.
    pub fn into_events(self) -> EventStream<O, C> {
        EventStream(self)
    }
}

impl<O, C> EventStream<O, C> {
    /// The run, to be awaited for its end.
    pub fn into_run(self) -> RunHandle<O, C> {
        self.0
    }
}

impl<O, C> Stream for EventStream<O, C> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Option<Event>> {
        self.0.events().poll_next(poller)
    }
}

impl<O: Payload, C: Context> Future for RunHandle<O, C> {
    type Output = Result<Run<O, C>, RunError>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Self::Output> {
        match &mut self.run {
            Ok(run) => {
                let done = ready!(Pin::new(run).poll(poller));
                Poll::Ready(result(done))
            }
            Err(invalid) => match invalid.take() {
                Some(invalid) => Poll::Ready(Err(invalid.into())),
                None => Poll::Pending,
            },
        }
    }
}

pub(crate) fn result<O: Payload, C: Context>(done: Done) -> Result<Run<O, C>, RunError> {
    let Done {
        id,
        finish,
        plan,
        paused,
        stopped,
    } = done;
    let mut finish = *finish;
    let outcome = std::mem::replace(&mut finish.outcome, Outcome::Completed(Value::Null));
    let (context, usage) = (finish.context.clone(), finish.usage);
    let steps = Steps::new(Arc::new(finish), plan);
    let output = match outcome {
        Outcome::Completed(output) => output,
        ended => {
            let partial = Box::new(PartialRun {
                id,
                context,
                steps,
                usage,
                stopped,
            });
            if let Some(paused) = paused {
                return Err(RunError::Paused { paused, partial });
            }
            return Err(match ended {
                Outcome::Stopped(Stop::LimitExceeded(breach)) => RunError::LimitExceeded { breach, partial },
                Outcome::Stopped(Stop::Aborted(reason)) => RunError::Cancelled {
                    reason: Some(reason),
                    partial,
                },
                Outcome::Stopped(Stop::Fatal(failure)) if failure.kind == FailureKind::Pricing => {
                    RunError::PricingNotConfigured { failure, partial }
                }
                Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => {
                    match user_error(&failure).and_then(|error| error.downcast_ref::<DurableError>()) {
                        Some(error) => RunError::Durable {
                            error: error.clone(),
                            partial,
                        },
                        None => RunError::Failed { failure, partial },
                    }
                }
                _ => RunError::Cancelled {
                    reason: None,
                    partial,
                },
            });
        }
    };
    let context = C::load(&context).map_err(InvalidRun::Context)?;
    let output = unwrap(output).map_err(|error| InvalidRun::Output(error.error.to_string()))?;
    Ok(Run {
        id,
        output,
        context,
        steps,
        usage,
    })
}
