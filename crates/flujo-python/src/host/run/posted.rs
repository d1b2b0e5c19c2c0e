//! What others have left for a run: requests to stop, and answers, with which a run that stands still goes on at once.

use std::collections::HashSet;
use std::sync::Arc;

use flujo_core::store::{Change, Message, StoreError};
use pyo3::prelude::*;

use super::{State, Step, UnderWay, ends, set_place};
use crate::host::bell::Awaiting;
use crate::host::driver::Driver;
use crate::host::names;
use crate::host::parked::{self, Parked, Wake};
use crate::host::record::definition_of;
use crate::host::shared::Shared;
use crate::host::trace::Trace;

/// Whether there is anything.
pub(super) fn is_there(shared: &Shared) -> bool {
    shared.post.as_ref().is_some_and(|post| !post.inbox.is_empty())
}

/// What was left for a run, on its way.
type Found = Awaiting<Result<Vec<Message>, StoreError>>;

/// The same, and the run, which stands still.
pub(super) type Looking = (Found, UnderWay);

/// Looks for what was left for a run that is kept.
pub(super) fn look(shared: &Shared) -> Option<Found> {
    let journal = shared.journal.as_ref()?;
    let keeping = shared.engine.keeping.as_ref()?;
    Some(Awaiting::new(
        keeping.runs.store().messages(journal.claim().worker),
    ))
}

/// Takes in what was found; then the run is driven again, and goes on or stands still.
pub(super) fn looked(py: Python<'_>, mut found: Found, under_way: UnderWay) -> PyResult<Step> {
    let shared = Arc::clone(&under_way.driver.shared);
    match found.look(shared.event_loop(py))? {
        Err(future) => Ok((State::Looking(Box::new((found, under_way))), Some(future))),
        Ok(found) => {
            if let (Some(post), Some(journal)) = (&shared.post, &shared.journal) {
                let run = &journal.claim().run;
                // A store that can't be read says so when it is written to.
                let ours = found.iter().flatten().filter(|message| message.run == *run);
                ours.for_each(|message| post.inbox.put(message));
            }
            Ok((State::UnderWay(Box::new(under_way)), None))
        }
    }
}

/// The run stands still, and goes on with what was left for it. What fits nothing is told of in the log of the program.
pub(super) fn take_in(py: Python<'_>, under_way: UnderWay) -> PyResult<UnderWay> {
    ends::reset_place(py, under_way.place_token)?;
    let shared = Arc::clone(&under_way.driver.shared);
    let mut parked = under_way.driver.park(py)?;
    let cancelled = take_cancels(&shared);
    if cancelled {
        parked.wake = Wake::Cancel;
    } else {
        take_answers(py, &shared, &mut parked)?;
    }
    let trace = Trace::of_run(py, &shared, &parked.machine, parked.before.as_ref())?;
    let mut driver = Driver::revive(py, *parked, shared, trace)?;
    driver.called_off = cancelled;
    let place_token = set_place(py, &mut driver)?;
    Ok(UnderWay {
        driver,
        place_token,
        looks: true,
        ..under_way
    })
}

/// The requests to stop are dealt with, once that is written; whether there were any.
pub(super) fn take_cancels(shared: &Shared) -> bool {
    let mut any = false;
    if let (Some(post), Some(journal)) = (&shared.post, &shared.journal) {
        while let Some(message) = post.inbox.take_cancel() {
            journal.along(Change::Taken(message));
            any = true;
        }
    }
    any
}

fn take_answers(py: Python<'_>, shared: &Shared, parked: &mut Parked) -> PyResult<()> {
    let (Some(post), Some(journal)) = (&shared.post, &shared.journal) else {
        return Ok(());
    };
    let mut answered = HashSet::new();
    for (message, pause, value) in post.inbox.take_answers() {
        journal.along(Change::Taken(message));
        let mut open = Vec::new();
        let mut ways = Vec::new();
        for one in parked.open() {
            if answered.contains(&one.id) {
                continue;
            }
            let step = definition_of(&shared.plan, one.question.node).map(|step| step.bind(py).clone());
            open.push((parked::shown(py, &shared.plan, &one.id, one.question)?, step));
            ways.push((one.id, one.way));
        }
        let left = (shared.run_id(py)?, open, pause, value.to_string());
        let fits: Option<(String, Py<PyAny>)> = names::fitting(py)?.call1(left)?.extract()?;
        if let Some((id, answer)) = fits
            && let Some((id, way)) = ways.into_iter().find(|(known, _)| *known == id)
        {
            parked.wake(&way, Wake::Answer(answer));
            answered.insert(id);
        }
    }
    Ok(())
}
