//! What the handler of a failure is given.

use std::sync::Arc;

use flujo_core::machine::{Failure, History, Outcome, Record};
use flujo_core::plan::{GuardNode, Plan};
use flujo_core::value::Value;

use super::Pipeline;
use crate::Handler;
use crate::domain::{Raised, Tokio, user_error};

/// A part of a pipeline that failed, retries and fallbacks included.
#[derive(Debug, Clone)]
pub struct StepFailure {
    /// The step that failed.
    pub step: Arc<str>,
    /// Its path in the pipeline.
    pub path: Arc<str>,
    /// The attempts it made.
    pub attempts: u32,
    /// What failed in it, in which stage, with the original error.
    pub failure: Arc<Failure<Tokio>>,
    /// What the part had been given.
    pub input: Value,
    /// What happened in the part so far.
    pub history: History<Tokio>,
    /// The plan; names the nodes of the history.
    pub plan: Arc<Plan<Handler>>,
}

impl StepFailure {
    pub(crate) fn new(
        plan: &Arc<Plan<Handler>>,
        failure: &Arc<Failure<Tokio>>,
        input: &Value,
        first: u32,
        history: &History<Tokio>,
    ) -> Self {
        let records = history.records.get(first as usize..).unwrap_or_default();
        // The innermost record that ended with this failure began last.
        let of = |record: &&Record<Tokio>| {
            let own = record.failure.as_ref();
            own.is_some_and(|own| Arc::ptr_eq(own, failure)) || *plan.node(record.node).name == *failure.step
        };
        let mut record = records.iter().rev().find(of);
        // A pipeline with a context of its own fails as the lane it ran in did, and its steps are recorded there.
        while let Some(inner) =
            record.and_then(|record| ended_with(failure, record)?.records.iter().rev().find(of))
        {
            record = Some(inner);
        }
        Self {
            step: Arc::clone(&failure.step),
            path: record.map_or_else(
                || Arc::clone(&failure.step),
                |record| Arc::clone(&plan.node(record.node).path),
            ),
            attempts: record.map_or(0, |record| record.attempts),
            failure: Arc::clone(failure),
            input: input.clone(),
            history: History {
                records: records.iter().map(|record| part(record, first)).collect(),
            },
            plan: Arc::clone(plan),
        }
    }

    /// The user's own error behind it, when there is one.
    pub fn error(&self) -> Option<&(dyn std::error::Error + 'static)> {
        user_error(&self.failure)
    }

    /// As plain data: `step`, `path`, `attempts`, `error` (what failed, as text), `error_type`, `input`.
    pub fn to_value(&self) -> Value {
        Value::map([
            ("step", Value::from(&*self.step)),
            ("path", Value::from(&*self.path)),
            ("attempts", Value::from(i64::from(self.attempts))),
            ("error", Value::from(self.failure.to_string())),
            ("error_type", Value::from(&*self.failure.error_type)),
            ("input", self.input.clone()),
        ])
    }
}

/// What happened in the lane of a record that ended with this very failure, if one did.
fn ended_with<'h>(failure: &Arc<Failure<Tokio>>, record: &'h Record<Tokio>) -> Option<&'h History<Tokio>> {
    let mut lanes = record.lanes().iter().filter_map(|lane| lane.finish.as_ref());
    let finish = lanes.find(|finish| match &finish.outcome {
        Outcome::Failed(own) => Arc::ptr_eq(own, failure),
        _ => false,
    })?;
    Some(&finish.history)
}

/// A record as part of a history that begins at `first`.
fn part(record: &Record<Tokio>, first: u32) -> Record<Tokio> {
    let mut record = record.clone();
    record.parent = record.parent.and_then(|parent| parent.checked_sub(first));
    record
}

impl Pipeline {
    /// Runs `handler` when this pipeline has failed, retries and fallbacks included; how the handler ends is how the
    /// whole ends. The handler is given the [`StepFailure`] as a map; see [`StepFailure::to_value`].
    #[must_use]
    pub fn on_failure(self, handler: impl Into<Self>) -> Self {
        self.on_failure_with(|failure| Ok(failure.to_value()), handler)
    }

    /// The same; `describe` makes the handler's input.
    #[must_use]
    pub fn on_failure_with<F>(self, describe: F, handler: impl Into<Self>) -> Self
    where
        F: Fn(StepFailure) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        let mut nodes = None;
        let body = self.place_in(&mut nodes);
        let handler = handler.into().place_in(&mut nodes);
        let describe = Handler::inline(move |decision| match decision.step_failure() {
            Some(failure) => describe(failure).map(crate::handler::answer),
            None => Err("there is no failure to describe".into()),
        });
        let node = GuardNode {
            body,
            describe,
            handler,
        };
        let mut nodes = nodes.unwrap_or_default();
        let id = nodes.guard(node);
        Self::of(nodes, id, None)
    }
}
