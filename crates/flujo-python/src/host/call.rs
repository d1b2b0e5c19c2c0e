//! Doing what a `Call` asks: user code is called inline, in a worker thread, or not at all where the host knows the
//! answer itself.

mod items;
mod join;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flujo_core::config::Part;
use flujo_core::machine::{CallId, Input, Role, Time};
use pyo3::PyTraverseError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::{PyBool, PyDict, PyString};

pub(crate) use items::item_ended;

use super::answer;
use super::aside::{self, Aside};
use super::cached::Looking;
use super::callable::{Argument, CallableSpec, Given, Place, Protocol};
use super::context::ContextCell;
use super::domain::{Call, Event, Machine};
use super::shared::Shared;
use super::{agents, collected, construct, failure, hooks, names, planning, usage};
use crate::prices::Tariff;
use crate::vectorcall::{self, Sent};

/// A call that is under way: its coroutine, and what its result is to be read as.
pub(crate) struct Pending {
    pub(crate) call: CallId,
    pub(crate) reader: Reader,
    pub(crate) coroutine: Py<PyAny>,
    pub(crate) context: Option<Arc<ContextCell>>,
    /// When it must have ended; the limit begins when it suspends.
    pub(crate) deadline: Option<Time>,
    /// How often the task had been cancelled when its time limit began; None before.
    pub(crate) limit_from: Option<i64>,
    /// How often the task had been cancelled when a cancellation was last thrown into the coroutine.
    pub(crate) thrown_at: Option<i64>,
    /// What a worker thread runs.
    pub(crate) worker: Option<Worker>,
}

/// A function in a worker thread.
pub(crate) struct Worker {
    name: String,
    /// Its result's.
    future: Py<PyAny>,
}

impl Worker {
    /// Waits for it no longer. It may have ended.
    pub(crate) fn leave(&self, py: Python<'_>, shared: &Shared) -> PyResult<()> {
        names::leave_worker(py)?
            .call1((shared.workers(py), &self.future, &self.name))
            .map(drop)
    }
}

/// How a result is read.
pub(crate) enum Reader {
    Callable(Arc<CallableSpec>),
    NextItem,
    Hooks(hooks::Telling),
    Aside(Aside),
    Cache(Box<Looking>),
}

/// How a call began.
pub(crate) enum Begun {
    Ended(Event),
    /// Its coroutine has not been driven yet.
    UnderWay(Box<Pending>),
    /// Its coroutine waits for this. One that waits for nothing, as most do, costs no [`Pending`].
    Waiting(Box<Pending>, Py<PyAny>),
}

impl Pending {
    pub(crate) fn new(call: CallId, deadline: Option<Time>, reader: Reader, coroutine: Py<PyAny>) -> Self {
        Self {
            call,
            reader,
            coroutine,
            context: None,
            deadline,
            limit_from: None,
            thrown_at: None,
            worker: None,
        }
    }

    /// Tells the garbage collector of what the call holds.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.coroutine)?;
        if let Some(worker) = &self.worker {
            visit.call(&worker.future)?;
        }
        match &self.reader {
            Reader::Hooks(telling) => telling.tell(visit)?,
            Reader::Aside(aside) => aside.tell(visit)?,
            Reader::Cache(looking) => looking.tell(visit)?,
            Reader::Callable(_) | Reader::NextItem => {}
        }
        match &self.context {
            Some(context) => collected::context_cell(context, visit),
            None => Ok(()),
        }
    }
}

/// Begins a call. `Err` is only what ends everything.
pub(crate) fn begin(py: Python<'_>, shared: &Arc<Shared>, machine: &Machine, call: Call) -> PyResult<Begun> {
    if let Some(player) = &shared.engine.player
        && let Some(played) = player.call(py, shared, machine, &call)?
    {
        return Ok(played);
    }
    let plan = &shared.plan;
    let id = call.call;
    let outcome = match call.role {
        Role::Hook(point) => return hooks::begin(py, shared, machine, &call, point),
        Role::NextItem => items::next_item(py, shared, &call),
        Role::Merge | Role::Collect => join::join(py, shared, plan.node_callable(&call), call),
        Role::Redirect => redirect(py, shared, call),
        _ => user_code(py, shared, machine, plan.node_callable(&call), call),
    };
    match outcome {
        Ok(begun) => Ok(begun),
        Err(error) => Ok(Begun::Ended(failed(py, shared, id, None, error)?)),
    }
}

