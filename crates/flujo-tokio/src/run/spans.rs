//! A machine with its spans, when somebody listens to them: whatever becomes of the machine, all of them end.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use flujo_core::agent::{AgentError, AgentOutput, BoxFuture, TokenCounts};
use flujo_core::config::Part;
use flujo_core::machine::{
    Answer, Call, CallId, Command, Event as Happened, Finish, Input, LaneId, Machine, Notice, Role, Time,
};
use flujo_core::plan::NodeId;
use flujo_core::telemetry::{AgentCall, Content, MachineSpans, RunStart, SpanContext, SpanStatus};
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use flujo_durable::{DurableError, Journal, Once, Saved, Snapshot, Written};
use tokio::time::Instant;

use super::Shared;
use super::recorder::Recorder;
use crate::Handler;
use crate::domain::{Raised, Tokio};
use crate::handler::Reply;
use crate::telemetry::Telemetries;

/// A machine and its spans.
pub(crate) struct Observed {
    machine: Machine<Tokio>,
    spans: Option<Box<Open>>,
    /// What it is told is written down, when the run is kept in a store.
    recorder: Option<Box<Recorder>>,
}

struct Open {
    spans: MachineSpans<Tokio>,
    shared: Arc<Shared>,
}

impl Open {
    /// Says that spans are no longer recorded, when the recorder has failed.
    #[inline]
    fn look_for_fault(&mut self) {
        if let Some(reason) = self.spans.take_fault() {
            self.shared.gave_way(Part::Telemetry, &reason);
        }
    }
}

impl Deref for Observed {
    type Target = Machine<Tokio>;

    #[inline]
    fn deref(&self) -> &Machine<Tokio> {
        &self.machine
    }
}

impl DerefMut for Observed {
    #[inline]
    fn deref_mut(&mut self) -> &mut Machine<Tokio> {
        &mut self.machine
    }
}

impl Drop for Observed {
    /// A machine that is dropped half-way was cancelled.
    fn drop(&mut self) {
        if let Some(mut open) = self.spans.take() {
            open.spans.dropped(&self.machine, open.shared.now());
        }
    }
}

impl From<Machine<Tokio>> for Observed {
    fn from(machine: Machine<Tokio>) -> Self {
        Self {
            machine,
            spans: None,
            recorder: None,
        }
    }
}

