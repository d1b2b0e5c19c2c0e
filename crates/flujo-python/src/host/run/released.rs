//! Runs of a store that nobody goes on with here: they are free for others again.

use flujo_durable::DurableError;
use pyo3::prelude::*;

use crate::agents::runtime;
use crate::host::bell::Awaiting;
use crate::host::keeping::Opened;

/// Gives back a run that has been opened.
pub(super) fn release(opened: Opened) {
    match opened {
        Opened::Begun(journal) => journal.give_back(),
        Opened::Found(found) => found.journal.give_back(),
        Opened::Ended(..) => {}
    }
}

/// Nobody waits any more for what is on its way: it is released as soon as it is there.
pub(super) fn when_there<T: Send + 'static>(
    py: Python<'_>,
    on_its_way: Awaiting<Result<T, DurableError>>,
    release: impl FnOnce(T) + Send + 'static,
) {
    if let Ok(runtime) = runtime(py) {
        runtime.spawn(async move {
            if let Ok(there) = on_its_way.into_inner().await {
                release(there);
            }
        });
    }
}
