//! The lanes of one run or lane as tokio tasks, and those that stand still. Dropping them aborts the tasks.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};

use flujo_core::context::Context;
use flujo_core::machine::{Failure, FailureKind, Finish, History, LaneId, Machine, Outcome};
use flujo_core::usage::Usage;
use tokio::task::{Id, JoinSet};

use super::Shared;
use super::driver::{Driver, House};
use super::outputs::Outputs;
use super::parked::{Parked, ParkedLanes, Wake};
use super::signal::Signal;
use super::spans::Observed;
use crate::domain::Tokio;

#[derive(Default)]
pub(super) struct Lanes {
    tasks: JoinSet<Ended>,
    running: HashMap<Id, Running>,
    /// Those that wait for answers.
    parked: ParkedLanes,
}

struct Running {
    lane: LaneId,
    cancel: Arc<Signal>,
    context: Context,
}

/// How a lane's task ended.
enum Ended {
    Finished(Box<Finish<Tokio>>),
    Parked(Box<Parked>),
}

/// Drives a lane until it has ended or stands still.
struct Drive(Option<House>);

impl Future for Drive {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Ended> {
        let Some(driver) = self.0.as_deref_mut().and_then(Option::as_mut) else {
            return Poll::Pending;
        };
        let finish = ready!(driver.drive(poller));
        match (finish, self.0.take()) {
            (Some(finish), Some(house)) => {
                Driver::leave(house);
                Poll::Ready(Ended::Finished(finish))
            }
            (None, Some(mut house)) => match house.take() {
                Some(driver) => Poll::Ready(Ended::Parked(Box::new(driver.park()))),
                None => Poll::Pending,
            },
            (_, None) => Poll::Pending,
        }
    }
}

impl Lanes {
    /// Lanes of a machine that goes on: those that are to go on run, the others stand still.
    pub(super) fn resume(shared: &Arc<Shared>, around: &Observed, parked: ParkedLanes) -> Self {
        let awake = parked.awake();
        let mut lanes = Self {
            parked,
            ..Self::default()
        };
        for lane in awake {
            if let Some(parked) = lanes.parked.take(lane) {
                lanes.go_on(shared, around, lane, *parked);
            }
        }
        lanes
    }

    pub(super) fn spawn(
        &mut self,
        shared: &Arc<Shared>,
        around: &Observed,
        outputs: &Outputs,
        lane: LaneId,
        machine: Machine<Tokio>,
    ) {
        let mut machine = Observed::from(machine);
        around.observe_lane(&mut machine);
        around.record_lane(lane, &mut machine);
        let cancel = Arc::new(Signal::default());
        let house = Driver::begin(
            Arc::clone(shared),
            machine,
            Arc::clone(&cancel),
            outputs.for_lane(),
        );
        self.run(lane, house, cancel);
    }

    fn go_on(&mut self, shared: &Arc<Shared>, around: &Observed, lane: LaneId, mut parked: Parked) {
        around.observe_lane(&mut parked.machine);
        let cancel = Arc::new(Signal::default());
        let driver = Driver::resume(Arc::clone(shared), parked, Arc::clone(&cancel));
        self.run(lane, Box::new(Some(driver)), cancel);
    }

    fn run(&mut self, lane: LaneId, house: House, cancel: Arc<Signal>) {
        let context = house.as_ref().as_ref().map(Driver::context).cloned();
        let context = context.unwrap_or_default();
        let task = self.tasks.spawn(Drive(Some(house)));
        self.running.insert(
            task.id(),
            Running {
                lane,
                cancel,
                context,
            },
        );
    }

    pub(super) fn cancel(&mut self, shared: &Arc<Shared>, around: &Observed, lane: LaneId) {
        if let Some(mut parked) = self.parked.take(lane) {
            parked.wake = Some(Wake::Cancel);
            self.go_on(shared, around, lane, *parked);
            return;
        }
        for running in self.running.values().filter(|running| running.lane == lane) {
            running.cancel.raise();
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.parked.is_empty()
    }

    /// Whether there are lanes and all of them stand still.
    pub(super) fn stand_still(&self) -> bool {
        self.running.is_empty() && !self.parked.is_empty()
    }

    /// The lanes that stand still.
    pub(super) fn parked(&self) -> &ParkedLanes {
        &self.parked
    }

    /// The same, to be kept.
    pub(super) fn into_parked(self) -> ParkedLanes {
        self.parked
    }

    /// The next lane that ended; pending also when none runs.
    pub(super) fn poll_ended(
        &mut self,
        shared: &Arc<Shared>,
        around: &Observed,
        poller: &mut Poller<'_>,
    ) -> Poll<(LaneId, Box<Finish<Tokio>>)> {
        loop {
            let (id, ended) = match self.tasks.poll_join_next_with_id(poller) {
                Poll::Ready(Some(Ok((id, ended)))) => (id, Ok(ended)),
                Poll::Ready(Some(Err(error))) => (error.id(), Err(error)),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            };
            let Some(running) = self.running.remove(&id) else {
                continue;
            };
            let finish = match ended {
                Ok(Ended::Finished(finish)) => finish,
                Ok(Ended::Parked(mut parked)) => {
                    if running.cancel.is_raised() {
                        // It stood still before it saw that it is to end.
                        parked.wake = Some(Wake::Cancel);
                        self.go_on(shared, around, running.lane, *parked);
                    } else {
                        self.parked.insert(running.lane, parked);
                    }
                    continue;
                }
                Err(error) => {
                    // It panicked, or its runtime was shut down.
                    let failure = Failure::new(FailureKind::Host, "LaneError", error.to_string());
                    Box::new(Finish {
                        outcome: Outcome::Failed(Arc::new(failure.permanent())),
                        context: running.context,
                        history: History::default(),
                        usage: Usage::ZERO,
                        kept: None,
                    })
                }
            };
            return Poll::Ready((running.lane, finish));
        }
    }
}
