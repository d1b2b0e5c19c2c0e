//! Statistics as Prometheus reads them.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::stats::{PerformanceStatistics, TimeStats};

type Source = Arc<dyn Fn() -> PerformanceStatistics + Send + Sync>;

/// The statistics of pipelines, as text in Prometheus's exposition format. Every run counts, sampled or not. Labels are
/// names of pipelines and steps and types of errors, never ids of runs or texts; at most 1,000 steps and types of a
/// pipeline are told apart. Cloning shares it.
///
/// ```
/// use flujo_core::stats::PerformanceStatistics;
/// use flujo_observe::Metrics;
///
/// let metrics = Metrics::default();
/// metrics.add("review", PerformanceStatistics::default); // usually `move || runner.performance_statistics()`
/// assert!(metrics.text().contains("flujo_runs_total{pipeline=\"review\"} 0\n"));
/// ```
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Vec<(String, Source)>>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.lock().iter().map(|(name, _)| name))
            .finish()
    }
}

impl Metrics {
    /// Adds a pipeline's runner. A second one of the same name is told apart by a number: `review-2`.
    pub fn add(
        &self,
        pipeline: &str,
        statistics: impl Fn() -> PerformanceStatistics + Send + Sync + 'static,
    ) {
        let mut sources = self.lock();
        let taken = |name: &str| sources.iter().any(|(known, _)| known == name);
        let mut name = pipeline.to_owned();
        let mut number = 2;
        while taken(&name) {
            name = format!("{pipeline}-{number}");
            number += 1;
        }
        sources.push((name, Arc::new(statistics)));
    }

    /// The text, for a scrape or a file.
    pub fn text(&self) -> String {
        let sources = self.lock().clone();
        let read: Vec<_> = sources
            .iter()
            .map(|(name, source)| (name.as_str(), source()))
            .collect();
        let mut text = Text(String::new());
        text.write(&read);
        text.0
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Source)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Read<'a> = (&'a str, PerformanceStatistics);

struct Text(String);

impl Text {
    fn write(&mut self, read: &[Read<'_>]) {
        self.single(
            read,
            "flujo_runs_total",
            "counter",
            "Runs that have ended.",
            |s| count(s.execution_count),
        );
        self.family("flujo_run_duration_seconds", "summary", "Active time of runs.");
        for (pipeline, statistics) in read {
            let times = statistics.execution_time_stats.overall;
            let sum = statistics.total_execution_time;
            self.summary(
                "flujo_run_duration_seconds",
                &label("pipeline", pipeline),
                &times,
                sum,
            );
        }
        self.family(
            "flujo_step_duration_seconds",
            "summary",
            "Time of steps, with their retries.",
        );
        for (pipeline, statistics) in read {
            let pipeline = label("pipeline", pipeline);
            for (step, times) in statistics.execution_time_stats.by_step.iter() {
                let labels = format!("{pipeline},{}", label("step", step));
                #[allow(clippy::cast_precision_loss)] // a float is asked for
                let sum = times.mean * times.count as f64;
                self.summary("flujo_step_duration_seconds", &labels, &times, sum);
            }
        }
        self.family("flujo_errors_total", "counter", "Failures by type of error.");
        for (pipeline, statistics) in read {
            for (error, failures) in &statistics.error_stats.by_type {
                let labels = format!("{},{}", label("pipeline", pipeline), label("error_type", error));
                self.line("flujo_errors_total", &labels, &failures.to_string());
            }
        }
        self.family("flujo_step_errors_total", "counter", "Failures by step.");
        for (pipeline, statistics) in read {
            for (step, failures) in &statistics.error_stats.by_step {
                let labels = format!("{},{}", label("pipeline", pipeline), label("step", step));
                self.line("flujo_step_errors_total", &labels, &failures.to_string());
            }
        }
        self.totals(read);
    }

    fn totals(&mut self, read: &[Read<'_>]) {
        let spent = "Spent by runs that have ended";
        self.single(
            read,
            "flujo_cost_usd_total",
            "counter",
            &format!("{spent}, in US dollars."),
            |s| s.usage_stats.committed.cost_usd.to_string(),
        );
        self.single(
            read,
            "flujo_tokens_total",
            "counter",
            &format!("{spent}, prompt and completion."),
            |s| count(s.usage_stats.committed.tokens),
        );
        self.single(
            read,
            "flujo_requests_total",
            "counter",
            &format!("{spent}."),
            |s| count(s.usage_stats.committed.requests),
        );
        self.single(
            read,
            "flujo_cache_hits_total",
            "counter",
            "Results found in the cache.",
            |s| count(s.cache_hits),
        );
        self.single(
            read,
            "flujo_cache_misses_total",
            "counter",
            "Results not found in the cache.",
            |s| count(s.cache_misses),
        );
        self.single(read, "flujo_spans_total", "counter", "Spans recorded.", |s| {
            count(s.telemetry_metrics.spans_ended)
        });
        self.single(
            read,
            "flujo_spans_dropped_total",
            "counter",
            "Spans that were not delivered.",
            |s| count(s.telemetry_metrics.spans_dropped),
        );
        self.single(read, "flujo_alerts_total", "counter", "Alerts raised.", |s| {
            count(s.alert_stats.raised)
        });
        self.single(
            read,
            "flujo_resident_memory_bytes",
            "gauge",
            "Resident memory of the process.",
            |s| count(s.memory_stats.current_rss_bytes),
        );
    }

    fn single(
        &mut self,
        read: &[Read<'_>],
        name: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&PerformanceStatistics) -> String,
    ) {
        self.family(name, kind, help);
        for (pipeline, statistics) in read {
            self.line(name, &label("pipeline", pipeline), &value(statistics));
        }
    }

    // Writing to a string cannot fail.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: &str) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    fn summary(&mut self, name: &str, labels: &str, times: &TimeStats, sum: f64) {
        for (quantile, value) in [
            ("0.5", times.p50),
            ("0.9", times.p90),
            ("0.95", times.p95),
            ("0.99", times.p99),
        ] {
            self.line(
                name,
                &format!("{labels},quantile=\"{quantile}\""),
                &value.to_string(),
            );
        }
        self.line(&format!("{name}_sum"), labels, &sum.to_string());
        self.line(&format!("{name}_count"), labels, &times.count.to_string());
    }
}

fn count(count: u64) -> String {
    count.to_string()
}

fn label(name: &str, value: &str) -> String {
    let mut text = format!("{name}=\"");
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
