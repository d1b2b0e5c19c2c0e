//! The thread that takes spans out of the queue and hands them to exporters.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flujo_core::stats::TelemetryStats;
use flujo_core::telemetry::{SampleRate, SampleRateError, Span, SpanQueue, SpanSettings};

use crate::export::{ExportError, Exporter};

/// How many spans an exporter is handed at once, or a few more.
const BATCH: usize = 512;
/// How long spans wait to be exported, at most.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a dropped observer waits for its last spans to leave.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long an exporter that failed is left alone; doubled with every failure, up to the second one.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Exports the spans of runs from a thread of its own. Dropping the last clone exports what waits, for at most five
/// seconds. Cloning shares it.
#[derive(Clone)]
pub struct Observer(Arc<Owner>);

/// An observer under construction.
#[must_use]
pub struct ObserverBuilder {
    exporters: Vec<Box<dyn Exporter>>,
    settings: SpanSettings,
    interval: Duration,
}

/// Not all spans have left the process in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not all spans were exported within {waited:?}, {left} are left: see whether the collector answers, or allow more time"
)]
pub struct FlushError {
    /// The time that was allowed.
    pub waited: Duration,
    /// How many spans are left.
    pub left: u64,
}

struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Arc<SpanQueue>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How often somebody asked for everything to leave, and up to which time that has been done.
    asked: u64,
    answered: u64,
    closing: bool,
    ended: bool,
    /// Spans that exporters hold now.
    in_flight: u64,
    /// Nobody waits for the thread any longer; what it holds has been counted as dropped.
    abandoned: bool,
}

impl ObserverBuilder {
    /// One more exporter; each gets every span, in the order in which they were added.
    pub fn exporter(mut self, exporter: impl Exporter) -> Self {
        self.exporters.push(Box::new(exporter));
        self
    }

    /// Which share of the runs is recorded, from 0 to 1; all of them without this. A run's id decides, so every process
    /// decides alike. Statistics count every run in any case.
    ///
    /// # Errors
    /// [`SampleRateError`] for any other number.
    pub fn sample(mut self, share: f64) -> Result<Self, SampleRateError> {
        self.settings.rate = SampleRate::new(share)?;
        Ok(self)
    }

    /// Whether inputs, outputs and texts of errors are recorded; they are not without this, and then none of them leaves
    /// the process.
    pub fn capture_content(mut self, capture: bool) -> Self {
        self.settings.capture_content = capture;
        self
    }

    /// How many spans may wait to be exported, 32,768 without this. What comes beyond is dropped and counted.
    pub fn capacity(mut self, spans: usize) -> Self {
        self.settings.capacity = spans;
        self
    }

