//! How the plan's callables are called: by position, by keyword, inline or in a worker thread.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};

use crate::vectorcall;

/// What a callable's result means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// An agent: its output, with usage where it tells any.
    Agent,
    /// The result is the new value.
    Value,
    /// Accepts, rejects, replaces or redirects.
    Plugin,
    /// Accepts or rejects.
    Validator,
    /// The result is a branch's key.
    Condition,
    /// The result counts as true or false.
    Decision,
    /// The result names branches.
    Selection,
    /// The result names a state, or is None.
    Transition,
    /// Gets a `StepFailure`; the result is the new value.
    Route,
    /// Gets a `StepFailure`; the result means nothing.
    Told,
    /// The result is a collection of items.
    Items,
    /// The result means nothing.
    Effect,
    /// The result is the context that a sub-pipeline starts with.
    Inherit,
    /// Gets `(name, StepResult)` of every lane.
    Lanes,
    /// Gets every successful lane's context by name; the result means nothing.
    Merge,
}

/// Where a callable runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the loop's own thread; what it returns is awaited where it can be.
    Inline,
    /// In a worker thread.
    Worker,
}

/// What goes by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    Input,
    Context,
    /// How often a loop has iterated; of a state machine, whether the state failed.
    Index,
    /// What a loop was given.
    Start,
    /// A branch's key, or a state's name.
    Key,
}

impl Argument {
    fn from_name(name: &str) -> PyResult<Self> {
        Ok(match name {
            "input" => Self::Input,
            "context" => Self::Context,
            "index" => Self::Index,
            "start" => Self::Start,
            "key" => Self::Key,
            other => return Err(PyValueError::new_err(format!("unknown argument {other:?}"))),
        })
    }
}

/// What a call gives its callable.
#[derive(Default)]
pub(crate) struct Given<'py> {
    pub(crate) input: Option<Bound<'py, PyAny>>,
    pub(crate) context: Option<Bound<'py, PyAny>>,
    pub(crate) resources: Option<Bound<'py, PyAny>>,
    pub(crate) index: u32,
    pub(crate) start: Option<Bound<'py, PyAny>>,
    pub(crate) key: Option<Bound<'py, PyAny>>,
}

#[derive(Debug)]
pub(crate) enum Keyword {
    Context,
    Resources,
    Constant(Py<PyAny>),
}

/// A callable of the plan and how it wants to be called.
#[derive(Debug)]
pub(crate) struct CallableSpec {
    pub(crate) target: Py<PyAny>,
    pub(crate) protocol: Protocol,
    pub(crate) place: Place,
    positional: Vec<Argument>,
    keyword_names: Option<Py<PyTuple>>,
    keywords: Vec<Keyword>,
    /// The places of branches or states by key, by equality.
    pub(crate) keys: Option<Py<PyDict>>,
    /// The class that the result is declared to be of.
    pub(crate) returns: Option<Py<PyAny>>,
    /// Exceptions worth another attempt; None is all of them.
    pub(crate) retry_on: Option<Py<PyAny>>,
    /// The agent whose method it is: it may name its model.
    pub(crate) agent: Option<Py<PyAny>>,
    pub(crate) name: String,
}

impl CallableSpec {
    /// What stands where a plan has no callable.
    pub(crate) fn nothing(py: Python<'_>) -> Self {
        Self {
            target: py.None(),
            protocol: Protocol::Effect,
            place: Place::Inline,
            positional: vec![Argument::Input],
            keyword_names: None,
            keywords: Vec::new(),
            keys: None,
            returns: None,
            retry_on: None,
            agent: None,
            name: String::new(),
        }
    }

    /// Whether it is given this by position.
    pub(crate) fn takes(&self, argument: Argument) -> bool {
        self.positional.contains(&argument)
    }

    /// Whether a call needs the context.
    pub(crate) fn wants_context(&self) -> bool {
        self.takes(Argument::Context)
            || self
                .keywords
                .iter()
                .any(|keyword| matches!(keyword, Keyword::Context))
    }

    pub(crate) fn wants_resources(&self) -> bool {
        self.keywords
            .iter()
            .any(|keyword| matches!(keyword, Keyword::Resources))
    }

    /// Calls it on this thread.
    pub(crate) fn call<'py>(&self, py: Python<'py>, given: &Given<'py>) -> PyResult<Bound<'py, PyAny>> {
        let target = self.target.bind(py);
        match (self.positional.as_slice(), self.keywords.is_empty(), given) {
            (
                [Argument::Input],
                true,
                Given {
                    input: Some(input), ..
                },
            ) => target.call1((input,)),
            (
                [Argument::Input, Argument::Context],
                true,
                Given {
                    input: Some(input),
                    context: Some(context),
                    ..
                },
            ) => target.call1((input, context)),
            (
                [Argument::Input],
                _,
                Given {
                    input: Some(input),
                    context: Some(context),
                    ..
                },
            ) if matches!(self.keywords[..], [Keyword::Context]) => {
                let names = self.keyword_names.as_ref().map(|names| names.bind(py));
                vectorcall::call(target, &[input.clone(), context.clone()], 1, names)
            }
            _ => {
                let (arguments, positional) = self.arguments(py, given);
                let names = self.keyword_names.as_ref().map(|names| names.bind(py));
                vectorcall::call(target, &arguments, positional, names)
            }
        }
    }

