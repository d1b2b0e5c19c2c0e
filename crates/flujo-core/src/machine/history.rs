//! The record of a run: one flat list, parents before children.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Domain, Failure, Finish, Outcome, Time};
use crate::plan::NodeId;
use crate::usage::Usage;

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It has begun.
    Running,
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// It was cancelled or aborted.
    Cancelled,
    /// A usage limit stopped it.
    LimitExceeded,
}

/// What is kept of one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub struct Record<D: Domain> {
    /// The step's node in the plan.
    pub node: NodeId,
    /// The record of the step around it, in the same history.
    pub parent: Option<u32>,
    /// How it stands.
    pub status: Status,
    /// Attempts made so far.
    pub attempts: u32,
    /// When it began.
    pub started: Time,
    /// When it ended.
    pub ended: Time,
    /// What it used, failed attempts and everything below it included.
    pub usage: Usage,
    /// Its output; of a failed step the rejected one, when there is one.
    pub output: Option<D::Object>,
    /// Why it failed.
    pub failure: Option<Arc<Failure<D>>>,
    /// What few steps have.
    pub details: Option<Box<Details<D>>>,
}

/// What only some records have.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub struct Details<D: Domain> {
    /// Why each failed attempt failed, in order, also when a later one succeeded.
    pub attempt_failures: Vec<Arc<Failure<D>>>,
    /// When each attempt that failed did. One that a usage limit ended isn't among them.
    #[serde(default)]
    pub attempts_failed: Vec<Mark>,
    /// When each attempt after the first began.
    #[serde(default)]
    pub attempts_begun: Vec<Mark>,
    /// The record of the fallback that ran, and why the step itself had failed.
    pub fallback: Option<(u32, Arc<Failure<D>>)>,
    /// Why validators rejected the output of a step that passes rejected outputs on.
    pub rejections: Vec<Arc<str>>,
    /// The branch a conditional took, or the state a state machine is in.
    pub branch: Option<Arc<str>>,
    /// How a loop ended.
    pub loop_end: Option<LoopEnd>,
    /// Of a step whose result was found in the cache: what had been used to make it. The step itself made no attempt.
    #[serde(default)]
    pub saved: Option<Usage>,
    /// The lanes of a parallel step or map, in declared order. They are saved with the history they belong to.
    #[serde(skip)]
    pub lanes: Arc<Vec<LaneRecord<D>>>,
}

/// A moment in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: Time,
    /// How many records there were: those that began later come after them.
    pub records: u32,
}

/// How a loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopEnd {
    /// Iterations begun.
    pub iterations: u32,
    /// Why no further one was.
    pub reason: ExitReason,
}

/// Why a loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// Its exit condition held.
    Condition,
    /// It had not done after the most iterations it may make.
    MaxLoops,
    /// Its body failed.
    BodyStepError,
    /// Its exit condition raised an error.
    ExitConditionError,
    /// The mapper of its first input raised an error.
    InitialInputMapperError,
    /// The mapper of a later input raised an error.
    IterationInputMapperError,
    /// The mapper of its output raised an error.
    LoopOutputMapperError,
    /// A deadline passed between two iterations.
    Deadline,
}

impl ExitReason {
    /// Its name in metadata: `condition`, `max_loops`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::MaxLoops => "max_loops",
            Self::BodyStepError => "body_step_error",
            Self::ExitConditionError => "exit_condition_error",
            Self::InitialInputMapperError => "initial_input_mapper_error",
            Self::IterationInputMapperError => "iteration_input_mapper_error",
            Self::LoopOutputMapperError => "loop_output_mapper_error",
            Self::Deadline => "deadline",
        }
    }
}

impl<D: Domain> Default for Details<D> {
    fn default() -> Self {
        Self {
            attempt_failures: Vec::new(),
            attempts_failed: Vec::new(),
            attempts_begun: Vec::new(),
            fallback: None,
            rejections: Vec::new(),
            branch: None,
            loop_end: None,
            saved: None,
            lanes: Arc::default(),
        }
    }
}

