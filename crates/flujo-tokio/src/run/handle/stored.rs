//! A run on its way into a store and out of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use flujo_core::config::RunTwins;
use flujo_core::context::Context;
use flujo_core::machine::{Finish, History, Options, Outcome};
use flujo_core::store::{Change, Claim, WallTime};
use flujo_core::usage::{Usage, run_meter};
use flujo_core::value::Value;
use flujo_durable::{DurableError, LogPlace, Start};
use flujo_store::runs::Opening;

use super::{Done, Run, State, Then};
use crate::domain::Tokio;
use crate::run::driver::Driver;
use crate::run::opening::{self, Found, Keeping, Opened};
use crate::run::recorder::unsavable;
use crate::run::stopped::StoppedRun;
use crate::run::{RunId, Shared};

impl Run {
    /// Begins the run, or goes on with it, unless it is under way. Ready when its driver is to be driven, or it has ended.
    pub(super) fn prepare(&mut self, poller: &mut Poller<'_>) -> Poll<()> {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Ended(None)) {
                State::Waiting { input, context } => match self.runner.keeping.clone() {
                    None => State::Driving(self.start(input, &context, None)),
                    Some(keeping) => self.open(keeping, Some((input, context))),
                },
                State::Stored { fork } => match (self.runner.keeping.clone(), fork) {
                    (None, _) => self.broke(&DurableError::NoStore),
                    (Some(keeping), None) => self.open(keeping, None),
                    (Some(keeping), Some(fork)) => {
                        let plan = Arc::clone(&self.runner.analysed.plan);
                        let id = Arc::from(self.id.to_string());
                        let options = self.first_options();
                        State::Opening {
                            opened: Box::pin(opening::fork(keeping, id, plan, options, fork)),
                            begin: None,
                        }
                    }
                },
                State::Opening { mut opened, begin } => match opened.as_mut().poll(poller) {
                    Poll::Pending => {
                        self.state = State::Opening { opened, begin };
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(Opened::Begun(journal))) => {
                        let (input, context) = begin.unwrap_or_default();
                        State::Driving(self.start(input, &context, Some(journal)))
                    }
                    Poll::Ready(Ok(Opened::Found(found))) => State::Driving(Box::new(self.take_over(*found))),
                    Poll::Ready(Ok(Opened::Ended(finish, place, since))) => {
                        self.ended_before(finish, place, since)
                    }
                    Poll::Ready(Err(error)) => self.broke(&error),
                },
                State::Paused(resumption) => match (&self.runner.keeping, &resumption.journal) {
                    (Some(keeping), Some(journal)) => {
                        let (keeping, before) = (Arc::clone(keeping), journal.claim().clone());
                        State::Claiming {
                            claim: Box::pin(async move {
                                keeping.runs.claim_again(before.run, Some(before.token)).await
                            }),
                            then: Then::Paused(resumption),
                        }
                    }
                    _ => State::Driving(Box::new(self.go_on(resumption, None))),
                },
                State::Stopped(going_on) => match (&self.runner.keeping, &going_on.stopped.log) {
                    (Some(keeping), Some((run, _, before))) => {
                        let (keeping, run, before) = (Arc::clone(keeping), Arc::clone(run), *before);
                        State::Claiming {
                            claim: Box::pin(async move { keeping.runs.claim_stopped(run, before).await }),
                            then: Then::Stopped(going_on),
                        }
                    }
                    _ => State::Driving(self.take_up(going_on, None).unwrap_or_default()),
                },
                State::Claiming { mut claim, then } => match claim.as_mut().poll(poller) {
                    Poll::Pending => {
                        self.state = State::Claiming { claim, then };
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(claim)) => self.claimed(claim, then),
                    Poll::Ready(Err(error)) => self.broke(&error),
                },
                State::Closing {
                    mut written,
                    mut done,
                } => match Pin::new(&mut written).poll(poller) {
                    Poll::Pending => {
                        self.state = State::Closing { written, done };
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(())) => State::Ended(done.take()),
                    Poll::Ready(Err(error)) => self.broke(&error.into()),
                },
                state @ (State::Driving(_) | State::Ended(_)) => {
                    self.state = state;
                    return Poll::Ready(());
                }
            };
        }
    }

    fn open(&self, keeping: Arc<Keeping>, begin: Option<(Value, Context)>) -> State {
        let start = begin.clone().map(|(input, context)| self.begins(input, context));
        let plan = Arc::clone(&self.runner.analysed.plan);
        let id = Arc::from(self.id.to_string());
        State::Opening {
            opened: Box::pin(opening::open(keeping, id, plan, (self.first_options(), start))),
            begin,
        }
    }

    fn begins(&self, input: Value, context: Context) -> Start<Tokio> {
        Start {
            options: self.first_options(),
            input,
            context,
            now: 0,
            deadline: self.deadline(),
        }
    }

    /// What its machine is to ask for, within its runner's limits; nobody listens to it yet.
    fn first_options(&self) -> Options {
        self.options(!self.runner.limits.is_unlimited(), false, self.runner.twins())
    }

    /// Puts the run into the store for whoever works on its pipeline.
    pub(crate) async fn enqueue(mut self) -> Result<RunId, DurableError> {
        let keeping = self.runner.keeping.clone().ok_or(DurableError::NoStore)?;
        let id = self.id.clone();
        if let State::Waiting { input, context } = std::mem::replace(&mut self.state, State::Ended(None)) {
            let opening = Opening {
                id: Arc::from(id.to_string()),
                plan: Arc::clone(&self.runner.analysed.plan),
                start: Some(self.begins(input, context)),
                options: self.first_options(),
                now: keeping.runs.clock.now(),
            };
            keeping.runs.enqueue(opening).await?;
        }
        Ok(id)
    }

    /// The run stands still, and goes on with the answers that have been left for it.
    pub(super) fn take_answers(&mut self) {
        let State::Driving(mut house) = std::mem::replace(&mut self.state, State::Ended(None)) else {
            return;
        };
        if let Some(driver) = house.take() {
            let shared = Arc::clone(driver.shared());
            let mut parked = driver.park();
            if let (Some(post), Some(journal)) = (&shared.post, &shared.journal) {
                for (message, pause, answer) in post.inbox.take_answers() {
                    journal.along(Change::Taken(message));
                    parked.answer(&shared.id, pause.as_deref(), &answer);
                }
            }
            let driver = Driver::resume(shared, parked, Arc::clone(&self.cancel));
            self.state = State::Driving(Box::new(Some(driver)));
        }
    }

    /// A run that ended before it was looked up.
    fn ended_before(&mut self, mut finish: Box<Finish<Tokio>>, place: LogPlace, since: WallTime) -> State {
        let twins = RunTwins::new(self.runner.twins());
        let analysed = Arc::clone(&self.runner.analysed);
        let shared = self.share(None, (twins, analysed), 0, None);
        let kept = finish.kept.take();
        let run: Arc<str> = Arc::from(self.id.to_string());
        let stopped = kept.map(|kept| {
            let log = Some((run, place, None));
            StoppedRun::new(&shared, &self.runner, finish.usage, log, kept, since)
        });
        State::Ended(Some(Done {
            id: self.id.clone(),
            finish,
            plan: Arc::clone(&shared.plan),
            paused: None,
            stopped,
        }))
    }

    /// The store can't be used like this.
    pub(super) fn broke(&self, error: &DurableError) -> State {
        let mut failure = unsavable(error.clone());
        failure.error_type = Arc::from(error.name());
        State::Ended(Some(Done {
            id: self.id.clone(),
            finish: Box::new(Finish {
                outcome: Outcome::Failed(Arc::new(failure)),
                context: Context::new(),
                history: History::default(),
                usage: Usage::ZERO,
                kept: None,
            }),
            plan: Arc::clone(&self.runner.analysed.plan),
            paused: None,
            stopped: None,
        }))
    }

    /// The run is claimed again, and goes on.
    fn claimed(&mut self, claim: Claim, then: Then) -> State {
        let Some(keeping) = self.runner.keeping.clone() else {
            return self.broke(&DurableError::NoStore);
        };
        let place = match &then {
            Then::Paused(resumption) => resumption.journal.as_ref().map(|journal| journal.place()),
            Then::Stopped(going_on) => going_on.stopped.log.as_ref().map(|(_, place, _)| place.clone()),
        };
        let journal = Some(keeping.runs.journal(claim, place.unwrap_or_default()));
        match then {
            Then::Paused(resumption) => State::Driving(Box::new(self.go_on(resumption, journal))),
            Then::Stopped(going_on) => State::Driving(self.take_up(going_on, journal).unwrap_or_default()),
        }
    }

    /// Goes on with a run that was found in the store.
    fn take_over(&mut self, mut found: Found) -> Option<Driver> {
        let limits = found.limits.unwrap_or(self.runner.limits);
        let twins = RunTwins::new(self.runner.twins());
        let meter = (!limits.is_unlimited()).then(|| run_meter(twins.now(), limits, found.used));
        self.counted = (found.at, found.used);
        let analysed = Arc::clone(&self.runner.analysed);
        let journal = Some(Arc::clone(&found.journal));
        let shared = self.share(meter, (twins, analysed), found.at, journal);
        if let Some(post) = &shared.post {
            found.posted.iter().for_each(|message| post.inbox.put(message));
        }
        let mut parked = opening::parked(&mut found, &shared.onces, shared.wall())?;
        if let Some(telemetries) = &self.runner.telemetries {
            parked.machine.observe(&shared, telemetries, true);
        }
        Some(Driver::resume(shared, parked, Arc::clone(&self.cancel)))
    }
}

impl Shared {
    /// What asked the run to stop is dealt with, once that is written.
    pub(super) fn take_cancel(&self) {
        if let (Some(post), Some(journal)) = (&self.post, &self.journal) {
            while let Some(message) = post.inbox.take_cancel() {
                journal.along(Change::Taken(message));
            }
        }
    }
}

impl Drop for Run {
    /// A run that is dropped on its way stays in the store as far as it came, for whoever goes on with it.
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Ended(None)) {
            State::Driving(house) => {
                if let Some(driver) = house.as_ref()
                    && let Some(journal) = &driver.shared().journal
                {
                    // Asked for, and done whether or not anybody waits.
                    drop(journal.write([Change::Release]));
                }
            }
            State::Opening { opened, .. } => opening::give_back(opened),
            State::Claiming { claim, .. } => {
                if let Some(keeping) = self.runner.keeping.clone() {
                    flujo_store::do_anyway(async move {
                        if let Ok(claim) = claim.await {
                            let released = keeping.runs.store().write(&claim, vec![Change::Release]);
                            // What could not be written is found out when somebody else wants the run.
                            let _ = released.await;
                        }
                    });
                }
            }
            _ => {}
        }
    }
}
