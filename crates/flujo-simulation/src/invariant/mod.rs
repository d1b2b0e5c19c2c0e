//! What must hold for every run, whatever the case: nothing is left under way, the books are balanced at every level,
//! records and calls stand in the order that the plan gives them, what failed leaves no trace in the context, deadlines
//! hold, lanes stand in declared order, siblings of a failed lane are stopped, and questions are asked once.

mod books;
mod cached;
mod calls;
mod context;
mod lanes;
mod order;
mod questions;

use std::collections::{BTreeMap, BTreeSet};

use flujo_core::machine::{Finish, Outcome, Record, Role, Status, Stop, Time};
use flujo_core::plan::{Kind, NodeId, Plan, Work};

use crate::trace::{CallTrace, PauseTrace, place};
use crate::{Callable, Ran, Simulated};

/// What does not hold, in words; empty for a sound run.
pub fn broken(plan: &Plan<Callable>, ran: &Ran) -> Vec<String> {
    let mut check = Check::new(plan, ran);
    check.nothing_left();
    check.cache();
    check.histories();
    check.notices();
    check.context();
    check.broken
}

struct Check<'a> {
    plan: &'a Plan<Callable>,
    ran: &'a Ran,
    /// Calls by lane and record, hooks left aside.
    calls: BTreeMap<(String, u32), Vec<&'a CallTrace>>,
    /// Questions by lane and record, each as often as it was asked.
    pauses: BTreeMap<(String, u32), Vec<&'a PauseTrace>>,
    /// When each attempt of a record began.
    attempts: BTreeMap<(String, u32), Vec<Begun>>,
    /// After how many notices each record began.
    begun: BTreeMap<(String, u32), usize>,
    lane_ends: BTreeMap<String, Time>,
    hooks: bool,
    /// Fields whose writes may be in the final context, and those that must be.
    allowed: BTreeSet<&'a str>,
    required: BTreeSet<&'a str>,
    broken: Vec<String>,
}

/// The beginning of an attempt.
struct Begun {
    /// How many notices came before it.
    turn: usize,
    at: Time,
}

/// What becomes of writes into a context: whether the final context may hold them, and whether it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    may: bool,
    must: bool,
}

impl Kept {
    fn only_if(self, may: bool, must: bool) -> Self {
        Self {
            may: self.may && may,
            must: self.must && must,
        }
    }
}

/// A history to be checked, with where it stands.
struct Part<'a> {
    finish: &'a Finish<Simulated>,
    lane: String,
    /// What it begins with.
    body: NodeId,
    deadline: Option<Time>,
    kept: Kept,
    /// The places of the records below each record, and of those at the top.
    below: Vec<Vec<u32>>,
    top: Vec<u32>,
}

impl<'a> Part<'a> {
    fn new(
        finish: &'a Finish<Simulated>,
        lane: String,
        body: NodeId,
        deadline: Option<Time>,
        kept: Kept,
    ) -> Self {
        let records = &finish.history.records;
        let (mut below, mut top) = (vec![Vec::new(); records.len()], Vec::new());
        for (at, record) in (0u32..).zip(records) {
            match record.parent.and_then(|parent| below.get_mut(parent as usize)) {
                Some(siblings) => siblings.push(at),
                None => top.push(at),
            }
        }
        Self {
            finish,
            lane,
            body,
            deadline,
            kept,
            below,
            top,
        }
    }

    fn record(&self, at: u32) -> &'a Record<Simulated> {
        &self.finish.history.records[at as usize]
    }
}

/// One record to be checked, with everything known about it.
struct Subject<'p, 'a> {
    part: &'p Part<'a>,
    at: u32,
    record: &'a Record<Simulated>,
    kind: &'a Kind<Callable>,
    name: &'a str,
    calls: Vec<&'a CallTrace>,
    deadline: Option<Time>,
    /// The runs of what is below it, in order.
    runs: Vec<order::Run>,
}

