//! Python names this host uses, looked up once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

macro_rules! imported {
    ($($(#[$doc:meta])* $name:ident => $module:literal . $attribute:literal;)+) => {
        $(
            $(#[$doc])*
            pub(crate) fn $name(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
                static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
                CELL.get_or_try_init(py, || {
                    Ok::<_, PyErr>(py.import($module)?.getattr($attribute)?.unbind())
                })
                .map(|object| object.bind(py))
            }
        )+
    };
}

imported! {
    running_loop => "asyncio"."get_running_loop";
    current_task => "asyncio"."current_task";
    task_class => "asyncio"."Task";
    base_event_loop => "asyncio.base_events"."BaseEventLoop";
    cancelled_error => "asyncio"."CancelledError";
    new_run_id => "flujo.application._context"."new_run_id";
    default_context => "flujo.application._context"."default_context";
    step_result => "flujo.domain.results"."StepResult";
    pipeline_result => "flujo.domain.results"."PipelineResult";
    step_failure => "flujo.domain.results"."StepFailure";
    submit_to_worker => "flujo.application._workers"."submit";
    limit_error => "flujo.application._outcomes"."limit_error";
    retry_after => "flujo.application._outcomes"."retry_after";
    fatal_error => "flujo.application._outcomes"."fatal_error";
    report_hook_error => "flujo.application._hooks"."report";
    leave_worker => "flujo.application._workers"."leave";
    report_cut_off => "flujo.application._workers"."report_cut_off";
    report_uncached => "flujo.application._caching"."report_uncached";
    run_cancelled => "flujo.application._runs"."cancelled_error";
    fitting => "flujo.application._left"."fitting";
    mark_paused => "flujo.application._human"."mark_paused";
    alert_raised => "flujo.application._alerts"."raised";
    once => "flujo.application._once"."once";
    until_cancelled => "flujo.application._replaying"."until_cancelled";
    replay_error => "flujo.exceptions"."ReplayError";
    place_variable => "flujo.application._place"."PLACE";
    trace_tree => "flujo.domain.trace"."tree";
    logs_steps => "flujo.application._logging"."tells_steps";
    log => "flujo.application._logging"."told";
    spans_of_user => "flujo.application._spans"."spans_of_user";
    span_here => "flujo.application._spans"."get_current";
    span_of_process => "flujo.application._spans"."context_of";
    span_context => "flujo.application._spans"."span_context";
    enter_span => "flujo.application._spans"."enter";
    follow_span => "flujo.application._spans"."follow";
    leave_span => "flujo.application._spans"."leave";
    current_traceparent => "flujo.application._spans"."traceparent";
}

/// A class by module and name, looked up once.
macro_rules! class {
    ($($name:ident => $module:literal . $attribute:literal;)+) => {
        $(
            pub(crate) fn $name(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
                static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                CELL.import(py, $module, $attribute)
            }
        )+
    };
}

class! {
    abort_signal => "flujo.exceptions"."PipelineAbortSignal";
    control_flow_error => "flujo.exceptions"."ControlFlowError";
    non_retryable_error => "flujo.exceptions"."NonRetryableError";
    usage_limit_error => "flujo.exceptions"."UsageLimitExceededError";
    configuration_error => "flujo.exceptions"."ConfigurationError";
    pricing_error => "flujo.exceptions"."PricingNotConfiguredError";
    resume_error => "flujo.exceptions"."ResumeError";
    missing_agent_error => "flujo.exceptions"."MissingAgentError";
}

/// Whether a loop's time is the system's monotonic clock: asyncio's own loops, and uvloop's, which caches it.
pub(crate) fn keeps_system_time(py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    static LAST: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = event_loop.get_type();
    if let Some(last) = LAST.get(py)
        && last.is(&class)
    {
        return Ok(true);
    }
    let own = class.getattr("time")?;
    let kept =
        own.is(&base_event_loop(py)?.getattr("time")?) || class.module()?.to_cow()?.starts_with("uvloop");
    if kept {
        let _ = LAST.set(py, class.into_any().unbind());
    }
    Ok(kept)
}

/// Whether tasks can start at once, within the call that makes them (Python 3.12 and later).
pub(crate) fn eager_tasks(py: Python<'_>) -> bool {
    py.version_info() >= (3, 12)
}
