//! How runs begin and go on: in this process alone, or with what is in a store.

use std::sync::Arc;

use flujo_core::config::Part;
use flujo_core::machine::Machine;
use flujo_core::store::Claim;
use flujo_core::usage::run_meter;
use flujo_durable::{DurableError, Journal, LogPlace, Start as Beginning};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::PyString;

use super::{AfterStop, Resume, Resumption, Start, State, Step, UnderWay, ends, released, set_place};
use crate::host::bell::Awaiting;
use crate::host::context::ContextCell;
use crate::host::domain::{Finish, Python3};
use crate::host::driver::Driver;
use crate::host::engine::EngineInner;
use crate::host::events;
use crate::host::keeping::{self, Found, Keeping, LogOf, Opened};
use crate::host::parked::{Parked, ParkedLanes, Wake};
use crate::host::paused::PausedRun;
use crate::host::planning::{CompiledPlan, PlanWithSteps};
use crate::host::shared::{Shared, running_loop};
use crate::host::steps::Outputs;
use crate::host::trace::{Trace, Traced};

/// A run on its way into the store, or out of it.
pub(super) struct Opening {
    opened: Awaiting<Result<Opened, DurableError>>,
    keeping: Arc<Keeping>,
    run: Begins,
    /// A cancellation that came meanwhile.
    thrown: Option<PyErr>,
}

/// What a run begins with.
struct Begins {
    shared: Arc<Shared>,
    /// Its input and context; `None` of one that is in the store.
    given: Option<(Py<PyAny>, Arc<ContextCell>)>,
    named: bool,
}

/// A run of which it is looked up with which version of the pipeline it began, if it has.
pub(super) struct Choosing {
    version: Awaiting<Result<Option<Arc<str>>, DurableError>>,
    event_loop: Py<PyAny>,
    start: Start,
    /// A cancellation that came meanwhile.
    thrown: Option<PyErr>,
}

/// A run that stood still here and is taken from the store again.
pub(super) struct Claiming {
    claimed: Awaiting<Result<Claim, DurableError>>,
    keeping: Arc<Keeping>,
    log: LogOf,
    resumption: Box<Resumption>,
    event_loop: Py<PyAny>,
    thrown: Option<PyErr>,
}

fn under_way(under_way: UnderWay) -> Step {
    (State::UnderWay(Box::new(under_way)), None)
}

pub(super) fn begin(py: Python<'_>, start: Start, resume: &Resume) -> PyResult<Step> {
    if let Resume::Throw(error) = resume {
        // Cancelled before it began: nothing has happened, and nothing will.
        return Err(error.clone_ref(py));
    }
    let engine = &start.engine;
    if let (Some(keeping), Some(_), Some(run_id)) = (&engine.keeping, &engine.versions, &start.run_id) {
        // It may be there, and have begun with another version.
        let run = Arc::from(run_id.bind(py).cast::<PyString>()?.to_str()?);
        let choosing = Choosing {
            version: keeping.version_of(run),
            event_loop: running_loop(py)?.unbind(),
            start,
            thrown: None,
        };
        return Ok((State::Choosing(Box::new(choosing)), None));
    }
    begin_with(py, start, None)
}

/// A version of the pipeline, and its name.
type Version = (Arc<str>, Arc<PlanWithSteps>);

fn begin_with(py: Python<'_>, start: Start, version: Option<Version>) -> PyResult<Step> {
    let Start {
        engine,
        input,
        run_id,
        initial_context_data,
        listener,
        traceparent,
    } = start;
    let named = run_id.is_some();
    let traced = Traced::now(py, &engine, traceparent)?;
    let (version, plan) = version.unzip();
    let shared = Shared::begin(py, &engine, plan, run_id, listener, traced)?;
    let given = match (input, &engine.player) {
        (_, Some(player)) => Some(player.start(py)),
        (Some(input), None) => {
            events::started(py, &shared)?;
            let context = shared.context(py, &input, initial_context_data)?;
            Some((input, context))
        }
        (None, None) => None,
    };
    let run = Begins { shared, given, named };
    match &engine.keeping {
        None => Ok(under_way(run.begin(py)?)),
        Some(keeping) => {
            let keeping = match version {
                Some(version) => Arc::new(keeping.of_version(version)),
                None => Arc::clone(keeping),
            };
            let id = run.shared.run_id(py)?;
            let id: Arc<str> = Arc::from(id.cast::<PyString>()?.to_str()?);
            let start = run.start(py);
            let opening = Opening {
                opened: keeping.open(
                    id,
                    &run.shared.plan,
                    (run.shared.options(), start),
                    engine.migrate.as_ref().map(|hook| hook.clone_ref(py)),
                ),
                keeping,
                run,
                thrown: None,
            };
            Ok((State::Opening(Box::new(opening)), None))
        }
    }
}

