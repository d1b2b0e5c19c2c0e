//! Interrupts that nobody waits for at the moment they come.

use std::process::Command;
use std::task::{Context, Waker};

use super::Interrupts;

#[cfg(unix)]
#[tokio::test]
async fn one_that_comes_while_nobody_waits_is_there_for_who_waits_next() {
    let mut interrupts = Interrupts::listen();
    {
        let mut first = std::pin::pin!(interrupts.next());
        let nobody = &mut Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(nobody).is_pending());
    }
    let this = std::process::id().to_string();
    let sent = Command::new("kill").args(["-INT", &this]).status();
    assert!(sent.is_ok_and(|sent| sent.success()));
    interrupts.next().await;
}
