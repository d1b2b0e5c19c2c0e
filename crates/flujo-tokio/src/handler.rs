//! The callables of a plan on tokio: asynchronous functions, agents, and small decisions that are made in place.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use flujo_core::agent::{Agent, BoxFuture, Pricing};
use flujo_core::context::Context;
use flujo_core::machine::{Answer, Failure, History, Input, LaneRecord, Outcome};
use flujo_core::plan::Plan;
use flujo_core::rate::RateLimit;
use flujo_core::usage::Usage;
use flujo_core::value::Value;

use crate::build::{StateEnd, StepFailure};
use crate::domain::{Raised, Tokio};
use crate::scope::Scope;

/// What an asynchronous function gives in the end.
pub type Reply = Result<Value, Raised>;

type Plain = dyn Fn(Value) -> BoxFuture<'static, Reply> + Send + Sync;
type Scoped = dyn Fn(Value, Scope) -> BoxFuture<'static, Reply> + Send + Sync;
pub(crate) type Inline = dyn Fn(Decision<'_>) -> Result<Answer<Tokio>, Raised> + Send + Sync;

/// What must hold of an output and the context.
pub(crate) type Check = dyn Fn(&Value, &Context) -> Result<(), Raised> + Send + Sync;

/// Something a plan holds to be called. Cloning shares it.
#[derive(Clone)]
pub enum Handler {
    /// An asynchronous function of its input.
    Plain(Arc<Plain>),
    /// An asynchronous function of its input and the place it runs in.
    Scoped(Arc<Scoped>),
    /// An agent.
    Agent(Arc<dyn Agent>),
    /// A decision made in place, without waiting.
    Inline(Arc<Inline>),
    /// A decision made in place that is told the outputs of earlier steps.
    Informed(Arc<Inline>),
}

/// What a decision is made on.
#[derive(Debug)]
pub struct Decision<'a> {
    /// What it works on.
    pub input: &'a Input<Tokio>,
    /// The context; what is written counts when the step succeeds.
    pub context: &'a mut Context,
    /// A map of the outputs of the steps that have succeeded so far, by name; null for decisions that aren't told.
    pub steps: Value,
    pub(crate) history: &'a History<Tokio>,
    pub(crate) plan: &'a Arc<Plan<Handler>>,
}

/// What a callable of a loop works on.
#[derive(Debug, Clone, Copy)]
pub struct Iteration<'a> {
    /// The loop's input at first, then the output of the body, or of its judge.
    pub value: &'a Value,
    /// What the loop was given.
    pub start: &'a Value,
    /// How many iterations have begun: 0 before the first one.
    pub index: u32,
}

impl<'a> Decision<'a> {
    /// The value it works on; null when it works on something else.
    pub fn value(&self) -> &'a Value {
        match self.input {
            Input::Value(value)
            | Input::Redirect { input: value, .. }
            | Input::Items { items: value, .. }
            | Input::Iteration { value, .. }
            | Input::State {
                output: Some(value), ..
            } => value,
            _ => &Value::Null,
        }
    }

    /// The iteration it is about; `None` outside the callables of loops.
    pub fn iteration(&self) -> Option<Iteration<'a>> {
        match self.input {
            Input::Iteration { value, start, index } => Some(Iteration {
                value,
                start,
                index: *index,
            }),
            _ => None,
        }
    }

    /// The place of the state that has ended, and how; `None` outside transitions of state machines.
    pub fn state(&self) -> Option<(u32, StateEnd<'a>)> {
        match self.input {
            Input::State {
                state,
                failure,
                output,
            } => {
                let end = match (failure, output) {
                    (Some(failure), _) => StateEnd::Failure(failure),
                    (None, output) => StateEnd::Success(output.as_ref().unwrap_or(&Value::Null)),
                };
                Some((*state, end))
            }
            _ => None,
        }
    }

    /// The failure that a handler is to deal with; `None` outside failure routes.
    pub fn step_failure(&self) -> Option<StepFailure> {
        match self.input {
            Input::Route {
                failure,
                input,
                first,
            } => Some(StepFailure::new(self.plan, failure, input, *first, self.history)),
            _ => None,
        }
    }

    /// The lanes it works on, in declared order; none when it works on something else.
    pub fn lanes(&self) -> &'a [LaneRecord<Tokio>] {
        match self.input {
            Input::Lanes(lanes) => lanes,
            _ => &[],
        }
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Scoped(_) => "Scoped",
            Self::Agent(_) => "Agent",
            Self::Inline(_) => "Inline",
            Self::Informed(_) => "Informed",
        })
    }
}

