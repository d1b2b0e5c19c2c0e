//! A step's whole life: prompt processors → agent → output processors → plugins → validators → context → success, with
//! retries, backoff, time limits and a fallback.

mod body;
mod cached;
mod end;
mod limits;
mod reply;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, nanoseconds};
use super::frame::{Frame, Opened, top};
use super::held::Visitor;
use super::{
    CacheLead, CacheTicket, Command, Domain, Failure, FailureKind, Input, NoticeKind, Pending, Role, Time,
};
use crate::plan::{Kind, Node, NodeId, Rejection, StepNode, Work};
use crate::usage::Usage;
use body::enter_body;
use cached::{ask_cache, look_up, reach_apply};
use end::{attempt_failed, succeed};
use limits::reach_agent;

pub(super) use end::{both_failed, child_finished};
pub(super) use limits::release;
pub(super) use limits::take_up;
pub(super) use reply::{answered, replied};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct StepFrame<D: Domain> {
    pub(super) opened: Opened,
    stage: Stage,
    attempt: u32,
    pub(super) attempt_deadline: Option<Time>,
    /// What the step was given; every attempt and the fallback begin with it.
    input: D::Object,
    made: Made<D::Object>,
    /// The attempt's own context, once a callable has asked for one.
    view: Option<D::Context>,
    /// Why the attempt failed; while the fallback runs, why the step did.
    failure: Option<Arc<Failure<D>>>,
    /// Apart, so that the frame of a step without them stays small.
    pub(super) details: Option<Box<AttemptDetails<D>>>,
    /// What the result is to be kept by. It is not saved: who waited for it has long gone when a saved run goes on.
    #[serde(skip)]
    lead: Option<Box<CacheLead<D>>>,
}

/// What the attempt has made of its input so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Made<O> {
    Nothing,
    Value(O),
}

/// What only some attempts have.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct AttemptDetails<D: Domain> {
    /// Why validators rejected the attempt's output.
    rejections: Vec<Arc<str>>,
    /// Usage of the agent call that is being settled.
    spent: Usage,
    /// The context around the attempt, while a part of the pipeline does the step's work in one of its own.
    outer: Option<D::Context>,
    /// The deadline around the attempt, at that time.
    pub(super) outer_deadline: Option<Time>,
    /// What is left of the attempt's time limit, while it waits for its turn.
    time_left: Option<Time>,
    /// The agents that plugins have asked for in this attempt.
    redirects: Vec<Redirect<D::Object>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Redirect<O> {
    agent: O,
    identity: u64,
    unpriced: bool,
    rated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// A result that was made before is looked for.
    LookUp,
    Prompt(u32),
    Reserve,
    /// Waits until the rate limits let the agent be called.
    Admit,
    Agent,
    /// A part of the pipeline does the work.
    Body,
    Settle,
    Output(u32),
    Plugin(u32),
    Validator(u32),
    Apply,
    Backoff,
    /// With the record of the fallback.
    Fallback(u32),
    Persist,
}

