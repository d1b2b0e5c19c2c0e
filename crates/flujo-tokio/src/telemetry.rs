//! Both twins of telemetry, side by side on one queue: a run uses the one that its twins name.

use std::sync::Arc;

use flujo_core::config::{Part, Twin, Twins};
use flujo_core::plan::Plan;
use flujo_core::stats::TelemetryStats;
use flujo_core::telemetry::{Names, OptimizedTelemetry, PlainTelemetry, SpanQueue, Telemetry};

use crate::Handler;
use crate::domain::Tokio;

/// What records the spans of a runner's runs.
pub(crate) struct Telemetries {
    pub(crate) names: Arc<Names>,
    plain: PlainTelemetry,
    optimized: OptimizedTelemetry,
    queue: Arc<SpanQueue>,
}

impl Telemetries {
    pub(crate) fn new(queue: Arc<SpanQueue>, plan: &Plan<Handler>) -> Self {
        Self {
            names: Arc::new(Names::of(plan)),
            plain: PlainTelemetry::new(Arc::clone(&queue)),
            optimized: OptimizedTelemetry::new(Arc::clone(&queue)),
            queue,
        }
    }

    /// The one that a run uses.
    pub(crate) fn of(&self, twins: Twins) -> &dyn Telemetry<Tokio> {
        match twins.of(Part::Telemetry) {
            Twin::Plain => &self.plain,
            Twin::Optimized => &self.optimized,
        }
    }

    /// What was counted.
    pub(crate) fn statistics(&self) -> TelemetryStats {
        self.queue.statistics()
    }
}
