//! The calls of one record: each callable is called as often as the plan says, in the order of the stages.

use flujo_core::machine::Role;
use flujo_core::plan::{Kind, Rejection, StepNode};

use super::order::{End, What};
use super::{Check, Subject, has_body};
use crate::Callable;
use crate::trace::{CallEnd, CallTrace};

/// Where an attempt is: what is to be called next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Prompt(u32),
    Agent,
    Redirect,
    Output(u32),
    Plugin(u32),
    Validator(u32),
    Apply,
    Done,
    /// It failed, or an answer came too late: nothing more is called.
    Over,
}

impl Stage {
    /// The stage itself, or the first one after it that has something to call.
    fn settled(self, step: &StepNode<Callable>, rejected: bool, body: bool) -> Self {
        let past = |index: u32, callables: &[Callable]| index as usize >= callables.len();
        let next = match self {
            Self::Prompt(index) if past(index, &step.prompt_processors) => Self::Agent,
            // The work is a part of the pipeline, and no call.
            Self::Agent if body => Self::Output(0),
            Self::Output(index) if past(index, &step.output_processors) => Self::Plugin(0),
            Self::Plugin(index) if past(index, &step.plugins) => Self::Validator(0),
            Self::Validator(index) if past(index, &step.validators) && rejected => Self::Over,
            Self::Validator(index) if past(index, &step.validators) => Self::Apply,
            Self::Apply if step.apply.is_none() => Self::Done,
            stage => return stage,
        };
        next.settled(step, rejected, body)
    }

    fn calls(self) -> Option<(Role, u32)> {
        Some(match self {
            Self::Prompt(index) => (Role::PromptProcessor, index),
            Self::Agent => (Role::Agent, 0),
            Self::Redirect => (Role::Redirect, 0),
            Self::Output(index) => (Role::OutputProcessor, index),
            Self::Plugin(index) => (Role::Plugin, index),
            Self::Validator(index) => (Role::Validator, index),
            Self::Apply => (Role::Apply, 0),
            Self::Done | Self::Over => return None,
        })
    }

    fn answered(self) -> Self {
        match self {
            Self::Prompt(index) => Self::Prompt(index + 1),
            Self::Agent | Self::Redirect => Self::Output(0),
            Self::Output(index) => Self::Output(index + 1),
            Self::Plugin(index) => Self::Plugin(index + 1),
            Self::Validator(index) => Self::Validator(index + 1),
            Self::Apply | Self::Done => Self::Done,
            Self::Over => Self::Over,
        }
    }
}

/// How far the calls of an attempt came, or the call that stands in no right place.
fn follow<'a>(
    first: Stage,
    step: &StepNode<Callable>,
    body: bool,
    calls: &[&'a CallTrace],
) -> Result<Stage, &'a CallTrace> {
    let mut rejected = false;
    let mut stage = first;
    for call in calls {
        if stage.calls() != Some((call.role, call.index)) {
            return Err(call);
        }
        let next = match (call.end, stage) {
            (Some(CallEnd::Answered), stage) => stage.answered(),
            (Some(CallEnd::Rejected), Stage::Validator(index)) => {
                rejected = step.on_rejection != Rejection::PassOn;
                Stage::Validator(index + 1)
            }
            (Some(CallEnd::Redirected), Stage::Plugin(_)) => Stage::Redirect,
            _ => Stage::Over,
        };
        stage = next.settled(step, rejected, body);
    }
    Ok(stage)
}

impl<'a> Check<'a> {
    pub(super) fn call_order(&mut self, subject: &Subject<'_, 'a>) {
        let wrong = match subject.kind {
            Kind::Step(step) => step_wrong(subject, step),
            _ => construct_wrong(subject),
        };
        if let Some(wrong) = wrong {
            self.say(&subject.part.lane, format!("`{}`: {wrong}", subject.name));
        }
    }
}

