//! Where results are read from: a history that is kept, and in it a step with the construct it works with.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use flujo_core::machine::{ExitReason, History, LaneRecord, Record, Status};
use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::super::collected;
use super::super::domain::{Finish, Python3};
use super::super::planning::PlanWithSteps;
use super::RunRecord;
use crate::object::Object;

/// What was there at some time of a run under way.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Taken(Of);

enum Of {
    History(History<Python3>),
    /// Those of a step that hasn't ended.
    Lanes(Arc<Vec<LaneRecord<Python3>>>),
}

#[pymethods]
impl Taken {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.0 {
            Of::History(history) => collected::history(history, &visit),
            Of::Lanes(lanes) => collected::lanes(lanes, &visit),
        }
    }
}

#[derive(Clone)]
enum Root {
    Run(Py<RunRecord>),
    Taken(Py<Taken>),
}

/// A history: one as a whole, or that of a lane in it. It is reached through the object that holds it all, so that the
/// garbage collector finds what results hold however many of them there are.
#[derive(Clone)]
pub(super) struct Kept {
    root: Root,
    /// The lane's end, which the root holds: found at once, however deep the lane lies, and not held here as well.
    lane: Option<Weak<Finish>>,
}

/// A history that is being read.
pub(super) enum Reading<'k> {
    Whole(&'k History<Python3>),
    Lane(Arc<Finish>),
}

impl Deref for Reading<'_> {
    type Target = History<Python3>;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Whole(history) => history,
            Self::Lane(finish) => &finish.history,
        }
    }
}

impl Kept {
    /// That of a run that has ended.
    pub(super) fn run(run: &Bound<'_, RunRecord>) -> Self {
        Self {
            root: Root::Run(run.clone().unbind()),
            lane: None,
        }
    }

    /// One as it is now.
    pub(super) fn taken(py: Python<'_>, mut history: History<Python3>) -> PyResult<Self> {
        history.set_apart();
        Self::of(py, Of::History(history))
    }

    /// What the lanes of a step under way are in.
    pub(super) fn lanes_of(py: Python<'_>, lanes: &Arc<Vec<LaneRecord<Python3>>>) -> PyResult<Self> {
        Self::of(py, Of::Lanes(Arc::clone(lanes)))
    }

    fn of(py: Python<'_>, of: Of) -> PyResult<Self> {
        Ok(Self {
            root: Root::Taken(Py::new(py, Taken(of))?),
            lane: None,
        })
    }

    /// That of a lane in it, which has ended.
    pub(super) fn within(&self, lane: &LaneRecord<Python3>) -> Option<Self> {
        Some(Self {
            root: self.root.clone(),
            lane: Some(Arc::downgrade(lane.finish.as_ref()?)),
        })
    }

    pub(super) fn history(&self) -> Option<Reading<'_>> {
        if let Some(lane) = &self.lane {
            return lane.upgrade().map(Reading::Lane);
        }
        match &self.root {
            Root::Run(run) => Some(Reading::Whole(run.get().history())),
            Root::Taken(taken) => match &taken.get().0 {
                Of::History(history) => Some(Reading::Whole(history)),
                Of::Lanes(_) => None,
            },
        }
    }

    /// A lane of a step in it.
    pub(super) fn lane(&self, record: u32, lane: u32) -> Option<LaneRecord<Python3>> {
        if let (Root::Taken(taken), None) = (&self.root, &self.lane)
            && let Of::Lanes(lanes) = &taken.get().0
        {
            return lanes.get(lane as usize).cloned();
        }
        let history = self.history()?;
        let lanes = history.records.get(record as usize)?.lanes();
        lanes.get(lane as usize).cloned()
    }

    /// Tells the garbage collector of it.
    pub(super) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.root {
            Root::Run(run) => visit.call(run),
            Root::Taken(taken) => visit.call(taken),
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
