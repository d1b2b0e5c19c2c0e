//! What agents answered in a stored run and what its cache had, and an agent that answers the same again.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, Pricing, Retry};
use flujo_core::machine::{Answer, Call, Input, Machine, RetryAdvice, Role};
use flujo_core::usage::{Usage, UsageLimits};
use flujo_core::value::Value;
use flujo_durable::{Happened, Raw, RawValue};
use flujo_tokio::{Canceller, Place};

/// Longer than anything in a run takes, on a clock that goes on when everybody waits.
const NEVER: Duration = Duration::from_hours(1_000_000);

/// Names a call in every run of its id: its idempotency key, and the attempt.
type Key = (Arc<str>, u32);

/// What a cached step found, and what that had used when it was made.
type Hit = (Value, Usage);

/// How far a run had come: how many calls and questions had been answered, and how many calls were cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) answered: usize,
    pub(super) cancelled: usize,
}

/// Where a run stopped, its end included.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stop {
    /// How far it had come when somebody cancelled it, unless it stood still for an answer then.
    pub(super) cancelled: Option<Reached>,
    /// Somebody cancelled it as it stood still.
    pub(super) given_up: bool,
    /// The limits that it came up against.
    pub(super) limits: Option<UsageLimits>,
}

/// What an agent answered, or why it failed, and what it used.
type Answered = Result<(Value, Usage), (String, RetryAdvice, Usage)>;

/// What an agent was asked, and what it answered.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) path: Arc<str>,
    pub(super) attempt: u32,
    pub(super) input: Value,
    /// `None`: it was cancelled.
    answer: Option<Answered>,
}

/// What all agents answered and the cache had, each in the order of its answers.
#[derive(Debug, Default)]
pub(super) struct Record {
    calls: HashMap<Key, VecDeque<Recorded>>,
    hits: HashMap<Arc<str>, VecDeque<Hit>>,
    pub(super) reached: Reached,
}

/// A call that was made now.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) step: Arc<str>,
    pub(super) attempt: u32,
    pub(super) input: Value,
    /// What was recorded of it.
    pub(super) recorded: Option<Recorded>,
}

impl Record {
    /// Takes in what happened to a machine that waits for this call; `stops`: it has been cancelled.
    pub(super) fn take_in(
        &mut self,
        run: &str,
        machine: &Machine<Raw>,
        call: &Call<Raw>,
        happened: &Happened<Raw>,
        stops: bool,
    ) {
        if call.role != Role::Agent {
            return;
        }
        let answer = match happened {
            Happened::Answered {
                call: id,
                answer: Answer::Value { value, usage },
                ..
            } if *id == call.call => Some(Ok((exact(value), *usage))),
            Happened::Failed {
                call: id,
                failure,
                usage,
                ..
            } if *id == call.call => Some(Err((failure.message.to_string(), failure.retry, *usage))),
            Happened::TimedOut { call: id, usage, .. } if *id == call.call => Some(Err((
                "it ran out of time".to_owned(),
                RetryAdvice::Allowed,
                *usage,
            ))),
            Happened::CallCancelled { call: id, .. } if *id == call.call => None,
            _ => return,
        };
        let answer = answer.filter(|_| !stops);
        match answer {
            Some(_) => self.reached.answered += 1,
            None => self.reached.cancelled += 1,
        }
        let node = machine.plan().node(call.node);
        let recorded = Recorded {
            path: Arc::clone(&node.path),
            attempt: call.attempt,
            input: match &call.input {
                Input::Value(value) => exact(value),
                _ => Value::Null,
            },
            answer,
        };
        let key = (key(run, machine, &node.path), call.attempt);
        self.calls.entry(key).or_default().push_back(recorded);
    }

    /// Takes in what a cached step of this path found.
    pub(super) fn take_in_hit(&mut self, run: &str, machine: &Machine<Raw>, path: &str, hit: Hit) {
        let hits = self.hits.entry(key(run, machine, path)).or_default();
        hits.push_back(hit);
    }

    /// What is left of it.
    fn left(self) -> Vec<Recorded> {
        let mut left: Vec<_> = self.calls.into_values().flatten().collect();
        left.sort_by(|one, other| (&one.path, one.attempt).cmp(&(&other.path, other.attempt)));
        left
    }
}

