//! Performance statistics as Python reads them: plain dictionaries, so that they print, compare and go into JSON.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::stats::{
    Alert, AlertStats, AnalysisStats, ContextStats, ErrorStats, ExecutionTimeStats, MemoryStats,
    PerformanceStatistics, PoolStats, TelemetryStats, TimeStats, TimesByStep, UsageStats, UsageTotals,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

/// A dictionary of a record's fields under their own names. Every field must be named, so that none is forgotten when
/// the record grows; a field that isn't a plain value is followed by `=> how it is converted`.
macro_rules! dict_of {
    ($py:expr, $record:expr, $type:ident { $($field:ident $(=> $convert:expr)?),+ $(,)? }) => {{
        let $type { $($field),+ } = $record;
        let dict = PyDict::new($py);
        $( dict.set_item(intern!($py, stringify!($field)), dict_of!(@value $py, $field $(=> $convert)?))?; )+
        dict
    }};
    (@value $py:expr, $field:ident) => { $field };
    (@value $py:expr, $field:ident => $convert:expr) => { $convert($py, $field)? };
}

/// The dictionary that `get_performance_statistics()` returns, with the documented keys; times are in seconds.
pub(crate) fn statistics_to_dict<'py>(
    py: Python<'py>,
    statistics: &PerformanceStatistics,
    read: &ReadTimes,
) -> PyResult<Bound<'py, PyDict>> {
    let execution_times = |py, stats| execution_times(py, stats, read);
    Ok(dict_of!(py, statistics, PerformanceStatistics {
        execution_count,
        total_execution_time,
        average_execution_time,
        cache_hits,
        cache_misses,
        cache_hit_rate,
        execution_time_stats => execution_times,
        error_stats => errors,
        telemetry_metrics => telemetry,
        pool_stats => pool,
        context_stats => context,
        analysis_stats => analysis,
        usage_stats => usage,
        memory_stats => memory,
        alerts => alerts_to_list,
        alert_stats => alert_counts,
        optimizations => twins,
    }))
}

type Dict<'py> = PyResult<Bound<'py, PyDict>>;

fn execution_times<'py>(py: Python<'py>, stats: &ExecutionTimeStats, read: &ReadTimes) -> Dict<'py> {
    let ExecutionTimeStats { overall, by_step } = stats;
    let dict = times(py, overall)?;
    dict.set_item(intern!(py, "by_step"), read.by_step(py, by_step)?)?;
    Ok(dict)
}

fn times<'py>(py: Python<'py>, stats: &TimeStats) -> Dict<'py> {
    Ok(dict_of!(
        py,
        stats,
        TimeStats {
            count,
            mean,
            min,
            max,
            std,
            p50,
            p90,
            p95,
            p99
        }
    ))
}

/// What was read of each step last: there may be a thousand steps, of which little has changed since. Whoever reads gets
/// copies, which have their keys and their room at once.
#[derive(Default)]
pub(crate) struct ReadTimes(Mutex<Vec<ReadStep>>);

struct ReadStep {
    name: Arc<str>,
    key: Py<PyString>,
    times: TimeStats,
    dict: Py<PyDict>,
}

impl ReadTimes {
    fn by_step<'py>(&self, py: Python<'py>, by_step: &TimesByStep) -> Dict<'py> {
        // Taken out meanwhile: the garbage collector may run code that reads as well.
        let mut known = std::mem::take(&mut *self.lock());
        let steps = PyDict::new(py);
        let mut place = 0;
        for (name, times) in by_step.iter() {
            match known.get_mut(place) {
                Some(step) if Arc::ptr_eq(&step.name, name) => step.take_in(py, times)?,
                _ => known.insert(place, ReadStep::new(py, name, times)?),
            }
            if let Some(step) = known.get(place) {
                steps.set_item(&step.key, step.dict.bind(py).copy()?)?;
            }
            place += 1;
        }
        known.truncate(place);
        *self.lock() = known;
        Ok(steps)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ReadStep>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadStep {
    fn new(py: Python<'_>, name: &Arc<str>, times: TimeStats) -> PyResult<Self> {
        Ok(Self {
            name: Arc::clone(name),
            key: PyString::new(py, name).unbind(),
            times,
            dict: self::times(py, &times)?.unbind(),
        })
    }

    #[allow(clippy::float_cmp)] // whether it is the very same
    fn take_in(&mut self, py: Python<'_>, times: TimeStats) -> PyResult<()> {
        macro_rules! changed {
            ($($field:ident)+) => {{
                let (TimeStats { $($field),+ }, known) = (times, self.times);
                $( if $field != known.$field {
                    self.dict.bind(py).set_item(intern!(py, stringify!($field)), $field)?;
                } )+
            }};
        }
        changed!(count mean min max std p50 p90 p95 p99);
        self.times = times;
        Ok(())
    }
}

