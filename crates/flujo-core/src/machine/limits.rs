//! The limits of steps. What a step's attempts use follows one another in one machine, so its own record, with those
//! that are open below it, is all that has to be looked at; lanes count when they end.

use std::sync::Arc;

use super::cursor::{Cursor, Next};
use super::{Domain, LimitBreach, LimitKind};
use crate::plan::Kind;
use crate::usage::{Usage, UsageLimits};

impl<D: Domain> Cursor<'_, D> {
    /// The innermost limit, of the step on top or of one around it, that `check` finds something wrong with, given what
    /// has been used under it.
    pub(super) fn breach(
        &self,
        check: impl Fn(&UsageLimits, Usage) -> Option<LimitKind>,
    ) -> Option<LimitBreach> {
        let mut used = Usage::ZERO;
        for frame in self.state.stack.iter().rev() {
            let Some(opened) = frame.opened() else { continue };
            if let Some(record) = self.state.history.records.get(opened.record as usize) {
                used += record.usage;
            }
            let node = self.plan.node(opened.node);
            let Kind::Step(step) = &node.kind else { continue };
            if let Some(limits) = step.limits
                && let Some(which) = check(&limits, used)
            {
                return Some(LimitBreach {
                    limits,
                    which,
                    used,
                    reserved: Usage::ZERO,
                    step: Arc::clone(&node.name),
                    refused: which == LimitKind::Price,
                });
            }
        }
        None
    }

    /// The limit that has been passed.
    pub(super) fn passed(&self) -> Option<LimitBreach> {
        self.breach(UsageLimits::passed_by)
    }

    /// A lane of the construct with `record` has ended, and its usage counts: goes on with stopping the run, or stops
    /// it when that passed the limit of a step around.
    pub(super) fn lane_counts(&mut self, record: u32, usage: Usage) -> Option<Next<D>> {
        self.spend(record, usage);
        if self.state.stopping.is_none() {
            if self.state.limited == 0 {
                return None;
            }
            self.state.stopping = Some(Arc::new(self.passed()?).into());
        }
        Some(self.go_on_stopping())
    }
}
