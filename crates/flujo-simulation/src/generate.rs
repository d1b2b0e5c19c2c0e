//! Cases drawn at random: pipelines up to five constructs deep, scripts with every outcome, and a schedule. What a
//! case writes is named after the call that writes it (`w:step#2`), so that a leak can be told from a right write.

use std::time::Duration;

use flujo_core::plan::{Backoff, LaneFailure};
use flujo_core::usage::{Usage, UsageLimits};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::case::{ConditionalSpec, GroupSpec, MapSpec, ParallelSpec, StepSpec, retries};
use crate::script::{Act, Does, OnCancel, Script, Write};
use crate::{Case, Context, Object, Schedule, Spec};

/// Constructs within constructs, at most.
const DEPTH: u32 = 5;

/// Any case.
pub fn case() -> impl Strategy<Value = Case> {
    (spec(), hooks(), limits(), deadline(6), schedule(), any::<bool>()).prop_map(
        |(mut pipeline, hook, limits, deadline, schedule, list)| {
            name_everything(&mut pipeline);
            Case {
                pipeline,
                input: if list {
                    Object::from([1, 2, 3])
                } else {
                    Object::from(1)
                },
                context: Context::from([("log", Object::List(Vec::new()))]),
                hooks: hook.is_some(),
                hook: hook.unwrap_or_default(),
                limits,
                deadline: deadline.map(|deadline| deadline * 2),
                schedule,
            }
        },
    )
}

/// The first `count` cases that belong to `seed`, the same everywhere.
pub fn cases(seed: u8, count: usize) -> Vec<Case> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let any = case();
    // A strategy without filters draws a tree every time.
    (0..count)
        .filter_map(|_| any.new_tree(&mut runner).ok())
        .map(|tree| tree.current())
        .collect()
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let cancel_after = prop::option::weighted(0.2, 1..60_u32);
    (any::<u64>(), cancel_after).prop_map(|(seed, cancel_after)| Schedule {
        seed,
        cancel_after,
        ..Schedule::default()
    })
}

fn hooks() -> impl Strategy<Value = Option<Script>> {
    let abort_at = prop_oneof![3 => Just(None), 1 => (0..12_usize).prop_map(Some)];
    prop::option::weighted(
        0.3,
        abort_at.prop_map(|abort_at| match abort_at {
            None => Script::default(),
            Some(calls) => {
                let mut acts = vec![Act::default(); calls];
                acts.push(Act {
                    does: Does::Abort,
                    ..Act::default()
                });
                acts.push(Act::default());
                Script { acts }
            }
        }),
    )
}

fn limits() -> impl Strategy<Value = UsageLimits> {
    prop::option::weighted(0.5, 2..30_u64).prop_map(|tokens| UsageLimits {
        tokens,
        ..UsageLimits::default()
    })
}

fn deadline(chance_in_100: u32) -> impl Strategy<Value = Option<u64>> {
    prop::option::weighted(f64::from(chance_in_100) / 100.0, 3..40_u64)
}

/// How long a call takes: few different values, so that many end at the same time.
fn takes() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 2 => Just(1), 2 => Just(5), 1 => Just(20)]
}

fn on_cancel() -> impl Strategy<Value = OnCancel> {
    prop_oneof![
        6 => Just(OnCancel::Obey),
        1 => (1..8_u64).prop_map(OnCancel::Linger),
        1 => Just(OnCancel::Ignore),
        1 => Just(OnCancel::Abandon),
    ]
}

fn act(does: impl Strategy<Value = Does> + 'static) -> BoxedStrategy<Act> {
    (
        takes(),
        does,
        0..8_u64,
        any::<bool>(),
        on_cancel(),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(takes, does, tokens, writes, on_cancel, inline)| Act {
            takes,
            usage: Usage {
                tokens,
                ..Usage::ZERO
            },
            // The field's name is filled in when everything has its name.
            writes: if writes {
                vec![(String::new(), Write::Set(Object::from(1)))]
            } else {
                Vec::new()
            },
            on_cancel,
            inline: inline && does != Does::Hang,
            does,
            ..Act::default()
        })
        .boxed()
}

fn failing() -> impl Strategy<Value = Does> {
    (prop::bool::weighted(0.1), prop::option::weighted(0.1, 1..6_u64)).prop_map(|(permanent, retry_after)| {
        Does::Fail {
            permanent,
            retry_after,
        }
    })
}

