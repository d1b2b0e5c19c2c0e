//! A cache of results, as Python holds it: in memory, perhaps with a second tier behind.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use flujo_core::cache::{CacheKey, Found, Kept, KeyBuilder, StepCache, Uncached, Wanted};
use flujo_core::config::{OptimizationConfig, Twin};
use flujo_core::machine::Time;
use flujo_core::usage::Usage;
use flujo_shared::cache::{Guarded, Patience, RedisStore, SqliteOptions, SqliteStore, StoreError, Tier};
use flujo_shared::server::{ServerError, ServerOptions};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::held::{Held, Value};
use super::seat::{Seat, Told, Waiting};
use super::second::Second;
use super::write::{Purpose, Unwritable, write};

/// The results of one twin.
pub(crate) type Results = StepCache<Value, Waiting>;

/// What a cache is.
pub(crate) struct Cache {
    max_size: Option<usize>,
    /// Zero is for ever; `None` as the runner's configuration says.
    ttl: Option<Duration>,
    /// Which twin it is, where the runner doesn't say.
    twin: Twin,
    /// Made when first used, by twin: they are as large as the runner that is first says.
    results: [OnceLock<Results>; 2],
    pub(crate) second: Option<Second>,
}

impl Cache {
    /// The results of a twin.
    pub(crate) fn results(&self, twin: Twin, config: &OptimizationConfig) -> &Results {
        self.results[usize::from(twin == Twin::Plain)].get_or_init(|| {
            let max_size = self.max_size.unwrap_or(config.cache_max_size);
            StepCache::new(twin, max_size)
        })
    }

    fn own(&self) -> &Results {
        self.results(self.twin, &OptimizationConfig::default())
    }

    /// How long results are good, where their step doesn't say.
    pub(crate) fn ttl(&self, config: &OptimizationConfig) -> Option<Duration> {
        match self.ttl {
            Some(ttl) => (!ttl.is_zero()).then_some(ttl),
            None => config.cache_ttl(),
        }
    }
}

/// The monotonic clock that results expire by, in nanoseconds since the first look.
pub(crate) fn now() -> Time {
    static START: OnceLock<Instant> = OnceLock::new();
    nanoseconds(START.get_or_init(Instant::now).elapsed())
}

pub(crate) fn nanoseconds(time: Duration) -> Time {
    Time::try_from(time.as_nanos()).unwrap_or(Time::MAX)
}

/// The native part of `InMemoryCache` and its kin.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct ResultCache {
    pub(crate) inner: Arc<Cache>,
}

/// Seconds that something is good for; zero is for ever.
pub(crate) fn duration(name: &str, seconds: f64) -> PyResult<Option<Duration>> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) => Ok((!duration.is_zero()).then_some(duration)),
        Err(_) => Err(PyValueError::new_err(format!(
            "{name} must be a number of seconds from 0 on, not {seconds}"
        ))),
    }
}

fn store_error(error: StoreError) -> PyErr {
    match error {
        StoreError::Refused { .. } => PyValueError::new_err(error.to_string()),
        error => PyOSError::new_err(error.to_string()),
    }
}

fn key_of(key: &Bound<'_, PyAny>) -> PyResult<CacheKey> {
    match write(key, Purpose::Key) {
        Ok(written) => {
            let mut key = KeyBuilder::new("named");
            key.bytes(&written.bytes);
            Ok(key.finish())
        }
        Err(Unwritable::Refused(reason)) => {
            Err(PyTypeError::new_err(format!("this can't be a key: {reason}")))
        }
        Err(Unwritable::Raised(error)) => Err(error),
    }
}

fn wanted(primary: CacheKey) -> Wanted<'static> {
    Wanted {
        primary,
        fields: None,
    }
}

fn kept(value: Value) -> Kept<Value> {
    Kept {
        output: value,
        usage: Usage::ZERO,
    }
}

