//! Where results are read from: a history that is kept, and in it a step with the construct it works with.

use std::sync::Arc;

use flujo_core::machine::{ExitReason, History, Record, Status};

use super::super::domain::{Finish, Python3};
use super::super::planning::PlanWithSteps;
use crate::object::Object;

/// What holds a history.
#[derive(Clone)]
pub(super) enum Kept {
    /// A run or lane that has ended.
    Finish(Arc<Finish>),
    /// What was there of one at some time.
    Taken(Arc<History<Python3>>),
}

impl Kept {
    pub(super) fn history(&self) -> &History<Python3> {
        match self {
            Self::Finish(finish) => &finish.history,
            Self::Taken(history) => history,
        }
    }
}

/// A record with its place.
#[derive(Clone, Copy)]
pub(super) struct Placed<'h> {
    pub(super) place: u32,
    pub(super) record: &'h Record<Python3>,
}

/// A step's record, and that of the construct it works with, as its last attempt left it: the two are shown as one.
#[derive(Clone, Copy)]
pub(super) struct Shown<'h> {
    pub(super) history: &'h History<Python3>,
    pub(super) step: Placed<'h>,
    pub(super) construct: Option<Placed<'h>>,
}

impl<'h> Shown<'h> {
    pub(super) fn of(plan: &PlanWithSteps, history: &'h History<Python3>, place: u32) -> Option<Self> {
        let record = history.records.get(place as usize)?;
        let construct = plan.plan.construct(history, place);
        Some(Self {
            history,
            step: Placed { place, record },
            construct: construct.map(|(place, record)| Placed { place, record }),
        })
    }

    /// What the step's branches, items and iterations are kept with.
    pub(super) fn body(&self) -> Placed<'h> {
        self.construct.unwrap_or(self.step)
    }

    /// The step's output, or what its failed construct keeps of one; an output that the step rejected is none.
    pub(super) fn output(&self) -> Option<&'h Object> {
        let (step, body) = (self.step.record, self.body().record);
        let failed = step.status == Status::Failed && body.status == Status::Failed;
        step.output.as_ref().or(body.output.as_ref().filter(|_| failed))
    }
}

pub(super) fn left_by_condition(record: &Record<Python3>) -> bool {
    let end = record.details.as_ref().and_then(|details| details.loop_end);
    end.is_some_and(|end| end.reason == ExitReason::Condition)
}
