//! A compiled pipeline with everything its runs share: limits, resources, statistics.

mod builder;
mod durable;
mod watching;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use builder::RunnerBuilder;
use flujo_core::analysis::Analyses;
use flujo_core::config::{Drills, OptimizationConfig, OptimizationConfigError, Part, Twin, Twins};
use flujo_core::context::{Context, MergeRules};
use flujo_core::machine::{Finish, Outcome, Record, Status, Stop, Time};
use flujo_core::monitor::Watch;
use flujo_core::pipeline::CompileError;
use flujo_core::plan::Plan;
use flujo_core::rate::{RateLimitError, StepRates};
use flujo_core::stats::{PartStatistics, PerformanceStatistics, RunFacts, Statistics, StepFact};
use flujo_core::store::WallTime;
use flujo_core::usage::{Usage, UsageLimits, UsageMeter};
use flujo_core::value::Value;
use flujo_store::runs::Clock;
pub use worker::{Recovered, Worker};

use crate::agents::Agents;
use crate::alarm::{Alarm, now};
use crate::analysis::Analysed;
use crate::cache::{Caches, Finds};
use crate::contexts::ContextCounts;
use crate::domain::Tokio;
use crate::memory::{Memory, Sampled};
use crate::pools::RunnerPools;
use crate::records::Records;
use crate::run::{Answers, Keeping, PausedRun, ResumeError, Run, StoppedRun};
use crate::scope::Resources;
use crate::telemetry::Telemetries;
use crate::{Handler, Pipeline};

/// A pipeline that a runner has doesn't change.
const VERSION: u64 = 0;

