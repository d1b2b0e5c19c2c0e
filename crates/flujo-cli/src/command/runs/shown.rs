//! Runs and their questions, for people and as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::store::{RunInfo, RunStatus, WallTime};
use flujo_core::value::Value;
use flujo_durable::{OpenQuestion, Raw};
use serde_json::{Value as Json, json};

use super::reading::Steps;
use crate::color::Paint;
use crate::result::{plain, usage};

/// What is known of a run, as JSON.
pub(super) fn info(info: &RunInfo) -> Json {
    let summary = &info.summary;
    json!({
        "id": &*info.id,
        "pipeline": &*info.pipeline,
        "status": summary.status.as_str(),
        "created": time(info.created),
        "updated": time(summary.updated),
        "due": summary.due.map(time),
        "steps": summary.steps,
        "usage": usage(summary.usage),
        "message": summary.message.as_deref(),
        "owner": info.owner.as_ref().map(|owner| &*owner.process),
        "forked_from": info.forked_from.as_deref(),
        "bytes": info.bytes,
    })
}

/// A time as text: UTC, as RFC 3339 has it.
pub(super) fn time(time: WallTime) -> String {
    let since = Duration::from_millis(u64::try_from(time).unwrap_or_default());
    match UNIX_EPOCH.checked_add(since) {
        // Later years can't be written.
        Some(at) if since.as_secs() < 253_402_300_800 => humantime::format_rfc3339_millis(at).to_string(),
        _ => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

/// How long ago a time was, in the two largest units.
pub(super) fn since(time: WallTime) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(time).unwrap_or_default());
    let ago = SystemTime::now().duration_since(at).unwrap_or_default();
    let whole = humantime::format_duration(Duration::from_secs(ago.as_secs())).to_string();
    let units: Vec<&str> = whole.split(' ').take(2).collect();
    format!("{} ago", units.join(" "))
}

pub(super) fn status(status: RunStatus, paint: Paint) -> String {
    match status {
        RunStatus::Completed => paint.good(status.as_str()),
        RunStatus::Failed | RunStatus::LimitExceeded => paint.error(status.as_str()),
        RunStatus::Paused | RunStatus::Cancelled => paint.warning(status.as_str()),
        RunStatus::Queued | RunStatus::Running => status.as_str().to_owned(),
    }
}

/// What a question asks: text as it is, of a map the `message`.
pub(super) fn message(question: &OpenQuestion<Raw>) -> String {
    let asked = question.question.question.shown();
    match asked.get("message").unwrap_or(&asked) {
        Value::Str(text) => text.to_string(),
        other => plain(other).to_string(),
    }
}

/// The questions that wait, as `flujo run --json` has them.
pub(super) fn pauses(steps: &Steps) -> Vec<Json> {
    let pause = |open: &OpenQuestion<Raw>| {
        let node = steps.plan.node(open.question.node);
        let asked = open.question.question.shown();
        let rejected = open.question.rejected.as_ref();
        json!({
            "id": open.id,
            "step": &*node.name,
            "path": &*node.path,
            "lane": open.lane,
            "message": message(open),
            "input_schema": asked.get("input_schema").map(plain),
            "timeout_s": open.question.timeout.map(|timeout| timeout.as_secs_f64()),
            "rejected": rejected.map(|failure| failure.message.to_string()),
            "expires": expires(steps, open).map(time),
        })
    };
    steps.questions.open().iter().map(pause).collect()
}

/// When the time for an answer is up, where that is known.
pub(super) fn expires(steps: &Steps, open: &OpenQuestion<Raw>) -> Option<WallTime> {
    let (timeout, asked) = (open.question.timeout?, steps.asked.get(&open.machine)?);
    asked.checked_add(WallTime::try_from(timeout.as_millis()).ok()?)
}
