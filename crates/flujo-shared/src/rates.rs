//! Rate limits that several processes share, counted by a Redis server: one script for each question, on the server's own
//! clock. A thread of its own asks, so that none that runs steps waits for the network.
//!
//! When the server is away each process keeps the limit by itself, and asks again every second.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flujo_core::rate::{Answer, CallEnd, RateLimit, SharedCount, Verdict};
use redis::cmd;

use crate::process::PerProcess;
use crate::server::{RedisServer, ServerError, ServerOptions};

/// For so long a server that is away isn't asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets a call through, or says how many microseconds it has to wait: `RateLimit`'s rule, over all processes.
const ASK: &str = include_str!("rates/ask.lua");

/// Takes in what became of a call.
const TELL: &str = include_str!("rates/tell.lua");

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
            asking: Arc::default(),
        })
    }

    /// The same on a clock that runs so many times faster than the server's, for tests.
    #[must_use]
    pub fn time_scale(mut self, scale: f64) -> Self {
        self.time_scale = scale;
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
            away: None,
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
    /// Since when the server is away, and why.
    away: Option<(Instant, Arc<str>)>,
}

impl Worker {
    fn work(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            if let Some((since, why)) = &self.away
                && since.elapsed() < PAUSE
            {
                refuse(job, why);
                continue;
            }
            let Job { limit, call, what } = job;
            match what {
                What::Ask(tokens, answer) => {
                    let waits = self.run(
                        ASK,
                        &limit,
                        &call,
                        &[i64::try_from(tokens).unwrap_or(i64::MAX), 0],
                    );
                    answer(match waits {
                        Ok(waits) => match u64::try_from(waits) {
                            Ok(waits) if waits > 0 => Verdict::Wait(Duration::from_micros(waits)),
                            _ => Verdict::Admitted,
                        },
                        Err(why) => Verdict::Alone(why),
                    });
                }
                What::Tell(end) => {
                    let (tokens, hold) = match end {
                        CallEnd::Used { tokens, hold } => {
                            let hold =
                                hold.map_or(0, |hold| i64::try_from(hold.as_micros()).unwrap_or(i64::MAX));
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
    }

    fn run(&mut self, script: &str, limit: &Limit, call: &str, numbers: &[i64; 2]) -> Result<i64, Arc<str>> {
        let name = &limit.name;
        let mut command = cmd("EVAL");
        command.arg(script).arg(5);
        for part in ["requests", "tokens", "amounts", "calls", "hold"] {
            command.arg(format!("flujo:rate:{{{name}}}:{part}"));
        }
        command.arg(call).arg(self.time_scale);
        command.arg(limit.requests.0).arg(limit.requests.1);
        command.arg(limit.tokens.0).arg(limit.tokens.1);
        command.arg(limit.at_once).arg(numbers[0]).arg(numbers[1]);
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
}
