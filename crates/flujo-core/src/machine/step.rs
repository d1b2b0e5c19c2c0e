//! A step's whole life: prompt processors → agent → output processors → plugins → validators → context → success, with
//! retries, backoff, time limits and a fallback.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply, nanoseconds};
use super::fault::{Fault, is_planted};
use super::frame::{Frame, Opened, top};
use super::{
    Answer, Command, Completion, Domain, Failure, FailureKind, Held, Input, LimitBreach, LimitKind,
    NoticeKind, Pending, RetryAdvice, Role, Stop, Time, retry,
};
use crate::plan::{NodeId, Rejection, StepNode, Work};
use crate::usage::{Usage, UsageLimits};

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
    /// The agents that plugins have asked for in this attempt.
    redirects: Vec<Redirect<D::Object>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Redirect<O> {
    agent: O,
    identity: u64,
    unpriced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Prompt(u32),
    Reserve,
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
    pub(super) fn visit(&self, visit: &mut dyn FnMut(Held<'_, D>)) {
        visit(Held::Object(&self.input));
        if let Made::Value(value) = &self.made {
            visit(Held::Object(value));
        }
        if let Some(view) = &self.view {
            visit(Held::Context(view));
        }
        if let Some(outer) = self.details.as_ref().and_then(|details| details.outer.as_ref()) {
            visit(Held::Context(outer));
        }
        for redirect in self.redirects() {
            visit(Held::Object(&redirect.agent));
        }
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

    /// Whether something is reserved for the agent's call: while it is under way, and when the budget has just granted
    /// it.
    pub(super) fn holds_reservation(&self, granted: bool) -> bool {
        self.stage == Stage::Agent || (self.stage == Stage::Reserve && granted)
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
    }));
    begin_attempt(cursor)
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
    if let Some(record) = cursor.record(opened.record) {
        record.attempts = attempt;
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
            Stage::Apply if step.apply.is_none() => return succeed(cursor),
            stage => {
                frame.stage = stage;
                return ask(cursor);
            }
        }
    }
}

/// Begins the part of the pipeline that does the step's work, in a context of its own: what it writes becomes part of
/// the attempt's when it succeeds.
fn enter_body<D: Domain>(cursor: &mut Cursor<'_, D>, body: NodeId) -> Next<D> {
    let (frame, step) = top!(cursor, Step);
    frame.stage = Stage::Body;
    cursor.state.limited += u32::from(step.limits.is_some());
    let input = frame.value().clone();
    let inner = frame
        .view
        .take()
        .unwrap_or_else(|| D::fork(&cursor.state.context));
    let attempt_deadline = frame.attempt_deadline;
    let details = frame.details_mut();
    details.outer = Some(std::mem::replace(&mut cursor.state.context, inner));
    details.outer_deadline = std::mem::replace(&mut cursor.state.deadline, attempt_deadline);
    Next::Enter(body, input)
}

