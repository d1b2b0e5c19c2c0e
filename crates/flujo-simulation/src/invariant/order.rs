//! The order of records: what stands below a record is what the plan lets it run, in that order, and ends as it may.

use std::ops::Range;
use std::sync::Arc;

use flujo_core::machine::{ExitReason, Role, Status};
use flujo_core::plan::{IterationFailure, Kind, LoopNode, NodeId, StatesNode, StepNode, Work};

use super::{Check, Part, Subject, has_body, status_of};
use crate::{CallEnd, Callable};

/// One time that a part of the pipeline ran below a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) what: What,
    /// Which of the records directly below are its own.
    pub(super) places: Range<usize>,
    pub(super) end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The body of a step, loop, group or branch, a judge with it.
    Body,
    Fallback,
    Router,
    /// With its place.
    State(usize),
}

/// How a part of the pipeline ended, as its records tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
    Stopped(Status),
    /// Its next record never began.
    Open,
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        match status {
            Status::Succeeded => Self::Succeeded,
            Status::Failed => Self::Failed,
            status => Self::Stopped(status),
        }
    }
}

/// Reads the records below one record.
struct Reader<'c, 'a> {
    check: &'c Check<'a>,
    part: &'c Part<'a>,
    children: &'c [u32],
    next: usize,
    runs: Vec<Run>,
}

impl Reader<'_, '_> {
    fn next_node(&self) -> Option<NodeId> {
        let at = *self.children.get(self.next)?;
        Some(self.part.record(at).node)
    }

    fn begins(&self, body: NodeId) -> bool {
        let entry = self.check.entry(body);
        entry.is_some() && entry == self.next_node()
    }

    /// Reads what `node` left behind.
    fn read(&mut self, node: NodeId) -> End {
        match &self.check.plan.node(node).kind {
            Kind::Sequence(children) => {
                for child in children {
                    match self.read(*child) {
                        End::Succeeded => {}
                        end => return end,
                    }
                }
                End::Succeeded
            }
            Kind::Guard(guard) => match self.read(guard.body) {
                End::Failed if self.begins(guard.handler) => self.read(guard.handler),
                end => end,
            },
            _ => {
                let Some(at) = self.children.get(self.next).copied() else {
                    return End::Open;
                };
                let record = self.part.record(at);
                if record.node != node {
                    return End::Open;
                }
                self.next += 1;
                record.status.into()
            }
        }
    }

    fn run(&mut self, what: What, body: NodeId) -> End {
        let from = self.next;
        let end = self.read(body);
        if self.next > from {
            let places = from..self.next;
            self.runs.push(Run { what, places, end });
        }
        end
    }

    fn step(&mut self, step: &StepNode<Callable>) {
        if let Work::Body(body) = step.work {
            while self.begins(body) {
                self.run(What::Body, body);
            }
        }
        if let Some(fallback) = step.fallback {
            self.run(What::Fallback, fallback);
        }
    }

    /// An iteration is the body and, when that has succeeded, the judge.
    fn iterations(&mut self, node: &LoopNode<Callable>) {
        while self.begins(node.body) {
            let from = self.next;
            let mut end = self.read(node.body);
            if let (End::Succeeded, Some(judge)) = (end, node.judge) {
                end = self.read(judge);
            }
            let places = from..self.next;
            self.runs.push(Run {
                what: What::Body,
                places,
                end,
            });
        }
    }

    fn states(&mut self, node: &StatesNode<Callable>) {
        let begins = |reader: &Self| {
            let bodies = node.states.iter().map(|state| state.body);
            bodies
                .enumerate()
                .find_map(|(place, body)| body.filter(|body| reader.begins(*body)).map(|body| (place, body)))
        };
        while let Some((place, body)) = begins(self) {
            self.run(What::State(place), body);
        }
    }
}

