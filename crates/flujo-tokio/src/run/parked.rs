//! Machines that stand still for answers, each with the lanes below it that stand still too. Nothing here runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flujo_core::machine::{Event as Happened, Finish, LaneId, Machine, PauseId, Time};
use flujo_core::plan::NodeId;
use flujo_core::store::{Change, RunStatus, WallTime};
use flujo_core::usage::Usage;
use flujo_core::value::{Value, to_value};
use flujo_durable::{Durability, DurableError, Journal, Saved, Snapshot, Written};
use flujo_store::runs;
use tokio::time::Instant;

use super::RunId;
use super::outputs::Outputs;
use super::spans::Observed;
use crate::domain::Tokio;
use crate::scope::lane_name;

/// A machine that waits for answers and for nothing else.
pub(crate) struct Parked {
    pub(super) machine: Observed,
    pub(super) outputs: Outputs,
    /// The question that it waits with itself.
    pub(super) question: Option<Question>,
    /// The lanes it waits for.
    pub(super) lanes: ParkedLanes,
    /// Why it is to go on, if it is.
    pub(super) wake: Option<Wake>,
}

/// Lanes that stand still, in the order in which they started.
#[derive(Default)]
pub(super) struct ParkedLanes(BTreeMap<LaneId, Box<Parked>>);

/// Why a parked machine goes on.
#[derive(Debug, Clone)]
pub(crate) enum Wake {
    /// A lane below it does.
    Below,
    /// Somebody answered.
    Answer(Value),
    /// Nobody answered in time.
    Expired,
    /// The run is to end.
    Cancel,
}

/// A question that was asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) pause: PauseId,
    pub(super) node: NodeId,
    pub(super) asked: Value,
    pub(super) timeout: Option<Duration>,
    pub(super) since: Instant,
    pub(super) rejected: Option<String>,
}

/// A question that a paused run waits to be answered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pause {
    /// Names it in its answer: the same however often the run is resumed, and like no other of the run.
    pub id: String,
    /// The step that asks.
    pub step: Arc<str>,
    /// Its path in the pipeline.
    pub path: Arc<str>,
    /// The branch or item around it, such as `split[left]` or `each[3]`; empty outside of them.
    pub lane: String,
    /// What is asked.
    pub message: String,
    /// The question as the step made it.
    pub question: Value,
    /// How long the answer may take from when it was first asked.
    pub timeout: Option<Duration>,
    /// When that time is up. A run that is resumed after that goes on with the default answer, or fails there.
    pub expires: Option<Instant>,
    /// Why the answer before was not taken.
    pub rejected: Option<String>,
}

impl Pause {
    pub(super) fn new(machine: &Machine<Tokio>, question: &Question) -> Self {
        let node = machine.plan().node(question.node);
        let lane = machine.lane().map(|lane| &**lane);
        Self {
            id: machine.question_id(question.node, question.pause),
            step: Arc::clone(&node.name),
            path: Arc::clone(&node.path),
            lane: lane_name(machine.plan(), lane),
            message: message(&question.asked),
            question: question.asked.clone(),
            timeout: question.timeout,
            expires: question.expires(),
            rejected: question.rejected.clone(),
        }
    }
}

impl Question {
    fn expires(&self) -> Option<Instant> {
        self.since.checked_add(self.timeout?)
    }
}

/// What is shown of a question: text as it is, of a map the `message`, anything else as it is shown in logs.
fn message(question: &Value) -> String {
    let text = question.get("message").unwrap_or(question);
    match text {
        Value::Str(text) => text.to_string(),
        other => format!("{other:?}"),
    }
}

/// A question that waits somewhere below a machine, and the way to it.
pub(super) struct Open {
    pub(super) pause: Pause,
    pub(super) way: Vec<LaneId>,
}

impl Parked {
    /// What the machine is told when it goes on, if anything.
    pub(super) fn event(&self, wake: Wake, at: Time) -> Option<Happened<Tokio>> {
        let pause = self.question.as_ref().map(|question| question.pause);
        match (wake, pause) {
            (Wake::Answer(answer), Some(pause)) => Some(Happened::Resumed { pause, answer, at }),
            (Wake::Expired, Some(pause)) => Some(Happened::Expired { pause, at }),
            (Wake::Cancel, _) => Some(Happened::Cancel { at }),
            _ => None,
        }
    }

