//! What happened in a run, step by step, as a tree.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::machine::{Details, Finish, History, LaneRecord, LoopEnd, Record, Status};
use flujo_core::plan::Plan;
use flujo_core::usage::Usage;
use flujo_tokio::{Handler, Tokio, user_error};

use crate::Payload;
use crate::payload::look;

/// The steps of a run. Shown as a tree with state, time, attempts and cost of each.
#[derive(Clone)]
pub struct Steps {
    finish: Arc<Finish<Tokio>>,
    plan: Arc<Plan<Handler>>,
}

/// One step of a run.
#[derive(Clone, Copy)]
pub struct StepView<'a> {
    history: &'a History<Tokio>,
    plan: &'a Plan<Handler>,
    place: u32,
    record: &'a Record<Tokio>,
}

/// One branch or item of a step.
#[derive(Clone, Copy)]
pub struct LaneView<'a> {
    lane: &'a LaneRecord<Tokio>,
    plan: &'a Plan<Handler>,
}

impl Steps {
    pub(crate) fn new(finish: Arc<Finish<Tokio>>, plan: Arc<Plan<Handler>>) -> Self {
        Self { finish, plan }
    }

    /// The steps at the top, in the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = StepView<'_>> {
        let history = &self.finish.history;
        views(history, &self.plan, history.children(None))
    }

    /// The first step of a name at the top or in sub-pipelines, not in branches or items.
    pub fn get(&self, name: &str) -> Option<StepView<'_>> {
        let history = &self.finish.history;
        views(history, &self.plan, (0u32..).zip(&history.records)).find(|step| step.name() == name)
    }

    /// How many steps there are, sub-pipelines included, branches and items not.
    pub fn len(&self) -> usize {
        self.finish.history.records.len()
    }

    /// Whether no step began.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn views<'a>(
    history: &'a History<Tokio>,
    plan: &'a Plan<Handler>,
    records: impl Iterator<Item = (u32, &'a Record<Tokio>)>,
) -> impl Iterator<Item = StepView<'a>> {
    records.map(move |(place, record)| StepView {
        history,
        plan,
        place,
        record,
    })
}

impl<'a> StepView<'a> {
    /// The step's name.
    pub fn name(&self) -> &'a str {
        &self.plan.node(self.record.node).name
    }

    /// How it ended.
    pub fn status(&self) -> Status {
        self.record.status
    }

    /// The record with the branches, items or iterations: the step's own, or that of the construct that is one with it.
    fn construct(&self) -> &'a Record<Tokio> {
        let construct = self.plan.construct(self.history, self.place);
        construct.map_or(self.record, |(_, record)| record)
    }

    fn details(&self) -> Option<&'a Details<Tokio>> {
        self.construct().details.as_deref()
    }

    /// Attempts made; of a loop its iterations, of a state machine the states it was in, 0 for another construct.
    pub fn attempts(&self) -> u32 {
        self.record.attempts
    }

    /// Active time from beginning to end.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.record.latency())
    }

    /// What it used, failed attempts and everything in it included.
    pub fn usage(&self) -> Usage {
        self.record.usage
    }

    /// What had been used to make the step's result, when it was found in the cache: the step itself made no attempt and
    /// used nothing.
    pub fn saved(&self) -> Option<Usage> {
        self.record.details.as_ref()?.saved
    }

    /// Its output, when it has one of that type.
    pub fn output<T: Payload>(&self) -> Option<&'a T> {
        look(self.record.output.as_ref()?).ok()
    }

    /// Why it failed: what, in which stage, on which attempt.
    pub fn feedback(&self) -> Option<String> {
        self.record.failure.as_ref().map(ToString::to_string)
    }

    /// The user's own error it failed with.
    pub fn error(&self) -> Option<&'a (dyn Error + 'static)> {
        user_error(self.record.failure.as_ref()?)
    }

    /// Why each failed attempt failed, in order.
    pub fn attempt_feedback(&self) -> impl Iterator<Item = String> + 'a {
        let details = self.record.details.as_ref();
        details
            .into_iter()
            .flat_map(|details| &details.attempt_failures)
            .map(ToString::to_string)
    }

    /// Why the step's own attempts failed, when its fallback ran.
    pub fn fallback_for(&self) -> Option<String> {
        let (_, original) = self.record.details.as_ref()?.fallback.as_ref()?;
        Some(original.to_string())
    }

    /// The key of the branch a conditional took, or the last state of a state machine.
    pub fn branch(&self) -> Option<&'a str> {
        self.details()?.branch.as_deref()
    }

    /// How a loop ended: its iterations, and why no further one followed.
    pub fn loop_end(&self) -> Option<LoopEnd> {
        self.details()?.loop_end
    }

    /// The steps inside it, in the order in which they began: of a sub-pipeline, a branch, the iterations of a loop, a
    /// fallback.
    pub fn children(&self) -> impl Iterator<Item = StepView<'a>> {
        views(self.history, self.plan, self.plan.below(self.history, self.place))
    }

    /// Its branches or items, in declared order.
    pub fn lanes(&self) -> impl Iterator<Item = LaneView<'a>> {
        let plan = self.plan;
        self.construct()
            .lanes()
            .iter()
            .map(move |lane| LaneView { lane, plan })
    }
}

