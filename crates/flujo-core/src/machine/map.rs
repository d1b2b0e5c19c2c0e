//! The same body for each item of a collection, each item in a lane of its own. One at a time, an item sees what the
//! items before it wrote; several at a time, their contexts are merged at the end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply};
use super::fault::{Fault, is_planted};
use super::frame::{Frame, Opened, top};
use super::held::Visitor;
use super::lanes::{Joined, Lanes};
use super::parallel::{JoinStage, lane_failure};
use super::{
    Answer, Command, Completion, Domain, Failure, FailureKind, Input, LaneRecord, Outcome, Pending, Role,
    State,
};
use crate::plan::NodeId;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct MapFrame<D: Domain> {
    pub(super) opened: Opened,
    pub(super) lanes: Lanes<D>,
    source: Source<D>,
    stage: JoinStage,
    ended: Option<Arc<Vec<LaneRecord<D>>>>,
    /// Why the map fails although every lane may have succeeded: its items or contexts could not be read or merged.
    broken: Option<Arc<Failure<D>>>,
}

impl<D: Domain> MapFrame<D> {
    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        match &self.source {
            Source::Input(object) | Source::Anew(object) => visit.object(object),
            Source::Cursor { from, items, .. } => {
                visit.object(from);
                if let Some(items) = items {
                    visit.object(items);
                }
            }
            Source::Dry => {}
        }
        if let Some(failure) = &self.broken {
            visit.failure(failure);
        }
        self.lanes.visit(visit);
    }
}

/// Where the items come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
enum Source<D: Domain> {
    /// The input, from which they are yet to be had.
    Input(D::Object),
    /// A collection read item by item, as room comes free.
    Cursor {
        /// What it was had from.
        from: D::Object,
        /// What it is read with; nothing in a run that is made again.
        #[serde(skip)]
        items: Option<D::Object>,
        /// How many of its items are to be passed over.
        past: u32,
    },
    /// The same, to be had anew from there: what it was read with was in another process, or is used up.
    Anew(D::Object),
    /// All have been read.
    Dry,
}

impl<D: Domain> MapFrame<D> {
    /// Whether every item has been read and has begun.
    pub(super) fn all_started(&self) -> bool {
        self.gave_up_reading() && self.lanes.all_started()
    }

    /// Whether there may be more items to be read.
    fn reads(&self) -> bool {
        matches!(self.source, Source::Cursor { .. } | Source::Anew(_))
    }

    /// A collection that is read item by item is asked for anew.
    pub(super) fn read_anew(&mut self) {
        self.source = match std::mem::replace(&mut self.source, Source::Dry) {
            Source::Cursor { from, .. } => Source::Anew(from),
            source => source,
        };
    }

    /// Its items have been given, all of them or those to be read one by one; those that were taken before are passed over.
    fn have(&mut self, answer: Answer<D>) {
        let taken = self.lanes.len();
        let source = std::mem::replace(&mut self.source, Source::Dry);
        match (source, answer) {
            (Source::Input(_), Answer::Items(items)) => self.lanes = Lanes::new(self.opened.node, items),
            (_, Answer::Items(items)) => items
                .into_iter()
                .skip(taken)
                .for_each(|item| self.lanes.push(item)),
            (Source::Input(from) | Source::Anew(from), Answer::Cursor(items)) => {
                let past = u32::try_from(taken).unwrap_or(u32::MAX);
                self.source = Source::Cursor { from, items, past };
            }
            (source, _) => self.source = source,
        }
    }

    /// Whether an item that is still being read is no longer wanted.
    pub(super) fn gave_up_reading(&self) -> bool {
        self.stage == JoinStage::Run && matches!(self.source, Source::Dry)
    }
}

pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    let opened = cursor.open(node);
    let frame = MapFrame {
        opened,
        lanes: Lanes::new(node, []),
        source: Source::Input(input),
        stage: JoinStage::Run,
        ended: None,
        broken: None,
    };
    cursor.state.stack.push(Frame::Map(Box::new(frame)));
    ask(cursor)
}

pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let deadline = cursor.state.deadline;
    let (frame, _) = top!(cursor, Map);
    let (role, input) = match (frame.stage, &frame.source) {
        (JoinStage::Route, _) => return Next::Wait,
        (JoinStage::Run, Source::Input(input) | Source::Anew(input)) => {
            (Role::Items, Input::Value(input.clone()))
        }
        (JoinStage::Run, Source::Cursor { from, items, past }) => {
            let (items, past) = (items.as_ref().unwrap_or(from).clone(), *past);
            (Role::NextItem, Input::Items { items, past })
        }
        (JoinStage::Run, Source::Dry) => return go_on(cursor),
        (JoinStage::Merge, _) => (Role::Merge, Input::Lanes(frame.ended.clone().unwrap_or_default())),
        (JoinStage::Collect, _) => (
            Role::Collect,
            Input::Lanes(frame.ended.clone().unwrap_or_default()),
        ),
    };
    let node = frame.opened.node;
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

/// Starts what may start and reads on as room comes free; when nothing is under way any more, joins.
fn go_on<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, node) = top!(cursor, Map);
    let limit = node.max_concurrency as usize;
    let mut lanes = std::mem::take(&mut frame.lanes);
    lanes.start(cursor, limit, |_| Some(node.body));
    let reads_on = lanes.has_room(limit) && lanes.all_started();
    let (running, halted) = (lanes.any_running(), lanes.is_halted());
    let pending = cursor.state.pending != Pending::Nothing;
    let (frame, _) = top!(cursor, Map);
    frame.lanes = lanes;
    if halted && frame.reads() {
        frame.source = Source::Dry;
        if let Pending::Call(reading) = cursor.state.pending {
            cursor.commands.push_back(Command::CancelCall(reading));
        }
    }
    if frame.reads() && reads_on && !pending {
        return ask(cursor);
    }
    if running || pending {
        Next::Wait
    } else {
        join(cursor)
    }
}

fn join<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, node) = top!(cursor, Map);
    let records = frame.lanes.records(cursor.plan);
    let (record, stop, broken) = (frame.opened.record, frame.lanes.take_stop(), frame.broken.take());
    let joined = frame.lanes.joined(node.on_failure);
    frame.ended = Some(Arc::clone(&records));
    frame.stage = if node.merge.is_some() && node.max_concurrency > 1 {
        JoinStage::Merge
    } else {
        JoinStage::Collect
    };
    if let Some(record) = cursor.record(record) {
        record.details_mut().lanes = Arc::clone(&records);
    }
    if let Some(stop) = stop {
        return cursor.end_top(Completion::Stopped(stop));
    }
    if let Some(broken) = broken {
        return cursor.end_top(Completion::Failed(broken));
    }
    match joined {
        Joined::Failed(place) => {
            let failure = records
                .get(place)
                .map(|lane| lane_failure(FailureKind::Item, "item", lane));
            let failure = failure.unwrap_or_else(|| Failure::new(FailureKind::Item, "ItemError", "no item"));
            cursor.fail_top(failure, FailureKind::Item)
        }
        Joined::Succeeded => ask(cursor),
    }
}

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let (frame, _) = top!(cursor, Map);
    let (record, node, stage) = (frame.opened.record, frame.opened.node, frame.stage);
    let gave_up = frame.gave_up_reading();
    match reply {
        Reply::Lane(lane, finish) => lane_ended(cursor, lane, finish),
        Reply::Answer(answer, view) => answered(cursor, answer, view),
        Reply::Failed(failure, usage) => {
            cursor.spend(record, usage);
            if gave_up {
                return go_on(cursor);
            }
            let kind = if stage == JoinStage::Run {
                FailureKind::Items
            } else {
                FailureKind::Merge
            };
            let failure = cursor.located(*failure, kind, node, 0);
            broken(cursor, failure)
        }
        Reply::TimedOut(usage) => {
            cursor.spend(record, usage);
            if gave_up {
                return go_on(cursor);
            }
            let failure = cursor.late(node, 0);
            broken(cursor, failure)
        }
        Reply::Woke | Reply::Reserved | Reply::Refused(_) | Reply::Hit(..) | Reply::Miss(_) => Next::Wait,
    }
}

