//! One runner's engine: its plan, its hooks and limits, its statistics. Runs share it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::config::{OptimizationConfig, Part, Twin, TwinInUse};
use flujo_core::machine::{Options, Outcome, Status, Stop, Time};
use flujo_core::stats::{PartStatistics, RunFacts, Statistics, StepFact, StepSlot};
use flujo_core::usage::{UsageLimits, UsagePool};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::PyDict;

use super::clock::Clock;
use super::context::ContextCell;
use super::domain::Finish;
use super::hooks::Hook;
use super::memory::Memory;
use super::names;
use super::planning::{CompiledPlan, PlanWithSteps, definition_epoch};
use super::run::Run;
use crate::config::PyOptimizationConfig;
use crate::context::CloneCounts;
use crate::statistics::statistics_to_dict;

/// What belongs to one runner.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Engine {
    inner: Arc<EngineInner>,
}

pub(crate) struct EngineInner {
    compile: Py<PyAny>,
    make_context: Option<Py<PyAny>>,
    resources: Option<Py<PyAny>>,
    workers: Py<PyAny>,
    hooks: Vec<Hook>,
    limits: UsageLimits,
    deadline: Option<Duration>,
    plan: Mutex<Option<Planned>>,
    statistics: Statistics,
    pub(crate) contexts: ContextCounts,
    memory: Memory,
    optimizations: Mutex<Optimizations>,
}

/// How often contexts were isolated and merged.
#[derive(Default)]
pub(crate) struct ContextCounts {
    pub(crate) forks: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    clones: Arc<CloneCounts>,
}

#[derive(Clone)]
struct Planned {
    epoch: u64,
    plan: Arc<PlanWithSteps>,
    slots: Arc<[StepSlot]>,
}

struct Optimizations {
    config: OptimizationConfig,
    runner: Twin,
    analyses: u64,
    reuses: u64,
    invalidations: u64,
}

