//! Promises of telemetry that both twins keep: the same spans, each under what it is part of, all of them ended.

mod faults;
mod host;
mod ids;

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{
    Attribute, Names, OptimizedTelemetry, PlainTelemetry, RunStart, SampleRate, Span, SpanContext, SpanKind,
    SpanQueue, SpanSettings, SpanStatus, Telemetry,
};
use crate::config::Twin;
use crate::machine::Outcome;
use host::{Does, Host, Toy, branches, each, pipeline, retried, step};

const TWINS: [Twin; 2] = [Twin::Plain, Twin::Optimized];
const WALL: u64 = 1_700_000_000_000_000_000;

fn telemetry(twin: Twin, settings: SpanSettings) -> (Arc<dyn Telemetry<Toy>>, Arc<SpanQueue>) {
    let queue = Arc::new(SpanQueue::new(settings));
    let telemetry: Arc<dyn Telemetry<Toy>> = match twin {
        Twin::Plain => Arc::new(PlainTelemetry::new(Arc::clone(&queue))),
        Twin::Optimized => Arc::new(OptimizedTelemetry::new(Arc::clone(&queue))),
    };
    (telemetry, queue)
}

fn start(run: &str, host: &Host) -> RunStart {
    RunStart {
        run: Arc::from(run),
        names: Arc::new(Names::of(&host.plan)),
        parent: None,
        resumed: false,
        wall: WALL,
        at: 0,
    }
}

/// The spans of a run, and how it ended.
fn spans_of(twin: Twin, host: &mut Host) -> Vec<Span> {
    let (telemetry, queue) = telemetry(twin, SpanSettings::default());
    let run = start("run-1", host);
    host.run(&*telemetry, &run, 1);
    let spans = queue.take(usize::MAX);
    let counted = queue.statistics();
    assert_eq!(counted.spans_started, spans.len() as u64, "{twin:?}");
    assert_eq!(
        (counted.spans_ended, counted.spans_dropped),
        (spans.len() as u64, 0)
    );
    in_order(spans)
}

fn in_order(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.started, span.context.span));
    spans
}

/// `name<parent's name`, one for each span.
fn tree(spans: &[Span]) -> Vec<String> {
    let names: HashMap<_, _> = spans.iter().map(|span| (span.context.span, &span.name)).collect();
    let line = |span: &Span| match span.parent {
        None => span.name.clone(),
        Some(parent) => format!("{} < {}", span.name, names.get(&parent).map_or("?", |name| name)),
    };
    let mut lines: Vec<_> = spans.iter().map(line).collect();
    lines.sort();
    lines
}

fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no span {name}"));
    assert!(found.next().is_none(), "several spans {name}");
    span
}

#[test]
fn every_span_is_under_what_it_is_part_of() {
    for twin in TWINS {
        let split = |p: &mut _| {
            let left = step(p, "left", Does::Add(1));
            let right = step(p, "right", Does::Add(2));
            branches(p, "split", vec![("one", left), ("two", right)])
        };
        let mut host = Host::new(pipeline(|p| {
            let first = step(p, "first", Does::Add(1));
            let split = split(p);
            vec![first, split]
        }));
        let spans = spans_of(twin, &mut host);
        assert_eq!(
            tree(&spans),
            [
                "attempt 1 < first",
                "attempt 1 < left",
                "attempt 1 < right",
                "first < run pipeline",
                "invoke_agent first < attempt 1",
                "invoke_agent left < attempt 1",
                "invoke_agent right < attempt 1",
                "lane one < split",
                "lane two < split",
                "left < lane one",
                "right < lane two",
                "run pipeline",
                "split < run pipeline",
            ],
            "{twin:?}"
        );
        assert!(
            spans
                .iter()
                .all(|span| span.context.trace == spans[0].context.trace)
        );
        assert!(
            spans
                .iter()
                .all(|span| span.status == SpanStatus::Ok && span.ended >= span.started)
        );
        assert!(spans.iter().all(|span| span.started >= WALL));
    }
}

