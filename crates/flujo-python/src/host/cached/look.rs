//! Looking for a result: in memory, with whoever makes it now, in the second tier.

use std::sync::{Arc, PoisonError};

use flujo_core::cache::{CacheKey, Found, Kept, ReadSet, TierEntry, Turn, Uncached};
use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::super::call::awaitable;
use super::super::domain::CacheGet;
use super::super::shared::Shared;
use super::key::{Key, Unkeyed};
use super::{Lead, Looked, Use};
use crate::cache::{
    Held, Seat, TierAnswer, Told, Value, Waiting, nanoseconds, read_result, read_sets, sets_key,
};

/// A look that waits for something.
pub(crate) struct Looking {
    pub(super) get: CacheGet,
    waits: Waits,
}

enum Waits {
    /// For a result that another run makes.
    ForTurn { place: Use, key: Key, seat: Arc<Seat> },
    /// For what the second tier says; `sets` are those it has results under, unless these are asked for.
    ForTier {
        lead: Box<Lead>,
        answer: TierAnswer,
        sets: Option<Vec<ReadSet>>,
    },
    /// For nothing any more.
    Done,
}

impl Looking {
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.get.input)?;
        match &self.waits {
            Waits::ForTurn { key, .. } => key.tell(visit),
            Waits::ForTier { lead, .. } => lead.key.tell(visit),
            Waits::Done => Ok(()),
        }
    }
}

impl Drop for Looking {
    /// Nobody waits any more: if it was its turn, it is the next one's.
    fn drop(&mut self) {
        if let Waits::ForTurn { place, seat, .. } = &self.waits
            && let Told::Turn(turn) = seat.leave()
            && let Some(results) = place.results()
        {
            results.release(turn, Uncached::Stopped);
        }
    }
}

pub(super) fn begin(py: Python<'_>, shared: &Arc<Shared>, get: &CacheGet) -> PyResult<Looked> {
    let Some(place) = Use::of(shared, get.node) else {
        return Ok(Looked::Miss(None));
    };
    match Key::of(py, &place, get) {
        Ok(Some(key)) => look(py, place, key, get),
        Ok(None) => Ok(Looked::Miss(None)),
        Err(Unkeyed::Because(reason, what)) => {
            place.count(py, reason, &what);
            Ok(Looked::Miss(None))
        }
        Err(Unkeyed::Raised(error)) => Err(error),
    }
}

pub(super) fn go_on(py: Python<'_>, mut looking: Looking, result: PyResult<()>) -> PyResult<Looked> {
    let get = looking.get.clone();
    match std::mem::replace(&mut looking.waits, Waits::Done) {
        Waits::ForTurn { place, key, seat } => {
            result?;
            told(py, place, key, &seat, &get)
        }
        // A tier that can't be asked has nothing.
        Waits::ForTier { lead, answer, sets } => {
            lead.place.watch_tier(py)?;
            let found = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            answered(py, lead, found, sets, &get)
        }
        Waits::Done => Ok(Looked::Miss(None)),
    }
}

fn look(py: Python<'_>, place: Use, key: Key, get: &CacheGet) -> PyResult<Looked> {
    let now = place.shared.cache_now(py);
    let mut seat = None;
    let (found, _) = key.with(py, |wanted| {
        let results = place.results()?;
        Some(results.look(wanted, now, || {
            let own = Seat::new();
            seat = Some(Arc::clone(&own));
            Waiting(own)
        }))
    })?;
    match (found, seat) {
        (Some(Found::Kept(kept)), _) => hit(py, &place, &key, &kept, get),
        (Some(Found::Lead(turn)), _) => lead(py, place, key, turn, get),
        (Some(Found::UnderWay), Some(seat)) => match seat.future(place.shared.event_loop(py))? {
            Some(future) => wait(py, get, Waits::ForTurn { place, key, seat }, &future),
            None => told(py, place, key, &seat, get),
        },
        _ => Ok(Looked::Miss(None)),
    }
}

fn wait(py: Python<'_>, get: &CacheGet, waits: Waits, future: &Bound<'_, PyAny>) -> PyResult<Looked> {
    let looking = Box::new(Looking {
        get: get.clone(),
        waits,
    });
    match awaitable(future)? {
        Some(coroutine) => Ok(Looked::Wait(looking, coroutine.unbind())),
        None => go_on(py, *looking, Ok(())),
    }
}

/// Something was told to a run that waited for a result.
fn told(py: Python<'_>, place: Use, key: Key, seat: &Seat, get: &CacheGet) -> PyResult<Looked> {
    match seat.take() {
        Told::Turn(turn) => {
            if let Some(results) = place.results() {
                results.count_miss();
            }
            lead(py, place, key, turn, get)
        }
        Told::Landed(landed) => match key.with(py, |wanted| landed.answers(wanted))?.0 {
            Some(kept) => {
                if let Some(results) = place.results() {
                    results.count_hit();
                }
                hit(py, &place, &key, &kept, get)
            }
            None => look(py, place, key, get),
        },
        Told::Nothing | Told::Gone => look(py, place, key, get),
    }
}

