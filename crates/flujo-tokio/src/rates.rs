//! The rate limits of this process: one bucket for each name, one clock for all.

use std::sync::OnceLock;

use flujo_core::machine::Time;
use flujo_core::rate::Registry;
use tokio::time::Instant;

/// All buckets.
pub(crate) static REGISTRY: Registry = Registry::new();

/// The time that they count in: since the first look at it.
pub(crate) fn now() -> Time {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let begin = *BEGIN.get_or_init(Instant::now);
    let elapsed = Instant::now().saturating_duration_since(begin);
    Time::try_from(elapsed.as_nanos()).unwrap_or(Time::MAX)
}
