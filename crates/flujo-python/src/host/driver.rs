//! Drives one machine: the run's own, or a lane's. What the machine asks for is done inline on the loop's thread; what
//! has to be waited for is handed to asyncio as the future that the user's own coroutine yielded.

mod calls;
mod cancelling;
mod carrying;
mod holding;
mod recorder;
mod told;
mod turn;

use std::sync::Arc;

use flujo_core::cache::Uncached;
use flujo_core::machine::TimerId;
use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::bell::Ring;
use super::cached::Leads;
use super::call::{self, Begun, Pending};
use super::domain::{Call, Command, Event, Finish, Machine, Notice};
use super::inbox::{Delivery, Inbox, Waker};
use super::interrupt::Interrupt;
use super::lane::{Around, Lanes};
use super::parked::{Parked, Question, Wake};
use super::shared::Shared;
use super::steps::{self, Outputs};
use super::time_limit::TimeLimit;
use super::trace::Trace;
use super::{cached, collected, events};
use cancelling::Grace;
use recorder::Recorder;

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
    /// The machine waits for answers and for nothing else: it needs no driver until they come.
    Park,
}

pub(crate) struct Driver {
    machine: Box<Machine>,
    pub(crate) shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    awaited: Awaited,
    lanes: Lanes,
    /// The question that the machine waits with.
    question: Option<Question>,
    /// What somebody who listens has still to be told.
    notices: Vec<Notice>,
    timer: Option<(TimerId, Py<PyAny>)>,
    /// The call that waits for its turn, or was let through.
    admitting: Option<Box<turn::Admitting>>,
    time_limit: TimeLimit,
    interrupt: Arc<Interrupt>,
    /// The time that a call which was cancelled has to end.
    grace: Option<Grace>,
    /// Results that are made for others, too.
    leads: Leads,
    /// Whether `runner.cancel` ends the run.
    pub(crate) called_off: bool,
    /// The cancellation that is being carried out; the very object leaves again.
    pub(crate) cancellation: Option<PyErr>,
    place: Arc<super::place::PlaceState>,
    /// The spans that are open, if anybody records any.
    trace: Option<Box<Trace>>,
    /// Writes down what the machine is told, of a run that is kept.
    recorder: Option<Box<Recorder>>,
    /// A call that waits until what was before it is in the store.
    holding: Option<Box<holding::Holding>>,
    /// Has the driver look again, from any thread.
    waker: Option<std::task::Waker>,
    begun: bool,
}

enum Awaited {
    Nothing,
    Call(Box<Pending>),
    Inbox,
    /// Whoever listens has fallen behind; the call is made when there is room again.
    Room(Box<Call>),
}

impl Driver {
    pub(crate) fn new(
        machine: Box<Machine>,
        shared: Arc<Shared>,
        outputs: Outputs,
        trace: Option<Box<Trace>>,
    ) -> Self {
        let place = super::place::PlaceState::new(&shared, machine.lane(), outputs);
        let place = Arc::new(place);
        let interrupt = match machine.lane() {
            None => Arc::clone(&shared.interrupt),
            Some(_) => Arc::default(),
        };
        Self {
            machine,
            shared,
            inbox: Arc::default(),
            awaited: Awaited::Nothing,
            lanes: Lanes::default(),
            question: None,
            notices: Vec::new(),
            timer: None,
            admitting: None,
            time_limit: TimeLimit::default(),
            interrupt,
            grace: None,
            leads: Leads::default(),
            called_off: false,
            cancellation: None,
            place,
            trace,
            recorder: None,
            holding: None,
            waker: None,
            begun: false,
        }
    }

    /// The same, of the machine of a run that is kept which has this number there.
    pub(crate) fn recorded(mut self, machine: u32) -> Self {
        let journal = self.shared.journal.as_ref();
        self.recorder = journal.map(|journal| Box::new(Recorder::new(journal, machine)));
        self.place.is_machine(machine);
        self
    }

