//! What is shown of runs that go on.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::usage::{Cost, Usage};
use flujo_tokio::{Event, EventKind, Place, RunId};

use super::state::RunState;
use super::tree::LiveTree;
use crate::color::{Paint, Stream};

fn event(lane: &str, path: &str, kind: EventKind) -> Event {
    Event {
        place: Place {
            run: RunId::new(),
            step: Arc::from(path.rsplit('/').next().unwrap_or_default()),
            path: Arc::from(path),
            lane: lane.to_owned(),
            attempt: 1,
            iterations: Vec::new(),
            span: None,
        },
        kind,
        at: Duration::ZERO,
    }
}

fn finished(tokens: u64) -> EventKind {
    EventKind::StepFinished {
        usage: Usage::new(Cost::ZERO, tokens),
        attempts: 1,
    }
}

#[test]
fn a_step_that_runs_shows_what_the_steps_inside_it_have_used_each_counted_once() {
    let mut state = RunState::default();
    let mut tell = |lane: &str, path: &str, kind| {
        state.take_in(&event(lane, path, kind));
        state.steps.first().map(|step| step.used.tokens)
    };
    tell("", "fan", EventKind::StepStarted);
    tell("fan.a", "fan/a/one", EventKind::StepStarted);
    assert_eq!(tell("fan.a", "fan/a/one", finished(3)), Some(3));
    tell("fan.a", "fan/a/inner", EventKind::StepStarted);
    tell("fan.a/inner.x", "fan/a/inner/x/two", EventKind::StepStarted);
    assert_eq!(tell("fan.a/inner.x", "fan/a/inner/x/two", finished(4)), Some(3));
    assert_eq!(tell("fan.a", "fan/a/inner", finished(4)), Some(7));
    assert_eq!(tell("", "fan", finished(7)), Some(7));
}

#[test]
fn a_result_that_was_found_has_a_mark_of_its_own_and_those_in_lanes_are_counted() {
    let mut tree = LiveTree::new("p", Paint::for_stream(Stream::Error));
    let found = || EventKind::CacheHit { saved: Usage::ZERO };
    let finished = || EventKind::StepFinished {
        usage: Usage::ZERO,
        attempts: 0,
    };
    for (lane, path, kind) in [
        ("", "ask", EventKind::StepStarted),
        ("", "ask", found()),
        ("", "ask", finished()),
        ("", "made", EventKind::StepStarted),
        ("", "made", finished()),
        ("", "each", EventKind::StepStarted),
        ("each[0]", "each/ask", EventKind::StepStarted),
        ("each[0]", "each/ask", found()),
        ("each[0]", "each/ask", finished()),
    ] {
        tree.state.take_in(&event(lane, path, kind));
    }
    let rows: Vec<_> = tree.rows(9).into_iter().map(|row| row.text).collect();
    assert!(
        rows.iter()
            .any(|row| row.starts_with("↺ ask") && row.ends_with("from the cache")),
        "{rows:?}"
    );
    assert!(
        rows.iter()
            .any(|row| row.starts_with("✓ made") && !row.contains("cache")),
        "{rows:?}"
    );
    assert!(
        rows.iter()
            .any(|row| row.ends_with("1 ended, 0 running, ↺ 1 from the cache")),
        "{rows:?}"
    );
}
