//! The spans of one machine: its own, which is the run's or a lane's, and those of the steps and attempts that are open
//! in it. The innermost is the current one while user code runs. A run that nobody traces has none of this.

mod sdk;

use std::sync::Arc;

use flujo_core::machine::{History, LanePlace, NoticeKind, Status};
use flujo_core::plan::{Kind, NodeId};
use flujo_core::usage::Usage;
use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::{PyDict, PyString};

use super::domain::{Failure, Finish, Machine, Notice, Python3};
use super::place;
use super::shared::Shared;
use sdk::Spans;

/// Who records spans of a run, and whose span it is below.
#[derive(Default)]
pub(crate) struct Traced {
    spans: Option<Spans>,
    /// A span of another process, in the form of a `traceparent` header.
    parent: Option<Py<PyString>>,
}

impl Traced {
    /// Of a run that begins or goes on now; `wanted` unless its runner is to leave no spans.
    pub(crate) fn now(py: Python<'_>, wanted: bool, parent: Option<Py<PyString>>) -> PyResult<Self> {
        let spans = if wanted { sdk::of_user(py)? } else { None };
        Ok(Self { spans, parent })
    }

    #[inline]
    pub(crate) fn is_traced(&self) -> bool {
        self.spans.is_some()
    }

    /// What other processes are to be told of the span that is current here.
    pub(crate) fn traceparent(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match (&self.spans, &self.parent) {
            (Some(_), _) => sdk::traceparent(py).map(Some),
            (None, Some(parent)) => Ok(Some(parent.clone_ref(py).into_any())),
            (None, None) => Ok(None),
        }
    }
}

/// The spans that are open in one machine.
pub(crate) struct Trace {
    spans: Spans,
    /// Outermost first; the machine's own is the first of all.
    open: Vec<Open>,
    /// The one that was made current last, where the machine is driven.
    current: Option<Py<PyAny>>,
    /// What was current around the run; a lane has a context of its own, which ends with it.
    outside: Option<Py<PyAny>>,
}

struct Open {
    of: Of,
    /// The context in which the span is current.
    context: Py<PyAny>,
}

#[derive(PartialEq)]
enum Of {
    Machine,
    Step(u32),
    Attempt(u32),
}