impl<D: Domain> StepFrame<D> {
    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        visit.object(&self.input);
        if let Made::Value(value) = &self.made {
            visit.object(value);
        }
        if let Some(view) = &self.view {
            visit.context(view);
        }
        if let Some(outer) = self.details.as_ref().and_then(|details| details.outer.as_ref()) {
            visit.context(outer);
        }
        for redirect in self.redirects() {
            visit.object(&redirect.agent);
        }
        if let Some(failure) = &self.failure {
            visit.failure(failure);
        }
        if let Some(context) = self.lead.as_ref().and_then(|lead| lead.context.as_ref()) {
            visit.context(context);
        }
    }

    /// What the result was to be kept by: it will not be.
    pub(super) fn take_lead(&mut self) -> Option<CacheTicket> {
        self.lead.take().map(|lead| lead.ticket)
    }

    /// What the next callable works on.
    fn value(&self) -> &D::Object {
        match &self.made {
            Made::Nothing => &self.input,
            Made::Value(value) => value,
        }
    }

    fn redirects(&self) -> &[Redirect<D::Object>] {
        self.details.as_ref().map_or(&[], |details| &details.redirects)
    }

    fn details_mut(&mut self) -> &mut AttemptDetails<D> {
        self.details.get_or_insert_with(|| {
            Box::new(AttemptDetails {
                rejections: Vec::new(),
                spent: Usage::ZERO,
                outer: None,
                outer_deadline: None,
                time_left: None,
                redirects: Vec::new(),
            })
        })
    }

    pub(super) fn take_outer(&mut self) -> Option<D::Context> {
        self.details.as_mut()?.outer.take()
    }

    /// Whether all that the attempt has is the step's input, and all it waits for the agent's answer.
    #[inline]
    pub(super) fn awaits_only_agent(&self) -> bool {
        self.stage == Stage::Agent
            && self.attempt_deadline.is_none()
            && matches!(self.made, Made::Nothing)
            && self.view.is_none()
            && self.details.is_none()
    }

    /// Whether the call that is awaited, when it gives a value or accepts, is followed by another one of the attempt.
    #[inline]
    pub(super) fn is_followed<C>(&self, node: &Node<C>) -> bool {
        let Kind::Step(step) = &node.kind else {
            return false;
        };
        let checks = step.plugins.len() + step.validators.len();
        match self.stage {
            Stage::Prompt(_) => matches!(step.work, Work::Call(_)),
            Stage::Agent => step.limits.is_none() && step.output_processors.len() + checks > 0,
            Stage::Output(index) => step.output_processors.len() + checks > index as usize + 1,
            Stage::Validator(index) => step.validators.len() > index as usize + 1,
            _ => false,
        }
    }

    /// Whether a part of the pipeline is doing the step's work.
    pub(super) fn is_in_body(&self) -> bool {
        self.stage == Stage::Body
    }

    /// Turns the frame of a step that awaited only its agent into that of the first attempt at another such step.
    #[inline]
    pub(super) fn begin_plain(&mut self, opened: Opened, input: D::Object) {
        self.opened = opened;
        self.attempt = 1;
        self.input = input;
    }

    /// What the next call of the step's agent, or of the one that a plugin asked for, is expected to use.
    fn estimate<C>(&self, step: &StepNode<C>) -> Usage {
        match self.redirects().last() {
            Some(redirect) => Usage {
                unpriced: redirect.unpriced,
                ..step.estimate
            },
            None => step.estimate,
        }
    }

    /// The agent with a rate limit of its own that a plugin asked for.
    fn rated_agent(&self) -> Option<&D::Object> {
        let redirect = self.redirects().last().filter(|redirect| redirect.rated)?;
        Some(&redirect.agent)
    }

    /// Whether the agent's next call waits for its turn where not all calls of the run do.
    fn is_rated<C>(&self, step: &StepNode<C>) -> bool {
        !step.rates.is_empty() || self.rated_agent().is_some()
    }

    /// Whether something is reserved for the agent's call: while it waits for its turn or is under way, and when the
    /// budget has just granted it.
    pub(super) fn holds_reservation(&self, granted: bool) -> bool {
        matches!(self.stage, Stage::Agent | Stage::Admit) || (self.stage == Stage::Reserve && granted)
    }
}

#[inline]
pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    let opened = cursor.open(node);
    cursor.state.stack.push(Frame::Step(StepFrame {
        opened,
        stage: Stage::Prompt(0),
        attempt: 0,
        attempt_deadline: None,
        input,
        made: Made::Nothing,
        view: None,
        failure: None,
        details: None,
        lead: None,
    }));
    match &cursor.plan.node(node).kind {
        Kind::Step(step) if step.cache.is_some() => look_up(cursor),
        _ => begin_attempt(cursor),
    }
}

fn begin_attempt<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (now, deadline) = (cursor.state.now, cursor.state.deadline);
    let (frame, step) = top!(cursor, Step);
    frame.attempt += 1;
    if frame.attempt > 1 {
        frame.made = Made::Nothing;
        frame.view = None;
        frame.details = None;
    }
    frame.failure = None;
    if let Some(lead) = &frame.lead {
        frame.view = lead.context.as_ref().map(D::fork);
    }
    frame.attempt_deadline = match step.policy.timeout {
        Some(timeout) => {
            let own = now.saturating_add(nanoseconds(timeout));
            Some(deadline.map_or(own, |deadline| deadline.min(own)))
        }
        None => deadline,
    };
    let (opened, attempt) = (frame.opened, frame.attempt);
    if cursor.too_late() {
        let failure = cursor.late(opened.node, attempt);
        return attempt_failed(cursor, failure);
    }
    let mark = cursor.mark();
    if let Some(record) = cursor.record(opened.record) {
        record.attempts = attempt;
        if attempt > 1 {
            record.details_mut().attempts_begun.push(mark);
        }
    }
    cursor.notify(NoticeKind::AttemptStarted, opened.node, opened.record, attempt);
    advance(cursor, Stage::Prompt(0))
}

