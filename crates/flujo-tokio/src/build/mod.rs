//! Building a pipeline over [`Value`]s by name: what a blueprint is turned into, and what the typed API stands on.
//!
//! ```
//! use flujo_tokio::{Handler, Pipeline, Runner, Step};
//! use flujo_core::context::Context;
//! use flujo_core::value::Value;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let shout = Step::new("shout", Handler::processor(|input, _| {
//!     Ok(Value::from(input.as_str().ok_or("the input must be text")?.to_uppercase()))
//! }));
//! let pipeline = Pipeline::from(shout).then(Step::new("exclaim", Handler::processor(|input, _| {
//!     Ok(Value::from(format!("{}!", input.as_str().unwrap_or_default())))
//! })));
//! let done = Runner::builder(pipeline).build()?.run(Value::from("hello"), Context::new()).await;
//! assert_eq!(done.output(), Some(&Value::from("HELLO!")));
//! # Ok(()) }
//! ```

mod agentic;
mod conditional;
mod failure;
mod human;
mod import;
mod map;
mod merge;
mod parallel;
mod repeat;
mod states;
mod step;

use std::sync::Arc;
use std::time::Duration;

use flujo_core::config::OptimizationConfig;
use flujo_core::context::Context;
use flujo_core::pipeline::{CompileError, Pipeline as Nodes};
use flujo_core::plan::{GroupNode, NodeId, Plan, StepNode, Work};
use flujo_core::value::Value;

pub use agentic::AgenticLoop;
pub use conditional::Conditional;
pub use failure::StepFailure;
pub use human::Human;
pub use import::Import;
pub use map::{ItemFailure, MapOver};
pub use merge::Merge;
pub use parallel::{BranchFailure, Parallel, lane_error};
pub use repeat::Loop;
pub use states::{After, StateEnd, StateMachine, Transition};
pub use step::Step;

use crate::Handler;
use crate::domain::Raised;
use crate::handler::Check;

/// Steps and constructs one after the other.
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    nodes: Nodes<Handler>,
    /// The nodes at the top, in order.
    steps: Vec<NodeId>,
    optimization: Option<Arc<OptimizationConfig>>,
}

impl Pipeline {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with another step, construct or pipeline.
    #[must_use]
    pub fn then(mut self, next: impl Into<Self>) -> Self {
        let mut next = next.into();
        next.hand_down();
        self.hand_down();
        let offset = self.nodes.absorb(next.nodes);
        let shifted = next.steps.into_iter().map(|id| shift(id, offset));
        self.steps.extend(shifted);
        self
    }

    /// The whole pipeline as one step of that name, in the context around it.
    #[must_use]
    pub fn as_step(self, name: impl Into<Arc<str>>) -> Self {
        self.grouped(name, None)
    }

    /// The whole pipeline as one step that has at most `deadline` from beginning to end.
    #[must_use]
    pub fn as_step_within(self, name: impl Into<Arc<str>>, deadline: Duration) -> Self {
        self.grouped(name, Some(deadline))
    }

    /// Which optimised parts the pipeline uses, and the thresholds its steps are watched by; without this the runner's. A
    /// config of a step in it wins. What is added to the pipeline later is not concerned. Results are the same.
    #[must_use]
    pub fn optimization(mut self, config: OptimizationConfig) -> Self {
        self.optimization = Some(Arc::new(config));
        self
    }

    /// Gives the pipeline's config to its steps, which become part of another pipeline.
    fn hand_down(&mut self) {
        if let Some(config) = self.optimization.take() {
            for step in &self.steps {
                self.nodes.set_optimization(*step, &config);
            }
        }
    }

    /// Requires of every step and construct that is at the top now that `holds` accepts its output and the context as
    /// it leaves it. Where it doesn't, the step fails without another attempt, and what it wrote is dropped.
    #[must_use]
    pub fn invariant<F>(mut self, holds: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<(), Raised> + Send + Sync + 'static,
    {
        let holds: Arc<Check> = Arc::new(holds);
        for step in &mut self.steps {
            let checked = self.nodes.step_mut(*step).and_then(|step| {
                step.apply = Some(Handler::checked(step.apply.as_ref(), &holds)?);
                Some(())
            });
            if checked.is_none() {
                let name = self.nodes.name_of(*step);
                let mut around = StepNode::of(Work::Body(*step));
                around.policy.max_retries = 0;
                around.apply = Handler::checked(None, &holds);
                *step = self.nodes.step(name, around);
            }
        }
        self
    }

    fn grouped(self, name: impl Into<Arc<str>>, deadline: Option<Duration>) -> Self {
        let mut nodes = None;
        let body = self.place_in(&mut nodes);
        let mut nodes = nodes.unwrap_or_default();
        let node = GroupNode {
            body,
            inherit: None,
            collect: None,
        };
        let group = nodes.group(name, node);
        Self::of(nodes, group, deadline)
    }

    /// How many steps and constructs there are at the top.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The plan of the pipeline.
    ///
    /// # Errors
    /// [`CompileError`] names the construct that cannot run and the cure.
    pub fn compile(self, name: impl Into<Arc<str>>) -> Result<Plan<Handler>, CompileError> {
        let mut nodes = self.nodes;
        let root = nodes.sequence(self.steps);
        if let Some(config) = &self.optimization {
            nodes.set_optimization(root, config);
        }
        nodes.compile(name, root)
    }

    /// A pipeline of the one node that was added to `nodes` last.
    fn of(mut nodes: Nodes<Handler>, node: NodeId, deadline: Option<Duration>) -> Self {
        nodes.set_deadline(node, deadline);
        Self {
            nodes,
            steps: vec![node],
            optimization: None,
        }
    }

    /// Moves into `nodes`; gives the node that stands for the whole. The first pipeline that moves in is taken as it is,
    /// so that wrapping costs the same at any depth.
    fn place_in(mut self, nodes: &mut Option<Nodes<Handler>>) -> NodeId {
        self.hand_down();
        let (nodes, offset) = match nodes {
            Some(nodes) => {
                let offset = nodes.absorb(self.nodes);
                (nodes, offset)
            }
            None => (nodes.insert(self.nodes), 0),
        };
        match self.steps.as_slice() {
            [only] => shift(*only, offset),
            steps => {
                let steps = steps.iter().map(|id| shift(*id, offset)).collect();
                nodes.sequence(steps)
            }
        }
    }
}

fn shift(id: NodeId, offset: u32) -> NodeId {
    NodeId(id.0.saturating_add(offset))
}
