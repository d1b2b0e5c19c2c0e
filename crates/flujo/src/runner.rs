//! The runner, typed.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::config::{OptimizationConfig, Part};
use flujo_core::context::Context as Fields;
use flujo_core::rate::RateLimit;
use flujo_core::stats::{Alert, PerformanceStatistics};
use flujo_core::store::{Lease, RunStore};
use flujo_core::telemetry::SpanQueue;
use flujo_core::usage::UsageLimits;
use flujo_core::value::{TypeCodec, to_value};
use flujo_durable::Durability;
use flujo_tokio::{BuildError, Cache, PausedRun, Runner, RunnerBuilder, StoppedRun};
use serde::Serialize;

use crate::durable::codecs;
use crate::payload::wrap;
use crate::run::{InvalidRun, Run, RunError, RunHandle};
use crate::{Context, Payload, Stage};

/// Runs one pipeline, any number of times at once. Cloning shares it.
pub struct Flujo<I, O, C = ()> {
    runner: Result<Runner, BuildError>,
    input_codec: Option<&'static TypeCodec>,
    types: PhantomData<fn(I) -> (O, C)>,
}

/// A [`Flujo`] under construction.
pub struct FlujoBuilder<I, O, C = ()> {
    runner: RunnerBuilder,
    input_codec: Option<&'static TypeCodec>,
    types: PhantomData<fn(I) -> (O, C)>,
}

impl<I, O, C> Clone for Flujo<I, O, C> {
    fn clone(&self) -> Self {
        Self {
            runner: self.runner.clone(),
            input_codec: self.input_codec,
            types: PhantomData,
        }
    }
}

impl<I: Payload, O: Payload, C: Context> Flujo<I, O, C> {
    /// A runner with the defaults. A pipeline that can't run is reported by each run; [`builder`](Self::builder) reports
    /// it at once.
    pub fn new(pipeline: impl Stage<In = I, Out = O, Context = C>) -> Self {
        let builder = Self::builder(pipeline);
        Self {
            input_codec: builder.input_codec,
            runner: builder.runner.build(),
            types: PhantomData,
        }
    }

    /// A runner to be configured.
    pub fn builder(pipeline: impl Stage<In = I, Out = O, Context = C>) -> FlujoBuilder<I, O, C> {
        let (untyped, input_codec) = pipeline.into_pipeline().into_parts();
        FlujoBuilder {
            runner: Runner::builder(untyped).merge_rules(C::merge_rules()),
            input_codec,
            types: PhantomData,
        }
    }

    /// Runs the pipeline on the caller's own task, beginning with the default context.
    ///
    /// # Errors
    /// [`RunError`] says why the run didn't complete and carries what there is of it.
    pub async fn run(&self, input: I) -> Result<Run<O, C>, RunError>
    where
        C: Default,
    {
        self.start(input).await
    }

