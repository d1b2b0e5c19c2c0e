//! A runner under construction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use flujo_core::analysis::Analyses;
use flujo_core::config::{Drills, OptimizationConfig, Twin, Twins};
use flujo_core::context::MergeRules;
use flujo_core::monitor::Watch;
use flujo_core::plan::{Kind, Work};
use flujo_core::rate::{RateLimit, StepRates};
use flujo_core::stats::{Alert, Statistics};
use flujo_core::store::{Lease, RunStore};
use flujo_core::telemetry::SpanQueue;
use flujo_core::usage::{Usage, UsageLimits};
use flujo_core::value::{TypeCodec, Value};
use flujo_durable::{Durability, Migrate, Migration, Purging, Retention};
use flujo_store::{WorkerHandle, runs};

use super::{BuildError, Runner, Running, VERSION};
use crate::agents::Agents;
use crate::alarm::{Alarm, OnAlert};
use crate::analysis::Analysed;
use crate::cache::{Cache, Caches, Finds};
use crate::contexts::ContextCounts;
use crate::memory::Memory;
use crate::pools::RunnerPools;
use crate::run::Keeping;
use crate::scope::{Place, Resources};
use crate::telemetry::Telemetries;
use crate::{Handler, Pipeline, rates};

/// A runner under construction.
pub struct RunnerBuilder {
    pipeline: Pipeline,
    name: Arc<str>,
    limits: UsageLimits,
    rates: Vec<RateLimit>,
    deadline: Option<Duration>,
    resources: Resources,
    event_buffer: usize,
    rules: Option<Arc<MergeRules>>,
    config: OptimizationConfig,
    optimized: bool,
    on_alert: Option<Arc<OnAlert>>,
    telemetry: Option<Arc<SpanQueue>>,
    cache: Option<Cache>,
    finds: Option<Arc<Finds>>,
    fingerprints: BTreeMap<Arc<str>, Arc<str>>,
    store: Option<Arc<dyn RunStore>>,
    durability: Durability,
    source: Option<Arc<str>>,
    given: UsageLimits,
    retention: Retention,
    migrate: Option<Arc<Migrate>>,
    lease: Lease,
    codecs: Vec<&'static TypeCodec>,
    clock: runs::Clock,
    agents: Agents,
}

impl RunnerBuilder {
    pub(super) fn new(pipeline: Pipeline) -> Self {
        Self {
            pipeline,
            name: Arc::from("pipeline"),
            limits: UsageLimits::default(),
            rates: Vec::new(),
            deadline: None,
            resources: Resources::default(),
            event_buffer: 64,
            rules: None,
            config: OptimizationConfig::default(),
            optimized: true,
            on_alert: None,
            telemetry: None,
            cache: None,
            finds: None,
            fingerprints: BTreeMap::new(),
            store: None,
            durability: Durability::default(),
            source: None,
            given: UsageLimits::default(),
            retention: Retention::default(),
            migrate: None,
            lease: Lease::default(),
            codecs: Vec::new(),
            clock: runs::Clock::default(),
            agents: Agents::default(),
        }
    }

    /// The pipeline's name, for records and messages; `pipeline` without this.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The most that one run may use; nothing is limited without this.
    #[must_use]
    pub fn usage_limits(mut self, limits: UsageLimits) -> Self {
        self.limits = limits;
        self
    }

