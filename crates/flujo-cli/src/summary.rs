//! The tree of a run that has ended: every step with its state, time, attempts and cost.

use std::fmt::Write;

use flujo_core::machine::{Domain, Finish, History, LaneRecord, Outcome, Record, Status, Stop};
use flujo_core::plan::Plan;
use flujo_core::usage::Usage;

use crate::color::Paint;
use crate::result::seconds;
use crate::terminal::one_line;

/// A construct with more lanes than this shows counts and the lanes that failed.
const MOST_LANES: usize = 8;

/// The most lanes that are shown of those that failed.
const MOST_FAILED: usize = 5;

/// The longest message, in characters.
const MESSAGE: usize = 400;

/// The tree of a run of any host that stands like this.
pub(crate) fn tree<D: Domain>(
    plan: &Plan<D::Callable>,
    finish: &Finish<D>,
    status: &str,
    paint: Paint,
) -> String {
    let mut tree = Tree {
        text: String::new(),
        plan,
        paint,
    };
    let time: f64 = finish
        .history
        .records
        .iter()
        .map(|record| record.ended)
        .max()
        .map_or(0.0, as_seconds);
    let shown = match status {
        "completed" => paint.good(status),
        _ => paint.error(status),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        tree.text,
        "{}  {shown}  {}{}",
        paint.strong(plan.name()),
        duration(time),
        used(finish.usage)
    );
    tree.steps(&finish.history, None, "");
    tree.text
}

struct Tree<'a, D: Domain> {
    text: String,
    plan: &'a Plan<D::Callable>,
    paint: Paint,
}

/// What stands below a step.
enum Below<'a, D: Domain> {
    Step(u32, &'a Record<D>),
    Lane(&'a LaneRecord<D>),
    Note(String),
}

impl<D: Domain> Tree<'_, D> {
    fn steps(&mut self, history: &History<D>, parent: Option<u32>, indent: &str) {
        let below: Vec<Below<'_, D>> = history
            .children(parent)
            .map(|(place, record)| Below::Step(place, record))
            .collect();
        self.below(history, below, indent);
    }

    fn below(&mut self, history: &History<D>, below: Vec<Below<'_, D>>, indent: &str) {
        let count = below.len();
        for (place, part) in below.into_iter().enumerate() {
            let last = place + 1 == count;
            let branch = self.paint.faint(if last { "└─" } else { "├─" });
            let _ = write!(self.text, "{indent}{branch} ");
            let inner = format!(
                "{indent}{}",
                if last {
                    "   ".to_owned()
                } else {
                    format!("{}  ", self.paint.faint("│"))
                }
            );
            match part {
                Below::Step(place, record) => self.step(history, place, record, &inner),
                Below::Lane(lane) => self.lane(lane, &inner),
                Below::Note(note) => {
                    let _ = writeln!(self.text, "{note}");
                }
            }
        }
    }

    fn step(&mut self, history: &History<D>, place: u32, record: &Record<D>, indent: &str) {
        let name = one_line(&self.plan.node(record.node).name);
        let _ = write!(
            self.text,
            "{} {name}  {}",
            self.mark(record.status),
            duration(seconds(record))
        );
        // Of a construct that is tried as a whole, what its last attempt did.
        let plan = self.plan;
        let inner = plan.construct(history, place).map_or(record, |(_, inner)| inner);
        let inside = inner.details.as_deref();
        let loop_end = inside.and_then(|details| details.loop_end);
        if let Some(end) = loop_end {
            let _ = write!(self.text, "  {} × ({})", end.iterations, end.reason.as_str());
        }
        if record.attempts > 1 && loop_end.is_none() {
            let attempts = format!("{} attempts", record.attempts);
            let _ = write!(self.text, "  {}", self.paint.warning(&attempts));
        }
        let details = record.details.as_deref();
        if let Some(saved) = details.and_then(|details| details.saved) {
            let _ = write!(self.text, "  {}", self.paint.faint(&from_cache(saved)));
        }
        if let Some(branch) = inside.and_then(|details| details.branch.as_deref()) {
            let _ = write!(self.text, "  → {}", one_line(branch));
        }
        let lanes = inner.lanes();
        if lanes.len() > MOST_LANES {
            let _ = write!(self.text, "  {}", counts(lanes));
        }
        let _ = writeln!(self.text, "{}", used(record.usage));

        let mut below = Vec::new();
        for failure in details
            .map(|details| &details.attempt_failures[..])
            .unwrap_or_default()
        {
            let text = format!(
                "attempt {}: {}",
                failure.attempt.max(1),
                message(&failure.message)
            );
            below.push(Below::Note(self.paint.warning(&text)));
        }
        let lanes_failed = lanes.iter().any(|lane| !completed(lane));
        if let Some(failure) = record
            .failure
            .as_ref()
            .filter(|_| record.attempts <= 1 && !lanes_failed)
        {
            let failed_below = plan
                .below(history, place)
                .any(|(_, child)| child.status == Status::Failed);
            let repeated = details.is_some_and(|details| !details.attempt_failures.is_empty());
            if !failed_below && !repeated {
                below.push(Below::Note(self.paint.error(&message(&failure.message))));
            }
        }
        if lanes.len() <= MOST_LANES {
            below.extend(lanes.iter().map(Below::Lane));
        } else {
            let mut failed = lanes
                .iter()
                .filter(|lane| lane.finish.is_some() && !completed(lane));
            below.extend(failed.by_ref().take(MOST_FAILED).map(Below::Lane));
            let more = failed.count();
            if more > 0 {
                below.push(Below::Note(
                    self.paint
                        .faint(&format!("… and {more} more that did not complete")),
                ));
            }
        }
        below.extend(
            plan.below(history, place)
                .map(|(place, record)| Below::Step(place, record)),
        );
        self.below(history, below, indent);
    }

    fn lane(&mut self, lane: &LaneRecord<D>, indent: &str) {
        let name = one_line(&lane.name);
        let name = if name.chars().all(|c| c.is_ascii_digit()) {
            format!("[{name}]")
        } else {
            name
        };
        let Some(finish) = &lane.finish else {
            let _ = writeln!(self.text, "{} {name}  not started", self.paint.faint("·"));
            return;
        };
        let status = match &finish.outcome {
            Outcome::Completed(_) => Status::Succeeded,
            Outcome::Failed(_) | Outcome::Stopped(Stop::Fatal(_)) => Status::Failed,
            Outcome::Stopped(Stop::Paused) => Status::Running,
            Outcome::Stopped(Stop::LimitExceeded(_)) => Status::LimitExceeded,
            Outcome::Stopped(Stop::Cancelled | Stop::Aborted(_)) => Status::Cancelled,
        };
        let _ = writeln!(self.text, "{} {name}{}", self.mark(status), used(finish.usage));
        self.steps(&finish.history, None, indent);
    }

    fn mark(&self, status: Status) -> String {
        match status {
            Status::Succeeded => self.paint.good("✓"),
            Status::Failed => self.paint.error("✗"),
            Status::Running => self.paint.faint("·"),
            Status::Cancelled => self.paint.warning("■"),
            Status::LimitExceeded => self.paint.error("■"),
        }
    }
}

