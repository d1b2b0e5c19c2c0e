//! Calls of agents: those that used something, or all of them while content is captured.

use std::sync::Arc;

use flujo_core::agent::TokenCounts;
use flujo_core::machine::{CallId, Input, Role, Time};
use flujo_core::plan::NodeId;
use flujo_core::telemetry::{AgentCall, Content, MachineSpans, SpanStatus};
use flujo_core::usage::Usage;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::host::answer::is_plain;
use crate::host::domain::{Answer, Call, Event, Machine, Python3};

/// A call that is under way.
pub(super) struct Note {
    call: CallId,
    node: NodeId,
    attempt: u32,
    record: Option<u32>,
    started: Time,
    /// What the agent was given, while content is captured.
    input: Option<Arc<str>>,
}

/// What an agent's result says about the call.
pub(crate) struct Said {
    model: Option<Arc<str>>,
    tokens: Option<TokenCounts>,
}

impl Note {
    /// Of a call that begins.
    #[inline]
    pub(super) fn of(
        py: Python<'_>,
        spans: &MachineSpans<Python3>,
        machine: &Machine,
        call: &Call,
    ) -> Option<Self> {
        if !matches!(call.role, Role::Agent | Role::Redirect) || !spans.records() {
            return None;
        }
        let input = match &call.input {
            Input::Value(value) | Input::Redirect { input: value, .. } if spans.captures_content() => {
                Some(shown(value.bind(py)))
            }
            _ => None,
        };
        Some(Self {
            call: call.call,
            node: call.node,
            attempt: call.attempt,
            record: machine.record_under_way(),
            started: machine.now(),
            input,
        })
    }

    /// The call as it ended; None for one that isn't worth a span of its own.
    pub(super) fn ended(self, py: Python<'_>, event: &Event, said: Option<Said>) -> Option<AgentCall> {
        let (status, error_type, usage, output, ended) = match event {
            Event::Answered {
                answer: Answer::Value { value, usage },
                at,
                ..
            } => (SpanStatus::Ok, None, *usage, Some(value), *at),
            Event::Answered { at, .. } => (SpanStatus::Ok, None, Usage::ZERO, None, *at),
            Event::Failed {
                failure, usage, at, ..
            } => {
                let error = Arc::clone(&failure.error_type);
                (SpanStatus::Error, Some(error), *usage, None, *at)
            }
            Event::TimedOut { usage, at, .. } => (
                SpanStatus::Error,
                Some(Arc::from("TimeoutError")),
                *usage,
                None,
                *at,
            ),
            Event::CallCancelled { at, .. } => (SpanStatus::Cancelled, None, Usage::ZERO, None, *at),
            _ => return None,
        };
        if usage.is_zero() && said.is_none() && self.input.is_none() {
            return None;
        }
        let (model, tokens) = said.map_or((None, None), |said| (said.model, said.tokens));
        Some(AgentCall {
            call: self.call,
            node: self.node,
            record: self.record,
            attempt: self.attempt,
            started: self.started,
            ended,
            status,
            error_type,
            usage,
            tokens,
            model,
            content: self.input.map(|input| Content {
                input,
                output: output.map(|output| shown(output.bind(py))),
            }),
        })
    }
}

impl Said {
    /// What there is; None of a result that says nothing about its call.
    pub(super) fn of(result: &Bound<'_, PyAny>) -> Option<Self> {
        if is_plain(result) {
            return None;
        }
        let py = result.py();
        let mut usage = read(result, intern!(py, "usage"))?;
        if !usage.hasattr(intern!(py, "input_tokens")).unwrap_or(false) && usage.is_callable() {
            usage = usage.call0().ok()?;
        }
        let count = |name| read(&usage, name).and_then(|count| count.extract::<u64>().ok());
        let tokens = count(intern!(py, "input_tokens")).zip(count(intern!(py, "output_tokens")));
        let named = |object: &Bound<'_, PyAny>, name| {
            let text = read(object, name)?.cast_into::<PyString>().ok()?;
            Some(Arc::<str>::from(&*text.to_cow().ok()?))
        };
        let model = named(result, intern!(py, "model")).or_else(|| {
            let response = read(result, intern!(py, "response"))?;
            named(&response, intern!(py, "model_name"))
        });
        let tokens = tokens.map(|(input, output)| TokenCounts { input, output });
        (model.is_some() || tokens.is_some()).then_some(Self { model, tokens })
    }
}

/// An attribute that is there and not None.
fn read<'py>(object: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> Option<Bound<'py, PyAny>> {
    let value = object.getattr_opt(name).ok().flatten();
    value.filter(|value| !value.is_none())
}

/// A value as captured content shows it: text as it is, anything else as Python represents it.
fn shown(value: &Bound<'_, PyAny>) -> Arc<str> {
    let text = match value.cast::<PyString>() {
        Ok(text) => Ok(text.clone()),
        Err(_) => value.repr(),
    };
    match text.as_ref().map(PyStringMethods::to_cow) {
        Ok(Ok(text)) => Arc::from(&*text),
        _ => Arc::from("(it can't be shown)"),
    }
}
