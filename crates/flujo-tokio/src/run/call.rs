//! One call of user code: begun, polled in place, ended by its answer, its time limit or a cancellation.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, ChunkSink};
use flujo_core::context::Context;
use flujo_core::machine::{
    Answer, Call, CallId, Event as Happened, FailureKind, Input, LanePlace, Role, Time,
};
use flujo_core::plan::{Kind, NodeId};
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use tokio::sync::mpsc::Sender;
use tokio::time::Sleep;
use tracing::Span;

use super::Shared;
use super::event::{Event, EventKind};
use super::outputs::Outputs;
use crate::Handler;
use crate::domain::{Raised, Tokio, failure, panicked};
use crate::handler::{Decision, Reply};
use crate::scope::{Place, Scope};

/// A call under way.
pub(super) struct Active {
    call: CallId,
    work: Work,
    scope: Option<Scope>,
    limit: Option<Pin<Box<Sleep>>>,
    span: Option<Span>,
}

enum Work {
    Function(BoxFuture<'static, Reply>),
    Agent(BoxFuture<'static, Result<AgentOutput, AgentError>>),
}

/// What came of beginning a call.
pub(super) enum Begun {
    /// It is over already.
    Over(Happened<Tokio>),
    /// It must be polled.
    Active(Active),
}

/// Finds the callable that a call is for.
fn handler<'a>(shared: &'a Shared, call: &Call<Tokio>) -> Option<&'a Handler> {
    let node = shared.plan.node(call.node);
    let index = call.index as usize;
    match (&node.kind, call.role) {
        (Kind::Step(step), role) => match role {
            Role::Agent => Some(&step.agent),
            Role::PromptProcessor => step.prompt_processors.get(index),
            Role::OutputProcessor => step.output_processors.get(index),
            Role::Plugin => step.plugins.get(index),
            Role::Validator => step.validators.get(index),
            Role::Apply => step.apply.as_ref(),
            Role::Persist => step.persist.as_ref(),
            _ => None,
        },
        (Kind::Conditional(node), Role::Condition) => Some(&node.condition),
        (Kind::Conditional(node), Role::BranchInput) => node.input_mapper.as_ref(),
        (Kind::Conditional(node), Role::BranchOutput) => node.output_mapper.as_ref(),
        (Kind::Parallel(node), Role::Merge) => node.merge.as_ref(),
        (Kind::Parallel(node), Role::Collect) => Some(&node.collect),
        (Kind::Map(node), Role::Items) => Some(&node.items),
        (Kind::Map(node), Role::Merge) => node.merge.as_ref(),
        (Kind::Map(node), Role::Collect) => Some(&node.collect),
        (Kind::Group(node), Role::Inherit) => node.inherit.as_ref(),
        (Kind::Group(node), Role::Collect) => node.collect.as_ref(),
        _ => None,
    }
}

/// Begins a call. User code that panics has failed.
#[inline]
pub(super) fn begin(
    shared: &Arc<Shared>,
    lane: Option<&Arc<LanePlace>>,
    outputs: &Outputs,
    call: Call<Tokio>,
) -> Begun {
    let id = call.call;
    let redirect = match &call.input {
        Input::Redirect {
            agent: Value::Opaque(agent),
            ..
        } => agent.downcast_ref::<Handler>().cloned(),
        _ => None,
    };
    let Some(handler) = redirect.as_ref().or_else(|| handler(shared, &call)) else {
        let missing = flujo_core::machine::Failure::new(
            FailureKind::Host,
            "MissingHandler",
            format!(
                "the plan has no handler for {:?} of `{}`",
                call.role,
                shared.plan.node(call.node).path
            ),
        );
        return Begun::Over(Happened::Failed {
            call: id,
            failure: missing.permanent(),
            usage: Usage::ZERO,
            at: shared.now(),
        });
    };
    let begun = catch_unwind(AssertUnwindSafe(|| match handler {
        Handler::Inline(decide) => Err(decide_now(&**decide, call)),
        Handler::Plain(function) => Ok((Work::Function(function(value(call.input))), None, call.deadline)),
        Handler::Scoped(function) => {
            let scope = Scope::new(shared, call.context, lane, call.node, call.attempt);
            let work = function(value(call.input), scope.clone());
            Ok((Work::Function(work), Some(scope), call.deadline))
        }
        Handler::Agent(agent) => {
            let deadline = call.deadline;
            let request = request(shared, lane.map(|lane| &**lane), outputs, call);
            Ok((Work::Agent(ask(Arc::clone(agent), request)), None, deadline))
        }
    }));
    let (work, scope, deadline) = match begun {
        Ok(Ok(work)) => work,
        Ok(Err(decided)) => {
            let at = shared.now();
            return Begun::Over(match decided {
                Ok((answer, context)) => Happened::Answered {
                    call: id,
                    answer,
                    context,
                    at,
                },
                Err(raised) => failed(id, raised, Usage::ZERO, at),
            });
        }
        Err(panic) => {
            return Begun::Over(Happened::Failed {
                call: id,
                failure: panicked(&*panic),
                usage: Usage::ZERO,
                at: shared.now(),
            });
        }
    };
    Begun::Active(Active {
        call: id,
        work,
        scope,
        limit: deadline
            .and_then(|deadline| shared.instant(deadline))
            .map(|deadline| Box::pin(tokio::time::sleep_until(deadline))),
        span: None,
    })
}

