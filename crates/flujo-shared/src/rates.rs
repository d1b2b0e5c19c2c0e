//! Rate limits that several processes share, counted by a Redis server: one script for each question, on the server's own
//! clock. A thread of its own asks, so that none that runs steps waits for the network.
//!
//! A call that is under way where their number is limited is a lease: while a process has any, its thread renews them. Those
//! of a process that died are given back when the lease is over.
//!
//! When the server is away each process keeps the limit by itself, and asks again every second.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flujo_core::rate::{Answer, CallEnd, RateLimit, SharedCount, Verdict};
use redis::cmd;

use crate::process::PerProcess;
use crate::server::{RedisServer, ServerError, ServerOptions};

/// For so long a server that is away isn't asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// A call of a process that isn't heard of counts for so long as under way, unless the options say otherwise.
const LEASE: Duration = Duration::from_secs(10);

/// Lets a call through, or says how many microseconds it has to wait: `RateLimit`'s rule, over all processes.
const ASK: &str = include_str!("rates/ask.lua");

/// Takes in what became of a call.
const TELL: &str = include_str!("rates/tell.lua");

/// Says of calls that they are still under way.
const RENEW: &str = include_str!("rates/renew.lua");

/// Rate limits on a Redis server. Cloning shares it.
///
/// ```no_run
/// use std::sync::Arc;
/// use flujo_core::rate::RateLimit;
/// use flujo_shared::rates::RedisRates;
/// use flujo_shared::server::ServerOptions;
///
/// let shared = RedisRates::new("redis://localhost:6379/0", ServerOptions::default())?;
/// let limit = RateLimit::new("model").requests_per_minute(60.0).shared_by(Arc::new(shared));
/// # Ok::<(), flujo_shared::server::ServerError>(())
/// ```
#[derive(Clone)]
pub struct RedisRates {
    server: Arc<RedisServer>,
    time_scale: f64,
    lease: Duration,
    asking: Arc<PerProcess<Asking>>,
}

/// The way to the thread that asks.
#[derive(Default)]
struct Asking {
    /// Begins the names of this process's calls.
    process: Process,
    jobs: Mutex<Option<Sender<Job>>>,
}

struct Process(u64);

impl Default for Process {
    fn default() -> Self {
        Self(RandomState::new().hash_one(std::process::id()))
    }
}

struct Job {
    /// The limit's fields, as the scripts take them.
    limit: Limit,
    call: String,
    what: What,
}

enum What {
    Ask(u64, Answer),
    Tell(CallEnd),
}

struct Limit {
    name: Arc<str>,
    requests: (u64, u64),
    tokens: (u64, u64),
    at_once: u32,
}

impl fmt::Debug for RedisRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRates")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl RedisRates {
    /// Limits on the server at an address such as `redis://user:password@host:6379/0`. Connects when first asked.
    ///
    /// # Errors
    /// [`ServerError::Address`] when it is none.
    pub fn new(address: &str, options: ServerOptions) -> Result<Self, ServerError> {
        Ok(Self {
            server: Arc::new(RedisServer::new(address, options)?),
            time_scale: 1.0,
            lease: LEASE,
            asking: Arc::default(),
        })
    }

    /// The one that this process has for a server at an address: what is counted by the same server goes one way.
    ///
    /// # Errors
    /// [`ServerError::Address`] when it is none.
    pub fn of_process(address: &str) -> Result<Arc<Self>, ServerError> {
        static SERVERS: Mutex<BTreeMap<String, Arc<RedisRates>>> = Mutex::new(BTreeMap::new());
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = servers.get(address) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(Self::new(address, ServerOptions::default())?);
        servers.insert(address.to_owned(), Arc::clone(&made));
        Ok(made)
    }

    /// The same on a clock that runs so many times faster than the server's, for tests.
    #[must_use]
    pub fn time_scale(mut self, scale: f64) -> Self {
        self.time_scale = scale;
        self
    }

    /// The same with calls that count as under way for that long after the server last heard of their process, which tells
    /// of them three times in it: what a process that dies had under way is given back after that. Without this ten
    /// seconds.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    fn send(&self, limit: &RateLimit, call: u64, what: What) {
        let asking = self.asking.get();
        let job = Job {
            limit: Limit::of(limit),
            call: format!("{:016x}-{call}", asking.process.0),
            what,
        };
        let mut jobs = asking.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = jobs.get_or_insert_with(|| self.start());
        if let Err(error) = sender.send(job) {
            // The thread is gone: another one begins with this.
            let sender = self.start();
            if let Err(error) = sender.send(error.0) {
                refuse(
                    error.0,
                    &Arc::from("no thread could be started that asks the Redis server"),
                );
            }
            *jobs = Some(sender);
        }
    }

    fn start(&self) -> Sender<Job> {
        let (sender, jobs) = channel();
        let worker = Worker {
            server: Arc::clone(&self.server),
            time_scale: self.time_scale,
            lease: self.lease,
            away: None,
            held: BTreeMap::new(),
            renew_at: Instant::now(),
        };
        // Without a thread the channel is closed, which whoever sends finds out.
        let _ = std::thread::Builder::new()
            .name("flujo-rates".to_owned())
            .spawn(move || worker.work(&jobs));
        sender
    }
}

impl SharedCount for RedisRates {
    fn name(&self) -> &str {
        self.server.address()
    }

    fn ask(&self, limit: &RateLimit, call: u64, tokens: u64, answer: Answer) {
        self.send(limit, call, What::Ask(tokens, answer));
    }

    fn tell(&self, limit: &RateLimit, call: u64, end: CallEnd) {
        self.send(limit, call, What::Tell(end));
    }
}

