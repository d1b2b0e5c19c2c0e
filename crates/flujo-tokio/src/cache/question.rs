//! Which result a cached step wants: its key, and what of the context belongs to it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use flujo_core::cache::{CacheKey, CacheScope, Fields, KeyBuilder, Uncached, Wanted};
use flujo_core::context::Context;
use flujo_core::machine::{Answer, CacheGet, History, Input};
use flujo_core::plan::{CachedStep, Kind, NodeId, Plan, Work};
use flujo_core::value::{TypeCodec, Value};

use super::Caches;
use crate::Handler;
use crate::domain::Tokio;
use crate::handler::Decision;

/// The result that is wanted.
pub(crate) struct Question {
    pub(super) primary: CacheKey,
    /// The context as the step finds it, where the result depends on what the step reads of it.
    pub(crate) context: Option<Context>,
    /// How long a result is good; zero is for ever, nothing as long as the cache says.
    pub(super) ttl: Option<Duration>,
    /// Whether its key is the same in all processes.
    pub(super) is_known: bool,
    pub(super) codec: Option<&'static TypeCodec>,
}

impl Question {
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            primary: self.primary,
            fields: self.context.as_ref().map(|context| -> &dyn Fields { context }),
        }
    }

    pub(super) fn codecs(&self) -> &[&'static TypeCodec] {
        self.codec.as_slice()
    }
}

/// What is wanted of the cache; why nothing is, when nothing is.
pub(crate) fn question(
    caches: &Caches,
    (plan, history): (&Arc<Plan<Handler>>, &History<Tokio>),
    outputs: &Value,
    get: &CacheGet<Tokio>,
) -> Result<Question, Uncached> {
    let Kind::Step(step) = &plan.node(get.node).kind else {
        return Err(Uncached::Stopped);
    };
    let cached = step.cache.as_deref().ok_or(Uncached::Stopped)?;
    let mut key = KeyBuilder::new("cached step");
    key.key(cached.base);
    let input = input_of(cached, get, plan, history)?;
    key.value(&input).map_err(|_| Uncached::Input)?;
    match &cached.policy.scope {
        CacheScope::Input => drop(key.text("input")),
        CacheScope::Auto => {
            key.text("auto");
            for (name, fingerprint) in &caches.fingerprints {
                key.text(name).text(fingerprint);
            }
            // Agents, and what looks at earlier outputs, are told all of them.
            if is_told_outputs(plan, get.node) {
                key.value(outputs).map_err(|_| Uncached::Field)?;
            }
        }
        CacheScope::Declared { fields, resources } => {
            key.text("declared");
            for field in fields {
                let digest = get.context.digest(field).ok_or(Uncached::Field)?;
                key.text(field).key(digest);
            }
            for resource in resources {
                let fingerprint = caches.fingerprints.get(resource).ok_or(Uncached::Resource)?;
                key.text(resource).text(fingerprint);
            }
        }
    }
    Ok(Question {
        primary: key.finish(),
        context: (cached.policy.scope == CacheScope::Auto).then(|| get.context.clone()),
        ttl: cached.policy.ttl,
        is_known: cached.identity.is_known(),
        codec: cached.codec,
    })
}

/// What stands for the input in the key.
fn input_of(
    cached: &CachedStep<Handler>,
    get: &CacheGet<Tokio>,
    plan: &Arc<Plan<Handler>>,
    history: &History<Tokio>,
) -> Result<Value, Uncached> {
    let Some(Handler::Inline(make)) = &cached.key else {
        return Ok(get.input.clone());
    };
    let input = Input::Value(get.input.clone());
    let mut context = Context::new();
    let made = catch_unwind(AssertUnwindSafe(|| {
        make(Decision {
            input: &input,
            context: &mut context,
            steps: Value::Null,
            history,
            plan,
        })
    }));
    match made {
        Ok(Ok(Answer::Value { value, .. })) => Ok(value),
        _ => Err(Uncached::Input),
    }
}

/// Whether anything that does the step's work is told the outputs of earlier steps.
fn is_told_outputs(plan: &Plan<Handler>, step: NodeId) -> bool {
    let mut waiting = vec![step];
    while let Some(id) = waiting.pop() {
        let node = plan.node(id);
        if node.callables().any(Handler::is_informed) {
            return true;
        }
        match &node.kind {
            // What the fallback gives isn't kept.
            Kind::Step(inner) if id == step => {
                if let Work::Body(body) = inner.work {
                    waiting.push(body);
                }
            }
            _ => waiting.extend(plan.children(id)),
        }
    }
    false
}
