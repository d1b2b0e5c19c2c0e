//! Where a function runs: its view of the context, the run's resources, and the names of the place.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::context::Context;
use flujo_core::machine::{CallId, LanePlace, Round};
use flujo_core::plan::{NodeId, Plan};
use flujo_core::telemetry::SpanContext;
use flujo_core::usage::Usage;
use flujo_core::value::Value;

use crate::Handler;
use crate::domain::Raised;
use crate::run::{Observed, RunId, Shared};

/// Objects that a runner gives to its steps, at most one of each type.
#[derive(Clone, Default)]
pub struct Resources(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Resources {
    /// Adds an object, instead of another one of its type.
    pub fn insert<R: Any + Send + Sync>(&mut self, resource: R) {
        self.0.insert(TypeId::of::<R>(), Arc::new(resource));
    }

    /// The object of a type.
    pub fn get<R: Any + Send + Sync>(&self) -> Option<Arc<R>> {
        Arc::clone(self.0.get(&TypeId::of::<R>())?).downcast().ok()
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resources({})", self.0.len())
    }
}

/// The place in which one call of a function runs. Cloning shares it; it may outlive the call, but what is written or
/// reported after the call has ended reaches nothing.
#[derive(Clone)]
pub struct Scope(Arc<Cell>);

pub(crate) struct Cell {
    state: Mutex<State>,
    shared: Arc<Shared>,
    lane: Option<Arc<LanePlace>>,
    node: NodeId,
    attempt: u32,
    call: CallId,
    /// The machine's number in the log.
    machine: u32,
    round: Option<Arc<Round>>,
    span: Option<SpanContext>,
}

struct State {
    context: Context,
    usage: Usage,
    broken: Option<Raised>,
}

/// Names of the place in which a function runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The run.
    pub run: RunId,
    /// The step's name.
    pub step: Arc<str>,
    /// The step's path in the pipeline, such as `review/critic`.
    pub path: Arc<str>,
    /// The branch or item around it, such as `split[left]` or `each[3]`; empty outside of them.
    pub lane: String,
    /// The attempt, from 1; 0 outside attempts.
    pub attempt: u32,
    /// The iterations of the loops, and the turns of the state machines, around it, from 1, outermost first.
    pub iterations: Vec<u32>,
    /// The span that is current in this call, when spans are recorded or the run has a caller's; of a [`Scope`] only.
    pub span: Option<SpanContext>,
}

impl Place {
    /// The iteration of the innermost loop, or the turn of the innermost state machine; 0 outside of them.
    pub fn iteration(&self) -> u32 {
        self.iterations.last().copied().unwrap_or(0)
    }

    /// What is sent along to other services, as the header `traceparent`, so that their spans become part of the run's
    /// trace; `None` when there is no trace.
    pub fn traceparent(&self) -> Option<String> {
        self.span.map(|span| span.to_string())
    }

    /// A key that is the same for every attempt at this step, branch, item and iteration in this run, and for no other;
    /// for services that de-duplicate by such a key.
    pub fn idempotency_key(&self) -> String {
        let mut key = format!("{}/{}/{}", self.run, self.lane, self.path);
        for (place, iteration) in self.iterations.iter().enumerate() {
            let mark = if place == 0 { '@' } else { '.' };
            let _ = write!(key, "{mark}{iteration}"); // writing to a string cannot fail
        }
        key
    }
}

impl Scope {
    /// A place; the memory of one that is left is used again.
    pub(crate) fn new(
        spare: &mut Option<Self>,
        shared: &Arc<Shared>,
        context: Context,
        machine: &Observed,
        span: Option<SpanContext>,
        (call, node, attempt): (CallId, NodeId, u32),
    ) -> Self {
        let state = State {
            context,
            usage: Usage::ZERO,
            broken: None,
        };
        let cell = Cell {
            state: Mutex::new(state),
            shared: Arc::clone(shared),
            lane: machine.lane().cloned(),
            node,
            attempt,
            call,
            machine: machine.number(),
            round: machine.round().cloned(),
            span,
        };
        if let Some(mut left) = spare.take()
            && let Some(place) = Arc::get_mut(&mut left.0)
        {
            *place = cell;
            return left;
        }
        Self(Arc::new(cell))
    }