fn lane_ended<D: Domain>(
    cursor: &mut Cursor<'_, D>,
    lane: super::LaneId,
    finish: Arc<super::Finish<D>>,
) -> Next<D> {
    let (frame, definition) = top!(cursor, Map);
    let (record, usage) = (frame.opened.record, finish.usage);
    let Some(place) = frame.lanes.ended(lane, finish, definition.on_failure) else {
        return Next::Wait;
    };
    let halted = frame.lanes.is_halted();
    let one_at_a_time = definition.max_concurrency == 1;
    let view = frame
        .lanes
        .finish(place)
        .filter(|finish| matches!(finish.outcome, Outcome::Completed(_)));
    let view = view
        .filter(|_| one_at_a_time)
        .map(|finish| finish.context.clone());
    if let Some(next) = cursor.lane_counts(record, usage) {
        return next;
    }
    if let Some(view) = view
        && let Err(failure) = D::commit(&mut cursor.state.context, view)
    {
        return broken(cursor, failure);
    }
    if halted && !is_planted(Fault::SiblingNotCancelled) {
        cursor.cancel_lanes();
    }
    go_on(cursor)
}

fn answered<D: Domain>(cursor: &mut Cursor<'_, D>, answer: Answer<D>, view: Option<D::Context>) -> Next<D> {
    if let Some(view) = view
        && let Err(failure) = D::commit(&mut cursor.state.context, view)
    {
        return broken(cursor, failure);
    }
    let (frame, _) = top!(cursor, Map);
    let record = frame.opened.record;
    match (frame.stage, answer) {
        (JoinStage::Run, answer @ (Answer::Items(_) | Answer::Cursor(_))) => {
            frame.have(answer);
            go_on(cursor)
        }
        (JoinStage::Run, Answer::Item(Some(item))) => {
            if let Source::Cursor { past, .. } = &mut frame.source {
                *past = 0;
            }
            frame.lanes.push(item);
            go_on(cursor)
        }
        (JoinStage::Run, Answer::Item(None)) => {
            frame.source = Source::Dry;
            go_on(cursor)
        }
        (JoinStage::Merge, _) => {
            frame.stage = JoinStage::Collect;
            ask(cursor)
        }
        (JoinStage::Collect, Answer::Value { value, usage }) => {
            cursor.spend(record, usage);
            cursor.end_top(Completion::Success(value))
        }
        _ => Next::Wait,
    }
}

/// The map fails for a reason of its own; lanes that run are ended first.
fn broken<D: Domain>(cursor: &mut Cursor<'_, D>, failure: Failure<D>) -> Next<D> {
    let (frame, _) = top!(cursor, Map);
    if frame.stage != JoinStage::Run {
        let kind = failure.kind;
        return cursor.fail_top(failure, kind);
    }
    let node = frame.opened.node;
    let kind = failure.kind;
    let failure = Arc::new(cursor.located(failure, kind, node, 0));
    cursor.cancel_lanes();
    let (frame, _) = top!(cursor, Map);
    frame.broken.get_or_insert(failure);
    go_on(cursor)
}

impl<D: Domain> State<D> {
    /// Collections that are read item by item are asked for anew: it goes on elsewhere, or what they were read with may be
    /// used up.
    pub(super) fn read_anew(&mut self) {
        for frame in &mut self.stack {
            if let Frame::Map(map) = frame {
                map.read_anew();
            }
        }
    }
}
