//! Python functions that blueprints name, `package.module:function`, for runs of `python -m flujo run`: imported when a
//! run begins, called on an event loop of their own, their results turned into plain data.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flujo_agents::Prices;
use flujo_blueprint::{Function, Functions};
use flujo_core::agent::{AgentError, AgentOutput, AgentRequest, BoxFuture, Retry};
use flujo_core::machine::RetryAdvice;
use flujo_core::value::Value;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::agents::{to_object, to_value};
use crate::host::{self, Answer};
use crate::prices::Tariff;

/// The functions of this interpreter.
pub(crate) struct PythonFunctions {
    /// What models cost whose calls don't say it.
    pub(crate) prices: Arc<Prices>,
}

impl Functions for PythonFunctions {
    fn import(&self, path: &str) -> Result<Arc<dyn Function>, String> {
        Python::attach(|py| {
            let imported = py
                .import("flujo.application._functions")
                .and_then(|module| module.call_method1("imported", (path,)));
            match imported {
                Ok(function) => Ok(Arc::new(Imported {
                    function: function.unbind(),
                    prices: Arc::clone(&self.prices),
                }) as Arc<dyn Function>),
                Err(error) => Err(in_words(py, error)),
            }
        })
    }
}

/// A `flujo.application._functions.Function`.
struct Imported {
    function: Py<PyAny>,
    prices: Arc<Prices>,
}

type Reply = Result<AgentOutput, AgentError>;

impl Function for Imported {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            let begun = Python::attach(|py| {
                let done = Done(Mutex::new(Some((sender, Arc::clone(&self.prices)))));
                let begin = || -> PyResult<Py<PyAny>> {
                    let input = to_object(py, &request.input)?;
                    let context = to_object(py, &request.context)?;
                    let function = self.function.bind(py);
                    let future = function
                        .call_method1(intern!(py, "start"), (input, context, Bound::new(py, done)?))?;
                    Ok(future.unbind())
                };
                begin().map_err(|error| failure(py, error, &self.prices))
            });
            let under_way = UnderWay(begun?);
            let reply = receiver.await;
            drop(under_way);
            reply.unwrap_or_else(|_| {
                Err(AgentError::new(
                    "the function was broken off before it had a result",
                ))
            })
        })
    }

    fn decide(&self, input: &Value, context: &Value) -> Result<Value, String> {
        Python::attach(|py| {
            let call = || -> PyResult<Value> {
                let arguments = (to_object(py, input)?, to_object(py, context)?);
                let result = self
                    .function
                    .bind(py)
                    .call_method1(intern!(py, "decide"), arguments)?;
                to_value(&result, "the result")
            };
            call().map_err(|error| in_words(py, error))
        })
    }
}

/// A call under way; dropping it cancels what is left of it.
struct UnderWay(Py<PyAny>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        // Of a call that has ended this is a no-op; an interpreter that shuts down has nothing to cancel any more.
        Python::try_attach(|py| drop(self.0.bind(py).call_method0(intern!(py, "cancel"))));
    }
}

/// Called by the future of a call when it is done.
#[pyclass(module = "flujo._native", frozen)]
struct Done(Mutex<Option<(oneshot::Sender<Reply>, Arc<Prices>)>>);

#[pymethods]
impl Done {
    fn __call__(&self, future: &Bound<'_, PyAny>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let py = future.py();
        if let Some((sender, prices)) = sender {
            let result = future.call_method0(intern!(py, "result"));
            let reply = result.and_then(|result| output(result, &prices));
            // Who has given the call up hears no more of it.
            let _ = sender.send(reply.map_err(|error| failure(py, error, &prices)));
        }
    }
}

fn output(result: Bound<'_, PyAny>, prices: &Prices) -> PyResult<AgentOutput> {
    let py = result.py();
    let Answer::Value { value, usage } = host::agent_answer(result, Tariff { prices, agent: None })? else {
        return Err(PyTypeError::new_err("the function gave no output"));
    };
    let value = to_value(value.bind(py), "the result")?;
    Ok(AgentOutput {
        value,
        usage,
        model: None,
        tokens: None,
    })
}

fn failure(py: Python<'_>, error: PyErr, prices: &Prices) -> AgentError {
    let usage = host::usage_of_error(error.value(py), Tariff { prices, agent: None });
    let failure = host::failure_of(py, error);
    AgentError {
        message: format!("{}: {}", failure.error_type, failure.message),
        retry: match failure.retry {
            RetryAdvice::Allowed => Retry::Allowed,
            RetryAdvice::After(wait) => Retry::After(Duration::from_nanos(wait)),
            RetryAdvice::Never => Retry::Never,
        },
        usage,
        source: None,
    }
}

fn in_words(py: Python<'_>, error: PyErr) -> String {
    failure(py, error, &Prices::default()).message
}
