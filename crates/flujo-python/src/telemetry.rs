//! Telemetry as Python sees it: what is recorded, and who gets it. It is started when the first run needs it, and anew in
//! a child process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use flujo_core::config::{Part, Twins};
use flujo_core::machine::Time;
use flujo_core::stats::TelemetryStats;
use flujo_core::telemetry::{
    Attribute, OptimizedTelemetry as Optimized, PlainTelemetry, SampleRate, Span, SpanQueue, SpanSettings,
    Telemetry,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::host::Python3;
use crate::statistics;

/// Counts the forks between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Records the spans of runs and hands them to exporters.
#[pyclass(module = "flujo.application.core.executor_core", frozen)]
pub(crate) struct OptimizedTelemetry {
    pub(crate) exporting: Arc<Exporting>,
}

/// What is to be exported, and the exporters of this process.
pub(crate) struct Exporting {
    settings: SpanSettings,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    /// After how many forks they were started.
    forks: u64,
    recording: Option<Arc<Recording>>,
}

/// The spans of one process on their way to its exporters.
pub(crate) struct Recording {
    queue: Arc<SpanQueue>,
    plain: PlainTelemetry,
    optimized: Optimized,
}

impl Recording {
    /// The twin that a run uses.
    pub(crate) fn telemetry(&self, twins: Twins) -> &dyn Telemetry<Python3> {
        if twins.is_optimized(Part::Telemetry) {
            &self.optimized
        } else {
            &self.plain
        }
    }
}

impl Exporting {
    /// Where a run's spans go; None where nobody takes them. `beside`: the program has OpenTelemetry of its own, which
    /// gets them already.
    pub(crate) fn recording(&self, beside: bool) -> Option<Arc<Recording>> {
        if beside {
            return None;
        }
        let mut live = self.lock();
        Some(Arc::clone(live.recording.get_or_insert_with(|| {
            let queue = Arc::new(SpanQueue::new(self.settings));
            Arc::new(Recording {
                plain: PlainTelemetry::new(Arc::clone(&queue)),
                optimized: Optimized::new(Arc::clone(&queue)),
                queue,
            })
        })))
    }

    /// What was counted in this process.
    pub(crate) fn statistics(&self) -> TelemetryStats {
        self.queue().map(|queue| queue.statistics()).unwrap_or_default()
    }

    fn queue(&self) -> Option<Arc<SpanQueue>> {
        let live = self.lock();
        live.recording
            .as_ref()
            .map(|recording| Arc::clone(&recording.queue))
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let forks = FORKS.load(Ordering::Relaxed);
        if live.forks != forks {
            // Its threads stayed in the parent, and with them whatever they held at that moment: it is never dropped here.
            std::mem::forget(std::mem::take(&mut *live));
            live.forks = forks;
        }
        live
    }
}

#[pymethods]
impl OptimizedTelemetry {
    #[new]
    #[pyo3(signature = (*, sample=1.0, capture_content=false, queue_size=32_768))]
    fn new(py: Python<'_>, sample: f64, capture_content: bool, queue_size: usize) -> PyResult<Self> {
        watch_forks(py)?;
        let rate = SampleRate::new(sample).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let settings = SpanSettings {
            rate,
            capture_content,
            capacity: queue_size,
            clock: Some(now),
        };
        Ok(Self {
            exporting: Arc::new(Exporting {
                settings,
                live: Mutex::default(),
            }),
        })
    }

    /// Takes out spans that wait, the oldest first: for an exporter of one's own, beside or in place of those that ship.
    #[pyo3(signature = (at_most=10_000))]
    fn take<'py>(&self, py: Python<'py>, at_most: usize) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let spans = self
            .exporting
            .queue()
            .map(|queue| py.detach(|| queue.take(at_most)));
        spans
            .unwrap_or_default()
            .iter()
            .map(|span| span_to_dict(py, span))
            .collect()
    }

    /// What was counted in this process: spans started, ended and dropped, flushes, the longest the queue has been, and
    /// the seconds that a span takes on the step's own thread.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        statistics::telemetry(py, &self.exporting.statistics())
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

fn watch_forks(py: Python<'_>) -> PyResult<()> {
    static WATCHED: PyOnceLock<()> = PyOnceLock::new();
    WATCHED
        .get_or_try_init(py, || {
            if let Some(register) = py.import("os")?.getattr_opt("register_at_fork")? {
                let hooks = PyDict::new(py);
                hooks.set_item("after_in_child", wrap_pyfunction!(count_fork, py)?)?;
                register.call((), Some(&hooks))?;
            }
            Ok(())
        })
        .copied()
}

#[pyfunction]
fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// A clock that never goes back, in nanoseconds.
fn now() -> Time {
    static START: OnceLock<Instant> = OnceLock::new();
    Time::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(Time::MAX)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<OptimizedTelemetry>()
}
