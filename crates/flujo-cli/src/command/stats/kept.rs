//! The statistics of runs in a store, made of what is kept of them.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::machine::{Finish, Outcome, Record, Status, Stop};
use flujo_core::plan::Plan;
use flujo_core::stats::{PartStatistics, PerformanceStatistics, RunFacts, Statistics, StepFact, StepSlot};
use flujo_core::store::{RunInfo, RunQuery, RunStatus};
use flujo_durable::{Raw, Uncalled};

use crate::arguments::StatsArguments;
use crate::command::runs::{Reading, Runs, ago};
use crate::outcome::Failure;
use crate::settings::Settings;
use crate::terminal;

/// How many runs are asked for at once.
const PAGE: u32 = 200;

/// Those of the newest runs that have ended.
pub(super) fn statistics(
    arguments: &StatsArguments,
    settings: &Settings,
) -> Result<PerformanceStatistics, Failure> {
    let runs = Runs::open(settings)?;
    let statistics = Statistics::default();
    let mut query = RunQuery {
        statuses: RunStatus::ALL
            .into_iter()
            .filter(|status| status.has_ended())
            .collect(),
        pipeline: arguments.pipeline.as_deref().map(Arc::from),
        created_from: arguments.newer_than.map(ago),
        limit: PAGE,
        ..RunQuery::default()
    };
    let (mut left, mut unread) = (arguments.limit, 0_u64);
    while left > 0 {
        query.limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = runs.list(query.clone())?;
        for info in &page.runs {
            left -= 1;
            // One that was deleted since, or that can't be read, keeps nobody from the others.
            let read = runs.load(&info.id).and_then(|stored| Reading::of(&stored));
            match read.map(|reading| reading.steps) {
                Ok(Ok(steps)) => record(&statistics, info, &steps.plan, &steps.finish),
                Ok(Err(_)) | Err(_) => unread += 1,
            }
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    if unread > 0 {
        terminal::note(&format!("{unread} runs can't be read, and are left out"));
    }
    Ok(statistics.snapshot(PartStatistics::default()))
}

fn record(statistics: &Statistics, info: &RunInfo, plan: &Plan<Uncalled>, finish: &Finish<Raw>) {
    let (mut latency_ns, mut steps) = (0, Vec::new());
    let mut waiting = vec![finish];
    while let Some(finish) = waiting.pop() {
        for record in &finish.history.records {
            latency_ns = latency_ns.max(record.ended);
            let lanes = record.lanes().iter();
            waiting.extend(lanes.filter_map(|lane| lane.finish.as_deref()));
            if matches!(record.status, Status::Succeeded | Status::Failed) {
                steps.push(record);
            }
        }
    }
    let failed = steps.iter().any(|record| record.status == Status::Failed);
    let error = match &finish.outcome {
        Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => {
            (!failed).then_some(&*failure.error_type)
        }
        Outcome::Stopped(Stop::LimitExceeded(_)) => Some("UsageLimitExceeded"),
        Outcome::Completed(_) | Outcome::Stopped(_) => None,
    };
    let facts = RunFacts {
        latency_ns,
        usage: finish.usage,
        meter: None,
        error,
        ended_at: Duration::from_millis(u64::try_from(info.summary.updated).unwrap_or_default()),
    };
    let facts_of = steps.iter().filter_map(|record| {
        let slots = statistics.slots([&plan.node(record.node).name]);
        Some(fact(record, *slots.first()?))
    });
    let steps: Vec<_> = facts_of.collect();
    statistics.record_run(&facts, steps);
}

fn fact(record: &Record<Raw>, slot: StepSlot) -> StepFact<'_> {
    StepFact {
        slot,
        latency_ns: record.latency(),
        error: record.failure.as_ref().map(|failure| &*failure.error_type),
    }
}
