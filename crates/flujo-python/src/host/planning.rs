//! From a definition to a plan: the compiler in Python walks the definition and describes each node here.

mod compiled;
mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use flujo_core::pipeline::Pipeline;
use flujo_core::plan::{
    Backoff, CachedStep, ConditionalNode, GroupNode, GuardNode, HumanNode, IterationFailure, LoopNode,
    MapNode, NodeId, ParallelNode, Policy, Router, State, StatesNode, StepNode, Work,
};
use flujo_core::telemetry::Names;
use flujo_core::usage::{Usage, UsageLimits};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyString};

pub(crate) use compiled::CompiledPlan;
use words::{lane_failure, rejection};

use super::cached::{self, CachedNode, CachedResults};
use super::callable::{Callable, CallableSpec};
use super::domain::{Call, Plan};
use super::usage::money;
use crate::cache::Cache;
use crate::config::PyOptimizationConfig;
use crate::rates::PyRateLimit;

/// Counts changes of any definition in this process, so that a plan made at the present count is known to be valid.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// Tells the engine that some definition changed.
#[pyfunction]
pub(crate) fn definition_changed() {
    EPOCH.fetch_add(1, Ordering::Release);
}

/// The count of changes so far.
#[pyfunction]
pub(crate) fn definition_epoch() -> u64 {
    EPOCH.load(Ordering::Acquire)
}

/// A plan with what the shell keeps beside it.
pub(crate) struct PlanWithSteps {
    pub(crate) plan: Arc<Plan>,
    /// The definition's object of each node.
    pub(crate) steps: Vec<Option<Py<PyAny>>>,
    /// The name of each node, as results show it.
    pub(crate) names: Vec<Py<PyString>>,
    /// What a call finds when the plan has no such callable; it can't happen in a compiled plan.
    nothing: Arc<CallableSpec>,
    span_names: OnceLock<Arc<Names>>,
    /// What is kept beside cached steps.
    pub(crate) cached: HashMap<NodeId, CachedNode>,
}

impl PlanWithSteps {
    /// What spans of its nodes are called.
    pub(crate) fn span_names(&self) -> &Arc<Names> {
        self.span_names.get_or_init(|| Arc::new(Names::of(&self.plan)))
    }

    /// The callable a call names.
    pub(crate) fn node_callable(&self, call: &Call) -> &Arc<CallableSpec> {
        let found = self.plan.node(call.node).callable(call.role, call.index);
        found.unwrap_or(&self.nothing)
    }
}

/// Takes in the nodes of a definition, children before the nodes around them.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct PlanBuilder {
    state: Mutex<Building>,
}

#[derive(Default)]
struct Building {
    pipeline: Pipeline<Arc<CallableSpec>>,
    steps: Vec<Option<Py<PyAny>>>,
    caches: HashMap<NodeId, Arc<Cache>>,
}

impl PlanBuilder {
    fn add(
        &self,
        object: Option<Py<PyAny>>,
        deadline_s: Option<f64>,
        make: impl FnOnce(&mut Pipeline<Arc<CallableSpec>>) -> NodeId,
    ) -> PyResult<u32> {
        let deadline = deadline_s.map(duration).transpose()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let node = make(&mut state.pipeline);
        state.pipeline.set_deadline(node, deadline);
        state.steps.push(object);
        Ok(node.0)
    }
}

type Branches = Vec<(String, u32)>;
type Spec<'py> = Bound<'py, Callable>;

fn spec(callable: &Spec<'_>) -> Arc<CallableSpec> {
    Arc::clone(&callable.get().spec)
}

fn specs(callables: &[Spec<'_>]) -> Vec<Arc<CallableSpec>> {
    callables.iter().map(spec).collect()
}

/// Dollars, tokens and requests, each None where there is no limit.
type Limits<'py> = (Option<Bound<'py, PyAny>>, Option<u64>, Option<u64>);

