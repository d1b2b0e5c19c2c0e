//! Agents that plugins ask for, by the names under which any process with the pipeline finds them again: the path of a step
//! that one works for, or its module and name there. A run that is kept knows them by these.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use flujo_core::machine::Role;
use flujo_core::plan::{Kind, NodeId, Work};
use pyo3::exceptions::PyLookupError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::callable::CallableSpec;
use super::domain::{Answer, Plan};

/// Where a callable stands in a plan.
pub(super) type Place = (NodeId, Role, u32);

/// An agent that the plugin at `plugin` asked for in a run that is kept is asked for by its name from then on, if it has one.
pub(super) fn name(py: Python<'_>, plan: &Plan, plugin: Place, answer: &mut Answer) -> PyResult<()> {
    let Answer::Redirect { agent, identity, .. } = answer else {
        return Ok(());
    };
    let asked = agent.bind(py);
    let name = match of_steps(plan).find(|(_, spec)| works(py, spec, asked)) {
        _ if asked.is_exact_instance_of::<PyString>() => asked.extract::<String>()?,
        Some((path, _)) => path.to_string(),
        None => {
            let (node, role, index) = plugin;
            let plugin = plan.node(node).callable(role, index);
            let plugin = plugin.map(|spec| spec.target.bind(py).clone());
            match names(py)?.call_method1(intern!(py, "name_of"), (asked, plugin))? {
                name if name.is_none() => return Ok(()),
                name => name.extract()?,
            }
        }
    };
    *identity = BuildHasherDefault::<DefaultHasher>::default().hash_one(&name);
    *agent = PyString::new(py, &name).into_any().into();
    Ok(())
}

/// The agent that a plugin asked for: itself, or by its name.
///
/// # Errors
/// `LookupError`: there is none of this name.
pub(super) fn asked<'py>(plan: &Plan, agent: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if !agent.is_exact_instance_of::<PyString>() {
        return Ok(agent.clone());
    }
    let (py, name) = (agent.py(), agent.extract::<String>()?);
    if let Some((_, spec)) = of_steps(plan).find(|(path, _)| ***path == *name) {
        return Ok(spec.agent.as_ref().unwrap_or(&spec.target).bind(py).clone());
    }
    match names(py)?.call_method1(intern!(py, "find"), (agent,))? {
        found if found.is_none() => Err(PyLookupError::new_err(format!(
            "a plugin asked for the agent {name:?}, which is neither the path of a step nor MODULE:NAME of an imported module"
        ))),
        found => Ok(found),
    }
}

fn names(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(intern!(py, "flujo.application._agents"))
}

fn works(py: Python<'_>, spec: &CallableSpec, agent: &Bound<'_, PyAny>) -> bool {
    let own = spec.agent.as_ref().unwrap_or(&spec.target);
    own.bind(py).is(agent)
}

fn of_steps(plan: &Plan) -> impl Iterator<Item = (&Arc<str>, &Arc<CallableSpec>)> {
    plan.nodes().filter_map(|(_, node)| match &node.kind {
        Kind::Step(step) => match &step.work {
            Work::Call(spec) => Some((&node.path, spec)),
            Work::Body(_) => None,
        },
        _ => None,
    })
}
