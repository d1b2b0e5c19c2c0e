//! What is exported, and the exporters of this process: started when the first run needs them, and anew in a child.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use flujo_core::config::{Part, Twins};
use flujo_core::machine::Time;
use flujo_core::stats::{PartStatistics, Statistics, TelemetryStats};
use flujo_core::telemetry::{
    OptimizedTelemetry, PlainTelemetry, SampleRate, Span, SpanQueue, SpanSettings, Telemetry,
};
use flujo_observe::{
    ConsoleTree, Exporter, JsonLines, Metrics, MetricsEndpoint, Observer, Otlp, OtlpBuilder, OtlpError,
    Protocol,
};
use pyo3::prelude::*;

use super::told::Told;
use crate::host::Python3;

/// Counts the forks between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// Everything that is exporting, for the end of the process.
static ALL: Mutex<Vec<Weak<Exporting>>> = Mutex::new(Vec::new());

/// How many pipelines' metrics are kept apart; those of others are counted together.
const PIPELINES: usize = 1_000;
const OTHER: &str = "other";

/// What somebody asked for.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) sample: f64,
    pub(super) capture_content: bool,
    pub(super) queue_size: usize,
    pub(super) otlp: Option<OtlpSettings>,
    pub(super) jsonl: Option<PathBuf>,
    pub(super) console: bool,
    /// Spans wait until somebody takes them out: no exporter was asked for.
    pub(super) keeps: bool,
    /// Where Prometheus finds the metrics; a yes without an address when somebody else serves them.
    pub(super) prometheus: Asked,
}

/// Whether something is asked for.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Asked {
    No,
    Yes,
    /// At this address.
    At(String),
}

#[derive(Clone)]
pub(super) struct OtlpSettings {
    pub(super) endpoint: Option<String>,
    pub(super) protocol: Option<Protocol>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Option<Duration>,
    pub(super) service_name: Option<String>,
}

