//! The spans of one machine, a run or a lane. They go into the program's own OpenTelemetry where it has set one up, and
//! to the exporters that the runner was given. A run that nobody traces has none of this.

mod bridge;
mod call;
mod sdk;
mod tree;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flujo_core::config::{Part, Twins};
use flujo_core::telemetry::{MachineSpans, RunStart, SpanContext};
use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::PyString;

use super::domain::{Call, Event, Finish, Machine, Notice, Python3};
use super::engine::EngineInner;
use super::names;
use super::place::{Place, PlaceState};
use super::shared::Shared;
use crate::telemetry::Recording;
use bridge::Spans;
use call::{Note, Said};
pub(crate) use tree::tree;

/// Who records spans of a run, and whose span it is below.
#[derive(Default)]
pub(crate) struct Traced {
    /// The program's own OpenTelemetry.
    program: Option<Spans>,
    /// What the runner was given.
    own: Option<Arc<Recording>>,
    /// A span of another process, in the form of a `traceparent` header.
    parent: Option<Py<PyString>>,
    /// What the last agent that answered said about its answer.
    said: Mutex<Option<Said>>,
    /// Whether it said anything: most say nothing, and nobody looks.
    has_said: AtomicBool,
}

impl Traced {
    /// Of a run that begins or goes on now.
    pub(crate) fn now(py: Python<'_>, engine: &EngineInner, parent: Option<Py<PyString>>) -> PyResult<Self> {
        let mut traced = Self {
            parent,
            ..Self::default()
        };
        if engine.traces() {
            traced.program = bridge::of_user(py)?;
            if let Some(telemetry) = &engine.telemetry {
                traced.own = telemetry.recording(py, traced.program.is_some());
            }
        }
        Ok(traced)
    }

    #[inline]
    pub(crate) fn is_traced(&self) -> bool {
        self.program.is_some() || self.own.is_some()
    }

    /// Whether it wants to be told what happens to steps.
    pub(crate) fn hears(&self, twins: Twins) -> bool {
        self.program.is_some() || (self.own.is_some() && !twins.is_optimized(Part::Telemetry))
    }

    /// Takes in what an agent's result says about the call, for the span of the call.
    pub(crate) fn hear(&self, result: &Bound<'_, PyAny>) {
        if self.own.is_none() {
            return;
        }
        let said = Said::of(result);
        if said.is_some() || self.has_said.load(Ordering::Relaxed) {
            let mut last = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            self.has_said.store(said.is_some(), Ordering::Relaxed);
            *last = said;
        }
    }

    /// What the last agent that answered said, once.
    #[inline]
    fn heard(&self) -> Option<Said> {
        if !self.has_said.load(Ordering::Relaxed) {
            return None;
        }
        let mut last = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_said.store(false, Ordering::Relaxed);
        last.take()
    }

    /// What other processes are to be told of the span that is current at `place`, or here.
    pub(crate) fn traceparent(&self, py: Python<'_>, place: &PlaceState) -> PyResult<Option<String>> {
        if self.program.is_some() {
            return bridge::traceparent(py);
        }
        if let Some(span) = place.span() {
            return Ok(Some(span.to_string()));
        }
        let parent = self.parent.as_ref().map(|parent| parent.bind(py).to_cow());
        Ok(parent.transpose()?.map(std::borrow::Cow::into_owned))
    }

    /// The span that a run is below which begins here.
    fn around(&self, py: Python<'_>) -> PyResult<Option<SpanContext>> {
        let text = match &self.parent {
            Some(parent) => Some(parent.bind(py).to_cow()?.into_owned()),
            None => match bridge::traceparent(py)? {
                None => enclosing(py)?,
                current => current,
            },
        };
        // A text that is none counts as none, as the standard asks.
        Ok(text.and_then(|text| text.parse().ok()))
    }
}

