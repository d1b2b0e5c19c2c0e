//! What spans cost on the step's own thread, in CPU time of that thread: with either twin, and with OpenTelemetry's own
//! batch processor used the ordinary way. An exporter that takes everything is attached, on a thread of its own.
//!
//! `cargo bench -p flujo-observe`

#[path = "../../flujo-core/benches/rows/mod.rs"]
mod rows;

use std::sync::Arc;
use std::time::Duration;

use flujo_core::config::OptimizationConfig;
use flujo_core::context::Context;
use flujo_core::telemetry::Span;
use flujo_core::value::Value;
use flujo_observe::{ExportError, Exporter, Observer};
use flujo_tokio::{Handler, Pipeline, Runner, Step};
use opentelemetry::trace::{Span as _, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context as OtelContext, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter,
};
use rows::Row;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};

const STEPS: u32 = 100;
/// A step and its attempt for each, and the run.
const SPANS: u32 = 2 * STEPS + 1;
const RUNS: u32 = 100;
const ROUNDS: usize = 31;
const SOON: Duration = Duration::from_mins(1);
/// The most an attached exporter may add to a step, in nanoseconds.
const MOST: f64 = 1_000.0;

/// Takes everything.
#[derive(Debug)]
struct Sink;

impl Exporter for Sink {
    fn name(&self) -> &'static str {
        "sink"
    }

    fn export(&mut self, _: &[Span]) -> Result<(), ExportError> {
        Ok(())
    }
}

impl SpanExporter for Sink {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

/// This thread's CPU time, in nanoseconds.
#[allow(clippy::cast_precision_loss)] // a float is asked for
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn runner(observer: Option<&Observer>, optimized: bool) -> Runner {
    let step = |name: u32| {
        let handler = Handler::function(|input| async move { Ok(input) });
        Step::new(format!("step {name}"), handler)
    };
    let pipeline = (0..STEPS).fold(Pipeline::new(), |pipeline, name| pipeline.then(step(name)));
    let mut builder = Runner::builder(pipeline).optimization_config(OptimizationConfig {
        enable_telemetry_optimization: optimized,
        ..OptimizationConfig::default()
    });
    if let Some(observer) = observer {
        builder = builder.telemetry(observer);
    }
    match builder.build() {
        Ok(runner) => runner,
        Err(error) => unreachable!("the pipeline of this benchmark can run: {error}"),
    }
}

/// CPU time of a step, in nanoseconds.
fn per_step(runtime: &Runtime, runner: &Runner) -> f64 {
    let begin = cpu();
    runtime.block_on(async {
        for _ in 0..RUNS {
            runner.run(Value::Int(0), Context::new()).await;
        }
    });
    (cpu() - begin) / f64::from(RUNS * STEPS)
}

/// CPU time of a span of OpenTelemetry's SDK with the attributes that ours have, in nanoseconds.
fn per_sdk_span(provider: &SdkTracerProvider) -> f64 {
    let tracer = provider.tracer("flujo");
    let run_id: Arc<str> = Arc::from("0123456789abcdef-1");
    let begin = cpu();
    for _ in 0..RUNS {
        let root = tracer.start("run pipeline");
        let run = OtelContext::new().with_span(root);
        for step in 0..STEPS {
            let name = format!("step {step}");
            let place = [
                KeyValue::new("flujo.run.id", Arc::clone(&run_id)),
                KeyValue::new("flujo.step", name.clone()),
                KeyValue::new("flujo.step.path", name.clone()),
            ];
            let kind = KeyValue::new("flujo.step.kind", "step");
            let builder = tracer
                .span_builder(name)
                .with_attributes(place.iter().cloned().chain([kind]));
            let around = run.with_span(tracer.build_with_context(builder, &run));
            let number = KeyValue::new("flujo.attempt", 1);
            let builder = tracer
                .span_builder("attempt 1")
                .with_attributes(place.into_iter().chain([number]));
            let mut attempt = tracer.build_with_context(builder, &around);
            attempt.set_attribute(KeyValue::new("flujo.status", "ok"));
            attempt.end();
            let step = around.span();
            step.set_attribute(KeyValue::new("flujo.attempts", 1));
            step.set_attribute(KeyValue::new("flujo.status", "ok"));
            step.end();
        }
        run.span().set_attribute(KeyValue::new("flujo.status", "ok"));
        run.span().end();
    }
    (cpu() - begin) / f64::from(RUNS * SPANS)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let observer = Observer::builder().exporter(Sink).capacity(1 << 20).build()?;
    let (silent, plain, optimized) = (
        runner(None, true),
        runner(Some(&observer), false),
        runner(Some(&observer), true),
    );
    let config = BatchConfigBuilder::default().with_max_queue_size(1 << 20).build();
    let processor = BatchSpanProcessor::builder(Sink)
        .with_batch_config(config)
        .build();
    let sdk = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();

    let mut figures: [Vec<f64>; 4] = Default::default();
    for round in 0..=ROUNDS {
        let silent = per_step(&runtime, &silent);
        let plain = per_step(&runtime, &plain) - silent;
        observer.flush(SOON)?;
        let optimized = per_step(&runtime, &optimized) - silent;
        observer.flush(SOON)?;
        let sdk_span = per_sdk_span(&sdk);
        sdk.force_flush()?;
        if round > 0 {
            for (all, one) in figures.iter_mut().zip([silent, plain, optimized, sdk_span]) {
                all.push(one);
            }
        }
    }
    let dropped = observer.statistics().spans_dropped;
    if dropped > 0 {
        return Err(format!("{dropped} spans were dropped, which costs less than to keep them").into());
    }
    let [silent, plain, optimized, sdk_span] = figures.map(median);
    let plain_span = plain * f64::from(STEPS) / f64::from(SPANS);
    rows::print([
        Row {
            name: "telemetry: added to a step by an attached exporter".to_owned(),
            value: optimized,
            unit: "ns",
            baseline: silent,
            reach: "at most 1 us",
            holds: optimized <= MOST,
            against: "the step without it",
        },
        Row {
            name: "telemetry: added to a step, optimised".to_owned(),
            value: optimized,
            unit: "ns",
            baseline: plain,
            reach: "at most 0.2 x",
            holds: optimized <= 0.2 * plain,
            against: "the plain twin",
        },
        Row {
            name: "telemetry: a span of the plain twin".to_owned(),
            value: plain_span,
            unit: "ns",
            baseline: sdk_span,
            reach: "at most 1.2 x",
            holds: plain_span <= 1.2 * sdk_span,
            against: "opentelemetry-sdk's batch processor",
        },
    ])?;
    Ok(())
}
