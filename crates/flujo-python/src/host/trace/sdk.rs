//! Spans in the program's own OpenTelemetry: the machine's own, which is the run's or a lane's, and those of the steps
//! and attempts that are open in it. The innermost is the current one while user code runs.

use std::sync::Arc;

use flujo_core::machine::{LanePlace, NoticeKind, Outcome, Status, Stop};
use flujo_core::plan::{Kind, NodeId};
use flujo_core::telemetry::SpanContext;
use flujo_core::usage::Usage;
use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::{PyDict, PyString};

use crate::host::domain::{Failure, Finish, Machine, Notice};
use crate::host::place;
use crate::host::shared::Shared;

use super::bridge::{self, Spans};

/// The spans that are open in one machine.
pub(super) struct Trace {
    spans: Spans,
    run_id: Py<PyAny>,
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
    /// Whether a step's fallback has begun.
    fallback: bool,
}

impl Open {
    fn new(of: Of, context: Py<PyAny>) -> Self {
        Self {
            of,
            context,
            fallback: false,
        }
    }
}

#[derive(PartialEq)]
enum Of {
    Machine,
    Step(u32),
    Attempt(u32),
}

/// Why a span ends.
enum End<'f> {
    /// It is no error, but this.
    Well(&'static str),
    Limited,
    Failed(&'f Failure),
}

impl End<'_> {
    const OK: Self = Self::Well("ok");
    const PAUSED: Self = Self::Well("paused");
    const CANCELLED: Self = Self::Well("cancelled");
}

impl Trace {
    /// The spans of a run that begins, or that goes on after the span `before`; `parent` is a span of another process.
    pub(super) fn of_run(
        py: Python<'_>,
        shared: &Shared,
        spans: &Spans,
        parent: Option<&Py<PyString>>,
        before: Option<&Py<PyAny>>,
    ) -> PyResult<Self> {
        let outside = bridge::here(py)?;
        let around = match parent {
            Some(parent) => bridge::context_of(py, parent)?,
            None => outside.clone_ref(py),
        };
        let run_id = shared.run_id(py)?.unbind();
        let attributes = of_span(py, &run_id)?;
        let pipeline = &**shared.plan.plan.name();
        attributes.set_item("flujo.pipeline", pipeline)?;
        if before.is_some() {
            attributes.set_item("flujo.resumed", true)?;
        }
        let context = spans.begin(py, &format!("run {pipeline}"), &around, &attributes, before)?;
        Ok(Self {
            spans: spans.clone_ref(py),
            run_id,
            open: vec![Open::new(Of::Machine, context)],
            current: None,
            outside: Some(outside),
        })
    }

    /// The spans of a lane, below the construct that starts it; `before`: as for a run.
    pub(super) fn of_lane(
        &self,
        py: Python<'_>,
        shared: &Shared,
        lane: &Arc<LanePlace>,
        before: Option<&Py<PyAny>>,
    ) -> PyResult<Self> {
        let around = self.open.iter().rfind(|open| open.of == Of::Step(lane.record));
        let around = around.or(self.open.last());
        let around = around.map_or_else(|| bridge::here(py), |open| Ok(open.context.clone_ref(py)))?;
        let attributes = of_span(py, &self.run_id)?;
        name_step(&attributes, shared, lane.node)?;
        let name = place::branch_name(&shared.plan.plan, lane);
        attributes.set_item("flujo.lane", &name)?;
        attributes.set_item("flujo.lane.index", lane.index)?;
        let name = format!("lane {name}");
        let context = self.spans.begin(py, &name, &around, &attributes, before)?;
        Ok(Self {
            spans: self.spans.clone_ref(py),
            run_id: self.run_id.clone_ref(py),
            open: vec![Open::new(Of::Machine, context)],
            current: None,
            outside: None,
        })
    }