/// The span of the step whose code begins a run.
fn enclosing(py: Python<'_>) -> PyResult<Option<String>> {
    let place = names::place_variable(py)?.call_method0(pyo3::intern!(py, "get"))?;
    match place.cast::<Place>() {
        Ok(place) => place.get().state.traceparent(py),
        Err(_) => Ok(None),
    }
}

/// The span of a machine that stood still, for when it goes on.
pub(crate) struct Before {
    program: Option<Py<PyAny>>,
}

impl Before {
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.program.as_ref().map_or(Ok(()), |span| visit.call(span))
    }
}

/// The spans of one machine.
pub(crate) struct Trace {
    program: Option<sdk::Trace>,
    own: Option<Own>,
}

/// What the runner's own exporters are told.
struct Own {
    spans: MachineSpans<Python3>,
    /// The agent's call that is under way.
    call: Option<Note>,
    /// The context in which a stand-in for the current span is current, and what was current around it: other libraries
    /// look there.
    followed: Option<(Py<PyAny>, Py<PyAny>)>,
}

impl Trace {
    /// The spans of a run that begins, or goes on after it stood still; None where nobody records any.
    pub(crate) fn of_run(
        py: Python<'_>,
        shared: &Shared,
        machine: &Machine,
        before: Option<&Before>,
    ) -> PyResult<Option<Box<Self>>> {
        let traced = &shared.traced;
        if !traced.is_traced() {
            return Ok(None);
        }
        let mut around = match &traced.own {
            Some(_) => traced.around(py)?,
            None => None,
        };
        let program = match &traced.program {
            Some(spans) => {
                let before = before.and_then(|before| before.program.as_ref());
                let trace = sdk::Trace::of_run(py, shared, spans, traced.parent.as_ref(), before)?;
                around = trace.span(py)?.or(around);
                Some(trace)
            }
            None => None,
        };
        let own = match &traced.own {
            Some(recording) => {
                let at = shared.now(py);
                let start = RunStart {
                    run: Arc::from(&*shared.run_id(py)?.str()?.to_cow()?),
                    names: Arc::clone(shared.plan.span_names()),
                    parent: around,
                    resumed: before.is_some(),
                    wall: shared.epoch(py).saturating_add(at),
                    at,
                };
                let begun = shared.contain(py, Part::Telemetry, None, |twins| {
                    MachineSpans::begin(recording.telemetry(twins), &start, machine)
                });
                Some(Own::new(begun?))
            }
            None => None,
        };
        Ok(Some(Box::new(Self { program, own })))
    }

    /// The spans of a lane of `around`, the machine of these.
    pub(crate) fn of_lane(
        &self,
        py: Python<'_>,
        shared: &Shared,
        around: &Machine,
        lane: &Machine,
        before: Option<&Before>,
    ) -> PyResult<Box<Self>> {
        let program = match (&self.program, lane.lane()) {
            (Some(program), Some(place)) => {
                let before = before.and_then(|before| before.program.as_ref());
                Some(program.of_lane(py, shared, place, before)?)
            }
            _ => None,
        };
        let own = self.own.as_ref();
        let mut own = own.map(|own| Own::new(own.spans.lane(around, lane)));
        look_for_fault(py, shared, own.as_mut())?;
        Ok(Box::new(Self { program, own }))
    }

    /// Opens spans for the steps that a machine which stood still is in.
    pub(crate) fn reopen(&mut self, py: Python<'_>, shared: &Shared, machine: &Machine) -> PyResult<()> {
        match &mut self.program {
            Some(program) => program.reopen(py, shared, machine),
            None => Ok(()),
        }
    }

    /// The machine is about to be driven, where `place` is current.
    pub(crate) fn begin(&mut self, py: Python<'_>, place: &Bound<'_, Place>) -> PyResult<()> {
        if let (Some(own), None) = (&mut self.own, &self.program) {
            place.get().state.traces(own.spans.ids());
            if bridge::is_imported(py)? {
                let outside = bridge::here(py)?;
                own.followed = Some((bridge::follow(py, place)?, outside));
            }
        }
        Ok(())
    }

