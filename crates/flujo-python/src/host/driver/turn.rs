//! Calls that wait until their rate limits let them begin. The loop's timers and the buckets wake the driver; no thread
//! waits.

use std::sync::Arc;
use std::task::Waker as Waking;

use flujo_core::config::Part;
use flujo_core::machine::{CallId, Time};
use flujo_core::plan::NodeId;
use flujo_core::rate::{ALONE, Admission, Turn};
use flujo_core::usage::Usage;
use pyo3::intern;
use pyo3::prelude::*;

use super::Driver;
use crate::host::clock::seconds;
use crate::host::domain::{Answer, Event};
use crate::host::inbox::Waker;
use crate::host::{failure, rates};
use crate::object::Object;

/// A call on its way through its rate limits.
pub(super) struct Admitting {
    admission: Admission,
    /// The call that waits, and until when; None once it was let through.
    waiting: Option<(CallId, Option<Time>)>,
    waking: Waking,
    /// The timer of the next look.
    pub(super) alarm: Option<Py<PyAny>>,
}

impl Driver {
    /// Reserves an estimate, or settles it to what was used.
    pub(super) fn budget(
        &mut self,
        py: Python<'_>,
        node: NodeId,
        estimate: Usage,
        actual: Option<Usage>,
    ) -> PyResult<()> {
        let name = &self.shared.plan.plan.node(node).name;
        let answer = self.shared.meter.as_ref().map(|meter| match actual {
            None => meter.reserve(name, estimate),
            Some(actual) => meter.settle(name, estimate, actual),
        });
        if let Some(reason) = self.shared.meter.as_ref().and_then(|meter| meter.fault())
            && !self.shared.twins.now().gave_way(Part::Usage)
        {
            self.shared.gave_way(py, Part::Usage, reason)?;
        }
        let event = match answer {
            Some(Err(breach)) => Event::Refused(breach),
            _ => Event::Reserved,
        };
        self.take_event(py, event);
        Ok(())
    }

    pub(super) fn admit(
        &mut self,
        py: Python<'_>,
        call: CallId,
        (node, agent): (NodeId, Option<&Object>),
        tokens: u64,
        deadline: Option<Time>,
    ) -> PyResult<()> {
        let limits = match rates::of_call(py, &self.shared, node, agent) {
            // What is played waits for nobody.
            Ok(_) if self.shared.engine.player.is_some() => Arc::from([]),
            Ok(limits) => limits,
            Err(error) => {
                let failure = Box::new(failure::from_error(py, error).permanent());
                let (usage, at) = (Usage::ZERO, self.shared.now(py));
                let event = Event::Failed {
                    call,
                    failure,
                    usage,
                    at,
                };
                self.take_event(py, event);
                return Ok(());
            }
        };
        let waking = self.waker(py)?;
        self.admitting = Some(Box::new(Admitting {
            admission: Admission::new(limits, tokens),
            waiting: Some((call, deadline)),
            waking,
            alarm: None,
        }));
        self.look_for_turn(py)
    }

    /// Whether a call waits for its turn.
    pub(super) fn waits_for_turn(&self) -> bool {
        self.admitting
            .as_ref()
            .is_some_and(|admitting| admitting.waiting.is_some())
    }

    /// Begins the call that waits, when its turn has come or its time is up.
    pub(super) fn look_for_turn(&mut self, py: Python<'_>) -> PyResult<()> {
        let (now, at) = (self.shared.rate_time(py), self.shared.now(py));
        let Some(admitting) = &mut self.admitting else {
            return Ok(());
        };
        let Some((call, deadline)) = admitting.waiting else {
            return Ok(());
        };
        cancel(py, admitting.alarm.take())?;
        let until = match admitting.admission.poll(now, &admitting.waking) {
            Turn::Admitted => {
                admitting.waiting = None;
                match admitting.admission.shared() {
                    None => {}
                    Some(Ok(())) => {
                        let alerts = self.shared.engine.watch.alerts();
                        alerts.recovered_from(Part::Usage, |reason| reason.starts_with(ALONE));
                    }
                    Some(Err(reason)) => self.shared.engine.degraded(py, Part::Usage, &reason)?,
                }
                let (answer, context) = (Answer::Done, None);
                self.take_event(
                    py,
                    Event::Answered {
                        call,
                        answer,
                        context,
                        at,
                    },
                );
                return Ok(());
            }
            Turn::Wait(until) => until,
        };
        if deadline.is_some_and(|deadline| at >= deadline) {
            self.admitting = None;
            let usage = Usage::ZERO;
            self.take_event(py, Event::TimedOut { call, usage, at });
            return Ok(());
        }
        let left = [
            until.map(|until| until.saturating_sub(now)),
            deadline.map(|deadline| deadline - at),
        ];
        if let Some(left) = left.into_iter().flatten().min() {
            let waker = Waker {
                inbox: Arc::clone(&self.inbox),
                timer: None,
            };
            let alarm = self
                .shared
                .event_loop(py)
                .call_method1(intern!(py, "call_later"), (seconds(left), Bound::new(py, waker)?))?;
            admitting.alarm = Some(alarm.unbind());
        }
        Ok(())
    }

    /// The call that waits is not made after all.
    pub(super) fn leave_line(&mut self, py: Python<'_>, call: CallId) -> PyResult<()> {
        let waits = |admitting: &mut Box<Admitting>| admitting.waiting.is_some_and(|(id, _)| id == call);
        if let Some(admitting) = self.admitting.take_if(waits) {
            cancel(py, admitting.alarm)?;
            let at = self.shared.now(py);
            self.take_event(py, Event::CallCancelled { call, at });
        }
        Ok(())
    }

    /// The call that was let through has ended.
    pub(super) fn release(&mut self, py: Python<'_>, tokens: u64, hold: Option<Time>) {
        if let Some(admitting) = self.admitting.take() {
            let now = self.shared.rate_time(py);
            let hold = hold.map(|wait| now.saturating_add(wait));
            admitting.admission.settle(tokens, hold, now);
        }
    }
}

fn cancel(py: Python<'_>, alarm: Option<Py<PyAny>>) -> PyResult<()> {
    match alarm {
        Some(alarm) => alarm.bind(py).call_method0(intern!(py, "cancel")).map(drop),
        None => Ok(()),
    }
}
