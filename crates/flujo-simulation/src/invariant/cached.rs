//! Results from the cache: a step looks once before its first attempt, makes none when it was given a result, and puts what
//! it made only when it succeeded by itself and wrote nothing on the way; whoever is to make a result does, or says that it
//! doesn't, and nobody else makes it at that time.

use flujo_core::machine::Role;
use flujo_core::plan::Kind;

use super::{Check, Subject};
use crate::CallEnd;
use crate::trace::{CallTrace, LookEnd, place};

impl<'a> Check<'a> {
    pub(super) fn cache(&mut self) {
        let trace = &self.ran.trace;
        for (times, what) in [
            (
                trace.double_leads as usize,
                "results are made twice at the same time",
            ),
            (
                trace.strange_tickets as usize,
                "results are put or released that nobody was to make",
            ),
            (
                trace.left_leads,
                "results are still to be made, or looked for, when all has ended",
            ),
        ] {
            if times > 0 {
                self.say("", format!("{times} {what}"));
            }
        }
    }

    pub(super) fn cached(&mut self, subject: &Subject<'_, 'a>) {
        let Kind::Step(step) = subject.kind else { return };
        let of = |lane: &str, record| lane == subject.part.lane && record == Some(subject.at);
        let trace = &self.ran.trace;
        let looks = trace
            .looks
            .iter()
            .filter(|look| of(&place(look.lane.as_deref()), look.record));
        let ends: Vec<_> = looks.map(|look| look.end).collect();
        let puts = trace
            .puts
            .iter()
            .filter(|put| of(&place(put.lane.as_deref()), put.record))
            .count();
        let (record, hit) = (subject.record, subject.hit());
        let wrote = |call: &&CallTrace| {
            call.attempt == record.attempts
                && call.role != Role::Apply
                && !call.wrote.is_empty()
                && call.end == Some(CallEnd::Answered)
        };
        let wrong = if step.cache.is_none() {
            (!ends.is_empty() || puts > 0 || hit).then_some("uses the cache undeclared")
        } else if ends.len() > 1 {
            Some("looks for a result more than once")
        } else if hit && (ends != [Some(LookEnd::Hit)] || record.attempts > 0 || puts > 0) {
            Some("was given a result and worked all the same")
        } else if hit
            && subject
                .calls
                .iter()
                .any(|call| !matches!(call.role, Role::Apply | Role::Persist))
        {
            Some("was given a result and called more than what writes it")
        } else if record.attempts > 0 && matches!(ends.as_slice(), [Some(LookEnd::Hit)]) {
            Some("worked although there was a result")
        } else if puts > 0 && (!subject.succeeded() || record.attempts == 0 || subject.fallback().is_some()) {
            Some("put a result it did not make")
        } else if puts > 0 && subject.calls.iter().any(wrote) {
            Some("put a result although it wrote more than that")
        } else if puts > 0 && !matches!(ends.as_slice(), [Some(LookEnd::Led(_))]) {
            Some("put a result that it was not to make")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            let name = subject.name;
            self.say(
                &subject.part.lane,
                format!("`{name}` {wrong}: {ends:?}, {puts} put"),
            );
        }
    }
}