impl<'a> Check<'a> {
    /// The first node below `body`, itself included, that has a record.
    pub(super) fn entry(&self, mut body: NodeId) -> Option<NodeId> {
        loop {
            body = match &self.plan.node(body).kind {
                Kind::Sequence(children) => *children.first()?,
                Kind::Guard(guard) => guard.body,
                _ => return Some(body),
            };
        }
    }

    fn reader<'c>(&'c self, part: &'c Part<'a>, children: &'c [u32]) -> Reader<'c, 'a> {
        Reader {
            check: self,
            part,
            children,
            next: 0,
            runs: Vec::new(),
        }
    }

    /// The records at the top of a history are those of its pipeline, and they end as it does.
    pub(super) fn top(&mut self, part: &Part<'a>) {
        let mut reader = self.reader(part, &part.top);
        let end = reader.read(part.body);
        let left = part.top.len() - reader.next;
        let around = status_of(&part.finish.outcome);
        if left > 0 || !agrees(end, around) {
            let what = format!("its records end as {end:?} with {left} more, it as {around:?}");
            self.say(&part.lane, what);
        }
    }

    /// What ran below a record, checked against what may.
    pub(super) fn runs(&mut self, subject: &Subject<'_, 'a>) -> Vec<Run> {
        let children = &subject.part.below[subject.at as usize];
        let mut reader = self.reader(subject.part, children);
        match subject.kind {
            Kind::Step(step) => reader.step(step),
            Kind::Loop(node) => reader.iterations(node),
            Kind::States(node) => reader.states(node),
            Kind::Conditional(node) => {
                let details = subject.record.details.as_ref();
                let key = details.and_then(|details| details.branch.clone());
                let named = |key: &Arc<str>| node.branches.iter().find(|(name, _)| name == key);
                let taken = key.map(|key| named(&key).map(|(_, body)| *body).or(node.default));
                if let Some(Some(body)) = taken {
                    reader.run(What::Body, body);
                }
            }
            Kind::Group(node) if node.inherit.is_none() => {
                reader.run(What::Body, node.body);
            }
            Kind::Parallel(node) => {
                if let Some(router) = &node.router {
                    reader.run(What::Router, router.body);
                }
            }
            _ => {}
        }
        let (read, runs) = (reader.next, reader.runs);
        let wrong = if read < children.len() {
            let stray = subject.part.record(children[read]).node;
            let stray = &self.plan.node(stray).name;
            Some(format!(
                "`{stray}` began where it may not, after {} runs: {:?}",
                runs.len(),
                runs.last()
            ))
        } else {
            ends_wrong(subject, &runs)
        };
        if let Some(wrong) = wrong {
            self.say(&subject.part.lane, format!("below `{}`: {wrong}", subject.name));
        }
        runs
    }
}

/// Whether what is around a part may have ended like this. What is around a part that succeeded or failed may yet have
/// been stopped, never the other way round.
fn agrees(end: End, around: Status) -> bool {
    match end {
        End::Succeeded => true,
        End::Failed | End::Open => around != Status::Succeeded,
        End::Stopped(status) => status == around,
    }
}