    /// Goes on with a machine that stood still.
    pub(crate) fn revive(
        py: Python<'_>,
        parked: Parked,
        shared: Arc<Shared>,
        mut trace: Option<Box<Trace>>,
    ) -> PyResult<Self> {
        if let Some(trace) = &mut trace {
            trace.reopen(py, &shared, &parked.machine)?;
        }
        let mut driver = Self::new(parked.machine, shared, parked.outputs, trace).recorded(parked.number);
        driver.machine.listen(driver.shared.is_told());
        if let Some(once) = parked.once {
            driver.place.did_once(py, once)?;
        }
        let at = driver.shared.now(py);
        let pause = parked.question.as_ref().map(|question| question.pause);
        for lane in parked.lanes.awake() {
            driver.inbox.deliver(py, Delivery::Awake(lane))?;
        }
        driver.lanes.parked = parked.lanes;
        match parked.wake.event(pause, at) {
            Some(event) => driver.take_event(py, event),
            None => driver.question = parked.question,
        }
        Ok(driver)
    }

    /// What is left when it has given [`Turn::Park`].
    pub(crate) fn park(mut self, py: Python<'_>) -> PyResult<Box<Parked>> {
        for ticket in self.machine.give_up_leads() {
            self.leads.release(py, ticket, Uncached::Paused);
        }
        self.time_limit.close(py)?;
        let before = match self.trace {
            Some(mut trace) => Some(trace.stand_still(py, &self.shared, &self.machine)?),
            None => None,
        };
        Ok(Box::new(Parked {
            number: self.recorder.as_ref().map_or(0, |recorder| recorder.machine),
            machine: self.machine,
            question: self.question,
            lanes: self.lanes.parked,
            outputs: std::mem::take(&mut *self.place.outputs()),
            once: None,
            wake: Wake::default(),
            before,
        }))
    }

    pub(crate) fn place(&self) -> &Arc<super::place::PlaceState> {
        &self.place
    }

    /// Whether this is the first time it is driven.
    pub(crate) fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// Goes on until something must be waited for or the machine has finished. `Err` is only what ends everything.
    pub(crate) fn resume(&mut self, py: Python<'_>, resume: Resume) -> PyResult<Turn> {
        self.interrupt.wait_on(None);
        let turn = self.advance(py, resume);
        // A bare yield waits for nothing: the loop comes back by itself.
        if let Ok(Turn::Yield(future)) = &turn
            && !future.is_none(py)
        {
            if self.is_to_be_called_off() {
                future.bind(py).call_method0(intern!(py, "cancel"))?;
            }
            self.interrupt.wait_on(Some(future.clone_ref(py)));
            if let Some(trace) = &mut self.trace {
                trace.waits(&self.machine);
            }
        }
        turn
    }

    fn advance(&mut self, py: Python<'_>, resume: Resume) -> PyResult<Turn> {
        let resume = self.call_off(py, resume)?;
        match (std::mem::replace(&mut self.awaited, Awaited::Nothing), resume) {
            (Awaited::Call(pending), resume) => {
                if let Some(turn) = self.drive(py, pending, resume)? {
                    return Ok(turn);
                }
            }
            (Awaited::Room(call), Resume::Next) => {
                if let Some(turn) = self.reach(py, *call)? {
                    return Ok(turn);
                }
            }
            (Awaited::Room(call), Resume::Throw(error)) => {
                self.cancel(py, error)?;
                let (call, at) = (call.call, self.shared.now(py));
                self.take_event(py, Event::CallCancelled { call, at });
            }
            (Awaited::Inbox | Awaited::Nothing, Resume::Throw(error)) => self.cancel(py, error)?,
            (Awaited::Inbox | Awaited::Nothing, Resume::Next) => {}
        }
        self.go_on(py)
    }

