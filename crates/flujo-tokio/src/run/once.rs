//! What steps do once however often they begin anew: each part of a step's work under a name of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use flujo_core::machine::{Finish, LanePlace, Machine};
use flujo_core::value::Value;
use flujo_durable::Once;
use tokio::sync::OnceCell;

use crate::domain::Tokio;

/// What the steps of one run have recorded, the latest step of each lane.
#[derive(Debug, Default)]
pub(crate) struct Onces(Mutex<HashMap<usize, Held>>);

/// One value, or the work that makes it: whoever asks for it meanwhile waits for that.
pub(crate) type Part = Arc<OnceCell<Value>>;

#[derive(Debug)]
struct Held {
    /// Keeps the address that it is found by from being used again; `None`: the run itself.
    lane: Option<Weak<LanePlace>>,
    step: Arc<str>,
    iterations: Vec<u32>,
    parts: Vec<(Arc<str>, Part)>,
}

/// The iterations around a machine's place, outermost first.
pub(super) fn round(machine: &Machine<Tokio>) -> Vec<u32> {
    machine.round().map(|round| round.indices()).unwrap_or_default()
}

fn address(lane: Option<&Arc<LanePlace>>) -> usize {
    lane.map_or(0, |lane| Arc::as_ptr(lane).addr())
}

impl Onces {
    /// A part of a step's work; what another step of the same lane has recorded is forgotten.
    pub(crate) fn part(
        &self,
        lane: Option<&Arc<LanePlace>>,
        step: &Arc<str>,
        iterations: &[u32],
        key: &Arc<str>,
    ) -> Part {
        let mut lanes = self.lock();
        if lanes.len() == lanes.capacity() {
            lanes.retain(|_, held| held.lane.as_ref().is_none_or(|lane| lane.strong_count() > 0));
        }
        let held = lanes.entry(address(lane)).or_insert_with(|| Held {
            lane: lane.map(Arc::downgrade),
            step: Arc::clone(step),
            iterations: iterations.to_vec(),
            parts: Vec::new(),
        });
        if held.step != *step || held.iterations != iterations {
            held.step = Arc::clone(step);
            held.iterations = iterations.to_vec();
            held.parts.clear();
        }
        if let Some((_, part)) = held.parts.iter().find(|(known, _)| known == key) {
            return Arc::clone(part);
        }
        let part = Part::default();
        held.parts.push((Arc::clone(key), Arc::clone(&part)));
        part
    }

    /// Takes in what was recorded before this process.
    pub(super) fn put(&self, lane: Option<&Arc<LanePlace>>, once: Once<Value>) {
        let parts = once.values.into_iter();
        let held = Held {
            lane: lane.map(Arc::downgrade),
            step: once.step,
            iterations: once.iterations,
            parts: parts
                .map(|(key, value)| (key, Arc::new(OnceCell::new_with(Some(value)))))
                .collect(),
        };
        self.lock().insert(address(lane), held);
    }

    /// What a step outside of lanes has recorded so far.
    pub(super) fn of_run(&self, step: &str, iterations: &[u32]) -> Option<Once<Value>> {
        self.of(None).filter(|once| once.is_of(step, iterations))
    }

    /// What the latest step of a lane, or of the run itself, has recorded so far.
    fn of(&self, lane: Option<&Arc<LanePlace>>) -> Option<Once<Value>> {
        let lanes = self.lock();
        let held = lanes.get(&address(lane))?;
        let mut once = Once::new(Arc::clone(&held.step), held.iterations.clone());
        for (key, part) in &held.parts {
            if let Some(value) = part.get() {
                once.record(Arc::clone(key), value.clone());
            }
        }
        Some(once)
    }

    /// Takes in what the step of a machine had recorded that goes on after it was stopped.
    #[inline]
    pub(super) fn goes_on(&self, machine: &mut Machine<Tokio>) {
        if let Some(once) = machine.take_once() {
            self.put(machine.lane(), once);
        }
    }

    /// Has what a lane, or the run itself, goes on from keep what its step recorded.
    #[inline]
    pub(super) fn kept(&self, lane: Option<&Arc<LanePlace>>, finish: &mut Finish<Tokio>) {
        if let Some(kept) = &mut finish.kept
            && let Some(once) = self.of(lane)
        {
            kept.keep_once(once);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Held>> {
        // Whole entries are put in place, so it is good also after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