/// What the lanes of one run share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<EngineInner>,
    pub(crate) plan: Arc<PlanWithSteps>,
    slots: Arc<[StepSlot]>,
    clock: Clock,
    event_loop: Py<PyAny>,
    /// How the tasks of lanes are made, once there are any.
    tasks: OnceLock<Option<Py<PyDict>>>,
    run_id: OnceLock<Py<PyAny>>,
    pub(crate) budget: Option<UsagePool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (compile, *, workers, make_context=None, resources=None, hooks=vec![], cost_limit=None,
        token_limit=None, request_limit=None, deadline_s=None, config=None, optimized=true))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn new(
        compile: Py<PyAny>,
        workers: Py<PyAny>,
        make_context: Option<Py<PyAny>>,
        resources: Option<Py<PyAny>>,
        hooks: Vec<(Py<PyAny>, u8)>,
        cost_limit: Option<Bound<'_, PyAny>>,
        token_limit: Option<u64>,
        request_limit: Option<u64>,
        deadline_s: Option<f64>,
        config: Option<Bound<'_, PyOptimizationConfig>>,
        optimized: bool,
    ) -> PyResult<Self> {
        let cost = cost_limit.map(|cost| super::failure::money(&cost)).transpose()?;
        let config = config.map_or_else(OptimizationConfig::default, |config| {
            config.get().config().clone()
        });
        Ok(Self {
            inner: Arc::new(EngineInner {
                compile,
                make_context,
                resources,
                workers,
                hooks: hooks
                    .into_iter()
                    .map(|(function, points)| Hook { function, points })
                    .collect(),
                limits: UsageLimits {
                    cost,
                    tokens: token_limit,
                    requests: request_limit,
                },
                deadline: deadline_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                plan: Mutex::new(None),
                statistics: Statistics::default(),
                contexts: ContextCounts::default(),
                memory: Memory::at_start(),
                optimizations: Mutex::new(Optimizations {
                    config,
                    runner: if optimized { Twin::Optimized } else { Twin::Plain },
                    analyses: 0,
                    reuses: 0,
                    invalidations: 0,
                }),
            }),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A run under way shares the engine and keeps it alive anyway.
        if Arc::strong_count(&self.inner) > 1 {
            return Ok(());
        }
        visit.call(&self.inner.compile)?;
        for object in [&self.inner.make_context, &self.inner.resources]
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
    #[pyo3(signature = (input, run_id=None, initial_context_data=None))]
    fn run(
        &self,
        input: Py<PyAny>,
        run_id: Option<Py<PyAny>>,
        initial_context_data: Option<Py<PyAny>>,
    ) -> Run {
        Run::new(Arc::clone(&self.inner), input, run_id, initial_context_data)
    }

    /// The plan as it is now.
    fn plan(&self, py: Python<'_>) -> PyResult<CompiledPlan> {
        Ok(CompiledPlan {
            inner: self.inner.current_plan(py)?.plan,
        })
    }

    /// Uses the optimised or the plain parts for runs that start from now on.
    fn switch(&self, optimized: bool) {
        lock(&self.inner.optimizations).runner = if optimized { Twin::Optimized } else { Twin::Plain };
    }

    fn is_optimized(&self) -> bool {
        lock(&self.inner.optimizations).runner == Twin::Optimized
    }

    /// The dictionary of `get_performance_statistics()`.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = self.inner.statistics.snapshot(self.inner.parts());
        statistics_to_dict(py, &snapshot)
    }

    fn reset_statistics(&self) {
        self.inner.statistics.reset();
    }
}

impl EngineInner {
    /// The plan, made anew when a definition has changed since the last look.
    fn current_plan(&self, py: Python<'_>) -> PyResult<Planned> {
        let epoch = definition_epoch();
        let optimized = {
            let optimizations = lock(&self.optimizations);
            optimizations.runner == Twin::Optimized && optimizations.config.enable_step_analysis
        };
        let before = lock(&self.plan).clone();
        if let Some(planned) = before
            .as_ref()
            .filter(|planned| optimized && planned.epoch == epoch)
        {
            lock(&self.optimizations).reuses += 1;
            return Ok(planned.clone());
        }
        // The compiler gives the same plan again when it was another definition that changed.
        let fresh = !optimized;
        let compiled = self
            .compile
            .bind(py)
            .call1((fresh,))?
            .cast_into::<CompiledPlan>()?;
        let plan = Arc::clone(&compiled.get().inner);
        let mut optimizations = lock(&self.optimizations);
        let planned = match before {
            Some(before) if Arc::ptr_eq(&before.plan, &plan) => {
                optimizations.reuses += 1;
                Planned { epoch, ..before }
            }
            before => {
                optimizations.analyses += 1;
                optimizations.invalidations += u64::from(before.is_some() && optimized);
                let names: Vec<Arc<str>> = plan
                    .plan
                    .nodes()
                    .map(|(_, node)| Arc::clone(&node.name))
                    .collect();
                Planned {
                    epoch,
                    slots: Arc::from(self.statistics.slots(&names)),
                    plan,
                }
            }
        };
        *lock(&self.plan) = Some(planned.clone());
        Ok(planned)
    }

    fn parts(&self) -> PartStatistics {
        let optimizations = lock(&self.optimizations);
        let mut in_use = optimizations.config.in_use(optimizations.runner);
        // What this version does not have in two forms yet is named as it is, whatever the switches say.
        for part in [Part::Pool, Part::Telemetry, Part::Monitor, Part::Cache] {
            let reason = "this version has no optimized form of it yet".into();
            in_use.insert(
                part,
                TwinInUse {
                    twin: Twin::Plain,
                    reason,
                },
            );
        }
        for part in [Part::Context, Part::Usage] {
            let reason = "this version has no plain form of it yet".into();
            in_use.insert(
                part,
                TwinInUse {
                    twin: Twin::Optimized,
                    reason,
                },
            );
        }
        let mut parts = PartStatistics {
            optimizations: in_use,
            ..PartStatistics::default()
        };
        parts.memory = self.memory.stats();
        parts.context.forks = self.contexts.forks.load(Ordering::Relaxed);
        let clones = &self.contexts.clones;
        parts.context.fields_cloned = clones.fields.load(Ordering::Relaxed);
        parts.context.bytes_cloned = clones.bytes.load(Ordering::Relaxed);
        parts.context.merges = self.contexts.merges.load(Ordering::Relaxed);
        parts.context.conflicts = self.contexts.conflicts.load(Ordering::Relaxed);
        parts.analysis.analyses = optimizations.analyses;
        parts.analysis.reuses = optimizations.reuses;
        parts.analysis.invalidations = optimizations.invalidations;
        parts
    }
}

impl Shared {
    /// What a run that begins now on the running loop shares.
    pub(crate) fn begin(
        py: Python<'_>,
        engine: &Arc<EngineInner>,
        run_id: Option<Py<PyAny>>,
    ) -> PyResult<Arc<Self>> {
        let event_loop = names::running_loop(py)?.call0().map_err(|_| {
            PyRuntimeError::new_err(
                "a Flujo run needs an asyncio event loop: await it inside asyncio.run(), or use runner.run(); trio's \
                 own loop can't run it",
            )
        })?;
        let Planned { plan, slots, .. } = engine.current_plan(py)?;
        let clock = Clock::of(py, &event_loop)?;
        let budget = (!engine.limits.is_unlimited()).then(|| UsagePool::new(engine.limits));
        Ok(Arc::new(Self {
            engine: Arc::clone(engine),
            plan,
            slots,
            clock,
            event_loop: event_loop.unbind(),
            tasks: OnceLock::new(),
            run_id: run_id.map_or_else(OnceLock::new, OnceLock::from),
            budget,
        }))
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            hooks: !self.engine.hooks.is_empty(),
            limits: self.budget.is_some(),
            notices: false,
            seed: std::ptr::from_ref(self) as u64,
        }
    }

    pub(crate) fn deadline(&self, now: Time) -> Option<Time> {
        let limit = self.engine.deadline?;
        Some(now.saturating_add(Time::try_from(limit.as_nanos()).unwrap_or(Time::MAX)))
    }

    /// The context a run begins with.
    pub(crate) fn context(
        &self,
        py: Python<'_>,
        input: &Py<PyAny>,
        data: Option<Py<PyAny>>,
    ) -> PyResult<Arc<ContextCell>> {
        let counts = &self.engine.contexts.clones;
        let cell = if let Some(make) = &self.engine.make_context {
            ContextCell::counting(&make.bind(py).call1((data, self.run_id.get()))?, counts)?
        } else {
            let run_id = self.run_id.get().map(|run_id| run_id.clone_ref(py));
            ContextCell::default_for(py, input, data, run_id, counts)?
        };
        Ok(Arc::new(cell))
    }

    #[inline]
    pub(crate) fn now(&self, py: Python<'_>) -> Time {
        self.clock.now(py)
    }

    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.event_loop.bind(py)
    }

    /// The keyword arguments of a lane's task, eager where the interpreter knows such tasks; None where the loop's own
    /// factory makes them. It is looked at once a run.
    pub(crate) fn task_arguments<'py>(&self, py: Python<'py>) -> PyResult<Option<&Bound<'py, PyDict>>> {
        if self.tasks.get().is_none() {
            let event_loop = self.event_loop(py);
            let own = event_loop
                .call_method0(intern!(py, "get_task_factory"))?
                .is_none();
            let arguments = PyDict::new(py);
            arguments.set_item(intern!(py, "loop"), event_loop)?;
            if names::eager_tasks(py) {
                arguments.set_item(intern!(py, "eager_start"), true)?;
            }
            let _ = self.tasks.set(own.then(|| arguments.unbind()));
        }
        Ok(self
            .tasks
            .get()
            .and_then(Option::as_ref)
            .map(|arguments| arguments.bind(py)))
    }

    pub(crate) fn resources<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.engine
            .resources
            .as_ref()
            .map(|resources| resources.bind(py).clone())
    }

    pub(crate) fn workers<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.engine.workers.bind(py)
    }

    pub(crate) fn hooks(&self) -> &[Hook] {
        &self.engine.hooks
    }

    /// The run's id, made when somebody asks.
    pub(crate) fn run_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(run_id) = self.run_id.get() {
            return Ok(run_id.bind(py).clone());
        }
        let made = py
            .import("flujo.application._context")?
            .call_method0("new_run_id")?
            .unbind();
        let _ = self.run_id.set(made);
        Ok(self
            .run_id
            .get()
            .map_or_else(|| py.None().into_bound(py), |run_id| run_id.bind(py).clone()))
    }

    /// Counts a run that has ended.
    pub(crate) fn record(&self, finish: &Finish, began: Time, ended: Time) {
        let mut facts = Vec::with_capacity(finish.history.records.len());
        self.collect(finish, &mut facts);
        let run = RunFacts {
            latency_ns: ended.saturating_sub(began),
            usage: finish.usage,
            ended_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            ..RunFacts::default()
        };
        self.engine.statistics.record_run(&run, facts);
    }

    /// The facts of all steps, those in lanes too; a loop, since lanes nest.
    fn collect<'f>(&self, finish: &'f Finish, facts: &mut Vec<StepFact<'f>>) {
        let mut waiting = vec![finish];
        while let Some(finish) = waiting.pop() {
            for record in &finish.history.records {
                let Some(slot) = self.slots.get(record.node.0 as usize) else {
                    continue;
                };
                let error = match (&record.failure, record.status) {
                    // The failure of a construct is that of the step inside it, which has been counted.
                    (Some(failure), Status::Failed) if failure.causes.is_empty() => {
                        Some(&*failure.error_type)
                    }
                    _ => None,
                };
                // A construct that a step works with is told of with the step.
                if !self.plan.plan.node(record.node).inner {
                    facts.push(StepFact {
                        slot: *slot,
                        latency_ns: record.latency(),
                        error,
                    });
                }
                waiting.extend(record.lanes().iter().filter_map(|lane| lane.finish.as_deref()));
            }
        }
    }
}

/// Whether a run was stopped because somebody cancelled it.
pub(crate) fn was_cancelled(finish: &Finish) -> bool {
    matches!(finish.outcome, Outcome::Stopped(Stop::Cancelled))
}
