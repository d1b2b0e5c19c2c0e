//! The threads of a store in one process, each with a connection of its own: one writes runs, one raises workers'
//! counters, some read. They begin when they are first needed.
//!
//! **Group commit.** Whatever has been asked for while a transaction was under way goes into the next one, all of it on
//! its way at once.
//!
//! **When the connection breaks.** A transaction whose end wasn't asked for is none, and is done again over a new
//! connection. Transactions are numbered, and write down their number: of one whose end was asked for, the server is asked
//! whether it was reached. So nothing is done twice and nothing is lost.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use flujo_core::store::{Change, Claim, StoreError, StoreFuture};
use futures_util::future::{join_all, join3};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::call;
use super::failure::Failure;
use super::session::{Place, Session, pause};
use crate::failed::Failed;
use crate::queue::Queue;

/// So many threads read at a time.
const READERS: usize = 2;
/// So many requests share a transaction at most.
const GROUP: usize = 512;

pub(super) type Asked<'s, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 's>>;

/// Something to do with a connection, more than once if need be.
type Act = Box<dyn for<'s> FnMut(&'s Session) -> Asked<'s, ()> + Send>;
type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Something that is asked for.
pub(super) struct Request {
    run: Option<Arc<str>>,
    work: Work,
    done: Done,
}

enum Work {
    Other(Act),
    /// Changes to a run, which may go together with those behind them.
    Changes(Claim, Vec<Change>),
}

impl Request {
    fn token(&self) -> Option<u64> {
        match &self.work {
            Work::Changes(claim, _) => Some(claim.token),
            Work::Other(_) => None,
        }
    }
}

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Runs,
    Workers,
    Reads,
}

/// The threads of one process.
#[derive(Default)]
pub(super) struct Engine {
    threads: Mutex<Vec<JoinHandle<()>>>,
    queues: [OnceLock<Arc<Queue<Request>>>; 3],
}

impl Engine {
    pub(super) fn ask<T: Send + 'static>(
        &self,
        place: &Arc<Place>,
        of: Of,
        run: Option<Arc<str>>,
        act: impl for<'s> Fn(&'s Session) -> Asked<'s, T> + Send + Sync + 'static,
    ) -> StoreFuture<T> {
        let (answer, answered) = oneshot::channel();
        let outcome = Arc::new(Mutex::new(None));
        let (kept, act) = (outcome.clone(), Arc::new(act));
        let done = move |told: Result<(), StoreError>| {
            let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Who asked may have gone: it was done all the same.
            drop(answer.send(told.and_then(|()| outcome.ok_or_else(|| ended("nothing was done")))));
        };
        let work: Act = Box::new(move |session| {
            let (kept, asked) = (kept.clone(), act(session));
            Box::pin(async move {
                let outcome = asked.await?;
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                Ok(())
            })
        });
        self.push(
            place,
            of,
            Request {
                run,
                work: Work::Other(work),
                done: Box::new(done),
            },
        );
        wait(answered)
    }

    pub(super) fn write(&self, place: &Arc<Place>, claim: &Claim, changes: Vec<Change>) -> StoreFuture<()> {
        let (answer, answered) = oneshot::channel();
        self.push(
            place,
            Of::Runs,
            Request {
                run: Some(claim.run.clone()),
                work: Work::Changes(claim.clone(), changes),
                done: Box::new(|told| drop(answer.send(told))),
            },
        );
        wait(answered)
    }

    fn push(&self, place: &Arc<Place>, of: Of, request: Request) {
        let queue = self.queues[of as usize].get_or_init(|| {
            let queue = Arc::<Queue<Request>>::default();
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let before = threads.len();
            for _ in 0..if of == Of::Reads { READERS } else { 1 } {
                // Polled by that thread alone.
                let Ok(runtime) = Builder::new_current_thread().enable_all().build() else {
                    continue;
                };
                let (queue, place) = (queue.clone(), place.clone());
                let thread = std::thread::Builder::new().name("flujo-store-p".to_owned());
                threads.extend(thread.spawn(move || Lane::new(place, of).work(&runtime, &queue)));
            }
            if threads.len() == before {
                queue.close();
            }
            queue
        });
        if let Err(request) = queue.push(request) {
            (request.done)(Err(ended("it is closed")));
        }
    }

    /// Lets the threads finish what has been asked for, and waits for them, unless it is one of them that asks.
    pub(super) fn close(&self) {
        self.let_end();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() {
                drop(thread.join());
            }
        }
    }

    fn let_end(&self) {
        // A queue that nobody has used is closed too.
        self.queues
            .iter()
            .for_each(|queue| queue.get_or_init(Arc::default).close());
    }
}

impl Drop for Engine {
    /// What has been asked for is done all the same; nobody waits for it.
    fn drop(&mut self) {
        self.let_end();
    }
}