/// The event of a call that raised. `Err` is only what ends everything.
pub(crate) fn failed(
    py: Python<'_>,
    shared: &Shared,
    call: CallId,
    spec: Option<&CallableSpec>,
    error: PyErr,
) -> PyResult<Event> {
    if failure::ends_everything(py, &error) {
        return Err(error);
    }
    let at = shared.now(py);
    if let Some(answer) = failure::control_flow(py, &error)? {
        return Ok(Event::Answered {
            call,
            answer,
            context: None,
            at,
        });
    }
    let tariff = Tariff {
        prices: &shared.engine.prices,
        agent: spec
            .and_then(|spec| spec.agent.as_ref())
            .map(|agent| agent.bind(py)),
    };
    let usage = usage::of_error(error.value(py), tariff);
    let worth_retrying = match spec.and_then(|spec| spec.retry_on.as_ref()) {
        Some(classes) => error.value(py).is_instance(classes.bind(py))?,
        None => true,
    };
    let mut failure = failure::from_error(py, error);
    if !worth_retrying {
        failure = failure.permanent();
    }
    Ok(Event::Failed {
        call,
        failure: Box::new(failure),
        usage,
        at,
    })
}

/// The event of a call whose result is there.
pub(crate) fn returned(
    py: Python<'_>,
    shared: &Shared,
    call: CallId,
    spec: &CallableSpec,
    context: Option<Arc<ContextCell>>,
    result: Bound<'_, PyAny>,
) -> PyResult<Event> {
    if spec.protocol == Protocol::Agent {
        shared.traced.hear(&result);
    }
    match answer::of_result(spec, context.as_ref(), result, &shared.engine.prices) {
        Ok((answer, made)) => {
            let at = shared.now(py);
            Ok(Event::Answered {
                call,
                answer,
                context: made.or(context),
                at,
            })
        }
        Err(error) => failed(py, shared, call, Some(spec), error),
    }
}

fn user_code(
    py: Python<'_>,
    shared: &Arc<Shared>,
    machine: &Machine,
    spec: &Arc<CallableSpec>,
    call: Call,
) -> PyResult<Begun> {
    let (context, own) = context_for(py, shared, spec, &call)?;
    let mut given = Given {
        context,
        resources: spec.wants_resources().then(|| shared.resources(py)).flatten(),
        ..Given::default()
    };
    given.input = match &call.input {
        Input::Value(value) if spec.protocol == Protocol::Plugin => Some(plugin_input(value.bind(py))?),
        Input::Value(value) => Some(value.bind(py).clone()),
        Input::Iteration { value, start, index } => {
            given.index = *index;
            given.start = spec.takes(Argument::Start).then(|| start.bind(py).clone());
            Some(value.bind(py).clone())
        }
        Input::State {
            state,
            output,
            failure,
        } => {
            given.index = u32::from(failure.is_some());
            given.key = construct::state_name(py, &shared.plan, call.node, *state);
            match failure {
                Some(failure) => Some(construct::error_or_text(py, failure)),
                None => output.as_ref().map(|output| output.bind(py).clone()),
            }
        }
        Input::Route {
            failure,
            input,
            first,
        } if matches!(spec.protocol, Protocol::Route | Protocol::Told) => {
            let route = construct::Route {
                failure,
                input,
                first: *first,
            };
            Some(construct::step_failure(
                py,
                &shared.plan,
                machine.history(),
                &route,
            )?)
        }
        Input::Route { failure, .. } => Some(PyString::new(py, &failure.to_string()).into_any()),
        _ => None,
    };
    if call.role == Role::BranchOutput && spec.takes(Argument::Key) {
        given.key = construct::branch_key(py, machine, spec, &call)?;
    }
    let (id, deadline) = (call.call, call.deadline);
    drop(call);
    invoke(py, shared, spec, id, deadline, given, own)
}