    fn go_on(&mut self, py: Python<'_>) -> PyResult<Turn> {
        loop {
            let command = self.machine.poll();
            if let Some(Command::Notify(notice)) = command {
                self.notices.push(notice);
                continue;
            }
            if !self.notices.is_empty() {
                self.pass_on(py, command.as_ref())?;
            }
            match command {
                Some(Command::Call(call)) => {
                    if self.is_to_be_called_off() {
                        self.called_off = true;
                        let at = self.shared.now(py);
                        self.take_event(py, Event::Cancel { at });
                    }
                    if self.called_off || self.cancellation.is_some() {
                        let at = self.shared.now(py);
                        self.take_event(py, Event::CallCancelled { call: call.call, at });
                        continue;
                    }
                    if let Some(room) = events::room(py, &self.shared)? {
                        self.awaited = Awaited::Room(Box::new(call));
                        return Ok(Turn::Yield(room));
                    }
                    if let Some(turn) = self.reach(py, call)? {
                        return Ok(turn);
                    }
                }
                Some(Command::CacheGet(get)) => {
                    let begun = if let Some(player) = &self.shared.engine.player {
                        Begun::Ended(player.look(py, &self.shared, &self.machine, &get))
                    } else {
                        let lane = self.machine.lane();
                        cached::begin(py, &self.shared, &mut self.leads, lane, get)?
                    };
                    if let Some(turn) = self.begun(py, begun)? {
                        return Ok(turn);
                    }
                }
                Some(Command::Finish(mut finish)) => {
                    if let Some(kept) = &mut finish.kept
                        && let Some(once) = self.place.latest_once(py)
                    {
                        kept.keep_once(once);
                    }
                    self.time_limit.close(py)?;
                    self.end_grace(py)?;
                    self.place.forget_outputs();
                    if let Some(mut trace) = self.trace.take() {
                        trace.end(py, &self.shared, &finish)?;
                    }
                    return Ok(Turn::End(finish));
                }
                Some(command) => self.carry_out(py, command)?,
                None => {
                    let deliveries = self.inbox.take();
                    if deliveries.is_empty() {
                        return self.wait(py);
                    }
                    let mut knocked = false;
                    for delivery in deliveries {
                        knocked |= matches!(delivery, Delivery::Turn);
                        self.take_in(py, delivery)?;
                    }
                    if knocked && let Some(turn) = self.look_again(py)? {
                        return Ok(turn);
                    }
                }
            }
        }
    }

    /// Has the driver look again whether a call that waits may begin.
    fn waker(&mut self, py: Python<'_>) -> PyResult<std::task::Waker> {
        if let Some(waker) = &self.waker {
            return Ok(waker.clone());
        }
        let knock = Waker {
            inbox: Arc::clone(&self.inbox),
            timer: None,
        };
        let waker = Ring::waker(self.shared.event_loop(py), Bound::new(py, knock)?.into_any())?;
        Ok(self.waker.insert(waker).clone())
    }

    /// The lanes, and what they are started with.
    fn lanes(&mut self) -> (&mut Lanes, Around<'_>) {
        let around = Around {
            shared: &self.shared,
            inbox: &self.inbox,
            machine: &self.machine,
            trace: self.trace.as_deref(),
        };
        (&mut self.lanes, around)
    }

    #[inline]
    fn take_in_outputs(&self, py: Python<'_>) -> PyResult<()> {
        if !steps::are_kept() {
            return Ok(());
        }
        let mut outputs = self.place.outputs();
        outputs.take_in(py, self.machine.history(), &self.shared.plan)
    }

    fn call(&mut self, py: Python<'_>, call: Call) -> PyResult<Option<Turn>> {
        self.place.at(&self.machine, &call);
        self.take_in_outputs(py)?;
        if let Some(trace) = &mut self.trace {
            trace.enter(py, &self.machine, &self.place, &call)?;
        }
        let begun = call::begin(py, &self.shared, &self.machine, call)?;
        self.begun(py, begun)
    }

