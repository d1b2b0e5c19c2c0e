//! What a callable's result means to the machine.

use std::sync::Arc;

use flujo_agents::Prices;
use flujo_core::machine::Chosen;
use flujo_core::usage::Usage;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::callable::{CallableSpec, Protocol};
use super::context::ContextCell;
use super::domain::Answer;
use super::{rates, usage};
use crate::object::Object;
use crate::prices::{Tariff, has_price_in};

/// The answer that a result gives, and the context it brings along where it is one. `own`: the context that the callable
/// was given.
pub(crate) fn of_result(
    spec: &CallableSpec,
    own: Option<&Arc<ContextCell>>,
    result: Bound<'_, PyAny>,
    prices: &Prices,
) -> PyResult<(Answer, Option<Arc<ContextCell>>)> {
    let py = result.py();
    let answer = match spec.protocol {
        Protocol::Agent => {
            let agent = spec.agent.as_ref().map(|agent| agent.bind(py));
            of_agent(result, Tariff { prices, agent })?
        }
        Protocol::Value | Protocol::Lanes | Protocol::Route => {
            if let Some(class) = &spec.returns {
                refuse_undeclared(py, spec, class, &result)?;
            }
            Answer::Value {
                value: result.into(),
                usage: Usage::ZERO,
            }
        }
        Protocol::Plugin => of_plugin(&result, prices)?,
        Protocol::Validator => of_validator(&result, &spec.name)?,
        Protocol::Items => of_items(&result, &spec.name)?,
        Protocol::Decision => Answer::Decision(result.is_truthy()?),
        Protocol::Selection => of_selection(spec, &result)?,
        Protocol::Transition | Protocol::Merge if result.is_none() => Answer::Done,
        Protocol::Condition | Protocol::Transition => of_condition(spec, &result)?,
        Protocol::Effect | Protocol::Told => Answer::Done,
        Protocol::Merge => {
            let name = &spec.name;
            let made = own.map(|own| own.replaced_by(&result)).transpose()?.flatten();
            let Some(made) = made else {
                return Err(PyTypeError::new_err(format!(
                    "{name} gave {}: the function must return the context, or change it in place and return None",
                    result.get_type().name()?
                )));
            };
            return Ok((Answer::Done, Some(made)));
        }
        Protocol::Inherit => {
            return Ok((Answer::Done, Some(Arc::new(ContextCell::given(&result)?))));
        }
    };
    Ok((answer, None))
}

/// An agent's output. Objects that carry an output beside its usage are taken apart.
pub(crate) fn of_agent<'py>(result: Bound<'py, PyAny>, tariff: Tariff<'_, 'py>) -> PyResult<Answer> {
    if is_plain(&result) {
        return Ok(Answer::Value {
            value: result.into(),
            usage: Usage::ZERO,
        });
    }
    let py = result.py();
    let usage = usage::of_output(&result, tariff)?;
    let is_report = result.hasattr(intern!(py, "usage"))?;
    let output = result.getattr_opt(intern!(py, "output"))?;
    let value = match output {
        Some(output) if is_report || !usage.is_zero() || has_cost_fields(&result)? => output,
        _ => result,
    };
    Ok(Answer::Value {
        value: value.into(),
        usage,
    })
}

fn has_cost_fields(result: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = result.py();
    // StepResult and PipelineResult stay what they are; wrappers that report a cost are taken apart.
    Ok(result.hasattr(intern!(py, "token_counts"))? && !result.hasattr(intern!(py, "step_history"))?)
}

/// Values of exactly these types carry neither usage nor an output inside.
pub(crate) fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyTuple>()
        || value.is_exact_instance_of::<PyBytes>()
}

fn text(value: &Bound<'_, PyAny>) -> PyResult<Arc<str>> {
    Ok(Arc::from(&*value.str()?.to_cow()?))
}

fn feedback_of(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Arc<str>> {
    let py = value.py();
    match value.getattr_opt(intern!(py, "feedback"))? {
        Some(feedback) if !feedback.is_none() => text(&feedback),
        _ => Ok(Arc::from(format!("{name} gave no reason"))),
    }
}

/// An attribute that is there and not None.
fn given<'py>(
    outcome: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(outcome.getattr_opt(name)?.filter(|value| !value.is_none()))
}

fn of_plugin(outcome: &Bound<'_, PyAny>, prices: &Prices) -> PyResult<Answer> {
    let py = outcome.py();
    if let Some(agent) = given(outcome, intern!(py, "redirect_to"))? {
        let identity = agent.as_ptr() as u64;
        let unpriced = usage::is_unpriced(&agent)? && !has_price_in(prices, &agent);
        let rated = rates::of_agent(&agent)?.is_some();
        return Ok(Answer::Redirect {
            agent: agent.into(),
            identity,
            unpriced,
            rated,
        });
    }
    if !outcome.getattr(intern!(py, "success"))?.is_truthy()? {
        return Ok(Answer::Rejected {
            feedback: feedback_of(outcome, "the plugin")?,
        });
    }
    match given(outcome, intern!(py, "new_solution"))? {
        Some(solution) => Ok(Answer::Value {
            value: solution.into(),
            usage: Usage::ZERO,
        }),
        None => Ok(Answer::Done),
    }
}