/// Calls it and follows what it returns: a coroutine, another awaitable, or a result.
fn invoke<'py>(
    py: Python<'py>,
    shared: &Arc<Shared>,
    spec: &Arc<CallableSpec>,
    call: CallId,
    deadline: Option<Time>,
    given: Given<'py>,
    own: Option<Arc<ContextCell>>,
) -> PyResult<Begun> {
    let (result, worker) = match spec.place {
        Place::Inline => (spec.call(py, &given), None),
        Place::Worker => {
            let (arguments, positional) = spec.arguments(py, &given);
            let (by_position, by_name) = arguments.split_at(positional);
            let keywords = PyDict::new(py);
            if let Some(names) = spec.keyword_names() {
                for (name, value) in names.bind(py).iter().zip(by_name) {
                    keywords.set_item(name, value)?;
                }
            }
            let by_position = pyo3::types::PyTuple::new(py, by_position)?;
            let request = (
                shared.workers(py),
                shared.event_loop(py),
                &spec.target,
                by_position,
                keywords,
            );
            (
                names::submit_to_worker(py)?.call1(request),
                Some(spec.name.clone()),
            )
        }
    };
    drop(given);
    let (coroutine, future) = match result.and_then(|result| awaitable(&result).map(|found| (found, result)))
    {
        Ok((Some(coroutine), result)) => (coroutine, result),
        Ok((None, result)) => {
            return aside::settled(py, shared, returned(py, shared, call, spec, own, result)?);
        }
        Err(error) => return Ok(Begun::Ended(failed(py, shared, call, Some(spec), error)?)),
    };
    let waits_for = match worker {
        Some(_) => None,
        None => match vectorcall::send(&coroutine) {
            Ok(Sent::Returned(value)) => {
                return aside::settled(py, shared, returned(py, shared, call, spec, own, value)?);
            }
            Ok(Sent::Yielded(future)) => Some(future.unbind()),
            Err(error) => return Ok(Begun::Ended(failed(py, shared, call, Some(spec), error)?)),
        },
    };
    let pending = Box::new(Pending {
        context: own,
        worker: worker.map(|name| Worker {
            name,
            future: future.unbind(),
        }),
        ..Pending::new(
            call,
            deadline,
            Reader::Callable(Arc::clone(spec)),
            coroutine.unbind(),
        )
    });
    Ok(match waits_for {
        Some(future) => Begun::Waiting(pending, future),
        None => Begun::UnderWay(pending),
    })
}

/// What is to be driven to get an awaitable's result; None when the object isn't one.
pub(crate) fn awaitable<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if vectorcall::is_coroutine(object) {
        return Ok(Some(object.clone()));
    }
    // What conditions give; to look for a method that it lacks would cost more than the whole call.
    if object.is_exact_instance_of::<PyBool>() || object.is_none() {
        return Ok(None);
    }
    let py = object.py();
    match object.getattr_opt(intern!(py, "__await__"))? {
        Some(wait) if !object.is_instance_of::<pyo3::types::PyType>() => Ok(Some(wait.call0()?)),
        _ => Ok(None),
    }
}

/// The context a callable is to see, as an object, with the cell that is the attempt's own from then on.
#[allow(clippy::type_complexity)]
fn context_for<'py>(
    py: Python<'py>,
    shared: &Shared,
    spec: &CallableSpec,
    call: &Call,
) -> PyResult<(Option<Bound<'py, PyAny>>, Option<Arc<ContextCell>>)> {
    if !spec.wants_context() {
        return Ok((None, None));
    }
    if call.isolated {
        return Ok((Some(call.context.object(py)?), Some(Arc::clone(&call.context))));
    }
    shared.engine.contexts.forks.fetch_add(1, Ordering::Relaxed);
    let nearest = shared.plan.plan.node(call.node).optimization.as_deref();
    let twins = shared.twins.now().within(nearest);
    let isolated = |copies| {
        let own = Arc::new(ContextCell::isolated(&call.context, copies));
        own.object(py).map(|object| (Some(object), Some(own)))
    };
    if !twins.is_optimized(Part::Context) {
        return isolated(true);
    }
    match twins.attempt(Part::Context, || isolated(false)) {
        Ok(isolated) => isolated,
        Err(reason) => {
            shared.gave_way(py, Part::Context, &reason)?;
            isolated(true)
        }
    }
}

/// Plugins get a dictionary: the output where it is one, else the output under that name.
fn plugin_input<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if value.is_instance_of::<PyDict>() {
        return Ok(value.clone());
    }
    let dict = PyDict::new(value.py());
    dict.set_item(intern!(value.py(), "output"), value)?;
    Ok(dict.into_any())
}

/// Another agent that a plugin asked for.
fn redirect(py: Python<'_>, shared: &Arc<Shared>, call: Call) -> PyResult<Begun> {
    let Input::Redirect { agent, input } = &call.input else {
        return Err(answer::refuse("a redirect without an agent"));
    };
    let agent = agents::asked(&shared.plan.plan, agent.bind(py))?;
    let spec = planning::describe_agent(py, &agent)?;
    let (context, own) = context_for(py, shared, &spec, &call)?;
    let given = Given {
        input: Some(input.bind(py).clone()),
        context,
        resources: spec.wants_resources().then(|| shared.resources(py)).flatten(),
        ..Given::default()
    };
    invoke(py, shared, &spec, call.call, call.deadline, given, own)
}
