//! What has been recorded: totals of runs, a row per step name, counts of errors.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::distribution::Distribution;
use super::snapshot::ErrorStats;
use super::{RunFacts, StepFact, StepSlot};
use crate::usage::{MeterStatistics, Usage};

/// How many step names, and how many error types, are kept apart.
pub(crate) const MAX_NAMES: usize = 1_000;
/// What the rest is counted as.
pub(super) const OTHER: &str = "other";

#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) runs: Distribution,
    pub(super) usage: Usage,
    /// What the meters of limited runs counted.
    pub(super) metered: MeterStatistics,
    /// In the order in which the names became known.
    steps: Vec<StepRow>,
    other: StepRow,
    slots: HashMap<Arc<str>, StepSlot>,
    errors: u64,
    errors_by_type: BTreeMap<Arc<str>, u64>,
    last_error: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(super) struct StepRow {
    pub(super) name: Arc<str>,
    pub(super) times: Distribution,
    failures: u64,
}

impl StepRow {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            times: Distribution::default(),
            failures: 0,
        }
    }
}

impl Default for StepRow {
    fn default() -> Self {
        Self::new(OTHER.into())
    }
}

impl Table {
    /// The row for a name, a new one while there is room. A step that is itself named `other` shares that row.
    pub(super) fn slot(&mut self, name: &Arc<str>) -> StepSlot {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        if self.steps.len() == MAX_NAMES || **name == *OTHER {
            return StepSlot::OTHER;
        }
        let slot = StepSlot(self.steps.len());
        self.steps.push(StepRow::new(Arc::clone(name)));
        self.slots.insert(Arc::clone(name), slot);
        slot
    }

    pub(super) fn record_step(&mut self, fact: &StepFact<'_>) {
        let row = self.steps.get_mut(fact.slot.0).unwrap_or(&mut self.other);
        row.times.record(fact.latency_ns);
        if let Some(error) = fact.error {
            row.failures += 1;
            self.count_error(error);
        }
    }

    pub(super) fn record_run(&mut self, facts: &RunFacts<'_>, errors_before: u64) {
        self.runs.record(facts.latency_ns);
        self.usage += facts.usage;
        if let Some(meter) = facts.meter {
            self.metered += meter;
        }
        if let Some(error) = facts.error {
            self.count_error(error);
        }
        if self.errors > errors_before {
            self.last_error = Some(facts.ended_at);
        }
    }

    pub(super) fn error_count(&self) -> u64 {
        self.errors
    }

    pub(super) fn errors(&self) -> ErrorStats {
        let failed = self.steps_that_ran().filter(|row| row.failures > 0);
        ErrorStats {
            count: self.errors,
            by_type: self.errors_by_type.clone(),
            by_step: failed.map(|row| (Arc::clone(&row.name), row.failures)).collect(),
            last_error_time: self.last_error.map(|time| time.as_secs_f64()),
        }
    }

    pub(super) fn step(&self, name: &str) -> Option<&StepRow> {
        let row = match self.slots.get(name) {
            Some(slot) => self.steps.get(slot.0),
            None => (*name == *OTHER).then_some(&self.other),
        };
        row.filter(|row| row.times.count() > 0)
    }

    pub(super) fn steps_that_ran(&self) -> impl Iterator<Item = &StepRow> {
        self.steps
            .iter()
            .chain([&self.other])
            .filter(|row| row.times.count() > 0)
    }

    /// Forgets what was recorded, not which names have which row: plans in use hold their slots.
    pub(super) fn clear(&mut self) {
        for row in self.steps.iter_mut().chain([&mut self.other]) {
            row.times.clear();
            row.failures = 0;
        }
        self.runs.clear();
        self.usage = Usage::ZERO;
        self.metered = MeterStatistics::default();
        self.errors = 0;
        self.errors_by_type.clear();
        self.last_error = None;
    }

    fn count_error(&mut self, kind: &str) {
        self.errors += 1;
        if let Some(count) = self.errors_by_type.get_mut(kind) {
            *count += 1;
            return;
        }
        let kind = if self.errors_by_type.len() < MAX_NAMES {
            kind
        } else {
            OTHER
        };
        *self.errors_by_type.entry(kind.into()).or_default() += 1;
    }
}
