//! What is known about a runner's pipeline: its plan, and what the host keeps beside it.

use std::sync::Arc;

use flujo_core::pipeline::CompileError;
use flujo_core::plan::{Kind, NodeId, Plan};
use flujo_core::stats::{Statistics, StepSlot};

use crate::{Handler, Pipeline};

/// An analysed pipeline, shared by the runs that use it.
pub(crate) struct Analysed {
    pub(crate) plan: Arc<Plan<Handler>>,
    /// Whether something in it is told the outputs of earlier steps.
    pub(crate) reads_steps: bool,
    /// By node; sequences, guards and constructs that are one with their step have none.
    slots: Vec<Option<StepSlot>>,
}

impl Analysed {
    pub(crate) fn new(
        pipeline: Pipeline,
        name: Arc<str>,
        statistics: &Statistics,
    ) -> Result<Arc<Self>, CompileError> {
        let plan = pipeline.compile(name)?;
        let steps: Vec<_> = plan
            .nodes()
            .filter(|(_, node)| !matches!(node.kind, Kind::Sequence(_) | Kind::Guard(_)) && !node.inner)
            .map(|(id, node)| (id, &node.name))
            .collect();
        let mut slots = vec![None; plan.len()];
        let rows = statistics.slots(steps.iter().map(|(_, name)| *name));
        for ((id, _), row) in steps.iter().zip(rows) {
            slots[id.0 as usize] = Some(row);
        }
        let reads_steps = plan.nodes().any(|(_, node)| {
            // A plugin may redirect to an agent.
            let redirects = matches!(&node.kind, Kind::Step(step) if !step.plugins.is_empty());
            redirects || node.callables().any(Handler::is_informed)
        });
        Ok(Arc::new(Self {
            plan: Arc::new(plan),
            reads_steps,
            slots,
        }))
    }

    /// Where a step is counted.
    pub(crate) fn slot(&self, node: NodeId) -> Option<StepSlot> {
        *self.slots.get(node.0 as usize)?
    }
}
