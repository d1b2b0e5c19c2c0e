//! The second tier as a cache uses it: asked for at most a second, left alone for five after it failed, written to behind
//! the back of the run that made the result.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flujo_core::cache::{CacheKey, Kept, ReadSet, SecondTier, TierEntry};
use flujo_core::usage::{Cost, Usage};
use flujo_core::value::{TypeCodec, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it is left alone after it failed.
const PAUSE: Duration = Duration::from_secs(5);

/// What a second tier did since its cache was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TierStatistics {
    /// What it is called.
    pub name: &'static str,
    /// Results found in it.
    pub hits: u64,
    /// Results looked for in it and not found.
    pub misses: u64,
    /// Results put there.
    pub puts: u64,
    /// Times that it failed or took too long.
    pub errors: u64,
    /// Look-ups and results that passed it by, because it had failed shortly before.
    pub passed_by: u64,
    /// The last error.
    pub last_error: Option<String>,
}

pub(super) struct Tier {
    store: Arc<dyn SecondTier>,
    state: Mutex<State>,
    /// Results on their way there.
    on_the_way: AtomicU64,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    down_until: Option<Instant>,
    counted: TierStatistics,
}

/// What a user of a tier hears of it.
pub(crate) trait Hears: Send + Sync + 'static {
    /// It has failed.
    fn degraded(&self, reason: &str);
    /// It works again.
    fn recovered(&self);
}

impl Tier {
    pub(super) fn new(store: Arc<dyn SecondTier>) -> Self {
        let counted = TierStatistics {
            name: store.name(),
            ..TierStatistics::default()
        };
        Self {
            store,
            state: Mutex::new(State {
                down_until: None,
                counted,
            }),
            on_the_way: AtomicU64::new(0),
            arrived: Notify::new(),
        }
    }

    pub(super) fn statistics(&self) -> TierStatistics {
        self.with(|state| state.counted.clone())
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does what `ask` asks of the store, unless it has failed shortly before.
    async fn ask<T>(
        &self,
        hears: &dyn Hears,
        ask: impl Future<Output = Result<T, flujo_core::cache::TierError>>,
    ) -> Option<T> {
        let now = Instant::now();
        let is_down = self.with(|state| {
            let is_down = state.down_until.is_some_and(|until| now < until);
            state.counted.passed_by += u64::from(is_down);
            is_down
        });
        if is_down {
            return None;
        }
        let error = match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Ok(answer)) => {
                if self.with(|state| state.down_until.take()).is_some() {
                    hears.recovered();
                }
                return Some(answer);
            }
            Ok(Err(error)) => error.message,
            Err(_) => format!("it did not answer within {PATIENCE:?}"),
        };
        let reason = format!(
            "the second tier of the cache, {}, failed: {error}",
            self.store.name()
        );
        self.with(|state| {
            state.counted.errors += 1;
            state.counted.last_error = Some(error);
            state.down_until = Some(Instant::now() + PAUSE);
        });
        hears.degraded(&reason);
        None
    }

    /// The sets of fields that results of a step and input are known to depend on.
    pub(super) async fn reads(&self, primary: CacheKey, hears: &dyn Hears) -> Vec<ReadSet> {
        match self.ask(hears, self.store.get(primary)).await.flatten() {
            Some(entry) => decode_reads(&entry.bytes).unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// A result, and how long it is still good.
    pub(super) async fn get(
        &self,
        key: CacheKey,
        codecs: &[&'static TypeCodec],
        hears: &dyn Hears,
    ) -> Option<(Kept<Value>, Option<Duration>)> {
        let found = self.ask(hears, self.store.get(key)).await?;
        let found = found.and_then(|TierEntry { bytes, expires_in }| {
            // What can't be read was written by another version, and is nothing.
            Some((decode(&bytes, codecs)?, expires_in))
        });
        self.with(|state| {
            state.counted.hits += u64::from(found.is_some());
            state.counted.misses += u64::from(found.is_none());
        });
        found
    }

    /// Puts entries there, without anybody waiting for it.
    pub(super) fn put(
        self: &Arc<Self>,
        entries: Vec<(CacheKey, Arc<[u8]>)>,
        ttl: Option<Duration>,
        hears: Arc<dyn Hears>,
    ) {
        let tier = Arc::clone(self);
        tier.on_the_way.fetch_add(1, Ordering::AcqRel);
        let arrival = Arrival(Arc::clone(self));
        tokio::spawn(async move {
            let _arrival = arrival;
            for (key, bytes) in entries {
                let put = tier.ask(&*hears, tier.store.put(key, bytes, ttl)).await;
                tier.with(|state| state.counted.puts += u64::from(put.is_some()));
            }
        });
    }

    pub(super) async fn flush(&self) {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if self.on_the_way.load(Ordering::Acquire) == 0 {
                return;
            }
            arrived.await;
        }
    }
}

/// Counts an arrival, also of what was lost with its runtime.
struct Arrival(Arc<Tier>);

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.on_the_way.fetch_sub(1, Ordering::AcqRel);
        self.0.arrived.notify_waiters();
    }
}

const WHOLE: &str = "*";

/// A result as it is kept there: what was used, then the output. `None` when the output can't be saved.
pub(super) fn encode(kept: &Kept<Value>) -> Option<Arc<[u8]>> {
    let Usage {
        cost,
        tokens,
        requests,
        unpriced,
    } = kept.usage;
    let number = |number: u64| i64::try_from(number).map(Value::Int).unwrap_or_default();
    let usage = Value::list([
        Value::Int(cost.nanos()),
        number(tokens),
        number(requests),
        Value::Bool(unpriced),
    ]);
    let entry = Value::list([Value::from("result"), usage, kept.output.clone()]);
    entry.to_bytes().ok().map(Arc::from)
}

fn decode(bytes: &[u8], codecs: &[&'static TypeCodec]) -> Option<Kept<Value>> {
    let entry = Value::from_bytes(bytes, codecs)?;
    let [kind, usage, output] = entry.as_list()? else {
        return None;
    };
    let [cost, tokens, requests, unpriced] = usage.as_list()? else {
        return None;
    };
    let count = |value: &Value| u64::try_from(value.as_int()?).ok();
    let usage = Usage {
        cost: Cost::from_nanos(cost.as_int()?)?,
        tokens: count(tokens)?,
        requests: count(requests)?,
        unpriced: *unpriced == Value::Bool(true),
    };
    let output = output.clone();
    (kind.as_str() == Some("result")).then_some(Kept { output, usage })
}

/// Sets of fields as they are kept there.
pub(super) fn encode_reads(sets: &[ReadSet]) -> Option<Arc<[u8]>> {
    let sets = sets.iter().map(|set| match set {
        ReadSet::Whole => Value::from(WHOLE),
        ReadSet::Fields(fields) => Value::list(fields.iter().map(|field| Value::Str(Arc::clone(field)))),
    });
    Value::list(sets).to_bytes().ok().map(Arc::from)
}

fn decode_reads(bytes: &[u8]) -> Option<Vec<ReadSet>> {
    let sets = Value::from_bytes(bytes, &[])?;
    let set = |set: &Value| match set {
        Value::Str(whole) if **whole == *WHOLE => Some(ReadSet::Whole),
        set => {
            let fields = set.as_list()?.iter().map(|field| field.as_str().map(Arc::from));
            Some(ReadSet::Fields(fields.collect::<Option<_>>()?))
        }
    };
    sets.as_list()?.iter().map(set).collect()
}
