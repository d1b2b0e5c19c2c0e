//! Cases drawn at random: pipelines up to six constructs deep, scripts with every outcome, and a schedule. What a case
//! writes is named after the call that writes it (`w:step1.agent#2`), so that a leak can be told from a right write.

mod call;
mod construct;
mod flow;
mod name;
mod step;

use std::collections::BTreeMap;

use flujo_core::usage::UsageLimits;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::case::{CachedBy, StepSpec, retries};
use crate::script::{Act, Does, Script};
use crate::{Case, Context, Object, Schedule, Spec, Ties};

/// Constructs within constructs, at most.
const DEPTH: u32 = 6;
/// Parts of one pipeline, about at most.
const PARTS: u32 = 32;

/// Any case.
pub fn case() -> impl Strategy<Value = Case> {
    case_of(spec())
}

/// A case in which several steps at once, and again after them, want the same result of the cache.
pub fn crowd() -> impl Strategy<Value = Case> {
    let asks = flow::human().prop_map(|human| StepSpec {
        body: Some(Box::new(human)),
        policy: retries(0),
        ..StepSpec::default()
    });
    let wants = prop_oneof![5 => step::step(), 1 => step::hanging_step(), 1 => asks].prop_map(|mut step| {
        step.cached = Some(CachedBy::Nothing);
        Spec::Step(Box::new(step))
    });
    let crowd = construct::parallel(wants.boxed());
    case_of(prop::collection::vec(crowd, 1..3).prop_map(Spec::Sequence))
}

fn case_of(spec: impl Strategy<Value = Spec>) -> impl Strategy<Value = Case> {
    (spec, hooks(), limits(), deadline(6), schedule(), any::<bool>()).prop_map(
        |(mut pipeline, hook, limits, deadline, schedule, list)| {
            name::everything(&mut pipeline);
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
                rates: Vec::new(),
                agent_rates: BTreeMap::new(),
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

fn spec() -> BoxedStrategy<Spec> {
    let leaf = prop_oneof![
        12 => step::step().prop_map(|step| Spec::Step(Box::new(step))),
        1 => step::hanging_step().prop_map(|step| Spec::Step(Box::new(step))),
        3 => flow::human(),
    ];
    leaf.prop_recursive(DEPTH, PARTS, 2, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(Spec::Sequence),
            2 => step::with_fallback(inner.clone()),
            3 => step::with_body(inner.clone()),
            3 => construct::conditional(inner.clone()),
            2 => construct::parallel(inner.clone()),
            4 => construct::routed(inner.clone()),
            2 => construct::map(inner.clone()),
            3 => construct::group(inner.clone()),
            7 => flow::repeat(inner.clone()),
            4 => flow::states(inner.clone()),
            3 => flow::guard(inner),
        ]
    })
    .boxed()
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let cancel_after = prop::option::weighted(0.2, 1..60_u32);
    let cancel_asked = prop::option::weighted(0.1, 1..4_u32);
    let drawn = (any::<u64>(), cancel_after, cancel_asked);
    drawn.prop_map(|(seed, cancel_after, cancel_asked)| Schedule {
        seed,
        ties: match seed % 5 {
            0 => Ties::LaneGoesOn,
            _ => Ties::Drawn,
        },
        cancel_after,
        cancel_asked,
        faulty_cache: true,
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
    prop::option::weighted(0.55, 2..20_u64).prop_map(|tokens| UsageLimits {
        tokens,
        ..UsageLimits::default()
    })
}

fn deadline(chance_in_100: u32) -> impl Strategy<Value = Option<u64>> {
    prop::option::weighted(f64::from(chance_in_100) / 100.0, 3..40_u64)
}
