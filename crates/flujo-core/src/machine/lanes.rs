//! The lanes of a parallel step or map: child machines that run beside one another, each with its own context. A lane
//! never outlives the frame that started it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::Cursor;
use super::fault::{Fault, is_planted};
use super::held::Visitor;
use super::{Domain, Finish, LaneId, LaneRecord, Outcome, Stop};
use crate::plan::{Kind, LaneFailure, NodeId, Plan};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct Lanes<D: Domain> {
    node: Option<NodeId>,
    /// The branches that run, when a router chose them: the branch of each slot, in declared order.
    chosen: Option<Vec<u32>>,
    /// In declared order; those before `next` have started.
    slots: Vec<Slot<D>>,
    next: usize,
    running: usize,
    /// Whether no further lane may start, because one failed or was stopped.
    halted: bool,
    /// What stopped a lane from inside, and so stops the run.
    stop: Option<Stop<D>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
enum Slot<D: Domain> {
    Waiting(D::Object),
    Running { lane: LaneId, cancelled: bool },
    Ended { lane: LaneId, finish: Arc<Finish<D>> },
}

/// How the lanes ended, taken together.
pub(super) enum Joined {
    /// Well enough to go on.
    Succeeded,
    /// The lane at this place failed, and that fails the step.
    Failed(usize),
}

impl<D: Domain> Default for Lanes<D> {
    fn default() -> Self {
        Self {
            node: None,
            chosen: None,
            slots: Vec::new(),
            next: 0,
            running: 0,
            halted: false,
            stop: None,
        }
    }
}

impl<D: Domain> Lanes<D> {
    pub(super) fn new(node: NodeId, inputs: impl IntoIterator<Item = D::Object>) -> Self {
        let slots = inputs.into_iter().map(Slot::Waiting).collect();
        Self {
            node: Some(node),
            slots,
            ..Self::default()
        }
    }

    /// Lanes for some of a node's branches, in declared order.
    pub(super) fn for_branches(node: NodeId, branches: Vec<u32>, input: &D::Object) -> Self {
        let inputs = std::iter::repeat_n(input.clone(), branches.len());
        Self {
            chosen: Some(branches),
            ..Self::new(node, inputs)
        }
    }

    /// The branch or item of a slot.
    fn place(&self, slot: usize) -> usize {
        match &self.chosen {
            Some(chosen) => chosen.get(slot).map_or(usize::MAX, |place| *place as usize),
            None => slot,
        }
    }

    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        for slot in &self.slots {
            match slot {
                Slot::Waiting(input) => visit.object(input),
                Slot::Ended { finish, .. } if visit.holders.are_all(finish) => finish.shown(visit),
                Slot::Running { .. } | Slot::Ended { .. } => {}
            }
        }
    }

    /// How many there are, ended ones included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn push(&mut self, input: D::Object) {
        self.slots.push(Slot::Waiting(input));
    }

    pub(super) fn any_running(&self) -> bool {
        self.running > 0
    }

    /// Whether another lane may start now.
    pub(super) fn has_room(&self, limit: usize) -> bool {
        !self.halted && self.running < limit
    }

    /// Whether every lane that is known has started.
    pub(super) fn all_started(&self) -> bool {
        self.next == self.slots.len()
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted
    }

    pub(super) fn take_stop(&mut self) -> Option<Stop<D>> {
        self.stop.take()
    }

    pub(super) fn running(&self) -> Vec<LaneId> {
        self.slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::Running { lane, .. } => Some(*lane),
                _ => None,
            })
            .collect()
    }

    /// The lane of each slot while it runs.
    pub(super) fn ids(&self) -> impl Iterator<Item = Option<LaneId>> {
        self.slots.iter().map(|slot| match slot {
            Slot::Running { lane, .. } => Some(*lane),
            _ => None,
        })
    }

    /// The lanes that are to be told to end and have not been yet.
    pub(super) fn mark_cancelled(&mut self) -> Vec<LaneId> {
        self.halted = true;
        self.slots
            .iter_mut()
            .filter_map(|slot| match slot {
                Slot::Running { lane, cancelled } if !*cancelled => {
                    *cancelled = true;
                    Some(*lane)
                }
                _ => None,
            })
            .collect()
    }

    /// Starts waiting lanes as far as the limit allows. `body` gives the node of each.
    pub(super) fn start(
        &mut self,
        cursor: &mut Cursor<'_, D>,
        limit: usize,
        body: impl Fn(usize) -> Option<NodeId>,
    ) {
        while self.has_room(limit) {
            let place = self.place(self.next);
            let (Some(node), Some(body)) = (self.node, body(place)) else {
                return;
            };
            let Some(Slot::Waiting(input)) = self.slots.get(self.next) else {
                return;
            };
            let context = D::fork(&cursor.state.context);
            let index = u32::try_from(place).unwrap_or(u32::MAX);
            let lane = cursor.spawn((node, index), body, input.clone(), context);
            self.slots[self.next] = Slot::Running {
                lane,
                cancelled: false,
            };
            self.next += 1;
            self.running += 1;
        }
    }

    /// Starts the one lane of a group in a context of its own.
    pub(super) fn start_in(
        &mut self,
        cursor: &mut Cursor<'_, D>,
        body: NodeId,
        mapped: Option<D::Object>,
        context: D::Context,
    ) {
        if let (Some(node), Some(Slot::Waiting(input))) = (self.node, self.slots.first()) {
            let input = mapped.unwrap_or_else(|| input.clone());
            let lane = cursor.spawn((node, 0), body, input, context);
            self.slots[0] = Slot::Running {
                lane,
                cancelled: false,
            };
            self.next = 1;
            self.running = 1;
        }
    }

    /// Takes in the end of a lane; gives its place, `None` for a lane that is not awaited.
    pub(super) fn ended(
        &mut self,
        lane: LaneId,
        finish: Arc<Finish<D>>,
        policy: LaneFailure,
    ) -> Option<usize> {
        // Lanes start in order with growing ids.
        let place = self.slots[..self.next]
            .binary_search_by_key(&lane, |slot| match slot {
                Slot::Running { lane, .. } | Slot::Ended { lane, .. } => *lane,
                Slot::Waiting(_) => LaneId(u64::MAX),
            })
            .ok()?;
        let Slot::Running { cancelled, .. } = self.slots[place] else {
            return None;
        };
        self.running -= 1;
        match &finish.outcome {
            Outcome::Completed(_) => {}
            Outcome::Failed(_) => self.halted |= policy == LaneFailure::Propagate,
            Outcome::Stopped(Stop::Cancelled) => {
                self.halted |= !cancelled && policy == LaneFailure::Propagate;
            }
            Outcome::Stopped(stop) => {
                self.halted = true;
                self.stop.get_or_insert_with(|| stop.clone());
            }
        }
        self.slots[place] = Slot::Ended { lane, finish };
        Some(place)
    }

    /// The end of the lane at `place`, when it has ended.
    pub(super) fn finish(&self, place: usize) -> Option<&Arc<Finish<D>>> {
        match self.slots.get(place)? {
            Slot::Ended { finish, .. } => Some(finish),
            _ => None,
        }
    }

    /// What becomes of the step when all lanes have ended. The failure shown is that of the first lane, in declared
    /// order, that failed by itself.
    pub(super) fn joined(&self, policy: LaneFailure) -> Joined {
        let mut failed = None;
        let mut cancelled = None;
        let mut succeeded = false;
        for (place, slot) in self.slots.iter().enumerate() {
            match slot {
                Slot::Ended { finish, .. } => match &finish.outcome {
                    Outcome::Completed(_) => succeeded = true,
                    Outcome::Failed(_) => failed = failed.or(Some(place)),
                    Outcome::Stopped(_) => cancelled = cancelled.or(Some(place)),
                },
                Slot::Waiting(_) | Slot::Running { .. } => {}
            }
        }
        let fails = match policy {
            LaneFailure::Propagate => true,
            LaneFailure::Ignore => !succeeded,
            LaneFailure::Tolerate => false,
        };
        match failed.or(cancelled).filter(|_| fails) {
            Some(place) => Joined::Failed(place),
            None => Joined::Succeeded,
        }
    }

    /// What is kept of the lanes.
    pub(super) fn records(&self, plan: &Plan<D::Callable>) -> Arc<Vec<LaneRecord<D>>> {
        let records = self.slots.iter().enumerate().map(|(place, slot)| LaneRecord {
            name: self.name(plan, place),
            finish: match slot {
                Slot::Ended { finish, .. } => Some(Arc::clone(finish)),
                Slot::Waiting(_) | Slot::Running { .. } => None,
            },
        });
        let mut records: Vec<LaneRecord<D>> = records.collect();
        if is_planted(Fault::LanesReversed) {
            records.reverse();
        }
        Arc::new(records)
    }

    pub(super) fn name(&self, plan: &Plan<D::Callable>, place: usize) -> Arc<str> {
        let branch = match self.node.map(|node| &plan.node(node).kind) {
            Some(Kind::Parallel(node)) => node
                .branches
                .get(self.place(place))
                .map(|(name, _)| Arc::clone(name)),
            _ => None,
        };
        branch.unwrap_or_else(|| Arc::from(place.to_string()))
    }
}
