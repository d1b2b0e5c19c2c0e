//! A body that runs again and again, under construction: until a condition holds, or until a critic is content.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::machine::Answer;
use flujo_core::plan::{IterationFailure, LoopNode};
use flujo_core::value::Value;

use super::Pipeline;
use crate::Handler;
use crate::domain::Raised;
use crate::handler::{Decision, Iteration};

/// Runs a body, then asks whether that was enough, and begins again with its output if not.
#[derive(Debug, Clone)]
pub struct Loop {
    name: Arc<str>,
    body: Pipeline,
    judge: Option<Pipeline>,
    exit: Handler,
    first_input: Option<Handler>,
    next_input: Option<Handler>,
    output: Option<Handler>,
    max_loops: u32,
    on_failure: IterationFailure,
    deadline: Option<Duration>,
}

impl Loop {
    /// Runs `body` until `exit` holds for its output and the context, at most 5 times. The body runs at least once; a
    /// loop that has not done by then fails, and its record keeps the last output.
    pub fn until<F>(name: impl Into<Arc<str>>, body: impl Into<Pipeline>, exit: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<bool, Raised> + Send + Sync + 'static,
    {
        Self {
            name: name.into(),
            body: body.into(),
            judge: None,
            exit: Handler::inline(move |decision| {
                exit(decision.value(), decision.context).map(Answer::Decision)
            }),
            first_input: None,
            next_input: None,
            output: None,
            max_loops: 5,
            on_failure: IterationFailure::default(),
            deadline: None,
        }
    }

    /// As [`Loop::until`], where `exit` sees all that a decision knows: the iteration and the outputs of earlier steps.
    pub fn informed_until<F>(name: impl Into<Arc<str>>, body: impl Into<Pipeline>, exit: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<bool, Raised> + Send + Sync + 'static,
    {
        Self {
            exit: Handler::informed(move |decision| exit(&decision).map(Answer::Decision)),
            ..Self::until(name, body, |_, _| Ok(true))
        }
    }

    /// Runs `generator`, then `critic` on what it made, until the critic's output says `is_complete: true`; at most 5
    /// times. The generator is given `{original_input, feedback}`, where `feedback` is null at first and then the
    /// `feedback` of the critic's output. The output is what was made last; of a loop that has not done, the record
    /// keeps the critic's last output.
    pub fn refine(
        name: impl Into<Arc<str>>,
        generator: impl Into<Pipeline>,
        critic: impl Into<Pipeline>,
    ) -> Self {
        let complete = |verdict: &Value, _: &Context| match verdict.get("is_complete") {
            Some(Value::Bool(complete)) => Ok(*complete),
            _ => Err(Raised::from(
                "the critic must give a map with `is_complete`, true or false, and perhaps `feedback`",
            )),
        };
        Self {
            judge: Some(critic.into()),
            ..Self::until(name, generator, complete)
        }
        .first_input(|first, _| Ok(attempt(first.value, Value::Null)))
        .next_input(|verdict, _| {
            let feedback = verdict.value.get("feedback").cloned().unwrap_or_default();
            Ok(attempt(verdict.start, feedback))
        })
    }

    /// Runs on the body's output. Its own output is what the exit condition and [`next_input`](Self::next_input) see;
    /// the loop's output stays the body's.
    #[must_use]
    pub fn judge(mut self, judge: impl Into<Pipeline>) -> Self {
        self.judge = Some(judge.into());
        self
    }

    /// How many iterations there are at most, at least 1; 5 without this.
    #[must_use]
    pub fn max_loops(mut self, iterations: u32) -> Self {
        self.max_loops = iterations;
        self
    }

    /// Makes the first iteration's input from the loop's.
    #[must_use]
    pub fn first_input<F>(mut self, map: F) -> Self
    where
        F: Fn(Iteration<'_>, &Context) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.first_input = Some(Handler::iteration(map));
        self
    }

    /// The same; the mapper is told the outputs of earlier steps.
    #[must_use]
    pub fn informed_first_input<F>(mut self, map: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.first_input = Some(Handler::informed_value(map));
        self
    }

    /// Makes the next iteration's input from an output. The index is 1 before the second iteration, then 2, 3, ….
    #[must_use]
    pub fn next_input<F>(mut self, map: F) -> Self
    where
        F: Fn(Iteration<'_>, &Context) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.next_input = Some(Handler::iteration(map));
        self
    }

    /// The same; the mapper is told the outputs of earlier steps.
    #[must_use]
    pub fn informed_next_input<F>(mut self, map: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.next_input = Some(Handler::informed_value(map));
        self
    }

    /// Makes the loop's output from the last iteration's.
    #[must_use]
    pub fn output<F>(mut self, map: F) -> Self
    where
        F: Fn(Iteration<'_>, &Context) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.output = Some(Handler::iteration(map));
        self
    }

    /// The same; the mapper is told the outputs of earlier steps.
    #[must_use]
    pub fn informed_output<F>(mut self, map: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.output = Some(Handler::informed_value(map));
        self
    }

    /// What a failed iteration means: the loop fails with it, as without this, or goes on with the last good output.
    #[must_use]
    pub fn on_body_failure(mut self, policy: IterationFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// The longest time the whole may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// What the generator of a refinement is given.
fn attempt(original: &Value, feedback: Value) -> Value {
    Value::map([("original_input", original.clone()), ("feedback", feedback)])
}

impl From<Loop> for Pipeline {
    fn from(repeat: Loop) -> Self {
        let mut nodes = None;
        let body = repeat.body.place_in(&mut nodes);
        let judge = repeat.judge.map(|judge| judge.place_in(&mut nodes));
        let node = LoopNode {
            body,
            judge,
            exit: repeat.exit,
            first_input: repeat.first_input,
            next_input: repeat.next_input,
            output: repeat.output,
            max_loops: repeat.max_loops,
            on_failure: repeat.on_failure,
        };
        let mut nodes = nodes.unwrap_or_default();
        let id = nodes.repeat(repeat.name, node);
        Pipeline::of(nodes, id, repeat.deadline)
    }
}
