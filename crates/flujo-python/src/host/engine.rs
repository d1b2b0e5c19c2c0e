//! One runner's engine: its plan, its hooks and limits, its statistics. Runs share it.

mod planned;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flujo_agents::Prices;
use flujo_core::analysis::Analyses;
use flujo_core::config::{Drills, OptimizationConfig, Part, Twin, TwinInUse, Twins};
use flujo_core::machine::{Outcome, Stop};
use flujo_core::monitor::Watch;
use flujo_core::rate::{RateLimit, StepRates};
use flujo_core::stats::{PartStatistics, Statistics, StepSlot};
use flujo_core::usage::UsageLimits;
use flujo_tokio::Memory;
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::{PyDict, PyString};

use super::counts::{CachedCounts, ContextCounts};
use super::domain::Finish;
use super::hooks::Hook;
use super::keeping::{Keeping, KeptRuns};
use super::parked::Wake;
use super::paused::{Answers, PausedRun, PausedRuns};
use super::planning::{CompiledPlan, PlanWithSteps};
use super::player::Player;
use super::recorded::RecordedRun;
use super::run::{AfterStop, Resumption, Run};
use crate::config::PyOptimizationConfig;
use crate::rates::PyRateLimit;
use crate::statistics::{ReadTimes, statistics_to_dict};
use crate::store::awaited_as;
use crate::telemetry::{Exporting, OptimizedTelemetry};

const NOT_POOLED: &str = "this host pools nothing: what its steps allocate are Python's objects, which have an allocator of \
    their own";

/// What belongs to one runner.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Engine {
    inner: Arc<EngineInner>,
}

pub(crate) struct EngineInner {
    compile: Py<PyAny>,
    pub(super) make_context: Option<Py<PyAny>>,
    pub(super) resources: Option<Py<PyAny>>,
    pub(super) workers: Py<PyAny>,
    /// Who is told of runs that have an id.
    pub(super) runs: Py<PyAny>,
    /// How long a call that was cancelled may take to end.
    pub(super) grace: Duration,
    pub(super) hooks: Vec<Hook>,
    pub(super) limits: UsageLimits,
    /// What models cost whose calls don't say it.
    pub(super) prices: Prices,
    /// Limits on how often agents are called, that hold for every step.
    pub(super) rates: Vec<RateLimit>,
    pub(super) deadline: Option<Duration>,
    pub(super) statistics: Statistics,
    read: ReadTimes,
    pub(crate) contexts: ContextCounts,
    pub(crate) paused: PausedRuns,
    pub(super) watch: Watch,
    /// Tells the runner's callback of alerts.
    pub(super) on_alert: Option<Py<PyAny>>,
    pub(super) memory: Memory,
    pub(super) config: Arc<OptimizationConfig>,
    optimized: AtomicBool,
    drills: Drills,
    traces: AtomicBool,
    pub(super) telemetry: Option<Arc<Exporting>>,
    /// Where the runs of this plan are counted for metrics.
    counted: Mutex<Option<Counted>>,
    analyses: Analyses<Planned>,
    pub(super) cached: CachedCounts,
    /// Where its runs are kept.
    pub(super) keeping: Option<Arc<Keeping>>,
    /// Compiles another version of the pipeline, for runs that began with it.
    pub(super) versions: Option<Py<PyAny>>,
    /// Is told of runs that began with another pipeline.
    pub(super) migrate: Option<Py<PyAny>>,
    /// What its run plays again, in place of calls.
    pub(super) player: Option<Arc<Player>>,
    /// Tells the runner apart from all others of the process.
    pub(super) number: u64,
}

struct Counted {
    plan: Arc<PlanWithSteps>,
    counts: Arc<Statistics>,
    slots: Arc<[StepSlot]>,
}