fn completed<D: Domain>(lane: &LaneRecord<D>) -> bool {
    lane.output().is_some()
}

/// How many lanes ended how: "340 items: 338 completed, 2 failed".
fn counts<D: Domain>(lanes: &[LaneRecord<D>]) -> String {
    let ends = [
        "completed",
        "failed",
        "paused",
        "cancelled",
        "limit_exceeded",
        "not_started",
    ];
    let end = |lane: &LaneRecord<D>| {
        lane.finish
            .as_ref()
            .map_or("not_started", |finish| finish.outcome.name())
    };
    let shown: Vec<String> = ends
        .iter()
        .map(|name| {
            (
                lanes.iter().filter(|lane| end(lane) == *name).count(),
                name.replace('_', " "),
            )
        })
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    format!("{} lanes: {}", lanes.len(), shown.join(", "))
}

fn message(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What is said of a result that was found in the cache.
fn from_cache(saved: Usage) -> String {
    match used(saved).trim() {
        "" => "from the cache".to_owned(),
        saved => format!("from the cache, saved {saved}"),
    }
}

/// Tokens and cost, when there are any.
pub(crate) fn used(usage: Usage) -> String {
    let mut text = String::new();
    if usage.tokens > 0 {
        let _ = write!(text, "  {} tokens", usage.tokens);
    }
    if usage.cost.nanos() > 0 {
        let _ = write!(text, "  {}", usage.cost);
    }
    if usage.unpriced {
        text.push_str("  price unknown");
    }
    text
}

/// A time for people.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 0.000_999_5 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 0.999_5 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round();
        format!("{:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0)
    }
}

#[allow(clippy::cast_precision_loss)] // a float is asked for
fn as_seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
