//! A worker's life: a process's place in a store's list of those who run runs.
//!
//! A thread of its own raises the worker's counter, looks at the counters of the others and strikes off who is dead:
//! whose counter has stood still for a whole lease by this process's own monotonic clock, or whose process is certainly
//! gone from this machine. What they owned is free then. Wall time plays no part in it, and neither does any lock or
//! interpreter of the program around it.

mod process;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use flujo_core::store::{
    Claim, Lease, Message, MessageId, Order, RunInfo, RunQuery, RunStatus, RunStore, Seen, StoreError,
    StoreFuture, WallTime, Worker, WorkerId,
};
use flujo_durable::Together;
use flujo_shared::process::PerProcess;
use futures_util::future::OptionFuture;
use tokio::sync::Notify;

/// This process's worker in a store. It is made when it is first needed; a process that a fork has made has another one.
/// When the last handle is dropped, what it owned is free.
#[derive(Clone)]
pub struct WorkerHandle {
    life: Arc<Life>,
}

struct Life {
    store: Arc<dyn RunStore>,
    lease: Lease,
    state: PerProcess<OnceLock<Arc<State>>>,
}

/// A name on its way. Whoever waits for it drives it: one that doesn't go on any more holds up nobody.
type Enlisting = Together<WorkerId>;

/// What this process knows.
struct State {
    store: Arc<dyn RunStore>,
    lease: Lease,
    /// Our name, while we have one or are about to.
    name: Mutex<Option<Enlisting>>,
    inner: Mutex<Inner>,
    /// Told to the thread that it is to end.
    ends: Condvar,
    /// Told to those who wait for a verdict, after the thread has looked at the others.
    looked: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    beating: bool,
    ended: bool,
    /// The others' counters, and since when they have stood there.
    sights: HashMap<WorkerId, Sight>,
    /// Who is told of what is left for a run that is under way here.
    ears: HashMap<Arc<str>, Ear>,
}

type Hear = Arc<dyn Fn(&Message) + Send + Sync>;

struct Ear(Hear);

impl fmt::Debug for Ear {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Ear")
    }
}

/// Somebody is told of what is left for a run; no more once this is dropped.
pub struct Listening {
    state: Arc<State>,
    run: Arc<str>,
    hear: Hear,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut inner = self.state.lock();
        let ours = inner
            .ears
            .get(&self.run)
            .is_some_and(|ear| Arc::ptr_eq(&ear.0, &self.hear));
        if ours {
            inner.ears.remove(&self.run);
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Listening").field(&self.run).finish()
    }
}

#[derive(Debug, Clone, Copy)]
struct Sight {
    beats: u64,
    since: Instant,
}

impl WorkerHandle {
    /// A worker that isn't in the store yet.
    pub fn new(store: Arc<dyn RunStore>, lease: Lease) -> Self {
        let state = PerProcess::default();
        Self {
            life: Arc::new(Life { store, lease, state }),
        }
    }

    /// Its store.
    pub fn store(&self) -> &Arc<dyn RunStore> {
        &self.life.store
    }

    /// For how long others wait before they take it for dead, and how often it shows that it isn't.
    pub fn lease(&self) -> Lease {
        self.life.lease
    }

    /// Its name. From now on it shows that it lives. One that was struck off gets a new name; what it owned before isn't
    /// its own any more.
    pub fn id(&self) -> StoreFuture<WorkerId> {
        let state = self.state();
        Box::pin(async move { state.id().await })
    }

    /// Takes a run that nobody has, or whose owner is known to be dead. [`StoreError::Owned`] otherwise, at once.
    pub fn claim(&self, run: Arc<str>) -> StoreFuture<Claim> {
        let state = self.state();
        Box::pin(async move { state.claim(run, Patience::None).await })
    }

    /// The same, and of an owner that isn't known yet waits until its counter has moved, or has stood still for a lease.
    pub fn claim_after_lease(&self, run: Arc<str>) -> StoreFuture<Claim> {
        let state = self.state();
        Box::pin(async move { state.claim(run, Patience::Lease).await })
    }

    /// Runs that wait for somebody, of one pipeline if it is named, the oldest first, at most so many of each kind: those
    /// that were left half done, those that have not begun, those that are due at this time, and those for which something
    /// was left.
    pub fn waiting(
        &self,
        pipeline: Option<Arc<str>>,
        now: WallTime,
        limit: u32,
    ) -> StoreFuture<Vec<RunInfo>> {
        let state = self.state();
        Box::pin(async move { state.waiting(pipeline, now, limit).await })
    }