#[pymethods]
impl ResultCache {
    /// A cache in memory; with `path` or `url` it has a second tier.
    #[new]
    #[pyo3(signature = (*, max_size=None, ttl_s=None, optimized=true, path=None, url=None, max_bytes=None, prefix=None,
        timeout_s=2.0, retry_after_s=1.0))]
    #[allow(clippy::too_many_arguments)] // named at the one place that calls it
    fn new(
        max_size: Option<usize>,
        ttl_s: Option<f64>,
        optimized: bool,
        path: Option<std::path::PathBuf>,
        url: Option<&str>,
        max_bytes: Option<u64>,
        prefix: Option<&str>,
        timeout_s: f64,
        retry_after_s: f64,
    ) -> PyResult<Self> {
        let mut patience = Patience::default();
        patience.timeout = duration("timeout_s", timeout_s)?
            .ok_or_else(|| PyValueError::new_err("timeout_s must be above 0"))?;
        patience.pause = duration("retry_after_s", retry_after_s)?.unwrap_or_default();
        let second = match (path, url) {
            (Some(path), _) => {
                let mut options = SqliteOptions::default();
                options.busy_timeout = patience.timeout;
                if let Some(max_bytes) = max_bytes {
                    options.max_bytes = max_bytes;
                }
                let store = SqliteStore::open(path, options).map_err(store_error)?;
                Some(Guarded::new(Arc::new(Tier::new(store)), patience))
            }
            (None, Some(url)) => {
                let mut options = ServerOptions::default();
                options.connect_timeout = patience.timeout;
                options.operation_timeout = patience.timeout;
                let address = |error: ServerError| PyValueError::new_err(error.to_string());
                let mut store = RedisStore::new(url, options).map_err(address)?;
                if let Some(prefix) = prefix {
                    store = store.with_prefix(prefix);
                }
                Some(Guarded::new(Arc::new(Tier::new(store)), patience))
            }
            (None, None) => None,
        };
        Ok(Self {
            inner: Arc::new(Cache {
                max_size,
                ttl: match ttl_s {
                    Some(ttl) => Some(duration("ttl_s", ttl)?.unwrap_or_default()),
                    None => None,
                },
                twin: if optimized { Twin::Optimized } else { Twin::Plain },
                results: Default::default(),
                second: second.map(Second::new),
            }),
        })
    }

    /// Whether there is a value under a key, and a clone of it.
    fn find<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<(bool, Option<Bound<'py, PyAny>>)> {
        let found = match self.inner.own().get(key_of(key)?, now()) {
            Some(kept) => kept.output.hand_out(key.py())?,
            None => None,
        };
        Ok((found.is_some(), found))
    }

    /// Keeps a clone of a value; False where it can't be isolated.
    #[pyo3(signature = (key, value, ttl_s=None))]
    fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, ttl_s: Option<f64>) -> PyResult<bool> {
        let Some(held) = Held::of(value, self.inner.twin)? else {
            self.inner.own().count(Uncached::Output);
            return Ok(false);
        };
        let now = now();
        let expires = self.expires(ttl_s, now)?;
        self.inner.own().insert(key_of(key)?, kept(held), expires, now);
        Ok(true)
    }

    /// Lets the value under a key go; tells whether there was one.
    fn remove(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.inner.own().remove(key_of(key)?).is_some())
    }

    /// Lets all in memory go.
    fn clear(&self) {
        for results in self.inner.results.iter().filter_map(OnceLock::get) {
            results.clear();
        }
    }

    /// `("hit", value)`, or `("lead", lead)` when it is the asker's turn to make the value, or `("wait", seat)` when somebody
    /// makes it.
    fn join<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
        let py = key.py();
        let key = key_of(key)?;
        let mut seat = None;
        let found = self.inner.own().look(wanted(key), now(), || {
            let own = Seat::new();
            seat = Some(Arc::clone(&own));
            Waiting(own)
        });
        let (said, what) = match (found, seat) {
            (Found::Kept(kept), _) => match kept.output.hand_out(py)? {
                Some(value) => ("hit", value),
                None => ("again", py.None().into_bound(py)),
            },
            (Found::Lead(turn), _) => {
                let lead = NamedLead::new(&self.inner, turn);
                ("lead", Bound::new(py, lead)?.into_any())
            }
            (Found::UnderWay, Some(seat)) => {
                let seat = NamedSeat {
                    cache: Arc::clone(&self.inner),
                    key,
                    seat,
                };
                ("wait", Bound::new(py, seat)?.into_any())
            }
            (Found::UnderWay, None) => ("again", py.None().into_bound(py)),
        };
        (said, what).into_pyobject(py)
    }

    /// A future of the loop that is done when what was to be stored by now is.
    fn stored(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let second = self.inner.second.as_ref();
        second.map(|second| second.stored(event_loop)).transpose()
    }

    /// The name of the second tier.
    #[getter]
    fn second(&self) -> Option<&'static str> {
        self.inner.second.as_ref().map(Second::name)
    }

    /// What happened so far, in both tiers.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let mut numbers = [0_u64; 5];
        let uncached = PyDict::new(py);
        for results in self.inner.results.iter().filter_map(OnceLock::get) {
            let own = results.statistics();
            let all = [own.hits, own.misses, own.kept, own.evictions, own.expirations];
            numbers.iter_mut().zip(all).for_each(|(sum, own)| *sum += own);
            for (reason, count) in own.uncached {
                let before: u64 = uncached
                    .get_item(reason)?
                    .map_or(Ok(0), |count| count.extract())?;
                uncached.set_item(reason, before + count)?;
            }
        }
        let [hits, misses, size, evictions, expirations] = numbers;
        for (name, number) in [
            ("hits", hits),
            ("misses", misses),
            ("size", size),
            ("evictions", evictions),
            ("expirations", expirations),
        ] {
            dict.set_item(name, number)?;
        }
        #[allow(clippy::cast_precision_loss)] // a percentage
        let rate = if hits + misses == 0 {
            0.0
        } else {
            100.0 * hits as f64 / (hits + misses) as f64
        };
        dict.set_item(intern!(py, "hit_rate"), rate)?;
        dict.set_item(intern!(py, "uncached"), uncached)?;
        let second = self
            .inner
            .second
            .as_ref()
            .map(|second| second_statistics(py, second));
        dict.set_item(intern!(py, "second_tier"), second.transpose()?)?;
        Ok(dict)
    }
}

