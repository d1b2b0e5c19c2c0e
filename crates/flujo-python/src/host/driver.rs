//! Drives one machine: the run's own, or a lane's. What the machine asks for is done inline on the loop's thread; what
//! has to be waited for is handed to asyncio as the future that the user's own coroutine yielded.

use std::collections::HashMap;
use std::sync::Arc;

use flujo_core::machine::{LaneId, TimerId};
use flujo_core::usage::Usage;
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::call::{self, Begun, Pending, Reader};
use super::clock::seconds;
use super::domain::{Command, Event, Finish, Machine};
use super::engine::Shared;
use super::inbox::{Delivery, Inbox, Waker};
use super::steps::{self, Outputs};
use super::time_limit::TimeLimit;
use super::{aside, collected, hooks, lane, names};
use crate::vectorcall::{self, Sent};

/// How a driver is driven on.
pub(crate) enum Resume {
    Next,
    Throw(PyErr),
}

/// What came of it.
pub(crate) enum Turn {
    /// Wait for this, and come back.
    Yield(Py<PyAny>),
    /// The machine has finished.
    End(Box<Finish>),
}

pub(crate) struct Driver {
    machine: Box<Machine>,
    pub(crate) shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    awaited: Awaited,
    lanes: HashMap<LaneId, Py<PyAny>>,
    timer: Option<(TimerId, Py<PyAny>)>,
    time_limit: TimeLimit,
    /// The cancellation that is being carried out; the very object leaves again.
    pub(crate) cancellation: Option<PyErr>,
    place: Arc<super::place::PlaceState>,
    begun: bool,
}

enum Awaited {
    Nothing,
    Call(Box<Pending>),
    Inbox,
}

impl Driver {
    /// `outer` are the iterations of the loops around a lane.
    pub(crate) fn new(machine: Box<Machine>, shared: Arc<Shared>, outer: Vec<u32>, outputs: Outputs) -> Self {
        let place = super::place::PlaceState::new(&shared, machine.lane(), outer, outputs);
        let place = Arc::new(place);
        Self {
            machine,
            shared,
            inbox: Arc::default(),
            awaited: Awaited::Nothing,
            lanes: HashMap::new(),
            timer: None,
            time_limit: TimeLimit::default(),
            cancellation: None,
            place,
            begun: false,
        }
    }

