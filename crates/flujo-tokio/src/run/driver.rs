//! Does what the machine asks, in place: user futures are polled by the task that polls the run.

mod cached;
mod holding;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context as Poller, Poll, ready};

use flujo_core::agent::BoxFuture;
use flujo_core::config::Part;
use flujo_core::context::Context;
use flujo_core::machine::{Call, Command, Event as Happened, Finish, Notice, Pause, TimerId};
use flujo_core::usage::Usage;
use tokio::time::{Instant, Sleep};

use cached::Cached;
use holding::Holding;

use super::call::{self, Active};
use super::event::{self, Event, EventKind};
use super::lanes::Lanes;
use super::outputs::Outputs;
use super::parked::{self, Parked, Question};
use super::signal::Signal;
use super::spans::{Note, Observed};
use super::turn::{self, Admitting};
use super::{Shared, decide};
use crate::domain::Tokio;
use crate::pools::Lent;
use crate::scope::Scope;

/// How many commands may be done without waiting before other tasks get their turn.
const COMMANDS_PER_TURN: u32 = 256;

/// Drives one machine to its end. Dropping it drops the user's future and aborts the lanes.
pub(crate) struct Driver {
    machine: Observed,
    shared: Arc<Shared>,
    cancel: Arc<Signal>,
    cancelling: bool,
    call: Option<Active>,
    /// What is to be recorded of the call.
    note: Option<Box<Note>>,
    timer: Option<(TimerId, Pin<Box<Sleep>>)>,
    /// The call that waits for its turn, or was let through.
    admitting: Option<Box<Admitting>>,
    lanes: Option<Box<Lanes>>,
    /// The question that the machine waits with.
    question: Option<Box<Question>>,
    outputs: Outputs,
    /// An event that there was no room for yet.
    unsent: Option<BoxFuture<'static, ()>>,
    finish: Option<Box<Finish<Tokio>>>,
    lent: Option<Lent>,
    /// The place of a call that has ended, for the next one.
    spare: Option<Scope>,
    /// Whether the last event, that the run pauses, has been sent.
    told_of_pause: bool,
    cached: Option<Box<Cached>>,
    /// The call of an agent that waits until what was before it is in the store.
    holding: Option<Box<Holding>>,
}

/// Where a driver lives: the same place for one after the other.
pub(crate) type House = Box<Option<Driver>>;

impl Driver {
    fn new(shared: Arc<Shared>, machine: Observed, cancel: Arc<Signal>, outputs: Outputs) -> Self {
        Self {
            machine,
            shared,
            cancel,
            cancelling: false,
            call: None,
            note: None,
            timer: None,
            admitting: None,
            lanes: None,
            question: None,
            outputs,
            unsent: None,
            finish: None,
            lent: None,
            spare: None,
            told_of_pause: false,
            cached: None,
            holding: None,
        }
    }

    /// Drives a machine that has not begun.
    pub(super) fn begin(
        shared: Arc<Shared>,
        mut machine: Observed,
        cancel: Arc<Signal>,
        outputs: Outputs,
    ) -> House {
        shared.onces.goes_on(&mut machine);
        let (lent, mut house) = Lent::to(&mut machine, &shared);
        let driver = house.insert(Self::new(shared, machine, cancel, outputs));
        driver.lent = Some(lent);
        house
    }

    /// Leaves a house whose driver has given its end, for the next one.
    pub(super) fn leave(mut house: House) {
        if let Some(mut driver) = house.take()
            && let Some(lent) = driver.lent.take()
        {
            lent.back(&mut driver.machine, house);
        }
    }

    /// Goes on with a machine that stood still, as it was woken.
    pub(super) fn resume(shared: Arc<Shared>, mut parked: Parked, cancel: Arc<Signal>) -> Self {
        let lanes = std::mem::take(&mut parked.lanes);
        let lanes = (!lanes.is_empty()).then(|| Box::new(Lanes::resume(&shared, &parked.machine, lanes)));
        let wake = parked.wake.take();
        let event = wake.and_then(|wake| parked.event(wake, shared.now()));
        let notices = shared.listened_to() || parked.machine.hears();
        let mut driver = Self::new(shared, parked.machine, cancel, parked.outputs);
        driver.machine.listen(notices);
        driver.lanes = lanes;
        driver.question = parked.question.map(Box::new);
        if let Some(event) = event {
            driver.machine.handle(event);
        }
        driver
    }

