//! `flujo runs watch`: a run that goes on elsewhere, step by step.

use std::collections::HashSet;
use std::time::Duration;

use flujo_core::machine::{History, Status, lane_name};
use flujo_core::plan::Plan;
use flujo_core::store::{RunInfo, RunStatus};
use flujo_durable::{Raw, Uncalled};
use serde_json::json;

use super::reading::{Reading, Steps};
use super::{Runs, look, shown};
use crate::arguments::OneRun;
use crate::color::{Paint, Stream};
use crate::outcome::{Exit, Failure};
use crate::result::seconds;
use crate::summary::duration;
use crate::terminal;

/// How long it waits between two looks.
const LOOKS: Duration = Duration::from_millis(200);

pub(super) fn watch(runs: &Runs, arguments: &OneRun) -> Result<Exit, Failure> {
    let paint = Paint::for_stream(Stream::Out);
    let mut told = HashSet::new();
    let mut last: Option<(RunStatus, u64, i64)> = None;
    loop {
        let info = runs.info(&arguments.id)?;
        let seen = (info.summary.status, info.last_record, info.summary.updated);
        if last != Some(seen) {
            let stored = runs.load(&arguments.id)?;
            let reading = Reading::of(&stored)?;
            let changed = last.map(|(status, ..)| status) != Some(info.summary.status);
            tell(
                &stored.info,
                &reading,
                &mut told,
                (changed, arguments.json),
                runs.store.option(),
                paint,
            );
            last = Some(seen);
        }
        let exit = match info.summary.status {
            RunStatus::Completed => Exit::Done,
            RunStatus::Failed | RunStatus::Cancelled => Exit::Failed,
            RunStatus::LimitExceeded => Exit::Limit,
            RunStatus::Queued | RunStatus::Running | RunStatus::Paused => {
                runs.runtime.block_on(async { tokio::time::sleep(LOOKS).await });
                continue;
            }
        };
        return Ok(exit);
    }
}

/// Tells what is new: steps that have ended, and how the run stands.
fn tell(
    info: &RunInfo,
    reading: &Reading,
    told: &mut HashSet<String>,
    (changed, as_json): (bool, bool),
    option: &str,
    paint: Paint,
) {
    let status = info.summary.status;
    if let Ok(steps) = &reading.steps {
        for (place, line) in ended(steps, as_json) {
            if told.insert(place) {
                terminal::data_line(&line);
            }
        }
        if changed && status == RunStatus::Paused && !as_json {
            let asked = look::questions(&info.id, steps, option, paint);
            terminal::data_line(asked.trim());
        }
    }
    if changed && as_json {
        terminal::data_line(&json!({"event": "status", "run": shown::info(info)}).to_string());
    } else if changed {
        let message = info.summary.message.as_deref().map(terminal::one_line);
        let message = message.map_or_else(String::new, |message| format!("  {message}"));
        terminal::data_line(&format!("{}{message}", shown::status(status, paint)));
    }
}

/// The steps that have ended, each with its place in the run, and a line for it.
fn ended(steps: &Steps, as_json: bool) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut waiting: Vec<(String, String, &History<Raw>)> =
        vec![(String::new(), String::new(), &steps.finish.history)];
    while let Some((place, lane, history)) = waiting.pop() {
        for (at, record) in history.records.iter().enumerate() {
            let place = format!("{place}/{at}");
            for below in record.lanes() {
                if let Some(finish) = &below.finish {
                    let inner = lane_name(&steps.plan, &lane, record.node, &below.name);
                    waiting.push((format!("{place}.{}", below.name), inner, &finish.history));
                }
            }
            let status = match record.status {
                Status::Running => continue,
                Status::Succeeded => "succeeded",
                Status::Failed => "failed",
                Status::Cancelled => "cancelled",
                Status::LimitExceeded => "limit_exceeded",
            };
            let within = if lane.is_empty() { "" } else { "/" };
            let name = format!("{lane}{within}{}", name(&steps.plan, record.node));
            let time = seconds(record);
            let line = if as_json {
                json!({"event": "step", "step": name, "status": status, "time_s": time}).to_string()
            } else {
                format!("{}: {status} after {}", terminal::one_line(&name), duration(time))
            };
            lines.push((place, line));
        }
    }
    lines
}

fn name(plan: &Plan<Uncalled>, node: flujo_core::plan::NodeId) -> String {
    plan.node(node).name.to_string()
}