fn ends_wrong(subject: &Subject<'_, '_>, runs: &[Run]) -> Option<String> {
    let status = subject.record.status;
    let attempts = subject.record.attempts as usize;
    let last = runs.last();
    if let Some(before) = runs.len().checked_sub(1).map(|last| &runs[..last])
        && let Some(stopped) = before
            .iter()
            .find(|run| matches!(run.end, End::Stopped(_) | End::Open))
    {
        return Some(format!("{stopped:?} is followed by another run"));
    }
    if let Some(Run {
        end: End::Stopped(stopped),
        ..
    }) = last
        && *stopped != status
    {
        return Some(format!("the last run is {stopped:?}, it is {status:?}"));
    }
    let succeeded = last.is_some_and(|run| run.end == End::Succeeded);
    let wrong = match subject.kind {
        Kind::Step(step) => {
            let bodies = runs.iter().filter(|run| run.what == What::Body).count();
            let falls_back = last.is_some_and(|run| run.what == What::Fallback);
            let needs = has_body(subject.kind) && !subject.hit() || falls_back;
            (subject.succeeded() && (needs && !succeeded || falls_back != subject.fallback().is_some()))
                || bodies > attempts
                || step.fallback.is_none() && falls_back
        }
        Kind::Loop(node) => return loop_wrong(subject, node, runs),
        Kind::States(node) => {
            let is_end = |run: &&Run| matches!(run.what, What::State(place) if node.states[place].end);
            let ended = runs.iter().position(|run| is_end(&run)).map(|place| place + 1);
            let empty_end = attempts == runs.len() + 1;
            let ends_well = succeeded && (empty_end || last.is_some_and(|run| is_end(&run)));
            ended.is_some_and(|ended| ended < runs.len())
                || !(attempts == runs.len() || empty_end)
                // The first state may be an end that does nothing.
                || (subject.succeeded() && !ends_well && !(runs.is_empty() && empty_end))
        }
        Kind::Parallel(node) => {
            let lanes = !subject.record.lanes().is_empty();
            node.router.is_some() && (subject.succeeded() || lanes) && !succeeded
        }
        Kind::Conditional(_) => subject.succeeded() && !succeeded,
        Kind::Group(node) if node.inherit.is_none() => subject.succeeded() && !succeeded,
        _ => false,
    };
    wrong.then(|| format!("{runs:?} do not make it {status:?} after {attempts} attempts"))
}

fn loop_wrong(subject: &Subject<'_, '_>, node: &LoopNode<Callable>, runs: &[Run]) -> Option<String> {
    let attempts = subject.record.attempts as usize;
    let details = subject.record.details.as_ref();
    let end = details.and_then(|details| details.loop_end);
    // Of a loop that was stopped the first record of the last iteration may be missing.
    let begun = runs.len() == attempts || (end.is_none() && runs.len() + 1 == attempts);
    if !begun || attempts > node.max_loops as usize {
        let most = node.max_loops;
        return Some(format!(
            "{} iterations, {attempts} are counted, at most {most} are allowed",
            runs.len()
        ));
    }
    let failed = runs.iter().rev().skip(1).any(|run| run.end == End::Failed);
    if failed && node.on_failure == IterationFailure::Stop {
        return Some("another iteration follows one that failed".to_owned());
    }
    let Some(end) = end else {
        // It was stopped, which one that failed may have been by a part that cannot work.
        return subject
            .succeeded()
            .then(|| "it does not say why it ended".to_owned());
    };
    let last = runs.last().map(|run| run.end);
    let exits: Vec<CallEnd> = subject
        .calls
        .iter()
        .filter(|call| call.role == Role::Exit)
        .filter_map(|call| call.end)
        .collect();
    let good = runs.iter().filter(|run| run.end == End::Succeeded).count();
    let done = exits.last() == Some(&CallEnd::Decided(true));
    let went_on = exits.iter().rev().skip(1);
    let sound = end.iterations as usize == attempts
        && exits.len() == good
        && went_on.into_iter().all(|exit| *exit == CallEnd::Decided(false))
        && match end.reason {
            ExitReason::Condition => done,
            ExitReason::LoopOutputMapperError => done && !subject.succeeded(),
            ExitReason::MaxLoops => attempts == node.max_loops as usize && !done && !subject.succeeded(),
            ExitReason::BodyStepError => last == Some(End::Failed) && !subject.succeeded(),
            ExitReason::ExitConditionError => last == Some(End::Succeeded) && !done,
            ExitReason::InitialInputMapperError => attempts == 0 && !subject.succeeded(),
            ExitReason::IterationInputMapperError | ExitReason::Deadline => !done && !subject.succeeded(),
        };
    (!sound).then(|| format!("{end:?} after {exits:?}, {runs:?}"))
}