impl Observed {
    /// Has what it is told written down from now on.
    pub(super) fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(Box::new(recorder));
    }

    /// Has what a lane of it is told written down, too, unless it is.
    pub(super) fn record_lane(&self, lane: LaneId, machine: &mut Self) {
        if let (Some(recorder), None) = (&self.recorder, &machine.recorder) {
            machine.record(recorder.lane(lane));
        }
    }

    /// What it is told from now on is written into this log, if it was written into one before.
    pub(super) fn continue_log(&mut self, journal: &Arc<Journal<Tokio>>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.journal = Arc::clone(journal);
        }
    }

    /// Its number in the log.
    pub(crate) fn number(&self) -> u32 {
        self.recorder.as_ref().map_or(0, |recorder| recorder.machine)
    }

    pub(super) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_deref()
    }

    /// When the question that it stands still with was asked, if that was before this process.
    pub(super) fn asked(&mut self) -> Option<Instant> {
        self.recorder.as_mut().and_then(|recorder| recorder.asked.take())
    }

    /// As [`Machine::poll`].
    #[inline]
    pub(super) fn poll(&mut self) -> Option<Command<Tokio>> {
        let command = self.machine.poll();
        if let (Some(recorder), Some(command)) = (&mut self.recorder, &command) {
            recorder.asked(&self.machine, command);
        }
        command
    }

    /// As [`Machine::asked_next`]; nothing when what it asks for is written down.
    #[inline]
    pub(super) fn asked_next(&self) -> Option<&Command<Tokio>> {
        match self.recorder {
            None => self.machine.asked_next(),
            Some(_) => None,
        }
    }

    /// As [`Machine::handle`].
    #[inline]
    pub(super) fn handle(&mut self, event: Happened<Tokio>) {
        match &mut self.recorder {
            None => self.machine.handle(event),
            Some(recorder) => {
                let event = recorder.tell(&self.machine, event);
                self.machine.handle(event);
            }
        }
    }

    /// As [`Machine::answered`].
    #[inline]
    pub(super) fn answered(&mut self, call: CallId, answer: Answer<Tokio>, at: Time) {
        match &mut self.recorder {
            None => self.machine.answered(call, answer, at),
            Some(recorder) => {
                let event = Happened::Answered {
                    call,
                    answer,
                    context: None,
                    at,
                };
                let event = recorder.tell(&self.machine, event);
                self.machine.handle(event);
            }
        }
    }

    /// Has a snapshot stand for what was written so far, and goes on behind it: what is under way is asked for again.
    /// `once` is what the step has recorded that is about to be called.
    pub(super) fn begin_anew(
        &mut self,
        at: Time,
        once: Option<Once<Value>>,
    ) -> Result<Option<Written>, DurableError> {
        let Some(recorder) = &self.recorder else {
            return Ok(None);
        };
        let journal = &recorder.journal;
        let state = self.machine.save(at);
        let snapshot = Snapshot::Machines {
            machines: vec![Saved {
                machine: recorder.machine,
                parent: None,
                state: state.clone(),
                once,
                sleeping: None,
            }],
            next: journal.next_machine(),
            asked: Vec::new(),
            limits: journal.limits(),
        };
        let written = journal.snapshot(&snapshot, [])?;
        self.machine = Machine::restore(Arc::clone(self.machine.plan()), state, at);
        Ok(Some(written))
    }

    /// Begins the spans of a run that begins or goes on.
    pub(super) fn observe(&mut self, shared: &Arc<Shared>, telemetries: &Telemetries, resumed: bool) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = RunStart {
            run: Arc::from(shared.id.to_string()),
            names: Arc::clone(&telemetries.names),
            parent: shared.parent,
            resumed,
            wall: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
            at: shared.now(),
        };
        let spans = shared.contain(Part::Telemetry, None, |twins| {
            MachineSpans::begin(telemetries.of(twins), &run, &self.machine)
        });
        let shared = Arc::clone(shared);
        self.spans = Some(Box::new(Open { spans, shared }));
    }

    /// Begins the spans of a lane of this machine, unless they have begun.
    pub(super) fn observe_lane(&self, lane: &mut Self) {
        if let (Some(open), None) = (&self.spans, &lane.spans) {
            let mut begun = Box::new(Open {
                spans: open.spans.lane(&self.machine, &lane.machine),
                shared: Arc::clone(&open.shared),
            });
            begun.look_for_fault();
            lane.spans = Some(begun);
        }
    }

    /// Whether notices are wanted for the spans.
    pub(super) fn hears(&self) -> bool {
        self.spans.as_ref().is_some_and(|open| open.spans.hears())
    }

    pub(super) fn notice(&mut self, notice: &Notice<Tokio>) {
        if let Some(open) = &mut self.spans {
            open.spans.notice(notice);
            open.look_for_fault();
        }
    }

    /// The machine waits.
    #[inline]
    pub(super) fn waits(&mut self) {
        if let Some(open) = &mut self.spans {
            open.spans.waits(&self.machine, self.machine.now());
            open.look_for_fault();
        }
    }

    pub(super) fn finished(&mut self, finish: &Finish<Tokio>) {
        if let Some(mut open) = self.spans.take() {
            open.spans.finished(finish, open.shared.now());
            open.look_for_fault();
        }
    }

    /// The run as a whole stands still.
    pub(super) fn paused(&mut self, at: Time) {
        if let Some(mut open) = self.spans.take() {
            open.spans.paused(&self.machine, at);
        }
    }

    /// The span that is current in what is called now.
    #[inline]
    pub(super) fn current(&self, shared: &Shared, attempt: u32) -> Option<SpanContext> {
        match &self.spans {
            None => shared.parent,
            Some(open) => Some(open.spans.current(&self.machine, attempt)),
        }
    }

    /// The span of an agent's call.
    pub(super) fn in_call(&self, shared: &Shared, call: CallId) -> Option<SpanContext> {
        match &self.spans {
            None => shared.parent,
            Some(open) => Some(open.spans.in_call(call)),
        }
    }

    /// What is to be noted of a call that begins: of agents, and of every function while content is captured.
    #[inline]
    pub(super) fn note(&self, call: &Call<Tokio>) -> Option<Box<Note>> {
        let spans = &self.spans.as_ref()?.spans;
        self.note_in(spans, call)
    }

    fn note_in(&self, spans: &MachineSpans<Tokio>, call: &Call<Tokio>) -> Option<Box<Note>> {
        let does_work = matches!(call.role, Role::Agent | Role::Redirect);
        let handler = self.plan().node(call.node).callable(call.role, call.index);
        let is_agent = call.role == Role::Redirect || matches!(handler, Some(Handler::Agent(_)));
        let captures = spans.captures_content();
        if !spans.records() || !does_work || !(is_agent || captures) {
            return None;
        }
        let input = match &call.input {
            Input::Value(value) | Input::Redirect { input: value, .. } if captures => Some(shown(value)),
            _ => None,
        };
        Some(Box::new(Note {
            call: call.call,
            node: call.node,
            attempt: call.attempt,
            record: self.record_under_way(),
            started: self.now(),
            input,
            said: Arc::default(),
        }))
    }

    /// The call has ended, as `event` says, or at once.
    pub(super) fn noted(&mut self, note: Note, event: Option<&Happened<Tokio>>, at: Time) {
        if let Some(open) = &mut self.spans {
            open.spans.called(note.ended(event, at));
            open.look_for_fault();
        }
    }
}

