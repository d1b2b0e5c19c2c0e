//! Spans: as they are kept, small and of one size, and as they are exported, with names and attributes.

use std::sync::Arc;

use super::{Names, SpanContext, SpanId, TraceId};
use crate::agent::TokenCounts;
use crate::machine::{Status, Time};
use crate::plan::NodeId;
use crate::usage::Usage;

/// What a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// A run, from its beginning or from a pause on, to its end or the next pause.
    Run,
    /// A step or construct, with its retries.
    Step,
    /// One branch of a parallel step, one item of a map.
    Lane,
    /// One attempt at a step.
    Attempt,
    /// One call of an agent.
    Call,
}

impl SpanKind {
    /// `run`, `step`, `lane`, `attempt` or `call`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Step => "step",
            Self::Lane => "lane",
            Self::Attempt => "attempt",
            Self::Call => "call",
        }
    }
}

/// How what a span is about ended. Only `Error` and `LimitExceeded` are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpanStatus {
    /// It did what it should.
    Ok,
    /// It failed.
    Error,
    /// It stands still for an answer; another span goes on from there.
    Paused,
    /// It was cancelled or aborted.
    Cancelled,
    /// A usage limit stopped it.
    LimitExceeded,
}

impl SpanStatus {
    /// `ok`, `error`, `paused`, `cancelled` or `limit_exceeded`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::LimitExceeded => "limit_exceeded",
        }
    }

    /// Whether it is an error.
    pub fn is_error(self) -> bool {
        matches!(self, Self::Error | Self::LimitExceeded)
    }

    /// Of a record; `None` while it is under way.
    pub(super) fn of(status: Status) -> Option<Self> {
        match status {
            Status::Running => None,
            Status::Succeeded => Some(Self::Ok),
            Status::Failed => Some(Self::Error),
            Status::Cancelled => Some(Self::Cancelled),
            Status::LimitExceeded => Some(Self::LimitExceeded),
        }
    }
}

/// One span, as it is exported.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its trace and id.
    pub context: SpanContext,
    /// The span around it.
    pub parent: Option<SpanId>,
    /// Whether that one is of another process, or of other code in this one.
    pub parent_is_foreign: bool,
    /// What it is about.
    pub kind: SpanKind,
    /// Its name, of few different ones: a step's span has the step's name.
    pub name: String,
    /// When it began, in nanoseconds since the Unix epoch.
    pub started: u64,
    /// When it ended.
    pub ended: u64,
    /// How.
    pub status: SpanStatus,
    /// The type of the error, never its text.
    pub error_type: Option<Arc<str>>,
    /// What else is known of it; see `docs/telemetry.md`.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// The value of a span's attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A text.
    Text(Arc<str>),
    /// A whole number.
    Count(u64),
    /// A number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
}

impl Span {
    /// An attribute by name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }
}

/// What all spans of a run share.
#[derive(Debug)]
pub(super) struct RunFacts {
    pub(super) run: Arc<str>,
    pub(super) names: Arc<Names>,
    pub(super) trace: TraceId,
    pub(super) resumed: bool,
    /// The world's time, in nanoseconds since the Unix epoch, at the run's time `base`.
    pub(super) wall: u64,
    pub(super) base: Time,
}

/// One span, as it is kept until it is exported; of a step whose only attempt was all there was to it, both.
#[derive(Debug, Clone)]
pub(super) struct Compact {
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) what: What,
    pub(super) started: Time,
    pub(super) ended: Time,
    pub(super) status: SpanStatus,
    /// What most spans don't have.
    pub(super) beside: Option<Box<Beside>>,
}

// One is written for every step: what is seldom there is elsewhere.
const _: () = assert!(size_of::<Compact>() <= 72);

#[derive(Debug, Clone)]
pub(super) struct Beside {
    usage: Usage,
    error_type: Option<Arc<str>>,
    /// Only when content is captured.
    error_message: Option<Arc<str>>,
}

impl Beside {
    pub(super) fn of(
        usage: Usage,
        error_type: Option<Arc<str>>,
        error_message: Option<Arc<str>>,
    ) -> Option<Box<Self>> {
        let is_there = !usage.is_zero() || error_type.is_some() || error_message.is_some();
        is_there.then(|| {
            Box::new(Self {
                usage,
                error_type,
                error_message,
            })
        })
    }
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Run,
    Step {
        node: NodeId,
        attempts: u32,
        fallback: bool,
        cache_hit: Option<bool>,
        /// The span of its only attempt, where that began, ended and came out as the step did.
        only_attempt: Option<SpanId>,
    },
    Lane {
        node: NodeId,
        index: u32,
    },
    Attempt {
        node: NodeId,
        attempt: u32,
    },
    Call(Box<CallFacts>),
}

#[derive(Debug, Clone)]
pub(super) struct CallFacts {
    pub(super) node: NodeId,
    pub(super) attempt: u32,
    pub(super) model: Option<Arc<str>>,
    pub(super) tokens: Option<TokenCounts>,
    pub(super) content: Option<Content>,
}

/// What an agent was given and what it gave. It leaves the process only when somebody asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What it was given.
    pub input: Arc<str>,
    /// What it gave, unless it failed.
    pub output: Option<Arc<str>>,
}

impl Compact {
    /// How many spans it is.
    pub(super) fn spans(&self) -> usize {
        match self.what {
            What::Step {
                only_attempt: Some(_),
                ..
            } => 2,
            _ => 1,
        }
    }

