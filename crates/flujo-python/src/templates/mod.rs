//! Templates and expressions for Python: `flujo-agents` has the language; here are its names and objects.

mod view;

use flujo_agents::template::{self, Scope, TemplateError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

pub(crate) use view::to_value;

use crate::host;

/// The longest part of a template that a message shows, in characters.
const SHOWN: usize = 120;

/// A text with placeholders.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Template {
    text: template::Template,
    /// The expression of a text that is one placeholder and nothing else.
    only: Option<template::Expression>,
    named: Named,
}

/// What stands between `{{` and `}}`, with or without the braces.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Expression {
    expression: template::Expression,
    named: Named,
}

/// What a template is called in messages, and which names it reads.
struct Named {
    place: String,
    source: String,
    context: bool,
    steps: bool,
}

impl Named {
    fn new<'a>(place: &str, source: &str, variables: impl Iterator<Item = &'a String>) -> Self {
        let mut named = Self {
            place: place.to_owned(),
            source: source.to_owned(),
            context: false,
            steps: false,
        };
        for variable in variables {
            // `debug()` shows everything there is.
            let all = variable == "debug";
            let top = variable.split('.').next().unwrap_or_default();
            named.context |= all || top == "context";
            named.steps |= all || top == "steps";
        }
        if named.steps {
            host::steps::keep();
        }
        named
    }

    fn scope(
        &self,
        value: &Bound<'_, PyAny>,
        context: Option<&Bound<'_, PyAny>>,
        more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Scope> {
        let mut scope = Scope::new().input(to_value(value));
        if let (true, Some(context)) = (self.context, context) {
            scope = scope.context(to_value(context));
        }
        if self.steps {
            scope = scope.steps(to_value(host::steps::here(value.py())?.as_any()));
        }
        for (name, value) in more.into_iter().flatten() {
            scope = scope.with(view::name(&name)?, to_value(&value));
        }
        Ok(scope)
    }

    fn error(&self, py: Python<'_>, error: &TemplateError) -> PyErr {
        refuse(py, &self.place, &self.source, error)
    }
}

fn refuse(py: Python<'_>, place: &str, source: &str, error: &TemplateError) -> PyErr {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let line = source.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = line.chars().take(SHOWN).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    let message = format!("{place}, {shown:?}: {error}");
    let class = CELL.import(py, "flujo.exceptions", "TemplateResolutionError");
    match class.and_then(|class| class.call1((message,))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

#[pymethods]
impl Template {
    /// Parses `source`; `place` is what messages call it, such as "the input of step 'say'".
    ///
    /// # Errors
    /// `TemplateResolutionError` for a syntax error.
    #[new]
    #[pyo3(signature = (source, place="the template"))]
    fn new(py: Python<'_>, source: &str, place: &str) -> PyResult<Self> {
        let refused = |error| refuse(py, place, source, &error);
        let text = template::Template::parse(source).map_err(refused)?;
        let only = template::only_placeholder(source)
            .map(template::Expression::parse)
            .transpose()
            .map_err(refused)?;
        Ok(Self {
            named: Named::new(place, source, text.variables().iter()),
            text,
            only,
        })
    }

    #[getter]
    fn source(&self) -> &str {
        &self.named.source
    }

    /// Whether it reads the context.
    #[getter]
    fn reads_context(&self) -> bool {
        self.named.context
    }

    /// The text. `value` is `previous_step`; `names` are there as well.
    #[pyo3(signature = (value, context=None, **names))]
    fn render(
        &self,
        value: &Bound<'_, PyAny>,
        context: Option<&Bound<'_, PyAny>>,
        names: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<String> {
        let scope = self.named.scope(value, context, names)?;
        self.text
            .render(&scope)
            .map_err(|error| self.named.error(value.py(), &error))
    }

    /// As `render`; a template that is one placeholder gives the value itself.
    #[pyo3(signature = (value, context=None, **names))]
    fn __call__<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        names: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        match &self.only {
            // What comes in goes on as it is, of whatever class.
            Some(only) if ["previous_step", "input"].contains(&only.source()) => Ok(value.clone()),
            Some(only) => evaluate(only, &self.named, value, context, names),
            None => Ok(self.render(value, context, names)?.into_pyobject(py)?.into_any()),
        }
    }
}

fn evaluate<'py>(
    expression: &template::Expression,
    named: &Named,
    value: &Bound<'py, PyAny>,
    context: Option<&Bound<'py, PyAny>>,
    names: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let scope = named.scope(value, context, names)?;
    let found = expression
        .evaluate(&scope)
        .map_err(|error| named.error(py, &error))?;
    view::to_object(py, &found)
}

#[pymethods]
impl Expression {
    /// Parses `source`; `place` is what messages call it.
    ///
    /// # Errors
    /// `TemplateResolutionError` for a syntax error, or for a form that is written otherwise here.
    #[new]
    #[pyo3(signature = (source, place="the expression"))]
    fn new(py: Python<'_>, source: &str, place: &str) -> PyResult<Self> {
        let refused = |error| refuse(py, place, source, &error);
        let expression = template::Expression::parse(source).map_err(refused)?;
        Ok(Self {
            named: Named::new(place, source, expression.variables().iter()),
            expression,
        })
    }

    #[getter]
    fn source(&self) -> &str {
        &self.named.source
    }

    /// Whether it reads the context.
    #[getter]
    fn reads_context(&self) -> bool {
        self.named.context
    }

    /// Its value. `value` is `previous_step`; `names` are there as well.
    #[pyo3(signature = (value, context=None, **names))]
    fn __call__<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        names: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        evaluate(&self.expression, &self.named, value, context, names)
    }

    /// Whether its value counts as true; an undefined one doesn't.
    #[pyo3(signature = (value, context=None, **names))]
    fn is_true(
        &self,
        value: &Bound<'_, PyAny>,
        context: Option<&Bound<'_, PyAny>>,
        names: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<bool> {
        let scope = self.named.scope(value, context, names)?;
        self.expression
            .is_true(&scope)
            .map_err(|error| self.named.error(value.py(), &error))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Template>()?;
    module.add_class::<Expression>()?;
    Ok(())
}
