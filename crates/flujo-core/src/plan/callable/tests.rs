//! The list of callables and the way to each of them agree.

use std::sync::Arc;

use super::super::{
    CachedStep, ConditionalNode, GroupNode, GuardNode, HumanNode, IterationFailure, Kind, LaneFailure,
    LoopNode, MapNode, Node, NodeId, ParallelNode, Router, State, StatesNode, StepNode,
};
use crate::cache::{CachePolicy, StepIdentity};
use crate::machine::Role;

const ROLES: [Role; 25] = [
    Role::PromptProcessor,
    Role::Agent,
    Role::OutputProcessor,
    Role::Plugin,
    Role::Validator,
    Role::Apply,
    Role::Persist,
    Role::CacheKey,
    Role::Condition,
    Role::BranchInput,
    Role::BranchOutput,
    Role::Items,
    Role::Inherit,
    Role::Merge,
    Role::Collect,
    Role::Select,
    Role::LoopInput,
    Role::Exit,
    Role::NextInput,
    Role::LoopOutput,
    Role::Transition,
    Role::Question,
    Role::Accept,
    Role::DefaultAnswer,
    Role::Describe,
];

const BODY: NodeId = NodeId(0);

/// A node of each kind with all callables it can have, numbered from 1 on.
pub(in super::super) fn kinds() -> Vec<Kind<u32>> {
    let mut step = StepNode::new(1);
    step.prompt_processors = vec![2, 3];
    step.output_processors = vec![4, 5];
    step.plugins = vec![6, 7];
    step.validators = vec![8, 9];
    (step.apply, step.persist) = (Some(10), Some(11));
    let mut cache = CachedStep::new(CachePolicy::default(), StepIdentity::local());
    cache.key = Some(12);
    step.cache = Some(Box::new(cache));
    vec![
        Kind::Step(Box::new(step)),
        Kind::Conditional(Box::new(ConditionalNode {
            condition: 1,
            branches: Vec::new(),
            default: None,
            input_mapper: Some(2),
            output_mapper: Some(3),
        })),
        Kind::Parallel(Box::new(ParallelNode {
            branches: Vec::new(),
            router: Some(Router {
                body: BODY,
                select: 1,
            }),
            on_failure: LaneFailure::Propagate,
            max_concurrency: None,
            merge: Some(2),
            collect: 3,
        })),
        Kind::Map(Box::new(MapNode {
            body: BODY,
            items: 1,
            max_concurrency: 1,
            on_failure: LaneFailure::Propagate,
            merge: Some(2),
            collect: 3,
        })),
        Kind::Group(Box::new(GroupNode {
            body: BODY,
            inherit: Some(1),
            collect: Some(2),
        })),
        Kind::Loop(Box::new(LoopNode {
            body: BODY,
            judge: None,
            exit: 1,
            first_input: Some(2),
            next_input: Some(3),
            output: Some(4),
            max_loops: 1,
            on_failure: IterationFailure::Stop,
        })),
        Kind::States(Box::new(StatesNode {
            states: vec![State {
                name: Arc::from("end"),
                body: None,
                end: true,
            }],
            start: 0,
            next: 1,
        })),
        Kind::Human(Box::new(HumanNode {
            question: 1,
            accept: Some(2),
            timeout: None,
            default: Some(3),
        })),
        Kind::Guard(Box::new(GuardNode {
            body: BODY,
            describe: 1,
            handler: BODY,
        })),
    ]
}

#[test]
fn all_callables_of_a_node_are_those_that_calls_find_by_role() {
    for kind in kinds() {
        let node = Node {
            name: Arc::from("node"),
            path: Arc::from("node"),
            deadline: None,
            inner: false,
            optimization: None,
            kind,
        };
        let mut listed: Vec<u32> = node.callables().copied().collect();
        let mut found: Vec<u32> = ROLES
            .into_iter()
            .flat_map(|role| (0..3).map(move |index| (role, index)))
            .filter_map(|(role, index)| node.callable(role, index).copied())
            .collect();
        listed.sort_unstable();
        found.sort_unstable();
        found.dedup(); // only callables of some roles are told apart by an index
        assert_eq!(listed, found, "{:?}", node.kind);
        assert_eq!(
            listed.last().copied(),
            u32::try_from(listed.len()).ok(),
            "none is left out"
        );
    }
}