fn refuse(job: Job, why: &Arc<str>) {
    if let What::Ask(_, answer) = job.what {
        answer(Verdict::Alone(Arc::clone(why)));
    }
}

/// How many there may be, and in how many microseconds: for whole numbers in a minute, for others in the time that makes a
/// whole number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate is above 0 and at most 1e15
fn window(rate: Option<f64>) -> (u64, u64) {
    rate.map_or((0, 0), |rate| {
        let most = rate.floor().max(1.0);
        (most as u64, (most / rate * 60e6).round() as u64)
    })
}

impl Limit {
    fn of(limit: &RateLimit) -> Self {
        Self {
            name: Arc::clone(&limit.name),
            requests: window(limit.requests_per_minute),
            tokens: window(limit.tokens_per_minute),
            at_once: limit.max_concurrent.unwrap_or(0),
        }
    }
}

struct Worker {
    server: Arc<RedisServer>,
    time_scale: f64,
    lease: Duration,
    /// The calls that are under way where that is limited, by the limit's name.
    held: BTreeMap<Arc<str>, BTreeSet<String>>,
    /// When the server is to hear of them again.
    renew_at: Instant,
    /// Since when the server is away, and why.
    away: Option<(Instant, Arc<str>)>,
}

impl Worker {
    fn work(mut self, jobs: &Receiver<Job>) {
        loop {
            let job = if self.held.is_empty() {
                jobs.recv().map_err(RecvTimeoutError::from)
            } else {
                jobs.recv_timeout(self.renew_at.saturating_duration_since(Instant::now()))
            };
            match job {
                Ok(job) => self.take(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.held.is_empty() && self.renew_at <= Instant::now() {
                self.renew();
            }
        }
    }

    fn take(&mut self, job: Job) {
        if let What::Tell(_) = job.what {
            self.gives_back(&job);
        }
        if let Some(why) = self.is_away() {
            return refuse(job, &why);
        }
        let Job { limit, call, what } = job;
        match what {
            What::Ask(tokens, answer) => {
                let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
                let waits = self.run(ASK, &limit, &call, &[tokens, 0]);
                answer(match waits {
                    Ok(waits) => match u64::try_from(waits) {
                        Ok(waits) if waits > 0 => Verdict::Wait(Duration::from_micros(waits)),
                        _ => {
                            self.holds(&limit, call);
                            Verdict::Admitted
                        }
                    },
                    Err(why) => Verdict::Alone(why),
                });
            }
            What::Tell(end) => {
                let (tokens, hold) = match end {
                    CallEnd::Used { tokens, hold } => {
                        let hold = hold.map_or(0, |hold| i64::try_from(hold.as_micros()).unwrap_or(i64::MAX));
                        (i64::try_from(tokens).unwrap_or(i64::MAX), hold)
                    }
                    CallEnd::Unknown => (-1, 0),
                    CallEnd::NotMade => (-2, 0),
                };
                // What a server that is away isn't told is over in a minute.
                let _ = self.run(TELL, &limit, &call, &[tokens, hold]);
            }
        }
    }

    fn holds(&mut self, limit: &Limit, call: String) {
        if limit.at_once > 0 {
            if self.held.is_empty() {
                self.renew_at = Instant::now() + self.lease / 3;
            }
            self.held.entry(Arc::clone(&limit.name)).or_default().insert(call);
        }
    }

    fn gives_back(&mut self, job: &Job) {
        if let Some(calls) = self.held.get_mut(&job.limit.name) {
            calls.remove(&job.call);
            if calls.is_empty() {
                self.held.remove(&job.limit.name);
            }
        }
    }

    /// Says of all calls that they are still under way; a server that has lost them learns of them again.
    fn renew(&mut self) {
        self.renew_at = Instant::now() + self.lease / 3;
        for (name, calls) in &self.held {
            if self.is_away().is_some() {
                return;
            }
            let mut command = cmd("EVAL");
            command.arg(RENEW).arg(1).arg(key(name, "calls"));
            command.arg(self.time_scale).arg(self.lease_micros());
            command.arg(calls.iter().collect::<Vec<_>>());
            let told = self.server.ask(|connection| command.query::<i64>(connection));
            self.away = told
                .err()
                .map(|error| (Instant::now(), Arc::from(error.to_string())));
        }
    }

    fn run(&mut self, script: &str, limit: &Limit, call: &str, numbers: &[i64; 2]) -> Result<i64, Arc<str>> {
        let name = &limit.name;
        let mut command = cmd("EVAL");
        command.arg(script).arg(5);
        for part in ["requests", "tokens", "amounts", "calls", "hold"] {
            command.arg(key(name, part));
        }
        command.arg(call).arg(self.time_scale);
        command.arg(limit.requests.0).arg(limit.requests.1);
        command.arg(limit.tokens.0).arg(limit.tokens.1);
        command.arg(limit.at_once).arg(numbers[0]).arg(numbers[1]);
        command.arg(self.lease_micros());
        match self.server.ask(|connection| command.query::<i64>(connection)) {
            Ok(waits) => {
                self.away = None;
                Ok(waits)
            }
            Err(error) => {
                let why: Arc<str> = Arc::from(error.to_string());
                self.away = Some((Instant::now(), Arc::clone(&why)));
                Err(why)
            }
        }
    }

    fn lease_micros(&self) -> u64 {
        u64::try_from(self.lease.as_micros()).unwrap_or(u64::MAX)
    }

    /// Why the server isn't to be asked now.
    fn is_away(&self) -> Option<Arc<str>> {
        let (since, why) = self.away.as_ref()?;
        (since.elapsed() < PAUSE).then(|| Arc::clone(why))
    }
}

fn key(name: &str, part: &str) -> String {
    format!("flujo:rate:{{{name}}}:{part}")
}
