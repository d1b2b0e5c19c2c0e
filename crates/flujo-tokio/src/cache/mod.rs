//! Results of cached steps: kept in memory, and behind that in a second tier where there is one; made by one run while
//! others wait for them.

mod looking;
mod question;
mod tier;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flujo_core::cache::{Kept, Landed, SecondTier, StepCache, StepCacheStatistics, Turn, Uncached, Waiter};
use flujo_core::config::{OptimizationConfig, Part, Twin, Twins};
use flujo_core::machine::{CacheTicket, Time};
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use looking::{Lead, Look, Looked, look, put};
pub(crate) use question::{Question, question};
pub(crate) use tier::Hears;
use tier::Tier;
pub use tier::TierStatistics;

use crate::scope::Place;

/// What cached steps find by where they are, and what that had used when it was made.
pub(crate) type Finds = dyn Fn(&Place) -> Option<(Value, Usage)> + Send + Sync;

/// The results of cached steps. Cloning shares it, and so may any number of runners.
///
/// ```
/// use std::time::Duration;
/// use flujo_core::cache::CachePolicy;
/// use flujo_core::context::Context;
/// use flujo_core::value::Value;
/// use flujo_tokio::{Cache, Handler, Runner, Step};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Cache::builder().max_size(10_000).ttl(Duration::from_secs(600)).build();
/// let shout = Step::new("shout", Handler::processor(|input, _| {
///     Ok(Value::from(input.as_str().ok_or("the input must be text")?.to_uppercase()))
/// }));
/// let runner = Runner::builder(shout.cached(CachePolicy::default())).cache(&cache).build()?;
/// for _ in 0..3 {
///     let done = runner.run(Value::from("hello"), Context::new()).await;
///     assert_eq!(done.output(), Some(&Value::from("HELLO")));
/// }
/// assert_eq!((cache.statistics().steps.hits, cache.statistics().steps.misses), (2, 1));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

pub(crate) struct Inner {
    steps: StepCache<Output, Seat>,
    twin: Twin,
    ttl: Option<Duration>,
    tier: Option<Arc<Tier>>,
    origin: Instant,
}

/// An output as it is kept.
#[derive(Clone)]
struct Output {
    value: Value,
    /// Looked at once, and not at every hit.
    holds_objects: bool,
}

/// A cache under construction.
#[derive(Default)]
pub struct CacheBuilder {
    max_size: Option<usize>,
    ttl: Option<Duration>,
    twin: Option<Twin>,
    tier: Option<Arc<dyn SecondTier>>,
}

/// What a cache has done since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Results found and made.
    pub steps: StepCacheStatistics,
    /// What the second tier did; `None` without one.
    pub tier: Option<TierStatistics>,
}

impl CacheBuilder {
    /// How many results are kept in memory at most; 1,024 without this, 0 keeps none.
    #[must_use]
    pub fn max_size(mut self, results: usize) -> Self {
        self.max_size = Some(results);
        self
    }

    /// How long results are good whose step doesn't say; zero, or nothing said, is for ever.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The implementation; the optimised one without this.
    #[must_use]
    pub fn twin(mut self, twin: Twin) -> Self {
        self.twin = Some(twin);
        self
    }

    /// Where results are kept beyond this process, and found by others: those of steps with a
    /// [version](flujo_core::cache::CachePolicy::version), whose keys are equal everywhere. When it fails, it is left
    /// alone for five seconds, and the results in memory carry on.
    #[must_use]
    pub fn second_tier(mut self, tier: Arc<dyn SecondTier>) -> Self {
        self.tier = Some(tier);
        self
    }

    /// The cache. Its clock is that of the tokio runtime.
    pub fn build(self) -> Cache {
        let capacity = self.max_size.unwrap_or(1_024);
        let twin = self.twin.unwrap_or(Twin::Optimized);
        Cache(Arc::new(Inner {
            steps: StepCache::new(twin, capacity),
            twin,
            ttl: self.ttl.filter(|ttl| !ttl.is_zero()),
            tier: self.tier.map(Tier::new).map(Arc::new),
            origin: Instant::now(),
        }))
    }
}

impl Cache {
    /// A cache to be said more about.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// What happened so far, over all runners that share it.
    pub fn statistics(&self) -> CacheStatistics {
        CacheStatistics {
            steps: self.0.steps.statistics(),
            tier: self.0.tier.as_ref().map(|tier| tier.statistics()),
        }
    }

    /// Lets all results in memory go; what the second tier keeps stays there.
    pub fn clear(&self) {
        self.0.steps.clear();
    }

    /// Waits until all results that were made so far are in the second tier, or couldn't be put there.
    pub async fn flush(&self) {
        if let Some(tier) = &self.0.tier {
            tier.flush().await;
        }
    }

    /// Counts a step's result that is not kept, and says what to do about it where its declaration is at fault.
    pub(crate) fn uncached(&self, step: &str, reason: Uncached) {
        self.0.steps.count(reason);
        warn(step, reason);
    }