    /// What is kept of it while it stands still.
    pub(super) fn park(mut self) -> Parked {
        if let Some(cached) = self.cached.take() {
            self.machine.give_up_leads();
            cached.stand_still();
        }
        let asks = self.machine.pause().is_some(); // a question that was answered since is open no more
        Parked {
            question: self.question.filter(|_| asks).map(|question| *question),
            machine: self.machine,
            outputs: self.outputs,
            lanes: self.lanes.map(|lanes| lanes.into_parked()).unwrap_or_default(),
            wake: None,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The context as it was committed last.
    pub(super) fn context(&self) -> &Context {
        self.machine.context()
    }

    #[inline]
    fn execute(&mut self, command: Command<Tokio>, poller: &mut Poller<'_>) {
        match command {
            Command::Call(call) => self.reach(call, poller),
            Command::Finish(mut finish) => {
                self.shared.onces.kept(self.machine.lane(), &mut finish);
                self.machine.finished(&finish);
                if self.machine.lane().is_none() {
                    self.shared.alerted(self.shared.runner.measure_memory());
                    self.tell_alerts();
                    let (status, usage) = (finish.outcome.name(), finish.usage);
                    self.announce(EventKind::RunFinished { status, usage });
                }
                self.finish = Some(finish);
            }
            Command::CancelCall(id) => {
                let waits = |waiting: &mut Box<Admitting>| waiting.waits() == Some(id);
                let held = |holding: &mut Box<Holding>| holding.call.call == id;
                if self.admitting.take_if(waits).is_some() || self.holding.take_if(held).is_some() {
                    self.called_off(id);
                } else if let Some(call) = self.call.take_if(|call| call.id() == id) {
                    let ended = call.cancel(&self.shared);
                    self.noted(Some(&ended));
                    self.machine.handle(ended);
                } else {
                    self.cancel_look(id);
                }
            }
            Command::Sleep { timer, until } => self.sleep(timer, until),
            Command::CancelSleep(_) => self.timer = None,
            Command::Spawn { lane, machine } => {
                self.shared.runner.contexts.forked();
                if self.shared.analysed.reads_steps {
                    self.outputs.take_in(self.machine.history(), &self.shared.plan);
                }
                self.lanes.get_or_insert_default().spawn(
                    &self.shared,
                    &self.machine,
                    &self.outputs,
                    lane,
                    *machine,
                );
            }
            Command::CancelLane(lane) => {
                if let Some(lanes) = &mut self.lanes {
                    lanes.cancel(&self.shared, &self.machine, lane);
                }
            }
            Command::Reserve { node, estimate } => {
                let step = &self.shared.plan.node(node).name;
                let granted = self
                    .shared
                    .meter
                    .as_ref()
                    .map(|meter| meter.reserve(step, estimate));
                self.answer_budget(granted);
            }
            Command::Settle {
                node,
                estimate,
                actual,
            } => {
                let step = &self.shared.plan.node(node).name;
                let meter = self.shared.meter.as_ref();
                let settled = meter.map(|meter| meter.settle(step, estimate, actual));
                self.answer_budget(settled);
            }
            Command::CacheGet(get) => self.cache_get(&get),
            Command::CachePut(put) => self.cache_put(&put),
            Command::CacheRelease { ticket, reason } => self.cache_release(ticket, reason),
            Command::Admit {
                call,
                node,
                tokens,
                deadline,
                agent,
            } => {
                let limits = turn::limits(&self.shared, node, agent.as_ref());
                self.admit(limits, call, tokens, deadline);
            }
            Command::Release { tokens, hold } => {
                if let Some(admitting) = self.admitting.take() {
                    admitting.settle(tokens, hold);
                }
            }
            Command::Pause(pause) => self.ask(pause),
            Command::Notify(notice) => self.notify(notice),
            Command::Took { node, latency } => {
                self.shared.took(node, latency);
                self.tell_alerts();
            }
        }
    }

    #[inline]
    fn call(&mut self, call: Call<Tokio>, poller: &mut Poller<'_>) {
        if self.shared.analysed.reads_steps {
            self.outputs.take_in(self.machine.history(), &self.shared.plan);
        }
        self.note = self.machine.note(&call);
        let (machine, note) = (&mut self.machine, self.note.as_deref());
        match call::begin(
            machine,
            &self.shared,
            &self.outputs,
            call,
            note,
            &mut self.spare,
            poller,
        ) {
            None => self.noted(None),
            active => self.call = active,
        }
    }

    /// Records the call that has ended, as `event` says, or at once, if it is to be recorded.
    #[inline]
    fn noted(&mut self, event: Option<&Happened<Tokio>>) {
        if let Some(note) = self.note.take() {
            self.machine.noted(*note, event, self.shared.now());
        }
    }

    /// Keeps a question until it is answered. One that is asked again keeps the time it was first asked.
    fn ask(&mut self, pause: Pause<Tokio>) {
        let before = self.question.take().filter(|before| before.pause == pause.pause);
        let since = before.map(|before| before.since).or_else(|| self.machine.asked());
        if let (None, Some(recorder)) = (since, self.machine.recorder()) {
            recorder.asks(pause.pause, self.shared.wall());
        }
        let question = Question {
            pause: pause.pause,
            node: pause.node,
            asked: pause.question,
            timeout: pause.timeout,
            since: since.unwrap_or_else(Instant::now),
            rejected: pause.rejected.map(|failure| failure.message.to_string()),
        };
        if self.shared.events.is_some() {
            let event = Event {
                place: self.shared.place_in(&self.machine, pause.node, 0),
                kind: EventKind::Paused(Box::new(parked::Pause::new(&self.machine, &question))),
                at: std::time::Duration::from_nanos(self.shared.now()),
            };
            self.send(event);
        }
        self.question = Some(Box::new(question));
    }

    fn answer_budget(&mut self, answer: Option<Result<(), Arc<flujo_core::machine::LimitBreach>>>) {
        if let Some(reason) = self.shared.meter.as_ref().and_then(|meter| meter.fault())
            && !self.shared.twins.now().gave_way(Part::Usage)
        {
            self.shared.gave_way(Part::Usage, reason);
        }
        self.machine.handle(match answer {
            Some(Err(breach)) => Happened::Refused(breach),
            Some(Ok(())) | None => Happened::Reserved,
        });
    }

    fn notify(&mut self, notice: Notice<Tokio>) {
        self.machine.notice(&notice);
        let lane = self.machine.lane().map(|lane| &**lane);
        if self.shared.traced {
            event::trace(&self.shared, lane, &notice);
        }
        if self.shared.events.is_some()
            && let Some(event) = Event::of(&self.shared, lane, notice)
        {
            self.send(event);
        }
    }

    /// Tells something of the run as a whole.
    pub(super) fn announce(&mut self, kind: EventKind) {
        if self.shared.events.is_some() {
            let event = Event::of_run(&self.shared, kind);
            self.send(event);
        }
    }

    /// Tells of the alerts that have come up in this run.
    fn tell_alerts(&mut self) {
        let waiting = &self.shared.alerts;
        let alerts = std::mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for alert in alerts {
            let event = Event::alert(&self.shared, alert);
            self.send(event);
        }
    }

    fn send(&mut self, event: Event) {
        let Some(events) = &self.shared.events else {
            return;
        };
        let before = self.unsent.take();
        let event = match (&before, events.try_reserve()) {
            (None, Ok(room)) => return room.send(event),
            _ => event,
        };
        let events = events.clone();
        self.unsent = Some(Box::pin(async move {
            if let Some(before) = before {
                before.await;
            }
            // A stream that is no longer read gets nothing more.
            let _ = events.send(event).await;
        }));
    }

    /// Waits for what is under way; ready with true when the machine has been told something, with false when there is
    /// nothing but answers to wait for.
    #[inline]
    fn wait(&mut self, poller: &mut Poller<'_>) -> Poll<bool> {
        if let Some(call) = &mut self.call
            && let Poll::Ready(ended) = call.poll(&self.shared, poller)
        {
            self.spare = self.call.take().and_then(|call| call.left(&self.shared));
            self.noted(Some(&ended));
            self.machine.handle(ended);
            return Poll::Ready(true);
        }
        if let Some(holding) = &mut self.holding
            && let Poll::Ready(written) = Pin::new(&mut holding.written).poll(poller)
            && let Some(holding) = self.holding.take()
        {
            match written {
                Ok(()) => self.call(holding.call, poller),
                Err(error) => self.break_off(holding.call.call, error.into()),
            }
            return Poll::Ready(true);
        }
        if let Some(admitting) = &mut self.admitting
            && let Poll::Ready(event) = admitting.poll(&self.shared, poller)
        {
            if matches!(event, Happened::TimedOut { .. }) {
                self.admitting = None;
            }
            self.machine.handle(event);
            return Poll::Ready(true);
        }
        if let Some((timer, sleep)) = &mut self.timer
            && sleep.as_mut().poll(poller).is_ready()
        {
            let (timer, at) = (*timer, self.shared.now());
            self.timer = None;
            self.machine.handle(Happened::Woke { timer, at });
            return Poll::Ready(true);
        }
        if let Some(lanes) = &mut self.lanes
            && let Poll::Ready((lane, finish)) = lanes.poll_ended(&self.shared, &self.machine, poller)
        {
            let at = self.shared.now();
            self.machine.handle(Happened::LaneFinished { lane, finish, at });
            return Poll::Ready(true);
        }
        if self.cached.is_some() && self.poll_look(poller).is_ready() {
            return Poll::Ready(true);
        }
        if !self.cancelling && self.cancel.poll_raised(poller.waker()) {
            return Poll::Ready(true);
        }
        if self.call.is_none() && self.holding.is_none() && self.timer.is_none() && self.stands_still() {
            return Poll::Ready(false);
        }
        self.machine.waits();
        if let Some(recorder) = self.machine.recorder() {
            recorder.journal.go_on_writing(poller);
        }
        Poll::Pending
    }

    /// Whether the machine waits for its own answer, or for lanes that all stand still.
    fn stands_still(&self) -> bool {
        let lanes = self.lanes.as_ref();
        self.machine.pause().is_some()
            || (self.machine.waits_for_lanes() && lanes.is_some_and(|lanes| lanes.stand_still()))
    }

    /// Drives the machine; ready with its end, or with `None` when it stands still for answers.
    pub(super) fn drive(&mut self, poller: &mut Poller<'_>) -> Poll<Option<Box<Finish<Tokio>>>> {
        let mut turns = 0;
        loop {
            if let Some(unsent) = &mut self.unsent {
                ready!(unsent.as_mut().poll(poller));
                self.unsent = None;
            }
            if self.told_of_pause {
                // Nothing follows the last event, also when the run is cancelled while there was no room for it.
                return Poll::Ready(None);
            }
            if let Some(finish) = self.finish.take() {
                return Poll::Ready(Some(finish));
            }
            if !self.cancelling && self.cancel.is_raised() {
                self.cancelling = true;
                let at = self.shared.now();
                self.machine.handle(Happened::Cancel { at });
            }
            if turns == COMMANDS_PER_TURN {
                self.machine.waits();
                poller.waker().wake_by_ref();
                return Poll::Pending;
            }
            turns += 1;
            if !self.cancelling && decide::next(&mut self.machine, &self.shared) {
                continue;
            }
            match self.machine.poll() {
                // Nothing of the user's begins any more.
                Some(Command::Call(call)) if self.cancelling => self.called_off(call.call),
                Some(Command::Call(call)) => self.reach(call, poller),
                Some(command) => self.execute(command, poller),
                None if ready!(self.wait(poller)) => {}
                None if self.has_answers() => return Poll::Ready(None),
                None if self.machine.lane().is_none() => {
                    self.told_of_pause = true;
                    let lanes = self.lanes.as_ref().map(|lanes| lanes.parked().usage());
                    let usage = self.machine.usage() + lanes.unwrap_or(Usage::ZERO);
                    self.announce(EventKind::RunFinished {
                        status: "paused",
                        usage,
                    });
                }
                None => return Poll::Ready(None),
            }
        }
    }
}
