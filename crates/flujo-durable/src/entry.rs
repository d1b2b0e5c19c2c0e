//! One thing that happened to one machine of a run, as it is written down.

use std::io::Write;
use std::ops::Not;
use std::sync::Arc;

use flujo_core::machine::{
    Answer, CallId, Event, Failure, FailureKind, LaneId, LimitBreach, Machine, Options, Outcome, PauseId,
    Time, TimerId,
};
use flujo_core::store::WallTime;
use flujo_core::usage::{Usage, UsageLimits};
use serde::{Deserialize, Serialize};

use crate::{DurableError, Recorded};

#[cfg(test)]
mod tests;

/// One thing that happened. The machines of a run are numbered in the order in which they began; the run itself is 0. What
/// is nothing isn't written: a step without usage and context leaves 80 bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Entry<D: Recorded> {
    /// The machine.
    #[serde(default, skip_serializing_if = "is_the_run")]
    pub machine: u32,
    /// The path of the step that it is about, where it is about one: replaying it with another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Arc<str>>,
    /// What happened to it.
    pub happened: Happened<D>,
}

/// Whether a machine is that of the run itself, of which most is told.
#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_the_run(machine: &u32) -> bool {
    *machine == 0
}

/// Where a run goes on that was made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host {
    /// With the host that it had, whose budget stands as it stood.
    Same,
    /// With another one: see [`Machine::take_over`](flujo_core::machine::Machine::take_over).
    Another,
}

/// What happened to a machine. But for the first three, an [`Event`] without what replaying finds by itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Happened<D: Recorded> {
    /// A lane began.
    Began {
        /// The machine that started it.
        parent: u32,
        /// Its name there.
        lane: LaneId,
    },
    /// The run was made again from what was written of it, and went on.
    WentOn {
        /// Where.
        host: Host,
        /// What another host wants from then on. Earlier versions left that as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        options: Option<Options>,
        /// When.
        at: Time,
    },
    /// The run went on after it was stopped, by a limit or by being cancelled.
    TakenUp {
        /// With these options.
        options: Options,
        /// When.
        at: Time,
        /// Within these limits, in place of its runner's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limits: Option<UsageLimits>,
    },
    /// [`Event::Answered`].
    Answered {
        /// The call.
        call: CallId,
        /// The answer.
        answer: Answer<D>,
        /// What was written to the context that the call was given; `None` where it was given none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        writes: Option<D::Writes>,
        /// When.
        at: Time,
    },
    /// [`Event::Answered`] with an answer that can't be written down and can be made again: see [`Recorded::again`].
    Again {
        /// The call.
        call: CallId,
        /// When.
        at: Time,
    },
    /// A call that goes on has recorded something: see [`Once`](crate::Once).
    Once {
        /// The call.
        call: CallId,
        /// Under this name.
        key: Arc<str>,
        /// This.
        value: D::Object,
    },
    /// [`Event::Failed`].
    Failed {
        /// The call.
        call: CallId,
        /// The failure.
        failure: Box<Failure<D>>,
        /// What was used.
        #[serde(default, skip_serializing_if = "Usage::is_zero")]
        usage: Usage,
        /// When.
        at: Time,
    },
    /// [`Event::TimedOut`].
    TimedOut {
        /// The call.
        call: CallId,
        /// What was used.
        #[serde(default, skip_serializing_if = "Usage::is_zero")]
        usage: Usage,
        /// When.
        at: Time,
    },
    /// [`Event::CallCancelled`].
    CallCancelled {
        /// The call.
        call: CallId,
        /// When.
        at: Time,
    },
    /// It sleeps: see [`Sleeping`](crate::Sleeping).
    Sleeps {
        /// The timer.
        timer: TimerId,
        /// For so long from then on, in nanoseconds.
        left: Time,
        /// When, on the wall.
        since: WallTime,
    },
    /// It asks a question.
    Asks {
        /// The question.
        pause: PauseId,
        /// When, on the wall.
        since: WallTime,
    },
    /// [`Event::Woke`].
    Woke {
        /// The timer.
        timer: TimerId,
        /// When.
        at: Time,
    },
    /// [`Event::LaneFinished`].
    LaneFinished {
        /// The lane.
        lane: LaneId,
        /// Why, where its machine didn't end by itself.
        broke: Option<Arc<Failure<D>>>,
        /// When.
        at: Time,
    },
    /// [`Event::Reserved`].
    Reserved,
    /// [`Event::Refused`].
    Refused(Arc<LimitBreach>),
    /// [`Event::CacheHit`].
    CacheHit {
        /// The look-up.
        call: CallId,
        /// The output.
        output: D::Object,
        /// What was saved.
        #[serde(default, skip_serializing_if = "Usage::is_zero")]
        saved: Usage,
        /// When.
        at: Time,
    },
    /// [`Event::CacheMiss`]; the result is not kept by a run that is replayed.
    CacheMiss {
        /// The look-up.
        call: CallId,
        /// Whether the result was to be kept, and if so, whether the step was given a context to see what it reads.
        lead: Option<bool>,
        /// When.
        at: Time,
    },
    /// [`Event::Resumed`].
    Resumed {
        /// The question.
        pause: PauseId,
        /// The answer.
        answer: D::Object,
        /// When.
        at: Time,
    },
    /// [`Event::Expired`].
    Expired {
        /// The question.
        pause: PauseId,
        /// When.
        at: Time,
    },
    /// [`Event::Cancel`].
    Cancel {
        /// When.
        at: Time,
        /// Whether it had not [begun](Machine::has_begun): a machine that is replayed has, as soon as it is there.
        #[serde(default, skip_serializing_if = "Not::not")]
        unbegun: bool,
    },
}

