//! The handle to a run: a future that drives it. Nothing runs before the first poll; dropping it cancels the run.

mod reading;
mod stored;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as Poller, Poll, ready};

use flujo_core::agent::BoxFuture;
use flujo_core::config::{Part, RunTwins, Twins};
use flujo_core::context::Context;
use flujo_core::machine::{Finish, Machine, Options, Outcome, Time};
use flujo_core::plan::Plan;
use flujo_core::rate::StepRates;
use flujo_core::store::Claim;
use flujo_core::telemetry::SpanContext;
use flujo_core::usage::{Usage, UsageLimits, UsageMeter, run_meter};
use flujo_core::value::Value;
use flujo_durable::{DurableError, ForkPoint, Journal, Posted, Written};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::Instant;

pub use reading::{EventStream, Events};

use super::driver::{Driver, House};
use super::event::{Event, EventKind};
use super::once::Onces;
use super::opening::{self, Opened};
use super::outputs::Outputs;
use super::paused::{Answers, Kept, PausedRun, ResumeError, Resumption};
use super::recorder::Recorder;
use super::signal::Signal;
use super::spans::Observed;
use super::stopped::{GoingOn, StoppedRun};
use super::{RunId, Shared};
use crate::Handler;
use crate::analysis::Analysed;
use crate::domain::Tokio;
use crate::runner::Running;

/// One run. Awaiting it drives it to its end; reading its [events](Self::events) drives it as far as they are read.
#[must_use = "a run does nothing until it is awaited"]
pub struct Run {
    id: RunId,
    runner: Arc<Running>,
    cancel: Arc<Signal>,
    state: State,
    events: Option<Receiver<Event>>,
    listening: bool,
    /// The caller's span.
    parent: Option<SpanContext>,
    /// From its first pause on.
    kept: Option<Arc<Kept>>,
    /// When it went on after it was stopped, and what had been used by then: that has been counted.
    counted: (Time, Usage),
}

enum State {
    Waiting {
        input: Value,
        context: Context,
    },
    /// On its way into the store, or out of it.
    Opening {
        opened: BoxFuture<'static, Result<Opened, DurableError>>,
        begin: Option<(Value, Context)>,
    },
    /// To be taken out of the store; having been put there as a fork of another run, if it is one.
    Stored {
        fork: Option<(Arc<str>, ForkPoint)>,
    },
    /// To be claimed again before it goes on.
    Claiming {
        claim: BoxFuture<'static, Result<Claim, DurableError>>,
        then: Then,
    },
    /// Its end, or its pause, is on its way into the store.
    Closing {
        written: Written,
        done: Option<Done>,
    },
    /// To be resumed.
    Paused(Resumption),
    /// To go on after it was stopped.
    Stopped(GoingOn),
    Driving(House),
    Ended(Option<Done>),
}

/// What a run that is claimed again goes on from.
enum Then {
    Paused(Resumption),
    Stopped(GoingOn),
}

/// A run that has ended, or stands still for answers.
#[derive(Debug)]
pub struct Done {
    /// The run.
    pub id: RunId,
    /// How it ended, its final context, history and usage.
    pub finish: Box<Finish<Tokio>>,
    /// The plan it ran; names the nodes of the history.
    pub plan: Arc<Plan<Handler>>,
    /// What it is resumed by, when it stands still for answers: `finish` is what it has done so far then.
    pub paused: Option<PausedRun>,
    /// What it goes on from, when a limit on the run's usage stopped it or it was cancelled.
    pub stopped: Option<StoppedRun>,
}

impl Done {
    /// The output, when the run completed.
    pub fn output(&self) -> Option<&Value> {
        match &self.finish.outcome {
            Outcome::Completed(output) => Some(output),
            _ => None,
        }
    }

    /// `completed`, `failed`, `paused`, `cancelled` or `limit_exceeded`.
    pub fn status(&self) -> &'static str {
        self.finish.outcome.name()
    }
}

/// Cancels a run from anywhere. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Canceller(Arc<Signal>);

impl Canceller {
    /// Asks the run to end: user futures are dropped, lanes are awaited, then the run ends as cancelled with what it
    /// has so far. Does nothing to a run that has ended.
    pub fn cancel(&self) {
        self.0.raise();
    }
}

