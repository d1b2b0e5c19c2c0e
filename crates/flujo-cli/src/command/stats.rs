//! `flujo stats`: the statistics of earlier runs, for people.

mod kept;

use std::fmt::Write;
use std::path::PathBuf;

use clap::ArgMatches;
use flujo_blueprint::Rule;
use flujo_core::stats::{PerformanceStatistics, TimeStats};
use serde_json::Value;

use crate::arguments::StatsArguments;
use crate::outcome::{Exit, Failure};
use crate::settings::{Origin, Settings};
use crate::summary::duration;
use crate::terminal;

pub(crate) fn stats(arguments: &StatsArguments, matches: &ArgMatches) -> Result<Exit, Failure> {
    let settings = Settings::resolve(Some(matches), &super::folder())?;
    let store = settings.resolved("state_uri");
    if store.is_some_and(|store| matches!(store.origin, Origin::Argument(_))) {
        let statistics = kept::statistics(arguments, &settings)?;
        if arguments.json {
            terminal::data_line(&serde_json::to_string_pretty(&statistics).unwrap_or_default());
        } else {
            terminal::data_line(&times(&statistics));
        }
        return Ok(Exit::Done);
    }
    let path = named(arguments, &settings)?;
    let refuse = |reason: String| {
        Failure::usage(
            Rule::BadInput,
            format!("`{}` can't be read: {reason}", path.display()),
            "name a file that `flujo run --stats-out` wrote",
        )
    };
    let bytes = std::fs::read(&path).map_err(|error| refuse(error.to_string()))?;
    let statistics: PerformanceStatistics = serde_json::from_slice(&bytes)
        .map_err(|error| refuse(format!("these aren't statistics: {error}")))?;
    if arguments.json {
        terminal::data_line(&String::from_utf8_lossy(&bytes));
    } else {
        terminal::data_line(&table(&statistics));
    }
    Ok(Exit::Done)
}

/// The file that is asked for, else the one that runs write to.
fn named(arguments: &StatsArguments, settings: &Settings) -> Result<PathBuf, Failure> {
    if let Some(path) = &arguments.file {
        return Ok(path.clone());
    }
    settings.value("stats_out").map(PathBuf::from).ok_or_else(|| {
        Failure::usage(
            Rule::BadInput,
            "no statistics file is named",
            "write one with `flujo run --stats-out FILE`, then `flujo stats FILE`; `flujo stats --store` reads kept runs",
        )
    })
}

/// How many runs there were, what they used, and how long their steps took.
fn times(statistics: &PerformanceStatistics) -> String {
    let mut text = String::new();
    let used = &statistics.usage_stats.committed;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "runs {}   total {}   average {}   failures {}   cost ${}   tokens {}",
        statistics.execution_count,
        duration(statistics.total_execution_time),
        duration(statistics.average_execution_time),
        statistics.error_stats.count,
        used.cost_usd,
        used.tokens,
    );
    let times = &statistics.execution_time_stats;
    let names = times.by_step.iter().map(|(name, _)| name.chars().count());
    let wide = names.max().unwrap_or(0).clamp(8, 40);
    let _ = write!(text, "\n{:wide$} {:>8}", "step", "times");
    for column in ["mean", "std", "min", "p50", "p90", "p95", "p99", "max"] {
        let _ = write!(text, " {column:>10}");
    }
    row(&mut text, wide, "all runs", &times.overall);
    for (name, times) in times.by_step.iter() {
        row(&mut text, wide, name, &times);
    }
    text
}

fn table(statistics: &PerformanceStatistics) -> String {
    let mut text = times(statistics);
    text.push('\n');
    groups(&mut text, statistics);
    if !statistics.alerts.is_empty() {
        text.push_str("\nlast alerts\n");
        for alert in &statistics.alerts {
            let _ = writeln!(text, "  {}", terminal::one_line(&alert.message));
        }
    }
    text.push_str("\noptimisations");
    for (part, in_use) in &statistics.optimizations {
        let (twin, reason) = (in_use.twin.name(), terminal::one_line(&in_use.reason));
        let _ = write!(text, "\n  {:10} {twin:10} {reason}", part.name());
    }
    text
}

fn row(text: &mut String, wide: usize, name: &str, times: &TimeStats) {
    let name: String = terminal::one_line(name).chars().take(wide).collect();
    let _ = write!(text, "\n{name:wide$} {:>8}", times.count);
    for seconds in [
        times.mean, times.std, times.min, times.p50, times.p90, times.p95, times.p99, times.max,
    ] {
        let _ = write!(text, " {:>10}", duration(seconds));
    }
}

/// What the parts count, under the names that `get_performance_statistics()` has for it.
fn groups(text: &mut String, statistics: &PerformanceStatistics) {
    let Ok(Value::Object(all)) = serde_json::to_value(statistics) else {
        return;
    };
    let mut cache = String::new();
    for (name, value) in &all {
        if name.starts_with("cache_") {
            words(&mut cache, name, value);
        }
    }
    line(text, "cache", &cache);
    for (name, value) in &all {
        let title = match name.as_str() {
            "execution_time_stats" => continue, // the table above
            "telemetry_metrics" => "telemetry",
            other => match other.strip_suffix("_stats") {
                Some(title) => title,
                None => continue,
            },
        };
        let mut counted = String::new();
        words(&mut counted, "", value);
        line(text, title, &counted);
    }
}

fn line(text: &mut String, title: &str, counted: &str) {
    let _ = write!(text, "\n{title:10}{counted}");
}

/// Names and values, those inside of others after the name of these.
fn words(text: &mut String, name: &str, value: &Value) {
    if let Value::Object(entries) = value
        && !entries.is_empty()
    {
        for (inner, value) in entries {
            let name = if name.is_empty() {
                inner.clone()
            } else {
                format!("{name}.{inner}")
            };
            words(text, &name, value);
        }
    } else {
        let is_none = value.is_null() || value.is_object();
        let value = if is_none {
            "none".to_owned()
        } else {
            value.to_string()
        };
        let _ = write!(text, "  {} {value}", terminal::one_line(name));
    }
}