    /// The span of a step's only attempt, where it is kept with the step's.
    pub(super) fn take_attempt(&mut self) -> Option<Self> {
        let What::Step {
            node, only_attempt, ..
        } = &mut self.what
        else {
            return None;
        };
        let beside = self.beside.as_deref().and_then(|beside| {
            let error = (beside.error_type.clone(), beside.error_message.clone());
            Beside::of(Usage::ZERO, error.0, error.1)
        });
        Some(Self {
            id: only_attempt.take()?,
            parent: Some(self.id),
            what: What::Attempt {
                node: *node,
                attempt: 1,
            },
            started: self.started,
            ended: self.ended,
            status: self.status,
            beside,
        })
    }

    /// As it is exported.
    pub(super) fn export(self, run: &RunFacts) -> Span {
        use Attribute::{Count, Flag, Number, Text};
        let text = |text: &Arc<str>| Text(Arc::clone(text));
        let mut attributes: Vec<(&'static str, Attribute)> = Vec::with_capacity(8);
        let place = |node: NodeId, attributes: &mut Vec<(&'static str, Attribute)>| {
            let names = run.names.node(node);
            if let Some(names) = names {
                attributes.push(("flujo.step", text(&names.name)));
                attributes.push(("flujo.step.path", text(&names.path)));
            }
            names
        };
        attributes.push(("flujo.run.id", text(&run.run)));
        let (kind, name) = match self.what {
            What::Run => {
                attributes.push(("flujo.pipeline", text(&run.names.pipeline)));
                if run.resumed {
                    attributes.push(("flujo.resumed", Flag(true)));
                }
                (SpanKind::Run, format!("run {}", run.names.pipeline))
            }
            What::Step {
                node,
                attempts,
                fallback,
                cache_hit,
                only_attempt: _,
            } => {
                let names = place(node, &mut attributes);
                if let Some(names) = names {
                    attributes.push(("flujo.step.kind", Text(Arc::from(names.kind))));
                }
                if attempts > 0 {
                    attributes.push(("flujo.attempts", Count(attempts.into())));
                }
                if let Some(hit) = cache_hit {
                    attributes.push(("flujo.cache.hit", Flag(hit)));
                }
                if fallback {
                    attributes.push(("flujo.fallback", Flag(true)));
                }
                (
                    SpanKind::Step,
                    names.map_or_else(String::new, |names| names.name.to_string()),
                )
            }
            What::Lane { node, index } => {
                let names = place(node, &mut attributes);
                let lane = names.map_or_else(|| Arc::from(""), |names| names.lane(index));
                let name = format!("lane {lane}");
                attributes.push(("flujo.lane", Text(lane)));
                attributes.push(("flujo.lane.index", Count(index.into())));
                (SpanKind::Lane, name)
            }
            What::Attempt { node, attempt } => {
                place(node, &mut attributes);
                attributes.push(("flujo.attempt", Count(attempt.into())));
                (SpanKind::Attempt, format!("attempt {attempt}"))
            }
            What::Call(call) => {
                let names = place(call.node, &mut attributes);
                attributes.push(("flujo.attempt", Count(call.attempt.into())));
                (
                    SpanKind::Call,
                    call.export(names.map(|names| &names.name), &mut attributes),
                )
            }
        };
        let (usage, error_type, error_message) = match self.beside {
            Some(beside) => (beside.usage, beside.error_type, beside.error_message),
            None => (Usage::ZERO, None, None),
        };
        if !usage.is_zero() {
            attributes.push(("flujo.usage.cost_usd", Number(usage.cost.dollars())));
            attributes.push(("flujo.usage.tokens", Count(usage.tokens)));
            attributes.push(("flujo.usage.requests", Count(usage.requests)));
        }
        attributes.push(("flujo.status", Text(Arc::from(self.status.name()))));
        if let Some(error) = &error_type {
            attributes.push(("error.type", text(error)));
        }
        if let Some(message) = error_message {
            attributes.push(("exception.message", Text(message)));
        }
        Span {
            context: SpanContext {
                trace: run.trace,
                span: self.id,
                sampled: true,
            },
            parent: self.parent,
            parent_is_foreign: kind == SpanKind::Run && self.parent.is_some(),
            kind,
            name,
            started: run.time(self.started),
            ended: run.time(self.ended),
            status: self.status,
            error_type,
            attributes,
        }
    }
}

impl CallFacts {
    /// The attributes of OpenTelemetry's conventions for generative AI; gives the span's name.
    fn export(self, step: Option<&Arc<str>>, attributes: &mut Vec<(&'static str, Attribute)>) -> String {
        use Attribute::{Count, Text};
        let operation = if self.model.is_some() {
            "chat"
        } else {
            "invoke_agent"
        };
        let target = self.model.as_ref().or(step);
        let name = target.map_or_else(|| operation.to_owned(), |target| format!("{operation} {target}"));
        attributes.push(("gen_ai.operation.name", Text(Arc::from(operation))));
        if let Some(step) = step {
            attributes.push(("gen_ai.agent.name", Text(Arc::clone(step))));
        }
        if let Some(model) = self.model {
            attributes.push(("gen_ai.request.model", Text(Arc::clone(&model))));
            attributes.push(("gen_ai.response.model", Text(model)));
        }
        if let Some(tokens) = self.tokens {
            attributes.push(("gen_ai.usage.input_tokens", Count(tokens.input)));
            attributes.push(("gen_ai.usage.output_tokens", Count(tokens.output)));
        }
        if let Some(content) = self.content {
            attributes.push(("flujo.input", Text(content.input)));
            if let Some(output) = content.output {
                attributes.push(("flujo.output", Text(output)));
            }
        }
        name
    }
}

impl RunFacts {
    /// The world's time at a time of the run.
    fn time(&self, at: Time) -> u64 {
        if at >= self.base {
            self.wall.saturating_add(at - self.base)
        } else {
            self.wall.saturating_sub(self.base - at)
        }
    }
}