/// Why something can't be exported.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error(transparent)]
    Endpoint(#[from] flujo_observe::StartError),
    #[error(transparent)]
    Rate(#[from] flujo_core::telemetry::SampleRateError),
    #[error("no thread for exporters can be started: {0}")]
    Thread(std::io::Error),
}

/// What is to be exported, and the exporters of this process.
pub(crate) struct Exporting {
    settings: Settings,
    metrics: Metrics,
    /// The runs of each pipeline, by its name: counted for good, whatever becomes of their runners.
    pipelines: Mutex<HashMap<Arc<str>, Arc<Statistics>>>,
    endpoint: Mutex<Option<MetricsEndpoint>>,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    /// After how many forks they were started.
    forks: u64,
    /// All exporters, and those that remain where a program has OpenTelemetry of its own.
    alone: Option<Arc<Recording>>,
    beside: Option<Arc<Recording>>,
    ended: bool,
}

/// The spans of one process on their way to its exporters.
pub(crate) struct Recording {
    queue: Arc<SpanQueue>,
    plain: PlainTelemetry,
    optimized: OptimizedTelemetry,
    observer: Option<Observer>,
}

impl Recording {
    fn new(queue: Arc<SpanQueue>, observer: Option<Observer>) -> Self {
        Self {
            plain: PlainTelemetry::new(Arc::clone(&queue)),
            optimized: OptimizedTelemetry::new(Arc::clone(&queue)),
            queue,
            observer,
        }
    }

    /// The twin that a run uses.
    pub(crate) fn telemetry(&self, twins: Twins) -> &dyn Telemetry<Python3> {
        if twins.is_optimized(Part::Telemetry) {
            &self.optimized
        } else {
            &self.plain
        }
    }
}

impl Drop for Recording {
    /// The last spans leave in a thread of their own: whoever lets go of it may hold the interpreter.
    fn drop(&mut self) {
        let Some(observer) = self.observer.take() else {
            return;
        };
        // Without a thread they leave here.
        let _ = std::thread::Builder::new().spawn(move || drop(observer));
    }
}

impl Exporting {
    /// Checks what was asked for, and serves metrics from now on. Exporters start with the first run.
    pub(super) fn new(settings: Settings) -> Result<Arc<Self>, StartError> {
        let exporting = Self {
            settings,
            metrics: Metrics::default(),
            pipelines: Mutex::default(),
            endpoint: Mutex::default(),
            live: Mutex::default(),
        };
        drop(exporting.exporters(true)?);
        if let Asked::At(address) = &exporting.settings.prometheus {
            let endpoint = MetricsEndpoint::serve(address, exporting.metrics.clone())?;
            *lock(&exporting.endpoint) = Some(endpoint);
        }
        let exporting = Arc::new(exporting);
        let mut all = lock(&ALL);
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&exporting));
        Ok(exporting)
    }

    fn exporters(&self, alone: bool) -> Result<Vec<Box<dyn Exporter>>, StartError> {
        let Settings {
            otlp, jsonl, console, ..
        } = &self.settings;
        let mut exporters: Vec<Box<dyn Exporter>> = Vec::new();
        if let Some(otlp) = otlp.as_ref().filter(|_| alone) {
            exporters.push(Box::new(otlp.build()?));
        }
        if let Some(path) = jsonl {
            let lines = JsonLines::append(path).map_err(|error| StartError::File(path.clone(), error))?;
            exporters.push(Box::new(lines));
        }
        if *console {
            exporters.push(Box::new(ConsoleTree::stderr()));
        }
        Ok(exporters)
    }

    fn start(&self, alone: bool) -> Result<Arc<Recording>, StartError> {
        let settings = &self.settings;
        if settings.keeps {
            let queue = SpanQueue::new(SpanSettings {
                rate: SampleRate::new(settings.sample)?,
                capture_content: settings.capture_content,
                capacity: settings.queue_size,
                clock: Some(clock),
            });
            return Ok(Arc::new(Recording::new(Arc::new(queue), None)));
        }
        let builder = Observer::builder()
            .sample(settings.sample)?
            .capture_content(settings.capture_content)
            .capacity(settings.queue_size);
        let exporters = self.exporters(alone)?.into_iter();
        let builder = exporters.fold(builder, |builder, exporter| builder.exporter(Told::new(exporter)));
        let observer = builder.build().map_err(StartError::Thread)?;
        Ok(Arc::new(Recording::new(
            Arc::clone(observer.queue()),
            Some(observer),
        )))
    }

    /// Where a run's spans go; None where nobody takes them. `beside`: the program has OpenTelemetry of its own, which
    /// gets them already.
    pub(crate) fn recording(&self, py: Python<'_>, beside: bool) -> Option<Arc<Recording>> {
        if !self.takes_spans(beside) {
            return None;
        }
        let mut live = self.lock();
        if live.ended {
            return None;
        }
        let place = if beside { &mut live.beside } else { &mut live.alone };
        if place.is_none() {
            match self.start(!beside) {
                Ok(recording) => *place = Some(recording),
                Err(error) => {
                    // It had worked when it was checked. The run goes on, and the next one tries again.
                    super::told::warn(py, &format!("spans can't be exported: {error}"));
                }
            }
        }
        place.clone()
    }

    fn takes_spans(&self, beside: bool) -> bool {
        let Settings {
            otlp, jsonl, console, ..
        } = &self.settings;
        let others = jsonl.is_some() || *console;
        others || ((otlp.is_some() || self.settings.keeps) && !beside)
    }

    /// Counts the runs of a pipeline for its metrics; None where nobody reads them.
    pub(crate) fn counts_of(self: &Arc<Self>, pipeline: &Arc<str>) -> Option<Arc<Statistics>> {
        if self.settings.prometheus == Asked::No {
            return None;
        }
        let mut pipelines = lock(&self.pipelines);
        let known = pipelines.len() < PIPELINES || pipelines.contains_key(pipeline);
        let name: Arc<str> = if known {
            Arc::clone(pipeline)
        } else {
            Arc::from(OTHER)
        };
        if let Some(counts) = pipelines.get(&name) {
            return Some(Arc::clone(counts));
        }
        let counts = Arc::new(Statistics::default());
        pipelines.insert(Arc::clone(&name), Arc::clone(&counts));
        let (read, of) = (Arc::clone(&counts), Arc::downgrade(self));
        self.metrics.add(&name, move || {
            read.snapshot(PartStatistics {
                telemetry: of.upgrade().map(|of| of.statistics()).unwrap_or_default(),
                ..PartStatistics::default()
            })
        });
        Some(counts)
    }

    /// The metrics as text.
    pub(super) fn metrics(&self) -> String {
        self.metrics.text()
    }

    /// Where the metrics are served.
    pub(super) fn address(&self) -> Option<String> {
        lock(&self.endpoint)
            .as_ref()
            .map(|endpoint| endpoint.address().to_string())
    }

    /// What was counted in this process.
    pub(crate) fn statistics(&self) -> TelemetryStats {
        let live = self.lock();
        let recordings = [&live.alone, &live.beside];
        let found = recordings.into_iter().flatten().next();
        found
            .map(|recording| recording.queue.statistics())
            .unwrap_or_default()
    }

    /// Spans that wait, the oldest first.
    pub(super) fn take(&self, at_most: usize) -> Vec<Span> {
        let queue = self
            .lock()
            .alone
            .as_ref()
            .map(|recording| Arc::clone(&recording.queue));
        queue.map(|queue| queue.take(at_most)).unwrap_or_default()
    }

    /// The exporters under way.
    pub(super) fn observers(&self) -> Vec<Observer> {
        let live = self.lock();
        let recordings = [&live.alone, &live.beside];
        recordings
            .into_iter()
            .flatten()
            .filter_map(|recording| recording.observer.clone())
            .collect()
    }

    /// Lets the last spans leave, for so long at most; nothing is recorded or served any more. Whether all have left.
    pub(super) fn shut_down(&self, at_most: Duration) -> bool {
        self.lock().ended = true;
        drop(lock(&self.endpoint).take());
        let until = Instant::now() + at_most;
        let observers = self.observers();
        // Each is shut down, whether or not another one was in time.
        let late = observers.iter().filter(|observer| {
            let remains = until.saturating_duration_since(Instant::now());
            observer.shutdown(remains).is_err()
        });
        late.count() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        let mut live = lock(&self.live);
        let forks = FORKS.load(Ordering::Relaxed);
        if live.forks != forks {
            // Its threads stayed in the parent, and with them whatever they held at that moment: it is never dropped here.
            std::mem::forget(std::mem::take(&mut *live));
            std::mem::forget(lock(&self.endpoint).take());
            live.forks = forks;
        }
        live
    }
}

impl OtlpSettings {
    fn build(&self) -> Result<Otlp, OtlpError> {
        let Self {
            endpoint,
            protocol,
            headers,
            timeout,
            service_name,
        } = self.clone();
        let mut builder: OtlpBuilder = Otlp::builder();
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(protocol) = protocol {
            builder = builder.protocol(protocol);
        }
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout);
        }
        if let Some(name) = service_name {
            builder = builder.service_name(name);
        }
        let headers = headers.into_iter();
        headers
            .fold(builder, |builder, (name, value)| builder.header(name, value))
            .build()
    }
}

/// A clock that never goes back, in nanoseconds.
fn clock() -> Time {
    static START: OnceLock<Instant> = OnceLock::new();
    Time::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(Time::MAX)
}

/// A child process has begun.
pub(super) fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The process ends: what waits leaves, for so long at most altogether.
pub(super) fn shut_down_all(at_most: Duration) {
    let all: Vec<_> = lock(&ALL).iter().filter_map(Weak::upgrade).collect();
    let until = Instant::now() + at_most;
    for exporting in all {
        exporting.shut_down(until.saturating_duration_since(Instant::now()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole values are put in place, so they are good also after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
