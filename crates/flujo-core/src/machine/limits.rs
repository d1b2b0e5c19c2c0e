//! The limits of steps. What a step's attempts use follows one another in one machine, so its own record, with those
//! that are open below it, is all that has to be looked at; lanes count when they end.

use std::sync::Arc;

use super::cursor::{Cursor, Next};
use super::frame::Frame;
use super::{Domain, LimitBreach, LimitKind};
use crate::plan::Kind;
use crate::usage::{Usage, UsageLimits};

impl<D: Domain> Cursor<'_, D> {
    /// Adds usage to a record and to the run.
    #[inline]
    pub(super) fn spend(&mut self, record: u32, usage: Usage) {
        if usage.is_zero() {
            return;
        }
        self.state.usage += usage;
        if let Some(entry) = self.state.history.records.get_mut(record as usize) {
            entry.usage += usage;
        }
    }

    /// The innermost limit, of the step on top or of one around it, that `check` finds something wrong with, given what
    /// has been used under it.
    pub(super) fn breach(
        &self,
        check: impl Fn(&UsageLimits, Usage) -> Option<LimitKind>,
    ) -> Option<LimitBreach> {
        // How many steps there are still to be met that are limited while a part of the pipeline does their work.
        let mut left = self.state.limited;
        let mut used = Usage::ZERO;
        for (above, frame) in self.state.stack.iter().rev().enumerate() {
            if above > 0 && left == 0 {
                break;
            }
            let Some(opened) = frame.opened() else { continue };
            if let Some(record) = self.state.history.records.get(opened.record as usize) {
                used += record.usage;
            }
            let node = self.plan.node(opened.node);
            let (Frame::Step(frame), Kind::Step(step)) = (frame, &node.kind) else {
                continue;
            };
            let Some(limits) = step.limits else { continue };
            // The limits are those of the step's attempts; its fallback has its own.
            let in_body = frame.is_in_body();
            left = left.saturating_sub(u32::from(in_body));
            if (above == 0 || in_body)
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
