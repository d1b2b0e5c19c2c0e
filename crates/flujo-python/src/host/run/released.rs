//! Runs that nobody waits for any more before they have begun.

use flujo_core::store::Change;
use flujo_durable::DurableError;
use pyo3::prelude::*;

use crate::agents::runtime;
use crate::host::bell::Awaiting;
use crate::host::keeping::Opened;

/// Nobody waits for a run any more that is on its way into the store, or out of it: it is free as soon as it is there.
pub(super) fn let_go_of_opened(py: Python<'_>, opened: Awaiting<Result<Opened, DurableError>>) {
    if let Ok(runtime) = runtime(py) {
        runtime.spawn(async move {
            if let Ok(opened) = opened.into_inner().await {
                release(opened);
            }
        });
    }
}

pub(super) fn release(opened: Opened) {
    let journal = match opened {
        Opened::Begun(journal) => journal,
        Opened::Found(found) => found.journal,
        Opened::Ended(..) => return,
    };
    // Done whether or not anybody waits.
    drop(journal.write([Change::Release]));
}
