//! What a run and its lanes share while they are driven: for a run that stood still it is made anew, on the loop where
//! it goes on.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::config::{OptimizationConfig, Part, RunTwins, Twins};
use flujo_core::machine::{Options, Status, Time};
use flujo_core::plan::NodeId;
use flujo_core::rate::StepRates;
use flujo_core::stats::{RunFacts, StepFact, StepSlot};
use flujo_core::usage::{Usage, UsageMeter, run_meter};
use flujo_durable::{DurableError, Journal};
use flujo_store::runs::Post;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::alarm::now;
use super::clock::Clock;
use super::context::ContextCell;
use super::domain::{Finish, Python3};
use super::engine::{EngineInner, Planned};
use super::hooks::Hook;
use super::interrupt::{Interrupt, Switch};
use super::keeping::Found;
use super::names;
use super::paused::PausedRun;
use super::planning::PlanWithSteps;
use super::rates;
use super::trace::Traced;
use crate::store::errors as store_errors;

/// What the lanes of one run share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<EngineInner>,
    pub(crate) plan: Arc<PlanWithSteps>,
    slots: Arc<[StepSlot]>,
    /// Which twin of each part the run uses; a node may have a nearer config.
    pub(crate) twins: RunTwins,
    clock: Clock,
    event_loop: Py<PyAny>,
    /// How the tasks of lanes are made, once there are any.
    tasks: OnceLock<Option<Py<PyDict>>>,
    run_id: OnceLock<Py<PyAny>>,
    /// What the runner knows the run by, once it has an id.
    under_way: OnceLock<Py<PyAny>>,
    /// Interrupts the run's own driver.
    pub(crate) interrupt: Arc<Interrupt>,
    pub(crate) meter: Option<Arc<dyn UsageMeter>>,
    /// How often agents may be called.
    pub(crate) rates: Option<Arc<StepRates>>,
    /// Who is told what happens, as it happens.
    pub(crate) listener: Option<Py<PyAny>>,
    /// Who records spans of it.
    pub(crate) traced: Traced,
    /// Whether what happens to steps is written into the log.
    pub(crate) logged: bool,
    /// What happens is written down there, of a run that is kept.
    pub(crate) journal: Option<Arc<Journal<Python3>>>,
    /// What others leave for it meanwhile.
    pub(crate) post: Option<Post>,
}

impl Shared {
    /// What a run that begins now on the running loop shares; of another version of the pipeline, on its plan.
    pub(crate) fn begin(
        py: Python<'_>,
        engine: &Arc<EngineInner>,
        version: Option<Arc<PlanWithSteps>>,
        run_id: Option<Py<PyAny>>,
        listener: Option<Py<PyAny>>,
        traced: Traced,
    ) -> PyResult<Arc<Self>> {
        let event_loop = running_loop(py)?;
        engine.watch_memory();
        // Whoever is told the id in advance finds it in the context too.
        let told = listener.is_some() || !engine.hooks.is_empty() || traced.is_traced();
        let run_id = match run_id {
            None if told => Some(new_run_id(py)?),
            given => given,
        };
        let (planned, twins) = match version {
            None => engine.plan_for_run(py)?,
            Some(plan) => engine.plan_of_version(py, plan)?,
        };
        let Planned {
            plan, slots, rates, ..
        } = planned;
        let clock = Clock::of(py, &event_loop)?;
        let rates = rates::of_run(py, &plan, &engine.rates, rates, &clock)?;
        let limits = engine.limits;
        let meter = (!limits.is_unlimited()).then(|| run_meter(twins, limits, Usage::ZERO));
        Self {
            engine: Arc::clone(engine),
            plan,
            slots,
            twins: RunTwins::new(twins),
            clock,
            event_loop: event_loop.unbind(),
            tasks: OnceLock::new(),
            run_id: run_id.map_or_else(OnceLock::new, OnceLock::from),
            under_way: OnceLock::new(),
            interrupt: Arc::default(),
            meter,
            rates,
            listener,
            traced,
            logged: names::logs_steps(py)?.call0()?.is_truthy()?,
            journal: None,
            post: None,
        }
        .announced(py)
    }

    /// The run is kept in a store, and goes on from there where it has been before.
    pub(crate) fn keep(
        &mut self,
        py: Python<'_>,
        journal: Arc<Journal<Python3>>,
        before: Option<&Found>,
    ) -> PyResult<()> {
        self.recorded_in(py, journal)?;
        let Some(found) = before else {
            return Ok(());
        };
        self.clock = Clock::going_on(py, self.event_loop.bind(py), found.at)?;
        let limits = found.limits.unwrap_or(self.engine.limits);
        self.meter = (!limits.is_unlimited()).then(|| run_meter(self.twins.now(), limits, found.used));
        Ok(())
    }

