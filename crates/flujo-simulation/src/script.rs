//! Callables that do what is written down for them.

use std::sync::Arc;

use flujo_core::usage::Usage;
use serde::{Deserialize, Serialize};

use crate::Object;

/// What a plan of the simulation holds.
pub type Callable = Arc<Script>;

/// What a callable does: on its nth call within a lane the nth act, the last one again and again; without acts what
/// is natural for its role, at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Script {
    /// The acts.
    pub acts: Vec<Act>,
}

/// One call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Act {
    /// How long it takes, in virtual nanoseconds.
    pub takes: u64,
    /// How much longer for each unit of an input that is a number above 0.
    pub takes_per_unit: u64,
    /// What comes of it.
    pub does: Does,
    /// What it uses, also when it fails or is ended by its deadline.
    pub usage: Usage,
    /// What it writes into the context it is given, whatever comes of it. A field whose name ends in `#` is another one
    /// for each call: its number and lane are put behind the name.
    pub writes: Vec<(String, Write)>,
    /// What it does when it is told to end early.
    pub on_cancel: OnCancel,
    /// Whether nothing can end it early: it is looked at only after it has returned.
    pub inline: bool,
    /// Of an act that makes a question: who answers what, each time it is asked; the last one again and again.
    pub replies: Vec<Reply>,
}

/// What comes of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// After how many virtual nanoseconds. A run of which nothing else is left to do stands still meanwhile.
    pub after: u64,
    /// The answer; `None` when none comes in time.
    pub answer: Option<Object>,
}

/// What comes of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Does {
    /// What is natural for the role: agents, processors and mappers give their input, validators, plugins and hooks
    /// accept, a condition takes the first branch, a
    /// router all of them, a loop ends, a state machine goes on to the next state, items are those of the input, contexts are merged and outputs
    /// collected.
    #[default]
    Natural,
    /// Gives this value.
    Return(Object),
    /// Gives the input plus this number; the number itself when the input is none.
    Add(i64),
    /// Raises an error.
    Fail {
        /// Whether another attempt is pointless.
        permanent: bool,
        /// How many nanoseconds the next attempt is to wait.
        retry_after: Option<u64>,
    },
    /// Raises an error when the input is an odd number, else gives the input.
    FailOdd,
    /// Rejects the output.
    Reject,
    /// Asks for the agent of this identity.
    Redirect(u64),
    /// Gives this key to a conditional.
    Choose(String),
    /// Tells a loop whether it has done.
    Exit(bool),
    /// Tells a loop that it has done when its value is at least this number.
    ExitAt(i64),
    /// Gives these items to a map.
    Items(Vec<Object>),
    /// Gives as many items, one at a time when asked for; the acts after this one say how each is read.
    Cursor(u32),
    /// Ends the run.
    Abort,
    /// Says that the pipeline cannot work.
    Fatal,
    /// Never ends by itself.
    Hang,
}

/// What a call does when it is told to end early.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCancel {
    /// Ends at once.
    #[default]
    Obey,
    /// Ends at once and says what it had used, also when it is cancelled.
    Report,
    /// Ends after this many nanoseconds.
    Linger(u64),
    /// Goes on and ends as if nothing had been said.
    Ignore,
    /// Goes on where nobody looks any more: the host says that it has ended, and what it answers comes late.
    Abandon,
}

/// One write into a field of the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Sets it.
    Set(Object),
    /// Appends to the list in it.
    Append(Object),
    /// Adds to the number in it.
    Add(i64),
}

impl Script {
    /// The same act at every call.
    pub fn always(act: Act) -> Self {
        Self { acts: vec![act] }
    }

    /// The act of the nth call, from 0.
    pub fn act(&self, call: usize) -> Act {
        self.acts
            .get(call)
            .or(self.acts.last())
            .cloned()
            .unwrap_or_default()
    }
}

impl From<Does> for Script {
    fn from(does: Does) -> Self {
        Self::always(Act {
            does,
            ..Act::default()
        })
    }
}