impl Run {
    pub(crate) fn new(runner: Arc<Running>, input: Value, context: Context) -> Self {
        Self {
            id: RunId::new(),
            runner,
            cancel: Arc::default(),
            state: State::Waiting { input, context },
            events: None,
            listening: false,
            parent: None,
            kept: None,
            counted: (0, Usage::ZERO),
        }
    }

    /// A run of a name in the store: one that was begun before goes on where it is, or gives its result.
    pub(crate) fn named(runner: Arc<Running>, id: Arc<str>, begin: Option<(Value, Context)>) -> Self {
        let stored = begin.is_none();
        let (input, context) = begin.unwrap_or_default();
        let mut run = Self::new(runner, input, context);
        run.id = RunId::named(id);
        if stored {
            run.state = State::Stored { fork: None };
        }
        run
    }

    /// A run that begins with what another one was.
    pub(crate) fn forked(runner: Arc<Running>, id: Arc<str>, from: Arc<str>, at: ForkPoint) -> Self {
        let mut run = Self::named(runner, id, None);
        run.state = State::Stored {
            fork: Some((from, at)),
        };
        run
    }

    /// A run that goes on from a pause when it is first polled.
    pub(crate) fn resume(
        runner: Arc<Running>,
        paused: &PausedRun,
        answers: Answers,
    ) -> Result<Self, ResumeError> {
        let resumption = paused.take(&runner, answers)?;
        Ok(Self {
            id: paused.id(),
            runner,
            cancel: Arc::default(),
            parent: resumption.kept.parent,
            counted: resumption.kept.counted,
            kept: Some(Arc::clone(&resumption.kept)),
            state: State::Paused(resumption),
            events: None,
            listening: false,
        })
    }

    /// A run that goes on after it was stopped when it is first polled.
    pub(crate) fn resume_stopped(
        runner: Arc<Running>,
        stopped: &StoppedRun,
        limits: Option<UsageLimits>,
    ) -> Result<Self, ResumeError> {
        let going_on = stopped.go_on(&runner, limits)?;
        Ok(Self {
            id: stopped.id(),
            runner,
            cancel: Arc::default(),
            parent: going_on.stopped.parent,
            kept: None,
            counted: (going_on.stopped.at, going_on.stopped.used),
            state: State::Stopped(going_on),
            events: None,
            listening: false,
        })
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.id.clone()
    }

    /// Asks the run to end; see [`Canceller::cancel`]. Await the run to see it end.
    pub fn cancel(&self) {
        self.cancel.raise();
    }