#[derive(Clone)]
pub(super) struct Planned {
    pub(super) plan: Arc<PlanWithSteps>,
    pub(super) slots: Arc<[StepSlot]>,
    /// How often agents may be called, in the system's time.
    pub(super) rates: Option<Arc<StepRates>>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (compile, *, workers, runs, cancel_grace_s=5.0, make_context=None, resources=None, hooks=vec![], cost_limit=None,
        token_limit=None, request_limit=None, rate_limits=vec![], deadline_s=None, config=None, optimized=true, traces=true,
        telemetry=None, on_alert=None, keeping=None, versions=None, migrate=None, player=None))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn new(
        py: Python<'_>,
        compile: Py<PyAny>,
        workers: Py<PyAny>,
        runs: Py<PyAny>,
        cancel_grace_s: f64,
        make_context: Option<Py<PyAny>>,
        resources: Option<Py<PyAny>>,
        hooks: Vec<(Py<PyAny>, u8)>,
        cost_limit: Option<Bound<'_, PyAny>>,
        token_limit: Option<u64>,
        request_limit: Option<u64>,
        rate_limits: Vec<Bound<'_, PyRateLimit>>,
        deadline_s: Option<f64>,
        config: Option<Bound<'_, PyOptimizationConfig>>,
        optimized: bool,
        traces: bool,
        telemetry: Option<Bound<'_, OptimizedTelemetry>>,
        on_alert: Option<Py<PyAny>>,
        keeping: Option<Bound<'_, KeptRuns>>,
        versions: Option<Py<PyAny>>,
        migrate: Option<Py<PyAny>>,
        player: Option<Bound<'_, RecordedRun>>,
    ) -> PyResult<Self> {
        let cost = cost_limit.map(|cost| super::usage::money(&cost)).transpose()?;
        let config = config.map_or_else(OptimizationConfig::default, |config| {
            config.get().config().clone()
        });
        Ok(Self {
            inner: Arc::new(EngineInner {
                compile,
                make_context,
                resources,
                workers,
                runs,
                grace: Duration::try_from_secs_f64(cancel_grace_s).unwrap_or(Duration::MAX),
                hooks: hooks
                    .into_iter()
                    .map(|(function, points)| Hook { function, points })
                    .collect(),
                limits: UsageLimits {
                    cost,
                    tokens: token_limit,
                    requests: request_limit,
                },
                prices: crate::prices::here(py)?,
                rates: rate_limits.iter().map(|rate| rate.get().limit.clone()).collect(),
                deadline: deadline_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                statistics: Statistics::default(),
                read: ReadTimes::default(),
                contexts: ContextCounts::default(),
                paused: PausedRuns::default(),
                watch: Watch::default(),
                on_alert,
                memory: Memory::at_start(),
                config: Arc::new(config),
                optimized: AtomicBool::new(optimized),
                drills: Drills::default(),
                traces: AtomicBool::new(traces),
                telemetry: telemetry.map(|telemetry| Arc::clone(&telemetry.get().exporting)),
                counted: Mutex::default(),
                analyses: Analyses::new(|one, other| Arc::ptr_eq(&one.plan, &other.plan)),
                cached: CachedCounts::default(),
                keeping: keeping.map(|keeping| Arc::clone(&keeping.get().keeping)),
                versions,
                migrate,
                player: player.map(|recorded| Arc::clone(&recorded.get().player)),
                number: super::cached::next_identity(),
            }),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A run under way shares the engine and keeps it alive anyway.
        if Arc::strong_count(&self.inner) > 1 {
            return Ok(());
        }
        visit.call(&self.inner.compile)?;
        visit.call(&self.inner.runs)?;
        self.inner.paused.tell(&visit)?;
        let inner = &self.inner;
        for object in [
            &inner.make_context,
            &inner.resources,
            &inner.on_alert,
            &inner.versions,
            &inner.migrate,
        ]
        .into_iter()
        .flatten()
        {
            visit.call(object)?;
        }
        self.inner
            .hooks
            .iter()
            .try_for_each(|hook| visit.call(&hook.function))
    }

    /// A run of the pipeline, as a coroutine.
    #[pyo3(signature = (input, run_id=None, initial_context_data=None, traceparent=None))]
    fn run(
        &self,
        input: Py<PyAny>,
        run_id: Option<Py<PyAny>>,
        initial_context_data: Option<Py<PyAny>>,
        traceparent: Option<Py<PyString>>,
    ) -> Run {
        let engine = Arc::clone(&self.inner);
        Run::new(engine, input, run_id, initial_context_data, traceparent)
    }

    /// A run that is in the store, as a coroutine: it goes on, or gives its result.
    #[pyo3(signature = (run_id, traceparent=None))]
    fn stored(&self, run_id: Py<PyString>, traceparent: Option<Py<PyString>>) -> Run {
        Run::stored(Arc::clone(&self.inner), run_id, traceparent)
    }

    /// A future of the loop: when it is done another run is in the store, which begins with what a run was when one of its
    /// steps began.
    #[pyo3(signature = (run_id, step, iteration, new_id, *, event_loop))]
    fn fork(
        &self,
        run_id: &str,
        step: &str,
        iteration: Option<u32>,
        new_id: &str,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let py = event_loop.py();
        let Some(keeping) = &self.inner.keeping else {
            return Err(PyRuntimeError::new_err("the runner keeps no runs"));
        };
        let plan = self.inner.current_plan(py)?.plan;
        let migrate = self.inner.migrate.as_ref().map(|hook| hook.clone_ref(py));
        let forked = keeping.fork(
            (run_id.into(), step.into(), iteration),
            new_id.into(),
            &plan,
            migrate,
        );
        let mut forked = Box::pin(forked);
        // What the run is made of is Python's.
        let forked = poll_fn(move |poller| Python::attach(|_| forked.as_mut().poll(poller)));
        let keeping = Arc::clone(keeping);
        awaited_as(event_loop, forked, move |py, forked| match forked {
            Ok(()) => Ok(py.None().into_bound(py)),
            Err(error) => Err(keeping.error(py, &error)),
        })
    }

    /// A paused run going on, as a coroutine: with answers by pause, and with the pauses that nobody answered in time.
    #[pyo3(signature = (paused, answers, expired=vec![], *, cancel=false, traceparent=None))]
    fn resume(
        &self,
        paused: Py<PausedRun>,
        answers: Vec<(String, Py<PyAny>)>,
        expired: Vec<String>,
        cancel: bool,
        traceparent: Option<Py<PyString>>,
    ) -> Run {
        let answered = answers.into_iter().map(|(id, answer)| (id, Wake::Answer(answer)));
        let expired = expired.into_iter().map(|id| (id, Wake::Expired));
        Run::resuming(Resumption {
            engine: Arc::clone(&self.inner),
            paused,
            answers: Answers {
                wakes: answered.chain(expired).collect(),
                cancel,
            },
            stop: None,
            listener: None,
            traceparent,
        })
    }

    /// A run that was stopped, going on with these limits or, without any, with the runner's own.
    #[pyo3(signature = (stopped, limits=None, traceparent=None))]
    fn resume_stopped(
        &self,
        stopped: Py<PausedRun>,
        limits: Option<(Bound<'_, PyAny>, Option<u64>, Option<u64>)>,
        traceparent: Option<Py<PyString>>,
    ) -> PyResult<Run> {
        let raised = limits.map(|(cost, tokens, requests)| {
            Ok::<_, PyErr>(UsageLimits {
                cost: (!cost.is_none())
                    .then(|| super::usage::money(&cost))
                    .transpose()?,
                tokens,
                requests,
            })
        });
        let raised = raised.transpose()?;
        Ok(Run::resuming(Resumption {
            engine: Arc::clone(&self.inner),
            paused: stopped,
            answers: Answers {
                wakes: Vec::new(),
                cancel: false,
            },
            stop: Some(AfterStop { raised }),
            listener: None,
            traceparent,
        }))
    }

    /// The paused run with this id; None where there is none, or nobody has held it.
    fn paused<'py>(&self, py: Python<'py>, run_id: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.paused.find(py, run_id)
    }

    /// Lets go of one that somebody else has gone on with.
    fn forget(&self, paused: &Bound<'_, PausedRun>) -> PyResult<()> {
        self.inner.paused.forget(paused)
    }

    /// Lets go of the paused runs that were kept for their ids.
    fn forget_paused(&self, py: Python<'_>) {
        self.inner.paused.clear(py);
    }

    /// The plan as it is now.
    fn plan(&self, py: Python<'_>) -> PyResult<CompiledPlan> {
        Ok(CompiledPlan {
            inner: self.inner.current_plan(py)?.plan,
        })
    }

    /// Uses the optimised or the plain parts for runs that start from now on.
    fn switch(&self, optimized: bool) {
        self.inner.optimized.store(optimized, Ordering::Relaxed);
    }

    /// Leaves no spans of runs that start from now on.
    fn disable_tracing(&self) {
        self.inner.traces.store(false, Ordering::Relaxed);
    }

    fn is_optimized(&self) -> bool {
        self.inner.optimized.load(Ordering::Relaxed)
    }

    /// The dictionary of `get_performance_statistics()`.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = self.inner.statistics.snapshot(self.inner.parts(py)?);
        statistics_to_dict(py, &snapshot, &self.inner.read)
    }

    /// Counts everything anew: runs and steps, contexts, analyses.
    fn reset_statistics(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.statistics.reset();
        self.inner.watch.reset();
        self.inner.contexts.reset();
        self.inner.analyses.reset();
        self.inner.cached.hits.store(0, Ordering::Relaxed);
        self.inner.cached.misses.store(0, Ordering::Relaxed);
        match &self.inner.on_alert {
            Some(teller) => teller.bind(py).call_method0(intern!(py, "reset")).map(drop),
            None => Ok(()),
        }
    }

    /// Takes in that an optimised part that lives outside has failed and its plain form stands in for it.
    fn report_degraded(&self, py: Python<'_>, part: &str, reason: &str) -> PyResult<()> {
        self.inner.degraded(py, part_named(part)?, reason)
    }

    /// Takes in that it works again.
    fn report_recovered(&self, part: &str) -> PyResult<()> {
        self.inner.watch.alerts().recovered(part_named(part)?);
        Ok(())
    }

    /// Makes the optimised form of a part fail in runs that start from now on, as a drill.
    fn begin_drill(&self, part: &str) -> PyResult<()> {
        let part = part_named(part)?;
        if part == Part::Pool {
            return Err(PyValueError::new_err(format!(
                "there is nothing to fail in the part \"pool\" on asyncio: {NOT_POOLED}"
            )));
        }
        self.inner.drills.begin(part);
        Ok(())
    }

    /// Ends it for runs that start from now on.
    fn end_drill(&self, part: &str) -> PyResult<()> {
        self.inner.drills.end(part_named(part)?);
        Ok(())
    }
}

