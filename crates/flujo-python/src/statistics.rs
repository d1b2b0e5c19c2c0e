//! Performance statistics as Python reads them: plain dictionaries, so that they print, compare and go into JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use flujo_core::stats::{
    Alert, AlertStats, AnalysisStats, ContextStats, ErrorStats, ExecutionTimeStats, MemoryStats,
    PerformanceStatistics, PoolStats, TelemetryStats, TimeStats, UsageStats, UsageTotals,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

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
) -> PyResult<Bound<'py, PyDict>> {
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

fn execution_times<'py>(py: Python<'py>, stats: &ExecutionTimeStats) -> Dict<'py> {
    let ExecutionTimeStats { overall, by_step } = stats;
    let dict = times(py, overall)?;
    let steps = PyDict::new(py);
    for (name, step) in by_step.iter() {
        steps.set_item(&**name, times(py, &step)?)?;
    }
    dict.set_item(intern!(py, "by_step"), steps)?;
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