    /// Opens spans for the steps that a machine which stood still is in.
    pub(super) fn reopen(&mut self, py: Python<'_>, shared: &Shared, machine: &Machine) -> PyResult<()> {
        for (place, record) in (0..).zip(&machine.history().records) {
            let node = shared.plan.plan.node(record.node);
            if record.status == Status::Running && !node.inner {
                self.step_started(py, shared, (record.node, place), &[])?;
                if record.attempts > 0 && matches!(node.kind, Kind::Step(_)) {
                    self.attempt_started(py, shared, (record.node, place), record.attempts)?;
                }
            }
        }
        Ok(())
    }

    /// Takes in what happened to a step.
    pub(super) fn tell(&mut self, py: Python<'_>, shared: &Shared, notice: &Notice) -> PyResult<()> {
        let node = (notice.node, notice.record);
        match &notice.kind {
            NoticeKind::StepStarted => {
                let rounds = notice.round.as_ref().map(|round| round.indices());
                self.step_started(py, shared, node, &rounds.unwrap_or_default())
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
            NoticeKind::FallbackStarted => {
                if let Some(open) = self
                    .open
                    .iter_mut()
                    .rfind(|open| open.of == Of::Step(notice.record))
                {
                    open.fallback = true;
                }
                Ok(())
            }
            NoticeKind::CacheHit(_) => self.event(py, "cache_hit"),
            NoticeKind::Paused => self.event(py, "paused"),
            NoticeKind::Resumed => self.event(py, "resumed"),
            NoticeKind::StepFinished => self.step_ended(py, shared, notice, &End::OK),
            NoticeKind::StepFailed(failure)
            | NoticeKind::StepStopped {
                failure: Some(failure),
                ..
            } => self.step_ended(py, shared, notice, &End::Failed(failure)),
            NoticeKind::StepStopped { status, .. } => {
                let limited = *status == Status::LimitExceeded;
                self.step_ended(
                    py,
                    shared,
                    notice,
                    if limited { &End::Limited } else { &End::CANCELLED },
                )
            }
        }
    }

    fn step_started(
        &mut self,
        py: Python<'_>,
        shared: &Shared,
        (node, record): (NodeId, u32),
        rounds: &[u32],
    ) -> PyResult<()> {
        let attributes = of_span(py, &self.run_id)?;
        name_step(&attributes, shared, node)?;
        if let Some(kind) = shared.plan.span_names().kind(node) {
            attributes.set_item("flujo.step.kind", kind)?;
        }
        if !rounds.is_empty() {
            attributes.set_item("flujo.iteration", rounds)?;
        }
        let name = &shared.plan.plan.node(node).name;
        self.begin(py, Of::Step(record), name, &attributes)
    }

    fn attempt_started(
        &mut self,
        py: Python<'_>,
        shared: &Shared,
        (node, record): (NodeId, u32),
        attempt: u32,
    ) -> PyResult<()> {
        let attributes = of_span(py, &self.run_id)?;
        name_step(&attributes, shared, node)?;
        attributes.set_item("flujo.attempt", attempt)?;
        let name = format!("attempt {attempt}");
        self.begin(py, Of::Attempt(record), &name, &attributes)
    }

    fn begin(&mut self, py: Python<'_>, of: Of, name: &str, attributes: &Bound<'_, PyDict>) -> PyResult<()> {
        let around = match self.open.last() {
            Some(around) => around.context.clone_ref(py),
            None => bridge::here(py)?,
        };
        let context = self.spans.begin(py, name, &around, attributes, None)?;
        self.open.push(Open::new(of, context));
        Ok(())
    }

    fn step_ended(
        &mut self,
        py: Python<'_>,
        shared: &Shared,
        notice: &Notice,
        end: &End<'_>,
    ) -> PyResult<()> {
        let attributes = PyDict::new(py);
        if matches!(shared.plan.plan.node(notice.node).kind, Kind::Step(_)) && notice.attempt > 0 {
            attributes.set_item("flujo.attempts", notice.attempt)?;
        }
        let open = self.open.iter().rfind(|open| open.of == Of::Step(notice.record));
        if open.is_some_and(|open| open.fallback) {
            attributes.set_item("flujo.fallback", true)?;
        }
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
            let (status, error, error_type) = match end {
                End::Well(status) => (*status, false, None),
                End::Limited => ("limit_exceeded", true, None),
                End::Failed(failure) => ("error", true, Some(&*failure.error_type)),
            };
            own.set_item("flujo.status", status)?;
            self.spans.end(py, &open.context, own, error, error_type)?;
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
    pub(super) fn enter(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(innermost) = self.open.last().map(|open| &open.context) else {
            return Ok(());
        };
        if self.current.as_ref().is_some_and(|current| current.is(innermost)) {
            return Ok(());
        }
        bridge::enter(py, innermost)?;
        self.current = Some(innermost.clone_ref(py));
        Ok(())
    }

    /// The machine has ended.
    pub(super) fn end(&mut self, py: Python<'_>, finish: &Finish) -> PyResult<()> {
        let attributes = PyDict::new(py);
        add_usage(&attributes, finish.usage)?;
        let end = match &finish.outcome {
            Outcome::Completed(_) => End::OK,
            Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => End::Failed(failure),
            Outcome::Stopped(Stop::LimitExceeded(_)) => End::Limited,
            Outcome::Stopped(Stop::Paused) => End::PAUSED,
            Outcome::Stopped(Stop::Cancelled | Stop::Aborted(_)) => End::CANCELLED,
        };
        self.give_back(py)?;
        self.close(py, &Of::Machine, &attributes, &end)
    }

    /// The machine's own span.
    pub(super) fn span(&self, py: Python<'_>) -> PyResult<Option<SpanContext>> {
        let text = match self.open.first() {
            Some(open) => bridge::traceparent_of(py, &open.context)?,
            None => None,
        };
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// The machine stands still. Gives what identifies its own span, for when it goes on.
    pub(super) fn stand_still(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let own = self
            .open
            .first()
            .map(|open| bridge::span_context(py, &open.context));
        self.give_back(py)?;
        self.close(py, &Of::Machine, &PyDict::new(py), &End::PAUSED)?;
        own.transpose()
    }

    /// Nobody drives the machine any more.
    pub(super) fn abandon(&mut self, py: Python<'_>) -> PyResult<()> {
        self.give_back(py)?;
        self.close(py, &Of::Machine, &PyDict::new(py), &End::CANCELLED)
    }

    fn give_back(&mut self, py: Python<'_>) -> PyResult<()> {
        match (&self.outside, self.current.take()) {
            (Some(outside), Some(current)) => bridge::leave(py, &current, outside),
            _ => Ok(()),
        }
    }

    /// Tells the garbage collector of what is held.
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run_id)?;
        self.open.iter().try_for_each(|open| visit.call(&open.context))?;
        let contexts = [&self.current, &self.outside];
        contexts
            .into_iter()
            .flatten()
            .try_for_each(|context| visit.call(context))
    }
}

fn add_usage(attributes: &Bound<'_, PyDict>, usage: Usage) -> PyResult<()> {
    if usage.is_zero() {
        return Ok(());
    }
    attributes.set_item("flujo.usage.cost_usd", usage.cost.dollars())?;
    attributes.set_item("flujo.usage.tokens", usage.tokens)?;
    attributes.set_item("flujo.usage.requests", usage.requests)
}

/// What every span of a run says.
fn of_span<'py>(py: Python<'py>, run_id: &Py<PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let attributes = PyDict::new(py);
    attributes.set_item("flujo.run.id", run_id)?;
    Ok(attributes)
}

fn name_step(attributes: &Bound<'_, PyDict>, shared: &Shared, node: NodeId) -> PyResult<()> {
    let node = shared.plan.plan.node(node);
    attributes.set_item("flujo.step", &*node.name)?;
    attributes.set_item("flujo.step.path", &*node.path)
}