    /// As a runner's config says.
    fn of(config: &OptimizationConfig, twin: Twin) -> Self {
        let ttl = config.cache_ttl_seconds.unwrap_or_default();
        let ttl = Duration::try_from_secs_f64(ttl).unwrap_or(Duration::MAX);
        Self::builder()
            .max_size(config.cache_max_size)
            .ttl(ttl)
            .twin(twin)
            .build()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cache").field(&self.statistics()).finish()
    }
}

impl Output {
    fn kept(Kept { output, usage }: Kept<Value>) -> Kept<Self> {
        let output = Self {
            holds_objects: output.holds_objects(),
            value: output,
        };
        Kept { output, usage }
    }
}

impl Inner {
    /// A value that what is done to the other doesn't reach: copied whole, or what can't be changed shared.
    fn isolated(&self, value: &Value) -> Option<Value> {
        match self.twin {
            Twin::Plain => value.copied(&mut 0).isolated(),
            Twin::Optimized => value.isolated(),
        }
    }

    /// A result for somebody to have.
    fn handed_out(&self, kept: Kept<Output>) -> Looked {
        let Kept { output, usage } = kept;
        let output = match self.twin {
            Twin::Optimized if !output.holds_objects => output.value,
            _ => self.isolated(&output.value).unwrap_or(output.value),
        };
        Looked::Hit(Kept { output, usage })
    }

    fn now(&self) -> Time {
        let elapsed = Instant::now().saturating_duration_since(self.origin);
        Time::try_from(elapsed.as_nanos()).unwrap_or(Time::MAX)
    }

    /// When a result is over that is good for so long from now.
    fn expires(&self, ttl: Option<Duration>) -> Option<Time> {
        let ttl = Time::try_from(ttl?.as_nanos()).ok()?;
        self.now().checked_add(ttl)
    }
}

/// The caches of a runner, and what its cached steps depend on beside what runs are given.
pub(crate) struct Caches {
    given: Option<Cache>,
    own: [OnceLock<Cache>; 2],
    /// What stands for resources in keys, by name.
    pub(crate) fingerprints: BTreeMap<Arc<str>, Arc<str>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Caches {
    pub(crate) fn new(given: Option<Cache>, fingerprints: BTreeMap<Arc<str>, Arc<str>>) -> Self {
        Self {
            given,
            own: Default::default(),
            fingerprints,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The one that a run uses with these twins: the one given, or the runner's own of that twin. Where the optimised one
    /// has failed, the runner's own plain one stands in for either.
    pub(crate) fn of(&self, twins: Twins, config: &OptimizationConfig) -> &Cache {
        let twin = twins.of(Part::Cache);
        let own = &self.own[usize::from(twin == Twin::Optimized)];
        self.given
            .as_ref()
            .filter(|_| !twins.gave_way(Part::Cache))
            .unwrap_or_else(|| own.get_or_init(|| Cache::of(config, twin)))
    }

    /// Counts a look-up of one of the runner's steps.
    pub(crate) fn looked_up(&self, hit: bool) {
        let count = if hit { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Results found, and not found.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn reset(&self) {
        self.hits.store(0, Ordering::Relaxed);
        self.misses.store(0, Ordering::Relaxed);
    }
}

/// Says what to do about a result that isn't kept, where the step's declaration is at fault.
pub(crate) fn warn(step: &str, reason: Uncached) {
    if let Some(advice) = reason.advice() {
        tracing::warn!(target: "flujo::cache", step, reason = reason.name(), "a result is not kept: {advice}");
    }
}

/// A name for a result that a step makes now, unlike any other in this process.
pub(crate) fn ticket() -> CacheTicket {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    CacheTicket(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The turn to make a result, handed on when it is dropped unused.
pub(crate) struct Held {
    cache: Arc<Inner>,
    turn: Option<Turn>,
}

impl Held {
    pub(crate) fn release(mut self, reason: Uncached) {
        if let Some(turn) = self.turn.take() {
            self.cache.steps.release(turn, reason);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.cache.steps.release(turn, Uncached::Stopped);
        }
    }
}

/// What somebody who waits is told.
enum Told {
    Landed(Arc<Landed<Output>>),
    Turn(Held),
}

/// A place among those that wait for a result.
struct Seat {
    cache: Arc<Inner>,
    sender: oneshot::Sender<Told>,
}

impl Waiter<Output> for Seat {
    fn landed(self, landed: Arc<Landed<Output>>) {
        // Whoever has gone wants nothing.
        let _ = self.sender.send(Told::Landed(landed));
    }

    fn turn(self, turn: Turn) -> bool {
        let held = Held {
            cache: self.cache,
            turn: Some(turn),
        };
        match self.sender.send(Told::Turn(held)) {
            Ok(()) => true,
            Err(Told::Turn(mut held)) => {
                held.turn = None; // the next one gets it
                false
            }
            Err(Told::Landed(_)) => false,
        }
    }
}
