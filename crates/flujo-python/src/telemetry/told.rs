//! An exporter that fails says so in Python's log, once until it works again.

use flujo_core::telemetry::Span;
use flujo_observe::{ExportError, Exporter};
use pyo3::intern;
use pyo3::prelude::*;

pub(super) struct Told {
    exporter: Box<dyn Exporter>,
    fails: bool,
}

impl Told {
    pub(super) fn new(exporter: Box<dyn Exporter>) -> Self {
        Self {
            exporter,
            fails: false,
        }
    }

    fn tell(&mut self, done: Result<(), ExportError>) -> Result<(), ExportError> {
        if let (Err(error), false) = (&done, self.fails) {
            let name = self.exporter.name();
            let text = format!("spans can't be exported ({name}) and are dropped; runs go on: {error}");
            // An interpreter that ends has nobody who reads it.
            Python::try_attach(|py| warn(py, &text));
        }
        self.fails = done.is_err();
        done
    }
}

impl Exporter for Told {
    fn name(&self) -> &'static str {
        self.exporter.name()
    }

    fn export(&mut self, spans: &[Span]) -> Result<(), ExportError> {
        let done = self.exporter.export(spans);
        self.tell(done)
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        let done = self.exporter.flush();
        self.tell(done)
    }
}

/// Writes a warning into `flujo.telemetry`.
pub(super) fn warn(py: Python<'_>, text: &str) {
    let logged = (|| {
        let logger = py
            .import("flujo.application._logging")?
            .call_method1(intern!(py, "logger"), ("telemetry",))?;
        logger.call_method1(intern!(py, "warning"), ("%s", text))
    })();
    if let Err(error) = logged {
        error.write_unraisable(py, None);
    }
}
