//! One step under construction.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::agent::Agent;
use flujo_core::cache::{CachePolicy, StepIdentity};
use flujo_core::config::OptimizationConfig;
use flujo_core::plan::{Backoff, CachedStep, NodeId, StepNode, Work};
use flujo_core::rate::RateLimit;
use flujo_core::usage::{Usage, UsageLimits};
use flujo_core::value::{Map, TypeCodec, Value};

use super::Pipeline;
use crate::Handler;
use crate::domain::Raised;

/// A step: a handler with what goes before and after it.
#[derive(Debug, Clone)]
pub struct Step {
    name: Arc<str>,
    node: StepNode<Handler>,
    body: Option<Pipeline>,
    deadline: Option<Duration>,
    optimization: Option<Arc<OptimizationConfig>>,
    fallback: Option<Pipeline>,
}

impl Step {
    /// A step whose work `handler` does.
    pub fn new(name: impl Into<Arc<str>>, handler: Handler) -> Self {
        Self {
            name: name.into(),
            node: StepNode::new(handler),
            body: None,
            deadline: None,
            optimization: None,
            fallback: None,
        }
    }

    /// A step whose work a whole pipeline does: each attempt runs it anew, in a context of its own whose writes count
    /// when the attempt succeeds. There is one attempt unless [`retries`](Self::retries) says otherwise. Around one
    /// construct of the same name it gives that construct retries, validators, a timeout and a fallback.
    pub fn body(name: impl Into<Arc<str>>, body: impl Into<Pipeline>) -> Self {
        let mut node = StepNode::of(Work::Body(NodeId(0))); // until it is known where the body stands
        node.policy.max_retries = 0;
        Self {
            name: name.into(),
            node,
            body: Some(body.into()),
            deadline: None,
            optimization: None,
            fallback: None,
        }
    }

    /// A step that takes entries by name out of a map, such as outputs of a parallel step, in this order.
    pub fn gather<N: Into<Arc<str>>>(
        name: impl Into<Arc<str>>,
        entries: impl IntoIterator<Item = N>,
    ) -> Self {
        let entries: Vec<Arc<str>> = entries.into_iter().map(Into::into).collect();
        let gather = Handler::processor(move |input, _| {
            let Some(known) = input.as_map() else {
                let kind = input.kind();
                return Err(format!("the input must be a map of outputs by name, but is a {kind}").into());
            };
            let taken: Result<Vec<_>, Raised> = entries
                .iter()
                .map(|entry| match input.get(entry) {
                    Some(value) => Ok((Arc::clone(entry), value.clone())),
                    None => Err(missing(entry, known)),
                })
                .collect();
            Ok(Value::Map(Arc::new(taken?)))
        });
        Self::new(name, gather).retries(0)
    }

    /// A step whose work an agent does.
    pub fn agent(name: impl Into<Arc<str>>, agent: Arc<dyn Agent>) -> Self {
        Self::new(name, Handler::Agent(agent))
    }