fn limits_of((cost, tokens, requests): Limits<'_>) -> PyResult<UsageLimits> {
    let cost = cost.map(|cost| money(&cost)).transpose()?;
    Ok(UsageLimits {
        cost,
        tokens,
        requests,
    })
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds} is no number of seconds")))
}

fn branch_ids(branches: Branches) -> Vec<(Arc<str>, NodeId)> {
    branches
        .into_iter()
        .map(|(name, id)| (Arc::from(name), NodeId(id)))
        .collect()
}

#[pymethods]
impl PlanBuilder {
    #[new]
    fn new() -> Self {
        Self {
            state: Mutex::default(),
        }
    }

    #[pyo3(signature = (name, agent=None, *, body=None, object=None, prompt_processors=vec![], output_processors=vec![],
        plugins=vec![], validators=vec![], apply=None, persist=None, max_retries=1, timeout_s=None,
        deadline_s=None, backoff=None, fallback=None, expected_cost_usd=None, expected_tokens=None, usage_limits=None,
        on_rejection="fail", unpriced=false, cache=None, cache_key=None, rate_limits=vec![]))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn step(
        &self,
        name: &str,
        agent: Option<Spec<'_>>,
        body: Option<u32>,
        object: Option<Py<PyAny>>,
        prompt_processors: Vec<Spec<'_>>,
        output_processors: Vec<Spec<'_>>,
        plugins: Vec<Spec<'_>>,
        validators: Vec<Spec<'_>>,
        apply: Option<Spec<'_>>,
        persist: Option<Spec<'_>>,
        max_retries: u32,
        timeout_s: Option<f64>,
        deadline_s: Option<f64>,
        backoff: Option<(f64, f64, f64, f64)>,
        fallback: Option<u32>,
        expected_cost_usd: Option<Bound<'_, PyAny>>,
        expected_tokens: Option<u64>,
        usage_limits: Option<Limits<'_>>,
        on_rejection: &str,
        unpriced: bool,
        cache: Option<Bound<'_, CachedResults>>,
        cache_key: Option<Spec<'_>>,
        rate_limits: Vec<Bound<'_, PyRateLimit>>,
    ) -> PyResult<u32> {
        let backoff = match backoff {
            Some((initial, factor, max, jitter)) => Backoff::Exponential {
                initial: duration(initial)?,
                factor,
                max: duration(max)?,
                jitter,
            },
            None => Backoff::None,
        };
        let cost = expected_cost_usd
            .map(|cost| money(&cost))
            .transpose()?
            .unwrap_or_default();
        let work = match (&agent, body) {
            (Some(agent), None) => Work::Call(spec(agent)),
            (None, Some(body)) => Work::Body(NodeId(body)),
            _ => return Err(PyValueError::new_err("a step has an agent or a body")),
        };
        let step = StepNode {
            work,
            prompt_processors: specs(&prompt_processors),
            output_processors: specs(&output_processors),
            plugins: specs(&plugins),
            validators: specs(&validators),
            on_rejection: rejection(on_rejection)?,
            apply: apply.as_ref().map(spec),
            persist: persist.as_ref().map(spec),
            policy: Policy {
                max_retries,
                timeout: timeout_s.map(duration).transpose()?,
                backoff,
            },
            fallback: fallback.map(NodeId),
            estimate: Usage {
                unpriced,
                ..Usage::new(cost, expected_tokens.unwrap_or(0))
            },
            limits: usage_limits.map(limits_of).transpose()?,
            cache: cache.as_ref().map(|cache| {
                let cache = cache.get();
                let mut cached = CachedStep::new(cache.policy.clone(), cache.identity.clone());
                cached.key = cache_key.as_ref().map(spec);
                Box::new(cached)
            }),
            rates: rate_limits.iter().map(|rate| rate.get().limit.clone()).collect(),
            volatile: false,
        };
        let node = self.add(object, deadline_s, |pipeline| pipeline.step(name, step))?;
        if let Some(cache) = cache {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.caches.insert(NodeId(node), Arc::clone(&cache.get().cache));
        }
        Ok(node)
    }

    fn sequence(&self, children: Vec<u32>) -> PyResult<u32> {
        let children = children.into_iter().map(NodeId).collect();
        self.add(None, None, |pipeline| pipeline.sequence(children))
    }

    #[pyo3(signature = (name, condition, branches, *, object=None, default=None, input_mapper=None,
        output_mapper=None, deadline_s=None))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn conditional(
        &self,
        name: &str,
        condition: Spec<'_>,
        branches: Branches,
        object: Option<Py<PyAny>>,
        default: Option<u32>,
        input_mapper: Option<Spec<'_>>,
        output_mapper: Option<Spec<'_>>,
        deadline_s: Option<f64>,
    ) -> PyResult<u32> {
        let node = ConditionalNode {
            condition: spec(&condition),
            branches: branch_ids(branches),
            default: default.map(NodeId),
            input_mapper: input_mapper.as_ref().map(spec),
            output_mapper: output_mapper.as_ref().map(spec),
        };
        self.add(object, deadline_s, |pipeline| pipeline.conditional(name, node))
    }

    #[pyo3(signature = (name, branches, collect, *, object=None, router=None, select=None, on_failure="propagate",
        max_concurrency=None, merge=None, deadline_s=None))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn parallel(
        &self,
        name: &str,
        branches: Branches,
        collect: Spec<'_>,
        object: Option<Py<PyAny>>,
        router: Option<u32>,
        select: Option<Spec<'_>>,
        on_failure: &str,
        max_concurrency: Option<u32>,
        merge: Option<Spec<'_>>,
        deadline_s: Option<f64>,
    ) -> PyResult<u32> {
        let node = ParallelNode {
            router: router.zip(select).map(|(body, select)| Router {
                body: NodeId(body),
                select: spec(&select),
            }),
            branches: branch_ids(branches),
            on_failure: lane_failure(on_failure)?,
            max_concurrency,
            merge: merge.as_ref().map(spec),
            collect: spec(&collect),
        };
        self.add(object, deadline_s, |pipeline| pipeline.parallel(name, node))
    }

    #[pyo3(signature = (name, body, items, collect, *, object=None, on_failure="propagate",
        max_concurrency=1, merge=None, deadline_s=None))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn map(
        &self,
        name: &str,
        body: u32,
        items: Spec<'_>,
        collect: Spec<'_>,
        object: Option<Py<PyAny>>,
        on_failure: &str,
        max_concurrency: u32,
        merge: Option<Spec<'_>>,
        deadline_s: Option<f64>,
    ) -> PyResult<u32> {
        let node = MapNode {
            body: NodeId(body),
            items: spec(&items),
            max_concurrency,
            on_failure: lane_failure(on_failure)?,
            merge: merge.as_ref().map(spec),
            collect: spec(&collect),
        };
        self.add(object, deadline_s, |pipeline| pipeline.map(name, node))
    }

    #[pyo3(signature = (name, body, *, object=None, inherit=None, collect=None, deadline_s=None))]
    fn group(
        &self,
        name: &str,
        body: u32,
        object: Option<Py<PyAny>>,
        inherit: Option<Spec<'_>>,
        collect: Option<Spec<'_>>,
        deadline_s: Option<f64>,
    ) -> PyResult<u32> {
        let node = GroupNode {
            body: NodeId(body),
            inherit: inherit.as_ref().map(spec),
            collect: collect.as_ref().map(spec),
        };
        self.add(object, deadline_s, |pipeline| pipeline.group(name, node))
    }

    #[pyo3(signature = (name, body, exit, *, object=None, judge=None, first_input=None, next_input=None,
        output=None, max_loops=5, go_on=false, deadline_s=None))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn repeat(
        &self,
        name: &str,
        body: u32,
        exit: Spec<'_>,
        object: Option<Py<PyAny>>,
        judge: Option<u32>,
        first_input: Option<Spec<'_>>,
        next_input: Option<Spec<'_>>,
        output: Option<Spec<'_>>,
        max_loops: u32,
        go_on: bool,
        deadline_s: Option<f64>,
    ) -> PyResult<u32> {
        let node = LoopNode {
            body: NodeId(body),
            judge: judge.map(NodeId),
            exit: spec(&exit),
            first_input: first_input.as_ref().map(spec),
            next_input: next_input.as_ref().map(spec),
            output: output.as_ref().map(spec),
            max_loops,
            on_failure: if go_on {
                IterationFailure::Continue
            } else {
                IterationFailure::Stop
            },
        };
        self.add(object, deadline_s, |pipeline| pipeline.repeat(name, node))
    }

    /// `states` are names, bodies, and whether the machine ends there.
    #[pyo3(signature = (name, states, start, next, *, object=None, deadline_s=None))]
    fn states(
        &self,
        name: &str,
        states: Vec<(String, Option<u32>, bool)>,
        start: u32,
        next: Spec<'_>,
        object: Option<Py<PyAny>>,
        deadline_s: Option<f64>,
    ) -> PyResult<u32> {
        let states = states.into_iter().map(|(name, body, end)| State {
            name: Arc::from(name),
            body: body.map(NodeId),
            end,
        });
        let node = StatesNode {
            states: states.collect(),
            start,
            next: spec(&next),
        };
        self.add(object, deadline_s, |pipeline| pipeline.states(name, node))
    }

    fn guard(&self, body: u32, describe: Spec<'_>, handler: u32) -> PyResult<u32> {
        let node = GuardNode {
            body: NodeId(body),
            describe: spec(&describe),
            handler: NodeId(handler),
        };
        self.add(None, None, |pipeline| pipeline.guard(node))
    }

    #[pyo3(signature = (name, question, accept, *, object=None, timeout_s=None, default=None, deadline_s=None))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn human(
        &self,
        name: &str,
        question: Spec<'_>,
        accept: Spec<'_>,
        object: Option<Py<PyAny>>,
        timeout_s: Option<f64>,
        default: Option<Spec<'_>>,
        deadline_s: Option<f64>,
    ) -> PyResult<u32> {
        let node = HumanNode {
            question: spec(&question),
            accept: Some(spec(&accept)),
            timeout: timeout_s.map(duration).transpose()?,
            default: default.as_ref().map(spec),
        };
        self.add(object, deadline_s, |pipeline| pipeline.human(name, node))
    }

    /// Which optimisations a node and what is in it use, where nothing further in says otherwise.
    fn optimize(&self, node: u32, config: &Bound<'_, PyOptimizationConfig>) {
        let config = Arc::new(config.get().config().clone());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pipeline.set_optimization(NodeId(node), &config);
    }

    /// The plan of the pipeline that begins at `root`. The builder is empty afterwards.
    fn finish(&self, py: Python<'_>, name: &str, root: u32) -> PyResult<CompiledPlan> {
        let Building {
            pipeline,
            steps,
            caches,
        } = std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner));
        let plan = pipeline
            .compile(name, NodeId(root))
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let nothing = Arc::new(CallableSpec::nothing(py));
        let names = plan
            .nodes()
            .map(|(_, node)| PyString::new(py, &node.name).unbind())
            .collect();
        let cached = cached::nodes_of(&plan, caches);
        Ok(CompiledPlan {
            inner: Arc::new(PlanWithSteps {
                cached,
                plan: Arc::new(plan),
                steps,
                names,
                nothing,
                span_names: OnceLock::new(),
            }),
        })
    }
}

/// How an agent that isn't part of the plan is called.
pub(crate) fn describe_agent(py: Python<'_>, agent: &Bound<'_, PyAny>) -> PyResult<Arc<CallableSpec>> {
    let described = py
        .import("flujo.application._callables")?
        .call_method1("describe_agent", (agent,))?;
    Ok(Arc::clone(&described.cast::<Callable>()?.get().spec))
}