fn of_validator(verdict: &Bound<'_, PyAny>, name: &str) -> PyResult<Answer> {
    let py = verdict.py();
    if let Ok(valid) = verdict.cast::<PyBool>() {
        return Ok(if valid.is_true() {
            Answer::Done
        } else {
            Answer::Rejected {
                feedback: Arc::from(format!("{name} rejected the output")),
            }
        });
    }
    if let Ok(pair) = verdict.cast::<PyTuple>()
        && pair.len() == 2
    {
        let (valid, feedback) = (pair.get_item(0)?, pair.get_item(1)?);
        if valid.is_truthy()? {
            return Ok(Answer::Done);
        }
        let feedback = if feedback.is_none() {
            format!("{name} rejected the output")
        } else {
            feedback.to_string()
        };
        return Ok(Answer::Rejected {
            feedback: Arc::from(feedback),
        });
    }
    match verdict.getattr_opt(intern!(py, "is_valid"))? {
        Some(valid) if valid.is_truthy()? => Ok(Answer::Done),
        Some(_) => Ok(Answer::Rejected {
            feedback: feedback_of(verdict, name)?,
        }),
        None => Err(PyTypeError::new_err(format!(
            "validator {name} must return a bool, a (bool, feedback) pair or a ValidationResult, not {}",
            verdict.get_type().name()?
        ))),
    }
}

/// A result that isn't what its callable declares would be blamed on whatever gets it.
fn refuse_undeclared(
    py: Python<'_>,
    spec: &CallableSpec,
    class: &Py<PyAny>,
    result: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let class = class.bind(py);
    let number = class.is(py.get_type::<PyFloat>()) && result.is_instance_of::<PyInt>();
    if number || result.is_instance(class)? {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "{} is declared to give {}, but gave {}",
        spec.name,
        class.getattr(intern!(py, "__name__"))?,
        result.get_type().name()?
    )))
}

/// The branches that a router names.
fn of_selection(spec: &CallableSpec, names: &Bound<'_, PyAny>) -> PyResult<Answer> {
    let py = names.py();
    let mut chosen = Vec::new();
    let mut choose = |name: &Bound<'_, PyAny>| -> PyResult<()> {
        let known = spec.keys.as_ref().map(|keys| keys.bind(py).get_item(name));
        let branch = match known.transpose()?.flatten() {
            Some(place) => Some(place.extract::<u32>()?),
            None => None,
        };
        chosen.push(Chosen {
            key: text(name)?,
            branch,
        });
        Ok(())
    };
    if names.is_instance_of::<PyString>() {
        choose(names)?;
    } else if !names.is_none() {
        let Ok(items) = names.try_iter() else {
            return Err(PyTypeError::new_err(format!(
                "{} must give the names of branches, as a list of texts, not {}",
                spec.name,
                names.get_type().name()?
            )));
        };
        for name in items {
            choose(&name?)?;
        }
    }
    Ok(Answer::Branches(chosen))
}

fn of_condition(spec: &CallableSpec, key: &Bound<'_, PyAny>) -> PyResult<Answer> {
    let py = key.py();
    let branch = match &spec.keys {
        Some(keys) => match keys.bind(py).get_item(key)? {
            Some(place) => Some(place.extract::<u32>()?),
            None => None,
        },
        None => None,
    };
    Ok(Answer::Branch {
        key: text(key)?,
        branch,
    })
}

fn of_items(items: &Bound<'_, PyAny>, name: &str) -> PyResult<Answer> {
    let py = items.py();
    if items.is_instance_of::<PyString>() || items.is_instance_of::<PyBytes>() {
        return Err(PyTypeError::new_err(format!(
            "{name} maps over items, but its input is one {}: give it a list, or another collection of items",
            items.get_type().name()?
        )));
    }
    if let Ok(list) = items.cast::<PyList>() {
        return Ok(Answer::Items(list.iter().map(Object::from).collect()));
    }
    if let Ok(tuple) = items.cast::<PyTuple>() {
        return Ok(Answer::Items(tuple.iter().map(Object::from).collect()));
    }
    if items.hasattr(intern!(py, "__aiter__"))? {
        return Ok(Answer::Cursor(Some(
            items.call_method0(intern!(py, "__aiter__"))?.into(),
        )));
    }
    let Ok(iterator) = items.try_iter() else {
        return Err(PyTypeError::new_err(format!(
            "{name} maps over items, but its input is not iterable: {} is no collection",
            items.get_type().name()?
        )));
    };
    if items.hasattr(intern!(py, "__len__"))? {
        let all: PyResult<Vec<Object>> = iterator.map(|item| Ok(item?.into())).collect();
        return Ok(Answer::Items(all?));
    }
    Ok(Answer::Cursor(Some(iterator.into())))
}

/// Refuses usage that a wrapper reports as something that can't be counted.
pub(crate) fn refuse(message: &str) -> PyErr {
    PyValueError::new_err(message.to_owned())
}
