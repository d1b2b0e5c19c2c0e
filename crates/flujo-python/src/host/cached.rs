//! Steps whose results are kept: looking for a result, waiting for one that another run makes, making one that others wait
//! for.

mod key;
mod look;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flujo_core::cache::{Kept, ReadSet, StepIdentity, Turn, Uncached};
use flujo_core::config::{Part, Twin, contained};
use flujo_core::machine::{CacheLead, CacheTicket, Time};
use flujo_core::plan::{Kind, NodeId, Work};
use flujo_core::usage::Usage;
use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

pub(crate) use look::Looking;

use super::call::{Begun, Pending};
use super::callable::CallableSpec;
use super::context::ContextCell;
use super::domain::{CacheGet, CachePut, Event, Plan};
use super::names;
use super::shared::Shared;
use crate::cache::{Cache, Held, ResultCache, Results, Unwritable, duration, nanoseconds};
use crate::cache::{sets_key, stored_result, stored_sets};
use crate::context::ReadLog;
use key::Key;

/// How a step's results are kept, as the compiler in Python says.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct CachedResults {
    pub(crate) policy: flujo_core::cache::CachePolicy,
    pub(crate) identity: StepIdentity,
    pub(crate) cache: Arc<Cache>,
}

#[pymethods]
impl CachedResults {
    /// `known`: what other processes know the step by, None when it is known in this one only, where `local` tells it
    /// apart.
    #[new]
    #[pyo3(signature = (cache, *, scope, ttl_s=None, known=None, local=0))]
    fn new(
        cache: &Bound<'_, ResultCache>,
        scope: &Bound<'_, PyAny>,
        ttl_s: Option<f64>,
        known: Option<&str>,
        local: u64,
    ) -> PyResult<Self> {
        use flujo_core::cache::CacheScope;

        let wrong =
            |error: flujo_core::cache::ScopeError| pyo3::exceptions::PyValueError::new_err(error.to_string());
        let scope = match scope.extract::<String>() {
            Ok(name) => CacheScope::named(&name).map_err(wrong)?,
            Err(_) => CacheScope::declared(scope.extract::<Vec<String>>()?).map_err(wrong)?,
        };
        let ttl = match ttl_s {
            Some(seconds) => Some(duration("ttl_s", seconds)?.unwrap_or_default()),
            None => None,
        };
        Ok(Self {
            policy: flujo_core::cache::CachePolicy {
                ttl,
                scope,
                version: None,
            },
            identity: match known {
                Some(name) => StepIdentity::Known(name.into()),
                None => StepIdentity::Local(local),
            },
            cache: Arc::clone(&cache.get().inner),
        })
    }
}

/// A number that tells a definition apart from all others of this process.
#[pyfunction]
pub(crate) fn next_identity() -> u64 {
    match StepIdentity::local() {
        StepIdentity::Local(number) => number,
        StepIdentity::Known(_) => 0,
    }
}

/// What the host keeps beside a cached step of a plan.
pub(crate) struct CachedNode {
    cache: Arc<Cache>,
    uses_context: bool,
    uses_resources: bool,
    /// What was told already.
    told: Mutex<BTreeSet<&'static str>>,
}

/// What the host keeps beside the cached steps of a plan.
pub(crate) fn nodes_of(plan: &Plan, caches: HashMap<NodeId, Arc<Cache>>) -> HashMap<NodeId, CachedNode> {
    let node = |(node, cache)| {
        let holder = plan.node(node);
        let with_parts = matches!(&holder.kind, Kind::Step(step) if matches!(step.work, Work::Body(_)));
        let any = |wants: fn(&CallableSpec) -> bool| {
            with_parts || holder.callables().any(|callable| wants(callable))
        };
        let kept = CachedNode {
            cache,
            uses_context: any(CallableSpec::wants_context),
            uses_resources: any(CallableSpec::wants_resources),
            told: Mutex::default(),
        };
        (node, kept)
    };
    caches.into_iter().map(node).collect()
}

/// A cached step as one run uses it.
#[derive(Clone)]
struct Use {
    shared: Arc<Shared>,
    node: NodeId,
    twin: Twin,
    /// How long a new result is good.
    ttl: Option<Duration>,
    is_known: bool,
}

impl Use {
    fn of(shared: &Arc<Shared>, node: NodeId) -> Option<Self> {
        let holder = shared.plan.plan.node(node);
        let Kind::Step(step) = &holder.kind else {
            return None;
        };
        let (cached, own) = (step.cache.as_ref()?, shared.plan.cached.get(&node)?);
        let nearest = holder.optimization.as_deref();
        let config = nearest.unwrap_or(&shared.engine.config);
        let ttl = match cached.policy.ttl {
            Some(ttl) => (!ttl.is_zero()).then_some(ttl),
            None => own.cache.ttl(config),
        };
        Some(Self {
            twin: shared.twins.now().within(nearest).of(Part::Cache),
            ttl,
            is_known: cached.identity.is_known(),
            node,
            shared: Arc::clone(shared),
        })
    }

