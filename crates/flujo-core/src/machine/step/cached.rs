//! A step whose results are kept: before its first attempt a result is looked for, and one that the step makes is put
//! where others find it. What is kept is the final output of an attempt that succeeded and that wrote nothing; the
//! step's own writes (`apply`) are made from the output, whether it was found or made.

use std::sync::Arc;

use super::end::{give_up, succeed};
use super::{Made, Stage, advance, ask, begin_attempt};
use crate::cache::Uncached;
use crate::machine::cursor::{Cursor, Next};
use crate::machine::fault::{Fault, is_planted};
use crate::machine::frame::top;
use crate::machine::{
    CacheGet, CacheLead, CachePut, CacheTicket, CallId, Command, Domain, NoticeKind, Pending,
};
use crate::usage::Usage;

/// Looks for a result that was made before.
pub(super) fn look_up<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    if cursor.too_late() {
        return begin_attempt(cursor);
    }
    let (frame, _) = top!(cursor, Step);
    frame.stage = Stage::LookUp;
    ask_cache(cursor)
}

pub(super) fn ask_cache<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let call = CallId(cursor.next_id());
    let (frame, _) = top!(cursor, Step);
    let get = CacheGet {
        call,
        node: frame.opened.node,
        input: frame.input.clone(),
        context: cursor.state.context.clone(),
        deadline: cursor.state.deadline,
    };
    cursor.state.pending = Pending::Call(call);
    cursor.commands.push_back(Command::CacheGet(get));
    Next::Wait
}

/// A result was found: the step ends with it, once its own writes are made.
pub(super) fn hit<D: Domain>(cursor: &mut Cursor<'_, D>, output: D::Object, saved: Usage) -> Next<D> {
    let deadline = cursor.state.deadline;
    if deadline.is_some_and(|deadline| cursor.state.now > deadline) {
        return late(cursor);
    }
    let (frame, _) = top!(cursor, Step);
    let opened = frame.opened;
    frame.attempt_deadline = deadline;
    frame.made = Made::Value(output);
    if let Some(record) = cursor.record(opened.record) {
        record.details_mut().saved = Some(saved);
    }
    cursor.notify(NoticeKind::CacheHit(saved), opened.node, opened.record, 0);
    advance(cursor, Stage::Apply)
}

/// There is no result, or none was found in time: the step runs, if there is time to.
pub(super) fn miss<D: Domain>(cursor: &mut Cursor<'_, D>, lead: Option<CacheLead<D>>) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    frame.lead = lead.map(Box::new);
    if cursor.too_late() {
        return late(cursor);
    }
    begin_attempt(cursor)
}

/// The step's time was over before its first attempt.
fn late<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let node = frame.opened.node;
    let failure = Arc::new(cursor.late(node, 0));
    let (frame, _) = top!(cursor, Step);
    frame.failure = Some(failure);
    give_up(cursor)
}

/// The output is final, and only the step's own writes are left to make. A result whose attempt wrote something by other
/// ways, or that was rejected and passed on, would not be the same when it is found: it is not kept.
pub(super) fn reach_apply<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, step) = top!(cursor, Step);
    let base = &cursor.state.context;
    let wrote = frame
        .view
        .as_ref()
        .is_some_and(|view| !D::is_unwritten(base, view));
    let rejected = frame
        .details
        .as_ref()
        .is_some_and(|details| !details.rejections.is_empty());
    let applies = step.apply.is_some();
    if (wrote && !is_planted(Fault::WrittenResultKept)) || rejected {
        let reason = if wrote {
            Uncached::Wrote
        } else {
            Uncached::Rejected
        };
        let lead = frame.take_lead();
        cursor.release(lead, reason);
    } else {
        // What the step's own writes read is nothing that its output depends on.
        frame.view = None;
    }
    if !applies {
        return succeed(cursor);
    }
    let (frame, _) = top!(cursor, Step);
    frame.stage = Stage::Apply;
    ask(cursor)
}

/// Hands over the result of a step that has succeeded.
pub(super) fn keep<D: Domain>(cursor: &mut Cursor<'_, D>, ticket: CacheTicket, output: &D::Object) {
    let Some(opened) = cursor.state.stack.last().and_then(crate::machine::Frame::opened) else {
        return;
    };
    let usage = cursor
        .record(opened.record)
        .map_or(Usage::ZERO, |record| record.usage);
    cursor.commands.push_back(Command::CachePut(CachePut {
        ticket,
        node: opened.node,
        output: output.clone(),
        usage,
    }));
}
