//! One case run on tokio's paused clock, and what is seen of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::config::{OptimizationConfig, Part, Twin};
use flujo_core::context::Context;
use flujo_core::rate::RateLimit;
use flujo_core::value::Value;
use flujo_simulation::differential::{EndView, View, end, plain};
use flujo_simulation::{Case, Object, Spec, Write};
use flujo_tokio::{Canceller, Done, Run, Runner, RunnerBuilder};

use super::flow;
use super::scripted::{self, Log};

/// Which twins the runner of a case uses: in turn all optimised, all plain, and each part alone plain. No step takes so
/// long that an alert would come between the events.
pub(crate) fn config(index: u64) -> OptimizationConfig {
    let choice = usize::try_from(index).unwrap() % (Part::ALL.len() + 2);
    let mut config = if choice == Part::ALL.len() {
        OptimizationConfig::plain()
    } else {
        OptimizationConfig::default()
    };
    if let Some(part) = Part::ALL.get(choice) {
        config.set_twin(*part, Twin::Plain);
    }
    config.execution_time_threshold = 1e9;
    config
}

/// Runs a case.
pub(crate) fn run(case: &Case, config: &OptimizationConfig) -> View {
    let (case, config) = (case.clone(), config.clone());
    on_paused_clock(async move { drive(&case, config).await })
}

/// Time passes by itself as soon as everybody waits. The work is a task, so that everything it calls is called by the task
/// of a lane.
pub(crate) fn on_paused_clock<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async { tokio::spawn(work).await.unwrap() })
}

/// A case whose rate limits have names of their own: all that a process runs shares them by name.
pub(crate) fn own_rates(case: &Case) -> Case {
    static CASES: AtomicUsize = AtomicUsize::new(0);
    let number = CASES.fetch_add(1, Ordering::Relaxed);
    let rename = |limit: &mut RateLimit| limit.name = format!("{}, case {number}", limit.name).into();
    let mut case = case.clone();
    case.rates.iter_mut().for_each(rename);
    case.agent_rates.values_mut().for_each(rename);
    case.pipeline.visit_mut(&mut |spec| {
        if let Spec::Step(step) = spec {
            step.rates.iter_mut().for_each(rename);
        }
    });
    case
}

/// What runs a case.
pub(crate) fn builder(case: &Case, config: OptimizationConfig, log: &Arc<Mutex<Log>>) -> RunnerBuilder {
    let mut builder = Runner::builder(scripted::pipeline(&case.pipeline, log))
        .usage_limits(case.limits)
        .optimization_config(config)
        .event_buffer(1 << 20);
    for (name, agent) in std::mem::take(&mut log.lock().unwrap().agents) {
        builder = builder.agent(name, agent);
    }
    for limit in &case.rates {
        builder = builder.rate_limit(limit.clone());
    }
    if let Some(deadline) = case.deadline {
        builder = builder.deadline(Duration::from_nanos(deadline));
    }
    builder
}

async fn drive(case: &Case, config: OptimizationConfig) -> View {
    let case = &own_rates(case);
    let log = Arc::new(Mutex::new(Log::of(case)));
    let runner = builder(case, config, &log).build().unwrap();
    let mut run = runner.run(scripted::value_of(&case.input), context_of(case));
    let canceller = cancelling(case, &run);
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    let done = loop {
        tell(&mut run, &mut told).await;
        let done = run.await;
        let Some(paused) = &done.paused else {
            break done;
        };
        let answers: Vec<(String, Value)> = paused
            .pauses()
            .iter()
            .map(|pause| {
                let times = asked.entry(pause.id.clone()).or_default();
                let answer = flow::answer(&case.pipeline, &pause.step, *times);
                *times += 1;
                (pause.id.clone(), answer)
            })
            .collect();
        run = runner.resume_with(paused, answers).unwrap();
        *canceller.lock().unwrap() = run.canceller();
    };
    let log = std::mem::take(&mut *log.lock().unwrap());
    View {
        end: end_of(&done),
        calls: log.calls,
        events: told,
    }
}

/// Cancels a run when its case says so; another one that takes its place, too.
pub(crate) fn cancelling(case: &Case, run: &Run) -> Arc<Mutex<Canceller>> {
    let canceller = Arc::new(Mutex::new(run.canceller()));
    if let Some(at) = case.schedule.cancel_at {
        assert!(scripted::is_whole(at));
        let canceller = Arc::clone(&canceller);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_nanos(at)).await;
            canceller.lock().unwrap().cancel();
        });
    }
    canceller
}

/// How a run ended.
pub(crate) fn end_of(done: &Done) -> EndView {
    end(&done.plan, &done.finish, &object_of, &plain_context)
}

/// Drives a run as far as it goes; notes what is told of its steps.
async fn tell(run: &mut Run, told: &mut BTreeMap<String, Vec<String>>) {
    let mut events = run.events();
    while let Some(event) = events.next().await {
        if !event.kind.name().starts_with("run_") {
            let text = format!(
                "{} {} {}",
                event.kind.name(),
                event.place.step,
                event.place.attempt
            );
            told.entry(scripted::bracketed(&event.place.lane))
                .or_default()
                .push(text);
        }
    }
}

pub(crate) fn context_of(case: &Case) -> Context {
    let mut context = Context::new();
    for (field, value) in case.context.fields() {
        context.set(renamed(field), scripted::value_of(value));
    }
    context
}

/// A field as tokio can write it.
fn renamed(field: &str) -> String {
    match field.strip_suffix(".feedback") {
        Some(step) => scripted::feedback_field(step),
        None => field.to_owned(),
    }
}

fn plain_context(context: &Context) -> flujo_simulation::Context {
    let mut plain = flujo_simulation::Context::default();
    for (field, value) in context.iter() {
        let field = match field.strip_suffix("_feedback") {
            Some(step) => format!("{step}.feedback"),
            None => field.to_string(),
        };
        plain.write(&field, &Write::Set(object_of(value)));
    }
    plain
}

fn object_of(value: &Value) -> Object {
    match value {
        Value::Null => Object::Null,
        Value::Int(number) => Object::Int(*number),
        Value::Str(text) => Object::Text(plain(text).into()),
        Value::List(values) => Object::List(values.iter().map(object_of).collect()),
        Value::Map(fields) => Object::Record(
            fields
                .iter()
                .map(|(name, value)| (Arc::clone(name), object_of(value)))
                .collect(),
        ),
        other => panic!("{other:?} is not made by any script"),
    }
}
