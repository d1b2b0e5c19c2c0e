//! Where another run begins with what a run was: at the moment a step of it began.

use std::fmt;
use std::sync::Arc;

use flujo_core::machine::{History, Machine};
use flujo_core::plan::{NodeId, Plan};

use super::Replay;
use crate::snapshot::{Saved, Snapshot};
use crate::{Entry, Recorded};

/// A step of a run, and which time it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkPoint {
    /// Its path, or its name where only one step has it.
    pub step: Arc<str>,
    /// The iteration of the innermost loop or state machine around it, from 1; `None`: the first time that it began.
    pub iteration: Option<u32>,
}

/// Why a run can't be forked there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// No step has this path or name.
    #[error("the pipeline has no step `{step}`; its steps are {}", listed(.known))]
    UnknownStep {
        /// The path or name.
        step: Arc<str>,
        /// The paths that there are.
        known: Vec<Arc<str>>,
    },
    /// Several steps have this name.
    #[error("several steps are named `{step}`: name one by its path, {}", listed(.paths))]
    Ambiguous {
        /// The name.
        step: Arc<str>,
        /// Their paths.
        paths: Vec<Arc<str>>,
    },
    /// The step has not begun in this run.
    #[error("{step} never began in it: fork it at a step that did")]
    NotReached {
        /// The step.
        step: ForkPoint,
    },
    /// The step began before what is kept of the run's log.
    #[error("{step} began before what is kept of its log, or never: fork it at a later step")]
    Forgotten {
        /// The step.
        step: ForkPoint,
    },
}

fn listed(paths: &[Arc<str>]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    paths.join(", ")
}

impl fmt::Display for ForkPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.iteration {
            None => write!(f, "step `{}`", self.step),
            Some(iteration) => write!(f, "iteration {iteration} of step `{}`", self.step),
        }
    }
}

impl ForkPoint {
    /// The first time that a step began.
    pub fn first(step: impl Into<Arc<str>>) -> Self {
        Self {
            step: step.into(),
            iteration: None,
        }
    }

    /// The step in a plan.
    pub(crate) fn find<C>(&self, plan: &Plan<C>) -> Result<NodeId, ForkError> {
        let step = || Arc::clone(&self.step);
        if let Some((id, _)) = plan.nodes().find(|(_, node)| *node.path == *self.step) {
            return Ok(id);
        }
        let named: Vec<_> = plan
            .nodes()
            .filter(|(_, node)| *node.name == *self.step)
            .collect();
        let paths = |nodes: &[(NodeId, _)]| {
            nodes
                .iter()
                .map(|(id, _)| Arc::clone(&plan.node(*id).path))
                .collect()
        };
        match &*named {
            [(id, _)] => Ok(*id),
            [] => Err(ForkError::UnknownStep {
                step: step(),
                known: plan.nodes().map(|(_, node)| Arc::clone(&node.path)).collect(),
            }),
            several => Err(ForkError::Ambiguous {
                step: step(),
                paths: paths(several),
            }),
        }
    }
}

impl<D: Recorded> Replay<D> {
    /// Whether a step has begun, in this iteration if one is given.
    pub(crate) fn has_begun(&self, step: NodeId, iteration: Option<u32>) -> bool {
        let ended = self.finish.iter().any(|finish| holds(&finish.history, 0, step));
        let mut machines = self.machines.iter().flatten().map(|place| &place.machine);
        ended || machines.any(|machine| begun(machine, 0, step, iteration))
    }

    /// Feeds what happened next, and tells whether the step began with it.
    pub(crate) fn feed_until(
        &mut self,
        entry: Entry<D>,
        step: NodeId,
        iteration: Option<u32>,
    ) -> Result<bool, String> {
        let number = entry.machine as usize;
        let known = self.machines.get(number).and_then(Option::as_ref);
        let known = known.map_or(0, |place| place.machine.history().records.len());
        self.feed(entry)?;
        let place = self.machines.get(number).and_then(Option::as_ref);
        Ok(place.is_some_and(|place| begun(&place.machine, known, step, iteration)))
    }

    /// The run as it is, for it or another one to go on with. Steps that have ended, and what they used, are part of it, and
    /// so is when questions were asked and waits began.
    ///
    /// # Errors
    /// What contradicts itself in what was recorded.
    pub fn into_snapshot(mut self) -> Result<Snapshot<D>, String> {
        if let Some(finish) = self.finish {
            return Ok(Snapshot::Ended(finish));
        }
        self.begin_spawned()?;
        while !self.settle()?.is_empty() {
            self.begin_spawned()?;
        }
        let (now, asked) = (self.now(), self.asked());
        let next = self.next()?;
        let mut machines = Vec::new();
        for (number, place) in (0u32..).zip(self.machines) {
            let Some(place) = place.filter(|place| place.finish.is_none()) else {
                continue;
            };
            machines.push(Saved {
                machine: number,
                parent: place.parent,
                sleeping: place.sleeping(),
                state: place.machine.save(now),
                once: place.once,
            });
        }
        Ok(Snapshot::Machines {
            machines,
            next,
            asked,
            limits: self.limits,
        })
    }

    /// Begins the lanes that were started, and those that they start: a lane of a run that goes on after it was stopped is
    /// whole only then.
    fn begin_spawned(&mut self) -> Result<(), String> {
        let mut number = 0;
        while let Some(place) = self.machines.get_mut(number) {
            let spawned = place.as_mut().map(|place| std::mem::take(&mut place.spawned));
            let parent = u32::try_from(number).unwrap_or(u32::MAX);
            for (lane, machine) in spawned.into_iter().flatten() {
                let begun = self.next()?;
                self.place(parent)?.lanes.insert(lane, begun);
                self.put(begun, Some((parent, lane)), *machine);
            }
            number += 1;
        }
        Ok(())
    }
}

/// Whether a step has a record behind so many.
fn holds<D: Recorded>(history: &History<D>, known: usize, step: NodeId) -> bool {
    let mut new = history.records.iter().skip(known);
    new.any(|record| record.node == step)
}

/// The same of a machine, in this iteration if one is given.
fn begun<D: Recorded>(machine: &Machine<D>, known: usize, step: NodeId, iteration: Option<u32>) -> bool {
    holds(machine.history(), known, step)
        && iteration.is_none_or(|iteration| iteration == iteration_around(machine, step))
}

/// The iteration of the innermost loop or state machine around a step, where the machine is now.
fn iteration_around<D: Recorded>(machine: &Machine<D>, step: NodeId) -> u32 {
    let path = &machine.plan().node(step).path;
    let mut round = machine.round();
    while let Some(inner) = round {
        let around = &machine.plan().node(inner.node).path;
        let below = path.strip_prefix(&**around);
        if below.is_some_and(|below| below.starts_with('/')) {
            return inner.index;
        }
        round = inner.around.as_ref();
    }
    0
}