    /// Something that cancels this run from elsewhere.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.cancel))
    }

    /// Makes the run part of its caller's trace; a run that goes on after a pause stays in the one it was in. Does nothing
    /// to a run that has begun.
    pub fn set_parent(&mut self, parent: SpanContext) {
        self.parent = Some(parent);
    }

    /// What happens in the run, as it happens. Reading drives the run, and the run waits while a bounded number of
    /// events is unread. A run that has been polled before without its events being asked for tells nothing.
    pub fn events(&mut self) -> Events<'_> {
        self.listening = true;
        Events { run: Some(self) }
    }

    /// The run as the stream of its events.
    pub fn into_events(self) -> EventStream {
        EventStream(self)
    }

    fn deadline(&self) -> Option<Time> {
        let deadline = self.runner.deadline;
        deadline.map(|deadline| u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX))
    }

    /// What all lanes share, from now on.
    fn share(
        &mut self,
        meter: Option<Arc<dyn UsageMeter>>,
        (twins, analysed): (RunTwins, Arc<Analysed>),
        base: Time,
        journal: Option<Arc<Journal<Tokio>>>,
    ) -> Arc<Shared> {
        let runner = &self.runner;
        let events = self.listening.then(|| mpsc::channel(runner.event_buffer));
        let (sender, receiver) = events.unzip();
        let post = journal
            .as_ref()
            .zip(runner.keeping.as_ref())
            .map(|(journal, keeping)| {
                let cancel = Arc::clone(&self.cancel);
                let wake = move |posted: &Posted| {
                    if *posted == Posted::Cancel {
                        cancel.raise();
                    }
                };
                keeping.runs.hear(Arc::clone(&journal.claim().run), wake)
            });
        self.events = receiver;
        runner.watch_memory();
        Arc::new(Shared {
            runner: Arc::clone(runner),
            id: self.id.clone(),
            plan: Arc::clone(&analysed.plan),
            analysed,
            resources: Arc::clone(&runner.resources),
            meter,
            twins,
            traced: tracing::enabled!(target: "flujo::run", tracing::Level::DEBUG),
            origin: Instant::now(),
            base,
            events: sender,
            journal,
            post,
            onces: Onces::default(),
            alerts: Mutex::default(),
            parent: self.parent,
        })
    }

    fn start(&mut self, input: Value, context: &Context, journal: Option<Arc<Journal<Tokio>>>) -> House {
        let (limits, twins) = (self.runner.limits, RunTwins::new(self.runner.twins()));
        let meter = (!limits.is_unlimited()).then(|| run_meter(twins.now(), limits, Usage::ZERO));
        let mut alert = None;
        let analysed = twins.contain(
            Part::Analysis,
            None,
            |twins| self.runner.analysed(twins),
            |reason| alert = self.runner.gave_way(Part::Analysis, reason),
        );
        let shared = self.share(meter, (twins, analysed), 0, journal);
        shared.alerted(alert);
        let context = shared.contain(Part::Context, None, |twins| {
            if twins.is_optimized(Part::Context) {
                context.fork()
            } else {
                let copies = Arc::clone(self.runner.contexts.copies());
                context.clone().copying(copies)
            }
        });
        let options = self.options(shared.meter.is_some(), shared.listened_to(), shared.twins.now());
        let deadline = self.deadline();
        let plan = Arc::clone(&shared.plan);
        let machine = Machine::start(plan, options, input, context, 0, deadline);
        self.driven(shared, machine, false)
    }

    fn options(&self, limits: bool, notices: bool, twins: Twins) -> Options {
        Options {
            hooks: false,
            limits,
            rates: self.runner.rates.as_ref().is_some_and(StepRates::hold_for_all),
            notices,
            seed: self.id.seed(),
            tell_from: Some(self.runner.tell_from(twins)),
        }
    }

    fn take_up(&mut self, going_on: GoingOn, journal: Option<Arc<Journal<Tokio>>>) -> Option<House> {
        let (raised, stopped) = (going_on.raised, Arc::clone(&going_on.stopped));
        let limits = raised.unwrap_or(self.runner.limits);
        let kept = going_on.take()?;
        let meter = (!limits.is_unlimited()).then(|| run_meter(stopped.twins, limits, stopped.used));
        // A nanosecond later: what ended by then has been counted.
        let base = stopped.at.saturating_add(1);
        let shared = self.share(
            meter,
            (RunTwins::new(stopped.twins), Arc::clone(&stopped.analysed)),
            base,
            journal,
        );
        let options = self.options(shared.meter.is_some(), shared.listened_to(), shared.twins.now());
        let plan = Arc::clone(&shared.plan);
        let machine = Machine::go_on(plan, kept, options, stopped.at);
        if let Some(journal) = &shared.journal {
            journal.take_up(options, stopped.at, raised);
            journal.along(opening::goes_on(&machine.so_far(|_| None), shared.wall()));
        }
        Some(self.driven(shared, machine, true))
    }

    fn driven(&self, shared: Arc<Shared>, machine: Machine<Tokio>, resumed: bool) -> House {
        let mut machine = Observed::from(machine);
        if let Some(journal) = &shared.journal {
            machine.record(Recorder::new(Arc::clone(journal), 0));
        }
        if let Some(telemetries) = &self.runner.telemetries {
            machine.observe(&shared, telemetries, resumed);
            let notices = shared.listened_to() || machine.hears();
            machine.listen(notices);
        }
        let mut house = Driver::begin(shared, machine, Arc::clone(&self.cancel), Outputs::default());
        if let Some(driver) = house.as_mut() {
            driver.announce(EventKind::RunStarted);
        }
        house
    }

    fn go_on(&mut self, resumption: Resumption, journal: Option<Arc<Journal<Tokio>>>) -> Option<Driver> {
        let kept = &resumption.kept;
        let decided = (RunTwins::new(kept.twins), Arc::clone(&kept.analysed));
        let meter = kept.meter.clone();
        let base = resumption.stopped;
        let mut parked = resumption.take()?;
        if let Some(journal) = &journal {
            parked.continue_log(journal);
            let now = self.runner.wall();
            journal.along(opening::goes_on(&parked.so_far(), now));
        }
        let shared = self.share(meter, decided, base, journal);
        if let Some(telemetries) = &self.runner.telemetries {
            parked.machine.observe(&shared, telemetries, true);
        }
        Some(Driver::resume(shared, *parked, Arc::clone(&self.cancel)))
    }

    /// Drives the run; ready when it has ended or stands still.
    fn drive(&mut self, poller: &mut Poller<'_>) -> Poll<()> {
        let (ended, shared) = loop {
            ready!(self.prepare(poller));
            let State::Driving(house) = &mut self.state else {
                return Poll::Ready(());
            };
            let Some(driver) = house.as_mut().as_mut() else {
                return Poll::Ready(());
            };
            let ended = ready!(driver.drive(poller));
            if ended.is_none() && driver.has_answers() {
                self.take_answers();
                continue;
            }
            break (ended, Arc::clone(driver.shared()));
        };
        shared.take_cancel();
        let State::Driving(mut house) = std::mem::replace(&mut self.state, State::Ended(None)) else {
            return Poll::Ready(());
        };
        let journal = shared.journal.as_ref();
        let (finish, paused, stopped, written) = if let Some(mut finish) = ended {
            Driver::leave(house);
            self.runner.worked(shared.twins.now());
            self.runner.record(&finish, shared.meter.as_deref(), self.counted);
            let keeping = self.runner.keeping.as_ref();
            let written = journal.zip(keeping).map(|(journal, keeping)| {
                let pipeline = shared.plan.name();
                keeping.runs.end(journal, pipeline, &finish, shared.wall())
            });
            let kept = finish.kept.take();
            let stopped = kept.map(|kept| {
                let log = journal.map(|journal| {
                    let claim = journal.claim();
                    (Arc::clone(&claim.run), journal.place(), Some(claim.token))
                });
                StoppedRun::new(&shared, &self.runner, finish.usage, log, kept, shared.wall())
            });
            (finish, None, stopped, written)
        } else {
            let Some(driver) = house.take() else {
                return Poll::Ready(());
            };
            let (finish, paused, written) = self.park(driver);
            (finish, Some(paused), None, written)
        };
        let done = Some(Done {
            id: self.id.clone(),
            finish,
            plan: Arc::clone(&shared.plan),
            paused,
            stopped,
        });
        self.state = match written {
            None => State::Ended(done),
            Some(Ok(written)) => State::Closing { written, done },
            Some(Err(error)) => self.broke(&error),
        };
        self.prepare(poller)
    }

    fn park(
        &mut self,
        driver: Driver,
    ) -> (
        Box<Finish<Tokio>>,
        PausedRun,
        Option<Result<Written, DurableError>>,
    ) {
        let shared = Arc::clone(driver.shared());
        let stopped = shared.now();
        let kept = self.kept.get_or_insert_with(|| {
            let kept = Kept::new(&shared, Arc::clone(&self.runner), self.counted);
            Arc::new(kept)
        });
        let mut parked = Box::new(driver.park());
        parked.end_spans(stopped);
        let finish = Box::new(parked.so_far());
        let written = shared
            .journal
            .as_ref()
            .map(|journal| parked.write(journal, &finish, stopped, shared.wall()));
        let journal = shared.journal.clone();
        (finish, Arc::clone(kept).park(parked, stopped, journal), written)
    }
}

impl Future for Run {
    type Output = Done;

    /// # Panics
    /// When polled again after it was ready, as futures of `async` blocks do.
    fn poll(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Done> {
        // Nobody reads events while the run itself is awaited: the run must not wait for a reader.
        self.events = None;
        ready!(self.drive(poller));
        match &mut self.state {
            State::Ended(done) => match done.take() {
                Some(done) => Poll::Ready(done),
                None => Poll::Pending,
            },
            _ => Poll::Pending,
        }
    }
}
