//! What a machine is told, as it is written down before.

use std::sync::Arc;

use flujo_core::context::{Context, Writes};
use flujo_core::machine::{
    Call, Command, Event as Happened, Failure, FailureKind, LaneId, Machine, PauseId, Role, Time,
};
use flujo_core::store::WallTime;
use flujo_core::value::Value;
use flujo_durable::{DurableError, Journal, Recorded, Sleeping, instead};
use tokio::time::Instant;

use super::decide;
use crate::Handler;
use crate::domain::{Tokio, UserError};

impl Recorded for Tokio {
    type Base = Context;
    type Writes = Writes;

    fn writes(base: &Context, fork: &Context) -> Writes {
        base.writes(fork)
    }

    fn written(base: &Context, _: bool, writes: Writes) -> Result<Context, String> {
        base.written(writes)
    }

    /// Decisions made in place are the same each time, and do nothing.
    fn again(machine: &Machine<Self>, call: &Call<Self>, at: Time) -> Option<Happened<Self>> {
        match machine.plan().node(call.node).callable(call.role, call.index)? {
            Handler::Inline(decide) => Some(decide::again(machine, &**decide, call, at)),
            _ => None,
        }
    }
}

/// Writes down what one machine is told.
pub(super) struct Recorder {
    pub(super) journal: Arc<Journal<Tokio>>,
    /// The machine's number.
    pub(super) machine: u32,
    /// The context of the call that is under way.
    base: Option<Context>,
    /// The path of the step that it asked for last.
    step: Option<Arc<str>>,
    /// Whether that call is a decision made in place.
    inline: bool,
    /// When the question that it stands still with was asked, before this process.
    pub(super) asked: Option<Instant>,
}

/// What a value that can't be written down makes of the call that gave it.
pub(super) fn unsavable(error: DurableError) -> Failure<Tokio> {
    let mut failure = Failure::new(FailureKind::Host, "UnsavableValueError", error.to_string()).permanent();
    failure.error = Some(Value::opaque(UserError(Box::new(error))));
    failure
}

impl Recorder {
    pub(super) fn new(journal: Arc<Journal<Tokio>>, machine: u32) -> Self {
        Self {
            journal,
            machine,
            base: None,
            step: None,
            inline: false,
            asked: None,
        }
    }

    /// The one of a lane that begins.
    pub(super) fn lane(&self, lane: LaneId) -> Self {
        let number = self.journal.begin_lane(self.machine, lane);
        Self::new(Arc::clone(&self.journal), number)
    }

    /// The machine asks for something.
    pub(super) fn asked(&mut self, machine: &Machine<Tokio>, command: &Command<Tokio>) {
        let node = match command {
            Command::Call(call) => {
                self.asked_call(machine, call);
                call.node
            }
            Command::CacheGet(get) => get.node,
            Command::Pause(pause) => pause.node,
            _ => return,
        };
        self.step = Some(Arc::clone(&machine.plan().node(node).path));
    }

    fn asked_call(&mut self, machine: &Machine<Tokio>, call: &Call<Tokio>) {
        let handler = machine.plan().node(call.node).callable(call.role, call.index);
        self.inline = matches!(handler, Some(Handler::Inline(_))) && call.role != Role::Redirect;
        self.base = Some(call.context.clone());
    }

    /// The machine begins to sleep.
    pub(super) fn sleeps(&self, sleeping: Sleeping) {
        self.journal.sleeps(self.machine, sleeping);
    }

    /// The machine asks a question for the first time.
    pub(super) fn asks(&self, pause: PauseId, since: WallTime) {
        self.journal.asks(self.machine, pause, since);
    }

    /// The machine is about to be told something. What it is told in fact: when a value can't be written down, that.
    pub(super) fn tell(&mut self, machine: &Machine<Tokio>, event: Happened<Tokio>) -> Happened<Tokio> {
        if !machine.expects(&event) {
            return event;
        }
        let step = self.step.as_ref();
        let error = match self
            .journal
            .record(self.machine, machine, step, &event, self.base.as_ref())
        {
            Ok(()) => return event,
            Err(error) => error,
        };
        if let Happened::Answered { call, at, .. } = &event
            && self.inline
        {
            self.journal.record_again(self.machine, step, *call, *at);
            return event;
        }
        let event = instead(event, unsavable(error));
        // A failure and a cancellation hold nothing that can't be written.
        let _ = self.journal.record(self.machine, machine, step, &event, None);
        event
    }
}
