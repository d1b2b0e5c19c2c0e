//! The time events carry: the monotonic clock, read without Python unless the loop keeps a time of its own.

use std::time::{Duration, Instant};

use flujo_core::machine::Time;
use pyo3::prelude::*;

use super::names;
use crate::rates;

/// A run's clock, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Clock {
    source: Source,
    /// What is added to the source's time, around the end of the numbers and back.
    shift: Time,
}

#[derive(Debug)]
enum Source {
    Monotonic(Instant),
    /// The loop's own `time()`: virtual time in tests.
    Loop(Py<PyAny>),
}

impl Clock {
    /// The clock that goes with a loop: the system's own, unless the loop's class keeps another.
    pub(crate) fn of(py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let kept = names::keeps_system_time(py, event_loop)?;
        let source = if kept {
            Source::Monotonic(Instant::now())
        } else {
            Source::Loop(event_loop.clone().unbind())
        };
        Ok(Self { source, shift: 0 })
    }

    /// The same, for a run whose own time stood still at `stopped`.
    pub(crate) fn going_on(py: Python<'_>, event_loop: &Bound<'_, PyAny>, stopped: Time) -> PyResult<Self> {
        let clock = Self::of(py, event_loop)?;
        let shift = stopped.wrapping_sub(clock.source.now(py));
        Ok(Self { shift, ..clock })
    }

    /// The time that all runs share.
    pub(crate) fn of_process(&self, py: Python<'_>) -> Time {
        match &self.source {
            Source::Monotonic(_) => crate::cache::now(),
            Source::Loop(_) => self.source.now(py),
        }
    }

    #[inline]
    pub(crate) fn now(&self, py: Python<'_>) -> Time {
        self.source.now(py).wrapping_add(self.shift)
    }
}

impl Clock {
    /// The time that rate limits count in: that of all runs which keep the system's time, or of the loop's own.
    pub(crate) fn rate_time(&self, py: Python<'_>) -> Time {
        match &self.source {
            Source::Monotonic(_) => rates::now(),
            source @ Source::Loop(_) => source.now(py),
        }
    }

    /// The loop that keeps a time of its own.
    pub(crate) fn own_loop<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        match &self.source {
            Source::Monotonic(_) => None,
            Source::Loop(event_loop) => Some(event_loop.bind(py)),
        }
    }
}

impl Source {
    #[inline]
    fn now(&self, py: Python<'_>) -> Time {
        match self {
            Self::Monotonic(start) => Time::try_from(start.elapsed().as_nanos()).unwrap_or(Time::MAX),
            Self::Loop(event_loop) => {
                let seconds: f64 = event_loop
                    .bind(py)
                    .call_method0(pyo3::intern!(py, "time"))
                    .and_then(|time| time.extract())
                    .unwrap_or_default();
                let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                Time::try_from(time.as_nanos()).unwrap_or(Time::MAX)
            }
        }
    }
}

/// Nanoseconds as the seconds that asyncio counts in.
#[allow(clippy::cast_precision_loss)] // asyncio's own precision
pub(crate) fn seconds(time: Time) -> f64 {
    time as f64 / 1e9
}
