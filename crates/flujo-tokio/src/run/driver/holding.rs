//! Calls that wait: until what was before them is in the store, or for their turn.

use std::sync::Arc;
use std::task::Context as Poller;

use flujo_core::machine::{Answer, Call, CallId, Event as Happened, Role, Time, TimerId};
use flujo_core::usage::Usage;
use flujo_durable::{DurableError, Journal, Sleeping, Written};

use super::Driver;
use crate::domain::Tokio;
use crate::run::once::round;
use crate::run::recorder;
use crate::run::turn::{self, Admitting};

pub(super) struct Holding {
    pub(super) call: Call<Tokio>,
    pub(super) written: Written,
}

impl Driver {
    /// Begins a call once what was before it is in the store, if the run is kept in one.
    #[inline]
    pub(super) fn reach(&mut self, call: Call<Tokio>, poller: &mut Poller<'_>) {
        match self.machine.recorder() {
            Some(recorder) if matches!(call.role, Role::Agent | Role::Redirect) => {
                let journal = Arc::clone(&recorder.journal);
                self.write_before(call, &journal, poller);
            }
            _ => self.call(call, poller),
        }
    }

    fn write_before(&mut self, call: Call<Tokio>, journal: &Journal<Tokio>, poller: &mut Poller<'_>) {
        let alone = self.machine.lane().is_none()
            && self.lanes.as_ref().is_none_or(|lanes| lanes.is_empty())
            && self.cached.is_none()
            && self.admitting.is_none();
        if alone && journal.wants_snapshot() {
            let step = &self.shared.plan.node(call.node).path;
            let once = self.shared.onces.of_run(step, &round(&self.machine));
            match self.machine.begin_anew(self.shared.now(), once) {
                // The call is asked for again.
                Ok(_) => return,
                Err(error) => return self.break_off(call.call, error),
            }
        }
        let written = if alone {
            journal.flush_alone()
        } else {
            journal.flush()
        };
        match written {
            None => self.call(call, poller),
            Some(written) => self.holding = Some(Box::new(Holding { call, written })),
        }
    }

    /// Sleeps until then, and writes that down.
    #[cold]
    pub(super) fn sleep(&mut self, timer: TimerId, until: Time) {
        if let Some(recorder) = self.machine.recorder() {
            let left = until.saturating_sub(self.shared.now());
            let since = self.shared.wall();
            recorder.sleeps(Sleeping { timer, left, since });
        }
        // `None`: further ahead than a clock can count.
        let until = self.shared.instant(until);
        self.timer = until.map(|until| (timer, Box::pin(tokio::time::sleep_until(until))));
    }

    /// Whether answers have been left for the run, which stands still with nobody told of it.
    pub(in crate::run) fn has_answers(&self) -> bool {
        let post = self.shared.post.as_ref();
        !self.told_of_pause
            && self.machine.lane().is_none()
            && post.is_some_and(|post| post.inbox.has_answers())
    }

    /// Ends the run: what happened in it can't be written down.
    #[cold]
    pub(super) fn break_off(&mut self, call: CallId, error: DurableError) {
        let mut failure = recorder::unsavable(error);
        failure.error_type = Arc::from("StoreError");
        self.machine.handle(Happened::Answered {
            call,
            answer: Answer::Fatal(Box::new(failure)),
            context: None,
            at: self.shared.now(),
        });
    }

    /// A call doesn't begin: the run is being stopped.
    pub(super) fn called_off(&mut self, call: CallId) {
        let at = self.shared.now();
        self.machine.handle(Happened::CallCancelled { call, at });
    }

    /// Has a call wait for its turn.
    pub(super) fn admit(&mut self, limits: turn::Limits, call: CallId, tokens: u64, deadline: Option<Time>) {
        match limits {
            Ok(limits) => {
                self.admitting = Some(Box::new(Admitting::new(limits, call, tokens, deadline)));
            }
            Err(failure) => self.machine.handle(Happened::Failed {
                call,
                failure: Box::new(failure),
                usage: Usage::ZERO,
                at: self.shared.now(),
            }),
        }
    }
}
