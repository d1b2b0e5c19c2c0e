//! What a host brings so that its runs can be written down.

use std::fmt::Debug;

use flujo_core::machine::{Call, Domain, Event, Machine, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A domain whose objects and contexts can be written down and read again. They are written in a format that isn't for
/// people ([`Serializer::is_human_readable`](serde::Serializer::is_human_readable) is false): exact, with their types.
pub trait Recorded:
    Domain<Object: Serialize + DeserializeOwned, Context: Serialize + DeserializeOwned>
{
    /// What a context is before it is given to a call.
    type Base;

    /// What was written to a fork of a context.
    type Writes: Debug + Serialize + DeserializeOwned;

    /// What was written to `fork`, which a call was given that was asked for when its context was `base`.
    fn writes(base: &Self::Base, fork: &Self::Context) -> Self::Writes;

    /// A fork of `base` with such writes; where it is `isolated` already it may be written to itself: it is the attempt's
    /// own.
    ///
    /// # Errors
    /// What doesn't fit, when they were made to another context.
    fn written(base: &Self::Context, isolated: bool, writes: Self::Writes) -> Result<Self::Context, String>;

    /// Does `work`, which writes one snapshot down. A domain may keep there what several of its parts share.
    fn writing<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    /// Does `work`, which reads one snapshot.
    fn reading<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    /// The answer to a call made again, for callables of which a host records that they answered and not what, since that
    /// can't be written down: it is the same whenever they are called, and they do nothing else. `None` for any other.
    fn again(machine: &Machine<Self>, call: &Call<Self>, at: Time) -> Option<Event<Self>> {
        let _ = (machine, call, at);
        None
    }
}