impl EngineInner {
    /// What the runner's switch says now.
    fn switch(&self) -> Twin {
        if self.optimized.load(Ordering::Relaxed) {
            Twin::Optimized
        } else {
            Twin::Plain
        }
    }

    /// Whether runs that start now leave spans, where somebody takes them.
    pub(super) fn traces(&self) -> bool {
        self.traces.load(Ordering::Relaxed)
    }

    /// Where runs of a plan are counted for metrics, and its steps there; None where nobody reads metrics.
    pub(super) fn counts_of(&self, plan: &Arc<PlanWithSteps>) -> Option<(Arc<Statistics>, Arc<[StepSlot]>)> {
        let telemetry = self.telemetry.as_ref()?;
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = counted.as_ref().filter(|known| Arc::ptr_eq(&known.plan, plan)) {
            return Some((Arc::clone(&known.counts), Arc::clone(&known.slots)));
        }
        let counts = telemetry.counts_of(plan.plan.name())?;
        let slots = planned::slots_in(&counts, plan);
        *counted = Some(Counted {
            plan: Arc::clone(plan),
            counts: Arc::clone(&counts),
            slots: Arc::clone(&slots),
        });
        Some((counts, slots))
    }

    /// What a run would use that starts now, as far as the pipeline is known.
    pub(super) fn in_use(&self) -> (Twins, Arc<OptimizationConfig>) {
        let known = self.analyses.known();
        let own = known.and_then(|planned| planned.plan.plan.optimization().cloned());
        let config = own.unwrap_or_else(|| Arc::clone(&self.config));
        (Twins::decide(self.switch(), &config), config)
    }

