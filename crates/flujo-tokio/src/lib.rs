//! Flujo on tokio: a runner that drives the machine on the caller's own task, lanes as tokio tasks on all cores.
//!
//! A sequential step costs no spawn, no channel and no thread hop: the user's future is polled in place. Dropping a run
//! cancels everything it started. The typed API stands on this crate (`flujo`); blueprints build [`Pipeline`]s directly.

mod agents;
mod alarm;
mod analysis;
mod build;
mod cache;
mod contexts;
mod domain;
mod handler;
mod memory;
mod pools;
mod rates;
mod records;
mod run;
mod runner;
mod scope;
mod telemetry;

pub use build::{
    After, AgenticLoop, BranchFailure, Conditional, Human, Import, ItemFailure, Loop, MapOver, Merge,
    Parallel, Pipeline, StateEnd, StateMachine, Step, StepFailure, Transition, lane_error,
};
pub use cache::{Cache, CacheBuilder, CacheStatistics, TierStatistics};
pub use domain::{BoxError, Raised, Tokio, UserError, user_error};
pub use flujo_core::cache::{CachePolicy, CacheScope, StepIdentity};
pub use flujo_core::plan::IterationFailure;
pub use flujo_core::rate::{RateLimit, RateLimitError};
pub use flujo_core::stats::Alert;
pub use flujo_store::runs::{KeptEvent, KeptEventKind};
pub use handler::{Decision, Handler, Iteration, Reply};
pub use memory::{Memory, Sampled};
pub use run::{
    Canceller, Done, Event, EventKind, EventStream, Events, KeptEvents, KeptRun, Pause, PausedRun,
    ResumeError, Run, RunId, StoppedRun,
};
pub use runner::{BuildError, Recovered, Runner, RunnerBuilder, Worker};
pub use scope::{Place, Resources, Scope};