    /// The arguments in order, those by keyword last, and how many go by position.
    pub(crate) fn arguments<'py>(
        &self,
        py: Python<'py>,
        given: &Given<'py>,
    ) -> (Vec<Bound<'py, PyAny>>, usize) {
        let or_none =
            |value: &Option<Bound<'py, PyAny>>| value.clone().unwrap_or_else(|| py.None().into_bound(py));
        let mut arguments = Vec::with_capacity(self.positional.len() + self.keywords.len());
        arguments.extend(self.positional.iter().map(|argument| match argument {
            Argument::Input => or_none(&given.input),
            Argument::Context => or_none(&given.context),
            Argument::Index => PyInt::new(py, given.index).into_any(),
            Argument::Start => or_none(&given.start),
            Argument::Key => or_none(&given.key),
        }));
        let positional = arguments.len();
        arguments.extend(self.keywords.iter().map(|keyword| match keyword {
            Keyword::Context => or_none(&given.context),
            Keyword::Resources => or_none(&given.resources),
            Keyword::Constant(value) => value.bind(py).clone(),
        }));
        (arguments, positional)
    }

    pub(crate) fn keyword_names(&self) -> Option<&Py<PyTuple>> {
        self.keyword_names.as_ref()
    }
}

/// A callable as the compiler in Python describes it.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Callable {
    pub(crate) spec: Arc<CallableSpec>,
}

#[pymethods]
impl Callable {
    #[new]
    #[pyo3(signature = (target, protocol, *, name, worker=false, takes_input=true, context_by_position=false,
        arguments=None, context_keyword=None, resources_keyword=None, constants=None, keys=None, returns=None,
        retry_on=None, agent=None))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // named at the one place that calls it
    fn new(
        py: Python<'_>,
        target: Py<PyAny>,
        protocol: &str,
        name: String,
        worker: bool,
        takes_input: bool,
        context_by_position: bool,
        arguments: Option<Vec<String>>,
        context_keyword: Option<Py<PyAny>>,
        resources_keyword: Option<Py<PyAny>>,
        constants: Option<&Bound<'_, PyDict>>,
        keys: Option<Py<PyDict>>,
        returns: Option<Py<PyAny>>,
        retry_on: Option<Py<PyAny>>,
        agent: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let protocol = match protocol {
            "agent" => Protocol::Agent,
            "value" => Protocol::Value,
            "plugin" => Protocol::Plugin,
            "validator" => Protocol::Validator,
            "condition" => Protocol::Condition,
            "decision" => Protocol::Decision,
            "selection" => Protocol::Selection,
            "transition" => Protocol::Transition,
            "route" => Protocol::Route,
            "told" => Protocol::Told,
            "items" => Protocol::Items,
            "effect" => Protocol::Effect,
            "inherit" => Protocol::Inherit,
            "lanes" => Protocol::Lanes,
            "merge" => Protocol::Merge,
            other => return Err(PyValueError::new_err(format!("unknown protocol {other:?}"))),
        };
        let positional = match arguments {
            Some(names) => names
                .iter()
                .map(|name| Argument::from_name(name))
                .collect::<PyResult<_>>()?,
            None => [
                (takes_input, Argument::Input),
                (context_by_position, Argument::Context),
            ]
            .into_iter()
            .filter_map(|(taken, argument)| taken.then_some(argument))
            .collect(),
        };
        let mut names: Vec<Py<PyAny>> = Vec::new();
        let mut keywords = Vec::new();
        if let Some(keyword) = context_keyword {
            names.push(keyword);
            keywords.push(Keyword::Context);
        }
        if let Some(keyword) = resources_keyword {
            names.push(keyword);
            keywords.push(Keyword::Resources);
        }
        for (keyword, value) in constants.into_iter().flatten() {
            names.push(keyword.unbind());
            keywords.push(Keyword::Constant(value.unbind()));
        }
        let keyword_names = if names.is_empty() {
            None
        } else {
            Some(PyTuple::new(py, names)?.unbind())
        };
        Ok(Self {
            spec: Arc::new(CallableSpec {
                target,
                protocol,
                place: if worker { Place::Worker } else { Place::Inline },
                positional,
                keyword_names,
                keywords,
                keys,
                returns,
                retry_on,
                agent,
                name,
            }),
        })
    }
}
