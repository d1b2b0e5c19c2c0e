//! One call of user code: begun, polled in place, ended by its answer, its time limit or a cancellation.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, ChunkSink};
use flujo_core::config::Part;
use flujo_core::context::Context;
use flujo_core::machine::{
    Answer, Call, CallId, Event as Happened, Failure, FailureKind, Input, Machine, Time,
};
use flujo_core::plan::NodeId;
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use tokio::sync::mpsc::Sender;
use tokio::time::Sleep;
use tracing::Span;

use super::Shared;
use super::decide;
use super::event::{Event, EventKind};
use super::outputs::Outputs;
use super::spans::{Note, Observed};
use crate::Handler;
use crate::agents::unknown;
use crate::domain::{Raised, Tokio, failure, panicked};
use crate::handler::Reply;
use crate::scope::{Place, Scope};

/// A call under way.
pub(super) struct Active {
    call: CallId,
    work: Work,
    scope: Option<Scope>,
    limit: Option<Pin<Box<Sleep>>>,
    span: Option<Box<Span>>,
}

enum Work {
    Function(BoxFuture<'static, Reply>),
    Agent(BoxFuture<'static, Result<AgentOutput, AgentError>>),
}

/// Begins a call and goes on with it as far as it gets without waiting. Gives the call when it waits for something, else
/// tells the machine how it ended. User code that panics has failed.
#[inline]
pub(super) fn begin(
    machine: &mut Observed,
    shared: &Arc<Shared>,
    outputs: &Outputs,
    call: Call<Tokio>,
    note: Option<&Note>,
    spare: &mut Option<Scope>,
    poller: &mut Poller<'_>,
) -> Option<Active> {
    let (id, node, attempt, deadline) = (call.call, call.node, call.attempt, call.deadline);
    let redirect = match &call.input {
        Input::Redirect { agent, .. } => shared.runner.agents.asked(agent, &shared.plan).cloned(),
        _ => None,
    };
    let Some(handler) = redirect
        .as_ref()
        .or_else(|| shared.plan.node(call.node).callable(call.role, call.index))
    else {
        machine.handle(missing(shared, &call));
        return None;
    };
    let (mut scope, mut reply, mut usage) = (None, Ok(Value::Null), Usage::ZERO);
    let (begun, span) = match handler {
        Handler::Inline(decide) => {
            decide::now(machine, shared, &**decide, &call, Value::Null);
            return None;
        }
        Handler::Informed(decide) => {
            decide::now(machine, shared, &**decide, &call, outputs.value());
            return None;
        }
        Handler::Plain(function) => {
            let (input, span) = (value(call.input), shared.span(machine, node, attempt));
            let begin = || Work::Function(heard(function(input), note));
            (
                first(begin, span.as_deref(), poller, &mut reply, &mut usage),
                span,
            )
        }
        Handler::Scoped(function) => {
            let span = machine.current(shared, attempt);
            let context = if call.isolated {
                call.context
            } else {
                shared.isolated(node, call.context)
            };
            let place = Scope::new(spare, shared, context, machine, span, (id, node, attempt));
            scope = Some(place.clone());
            let (input, span) = (value(call.input), shared.span(machine, node, attempt));
            let begin = || Work::Function(heard(function(input, place), note));
            (
                first(begin, span.as_deref(), poller, &mut reply, &mut usage),
                span,
            )
        }
        Handler::Agent(agent) => {
            let request = request(shared, machine, outputs, call);
            let span = shared.span(machine, node, attempt);
            let begin = || {
                let work = ask(Arc::clone(agent), request);
                Work::Agent(match note {
                    Some(note) => note.hear_agent(work),
                    None => work,
                })
            };
            (
                first(begin, span.as_deref(), poller, &mut reply, &mut usage),
                span,
            )
        }
    };
    let ended = match begun {
        Ok(None) => match (reply, &scope) {
            (Ok(value), None) => {
                let at = decide::time_of_value(machine, shared);
                machine.answered(id, Answer::Value { value, usage }, at);
                return None;
            }
            (reply, scope) => replied(shared, id, scope.as_ref(), reply, usage),
        },
        Ok(Some(work)) => {
            let limit = deadline.and_then(|deadline| shared.instant(deadline));
            let mut active = Active {
                call: id,
                work,
                scope,
                limit: limit.map(|limit| Box::pin(tokio::time::sleep_until(limit))),
                span,
            };
            // The limit is asked at once, so that it wakes the run also when the work never does.
            match active.poll_limit(shared, poller) {
                Poll::Ready(ended) => {
                    scope = active.left(shared);
                    ended
                }
                Poll::Pending => return Some(active),
            }
        }
        Err(panic) => broke_down(shared, id, scope.as_ref(), &*panic),
    };
    *spare = left(shared, scope);
    machine.handle(ended);
    None
}

/// Makes the work and polls it for the first time, inside the step's span. Gives the work when it waits for something,
/// else puts its `reply` and the `usage` that came with it in place.
#[inline]
fn first(
    begin: impl FnOnce() -> Work,
    span: Option<&Span>,
    poller: &mut Poller<'_>,
    reply: &mut Reply,
    usage: &mut Usage,
) -> Result<Option<Work>, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| {
        let _entered = span.map(Span::enter);
        let mut work = begin();
        match work.poll(poller, usage) {
            Poll::Ready(ready) => {
                *reply = ready;
                None
            }
            Poll::Pending => Some(work),
        }
    }))
}

impl Work {
    /// The reply, when there is one; what an agent says it used is put into `usage`.
    #[inline]
    fn poll(&mut self, poller: &mut Poller<'_>, usage: &mut Usage) -> Poll<Reply> {
        match self {
            Self::Function(function) => function.as_mut().poll(poller),
            Self::Agent(agent) => agent.as_mut().poll(poller).map(|reply| match reply {
                Ok(output) => {
                    *usage = output.usage;
                    Ok(output.value)
                }
                Err(error) => Err(Raised::new(error)),
            }),
        }
    }
}

