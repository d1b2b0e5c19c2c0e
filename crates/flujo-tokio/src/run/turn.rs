//! A call that waits until its rate limits let it begin, and what it holds of them until it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use flujo_core::config::Part;
use flujo_core::machine::{Answer, CallId, Event as Happened, Failure, FailureKind, Time};
use flujo_core::plan::NodeId;
use flujo_core::rate::{Admission, Bucket, StepRates, Turn};
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use tokio::time::Sleep;

use super::Shared;
use crate::domain::Tokio;
use crate::handler::Handler;
use crate::rates;

/// Those that a call passes, or why it can't.
pub(super) type Limits = Result<Arc<[Arc<Bucket>]>, Failure<Tokio>>;

/// The limits that a step's call passes: those of the step and of the runner, and its own of the agent that a plugin asked
/// for.
pub(super) fn limits(shared: &Shared, node: NodeId, agent: Option<&Value>) -> Limits {
    let rates = shared.runner.rates.as_ref();
    let step = rates.map_or_else(|| Arc::from([]), |rates| rates.step(node));
    let asked = |agent| shared.runner.agents.asked(agent, &shared.plan);
    match agent.and_then(asked).and_then(Handler::rate_limit) {
        None => Ok(step),
        Some(own) => StepRates::with_own(&rates::REGISTRY, &step, &own, rates::now()).map_err(|error| {
            Failure::new(FailureKind::Agent, "RateLimitError", error.to_string()).permanent()
        }),
    }
}

/// A call on its way through its rate limits.
pub(super) struct Admitting {
    admission: Admission,
    /// The call that waits, and until when; `None` once it was let through.
    waiting: Option<(CallId, Option<Time>)>,
    /// Wakes the run for the next look.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Admitting {
    pub(super) fn new(limits: Arc<[Arc<Bucket>]>, call: CallId, tokens: u64, deadline: Option<Time>) -> Self {
        Self {
            admission: Admission::new(limits, tokens),
            waiting: Some((call, deadline)),
            alarm: None,
        }
    }

    /// The call that waits.
    pub(super) fn waits(&self) -> Option<CallId> {
        self.waiting.map(|(call, _)| call)
    }

    /// Ready when the call's turn has come, or its time is up.
    pub(super) fn poll(&mut self, shared: &Shared, poller: &mut Poller<'_>) -> Poll<Happened<Tokio>> {
        let Some((call, deadline)) = self.waiting else {
            return Poll::Pending;
        };
        loop {
            let (now, at) = (rates::now(), shared.now());
            let until = match self.admission.poll(now, poller.waker()) {
                Turn::Admitted => {
                    (self.waiting, self.alarm) = (None, None);
                    self.watch(shared);
                    return Poll::Ready(Happened::Answered {
                        call,
                        answer: Answer::Done,
                        context: None,
                        at,
                    });
                }
                Turn::Wait(until) => until,
            };
            if deadline.is_some_and(|deadline| at >= deadline) {
                let usage = Usage::ZERO;
                return Poll::Ready(Happened::TimedOut { call, usage, at });
            }
            let left = [
                until.map(|until| until.saturating_sub(now)),
                deadline.map(|deadline| deadline - at),
            ];
            let next = left.into_iter().flatten().min();
            let next = next.and_then(|left| shared.instant(at.saturating_add(left)));
            self.alarm = next.map(|next| Box::pin(tokio::time::sleep_until(next)));
            let rings = self.alarm.as_mut().map(|alarm| alarm.as_mut().poll(poller));
            if !rings.is_some_and(|rings| rings.is_ready()) {
                return Poll::Pending;
            }
        }
    }

    /// Tells of a limit that other processes don't share although they are to.
    fn watch(&self, shared: &Shared) {
        match self.admission.shared() {
            None => {}
            Some(Ok(())) => shared.runner.rates_are_shared(),
            Some(Err(reason)) => shared.alerted(shared.runner.degraded(Part::Usage, &reason)),
        }
    }

    /// The call that was let through has ended. Everybody who shares its limits waits for `hold`.
    pub(super) fn settle(self, tokens: u64, hold: Option<Time>) {
        let now = rates::now();
        let hold = hold.map(|wait| now.saturating_add(wait));
        self.admission.settle(tokens, hold, now);
    }
}
