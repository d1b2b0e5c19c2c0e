//! What agents answered in a stored run, and an agent that answers the same again.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, Pricing, Retry};
use flujo_core::machine::{Answer, Call, Input, Machine, RetryAdvice, Role};
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use flujo_durable::{Happened, Raw, RawValue};

/// Names a call in every run of its id: its idempotency key, and the attempt.
type Key = (Arc<str>, u32);

/// What an agent was asked, and what it answered.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) path: Arc<str>,
    pub(super) attempt: u32,
    pub(super) input: Value,
    answer: Result<(Value, Usage), (String, RetryAdvice, Usage)>,
}

/// What all agents answered, each in the order of its answers.
#[derive(Debug, Default)]
pub(super) struct Record(HashMap<Key, VecDeque<Recorded>>);

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
    /// Takes in what happened to a machine that waits for this call.
    pub(super) fn take_in(
        &mut self,
        run: &str,
        machine: &Machine<Raw>,
        call: &Call<Raw>,
        happened: &Happened<Raw>,
    ) {
        if call.role != Role::Agent {
            return;
        }
        let answer = match happened {
            Happened::Answered {
                call: id,
                answer: Answer::Value { value, usage },
                ..
            } if *id == call.call => Ok((exact(value), *usage)),
            Happened::Failed {
                call: id,
                failure,
                usage,
                ..
            } if *id == call.call => Err((failure.message.to_string(), failure.retry, *usage)),
            Happened::TimedOut { call: id, usage, .. } if *id == call.call => {
                Err(("it ran out of time".to_owned(), RetryAdvice::Allowed, *usage))
            }
            _ => return,
        };
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
        let key = (key(run, machine, call), call.attempt);
        self.0.entry(key).or_default().push_back(recorded);
    }

    /// What is left of it.
    fn left(self) -> Vec<Recorded> {
        let mut left: Vec<_> = self.0.into_values().flatten().collect();
        left.sort_by(|one, other| (&one.path, one.attempt).cmp(&(&other.path, other.attempt)));
        left
    }
}

/// See `Place::idempotency_key` of the host.
fn key(run: &str, machine: &Machine<Raw>, call: &Call<Raw>) -> Arc<str> {
    let lane = machine
        .lane()
        .map(|lane| lane.name(machine.plan()))
        .unwrap_or_default();
    let mut key = format!("{run}/{lane}/{}", machine.plan().node(call.node).path);
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
}

impl Player {
    pub(super) fn new(record: Record) -> Self {
        let made = Vec::new();
        Self(Mutex::new(Played { record, made }))
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

    fn answer(&self, request: AgentRequest) -> Result<AgentOutput, AgentError> {
        let key = (Arc::clone(&request.idempotency_key), request.attempt);
        let mut played = self.lock();
        let recorded = played.record.0.get_mut(&key).and_then(VecDeque::pop_front);
        played.made.push(Made {
            step: Arc::clone(&request.step),
            attempt: request.attempt,
            input: request.input,
            recorded: recorded.clone(),
        });
        drop(played);
        match recorded.map(|recorded| recorded.answer) {
            Some(Ok((value, usage))) => Ok(AgentOutput {
                usage,
                ..AgentOutput::from(value)
            }),
            Some(Err((message, retry, usage))) => Err(AgentError {
                retry: match retry {
                    RetryAdvice::Allowed => Retry::Allowed,
                    RetryAdvice::After(nanos) => Retry::After(Duration::from_nanos(nanos)),
                    RetryAdvice::Never => Retry::Never,
                },
                usage,
                ..AgentError::new(message)
            }),
            None => Err(AgentError::permanent("nothing was recorded for this call")),
        }
    }
}

impl Agent for Player {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(std::future::ready(self.answer(request)))
    }

    fn pricing(&self) -> Pricing {
        Pricing::Known
    }
}
