//! What must hold for every run, whatever the case: nothing is left under way, the books are balanced at every level,
//! failed attempts and lanes leave no trace in the context, deadlines hold, lanes stand in declared order, siblings of
//! a failed lane are stopped, and records agree with one another.

use std::collections::{BTreeMap, BTreeSet};

use flujo_core::machine::{
    Finish, History, LaneRecord, NoticeKind, Outcome, Record, Role, Status, Stop, Time,
};
use flujo_core::plan::{Kind, LaneFailure, Node, NodeId, Plan, StepNode};
use flujo_core::usage::Usage;

use crate::trace::{CallTrace, place};
use crate::{CallEnd, Callable, Object, Ran, Simulated};

/// What does not hold, in words; empty for a sound run.
pub fn broken(plan: &Plan<Callable>, ran: &Ran) -> Vec<String> {
    let mut check = Check::new(plan, ran);
    check.nothing_left();
    check.run();
    check.notices();
    check.context();
    check.broken
}

struct Check<'a> {
    plan: &'a Plan<Callable>,
    ran: &'a Ran,
    /// Calls by lane and node, hooks left aside.
    calls: BTreeMap<(String, NodeId), Vec<&'a CallTrace>>,
    lane_ends: BTreeMap<String, Time>,
    /// Of steps that ran more than once in a lane: what their calls used, what is below them did, and what their records
    /// say.
    own: BTreeMap<(String, NodeId), (Usage, Usage, Usage)>,
    /// Fields that successful attempts wrote in lanes that completed, and those that must be in the final context.
    allowed: BTreeSet<&'a str>,
    required: BTreeSet<&'a str>,
    broken: Vec<String>,
}

/// A history to be checked, with where it stands.
struct Part<'a> {
    finish: &'a Finish<Simulated>,
    lane: String,
    deadline: Option<Time>,
    /// Whether every lane from here outwards completed.
    completed: bool,
}

fn is_hook(role: Role) -> bool {
    matches!(role, Role::Hook(_))
}

impl<'a> Check<'a> {
    fn new(plan: &'a Plan<Callable>, ran: &'a Ran) -> Self {
        let mut calls: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for call in ran.trace.calls.iter().filter(|call| !is_hook(call.role)) {
            calls
                .entry((place(call.lane.as_deref()), call.node))
                .or_default()
                .push(call);
        }
        let lane_ends = ran
            .trace
            .lane_ends
            .iter()
            .map(|(lane, at)| (place(Some(lane)), *at))
            .collect();
        Self {
            plan,
            ran,
            calls,
            lane_ends,
            own: BTreeMap::new(),
            allowed: BTreeSet::new(),
            required: BTreeSet::new(),
            broken: Vec::new(),
        }
    }

    fn say(&mut self, lane: &str, what: impl AsRef<str>) {
        let lane = if lane.is_empty() { "the run" } else { lane };
        self.broken.push(format!("in {lane}: {}", what.as_ref()));
    }