fn verdict(validated: Result<(), String>) -> Answer<Tokio> {
    match validated {
        Ok(()) => Answer::Done,
        Err(feedback) => Answer::Rejected {
            feedback: feedback.into(),
        },
    }
}

/// The branch that a key names; `branches` are the keys in declared order.
pub(crate) fn branch(key: String, branches: &[Arc<str>]) -> Answer<Tokio> {
    let key: Arc<str> = key.into();
    let branch = branches.iter().position(|branch| *branch == key);
    Answer::Branch {
        key,
        branch: branch.and_then(|branch| u32::try_from(branch).ok()),
    }
}

/// An answer that is a value and used nothing.
pub(crate) fn answer(value: Value) -> Answer<Tokio> {
    Answer::Value {
        value,
        usage: Usage::ZERO,
    }
}

impl Handler {
    /// An agent.
    pub fn agent(agent: impl Agent) -> Self {
        Self::Agent(Arc::new(agent))
    }

    /// Whether it is the very same.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(one), Self::Plain(other)) => Arc::ptr_eq(one, other),
            (Self::Scoped(one), Self::Scoped(other)) => Arc::ptr_eq(one, other),
            (Self::Agent(one), Self::Agent(other)) => Arc::ptr_eq(one, other),
            (Self::Inline(one), Self::Inline(other)) | (Self::Informed(one), Self::Informed(other)) => {
                Arc::ptr_eq(one, other)
            }
            _ => false,
        }
    }

    /// How often it may be called, wherever that is.
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        match self {
            Self::Agent(agent) => agent.rate_limit(),
            _ => None,
        }
    }

    /// Whether calls of it have no known price.
    pub(crate) fn is_unpriced(&self) -> bool {
        matches!(self, Self::Agent(agent) if agent.pricing() == Pricing::Unknown)
    }

    /// An asynchronous function of a value.
    pub fn function<F, R>(function: F) -> Self
    where
        F: Fn(Value) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        Self::Plain(Arc::new(move |input| Box::pin(function(input))))
    }

    /// An asynchronous function of a value that reads or writes the context, or asks where it runs.
    pub fn scoped<F, R>(function: F) -> Self
    where
        F: Fn(Value, Scope) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        Self::Scoped(Arc::new(move |input, scope| Box::pin(function(input, scope))))
    }

    /// Any decision made in place.
    pub fn inline<F>(decide: F) -> Self
    where
        F: Fn(Decision<'_>) -> Result<Answer<Tokio>, Raised> + Send + Sync + 'static,
    {
        Self::Inline(Arc::new(decide))
    }

    /// Any decision made in place that is told the outputs of earlier steps.
    pub fn informed<F>(decide: F) -> Self
    where
        F: Fn(Decision<'_>) -> Result<Answer<Tokio>, Raised> + Send + Sync + 'static,
    {
        Self::Informed(Arc::new(decide))
    }

    /// Whether it is told the outputs of earlier steps.
    pub(crate) fn is_informed(&self) -> bool {
        matches!(self, Self::Agent(_) | Self::Informed(_))
    }

    /// A processor or mapper: a value from a value and the context.
    pub fn processor<F>(process: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        Self::inline(move |decision| process(decision.value(), decision.context).map(answer))
    }

    /// A validator: accepts a value, or rejects it with the reason.
    pub fn validator<F>(validate: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<(), String> + Send + Sync + 'static,
    {
        Self::inline(move |decision| Ok(verdict(validate(decision.value(), decision.context))))
    }

    /// A validator that is told the outputs of earlier steps.
    pub fn informed_validator<F>(validate: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<(), String> + Send + Sync + 'static,
    {
        Self::informed(move |decision| Ok(verdict(validate(&decision))))
    }

    /// Writes a step's output into the context.
    pub fn apply<F>(apply: F) -> Self
    where
        F: Fn(&Value, &mut Context) -> Result<(), Raised> + Send + Sync + 'static,
    {
        Self::inline(move |decision| {
            apply(decision.value(), decision.context)?;
            Ok(Answer::Done)
        })
    }

    /// What writes a step's output into the context, with a check after it; `None` for one that has to be awaited.
    pub(crate) fn checked(write: Option<&Self>, check: &Arc<Check>) -> Option<Self> {
        let check = Arc::clone(check);
        let (write, told) = match write {
            None => return Some(Self::apply(move |output, context| check(output, context))),
            Some(Self::Inline(write)) => (Arc::clone(write), false),
            Some(Self::Informed(write)) => (Arc::clone(write), true),
            Some(Self::Plain(_) | Self::Scoped(_) | Self::Agent(_)) => return None,
        };
        let both = move |decision: Decision<'_>| {
            let (output, context) = (decision.value(), decision.context);
            let answer = write(Decision {
                context: &mut *context,
                ..decision
            })?;
            check(output, context)?;
            Ok(answer)
        };
        Some(if told {
            Self::informed(both)
        } else {
            Self::inline(both)
        })
    }

    /// Writes the failure of a step into the context.
    pub fn persist<F>(persist: F) -> Self
    where
        F: Fn(&Failure<Tokio>, &mut Context) -> Result<(), Raised> + Send + Sync + 'static,
    {
        Self::inline(move |decision| {
            if let Input::Route { failure, .. } = decision.input {
                persist(failure, decision.context)?;
            }
            Ok(Answer::Done)
        })
    }

    /// The items of a map, from its input and the context.
    pub fn items<F>(items: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<Vec<Value>, Raised> + Send + Sync + 'static,
    {
        Self::inline(move |decision| items(decision.value(), decision.context).map(Answer::Items))
    }

    /// A value from all that a decision knows, the outputs of earlier steps included.
    pub fn informed_value<F>(make: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        Self::informed(move |decision| make(&decision).map(answer))
    }

    /// A mapper of a loop.
    pub fn iteration<F>(map: F) -> Self
    where
        F: Fn(Iteration<'_>, &Context) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        Self::inline(move |decision| {
            let Some(iteration) = decision.iteration() else {
                return Err("a mapper of a loop was called outside of one".into());
            };
            map(iteration, decision.context).map(answer)
        })
    }

    /// The items of a map from all that a decision knows, the outputs of earlier steps included.
    pub fn informed_items<F>(items: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<Vec<Value>, Raised> + Send + Sync + 'static,
    {
        Self::informed(move |decision| items(&decision).map(Answer::Items))
    }

    /// One output from the lanes, in declared order.
    pub fn collect<F>(collect: F) -> Self
    where
        F: Fn(&[LaneRecord<Tokio>]) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        Self::inline(move |decision| collect(decision.lanes()).map(answer))
    }

    /// Makes one context of those of the lanes that succeeded.
    pub(crate) fn merge<F>(merge: F) -> Self
    where
        F: Fn(&mut Context, &[(Arc<str>, &Context)]) -> Result<(), Raised> + Send + Sync + 'static,
    {
        Self::inline(move |decision| {
            let lanes = decision.lanes();
            let mut branches = Vec::with_capacity(lanes.len());
            for lane in lanes {
                if let Some(finish) = &lane.finish
                    && matches!(finish.outcome, Outcome::Completed(_))
                {
                    branches.push((Arc::clone(&lane.name), &finish.context));
                }
            }
            merge(decision.context, &branches)?;
            Ok(Answer::Done)
        })
    }
}
