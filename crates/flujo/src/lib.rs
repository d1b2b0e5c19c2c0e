//! Flujo runs pipelines of asynchronous steps: with retries, time limits, fallbacks, parallel branches, budgets and an
//! exact record of what happened.
//!
//! ```
//! use flujo::{BoxError, Flujo, step};
//!
//! async fn read(path: String) -> std::io::Result<String> {
//!     tokio::fs::read_to_string(path).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! let p = step("read", read) >> step("count", |t: String| async move { Ok::<_, BoxError>(t.lines().count()) });
//! let r = Flujo::new(p).run("Cargo.toml".into()).await?;
//! println!("{}", r.output); // usize, no downcast
//! # assert!(r.output > 5);
//! # Ok(()) }
//! ```
//!
//! A step's input must be [`Clone`], since retries, fallbacks and parallel branches need it again; give large inputs as
//! [`Arc`](std::sync::Arc)s. Steps pass values on as they are, never serialised.
//!
//! The usual size, with a context, retries and events:
//!
//! ```
//! use std::time::Duration;
//! use flujo::{Backoff, BoxError, Context, Flujo, Scope, UsageLimits, step};
//!
//! #[derive(Default, Context)]
//! struct Review {
//!     #[merge(sum)]
//!     seen: u32,
//! }
//!
//! async fn read(path: String) -> std::io::Result<String> {
//!     tokio::fs::read_to_string(path).await
//! }
//!
//! # #[tokio::main] async fn main() -> Result<(), BoxError> {
//! let summarise = step("summarise", |t: String, s: Scope<Review>| async move {
//!     s.context().update(|c| c.seen += 1);
//!     Ok::<_, BoxError>(t)
//! })
//! .retries(2)
//! .backoff(Backoff::exponential(Duration::from_millis(100)))
//! .timeout(Duration::from_secs(30))
//! .validate(|s: &String| if s.is_empty() { Err("empty".into()) } else { Ok(()) })
//! .durable(); // here, and only here: the types must be Serialize + DeserializeOwned
//! let p = (step("read", read) >> summarise).map_over(8)
//!     >> step("join", |v: Vec<String>| async move { Ok::<_, BoxError>(v.join("\n")) });
//! let flujo = Flujo::builder(p).usage_limits(UsageLimits::default()).build()?;
//! let paths = vec!["Cargo.toml".to_owned(), "src/lib.rs".to_owned()];
//! let mut run = flujo.start(paths); // a handle: id(), cancel(), events(), and a future
//! while let Some(e) = run.events().next().await {
//!     println!("{e}");
//! }
//! let done = run.await?; // Run { output, context, steps, usage }
//! assert_eq!(done.context.seen, 2);
//! println!("{}", done.steps);
//! # Ok(()) }
//! ```

// What `#[derive(Context)]` writes names this crate.
extern crate self as flujo;

pub mod context;
pub mod rules;

mod agent;
mod agentic;
mod branch;
mod durable;
mod handler;
mod human;
mod kept;
mod map;
mod parallel;
mod payload;
mod pipeline;
mod read;
mod repeat;
mod route;
mod run;
mod runner;
mod scope;
mod states;
mod step;
mod steps;

pub use flujo_core::agent::{
    Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, Pricing, Retry, TokenCounts,
};
pub use flujo_core::cache::{CachePolicy, CacheScope, SecondTier};
pub use flujo_core::config::{OptimizationConfig, Part};
pub use flujo_core::context::{Context as Fields, MergeConflict, MergeRule, MergeRules, MergeStrategy};
pub use flujo_core::machine::{FailureKind, LimitBreach, Status};
pub use flujo_core::plan::Backoff;
pub use flujo_core::rate::{RateLimit, RateLimitError};
pub use flujo_core::stats::{Alert, AlertKind, PerformanceStatistics};
pub use flujo_core::store::{Lease, RunInfo, RunStatus, RunStore, StoreError};
pub use flujo_core::telemetry::{SpanContext, SpanQueue, TraceparentError};
pub use flujo_core::usage::{Cost, Usage, UsageLimits};
pub use flujo_core::value::{CodecError, Value, from_value, to_value};
pub use flujo_durable::{Durability, DurableError, ForkError, ForkPoint, Retention};
pub use flujo_macros::Context;
#[cfg(feature = "observe")]
pub use flujo_observe as observe;
/// Where runs are kept that outlive their process.
pub use flujo_store as store;
pub use flujo_tokio as untyped;
pub use flujo_tokio::{
    BoxError, BuildError, Cache, Canceller, Event, EventKind, Events, KeptEvent, KeptEventKind, KeptEvents,
    Pause, PausedRun, Place, Recovered, ResumeError, RunId, StoppedRun, Worker,
};

pub use agent::agent_step;
pub use agentic::{AgentCommand, AgentTurn, AgenticLoop, Planning, agentic_loop};
pub use branch::{Branch, branch};
pub use context::{Context, ContextError, Unify};
pub use handler::Handler;
pub use human::{Human, Question, human};
pub use kept::KeptRun;
pub use map::MapOver;
pub use parallel::{BranchError, BranchResults, Branches, Parallel, parallel};
pub use payload::Payload;
pub use pipeline::{FeedsInto, Pipeline, Stage};
pub use read::Read;
pub use repeat::{Loop, Refinement, refine_until};
pub use route::{StepFailure, import};
pub use run::{EventStream, InvalidRun, PartialRun, Run, RunError, RunHandle};
pub use runner::{Flujo, FlujoBuilder};
pub use scope::{ContextHandle, Scope};
pub use states::{StateMachine, state_machine};
pub use step::{Step, gather, step};
pub use steps::{LaneView, StepView, Steps};