    fn parts(&self, py: Python<'_>) -> PyResult<PartStatistics> {
        let memory = self.measure_memory(py)?;
        let mut in_use = self.in_use().1.in_use(self.switch());
        // Whatever the switches say.
        let (twin, reason) = (Twin::Plain, NOT_POOLED.into());
        in_use.insert(Part::Pool, TwinInUse { twin, reason });
        let alerts = self.watch.alerts();
        alerts.correct(&mut in_use);
        let mut parts = PartStatistics {
            optimizations: in_use,
            memory,
            alerts: alerts.kept(),
            alert_counts: self.alert_counts(py)?,
            ..PartStatistics::default()
        };
        parts.cache_hits = self.cached.hits.load(Ordering::Relaxed);
        parts.cache_misses = self.cached.misses.load(Ordering::Relaxed);
        parts.context.forks = self.contexts.forks.load(Ordering::Relaxed);
        let clones = &self.contexts.clones;
        parts.context.fields_cloned = clones.fields.load(Ordering::Relaxed);
        parts.context.bytes_cloned = clones.bytes.load(Ordering::Relaxed);
        parts.context.merges = self.contexts.merges.load(Ordering::Relaxed);
        parts.context.conflicts = self.contexts.conflicts.load(Ordering::Relaxed);
        parts.analysis = self.analyses.statistics();
        if let Some(telemetry) = &self.telemetry {
            parts.telemetry = telemetry.statistics();
        }
        Ok(parts)
    }
}

fn part_named(name: &str) -> PyResult<Part> {
    let part = Part::ALL.into_iter().find(|part| part.name() == name);
    part.ok_or_else(|| {
        let known = Part::ALL.map(Part::name).join(", ");
        PyValueError::new_err(format!("there is no part {name:?}; the parts are {known}"))
    })
}

/// Whether a run was stopped because somebody cancelled it.
pub(crate) fn was_cancelled(finish: &Finish) -> bool {
    matches!(finish.outcome, Outcome::Stopped(Stop::Cancelled))
}