fn working() -> impl Strategy<Value = Does> {
    prop_oneof![3 => (1..5_i64).prop_map(Does::Add), 2 => Just(Does::Natural), 1 => Just(Does::Items(Vec::new()))]
        // An agent has no items to give; what it gives is a list for maps to come.
        .prop_map(|does| match does {
            Does::Items(_) => Does::Return(Object::from([1, 2])),
            does => does,
        })
}

fn agent() -> BoxedStrategy<Script> {
    let failures = prop::collection::vec(act(failing()), 0..3);
    let last = prop_oneof![
        24 => act(working()),
        2 => act(failing()),
        1 => act(Just(Does::Abort)),
        1 => act(Just(Does::Fatal)),
    ];
    (failures, prop::bool::weighted(0.5), last)
        .prop_map(|(mut acts, fails, last)| {
            if !fails {
                acts.clear();
            }
            acts.push(last);
            Script { acts }
        })
        .boxed()
}

/// A callable beside the agent; it takes no tokens.
fn aside(does: impl Strategy<Value = Does> + 'static) -> BoxedStrategy<Script> {
    prop::collection::vec((act(does), prop::bool::weighted(0.5)), 1..3)
        .prop_map(|acts| Script {
            acts: acts
                .into_iter()
                .map(|(act, writes)| Act {
                    usage: Usage::ZERO,
                    writes: if writes { act.writes } else { Vec::new() },
                    ..act
                })
                .collect(),
        })
        .boxed()
}

fn processor() -> impl Strategy<Value = Script> {
    aside(prop_oneof![15 => Just(Does::Natural), 1 => failing()])
}

fn judge(redirects: bool) -> impl Strategy<Value = Script> {
    let redirect = if redirects {
        (1..3_u64).prop_map(Does::Redirect).boxed()
    } else {
        Just(Does::Reject).boxed()
    };
    aside(prop_oneof![10 => Just(Does::Natural), 2 => Just(Does::Reject), 1 => failing(), 1 => redirect])
}

fn step() -> BoxedStrategy<StepSpec> {
    let around = (
        prop::collection::vec(processor(), 0..2),
        prop::collection::vec(processor(), 0..2),
        prop::collection::vec(judge(true), 0..2),
        prop::collection::vec(judge(false), 0..3),
        prop::option::weighted(0.2, aside(Just(Does::Natural))),
        prop::option::weighted(0.2, aside(Just(Does::Natural))),
    );
    let backoff = prop_oneof![
        3 => Just(Backoff::None),
        1 => (1..10_u64).prop_map(|wait| Backoff::Fixed(Duration::from_nanos(wait))),
        1 => Just(Backoff::exponential(Duration::from_nanos(4))),
    ];
    let policy = (0..4_u32, prop::option::weighted(0.3, 2..10_u64), backoff);
    (
        agent(),
        prop::bool::weighted(0.4),
        around,
        policy,
        deadline(12),
        0..6_u64,
    )
        .prop_map(
            |(agent, plain, around, (max_retries, timeout, backoff), deadline, estimate)| {
                let mut spec = StepSpec {
                    agent,
                    policy: retries(max_retries),
                    deadline,
                    ..StepSpec::default()
                };
                spec.policy.timeout = timeout.map(Duration::from_nanos);
                spec.policy.backoff = backoff;
                spec.estimate.tokens = estimate;
                if !plain {
                    (
                        spec.prompt,
                        spec.output,
                        spec.plugins,
                        spec.validators,
                        spec.apply,
                        spec.persist,
                    ) = around;
                }
                spec
            },
        )
        .boxed()
}

fn hanging_step() -> BoxedStrategy<StepSpec> {
    (act(Just(Does::Hang)), 1..8_u64, 0..2_u32)
        .prop_map(|(act, timeout, max_retries)| {
            let mut spec = StepSpec {
                agent: Script::always(act),
                policy: retries(max_retries),
                ..StepSpec::default()
            };
            spec.policy.timeout = Some(Duration::from_nanos(timeout));
            spec
        })
        .boxed()
}

fn spec() -> BoxedStrategy<Spec> {
    let leaf = prop_oneof![12 => step(), 1 => hanging_step()].prop_map(|step| Spec::Step(Box::new(step)));
    leaf.prop_recursive(DEPTH, 40, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(Spec::Sequence),
            2 => with_fallback(inner.clone()),
            4 => conditional(inner.clone()),
            4 => parallel(inner.clone()),
            3 => map(inner.clone()),
            4 => group(inner),
        ]
    })
    .boxed()
}