#[test]
fn a_retried_step_has_a_span_for_each_attempt_and_what_ran_in_it_below_it() {
    for twin in TWINS {
        let mut host = Host::new(pipeline(|p| vec![retried(p, "shaky", Does::FailTimes(2, 7), 2)]));
        let spans = spans_of(twin, &mut host);
        let of = |name: &str| named(&spans, name);
        assert_eq!(of("attempt 1").status, SpanStatus::Error);
        assert_eq!(of("attempt 2").error_type.as_deref(), Some("Broken"));
        assert_eq!(of("attempt 3").status, SpanStatus::Ok);
        assert_eq!(of("shaky").status, SpanStatus::Ok);
        assert_eq!(
            of("shaky").attribute("flujo.attempts"),
            Some(&Attribute::Count(3))
        );
        let calls = spans.iter().filter(|span| span.kind == SpanKind::Call);
        let around: Vec<_> = calls.map(|call| call.parent).collect();
        let attempts = ["attempt 1", "attempt 2", "attempt 3"].map(|name| Some(of(name).context.span));
        assert_eq!(around, attempts);
        assert!(of("attempt 2").started >= of("attempt 1").ended);
    }
}

#[test]
fn a_failure_is_named_by_type_and_its_text_is_told_only_when_content_is_captured() {
    for (twin, capture_content) in TWINS.into_iter().flat_map(|twin| [(twin, false), (twin, true)]) {
        let mut host = Host::new(pipeline(|p| vec![retried(p, "broken", Does::FailTimes(9, 7), 1)]));
        let settings = SpanSettings {
            capture_content,
            ..SpanSettings::default()
        };
        let (telemetry, queue) = telemetry(twin, settings);
        let run = start("run-1", &host);
        assert!(matches!(
            host.run(&*telemetry, &run, 1).outcome,
            Outcome::Failed(_)
        ));
        let spans = queue.take(usize::MAX);
        assert!(spans.iter().all(|span| span.status == SpanStatus::Error));
        assert!(
            spans
                .iter()
                .all(|span| span.error_type.as_deref() == Some("Broken"))
        );
        let told = format!("{spans:?}");
        assert_eq!(told.contains("a secret text"), capture_content, "{told}");
        assert_eq!(told.contains("the input"), capture_content, "{told}");
    }
}

#[test]
fn a_pause_is_no_error_and_what_follows_it_is_in_the_same_trace() {
    for twin in TWINS {
        let (telemetry, queue) = telemetry(twin, SpanSettings::default());
        let mut host = Host::new(pipeline(|p| {
            let first = step(p, "first", Does::Add(1));
            let ask = host::ask(p, "ask");
            vec![first, ask]
        }));
        let run = start("run-1", &host);
        let paused = host.pause(&*telemetry, &run, 1);
        let before = queue.take(usize::MAX);
        assert_eq!(
            tree(&before),
            [
                "ask < run pipeline",
                "attempt 1 < first",
                "first < run pipeline",
                "invoke_agent first < attempt 1",
                "run pipeline"
            ]
        );
        assert_eq!(named(&before, "ask").status, SpanStatus::Paused);
        assert_eq!(named(&before, "run pipeline").status, SpanStatus::Paused);
        assert_eq!(named(&before, "first").status, SpanStatus::Ok);

        let resumed = RunStart {
            resumed: true,
            wall: WALL + 1_000_000_000,
            at: host.now,
            ..run
        };
        host.resume(&*telemetry, &resumed, paused, 5);
        let after = queue.take(usize::MAX);
        assert_eq!(tree(&after), ["ask < run pipeline", "run pipeline"], "{twin:?}");
        assert!(after.iter().all(|span| span.status == SpanStatus::Ok));
        assert_eq!(after[0].context.trace, before[0].context.trace);
        assert!(after.iter().all(|span| span.started >= WALL + 1_000_000_000));
        let ids = |spans: &[Span]| spans.iter().map(|span| span.context.span).collect::<Vec<_>>();
        assert!(ids(&after).iter().all(|id| !ids(&before).contains(id)));
        let root = named(&after, "run pipeline");
        assert_eq!(root.attribute("flujo.resumed"), Some(&Attribute::Flag(true)));
    }
}

#[test]
fn a_run_that_is_dropped_half_way_ends_all_its_spans_without_an_error() {
    for twin in TWINS {
        let (telemetry, queue) = telemetry(twin, SpanSettings::default());
        let mut host = Host::new(pipeline(|p| vec![step(p, "slow", Does::Add(1))]));
        let run = start("run-1", &host);
        host.give_up(&*telemetry, &run, 1);
        let spans = queue.take(usize::MAX);
        assert_eq!(
            tree(&spans),
            ["attempt 1 < slow", "run pipeline", "slow < run pipeline"]
        );
        assert!(spans.iter().all(|span| span.status == SpanStatus::Cancelled));
        assert!(
            spans
                .iter()
                .all(|span| span.attribute("flujo.status") == Some(&Attribute::Text(Arc::from("cancelled"))))
        );
    }
}