    pub(crate) fn place(&self) -> &Arc<super::place::PlaceState> {
        &self.place
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// The iterations of all loops around what runs now, outermost first.
    pub(crate) fn iterations(&self) -> Vec<u32> {
        self.place.around(&self.machine)
    }

    /// Whether this is the first time it is driven.
    pub(crate) fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// Goes on until something must be waited for or the machine has finished. `Err` is only what ends everything.
    pub(crate) fn resume(&mut self, py: Python<'_>, resume: Resume) -> PyResult<Turn> {
        match (std::mem::replace(&mut self.awaited, Awaited::Nothing), resume) {
            (Awaited::Call(pending), resume) => {
                if let Some(turn) = self.drive(py, pending, resume)? {
                    return Ok(turn);
                }
            }
            (Awaited::Inbox | Awaited::Nothing, Resume::Throw(error)) => self.cancel(py, error)?,
            (Awaited::Inbox | Awaited::Nothing, Resume::Next) => {}
        }
        self.go_on(py)
    }

    fn go_on(&mut self, py: Python<'_>) -> PyResult<Turn> {
        loop {
            match self.machine.poll() {
                Some(Command::Call(call)) => {
                    if self.cancellation.is_some() {
                        let at = self.shared.now(py);
                        self.machine.handle(Event::CallCancelled { call: call.call, at });
                        continue;
                    }
                    self.place.at(&self.machine, call.node, call.attempt);
                    self.take_in_outputs(py)?;
                    match call::begin(py, &self.shared, &self.machine, call)? {
                        Begun::Ended(event) => self.machine.handle(event),
                        Begun::UnderWay(pending) => {
                            if let Some(turn) = self.drive(py, pending, Resume::Next)? {
                                return Ok(turn);
                            }
                        }
                    }
                }
                Some(Command::Finish(finish)) => {
                    self.time_limit.close(py)?;
                    self.place.forget_outputs();
                    return Ok(Turn::End(finish));
                }
                Some(command) => self.carry_out(py, command)?,
                None => {
                    let deliveries = self.inbox.take();
                    if deliveries.is_empty() {
                        return self.wait(py);
                    }
                    for delivery in deliveries {
                        self.take_in(py, delivery);
                    }
                }
            }
        }
    }

    #[inline]
    fn take_in_outputs(&self, py: Python<'_>) -> PyResult<()> {
        if !steps::are_kept() {
            return Ok(());
        }
        let mut outputs = self.place.outputs();
        outputs.take_in(py, self.machine.history(), &self.shared.plan)
    }

    /// Drives the coroutine of a call on; gives a turn when it has to be waited for.
    fn drive(&mut self, py: Python<'_>, pending: Box<Pending>, resume: Resume) -> PyResult<Option<Turn>> {
        let mut pending = pending;
        let mut resume = resume;
        loop {
            let coroutine = pending.coroutine.bind(py);
            let sent = match resume {
                Resume::Next => vectorcall::send(coroutine),
                Resume::Throw(error) => {
                    pending.thrown_at = Some(self.cancel_count(py)?);
                    if self.cancellation.is_none() {
                        self.cancellation = Some(error.clone_ref(py));
                    }
                    throw(coroutine, error)
                }
            };
            let result = match sent {
                Ok(Sent::Yielded(future)) => {
                    if let (Some(deadline), false) = (pending.deadline, pending.limited) {
                        pending.limited = true;
                        self.time_limit.begin(py, &self.shared, deadline)?;
                    }
                    self.awaited = Awaited::Call(pending);
                    return Ok(Some(Turn::Yield(future.unbind())));
                }
                Ok(Sent::Returned(value)) => Ok(value),
                Err(error) => Err(error),
            };
            match self.ended(py, pending, result)? {
                Begun::Ended(event) => {
                    self.machine.handle(event);
                    return Ok(None);
                }
                Begun::UnderWay(next) => {
                    pending = next;
                    resume = Resume::Next;
                }
            }
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
        let expired = std::mem::take(&mut pending.limited) && self.time_limit.end();
        if let Some(thrown_at) = pending.thrown_at.take() {
            if let Some(worker) = &pending.worker {
                names::report_abandoned(py)?.call1((self.shared.workers(py), worker))?;
            }
            let still = self.cancel_count(py)?;
            if expired {
                // The time limit's own cancellation is taken back; more than that came from outside.
                let left: i64 = self.task(py)?.call_method0(intern!(py, "uncancel"))?.extract()?;
                if left < thrown_at {
                    self.cancellation = None;
                    let usage = usage_of(py, &result);
                    let at = self.shared.now(py);
                    return Ok(Begun::Ended(Event::TimedOut { call, usage, at }));
                }
            }
            if still >= thrown_at && thrown_at > 0 {
                let (usage, at) = (usage_of(py, &result), self.shared.now(py));
                // Once the run is being stopped, the end of its call tells nothing but what it used.
                self.machine.handle(Event::Cancel { at });
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
        match &mut pending.reader {
            Reader::Callable(spec) => {
                let spec = Arc::clone(spec);
                let event = match result {
                    Ok(value) => {
                        call::returned(py, &self.shared, call, &spec, pending.context.take(), value)?
                    }
                    Err(error) => call::failed(py, &self.shared, call, Some(&spec), error)?,
                };
                aside::settled(py, &self.shared, event)
            }
            Reader::Aside(aside) => {
                let event = aside.ended(py, &self.shared, result.map(drop))?;
                Ok(Begun::Ended(event))
            }
            Reader::NextItem => Ok(Begun::Ended(call::item_ended(py, &self.shared, call, result)?)),
            Reader::Hooks(telling) => {
                if let Err(error) = result {
                    let point = hooks::point_of(telling);
                    if let Some(answer) = hooks::aborts(py, error, point)? {
                        let at = self.shared.now(py);
                        return Ok(Begun::Ended(Event::Answered {
                            call,
                            answer,
                            context: None,
                            at,
                        }));
                    }
                }
                hooks::advance(py, &self.shared, pending)
            }
        }
    }

    fn task<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::current_task(py)?.call1((self.shared.event_loop(py),))
    }

    /// How often the task that drives this has been asked to cancel and not been released from it.
    fn cancel_count(&self, py: Python<'_>) -> PyResult<i64> {
        let task = self.task(py)?;
        if task.is_none() {
            return Ok(1);
        }
        task.call_method0(intern!(py, "cancelling"))?.extract()
    }

    /// A cancellation that arrived while no call was under way.
    fn cancel(&mut self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        if !error.is_instance(py, names::cancelled_error(py)?) {
            return Err(error);
        }
        self.cancellation.get_or_insert(error);
        let at = self.shared.now(py);
        self.machine.handle(Event::Cancel { at });
        Ok(())
    }

    fn carry_out(&mut self, py: Python<'_>, command: Command) -> PyResult<()> {
        match command {
            Command::Spawn { lane, machine } => {
                self.take_in_outputs(py)?;
                let task = lane::spawn(py, self, lane, machine)?;
                self.lanes.insert(lane, task);
            }
            Command::CancelLane(lane) => {
                if let Some(task) = self.lanes.get(&lane) {
                    task.bind(py).call_method0(intern!(py, "cancel"))?;
                }
            }
            Command::Sleep { timer, until } => {
                let wait = seconds(until.saturating_sub(self.shared.now(py)));
                let waker = Bound::new(
                    py,
                    Waker {
                        inbox: Arc::clone(&self.inbox),
                        timer,
                    },
                )?;
                let event_loop = self.shared.event_loop(py);
                let handle = event_loop.call_method1(intern!(py, "call_later"), (wait, waker))?;
                self.timer = Some((timer, handle.unbind()));
            }
            Command::CancelSleep(timer) => {
                if let Some((_, handle)) = self.timer.take_if(|(armed, _)| *armed == timer) {
                    handle.bind(py).call_method0(intern!(py, "cancel"))?;
                }
            }
            Command::Reserve { node, estimate } => {
                let name = &self.shared.plan.plan.node(node).name;
                let answer = self
                    .shared
                    .budget
                    .as_ref()
                    .map(|budget| budget.reserve(name, estimate));
                self.machine.handle(match answer {
                    Some(Err(breach)) => Event::Refused(Arc::new(breach)),
                    _ => Event::Reserved,
                });
            }
            Command::Settle {
                node,
                estimate,
                actual,
            } => {
                let name = &self.shared.plan.plan.node(node).name;
                let answer = self
                    .shared
                    .budget
                    .as_ref()
                    .map(|budget| budget.settle(name, estimate, actual));
                self.machine.handle(match answer {
                    Some(Err(breach)) => Event::Refused(Arc::new(breach)),
                    _ => Event::Reserved,
                });
            }
            // No definition of this host makes such a step yet.
            Command::Pause(pause) => {
                let (pause, at) = (pause.pause, self.shared.now(py));
                self.machine.handle(Event::Expired { pause, at });
            }
            Command::CancelCall(_) | Command::Notify(_) | Command::Call(_) | Command::Finish(_) => {}
        }
        Ok(())
    }

    fn take_in(&mut self, py: Python<'_>, delivery: Delivery) {
        let event = match delivery {
            Delivery::Woke(timer) => {
                self.timer.take_if(|(armed, _)| *armed == timer);
                Event::Woke {
                    timer,
                    at: self.shared.now(py),
                }
            }
            Delivery::Event(event) => {
                if let Event::LaneFinished { lane, .. } = &event {
                    self.lanes.remove(lane);
                }
                event
            }
        };
        self.machine.handle(event);
    }

    /// Waits until something is left in the inbox.
    fn wait(&mut self, py: Python<'_>) -> PyResult<Turn> {
        if self.lanes.is_empty() && self.timer.is_none() {
            return Err(PyRuntimeError::new_err(
                "the engine waits for nothing: this is a fault of Flujo, please report it",
            ));
        }
        let future = self
            .shared
            .event_loop(py)
            .call_method0(intern!(py, "create_future"))?;
        // What a future's own iterator does when it is awaited.
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        self.inbox.wait_on(future.clone().unbind());
        self.awaited = Awaited::Inbox;
        Ok(Turn::Yield(future.unbind()))
    }

    /// Tells the garbage collector of what is held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        collected::machine(&self.machine, visit)?;
        if let Awaited::Call(pending) = &self.awaited {
            pending.tell(visit)?;
        }
        self.time_limit.tell(visit)?;
        self.place.tell(visit)?;
        self.lanes.values().try_for_each(|task| visit.call(task))?;
        match &self.timer {
            Some((_, handle)) => visit.call(handle),
            None => Ok(()),
        }
    }

    /// Ends at once: the coroutine under way is closed, lanes are cancelled.
    pub(crate) fn abandon(self, py: Python<'_>) {
        if let Awaited::Call(pending) = self.awaited {
            // What a coroutine does on being closed is its own; nobody is left to be told.
            let _ = pending.coroutine.bind(py).call_method0(intern!(py, "close"));
        }
        let _ = self.time_limit.close(py);
        self.place.forget_outputs();
        for task in self.lanes.into_values() {
            let _ = task.bind(py).call_method0(intern!(py, "cancel"));
        }
        if let Some((_, handle)) = self.timer {
            let _ = handle.bind(py).call_method0(intern!(py, "cancel"));
        }
    }
}

/// What a call that was cut short says it had used.
fn usage_of(py: Python<'_>, result: &PyResult<Bound<'_, PyAny>>) -> Usage {
    let reported = match result {
        Err(error) => super::failure::reported_usage(error.value(py)),
        Ok(value) => super::failure::reported_usage(value),
    };
    reported.unwrap_or_default()
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
