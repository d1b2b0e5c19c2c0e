//! A stored run that is played again: what its agents answered, where its hooks ended it and what its cache had is told to
//! the pipeline as it is now, and nobody is called for it. Everything else runs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::machine::{
    Answer, Call as AnyCall, CallId, Domain, FailureKind, HookPoint, Input, LanePlace, Machine as AnyMachine,
    Role, Time,
};
use flujo_core::store::{RunStatus, StoredRun};
use flujo_core::usage::Usage;
use flujo_durable::{Contents, Definition, DurableError, Entry, Happened, RawIn, RawValue, Replay, Snapshot};
use pyo3::prelude::*;

use super::call::{Begun, Pending, Reader};
use super::context::ContextCell;
use super::domain::{CacheGet, Call, Event, Failure, Machine, Python3};
use super::names;
use super::shared::Shared;
use super::usage;
use crate::cache::{Purpose, read, write};
use crate::object::Object;

/// Names what is asked for in every run of the same pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    path: Arc<str>,
    lane: String,
    iterations: Vec<u32>,
    asks: Asks,
    attempt: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asks {
    Agent,
    Hook(HookPoint),
    Cache,
}

impl Key {
    fn of<D: Domain>(machine: &AnyMachine<D>, path: &Arc<str>, asks: Asks, attempt: u32) -> Self {
        let lane = machine.lane().map(Arc::as_ref);
        Self {
            path: Arc::clone(path),
            lane: lane
                .map(|lane| LanePlace::name(lane, machine.plan()))
                .unwrap_or_default(),
            iterations: machine.round().map(|round| round.indices()).unwrap_or_default(),
            asks,
            attempt,
        }
    }
}

fn asks(role: Role) -> Option<Asks> {
    match role {
        Role::Agent | Role::Redirect => Some(Asks::Agent),
        Role::Hook(point) => Some(Asks::Hook(point)),
        _ => None,
    }
}

/// What was asked, and what came of it.
struct Recorded {
    input: Option<Arc<[u8]>>,
    happened: Happened<Python3>,
    /// What a call had used that was cancelled.
    used: Usage,
}

impl Recorded {
    fn new(input: Option<Arc<[u8]>>, happened: Happened<Python3>) -> Self {
        let used = Usage::ZERO;
        Self {
            input,
            happened,
            used,
        }
    }
}

/// Something that isn't as it was.
struct Difference {
    path: Arc<str>,
    lane: String,
    attempt: u32,
    what: &'static str,
    recorded: Option<Py<PyAny>>,
    now: Option<Py<PyAny>>,
}

/// Why a run can't be played again.
pub(crate) enum Unplayable {
    Durable(DurableError),
    Reason(String),
}

impl From<DurableError> for Unplayable {
    fn from(error: DurableError) -> Self {
        Self::Durable(error)
    }
}

/// What happened in a run, for it to happen again.
pub(crate) struct Player {
    input: Object,
    context: Arc<ContextCell>,
    record: Mutex<HashMap<Key, VecDeque<Recorded>>>,
    differences: Mutex<Vec<Difference>>,
}

/// The answers of people, in order: the question and its step, and None where nobody answered in time.
pub(super) type Answers = Vec<(String, String, Option<Object>)>;

/// A stored run as it was.
pub(crate) struct Played {
    pub(super) player: Player,
    pub(super) answers: Answers,
    /// The times it stopped, its end included: whether it was cancelled, and how many calls had been cancelled by then.
    pub(super) stops: Vec<(bool, usize)>,
    pub(super) status: &'static str,
    pub(super) output: Option<RawValue>,
    pub(super) context: Arc<ContextCell>,
    pub(super) usage: Usage,
}

impl Played {
    /// Follows the log of a run from its beginning.
    pub(super) fn of(stored: &StoredRun) -> Result<Self, Unplayable> {
        let plan = Definition::of_stored(stored)?
            .plan()
            .map_err(Unplayable::Reason)?;
        let contents = Contents::<Python3>::of(stored)?;
        let Snapshot::Start(start) = contents.snapshot else {
            return Err(Unplayable::Reason(
                "its log isn't kept from the beginning on".to_owned(),
            ));
        };
        let raw = Contents::<RawIn<Python3>>::of(stored)?;
        let mut replay = Replay::new(Arc::new(plan), raw.snapshot).map_err(Unplayable::Reason)?;
        let mut record: HashMap<Key, VecDeque<Recorded>> = HashMap::new();
        let (mut answers, mut stops, mut cancelled) = (Vec::new(), Vec::new(), 0);
        // Machines that have been cancelled: what was under way in them ends by that.
        let mut cancelling = HashSet::new();
        let entries = contents.records.into_iter().flat_map(|(_, entries)| entries);
        for (before, entry) in raw
            .records
            .into_iter()
            .flat_map(|(_, entries)| entries)
            .zip(entries)
        {
            match entry.happened {
                Happened::Cancel { .. } => drop(cancelling.insert(entry.machine)),
                Happened::TakenUp { .. } => {
                    stops.push((cancelling.contains(&0), cancelled));
                    cancelling.clear();
                }
                _ => {}
            }
            let ends_cancelled = cancelling.contains(&entry.machine);
            if let Some((key, mut recorded)) = take_in(&replay, entry, &mut answers) {
                if ends_cancelled && let Some((call, used, at)) = end_of_call(&recorded.happened) {
                    recorded.happened = Happened::CallCancelled { call, at };
                    recorded.used = used;
                }
                let held = matches!(recorded.happened, Happened::CallCancelled { .. });
                cancelled += usize::from(held && key.asks == Asks::Agent);
                record.entry(key).or_default().push_back(recorded);
            }
            replay.feed(before).map_err(Unplayable::Reason)?;
        }
        let finish = replay.into_finish();
        let finish = finish.ok_or_else(|| Unplayable::Reason("it hasn't ended".to_owned()))?;
        Ok(Self {
            player: Player {
                input: start.input,
                context: start.context,
                record: Mutex::new(record),
                differences: Mutex::default(),
            },
            answers,
            stops: {
                stops.push((stored.info.summary.status == RunStatus::Cancelled, cancelled));
                stops
            },
            status: stored.info.summary.status.as_str(),
            output: match finish.outcome {
                flujo_core::machine::Outcome::Completed(output) => Some(output),
                _ => None,
            },
            context: finish.context,
            usage: finish.usage,
        })
    }
}