    fn own(&self) -> Option<&CachedNode> {
        self.shared.plan.cached.get(&self.node)
    }

    fn results(&self) -> Option<&Results> {
        let holder = self.shared.plan.plan.node(self.node);
        let config = holder
            .optimization
            .as_deref()
            .unwrap_or(&self.shared.engine.config);
        Some(self.own()?.cache.results(self.twin, config))
    }

    /// Counts that a result isn't kept, and says so the first time where the definition is at fault.
    fn count(&self, py: Python<'_>, reason: Uncached, what: &str) {
        if let Some(results) = self.results() {
            results.count(reason);
        }
        self.tell(py, reason, what);
    }

    /// Says of a second tier that is away, and that it is back.
    fn watch_tier(&self, py: Python<'_>) -> PyResult<()> {
        let Some(second) = self.own().and_then(|own| own.cache.second.as_ref()) else {
            return Ok(());
        };
        let engine = &self.shared.engine;
        if let Some(reason) = second.trouble() {
            return engine.degraded(py, Part::Cache, &reason);
        }
        engine.watch.alerts().recovered(Part::Cache);
        Ok(())
    }

    fn tell(&self, py: Python<'_>, reason: Uncached, what: &str) {
        if let Some(advice) = reason.advice() {
            self.tell_once(py, reason.name(), &format!("isn't cached: {what}{advice}"));
        }
    }

    fn tell_once(&self, py: Python<'_>, reason: &'static str, text: &str) {
        let is_new = self.own().is_some_and(|own| {
            own.told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(reason)
        });
        if !is_new {
            return;
        }
        let name = &*self.shared.plan.plan.node(self.node).name;
        let told = names::report_uncached(py).and_then(|report| report.call1((name, text)));
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }
}

/// A result that this run makes and others may wait for. Letting go of it lets the next one have its turn.
pub(crate) struct Lead {
    place: Use,
    turn: Option<Turn>,
    key: Key,
    reads: Option<Arc<ReadLog>>,
}

impl Lead {
    fn release(&mut self, reason: Uncached) {
        if let (Some(turn), Some(results)) = (self.turn.take(), self.place.results()) {
            results.release(turn, reason);
        }
    }

