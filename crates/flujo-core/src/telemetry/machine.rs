//! The spans of one machine, as its host keeps them beside it.

use std::sync::Arc;

use super::recorder::around;
use super::{
    AgentCall, Ending, Names, Recorder, RunStart, SpanContext, SpanIds, SpanQueue, SpanStatus, Telemetry,
};
use crate::config::contained;
use crate::machine::{CallId, Domain, Finish, Machine, Notice, Time};

/// The spans of a run or lane: what is current in user code, and the recorder when the run is sampled.
pub struct MachineSpans<D: Domain> {
    ids: SpanIds,
    names: Arc<Names>,
    recorder: Option<Recording<D>>,
    /// What has failed in recording.
    fault: Option<String>,
}

struct Recording<D: Domain> {
    recorder: Box<dyn Recorder<D>>,
    queue: Arc<SpanQueue>,
    timer: Option<(fn() -> Time, u64)>,
}

impl<D: Domain> Recording<D> {
    /// Does what is contained, timed when this run is. A clock that panics is looked at no more, and costs no spans.
    #[inline]
    fn contained<R>(
        &mut self,
        fault: &mut Option<String>,
        work: impl FnOnce(&mut dyn Recorder<D>) -> R,
    ) -> Result<R, String> {
        let before = self.read_clock(fault);
        let result = contained(|| work(&mut *self.recorder));
        if let Some(before) = before
            && let Some(after) = self.read_clock(fault)
            && let Some((_, spent)) = &mut self.timer
        {
            *spent += after.saturating_sub(before);
        }
        result
    }

    #[inline]
    fn read_clock(&mut self, fault: &mut Option<String>) -> Option<Time> {
        let (clock, _) = self.timer?;
        match contained(clock) {
            Ok(time) => Some(time),
            Err(reason) => {
                (self.timer, *fault) = (None, Some(reason));
                None
            }
        }
    }
}

impl<D: Domain> MachineSpans<D> {
    /// Of a run that begins, or goes on: `machine` is where it stands.
    pub fn begin(telemetry: &dyn Telemetry<D>, run: &RunStart, machine: &Machine<D>) -> Self {
        let queue = telemetry.queue();
        let ids = run.ids(queue.settings().rate);
        let recorder = ids.sampled().then(|| Recording {
            recorder: telemetry.record(run, ids, machine.history()),
            timer: queue.timer().map(|clock| (clock, 0)),
            queue: Arc::clone(queue),
        });
        Self {
            ids,
            names: Arc::clone(&run.names),
            recorder,
            fault: None,
        }
    }

    /// Of a lane of it, that begins or goes on.
    #[must_use]
    pub fn lane(&self, around: &Machine<D>, lane: &Machine<D>) -> Self {
        let Some((place, recording)) = lane.lane().zip(self.recorder.as_ref()) else {
            return Self {
                ids: lane
                    .lane()
                    .map_or(self.ids, |place| self.ids.lane(place.record, place.index)),
                names: Arc::clone(&self.names),
                recorder: None,
                fault: None,
            };
        };
        let begin = || {
            let (around, inside) = (around.history(), lane.history());
            contained(|| recording.recorder.lane(place, around, inside, lane.now()))
        };
        let (recorder, fault) = match begin() {
            Ok(recorder) => (Some(recorder), None),
            Err(reason) => (begin().ok(), Some(reason)),
        };
        Self {
            ids: self.ids.lane(place.record, place.index),
            names: Arc::clone(&self.names),
            recorder: recorder.map(|recorder| Recording {
                recorder,
                timer: recording.timer.map(|(clock, _)| (clock, 0)),
                queue: Arc::clone(&recording.queue),
            }),
            fault,
        }
    }

    /// Why the recorder, or the clock that it is timed by, has failed since this was asked last. A recorder that panics goes
    /// on with what it had not begun to read: at most the span at which it broke is missing.
    pub fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// Has the recorder do something. What panics is contained.
    #[inline]
    fn record<R>(&mut self, work: impl FnOnce(&mut dyn Recorder<D>) -> R) -> Option<R> {
        let recording = self.recorder.as_mut()?;
        let done = recording.contained(&mut self.fault, work);
        done.map_err(|reason| self.fault = Some(reason)).ok()
    }

    /// The ids of its spans.
    pub fn ids(&self) -> SpanIds {
        self.ids
    }

    /// Whether agent calls are to be told.
    pub fn records(&self) -> bool {
        self.recorder.is_some()
    }

    /// Whether agent calls are to be told with what they were given and gave.
    pub fn captures_content(&self) -> bool {
        let queue = self.recorder.as_ref().map(|recording| &recording.queue);
        queue.is_some_and(|queue| queue.settings().capture_content)
    }

    /// Whether the machine's notices are to be told.
    pub fn hears(&self) -> bool {
        self.recorder
            .as_ref()
            .is_some_and(|recording| recording.recorder.hears())
    }

    /// Something happened in the machine.
    pub fn notice(&mut self, notice: &Notice<D>) {
        self.record(|recorder| recorder.notice(notice));
    }

    /// A call of an agent has ended.
    pub fn called(&mut self, call: AgentCall) {
        self.record(|recorder| recorder.called(call));
    }

    /// The machine waits.
    pub fn waits(&mut self, machine: &Machine<D>, at: Time) {
        self.record(|recorder| recorder.waits(machine.history(), at));
    }

    /// The machine has ended.
    pub fn finished(&mut self, finish: &Finish<D>, at: Time) {
        self.end(&Ending::of(finish, at));
    }

    /// The machine stands still for an answer.
    pub fn paused(&mut self, machine: &Machine<D>, at: Time) {
        self.cut(machine, SpanStatus::Paused, at);
    }

    /// The machine is given up before it has ended. Does nothing after [`Self::finished`] or [`Self::paused`].
    pub fn dropped(&mut self, machine: &Machine<D>, at: Time) {
        self.cut(machine, SpanStatus::Cancelled, at);
    }

    fn cut(&mut self, machine: &Machine<D>, status: SpanStatus, at: Time) {
        self.end(&Ending {
            status,
            failure: None,
            history: machine.history(),
            usage: machine.usage(),
            at,
        });
    }

    fn end(&mut self, end: &Ending<'_, D>) {
        // Once more where it panics: there is no later turn.
        let mut spans = self.record(|recorder| recorder.end(end));
        if spans.is_none() {
            spans = self.record(|recorder| recorder.end(end));
        }
        if let Some(recording) = self.recorder.take()
            && let Some((spans, (_, spent))) = spans.zip(recording.timer)
        {
            recording.queue.timed(spans, spent);
        }
    }

    /// What is current in a callable that the machine calls now: the span of the attempt, else of the step or construct
    /// it is called for, else of the run or lane.
    pub fn current(&self, machine: &Machine<D>, attempt: u32) -> SpanContext {
        let record = machine.record_under_way();
        let span = match record {
            Some(record) if attempt > 0 => self.ids.attempt(record, attempt),
            record => around(&self.names, self.ids, machine.history(), record, u32::MAX),
        };
        self.ids.context(span)
    }

    /// What is current in an agent's call.
    pub fn in_call(&self, call: CallId) -> SpanContext {
        self.ids.context(self.ids.call(call))
    }
}