    /// A limit on how often agents are called, for every step; what has the same name shares it, in other runners too.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rates.push(limit);
        self
    }

    /// The longest time one run may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// An object for the steps, found by its type; it replaces another one of the same type.
    #[must_use]
    pub fn resource<R: Send + Sync + 'static>(mut self, resource: R) -> Self {
        self.resources.insert(resource);
        self
    }

    /// How concurrent writes to certain context fields combine.
    #[must_use]
    pub fn merge_rules(mut self, rules: MergeRules) -> Self {
        self.rules = (!rules.is_empty()).then(|| Arc::new(rules));
        self
    }

    /// How many events may be unread before the run waits, at least 1; 64 without this.
    #[must_use]
    pub fn event_buffer(mut self, events: usize) -> Self {
        self.event_buffer = events.max(1);
        self
    }

    /// Whether optimised parts are used at all; they are without this. Results are the same.
    #[must_use]
    pub fn optimizations(mut self, enabled: bool) -> Self {
        self.optimized = enabled;
        self
    }

    /// Which optimised parts are used, and their sizes and thresholds. The pipeline's or a step's own config wins.
    #[must_use]
    pub fn optimization_config(mut self, config: OptimizationConfig) -> Self {
        self.config = config;
        self
    }

    /// Is told of each alert: a threshold that was crossed, once per crossing, or a part that gave way to its plain twin.
    /// It is called in a thread of its own; when it panics or is more than 64 alerts behind, that is counted in the
    /// statistics and harms no run. With it the growth of memory is watched in the background too.
    #[must_use]
    pub fn on_alert(mut self, callback: impl Fn(&Alert) + Send + Sync + 'static) -> Self {
        self.on_alert = Some(Arc::new(callback));
        self
    }

    /// Where the spans of runs go; none are recorded without this. Several runners may share one queue. An exporter
    /// takes the spans out of it, such as those of the crate `flujo-observe`.
    #[must_use]
    pub fn telemetry(mut self, queue: impl Into<Arc<SpanQueue>>) -> Self {
        self.telemetry = Some(queue.into());
        self
    }

    /// Where the results of cached steps are kept; several runners may share it. Without this the runner has a cache of
    /// its own, of the size and for the time that the config says.
    #[must_use]
    pub fn cache(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// What cached steps find, in place of a cache, by where they are: for playing a run again that was. `None` has the
    /// result made, and it isn't kept. A hit gives what the step had given, and what that had used.
    #[must_use]
    pub fn finds(mut self, hits: impl Fn(&Place) -> Option<(Value, Usage)> + Send + Sync + 'static) -> Self {
        self.finds = Some(Arc::new(hits));
        self
    }

    /// What stands for a resource in the keys of cached steps, such as the version of what it gives. A step whose scope
    /// names `resources.<name>` depends on it, and so does one whose scope is found out.
    #[must_use]
    pub fn fingerprint(mut self, name: impl Into<Arc<str>>, fingerprint: impl Into<Arc<str>>) -> Self {
        self.fingerprints.insert(name.into(), fingerprint.into());
        self
    }

    /// Where runs are kept, so that they outlive the process; without this they aren't. What happens in a run is written
    /// there before the next step begins, or as [`durability`](Self::durability) says.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn RunStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// When what happened must be in the store: before the next step begins, without this.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Where the pipeline comes from, such as the file of a blueprint: kept with its runs, for whoever finds them there.
    #[must_use]
    pub fn source(mut self, source: impl Into<Arc<str>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Which of the [limits](Self::usage_limits) came with the runs and are not the pipeline's own, such as those of a command
    /// line: kept with the runs, for whoever goes on with them.
    #[must_use]
    pub fn given_limits(mut self, limits: UsageLimits) -> Self {
        self.given = limits;
        self
    }

    /// What becomes of runs that have ended: they stay, without this. Old ones are deleted while others end, a part at a time.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Is told of each run that began with another pipeline before it goes on with this one, and says which parts have other
    /// paths now ([`Migration::rename`]).
    #[must_use]
    pub fn migrate(mut self, migrate: impl Fn(&mut Migration) + Send + Sync + 'static) -> Self {
        self.migrate = Some(Arc::new(migrate));
        self
    }

    /// How long other processes wait before they take over what this one was running when it died; 10 seconds without
    /// this, shown every 3 that it is alive.
    #[must_use]
    pub fn lease(mut self, lease: Lease) -> Self {
        self.lease = lease;
        self
    }

    /// What tells the time on the wall, for due times of runs in the store and for how long nobody ran one that sleeps; the
    /// system's clock without this.
    #[must_use]
    pub fn wall_clock(mut self, tell: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = runs::Clock::new(tell);
        self
    }

    /// An agent that plugins ask for by this name, beside those of the steps, which they ask for by the steps' paths. A run
    /// in a store that was redirected goes on with the agent of that name, in any process.
    #[must_use]
    pub fn agent(mut self, name: impl Into<Arc<str>>, agent: Handler) -> Self {
        self.agents.insert(name.into(), agent);
        self
    }

    /// How objects of the types that pass between steps are read again from a store.
    #[must_use]
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = &'static TypeCodec>) -> Self {
        self.codecs.extend(codecs);
        self
    }

    /// The runner.
    ///
    /// # Errors
    /// [`BuildError`] says which part of the pipeline cannot run, or which field of a config is wrong, and the cure.
    pub fn build(self) -> Result<Runner, BuildError> {
        self.config.validate()?;
        let statistics = Statistics::default();
        let analyses = Analyses::new(Arc::ptr_eq);
        let analyse = || Analysed::new(self.pipeline.clone(), Arc::clone(&self.name), &statistics);
        let analysed = analyses.of(Twin::Optimized, VERSION, analyse)?;
        if self.store.is_some() {
            let nodes = analysed.plan.nodes();
            let volatile = nodes.filter(|(_, node)| is_volatile(&node.kind));
            let steps: Vec<_> = volatile.map(|(_, node)| format!("`{}`", node.path)).collect();
            if !steps.is_empty() {
                return Err(BuildError::NotDurable { steps });
            }
        }
        let config = analysed.plan.optimization().cloned();
        let config = config.unwrap_or_else(|| Arc::new(self.config));
        let rates = StepRates::of(&rates::REGISTRY, &analysed.plan, &self.rates, rates::now())?;
        let watch = Arc::<Watch>::default();
        let telemetries = self
            .telemetry
            .map(|queue| Telemetries::new(queue, &analysed.plan));
        Ok(Runner(Arc::new(Running {
            pipeline: self.pipeline,
            name: self.name,
            analyses,
            analysed,
            limits: self.limits,
            rates,
            deadline: self.deadline,
            resources: Arc::new(self.resources),
            event_buffer: self.event_buffer,
            rules: self.rules.clone(),
            statistics,
            contexts: ContextCounts::default(),
            pools: RunnerPools::new(config.max_pool_size),
            twins: Twins::decide(Twin::Optimized, &config),
            config,
            optimized: AtomicBool::new(self.optimized),
            drills: Drills::default(),
            alarm: Alarm::new(Arc::clone(&watch), self.on_alert),
            watch,
            memory: Memory::at_start(),
            telemetries,
            caches: Caches::new(self.cache, self.fingerprints),
            finds: self.finds,
            clock: self.clock.clone(),
            agents: self.agents,
            keeping: self.store.map(|store| {
                Arc::new(Keeping {
                    runs: runs::Keeping {
                        worker: WorkerHandle::new(store, self.lease),
                        durability: self.durability,
                        source: self.source,
                        given: self.given,
                        version: None,
                        purging: Arc::new(Purging::new(self.retention)),
                        migrate: self.migrate,
                        defined: Arc::default(),
                        clock: self.clock.clone(),
                    },
                    codecs: self.codecs,
                    rules: self.rules.clone(),
                })
            }),
        })))
    }
}

/// Whether what a step gives can't be saved, and not be made again either.
fn is_volatile(kind: &Kind<Handler>) -> bool {
    match kind {
        Kind::Step(step) => {
            step.volatile && matches!(&step.work, Work::Call(work) if !matches!(work, Handler::Inline(_)))
        }
        _ => false,
    }
}
