//! What takes spans out of the process.

use flujo_core::telemetry::Span;

/// Takes spans out of the process. It runs on the observer's own thread and may wait there, for a bounded time.
pub trait Exporter: Send + 'static {
    /// Its name in warnings: `otlp`.
    fn name(&self) -> &'static str;

    /// Hands over spans that have ended; within a run, and across runs, in any order.
    ///
    /// # Errors
    /// When they could not be delivered. They are not offered again.
    fn export(&mut self, spans: &[Span]) -> Result<(), ExportError>;

    /// Sees to it that what was handed over has left the process.
    ///
    /// # Errors
    /// When it could not.
    fn flush(&mut self) -> Result<(), ExportError> {
        Ok(())
    }
}

/// Why spans could not be delivered. Names no header and no credential.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Writing failed.
    #[error("writing failed: {0}")]
    Io(#[from] std::io::Error),
    /// The receiver did not answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// The receiver could not be reached, or refused the spans.
    #[error("{0}")]
    Refused(String),
}