/// The part of the pipeline that does the step's work has ended.
fn body_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let now = cursor.state.now;
    let (frame, step) = top!(cursor, Step);
    let (opened, attempt) = (frame.opened, frame.attempt);
    let attempt_deadline = frame.attempt_deadline;
    if let Some(details) = &mut frame.details
        && let Some(outer) = details.outer.take()
    {
        cursor.state.deadline = details.outer_deadline.take();
        frame.view = Some(std::mem::replace(&mut cursor.state.context, outer));
    }
    let failure = match completion {
        Completion::Success(output) => {
            frame.made = Made::Value(output);
            let late = attempt_deadline.is_some_and(|deadline| now > deadline);
            late.then(|| cursor.late(opened.node, attempt))
        }
        Completion::Failed(cause)
            if cause.root().kind == FailureKind::Deadline
                && attempt_deadline.is_some_and(|deadline| now >= deadline) =>
        {
            (frame.view, frame.made) = (None, Made::Nothing);
            Some(cursor.late(opened.node, attempt))
        }
        Completion::Failed(cause) => {
            (frame.view, frame.made) = (None, Made::Nothing);
            let mut failure = Failure::clone(&cause);
            failure.retry = cause.root().retry;
            Some(failure)
        }
        Completion::Stopped(_) => {
            cursor.state.limited -= u32::from(step.limits.is_some());
            cursor.close(opened, &completion);
            return Next::Return(completion);
        }
    };
    if step.limits.is_some() {
        let breach = cursor.passed();
        cursor.state.limited -= 1;
        if let Some(breach) = breach {
            return stop_at_limit(cursor, breach, failure);
        }
    }
    match failure {
        Some(failure) => attempt_failed(cursor, failure),
        None => advance(cursor, Stage::Output(0)),
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

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let now = cursor.state.now;
    let (frame, _) = top!(cursor, Step);
    let (stage, node, record, attempt) = (frame.stage, frame.opened.node, frame.opened.record, frame.attempt);
    match reply {
        Reply::Answer(answer, view) => {
            if view.is_some() {
                frame.view = view;
            }
            if frame.attempt_deadline.is_some_and(|deadline| now > deadline) && stage != Stage::Persist {
                let usage = match answer {
                    Answer::Value { usage, .. } => usage,
                    _ => Usage::ZERO,
                };
                return timed_out(cursor, usage);
            }
            answered(cursor, stage, answer)
        }
        Reply::TimedOut(usage) => timed_out(cursor, usage),
        Reply::Failed(failure, usage) => {
            if !is_planted(Fault::RetryUsageLost) {
                cursor.spend(record, usage);
            }
            let kind = match stage {
                Stage::Prompt(_) => FailureKind::PromptProcessor,
                Stage::Output(_) => FailureKind::OutputProcessor,
                Stage::Plugin(_) => FailureKind::Plugin,
                Stage::Validator(_) => FailureKind::Validator,
                Stage::Apply => FailureKind::Context,
                Stage::Persist => return fail(cursor),
                _ => FailureKind::Agent,
            };
            let mut failure = cursor.located(*failure, kind, node, attempt);
            if matches!(kind, FailureKind::PromptProcessor | FailureKind::Context) {
                failure.retry = RetryAdvice::Never;
            }
            agent_done(cursor, usage, Some(failure))
        }
        Reply::Woke => begin_attempt(cursor),
        Reply::Reserved => match (stage, frame.failure.take()) {
            (Stage::Reserve, _) => advance(cursor, Stage::Agent),
            (_, Some(failure)) => attempt_failed(cursor, Arc::unwrap_or_clone(failure)),
            (_, None) => advance(cursor, Stage::Output(0)),
        },
        Reply::Refused(breach) => {
            let stop = Completion::Stopped(breach.into());
            let (opened, failure) = (frame.opened, frame.failure.take());
            let output = frame.value().clone();
            if stage == Stage::Settle
                && let Some(record) = cursor.record(record)
            {
                match failure {
                    Some(failure) => record.details_mut().attempt_failures.push(failure),
                    None => record.output = Some(output),
                }
            }
            cursor.close(opened, &stop);
            Next::Return(stop)
        }
        Reply::Lane(..) => Next::Wait,
    }
}

