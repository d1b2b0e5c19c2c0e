//! Interrupts from the terminal (Ctrl-C). One that comes while nobody waits for it is there for who waits next, which is
//! not so with [`tokio::signal::ctrl_c`]: each call of it hears only what comes after it was first polled.

#[cfg(test)]
mod tests;

#[cfg(unix)]
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC as Listener, ctrl_c};

/// The interrupts that this process gets.
pub(crate) struct Interrupts(Option<Listener>);

impl Interrupts {
    /// Hears those that come from now on, and none where the system lets nobody hear them. To be called within a runtime.
    pub(crate) fn listen() -> Self {
        #[cfg(unix)]
        let listener = signal(SignalKind::interrupt());
        #[cfg(windows)]
        let listener = ctrl_c();
        Self(listener.ok())
    }

    /// Done when there has been one since the last that was told of here. It may be dropped and asked for again.
    pub(crate) async fn next(&mut self) {
        let heard = match &mut self.0 {
            Some(listener) => listener.recv().await,
            None => None,
        };
        if heard.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
