//! Calls that wait until what was before them is in the store.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, Waker};

use flujo_core::machine::{CallId, Role};
use flujo_durable::{Durability, DurableError, Journal, Saved, Snapshot, Written};
use pyo3::prelude::*;

use super::{Driver, Turn};
use crate::host::domain::{Answer, Call, Event, Machine, Python3};
use crate::host::keeping::{WriteOn, unsavable};

pub(super) struct Holding {
    call: Call,
    written: Written,
}

impl Driver {
    /// Begins a call; one of an agent once what was before it is in the store, if the run is kept in one.
    #[inline]
    pub(super) fn reach(&mut self, py: Python<'_>, call: Call) -> PyResult<Option<Turn>> {
        match &mut self.recorder {
            None => self.call(py, call),
            Some(recorder) => {
                recorder.asked(py, &self.machine, &call)?;
                if matches!(call.role, Role::Agent | Role::Redirect) {
                    let journal = Arc::clone(&recorder.journal);
                    return self.write_before(py, call, &journal);
                }
                self.call(py, call)
            }
        }
    }

    fn write_before(
        &mut self,
        py: Python<'_>,
        call: Call,
        journal: &Arc<Journal<Python3>>,
    ) -> PyResult<Option<Turn>> {
        let alone = self.machine.lane().is_none()
            && self.lanes.running.is_empty()
            && self.lanes.parked.is_empty()
            && self.admitting.is_none()
            && self.leads.are_none();
        if alone && journal.wants_snapshot() {
            match self.begin_anew(py, &call, journal) {
                // The call is asked for again.
                Ok(()) => return Ok(None),
                Err(error) => {
                    self.break_off(py, call.call, &error);
                    return Ok(None);
                }
            }
        }
        let written = if alone && journal.durability() == Durability::Strict {
            // It may wait for the disk.
            py.detach(|| journal.flush_alone())
        } else {
            journal.flush()
        };
        WriteOn::begin(py, journal, self.shared.event_loop(py))?;
        match written {
            None => self.call(py, call),
            Some(written) => {
                self.holding = Some(Box::new(Holding { call, written }));
                self.look_whether_written(py)
            }
        }
    }

    /// Has a snapshot stand for what was written so far, and goes on behind it: what is under way is asked for again.
    fn begin_anew(
        &mut self,
        py: Python<'_>,
        call: &Call,
        journal: &Journal<Python3>,
    ) -> Result<(), DurableError> {
        let at = self.shared.now(py);
        let state = self.machine.save(at);
        let saved = Saved {
            machine: 0,
            parent: None,
            state: state.clone(),
            once: self
                .place
                .once(py, &self.machine, &self.machine.plan().node(call.node).path),
            sleeping: None,
        };
        let snapshot = Snapshot::Machines {
            machines: vec![saved],
            next: journal.next_machine(),
            asked: Vec::new(),
            limits: journal.limits(),
        };
        drop(journal.snapshot(&snapshot, [])?);
        *self.machine = Machine::restore(Arc::clone(self.machine.plan()), state, at);
        Ok(())
    }

    /// Begins the call that is held, if what was before it is in the store by now.
    fn look_whether_written(&mut self, py: Python<'_>) -> PyResult<Option<Turn>> {
        let Some(mut holding) = self.holding.take() else {
            return Ok(None);
        };
        // Whoever is told by something shared that it is there would be told once more when it takes it.
        let mut written = Pin::new(&mut holding.written);
        let mut told = written.as_mut().poll(&mut Poller::from_waker(Waker::noop()));
        if told.is_pending() {
            told = written.poll(&mut Poller::from_waker(&self.waker(py)?));
        }
        match told {
            Poll::Pending => {
                self.holding = Some(holding);
                Ok(None)
            }
            Poll::Ready(Ok(())) => self.call(py, holding.call),
            Poll::Ready(Err(error)) => {
                self.break_off(py, holding.call.call, &error.into());
                Ok(None)
            }
        }
    }

    /// Somebody knocked: a call that waits may have its turn, or what was before it may have been written.
    pub(super) fn look_again(&mut self, py: Python<'_>) -> PyResult<Option<Turn>> {
        if self.holding.is_some() {
            return self.look_whether_written(py);
        }
        self.look_for_turn(py)?;
        Ok(None)
    }

    /// The call that is held is not made after all.
    pub(super) fn let_go_of(&mut self, py: Python<'_>, call: CallId) -> bool {
        if self
            .holding
            .take_if(|holding| holding.call.call == call)
            .is_none()
        {
            return false;
        }
        let at = self.shared.now(py);
        self.take_event(py, Event::CallCancelled { call, at });
        true
    }

    /// Ends the run: what happened in it can't be written down.
    #[cold]
    fn break_off(&mut self, py: Python<'_>, call: CallId, error: &DurableError) {
        let failure = unsavable(py, error);
        // Nothing is recorded any more: the store has refused to.
        self.machine.handle(Event::Answered {
            call,
            answer: Answer::Fatal(Box::new(failure)),
            context: None,
            at: self.shared.now(py),
        });
    }
}