    fn nothing_left(&mut self) {
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

    fn run(&mut self) {
        let mut parts = vec![Part {
            finish: &self.ran.finish,
            lane: String::new(),
            deadline: self.ran.deadline,
            completed: true,
        }];
        while let Some(part) = parts.pop() {
            self.history(&part, &mut parts);
        }
        for ((lane, node), (told, inside, said)) in std::mem::take(&mut self.own) {
            if told + inside != said {
                let used = told + inside;
                self.say(&lane, format!("{node:?} used {used:?}, its records say {said:?}"));
            }
        }
    }

    fn history(&mut self, part: &Part<'a>, parts: &mut Vec<Part<'a>>) {
        let records = &part.finish.history.records;
        let mut deadlines: Vec<Option<Time>> = Vec::with_capacity(records.len());
        for (at, record) in (0u32..).zip(records) {
            let node = self.plan.node(record.node);
            let around = match record.parent {
                Some(parent) if parent >= at => {
                    self.say(
                        &part.lane,
                        format!("record {at} stands before its parent {parent}"),
                    );
                    part.deadline
                }
                Some(parent) => deadlines[parent as usize],
                None => part.deadline,
            };
            let own = node.deadline.map(|limit| {
                record
                    .started
                    .saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX))
            });
            let deadline = around.into_iter().chain(own).min();
            deadlines.push(deadline);
            self.record(part, at, record, node, deadline);
            self.lanes(part, at, record, node);
            for (slot, lane) in record.lanes().iter().enumerate() {
                if let Some(finish) = lane.finish.as_deref() {
                    let step = format!("{}#{at}[{}]", record.node.0, index_of(node, lane, slot));
                    let lane = if part.lane.is_empty() {
                        step
                    } else {
                        format!("{}/{step}", part.lane)
                    };
                    let completed = part.completed && matches!(finish.outcome, Outcome::Completed(_));
                    parts.push(Part {
                        finish,
                        lane,
                        deadline,
                        completed,
                    });
                }
            }
        }
        self.siblings(part);
        let top: Usage = part
            .finish
            .history
            .children(None)
            .map(|(_, record)| record.usage)
            .sum();
        if top != part.finish.usage {
            self.say(
                &part.lane,
                format!("its steps used {top:?}, it counts {:?}", part.finish.usage),
            );
        }
    }

    fn record(
        &mut self,
        part: &Part<'a>,
        at: u32,
        record: &Record<Simulated>,
        node: &Node<Callable>,
        deadline: Option<Time>,
    ) {
        let name = &node.name;
        let sound = match record.status {
            Status::Running => false,
            Status::Succeeded => record.output.is_some() && record.failure.is_none(),
            Status::Failed => record.failure.is_some(),
            Status::Cancelled | Status::LimitExceeded => record.failure.is_none(),
        };
        if !sound || record.ended < record.started {
            self.say(
                &part.lane,
                format!("the record of `{name}` contradicts itself: {record:?}"),
            );
        }
        let calls = self
            .calls
            .get(&(part.lane.clone(), record.node))
            .cloned()
            .unwrap_or_default();
        let history = &part.finish.history;
        let below = history.children(Some(at)).map(|(_, child)| child.usage);
        let lanes = record
            .lanes()
            .iter()
            .filter_map(|lane| Some(lane.finish.as_ref()?.usage));
        let inside: Usage = below.chain(lanes).sum();
        let records = history.records.iter().filter(|other| other.node == record.node);
        let repeated = records.count() > 1;
        let told: Usage = calls.iter().map(|call| call.usage).sum();
        if repeated {
            let own = self.own.entry((part.lane.clone(), record.node)).or_default();
            own.0 = told;
            own.1 += inside;
            own.2 += record.usage;
        } else if told + inside != record.usage {
            self.say(
                &part.lane,
                format!(
                    "`{name}` used {:?}, its record says {:?}",
                    told + inside,
                    record.usage
                ),
            );
        }
        // Which of several records of one step a call belongs to is not told.
        if repeated {
            return;
        }
        if let (Some(deadline), Kind::Step(_)) = (deadline, &node.kind) {
            let late = calls.iter().any(|call| {
                call.role != Role::Persist
                    && (call.started > deadline
                        || (call.obeys && call.ended.is_some_and(|ended| ended > deadline)))
            });
            if late {
                self.say(&part.lane, format!("`{name}` works on after its deadline"));
            }
        }
        if let Kind::Step(step) = &node.kind {
            self.step(part, at, record, step, &calls, deadline);
        }
    }

    fn step(
        &mut self,
        part: &Part<'a>,
        at: u32,
        record: &Record<Simulated>,
        step: &StepNode<Callable>,
        calls: &[&'a CallTrace],
        deadline: Option<Time>,
    ) {
        let name = &self.plan.node(record.node).name;
        if record.attempts > step.policy.max_retries.saturating_add(1) {
            self.say(&part.lane, format!("`{name}` made {} attempts", record.attempts));
        }
        let tried: BTreeSet<u32> = calls.iter().map(|call| call.attempt).collect();
        if tried.last().is_some_and(|last| *last > record.attempts.max(1)) {
            self.say(
                &part.lane,
                format!("`{name}` made attempts {tried:?}, not {}", record.attempts),
            );
        }
        let failed_attempts = record
            .details
            .as_ref()
            .map_or(0, |details| details.attempt_failures.len());
        let fallback = record
            .details
            .as_ref()
            .and_then(|details| details.fallback.as_ref())
            .and_then(|(fallback, _)| Some((at, part.finish.history.records.get(*fallback as usize)?)));
        match (record.status, fallback) {
            (Status::Succeeded, None) if failed_attempts + 1 != record.attempts as usize => {
                self.say(
                    &part.lane,
                    format!("`{name}` succeeded after {failed_attempts} failed attempts, not on its next"),
                );
            }
            (Status::Succeeded, Some((_, fallback))) if fallback.status != Status::Succeeded => {
                self.say(
                    &part.lane,
                    format!("`{name}` succeeded although its fallback did not"),
                );
            }
            (Status::Failed, None)
                if step.fallback.is_some()
                    && matches!(part.finish.outcome, Outcome::Failed(_) | Outcome::Completed(_))
                    && deadline.is_none_or(|deadline| record.ended < deadline) =>
            {
                self.say(&part.lane, format!("the fallback of `{name}` was not tried"));
            }
            _ => {}
        }
        for call in calls
            .iter()
            .filter(|call| !call.wrote.is_empty() && call.role != Role::Persist)
        {
            let kept = record.status == Status::Succeeded
                && fallback.is_none()
                && call.attempt == record.attempts
                && call.end == Some(CallEnd::Answered);
            if kept && part.completed {
                self.allowed.extend(call.wrote.iter().map(String::as_str));
            }
            if kept && part.lane.is_empty() {
                self.required.extend(call.wrote.iter().map(String::as_str));
            }
        }
    }

    /// Among the children of one record, all but the last succeeded, and the last agrees with what is around it.
    fn siblings(&mut self, part: &Part<'a>) {
        let history: &History<Simulated> = &part.finish.history;
        let mut last: BTreeMap<Option<u32>, Status> = BTreeMap::new();
        for record in &history.records {
            let before = last.insert(record.parent, record.status);
            if self.may_follow_a_failure(record.parent, history) {
                continue;
            }
            if before.is_some_and(|before| before != Status::Succeeded) {
                let name = self.plan.node(record.node).name.clone();
                self.say(
                    &part.lane,
                    format!("`{name}` began although the step before it did not succeed"),
                );
            }
        }
        for (parent, status) in last {
            let around = match parent.and_then(|parent| history.records.get(parent as usize)) {
                Some(record) => record.status,
                None => match &part.finish.outcome {
                    Outcome::Completed(_) => Status::Succeeded,
                    Outcome::Failed(_) | Outcome::Stopped(Stop::Fatal(_)) => Status::Failed,
                    Outcome::Stopped(Stop::LimitExceeded(_)) => Status::LimitExceeded,
                    Outcome::Stopped(_) => Status::Cancelled,
                },
            };
            // What is around a step that succeeded may yet have failed or been stopped, never the other way round.
            if status != around
                && status != Status::Succeeded
                && !(status == Status::Failed && around != Status::Succeeded)
            {
                self.say(
                    &part.lane,
                    format!("the last step is {status:?}, what is around it {around:?}"),
                );
            }
        }
    }

    /// Whether a part may begin below this record although the one before it failed: an attempt, an iteration, a state
    /// or a handler follows another.
    fn may_follow_a_failure(&self, parent: Option<u32>, history: &History<Simulated>) -> bool {
        let around = parent.and_then(|parent| history.records.get(parent as usize));
        let around = around.map(|record| &self.plan.node(record.node).kind);
        matches!(around, Some(Kind::Loop(_) | Kind::States(_) | Kind::Step(_)))
            || self
                .plan
                .nodes()
                .any(|(_, node)| matches!(node.kind, Kind::Guard(_)))
    }

    fn lanes(&mut self, part: &Part<'a>, at: u32, record: &Record<Simulated>, node: &Node<Callable>) {
        let (policy, limit) = match &node.kind {
            Kind::Parallel(parallel) => {
                self.declared_order(part, record, &parallel.branches);
                (parallel.on_failure, parallel.max_concurrency)
            }
            Kind::Map(map) => (map.on_failure, Some(map.max_concurrency)),
            _ => return,
        };
        let name = &node.name;
        if let Some(limit) = limit {
            let spans: Vec<(Time, Time)> = record.lanes().iter().filter_map(span).collect();
            let at = |time: Time| {
                spans
                    .iter()
                    .filter(|(from, to)| *from <= time && time < *to)
                    .count()
            };
            let most = spans.iter().map(|(from, _)| at(*from)).max().unwrap_or(0);
            if most > limit as usize {
                self.say(
                    &part.lane,
                    format!("`{name}` runs {most} lanes at once, not {limit}"),
                );
            }
        }
        if policy != LaneFailure::Propagate {
            return;
        }
        let prefix = if part.lane.is_empty() {
            String::new()
        } else {
            format!("{}/", part.lane)
        };
        let path_of = |slot: usize| {
            let index = index_of(node, &record.lanes()[slot], slot);
            format!("{prefix}{}#{at}[{index}]", record.node.0)
        };
        let failed = record.lanes().iter().enumerate().filter(|(_, lane)| {
            matches!(
                lane.finish.as_ref().map(|finish| &finish.outcome),
                Some(Outcome::Failed(_))
            )
        });
        let first = failed
            .filter_map(|(slot, _)| self.lane_ends.get(&path_of(slot)))
            .min()
            .copied();
        let Some(first) = first else {
            return;
        };
        let inside = (0..record.lanes().len()).map(path_of).collect::<Vec<_>>();
        let late = self.ran.trace.calls.iter().find(|call| {
            let of = place(call.lane.as_deref());
            call.started > first
                && inside
                    .iter()
                    .any(|lane| of == *lane || of.starts_with(&format!("{lane}/")))
        });
        if let Some(call) = late {
            self.say(
                &part.lane,
                format!(
                    "a lane of `{name}` calls {:?} after another had failed",
                    call.node
                ),
            );
        }
    }

    fn declared_order(
        &mut self,
        part: &Part<'a>,
        record: &Record<Simulated>,
        branches: &[(std::sync::Arc<str>, NodeId)],
    ) {
        let name = &self.plan.node(record.node).name;
        if record.lanes().is_empty() {
            return;
        }
        let routed =
            matches!(&self.plan.node(record.node).kind, Kind::Parallel(node) if node.router.is_some());
        let ran: Vec<&str> = record.lanes().iter().map(|lane| &*lane.name).collect();
        let chosen = |name: &str| !routed || ran.contains(&name);
        let branches: Vec<_> = branches.iter().filter(|(name, _)| chosen(name)).collect();
        let mut sound = record.lanes().len() == branches.len();
        for (lane, (branch, body)) in record.lanes().iter().zip(branches.iter().copied()) {
            let first = lane
                .finish
                .as_ref()
                .and_then(|finish| finish.history.records.first());
            sound &= lane.name == *branch && first.is_none_or(|first| first.node == self.entry(*body));
        }
        if let (Some(Object::Record(fields)), Status::Succeeded) = (&record.output, record.status)
            && fields.len() == branches.len()
        {
            let entries = fields.iter().zip(record.lanes()).zip(branches.iter().copied());
            for ((field, lane), (branch, _)) in entries {
                sound &= field.0 == *branch && lane.output().is_none_or(|output| *output == field.1);
            }
        }
        if !sound {
            self.say(
                &part.lane,
                format!("the lanes of `{name}` are not in declared order"),
            );
        }
    }

    /// The first node below `body` that has a record.
    fn entry(&self, mut body: NodeId) -> NodeId {
        loop {
            match &self.plan.node(body).kind {
                Kind::Sequence(children) if !children.is_empty() => body = children[0],
                Kind::Guard(guard) => body = guard.body,
                _ => return body,
            }
        }
    }

    /// Each record is told of once when it begins and once when it ends.
    fn notices(&mut self) {
        let mut told: BTreeMap<(String, u32), (u32, u32)> = BTreeMap::new();
        for notice in &self.ran.trace.notices {
            let lane = place(notice.lane.as_deref());
            let (begun, ended) = told.entry((lane, notice.notice.record)).or_default();
            match notice.notice.kind {
                NoticeKind::StepStarted => *begun += 1,
                NoticeKind::StepFinished | NoticeKind::StepFailed(_) | NoticeKind::StepStopped => *ended += 1,
                _ if *begun == 1 && *ended == 0 => {}
                _ => *begun += 100,
            }
        }
        let odd: Vec<_> = told.into_iter().filter(|(_, counts)| *counts != (1, 1)).collect();
        for ((lane, record), (begun, ended)) in odd {
            self.say(
                &lane,
                format!("record {record} began {begun} times and ended {ended} times in the notices"),
            );
        }
    }

    /// Fields that start with `w:` are written by nobody but the call they are named after.
    fn context(&mut self) {
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

/// The place of a lane's branch among all of its node's branches; of an item its own.
fn index_of(node: &Node<Callable>, lane: &LaneRecord<Simulated>, slot: usize) -> usize {
    match &node.kind {
        Kind::Parallel(parallel) => parallel
            .branches
            .iter()
            .position(|(name, _)| *name == lane.name)
            .unwrap_or(slot),
        _ => slot,
    }
}

/// From when to when a lane ran, as far as its records tell.
fn span(lane: &LaneRecord<Simulated>) -> Option<(Time, Time)> {
    let records = &lane.finish.as_ref()?.history.records;
    let from = records.iter().map(|record| record.started).min()?;
    Some((from, records.iter().map(|record| record.ended).max()?))
}