    /// The same, beginning with `context`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_with(&self, input: I, context: &C) -> Result<Run<O, C>, RunError> {
        self.start_with(input, context).await
    }

    /// A handle to a run that begins with the default context when it is first awaited.
    pub fn start(&self, input: I) -> RunHandle<O, C>
    where
        C: Default,
    {
        self.start_with(input, &C::default())
    }

    /// The same, beginning with `context`.
    pub fn start_with(&self, input: I, context: &C) -> RunHandle<O, C> {
        RunHandle::new(self.prepare(input, context))
    }

    /// A handle to the run of this name. With a [store](FlujoBuilder::store), one that is there already goes on where it is,
    /// and one that has ended gives its result: nothing of it runs again, whatever `input` is.
    ///
    /// The run fails as [`RunError::Durable`] when another process has it, when the pipeline is another one, or when the
    /// store can't be used.
    pub fn start_named(&self, id: impl Into<Arc<str>>, input: I) -> RunHandle<O, C>
    where
        C: Default,
    {
        self.go_on(|runner| {
            let fields = fields(&C::default())?;
            Ok(runner.run_named(id, wrap(input, self.input_codec), fields))
        })
    }

    /// A handle to the run of this name in the store: it goes on where it is, waits as it did for answers, or gives its
    /// result. Fails as [`start_named`](Self::start_named) does.
    pub fn stored(&self, id: impl Into<Arc<str>>) -> RunHandle<O, C> {
        self.go_on(|runner| Ok(runner.stored(id)))
    }

    /// Goes on with a paused run by the answer to its one open question. Nothing that has ended runs again, and time has
    /// stood still since the pause. When the answer isn't taken, the run pauses again and the pause says why.
    ///
    /// The run fails as [`RunError::Invalid`] when the answer can't be given, and stays paused: see
    /// [`ResumeError`](crate::ResumeError).
    pub fn resume<A: Serialize>(&self, paused: &PausedRun, answer: A) -> RunHandle<O, C> {
        self.go_on(|runner| {
            let answer = to_value(&answer).map_err(InvalidRun::Answer)?;
            Ok(runner.resume(paused, answer)?)
        })
    }

    /// The same with answers by the ids of their questions, any number of them. Questions whose time is up go on with
    /// their default.
    pub fn resume_with<P, A>(
        &self,
        paused: &PausedRun,
        answers: impl IntoIterator<Item = (P, A)>,
    ) -> RunHandle<O, C>
    where
        P: Into<String>,
        A: Serialize,
    {
        self.go_on(|runner| {
            let answers = answers
                .into_iter()
                .map(|(id, answer)| Ok((id, to_value(&answer).map_err(InvalidRun::Answer)?)));
            let answers: Vec<_> = answers.collect::<Result<_, InvalidRun>>()?;
            Ok(runner.resume_with(paused, answers)?)
        })
    }

    /// Goes on with a run that a limit stopped, or that was cancelled ([`RunError::stopped`]): with its limits raised to
    /// `limits` or, without any, with the runner's own. What had ended is not run again, and what was used counts as
    /// before; what was under way is done again.
    ///
    /// ```
    /// use flujo::{Flujo, RunError, UsageLimits, step};
    /// # async fn example(flujo: Flujo<String, String>) -> Result<(), RunError> {
    /// let run = match flujo.run("a long text".into()).await {
    ///     Err(error) => match error.stopped() {
    ///         Some(stopped) => {
    ///             let limits = UsageLimits { tokens: Some(200_000), ..UsageLimits::default() };
    ///             flujo.resume_stopped(stopped, Some(limits)).await?
    ///         }
    ///         None => return Err(error),
    ///     },
    ///     Ok(run) => run,
    /// };
    /// # drop(run); Ok(())
    /// # }
    /// ```
    ///
    /// The run fails as [`RunError::Invalid`] when it can't go on: see [`ResumeError`](crate::ResumeError).
    pub fn resume_stopped(&self, stopped: &StoppedRun, limits: Option<UsageLimits>) -> RunHandle<O, C> {
        self.go_on(|runner| Ok(runner.resume_stopped(stopped, limits)?))
    }

    /// Ends a paused run as cancelled.
    pub fn cancel(&self, paused: &PausedRun) -> RunHandle<O, C> {
        self.go_on(|runner| Ok(runner.cancel(paused)?))
    }

    pub(crate) fn untyped(&self) -> Result<&Runner, InvalidRun> {
        self.runner.as_ref().map_err(|error| error.clone().into())
    }

    pub(crate) fn input_codec(&self) -> Option<&'static TypeCodec> {
        self.input_codec
    }

    pub(crate) fn go_on(
        &self,
        resume: impl FnOnce(&Runner) -> Result<flujo_tokio::Run, InvalidRun>,
    ) -> RunHandle<O, C> {
        let runner = self.runner.as_ref().map_err(|error| error.clone().into());
        RunHandle::new(runner.and_then(resume))
    }

    fn prepare(&self, input: I, context: &C) -> Result<flujo_tokio::Run, InvalidRun> {
        let runner = self.runner.as_ref().map_err(Clone::clone)?;
        Ok(runner.run(wrap(input, self.input_codec), fields(context)?))
    }

    /// What the runs so far used and how long they took. `None` when the pipeline can't run.
    pub fn performance_statistics(&self) -> Option<PerformanceStatistics> {
        self.runner.as_ref().ok().map(Runner::performance_statistics)
    }

    /// Starts counting anew, and no threshold counts as crossed.
    pub fn reset_performance_statistics(&self) {
        if let Ok(runner) = &self.runner {
            runner.reset_performance_statistics();
        }
    }

    /// Turns the optimised parts on. Runs under way keep what they have.
    pub fn enable_optimizations(&self) {
        if let Ok(runner) = &self.runner {
            runner.enable_optimizations();
        }
    }

    /// Turns the optimised parts off; results stay the same. Runs under way keep what they have.
    pub fn disable_optimizations(&self) {
        if let Ok(runner) = &self.runner {
            runner.disable_optimizations();
        }
    }

    /// Makes the optimised form of a part fail in runs that start from now on, as a drill: to see that alerts arrive, and
    /// that runs go on with the plain form.
    ///
    /// ```
    /// use flujo::{BoxError, Flujo, Part, step};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let flujo = Flujo::new(step("double", |n: u32| async move { Ok::<_, BoxError>(n * 2) }));
    /// flujo.begin_drill(Part::Pool);
    /// assert_eq!(flujo.run(21).await?.output, 42);
    /// let alerts = flujo.performance_statistics().map(|statistics| statistics.alerts);
    /// assert!(alerts.is_some_and(|alerts| alerts[0].part == Part::Pool));
    /// # Ok(()) }
    /// ```
    pub fn begin_drill(&self, part: Part) {
        if let Ok(runner) = &self.runner {
            runner.begin_drill(part);
        }
    }

    /// Ends a drill for runs that start from now on.
    pub fn end_drill(&self, part: Part) {
        if let Ok(runner) = &self.runner {
            runner.end_drill(part);
        }
    }
}