    /// Takes in what happened to a step.
    pub(crate) fn tell(&mut self, py: Python<'_>, shared: &Shared, notice: &Notice) -> PyResult<()> {
        if let Some(own) = &mut self.own {
            own.spans.notice(notice);
        }
        look_for_fault(py, shared, self.own.as_mut())?;
        match &mut self.program {
            Some(program) => program.tell(py, shared, notice),
            None => Ok(()),
        }
    }

    /// Makes the innermost span the current one, before user code is called.
    #[inline]
    pub(crate) fn enter(
        &mut self,
        py: Python<'_>,
        machine: &Machine,
        place: &PlaceState,
        call: &Call,
    ) -> PyResult<()> {
        if let Some(own) = &mut self.own {
            place.is_in(own.spans.current(machine, call.attempt).span);
            own.call = Note::of(py, &own.spans, machine, call);
        }
        match &mut self.program {
            Some(program) => program.enter(py),
            None => Ok(()),
        }
    }

    /// A call has ended.
    #[inline]
    pub(crate) fn answered(&mut self, py: Python<'_>, shared: &Shared, event: &Event) {
        if let Some(own) = &mut self.own
            && let Some(note) = own.call.take()
            && let Some(call) = note.ended(py, event, shared.traced.heard())
        {
            own.spans.called(call);
        }
    }

    /// The machine waits.
    pub(crate) fn waits(&mut self, machine: &Machine) {
        if let Some(own) = &mut self.own {
            own.spans.waits(machine, machine.now());
        }
    }

    /// The machine has ended.
    pub(crate) fn end(&mut self, py: Python<'_>, shared: &Shared, finish: &Finish) -> PyResult<()> {
        self.give_back(py)?;
        if let Some(own) = &mut self.own {
            own.spans.finished(finish, shared.now(py));
        }
        look_for_fault(py, shared, self.own.as_mut())?;
        match &mut self.program {
            Some(program) => program.end(py, finish),
            None => Ok(()),
        }
    }

    /// The machine stands still.
    pub(crate) fn stand_still(
        &mut self,
        py: Python<'_>,
        shared: &Shared,
        machine: &Machine,
    ) -> PyResult<Before> {
        self.give_back(py)?;
        if let Some(own) = &mut self.own {
            own.spans.paused(machine, shared.now(py));
        }
        look_for_fault(py, shared, self.own.as_mut())?;
        let program = match &mut self.program {
            Some(program) => program.stand_still(py)?,
            None => None,
        };
        Ok(Before { program })
    }

    /// Nobody drives the machine any more.
    pub(crate) fn abandon(&mut self, py: Python<'_>, shared: &Shared, machine: &Machine) -> PyResult<()> {
        self.give_back(py)?;
        if let Some(own) = &mut self.own {
            own.spans.dropped(machine, shared.now(py));
        }
        match &mut self.program {
            Some(program) => program.abandon(py),
            None => Ok(()),
        }
    }

    fn give_back(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.own.as_mut().and_then(|own| own.followed.take()) {
            Some((followed, outside)) => bridge::leave(py, &followed, &outside),
            None => Ok(()),
        }
    }

    /// Tells the garbage collector of what is held.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some((followed, outside)) = self.own.as_ref().and_then(|own| own.followed.as_ref()) {
            visit.call(followed)?;
            visit.call(outside)?;
        }
        match &self.program {
            Some(program) => program.visit(visit),
            None => Ok(()),
        }
    }
}

/// Says that spans are no longer recorded, when the recorder has failed.
fn look_for_fault(py: Python<'_>, shared: &Shared, own: Option<&mut Own>) -> PyResult<()> {
    match own.and_then(|own| own.spans.take_fault()) {
        Some(reason) => shared.gave_way(py, Part::Telemetry, &reason),
        None => Ok(()),
    }
}

impl Own {
    fn new(spans: MachineSpans<Python3>) -> Self {
        Self {
            spans,
            call: None,
            followed: None,
        }
    }
}