    /// What happens is written down there from now on, and what others leave for the run is heard.
    fn recorded_in(&mut self, py: Python<'_>, journal: Arc<Journal<Python3>>) -> PyResult<()> {
        if let Some(keeping) = &self.engine.keeping {
            let run = &journal.claim().run;
            self.post = Some(keeping.hear(run, self.event_loop.bind(py), &self.interrupt)?);
        }
        self.journal = Some(journal);
        Ok(())
    }

    /// What a run that stood still shares when it goes on, on the running loop.
    pub(crate) fn resume(
        py: Python<'_>,
        engine: &Arc<EngineInner>,
        paused: &PausedRun,
        (meter, stopped): (Option<Arc<dyn UsageMeter>>, Time),
        journal: Option<Arc<Journal<Python3>>>,
        listener: Option<Py<PyAny>>,
        traced: Traced,
    ) -> PyResult<Arc<Self>> {
        let event_loop = running_loop(py)?;
        let plan = Arc::clone(&paused.plan);
        let clock = Clock::going_on(py, &event_loop, stopped)?;
        let rates = rates::of_plan(py, &plan, &engine.rates)?;
        let rates = rates::of_run(py, &plan, &engine.rates, rates, &clock)?;
        let mut shared = Self {
            engine: Arc::clone(engine),
            slots: engine.slots_of(&plan),
            twins: RunTwins::new(paused.twins),
            plan,
            clock,
            event_loop: event_loop.unbind(),
            tasks: OnceLock::new(),
            run_id: OnceLock::from(paused.run_id.clone_ref(py)),
            under_way: OnceLock::new(),
            interrupt: Arc::default(),
            meter,
            rates,
            listener,
            traced,
            logged: names::logs_steps(py)?.call0()?.is_truthy()?,
            journal: None,
            post: None,
        };
        if let Some(journal) = journal {
            shared.recorded_in(py, journal)?;
        }
        shared.announced(py)
    }

    fn announced(self, py: Python<'_>) -> PyResult<Arc<Self>> {
        if let Some(run_id) = self.run_id.get() {
            self.announce(py, run_id.bind(py))?;
        }
        Ok(Arc::new(self))
    }

    /// Tells the runner of the run, which has an id by now.
    fn announce(&self, py: Python<'_>, run_id: &Bound<'_, PyAny>) -> PyResult<()> {
        let switch = Switch {
            interrupt: Arc::clone(&self.interrupt),
        };
        let known = (run_id, self.event_loop(py), Bound::new(py, switch)?);
        let runs = self.engine.runs.bind(py);
        let under_way = runs.call_method1(intern!(py, "begun"), known)?;
        let _ = self.under_way.set(under_way.unbind());
        Ok(())
    }

    /// Tells of the end of the run, if somebody knows its id; `cancelled` by its switch.
    pub(crate) fn ended(&self, py: Python<'_>, result: &Bound<'_, PyAny>, cancelled: bool) -> PyResult<()> {
        if let Some(under_way) = self.under_way.get() {
            let runs = self.engine.runs.bind(py);
            runs.call_method1(intern!(py, "ended"), (under_way, result, cancelled))?;
        }
        Ok(())
    }

    /// Tells that the run has no end: nobody goes on with it.
    pub(crate) fn let_go(&self, py: Python<'_>) -> PyResult<()> {
        match self.under_way.get() {
            Some(under_way) => under_way.bind(py).call_method0(intern!(py, "let_go")).map(drop),
            None => Ok(()),
        }
    }

    /// The exception for what the store of its runs says.
    pub(crate) fn store_error(&self, py: Python<'_>, error: &DurableError) -> PyErr {
        match &self.engine.keeping {
            Some(keeping) => keeping.error(py, error),
            None => store_errors::durable_error(py, error, None),
        }
    }

    /// How long a call that was cancelled may take to end.
    pub(crate) fn grace(&self) -> Duration {
        self.engine.grace
    }

    /// The time that rate limits count in.
    pub(crate) fn rate_time(&self, py: Python<'_>) -> Time {
        self.clock.rate_time(py)
    }

