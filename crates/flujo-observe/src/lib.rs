//! Exporters of what runs tell about themselves: spans as OTLP, JSON lines or a tree on the console, statistics as
//! Prometheus text.
//!
//! Runs put spans into a bounded [`SpanQueue`](flujo_core::telemetry::SpanQueue); an [`Observer`]'s one thread takes them
//! out and hands them to its exporters. No run ever waits for an exporter: one that is slow, hangs or is gone costs spans,
//! which are counted. Nothing here decides what a run does, and nothing leaves the process but what `docs/telemetry.md`
//! lists.
//!
//! ```
//! use flujo_observe::{JsonLines, Observer};
//! use std::time::Duration;
//!
//! let file = tempfile::NamedTempFile::new()?;
//! let observer = Observer::builder().exporter(JsonLines::create(file.path())?).build()?;
//! // Runner::builder(pipeline).telemetry(&observer).build()?, and runs of it; then, at the end:
//! observer.shutdown(Duration::from_secs(5))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod console;
#[cfg(feature = "endpoint")]
mod endpoint;
mod export;
mod json_lines;
mod metrics;
mod observer;
#[cfg(feature = "otlp")]
mod otlp;

pub use console::ConsoleTree;
#[cfg(feature = "endpoint")]
pub use endpoint::{MetricsEndpoint, StartError};
pub use export::{ExportError, Exporter};
pub use json_lines::JsonLines;
pub use metrics::Metrics;
pub use observer::{FlushError, Observer, ObserverBuilder};
#[cfg(feature = "otlp")]
pub use otlp::{Otlp, OtlpBuilder, OtlpError, Protocol};