impl Choosing {
    pub(super) fn look(mut self: Box<Self>, py: Python<'_>, resume: Resume) -> PyResult<Step> {
        if let Resume::Throw(error) = resume {
            self.thrown.get_or_insert(error);
        }
        let version = match self.version.look(self.event_loop.bind(py))? {
            Err(future) => return Ok((State::Choosing(self), Some(future))),
            Ok(version) => version,
        };
        if let Some(error) = self.thrown {
            return Err(error);
        }
        let engine = &self.start.engine;
        let (Some(keeping), Some(versions)) = (&engine.keeping, &engine.versions) else {
            return begin_with(py, self.start, None);
        };
        let version = version.map_err(|error| keeping.error(py, &error))?;
        let other = version.filter(|version| Some(version) != keeping.runs.version.as_ref());
        let version = match other {
            None => None,
            Some(other) => {
                let compiled = versions.bind(py).call1((&*other,))?;
                let plan = Arc::clone(&compiled.cast_into::<CompiledPlan>()?.get().inner);
                Some((other, plan))
            }
        };
        begin_with(py, self.start, version)
    }

    pub(super) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.start.tell(visit)
    }
}

impl Begins {
    fn start(&self, py: Python<'_>) -> Option<Beginning<Python3>> {
        let (input, context) = self.given.as_ref()?;
        let now = self.shared.now(py);
        Some(Beginning {
            options: self.shared.options(),
            input: input.clone_ref(py).into(),
            context: Arc::clone(context),
            now,
            deadline: self.shared.deadline(now),
        })
    }

    fn begin(self, py: Python<'_>) -> PyResult<UnderWay> {
        let Some(start) = self.start(py) else {
            return Err(PyRuntimeError::new_err(
                "there is no such run: the runner keeps none, give it a state_backend",
            ));
        };
        let (shared, began) = (self.shared, start.now);
        let plan = Arc::clone(&shared.plan.plan);
        let mut machine = Machine::start(
            plan,
            start.options,
            start.input,
            start.context,
            start.now,
            start.deadline,
        );
        let trace = Trace::of_run(py, &shared, &machine, None)?;
        if shared.twins.now().gave_way(Part::Telemetry) {
            machine.listen(shared.is_told()); // the plain form is told of each step
        }
        let mut driver = Driver::new(Box::new(machine), shared, Outputs::default(), trace).recorded(0);
        let place_token = set_place(py, &mut driver)?;
        Ok(UnderWay {
            driver,
            began,
            named: self.named,
            paused: None,
            counted: None,
            place_token,
            looks: true,
        })
    }

    /// The run is kept there from now on.
    fn keep(
        &mut self,
        py: Python<'_>,
        journal: Arc<Journal<Python3>>,
        before: Option<&Found>,
    ) -> PyResult<()> {
        match Arc::get_mut(&mut self.shared) {
            Some(shared) => shared.keep(py, journal, before),
            None => Err(PyRuntimeError::new_err(
                "a run that has not begun is held elsewhere",
            )),
        }
    }