    fn begun(&mut self, py: Python<'_>, begun: Begun) -> PyResult<Option<Turn>> {
        match begun {
            Begun::Ended(event) => {
                self.answer(py, event);
                Ok(None)
            }
            Begun::UnderWay(pending) => self.drive(py, pending, Resume::Next),
            Begun::Waiting(pending, future) => self.suspend(py, pending, future).map(Some),
        }
    }

    fn take_in(&mut self, py: Python<'_>, delivery: Delivery) -> PyResult<()> {
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
                    self.lanes.ended(*lane);
                }
                event
            }
            Delivery::Turn => return Ok(()), // looked at when all else is taken in
            Delivery::Parked(lane, parked) => {
                let (lanes, around) = self.lanes();
                return lanes.park(py, around, lane, parked);
            }
            Delivery::Broke(lane, error) => {
                self.lanes.ended(lane);
                // Whoever was cancelled meanwhile ends by that.
                return Err(self.cancellation.take().unwrap_or(error));
            }
            Delivery::Awake(lane) => {
                let (lanes, around) = self.lanes();
                return lanes.revive(py, around, lane);
            }
        };
        self.take_event(py, event);
        Ok(())
    }

    /// Waits until something is left in the inbox; a machine that only answers can move needs no waiting.
    fn wait(&mut self, py: Python<'_>) -> PyResult<Turn> {
        let holds = self.holding.is_some();
        if self.lanes.running.is_empty() && self.timer.is_none() && !self.waits_for_turn() && !holds {
            let lanes_wait = self.machine.waits_for_lanes() && !self.lanes.parked.is_empty();
            if lanes_wait || self.machine.pause().is_some() {
                return Ok(Turn::Park);
            }
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
        let lanes = if self.machine.awaits_all_lanes() {
            self.lanes.running.len()
        } else {
            1
        };
        self.inbox.wait_on(future.clone().unbind(), lanes);
        self.awaited = Awaited::Inbox;
        Ok(Turn::Yield(future.unbind()))
    }

    /// Tells the garbage collector of what is held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        collected::machine(&self.machine, visit)?;
        if let Awaited::Call(pending) = &self.awaited {
            pending.tell(visit)?;
        }
        if let Some(question) = &self.question {
            visit.call(&*question.question)?;
        }
        self.time_limit.tell(visit)?;
        self.interrupt.tell(visit)?;
        if let Some(grace) = &self.grace {
            visit.call(&grace.timer)?;
        }
        if let Some(alarm) = self
            .admitting
            .as_ref()
            .and_then(|admitting| admitting.alarm.as_ref())
        {
            visit.call(alarm)?;
        }
        self.place.tell(visit)?;
        self.leads.tell(visit)?;
        self.lanes.tell(visit)?;
        self.inbox.tell(visit)?;
        if let Some(trace) = &self.trace {
            trace.visit(visit)?;
        }
        match &self.timer {
            Some((_, handle)) => visit.call(handle),
            None => Ok(()),
        }
    }

    /// Ends at once: the coroutine under way is closed, lanes are cancelled.
    pub(crate) fn abandon(mut self, py: Python<'_>) {
        self.end_spans(py);
        if let Awaited::Call(pending) = self.awaited {
            // What a coroutine does on being closed is its own; nobody is left to be told.
            let _ = pending.coroutine.bind(py).call_method0(intern!(py, "close"));
        }
        let _ = self.time_limit.close(py);
        self.interrupt.wait_on(None);
        if let Some(grace) = self.grace {
            let _ = grace.timer.bind(py).call_method0(intern!(py, "cancel"));
        }
        if self.machine.lane().is_none() {
            let _ = self.shared.let_go(py);
        }
        self.place.forget_outputs();
        self.lanes.abandon(py);
        if let Some((_, handle)) = self.timer {
            let _ = handle.bind(py).call_method0(intern!(py, "cancel"));
        }
    }
}
