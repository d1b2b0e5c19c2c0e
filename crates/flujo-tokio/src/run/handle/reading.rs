//! The events of a run as they are read.

use std::pin::Pin;
use std::task::{Context as Poller, Poll};

use futures_core::Stream;

use super::Run;
use crate::run::event::Event;

/// The events of a run as a stream that owns it: dropping it half-way cancels the run.
#[must_use = "a run does nothing until its events are read"]
pub struct EventStream(pub(super) Run);

impl EventStream {
    /// The run, to be awaited for its end.
    pub fn into_run(self) -> Run {
        self.0
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Option<Event>> {
        self.0.events().poll_next(poller)
    }
}

impl Stream for Events<'_> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Poller<'_>) -> Poll<Option<Event>> {
        Events::poll_next(&mut self, poller)
    }
}

/// The events of a run, read one by one or as a stream.
pub struct Events<'a> {
    pub(super) run: Option<&'a mut Run>,
}

impl Events<'_> {
    /// The events of a run that never begins.
    pub fn none() -> Self {
        Self { run: None }
    }

    /// The next event; `None` after the last one, [`EventKind::RunFinished`](crate::EventKind::RunFinished).
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|poller| self.poll_next(poller)).await
    }

    /// The next event, for streams.
    pub fn poll_next(&mut self, poller: &mut Poller<'_>) -> Poll<Option<Event>> {
        let Some(run) = self.run.as_deref_mut() else {
            return Poll::Ready(None);
        };
        if let Some(events) = &mut run.events
            && let Ok(event) = events.try_recv()
        {
            return Poll::Ready(Some(event));
        }
        let ended = run.drive(poller).is_ready();
        let Some(events) = &mut run.events else {
            // One that is on its way into a store, or out of it, tells nothing yet.
            return if ended { Poll::Ready(None) } else { Poll::Pending };
        };
        match events.poll_recv(poller) {
            Poll::Pending if ended => Poll::Ready(None),
            event => event,
        }
    }
}
