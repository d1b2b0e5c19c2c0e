//! Machines that stand still: each with the question it waits with, and with the lanes below it that stand still too.
//! Nothing here belongs to an event loop, a task or a thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use flujo_core::machine::{self, LaneId, PauseId};
use flujo_durable::Once;
use pyo3::PyTraverseError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::collected;
use super::domain::{Event, Finish, Machine, Python3};
use super::planning::PlanWithSteps;
use super::steps::Outputs;
use super::trace::Before;
use crate::object::Object;

pub(crate) type Question = machine::Pause<Python3>;

/// A machine that waits for answers and for nothing else.
pub(crate) struct Parked {
    /// The machine's number in the log of a run that is kept.
    pub(crate) number: u32,
    pub(crate) machine: Box<Machine>,
    /// The question that it waits with itself.
    pub(crate) question: Option<Question>,
    pub(crate) lanes: ParkedLanes,
    /// What it knows of earlier steps' outputs.
    pub(crate) outputs: Outputs,
    /// What its step had done once when its process ended.
    pub(crate) once: Option<Once<Object>>,
    pub(crate) wake: Wake,
    /// What is known of the span that ended when it stopped.
    pub(crate) before: Option<Before>,
}

/// Why a parked machine is driven on.
#[derive(Default)]
pub(crate) enum Wake {
    #[default]
    Asleep,
    /// A machine below it is.
    Below,
    Answer(Py<PyAny>),
    /// Nobody answered in time.
    Expired,
    Cancel,
}

impl Wake {
    /// What the machine that waits for `pause` is told.
    pub(crate) fn event(self, pause: Option<PauseId>, at: machine::Time) -> Option<Event> {
        match (self, pause) {
            (Self::Answer(answer), Some(pause)) => Some(Event::Resumed {
                pause,
                answer: answer.into(),
                at,
            }),
            (Self::Expired, Some(pause)) => Some(Event::Expired { pause, at }),
            (Self::Cancel, _) => Some(Event::Cancel { at }),
            _ => None,
        }
    }

    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Answer(answer) => visit.call(answer),
            Self::Asleep | Self::Below | Self::Expired | Self::Cancel => Ok(()),
        }
    }
}

/// Parked lanes in the order in which they started.
#[derive(Default)]
pub(crate) struct ParkedLanes(BTreeMap<LaneId, Box<Parked>>);

impl ParkedLanes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, lane: LaneId, parked: Box<Parked>) {
        self.0.insert(lane, parked);
    }

    pub(crate) fn take(&mut self, lane: LaneId) -> Option<Box<Parked>> {
        self.0.remove(&lane)
    }

    /// All of them.
    pub(super) fn each(&self) -> impl Iterator<Item = (LaneId, &Parked)> {
        self.0.iter().map(|(lane, parked)| (*lane, &**parked))
    }

    /// The lanes that are to be driven on.
    pub(crate) fn awake(&self) -> impl Iterator<Item = LaneId> {
        let awake = self
            .0
            .iter()
            .filter(|(_, parked)| !matches!(parked.wake, Wake::Asleep));
        awake.map(|(lane, _)| *lane)
    }

    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.values().try_for_each(|parked| parked.tell(visit))
    }
}

impl Drop for ParkedLanes {
    /// Lanes hold lanes: taken apart in a loop, so that depth costs no call stack.
    fn drop(&mut self) {
        let mut waiting = vec![std::mem::take(&mut self.0)];
        while let Some(lanes) = waiting.pop() {
            for (_, mut parked) in lanes {
                waiting.push(std::mem::take(&mut parked.lanes.0));
            }
        }
    }
}

/// A question that waits somewhere below a root, and the way to it.
pub(crate) struct Open<'p> {
    pub(crate) id: String,
    pub(crate) question: &'p Question,
    pub(crate) way: Vec<LaneId>,
}

impl Parked {
    /// The questions that wait, in declared order.
    pub(crate) fn open(&self) -> Vec<Open<'_>> {
        let mut open = Vec::new();
        let mut waiting = vec![(self, Vec::new())];
        while let Some((parked, way)) = waiting.pop() {
            for (lane, below) in parked.lanes.0.iter().rev() {
                let mut way = way.clone();
                way.push(*lane);
                waiting.push((below, way));
            }
            if let Some(question) = &parked.question {
                let id = parked.machine.question_id(question.node, question.pause);
                open.push(Open { id, question, way });
            }
        }
        open
    }

    /// Has the machine at the end of `way` driven on, and those on the way with it.
    pub(crate) fn wake(&mut self, way: &[LaneId], wake: Wake) {
        let mut at = self;
        for lane in way {
            if matches!(at.wake, Wake::Asleep) {
                at.wake = Wake::Below;
            }
            match at.lanes.0.get_mut(lane) {
                Some(below) => at = below,
                None => return,
            }
        }
        at.wake = wake;
    }

    /// What it and its lanes have done so far. A loop from the innermost lanes outwards.
    pub(crate) fn so_far(&self) -> Finish {
        let mut found: Vec<(usize, LaneId, &Self)> = vec![(0, LaneId(0), self)];
        let mut next = 0;
        while let Some((_, _, parked)) = found.get(next) {
            let below = parked.lanes.0.iter().map(|(lane, below)| (next, *lane, &**below));
            let below: Vec<_> = below.collect();
            found.extend(below);
            next += 1;
        }
        let mut lanes: Vec<BTreeMap<LaneId, Arc<Finish>>> = vec![BTreeMap::new(); found.len()];
        for place in (1..found.len()).rev() {
            let (around, lane, parked) = found[place];
            let mut own = std::mem::take(&mut lanes[place]);
            let finish = parked.machine.so_far(|lane| own.remove(&lane));
            lanes[around].insert(lane, Arc::new(finish));
        }
        let own = &mut lanes[0];
        self.machine.so_far(|lane| own.remove(&lane))
    }

    /// Tells the garbage collector of what is held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut waiting = vec![self];
        while let Some(parked) = waiting.pop() {
            collected::machine(&parked.machine, visit)?;
            if let Some(question) = &parked.question {
                visit.call(&*question.question)?;
            }
            if let Some(outputs) = parked.outputs.by_name() {
                visit.call(outputs)?;
            }
            if let Some(before) = &parked.before {
                before.visit(visit)?;
            }
            for (_, value) in parked.once.iter().flat_map(|once| &once.values) {
                visit.call(&**value)?;
            }
            parked.wake.tell(visit)?;
            waiting.extend(parked.lanes.0.values().map(|below| &**below));
        }
        Ok(())
    }
}

/// The `Pause` that people are shown.
pub(crate) fn shown<'py>(
    py: Python<'py>,
    plan: &PlanWithSteps,
    id: &str,
    question: &Question,
) -> PyResult<Bound<'py, PyAny>> {
    let node = plan.plan.node(question.node);
    let shown = question.question.bind(py);
    shown.call_method1(intern!(py, "pause"), (id, &*node.name, &*node.path))
}
