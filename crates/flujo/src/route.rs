//! Ways out and ways in, typed: handlers of failures, and pipelines with a context of their own.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use flujo_core::context::Context as Fields;
use flujo_core::machine::{Finish, Outcome};
use flujo_core::usage::Usage;
use flujo_tokio::{Import, StepFailure as Untyped};

use crate::payload::{look, wrap};
use crate::pipeline::{Pipeline, Stage};
use crate::{Context, Payload, Steps};

/// A part of a pipeline that failed, retries and fallbacks included: what its handler is given.
#[derive(Clone)]
pub struct StepFailure<I> {
    /// What the part had been given.
    pub input: I,
    failure: Untyped,
}

impl<I: Payload> StepFailure<I> {
    /// The step that failed.
    pub fn step(&self) -> &str {
        &self.failure.step
    }

    /// Its path in the pipeline.
    pub fn path(&self) -> &str {
        &self.failure.path
    }

    /// The attempts it made.
    pub fn attempts(&self) -> u32 {
        self.failure.attempts
    }

    /// What failed, in which stage, on which attempt.
    pub fn feedback(&self) -> String {
        self.failure.failure.to_string()
    }

    /// The user's own error behind it, when there is one.
    pub fn error(&self) -> Option<&(dyn Error + 'static)> {
        self.failure.error()
    }

    /// What happened in the part so far, step by step.
    pub fn steps(&self) -> Steps {
        let finish = Finish {
            outcome: Outcome::Failed(Arc::clone(&self.failure.failure)),
            context: Fields::new(),
            history: self.failure.history.clone(),
            usage: Usage::ZERO,
            kept: None,
        };
        Steps::new(Arc::new(finish), Arc::clone(&self.failure.plan))
    }
}

impl<I> fmt::Debug for StepFailure<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepFailure({}: {})", self.failure.step, self.failure.failure)
    }
}

/// `stage`, and `handler` when it has failed.
pub(crate) fn on_failure<I, O, C, D>(
    stage: Pipeline<I, O, C>,
    handler: Pipeline<StepFailure<I>, O, D>,
) -> flujo_tokio::Pipeline
where
    I: Payload,
    O: Payload,
    C: Context,
    D: Context,
{
    let describe = |failure: Untyped| {
        let input = look::<I>(&failure.input)?.clone();
        Ok(wrap(StepFailure { input, failure }, None))
    };
    stage
        .into_untyped()
        .on_failure_with(describe, handler.into_untyped())
}

/// Runs a stage as one step in a context of its own: `enter` makes it from the step's input and the context around it,
/// `leave` writes back what is to be kept when the stage has succeeded.
///
/// ```
/// use flujo::{BoxError, Context, Flujo, Scope, import, step};
///
/// #[derive(Default, Context)]
/// struct Outer { topic: String, words: u32 }
/// #[derive(Default, Context)]
/// struct Inner { subject: String, count: u32 }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let child = step("count", |text: String, s: Scope<Inner>| async move {
///     s.context().update(|c| c.count = c.subject.len() as u32);
///     Ok::<_, BoxError>(text)
/// });
/// let p = import(
///     "child",
///     child,
///     |_: &String, outer: &Outer| Inner { subject: outer.topic.clone(), count: 0 },
///     |inner: &Inner, outer: &mut Outer| outer.words = inner.count,
/// );
/// let done = Flujo::new(p).run_with("text".into(), &Outer { topic: "tea".into(), words: 0 }).await?;
/// assert_eq!(done.context.words, 3);
/// # Ok(()) }
/// ```
pub fn import<S, C>(
    name: impl Into<Arc<str>>,
    stage: S,
    enter: impl Fn(&S::In, &C) -> S::Context + Send + Sync + 'static,
    leave: impl Fn(&S::Context, &mut C) + Send + Sync + 'static,
) -> Pipeline<S::In, S::Out, C>
where
    S: Stage,
    C: Context,
{
    let import = Import::new(name, stage.into_pipeline().into_untyped())
        .enter(move |input, around, own| {
            let context = enter(look::<S::In>(input)?, &C::load(around)?);
            *own = Fields::new().with_rules(S::Context::merge_rules());
            Ok(context.store(own)?)
        })
        .leave(move |own, around| {
            let mut context = C::load(around)?;
            leave(&S::Context::load(own)?, &mut context);
            Ok(context.store(around)?)
        });
    Pipeline::typed(import.into(), None)
}
