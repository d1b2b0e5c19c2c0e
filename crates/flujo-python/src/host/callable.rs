//! How the plan's callables are called: by position, by keyword, inline or in a worker thread.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

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
    pub(crate) takes_input: bool,
    pub(crate) context_by_position: bool,
    keyword_names: Option<Py<PyTuple>>,
    keywords: Vec<Keyword>,
    /// Branch keys of a condition, by equality.
    pub(crate) keys: Option<Py<PyDict>>,
    /// Exceptions worth another attempt; None is all of them.
    pub(crate) retry_on: Option<Py<PyAny>>,
    pub(crate) name: String,
}

impl CallableSpec {
    /// What stands where a plan has no callable.
    pub(crate) fn nothing(py: Python<'_>) -> Self {
        Self {
            target: py.None(),
            protocol: Protocol::Effect,
            place: Place::Inline,
            takes_input: true,
            context_by_position: false,
            keyword_names: None,
            keywords: Vec::new(),
            keys: None,
            retry_on: None,
            name: String::new(),
        }
    }

    /// Whether a call needs the context.
    pub(crate) fn wants_context(&self) -> bool {
        self.context_by_position
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
    pub(crate) fn call<'py>(
        &self,
        py: Python<'py>,
        input: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        resources: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let target = self.target.bind(py);
        if self.takes_input && !self.context_by_position && self.keywords.is_empty() {
            return target.call1((input,));
        }
        let (arguments, positional) = self.arguments(py, input, context, resources);
        let names = self.keyword_names.as_ref().map(|names| names.bind(py));
        vectorcall::call(target, &arguments, positional, names)
    }

    /// The arguments in order, those by keyword last, and how many go by position.
    pub(crate) fn arguments<'py>(
        &self,
        py: Python<'py>,
        input: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        resources: Option<&Bound<'py, PyAny>>,
    ) -> (Vec<Bound<'py, PyAny>>, usize) {
        let none = || py.None().into_bound(py);
        let mut arguments = Vec::with_capacity(2 + self.keywords.len());
        if self.takes_input {
            arguments.push(input.clone());
        }
        if self.context_by_position {
            arguments.push(context.cloned().unwrap_or_else(none));
        }
        let positional = arguments.len();
        arguments.extend(self.keywords.iter().map(|keyword| match keyword {
            Keyword::Context => context.cloned().unwrap_or_else(none),
            Keyword::Resources => resources.cloned().unwrap_or_else(none),
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
        context_keyword=None, resources_keyword=None, constants=None, keys=None, retry_on=None))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // named at the one place that calls it
    fn new(
        py: Python<'_>,
        target: Py<PyAny>,
        protocol: &str,
        name: String,
        worker: bool,
        takes_input: bool,
        context_by_position: bool,
        context_keyword: Option<Py<PyAny>>,
        resources_keyword: Option<Py<PyAny>>,
        constants: Option<&Bound<'_, PyDict>>,
        keys: Option<Py<PyDict>>,
        retry_on: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let protocol = match protocol {
            "agent" => Protocol::Agent,
            "value" => Protocol::Value,
            "plugin" => Protocol::Plugin,
            "validator" => Protocol::Validator,
            "condition" => Protocol::Condition,
            "items" => Protocol::Items,
            "effect" => Protocol::Effect,
            "inherit" => Protocol::Inherit,
            "lanes" => Protocol::Lanes,
            "merge" => Protocol::Merge,
            other => return Err(PyValueError::new_err(format!("unknown protocol {other:?}"))),
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
                takes_input,
                context_by_position,
                keyword_names,
                keywords,
                keys,
                retry_on,
                name,
            }),
        })
    }
}
