//! What a call gives back: a script's act seen in the light of the call's role.

use std::sync::Arc;

use flujo_core::machine::{
    Answer, Call, Chosen, Failure, FailureKind, Input, LaneRecord, Outcome, RetryAdvice, Role,
};
use flujo_core::plan::{Kind, LaneFailure, Node};
use flujo_core::usage::Usage;

use crate::script::{Act, Write};
use crate::{Callable, Context, Does, Object, Simulated};

/// The end of a call that was left alone.
#[derive(Debug, Clone)]
pub(crate) enum Result {
    Answer(Answer<Simulated>, Option<Context>),
    Failure(Failure<Simulated>),
}

/// What comes of the `nth` call (from 0) of a callable at `node`.
pub(crate) fn result(call: &Call<Simulated>, node: &Node<Callable>, act: &Act, nth: usize) -> Result {
    let mut view = call.context.clone();
    for (field, write) in &act.writes {
        view.write(field, write);
    }
    let input = value(&call.input);
    let usage = act.usage;
    let with = |value: Object| Answer::Value { value, usage };
    let answer = match &act.does {
        Does::Natural => match natural(call, node, nth, input, &mut view, usage) {
            Ok(answer) => answer,
            Err(message) => return Result::Failure(Failure::new(FailureKind::Host, "ValueError", message)),
        },
        Does::Return(value) => with(value.clone()),
        Does::Add(number) => with(Object::Int(input.as_int().unwrap_or(0).wrapping_add(*number))),
        Does::Fail {
            permanent,
            retry_after,
        } => {
            let mut failure = scripted_error(nth);
            failure.retry = match (permanent, retry_after) {
                (true, _) => RetryAdvice::Never,
                (false, Some(wait)) => RetryAdvice::After(*wait),
                (false, None) => RetryAdvice::Allowed,
            };
            return Result::Failure(failure);
        }
        Does::FailOdd if input.as_int().is_some_and(|number| number % 2 != 0) => {
            return Result::Failure(scripted_error(nth));
        }
        Does::FailOdd => with(input),
        Does::Reject => Answer::Rejected {
            feedback: Arc::from(format!("call {} rejects as written", nth + 1)),
        },
        Does::Redirect(identity) => {
            let number = i64::try_from(*identity).unwrap_or(i64::MAX);
            Answer::Redirect {
                agent: Object::Int(number),
                identity: *identity,
                unpriced: false,
                rated: false,
            }
        }
        Does::Choose(key) => choice(node, key),
        Does::Exit(done) => Answer::Decision(*done),
        Does::ExitAt(least) => Answer::Decision(input.as_int().is_some_and(|number| number >= *least)),
        Does::Items(items) => Answer::Items(items.clone()),
        Does::Cursor(items) => Answer::Cursor(Some(Object::Int(i64::from(*items)))),
        Does::Abort => Answer::Abort(Arc::from("as written")),
        Does::Fatal => Answer::Fatal(Box::new(Failure::new(
            FailureKind::Host,
            "ConfigurationError",
            "as written",
        ))),
        Does::Hang => Answer::Done,
    };
    let wrote = view != call.context;
    Result::Answer(answer, wrote.then_some(view))
}

fn scripted_error(nth: usize) -> Failure<Simulated> {
    let message = format!("call {} fails as written", nth + 1);
    Failure::new(FailureKind::Host, "ScriptedError", message)
}

fn value(input: &Input<Simulated>) -> Object {
    match input {
        Input::Value(value) | Input::Iteration { value, .. } => value.clone(),
        Input::Items { items, .. } => items.clone(),
        Input::State { output, .. } => output.clone().unwrap_or_default(),
        Input::Route { failure, .. } => Object::from(&*failure.step),
        Input::Redirect { agent, input } => Object::List(vec![agent.clone(), input.clone()]),
        _ => Object::Null,
    }
}