    /// From now on `hear` is told of what is left for a run that this worker owns, each time its counter is raised and again
    /// until it is dealt with ([`Change::Taken`](flujo_core::store::Change::Taken)); at once, of what is left
    /// [here](Self::post). It is called on other threads, and must not wait.
    pub fn listen(&self, run: Arc<str>, hear: impl Fn(&Message) + Send + Sync + 'static) -> Listening {
        let (state, hear): (_, Hear) = (self.state(), Arc::new(hear));
        let ear = Ear(Arc::clone(&hear));
        state.lock().ears.insert(Arc::clone(&run), ear);
        Listening { state, run, hear }
    }

    /// Leaves something for a run, and tells who listens for it here.
    pub fn post(&self, run: Arc<str>, body: Arc<[u8]>) -> StoreFuture<MessageId> {
        let state = self.state();
        Box::pin(async move {
            let id = state.store.post(Arc::clone(&run), Arc::clone(&body)).await?;
            state.tell(&Message { id, run, body });
            Ok(id)
        })
    }

    /// Ends the worker: what it owns is free, others needn't wait. It may be used again, as another one.
    pub fn stop(&self) -> StoreFuture<()> {
        let state = self.state();
        Box::pin(async move { state.stop().await })
    }

    fn state(&self) -> Arc<State> {
        let life = &self.life;
        let state = life.state.get().get_or_init(|| {
            Arc::new(State {
                store: life.store.clone(),
                lease: life.lease,
                name: Mutex::default(),
                inner: Mutex::default(),
                ends: Condvar::new(),
                looked: Notify::new(),
            })
        });
        state.clone()
    }
}

/// How long somebody waits for a run that another one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    None,
    Lease,
}

impl State {
    async fn id(self: &Arc<Self>) -> Result<WorkerId, StoreError> {
        let enlisting = self.name().get_or_insert_with(|| self.enlist()).clone();
        let enlisted = enlisting.clone().await;
        if enlisted.is_err() {
            // The next one tries again.
            self.name().take_if(|name| name.ptr_eq(&enlisting));
        }
        enlisted
    }

    fn enlist(self: &Arc<Self>) -> Enlisting {
        let (enlisted, state) = (self.store.enlist(process::here()), Arc::downgrade(self));
        let enlisted = async move {
            let id = enlisted.await?;
            if let Some(state) = state.upgrade() {
                state.begin();
            }
            Ok(id)
        };
        Together::new(Box::pin(enlisted))
    }

    /// Our name, when we have one.
    fn named(&self) -> Option<WorkerId> {
        let name = self.name();
        let enlisted = name.as_ref().and_then(Together::peek);
        enlisted.and_then(|enlisted| enlisted.as_ref().ok().copied())
    }

