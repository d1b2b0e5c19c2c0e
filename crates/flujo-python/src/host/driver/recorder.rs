//! What a machine is told, as it is written down before.

use std::sync::Arc;

use flujo_core::machine::{CallId, LaneId, Role, Time, TimerId};
use flujo_durable::{DurableError, Journal, Sleeping, instead};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::host::agents::{self, Place};
use crate::host::context::Base;
use crate::host::domain::{Answer, Call, Event, Machine, Python3};
use crate::host::keeping::{unsavable, wall};

/// Why a request for another agent can't be saved.
const UNFOUND: &str = "an agent that a plugin asks for must be found again by another process: let it be the agent of a step \
                       of the pipeline, or one that its module or the plugin's has by a name";

/// Writes down what one machine is told.
pub(crate) struct Recorder {
    pub(super) journal: Arc<Journal<Python3>>,
    /// The machine's number.
    pub(super) machine: u32,
    /// What the context of the call under way was.
    base: Option<Base>,
    /// The call that it asked for last, and the path of its step.
    call: Option<(CallId, Arc<str>)>,
    /// The callable of that call.
    callable: Option<Place>,
    /// Whether that call merges lanes into that very context.
    merges: bool,
}

impl Recorder {
    pub(super) fn new(journal: &Arc<Journal<Python3>>, machine: u32) -> Self {
        Self {
            journal: Arc::clone(journal),
            machine,
            base: None,
            call: None,
            callable: None,
            merges: false,
        }
    }

    /// The one of a lane that begins.
    pub(super) fn lane(&self, lane: LaneId) -> Self {
        Self::new(&self.journal, self.journal.begin_lane(self.machine, lane))
    }

    /// The machine begins to sleep, for so many nanoseconds.
    pub(super) fn sleeps(&self, timer: TimerId, left: Time) {
        let since = wall();
        self.journal.sleeps(self.machine, Sleeping { timer, left, since });
    }

    /// The machine asks for a call.
    pub(super) fn asked(&mut self, py: Python<'_>, machine: &Machine, call: &Call) -> PyResult<()> {
        self.call = Some((call.call, Arc::clone(&machine.plan().node(call.node).path)));
        self.callable = Some((call.node, call.role, call.index));
        let spec = machine.plan().node(call.node).callable(call.role, call.index);
        let by_strategy = |target: &Py<PyAny>| target.bind(py).is_instance_of::<PyString>();
        self.merges = call.role == Role::Merge && spec.is_some_and(|spec| by_strategy(&spec.target));
        self.base = Some(Base::of(py, &call.context, call.isolated || self.merges)?);
        Ok(())
    }

    /// The machine is about to be told something. What it is told in fact: when a value can't be written down, that.
    pub(super) fn tell(&mut self, py: Python<'_>, machine: &Machine, event: Event) -> Event {
        if !machine.expects(&event) {
            return event;
        }
        let event = self.named(py, machine, event);
        let asks = matches!(
            &event,
            Event::Answered {
                answer: Answer::Redirect { .. },
                ..
            }
        );
        let (event, recorded) = self.record(machine, event);
        let Err(mut error) = recorded else {
            return event;
        };
        if let (DurableError::Unsavable { reason, .. }, true) = (&mut error, asks) {
            UNFOUND.clone_into(reason);
        }
        if let (DurableError::Unsavable { what, .. } | DurableError::TooLarge { what, .. }, Some(step)) =
            (&mut error, self.call.as_ref().map(|(_, step)| step))
        {
            *what = format!("what step `{step}` gave");
        }
        let event = instead(event, unsavable(py, &error));
        // A failure and a cancellation hold nothing that can't be written.
        let _ = self
            .journal
            .record(self.machine, machine, self.step(&event), &event, None);
        event
    }

    /// A request for another agent, by its name if it has one.
    fn named(&self, py: Python<'_>, machine: &Machine, mut event: Event) -> Event {
        if let (Event::Answered { answer, .. }, Some(plugin)) = (&mut event, self.callable)
            && let Err(error) = agents::name(py, machine.plan(), plugin, answer)
        {
            // It has no name then.
            error.write_unraisable(py, None);
        }
        event
    }

    /// The path of the step whose call ends with this.
    fn step(&self, event: &Event) -> Option<&Arc<str>> {
        let (Event::Answered { call, .. }
        | Event::Failed { call, .. }
        | Event::TimedOut { call, .. }
        | Event::CallCancelled { call, .. }) = event
        else {
            return None;
        };
        let (asked, step) = self.call.as_ref()?;
        (asked == call).then_some(step)
    }

    fn record(&self, machine: &Machine, mut event: Event) -> (Event, Result<(), DurableError>) {
        let mut merged = false;
        if let (Event::Answered { context, .. }, Some(base)) = (&mut event, &self.base)
            && self.merges
            && context.is_none()
        {
            *context = Some(Arc::clone(base.cell()));
            merged = true;
        }
        let recorded = self.journal.record(
            self.machine,
            machine,
            self.step(&event),
            &event,
            self.base.as_ref(),
        );
        if let Event::Answered { context, .. } = &mut event
            && merged
        {
            *context = None;
        }
        (event, recorded)
    }
}
