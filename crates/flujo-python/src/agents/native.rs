//! An agent built from plain settings, and how a call to it begins.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use flujo_agents::{AgentConfig, Pricing};
use flujo_core::agent::{Agent, AgentRequest};
use flujo_core::value::{self, Value};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::call::{NativeCall, Work, chunk_channel};
use super::{classes, outcome, plain, reactor};
use crate::{host, prices, templates};

/// An agent that ships with Flujo.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct NativeAgent {
    config: AgentConfig,
    takes_context: bool,
    takes_steps: bool,
    pricing: Pricing,
    built: Mutex<Built>,
}

/// An agent and the process that it was built in: its connections don't outlive a fork.
struct Built {
    generation: u64,
    agent: Arc<dyn Agent>,
}

#[pymethods]
impl NativeAgent {
    /// Builds the agent called `type` in blueprints. Nothing is sent, run or opened.
    ///
    /// # Errors
    /// `ConfigurationError` naming the setting that can't be used, or the price in `flujo.toml`; `TypeError` for one that
    /// isn't plain data.
    #[new]
    fn new(py: Python<'_>, r#type: &str, settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        let settings = plain::to_value(settings.as_any(), "settings")?;
        let takes_context = mentions(&settings, "context");
        let takes_steps = mentions(&settings, "steps");
        if takes_steps {
            host::steps::keep();
        }
        let named = match &settings {
            Value::Map(entries) => {
                let kind = (Arc::from("type"), Value::from(r#type));
                Value::map(std::iter::once(kind).chain(entries.iter().cloned()))
            }
            other => other.clone(),
        };
        let mut config: AgentConfig = value::from_value(named)
            .map_err(|error| refused(py, &format!("{} agent: {}", r#type, error.reason)))?;
        if config.pricing() == Pricing::Unknown {
            config.price_by(&prices::here(py)?);
        }
        let agent = config.build().map_err(|error| refused(py, &error.to_string()))?;
        Ok(Self {
            takes_context,
            takes_steps,
            pricing: config.pricing(),
            config,
            built: Mutex::new(Built {
                generation: reactor::generation(),
                agent,
            }),
        })
    }

    /// Whether the cost of a call is known: `free`, `known` or `unknown`.
    #[getter]
    fn pricing(&self) -> &'static str {
        match self.pricing {
            Pricing::Free => "free",
            Pricing::Known => "known",
            Pricing::Unknown => "unknown",
        }
    }

    /// Begins a call: its outcome where it needs no waiting, else the call under way.
    fn start<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        context: &Bound<'py, PyAny>,
        place: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let request = self.request(data, context, place)?;
        let agent = self.agent(py)?;
        let mut work: Work = Box::pin(async move { agent.run(request).await });
        if self.needs_no_waiting() {
            let first = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(result) = first {
                return outcome::of(py, result, self.pricing);
            }
        }
        let call = NativeCall::start(py, reactor::handle(py)?, work, self.pricing, None)?;
        Ok(call.into_pyobject(py)?.into_any())
    }

    /// Begins a call whose answer comes in chunks.
    fn stream(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
        place: &Bound<'_, PyAny>,
    ) -> PyResult<NativeCall> {
        let (sink, chunks) = chunk_channel();
        let request = AgentRequest {
            chunks: Some(sink),
            ..self.request(data, context, place)?
        };
        let agent = self.agent(py)?;
        let work: Work = Box::pin(async move { agent.run(request).await });
        NativeCall::start(py, reactor::handle(py)?, work, self.pricing, Some(chunks))
    }
}

impl NativeAgent {
    /// Templates and extractors only calculate; the rest needs tokio from its first poll on.
    fn needs_no_waiting(&self) -> bool {
        matches!(self.config, AgentConfig::Template(_) | AgentConfig::Extract(_))
    }

    /// The agent, built anew in a child process.
    fn agent(&self, py: Python<'_>) -> PyResult<Arc<dyn Agent>> {
        let generation = reactor::generation();
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if built.generation != generation {
            let agent = self
                .config
                .build()
                .map_err(|error| refused(py, &error.to_string()))?;
            // The old one's connections wait for threads that this process doesn't have: it is never dropped.
            std::mem::forget(std::mem::replace(&mut *built, Built { generation, agent }));
        }
        Ok(Arc::clone(&built.agent))
    }

    fn request(
        &self,
        data: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
        place: &Bound<'_, PyAny>,
    ) -> PyResult<AgentRequest> {
        let py = data.py();
        let mut request = AgentRequest {
            input: plain::to_value(data, "the input")?,
            attempt: 1,
            ..AgentRequest::default()
        };
        if self.takes_context && !context.is_none() {
            request.context = plain::to_value(context, "context")?;
        }
        if self.takes_steps {
            request.steps = templates::to_value(host::steps::here(py)?.as_any());
        }
        if !place.is_none() {
            let text = |name: &Bound<'_, pyo3::types::PyString>| -> PyResult<Arc<str>> {
                Ok(Arc::from(&*place.getattr(name)?.str()?.to_cow()?))
            };
            request.step = text(intern!(py, "step"))?;
            request.idempotency_key = text(intern!(py, "idempotency_key"))?;
            request.attempt = place.getattr(intern!(py, "attempt"))?.extract()?;
            let span: Option<String> = place.getattr(intern!(py, "traceparent"))?.extract()?;
            request.span = span.and_then(|span| span.parse().ok());
        }
        Ok(request)
    }
}

/// Whether a template among the settings can read something: by its name, or by `debug()`, which shows everything.
/// A context that nobody reads isn't turned into data.
fn mentions(settings: &Value, name: &str) -> bool {
    match settings {
        Value::Str(text) => text.contains(name) || text.contains("debug"),
        Value::List(items) => items.iter().any(|item| mentions(item, name)),
        Value::Map(entries) => entries.iter().any(|(_, value)| mentions(value, name)),
        _ => false,
    }
}

fn refused(py: Python<'_>, message: &str) -> PyErr {
    match classes::configuration_error(py).and_then(|class| class.call1((message,))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