/// Why a runner could not be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// The pipeline cannot run.
    #[error(transparent)]
    Pipeline(#[from] CompileError),
    /// The optimization config holds what it must not.
    #[error(transparent)]
    Optimization(#[from] OptimizationConfigError),
    /// A runner with a store has steps that give objects which can't be saved.
    #[error("a run can't be kept in a store while what its steps give can't be saved: {}", .steps.join(", "))]
    NotDurable {
        /// The steps, by their paths.
        steps: Vec<String>,
    },
    /// A rate limit cannot be kept, or is defined differently elsewhere.
    #[error(transparent)]
    Rate(#[from] RateLimitError),
}

/// Runs one pipeline, any number of times at once. Cloning shares it.
#[derive(Clone)]
pub struct Runner(Arc<Running>);

/// What the runs of a runner share.
pub(crate) struct Running {
    pipeline: Pipeline,
    name: Arc<str>,
    analyses: Analyses<Arc<Analysed>>,
    /// As it was analysed when the runner was made.
    pub(crate) analysed: Arc<Analysed>,
    pub(crate) limits: UsageLimits,
    pub(crate) rates: Option<StepRates>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) resources: Arc<Resources>,
    pub(crate) event_buffer: usize,
    rules: Option<Arc<MergeRules>>,
    statistics: Statistics,
    pub(crate) contexts: ContextCounts,
    pub(crate) pools: RunnerPools,
    /// The pipeline's own, or the runner's.
    config: Arc<OptimizationConfig>,
    /// What the config says while optimisations are on.
    twins: Twins,
    optimized: AtomicBool,
    drills: Drills,
    watch: Arc<Watch>,
    alarm: Alarm,
    memory: Memory,
    /// When somebody listens to spans.
    pub(crate) telemetries: Option<Telemetries>,
    pub(crate) caches: Caches,
    /// What cached steps find in their place.
    pub(crate) finds: Option<Arc<Finds>>,
    clock: Clock,
    /// What plugins may ask for beside the agents of steps.
    pub(crate) agents: Agents,
    /// When runs are kept in a store.
    pub(crate) keeping: Option<Arc<Keeping>>,
}

impl Runner {
    /// A runner for `pipeline`.
    pub fn builder(pipeline: impl Into<Pipeline>) -> RunnerBuilder {
        RunnerBuilder::new(pipeline.into())
    }

    /// A run on `input` that begins when it is first polled. `context` is not changed; the run has its own.
    pub fn run(&self, input: Value, context: Context) -> Run {
        let context = match &self.0.rules {
            Some(rules) => context.with_rules(Arc::clone(rules)),
            None => context,
        };
        Run::new(Arc::clone(&self.0), input, context)
    }

    /// The run of this name, which begins when it is first polled. With a store, a run of the name that is there already
    /// goes on where it is, and one that has ended gives its result: nothing of it runs again, whatever `input` is.
    pub fn run_named(&self, id: impl Into<Arc<str>>, input: Value, context: Context) -> Run {
        let context = match &self.0.rules {
            Some(rules) => context.with_rules(Arc::clone(rules)),
            None => context,
        };
        Run::named(Arc::clone(&self.0), id.into(), Some((input, context)))
    }

    /// The run of this name in the store: it goes on where it is, waits as it did for answers, or gives its result.
    pub fn stored(&self, id: impl Into<Arc<str>>) -> Run {
        Run::named(Arc::clone(&self.0), id.into(), None)
    }

    /// Goes on with a paused run by the answer to its one open question. The answer's run begins when it is first
    /// polled; nothing that has ended runs again, and time has stood still since the pause. When the answer is not taken,
    /// it pauses again, and the pause says why.
    ///
    /// # Errors
    /// [`ResumeError`] when the answer cannot be given; the run stays paused.
    pub fn resume(&self, paused: &PausedRun, answer: Value) -> Result<Run, ResumeError> {
        Run::resume(Arc::clone(&self.0), paused, Answers::Bare(answer))
    }

    /// The same with answers by the ids of their questions, any number of them. Questions whose time is up go on with
    /// their default.
    ///
    /// # Errors
    /// [`ResumeError`] when an answer cannot be given; the run stays paused, and no other answer is given either.
    pub fn resume_with<I: Into<String>>(
        &self,
        paused: &PausedRun,
        answers: impl IntoIterator<Item = (I, Value)>,
    ) -> Result<Run, ResumeError> {
        let answers = answers.into_iter().map(|(id, answer)| (id.into(), answer));
        Run::resume(Arc::clone(&self.0), paused, Answers::To(answers.collect()))
    }

    /// Goes on with a run that was stopped, with its limits raised to `limits` or, without any, with the runner's own. What
    /// had ended is not run again, and what was used counts as before; what was under way is done again.
    ///
    /// ```
    /// # use flujo_core::usage::UsageLimits;
    /// # use flujo_tokio::{Done, ResumeError, Runner};
    /// async fn with_more(runner: &Runner, done: Done) -> Result<Done, ResumeError> {
    ///     let Some(stopped) = &done.stopped else { return Ok(done) };
    ///     let limits = UsageLimits { tokens: Some(200_000), ..UsageLimits::default() };
    ///     Ok(runner.resume_stopped(stopped, Some(limits))?.await)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ResumeError`] when the run was resumed already, belongs to another runner, or has used more than `limits` allow.
    pub fn resume_stopped(
        &self,
        stopped: &StoppedRun,
        limits: Option<UsageLimits>,
    ) -> Result<Run, ResumeError> {
        Run::resume_stopped(Arc::clone(&self.0), stopped, limits)
    }

    /// Ends a paused run as cancelled.
    ///
    /// # Errors
    /// [`ResumeError`] when the run is not paused.
    pub fn cancel(&self, paused: &PausedRun) -> Result<Run, ResumeError> {
        Run::resume(Arc::clone(&self.0), paused, Answers::Cancel)
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan<Handler>> {
        &self.0.analysed.plan
    }

    /// Turns the optimised parts on, from any thread.
    pub fn enable_optimizations(&self) {
        self.0.optimized.store(true, Ordering::Relaxed);
    }

    /// Turns the optimised parts off, from any thread. Runs under way keep what they have.
    pub fn disable_optimizations(&self) {
        self.0.optimized.store(false, Ordering::Relaxed);
    }

    /// What the runs so far used and how long they took.
    pub fn performance_statistics(&self) -> PerformanceStatistics {
        let running = &self.0;
        let memory = running.memory.stats();
        running.sampled(memory);
        let alerts = running.watch.alerts();
        let mut optimizations = running.config.in_use(running.switch());
        alerts.correct(&mut optimizations);
        let telemetries = running.telemetries.as_ref();
        let (hits, misses) = running.caches.counts();
        running.statistics.snapshot(PartStatistics {
            cache_hits: hits,
            cache_misses: misses,
            memory,
            pool: running.pools.stats(),
            context: running.contexts.stats(),
            analysis: running.analyses.statistics(),
            alerts: alerts.kept(),
            alert_counts: alerts.statistics(),
            optimizations,
            telemetry: telemetries.map(Telemetries::statistics).unwrap_or_default(),
        })
    }

    /// Takes in that an optimised part which lives outside of the runner, such as a tier of a cache or an exporter, has
    /// failed and its plain form stands in for it. One alert says so; the same is not said again before
    /// [`report_recovered`](Self::report_recovered).
    pub fn report_degraded(&self, part: Part, reason: &str) {
        let _ = self.0.degraded(part, reason);
    }

    /// Takes in that such a part works again.
    pub fn report_recovered(&self, part: Part) {
        self.0.watch.alerts().recovered(part);
    }

    /// Makes the optimised form of a part fail in runs that start from now on, as a drill: to see that alerts arrive, and
    /// that runs go on with the plain form. Those of another part are not concerned.
    pub fn begin_drill(&self, part: Part) {
        self.0.drills.begin(part);
    }

    /// Ends a drill for runs that start from now on.
    pub fn end_drill(&self, part: Part) {
        self.0.drills.end(part);
    }

    /// Starts counting anew, and no threshold counts as crossed.
    pub fn reset_performance_statistics(&self) {
        self.0.statistics.reset();
        self.0.watch.reset();
        self.0.pools.reset();
        self.0.contexts.reset();
        self.0.caches.reset();
        self.0.analyses.reset();
    }
}

impl Running {
    /// The time on the wall.
    pub(crate) fn wall(&self) -> WallTime {
        self.clock.now()
    }

    fn switch(&self) -> Twin {
        if self.optimized.load(Ordering::Relaxed) {
            Twin::Optimized
        } else {
            Twin::Plain
        }
    }

    /// What a run uses that starts now.
    pub(crate) fn twins(&self) -> Twins {
        match self.switch() {
            Twin::Optimized => self.drills.of(self.twins),
            Twin::Plain => Twins::PLAIN,
        }
    }

    /// The analysis that a run with these twins uses.
    pub(crate) fn analysed(&self, twins: Twins) -> Arc<Analysed> {
        let analyse = || Analysed::new(self.pipeline.clone(), Arc::clone(&self.name), &self.statistics);
        let analysed = self.analyses.of(twins.of(Part::Analysis), VERSION, analyse);
        // What could be analysed once can be again.
        analysed.unwrap_or_else(|_| Arc::clone(&self.analysed))
    }

    /// Counts a run that has ended, with the steps of all its lanes.
    /// Counts a run that has ended; of one that goes on after it was stopped what came after that, and what it has used
    /// beyond what had been counted.
    pub(crate) fn record(
        &self,
        finish: &Finish<Tokio>,
        meter: Option<&dyn UsageMeter>,
        (since, counted): (Time, Usage),
    ) {
        let records = &finish.history.records;
        let begun = records
            .iter()
            .map(|record| record.started)
            .min()
            .unwrap_or(0)
            .max(since);
        let ended = records.iter().map(|record| record.ended).max().unwrap_or(0);
        let failed = records.iter().any(|record| record.status == Status::Failed);
        let error = match &finish.outcome {
            Outcome::Completed(_) | Outcome::Stopped(Stop::Cancelled | Stop::Paused | Stop::Aborted(_)) => {
                None
            }
            Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => {
                (!failed).then_some(&*failure.error_type)
            }
            Outcome::Stopped(Stop::LimitExceeded(_)) => Some("UsageLimitExceeded"),
        };
        let facts = RunFacts {
            latency_ns: ended.saturating_sub(begun),
            usage: finish.usage.beyond(counted),
            meter: meter.map(UsageMeter::statistics),
            error,
            ended_at: now(),
        };
        let ended = |record: &&Record<Tokio>| {
            matches!(record.status, Status::Succeeded | Status::Failed)
                && (since == 0 || record.ended > since)
        };
        let steps = Records::of(finish).filter(ended);
        self.statistics.record_run(
            &facts,
            steps.filter_map(|record| {
                Some(StepFact {
                    slot: self.analysed.slot(record.node)?,
                    latency_ns: record.latency(),
                    error: record.failure.as_ref().map(|failure| &*failure.error_type),
                })
            }),
        );
    }
}
