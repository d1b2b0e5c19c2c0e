//! What happened in a run, as its store knows it: read without its pipeline, and the same in every process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::machine::{Finish, Record, Status, Time, lane_name};
use flujo_core::plan::Kind;
use flujo_core::store::{RunInfo, RunStatus, StoredRun};
use flujo_core::usage::Usage;
use flujo_durable::{DurableError, Raw, Replay, Uncalled};

type Plan = flujo_core::plan::Plan<Uncalled>;

/// Something that happened in a run that is kept. Shown as one line of text without inputs or outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptEvent {
    /// Its place among all of the run: 1 for the first.
    pub number: u64,
    /// The step's name; empty for the run as a whole.
    pub step: Arc<str>,
    /// The step's path; empty for the run as a whole.
    pub path: Arc<str>,
    /// The branch or item around it, such as `split[left]` or `each[3]`; empty outside of them.
    pub lane: Arc<str>,
    /// When, as the run's active time.
    pub at: Duration,
    /// What.
    pub kind: KeptEventKind,
}

/// What happened. `usage` is what a step has used, failed attempts and everything inside it included.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum KeptEventKind {
    /// The run began.
    RunStarted,
    /// A step began.
    StepStarted,
    /// A step asks somebody, and what is behind it waits for the answer: told right behind its beginning. The questions
    /// that wait now are those of the run's result.
    Paused,
    /// A step succeeded.
    StepFinished {
        /// What it has used.
        usage: Usage,
        /// How many attempts were made; 0 for constructs.
        attempts: u32,
    },
    /// A step failed, or was stopped.
    StepFailed {
        /// Why: the type of the error and its text; `None` for one that was stopped.
        error: Option<Arc<str>>,
        /// What it has used.
        usage: Usage,
        /// How many attempts were made; 0 for constructs.
        attempts: u32,
    },
    /// The run ended; nothing follows, unless somebody goes on with a run that was stopped.
    RunFinished {
        /// How.
        status: RunStatus,
        /// What all steps and attempts have used.
        usage: Usage,
    },
}

impl fmt::Display for KeptEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at.as_secs_f64();
        write!(f, "{} {seconds:.3}s {}", self.number, self.kind.name())?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        if !self.lane.is_empty() {
            write!(f, " in {}", self.lane)?;
        }
        match &self.kind {
            KeptEventKind::RunFinished { status, .. } => write!(f, ": {status}"),
            _ => Ok(()),
        }
    }
}

impl KeptEventKind {
    /// Its name: `run_started`, `step_started`, `paused`, `step_finished`, `step_failed`, `run_finished`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunStarted => "run_started",
            Self::StepStarted => "step_started",
            Self::Paused => "paused",
            Self::StepFinished { .. } => "step_finished",
            Self::StepFailed { .. } => "step_failed",
            Self::RunFinished { .. } => "run_finished",
        }
    }
}

/// An event, and the record of the step that it is of.
#[derive(Debug)]
pub struct Told {
    /// What happened.
    pub event: KeptEvent,
    /// A history, and a place in it.
    of: Option<(Arc<Finish<Raw>>, usize)>,
}

impl Told {
    /// The step's record as it is now, also for its beginning; `None` for the run as a whole.
    pub fn record(&self) -> Option<&Record<Raw>> {
        let (finish, place) = self.of.as_ref()?;
        finish.history.records.get(*place)
    }

    /// Whether it is the run's end.
    pub fn is_end(&self) -> bool {
        matches!(self.event.kind, KeptEventKind::RunFinished { .. })
    }
}

/// All that is known to have happened in a run, in the order of its own time: what was told before comes first again,
/// however much has happened since.
///
/// # Errors
/// As [`Replay::of_stored`].
pub fn events(stored: &StoredRun) -> Result<Vec<Told>, DurableError> {
    let (plan, replay) = Replay::of_stored(stored)?;
    let now = Duration::from_nanos(replay.now());
    Ok(events_of(
        &plan,
        replay.into_done().map(Arc::from),
        now,
        &stored.info,
    ))
}

