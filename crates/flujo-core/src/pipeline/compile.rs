//! From what the user wrote to a plan: checks, paths. Loops only, so that depth costs no call stack.

use std::sync::Arc;

use super::Pipeline;
use crate::config::OptimizationConfigError;
use crate::plan::{Kind, NodeId, Plan, construct_in, identify};

/// Why a pipeline cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Nothing to run.
    #[error("the pipeline `{0}` has no steps: add at least one")]
    Empty(Arc<str>),
    /// A construct without branches.
    #[error("`{0}` has no branches: add at least one, or leave it out")]
    NoBranches(Arc<str>),
    /// Two branches of one name.
    #[error(
        "`{node}` has two branches named `{branch}`: rename one, since outputs and keys are found by name"
    )]
    DuplicateBranch {
        /// The construct.
        node: Arc<str>,
        /// The name.
        branch: Arc<str>,
    },
    /// A map that may work on no item at all.
    #[error("`{0}` has max_concurrency 0: it must be at least 1")]
    NoConcurrency(Arc<str>),
    /// A loop that may not even begin.
    #[error("`{0}` has max_loops 0: it must be at least 1, since the body runs at least once")]
    NoLoops(Arc<str>),
    /// A state machine that begins in a state it does not have.
    #[error("`{0}` begins in a state that it does not have: name one of its states as start state")]
    NoStart(Arc<str>),
    /// A state with nothing to do that is not the end.
    #[error("state `{state}` of `{node}` has no pipeline: give it one, or make it an end state")]
    EmptyState {
        /// The state machine.
        node: Arc<str>,
        /// The state.
        state: Arc<str>,
    },
    /// A deadline on a part that is no step: a sequence, or the way out of a part that fails.
    #[error(
        "a sequence or failure route in `{0}` has a deadline: it has none of its own, so set it on the steps in it, on \
         a group around it or on the run"
    )]
    NoOwnDeadline(Arc<str>),
    /// A node that holds itself or a node held twice.
    #[error("node {0} of the pipeline is used twice or holds itself: a node belongs in one place")]
    Shared(u32),
    /// A config that holds what it must not.
    #[error("the optimization of `{node}` is wrong: {error}")]
    Optimization {
        /// Where it was given.
        node: Arc<str>,
        /// What is wrong.
        error: OptimizationConfigError,
    },
    /// An id that belongs to no node.
    #[error("the pipeline names node {0}, which it does not have")]
    Unknown(u32),
    /// More nodes than can be counted.
    #[error("the pipeline has {0} nodes, more than {max} are not supported", max = u32::MAX)]
    TooLarge(usize),
}

/// Paths longer than this are shortened, so that deep nesting costs linear, not quadratic, memory.
const PATH_LIMIT: usize = 256;

impl<C> Pipeline<C> {
    /// The plan of the pipeline that begins at `root`.
    ///
    /// # Errors
    /// [`CompileError`] names the construct that cannot run and the cure.
    pub fn compile(mut self, name: impl Into<Arc<str>>, root: NodeId) -> Result<Plan<C>, CompileError> {
        let name = name.into();
        if u32::try_from(self.nodes.len()).is_err() {
            return Err(CompileError::TooLarge(self.nodes.len()));
        }
        let mut seen = vec![false; self.nodes.len()];
        let mut waiting: Vec<(NodeId, Arc<str>)> = vec![(root, Arc::from(""))];
        while let Some((id, place)) = waiting.pop() {
            let Some(node) = self.nodes.get_mut(id.0 as usize) else {
                return Err(CompileError::Unknown(id.0));
            };
            if std::mem::replace(&mut seen[id.0 as usize], true) {
                return Err(CompileError::Shared(id.0));
            }
            node.path = join(&place, &node.name);
            let node = &self.nodes[id.0 as usize];
            if node.deadline.is_some() && matches!(node.kind, Kind::Sequence(_) | Kind::Guard(_)) {
                let place = if place.is_empty() { name } else { place };
                return Err(CompileError::NoOwnDeadline(place));
            }
            check(&node.kind, &node.path)?;
            if let Some(Err(error)) = node.optimization.as_ref().map(|config| config.validate()) {
                let node = if node.path.is_empty() {
                    name
                } else {
                    Arc::clone(&node.path)
                };
                return Err(CompileError::Optimization { node, error });
            }
            let construct = construct_in(&self.nodes, id);
            for (label, child) in node.kind.children() {
                let around = match label {
                    Some(label) => join(&node.path, label),
                    // A construct and the step that gives it retries or a fallback are one step to the user.
                    None if construct == Some(child) => Arc::clone(&place),
                    None => Arc::clone(&node.path),
                };
                waiting.push((child, around));
            }
            if let Some(config) = self.nodes[id.0 as usize].optimization.clone() {
                let children = self.nodes[id.0 as usize].kind.children();
                let children: Vec<_> = children.into_iter().map(|(_, child)| child).collect();
                for child in children {
                    self.set_optimization(child, &config);
                }
            }
            if let Some(inner) = construct {
                self.nodes[inner.0 as usize].inner = true;
            }
        }
        match self.nodes.get(root.0 as usize).map(|node| &node.kind) {
            Some(Kind::Sequence(children)) if children.is_empty() => return Err(CompileError::Empty(name)),
            _ => {}
        }
        identify(&mut self.nodes);
        Ok(Plan::of(self.nodes, root, name))
    }
}