    /// The questions that wait, in declared order.
    pub(super) fn open(&self) -> Vec<Open> {
        let mut open = Vec::new();
        let mut waiting = vec![(self, Vec::new())];
        while let Some((parked, way)) = waiting.pop() {
            for (lane, below) in parked.lanes.0.iter().rev() {
                let mut way = way.clone();
                way.push(*lane);
                waiting.push((below, way));
            }
            if let Some(question) = &parked.question {
                let pause = Pause::new(&parked.machine, question);
                open.push(Open { pause, way });
            }
        }
        open
    }

    /// Has the machine at the end of `way` go on, and those on the way with it.
    pub(super) fn wake(&mut self, way: &[LaneId], wake: Wake) {
        let mut at = self;
        for lane in way {
            at.wake.get_or_insert(Wake::Below);
            match at.lanes.0.get_mut(lane) {
                Some(below) => at = below,
                None => return,
            }
        }
        at.wake = Some(wake);
    }

    /// Has the question go on that an answer is for which was left in the store. One that nothing waits for is told of in the
    /// log of the program.
    pub(super) fn answer(&mut self, run: &RunId, pause: Option<&str>, answer: &serde_json::Value) {
        let (open, now) = (self.open(), Instant::now());
        let mut meant = open.iter().filter(|open| {
            let in_time = open.pause.expires.is_none_or(|expires| expires > now);
            in_time && pause.is_none_or(|id| *id == open.pause.id) && !self.is_answered(&open.way)
        });
        match (meant.next(), meant.next(), to_value(answer)) {
            (Some(open), None, Ok(answer)) => self.wake(&open.way, Wake::Answer(answer)),
            (_, _, Err(error)) => {
                tracing::warn!(target: "flujo::store", %run, %error, "an answer can't be read");
            }
            _ => tracing::warn!(target: "flujo::store", %run, ?pause, "an answer fits no open question"),
        }
    }

    /// Whether the machine at the end of `way` has been answered.
    fn is_answered(&self, way: &[LaneId]) -> bool {
        let mut at = self;
        for lane in way {
            match at.lanes.0.get(lane) {
                Some(below) => at = below,
                None => return false,
            }
        }
        matches!(at.wake, Some(Wake::Answer(_)))
    }

    /// Nothing below it goes on after all.
    pub(super) fn sleep(&mut self) {
        let mut waiting = vec![self];
        while let Some(parked) = waiting.pop() {
            parked.wake = None;
            waiting.extend(parked.lanes.0.values_mut().map(|below| &mut **below));
        }
    }

    /// Ends its spans and those of its lanes: the run as a whole stands still.
    pub(super) fn end_spans(&mut self, at: Time) {
        let mut waiting = vec![self];
        while let Some(parked) = waiting.pop() {
            parked.machine.paused(at);
            waiting.extend(parked.lanes.0.values_mut().map(|below| &mut **below));
        }
    }

    /// What it and its lanes are told from now on is written into this log.
    pub(super) fn continue_log(&mut self, journal: &Arc<Journal<Tokio>>) {
        let mut waiting = vec![self];
        while let Some(parked) = waiting.pop() {
            parked.machine.continue_log(journal);
            waiting.extend(parked.lanes.0.values_mut().map(|below| &mut **below));
        }
    }

