//! `flujo stats`: the statistics of earlier runs, for people.

use std::fmt::Write;
use std::path::PathBuf;

use flujo_blueprint::Rule;
use flujo_core::stats::PerformanceStatistics;

use crate::arguments::StatsArguments;
use crate::outcome::{Exit, Failure};
use crate::settings::Settings;
use crate::summary::duration;
use crate::terminal;

pub(crate) fn stats(arguments: &StatsArguments) -> Result<Exit, Failure> {
    let path = named(arguments)?;
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
fn named(arguments: &StatsArguments) -> Result<PathBuf, Failure> {
    if let Some(path) = &arguments.file {
        return Ok(path.clone());
    }
    let settings = Settings::resolve(None, &super::folder())?;
    settings.value("stats_out").map(PathBuf::from).ok_or_else(|| {
        Failure::usage(
            Rule::BadInput,
            "no statistics file is named",
            "write one with `flujo run --stats-out FILE`, then `flujo stats FILE`",
        )
    })
}

fn table(statistics: &PerformanceStatistics) -> String {
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
    let steps = &statistics.execution_time_stats.by_step;
    let wide = steps
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(4, 40);
    let _ = writeln!(
        text,
        "\n{:wide$} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "step", "times", "mean", "p50", "p95", "max"
    );
    for (name, times) in steps.iter() {
        let name: String = terminal::one_line(name).chars().take(wide).collect();
        let _ = writeln!(
            text,
            "{name:wide$} {:>8} {:>10} {:>10} {:>10} {:>10}",
            times.count,
            duration(times.mean),
            duration(times.p50),
            duration(times.p95),
            duration(times.max)
        );
    }
    if !statistics.alerts.is_empty() {
        let _ = writeln!(text, "\nalerts {}", statistics.alert_stats.raised);
        for alert in &statistics.alerts {
            let _ = writeln!(text, "  {}", terminal::one_line(&alert.message));
        }
    }
    let parts: Vec<String> = statistics
        .optimizations
        .iter()
        .map(|(part, twin)| format!("{} {}", part.name(), twin.twin.name()))
        .collect();
    let _ = write!(text, "\noptimisations: {}", parts.join(", "));
    text
}