fn answered<D: Domain>(cursor: &mut Cursor<'_, D>, stage: Stage, answer: Answer<D>) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let record = frame.opened.record;
    let usage = match answer {
        Answer::Value { value, usage } => {
            frame.made = Made::Value(value);
            cursor.spend(record, usage);
            usage
        }
        Answer::Rejected { feedback } => {
            if let Stage::Validator(index) = stage {
                frame.details_mut().rejections.push(feedback);
                return advance(cursor, Stage::Validator(index + 1));
            }
            let (node, attempt) = (frame.opened.node, frame.attempt);
            let failure = Failure::new(FailureKind::Plugin, "PluginError", feedback);
            let failure = cursor.located(failure, FailureKind::Plugin, node, attempt);
            return attempt_failed(cursor, failure);
        }
        Answer::Redirect {
            agent,
            identity,
            unpriced,
        } => {
            return redirect(
                cursor,
                Redirect {
                    agent,
                    identity,
                    unpriced,
                },
            );
        }
        _ => Usage::ZERO,
    };
    match stage {
        Stage::Prompt(index) => advance(cursor, Stage::Prompt(index + 1)),
        Stage::Agent => agent_done(cursor, usage, None),
        Stage::Output(index) => advance(cursor, Stage::Output(index + 1)),
        Stage::Plugin(index) => advance(cursor, Stage::Plugin(index + 1)),
        Stage::Validator(index) => advance(cursor, Stage::Validator(index + 1)),
        Stage::Apply => succeed(cursor),
        Stage::Persist => {
            let (frame, _) = top!(cursor, Step);
            match frame
                .view
                .take()
                .map(|view| D::commit(&mut cursor.state.context, view))
            {
                Some(Err(_) | Ok(())) | None => fail(cursor),
            }
        }
        Stage::Reserve | Stage::Body | Stage::Settle | Stage::Backoff | Stage::Fallback(_) => Next::Wait,
    }
}

/// After a call of the agent: what it used is settled first when usage is limited.
#[inline]
fn agent_done<D: Domain>(cursor: &mut Cursor<'_, D>, usage: Usage, failure: Option<Failure<D>>) -> Next<D> {
    let limits = cursor.state.options.limits;
    let (frame, step) = top!(cursor, Step);
    if (step.limits.is_some() || cursor.state.limited > 0)
        && frame.stage == Stage::Agent
        && let Some(breach) = cursor.passed()
    {
        return exceeded(cursor, breach, usage, failure);
    }
    let (frame, _) = top!(cursor, Step);
    if limits && frame.stage == Stage::Agent {
        frame.stage = Stage::Settle;
        if !usage.is_zero() || frame.details.is_some() {
            frame.details_mut().spent = usage;
        }
        frame.failure = failure.map(Arc::new);
        return ask(cursor);
    }
    match failure {
        Some(failure) => attempt_failed(cursor, failure),
        None => advance(cursor, Stage::Output(0)),
    }
}

/// Stops the run at a step by which a limit of its own, or of a step around it, was passed; what the passing call gave
/// is kept.
fn exceeded<D: Domain>(
    cursor: &mut Cursor<'_, D>,
    breach: LimitBreach,
    actual: Usage,
    failure: Option<Failure<D>>,
) -> Next<D> {
    let limits = cursor.state.options.limits;
    let (frame, definition) = top!(cursor, Step);
    let (opened, estimate) = (frame.opened, definition.estimate);
    if limits {
        // Nothing waits for the answer: the run stops here.
        cursor.commands.push_back(Command::Settle {
            node: opened.node,
            estimate,
            actual,
        });
    }
    stop_at_limit(cursor, breach, failure)
}

fn stop_at_limit<D: Domain>(
    cursor: &mut Cursor<'_, D>,
    breach: LimitBreach,
    failure: Option<Failure<D>>,
) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let (opened, output) = (frame.opened, frame.value().clone());
    if let Some(record) = cursor.record(opened.record) {
        match failure {
            Some(failure) => record.details_mut().attempt_failures.push(Arc::new(failure)),
            None => record.output = Some(output),
        }
    }
    let stop = Completion::Stopped(Arc::new(breach).into());
    cursor.close(opened, &stop);
    Next::Return(stop)
}

/// The next thing is a call of the agent: it is reserved first when usage is limited, and refused when it has no price
/// where cost is limited by the step or by one around it.
#[inline]
fn reach_agent<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let limits = cursor.state.options.limits;
    let (frame, step) = top!(cursor, Step);
    let limited = step.limits.is_some() || cursor.state.limited > 0;
    frame.stage = if limits { Stage::Reserve } else { Stage::Agent };
    if limited {
        let (opened, estimate) = (frame.opened, frame.estimate(step));
        let unpriced = |limits: &UsageLimits, _| limits.needs_price_of(estimate).then_some(LimitKind::Price);
        if let Some(breach) = cursor.breach(unpriced) {
            let stop = Completion::Stopped(Arc::new(breach).into());
            cursor.close(opened, &stop);
            return Next::Return(stop);
        }
    }
    ask(cursor)
}