/// The call that ended, what it had used, and when.
fn end_of_call(happened: &Happened<Python3>) -> Option<(CallId, Usage, Time)> {
    match happened {
        Happened::Answered { call, answer, at, .. } => {
            let used = match answer {
                Answer::Value { usage, .. } => *usage,
                _ => Usage::ZERO,
            };
            Some((*call, used, *at))
        }
        Happened::Failed { call, usage, at, .. } | Happened::TimedOut { call, usage, at } => {
            Some((*call, *usage, *at))
        }
        _ => None,
    }
}

/// What is played of one thing that happened.
fn take_in(
    replay: &Replay<RawIn<Python3>>,
    entry: Entry<Python3>,
    answers: &mut Answers,
) -> Option<(Key, Recorded)> {
    let Entry {
        machine, happened, ..
    } = entry;
    match happened {
        Happened::Resumed { .. } | Happened::Expired { .. } => {
            let mut open = replay.questions().into_iter();
            let question = open.find(|open| open.machine == machine)?;
            let answer = match happened {
                Happened::Resumed { answer, .. } => Some(answer),
                _ => None,
            };
            let path = replay.plan().node(question.question.node).path.to_string();
            answers.push((question.id, path, answer));
            None
        }
        Happened::CacheHit { .. } => {
            let (machine, path) = replay.step_of(machine)?;
            let key = Key::of(machine, path, Asks::Cache, 0);
            Some((key, Recorded::new(None, happened)))
        }
        Happened::Answered { call, .. }
        | Happened::Failed { call, .. }
        | Happened::TimedOut { call, .. }
        | Happened::CallCancelled { call, .. } => {
            let (machine, asked) = replay.call(machine)?;
            let asks = asks(asked.role)?;
            if asked.call != call {
                return None;
            }
            let input = match &asked.input {
                Input::Value(RawValue::Bytes(bytes)) => Some(Arc::clone(bytes)),
                _ => None,
            };
            let path = &machine.plan().node(asked.node).path;
            let key = Key::of(machine, path, asks, asked.attempt);
            Some((key, Recorded::new(input, happened)))
        }
        _ => None,
    }
}

impl Player {
    /// What the run begins with.
    pub(super) fn start(&self, py: Python<'_>) -> (Py<PyAny>, Arc<ContextCell>) {
        (self.input.clone_ref(py), Arc::clone(&self.context))
    }

    /// What comes of a call; None where it is to be made.
    pub(super) fn call(
        &self,
        py: Python<'_>,
        shared: &Shared,
        machine: &Machine,
        call: &Call,
    ) -> PyResult<Option<Begun>> {
        let Some(asks) = asks(call.role) else {
            return Ok(None);
        };
        let path = &machine.plan().node(call.node).path;
        let key = Key::of(machine, path, asks, call.attempt);
        let recorded = self.take(&key);
        if asks == Asks::Agent {
            self.compare(py, key, call, recorded.as_ref());
        }
        self.told(py, shared, call, recorded).map(Some)
    }

    /// What the cache says.
    pub(super) fn look(&self, py: Python<'_>, shared: &Shared, machine: &Machine, get: &CacheGet) -> Event {
        let (call, at) = (get.call, shared.now(py));
        let key = Key::of(machine, &machine.plan().node(get.node).path, Asks::Cache, 0);
        match self.take(&key).map(|recorded| recorded.happened) {
            Some(Happened::CacheHit { output, saved, .. }) => Event::CacheHit {
                call,
                output,
                saved,
                at,
            },
            _ => Event::CacheMiss { call, lead: None, at },
        }
    }

