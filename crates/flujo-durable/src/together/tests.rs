//! Nobody is left waiting by those who only look.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures_util::FutureExt;

use super::Together;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_is_woken_while_another_one_looks_finds_what_has_come() {
    let (done, waker) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(Mutex::new(None::<Waker>)),
    );
    let ((entered, enters), (go, goes)) = (channel(), channel());
    let held = Arc::new(Mutex::new(None));
    let asked = {
        let (done, waker, held) = (Arc::clone(&done), Arc::clone(&waker), Arc::clone(&held));
        poll_fn(move |poller: &mut Context<'_>| {
            waker.lock().unwrap().replace(poller.waker().clone());
            let is_done = done.load(Ordering::SeqCst);
            // Whoever looks has looked, and takes its time to tell.
            if let Some((entered, goes)) = held.lock().unwrap().take() {
                let (entered, goes): (std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>) =
                    (entered, goes);
                entered.send(()).unwrap();
                goes.recv().unwrap();
            }
            if is_done {
                Poll::Ready(Ok(7))
            } else {
                Poll::Pending
            }
        })
    };
    let looked = Together::new(Box::pin(asked));
    let mut waits = looked.clone();
    let woken = Arc::new(Woken::default());
    let poller = Waker::from(Arc::clone(&woken));
    assert!(waits.poll_unpin(&mut Context::from_waker(&poller)).is_pending());

    held.lock().unwrap().replace((entered, goes));
    let looks = thread::spawn(move || looked.now_or_never());
    enters.recv().unwrap();
    done.store(true, Ordering::SeqCst);
    waker.lock().unwrap().take().unwrap().wake();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    let (comes, came) = channel();
    let waiting = thread::spawn(move || {
        comes.send(()).unwrap();
        waits.poll_unpin(&mut Context::from_waker(&poller))
    });
    came.recv().unwrap();
    go.send(()).unwrap();
    assert_eq!(looks.join().unwrap(), None);
    // It isn't woken a second time.
    assert_eq!(waiting.join().unwrap(), Poll::Ready(Ok(7)));
}

/// What becomes ready when it is told so, with or without waking whoever polled last.
#[derive(Clone, Default)]
struct Told {
    done: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Told {
    fn together(&self) -> Together<i32> {
        let Self { done, waker } = self.clone();
        Together::new(Box::pin(poll_fn(move |poller: &mut Context<'_>| {
            waker.lock().unwrap().replace(poller.waker().clone());
            if done.load(Ordering::SeqCst) {
                Poll::Ready(Ok(7))
            } else {
                Poll::Pending
            }
        })))
    }
}

#[test]
fn all_who_wait_are_woken_once() {
    for wakes in [true, false] {
        let told = Told::default();
        let mut waiting = vec![told.together(); 3];
        let woken = [(); 3].map(|()| Arc::new(Woken::default()));
        let wakers = woken.each_ref().map(|woken| Waker::from(Arc::clone(woken)));
        // However often they look.
        for _ in 0..2 {
            for (one, waker) in waiting.iter_mut().zip(&wakers) {
                assert!(one.poll_unpin(&mut Context::from_waker(waker)).is_pending());
            }
        }
        told.done.store(true, Ordering::SeqCst);
        let times = || woken.each_ref().map(|woken| woken.0.load(Ordering::SeqCst));
        if wakes {
            told.waker.lock().unwrap().take().unwrap().wake();
            assert_eq!(times(), [1, 1, 1]);
        }
        let second = waiting[1].poll_unpin(&mut Context::from_waker(&wakers[1]));
        assert_eq!(second, Poll::Ready(Ok(7)));
        // Those who wait are told by whoever finds it.
        assert_eq!(times(), if wakes { [1, 1, 1] } else { [1, 0, 1] });
        assert!(waiting.iter().all(|one| one.peek() == Some(&Ok(7))));
        for one in waiting {
            assert_eq!(one.now_or_never(), Some(Ok(7)));
        }
    }
}

#[test]
fn what_nobody_waits_for_any_more_is_dropped() {
    let told = Told::default();
    let together = told.together();
    assert_eq!(together.clone().now_or_never(), None);
    drop(together);
    // It held the other one, as the waker that it was given does not hold it.
    assert_eq!(Arc::strong_count(&told.done), 1);
}