/// Why a span ends.
enum End<'f> {
    /// As its kind says by itself.
    Well(&'static str),
    Failed(&'f Failure),
}

impl Trace {
    /// The spans of a run that begins, or that goes on after the span `before`; None where nobody records any.
    pub(crate) fn of_run(
        py: Python<'_>,
        shared: &Shared,
        before: Option<&Py<PyAny>>,
    ) -> PyResult<Option<Box<Self>>> {
        let Traced {
            spans: Some(spans),
            parent,
        } = &shared.traced
        else {
            return Ok(None);
        };
        let outside = sdk::here(py)?;
        let around = match parent {
            Some(parent) => sdk::context_of(py, parent)?,
            None => outside.clone_ref(py),
        };
        let attributes = PyDict::new(py);
        attributes.set_item("flujo.run.id", shared.run_id(py)?)?;
        let pipeline = &**shared.plan.plan.name();
        attributes.set_item("flujo.pipeline", pipeline)?;
        if before.is_some() {
            attributes.set_item("flujo.resumed", true)?;
        }
        let name = format!("run {pipeline}");
        let context = spans.begin(py, &name, &around, &attributes, before)?;
        Ok(Some(Box::new(Self::below(
            spans.clone_ref(py),
            context,
            Some(outside),
        ))))
    }

    fn below(spans: Spans, context: Py<PyAny>, outside: Option<Py<PyAny>>) -> Self {
        let of = Of::Machine;
        Self {
            spans,
            open: vec![Open { of, context }],
            current: None,
            outside,
        }
    }

    /// The spans of a lane, below the construct that starts it; `before`: as for a run.
    pub(crate) fn of_lane(
        &self,
        py: Python<'_>,
        shared: &Shared,
        lane: &Arc<LanePlace>,
        before: Option<&Py<PyAny>>,
    ) -> PyResult<Box<Self>> {
        let around = self.open.iter().rfind(|open| open.of == Of::Step(lane.record));
        let around = around.or(self.open.last());
        let attributes = PyDict::new(py);
        let path = place::lane_path(&shared.plan.plan, Some(lane));
        attributes.set_item("flujo.lane", &path)?;
        attributes.set_item("flujo.lane.index", lane.index)?;
        let around = around.map_or_else(|| sdk::here(py), |open| Ok(open.context.clone_ref(py)))?;
        let name = format!("lane {}", place::branch_name(&shared.plan.plan, lane));
        let context = self.spans.begin(py, &name, &around, &attributes, before)?;
        Ok(Box::new(Self::below(self.spans.clone_ref(py), context, None)))
    }

    /// Opens spans for the steps that a machine which stood still is in.
    pub(crate) fn reopen(&mut self, py: Python<'_>, shared: &Shared, machine: &Machine) -> PyResult<()> {
        let (lane, history) = (machine.lane(), machine.history());
        for (place, record) in (0..).zip(&history.records) {
            let node = shared.plan.plan.node(record.node);
            if record.status == Status::Running && !node.inner {
                self.step_started(py, shared, lane, (record.node, place), &[])?;
                if record.attempts > 0 && matches!(node.kind, Kind::Step(_)) {
                    self.attempt_started(py, shared, (record.node, place), record.attempts)?;
                }
            }
        }
        Ok(())
    }

    /// Takes in what happened to a step.
    pub(crate) fn tell(
        &mut self,
        py: Python<'_>,
        shared: &Shared,
        lane: Option<&Arc<LanePlace>>,
        history: &History<Python3>,
        notice: &Notice,
    ) -> PyResult<()> {
        let node = (notice.node, notice.record);
        match &notice.kind {
            NoticeKind::StepStarted => {
                let rounds = notice.round.as_ref().map(|round| round.indices());
                self.step_started(py, shared, lane, node, &rounds.unwrap_or_default())
            }
            NoticeKind::AttemptStarted => self.attempt_started(py, shared, node, notice.attempt),
            NoticeKind::AttemptFailed(failure) => {
                let attributes = PyDict::new(py);
                self.close(
                    py,
                    &Of::Attempt(notice.record),
                    &attributes,
                    &End::Failed(failure),
                )
            }
            NoticeKind::CacheHit(_) => self.event(py, "cache_hit"),
            NoticeKind::FallbackStarted => self.event(py, "fallback"),
            NoticeKind::Paused => self.event(py, "paused"),
            NoticeKind::Resumed => self.event(py, "resumed"),
            NoticeKind::StepFinished => self.step_ended(py, notice, &End::Well("ok")),
            NoticeKind::StepFailed(failure) => self.step_ended(py, notice, &End::Failed(failure)),
            NoticeKind::StepStopped { .. } => {
                let record = history.records.get(notice.record as usize);
                let failure = record.and_then(|record| record.failure.as_ref());
                match (record.map(|record| record.status), failure) {
                    (Some(Status::Failed), Some(failure)) => {
                        self.step_ended(py, notice, &End::Failed(failure))
                    }
                    (Some(Status::LimitExceeded), _) => {
                        self.step_ended(py, notice, &End::Well("limit_exceeded"))
                    }
                    _ => self.step_ended(py, notice, &End::Well("cancelled")),
                }
            }
        }
    }

    fn step_started(
        &mut self,
        py: Python<'_>,
        shared: &Shared,
        lane: Option<&Arc<LanePlace>>,
        (node, record): (NodeId, u32),
        rounds: &[u32],
    ) -> PyResult<()> {
        let node = shared.plan.plan.node(node);
        let attributes = PyDict::new(py);
        attributes.set_item("flujo.step", &*node.name)?;
        attributes.set_item("flujo.step.path", &*node.path)?;
        attributes.set_item("flujo.step.kind", kind_name(&node.kind))?;
        if lane.is_some() {
            attributes.set_item("flujo.lane", place::lane_path(&shared.plan.plan, lane))?;
        }
        if !rounds.is_empty() {
            attributes.set_item("flujo.iteration", rounds)?;
        }
        self.begin(py, Of::Step(record), &node.name, &attributes)
    }

    fn attempt_started(
        &mut self,
        py: Python<'_>,
        shared: &Shared,
        (node, record): (NodeId, u32),
        attempt: u32,
    ) -> PyResult<()> {
        let attributes = PyDict::new(py);
        let names = shared.plan.plan.node(node);
        attributes.set_item("flujo.step", &*names.name)?;
        attributes.set_item("flujo.step.path", &*names.path)?;
        attributes.set_item("flujo.attempt", attempt)?;
        self.begin(
            py,
            Of::Attempt(record),
            &format!("attempt {attempt}"),
            &attributes,
        )
    }

    fn begin(&mut self, py: Python<'_>, of: Of, name: &str, attributes: &Bound<'_, PyDict>) -> PyResult<()> {
        let around = match self.open.last() {
            Some(around) => around.context.clone_ref(py),
            None => sdk::here(py)?,
        };
        let context = self.spans.begin(py, name, &around, attributes, None)?;
        self.open.push(Open { of, context });
        Ok(())
    }

    fn step_ended(&mut self, py: Python<'_>, notice: &Notice, end: &End<'_>) -> PyResult<()> {
        let attributes = PyDict::new(py);
        attributes.set_item("flujo.attempts", notice.attempt)?;
        add_usage(&attributes, notice.usage)?;
        self.close(py, &Of::Step(notice.record), &attributes, end)
    }

    /// Ends a span and those that are open inside it; nothing where there is no such span.
    fn close(
        &mut self,
        py: Python<'_>,
        of: &Of,
        attributes: &Bound<'_, PyDict>,
        end: &End<'_>,
    ) -> PyResult<()> {
        let Some(place) = self.open.iter().rposition(|open| open.of == *of) else {
            return Ok(());
        };
        let none = PyDict::new(py);
        while self.open.len() > place {
            let Some(open) = self.open.pop() else { break };
            let own = if self.open.len() == place {
                attributes
            } else {
                &none
            };
            let (error, message) = match end {
                End::Failed(failure) => (Some(&*failure.error_type), None),
                End::Well(outcome) => {
                    own.set_item("flujo.status", outcome)?;
                    (None::<&str>, None)
                }
            };
            if error.is_some() {
                own.set_item("flujo.status", "error")?;
            }
            self.spans.end(py, &open.context, own, error, message)?;
        }
        Ok(())
    }

    fn event(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        match self.open.last() {
            Some(open) => self.spans.event(py, &open.context, name),
            None => Ok(()),
        }
    }

    /// Makes the innermost span the current one, before user code is called.
    #[inline]
    pub(crate) fn enter(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(innermost) = self.open.last().map(|open| &open.context) else {
            return Ok(());
        };
        if self.current.as_ref().is_some_and(|current| current.is(innermost)) {
            return Ok(());
        }
        sdk::enter(py, innermost)?;
        self.current = Some(innermost.clone_ref(py));
        Ok(())
    }

    /// The machine has ended.
    pub(crate) fn end(&mut self, py: Python<'_>, finish: &Finish) -> PyResult<()> {
        use flujo_core::machine::{Outcome, Stop};
        let attributes = PyDict::new(py);
        add_usage(&attributes, finish.usage)?;
        let end = match &finish.outcome {
            Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => End::Failed(failure),
            Outcome::Completed(_) => End::Well("ok"),
            outcome @ Outcome::Stopped(_) => End::Well(outcome.name()),
        };
        self.give_back(py)?;
        self.close(py, &Of::Machine, &attributes, &end)
    }

    /// The machine stands still. Gives what identifies its own span, for when it goes on.
    pub(crate) fn stand_still(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let own = self.open.first().map(|open| sdk::span_context(py, &open.context));
        self.give_back(py)?;
        self.close(py, &Of::Machine, &PyDict::new(py), &End::Well("paused"))?;
        own.transpose()
    }

    /// Nobody drives the machine any more.
    pub(crate) fn abandon(&mut self, py: Python<'_>) -> PyResult<()> {
        self.give_back(py)?;
        self.close(py, &Of::Machine, &PyDict::new(py), &End::Well("abandoned"))
    }

    fn give_back(&mut self, py: Python<'_>) -> PyResult<()> {
        match (&self.outside, self.current.take()) {
            (Some(outside), Some(current)) => sdk::leave(py, &current, outside),
            _ => Ok(()),
        }
    }

    /// Tells the garbage collector of what is held.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.open.iter().try_for_each(|open| visit.call(&open.context))?;
        let contexts = [&self.current, &self.outside];
        contexts
            .into_iter()
            .flatten()
            .try_for_each(|context| visit.call(context))
    }
}

fn add_usage(attributes: &Bound<'_, PyDict>, usage: Usage) -> PyResult<()> {
    if usage.tokens > 0 {
        attributes.set_item("flujo.usage.tokens", usage.tokens)?;
    }
    if usage.requests > 0 {
        attributes.set_item("flujo.usage.requests", usage.requests)?;
    }
    if usage.cost.nanos() > 0 {
        attributes.set_item("flujo.usage.cost_usd", usage.cost.dollars())?;
    }
    Ok(())
}

fn kind_name<C>(kind: &Kind<C>) -> &'static str {
    match kind {
        Kind::Sequence(_) => "pipeline",
        Kind::Step(_) => "step",
        Kind::Conditional(_) => "conditional",
        Kind::Parallel(_) => "parallel",
        Kind::Map(_) => "map",
        Kind::Group(_) => "group",
        Kind::Loop(_) => "loop",
        Kind::States(_) => "state_machine",
        Kind::Human(_) => "human",
        Kind::Guard(_) => "guard",
    }
}