fn hit(py: Python<'_>, place: &Use, key: &Key, kept: &Kept<Value>, get: &CacheGet) -> PyResult<Looked> {
    note_reads(py, place, key, get)?;
    match kept.output.hand_out(py)? {
        Some(output) => Ok(Looked::Hit(output.unbind(), kept.usage)),
        None => Ok(Looked::Miss(None)),
    }
}

/// Whoever is around this step depends on what it was seen to read, too.
fn note_reads(py: Python<'_>, place: &Use, key: &Key, get: &CacheGet) -> PyResult<()> {
    if !key.depends_on_reads() {
        return Ok(());
    }
    let Some(log) = get.context.read_log(py)? else {
        return Ok(());
    };
    let (sets, _) = key.with(py, |wanted| {
        place.results().map(|results| results.reads_of(wanted))
    })?;
    for set in sets.iter().flat_map(|sets| sets.iter()) {
        log.read_all(set);
    }
    Ok(())
}

/// To make the result is this run's turn, unless the second tier has it.
fn lead(py: Python<'_>, place: Use, key: Key, turn: Turn, get: &CacheGet) -> PyResult<Looked> {
    let lead = Box::new(Lead {
        place,
        turn: Some(turn),
        key,
        reads: None,
    });
    if lead.key.depends_on_reads() {
        let keys = vec![sets_key(lead.key.primary)];
        ask(py, lead, keys, None, get)
    } else {
        let keys = vec![lead.key.primary];
        ask(py, lead, keys, Some(vec![ReadSet::default()]), get)
    }
}

fn ask(
    py: Python<'_>,
    lead: Box<Lead>,
    keys: Vec<CacheKey>,
    sets: Option<Vec<ReadSet>>,
    get: &CacheGet,
) -> PyResult<Looked> {
    let is_local = lead.key.with(py, |_| ())?.1;
    let asked = match lead.place.own().and_then(|own| own.cache.second.as_ref()) {
        Some(second) if lead.place.is_known && !is_local && second.is_ready() && !keys.is_empty() => {
            Some(second.ask(lead.place.shared.event_loop(py), keys)?)
        }
        Some(second) if !second.is_ready() => {
            lead.place.watch_tier(py)?; // it may have failed where nobody waited for it
            None
        }
        _ => None,
    };
    match asked {
        Some((future, answer)) => wait(py, get, Waits::ForTier { lead, answer, sets }, &future),
        None => Ok(Looked::Miss(Some(lead))),
    }
}

/// The second tier has answered.
fn answered(
    py: Python<'_>,
    lead: Box<Lead>,
    found: Option<(usize, TierEntry)>,
    sets: Option<Vec<ReadSet>>,
    get: &CacheGet,
) -> PyResult<Looked> {
    let Some((place, entry)) = found else {
        return Ok(Looked::Miss(Some(lead)));
    };
    let Some(sets) = sets else {
        let Ok(sets) = read_sets(&entry.bytes) else {
            count(&lead, "damaged");
            return Ok(Looked::Miss(Some(lead)));
        };
        let ((keys, sets), is_local) = lead.key.with(py, |wanted| {
            let keyed = sets
                .into_iter()
                .filter_map(|set| Some((wanted.key(&set).ok()?, set)));
            keyed.unzip::<_, _, Vec<CacheKey>, Vec<ReadSet>>()
        })?;
        if is_local {
            return Ok(Looked::Miss(Some(lead)));
        }
        return ask(py, lead, keys, Some(sets), get);
    };
    match (read_result(py, &entry.bytes), sets.into_iter().nth(place)) {
        (Ok((output, usage)), Some(reads)) => take_in(py, *lead, &output, usage, reads, &entry, get),
        (Err(crate::cache::Unreadable::Raised(error)), _)
            if !error.is_instance_of::<pyo3::exceptions::PyException>(py) =>
        {
            Err(error)
        }
        _ => {
            count(&lead, "unreadable");
            Ok(Looked::Miss(Some(lead)))
        }
    }
}

fn count(lead: &Lead, reason: &'static str) {
    if let Some(second) = lead.place.own().and_then(|own| own.cache.second.as_ref()) {
        second.count(reason);
    }
}

/// What the second tier had is kept in memory, and is the result of all who wait for it.
fn take_in(
    py: Python<'_>,
    mut lead: Lead,
    output: &Bound<'_, PyAny>,
    usage: flujo_core::usage::Usage,
    reads: ReadSet,
    entry: &TierEntry,
    get: &CacheGet,
) -> PyResult<Looked> {
    let now = lead.place.shared.cache_now(py);
    let expires = entry.expires_in.map(|left| now.saturating_add(nanoseconds(left)));
    let held = Held::fresh(output.clone(), lead.place.twin);
    let kept = Kept { output: held, usage };
    if let Some(log) = get.context.read_log(py)? {
        log.read_all(&reads);
    }
    let Some(turn) = lead.turn.take() else {
        return Ok(Looked::Miss(None));
    };
    let place = lead.place.clone();
    let own = kept.clone();
    lead.key.with(py, |wanted| {
        place
            .results()
            .map(|results| results.put(turn, wanted, reads, own, expires, now))
    })?;
    match kept.output.hand_out(py)? {
        Some(output) => Ok(Looked::Hit(output.unbind(), usage)),
        None => Ok(Looked::Miss(None)),
    }
}
