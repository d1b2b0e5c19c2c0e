//! Following a call of user code: its coroutine is driven on, and what its end means becomes an event.

use flujo_core::usage::Usage;
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;

use super::super::call::{self, Begun, Pending, Reader};
use super::super::domain::Event;
use super::super::{aside, cached, hooks, usage};
use super::cancelling::cancels_of;
use super::{Awaited, Driver, Resume, Turn};
use crate::prices::Tariff;
use crate::vectorcall::{self, Sent};

impl Driver {
    /// Drives the coroutine of a call on; gives a turn when it has to be waited for.
    pub(super) fn drive(
        &mut self,
        py: Python<'_>,
        pending: Box<Pending>,
        resume: Resume,
    ) -> PyResult<Option<Turn>> {
        let mut pending = pending;
        let mut resume = resume;
        loop {
            let coroutine = pending.coroutine.bind(py);
            let thrown = matches!(resume, Resume::Throw(_));
            let sent = match resume {
                Resume::Next => vectorcall::send(coroutine),
                Resume::Throw(error) => {
                    pending.thrown_at = Some(self.cancel_count(py)?);
                    if self.cancellation.is_none() && !self.called_off {
                        self.cancellation = Some(error.clone_ref(py));
                    }
                    throw(coroutine, error)
                }
            };
            let result = match sent {
                Ok(Sent::Yielded(_)) if self.interrupt.is_overdue() => {
                    let event = self.cut_off(py, &pending)?;
                    self.answer(py, event);
                    return Ok(None);
                }
                Ok(Sent::Yielded(future)) => {
                    if thrown {
                        self.begin_grace(py, &pending)?;
                    }
                    return self.suspend(py, pending, future.unbind()).map(Some);
                }
                Ok(Sent::Returned(value)) => Ok(value),
                Err(error) => Err(error),
            };
            match self.ended(py, pending, result)? {
                Begun::Ended(event) => {
                    self.answer(py, event);
                    return Ok(None);
                }
                Begun::UnderWay(next) => {
                    pending = next;
                    resume = Resume::Next;
                }
                Begun::Waiting(next, future) => return self.suspend(py, next, future).map(Some),
            }
        }
    }

    /// Waits for what the coroutine of a call waits for. Its time limit begins when it does so for the first time.
    pub(super) fn suspend(
        &mut self,
        py: Python<'_>,
        mut pending: Box<Pending>,
        future: Py<PyAny>,
    ) -> PyResult<Turn> {
        if let (Some(deadline), None) = (pending.deadline, pending.limit_from) {
            let task = self.task(py)?;
            pending.limit_from = Some(cancels_of(&task)?.unwrap_or(0));
            self.time_limit.begin(&self.shared, &task, deadline)?;
        }
        self.awaited = Awaited::Call(pending);
        Ok(Turn::Yield(future))
    }

    /// What a call that was cut short says it had used.
    fn usage_of(&self, py: Python<'_>, pending: &Pending, result: &PyResult<Bound<'_, PyAny>>) -> Usage {
        let agent = match &pending.reader {
            Reader::Callable(spec) => spec.agent.as_ref().map(|agent| agent.bind(py)),
            _ => None,
        };
        let prices = &self.shared.engine.prices;
        let tariff = Tariff { prices, agent };
        match result {
            Err(error) => usage::of_error(error.value(py), tariff),
            Ok(value) => usage::of_output(value, tariff).unwrap_or_default(),
        }
    }

    /// What the end of a call's coroutine means; hooks go on with the next one.
    fn ended(
        &mut self,
        py: Python<'_>,
        mut pending: Box<Pending>,
        result: PyResult<Bound<'_, PyAny>>,
    ) -> PyResult<Begun> {
        let call = pending.call;
        let limit_from = pending.limit_from.take();
        let expired = limit_from.is_some() && self.time_limit.end();
        self.end_grace(py)?;
        if let Some(thrown_at) = pending.thrown_at.take() {
            if let Some(worker) = &pending.worker {
                worker.leave(py, &self.shared)?;
            }
            let still = self.cancel_count(py)?;
            if expired {
                // The time limit's own cancellation is taken back; what came since it began is from outside.
                let left: i64 = self.task(py)?.call_method0(intern!(py, "uncancel"))?.extract()?;
                if left <= limit_from.unwrap_or(0) && !self.called_off {
                    self.cancellation = None;
                    let usage = self.usage_of(py, &pending, &result);
                    let at = self.shared.now(py);
                    return Ok(Begun::Ended(Event::TimedOut { call, usage, at }));
                }
            }
            if expired || self.called_off || (still >= thrown_at && thrown_at > 0) {
                let (usage, at) = (self.usage_of(py, &pending, &result), self.shared.now(py));
                // Once the run is being stopped, the end of its call tells nothing but what it used.
                self.take_event(py, Event::Cancel { at });
                return Ok(Begun::Ended(Event::TimedOut { call, usage, at }));
            }
            // Somebody inside had asked for it and has taken it back, as `asyncio.timeout` does.
            self.cancellation = None;
        }
        // A function that a worker thread ran may have given a coroutine, which belongs on the loop.
        if let (Some(_), Ok(value)) = (pending.worker.take(), &result)
            && let Some(coroutine) = call::awaitable(value)?
        {
            pending.coroutine = coroutine.unbind();
            return Ok(Begun::UnderWay(pending));
        }
        let Pending {
            reader,
            context,
            deadline,
            ..
        } = *pending;
        match reader {
            Reader::Cache(looking) => {
                let lane = self.machine.lane();
                let (leads, result) = (&mut self.leads, result.map(drop));
                cached::go_on(py, &self.shared, leads, lane, *looking, result)
            }
            Reader::Callable(spec) => {
                let event = match result {
                    Ok(value) => call::returned(py, &self.shared, call, &spec, context, value)?,
                    Err(error) => call::failed(py, &self.shared, call, Some(&spec), error)?,
                };
                aside::settled(py, &self.shared, event)
            }
            Reader::Aside(mut aside) => {
                let event = aside.ended(py, &self.shared, result.map(drop))?;
                Ok(Begun::Ended(event))
            }
            Reader::NextItem => Ok(Begun::Ended(call::item_ended(py, &self.shared, call, result)?)),
            Reader::Hooks(telling) => {
                let result = result.map(drop);
                hooks::go_on(py, &self.shared, (call, deadline), telling, result)
            }
        }
    }
}

/// Throws an exception into a coroutine or a future's iterator.
fn throw<'py>(coroutine: &Bound<'py, PyAny>, error: PyErr) -> PyResult<Sent<'py>> {
    let py = coroutine.py();
    match coroutine.call_method1(intern!(py, "throw"), (error.into_value(py),)) {
        Ok(future) => Ok(Sent::Yielded(future)),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            Ok(Sent::Returned(error.value(py).getattr(intern!(py, "value"))?))
        }
        Err(error) => Err(error),
    }
}
