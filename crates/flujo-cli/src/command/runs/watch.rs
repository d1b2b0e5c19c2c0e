//! `flujo runs watch`: a run that goes on elsewhere, step by step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flujo_core::machine::Status;
use flujo_core::store::{RunInfo, RunStatus};
use flujo_store::runs::{KeptEventKind, Told, events_of};
use serde_json::json;

use super::reading::Reading;
use super::{Runs, look, shown};
use crate::arguments::OneRun;
use crate::color::{Paint, Stream};
use crate::outcome::{Exit, Failure};
use crate::result::seconds;
use crate::summary::duration;
use crate::terminal;

/// How long it waits between two looks, at least: who reads a long run, which is read whole, rests four times as long as that
/// took.
const LOOKS: Duration = Duration::from_millis(200);
const REST: u32 = 4;

pub(super) fn watch(runs: &Runs, arguments: &OneRun) -> Result<Exit, Failure> {
    let mut watcher = Watcher {
        runs,
        as_json: arguments.json,
        paint: Paint::for_stream(Stream::Out),
        told: 0,
        last: None,
    };
    loop {
        let begun = Instant::now();
        let info = runs.info(&arguments.id)?;
        if watcher.last != Some(standing(&info)) {
            watcher.look(&info)?;
        }
        let exit = match info.summary.status {
            RunStatus::Completed => Exit::Done,
            RunStatus::Failed | RunStatus::Cancelled => Exit::Failed,
            RunStatus::LimitExceeded => Exit::Limit,
            RunStatus::Queued | RunStatus::Running | RunStatus::Paused => {
                let pause = LOOKS.max(begun.elapsed() * REST);
                runs.runtime.block_on(async { tokio::time::sleep(pause).await });
                continue;
            }
        };
        return Ok(exit);
    }
}

/// How a run stands: it is read where that has changed.
type Standing = (RunStatus, u64, i64);

fn standing(info: &RunInfo) -> Standing {
    (info.summary.status, info.last_record, info.summary.updated)
}

struct Watcher<'a> {
    runs: &'a Runs,
    as_json: bool,
    paint: Paint,
    /// How many events of the run have been told.
    told: usize,
    last: Option<Standing>,
}

impl Watcher<'_> {
    /// Tells what is new: steps that have ended, what is asked, and how the run stands.
    fn look(&mut self, info: &RunInfo) -> Result<(), Failure> {
        let status = info.summary.status;
        let stored = self.runs.load(&info.id)?;
        let reading = Reading::of(&stored)?;
        // Where a plan can't be read, how the run stands can.
        let steps = reading.steps.as_ref().ok();
        let all = steps.map_or_else(Vec::new, |steps| {
            let finish = Some(Arc::clone(&steps.finish));
            events_of(&steps.plan, finish, steps.now, info)
        });
        let new = all.get(self.told..).unwrap_or_default();
        self.told = all.len();
        let mut moved = self.last.map(|(status, ..)| status) != Some(status);
        for one in new {
            moved |= status == RunStatus::Paused && matches!(one.event.kind, KeptEventKind::Paused);
            if let Some(line) = self.ended(one) {
                terminal::data_line(&line);
            }
        }
        self.last = Some(standing(info));
        if !moved {
            return Ok(());
        }
        if self.as_json {
            terminal::data_line(&json!({"event": "status", "run": shown::info(info)}).to_string());
            return Ok(());
        }
        if status == RunStatus::Paused
            && let Some(steps) = steps
        {
            let asked = look::questions(&info.id, steps, self.runs.store.option(), self.paint);
            terminal::data_line(asked.trim());
        }
        let message = info.summary.message.as_deref().map(terminal::one_line);
        let message = message.map_or_else(String::new, |message| format!("  {message}"));
        terminal::data_line(&format!("{}{message}", shown::status(status, self.paint)));
        Ok(())
    }

    /// A line for a step that has ended.
    fn ended(&self, told: &Told) -> Option<String> {
        let (KeptEventKind::StepFinished { .. } | KeptEventKind::StepFailed { .. }) = told.event.kind else {
            return None;
        };
        let record = told.record()?;
        let status = match record.status {
            Status::Running => return None,
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::LimitExceeded => "limit_exceeded",
        };
        let (lane, step, time) = (&told.event.lane, &told.event.step, seconds(record));
        let within = if lane.is_empty() { "" } else { "/" };
        let name = format!("{lane}{within}{step}");
        Some(if self.as_json {
            json!({"event": "step", "step": name, "status": status, "time_s": time}).to_string()
        } else {
            format!("{}: {status} after {}", terminal::one_line(&name), duration(time))
        })
    }
}
