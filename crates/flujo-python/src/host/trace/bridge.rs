//! OpenTelemetry in Python: what `flujo.application._spans` does, called from here. Nothing is imported in a process that
//! hasn't imported OpenTelemetry itself.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use crate::host::names;

/// Makes spans with one tracer.
pub(super) struct Spans(Py<PyAny>);

impl Spans {
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    /// The context in which a new span below that of `around` is current.
    pub(super) fn begin(
        &self,
        py: Python<'_>,
        name: &str,
        around: &Py<PyAny>,
        attributes: &Bound<'_, PyDict>,
        link: Option<&Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let begun = self
            .0
            .bind(py)
            .call_method1(intern!(py, "begin"), (name, around, attributes, link));
        Ok(begun?.unbind())
    }

    pub(super) fn end(
        &self,
        py: Python<'_>,
        context: &Py<PyAny>,
        attributes: &Bound<'_, PyDict>,
        error: bool,
        error_type: Option<&str>,
    ) -> PyResult<()> {
        let ended = (context, attributes, error, error_type);
        self.0.bind(py).call_method1(intern!(py, "end"), ended)?;
        Ok(())
    }

    pub(super) fn event(&self, py: Python<'_>, context: &Py<PyAny>, name: &str) -> PyResult<()> {
        self.0
            .bind(py)
            .call_method1(intern!(py, "event"), (context, name))?;
        Ok(())
    }
}

/// Those of the user's own SDK, where there is one.
pub(super) fn of_user(py: Python<'_>) -> PyResult<Option<Spans>> {
    if !is_imported(py)? {
        return Ok(None);
    }
    let spans = names::spans_of_user(py)?.call0()?;
    Ok((!spans.is_none()).then(|| Spans(spans.unbind())))
}

/// Whether this process has OpenTelemetry's API.
pub(super) fn is_imported(py: Python<'_>) -> PyResult<bool> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = MODULES.get_or_try_init(py, || {
        let modules = py.import("sys")?.getattr("modules")?;
        Ok::<_, PyErr>(modules.cast_into::<PyDict>()?.unbind())
    })?;
    modules.bind(py).contains(intern!(py, "opentelemetry.trace"))
}

/// The context that is current here.
pub(super) fn here(py: Python<'_>) -> PyResult<Py<PyAny>> {
    Ok(names::span_here(py)?.call0()?.unbind())
}

/// The context that is current here, with the span of another process as the current one.
pub(super) fn context_of(py: Python<'_>, traceparent: &Py<PyString>) -> PyResult<Py<PyAny>> {
    Ok(names::span_of_process(py)?.call1((traceparent,))?.unbind())
}

pub(super) fn span_context(py: Python<'_>, context: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    Ok(names::span_context(py)?.call1((context,))?.unbind())
}

pub(super) fn enter(py: Python<'_>, context: &Py<PyAny>) -> PyResult<()> {
    names::enter_span(py)?.call1((context,)).map(drop)
}

pub(super) fn leave(py: Python<'_>, context: &Py<PyAny>, outside: &Py<PyAny>) -> PyResult<()> {
    names::leave_span(py)?.call1((context, outside)).map(drop)
}

/// The current span as other processes are told of it; None where there is none.
pub(super) fn traceparent(py: Python<'_>) -> PyResult<Option<String>> {
    if is_imported(py)? {
        names::current_traceparent(py)?.call0()?.extract()
    } else {
        Ok(None)
    }
}

/// The span that is current in a context, in the same form.
pub(super) fn traceparent_of(py: Python<'_>, context: &Py<PyAny>) -> PyResult<Option<String>> {
    names::current_traceparent(py)?.call1((context,))?.extract()
}

/// Makes a span current that is always the one of the step at `place`; gives the context in which it is.
pub(super) fn follow(py: Python<'_>, place: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    Ok(names::follow_span(py)?.call1((place,))?.unbind())
}