fn wait<T: Send + 'static>(answered: oneshot::Receiver<Result<T, StoreError>>) -> StoreFuture<T> {
    Box::pin(async {
        answered
            .await
            .unwrap_or_else(|_| Err(ended("its thread has ended")))
    })
}

fn ended(reason: &str) -> StoreError {
    StoreError::Other {
        place: "the store of runs".to_owned(),
        reason: reason.to_owned(),
    }
}

/// Requests that go together: one, or writes of one claim, one behind the other.
type Group = Vec<usize>;

/// What one thread works with.
struct Lane {
    place: Arc<Place>,
    of: Of,
    session: Option<Session>,
    /// The name under which transactions are counted, and the number of the last one.
    counted: Option<i64>,
    number: i64,
    failed: Failed,
}

impl Lane {
    fn new(place: Arc<Place>, of: Of) -> Self {
        Self {
            place,
            of,
            session: None,
            counted: None,
            number: 0,
            failed: Failed::default(),
        }
    }

    fn work(mut self, runtime: &Runtime, queue: &Queue<Request>) {
        let most = if self.of == Of::Reads { 1 } else { GROUP };
        while let Some(mut requests) = queue.take(most) {
            let mut told: Vec<Option<Result<(), StoreError>>> = vec![None; requests.len()];
            runtime.block_on(self.all(&mut requests, &mut told));
            for (request, told) in requests.into_iter().zip(told) {
                (request.done)(told.unwrap_or_else(|| Err(ended("nothing was done"))));
            }
        }
        // Within the runtime, since there is something of its own to end.
        runtime.block_on(async { self.session = None });
    }

    /// Does all of them, in as few transactions as keep their order.
    async fn all(&mut self, requests: &mut [Request], told: &mut [Option<Result<(), StoreError>>]) {
        let mut begin = 0;
        while begin < requests.len() {
            let (groups, end) = together(requests, begin);
            self.groups(requests, &groups, told).await;
            begin = end;
        }
    }

    async fn groups(
        &mut self,
        requests: &mut [Request],
        groups: &[Group],
        told: &mut [Option<Result<(), StoreError>>],
    ) {
        match self.transaction(requests, groups).await {
            Ok(outcomes) => {
                for (group, outcome) in groups.iter().zip(outcomes) {
                    match outcome {
                        // Which of them it was is seen when each is done by itself.
                        Err(_) if group.len() > 1 => self.singly(requests, group, told).await,
                        outcome => self.tell(requests, group, &outcome, told),
                    }
                }
            }
            Err(failure) if failure.is_of_connection() => {
                let error = self.place.told(failure, None);
                for group in groups {
                    self.tell(requests, group, &Err(error.clone()), told);
                }
            }
            // One of them took the others with it.
            Err(failure) => match groups {
                [group] if group.len() == 1 => {
                    let error = self.place.told(failure, requests[group[0]].run.as_ref());
                    self.tell(requests, group, &Err(error), told);
                }
                groups => {
                    for group in groups {
                        self.singly(requests, group, told).await;
                    }
                }
            },
        }
    }

    async fn singly(
        &mut self,
        requests: &mut [Request],
        group: &Group,
        told: &mut [Option<Result<(), StoreError>>],
    ) {
        for at in group {
            let alone = vec![*at];
            let outcome = self.transaction(requests, std::slice::from_ref(&alone)).await;
            let outcome = match outcome {
                Ok(mut outcomes) => outcomes.pop().unwrap_or_else(|| Err(ended("nothing was done"))),
                Err(failure) => Err(self.place.told(failure, requests[*at].run.as_ref())),
            };
            self.tell(requests, &alone, &outcome, told);
        }
    }

    fn tell(
        &mut self,
        requests: &[Request],
        group: &Group,
        outcome: &Result<(), StoreError>,
        told: &mut [Option<Result<(), StoreError>>],
    ) {
        for at in group {
            let request = &requests[*at];
            if let Err(error) = outcome {
                self.failed.note(request.run.as_ref(), request.token(), error);
            }
            told[*at] = Some(outcome.clone());
        }
    }

    /// Does the groups in one transaction and tells what came of each; again over another connection when this one breaks.
    async fn transaction(
        &mut self,
        requests: &mut [Request],
        groups: &[Group],
    ) -> Result<Vec<Result<(), StoreError>>, Failure> {
        let until = Instant::now() + self.place.options.reconnect_timeout;
        let mut tries = 0;
        loop {
            let failure = match self.session().await {
                Ok(session) => match self.attempt(&session, requests, groups).await {
                    Ok(outcomes) => {
                        self.session = Some(session);
                        return Ok(outcomes);
                    }
                    Err(Broken::Before(failure)) => {
                        if !failure.is_of_connection() {
                            session.execute("ROLLBACK").await?;
                            self.session = Some(session);
                            return Err(failure);
                        }
                        failure
                    }
                    Err(Broken::AtTheEnd(outcomes, failure)) => match self.was_done(until).await {
                        Some(true) => return Ok(outcomes),
                        Some(false) => failure,
                        None => return Err(failure),
                    },
                },
                Err(failure) => failure,
            };
            if !failure.is_of_connection() || Instant::now() >= until {
                return Err(failure);
            }
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
        }
    }

