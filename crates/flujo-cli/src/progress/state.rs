//! What is known about a run that goes on: steps at the top, how many lanes they have, and what runs right now.
//!
//! It grows with the number of lanes that run, not with the number that have ended.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use flujo_core::usage::Usage;
use flujo_tokio::{Event, EventKind, Place};

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Running,
    Done,
    Failed,
    Stopped,
}

/// A step at the top.
#[derive(Debug)]
pub(super) struct TopStep {
    pub(super) name: Arc<str>,
    path: Arc<str>,
    pub(super) standing: Standing,
    pub(super) attempt: u32,
    pub(super) began: Duration,
    pub(super) ended: Duration,
    /// What it has used so far, as far as attempts and steps inside have told.
    pub(super) used: Usage,
    /// Whether its result was found in the cache.
    pub(super) from_cache: bool,
    pub(super) lanes: Lanes,
}

/// The lanes of a step at the top.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) begun: usize,
    pub(super) failed: usize,
    /// Steps in lanes whose results were found in the cache.
    pub(super) from_cache: usize,
    /// Lanes in which a step runs, with how many steps run in them.
    running: HashMap<String, usize>,
    seen: HashSet<String>,
}

impl Lanes {
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }
}

/// A step that runs right now, inside a lane.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) name: Arc<str>,
    pub(super) attempt: u32,
    pub(super) began: Duration,
    /// What its attempts have used so far.
    pub(super) used: Usage,
}

/// A run as its events have told it so far.
#[derive(Debug, Default)]
pub(super) struct RunState {
    pub(super) steps: Vec<TopStep>,
    /// By lane and path, in that order.
    pub(super) active: BTreeMap<(String, Arc<str>), Active>,
}

impl RunState {
    pub(super) fn take_in(&mut self, event: &Event) {
        let place = &event.place;
        if place.lane.is_empty() {
            self.at_top(event);
        } else {
            self.in_lane(event);
        }
    }

    fn at_top(&mut self, event: &Event) {
        let place = &event.place;
        if matches!(event.kind, EventKind::StepStarted) {
            self.steps.push(TopStep {
                name: Arc::clone(&place.step),
                path: Arc::clone(&place.path),
                standing: Standing::Running,
                attempt: 1,
                began: event.at,
                ended: event.at,
                used: Usage::ZERO,
                from_cache: false,
                lanes: Lanes::default(),
            });
            return;
        }
        let Some(step) = self.steps.iter_mut().rev().find(|step| step.path == place.path) else {
            return;
        };
        step.attempt = step.attempt.max(place.attempt);
        match &event.kind {
            EventKind::AttemptFailed { usage, .. } => step.used = *usage,
            EventKind::CacheHit { .. } => step.from_cache = true,
            kind => {
                if let Some((standing, usage)) = end(kind) {
                    step.standing = standing;
                    step.ended = event.at;
                    step.used = usage;
                }
            }
        }
    }

    fn in_lane(&mut self, event: &Event) {
        let place = &event.place;
        let outermost = place.lane.split('/').next().unwrap_or_default();
        let owner = outermost.split(['[', '.']).next().unwrap_or_default();
        let top = self.steps.iter_mut().rev().find(|step| *step.name == *owner);
        let key = (place.lane.clone(), Arc::clone(&place.path));
        match &event.kind {
            EventKind::StepStarted => {
                if let Some(lanes) = top.map(|top| &mut top.lanes) {
                    *lanes.running.entry(outermost.to_owned()).or_default() += 1;
                    if lanes.seen.insert(outermost.to_owned()) {
                        lanes.begun += 1;
                    }
                }
                let active = Active {
                    name: Arc::clone(&place.step),
                    attempt: 1,
                    began: event.at,
                    used: Usage::ZERO,
                };
                self.active.insert(key, active);
            }
            EventKind::CacheHit { .. } => {
                if let Some(lanes) = top.map(|top| &mut top.lanes) {
                    lanes.from_cache += 1;
                }
            }
            EventKind::AttemptStarted => {
                if let Some(active) = self.active.get_mut(&key) {
                    active.attempt = place.attempt;
                }
            }
            EventKind::AttemptFailed { usage, .. } => {
                if let Some(active) = self.active.get_mut(&key) {
                    active.used = *usage;
                }
            }
            kind => {
                let Some((standing, usage)) = end(kind) else {
                    return;
                };
                self.active.remove(&key);
                let Some(top) = top else { return };
                // What a step inside another one has used is part of what that one tells when it ends.
                if !self.active.keys().any(|around| is_around(around, place)) {
                    top.used += usage;
                }
                let lanes = &mut top.lanes;
                if let Some(open) = lanes.running.get_mut(outermost) {
                    *open -= 1;
                    if *open == 0 {
                        lanes.running.remove(outermost);
                        lanes.failed += usize::from(standing == Standing::Failed);
                    }
                }
            }
        }
    }
}

/// Whether `place` is inside the step that runs in that lane at that path.
fn is_around((lane, path): &(String, Arc<str>), place: &Place) -> bool {
    let inside = |rest: Option<&str>| rest.is_some_and(|rest| rest.starts_with('/'));
    (*lane == place.lane || inside(place.lane.strip_prefix(lane.as_str())))
        && inside(place.path.strip_prefix(&**path))
}

/// How a step stands after it has ended, and what it has used.
fn end(kind: &EventKind) -> Option<(Standing, Usage)> {
    match kind {
        EventKind::StepFinished { usage, .. } => Some((Standing::Done, *usage)),
        EventKind::StepFailed { usage, .. } => Some((Standing::Failed, *usage)),
        EventKind::StepStopped { usage, .. } => Some((Standing::Stopped, *usage)),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use flujo_core::usage::{Cost, Usage};
    use flujo_tokio::{Event, EventKind, Place, RunId};

    use super::RunState;

    pub(in crate::progress) fn event(lane: &str, path: &str, kind: EventKind) -> Event {
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
        tell("fan[a]", "fan/a/one", EventKind::StepStarted);
        assert_eq!(tell("fan[a]", "fan/a/one", finished(3)), Some(3));
        tell("fan[a]", "fan/a/inner", EventKind::StepStarted);
        tell("fan[a]/inner[x]", "fan/a/inner/x/two", EventKind::StepStarted);
        assert_eq!(tell("fan[a]/inner[x]", "fan/a/inner/x/two", finished(4)), Some(3));
        assert_eq!(tell("fan[a]", "fan/a/inner", finished(4)), Some(7));
        assert_eq!(tell("", "fan", finished(7)), Some(7));
    }
}