/// A call that is recorded.
pub(super) struct Note {
    call: CallId,
    node: NodeId,
    attempt: u32,
    record: Option<u32>,
    started: Time,
    /// What it was given, while content is captured.
    input: Option<Arc<str>>,
    said: Arc<Mutex<Option<Said>>>,
}

/// What the called code gave.
struct Said {
    usage: Usage,
    tokens: Option<TokenCounts>,
    model: Option<Arc<str>>,
    error_type: Option<&'static str>,
    output: Option<Arc<str>>,
}

impl Note {
    /// The agent's work, which is heard when it has ended.
    pub(super) fn hear_agent(
        &self,
        work: BoxFuture<'static, Result<AgentOutput, AgentError>>,
    ) -> BoxFuture<'static, Result<AgentOutput, AgentError>> {
        let (said, capture) = (Arc::clone(&self.said), self.input.is_some());
        Box::pin(async move {
            let reply = work.await;
            *lock(&said) = Some(match &reply {
                Ok(output) => Said {
                    usage: output.usage,
                    tokens: output.tokens,
                    model: output.model.clone(),
                    error_type: None,
                    output: capture.then(|| shown(&output.value)),
                },
                Err(error) => Said {
                    usage: error.usage,
                    ..Said::failed(std::any::type_name::<AgentError>())
                },
            });
            reply
        })
    }

    /// The same of a function.
    pub(super) fn hear(&self, work: BoxFuture<'static, Reply>) -> BoxFuture<'static, Reply> {
        let said = Arc::clone(&self.said);
        Box::pin(async move {
            let reply = work.await;
            *lock(&said) = Some(match &reply {
                Ok(value) => Said {
                    output: Some(shown(value)),
                    error_type: None,
                    ..Said::failed("")
                },
                Err(Raised { type_name, .. }) => Said::failed(type_name),
            });
            reply
        })
    }

    fn ended(self, event: Option<&Happened<Tokio>>, at: Time) -> AgentCall {
        let said = lock(&self.said).take();
        let (status, error_type): (_, Option<Arc<str>>) = match (&said, event) {
            (Some(said), _) => match said.error_type {
                Some(error) => (SpanStatus::Error, Some(Arc::from(error))),
                None => (SpanStatus::Ok, None),
            },
            (None, Some(Happened::CallCancelled { .. })) => (SpanStatus::Cancelled, None),
            (None, Some(Happened::TimedOut { .. })) => (SpanStatus::Error, Some(Arc::from("TimeoutError"))),
            (None, Some(Happened::Failed { failure, .. })) => {
                (SpanStatus::Error, Some(Arc::clone(&failure.error_type)))
            }
            (None, _) => (SpanStatus::Error, Some(Arc::from("Panic"))),
        };
        let said = said.unwrap_or_else(|| Said::failed(""));
        AgentCall {
            call: self.call,
            node: self.node,
            record: self.record,
            attempt: self.attempt,
            started: self.started,
            ended: at,
            status,
            error_type,
            usage: said.usage,
            tokens: said.tokens,
            model: said.model,
            content: self.input.map(|input| Content {
                input,
                output: said.output,
            }),
        }
    }
}

impl Said {
    fn failed(error_type: &'static str) -> Self {
        Self {
            usage: Usage::ZERO,
            tokens: None,
            model: None,
            error_type: Some(error_type),
            output: None,
        }
    }
}

fn lock(said: &Mutex<Option<Said>>) -> MutexGuard<'_, Option<Said>> {
    // A whole value is put in place, so it is good also after a panic.
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value as captured content shows it: text as it is, anything else as logs show it.
fn shown(value: &Value) -> Arc<str> {
    match value {
        Value::Str(text) => Arc::clone(text),
        other => Arc::from(format!("{other:?}")),
    }
}
