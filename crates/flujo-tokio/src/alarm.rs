//! Who is told of alerts: the log, and the runner's callback, in a thread of its own, so that one that hangs or panics
//! harms no run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::monitor::Watch;
use flujo_core::stats::Alert;

/// How many alerts a callback may be behind; of more it isn't told, which is counted.
const BEHIND: usize = 64;

pub(crate) type OnAlert = dyn Fn(&Alert) + Send + Sync;

/// Tells of alerts.
pub(crate) struct Alarm {
    watch: Arc<Watch>,
    callback: Option<Arc<OnAlert>>,
    /// To the callback's thread, from the first alert on.
    queue: OnceLock<SyncSender<Alert>>,
}

impl Alarm {
    pub(crate) fn new(watch: Arc<Watch>, callback: Option<Arc<OnAlert>>) -> Self {
        Self {
            watch,
            callback,
            queue: OnceLock::new(),
        }
    }

    /// Whether somebody has asked to be told.
    pub(crate) fn is_wanted(&self) -> bool {
        self.callback.is_some()
    }

    pub(crate) fn tell(&self, alert: &Alert) {
        tracing::warn!(
            target: "flujo::monitor", kind = alert.kind.name(), part = alert.part.name(),
            step = alert.step.as_deref(), value = alert.value, threshold = alert.threshold, "{}", alert.message
        );
        let Some(callback) = &self.callback else {
            return;
        };
        let queue = self.queue.get_or_init(|| {
            let (sender, receiver) = sync_channel(BEHIND);
            let (watch, callback) = (Arc::clone(&self.watch), Arc::clone(callback));
            let thread = thread::Builder::new().name("flujo-alerts".to_owned());
            // Without a thread the receiver is gone, and each alert counts as skipped.
            let _ = thread.spawn(move || call(&receiver, &*callback, &watch));
            sender
        });
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(alert.clone()) {
            self.watch.alerts().callback_skipped();
        }
    }
}

/// Calls back for each alert until the runner is gone.
fn call(alerts: &Receiver<Alert>, callback: &OnAlert, watch: &Watch) {
    for alert in alerts {
        // What the callback leaves broken is its own.
        if catch_unwind(AssertUnwindSafe(|| callback(&alert))).is_err() {
            watch.alerts().callback_failed();
            tracing::error!(target: "flujo::monitor", "the callback for alerts has panicked; it is told of the next one");
        }
    }
}

/// The time of day, since the Unix epoch.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