#[test]
fn the_run_is_below_its_callers_span_and_knows_whether_that_one_is_recorded() {
    for twin in TWINS {
        let caller: SpanContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            .parse()
            .unwrap();
        for sampled in [true, false] {
            let (telemetry, queue) = telemetry(twin, SpanSettings::default());
            let mut host = Host::new(pipeline(|p| vec![step(p, "only", Does::Add(1))]));
            let run = RunStart {
                parent: Some(SpanContext { sampled, ..caller }),
                ..start("run-1", &host)
            };
            host.run(&*telemetry, &run, 1);
            let spans = queue.take(usize::MAX);
            if sampled {
                let root = named(&spans, "run pipeline");
                assert_eq!(root.parent, Some(caller.span));
                assert!(root.parent_is_foreign);
                assert!(spans.iter().all(|span| span.context.trace == caller.trace));
            } else {
                assert!(spans.is_empty());
            }
            // What steps hand on says the same.
            let current = host.current.as_ref().unwrap();
            assert_eq!((current.trace, current.sampled), (caller.trace, sampled));
        }
    }
}

#[test]
fn what_is_current_in_a_step_is_its_attempt() {
    for twin in TWINS {
        let mut host = Host::new(pipeline(|p| vec![step(p, "only", Does::Add(1))]));
        let spans = spans_of(twin, &mut host);
        assert_eq!(host.current, Some(named(&spans, "attempt 1").context));
    }
}

#[test]
fn usage_model_and_tokens_are_told_by_the_conventions_for_generative_ai() {
    for twin in TWINS {
        let mut host = Host::new(pipeline(|p| vec![step(p, "ask", Does::Model)]));
        let spans = spans_of(twin, &mut host);
        let call = named(&spans, "chat model-x");
        let count = |value| Some(Attribute::Count(value));
        assert_eq!(
            call.attribute("gen_ai.operation.name"),
            Some(&Attribute::Text("chat".into()))
        );
        assert_eq!(
            call.attribute("gen_ai.request.model"),
            Some(&Attribute::Text("model-x".into()))
        );
        assert_eq!(call.attribute("gen_ai.usage.input_tokens").cloned(), count(30));
        assert_eq!(call.attribute("gen_ai.usage.output_tokens").cloned(), count(12));
        for span in [call, named(&spans, "ask"), named(&spans, "run pipeline")] {
            assert_eq!(span.attribute("flujo.usage.tokens").cloned(), count(42));
            assert_eq!(
                span.attribute("flujo.usage.cost_usd"),
                Some(&Attribute::Number(0.002))
            );
        }
    }
}

#[test]
fn a_full_queue_drops_and_counts_and_the_run_goes_on() {
    for twin in TWINS {
        let settings = SpanSettings {
            capacity: 40,
            ..SpanSettings::default()
        };
        let (telemetry, queue) = telemetry(twin, settings);
        let steps = |p: &mut _| {
            (0..10)
                .map(|at| step(p, &format!("s{at}"), Does::Add(1)))
                .collect()
        };
        let mut host = Host::new(pipeline(steps));
        for run in 0..5 {
            let run = start(&format!("run-{run}"), &host);
            assert!(matches!(
                host.run(&*telemetry, &run, 0).outcome,
                Outcome::Completed(10)
            ));
        }
        let counted = queue.statistics();
        assert_eq!(counted.spans_started, 5 * 31);
        assert_eq!(counted.spans_ended, counted.spans_started);
        assert!(counted.queue_high_water <= 40);
        let kept = queue.take(usize::MAX).len() as u64;
        assert_eq!(kept + counted.spans_dropped, counted.spans_ended);
        assert!(counted.spans_dropped > 0 && kept > 0);
    }
}

#[test]
fn long_runs_are_handed_over_bit_by_bit() {
    let (telemetry, queue) = telemetry(Twin::Optimized, SpanSettings::default());
    let steps = |p: &mut _| {
        (0..1000)
            .map(|at| step(p, &format!("s{at}"), Does::Add(1)))
            .collect()
    };
    let mut host = Host::new(pipeline(steps));
    let run = start("run-1", &host);
    let seen = host.watch(&*telemetry, &run, 0, || queue.take(usize::MAX).len());
    let largest = seen.iter().copied().max().unwrap();
    assert_eq!(seen.iter().sum::<usize>(), 3001);
    assert!(seen.iter().filter(|taken| **taken > 0).count() > 5);
    assert!(largest < 600, "{largest} at once");
}