    /// The loop that keeps a time of its own.
    pub(crate) fn own_loop<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.clock.own_loop(py)
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            rates: self.rates.as_ref().is_some_and(|rates| rates.hold_for_all()),
            hooks: !self.engine.hooks.is_empty(),
            limits: self.meter.is_some(),
            notices: self.is_told(),
            seed: std::ptr::from_ref(self) as u64,
            tell_from: Some(self.tell_from()),
        }
    }

    /// Whether anybody is to be told what happens to steps.
    pub(crate) fn is_told(&self) -> bool {
        self.listener.is_some() || self.traced.hears(self.twins.now()) || self.logged
    }

    pub(crate) fn deadline(&self, now: Time) -> Option<Time> {
        let limit = self.engine.deadline?;
        Some(now.saturating_add(Time::try_from(limit.as_nanos()).unwrap_or(Time::MAX)))
    }

    /// Does work that has two twins; see [`RunTwins::contain`].
    pub(crate) fn contain<R>(
        &self,
        py: Python<'_>,
        part: Part,
        nearest: Option<&OptimizationConfig>,
        work: impl FnMut(Twins) -> R,
    ) -> PyResult<R> {
        let mut failed = None;
        let done = self
            .twins
            .contain(part, nearest, work, |reason| failed = Some(reason.to_owned()));
        if let Some(reason) = failed {
            self.gave_way(py, part, &reason)?;
        }
        Ok(done)
    }

    /// The optimised twin of a part has failed; the plain one is used from now on.
    #[cold]
    pub(crate) fn gave_way(&self, py: Python<'_>, part: Part, reason: &str) -> PyResult<()> {
        self.twins.give_up(part);
        self.engine.gave_way(py, part, reason)
    }

    /// The context a run begins with.
    pub(crate) fn context(
        &self,
        py: Python<'_>,
        input: &Py<PyAny>,
        data: Option<Py<PyAny>>,
    ) -> PyResult<Arc<ContextCell>> {
        let counts = &self.engine.contexts.clones;
        let copies = self.contain(py, Part::Context, None, |twins| {
            !twins.is_optimized(Part::Context)
        })?;
        let cell = if let Some(make) = &self.engine.make_context {
            let made = make.bind(py).call1((data, self.run_id.get()))?;
            let cell = ContextCell::counting(&made, counts, copies)?;
            if !copies && !cell.is_view() {
                let class = made.get_type().fully_qualified_name()?;
                let reason = format!(
                    "{class} admits no views, since it has slots of its own or its metaclass admits no subclass; it \
                     is copied whole"
                );
                self.engine.degraded(py, Part::Context, &reason)?;
            }
            cell
        } else {
            let run_id = self.run_id.get().map(|run_id| run_id.clone_ref(py));
            ContextCell::default_for(py, input, data, run_id, counts, copies)?
        };
        Ok(Arc::new(cell))
    }

    #[inline]
    pub(crate) fn now(&self, py: Python<'_>) -> Time {
        self.clock.now(py)
    }

    /// The world's time at the run's time 0, in nanoseconds since the Unix epoch.
    pub(crate) fn epoch(&self, py: Python<'_>) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(wall.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_sub(self.now(py))
    }

    /// The time that cached results expire by, the same for all runs of the process; on a loop that keeps a time of its own,
    /// that.
    pub(crate) fn cache_now(&self, py: Python<'_>) -> Time {
        self.clock.of_process(py)
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
        if self.run_id.set(new_run_id(py)?).is_ok()
            && let Some(made) = self.run_id.get()
        {
            self.announce(py, made.bind(py))?;
        }
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

    /// Where a step is counted.
    pub(super) fn slot(&self, node: NodeId) -> Option<StepSlot> {
        self.slots.get(node.0 as usize).copied()
    }

    /// Counts a run that has ended; of one that went on after it was stopped what came after `counted`.
    pub(crate) fn record(
        &self,
        finish: &Finish,
        (began, ended): (Time, Time),
        counted: Option<(Time, Usage)>,
    ) {
        let (since, used) = counted.unwrap_or_default();
        let run = RunFacts {
            latency_ns: ended.saturating_sub(began),
            usage: finish.usage.beyond(used),
            meter: self.meter.as_deref().map(UsageMeter::statistics),
            ended_at: now(),
            ..RunFacts::default()
        };
        let facts = self.collect(finish, &self.slots, since);
        self.engine.watch.ended(self.twins.now());
        self.engine.statistics.record_run(&run, facts);
        if let Some((counts, slots)) = self.engine.counts_of(&self.plan) {
            counts.record_run(&run, self.collect(finish, &slots, since));
        }
    }

    /// The facts of all steps that ended after a time, those in lanes too; a loop, since lanes nest.
    fn collect<'f>(&self, finish: &'f Finish, slots: &[StepSlot], since: Time) -> Vec<StepFact<'f>> {
        let mut facts = Vec::with_capacity(finish.history.records.len());
        let mut waiting = vec![finish];
        while let Some(finish) = waiting.pop() {
            for record in &finish.history.records {
                let Some(slot) = slots.get(record.node.0 as usize) else {
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
                let counts = since == 0 || record.ended > since;
                if counts && !self.plan.plan.node(record.node).inner {
                    facts.push(StepFact {
                        slot: *slot,
                        latency_ns: record.latency(),
                        error,
                    });
                }
                waiting.extend(record.lanes().iter().filter_map(|lane| lane.finish.as_deref()));
            }
        }
        facts
    }
}

fn new_run_id(py: Python<'_>) -> PyResult<Py<PyAny>> {
    Ok(names::new_run_id(py)?.call0()?.unbind())
}

pub(super) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    names::running_loop(py)?.call0().map_err(|_| {
        PyRuntimeError::new_err(
            "a Flujo run needs an asyncio event loop: await it inside asyncio.run(), or use runner.run(); trio's own \
             loop can't run it",
        )
    })
}