impl<'a> LaneView<'a> {
    /// The branch's name, or the item's index.
    pub fn name(&self) -> &'a str {
        &self.lane.name
    }

    /// The lane's output, when it succeeded with one of that type.
    pub fn output<T: Payload>(&self) -> Option<&'a T> {
        look(self.lane.output()?).ok()
    }

    /// Why it has no output.
    pub fn error(&self) -> Option<String> {
        match self.lane.output() {
            Some(_) => None,
            None => Some(flujo_tokio::lane_error(self.lane)),
        }
    }

    /// What it used.
    pub fn usage(&self) -> Usage {
        self.lane
            .finish
            .as_ref()
            .map_or(Usage::ZERO, |finish| finish.usage)
    }

    /// Its steps.
    pub fn steps(&self) -> impl Iterator<Item = StepView<'a>> {
        let plan = self.plan;
        self.lane
            .finish
            .iter()
            .flat_map(move |finish| views(&finish.history, plan, finish.history.children(None)))
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Steps {
    /// A line for each step and lane, indented by depth. A loop, so that depth costs no call stack.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        enum Line<'a> {
            Step(StepView<'a>),
            Lane(LaneView<'a>),
        }
        let mut waiting: Vec<(usize, Line<'_>)> = self.iter().map(|step| (0, Line::Step(step))).collect();
        waiting.reverse();
        while let Some((depth, line)) = waiting.pop() {
            write!(f, "{:1$}", "", depth * 2)?;
            let first = waiting.len();
            match line {
                Line::Step(step) => {
                    step.line(f)?;
                    waiting.extend(step.lanes().map(|lane| (depth + 1, Line::Lane(lane))));
                    waiting.extend(step.children().map(|child| (depth + 1, Line::Step(child))));
                }
                Line::Lane(lane) => {
                    match lane.error() {
                        None => writeln!(f, "· {}", lane.name())?,
                        Some(error) => writeln!(f, "· {}: {error}", lane.name())?,
                    }
                    waiting.extend(lane.steps().map(|step| (depth + 1, Line::Step(step))));
                }
            }
            waiting[first..].reverse();
        }
        Ok(())
    }
}

impl StepView<'_> {
    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.status() {
            Status::Running => "…",
            Status::Succeeded => "✓",
            Status::Failed => "✗",
            Status::Cancelled | Status::LimitExceeded => "⊘",
        };
        write!(f, "{mark} {} {:.1?}", self.name(), self.time())?;
        if let Some(branch) = self.branch() {
            write!(f, " → {branch}")?;
        }
        if self.attempts() > 1 {
            write!(f, ", {} attempts", self.attempts())?;
        }
        let usage = self.usage();
        if usage.cost != flujo_core::usage::Cost::ZERO {
            write!(f, ", {}", usage.cost)?;
        }
        if usage.tokens > 0 {
            write!(f, ", {} tokens", usage.tokens)?;
        }
        if self.saved().is_some() {
            f.write_str(", from the cache")?;
        }
        if self.fallback_for().is_some() {
            f.write_str(", by its fallback")?;
        }
        match self.feedback() {
            Some(feedback) => writeln!(f, ": {feedback}"),
            None => writeln!(f),
        }
    }
}
