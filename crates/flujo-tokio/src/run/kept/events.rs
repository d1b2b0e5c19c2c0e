//! What happens in a run that is kept, read from its store.

use std::collections::VecDeque;
use std::time::Duration;

use flujo_core::store::RunInfo;
use flujo_durable::{DurableError, load};
use flujo_store::runs::{KeptEvent, Told, events};
use tokio::time::Instant;

use super::{KeptRun, LOOKS};

/// Whoever follows a run rests so many times as long as reading it took: it is read whole, and grows.
const REST: u32 = 4;

/// What happens in a run, whoever runs it, from a place on. Its store is looked at again and again, once a second in the end.
#[derive(Debug)]
pub struct KeptEvents {
    run: KeptRun,
    after: u64,
    waiting: VecDeque<KeptEvent>,
    /// How the run stood when it was looked at last.
    seen: Option<RunInfo>,
    pause: Duration,
    /// When it is to be looked at again; nobody who asks with little patience puts that off.
    due: Option<Instant>,
    ended: bool,
}

impl KeptEvents {
    pub(super) fn new(run: KeptRun, after: u64) -> Self {
        Self {
            run,
            after,
            waiting: VecDeque::new(),
            seen: None,
            pause: LOOKS.0,
            due: None,
            ended: false,
        }
    }

    /// The next one; `None` behind [`RunFinished`](crate::KeptEventKind::RunFinished). Nothing is lost when it is dropped
    /// before it is ready.
    ///
    /// # Errors
    /// There is no such run, it can't be read, or the store can't be used. It may be asked for again.
    pub async fn next(&mut self) -> Result<Option<KeptEvent>, DurableError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.after = event.number;
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            if let Some(due) = self.due {
                tokio::time::sleep_until(due).await;
            }
            self.look().await?;
            self.due = Some(Instant::now() + self.pause);
        }
    }

    /// Looks at the run, and reads it where it has moved.
    async fn look(&mut self) -> Result<(), DurableError> {
        let info = self.run.info().await?;
        let unmoved = |seen: &RunInfo| {
            let stands = |info: &RunInfo| (info.last_record, info.summary.clone(), info.owner.is_some());
            stands(seen) == stands(&info)
        };
        if self.seen.as_ref().is_some_and(unmoved) {
            self.pause = (self.pause * 2).min(LOOKS.1);
            return Ok(());
        }
        let begun = Instant::now();
        let store = self.run.keeping()?.runs.store().clone();
        let told = events(&load(store, self.run.id.clone()).await?)?;
        self.ended = told.last().is_some_and(Told::is_end);
        let events = told.into_iter().map(|told| told.event);
        self.waiting
            .extend(events.filter(|event| event.number > self.after));
        (self.seen, self.pause) = (Some(info), LOOKS.0.max(begun.elapsed() * REST));
        Ok(())
    }
}
