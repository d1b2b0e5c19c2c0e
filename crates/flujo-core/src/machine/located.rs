//! Failures with the place where they happened, and those of being late.

use std::sync::Arc;

use super::cursor::Cursor;
use super::frame::Frame;
use super::{Domain, Failure, FailureKind};
use crate::plan::NodeId;

impl<D: Domain> Cursor<'_, D> {
    /// Whether the innermost deadline has passed.
    pub(super) fn too_late(&self) -> bool {
        self.state
            .deadline
            .is_some_and(|deadline| self.state.now >= deadline)
    }

    /// The failure of a call, filled in with where it happened.
    pub(super) fn located(
        &self,
        mut failure: Failure<D>,
        kind: FailureKind,
        node: NodeId,
        attempt: u32,
    ) -> Failure<D> {
        failure.kind = kind;
        failure.step = Arc::clone(&self.plan.node(node).name);
        failure.attempt = attempt;
        failure
    }

    /// The failure of whatever the frame on top asked for, filled in with the name of its node.
    pub(super) fn placed(&self, mut failure: Failure<D>) -> Failure<D> {
        if let Some(opened) = self.state.stack.last().and_then(Frame::opened) {
            failure.step = Arc::clone(&self.plan.node(opened.node).name);
        }
        failure
    }

    /// The failure of a call that ran into its time limit: the attempt's own, or a deadline around it.
    pub(super) fn late(&self, node: NodeId, attempt: u32) -> Failure<D> {
        let name = &self.plan.node(node).name;
        let failure = if self.too_late() {
            let place = match self.plan.node(node).deadline {
                Some(limit) => format!("step `{name}` did not end within its deadline of {limit:?}"),
                None => format!("step `{name}` ran into the deadline around it"),
            };
            Failure::new(FailureKind::Deadline, "TimeoutError", place).permanent()
        } else {
            let timeout = match &self.plan.node(node).kind {
                crate::plan::Kind::Step(step) => step.policy.timeout.unwrap_or_default(),
                _ => std::time::Duration::ZERO,
            };
            Failure::new(
                FailureKind::Timeout,
                "TimeoutError",
                format!("attempt {attempt} of step `{name}` took longer than its time limit of {timeout:?}"),
            )
        };
        let kind = failure.kind;
        self.located(failure, kind, node, attempt)
    }
}
