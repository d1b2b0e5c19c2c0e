//! Steps: with everything around the agent, with a part of the pipeline in its place, and some that hang.

use std::time::Duration;

use flujo_core::plan::Backoff;
use proptest::prelude::*;

use super::call::{act, agent, aside, judge, processor};
use super::deadline;
use crate::Spec;
use crate::case::{CachedBy, StepSpec, retries};
use crate::script::{Does, Script};

pub(super) fn step() -> BoxedStrategy<StepSpec> {
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
    let policy = (0..4_u32, prop::option::weighted(0.2, 2..10_u64), backoff);
    (
        agent(),
        prop::bool::weighted(0.6),
        around,
        policy,
        deadline(12),
        0..6_u64,
        prop::option::weighted(0.3, prop_oneof![Just(CachedBy::Input), Just(CachedBy::Nothing)]),
    )
        .prop_map(
            |(agent, plain, around, (max_retries, timeout, backoff), deadline, estimate, cached)| {
                let mut spec = StepSpec {
                    agent,
                    policy: retries(max_retries),
                    deadline,
                    cached,
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

pub(super) fn hanging_step() -> BoxedStrategy<StepSpec> {
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

pub(super) fn with_fallback(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    (step(), inner)
        .prop_map(|(mut step, fallback)| {
            step.fallback = Some(Box::new(fallback));
            Spec::Step(Box::new(step))
        })
        .boxed()
}

/// A step whose work is a part of the pipeline.
pub(super) fn with_body(inner: BoxedStrategy<Spec>) -> BoxedStrategy<Spec> {
    let fallback = prop::option::weighted(0.35, inner.clone());
    (step(), inner, fallback)
        .prop_map(|(mut step, body, fallback)| {
            step.agent = Script::default();
            step.body = Some(Box::new(body));
            step.cached = step.cached.map(|_| CachedBy::Input);
            step.fallback = fallback.map(Box::new);
            Spec::Step(Box::new(step))
        })
        .boxed()
}