fn natural(
    call: &Call<Simulated>,
    node: &Node<Callable>,
    nth: usize,
    input: Object,
    view: &mut Context,
    usage: Usage,
) -> std::result::Result<Answer<Simulated>, String> {
    Ok(match call.role {
        Role::PromptProcessor
        | Role::Agent
        | Role::Redirect
        | Role::OutputProcessor
        | Role::BranchInput
        | Role::BranchOutput
        | Role::LoopInput
        | Role::NextInput
        | Role::LoopOutput
        | Role::Question
        | Role::Accept
        | Role::DefaultAnswer
        | Role::CacheKey
        | Role::Describe => Answer::Value { value: input, usage },
        Role::Exit => Answer::Decision(true),
        Role::Select => Answer::Branches(selected(node, &input)),
        Role::Transition => match (&node.kind, &call.input) {
            (
                Kind::States(states),
                Input::State {
                    state, failure: None, ..
                },
            ) if (*state as usize) + 1 < states.states.len() => Answer::Branch {
                key: Arc::clone(&states.states[*state as usize + 1].name),
                branch: Some(state + 1),
            },
            _ => Answer::Done,
        },
        Role::Plugin | Role::Validator | Role::Inherit | Role::Hook(_) => Answer::Done,
        Role::Apply => {
            view.write(&node.name, &Write::Set(input));
            Answer::Done
        }
        Role::Persist => {
            if let Input::Route { failure, .. } = &call.input {
                view.write(
                    &format!("{}.feedback", node.name),
                    &Write::Set(failure.to_string().into()),
                );
            }
            Answer::Done
        }
        Role::Condition => match &node.kind {
            Kind::Conditional(conditional) => match conditional.branches.first() {
                Some((key, _)) => choice(node, key),
                None => choice(node, "none"),
            },
            _ => Answer::Done,
        },
        Role::Items => match input {
            Object::List(items) => Answer::Items(items),
            other => return Err(format!("{other} is not a list")),
        },
        Role::NextItem => {
            // What it is read with isn't saved: how many there are is written in the script too.
            let written = match &node.kind {
                Kind::Map(map) => &*map.items.acts,
                _ => &[],
            };
            let written = written.iter().find_map(|act| match act.does {
                Does::Cursor(items) => Some(i64::from(items)),
                _ => None,
            });
            let items = written.or(input.as_int()).unwrap_or(0);
            let nth = i64::try_from(nth).unwrap_or(i64::MAX);
            Answer::Item((nth < items).then_some(Object::Int(nth)))
        }
        Role::Merge => {
            *view = view.merge(lanes(call).iter().filter_map(finished))?;
            Answer::Done
        }
        Role::Collect => {
            if let Kind::Group(_) = node.kind
                && let Some((_, context)) = lanes(call).first().and_then(finished)
            {
                *view = context.clone();
            }
            Answer::Value {
                value: collected(lanes(call), node),
                usage,
            }
        }
    })
}

fn lanes(call: &Call<Simulated>) -> &[LaneRecord<Simulated>] {
    match &call.input {
        Input::Lanes(lanes) => lanes,
        _ => &[],
    }
}

/// The name and context of a lane that succeeded.
fn finished(lane: &LaneRecord<Simulated>) -> Option<(&str, &Context)> {
    let finish = lane.finish.as_deref()?;
    matches!(finish.outcome, Outcome::Completed(_)).then_some((&*lane.name, &finish.context))
}

/// Branches by name, failed ones named as such; items in order, failed ones left out or null.
fn collected(lanes: &[LaneRecord<Simulated>], node: &Node<Callable>) -> Object {
    match &node.kind {
        Kind::Parallel(_) => {
            let failed = || Object::from("failed");
            let entry = |lane: &LaneRecord<Simulated>| {
                (
                    Arc::clone(&lane.name),
                    lane.output().cloned().unwrap_or_else(failed),
                )
            };
            Object::Record(lanes.iter().map(entry).collect())
        }
        Kind::Map(map) if map.on_failure == LaneFailure::Tolerate => Object::List(
            lanes
                .iter()
                .map(|lane| lane.output().cloned().unwrap_or_default())
                .collect(),
        ),
        Kind::Map(_) => Object::List(lanes.iter().filter_map(|lane| lane.output().cloned()).collect()),
        _ => lanes
            .first()
            .and_then(LaneRecord::output)
            .cloned()
            .unwrap_or_default(),
    }
}

/// The branches that a text or a list of texts names; all of them for anything else.
fn selected(node: &Node<Callable>, names: &Object) -> Vec<Chosen> {
    let Kind::Parallel(parallel) = &node.kind else {
        return Vec::new();
    };
    let names: Vec<Arc<str>> = match names {
        Object::Text(name) => vec![Arc::clone(name)],
        Object::List(names) if names.iter().all(|name| matches!(name, Object::Text(_))) => names
            .iter()
            .filter_map(|name| match name {
                Object::Text(name) => Some(Arc::clone(name)),
                _ => None,
            })
            .collect(),
        _ => parallel
            .branches
            .iter()
            .map(|(name, _)| Arc::clone(name))
            .collect(),
    };
    let place = |key: &Arc<str>| parallel.branches.iter().position(|(name, _)| name == key);
    names
        .into_iter()
        .map(|key| Chosen {
            branch: place(&key).and_then(|place| u32::try_from(place).ok()),
            key,
        })
        .collect()
}

fn choice(node: &Node<Callable>, key: &str) -> Answer<Simulated> {
    let branch = match &node.kind {
        Kind::Conditional(conditional) => conditional.branches.iter().position(|(name, _)| &**name == key),
        Kind::States(states) => states.states.iter().position(|state| &*state.name == key),
        _ => None,
    };
    Answer::Branch {
        key: Arc::from(key),
        branch: branch.and_then(|branch| u32::try_from(branch).ok()),
    }
}
