//! The context: what failed attempts, iterations and lanes wrote leaves no trace in it, what the others wrote is there.
//! Fields that start with `w:` are written by nobody but the call they are named after.

use std::collections::BTreeSet;

use flujo_core::machine::Role;
use flujo_core::plan::{IterationFailure, Kind};

use super::order::{End, Run, What};
use super::{Check, Kept, Subject, has_body};
use crate::CallEnd;
use crate::trace::CallTrace;

impl<'a> Check<'a> {
    /// Notes what the record's own calls wrote; `around` is what becomes of writes into the context around it.
    pub(super) fn writes(&mut self, subject: &Subject<'_, 'a>, around: Kept) {
        let (succeeded, attempts) = (subject.succeeded(), subject.record.attempts);
        let by_itself = succeeded && subject.fallback().is_none();
        for call in subject.calls.iter().filter(|call| !call.wrote.is_empty()) {
            let answered = call.end == Some(CallEnd::Answered);
            let kept = match (subject.kind, call.role) {
                (_, Role::Exit | Role::Condition | Role::Inherit) => false,
                (_, Role::Persist) => answered && !succeeded,
                (Kind::Step(_), _) => {
                    // Rejected and redirected calls of an attempt that succeeds wrote into its view too.
                    let rejected = matches!(call.end, Some(CallEnd::Redirected));
                    by_itself && call.attempt == attempts && (answered || rejected)
                }
                _ => answered,
            };
            let kept = around.only_if(kept, kept && succeeded);
            let fields = call.wrote.iter().map(String::as_str);
            if kept.may {
                self.allowed.extend(fields.clone());
            }
            if kept.must {
                self.required.extend(fields);
            }
        }
    }

    /// What is in the final context, and what is not.
    pub(super) fn context(&mut self) {
        let marked = |field: &&str| field.starts_with("w:");
        let found: BTreeSet<&str> = self
            .ran
            .finish
            .context
            .fields()
            .map(|(field, _)| field)
            .filter(marked)
            .collect();
        let leaked: Vec<&str> = found.difference(&self.allowed).copied().collect();
        let lost: Vec<&str> = self
            .required
            .iter()
            .filter(|field| marked(field))
            .filter(|field| !found.contains(*field))
            .copied()
            .collect();
        if !leaked.is_empty() {
            self.say(
                "",
                format!("the context holds what failed attempts or lanes wrote: {leaked:?}"),
            );
        }
        if !lost.is_empty() {
            self.say(
                "",
                format!("the context lacks what successful attempts wrote: {lost:?}"),
            );
        }
    }
}

/// What becomes of writes of a run below the record.
pub(super) fn kept_by(subject: &Subject<'_, '_>, run: &Run, around: Kept) -> Kept {
    let last = subject.runs.last() == Some(run);
    match subject.kind {
        // The body of the attempt that succeeded is the last one.
        Kind::Step(_) if run.what == What::Body => {
            let kept = last && has_body(subject.kind) && subject.succeeded();
            around.only_if(kept, kept)
        }
        Kind::Loop(node) if node.on_failure == IterationFailure::Continue => {
            let good = run.end == End::Succeeded;
            // A run that is stopped right after an iteration may not have taken it over yet.
            let counts = |call: &&CallTrace| call.role == Role::Exit;
            let exits = subject.calls.iter().filter(|call| counts(call)).count();
            let number = subject.runs.iter().filter(|run| run.end == End::Succeeded);
            let over = number.take_while(|other| *other != run).count() < exits;
            around.only_if(good, good && over)
        }
        _ => around,
    }
}

/// What becomes of writes in a lane of the record that ended with this outcome.
pub(super) fn kept_of_lane(subject: &Subject<'_, '_>, completed: bool, around: Kept) -> Kept {
    let answered = |role: Role| {
        let mut calls = subject.calls.iter();
        calls.any(|call| call.role == role && call.end == Some(CallEnd::Answered))
    };
    let taken_over = match subject.kind {
        Kind::Map(node) if node.max_concurrency == 1 => true,
        Kind::Map(_) | Kind::Parallel(_) => answered(Role::Merge),
        Kind::Group(node) => node.collect.is_some() && answered(Role::Collect),
        _ => false,
    };
    let kept = completed && taken_over;
    around.only_if(kept, kept && subject.succeeded())
}
