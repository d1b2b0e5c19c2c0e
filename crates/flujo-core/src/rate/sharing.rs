//! Limits that several processes share: whoever keeps the count for all of them is asked before a call is let through.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::RateLimit;

/// Begins what is told of a limit that this process keeps by itself although it is to be shared.
pub const ALONE: &str = "a rate limit is kept by this process alone";

/// Keeps the count of a limit for several processes. Nothing here waits: what is asked is answered later, from any thread.
pub trait SharedCount: Send + Sync {
    /// Names it, without secrets: two limits are the same only when they are shared by the same.
    fn name(&self) -> &str;

    /// Asks to let a call begin that is expected to use so many tokens. `call` is its number in this process, for the limit
    /// of this name. The answer is told once.
    fn ask(&self, limit: &RateLimit, call: u64, tokens: u64, answer: Answer);

    /// What became of a call that was let through.
    fn tell(&self, limit: &RateLimit, call: u64, end: CallEnd);
}

/// Takes what was said.
pub type Answer = Box<dyn FnOnce(Verdict) + Send>;

/// What is said of a call that wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Admitted,
    /// Not before that much time has passed since it was asked for.
    Wait(Duration),
    /// Nobody could be asked, for this reason: the process keeps the limit by itself.
    Alone(Arc<str>),
}

/// What became of a call that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// It has ended, and used so many tokens. Nobody is let through for a while, if it says so.
    Used {
        /// Tokens.
        tokens: u64,
        /// How long everybody waits.
        hold: Option<Duration>,
    },
    /// It has ended, and nobody knows what it used.
    Unknown,
    /// It never began.
    NotMade,
}

/// Who keeps the count. Equal when the names are.
#[derive(Clone)]
pub struct Sharing(pub Arc<dyn SharedCount>);

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sharing").field(&self.0.name()).finish()
    }
}

impl PartialEq for Sharing {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

/// How far the call that is first in the line has got with whoever keeps the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    UnderWay,
    /// It may begin; whether the count knows of it.
    Granted(bool),
    /// It may ask again at this time.
    Until(crate::machine::Time),
}