fn timed_out<D: Domain>(cursor: &mut Cursor<'_, D>, usage: Usage) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let (node, record, attempt) = (frame.opened.node, frame.opened.record, frame.attempt);
    if frame.stage == Stage::Persist {
        return fail(cursor);
    }
    cursor.spend(record, usage);
    let failure = cursor.late(node, attempt);
    agent_done(cursor, usage, Some(failure))
}

/// A plugin asked for another agent. The agents that have been asked for in this attempt are held, so that the same
/// identity is the same object.
fn redirect<D: Domain>(cursor: &mut Cursor<'_, D>, redirect: Redirect<D::Object>) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let seen = |other: &Redirect<D::Object>| other.identity == redirect.identity;
    if frame.redirects().iter().any(seen) {
        let (opened, attempt) = (frame.opened, frame.attempt);
        let name = &cursor.plan.node(opened.node).name;
        let message = format!(
            "a plugin of step `{name}` redirects to an agent that has already run in this attempt: let it redirect to \
             another agent, or reject the output"
        );
        let failure = Failure::new(FailureKind::Plugin, "InfiniteRedirectError", message).permanent();
        let failure = cursor.located(failure, FailureKind::Plugin, opened.node, attempt);
        let stop = Completion::Stopped(Stop::Fatal(Arc::new(failure)));
        cursor.close(opened, &stop);
        return Next::Return(stop);
    }
    frame.details_mut().redirects.push(redirect);
    reach_agent(cursor)
}

#[inline]
fn succeed<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let (opened, attempt) = (frame.opened, frame.attempt);
    if let Some(view) = frame.view.take()
        && let Err(failure) = D::commit(&mut cursor.state.context, view)
    {
        let failure = cursor
            .located(failure, FailureKind::Context, opened.node, attempt)
            .permanent();
        return attempt_failed(cursor, failure);
    }
    let (frame, _) = top!(cursor, Step);
    let output = match std::mem::replace(&mut frame.made, Made::Nothing) {
        Made::Value(value) => value,
        Made::Nothing => frame.input.clone(),
    };
    let completion = Completion::Success(output);
    cursor.close(opened, &completion);
    Next::Return(completion)
}

/// The attempt failed: another one, now or later, else the fallback, else the step has failed.
fn attempt_failed<D: Domain>(cursor: &mut Cursor<'_, D>, failure: Failure<D>) -> Next<D> {
    let failure = Arc::new(failure);
    let (now, deadline, seed) = (cursor.state.now, cursor.state.deadline, cursor.state.options.seed);
    let (frame, step) = top!(cursor, Step);
    frame.failure = Some(Arc::clone(&failure));
    let (opened, attempt) = (frame.opened, frame.attempt);
    if is_planted(Fault::FailedAttemptCommitted)
        && let Some(view) = frame.view.take()
    {
        let _ = D::commit(&mut cursor.state.context, view);
    }
    if let Some(record) = cursor.record(opened.record) {
        record.details_mut().attempt_failures.push(Arc::clone(&failure));
    }
    cursor.notify(
        NoticeKind::AttemptFailed(Arc::clone(&failure)),
        opened.node,
        opened.record,
        attempt,
    );
    if failure.retry != RetryAdvice::Never && attempt <= step.policy.max_retries && !cursor.too_late() {
        let lane = cursor.state.lane.as_deref();
        let wait = retry::wait(&step.policy, failure.retry, attempt, seed, lane, opened.node);
        let until = now.saturating_add(wait);
        if wait == 0 {
            return begin_attempt(cursor);
        }
        if deadline.is_none_or(|deadline| until < deadline) {
            let (frame, _) = top!(cursor, Step);
            frame.stage = Stage::Backoff;
            frame.view = None;
            return cursor.sleep(until);
        }
    }
    give_up(cursor)
}

