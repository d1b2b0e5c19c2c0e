//! Constructs with lanes or branches: conditional, parallel, router, map, group.

use flujo_core::plan::LaneFailure;
use proptest::prelude::*;

use super::call::{aside, failing};
use super::deadline;
use crate::case::{ConditionalSpec, GroupSpec, MapSpec, ParallelSpec, StepSpec, retries};
use crate::script::{Act, Does, Script};
use crate::{Object, Spec};

fn branches(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Vec<(String, Spec)>> {
    prop::collection::vec(inner, 1..4)
        .prop_map(|specs| {
            // Declared order is not the order of names.
            specs
                .into_iter()
                .zip(["c", "a", "b"])
                .map(|(spec, name)| (name.to_owned(), spec))
                .collect()
        })
        .boxed()
}

pub(super) fn conditional(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    let choice = prop_oneof![
        3 => prop::sample::select(vec!["a", "b", "c"]).prop_map(|key| Does::Choose(key.to_owned())),
        8 => Just(Does::Natural),
        1 => failing(),
    ];
    let mapper = || prop::option::weighted(0.3, aside(prop_oneof![5 => Just(Does::Add(1)), 1 => failing()]));
    let default = prop::option::of(inner.clone());
    (
        aside(choice),
        branches(inner),
        default,
        mapper(),
        mapper(),
        deadline(6),
    )
        .prop_map(
            |(condition, branches, default, input_mapper, output_mapper, deadline)| {
                Spec::Conditional(Box::new(ConditionalSpec {
                    name: String::new(),
                    condition,
                    branches,
                    default,
                    input_mapper,
                    output_mapper,
                    deadline,
                }))
            },
        )
        .boxed()
}

fn on_failure() -> impl Strategy<Value = LaneFailure> {
    prop::sample::select(vec![
        LaneFailure::Propagate,
        LaneFailure::Ignore,
        LaneFailure::Tolerate,
    ])
}

fn join() -> impl Strategy<Value = Script> {
    aside(prop_oneof![9 => Just(Does::Natural), 1 => failing()])
}

pub(super) fn parallel(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    let at_once = prop::option::weighted(0.3, 1..3_u32);
    (
        branches(inner),
        on_failure(),
        at_once,
        prop::option::of(join()),
        join(),
        deadline(6),
    )
        .prop_map(
            |(branches, on_failure, max_concurrency, merge, collect, deadline)| {
                Spec::Parallel(Box::new(ParallelSpec {
                    name: String::new(),
                    branches,
                    router: None,
                    on_failure,
                    max_concurrency,
                    merge,
                    collect,
                    deadline,
                }))
            },
        )
        .boxed()
}

/// A parallel step of which a router chooses branches: mostly a step that names some, else any part, which means all of
/// them when it gives no names.
pub(super) fn routed(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    let names = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..3);
    let names = prop_oneof![8 => names, 1 => Just(vec!["nobody"])];
    let router = prop_oneof![4 => (names, 0..8_u64).prop_map(|(names, tokens)| router(names, tokens)), 1 => inner.clone()];
    let select = aside(prop_oneof![12 => Just(Does::Natural), 1 => failing()]);
    (parallel(inner), router, select)
        .prop_map(|(spec, router, select)| match spec {
            Spec::Parallel(mut node) => {
                node.router = Some((router, select));
                Spec::Parallel(node)
            }
            spec => spec,
        })
        .boxed()
}

fn router(names: Vec<&str>, tokens: u64) -> Spec {
    let mut act = Act {
        does: Does::Return(Object::from(names)),
        ..Act::default()
    };
    act.usage.tokens = tokens;
    Spec::Step(Box::new(StepSpec {
        agent: Script::always(act),
        policy: retries(0),
        ..StepSpec::default()
    }))
}

pub(super) fn map(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    let items = prop_oneof![
        2 => Just(Does::Natural),
        3 => prop::collection::vec((0..9_i64).prop_map(Object::from), 0..4).prop_map(Does::Items),
        2 => (0..4_u32).prop_map(Does::Cursor),
    ];
    (
        inner,
        aside(items),
        1..4_u32,
        on_failure(),
        prop::option::of(join()),
        join(),
        deadline(6),
    )
        .prop_map(
            |(body, items, max_concurrency, on_failure, merge, collect, deadline)| {
                Spec::Map(Box::new(MapSpec {
                    name: String::new(),
                    body,
                    items,
                    max_concurrency,
                    on_failure,
                    merge,
                    collect,
                    deadline,
                }))
            },
        )
        .boxed()
}

pub(super) fn group(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    let inherit = prop::option::of(aside(Just(Does::Natural)));
    (inner, inherit, prop::option::of(join()), deadline(6))
        .prop_map(|(body, inherit, collect, deadline)| {
            let collect = collect.filter(|_| inherit.is_some());
            Spec::Group(Box::new(GroupSpec {
                name: String::new(),
                body,
                inherit,
                collect,
                deadline,
            }))
        })
        .boxed()
}
