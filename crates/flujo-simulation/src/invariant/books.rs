//! The books: usage is the sum of what the calls used, at every level; nothing is left under way or reserved; each record
//! is told of once when it begins and once when it ends.

use std::collections::BTreeMap;

use flujo_core::machine::{NoticeKind, Outcome, Stop};
use flujo_core::plan::Kind;
use flujo_core::usage::Usage;

use super::{Begun, Check, Part, Subject};
use crate::trace::place;

/// What was told of one record.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    begun: u32,
    ended: u32,
    paused: u32,
    resumed: u32,
    out_of_turn: u32,
}

impl<'a> Check<'a> {
    pub(super) fn nothing_left(&mut self) {
        let trace = &self.ran.trace;
        if trace.left_calls + trace.left_lanes > 0 {
            let what = format!(
                "{} calls and {} lanes outlive it",
                trace.left_calls, trace.left_lanes
            );
            self.say("", what);
        }
        if !self.ran.budget.reserved().is_zero() {
            self.say("", format!("{:?} stays reserved", self.ran.budget.reserved()));
        }
        let told: Usage = trace.calls.iter().map(|call| call.usage).sum();
        if told != self.ran.finish.usage {
            self.say(
                "",
                format!("its calls used {told:?}, it counts {:?}", self.ran.finish.usage),
            );
        }
        let late = trace
            .cancelled_at
            .and_then(|at| trace.calls.iter().find(|call| call.started > at));
        if let (Some(call), Outcome::Stopped(Stop::Cancelled)) = (late, &self.ran.finish.outcome) {
            self.say("", format!("{:?} is called after it was cancelled", call.node));
        }
    }

    /// What a run or lane used is what the steps at its top used.
    pub(super) fn sum(&mut self, part: &Part<'a>) {
        let top: Usage = part.top.iter().map(|at| part.record(*at).usage).sum();
        if top != part.finish.usage {
            self.say(
                &part.lane,
                format!("its steps used {top:?}, it counts {:?}", part.finish.usage),
            );
        }
    }

    /// What a record used is what its calls, the records below it and its lanes used.
    pub(super) fn usage(&mut self, subject: &Subject<'_, 'a>) {
        let below = &subject.part.below[subject.at as usize];
        let below = below.iter().map(|child| subject.part.record(*child).usage);
        let lanes = subject.record.lanes().iter();
        let lanes = lanes.filter_map(|lane| Some(lane.finish.as_ref()?.usage));
        let calls = subject.calls.iter().map(|call| call.usage);
        let used: Usage = calls.chain(below).chain(lanes).sum();
        if used != subject.record.usage {
            let (name, said) = (subject.name, subject.record.usage);
            self.say(
                &subject.part.lane,
                format!("`{name}` used {used:?}, its record says {said:?}"),
            );
        }
    }

    /// When each attempt and each record began.
    pub(super) fn beginnings(&mut self) {
        for (turn, told) in self.ran.trace.notices.iter().enumerate() {
            let of = (place(told.lane.as_deref()), told.notice.record);
            match told.notice.kind {
                NoticeKind::AttemptStarted => {
                    let at = told.notice.at;
                    self.attempts.entry(of).or_default().push(Begun { turn, at });
                }
                NoticeKind::StepStarted => drop(self.begun.insert(of, turn)),
                _ => {}
            }
        }
    }

    /// Each record is told of once when it begins and once when it ends, and between them each attempt and pause.
    pub(super) fn notices(&mut self) {
        let mut all: BTreeMap<(String, u32), Told> = BTreeMap::new();
        for notice in &self.ran.trace.notices {
            let lane = place(notice.lane.as_deref());
            let told = all.entry((lane, notice.notice.record)).or_default();
            let open = (told.begun, told.ended) == (1, 0);
            match notice.notice.kind {
                NoticeKind::StepStarted => told.begun += 1,
                NoticeKind::StepFinished | NoticeKind::StepFailed(_) | NoticeKind::StepStopped { .. } => {
                    told.ended += 1;
                }
                NoticeKind::Paused if open => told.paused += 1,
                NoticeKind::Resumed if open => told.resumed += 1,
                _ if open => {}
                _ => told.out_of_turn += 1,
            }
        }
        for ((lane, record), told) in all {
            let asked = self.pauses.get(&(lane.clone(), record)).map_or(0, Vec::len);
            let paused = u32::try_from(asked).unwrap_or(u32::MAX);
            let resumed = told.resumed <= told.paused && told.paused <= told.resumed + 1;
            if (told.begun, told.ended, told.out_of_turn) != (1, 1, 0) || told.paused != paused || !resumed {
                self.say(
                    &lane,
                    format!("record {record}, which asked {asked} times, is told of like this: {told:?}"),
                );
            }
        }
    }

    /// Attempts are counted as they are told.
    pub(super) fn attempts_told(&mut self, subject: &Subject<'_, 'a>) {
        let key = (subject.part.lane.clone(), subject.at);
        let told = self.attempts.get(&key).map_or(0, Vec::len);
        if matches!(subject.kind, Kind::Step(_)) && told != subject.record.attempts as usize {
            let (name, counted) = (subject.name, subject.record.attempts);
            self.say(
                &subject.part.lane,
                format!("`{name}` told of {told} attempts, its record of {counted}"),
            );
        }
    }
}
