//! The lanes of one run or lane as tokio tasks. Dropping them aborts the tasks.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use flujo_core::context::Context;
use flujo_core::machine::{Failure, FailureKind, Finish, History, LaneId, Machine, Outcome, Stop};
use flujo_core::usage::Usage;
use tokio::task::{Id, JoinSet};

use super::Shared;
use super::driver::Driver;
use super::outputs::Outputs;
use super::signal::Signal;
use crate::domain::Tokio;

#[derive(Default)]
pub(super) struct Lanes {
    tasks: JoinSet<Box<Finish<Tokio>>>,
    running: HashMap<Id, Running>,
}

struct Running {
    lane: LaneId,
    cancel: Arc<Signal>,
    context: Context,
}

impl Lanes {
    pub(super) fn spawn(
        &mut self,
        shared: &Arc<Shared>,
        outputs: &Outputs,
        lane: LaneId,
        machine: Machine<Tokio>,
    ) {
        let cancel = Arc::new(Signal::default());
        let context = machine.context().clone();
        let driver = Driver::new(
            Arc::clone(shared),
            machine,
            Arc::clone(&cancel),
            outputs.for_lane(),
        );
        let task = self.tasks.spawn(driver);
        self.running.insert(
            task.id(),
            Running {
                lane,
                cancel,
                context,
            },
        );
    }

    pub(super) fn cancel(&self, lane: LaneId) {
        for running in self.running.values().filter(|running| running.lane == lane) {
            running.cancel.raise();
        }
    }

    /// The next lane that ended; pending also when none runs.
    pub(super) fn poll_ended(&mut self, poller: &mut Poller<'_>) -> Poll<(LaneId, Box<Finish<Tokio>>)> {
        loop {
            let (id, finish) = match self.tasks.poll_join_next_with_id(poller) {
                Poll::Ready(Some(Ok((id, finish)))) => (id, Ok(finish)),
                Poll::Ready(Some(Err(error))) => (error.id(), Err(error)),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            };
            let Some(running) = self.running.remove(&id) else {
                continue;
            };
            let finish = finish.unwrap_or_else(|error| {
                let outcome = if error.is_cancelled() {
                    Outcome::Stopped(Stop::Cancelled)
                } else {
                    let failure = Failure::new(FailureKind::Host, "LaneError", error.to_string());
                    Outcome::Failed(Arc::new(failure.permanent()))
                };
                Box::new(Finish {
                    outcome,
                    context: running.context,
                    history: History::default(),
                    usage: Usage::ZERO,
                })
            });
            return Poll::Ready((running.lane, finish));
        }
    }
}