impl<D: Recorded> Happened<D> {
    /// An event as it is written down that `machine` is about to be told of; `base` is what the context of the call it ends
    /// was.
    pub fn of(machine: &Machine<D>, event: &Event<D>, base: Option<&D::Base>) -> Self {
        match event {
            Event::Answered {
                call,
                answer,
                context,
                at,
            } => Self::Answered {
                call: *call,
                answer: answer.clone(),
                writes: match (context, base) {
                    (Some(fork), Some(base)) => Some(D::writes(base, fork)),
                    _ => None,
                },
                at: *at,
            },
            Event::Failed {
                call,
                failure,
                usage,
                at,
            } => Self::Failed {
                call: *call,
                failure: failure.clone(),
                usage: *usage,
                at: *at,
            },
            Event::TimedOut { call, usage, at } => Self::TimedOut {
                call: *call,
                usage: *usage,
                at: *at,
            },
            Event::CallCancelled { call, at } => Self::CallCancelled { call: *call, at: *at },
            Event::Woke { timer, at } => Self::Woke {
                timer: *timer,
                at: *at,
            },
            Event::LaneFinished { lane, finish, at } => Self::LaneFinished {
                lane: *lane,
                broke: match &finish.outcome {
                    Outcome::Failed(failure)
                        if failure.kind == FailureKind::Host && finish.history.records.is_empty() =>
                    {
                        Some(Arc::clone(failure))
                    }
                    _ => None,
                },
                at: *at,
            },
            Event::Reserved => Self::Reserved,
            Event::Refused(breach) => Self::Refused(Arc::clone(breach)),
            Event::CacheHit {
                call,
                output,
                saved,
                at,
            } => Self::CacheHit {
                call: *call,
                output: output.clone(),
                saved: *saved,
                at: *at,
            },
            Event::CacheMiss { call, lead, at } => Self::CacheMiss {
                call: *call,
                lead: lead.as_ref().map(|lead| lead.context.is_some()),
                at: *at,
            },
            Event::Resumed { pause, answer, at } => Self::Resumed {
                pause: *pause,
                answer: answer.clone(),
                at: *at,
            },
            Event::Expired { pause, at } => Self::Expired {
                pause: *pause,
                at: *at,
            },
            Event::Cancel { at } => Self::Cancel {
                at: *at,
                unbegun: !machine.has_begun(),
            },
        }
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Began { .. } => "the beginning of a lane",
            Self::WentOn { .. } | Self::TakenUp { .. } => "going on",
            Self::Answered {
                answer: Answer::Redirect { .. },
                ..
            } => "a plugin's request for another agent",
            Self::Answered { .. } | Self::Again { .. } => "an answer to a call",
            Self::Once { .. } => "what a step does once",
            Self::Failed { .. } => "the failure of a call",
            Self::TimedOut { .. } => "a call whose time was up",
            Self::CallCancelled { .. } => "a call that was cancelled",
            Self::Sleeps { .. } => "the beginning of a wait",
            Self::Asks { .. } => "a question",
            Self::Woke { .. } => "the end of a wait",
            Self::LaneFinished { .. } => "the end of a lane",
            Self::Reserved | Self::Refused(_) => "an answer from the budget",
            Self::CacheHit { .. } | Self::CacheMiss { .. } => "an answer from the cache",
            Self::Resumed { .. } => "an answer to a question",
            Self::Expired { .. } => "a question whose time was up",
            Self::Cancel { .. } => "a cancellation",
        }
    }
}

impl<D: Recorded> Entry<D> {
    /// Something that is about no step.
    pub fn of(machine: u32, happened: Happened<D>) -> Self {
        Self {
            machine,
            step: None,
            happened,
        }
    }

    /// Puts the entry behind `bytes`.
    ///
    /// # Errors
    /// [`DurableError::Unsavable`] for a value that can't be written down; `bytes` is as it was.
    pub fn write(&self, bytes: &mut Vec<u8>) -> Result<(), DurableError> {
        let before = bytes.len();
        self.put(bytes).inspect_err(|_| bytes.truncate(before))
    }

    /// The same; after an error a part of it may have been put there.
    pub(crate) fn put(&self, bytes: &mut impl Write) -> Result<(), DurableError> {
        write(self, self.happened.name(), bytes)
    }

    /// The entries that were put behind one another.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn read_all(mut bytes: &[u8]) -> Result<Vec<Self>, String> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            entries.push(rmp_serde::decode::from_read(&mut bytes).map_err(|error| error.to_string())?);
        }
        Ok(entries)
    }
}

/// Puts something behind `bytes`.
pub(crate) fn write<T: Serialize>(what: &T, name: &str, bytes: &mut impl Write) -> Result<(), DurableError> {
    let mut serializer = rmp_serde::Serializer::new(bytes).with_struct_map();
    what.serialize(&mut serializer)
        .map_err(|error| DurableError::Unsavable {
            what: name.to_owned(),
            reason: error.to_string(),
        })
}

/// What a machine is told in place of something that can't be written down: that it failed, where it can be told so.
pub fn instead<D: Recorded>(event: Event<D>, failure: Failure<D>) -> Event<D> {
    match event {
        Event::Answered { call, answer, at, .. } => Event::Failed {
            call,
            failure: Box::new(failure),
            usage: match answer {
                Answer::Value { usage, .. } => usage,
                _ => Usage::ZERO,
            },
            at,
        },
        Event::CacheHit { call, at, .. } => Event::CacheMiss { call, lead: None, at },
        Event::Failed { call, usage, at, .. } => Event::Failed {
            call,
            failure: Box::new(failure),
            usage,
            at,
        },
        Event::Resumed { pause, at, .. } => Event::Expired { pause, at },
        event => event,
    }
}
