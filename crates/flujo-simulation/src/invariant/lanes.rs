//! Lanes: as many at once as may be, in declared order, and none goes on after another has failed for all of them.

use std::sync::Arc;

use flujo_core::machine::{LaneRecord, Outcome, Status, Time};
use flujo_core::plan::{Kind, LaneFailure, NodeId};

use super::context::kept_of_lane;
use super::{Check, Kept, Part, Subject};
use crate::trace::place;
use crate::{Callable, Object, Simulated};

impl<'a> Check<'a> {
    pub(super) fn lanes(&mut self, subject: &Subject<'_, 'a>) {
        let (policy, limit) = match subject.kind {
            Kind::Parallel(parallel) => {
                let routed = parallel.router.is_some();
                self.declared_order(subject, &parallel.branches, routed);
                (parallel.on_failure, parallel.max_concurrency)
            }
            Kind::Map(map) => (map.on_failure, Some(map.max_concurrency)),
            _ => return,
        };
        let (lane, name, lanes) = (&subject.part.lane, subject.name, subject.record.lanes());
        if let Some(limit) = limit {
            let spans: Vec<(Time, Time)> = lanes.iter().filter_map(span).collect();
            let at = |time: Time| {
                let running = spans.iter().filter(|(from, to)| *from <= time && time < *to);
                running.count()
            };
            let most = spans.iter().map(|(from, _)| at(*from)).max().unwrap_or(0);
            if most > limit as usize {
                self.say(lane, format!("`{name}` runs {most} lanes at once, not {limit}"));
            }
        }
        if policy != LaneFailure::Propagate {
            return;
        }
        let failed = lanes.iter().enumerate().filter(|(_, lane)| {
            let outcome = lane.finish.as_ref().map(|finish| &finish.outcome);
            matches!(outcome, Some(Outcome::Failed(_)))
        });
        let ends = failed.filter_map(|(slot, _)| self.lane_ends.get(&lane_place(subject, slot)));
        let Some(first) = ends.min().copied() else {
            return;
        };
        let inside: Vec<String> = (0..lanes.len()).map(|slot| lane_place(subject, slot)).collect();
        let late = self.ran.trace.calls.iter().find(|call| {
            let of = place(call.lane.as_deref());
            let within = |lane: &String| of == *lane || of.starts_with(&format!("{lane}/"));
            call.started > first && inside.iter().any(within)
        });
        if let Some(call) = late {
            self.say(
                lane,
                format!(
                    "a lane of `{name}` calls {:?} after another had failed",
                    call.node
                ),
            );
        }
    }

    fn declared_order(&mut self, subject: &Subject<'_, 'a>, branches: &[(Arc<str>, NodeId)], routed: bool) {
        let record = subject.record;
        if record.lanes().is_empty() {
            return;
        }
        let ran: Vec<&str> = record.lanes().iter().map(|lane| &*lane.name).collect();
        let chosen = |name: &str| !routed || ran.contains(&name);
        let branches: Vec<_> = branches.iter().filter(|(name, _)| chosen(name)).collect();
        let names = branches.iter().map(|(name, _)| &**name);
        let mut sound = names.eq(ran.iter().copied());
        if let (Some(Object::Record(fields)), Status::Succeeded) = (&record.output, record.status)
            && fields.len() == branches.len()
        {
            let entries = fields.iter().zip(record.lanes()).zip(branches);
            for ((field, lane), (branch, _)) in entries {
                sound &= field.0 == *branch && lane.output().is_none_or(|output| *output == field.1);
            }
        }
        if !sound {
            let name = subject.name;
            self.say(
                &subject.part.lane,
                format!("the lanes of `{name}` are not in declared order"),
            );
        }
    }
}

/// The histories of the record's lanes are to be checked too.
pub(super) fn lanes_below<'a>(subject: &Subject<'_, 'a>, kept: Kept, parts: &mut Vec<Part<'a>>) {
    for (slot, lane) in subject.record.lanes().iter().enumerate() {
        let index = index_of(subject.kind, lane, slot);
        if let (Some(finish), Some(body)) = (lane.finish.as_deref(), body_of(subject.kind, index)) {
            let completed = matches!(finish.outcome, Outcome::Completed(_));
            let inside = kept_of_lane(subject, completed, kept);
            let place = lane_place(subject, slot);
            parts.push(Part::new(finish, place, body, subject.deadline, inside));
        }
    }
}

/// The place of a lane of the record, as the trace names it.
fn lane_place(subject: &Subject<'_, '_>, slot: usize) -> String {
    let index = index_of(subject.kind, &subject.record.lanes()[slot], slot);
    let step = format!("{}#{}[{index}]", subject.record.node.0, subject.at);
    if subject.part.lane.is_empty() {
        step
    } else {
        format!("{}/{step}", subject.part.lane)
    }
}

/// The place of a lane's branch among all of its node's branches; of an item its own.
fn index_of(kind: &Kind<Callable>, lane: &LaneRecord<Simulated>, slot: usize) -> usize {
    match kind {
        Kind::Parallel(parallel) => {
            let mut branches = parallel.branches.iter();
            branches.position(|(name, _)| *name == lane.name).unwrap_or(slot)
        }
        _ => slot,
    }
}

/// What a lane runs.
fn body_of(kind: &Kind<Callable>, index: usize) -> Option<NodeId> {
    match kind {
        Kind::Parallel(node) => node.branches.get(index).map(|(_, body)| *body),
        Kind::Map(node) => Some(node.body),
        Kind::Group(node) => Some(node.body),
        _ => None,
    }
}

/// From when to when a lane ran, as far as its records tell.
fn span(lane: &LaneRecord<Simulated>) -> Option<(Time, Time)> {
    let records = &lane.finish.as_ref()?.history.records;
    let from = records.iter().map(|record| record.started).min()?;
    Some((from, records.iter().map(|record| record.ended).max()?))
}