impl ResultCache {
    fn expires(&self, ttl_s: Option<f64>, now: Time) -> PyResult<Option<Time>> {
        expires(&self.inner, ttl_s, now)
    }
}

fn expires(cache: &Cache, ttl_s: Option<f64>, now: Time) -> PyResult<Option<Time>> {
    let ttl = match ttl_s {
        Some(ttl) => duration("ttl_s", ttl)?,
        None => cache.ttl.filter(|ttl| !ttl.is_zero()),
    };
    Ok(ttl.map(|ttl| now.saturating_add(nanoseconds(ttl))))
}

fn second_statistics<'py>(py: Python<'py>, second: &Second) -> PyResult<Bound<'py, PyDict>> {
    let (own, unstored) = second.statistics();
    let dict = PyDict::new(py);
    dict.set_item("name", second.name())?;
    for (name, number) in [
        ("hits", own.hits),
        ("misses", own.misses),
        ("stored", own.stored),
        ("errors", own.errors),
        ("skipped", own.skipped),
    ] {
        dict.set_item(name, number)?;
    }
    dict.set_item("last_error", own.last_error)?;
    dict.set_item(
        "unstored",
        unstored.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    )?;
    Ok(dict)
}

/// The right to make the value of a key. Letting go of it lets the next one have its turn.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct NamedLead {
    cache: Arc<Cache>,
    turn: std::sync::Mutex<Option<flujo_core::cache::Turn>>,
}

impl NamedLead {
    fn new(cache: &Arc<Cache>, turn: flujo_core::cache::Turn) -> Self {
        Self {
            cache: Arc::clone(cache),
            turn: std::sync::Mutex::new(Some(turn)),
        }
    }

    fn take(&self) -> Option<flujo_core::cache::Turn> {
        self.turn
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }
}

#[pymethods]
impl NamedLead {
    /// The value is there: keeps a clone of it and tells whoever waits; False where it can't be isolated.
    #[pyo3(signature = (key, value, ttl_s=None))]
    fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, ttl_s: Option<f64>) -> PyResult<bool> {
        let now = now();
        let (key, expires) = (key_of(key)?, expires(&self.cache, ttl_s, now)?);
        let held = Held::of(value, self.cache.twin)?;
        let Some(turn) = self.take() else { return Ok(false) };
        let results = self.cache.own();
        let Some(held) = held else {
            results.release(turn, Uncached::Output);
            return Ok(false);
        };
        Ok(results
            .put(
                turn,
                wanted(key),
                flujo_core::cache::ReadSet::default(),
                kept(held),
                expires,
                now,
            )
            .is_ok())
    }

    /// There is no value: it failed.
    fn release(&self) {
        if let Some(turn) = self.take() {
            self.cache.own().release(turn, Uncached::Failed);
        }
    }
}

impl Drop for NamedLead {
    fn drop(&mut self) {
        if let Some(turn) = self.take() {
            self.cache.own().release(turn, Uncached::Stopped);
        }
    }
}

/// Where somebody waits for the value of a key.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct NamedSeat {
    cache: Arc<Cache>,
    key: CacheKey,
    seat: Arc<Seat>,
}

#[pymethods]
impl NamedSeat {
    /// A future of the loop that is done when there is something to take; None when there is already.
    fn future<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.seat.future(event_loop)
    }

    /// Nobody waits here any more.
    fn leave(&self) {
        self.left();
    }

    /// What has come: as `join` says it, or `("again", None)`.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let again = ("again", py.None().into_bound(py));
        let said = match self.seat.take() {
            Told::Landed(landed) => match landed.answers(wanted(self.key)) {
                Some(kept) => match kept.output.hand_out(py)? {
                    Some(value) => {
                        self.cache.own().count_hit();
                        ("hit", value)
                    }
                    None => again,
                },
                None => again,
            },
            Told::Turn(turn) => {
                self.cache.own().count_miss();
                let lead = NamedLead::new(&self.cache, turn);
                ("lead", lead.into_bound_py_any(py)?)
            }
            Told::Nothing | Told::Gone => again,
        };
        said.into_pyobject(py)
    }
}

impl NamedSeat {
    /// Nobody waits any more: if it was its turn, it is the next one's.
    fn left(&self) {
        if let Told::Turn(turn) = self.seat.leave() {
            self.cache.own().release(turn, Uncached::Stopped);
        }
    }
}

impl Drop for NamedSeat {
    fn drop(&mut self) {
        self.left();
    }
}
