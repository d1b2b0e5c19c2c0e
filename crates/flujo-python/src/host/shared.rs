//! What a run and its lanes share while they are driven: for a run that stood still it is made anew, on the loop where
//! it goes on.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use flujo_core::machine::{Options, Status, Time};
use flujo_core::stats::{RunFacts, StepFact, StepSlot};
use flujo_core::usage::UsagePool;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::clock::Clock;
use super::context::ContextCell;
use super::domain::Finish;
use super::engine::{EngineInner, Planned};
use super::hooks::Hook;
use super::names;
use super::paused::PausedRun;
use super::planning::PlanWithSteps;

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
    pub(crate) budget: Option<Arc<UsagePool>>,
    /// Who is told what happens, as it happens.
    pub(crate) listener: Option<Py<PyAny>>,
}

impl Shared {
    /// What a run that begins now on the running loop shares.
    pub(crate) fn begin(
        py: Python<'_>,
        engine: &Arc<EngineInner>,
        run_id: Option<Py<PyAny>>,
        listener: Option<Py<PyAny>>,
    ) -> PyResult<Arc<Self>> {
        let event_loop = running_loop(py)?;
        // Whoever is told the id in advance finds it in the context too.
        let told = listener.is_some() || !engine.hooks.is_empty();
        let run_id = match run_id {
            None if told => Some(new_run_id(py)?),
            given => given,
        };
        let Planned { plan, slots, .. } = engine.current_plan(py)?;
        let clock = Clock::of(py, &event_loop)?;
        let budget = (!engine.limits.is_unlimited()).then(|| Arc::new(UsagePool::new(engine.limits)));
        Ok(Arc::new(Self {
            engine: Arc::clone(engine),
            plan,
            slots,
            clock,
            event_loop: event_loop.unbind(),
            tasks: OnceLock::new(),
            run_id: run_id.map_or_else(OnceLock::new, OnceLock::from),
            budget,
            listener,
        }))
    }

    /// What a run that stood still shares when it goes on, on the running loop.
    pub(crate) fn resume(
        py: Python<'_>,
        engine: &Arc<EngineInner>,
        paused: &PausedRun,
    ) -> PyResult<Arc<Self>> {
        let event_loop = running_loop(py)?;
        let plan = Arc::clone(&paused.plan);
        let names: Vec<Arc<str>> = plan
            .plan
            .nodes()
            .map(|(_, node)| Arc::clone(&node.name))
            .collect();
        Ok(Arc::new(Self {
            engine: Arc::clone(engine),
            slots: Arc::from(engine.statistics.slots(&names)),
            plan,
            clock: Clock::going_on(py, &event_loop, paused.stopped())?,
            event_loop: event_loop.unbind(),
            tasks: OnceLock::new(),
            run_id: OnceLock::from(paused.run_id.clone_ref(py)),
            budget: paused.budget.clone(),
            listener: None,
        }))
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            hooks: !self.engine.hooks.is_empty(),
            limits: self.budget.is_some(),
            notices: self.listener.is_some(),
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
        let _ = self.run_id.set(new_run_id(py)?);
        Ok(self
            .run_id
            .get()
            .map_or_else(|| py.None().into_bound(py), |run_id| run_id.bind(py).clone()))
    }

    /// The run's id, which is that of its context where nobody has asked before.
    pub(crate) fn run_id_in<'py>(&self, context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = context.py();
        if self.run_id.get().is_none()
            && let Some(own) = context.getattr_opt(intern!(py, "run_id"))?
            && own.is_instance_of::<PyString>()
        {
            let _ = self.run_id.set(own.unbind());
        }
        self.run_id(py)
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

fn new_run_id(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let module = py.import("flujo.application._context")?;
    Ok(module.call_method0("new_run_id")?.unbind())
}

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    names::running_loop(py)?.call0().map_err(|_| {
        PyRuntimeError::new_err(
            "a Flujo run needs an asyncio event loop: await it inside asyncio.run(), or use runner.run(); trio's own \
             loop can't run it",
        )
    })
}
