//! The outputs of the steps that have succeeded so far, by name, as agents are told them.

use std::collections::HashMap;
use std::sync::Arc;

use flujo_core::machine::{History, Status};
use flujo_core::plan::Plan;
use flujo_core::value::{Map, Value};

use crate::Handler;
use crate::domain::Tokio;

/// Grows with the history: each record is looked at when it appears and again while it runs.
#[derive(Clone, Default)]
pub(super) struct Outputs {
    entries: Arc<Map>,
    places: HashMap<Arc<str>, usize>,
    seen: usize,
    running: Vec<usize>,
}

impl Outputs {
    /// What a lane of this run or lane starts with.
    pub(super) fn for_lane(&self) -> Self {
        Self {
            seen: 0,
            running: Vec::new(),
            ..self.clone()
        }
    }

    /// Takes in what has ended since the last time.
    pub(super) fn take_in(&mut self, history: &History<Tokio>, plan: &Plan<Handler>) {
        let mut waiting = std::mem::take(&mut self.running);
        waiting.extend(self.seen..history.records.len());
        self.seen = history.records.len();
        for place in waiting {
            let Some(record) = history.records.get(place) else {
                continue;
            };
            match (&record.status, &record.output) {
                (Status::Running, _) => self.running.push(place),
                (Status::Succeeded, Some(output)) => self.put(&plan.node(record.node).name, output),
                _ => {}
            }
        }
    }

    /// The outputs as a map value; a later step of the same name hides an earlier one.
    pub(super) fn value(&self) -> Value {
        Value::Map(Arc::clone(&self.entries))
    }

    fn put(&mut self, name: &Arc<str>, output: &Value) {
        let entries = Arc::make_mut(&mut self.entries);
        if let Some(place) = self.places.get(name) {
            entries[*place].1 = output.clone();
        } else {
            self.places.insert(Arc::clone(name), entries.len());
            entries.push((Arc::clone(name), output.clone()));
        }
    }
}