    /// Writes that the run stands still like this, and leaves it. Where a value in it can't be written down the log that it
    /// came from stays.
    pub(super) fn write(
        &self,
        journal: &Journal<Tokio>,
        so_far: &Finish<Tokio>,
        at: Time,
        now: WallTime,
    ) -> Result<Written, DurableError> {
        // A log that isn't long stays, so that the run can be forked and replayed.
        let anew = journal.durability() == Durability::Exit || journal.wants_snapshot();
        let (mut machines, mut asked, mut due) = (Vec::new(), Vec::new(), None);
        let mut waiting: VecDeque<(Option<(u32, LaneId)>, &Self)> = VecDeque::from([(None, self)]);
        while let Some((parent, parked)) = waiting.pop_front() {
            let machine = parked.machine.number();
            if anew {
                machines.push(Saved {
                    machine,
                    parent,
                    state: parked.machine.save(at),
                    once: None,
                    sleeping: None,
                });
            }
            if let Some(question) = &parked.question {
                let millis = |time: Duration| WallTime::try_from(time.as_millis()).unwrap_or(WallTime::MAX);
                let since = now.saturating_sub(millis(question.since.elapsed()));
                let expires = question
                    .timeout
                    .map(|timeout| since.saturating_add(millis(timeout)));
                due = [due, expires].into_iter().flatten().min();
                asked.push((machine, since));
            }
            let lanes = parked.lanes.0.iter();
            waiting.extend(lanes.map(|(lane, below)| (Some((machine, *lane)), &**below)));
        }
        let message = self
            .open()
            .first()
            .map(|open| Arc::from(format!("step `{}` asks", open.pause.step)));
        let changes = || {
            let summary = runs::summary(RunStatus::Paused, so_far, message.clone(), due, now);
            [Change::Summary(summary), Change::Release]
        };
        if !anew {
            return Ok(journal.write(changes()));
        }
        machines.sort_by_key(|saved| saved.machine);
        let snapshot = Snapshot::Machines {
            machines,
            next: journal.next_machine(),
            asked,
            limits: journal.limits(),
        };
        match journal.snapshot(&snapshot, changes()) {
            Err(_) if journal.durability() != Durability::Exit => Ok(journal.write(changes())),
            written => written,
        }
    }

    /// What it and its lanes have done so far. A loop from the innermost lanes outwards.
    pub(super) fn so_far(&self) -> Finish<Tokio> {
        let mut found: Vec<(usize, LaneId, &Self)> = vec![(0, LaneId(0), self)];
        let mut next = 0;
        while let Some((_, _, parked)) = found.get(next) {
            let below: Vec<_> = parked
                .lanes
                .0
                .iter()
                .map(|(lane, below)| (next, *lane, &**below))
                .collect();
            found.extend(below);
            next += 1;
        }
        let mut lanes: Vec<BTreeMap<LaneId, Arc<Finish<Tokio>>>> = vec![BTreeMap::new(); found.len()];
        for place in (1..found.len()).rev() {
            let (around, lane, parked) = found[place];
            let mut own = std::mem::take(&mut lanes[place]);
            let finish = parked.machine.so_far(|lane| own.remove(&lane));
            lanes[around].insert(lane, Arc::new(finish));
        }
        let own = &mut lanes[0];
        self.machine.so_far(|lane| own.remove(&lane))
    }
}

impl ParkedLanes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn insert(&mut self, lane: LaneId, parked: Box<Parked>) {
        self.0.insert(lane, parked);
    }

    pub(super) fn take(&mut self, lane: LaneId) -> Option<Box<Parked>> {
        self.0.remove(&lane)
    }

    /// What they and the lanes below them have used.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = Usage::ZERO;
        let mut waiting = vec![self];
        while let Some(lanes) = waiting.pop() {
            for parked in lanes.0.values() {
                usage += parked.machine.usage();
                waiting.push(&parked.lanes);
            }
        }
        usage
    }

    /// The lanes that are to go on.
    pub(super) fn awake(&self) -> Vec<LaneId> {
        let awake = self.0.iter().filter(|(_, parked)| parked.wake.is_some());
        awake.map(|(lane, _)| *lane).collect()
    }
}

impl Drop for ParkedLanes {
    /// Lanes hold lanes: taken apart in a loop, so that depth costs no call stack.
    fn drop(&mut self) {
        let mut waiting = vec![std::mem::take(&mut self.0)];
        while let Some(lanes) = waiting.pop() {
            for (_, mut parked) in lanes {
                waiting.push(std::mem::take(&mut parked.lanes.0));
            }
        }
    }
}