#[test]
fn a_share_of_the_runs_is_recorded_the_same_one_everywhere() {
    let rate = SampleRate::new(0.25).unwrap();
    let ids: Vec<_> = (0..4000).map(|run| format!("run-{run}")).collect();
    let taken = ids.iter().filter(|id| rate.takes(id)).count();
    assert!((850..1150).contains(&taken), "{taken}");
    assert!(ids.iter().all(|id| SampleRate::ALL.takes(id)));
    let none = SampleRate::new(0.0).unwrap();
    assert!(!ids.iter().any(|id| none.takes(id)));
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert!(SampleRate::new(wrong).unwrap_err().to_string().contains("from 0"));
    }
    for twin in TWINS {
        let settings = SpanSettings {
            rate,
            ..SpanSettings::default()
        };
        let (telemetry, queue) = telemetry(twin, settings);
        let mut host = Host::new(pipeline(|p| vec![step(p, "only", Does::Add(1))]));
        for id in &ids[..100] {
            let run = start(id, &host);
            host.run(&*telemetry, &run, 1);
            assert_eq!(!queue.take(usize::MAX).is_empty(), rate.takes(id));
        }
    }
}

#[test]
fn the_cost_of_a_span_is_measured_with_the_clock_it_was_given() {
    for twin in TWINS {
        fn clock() -> u64 {
            use std::sync::atomic::{AtomicU64, Ordering};
            static NOW: AtomicU64 = AtomicU64::new(0);
            NOW.fetch_add(1000, Ordering::Relaxed)
        }
        let settings = SpanSettings {
            clock: Some(clock),
            ..SpanSettings::default()
        };
        let (telemetry, queue) = telemetry(twin, settings);
        let mut host = Host::new(pipeline(|p| vec![step(p, "only", Does::Add(1))]));
        let run = start("run-1", &host);
        host.run(&*telemetry, &run, 1);
        assert!(queue.statistics().overhead_per_span > 0.0);
    }
}

/// A random pipeline: steps that succeed, retry or fail for good, in branches, items and sequences.
#[derive(Debug, Clone)]
enum Shape {
    Step(u32, u32),
    Sequence(Vec<Shape>),
    Branches(Vec<Shape>),
    Each(Box<Shape>, usize),
    Tried(Box<Shape>),
    Fallback(u32, Box<Shape>),
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = (0u32..3, 0u32..3).prop_map(|(fails, retries)| Shape::Step(fails, retries));
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Shape::Sequence),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Shape::Branches),
            (inner.clone(), 0usize..3).prop_map(|(body, items)| Shape::Each(Box::new(body), items)),
            inner.clone().prop_map(|body| Shape::Tried(Box::new(body))),
            (0u32..2, inner).prop_map(|(retries, body)| Shape::Fallback(retries, Box::new(body))),
        ]
    })
}

proptest! {
    #[test]
    fn both_twins_record_the_same_spans(shape in shape()) {
        let run = |twin| {
            let mut host = Host::new(pipeline(|p| vec![build(p, &shape)]));
            spans_of(twin, &mut host)
        };
        let (plain, optimized) = (run(Twin::Plain), run(Twin::Optimized));
        prop_assert_eq!(tree(&plain), tree(&optimized));
        prop_assert_eq!(&plain, &optimized);
        let ids: std::collections::HashSet<_> = plain.iter().map(|span| span.context.span).collect();
        prop_assert_eq!(ids.len(), plain.len());
        let roots = plain.iter().filter(|span| !span.parent.is_some_and(|parent| ids.contains(&parent)));
        prop_assert_eq!(roots.count(), 1);
    }
}

fn build(p: &mut host::Draft, shape: &Shape) -> crate::plan::NodeId {
    match shape {
        Shape::Step(fails, retries) => {
            let name = p.fresh("step");
            retried(p, &name, Does::FailTimes(*fails, 1), *retries)
        }
        Shape::Sequence(parts) => {
            let parts = parts.iter().map(|part| build(p, part)).collect();
            p.pipeline.sequence(parts)
        }
        Shape::Branches(parts) => {
            let built: Vec<_> = parts
                .iter()
                .map(|part| (p.fresh("branch"), build(p, part)))
                .collect();
            let name = p.fresh("split");
            branches(p, &name, built.iter().map(|(name, id)| (&**name, *id)).collect())
        }
        Shape::Each(body, items) => {
            let body = build(p, body);
            let name = p.fresh("each");
            each(p, &name, body, *items)
        }
        Shape::Tried(body) => {
            let body = build(p, body);
            let name = p.fresh("tried");
            host::tried(p, &name, body)
        }
        Shape::Fallback(retries, body) => {
            let body = build(p, body);
            let name = p.fresh("primary");
            host::with_fallback(p, &name, *retries, body)
        }
    }
}
