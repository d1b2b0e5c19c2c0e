//! Does what the machine asks, in place: user futures are polled by the task that polls the run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};

use flujo_core::agent::BoxFuture;
use flujo_core::machine::{
    Call, Command, Event as Happened, Finish, Machine, Notice, NoticeKind, Outcome, Stop, TimerId,
};
use tokio::time::Sleep;

use super::Shared;
use super::call::{self, Active, Begun};
use super::event::{self, Event};
use super::lanes::Lanes;
use super::outputs::Outputs;
use super::signal::Signal;
use crate::domain::Tokio;

/// How many commands may be done without waiting before other tasks get their turn.
const COMMANDS_PER_TURN: u32 = 256;

/// Drives one machine to its end. Dropping it drops the user's future and aborts the lanes.
pub(super) struct Driver {
    machine: Machine<Tokio>,
    shared: Arc<Shared>,
    cancel: Arc<Signal>,
    cancelling: bool,
    call: Option<Active>,
    timer: Option<(TimerId, Pin<Box<Sleep>>)>,
    lanes: Option<Box<Lanes>>,
    outputs: Outputs,
    /// An event that there was no room for yet.
    unsent: Option<BoxFuture<'static, ()>>,
    finish: Option<Box<Finish<Tokio>>>,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        machine: Machine<Tokio>,
        cancel: Arc<Signal>,
        outputs: Outputs,
    ) -> Self {
        Self {
            machine,
            shared,
            cancel,
            cancelling: false,
            call: None,
            timer: None,
            lanes: None,
            outputs,
            unsent: None,
            finish: None,
        }
    }

    #[inline]
    fn execute(&mut self, command: Command<Tokio>, poller: &mut Poller<'_>) {
        match command {
            Command::Call(call) => self.call(call, poller),
            Command::Finish(finish) => {
                if self.machine.lane().is_none() && self.shared.events.is_some() {
                    let event = Event::finished(&self.shared, outcome_name(&finish.outcome));
                    self.send(event);
                }
                self.finish = Some(finish);
            }
            Command::CancelCall(id) => {
                if let Some(call) = self.call.take_if(|call| call.id() == id) {
                    let ended = call.cancel(&self.shared);
                    self.machine.handle(ended);
                }
            }
            Command::Sleep { timer, until } => match self.shared.instant(until) {
                Some(until) => self.timer = Some((timer, Box::pin(tokio::time::sleep_until(until)))),
                None => self.timer = None, // further ahead than a clock can count
            },
            Command::CancelSleep(_) => self.timer = None,
            Command::Spawn { lane, machine } => {
                if self.shared.reads_steps {
                    self.outputs.take_in(self.machine.history(), &self.shared.plan);
                }
                self.lanes
                    .get_or_insert_default()
                    .spawn(&self.shared, &self.outputs, lane, *machine);
            }
            Command::CancelLane(lane) => {
                if let Some(lanes) = &self.lanes {
                    lanes.cancel(lane);
                }
            }
            Command::Reserve { node, estimate } => {
                let step = &self.shared.plan.node(node).name;
                let granted = self.shared.pool.as_ref().map(|pool| pool.reserve(step, estimate));
                self.answer_budget(granted);
            }
            Command::Settle {
                node,
                estimate,
                actual,
            } => {
                let step = &self.shared.plan.node(node).name;
                let pool = self.shared.pool.as_ref();
                let settled = pool.map(|pool| pool.settle(step, estimate, actual));
                self.answer_budget(settled);
            }
            // No builder of this host makes such a step yet.
            Command::Pause(pause) => {
                let (pause, at) = (pause.pause, self.shared.now());
                self.machine.handle(Happened::Expired { pause, at });
            }
            Command::Notify(notice) => self.notify(notice),
        }
    }

    #[inline]
    fn call(&mut self, call: Call<Tokio>, poller: &mut Poller<'_>) {
        if self.shared.reads_steps {
            self.outputs.take_in(self.machine.history(), &self.shared.plan);
        }
        match call::begin(&self.shared, &self.machine, &self.outputs, call, poller) {
            Begun::Over(ended) => self.machine.handle(ended),
            Begun::Active(active) => self.call = Some(active),
        }
    }

    fn answer_budget(&mut self, answer: Option<Result<(), flujo_core::machine::LimitBreach>>) {
        self.machine.handle(match answer {
            Some(Err(breach)) => Happened::Refused(breach),
            Some(Ok(())) | None => Happened::Reserved,
        });
    }

    fn notify(&mut self, notice: Notice<Tokio>) {
        let pauses = matches!(notice.kind, NoticeKind::Paused | NoticeKind::Resumed);
        if self.shared.constructs.contains(&notice.node) && !pauses {
            return; // the step around it tells the same
        }
        let lane = self.machine.lane().map(|lane| &**lane);
        if self.shared.traced {
            event::trace(&self.shared, lane, &notice);
        }
        if self.shared.events.is_some() {
            let event = Event::of(&self.shared, lane, notice);
            self.send(event);
        }
    }

    fn send(&mut self, event: Event) {
        use tokio::sync::mpsc::error::TrySendError;
        if let Some(events) = &self.shared.events
            && let Err(TrySendError::Full(event)) = events.try_send(event)
        {
            let events = events.clone();
            self.unsent = Some(Box::pin(async move {
                // A stream that is no longer read gets nothing more.
                let _ = events.send(event).await;
            }));
        }
    }

    /// Waits for what is under way; ready when the machine has been told something.
    #[inline]
    fn wait(&mut self, poller: &mut Poller<'_>) -> Poll<()> {
        if let Some(call) = &mut self.call
            && let Poll::Ready(ended) = call.poll(&self.shared, poller)
        {
            self.call = None;
            self.machine.handle(ended);
            return Poll::Ready(());
        }
        if let Some((timer, sleep)) = &mut self.timer
            && sleep.as_mut().poll(poller).is_ready()
        {
            let (timer, at) = (*timer, self.shared.now());
            self.timer = None;
            self.machine.handle(Happened::Woke { timer, at });
            return Poll::Ready(());
        }
        if let Some(lanes) = &mut self.lanes
            && let Poll::Ready((lane, finish)) = lanes.poll_ended(poller)
        {
            let at = self.shared.now();
            self.machine.handle(Happened::LaneFinished { lane, finish, at });
            return Poll::Ready(());
        }
        if !self.cancelling && self.cancel.poll_raised(poller.waker()) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Future for Driver {
    type Output = Box<Finish<Tokio>>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut turns = 0;
        loop {
            if let Some(unsent) = &mut this.unsent {
                ready!(unsent.as_mut().poll(poller));
                this.unsent = None;
            }
            if let Some(finish) = this.finish.take() {
                return Poll::Ready(finish);
            }
            if !this.cancelling && this.cancel.is_raised() {
                this.cancelling = true;
                let at = this.shared.now();
                this.machine.handle(Happened::Cancel { at });
            }
            if turns == COMMANDS_PER_TURN {
                poller.waker().wake_by_ref();
                return Poll::Pending;
            }
            turns += 1;
            match this.machine.poll() {
                Some(command) => this.execute(command, poller),
                None => ready!(this.wait(poller)),
            }
        }
    }
}

/// How a run ended, as a status.
pub(super) fn outcome_name(outcome: &Outcome<Tokio>) -> &'static str {
    match outcome {
        Outcome::Completed(_) => "completed",
        Outcome::Failed(_) | Outcome::Stopped(Stop::Fatal(_)) => "failed",
        Outcome::Stopped(Stop::LimitExceeded(_)) => "limit_exceeded",
        Outcome::Stopped(Stop::Cancelled | Stop::Aborted(_)) => "cancelled",
    }
}