    /// Keeps what the step has made.
    fn keep(mut self, py: Python<'_>, output: &Bound<'_, PyAny>, usage: Usage, now: Time) -> PyResult<()> {
        let Some(held) = Held::of(output, self.place.twin)? else {
            self.release(Uncached::Output);
            self.place.tell(py, Uncached::Output, "");
            return Ok(());
        };
        let reads = self
            .reads
            .as_ref()
            .map_or_else(ReadSet::default, |log| log.reads());
        let expires = self.place.ttl.map(|ttl| now.saturating_add(nanoseconds(ttl)));
        let kept = Kept {
            output: Arc::clone(&held),
            usage,
        };
        let Some(turn) = self.turn.take() else {
            return Ok(());
        };
        let place = self.place.clone();
        let (stored, is_local) = self.key.with(py, |wanted| {
            let results = place.results()?;
            Some(results.put(turn, wanted, reads, kept, expires, now))
        })?;
        match stored {
            Some(Ok(stored)) if !is_local => self.store(py, &stored, &held, usage),
            Some(Err(reason)) => {
                self.place.tell(py, reason, "");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Has the second tier keep it, too.
    fn store(
        &self,
        py: Python<'_>,
        stored: &flujo_core::cache::Stored,
        held: &Held,
        usage: Usage,
    ) -> PyResult<()> {
        let second = self.place.own().and_then(|own| own.cache.second.as_ref());
        let (Some(second), true) = (second, self.place.is_known) else {
            return Ok(());
        };
        if !second.is_ready() {
            return self.place.watch_tier(py);
        }
        match stored_result(held.look(py), usage) {
            Ok(bytes) => {
                second.store(py, stored.key, bytes, self.place.ttl)?;
                if let Some(sets) = &stored.reads {
                    let key = sets_key(self.key.primary);
                    second.store(py, key, stored_sets(sets), self.place.ttl)?;
                }
                Ok(())
            }
            Err(Unwritable::Refused(reason)) => {
                second.count("output");
                let text = format!("is cached in memory only: its output can't be stored, since {reason}");
                self.place.tell_once(py, "unstored", &text);
                Ok(())
            }
            Err(Unwritable::Raised(error)) => Err(error),
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.release(Uncached::Stopped);
    }
}

/// The results that one machine makes for others, too.
#[derive(Default)]
pub(crate) struct Leads {
    made: HashMap<CacheTicket, Lead>,
    tickets: u64,
}

impl Leads {
    /// Whether there are none.
    pub(crate) fn are_none(&self) -> bool {
        self.made.is_empty()
    }

    /// Keeps a result that the machine has made.
    pub(crate) fn keep(&mut self, py: Python<'_>, shared: &Shared, put: &CachePut) -> PyResult<()> {
        match self.made.remove(&put.ticket) {
            // Should it panic, the result isn't kept, whoever waits for it makes it, and the run has it all the same.
            Some(lead) => {
                match contained(|| lead.keep(py, put.output.bind(py), put.usage, shared.cache_now(py))) {
                    Ok(kept) => kept,
                    Err(reason) => shared.gave_way(py, Part::Cache, &reason),
                }
            }
            None => Ok(()),
        }
    }

    /// There is no result.
    pub(crate) fn release(&mut self, py: Python<'_>, ticket: CacheTicket, reason: Uncached) {
        if let Some(mut lead) = self.made.remove(&ticket) {
            lead.release(reason);
            lead.place.tell(py, reason, "");
        }
    }

    fn take_on(
        &mut self,
        mut lead: Lead,
        context: &Arc<ContextCell>,
        py: Python<'_>,
    ) -> PyResult<CacheLead<super::domain::Python3>> {
        self.tickets += 1;
        let ticket = CacheTicket(self.tickets);
        let context = if lead.key.depends_on_reads() {
            let log = Arc::new(ReadLog::within(context.read_log(py)?));
            lead.reads = Some(Arc::clone(&log));
            Some(Arc::new(ContextCell::recorded_fork_of(context, log)))
        } else {
            None
        };
        self.made.insert(ticket, lead);
        Ok(CacheLead { ticket, context })
    }
}

/// Which lane it is.
type Place<'a> = Option<&'a Arc<flujo_core::machine::LanePlace>>;

/// What came of looking.
pub(crate) enum Looked {
    /// The result, as a clone, and what it had cost.
    Hit(Py<PyAny>, Usage),
    /// The step has to run; with a lead its result is to be kept.
    Miss(Option<Box<Lead>>),
    /// Something has to be waited for.
    Wait(Box<Looking>, Py<PyAny>),
}

/// Looks for the result of a cached step.
pub(crate) fn begin(
    py: Python<'_>,
    shared: &Arc<Shared>,
    leads: &mut Leads,
    lane: Place<'_>,
    get: CacheGet,
) -> PyResult<Begun> {
    let nearest = shared.plan.plan.node(get.node).optimization.as_deref();
    let looked = shared.contain(py, Part::Cache, nearest, |_| look::begin(py, shared, &get))??;
    become_begun(py, shared, leads, lane, get, looked)
}

/// Goes on when what was waited for has come.
pub(crate) fn go_on(
    py: Python<'_>,
    shared: &Arc<Shared>,
    leads: &mut Leads,
    lane: Place<'_>,
    looking: Looking,
    result: PyResult<()>,
) -> PyResult<Begun> {
    let get = looking.get.clone();
    let looked = look::go_on(py, looking, result)?;
    become_begun(py, shared, leads, lane, get, looked)
}

fn become_begun(
    py: Python<'_>,
    shared: &Arc<Shared>,
    leads: &mut Leads,
    lane: Place<'_>,
    get: CacheGet,
    looked: Looked,
) -> PyResult<Begun> {
    let (call, at) = (get.call, shared.now(py));
    if let Looked::Hit(..) | Looked::Miss(_) = &looked {
        shared.looked_up(py, lane, get.node, matches!(looked, Looked::Hit(..)))?;
    }
    Ok(match looked {
        Looked::Hit(output, saved) => Begun::Ended(Event::CacheHit {
            call,
            output: output.into(),
            saved,
            at,
        }),
        Looked::Miss(lead) => {
            let lead = lead
                .map(|lead| leads.take_on(*lead, &get.context, py))
                .transpose()?;
            Begun::Ended(Event::CacheMiss { call, lead, at })
        }
        Looked::Wait(looking, coroutine) => {
            let reader = super::call::Reader::Cache(looking);
            Begun::UnderWay(Box::new(Pending::new(call, get.deadline, reader, coroutine)))
        }
    })
}

impl Leads {
    /// Tells the garbage collector of what is held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.made.values().try_for_each(|lead| lead.key.tell(visit))
    }
}
