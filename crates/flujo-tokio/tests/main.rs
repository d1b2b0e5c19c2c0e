//! What runs do on tokio.

mod agentic;
mod bad_input;
mod caching;
mod callables;
mod changed_pipelines;
mod control_flow;
mod degraded;
#[path = "differential/main.rs"]
mod differential;
mod durable;
mod events;
mod going_on;
mod informed;
#[path = "kept_runs/main.rs"]
mod kept_runs;
mod left;
mod mutated_state;
mod once;
mod optimization;
mod pauses;
mod rates;
mod shared_rates;
mod taken_over;
mod telemetry;
mod untyped;
mod usage_cases;
