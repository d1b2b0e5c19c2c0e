//! What must be true of a story that has been run.

use flujo_core::machine::{
    Failure, FailureKind, Finish, HookPoint, LaneRecord, LimitKind, NoticeKind, Outcome, Record, Role,
    Status, Stop,
};
use flujo_core::plan::Plan;
use flujo_core::usage::Usage;

use super::MILLISECOND;
use crate::{Callable, Object, Ran, Simulated, invariant};

/// A story that has been run. Its methods say what must be true of it.
pub struct Told {
    pub(super) plan: Plan<Callable>,
    /// What was seen.
    pub ran: Ran,
}

impl Told {
    /// The plan.
    pub fn plan(&self) -> &Plan<Callable> {
        &self.plan
    }

    /// The finish.
    pub fn finish(&self) -> &Finish<Simulated> {
        &self.ran.finish
    }

    /// It completed with this output.
    #[track_caller]
    pub fn completed(self, output: impl Into<Object>) -> Self {
        let output = output.into();
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Completed(given) if *given == output),
            "{output} expected: {outcome:?}"
        );
        self.sound()
    }

    /// It failed in this stage.
    #[track_caller]
    pub fn failed(self, kind: FailureKind) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Failed(failure) if failure.kind == kind),
            "{kind:?} expected: {outcome:?}"
        );
        self.sound()
    }

    /// The failure of the run, whatever its stage.
    #[track_caller]
    pub fn failure(&self) -> &Failure<Simulated> {
        match &self.ran.finish.outcome {
            Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => failure,
            outcome => unreachable!("a failure expected: {outcome:?}"),
        }
    }

    /// The failure's text holds this.
    #[track_caller]
    pub fn saying(self, text: &str) -> Self {
        let said = self.failure().to_string();
        assert!(said.contains(text), "{text:?} expected: {said}");
        self
    }

    /// It was cancelled.
    #[track_caller]
    pub fn cancelled(self) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Stopped(Stop::Cancelled)),
            "cancelled expected: {outcome:?}"
        );
        self.sound()
    }

    /// It was aborted.
    #[track_caller]
    pub fn aborted(self) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Stopped(Stop::Aborted(_))),
            "aborted expected: {outcome:?}"
        );
        self.sound()
    }

    /// Its pipeline cannot work.
    #[track_caller]
    pub fn fatal(self) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Stopped(Stop::Fatal(_))),
            "fatal expected: {outcome:?}"
        );
        self.sound()
    }

    /// A token limit was reached, before a call or by one.
    #[track_caller]
    pub fn limit_exceeded(self, refused: bool) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Stopped(Stop::LimitExceeded(breach))
                if breach.which == LimitKind::Tokens && breach.refused == refused),
            "a limit expected: {outcome:?}"
        );
        self.sound()
    }

    /// Nothing was left under way, and the books are balanced: holds for every run.
    #[track_caller]
    pub fn sound(self) -> Self {
        let broken = invariant::broken(&self.plan, &self.ran);
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        self
    }

    /// How often agents of steps of this name were called, in all lanes together.
    #[track_caller]
    pub fn calls(self, step: &str, times: usize) -> Self {
        self.calls_of(step, Role::Agent, times)
    }

    /// How often a callable of this role was called.
    #[track_caller]
    pub fn calls_of(self, node: &str, role: Role, times: usize) -> Self {
        let named = |node| &*self.plan.node(node).name;
        let made = self
            .ran
            .trace
            .calls
            .iter()
            .filter(|call| named(call.node) == node && call.role == role)
            .count();
        assert_eq!(made, times, "calls of {node} as {role:?}");
        self
    }

    /// The run used this many tokens.
    #[track_caller]
    pub fn used(self, tokens: u64) -> Self {
        assert_eq!(
            self.ran.finish.usage,
            Usage {
                tokens,
                ..Usage::ZERO
            },
            "usage of the run"
        );
        self
    }

    /// It ended at this time.
    #[track_caller]
    pub fn ended_at(self, milliseconds: u64) -> Self {
        assert_eq!(self.ran.ended, milliseconds * MILLISECOND, "end of the run");
        self
    }

    /// The final context has this value; null for a field that is not there.
    #[track_caller]
    pub fn context(self, field: &str, value: impl Into<Object>) -> Self {
        let found = self.ran.finish.context.get(field).cloned().unwrap_or_default();
        assert_eq!(found, value.into(), "field {field} of the final context");
        self
    }

    /// The first record of a step of this name, wherever it is.
    #[track_caller]
    pub fn record(&self, name: &str) -> &Record<Simulated> {
        let mut histories = vec![&self.ran.finish.history];
        while let Some(history) = histories.pop() {
            for record in &history.records {
                if &*self.plan.node(record.node).name == name {
                    return record;
                }
                histories.extend(
                    record
                        .lanes()
                        .iter()
                        .filter_map(|lane| Some(&lane.finish.as_ref()?.history)),
                );
            }
        }
        unreachable!("no record of {name}")
    }

    /// The record's status.
    #[track_caller]
    pub fn status(self, name: &str, status: Status) -> Self {
        assert_eq!(self.record(name).status, status, "status of {name}");
        self
    }

    /// The record's attempts.
    #[track_caller]
    pub fn attempts(self, name: &str, attempts: u32) -> Self {
        assert_eq!(self.record(name).attempts, attempts, "attempts of {name}");
        self
    }

    /// The names of the steps that have a record, in order, lanes left aside.
    #[track_caller]
    pub fn history<const N: usize>(self, names: [&str; N]) -> Self {
        let found: Vec<&str> = self
            .ran
            .finish
            .history
            .records
            .iter()
            .map(|record| &*self.plan.node(record.node).name)
            .collect();
        assert_eq!(found, names, "history");
        self
    }

    /// How the lanes of a construct ended: a letter each, `c`ompleted, `f`ailed, `s`topped, `-` for never started.
    #[track_caller]
    pub fn lanes(self, name: &str, letters: &str) -> Self {
        let letter = |lane: &LaneRecord<Simulated>| match lane.finish.as_ref().map(|finish| &finish.outcome) {
            Some(Outcome::Completed(_)) => 'c',
            Some(Outcome::Failed(_)) => 'f',
            Some(Outcome::Stopped(_)) => 's',
            None => '-',
        };
        let found: String = self.record(name).lanes().iter().map(letter).collect();
        assert_eq!(found, letters, "lanes of {name}");
        self
    }

    /// The notices about steps of this name, in order.
    #[track_caller]
    pub fn notices<const N: usize>(self, name: &str, kinds: [&str; N]) -> Self {
        let notices = self
            .ran
            .trace
            .notices
            .iter()
            .filter(|told| &*self.plan.node(told.notice.node).name == name);
        let found: Vec<&str> = notices.map(|told| label(&told.notice.kind)).collect();
        assert_eq!(found, kinds, "notices about {name}");
        self
    }

    /// The hook calls, in order, with the node each is about.
    #[track_caller]
    pub fn hooked<const N: usize>(self, points: [(HookPoint, &str); N]) -> Self {
        let calls = self.ran.trace.calls.iter();
        let found: Vec<(HookPoint, &str)> = calls
            .filter_map(|call| match call.role {
                Role::Hook(point) => Some((point, &*self.plan.node(call.node).name)),
                _ => None,
            })
            .collect();
        assert_eq!(found, points, "hooks");
        self
    }
}

fn label(kind: &NoticeKind<Simulated>) -> &'static str {
    match kind {
        NoticeKind::StepStarted => "started",
        NoticeKind::AttemptStarted => "attempt",
        NoticeKind::AttemptFailed(_) => "attempt failed",
        NoticeKind::CacheHit(_) => "cache hit",
        NoticeKind::FallbackStarted => "fallback",
        NoticeKind::Paused => "paused",
        NoticeKind::Resumed => "resumed",
        NoticeKind::StepFinished => "finished",
        NoticeKind::StepFailed(_) => "failed",
        NoticeKind::StepStopped { .. } => "stopped",
    }
}