/// See `Place::idempotency_key` of the host.
fn key(run: &str, machine: &Machine<Raw>, path: &str) -> Arc<str> {
    let lane = machine
        .lane()
        .map(|lane| lane.name(machine.plan()))
        .unwrap_or_default();
    let mut key = format!("{run}/{lane}/{path}");
    let iterations = machine.round().map(|round| round.indices()).unwrap_or_default();
    for (place, iteration) in iterations.iter().enumerate() {
        let mark = if place == 0 { '@' } else { '.' };
        // Writing to a string cannot fail.
        let _ = write!(key, "{mark}{iteration}");
    }
    key.into()
}

/// A value as it was, where it is plain data.
pub(super) fn exact(value: &RawValue) -> Value {
    match value {
        RawValue::Bytes(bytes) => Value::from_bytes(bytes, &[]).unwrap_or_else(|| value.shown()),
        RawValue::Other(value) => value.clone(),
    }
}

/// Answers as it was answered, and keeps what it was asked.
pub(super) struct Player(Mutex<Played>);

struct Played {
    record: Record,
    made: Vec<Made>,
    reached: Reached,
    /// Who cancels the run, and when.
    cancel: Option<(Reached, Canceller)>,
}

impl Played {
    /// Cancels the run when it has come as far as it had when it was cancelled.
    fn look(&mut self) {
        if let Some((_, canceller)) = self.cancel.take_if(|(then, _)| *then == self.reached) {
            canceller.cancel();
        }
    }
}

impl Player {
    pub(super) fn new(record: Record) -> Self {
        Self(Mutex::new(Played {
            record,
            made: Vec::new(),
            reached: Reached::default(),
            cancel: None,
        }))
    }

    /// From now on the run is to be cancelled where it was.
    pub(super) fn cancels(&self, at: Option<Reached>, canceller: Canceller) {
        let mut played = self.lock();
        played.cancel = at.map(|at| (at, canceller));
        played.look();
    }

    /// A question was answered, or its time was up.
    pub(super) fn answered(&self) {
        let mut played = self.lock();
        played.reached.answered += 1;
        played.look();
    }

    /// What a cached step finds.
    pub(super) fn found(&self, place: &Place) -> Option<Hit> {
        let mut played = self.lock();
        let hits = played.record.hits.get_mut(&*place.idempotency_key())?;
        hits.pop_front()
    }

    /// The calls that were made, and what was recorded beyond them.
    pub(super) fn end(&self) -> (Vec<Made>, Vec<Recorded>) {
        let mut played = self.lock();
        let record = std::mem::take(&mut played.record);
        (std::mem::take(&mut played.made), record.left())
    }

    fn lock(&self) -> MutexGuard<'_, Played> {
        // Whole calls are put in, so it is good also after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: the call is to be cancelled.
    fn answer(&self, request: AgentRequest) -> Option<Result<AgentOutput, AgentError>> {
        let key = (Arc::clone(&request.idempotency_key), request.attempt);
        let mut played = self.lock();
        let recorded = played.record.calls.get_mut(&key).and_then(VecDeque::pop_front);
        played.made.push(Made {
            step: Arc::clone(&request.step),
            attempt: request.attempt,
            input: request.input,
            recorded: recorded.clone(),
        });
        let Some(Recorded { answer, .. }) = recorded else {
            return Some(Err(AgentError::permanent("nothing was recorded for this call")));
        };
        match answer {
            Some(_) => played.reached.answered += 1,
            None => played.reached.cancelled += 1,
        }
        played.look();
        drop(played);
        Some(match answer? {
            Ok((value, usage)) => Ok(AgentOutput {
                usage,
                ..AgentOutput::from(value)
            }),
            Err((message, retry, usage)) => Err(AgentError {
                retry: match retry {
                    RetryAdvice::Allowed => Retry::Allowed,
                    RetryAdvice::After(nanos) => Retry::After(Duration::from_nanos(nanos)),
                    RetryAdvice::Never => Retry::Never,
                },
                usage,
                ..AgentError::new(message)
            }),
        })
    }
}

impl Agent for Player {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        let answer = self.answer(request);
        Box::pin(async move {
            if let Some(answer) = answer {
                return answer;
            }
            tokio::time::sleep(NEVER).await;
            Err(AgentError::permanent(
                "this call was cancelled, and nobody cancels it now",
            ))
        })
    }

    fn pricing(&self) -> Pricing {
        Pricing::Known
    }
}
