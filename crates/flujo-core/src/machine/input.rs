//! What a callable works on.

use std::sync::Arc;

use super::{Domain, Failure, LaneRecord, Outcome, Pause};

/// What a callable works on.
#[derive(Debug, Clone)]
pub enum Input<D: Domain> {
    /// One value.
    Value(D::Object),
    /// One value, for the agent that a plugin asked for.
    Redirect {
        /// The agent.
        agent: D::Object,
        /// Its input.
        input: D::Object,
    },
    /// A collection that is read item by item.
    Items {
        /// What it is read with.
        items: D::Object,
        /// So many items have been taken from it before, and are to be passed over.
        past: u32,
    },
    /// Lanes that have ended, in declared order.
    Lanes(Arc<Vec<LaneRecord<D>>>),
    /// A step's record in the history, with the input the step began with.
    Record {
        /// The record; `None` before there is one.
        record: Option<u32>,
        /// The step's or run's input.
        input: Option<D::Object>,
    },
    /// An iteration of a loop.
    Iteration {
        /// What the callable works on: the loop's input at first, then the body's output or its judge's.
        value: D::Object,
        /// What the loop was given.
        start: D::Object,
        /// The iterations begun so far.
        index: u32,
    },
    /// How a state ended.
    State {
        /// The state's place.
        state: u32,
        /// Its output, when it succeeded.
        output: Option<D::Object>,
        /// Why it failed, when it did.
        failure: Option<Arc<Failure<D>>>,
    },
    /// A failure that is to be persisted, or that a handler is to deal with.
    Route {
        /// The failure.
        failure: Arc<Failure<D>>,
        /// What the step or part that failed had been given.
        input: D::Object,
        /// Where its records begin in the history.
        first: u32,
    },
    /// A question that is about to be asked.
    Pause(Box<Pause<D>>),
    /// How the run ended.
    Outcome(Box<Outcome<D>>),
}