fn give_up<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let too_late = cursor.too_late();
    let next_record = u32::try_from(cursor.state.history.records.len()).unwrap_or(u32::MAX);
    let (frame, step) = top!(cursor, Step);
    frame.view = None;
    let (opened, attempt) = (frame.opened, frame.attempt);
    match step.fallback {
        Some(fallback) if !too_late && !is_planted(Fault::FallbackSkipped) => {
            frame.stage = Stage::Fallback(next_record);
            let input = frame.input.clone();
            cursor.notify(NoticeKind::FallbackStarted, opened.node, opened.record, attempt);
            Next::Enter(fallback, input)
        }
        _ => persist_then_fail(cursor),
    }
}

fn persist_then_fail<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, step) = top!(cursor, Step);
    if step.persist.is_none() {
        return fail(cursor);
    }
    frame.stage = Stage::Persist;
    ask(cursor)
}

fn fail<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, step) = top!(cursor, Step);
    let opened = frame.opened;
    let Some(failure) = frame.failure.clone() else {
        return Next::Wait;
    };
    let rejected = matches!(failure.root().kind, FailureKind::Validator | FailureKind::Plugin)
        && step.on_rejection != Rejection::Discard;
    let output = match &frame.made {
        Made::Value(value) if rejected => Some(value.clone()),
        _ => None,
    };
    if let Some(record) = cursor.record(opened.record) {
        record.output = output;
    }
    let completion = Completion::Failed(failure);
    cursor.close(opened, &completion);
    Next::Return(completion)
}

/// The step's body or its fallback has ended.
pub(super) fn child_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    if frame.stage == Stage::Body {
        return body_finished(cursor, completion);
    }
    let (opened, attempt) = (frame.opened, frame.attempt);
    let (Stage::Fallback(fallback), Some(primary)) = (frame.stage, frame.failure.clone()) else {
        return Next::Return(completion);
    };
    if let Some(record) = cursor.record(opened.record) {
        record.details_mut().fallback = Some((fallback, Arc::clone(&primary)));
    }
    match completion {
        Completion::Failed(second) => {
            let mut failure = both_failed(&primary, &second);
            failure.step = Arc::clone(&cursor.plan.node(opened.node).name);
            failure.attempt = attempt;
            let (frame, _) = top!(cursor, Step);
            frame.failure = Some(Arc::new(failure));
            persist_then_fail(cursor)
        }
        completion => {
            cursor.close(opened, &completion);
            Next::Return(completion)
        }
    }
}

/// Of a long chain of fallbacks a failure holds this many errors: the first and the last ones.
const CHAIN: usize = 8;

/// The failure of a step whose fallback failed too. Fallbacks of fallbacks, and of parts that had some, give a list of
/// errors, not a chain of causes, so that their number costs neither long texts nor deep nesting.
pub(super) fn both_failed<D: Domain>(primary: &Arc<Failure<D>>, second: &Arc<Failure<D>>) -> Failure<D> {
    let flat = |failure: &Arc<Failure<D>>| {
        let inner = Failure::inside(Arc::clone(failure));
        match inner.kind {
            FailureKind::Fallback => inner.causes.clone(),
            _ => vec![Arc::clone(failure)],
        }
    };
    let mut causes = flat(primary);
    causes.extend(flat(second));
    causes.drain(1..causes.len().saturating_sub(CHAIN - 1).max(1));
    let mut message = String::new();
    for (place, error) in causes.iter().enumerate() {
        message.push_str(if place == 0 {
            "Original error: "
        } else {
            "; Fallback error: "
        });
        message.push_str(&error.to_string());
    }
    let mut failure =
        Failure::new(FailureKind::Fallback, Arc::clone(&primary.error_type), message).permanent();
    failure.error.clone_from(&primary.error);
    failure.causes = causes;
    failure
}