    fn told(
        &self,
        py: Python<'_>,
        shared: &Shared,
        asked: &Call,
        recorded: Option<Recorded>,
    ) -> PyResult<Begun> {
        let (call, at) = (asked.call, shared.now(py));
        let used = recorded.as_ref().map_or(Usage::ZERO, |recorded| recorded.used);
        let event = match recorded.map(|recorded| recorded.happened) {
            Some(Happened::Answered { answer, writes, .. }) => {
                let written = writes.map(|writes| writes.again(py, &asked.context, asked.isolated));
                Event::Answered {
                    call,
                    answer,
                    context: written.transpose()?,
                    at,
                }
            }
            Some(Happened::Failed { failure, usage, .. }) => Event::Failed {
                call,
                failure,
                usage,
                at,
            },
            Some(Happened::TimedOut { usage, .. }) => Event::TimedOut { call, usage, at },
            Some(Happened::CallCancelled { .. }) => {
                // Whoever cancelled it does so again.
                let waits = names::until_cancelled(py)?.call1((usage::to_dict(py, used)?,))?;
                let reader = Reader::Callable(Arc::clone(shared.plan.node_callable(asked)));
                let pending = Pending::new(call, None, reader, waits.unbind());
                return Ok(Begun::UnderWay(Box::new(pending)));
            }
            _ if matches!(asked.role, Role::Hook(_)) => Event::Answered {
                call,
                answer: Answer::Done,
                context: None,
                at,
            },
            _ => {
                let message = "nothing was recorded for this call";
                let mut failure = Failure::new(FailureKind::Agent, "ReplayError", message).permanent();
                let error = names::replay_error(py)?.call1((message,))?;
                failure.error = Some(error.into());
                Event::Failed {
                    call,
                    failure: Box::new(failure),
                    usage: Usage::ZERO,
                    at,
                }
            }
        };
        Ok(Begun::Ended(event))
    }

    /// Compares what an agent is asked with what it was asked.
    fn compare(&self, py: Python<'_>, key: Key, call: &AnyCall<Python3>, recorded: Option<&Recorded>) {
        let now = match &call.input {
            Input::Value(value) | Input::Redirect { input: value, .. } => value.bind(py),
            _ => return,
        };
        let (what, before) = match recorded {
            None => ("call", None),
            Some(Recorded { input: None, .. }) => return,
            Some(Recorded {
                input: Some(input), ..
            }) => match differing(py, input, now) {
                None => return,
                Some(before) => ("input", Some(before.unbind())),
            },
        };
        let difference = Difference {
            path: key.path,
            lane: key.lane,
            attempt: key.attempt,
            what,
            recorded: before,
            now: Some(now.clone().unbind()),
        };
        lock(&self.differences).push(difference);
    }

    fn take(&self, key: &Key) -> Option<Recorded> {
        lock(&self.record).get_mut(key).and_then(VecDeque::pop_front)
    }

    /// In what the run differed that was played: what was asked otherwise, then what wasn't asked any more.
    pub(super) fn differences(&self, py: Python<'_>) -> Vec<Told> {
        let mut differences = std::mem::take(&mut *lock(&self.differences));
        let mut left: Vec<_> = std::mem::take(&mut *lock(&self.record))
            .into_iter()
            .filter(|(key, _)| key.asks == Asks::Agent)
            .flat_map(|(key, recorded)| recorded.into_iter().map(move |one| (key.clone(), one)))
            .collect();
        left.sort_by(|(one, _), (other, _)| {
            let order = |key: &Key| {
                (
                    Arc::clone(&key.path),
                    key.lane.clone(),
                    key.iterations.clone(),
                    key.attempt,
                )
            };
            order(one).cmp(&order(other))
        });
        differences.extend(left.into_iter().map(|(key, recorded)| {
            Difference {
                path: key.path,
                lane: key.lane,
                attempt: key.attempt,
                what: "call",
                recorded: recorded
                    .input
                    .and_then(|input| value(py, &input))
                    .map(Bound::unbind),
                now: None,
            }
        }));
        let told = differences.into_iter().map(|one| {
            let path = one.path.to_string();
            (path, one.lane, one.attempt, one.what, one.recorded, one.now)
        });
        told.collect()
    }
}

/// A difference as Python is told of it: path, lane, attempt, what, then, now.
pub(super) type Told = (
    String,
    String,
    u32,
    &'static str,
    Option<Py<PyAny>>,
    Option<Py<PyAny>>,
);

/// What was recorded, where that isn't what there is now.
pub(super) fn differing<'py>(
    py: Python<'py>,
    recorded: &[u8],
    now: &Bound<'py, PyAny>,
) -> Option<Bound<'py, PyAny>> {
    if write(now, Purpose::Record).is_ok_and(|written| *written.bytes == *recorded) {
        return None;
    }
    // The order of sets is another one each time.
    let before = value(py, recorded).unwrap_or_else(|| py.None().into_bound(py));
    let same = before.get_type().is(now.get_type()) && before.eq(now).unwrap_or(false);
    (!same).then_some(before)
}

/// A value as its program wrote it; None for one whose class isn't there any more.
pub(super) fn value<'py>(py: Python<'py>, bytes: &[u8]) -> Option<Bound<'py, PyAny>> {
    read(py, bytes).ok()
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole values are put in place, so it is good also after a panic.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
