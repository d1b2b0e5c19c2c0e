//! What `flujo run` exports about the run: spans to a collector or a file, metrics to a file or an endpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flujo_blueprint::Rule;
use flujo_core::telemetry::SpanContext;
use flujo_observe::{JsonLines, Metrics, MetricsEndpoint, Observer, Otlp};
use flujo_tokio::{Runner, RunnerBuilder};

use super::write_whole;
use crate::color::Paint;
use crate::outcome::Failure;
use crate::settings::Settings;
use crate::terminal;

/// How long the end of the command waits for spans to leave.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What is exported; nothing where no setting asks for it.
pub(super) struct Telemetry {
    observer: Option<Observer>,
    metrics_out: Option<PathBuf>,
    metrics: Metrics,
    address: Option<String>,
    endpoint: Option<MetricsEndpoint>,
}

/// The span of whoever called the command, as the variable `TRACEPARENT` tells it. One that can't be read is none.
pub(super) fn caller() -> Option<SpanContext> {
    std::env::var("TRACEPARENT").ok()?.trim().parse().ok()
}

impl Telemetry {
    pub(super) fn new(settings: &Settings) -> Result<Self, Failure> {
        let path = |name| settings.value(name).map(PathBuf::from);
        Ok(Self {
            observer: observer(settings)?,
            metrics_out: path("metrics_out"),
            metrics: Metrics::default(),
            address: settings.value("metrics_address").map(str::to_owned),
            endpoint: None,
        })
    }

    pub(super) fn attach(&self, builder: RunnerBuilder) -> RunnerBuilder {
        match &self.observer {
            Some(observer) => builder.telemetry(observer),
            None => builder,
        }
    }

    /// Serves the runner's metrics, when that is asked for.
    pub(super) fn serve(mut self, runner: &Runner, pipeline: &str) -> Result<Self, Failure> {
        let runner = runner.clone();
        self.metrics
            .add(pipeline, move || runner.performance_statistics());
        if let Some(address) = &self.address {
            let endpoint = MetricsEndpoint::serve(address, self.metrics.clone()).map_err(|error| {
                Failure::usage(
                    Rule::BadSetting,
                    error.to_string(),
                    "choose another `metrics_address`",
                )
            })?;
            self.endpoint = Some(endpoint);
        }
        Ok(self)
    }

    /// Sees to it that everything has left, as far as that can be done in a few seconds.
    pub(super) fn end(self, paint: Paint) -> Result<(), Failure> {
        if let Some(observer) = &self.observer {
            let in_time = observer.shutdown(LAST_WORDS);
            let counted = observer.statistics();
            if in_time.is_err() || counted.spans_dropped > 0 {
                let text = format!(
                    "{} of {} spans were not delivered: see whether the collector answers and the disk has room",
                    counted.spans_dropped, counted.spans_ended
                );
                terminal::note(&paint.warning(&text));
            }
        }
        match &self.metrics_out {
            Some(path) => write_whole(path, self.metrics.text().as_bytes()),
            None => Ok(()),
        }
    }
}

fn observer(settings: &Settings) -> Result<Option<Observer>, Failure> {
    let (otlp, file) = (settings.value("otlp"), settings.value("trace_out"));
    if otlp.is_none() && file.is_none() {
        return Ok(None);
    }
    let mut builder = Observer::builder().capture_content(settings.value("capture_content") == Some("true"));
    if let Some(share) = settings.number("trace_sample") {
        builder = builder
            .sample(share)
            .map_err(|error| Failure::usage(Rule::BadSetting, error.to_string(), "correct `trace_sample`"))?;
    }
    // The file first: it never keeps anybody waiting.
    if let Some(file) = file {
        let lines = JsonLines::create(Path::new(file));
        builder = builder.exporter(lines.map_err(|error| Failure::unwritable(Path::new(file), &error))?);
    }
    if let Some(otlp) = otlp {
        let exporter = match otlp {
            "env" => Otlp::builder(),
            url => Otlp::builder().endpoint(url),
        };
        let exporter = exporter.build().map_err(|error| {
            Failure::usage(
                Rule::BadSetting,
                error.to_string(),
                "correct `otlp`, or `OTEL_EXPORTER_OTLP_…`",
            )
        })?;
        builder = builder.exporter(exporter);
    }
    let started = builder.build();
    started.map(Some).map_err(|error| {
        let message = format!("no thread can be started for telemetry: {error}");
        Failure::usage(
            Rule::BadSetting,
            message,
            "raise the limit of processes and threads",
        )
    })
}