fn missing(shared: &Shared, call: &Call<Tokio>) -> Happened<Tokio> {
    let path = &shared.plan.node(call.node).path;
    let message = match &call.input {
        Input::Redirect {
            agent: Value::Str(name),
            ..
        } => unknown(name),
        _ => format!("the plan has no handler for {:?} of `{path}`", call.role),
    };
    Happened::Failed {
        call: call.call,
        failure: Box::new(Failure::new(FailureKind::Host, "MissingHandler", message).permanent()),
        usage: Usage::ZERO,
        at: shared.now(),
    }
}

/// The end of a call whose code gave a reply.
fn replied(
    shared: &Shared,
    call: CallId,
    scope: Option<&Scope>,
    reply: Reply,
    usage: Usage,
) -> Happened<Tokio> {
    let (context, spent, broken) = close(scope);
    let at = shared.now();
    match broken.map_or(reply, Err) {
        Ok(value) => Happened::Answered {
            call,
            answer: Answer::Value {
                value,
                usage: usage + spent,
            },
            context,
            at,
        },
        Err(raised) => failed(call, raised, spent, at),
    }
}

/// The end of a call whose code panicked.
fn broke_down(
    shared: &Shared,
    call: CallId,
    scope: Option<&Scope>,
    panic: &(dyn Any + Send),
) -> Happened<Tokio> {
    Happened::Failed {
        call,
        failure: Box::new(panicked(panic)),
        usage: close(scope).1,
        at: shared.now(),
    }
}

/// The place of a call that has ended, when it can be used again.
#[inline]
fn left(shared: &Shared, scope: Option<Scope>) -> Option<Scope> {
    scope
        .filter(|_| shared.twins.now().is_optimized(Part::Pool))
        .and_then(Scope::left)
}

/// What the function made of its context, what it reported as used, and whether its context broke.
#[inline]
fn close(scope: Option<&Scope>) -> (Option<Context>, Usage, Option<Raised>) {
    match scope {
        Some(scope) => {
            let (context, usage, broken) = scope.close();
            (Some(context), usage, broken)
        }
        None => (None, Usage::ZERO, None),
    }
}

fn value(input: Input<Tokio>) -> Value {
    match input {
        Input::Value(value) | Input::Redirect { input: value, .. } | Input::Iteration { value, .. } => value,
        _ => Value::Null,
    }
}

#[inline]
fn heard(work: BoxFuture<'static, Reply>, note: Option<&Note>) -> BoxFuture<'static, Reply> {
    match note {
        Some(note) => note.hear(work),
        None => work,
    }
}

fn ask(agent: Arc<dyn Agent>, request: AgentRequest) -> BoxFuture<'static, Result<AgentOutput, AgentError>> {
    Box::pin(async move { agent.run(request).await })
}

fn request(shared: &Arc<Shared>, machine: &Observed, outputs: &Outputs, call: Call<Tokio>) -> AgentRequest {
    let place = shared.place_in(machine, call.node, call.attempt);
    AgentRequest {
        context: call.context.to_value(),
        steps: outputs.value(),
        step: Arc::clone(&place.step),
        attempt: call.attempt,
        idempotency_key: place.idempotency_key().into(),
        span: machine.in_call(shared, call.call),
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
        failure: Box::new(failure),
        usage: usage + spent,
        at,
    }
}

impl Active {
    /// Drops a call that has ended, and gives its place when it can be used again.
    pub(super) fn left(self, shared: &Shared) -> Option<Scope> {
        drop(self.work);
        left(shared, self.scope)
    }

    /// Goes on with the call; ready when it has ended.
    #[inline]
    pub(super) fn poll(&mut self, shared: &Shared, poller: &mut Poller<'_>) -> Poll<Happened<Tokio>> {
        let Self { work, span, .. } = self;
        let mut usage = Usage::ZERO;
        let reply = catch_unwind(AssertUnwindSafe(|| {
            let _entered = span.as_deref().map(Span::enter);
            work.poll(poller, &mut usage)
        }));
        match reply {
            Ok(Poll::Ready(reply)) => {
                Poll::Ready(replied(shared, self.call, self.scope.as_ref(), reply, usage))
            }
            Ok(Poll::Pending) => self.poll_limit(shared, poller),
            Err(panic) => Poll::Ready(broke_down(shared, self.call, self.scope.as_ref(), &*panic)),
        }
    }

    /// Whether the call's time is up.
    fn poll_limit(&mut self, shared: &Shared, poller: &mut Poller<'_>) -> Poll<Happened<Tokio>> {
        let Some(limit) = &mut self.limit else {
            return Poll::Pending;
        };
        ready!(limit.as_mut().poll(poller));
        Poll::Ready(Happened::TimedOut {
            call: self.call,
            usage: close(self.scope.as_ref()).1,
            at: shared.now(),
        })
    }

    /// Ends the call early: its future is dropped.
    pub(super) fn cancel(self, shared: &Shared) -> Happened<Tokio> {
        let (call, usage) = (self.call, close(self.scope.as_ref()).1);
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
}

impl Shared {
    /// The span that makes spans of user code children of the step's, when anybody listens.
    #[inline]
    fn span(&self, machine: &Machine<Tokio>, node: NodeId, attempt: u32) -> Option<Box<Span>> {
        if !self.traced {
            return None;
        }
        let place = self.place_in(machine, node, attempt);
        let (step, lane) = (&*place.path, &*place.lane);
        Some(Box::new(tracing::debug_span!(
            target: "flujo::run", "step", run = %place.run, step, lane, attempt
        )))
    }
}