    fn name(&self) -> MutexGuard<'_, Option<Enlisting>> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn claim(self: &Arc<Self>, run: Arc<str>, patience: Patience) -> Result<Claim, StoreError> {
        let id = self.id().await?;
        let mut first: Option<(WorkerId, u64)> = None;
        loop {
            let looked = self.looked.notified();
            let mut looked = pin!(looked);
            looked.as_mut().enable();
            let info = self.store.info(run.clone()).await?;
            let info = info.ok_or_else(|| StoreError::UnknownRun {
                run: run.clone(),
                place: self.store.place(),
            })?;
            let Some(owner) = info.owner else {
                match self.store.claim(run.clone(), id, Seen::Free).await {
                    // Another one was faster.
                    Err(StoreError::Owned { .. }) if patience == Patience::Lease => continue,
                    claimed => return claimed,
                }
            };
            let owned = StoreError::Owned {
                run: run.clone(),
                owner: owner.process.to_string(),
            };
            if owner.worker == id {
                return Err(owned);
            }
            // Also one that our own thread has just struck off isn't among them any more.
            if !self.look().await?.contains(&owner.worker) {
                continue;
            }
            let seen = (owner.worker, owner.beats);
            if patience == Patience::None || first.is_some_and(|first| first != seen) {
                return Err(owned);
            }
            first = Some(seen);
            looked.await;
        }
    }

    fn tell(&self, message: &Message) {
        let ear = self.lock().ears.get(&message.run).map(|ear| Arc::clone(&ear.0));
        if let Some(hear) = ear {
            hear(message);
        }
    }

    /// Tells of what has been left for runs that are under way here.
    async fn look_for_messages(&self, id: WorkerId) -> Result<(), StoreError> {
        if self.lock().ears.is_empty() {
            return Ok(());
        }
        for message in self.store.messages(id).await? {
            self.tell(&message);
        }
        Ok(())
    }

    async fn waiting(
        self: &Arc<Self>,
        pipeline: Option<Arc<str>>,
        now: WallTime,
        limit: u32,
    ) -> Result<Vec<RunInfo>, StoreError> {
        self.id().await?;
        self.look().await?;
        let free = RunQuery {
            pipeline,
            owner: Some(None),
            order: Order::Oldest,
            limit,
            ..RunQuery::default()
        };
        let queries = [
            RunQuery {
                statuses: vec![RunStatus::Running, RunStatus::Queued],
                ..free.clone()
            },
            RunQuery {
                due_by: Some(now),
                ..free.clone()
            },
            RunQuery {
                statuses: vec![RunStatus::Running, RunStatus::Queued, RunStatus::Paused],
                with_messages: true,
                ..free
            },
        ];
        let mut waiting: Vec<RunInfo> = Vec::new();
        for query in queries {
            for run in self.store.list(query).await?.runs {
                if waiting.iter().all(|known| known.id != run.id) {
                    waiting.push(run);
                }
            }
        }
        Ok(waiting)
    }

    /// Looks at all workers and strikes off who is dead; tells who isn't.
    async fn look(&self) -> Result<Vec<WorkerId>, StoreError> {
        let workers = self.store.workers().await?;
        let now = Instant::now();
        let own = self.named();
        let dead = self.lock().dead(&workers, own, now, self.lease.lasts);
        let is_alive = |worker: &WorkerId| dead.iter().all(|(dead, _)| dead != worker);
        let alive = workers.iter().map(|worker| worker.id).filter(is_alive).collect();
        for (worker, beats) in dead {
            // It may have shown itself meanwhile, which the next look tells; or another one has done it.
            self.store.dismiss(worker, Some(beats)).await?;
        }
        Ok(alive)
    }

    async fn stop(&self) -> Result<(), StoreError> {
        let left = self.leave().await;
        self.end();
        left
    }

    /// Begins to raise the counter, unless that is being done.
    fn begin(self: &Arc<Self>) {
        let mut inner = self.lock();
        inner.ended = false;
        if std::mem::replace(&mut inner.beating, true) {
            return;
        }
        let state = self.clone();
        let thread = thread::Builder::new().name("flujo-worker".to_owned());
        // Without a thread it is taken for dead after a lease, and nothing it writes is accepted then.
        inner.beating = thread.spawn(move || state.beat()).is_ok();
    }

    fn end(&self) {
        self.lock().ended = true;
        self.ends.notify_all();
    }

    /// The thread.
    fn beat(&self) {
        while self.pause(self.lease.renewed) {
            let Some(id) = self.named() else { continue };
            if let Err(StoreError::UnknownWorker { .. }) = wait(self.store.beat(id)) {
                // Others took us for dead: what we had is not ours any more.
                self.name()
                    .take_if(|name| matches!(name.peek(), Some(Ok(named)) if *named == id));
            } else {
                // What can't be reached now may be the next time; it is for others to say when we are dead.
                drop(wait(self.look_for_messages(id)));
                drop(wait(self.look()));
            }
            self.looked.notify_waiters();
        }
        drop(wait(self.leave()));
    }

    /// Behind what has been asked for, since nothing is written for one who has left.
    async fn leave(&self) -> Result<(), StoreError> {
        let enlisting = self.name().take();
        let Some(Ok(id)) = OptionFuture::from(enlisting).await else {
            return Ok(());
        };
        self.store.flush().await?;
        self.store.dismiss(id, None).await.map(drop)
    }

    /// Waits so long; `false` when it is over.
    fn pause(&self, time: Duration) -> bool {
        let inner = self.lock();
        let waited = self.ends.wait_timeout_while(inner, time, |inner| !inner.ended);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.beating = !inner.ended;
        inner.beating
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Notes where the counters stand and tells who is dead, with its counter.
    fn dead(
        &mut self,
        workers: &[Worker],
        own: Option<WorkerId>,
        now: Instant,
        lasts: Duration,
    ) -> Vec<(WorkerId, u64)> {
        let here = process::here();
        let before = std::mem::take(&mut self.sights);
        let mut dead = Vec::new();
        for worker in workers.iter().filter(|worker| Some(worker.id) != own) {
            let sight = match before.get(&worker.id) {
                Some(sight) if sight.beats == worker.beats => *sight,
                _ => Sight {
                    beats: worker.beats,
                    since: now,
                },
            };
            if process::is_gone(&worker.process, &here) || now.duration_since(sight.since) >= lasts {
                dead.push((worker.id, worker.beats));
            }
            self.sights.insert(worker.id, sight);
        }
        dead
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(state) = self.state.get().get() {
            state.end();
        }
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("WorkerHandle")
            .field("store", &self.life.store)
            .field("lease", &self.life.lease)
            .finish_non_exhaustive()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Does something on a thread of its own: what must be done although nobody waits for it any more.
pub fn do_anyway(work: impl Future<Output = ()> + Send + 'static) {
    let thread = thread::Builder::new().name("flujo-anyway".to_owned());
    // Without a thread it stays undone, as when the process ends here.
    drop(thread.spawn(move || wait(work)));
}

/// Polls a future on this thread until it is done.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}