fn with_fallback(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    (step(), inner)
        .prop_map(|(mut step, fallback)| {
            step.fallback = Some(Box::new(fallback));
            Spec::Step(Box::new(step))
        })
        .boxed()
}

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

fn conditional(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
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

fn parallel(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
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

fn map(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
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

fn group(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
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

/// Names every part after its place in the whole, and the writes of steps after the steps. Constructs write nothing of
/// their own: what they write stays when a later part of them fails, which the names could not tell.
fn name_everything(root: &mut Spec) {
    let mut count = 0;
    let mut waiting = vec![root];
    while let Some(spec) = waiting.pop() {
        count += 1;
        match spec {
            Spec::Sequence(parts) => waiting.extend(parts),
            Spec::Step(step) => {
                step.name = format!("step{count}");
                name_writes(step);
                waiting.extend(
                    step.fallback
                        .as_deref_mut()
                        .into_iter()
                        .chain(step.body.as_deref_mut()),
                );
            }
            Spec::Conditional(node) => {
                node.name = format!("choice{count}");
                silence([
                    Some(&mut node.condition),
                    node.input_mapper.as_mut(),
                    node.output_mapper.as_mut(),
                ]);
                waiting.extend(
                    node.branches
                        .iter_mut()
                        .map(|(_, branch)| branch)
                        .chain(&mut node.default),
                );
            }
            Spec::Parallel(node) => {
                node.name = format!("parallel{count}");
                silence([node.merge.as_mut(), Some(&mut node.collect), None]);
                if let Some((router, select)) = &mut node.router {
                    silence([Some(select)]);
                    waiting.push(router);
                }
                waiting.extend(node.branches.iter_mut().map(|(_, branch)| branch));
            }
            Spec::Map(node) => {
                node.name = format!("map{count}");
                silence([
                    Some(&mut node.items),
                    node.merge.as_mut(),
                    Some(&mut node.collect),
                ]);
                waiting.push(&mut node.body);
            }
            Spec::Group(node) => {
                node.name = format!("group{count}");
                silence([node.inherit.as_mut(), node.collect.as_mut(), None]);
                waiting.push(&mut node.body);
            }
            Spec::Loop(node) => {
                node.name = format!("loop{count}");
                let mappers = [&mut node.first_input, &mut node.next_input, &mut node.output];
                silence(mappers.map(Option::as_mut));
                silence([Some(&mut node.exit)]);
                waiting.extend(std::iter::once(&mut node.body).chain(&mut node.judge));
            }
            Spec::States(node) => {
                node.name = format!("states{count}");
                silence([Some(&mut node.next)]);
                waiting.extend(node.states.iter_mut().filter_map(|(_, body)| body.as_mut()));
            }
            Spec::Human(node) => {
                node.name = format!("human{count}");
                silence([
                    Some(&mut node.question),
                    node.accept.as_mut(),
                    node.default.as_mut(),
                ]);
            }
            Spec::Guard(node) => {
                silence([Some(&mut node.describe)]);
                waiting.extend([&mut node.body, &mut node.handler]);
            }
        }
    }
}

fn silence<const N: usize>(scripts: [Option<&mut Script>; N]) {
    for act in scripts.into_iter().flatten().flat_map(|script| &mut script.acts) {
        act.writes.clear();
    }
}

/// Each call of each callable of a step writes a field of its own, as often as the step may be tried.
fn name_writes(step: &mut StepSpec) {
    let attempts = step.policy.max_retries as usize + 1;
    let name = step.name.clone();
    silence([step.persist.as_mut()]);
    let roles = [
        ("prompt", &mut step.prompt),
        ("output", &mut step.output),
        ("plugin", &mut step.plugins),
        ("validator", &mut step.validators),
    ];
    let around = roles.into_iter().flat_map(|(role, scripts)| {
        scripts
            .iter_mut()
            .enumerate()
            .map(move |(at, script)| (format!("{role}{at}"), script))
    });
    let all = around.chain(step.apply.iter_mut().map(|script| ("apply".to_owned(), script)));
    for (role, script) in all.chain([("agent".to_owned(), &mut step.agent)]) {
        // A redirect makes a plugin run more than once in an attempt.
        let calls = attempts * if role == "agent" { 1 } else { 4 };
        while script.acts.len() < calls {
            let last = script.acts.last().cloned().unwrap_or_default();
            script.acts.push(last);
        }
        for (nth, act) in script.acts.iter_mut().enumerate() {
            for (field, _) in &mut act.writes {
                *field = format!("w:{name}.{role}#{nth}");
            }
        }
    }
}
