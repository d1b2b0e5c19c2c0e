//! Telemetry as Python sees it: what is recorded, and who gets it.

mod exporting;
mod told;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::telemetry::{Attribute, SampleRate, Span};
use flujo_observe::Protocol;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyInt, PyString};

use crate::statistics;
use exporting::{Asked, OtlpSettings, Settings, StartError};
pub(crate) use exporting::{Exporting, Recording};

/// How long the end of the process waits for the last spans to leave.
const AT_EXIT: Duration = Duration::from_secs(2);

/// Records the spans of runs and hands them to exporters.
#[pyclass(module = "flujo.application.core.executor_core", frozen)]
pub(crate) struct OptimizedTelemetry {
    pub(crate) exporting: Arc<Exporting>,
}

#[pymethods]
impl OptimizedTelemetry {
    #[new]
    #[pyo3(signature = (*, otlp=None, protocol=None, headers=None, timeout_s=None, service_name=None, jsonl=None,
        prometheus=None, console=false, sample=1.0, capture_content=false, queue_size=32_768))]
    #[allow(clippy::too_many_arguments)] // by keyword
    fn new(
        py: Python<'_>,
        otlp: Option<&Bound<'_, PyAny>>,
        protocol: Option<&str>,
        headers: Option<BTreeMap<String, String>>,
        timeout_s: Option<f64>,
        service_name: Option<String>,
        jsonl: Option<PathBuf>,
        prometheus: Option<&Bound<'_, PyAny>>,
        console: bool,
        sample: f64,
        capture_content: bool,
        queue_size: usize,
    ) -> PyResult<Self> {
        watch_process(py)?;
        SampleRate::new(sample).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let endpoint = asked(
            otlp,
            "otlp",
            "the address of a collector, or True for what the environment says",
        )?;
        let of_otlp =
            protocol.is_some() || headers.is_some() || timeout_s.is_some() || service_name.is_some();
        if endpoint == Asked::No && of_otlp {
            return Err(PyValueError::new_err(
                "protocol, headers, timeout_s and service_name are those of a collector: give otlp too, True for the one \
                 that the environment names",
            ));
        }
        let wants_otlp = endpoint != Asked::No;
        let otlp = match endpoint {
            Asked::Yes | Asked::At(_) if !disabled(py)? => Some(OtlpSettings {
                endpoint: match endpoint {
                    Asked::At(endpoint) => Some(endpoint),
                    Asked::No | Asked::Yes => None,
                },
                protocol: protocol.map(protocol_of).transpose()?,
                headers: headers.unwrap_or_default().into_iter().collect(),
                timeout: timeout_s.map(seconds).transpose()?,
                service_name,
            }),
            _ => None,
        };
        let prometheus = prometheus_address(prometheus)?;
        let keeps = !wants_otlp && jsonl.is_none() && !console && prometheus == Asked::No;
        let settings = Settings {
            sample,
            capture_content,
            queue_size,
            otlp,
            jsonl,
            console,
            keeps,
            prometheus,
        };
        let exporting = py.detach(|| Exporting::new(settings)).map_err(refused)?;
        Ok(Self { exporting })
    }

    /// Takes out spans that wait, the oldest first: for an exporter of one's own, where none of those that ship was asked
    /// for.
    #[pyo3(signature = (at_most=10_000))]
    fn take<'py>(&self, py: Python<'py>, at_most: usize) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let spans = py.detach(|| self.exporting.take(at_most));
        spans.iter().map(|span| span_to_dict(py, span)).collect()
    }

    /// Lets the spans of runs that have ended leave the process; whether they have within `timeout_s` seconds.
    #[pyo3(signature = (timeout_s=5.0))]
    fn flush(&self, py: Python<'_>, timeout_s: f64) -> PyResult<bool> {
        let at_most = seconds(timeout_s)?;
        let observers = self.exporting.observers();
        Ok(py.detach(|| observers.iter().all(|observer| observer.flush(at_most).is_ok())))
    }

    /// The same, and records and serves nothing from then on. The end of the process does it by itself, for two seconds.
    #[pyo3(signature = (timeout_s=5.0))]
    fn shutdown(&self, py: Python<'_>, timeout_s: f64) -> PyResult<bool> {
        let at_most = seconds(timeout_s)?;
        Ok(py.detach(|| self.exporting.shut_down(at_most)))
    }

    /// What was counted in this process: spans started, ended and dropped, flushes, the longest the queue has been, and
    /// the seconds that a span takes on the step's own thread.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        statistics::telemetry(py, &self.exporting.statistics())
    }

    /// The metrics of finished runs as Prometheus reads them; empty unless `prometheus` was given.
    fn metrics(&self, py: Python<'_>) -> String {
        py.detach(|| self.exporting.metrics())
    }

    /// Where Prometheus finds the metrics, `host:port`; None where they aren't served.
    #[getter]
    fn prometheus_address(&self) -> Option<String> {
        self.exporting.address()
    }
}