fn join(place: &Arc<str>, name: &str) -> Arc<str> {
    if name.is_empty() {
        Arc::clone(place)
    } else if place.is_empty() {
        Arc::from(name)
    } else if place.len() > PATH_LIMIT {
        Arc::from(format!("…/{name}"))
    } else {
        Arc::from(format!("{place}/{name}"))
    }
}

fn names(branches: &[(Arc<str>, NodeId)]) -> Vec<&Arc<str>> {
    branches.iter().map(|(name, _)| name).collect()
}

fn check<C>(kind: &Kind<C>, path: &Arc<str>) -> Result<(), CompileError> {
    let mut names = match kind {
        Kind::Conditional(node) => {
            if node.branches.is_empty() && node.default.is_none() {
                return Err(CompileError::NoBranches(Arc::clone(path)));
            }
            names(&node.branches)
        }
        Kind::Parallel(node) => {
            if node.branches.is_empty() {
                return Err(CompileError::NoBranches(Arc::clone(path)));
            }
            if node.max_concurrency == Some(0) {
                return Err(CompileError::NoConcurrency(Arc::clone(path)));
            }
            names(&node.branches)
        }
        Kind::Loop(node) if node.max_loops == 0 => return Err(CompileError::NoLoops(Arc::clone(path))),
        Kind::States(node) => {
            if node.start as usize >= node.states.len() {
                return Err(CompileError::NoStart(Arc::clone(path)));
            }
            if let Some(empty) = node
                .states
                .iter()
                .find(|state| state.body.is_none() && !state.end)
            {
                return Err(CompileError::EmptyState {
                    node: Arc::clone(path),
                    state: Arc::clone(&empty.name),
                });
            }
            node.states.iter().map(|state| &state.name).collect()
        }
        Kind::Map(node) if node.max_concurrency == 0 => {
            return Err(CompileError::NoConcurrency(Arc::clone(path)));
        }
        _ => return Ok(()),
    };
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CompileError::DuplicateBranch {
            node: Arc::clone(path),
            branch: Arc::clone(pair[0]),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{CompileError, Pipeline};
    use crate::plan::{GroupNode, StepNode};

    #[test]
    fn a_deadline_on_a_sequence_is_refused_and_the_place_is_named() {
        let deadline = Some(Duration::from_secs(1));
        let mut pipeline = Pipeline::new();
        let step = pipeline.step("a", StepNode::new(()));
        let inner = pipeline.sequence(vec![step]);
        let group = GroupNode {
            body: inner,
            inherit: None,
            collect: None,
        };
        let group = pipeline.group("g", group);
        let root = pipeline.sequence(vec![group]);
        let refused = |mut pipeline: Pipeline<()>, node| {
            pipeline.set_deadline(node, deadline);
            pipeline.compile("p", root).unwrap_err()
        };
        let place = |place: &str| CompileError::NoOwnDeadline(Arc::from(place));
        assert_eq!(refused(pipeline.clone(), inner), place("g"));
        assert_eq!(refused(pipeline.clone(), root), place("p"));
        pipeline.set_deadline(group, deadline);
        assert!(pipeline.compile("p", root).is_ok());
    }
}
