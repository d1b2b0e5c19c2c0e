//! A question to somebody outside. The run, or the lane, stands still until the answer comes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply};
use super::fault::{Fault, is_planted};
use super::frame::{Frame, Opened, top};
use super::held::Visitor;
use super::{
    Answer, Command, Completion, Domain, Failure, FailureKind, HookPoint, Input, NoticeKind, Pause, PauseId,
    Pending, Role,
};
use crate::plan::{HumanNode, NodeId};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct HumanFrame<D: Domain> {
    pub(super) opened: Opened,
    stage: Stage,
    /// What the step was given, then the question, then the answer.
    value: D::Object,
    /// The question and its id, from when it is asked.
    question: Option<(PauseId, D::Object)>,
    /// Why the last answer was not taken.
    rejected: Option<Arc<Failure<D>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Question,
    /// Hooks are being told of the question.
    Tell,
    Wait,
    Default,
    Accept,
    /// The default is checked as an answer is.
    AcceptDefault,
}

impl<D: Domain> HumanFrame<D> {
    /// The question as it is put, once there is one.
    fn pause(&self, definition: &HumanNode<D::Callable>) -> Option<Pause<D>> {
        let (pause, question) = self.question.clone()?;
        Some(Pause {
            pause,
            node: self.opened.node,
            record: self.opened.record,
            question,
            timeout: definition.timeout,
            rejected: self.rejected.clone(),
        })
    }

    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        visit.object(&self.value);
        if let Some((_, question)) = &self.question {
            visit.object(question);
        }
        if let Some(failure) = &self.rejected {
            visit.failure(failure);
        }
    }
}

pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    let opened = cursor.open(node);
    let frame = HumanFrame {
        opened,
        stage: Stage::Question,
        value: input,
        question: None,
        rejected: None,
    };
    cursor.state.stack.push(Frame::Human(Box::new(frame)));
    if cursor.too_late() {
        let failure = cursor.late(node, 0);
        return cursor.fail_top(failure, FailureKind::Deadline);
    }
    if let Some(record) = cursor.record(opened.record) {
        record.attempts = 1;
    }
    ask(cursor)
}

pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let deadline = cursor.state.deadline;
    let (frame, definition) = top!(cursor, Human);
    let node = frame.opened.node;
    let (role, input) = match frame.stage {
        Stage::Question => (Role::Question, Input::Value(frame.value.clone())),
        Stage::Default => (Role::DefaultAnswer, Input::Value(frame.value.clone())),
        Stage::Accept | Stage::AcceptDefault => (Role::Accept, Input::Value(frame.value.clone())),
        Stage::Tell | Stage::Wait => {
            let Some(pause) = frame.pause(definition) else {
                return Next::Wait;
            };
            if frame.stage == Stage::Wait {
                cursor.state.pending = Pending::Pause(pause.pause);
                cursor.commands.push_back(Command::Pause(pause));
                return Next::Wait;
            }
            let point = Role::Hook(HookPoint::PauseRequested);
            (point, Input::Pause(Box::new(pause)))
        }
    };
    cursor.call(Ask {
        node,
        role,
        index: 0,
        input,
        view: None,
        attempt: 0,
        deadline,
    })
}

/// An answer has come, or none in time.
pub(super) fn resumed<D: Domain>(cursor: &mut Cursor<'_, D>, answer: Option<D::Object>) -> Next<D> {
    let (frame, definition) = top!(cursor, Human);
    let opened = frame.opened;
    let has_default = definition.default.is_some();
    let accepts = definition.accept.is_some();
    match answer {
        Some(answer) => {
            frame.value = answer;
            frame.stage = Stage::Accept;
            cursor.notify(NoticeKind::Resumed, opened.node, opened.record, 0);
            if accepts { ask(cursor) } else { answered(cursor) }
        }
        None if has_default => {
            if let Some((_, question)) = &frame.question {
                frame.value = question.clone();
            }
            frame.stage = Stage::Default;
            cursor.notify(NoticeKind::Resumed, opened.node, opened.record, 0);
            ask(cursor)
        }
        None => {
            let limit = definition.timeout.unwrap_or_default();
            let name = &cursor.plan.node(opened.node).name;
            let message = format!(
                "nobody answered the question of step `{name}` within {limit:?}, and it has no default"
            );
            let failure = Failure::new(FailureKind::Timeout, "TimeoutError", message).permanent();
            cursor.fail_top(failure, FailureKind::Timeout)
        }
    }
}

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Human);
    let (opened, stage) = (frame.opened, frame.stage);
    let accepts = definition.accept.is_some();
    if stage == Stage::Tell && !matches!(reply, Reply::TimedOut(_)) {
        return put(cursor);
    }
    let (failure, kind) = match reply {
        Reply::Answer(Answer::Value { value, usage }, view) => {
            cursor.spend(opened.record, usage);
            if let Some(view) = view
                && let Err(failure) = D::commit(&mut cursor.state.context, view)
            {
                return refused(cursor, failure, FailureKind::Context);
            }
            if stage == Stage::Question {
                let pause = PauseId(cursor.next_id());
                let (frame, _) = top!(cursor, Human);
                frame.question = Some((pause, value));
                if cursor.state.options.hooks {
                    let (frame, _) = top!(cursor, Human);
                    frame.stage = Stage::Tell;
                    return ask(cursor);
                }
                return put(cursor);
            }
            let (frame, _) = top!(cursor, Human);
            frame.value = value;
            if stage == Stage::Default && accepts {
                frame.stage = Stage::AcceptDefault;
                return ask(cursor);
            }
            return answered(cursor);
        }
        Reply::Answer(Answer::Rejected { feedback }, _) => (
            Failure::new(FailureKind::Validator, "ValidationError", feedback),
            FailureKind::Validator,
        ),
        Reply::Failed(failure, usage) => {
            cursor.spend(opened.record, usage);
            let kind = match stage {
                Stage::Accept | Stage::AcceptDefault => FailureKind::Validator,
                _ => FailureKind::Agent,
            };
            (*failure, kind)
        }
        Reply::TimedOut(usage) => {
            cursor.spend(opened.record, usage);
            (cursor.late(opened.node, 0), FailureKind::Deadline)
        }
        _ => return Next::Wait,
    };
    refused(cursor, failure, kind)
}

/// An answer that is not taken leaves the question open; nothing else that fails here does.
fn refused<D: Domain>(cursor: &mut Cursor<'_, D>, failure: Failure<D>, kind: FailureKind) -> Next<D> {
    let (frame, _) = top!(cursor, Human);
    if frame.stage != Stage::Accept || kind == FailureKind::Deadline {
        return cursor.fail_top(failure, kind);
    }
    let opened = frame.opened;
    let failure = Arc::new(cursor.located(failure, kind, opened.node, 0));
    let (frame, _) = top!(cursor, Human);
    frame.rejected = Some(failure);
    put(cursor)
}

/// Stands still for an answer.
fn put<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, _) = top!(cursor, Human);
    let opened = frame.opened;
    frame.stage = Stage::Wait;
    cursor.notify(NoticeKind::Paused, opened.node, opened.record, 0);
    ask(cursor)
}

fn answered<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, _) = top!(cursor, Human);
    let output = frame.value.clone();
    if is_planted(Fault::AnsweredAskedAgain) {
        frame.stage = Stage::Wait;
        let _ = ask(cursor);
    }
    cursor.end_top(Completion::Success(output))
}
