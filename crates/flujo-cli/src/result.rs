//! The result of a run as JSON: what `flujo run --json` prints. `result.schema.json` describes it.

use flujo_core::machine::{Domain, Failure, History, LaneRecord, Outcome, Record, Status, Stop};
use flujo_core::plan::Plan;
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use flujo_tokio::{Done, Pause, PausedRun};
use serde_json::{Value as Json, json};

/// The JSON schema of the result.
pub(crate) const SCHEMA: &str = include_str!("result.schema.json");

/// The result of a run.
pub(crate) fn to_json(done: &Done) -> Json {
    let finish = &done.finish;
    json!({
        "run_id": done.id.to_string(),
        "pipeline": &**done.plan.name(),
        "status": done.status(),
        "output": done.output().map_or(Json::Null, plain),
        "error": error(&finish.outcome),
        "usage": usage(finish.usage),
        "pauses": done.paused.iter().flat_map(PausedRun::pauses).map(pause).collect::<Vec<_>>(),
        "context": plain(&finish.context.to_value()),
        "steps": steps(&done.plan, &finish.history, finish.history.children(None)),
    })
}

pub(crate) fn error<D: Domain>(outcome: &Outcome<D>) -> Json {
    match outcome {
        Outcome::Completed(_) | Outcome::Stopped(Stop::Cancelled | Stop::Paused) => Json::Null,
        Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => describe(failure),
        Outcome::Stopped(Stop::Aborted(reason)) => {
            json!({"step": null, "type": "Aborted", "message": &**reason})
        }
        Outcome::Stopped(Stop::LimitExceeded(breach)) => {
            json!({"step": &*breach.step, "type": "UsageLimitExceeded", "message": breach.to_string()})
        }
    }
}

fn pause(pause: &Pause) -> Json {
    json!({
        "id": pause.id,
        "step": &*pause.step,
        "path": &*pause.path,
        "lane": pause.lane,
        "message": pause.message,
        "input_schema": pause.question.get("input_schema").map(plain),
        "timeout_s": pause.timeout.map(|timeout| timeout.as_secs_f64()),
        "rejected": pause.rejected,
    })
}

fn describe<D: Domain>(failure: &Failure<D>) -> Json {
    json!({"step": &*failure.step, "type": &*failure.error_type, "message": failure.to_string()})
}

pub(crate) fn usage(usage: Usage) -> Json {
    json!({
        "cost_usd": usage.cost.dollars(),
        "tokens": usage.tokens,
        "requests": usage.requests,
        "unpriced": usage.unpriced,
    })
}

pub(crate) fn steps<'h, D: Domain>(
    plan: &Plan<D::Callable>,
    history: &'h History<D>,
    records: impl Iterator<Item = (u32, &'h Record<D>)>,
) -> Vec<Json> {
    records
        .map(|(place, record)| step(plan, history, place, record))
        .collect()
}

fn step<D: Domain>(plan: &Plan<D::Callable>, history: &History<D>, place: u32, record: &Record<D>) -> Json {
    let details = record.details.as_deref();
    // Of a construct that is tried as a whole, what its last attempt did.
    let inner = plan.construct(history, place).map_or(record, |(_, inner)| inner);
    let inside = inner.details.as_deref();
    json!({
        "name": &*plan.node(record.node).name,
        "status": status(record.status),
        "attempts": record.attempts,
        "time_s": seconds(record),
        "usage": usage(record.usage),
        "saved": details.and_then(|details| details.saved).map(usage),
        "error": record.failure.as_ref().map(|failure| describe(failure)),
        "rejected_attempts": details
            .map(|details| details.attempt_failures.iter().map(|failure| describe(failure)).collect::<Vec<_>>())
            .unwrap_or_default(),
        "branch": inside.and_then(|details| details.branch.as_deref()),
        "iterations": inside.and_then(|details| details.loop_end).map(|end| end.iterations),
        "exit_reason": inside.and_then(|details| details.loop_end).map(|end| end.reason.as_str()),
        "lanes": inner.lanes().iter().map(|lane| lane_json(plan, lane)).collect::<Vec<_>>(),
        "steps": steps(plan, history, plan.below(history, place)),
    })
}

fn lane_json<D: Domain>(plan: &Plan<D::Callable>, lane: &LaneRecord<D>) -> Json {
    let finish = lane.finish.as_ref();
    json!({
        "name": &*lane.name,
        "status": finish.map_or("not_started", |finish| finish.outcome.name()),
        "error": finish.map_or(Json::Null, |finish| error(&finish.outcome)),
        "steps": finish.map(|finish| steps(plan, &finish.history, finish.history.children(None))).unwrap_or_default(),
    })
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        Status::LimitExceeded => "limit_exceeded",
    }
}

/// Active time of a step, in seconds.
#[allow(clippy::cast_precision_loss)] // a float is asked for
pub(crate) fn seconds<D: Domain>(record: &Record<D>) -> f64 {
    record.latency() as f64 / 1e9
}

/// A value as JSON; what has no JSON form is shown by its kind.
pub(crate) fn plain(value: &Value) -> Json {
    serde_json::to_value(value).unwrap_or_else(|_| json!(format!("<{}>", value.kind())))
}