    /// It goes on where its last record was written.
    fn take_over(mut self, py: Python<'_>, mut found: Found) -> PyResult<UnderWay> {
        self.keep(py, Arc::clone(&found.journal), Some(&found))?;
        let shared = self.shared;
        if let Some(post) = &shared.post {
            found.posted.iter().for_each(|message| post.inbox.put(message));
            if post.inbox.has_cancel() {
                // Before anything of it is begun again.
                shared.interrupt.request();
            }
        }
        let parked = keeping::parked(py, &mut found, &shared.plan)?;
        let Some(parked) = parked else {
            return Err(PyRuntimeError::new_err(
                "the stored run has no machine of its own",
            ));
        };
        let trace = Trace::of_run(py, &shared, &parked.machine, None)?;
        let mut driver = Driver::revive(py, parked, shared, trace)?;
        let place_token = set_place(py, &mut driver)?;
        Ok(UnderWay {
            driver,
            began: found.at,
            named: self.named,
            paused: None,
            counted: Some((found.at, found.used)),
            place_token,
            looks: true,
        })
    }

    /// It had ended before.
    fn ended(self, py: Python<'_>, finish: Box<Finish>, place: LogPlace) -> PyResult<PyErr> {
        let run = self.shared.run_id(py)?;
        let log = LogOf {
            run: Arc::from(run.cast::<PyString>()?.to_str()?),
            place,
            token: None,
        };
        ends::ended_before(py, &self.shared, finish, log)
    }
}

impl Opening {
    pub(super) fn look(mut self: Box<Self>, py: Python<'_>, resume: Resume) -> PyResult<Step> {
        if let Resume::Throw(error) = resume {
            self.thrown.get_or_insert(error);
        }
        let opened = match self.opened.look(self.run.shared.event_loop(py))? {
            Err(future) => return Ok((State::Opening(self), Some(future))),
            Ok(opened) => opened,
        };
        let Self {
            keeping,
            mut run,
            thrown,
            ..
        } = *self;
        if thrown.is_some() || opened.is_err() {
            run.shared.let_go(py)?;
        }
        if let Some(error) = thrown {
            if let Ok(opened) = opened {
                released::release(opened);
            }
            return Err(error);
        }
        match opened {
            Ok(Opened::Begun(journal)) => {
                run.keep(py, journal, None)?;
                Ok(under_way(run.begin(py)?))
            }
            Ok(Opened::Found(found)) => Ok(under_way(run.take_over(py, *found)?)),
            Ok(Opened::Ended(finish, place, _)) => Err(run.ended(py, finish, place)?),
            Err(error) => Err(keeping.error(py, &error)),
        }
    }

    /// Nobody waits for it any more: what it has taken is free again.
    pub(super) fn abandon(self, py: Python<'_>) {
        // Nobody is left to be told.
        let _ = self.run.shared.let_go(py);
        released::when_there(py, self.opened, released::release);
    }

    pub(super) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.run.given {
            Some((input, _)) => visit.call(input),
            None => Ok(()),
        }
    }
}

/// A run that stood still goes on.
pub(super) fn go_on(py: Python<'_>, resumption: Resumption, resume: &Resume) -> PyResult<Step> {
    if let Resume::Throw(error) = resume {
        return Err(error.clone_ref(py));
    }
    match (&resumption.engine.keeping, resumption.paused.get().log()) {
        (Some(keeping), Some(log)) => {
            let keeping = Arc::clone(keeping);
            let claiming = Claiming {
                claimed: keeping.claim(&log, resumption.stop.is_some()),
                keeping,
                log,
                event_loop: running_loop(py)?.unbind(),
                resumption: Box::new(resumption),
                thrown: None,
            };
            Ok((State::Claiming(Box::new(claiming)), None))
        }
        _ => Ok(under_way(resumed(py, resumption, None)?)),
    }
}

