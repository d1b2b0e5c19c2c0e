//! Calls and callables: how long they take, what comes of them, what they do when they are told to end.

use flujo_core::usage::Usage;
use proptest::prelude::*;

use crate::Object;
use crate::script::{Act, Does, OnCancel, Script, Write};

/// How long a call takes: few different values, so that many end at the same time.
pub(super) fn takes() -> impl Strategy<Value = u64> {
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

pub(super) fn act(does: impl Strategy<Value = Does> + 'static) -> BoxedStrategy<Act> {
    act_of(does.boxed())
}

/// Compiled once, whatever it does: what surrounds it takes long to compile.
fn act_of(does: BoxedStrategy<Does>) -> BoxedStrategy<Act> {
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

pub(super) fn failing() -> impl Strategy<Value = Does> {
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

pub(super) fn agent() -> BoxedStrategy<Script> {
    let failures = prop::collection::vec(act(failing()), 0..3);
    let last = prop_oneof![
        24 => act(working()),
        2 => act(failing()),
        1 => act(Just(Does::Abort)),
        1 => act(Just(Does::Fatal)),
    ];
    (failures, prop::bool::weighted(0.35), last)
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
pub(super) fn aside(does: impl Strategy<Value = Does> + 'static) -> BoxedStrategy<Script> {
    aside_of(does.boxed())
}

fn aside_of(does: BoxedStrategy<Does>) -> BoxedStrategy<Script> {
    prop::collection::vec((act_of(does), prop::bool::weighted(0.5)), 1..3)
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

pub(super) fn processor() -> impl Strategy<Value = Script> {
    aside(prop_oneof![15 => Just(Does::Natural), 1 => failing()])
}

pub(super) fn judge(redirects: bool) -> impl Strategy<Value = Script> {
    let redirect = if redirects {
        (1..3_u64).prop_map(Does::Redirect).boxed()
    } else {
        Just(Does::Reject).boxed()
    };
    aside(prop_oneof![10 => Just(Does::Natural), 2 => Just(Does::Reject), 1 => failing(), 1 => redirect])
}