    /// How long spans wait to be exported, at most: a second without this.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn build(self) -> std::io::Result<Observer> {
        let settings = SpanSettings {
            clock: Some(clock),
            ..self.settings
        };
        let shared = Arc::new(Shared {
            queue: Arc::new(SpanQueue::new(settings)),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let exporting = Exporting {
            shared: Arc::clone(&shared),
            exporters: self.exporters.into_iter().map(Guarded::new).collect(),
            interval: self.interval,
        };
        let thread = std::thread::Builder::new()
            .name("flujo-observe".to_owned())
            .spawn(move || exporting.run())?;
        Ok(Observer(Arc::new(Owner {
            shared,
            thread: Mutex::new(Some(thread)),
        })))
    }
}

/// Nanoseconds since some moment in this process.
fn clock() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Observer {
    /// An observer without exporters so far.
    pub fn builder() -> ObserverBuilder {
        ObserverBuilder {
            exporters: Vec::new(),
            settings: SpanSettings::default(),
            interval: INTERVAL,
        }
    }

    /// Where runs put their spans.
    pub fn queue(&self) -> &Arc<SpanQueue> {
        &self.0.shared.queue
    }

    /// What was counted.
    pub fn statistics(&self) -> TelemetryStats {
        self.queue().statistics()
    }

    /// Exports all spans of runs that have ended.
    ///
    /// # Errors
    /// [`FlushError`] when that takes longer than `at_most`.
    pub fn flush(&self, at_most: Duration) -> Result<(), FlushError> {
        self.0.shared.flush(at_most)
    }

    /// The same, and exports nothing more; what has not left by then is counted as dropped. Nothing is done the second
    /// time.
    ///
    /// # Errors
    /// [`FlushError`] when that takes longer than `at_most`.
    pub fn shutdown(&self, at_most: Duration) -> Result<(), FlushError> {
        self.0.shutdown(at_most)
    }
}

impl From<&Observer> for Arc<SpanQueue> {
    fn from(observer: &Observer) -> Self {
        Arc::clone(observer.queue())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(error) = self.shutdown(LAST_WORDS) {
            tracing::warn!(target: "flujo::observe", "{error}");
        }
    }
}

impl Owner {
    fn shutdown(&self, at_most: Duration) -> Result<(), FlushError> {
        let thread = {
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.take()
        };
        let Some(thread) = thread else {
            return Ok(());
        };
        self.shared.lock().closing = true;
        match self.shared.flush(at_most) {
            Ok(()) => {
                // It has nothing left to do but to end.
                let _ = thread.join();
                Ok(())
            }
            Err(error) => {
                let mut state = self.shared.lock();
                state.abandoned = true;
                let lost = state.in_flight + self.shared.queue.discard();
                self.shared.queue.flushed(lost);
                Err(error)
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole values are put in place, so the state is good also after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self, at_most: Duration) -> Result<(), FlushError> {
        let ticket = {
            let mut state = self.lock();
            state.asked += 1;
            state.asked
        };
        self.queue.hurry();
        let waits = |state: &mut State| state.answered < ticket && !state.ended;
        let waited = self.changed.wait_timeout_while(self.lock(), at_most, waits);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(FlushError {
                waited: at_most,
                left: state.in_flight + self.queue.len() as u64,
            });
        }
        Ok(())
    }
}

/// The thread's work.
struct Exporting {
    shared: Arc<Shared>,
    exporters: Vec<Guarded>,
    interval: Duration,
}

impl Exporting {
    fn run(mut self) {
        loop {
            self.shared.queue.wait(self.interval);
            let (ticket, closing) = {
                let state = self.shared.lock();
                (state.asked, state.closing)
            };
            while self.batch() {}
            for exporter in &mut self.exporters {
                exporter.flush();
            }
            let mut state = self.shared.lock();
            state.answered = ticket;
            state.ended = closing;
            drop(state);
            self.shared.changed.notify_all();
            if closing {
                return;
            }
        }
    }

    /// Exports some spans; false when none wait.
    fn batch(&mut self) -> bool {
        let spans = self.shared.queue.take(BATCH);
        if spans.is_empty() {
            return false;
        }
        let count = spans.len() as u64;
        self.shared.lock().in_flight = count;
        let mut delivered = true;
        for exporter in &mut self.exporters {
            delivered &= exporter.export(&spans);
        }
        let mut state = self.shared.lock();
        state.in_flight = 0;
        if !state.abandoned {
            self.shared.queue.flushed(if delivered { 0 } else { count });
        }
        !state.abandoned
    }
}

/// An exporter that is left alone for a while when it fails, so that one that hangs holds up nothing but itself.
struct Guarded {
    exporter: Box<dyn Exporter>,
    failures: u32,
    rests_until: Option<Instant>,
}

impl Guarded {
    fn new(exporter: Box<dyn Exporter>) -> Self {
        Self {
            exporter,
            failures: 0,
            rests_until: None,
        }
    }

    /// Whether the spans were delivered.
    fn export(&mut self, spans: &[Span]) -> bool {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        self.watch(|exporter| exporter.export(spans))
    }

    fn flush(&mut self) {
        // One that failed shows by its next export whether it works again.
        if self.failures == 0 {
            self.watch(Exporter::flush);
        }
    }

    fn watch(&mut self, work: impl FnOnce(&mut dyn Exporter) -> Result<(), ExportError>) -> bool {
        let exporter = &mut *self.exporter;
        let done = catch_unwind(AssertUnwindSafe(|| work(exporter)));
        let name = self.exporter.name();
        let reason = match done {
            Ok(Ok(())) => {
                if self.failures > 0 {
                    tracing::info!(target: "flujo::observe", exporter = name, "spans are exported again");
                }
                (self.failures, self.rests_until) = (0, None);
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        if self.failures == 0 {
            tracing::warn!(
                target: "flujo::observe", exporter = name, reason,
                "spans could not be exported and are dropped; runs go on"
            );
        }
        let (shortest, longest) = REST;
        let rest = shortest
            .saturating_mul(2u32.saturating_pow(self.failures))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Instant::now().checked_add(rest);
        false
    }
}