/// What is kept of one lane.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub struct LaneRecord<D: Domain> {
    /// The branch's name, or the item's index.
    pub name: Arc<str>,
    /// How it ended; `None` when it never started.
    pub finish: Option<Arc<Finish<D>>>,
}

impl<D: Domain> LaneRecord<D> {
    /// The lane's output, when it succeeded.
    pub fn output(&self) -> Option<&D::Object> {
        match &self.finish.as_ref()?.outcome {
            Outcome::Completed(output) => Some(output),
            _ => None,
        }
    }
}

impl<D: Domain> Record<D> {
    /// The rare part, made when first needed.
    pub(super) fn details_mut(&mut self) -> &mut Details<D> {
        self.details.get_or_insert_with(Box::default)
    }

    /// Its lanes; empty for a step that has none.
    pub fn lanes(&self) -> &[LaneRecord<D>] {
        self.details.as_ref().map_or(&[], |details| &details.lanes)
    }

    /// The attempt that was under way when record `place` of the same history began, from 1; `None` between attempts and
    /// in a fallback.
    pub fn attempt_at(&self, place: u32) -> Option<u32> {
        let Some(details) = &self.details else {
            return (self.attempts > 0).then_some(self.attempts);
        };
        let count = |marks: &[Mark]| {
            let marks = marks.iter().filter(|mark| mark.records <= place);
            u32::try_from(marks.count()).unwrap_or(u32::MAX)
        };
        let begun = count(&details.attempts_begun).saturating_add(1);
        (self.attempts > 0 && begun > count(&details.attempts_failed)).then_some(begun)
    }

    /// When an attempt began and, if it has failed, when it did; attempts count from 1.
    pub fn attempt_times(&self, attempt: u32) -> (Time, Option<Time>) {
        let details = self.details.as_deref();
        let mark = |marks: &[Mark], place: Option<u32>| marks.get(place? as usize).map(|mark| mark.at);
        let begun = details.and_then(|details| mark(&details.attempts_begun, attempt.checked_sub(2)));
        let failed = details.and_then(|details| mark(&details.attempts_failed, attempt.checked_sub(1)));
        (begun.unwrap_or(self.started), failed)
    }

    /// Active time from beginning to end, in nanoseconds.
    pub fn latency(&self) -> Time {
        self.ended.saturating_sub(self.started)
    }
}

/// All records of one run or lane, parents before their children, in the order in which they began.
#[derive(Debug, Clone)]
pub struct History<D: Domain> {
    /// The records.
    pub records: Vec<Record<D>>,
}

impl<D: Domain> Default for History<D> {
    fn default() -> Self {
        Self { records: Vec::new() }
    }
}

impl<D: Domain> History<D> {
    /// The records directly below `parent` (`None`: the top level), in order, each with its place in the history.
    pub fn children(&self, parent: Option<u32>) -> impl Iterator<Item = (u32, &Record<D>)> {
        let first = parent.map_or(0, |parent| parent as usize + 1);
        (0u32..)
            .zip(&self.records)
            .skip(first)
            // What is below a record follows it, up to the next one that isn't.
            .take_while(move |(_, record)| record.parent >= parent)
            .filter(move |(_, record)| record.parent == parent)
    }
}

impl<D: Domain> Drop for History<D> {
    /// Lanes hold histories that hold lanes: nested ones are taken apart in a loop, so that depth costs no call stack.
    fn drop(&mut self) {
        let mut waiting: Vec<History<D>> = Vec::new();
        detach(&mut self.records, &mut waiting);
        while let Some(mut history) = waiting.pop() {
            detach(&mut history.records, &mut waiting);
        }
    }
}

fn detach<D: Domain>(records: &mut [Record<D>], waiting: &mut Vec<History<D>>) {
    for record in records {
        let lanes = record
            .details
            .as_mut()
            .and_then(|details| Arc::get_mut(&mut details.lanes));
        for lane in lanes.into_iter().flatten() {
            if let Some(mut finish) = lane.finish.take().and_then(Arc::into_inner) {
                waiting.push(std::mem::take(&mut finish.history));
            }
        }
    }
}
