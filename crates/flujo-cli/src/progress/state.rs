//! What is known about a run that goes on: steps at the top, how many lanes they have, and what runs right now.
//!
//! It grows with the number of lanes that run, not with the number that have ended.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use flujo_tokio::{Event, EventKind};

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
    pub(super) lanes: Lanes,
}

/// The lanes of a step at the top.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) begun: usize,
    pub(super) failed: usize,
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
                lanes: Lanes::default(),
            });
            return;
        }
        let Some(step) = self.steps.iter_mut().rev().find(|step| step.path == place.path) else {
            return;
        };
        step.attempt = step.attempt.max(place.attempt);
        if let Some(standing) = end(&event.kind) {
            step.standing = standing;
            step.ended = event.at;
        }
    }

    fn in_lane(&mut self, event: &Event) {
        let place = &event.place;
        let outermost = place.lane.split('/').next().unwrap_or_default();
        let owner = outermost.split(['[', '.']).next().unwrap_or_default();
        let lanes = self
            .steps
            .iter_mut()
            .rev()
            .find(|step| *step.name == *owner)
            .map(|step| &mut step.lanes);
        let key = (place.lane.clone(), Arc::clone(&place.path));
        match &event.kind {
            EventKind::StepStarted => {
                if let Some(lanes) = lanes {
                    *lanes.running.entry(outermost.to_owned()).or_default() += 1;
                    if lanes.seen.insert(outermost.to_owned()) {
                        lanes.begun += 1;
                    }
                }
                let active = Active {
                    name: Arc::clone(&place.step),
                    attempt: 1,
                    began: event.at,
                };
                self.active.insert(key, active);
            }
            EventKind::AttemptStarted => {
                if let Some(active) = self.active.get_mut(&key) {
                    active.attempt = place.attempt;
                }
            }
            kind => {
                let Some(standing) = end(kind) else { return };
                self.active.remove(&key);
                let Some(lanes) = lanes else { return };
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

fn end(kind: &EventKind) -> Option<Standing> {
    match kind {
        EventKind::StepFinished => Some(Standing::Done),
        EventKind::StepFailed(_) => Some(Standing::Failed),
        EventKind::StepStopped => Some(Standing::Stopped),
        _ => None,
    }
}