pub(crate) fn fields<C: Context>(context: &C) -> Result<Fields, InvalidRun> {
    let mut fields = Fields::new();
    context.store(&mut fields)?;
    Ok(fields)
}

impl<I: Payload, O: Payload, C: Context> FlujoBuilder<I, O, C> {
    pub(crate) fn with(mut self, configure: impl FnOnce(RunnerBuilder) -> RunnerBuilder) -> Self {
        self.runner = configure(self.runner);
        self
    }

    /// The pipeline's name, for records and messages; `pipeline` without this.
    #[must_use]
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|runner| runner.name(name))
    }

    /// Where the results of cached steps are kept; several pipelines may share it. Without this there is a cache of this
    /// pipeline's own, of the size and for the time that the optimization config says.
    #[must_use]
    pub fn cache(self, cache: &Cache) -> Self {
        self.with(|runner| runner.cache(cache))
    }

    /// What stands for a resource in the keys of cached steps, such as the version of what it gives. A step whose scope
    /// names `resources.<name>` depends on it, and so does one whose scope is found out.
    #[must_use]
    pub fn fingerprint(self, name: impl Into<Arc<str>>, fingerprint: impl Into<Arc<str>>) -> Self {
        self.with(|runner| runner.fingerprint(name, fingerprint))
    }

    /// The most that one run may use; nothing is limited without this.
    #[must_use]
    pub fn usage_limits(self, limits: UsageLimits) -> Self {
        self.with(|runner| runner.usage_limits(limits))
    }

    /// A limit on how often agents are called, for every step; several may hold at once. What has the same name shares it,
    /// in other runners of the process too.
    #[must_use]
    pub fn rate_limit(self, limit: RateLimit) -> Self {
        self.with(|runner| runner.rate_limit(limit))
    }

    /// The longest time one run may take.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|runner| runner.deadline(deadline))
    }

    /// An object for the steps, found by its type with [`Scope::resources`](crate::Scope::resources).
    #[must_use]
    pub fn resource<R: Send + Sync + 'static>(self, resource: R) -> Self {
        self.with(|runner| runner.resource(resource))
    }

    /// How many events may be unread before the run waits, at least 1; 64 without this.
    #[must_use]
    pub fn event_buffer(self, events: usize) -> Self {
        self.with(|runner| runner.event_buffer(events))
    }

    /// Where runs are kept, so that they outlive the process; they aren't without this. What happens in a run is written
    /// there before the next step begins, or as [`durability`](Self::durability) says: no step whose end is written runs
    /// again, and one that was under way runs again with the same
    /// [idempotency key](crate::Place::idempotency_key). What passes between steps must be savable: see
    /// [`Step::durable`](crate::Step::durable).
    ///
    /// ```
    /// use flujo::store::Memory;
    /// use flujo::{BoxError, Flujo, step};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let double = step("double", |n: u32| async move { Ok::<_, BoxError>(n * 2) }).durable();
    /// let flujo = Flujo::builder(double).store(Memory::new()).build()?;
    /// assert_eq!(flujo.start_named("order 7", 21).await?.output, 42);
    /// assert_eq!(flujo.stored("order 7").await?.output, 42); // nothing ran
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn store(self, store: impl RunStore) -> Self {
        self.shared_store(Arc::new(store))
    }

    /// The same with a store that others use, too.
    #[must_use]
    pub fn shared_store(self, store: Arc<dyn RunStore>) -> Self {
        self.with(|runner| runner.store(store))
    }

    /// When what happened must be in the store: before the next step begins, without this.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        self.with(|runner| runner.durability(durability))
    }

    /// How long other processes wait before they take over what this one was running when it died; 10 seconds without
    /// this, shown every 3 that it is alive.
    #[must_use]
    pub fn lease(self, lease: Lease) -> Self {
        self.with(|runner| runner.lease(lease))
    }

    /// Whether optimised parts are used at all; they are without this. Results are the same.
    #[must_use]
    pub fn optimizations(self, enabled: bool) -> Self {
        self.with(|runner| runner.optimizations(enabled))
    }

    /// Which optimised parts are used, and their sizes and thresholds.
    #[must_use]
    pub fn optimization_config(self, config: OptimizationConfig) -> Self {
        self.with(|runner| runner.optimization_config(config))
    }

    /// Where the spans of runs go, usually to an observer of `flujo::observe` (feature `observe`); none are recorded without
    /// this.
    #[must_use]
    pub fn telemetry(self, queue: impl Into<Arc<SpanQueue>>) -> Self {
        self.with(|runner| runner.telemetry(queue))
    }

    /// Is told of each alert: a threshold that was crossed, once per crossing, or a part that gave way to its plain twin.
    /// It is called in a thread of its own; when it panics or hangs, that is counted and harms no run.
    ///
    /// ```
    /// # use flujo::{BoxError, Flujo, OptimizationConfig, step};
    /// # fn main() -> Result<(), BoxError> {
    /// let p = step("count", |n: u32| async move { Ok::<_, BoxError>(n + 1) });
    /// let flujo = Flujo::builder(p)
    ///     .optimization_config(OptimizationConfig { execution_time_threshold: 0.5, ..OptimizationConfig::default() })
    ///     .on_alert(|alert| eprintln!("{}", alert.message))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn on_alert(self, callback: impl Fn(&Alert) + Send + Sync + 'static) -> Self {
        self.with(|runner| runner.on_alert(callback))
    }

    /// The runner.
    ///
    /// # Errors
    /// [`BuildError`] says which part of the pipeline can't run, or which field of a config is wrong, and the cure.
    pub fn build(self) -> Result<Flujo<I, O, C>, BuildError> {
        Ok(Flujo {
            runner: Ok(self.runner.codecs(codecs()).build()?),
            input_codec: self.input_codec,
            types: PhantomData,
        })
    }
}