impl Subject<'_, '_> {
    fn succeeded(&self) -> bool {
        self.record.status == Status::Succeeded
    }

    /// Whether its result was found in the cache.
    fn hit(&self) -> bool {
        let details = self.record.details.as_ref();
        details.is_some_and(|details| details.saved.is_some())
    }

    fn fallback(&self) -> Option<u32> {
        let details = self.record.details.as_ref()?;
        Some(details.fallback.as_ref()?.0)
    }
}

impl<'a> Check<'a> {
    fn new(plan: &'a Plan<Callable>, ran: &'a Ran) -> Self {
        let mut calls: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for call in &ran.trace.calls {
            if let Some(record) = call.record {
                let of = (place(call.lane.as_deref()), record);
                calls.entry(of).or_default().push(call);
            }
        }
        let mut pauses: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for pause in &ran.trace.pauses {
            let of = (place(pause.lane.as_deref()), pause.record);
            pauses.entry(of).or_default().push(pause);
        }
        let ends = ran.trace.lane_ends.iter();
        let hook = |call: &CallTrace| matches!(call.role, Role::Hook(_));
        Self {
            plan,
            ran,
            calls,
            pauses,
            attempts: BTreeMap::new(),
            begun: BTreeMap::new(),
            lane_ends: ends.map(|(lane, at)| (place(Some(lane)), *at)).collect(),
            hooks: ran.trace.calls.iter().any(hook),
            allowed: BTreeSet::new(),
            required: BTreeSet::new(),
            broken: Vec::new(),
        }
    }

    fn say(&mut self, lane: &str, what: impl AsRef<str>) {
        let lane = if lane.is_empty() { "the run" } else { lane };
        self.broken.push(format!("in {lane}: {}", what.as_ref()));
    }

    fn histories(&mut self) {
        self.beginnings();
        let whole = Kept {
            may: true,
            must: true,
        };
        let ran = self.ran;
        let root = self.plan.root();
        let mut parts = vec![Part::new(&ran.finish, String::new(), root, ran.deadline, whole)];
        while let Some(part) = parts.pop() {
            self.history(&part, &mut parts);
        }
    }

    fn history(&mut self, part: &Part<'a>, parts: &mut Vec<Part<'a>>) {
        self.top(part);
        self.sum(part);
        let records = &part.finish.history.records;
        // What each record gives to those below it.
        let mut deadlines: Vec<Option<Time>> = vec![part.deadline; records.len()];
        let mut kept: Vec<Kept> = vec![part.kept; records.len()];
        for (at, record) in (0u32..).zip(records) {
            let node = self.plan.node(record.node);
            if record.parent.is_some_and(|parent| parent >= at) {
                self.say(&part.lane, format!("record {at} stands before its parent"));
                return;
            }
            let limit = node.deadline.map(nanoseconds);
            let own = limit.map(|limit| record.started.saturating_add(limit));
            let deadline = deadlines[at as usize].into_iter().chain(own).min();
            let calls = self.calls.get(&(part.lane.clone(), at));
            let mut subject = Subject {
                part,
                at,
                record,
                kind: &node.kind,
                name: &node.name,
                calls: calls.cloned().unwrap_or_default(),
                deadline,
                runs: Vec::new(),
            };
            subject.runs = self.runs(&subject);
            self.own(&subject);
            self.usage(&subject);
            self.cached(&subject);
            self.attempts_told(&subject);
            self.call_order(&subject);
            self.late(&subject);
            self.question(&subject);
            self.lanes(&subject);
            self.writes(&subject, kept[at as usize]);
            for run in &subject.runs {
                let attempt = self.attempt_deadline(&subject, run);
                let inside = context::kept_by(&subject, run, kept[at as usize]);
                for child in &part.below[at as usize][run.places.clone()] {
                    deadlines[*child as usize] = deadline.into_iter().chain(attempt).min();
                    kept[*child as usize] = inside;
                }
            }
            lanes::lanes_below(&subject, kept[at as usize], parts);
        }
    }