    /// A place that nobody holds any longer, emptied; nothing when somebody does.
    pub(crate) fn left(mut self) -> Option<Self> {
        let state = Arc::get_mut(&mut self.0)?.state.get_mut();
        state.unwrap_or_else(PoisonError::into_inner).context = Context::new();
        Some(self)
    }

    /// The context as this attempt sees it.
    pub fn context(&self) -> Context {
        self.state().context.clone()
    }

    /// Changes the context; the changes are kept when the attempt succeeds.
    pub fn update<R>(&self, change: impl FnOnce(&mut Context) -> R) -> R {
        change(&mut self.state().context)
    }

    /// Adds to what this call has used; it counts also when the attempt fails.
    pub fn add_usage(&self, usage: Usage) {
        self.state().usage += usage;
    }

    /// Fails the call, whatever it gives; the first error counts.
    pub fn fail(&self, error: Raised) {
        self.state().broken.get_or_insert(error);
    }

    /// The runner's resource of a type.
    pub fn resource<R: Any + Send + Sync>(&self) -> Option<Arc<R>> {
        self.0.shared.resources.get()
    }

    /// Where this call runs.
    pub fn place(&self) -> Place {
        let place = self.0.shared.place(
            self.0.node,
            self.0.lane.as_deref(),
            self.0.attempt,
            self.0.round.as_ref(),
        );
        Place {
            span: self.0.span,
            ..place
        }
    }

    /// Does a part of this step's work once, however often the step begins anew: `work` is called unless the step has done a
    /// part of this name before, in any of its attempts, and then its value is given again. What `work` gives is recorded
    /// before it is handed on; in a run that is kept in a store it outlives the process, as far as the run's
    /// [`Durability`](flujo_durable::Durability) says. Another branch, item or iteration does it anew, as does a step that
    /// ended and runs again. Whoever asks for the part while it is being done waits for that; when it fails nothing is
    /// recorded, and the next one who asks does it.
    ///
    /// # Errors
    /// What `work` gives, that its value can't be saved, or that the store can't be written to.
    pub async fn once<F>(&self, key: impl Into<Arc<str>>, work: impl FnOnce() -> F) -> Result<Value, Raised>
    where
        F: Future<Output = Result<Value, Raised>>,
    {
        let (cell, key) = (&*self.0, key.into());
        let step = &cell.shared.plan.node(cell.node).path;
        let iterations = cell
            .round
            .as_ref()
            .map(|round| round.indices())
            .unwrap_or_default();
        let part = cell
            .shared
            .onces
            .part(cell.lane.as_ref(), step, &iterations, &key);
        let journal = cell.shared.journal.as_ref();
        let made = part.get_or_try_init(|| async {
            let value = work().await?;
            if let Some(journal) = journal {
                let (call, machine) = (cell.call, cell.machine);
                let recorded = journal.record_once(machine, step, call, Arc::clone(&key), value.clone());
                // It is on its way, also when nobody waits for it any more.
                drop(recorded.map_err(Raised::new)?);
            }
            Ok::<_, Raised>(value)
        });
        let value = made.await?.clone();
        if let Some(written) = journal.and_then(|journal| journal.flush()) {
            written.await.map_err(Raised::new)?;
        }
        Ok(value)
    }

    /// What the call has made of the context, what it used, and why it failed if it did; later writes reach nothing.
    pub(crate) fn close(&self) -> (Context, Usage, Option<Raised>) {
        let mut state = self.state();
        (
            state.context.clone(),
            std::mem::take(&mut state.usage),
            state.broken.take(),
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole values are put in place, so the state is good also after a panic in a change.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.place()).finish()
    }
}

/// The names of the lanes around a place, outermost first.
pub(crate) fn lane_name(plan: &Plan<Handler>, lane: Option<&LanePlace>) -> String {
    lane.map(|lane| lane.name(plan)).unwrap_or_default()
}