    /// Retries after the first attempt; 1 without this.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.node.policy.max_retries = retries;
        self
    }

    /// How long to wait between attempts; not at all without this.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.node.policy.backoff = backoff;
        self
    }

    /// The longest time one attempt may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.node.policy.timeout = Some(timeout);
        self
    }

    /// The longest time the step may take with its retries, waits and fallback.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Which optimised parts the step uses, and the thresholds it is watched by; without this the pipeline's or the
    /// runner's. Results are the same.
    #[must_use]
    pub fn optimization(mut self, config: OptimizationConfig) -> Self {
        self.optimization = Some(Arc::new(config));
        self
    }

    /// How often its agent may be called, together with whatever else has the limit's name. A call waits for its turn,
    /// which counts against deadlines, not against [`timeout`](Self::timeout). A step whose work is a pipeline calls no agent
    /// itself.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.node.rates.push(limit);
        self
    }

    /// What one attempt is expected to use; it is reserved before the attempt when usage is limited.
    #[must_use]
    pub fn estimate(mut self, estimate: Usage) -> Self {
        self.node.estimate = estimate;
        self
    }

    /// The most that all attempts at the step together may use; passing it stops the run.
    #[must_use]
    pub fn usage_limits(mut self, limits: UsageLimits) -> Self {
        self.node.limits = Some(limits);
        self
    }

    /// Keeps the step's results, and gives them without running it again to who asks with the same input and the same
    /// values of all else they depend on. Only results of attempts that succeeded are kept, and only when these wrote
    /// nothing to the context themselves: what [`apply`](Self::apply) and its like write is written when a result is found
    /// too. Steps at the same time that want the same result make it once.
    #[must_use]
    pub fn cached(mut self, policy: CachePolicy) -> Self {
        let identity = match &policy.version {
            Some(version) => StepIdentity::Known(Arc::clone(version)),
            None => StepIdentity::Local(0), // until it is known that nothing more is said about the step
        };
        self.node.cache = Some(Box::new(CachedStep::new(policy, identity)));
        self
    }

    /// What a [cached](Self::cached) step does is told apart by this, instead of its version.
    #[must_use]
    pub fn cached_as(mut self, identity: impl Into<Arc<str>>) -> Self {
        if let Some(cache) = &mut self.node.cache {
            cache.identity = StepIdentity::Known(identity.into());
        }
        self
    }

    /// Makes what stands for the input in the keys of a [cached](Self::cached) step, where that is an object without a
    /// codec, or says more than the step looks at. When it fails, the result is not kept.
    #[must_use]
    pub fn cache_key<F>(mut self, key: F) -> Self
    where
        F: Fn(&Value) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        if let Some(cache) = &mut self.node.cache {
            cache.key = Some(Handler::processor(move |input, _| key(input)));
        }
        self
    }

    /// Saves and loads outputs of a [cached](Self::cached) step that are objects, for a second tier.
    #[must_use]
    pub fn cache_codec(mut self, codec: &'static TypeCodec) -> Self {
        if let Some(cache) = &mut self.node.cache {
            cache.codec = Some(codec);
        }
        self
    }

    /// Says that what the step gives is an object that can't be saved, so that a runner with a store refuses it.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.node.volatile = true;
        self
    }

    /// Prepares the input of each attempt, after the processors added before.
    #[must_use]
    pub fn prompt_processor(mut self, processor: Handler) -> Self {
        self.node.prompt_processors.push(processor);
        self
    }

    /// Works on the output of each attempt, after the processors added before.
    #[must_use]
    pub fn output_processor(mut self, processor: Handler) -> Self {
        self.node.output_processors.push(processor);
        self
    }

    /// Accepts, rejects, replaces or redirects, after the plugins added before.
    #[must_use]
    pub fn plugin(mut self, plugin: Handler) -> Self {
        self.node.plugins.push(plugin);
        self
    }

    /// Accepts or rejects the output; all validators are asked.
    #[must_use]
    pub fn validator(mut self, validator: Handler) -> Self {
        self.node.validators.push(validator);
        self
    }

    /// Writes the output of a successful attempt into the context, in place of what was said before.
    #[must_use]
    pub fn apply(mut self, apply: Handler) -> Self {
        self.node.apply = Some(apply);
        self
    }

    /// Writes each entry of an output that is a map into the context's field of that name.
    #[must_use]
    pub fn updates_context(self) -> Self {
        self.apply(Handler::apply(|output, context| {
            context.update(output).ok_or_else(|| {
                format!(
                    "the output must be a map of context fields, but is a {}",
                    output.kind()
                )
            })?;
            Ok(())
        }))
    }

    /// Writes the output into the context at a dotted path.
    #[must_use]
    pub fn sink_to(self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.apply(Handler::apply(move |output, context| {
            Ok(context.set_path(&path, output.clone())?)
        }))
    }

    /// Writes why the step failed into the context at a dotted path.
    #[must_use]
    pub fn persist_feedback_to(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.node.persist = Some(Handler::persist(move |failure, context| {
            Ok(context.set_path(&path, Value::from(failure.to_string()))?)
        }));
        self
    }

    /// Runs `handler` when the step has failed, retries and fallback included; see [`Pipeline::on_failure`].
    #[must_use]
    pub fn on_failure(self, handler: impl Into<Pipeline>) -> Pipeline {
        Pipeline::from(self).on_failure(handler)
    }

    /// Runs with the step's input when all attempts have failed.
    #[must_use]
    pub fn fallback(mut self, fallback: impl Into<Pipeline>) -> Self {
        self.fallback = Some(fallback.into());
        self
    }
}

fn missing(entry: &str, known: &Map) -> Raised {
    let known: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
    let known = known.join(", ");
    format!("there is no output named `{entry}` to gather; there are {known}").into()
}

impl From<Step> for Pipeline {
    fn from(step: Step) -> Self {
        let mut nodes = None;
        let mut node = step.node;
        if let Some(body) = step.body {
            node.work = Work::Body(body.place_in(&mut nodes));
        }
        if let Work::Call(agent) = &node.work {
            node.estimate.unpriced |= agent.is_unpriced();
            node.rates.extend(agent.rate_limit());
        }
        if let Some(cache) = &mut node.cache
            && !cache.identity.is_known()
        {
            cache.identity = StepIdentity::local();
        }
        node.fallback = step.fallback.map(|fallback| fallback.place_in(&mut nodes));
        let mut nodes = nodes.unwrap_or_default();
        let id = nodes.step(step.name, node);
        if let Some(config) = &step.optimization {
            nodes.set_optimization(id, config);
        }
        Pipeline::of(nodes, id, step.deadline)
    }
}