/// The same of what has been read of a run: how it ended or what it has done so far, and its time then.
pub fn events_of(plan: &Plan, finish: Option<Arc<Finish<Raw>>>, now: Duration, info: &RunInfo) -> Vec<Told> {
    let mut told = Vec::new();
    if let Some(finish) = finish {
        tell(plan, finish, &mut told);
    }
    // Stable: what happened at one time stays in this order.
    told.sort_by_key(|one: &Told| one.event.at);
    let whole = |at, kind| Told {
        event: KeptEvent {
            number: 0,
            step: Arc::from(""),
            path: Arc::from(""),
            lane: Arc::from(""),
            at,
            kind,
        },
        of: None,
    };
    let mut events = vec![whole(Duration::ZERO, KeptEventKind::RunStarted)];
    events.extend(told);
    let RunInfo { summary, owner, .. } = info;
    if summary.status.has_ended() && owner.is_none() {
        let (status, usage) = (summary.status, summary.usage);
        let last = events.last().map_or(now, |last| last.event.at);
        events.push(whole(last, KeptEventKind::RunFinished { status, usage }));
    }
    for (number, one) in (1..).zip(&mut events) {
        one.event.number = number;
    }
    events
}

/// A history on the way through it, from the beginning of each step to its end.
struct Tour {
    /// The branch or item that it is of.
    lane: Arc<str>,
    finish: Arc<Finish<Raw>>,
    /// The next record, and those that have begun and not ended, by their places.
    next: usize,
    open: Vec<usize>,
}

impl Tour {
    fn of(lane: Arc<str>, finish: Arc<Finish<Raw>>) -> Self {
        let (next, open) = (0, Vec::new());
        Self {
            lane,
            finish,
            next,
            open,
        }
    }

    /// What is told of the step at a place; of what is the work of a step nothing is: the step stands for it.
    fn told(&self, plan: &Plan, place: usize, happened: Option<(Time, KeptEventKind)>) -> Option<Told> {
        let (at, kind) = happened?;
        let node = plan.node(self.finish.history.records.get(place)?.node);
        (!node.inner).then(|| Told {
            event: KeptEvent {
                number: 0,
                step: Arc::clone(&node.name),
                path: Arc::clone(&node.path),
                lane: Arc::clone(&self.lane),
                at: Duration::from_nanos(at),
                kind,
            },
            of: Some((Arc::clone(&self.finish), place)),
        })
    }
}

/// What happened, in the order in which steps are in one another and behind one another.
fn tell(plan: &Plan, finish: Arc<Finish<Raw>>, told: &mut Vec<Told>) {
    let mut tours = vec![Tour::of(Arc::from(""), finish)];
    while let Some(tour) = tours.last_mut() {
        let finish = Arc::clone(&tour.finish);
        let records = &finish.history.records;
        let record = records.get(tour.next);
        let around = record
            .and_then(|record| record.parent)
            .map(|parent| parent as usize);
        while let Some(open) = tour.open.pop() {
            if around == Some(open) {
                tour.open.push(open);
                break;
            }
            if let Some(record) = records.get(open) {
                told.extend(tour.told(plan, open, ended(record)));
            }
        }
        let Some(record) = record else {
            tours.pop();
            continue;
        };
        let began = |kind| tour.told(plan, tour.next, Some((record.started, kind)));
        told.extend(began(KeptEventKind::StepStarted));
        if asks(plan, record) {
            told.extend(began(KeptEventKind::Paused));
        }
        tour.open.push(tour.next);
        tour.next += 1;
        let around = Arc::clone(&tour.lane);
        for inside in record.lanes().iter().rev() {
            if let Some(finish) = &inside.finish {
                let lane = lane_name(plan, &around, record.node, &inside.name);
                tours.push(Tour::of(lane.into(), Arc::clone(finish)));
            }
        }
    }
}

/// Whether a step asks somebody, and has begun to: one whose time is up before that never does.
pub fn asks(plan: &Plan, record: &Record<Raw>) -> bool {
    matches!(plan.node(record.node).kind, Kind::Human(_)) && record.attempts > 0
}

/// How a step has ended, and when, if it has.
fn ended(record: &Record<Raw>) -> Option<(Time, KeptEventKind)> {
    let (usage, attempts) = (record.usage, record.attempts);
    let kind = match record.status {
        Status::Running => return None,
        Status::Succeeded => KeptEventKind::StepFinished { usage, attempts },
        Status::Failed | Status::Cancelled | Status::LimitExceeded => {
            let failure = record.failure.as_ref();
            let error = failure.map(|failure| format!("{}: {}", failure.error_type, failure.message).into());
            KeptEventKind::StepFailed {
                error,
                usage,
                attempts,
            }
        }
    };
    Some((record.ended, kind))
}