    /// A record that contradicts itself.
    fn own(&mut self, subject: &Subject<'_, 'a>) {
        let record = subject.record;
        let sound = match record.status {
            Status::Running => false,
            Status::Succeeded => record.output.is_some() && record.failure.is_none(),
            Status::Failed => record.failure.is_some(),
            Status::Cancelled | Status::LimitExceeded => record.failure.is_none(),
        };
        if !sound || record.ended < record.started {
            let name = subject.name;
            self.say(
                &subject.part.lane,
                format!("the record of `{name}` contradicts itself: {record:?}"),
            );
        }
    }

    /// Nothing begins after its deadline, and what can be ended ends by then.
    fn late(&mut self, subject: &Subject<'_, 'a>) {
        let Some(deadline) = subject.deadline else {
            return;
        };
        let name = subject.name;
        let on_time = |call: &&CallTrace| {
            call.role == Role::Persist
                || (call.started <= deadline
                    && !(call.obeys && call.ended.is_some_and(|ended| ended > deadline)))
        };
        if matches!(subject.kind, Kind::Step(_)) && !subject.calls.iter().all(on_time) {
            self.say(
                &subject.part.lane,
                format!("`{name}` works on after its deadline"),
            );
        }
        let begins_late = |begun: &Begun| begun.at >= deadline;
        let key = (subject.part.lane.clone(), subject.at);
        if self
            .attempts
            .get(&key)
            .is_some_and(|begun| begun.iter().any(begins_late))
        {
            self.say(
                &subject.part.lane,
                format!("`{name}` begins an attempt after its deadline"),
            );
        }
        let repeats = matches!(subject.kind, Kind::Loop(_) | Kind::States(_));
        let first = |run: &order::Run| {
            let children = &subject.part.below[subject.at as usize];
            subject.part.record(children[run.places.start]).started
        };
        // A hook stands between the beginning of an iteration and its first record.
        if repeats && !self.hooks && subject.runs.iter().any(|run| first(run) >= deadline) {
            self.say(
                &subject.part.lane,
                format!("`{name}` begins an iteration or a state after its deadline"),
            );
        }
    }

    /// When a part that does a step's work has to end for the time limit of the attempt.
    fn attempt_deadline(&self, subject: &Subject<'_, 'a>, run: &order::Run) -> Option<Time> {
        let Kind::Step(step) = subject.kind else {
            return None;
        };
        let timeout = step.policy.timeout.map(nanoseconds)?;
        if run.what != order::What::Body {
            return None;
        }
        let children = &subject.part.below[subject.at as usize];
        let first = children[run.places.start];
        let (lane, begins) = (&subject.part.lane, subject.part.record(first).started);
        // Of attempts that began at the very time of the run it is told by what came first, if the run was told of.
        let told = self.begun.get(&(lane.clone(), first));
        let before = |attempt: &&Begun| match told {
            Some(told) => attempt.turn < *told,
            None => attempt.at <= begins,
        };
        let attempts = self.attempts.get(&(lane.clone(), subject.at))?;
        let attempt = attempts.iter().rev().find(before)?;
        Some(attempt.at.saturating_add(timeout))
    }
}

fn nanoseconds(duration: std::time::Duration) -> Time {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether a part of the pipeline does this step's work.
fn has_body(kind: &Kind<Callable>) -> bool {
    matches!(kind, Kind::Step(step) if matches!(step.work, Work::Body(_)))
}

/// How what is around everything at the top ended.
fn status_of(outcome: &Outcome<Simulated>) -> Status {
    match outcome {
        Outcome::Completed(_) => Status::Succeeded,
        Outcome::Failed(_) | Outcome::Stopped(Stop::Fatal(_)) => Status::Failed,
        Outcome::Stopped(Stop::LimitExceeded(_)) => Status::LimitExceeded,
        Outcome::Stopped(_) => Status::Cancelled,
    }
}