/// Whether something is asked for, and with which text.
fn asked(value: Option<&Bound<'_, PyAny>>, name: &str, what: &str) -> PyResult<Asked> {
    match value {
        None => Ok(Asked::No),
        Some(value) if value.is_instance_of::<PyBool>() => {
            Ok(if value.is_truthy()? { Asked::Yes } else { Asked::No })
        }
        Some(value) => match value.cast::<PyString>() {
            Ok(text) => Ok(Asked::At(text.to_cow()?.into_owned())),
            Err(_) => Err(PyTypeError::new_err(format!(
                "{name} must be {what}, not {}",
                value.get_type().name()?
            ))),
        },
    }
}

fn prometheus_address(value: Option<&Bound<'_, PyAny>>) -> PyResult<Asked> {
    match value {
        Some(port) if port.is_instance_of::<PyInt>() && !port.is_instance_of::<PyBool>() => {
            let port: u16 = port.extract().map_err(|_| {
                PyValueError::new_err(format!("prometheus must be a port from 0 to 65535, not {port}"))
            })?;
            Ok(Asked::At(format!("127.0.0.1:{port}")))
        }
        other => asked(
            other,
            "prometheus",
            "a port, host:port, or True for metrics() alone",
        ),
    }
}

fn protocol_of(name: &str) -> PyResult<Protocol> {
    match name {
        "http/protobuf" | "http" => Ok(Protocol::Http),
        "grpc" => Ok(Protocol::Grpc),
        other => Err(PyValueError::new_err(format!(
            "protocol must be 'http/protobuf' or 'grpc', not {other:?}"
        ))),
    }
}

fn seconds(value: f64) -> PyResult<Duration> {
    let valid = Duration::try_from_secs_f64(value)
        .ok()
        .filter(|time| !time.is_zero());
    valid.ok_or_else(|| PyValueError::new_err(format!("timeout_s must be above 0 seconds, not {value}")))
}

/// Whether the environment asks every SDK to send nothing.
fn disabled(py: Python<'_>) -> PyResult<bool> {
    let environment = py.import("os")?.getattr("environ")?;
    let value = environment.call_method1("get", ("OTEL_SDK_DISABLED", ""))?;
    Ok(value.extract::<String>()?.eq_ignore_ascii_case("true"))
}

fn refused(error: StartError) -> PyErr {
    match error {
        StartError::File(..) | StartError::Endpoint(_) | StartError::Thread(_) => {
            PyOSError::new_err(error.to_string())
        }
        StartError::Otlp(_) | StartError::Rate(_) => PyValueError::new_err(error.to_string()),
    }
}

fn span_to_dict<'py>(py: Python<'py>, span: &Span) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &span.name)?;
    dict.set_item("trace_id", span.context.trace.to_string())?;
    dict.set_item("span_id", span.context.span.to_string())?;
    dict.set_item("parent_id", span.parent.map(|parent| parent.to_string()))?;
    dict.set_item("kind", span.kind.name())?;
    dict.set_item("status", span.status.name())?;
    dict.set_item("start_time", span.started)?;
    dict.set_item("end_time", span.ended)?;
    dict.set_item("attributes", attributes_to_dict(py, span)?)?;
    Ok(dict)
}

/// The attributes of a span by name.
pub(crate) fn attributes_to_dict<'py>(py: Python<'py>, span: &Span) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in &span.attributes {
        match value {
            Attribute::Text(text) => dict.set_item(name, &**text)?,
            Attribute::Count(count) => dict.set_item(name, count)?,
            Attribute::Number(number) => dict.set_item(name, number)?,
            Attribute::Flag(flag) => dict.set_item(name, flag)?,
        }
    }
    Ok(dict)
}

/// Asks to be told of forks and of the interpreter's end.
fn watch_process(py: Python<'_>) -> PyResult<()> {
    static WATCHED: PyOnceLock<()> = PyOnceLock::new();
    WATCHED
        .get_or_try_init(py, || {
            py.import("atexit")?
                .call_method1("register", (wrap_pyfunction!(shut_down, py)?,))?;
            if let Some(register) = py.import("os")?.getattr_opt("register_at_fork")? {
                let hooks = PyDict::new(py);
                hooks.set_item("after_in_child", wrap_pyfunction!(forked, py)?)?;
                register.call((), Some(&hooks))?;
            }
            Ok(())
        })
        .copied()
}

#[pyfunction]
fn forked() {
    exporting::forked();
}

/// The interpreter ends, while threads can still reach it.
#[pyfunction]
fn shut_down(py: Python<'_>) {
    py.detach(|| exporting::shut_down_all(AT_EXIT));
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<OptimizedTelemetry>()
}
