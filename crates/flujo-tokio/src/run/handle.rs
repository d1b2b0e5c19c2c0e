//! The handle to a run: a future that drives it. Nothing runs before the first poll; dropping it cancels the run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};

use flujo_core::context::Context;
use flujo_core::machine::{Finish, Machine, Options, Outcome};
use flujo_core::plan::Plan;
use flujo_core::usage::UsagePool;
use flujo_core::value::Value;
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::Instant;

use super::driver::{Driver, outcome_name};
use super::event::Event;
use super::outputs::Outputs;
use super::signal::Signal;
use super::{RunId, Shared};
use crate::Handler;
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
}

enum State {
    Waiting { input: Value, context: Context },
    Driving(Box<Driver>),
    Ended(Option<Done>),
}

/// A run that has ended.
#[derive(Debug)]
pub struct Done {
    /// The run.
    pub id: RunId,
    /// How it ended, its final context, history and usage.
    pub finish: Box<Finish<Tokio>>,
    /// The plan it ran; names the nodes of the history.
    pub plan: Arc<Plan<Handler>>,
}

impl Done {
    /// The output, when the run completed.
    pub fn output(&self) -> Option<&Value> {
        match &self.finish.outcome {
            Outcome::Completed(output) => Some(output),
            _ => None,
        }
    }

    /// `completed`, `failed`, `cancelled` or `limit_exceeded`.
    pub fn status(&self) -> &'static str {
        outcome_name(&self.finish.outcome)
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
        }
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Asks the run to end; see [`Canceller::cancel`]. Await the run to see it end.
    pub fn cancel(&self) {
        self.cancel.raise();
    }

    /// Something that cancels this run from elsewhere.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.cancel))
    }

    /// What happens in the run, as it happens. Reading drives the run, and the run waits while a bounded number of
    /// events is unread. A run that has been polled before without its events being asked for tells nothing.
    pub fn events(&mut self) -> Events<'_> {
        self.listening = true;
        Events { run: Some(self) }
    }

    /// Begins the run unless it has begun.
    fn driver(&mut self) -> Option<&mut Driver> {
        if let State::Waiting { .. } = self.state
            && let State::Waiting { input, context } = std::mem::replace(&mut self.state, State::Ended(None))
        {
            self.state = State::Driving(Box::new(self.start(input, context)));
        }
        match &mut self.state {
            State::Driving(driver) => Some(driver),
            _ => None,
        }
    }

    fn start(&mut self, input: Value, context: Context) -> Driver {
        let runner = &self.runner;
        let events = self.listening.then(|| mpsc::channel(runner.event_buffer));
        let (sender, receiver) = events.unzip();
        self.events = receiver;
        let shared = Arc::new(Shared {
            id: self.id,
            plan: Arc::clone(&runner.plan),
            resources: Arc::clone(&runner.resources),
            pool: (!runner.limits.is_unlimited()).then(|| UsagePool::new(runner.limits)),
            traced: tracing::enabled!(target: "flujo::run", tracing::Level::DEBUG),
            reads_steps: runner.reads_steps,
            constructs: Arc::clone(&runner.constructs),
            origin: Instant::now(),
            events: sender,
        });
        let options = Options {
            hooks: false,
            limits: shared.pool.is_some(),
            notices: shared.events.is_some() || shared.traced,
            seed: self.id.seed(),
        };
        let deadline = runner
            .deadline
            .map(|deadline| u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX));
        let plan = Arc::clone(&shared.plan);
        let machine = Machine::start(plan, options, input, context, 0, deadline);
        Driver::new(shared, machine, Arc::clone(&self.cancel), Outputs::default())
    }

    /// Drives the run; ready when it has ended.
    fn drive(&mut self, poller: &mut Poller<'_>) -> Poll<()> {
        let Some(driver) = self.driver() else {
            return Poll::Ready(());
        };
        let finish = ready!(Pin::new(driver).poll(poller));
        self.runner.record(&finish);
        self.state = State::Ended(Some(Done {
            id: self.id,
            finish,
            plan: Arc::clone(&self.runner.plan),
        }));
        Poll::Ready(())
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

/// The events of a run, read one by one.
pub struct Events<'a> {
    run: Option<&'a mut Run>,
}

impl Events<'_> {
    /// The events of a run that never begins.
    pub fn none() -> Self {
        Self { run: None }
    }

    /// The next event; `None` after the last one, [`EventKind::RunFinished`](super::EventKind::RunFinished).
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|poller| self.poll_next(poller)).await
    }

    /// The next event, for streams.
    pub fn poll_next(&mut self, poller: &mut Poller<'_>) -> Poll<Option<Event>> {
        let Some(run) = self.run.as_deref_mut() else {
            return Poll::Ready(None);
        };
        if let Some(events) = &mut run.events
            && let Ok(event) = events.try_recv()
        {
            return Poll::Ready(Some(event));
        }
        let ended = run.drive(poller).is_ready();
        let Some(events) = &mut run.events else {
            return Poll::Ready(None);
        };
        match events.poll_recv(poller) {
            Poll::Pending if ended => Poll::Ready(None),
            event => event,
        }
    }
}
