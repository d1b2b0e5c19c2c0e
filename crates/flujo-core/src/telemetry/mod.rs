//! Spans of runs, steps, lanes, attempts and agent calls, and what is counted about them.
//!
//! Two twins record the same spans. [`PlainTelemetry`] is told of everything as it happens and makes a span of it at
//! once. [`OptimizedTelemetry`] reads what the machine has recorded anyway, when the run waits or has ended, so that a
//! step costs nothing until then; it hands compact entries over by the batch. Both put spans into a [`SpanQueue`] of
//! bounded size, where an exporter on another thread takes them out. Nothing here waits, does I/O or reads a clock:
//! times are the machine's, which its host hands in.
//!
//! A host keeps one [`MachineSpans`] beside each machine when somebody listens, and nothing when nobody does.

mod ids;
mod machine;
mod names;
mod optimized;
mod plain;
mod queue;
mod recorder;
mod span;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use ids::{SampleRate, SampleRateError, SpanContext, SpanId, SpanIds, TraceId, TraceparentError};
pub use machine::MachineSpans;
pub use names::Names;
pub use optimized::OptimizedTelemetry;
pub use plain::PlainTelemetry;
pub use queue::{SpanQueue, SpanSettings};
pub use recorder::Ending;
pub use span::{Attribute, Content, Span, SpanKind, SpanStatus};

use crate::agent::TokenCounts;
use crate::machine::{CallId, Domain, History, LanePlace, Notice, Time};
use crate::plan::NodeId;
use crate::stats::TelemetryStats;
use crate::usage::Usage;
use recorder::Recorded;
use span::RunFacts;

/// A run that begins, or goes on after a pause.
#[derive(Debug, Clone)]
pub struct RunStart {
    /// Its id. Trace id and sampling follow from it.
    pub run: Arc<str>,
    /// The names of its plan.
    pub names: Arc<Names>,
    /// The caller's span, when there is one.
    pub parent: Option<SpanContext>,
    /// Whether it goes on after a pause.
    pub resumed: bool,
    /// The world's time, in nanoseconds since the Unix epoch.
    pub wall: u64,
    /// The run's own time at that moment.
    pub at: Time,
}

impl RunStart {
    /// The ids of its spans.
    pub fn ids(&self, rate: SampleRate) -> SpanIds {
        SpanIds::of_run(&self.run, self.wall, self.parent, rate)
    }

    fn recorded(&self, ids: SpanIds, settings: &SpanSettings) -> Recorded {
        Recorded {
            run: Arc::new(RunFacts {
                run: Arc::clone(&self.run),
                names: Arc::clone(&self.names),
                trace: ids.trace(),
                resumed: self.resumed,
                wall: self.wall,
                base: self.at,
            }),
            ids,
            parent: self.parent.map(|parent| parent.span),
            lane: None,
            since: self.at,
            capture_content: settings.capture_content,
        }
    }
}

/// A call of an agent that has ended.
#[derive(Debug, Clone)]
pub struct AgentCall {
    /// The call.
    pub call: CallId,
    /// The step.
    pub node: NodeId,
    /// Its record.
    pub record: Option<u32>,
    /// The attempt, from 1; 0 outside attempts.
    pub attempt: u32,
    /// When it began.
    pub started: Time,
    /// When it ended.
    pub ended: Time,
    /// How.
    pub status: SpanStatus,
    /// The type of its error.
    pub error_type: Option<Arc<str>>,
    /// What it used.
    pub usage: Usage,
    /// The tokens read and written, where they are known apart.
    pub tokens: Option<TokenCounts>,
    /// The model that answered.
    pub model: Option<Arc<str>>,
    /// What it was given and gave; recorded only when content is captured.
    pub content: Option<Content>,
}

/// Records the spans of runs.
pub trait Telemetry<D: Domain>: Send + Sync {
    /// Where the spans go.
    fn queue(&self) -> &Arc<SpanQueue>;

    /// A recorder for a run that is sampled. `history` is what there is of it when it goes on after a pause.
    fn record(&self, run: &RunStart, ids: SpanIds, history: &History<D>) -> Box<dyn Recorder<D>>;

    /// What was counted.
    fn statistics(&self) -> TelemetryStats;
}

/// Records the spans of one run or lane.
pub trait Recorder<D: Domain>: Send {
    /// Whether it wants to be told of notices.
    fn hears(&self) -> bool;

    /// Something happened.
    fn notice(&mut self, notice: &Notice<D>);

    /// A call of an agent has ended.
    fn called(&mut self, call: AgentCall);

    /// The machine waits: there is time to take in what has ended since.
    fn waits(&mut self, history: &History<D>, at: Time);

    /// A recorder for a lane of it that begins or goes on, whose last event was at `now`: `around` is the history the
    /// lane's construct is in, `lane` what there is of its own.
    fn lane(
        &self,
        place: &LanePlace,
        around: &History<D>,
        lane: &History<D>,
        now: Time,
    ) -> Box<dyn Recorder<D>>;

    /// The run or lane has ended or stands still: nothing follows. Gives how many spans were recorded of it.
    fn end(&mut self, end: &Ending<'_, D>) -> u64;
}
