//! Constructs that repeat, ask or recover: loop, state machine, question, guard. Scripts end with something that lets the
//! run end: it exits, goes on to the next state, or takes the answer.

use flujo_core::plan::IterationFailure;
use proptest::prelude::*;

use super::call::{act, aside, failing, takes};
use super::deadline;
use crate::case::{GuardSpec, HumanSpec, LoopSpec, StatesSpec, StepSpec, retries};
use crate::script::{Act, Does, Reply, Script};
use crate::{Object, Spec};

fn mapper(fails_in_ten: u32) -> impl Strategy<Value = Option<Script>> {
    let does = prop_oneof![10 - fails_in_ten => Just(Does::Add(1)), fails_in_ten => failing()];
    prop::option::weighted(0.5, aside(does))
}

/// The part, sometimes after a step that fails the first time it runs.
fn stumbling(chance: f64, part: BoxedStrategy<Spec>) -> impl Strategy<Value = Spec> {
    let first = act(failing()).prop_map(|fails| {
        let works = Act {
            does: Does::Natural,
            ..fails.clone()
        };
        Spec::Step(Box::new(StepSpec {
            agent: Script {
                acts: vec![fails, works],
            },
            policy: retries(0),
            ..StepSpec::default()
        }))
    });
    (prop::option::weighted(chance, first), part).prop_map(|(first, part)| match first {
        Some(first) => Spec::Sequence(vec![first, part]),
        None => part,
    })
}

pub(super) fn repeat(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    let exit = prop_oneof![
        4 => Just(Does::Exit(false)),
        5 => Just(Does::Exit(true)),
        2 => (0..6_i64).prop_map(Does::ExitAt),
        2 => failing(),
    ];
    let judge = prop::option::weighted(0.25, inner.clone());
    let goes_on = prop::sample::select(vec![IterationFailure::Stop, IterationFailure::Continue]);
    let mappers = (mapper(1), mapper(8), mapper(5));
    (
        stumbling(0.45, inner),
        judge,
        aside(exit),
        mappers,
        1..5_u32,
        goes_on,
        deadline(15),
    )
        .prop_map(
            |(body, judge, exit, (first_input, next_input, output), max_loops, on_failure, deadline)| {
                Spec::Loop(Box::new(LoopSpec {
                    name: String::new(),
                    body,
                    judge,
                    exit,
                    first_input,
                    next_input,
                    output,
                    max_loops,
                    on_failure,
                    deadline,
                }))
            },
        )
        .boxed()
}

/// The acts of a script, then one that does what is natural.
fn then_natural(script: BoxedStrategy<Script>, least: usize) -> impl Strategy<Value = Script> {
    (script, least..3_usize).prop_map(|(mut script, acts)| {
        script.acts.truncate(acts);
        let mut last = script.acts.last().cloned().unwrap_or_default();
        last.does = Does::Natural;
        script.acts.push(last);
        script
    })
}

pub(super) fn states(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    let next = prop_oneof![
        10 => prop::sample::select(vec!["one", "two", "three"]).prop_map(|key| Does::Choose(key.to_owned())),
        5 => Just(Does::Natural),
        1 => Just(Does::Choose("nowhere".to_owned())),
        1 => failing(),
    ];
    let bodies = prop::collection::vec(stumbling(0.45, inner), 1..4);
    (bodies, any::<bool>(), then_natural(aside(next), 1), deadline(10))
        .prop_map(|(bodies, empty_end, next, deadline)| {
            let named = bodies.into_iter().zip(["one", "two", "three"]);
            let mut states: Vec<(String, Option<Spec>)> =
                named.map(|(body, name)| (name.to_owned(), Some(body))).collect();
            if empty_end {
                states.push(("done".to_owned(), None));
            }
            Spec::States(Box::new(StatesSpec {
                name: String::new(),
                states,
                next,
                deadline,
            }))
        })
        .boxed()
}

pub(super) fn human() -> BoxedStrategy<Spec> {
    let answer = prop_oneof![
        5 => (0..6_i64).prop_map(|answer| Some(Object::Int(answer))),
        2 => Just(None),
    ];
    let reply = (takes(), answer).prop_map(|(after, answer)| Reply { after, answer });
    let replies = prop::collection::vec(reply, 1..3);
    let question = aside(prop_oneof![20 => Just(Does::Natural), 1 => failing()]);
    let accept = aside(prop_oneof![3 => Just(Does::Natural), 3 => Just(Does::Reject), 1 => failing()]);
    let accept = prop::option::weighted(0.6, then_natural(accept, 0));
    let default = aside(prop_oneof![6 => Just(Does::Return(Object::Int(0))), 1 => failing()]);
    (
        question,
        replies,
        accept,
        prop::option::weighted(0.5, default),
        deadline(8),
    )
        .prop_map(|(mut question, replies, accept, default, deadline)| {
            // Who answers what is told by the first act.
            let first: Option<&mut Act> = question.acts.first_mut();
            if let Some(first) = first {
                first.replies = replies;
            }
            Spec::Human(Box::new(HumanSpec {
                name: String::new(),
                question,
                accept,
                default,
                deadline,
            }))
        })
        .boxed()
}

pub(super) fn guard(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    let describe = aside(prop_oneof![9 => Just(Does::Natural), 1 => failing()]);
    (inner.clone(), describe, inner)
        .prop_map(|(body, describe, handler)| {
            Spec::Guard(Box::new(GuardSpec {
                body,
                describe,
                handler,
            }))
        })
        .boxed()
}
