//! The time on the wall: for due times, and for waits that go on while nobody runs a run.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use flujo_core::store::WallTime;

/// A clock on the wall: the system's, unless another one is given.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// One that tells what `tell` gives.
    pub fn new(tell: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// The time: milliseconds since 1970 began.
    pub fn now(&self) -> WallTime {
        let since = (self.0)().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::try_from(since.as_millis()).unwrap_or(WallTime::MAX)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