type Decided = Result<(Answer<Tokio>, Option<Context>), Raised>;

fn decide_now(
    decide: &(dyn Fn(Decision<'_>) -> Result<Answer<Tokio>, Raised> + Send + Sync),
    call: Call<Tokio>,
) -> Decided {
    let mut context = call.context.clone();
    let answer = decide(Decision {
        input: &call.input,
        context: &mut context,
    })?;
    let written = !context.same(&call.context);
    Ok((answer, written.then_some(context)))
}

fn value(input: Input<Tokio>) -> Value {
    match input {
        Input::Value(value) | Input::Redirect { input: value, .. } => value,
        _ => Value::Null,
    }
}

fn ask(agent: Arc<dyn Agent>, request: AgentRequest) -> BoxFuture<'static, Result<AgentOutput, AgentError>> {
    Box::pin(async move { agent.run(request).await })
}

fn request(
    shared: &Arc<Shared>,
    lane: Option<&LanePlace>,
    outputs: &Outputs,
    call: Call<Tokio>,
) -> AgentRequest {
    let place = shared.place(call.node, lane, call.attempt);
    AgentRequest {
        context: call.context.to_value(),
        steps: outputs.value(),
        step: Arc::clone(&place.step),
        attempt: call.attempt,
        idempotency_key: place.idempotency_key().into(),
        chunks: shared.events.clone().map(|events| {
            let shared = Arc::clone(shared);
            let sink: Arc<dyn ChunkSink> = Arc::new(Chunks {
                events,
                place,
                shared,
            });
            sink
        }),
        input: value(call.input),
    }
}

/// Sends the chunks of one attempt as events.
struct Chunks {
    events: Sender<Event>,
    place: Place,
    shared: Arc<Shared>,
}

impl ChunkSink for Chunks {
    fn send(&self, chunk: Value) -> BoxFuture<'_, ()> {
        let event = Event {
            place: self.place.clone(),
            kind: EventKind::Chunk(chunk),
            at: std::time::Duration::from_nanos(self.shared.now()),
        };
        Box::pin(async move {
            // Nobody listening any more is no reason to stop the answer.
            let _ = self.events.send(event).await;
        })
    }
}

fn failed(call: CallId, raised: Raised, spent: Usage, at: Time) -> Happened<Tokio> {
    let (failure, usage) = failure(raised);
    Happened::Failed {
        call,
        failure,
        usage: usage + spent,
        at,
    }
}

impl Active {
    /// Makes spans of user code children of the step's.
    pub(super) fn enter_span(
        &mut self,
        shared: &Shared,
        lane: Option<&LanePlace>,
        node: NodeId,
        attempt: u32,
    ) {
        let place = shared.place(node, lane, attempt);
        let (step, lane) = (&*place.path, &*place.lane);
        self.span = Some(tracing::debug_span!(
            target: "flujo::run", "step", run = %place.run, step, lane, attempt
        ));
    }

    /// Goes on with the call; ready when it has ended.
    #[inline]
    pub(super) fn poll(&mut self, shared: &Shared, poller: &mut Poller<'_>) -> Poll<Happened<Tokio>> {
        let Self { work, span, .. } = self;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _entered = span.as_ref().map(Span::enter);
            match work {
                Work::Function(function) => function
                    .as_mut()
                    .poll(poller)
                    .map(|reply| reply.map(|value| (value, Usage::ZERO))),
                Work::Agent(agent) => agent.as_mut().poll(poller).map(|reply| match reply {
                    Ok(output) => Ok((output.value, output.usage)),
                    Err(error) => Err(Raised::new(error)),
                }),
            }
        }));
        let call = self.call;
        match polled {
            Ok(Poll::Ready(reply)) => {
                let (context, spent, broken) = self.close();
                let at = shared.now();
                Poll::Ready(match broken.map_or(reply, Err) {
                    Ok((value, usage)) => Happened::Answered {
                        call,
                        answer: Answer::Value {
                            value,
                            usage: usage + spent,
                        },
                        context,
                        at,
                    },
                    Err(raised) => failed(call, raised, spent, at),
                })
            }
            Ok(Poll::Pending) => {
                let limit = self.limit.as_mut();
                if !limit.is_some_and(|limit| limit.as_mut().poll(poller).is_ready()) {
                    return Poll::Pending;
                }
                Poll::Ready(Happened::TimedOut {
                    call,
                    usage: self.close().1,
                    at: shared.now(),
                })
            }
            Err(panic) => Poll::Ready(Happened::Failed {
                call,
                failure: panicked(&*panic),
                usage: self.close().1,
                at: shared.now(),
            }),
        }
    }

    /// Ends the call early: its future is dropped.
    pub(super) fn cancel(self, shared: &Shared) -> Happened<Tokio> {
        let (call, usage) = (self.call, self.close().1);
        drop(self);
        let at = shared.now();
        if usage.is_zero() {
            Happened::CallCancelled { call, at }
        } else {
            Happened::TimedOut { call, usage, at }
        }
    }

    pub(super) fn id(&self) -> CallId {
        self.call
    }

    /// What the function made of its context, what it reported as used, and whether its context broke.
    fn close(&self) -> (Option<Context>, Usage, Option<Raised>) {
        match &self.scope {
            Some(scope) => {
                let (context, usage, broken) = scope.close();
                (Some(context), usage, broken)
            }
            None => (None, Usage::ZERO, None),
        }
    }
}
