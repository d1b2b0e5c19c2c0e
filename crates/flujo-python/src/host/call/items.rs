//! The items of a collection that is read as room comes free.

use std::sync::Arc;

use flujo_core::machine::{CallId, Input};
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use super::{Begun, Pending, Reader, awaitable, failed};
use crate::host::answer;
use crate::host::domain::{Answer, Call, Event};
use crate::host::shared::Shared;

/// The next item of a collection that is read as room comes free.
pub(super) fn next_item(py: Python<'_>, shared: &Arc<Shared>, call: &Call) -> PyResult<Begun> {
    let Input::Items { items, past } = &call.input else {
        return Err(answer::refuse("a map without items"));
    };
    let items = items.bind(py);
    if !items.hasattr(intern!(py, "__anext__"))? {
        for taken in 0..*past {
            match items.call_method0(intern!(py, "__next__")) {
                Ok(_) => py.check_signals()?,
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                    return Err(PyValueError::new_err(format!(
                        "the collection gave {taken} items where {past} had been taken from it before: one that is read \
                         item by item must give the same items when it is read again"
                    )));
                }
                Err(error) => return Err(error),
            }
        }
        let item = match items.call_method0(intern!(py, "__next__")) {
            Ok(item) => Some(item.into()),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => None,
            Err(error) => return Err(error),
        };
        let (answer, at) = (Answer::Item(item), shared.now(py));
        return Ok(Begun::Ended(Event::Answered {
            call: call.call,
            answer,
            context: None,
            at,
        }));
    }
    let next = match past {
        0 => items.call_method0(intern!(py, "__anext__"))?,
        past => {
            let reading = py.import(intern!(py, "flujo.application._constructs"))?;
            reading.call_method1(intern!(py, "next_past"), (items, *past))?
        }
    };
    match awaitable(&next)? {
        Some(coroutine) => {
            let pending = Pending::new(call.call, call.deadline, Reader::NextItem, coroutine.unbind());
            Ok(Begun::UnderWay(Box::new(pending)))
        }
        None => Err(answer::refuse("__anext__ must return an awaitable")),
    }
}

/// The event of an item that was awaited.
pub(crate) fn item_ended(
    py: Python<'_>,
    shared: &Shared,
    call: CallId,
    result: PyResult<Bound<'_, PyAny>>,
) -> PyResult<Event> {
    let at = shared.now(py);
    match result {
        Ok(item) => Ok(Event::Answered {
            call,
            answer: Answer::Item(Some(item.into())),
            context: None,
            at,
        }),
        Err(error) if error.is_instance_of::<PyStopAsyncIteration>(py) => Ok(Event::Answered {
            call,
            answer: Answer::Item(None),
            context: None,
            at,
        }),
        Err(error) => failed(py, shared, call, None, error),
    }
}