    async fn session(&mut self) -> Result<Session, Failure> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&self.place).await?,
        };
        if self.of != Of::Reads && self.counted.is_none() {
            self.counted = Some(call::enter(&session).await?);
        }
        Ok(session)
    }

    async fn attempt(
        &mut self,
        session: &Session,
        requests: &mut [Request],
        groups: &[Group],
    ) -> Result<Vec<Result<(), StoreError>>, Broken> {
        self.number += 1;
        let begin = match self.counted {
            Some(_) => "BEGIN",
            None => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        let begun = session.execute(begin);
        let advanced = async {
            match self.counted {
                Some(lane) => call::advance(session, lane, self.number).await,
                None => Ok(()),
            }
        };
        let asked = groups
            .iter()
            .map(|group| self.act(session, requests, group))
            .collect::<Vec<_>>();
        // All on their way at once, in this order.
        let (begun, advanced, outcomes) = join3(begun, advanced, join_all(asked)).await;
        begun.and(advanced).map_err(Broken::Before)?;
        let mut told = Vec::with_capacity(outcomes.len());
        for (group, outcome) in groups.iter().zip(outcomes) {
            told.push(match outcome {
                Ok(()) => Ok(()),
                // The transaction is over.
                Err(failure @ Failure::Server(_)) => return Err(Broken::Before(failure)),
                Err(failure) => Err(self.place.told(failure, requests[group[0]].run.as_ref())),
            });
        }
        match session.execute("COMMIT").await {
            Ok(()) => Ok(told),
            Err(failure) if failure.is_of_connection() && self.counted.is_some() => {
                Err(Broken::AtTheEnd(told, failure))
            }
            Err(failure) => Err(Broken::Before(failure)),
        }
    }

    fn act<'s>(&self, session: &'s Session, requests: &mut [Request], group: &Group) -> Asked<'s, ()> {
        let first = &mut requests[group[0]];
        if let Err(error) = self.failed.passes(first.run.as_ref(), first.token()) {
            return Box::pin(async { Err(error.into()) });
        }
        if let Work::Other(act) = &mut first.work {
            return act(session);
        }
        let mut all = Vec::new();
        let mut owner = None;
        for at in group {
            if let Work::Changes(claim, changes) = &requests[*at].work {
                owner = Some(claim.clone());
                all.extend(changes.iter().cloned());
            }
        }
        Box::pin(async move {
            match owner {
                Some(claim) => call::write(session, &claim, &all).await,
                None => Ok(()),
            }
        })
    }

    /// Whether the last transaction was done, as soon as the server can tell.
    async fn was_done(&mut self, until: Instant) -> Option<bool> {
        let lane = self.counted?;
        let mut tries = 0;
        while Instant::now() < until {
            if let Ok(session) = self.session().await
                && let Ok(reached) = call::reached(&session, lane).await
            {
                self.session = Some(session);
                return Some(reached == self.number);
            }
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
        }
        None
    }
}

/// Why a transaction didn't come to its end.
enum Broken {
    /// Its end had not been asked for, or the server says that it has failed.
    Before(Failure),
    /// Nobody said whether it ended well; what came of the requests if it did.
    AtTheEnd(Vec<Result<(), StoreError>>, Failure),
}

/// The requests from the first one on that may be done at the same time: one of each run, and with it the writes of the
/// same claim behind it. Tells where the next ones begin.
fn together(requests: &[Request], begin: usize) -> (Vec<Group>, usize) {
    let mut groups: Vec<Group> = Vec::new();
    let mut of_run: HashMap<Arc<str>, usize> = HashMap::new();
    for (at, request) in requests.iter().enumerate().skip(begin) {
        let Some(run) = &request.run else {
            // What concerns all of them comes by itself.
            if groups.is_empty() {
                return (vec![vec![at]], at + 1);
            }
            return (groups, at);
        };
        match of_run.get(run) {
            None => {
                of_run.insert(run.clone(), groups.len());
                groups.push(vec![at]);
            }
            Some(group) => {
                let before = &requests[groups[*group][0]];
                match (&before.work, &request.work) {
                    (Work::Changes(before, _), Work::Changes(claim, _)) if before == claim => {
                        groups[*group].push(at);
                    }
                    _ => return (groups, at),
                }
            }
        }
    }
    let end = requests.len();
    (groups, end)
}