fn errors<'py>(py: Python<'py>, stats: &ErrorStats) -> Dict<'py> {
    Ok(dict_of!(py, stats, ErrorStats { count, by_type => counts, by_step => counts, last_error_time }))
}

fn counts<'py>(py: Python<'py>, counts: &BTreeMap<Arc<str>, u64>) -> Dict<'py> {
    let dict = PyDict::new(py);
    for (name, count) in counts {
        dict.set_item(&**name, count)?;
    }
    Ok(dict)
}

pub(crate) fn telemetry<'py>(py: Python<'py>, stats: &TelemetryStats) -> Dict<'py> {
    Ok(dict_of!(
        py,
        stats,
        TelemetryStats {
            spans_started,
            spans_ended,
            spans_dropped,
            flushes,
            queue_high_water,
            overhead_per_span,
        }
    ))
}

fn pool<'py>(py: Python<'py>, stats: &PoolStats) -> Dict<'py> {
    Ok(dict_of!(
        py,
        stats,
        PoolStats {
            hits,
            misses,
            overflow,
            in_use,
            retained
        }
    ))
}

fn context<'py>(py: Python<'py>, stats: &ContextStats) -> Dict<'py> {
    Ok(dict_of!(
        py,
        stats,
        ContextStats {
            forks,
            fields_cloned,
            bytes_cloned,
            merges,
            conflicts
        }
    ))
}

fn analysis<'py>(py: Python<'py>, stats: &AnalysisStats) -> Dict<'py> {
    Ok(dict_of!(
        py,
        stats,
        AnalysisStats {
            analyses,
            reuses,
            invalidations
        }
    ))
}

fn usage<'py>(py: Python<'py>, stats: &UsageStats) -> Dict<'py> {
    Ok(
        dict_of!(py, stats, UsageStats { reserved => totals, committed => totals, refunded => totals, batches }),
    )
}

pub(crate) fn totals<'py>(py: Python<'py>, totals: &UsageTotals) -> Dict<'py> {
    Ok(dict_of!(
        py,
        totals,
        UsageTotals {
            cost_usd,
            tokens,
            requests
        }
    ))
}

fn memory<'py>(py: Python<'py>, stats: &MemoryStats) -> Dict<'py> {
    Ok(dict_of!(
        py,
        stats,
        MemoryStats {
            current_rss_bytes,
            peak_rss_bytes,
            growth_bytes
        }
    ))
}

fn alert_counts<'py>(py: Python<'py>, stats: &AlertStats) -> Dict<'py> {
    Ok(dict_of!(
        py,
        stats,
        AlertStats {
            raised,
            callbacks_failed,
            callbacks_skipped
        }
    ))
}

fn alerts_to_list<'py>(py: Python<'py>, alerts: &[Alert]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for alert in alerts {
        let Alert {
            kind,
            part,
            value,
            threshold,
            step,
            time,
            message,
        } = alert;
        let dict = PyDict::new(py);
        dict.set_item(intern!(py, "kind"), kind.name())?;
        dict.set_item(intern!(py, "part"), part.name())?;
        dict.set_item(intern!(py, "value"), value)?;
        dict.set_item(intern!(py, "threshold"), threshold)?;
        dict.set_item(intern!(py, "step"), step.as_deref())?;
        dict.set_item(intern!(py, "time"), time)?;
        dict.set_item(intern!(py, "message"), message)?;
        list.append(dict)?;
    }
    Ok(list)
}

fn twins<'py>(
    py: Python<'py>,
    twins: &BTreeMap<flujo_core::config::Part, flujo_core::config::TwinInUse>,
) -> Dict<'py> {
    let dict = PyDict::new(py);
    for (part, used) in twins {
        let choice = PyDict::new(py);
        choice.set_item(intern!(py, "twin"), used.twin.name())?;
        choice.set_item(intern!(py, "reason"), &*used.reason)?;
        dict.set_item(part.name(), choice)?;
    }
    Ok(dict)
}