/// Goes to `stage`, or past it to the first one that has something to do.
#[inline]
fn advance<D: Domain>(cursor: &mut Cursor<'_, D>, mut stage: Stage) -> Next<D> {
    let (frame, step) = top!(cursor, Step);
    let past = |index: u32, callables: &[D::Callable]| index as usize >= callables.len();
    loop {
        stage = match stage {
            Stage::Prompt(index) if past(index, &step.prompt_processors) => {
                if let Work::Body(body) = step.work {
                    return enter_body(cursor, body);
                }
                return reach_agent(cursor);
            }
            Stage::Output(index) if past(index, &step.output_processors) => Stage::Plugin(0),
            Stage::Plugin(index) if past(index, &step.plugins) => Stage::Validator(0),
            Stage::Validator(index) if past(index, &step.validators) => {
                let rejections = frame.details.as_ref().map(|details| &details.rejections);
                match rejections.filter(|rejections| !rejections.is_empty()) {
                    None => Stage::Apply,
                    Some(rejections) if step.on_rejection == Rejection::PassOn => {
                        let (rejections, record) = (rejections.clone(), frame.opened.record);
                        if let Some(record) = cursor.record(record) {
                            record.details_mut().rejections = rejections;
                        }
                        return advance(cursor, Stage::Apply);
                    }
                    Some(rejections) => {
                        let text = rejections.join("; ");
                        let failure = Failure::new(FailureKind::Validator, "ValidationError", text);
                        let (node, attempt) = (frame.opened.node, frame.attempt);
                        let failure = cursor.located(failure, FailureKind::Validator, node, attempt);
                        return attempt_failed(cursor, failure);
                    }
                }
            }
            Stage::Apply if frame.lead.is_some() => return reach_apply(cursor),
            Stage::Apply if step.apply.is_none() => return succeed(cursor),
            stage => {
                frame.stage = stage;
                return ask(cursor);
            }
        }
    }
}

/// Asks for what the stage needs.
#[inline]
pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let deadline = cursor.state.deadline;
    let (frame, step) = top!(cursor, Step);
    let node = frame.opened.node;
    let value = |frame: &super::step::StepFrame<D>| Input::Value(frame.value().clone());
    let (role, index, input) = match frame.stage {
        Stage::LookUp => return ask_cache(cursor),
        Stage::Prompt(index) => (Role::PromptProcessor, index, value(frame)),
        Stage::Agent => match frame.redirects().last() {
            Some(redirect) => {
                let (agent, input) = (redirect.agent.clone(), frame.input.clone());
                (Role::Redirect, 0, Input::Redirect { agent, input })
            }
            None => (Role::Agent, 0, value(frame)),
        },
        Stage::Output(index) => (Role::OutputProcessor, index, value(frame)),
        Stage::Plugin(index) => (Role::Plugin, index, value(frame)),
        Stage::Validator(index) => (Role::Validator, index, value(frame)),
        Stage::Apply => (Role::Apply, 0, value(frame)),
        Stage::Persist => {
            let Some(failure) = frame.failure.clone() else {
                return Next::Wait;
            };
            let (attempt, first) = (frame.attempt, frame.opened.record);
            let input = Input::Route {
                failure,
                input: frame.input.clone(),
                first,
            };
            return cursor.call(Ask {
                node,
                role: Role::Persist,
                index: 0,
                input,
                view: None,
                attempt,
                deadline,
            });
        }
        Stage::Reserve => {
            let estimate = frame.estimate(step);
            cursor.state.pending = Pending::Budget;
            cursor.commands.push_back(Command::Reserve { node, estimate });
            return Next::Wait;
        }
        Stage::Admit => {
            let (tokens, deadline) = (frame.estimate(step).tokens, frame.attempt_deadline);
            let agent = frame.rated_agent().cloned();
            return cursor.admit(node, tokens, deadline, agent);
        }
        Stage::Settle => {
            let (estimate, actual) = (
                step.estimate,
                frame
                    .details
                    .as_ref()
                    .map_or(Usage::ZERO, |details| details.spent),
            );
            cursor.state.pending = Pending::Budget;
            cursor.commands.push_back(Command::Settle {
                node,
                estimate,
                actual,
            });
            return Next::Wait;
        }
        Stage::Body | Stage::Backoff | Stage::Fallback(_) => return Next::Wait,
    };
    let ask = Ask {
        node,
        role,
        index,
        input,
        view: frame.view.clone(),
        attempt: frame.attempt,
        deadline: frame.attempt_deadline,
    };
    cursor.call(ask)
}