fn step_wrong(subject: &Subject<'_, '_>, step: &StepNode<Callable>) -> Option<String> {
    let (record, body) = (subject.record, has_body(subject.kind));
    if record.attempts > step.policy.max_retries.saturating_add(1) {
        return Some(format!("made {} attempts", record.attempts));
    }
    let (persists, calls): (Vec<&CallTrace>, Vec<&CallTrace>) =
        subject.calls.iter().partition(|call| call.role == Role::Persist);
    if persists.len() > 1 || (subject.succeeded() && !persists.is_empty()) {
        return Some(format!("persisted its failure {} times", persists.len()));
    }
    if !calls.is_sorted_by_key(|call| call.attempt) {
        return Some("its attempts ran at the same time".to_owned());
    }
    let hit = subject.hit();
    // A step whose result was found only writes it, outside of any attempt.
    let first = if hit { Stage::Apply } else { Stage::Prompt(0) }.settled(step, false, body);
    let mut last = first;
    for attempt in calls.chunk_by(|one, two| one.attempt == two.attempt) {
        let number = attempt[0].attempt;
        if (number == 0) != hit || number > record.attempts {
            return Some(format!("made attempt {number}, not {}", record.attempts));
        }
        match follow(first, step, body, attempt) {
            Ok(stage) if number == record.attempts => last = stage,
            Ok(_) => {}
            Err(call) => {
                return Some(format!(
                    "attempt {number} calls {:?} {} out of turn",
                    call.role, call.index
                ));
            }
        }
    }
    let failures = record
        .details
        .as_ref()
        .map_or(0, |details| details.attempt_failures.len());
    let by_itself = subject.succeeded() && subject.fallback().is_none();
    if by_itself && last != Stage::Done {
        return Some(format!("succeeded, but its last attempt came to {last:?} only"));
    }
    if by_itself && failures + usize::from(!hit) != record.attempts as usize {
        return Some(format!(
            "succeeded after {failures} failed attempts, not on its next"
        ));
    }
    let falls_back = subject.runs.iter().any(|run| run.what == What::Fallback);
    let on_time = subject.deadline.is_none_or(|deadline| record.ended < deadline);
    let stopped = matches!(
        subject.part.finish.outcome,
        flujo_core::machine::Outcome::Stopped(_)
    );
    if subject.record.failure.is_some() && step.fallback.is_some() && !falls_back && on_time && !stopped {
        return Some("the fallback was not tried".to_owned());
    }
    None
}

/// What a construct that succeeded must have called, each as often as this.
fn construct_wrong(subject: &Subject<'_, '_>) -> Option<String> {
    let count = |role: Role| subject.calls.iter().filter(|call| call.role == role).count();
    let good = subject
        .runs
        .iter()
        .filter(|run| run.end == End::Succeeded)
        .count();
    let has_lanes = usize::from(!subject.record.lanes().is_empty());
    let expected: Vec<(Role, usize)> = match subject.kind {
        Kind::Conditional(node) => vec![
            (Role::Condition, 1),
            (Role::BranchInput, usize::from(node.input_mapper.is_some())),
            (Role::BranchOutput, usize::from(node.output_mapper.is_some())),
        ],
        Kind::Parallel(node) => vec![
            (Role::Select, usize::from(node.router.is_some())),
            (Role::Merge, usize::from(node.merge.is_some()) * has_lanes),
            (Role::Collect, 1),
        ],
        Kind::Map(node) => {
            let merges = node.merge.is_some() && node.max_concurrency > 1;
            vec![
                (Role::Items, 1),
                (Role::Merge, usize::from(merges)),
                (Role::Collect, 1),
            ]
        }
        Kind::Group(node) => vec![
            (Role::Inherit, usize::from(node.inherit.is_some())),
            (Role::Collect, usize::from(node.collect.is_some())),
        ],
        Kind::Loop(node) => {
            let goes_on = |call: &&&CallTrace| call.end == Some(CallEnd::Decided(false));
            let nexts = subject.calls.iter().filter(goes_on).count();
            let nexts = nexts.min(node.max_loops.saturating_sub(1) as usize);
            let mut expected = vec![
                (Role::LoopInput, usize::from(node.first_input.is_some())),
                (Role::Exit, good),
                (Role::LoopOutput, usize::from(node.output.is_some())),
            ];
            // Before there is an output, an iteration that failed is made again on the same input.
            let all_good = good == subject.runs.len();
            if all_good {
                expected.push((Role::NextInput, nexts * usize::from(node.next_input.is_some())));
            }
            expected
        }
        Kind::States(node) => {
            let ends =
                |run: &&super::order::Run| matches!(run.what, What::State(place) if node.states[place].end);
            vec![(
                Role::Transition,
                subject.runs.iter().filter(|run| !ends(run)).count(),
            )]
        }
        Kind::Human(_) => vec![(Role::Question, 1)],
        Kind::Step(_) | Kind::Sequence(_) | Kind::Guard(_) => Vec::new(),
    };
    let wrong = expected.iter().find(|(role, times)| {
        let made = count(*role);
        made > *times || (subject.succeeded() && made < *times)
    });
    wrong.map(|(role, times)| format!("called {role:?} {} times, not {times}", count(*role)))
}
