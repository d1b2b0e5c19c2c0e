//! What a step records while it is under way, so that it does each part once however often the step begins anew.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What one step has recorded and not ended since, by the names it gave. It belongs to the step at its place in the run, as
/// the step's idempotency key does: to all its attempts, and to no other branch, item or iteration. A machine has at most
/// one: what is recorded by another step, or in another iteration, takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once<O> {
    /// The step's path.
    pub step: Arc<str>,
    /// The iterations around it, outermost first.
    pub iterations: Vec<u32>,
    /// What was recorded, in order.
    pub values: Vec<(Arc<str>, O)>,
}

impl<O> Once<O> {
    /// Nothing yet.
    pub fn new(step: Arc<str>, iterations: Vec<u32>) -> Self {
        Self {
            step,
            iterations,
            values: Vec::new(),
        }
    }

    /// Whether it belongs to the step of this path in these iterations.
    pub fn is_of(&self, step: &str, iterations: &[u32]) -> bool {
        &*self.step == step && self.iterations == iterations
    }

    /// Records a value; one of the name that is there already stays.
    pub fn record(&mut self, key: Arc<str>, value: O) {
        if self.values.iter().all(|(known, _)| *known != key) {
            self.values.push((key, value));
        }
    }
}
