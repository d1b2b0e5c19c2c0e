//! What is told of a machine while it is driven: to listeners, into the log, as spans.

use pyo3::prelude::*;

use super::Driver;
use crate::host::domain::{Command, Event};
use crate::host::events;
use crate::host::place::Place;

impl Driver {
    /// The machine is about to be driven for the first time, where its place is the current one.
    pub(crate) fn enter(&mut self, py: Python<'_>, place: &Bound<'_, Place>) -> PyResult<()> {
        if let Some(once) = self.machine.take_once() {
            self.place.did_once(py, once)?;
        }
        match &mut self.trace {
            Some(trace) => trace.begin(py, place),
            None => Ok(()),
        }
    }

    /// Ends the spans of a machine that nobody drives any more, as far as they are open.
    pub(crate) fn end_spans(&mut self, py: Python<'_>) {
        if let Some(mut trace) = self.trace.take() {
            // Nobody is left to be told.
            let _ = trace.abandon(py, &self.shared, &self.machine);
        }
    }

    /// Tells the machine how a call ended.
    #[inline]
    pub(super) fn answer(&mut self, py: Python<'_>, event: Event) {
        if let Some(trace) = &mut self.trace {
            trace.answered(py, &self.shared, &event);
        }
        self.take_event(py, event);
    }

    /// Tells the machine what has happened; a run that is kept has it written down.
    #[inline]
    pub(super) fn take_event(&mut self, py: Python<'_>, event: Event) {
        let event = match &mut self.recorder {
            None => event,
            Some(recorder) => recorder.tell(py, &self.machine, event),
        };
        self.machine.handle(event);
    }

    /// Tells whoever listens what has happened.
    pub(super) fn pass_on(&mut self, py: Python<'_>, next: Option<&Command>) -> PyResult<()> {
        // A machine that has ended has given its history away.
        let history = match next {
            Some(Command::Finish(finish)) => &finish.history,
            _ => self.machine.history(),
        };
        let lane = self.machine.lane();
        for notice in self.notices.drain(..) {
            if let Some(trace) = &mut self.trace {
                trace.tell(py, &self.shared, &notice)?;
            }
            if self.shared.logged {
                events::log(py, &self.shared, lane, &notice)?;
            }
            if self.shared.listener.is_some() {
                events::tell(py, &self.shared, lane, history, &notice)?;
            }
        }
        Ok(())
    }
}