impl Claiming {
    pub(super) fn look(mut self: Box<Self>, py: Python<'_>, resume: Resume) -> PyResult<Step> {
        if let Resume::Throw(error) = resume {
            self.thrown.get_or_insert(error);
        }
        let claimed = match self.claimed.look(self.event_loop.bind(py))? {
            Err(future) => return Ok((State::Claiming(self), Some(future))),
            Ok(claimed) => claimed,
        };
        let Self {
            keeping,
            log,
            resumption,
            thrown,
            ..
        } = *self;
        let journal = claimed.map(|claimed| keeping.continued(claimed, &log));
        let journal = journal.map_err(|error| keeping.error(py, &error))?;
        let paused = resumption.paused.clone_ref(py);
        let resumed = match thrown {
            Some(error) => Err(error),
            None => resumed(py, *resumption, Some(Arc::clone(&journal))),
        };
        if resumed.is_ok() {
            // Others see at once what it goes on with; the next step waits for that.
            drop(journal.write([]));
        } else {
            paused.get().set_log(LogOf::of(&journal));
            journal.give_back();
        }
        Ok(under_way(resumed?))
    }

    /// Nobody waits for it any more: what it has taken is free again.
    pub(super) fn abandon(self, py: Python<'_>) {
        let (keeping, log) = (self.keeping, self.log);
        released::when_there(py, self.claimed, move |claimed| {
            keeping.continued(claimed, &log).give_back();
        });
    }

    pub(super) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.resumption.tell(visit)
    }
}

fn resumed(
    py: Python<'_>,
    resumption: Resumption,
    journal: Option<Arc<Journal<Python3>>>,
) -> PyResult<UnderWay> {
    let Resumption {
        engine,
        paused,
        answers,
        stop,
        listener,
        traceparent,
    } = resumption;
    let traced = Traced::now(py, &engine, traceparent)?;
    if let Some(stop) = stop {
        return take_up(py, &engine, paused, stop, journal, listener, traced);
    }
    let before = (paused.get().meter.clone(), paused.get().stopped());
    let shared = Shared::resume(py, &engine, paused.get(), before, journal, listener, traced)?;
    let answered = answers.wakes.iter().map(|(id, _)| id.clone()).collect();
    let parked = paused.get().take(py, answers)?;
    if let Some(journal) = &shared.journal {
        journal.along(keeping::goes_on(&parked.so_far()));
    }
    let trace = Trace::of_run(py, &shared, &parked.machine, parked.before.as_ref())?;
    let mut driver = Driver::revive(py, *parked, shared, trace)?;
    let place_token = set_place(py, &mut driver)?;
    Ok(UnderWay {
        driver,
        began: paused.get().began,
        named: false,
        counted: paused.get().counted(),
        paused: Some((paused, answered)),
        place_token,
        looks: true,
    })
}

/// A run that was stopped goes on.
fn take_up(
    py: Python<'_>,
    engine: &Arc<EngineInner>,
    paused: Py<PausedRun>,
    AfterStop { raised }: AfterStop,
    journal: Option<Arc<Journal<Python3>>>,
    listener: Option<Py<PyAny>>,
    traced: Traced,
) -> PyResult<UnderWay> {
    let run = paused.get();
    let stopped = run.stopped();
    let limits = raised.unwrap_or(engine.limits);
    let (kept, used) = run.take_stopped(py, &limits)?;
    let meter = (!limits.is_unlimited()).then(|| run_meter(run.twins, limits, used));
    // A nanosecond later: what ended by then has been counted.
    let began = stopped.saturating_add(1);
    let shared = Shared::resume(py, engine, run, (meter, began), journal, listener, traced)?;
    let options = shared.options();
    if let Some(journal) = &shared.journal {
        journal.take_up(options, stopped, raised);
    }
    let plan = Arc::clone(&shared.plan.plan);
    let parked = Parked {
        number: 0,
        machine: Box::new(Machine::go_on(plan, *kept, options, stopped)),
        question: None,
        lanes: ParkedLanes::default(),
        outputs: Outputs::default(),
        once: None,
        wake: Wake::default(),
        before: None,
    };
    if let Some(journal) = &shared.journal {
        journal.along(keeping::goes_on(&parked.so_far()));
    }
    let trace = Trace::of_run(py, &shared, &parked.machine, None)?;
    let mut driver = Driver::revive(py, parked, shared, trace)?;
    let place_token = set_place(py, &mut driver)?;
    Ok(UnderWay {
        driver,
        began,
        named: false,
        counted: Some((stopped, used)),
        paused: Some((paused, Vec::new())),
        place_token,
        looks: true,
    })
}
