//! Processes that share 60 requests a minute by a Redis server. Each call is a connection to a service, which counts them:
//!
//! ```text
//! cargo run -p flujo-shared --example shared_rates -- redis://localhost:6379/0 127.0.0.1:8000 75
//! ```
//!
//! A fourth argument makes a minute so many times shorter. With a fifth and a sixth one there are so many calls at once at
//! most, and those of a process that died are given back after so many seconds.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use flujo_core::rate::{Admission, RateLimit, Registry, Turn};
use flujo_shared::rates::RedisRates;
use flujo_shared::server::ServerOptions;

/// Wakes the thread that waits for its turn.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [redis, service, calls, more @ ..] = arguments.as_slice() else {
        return Err("usage: shared_rates REDIS SERVICE CALLS [SCALE [AT_ONCE LEASE]]".into());
    };
    let scale: u32 = more.first().map_or(Ok(1), |scale| scale.parse())?;
    let mut shared = RedisRates::new(redis, ServerOptions::default())?.time_scale(f64::from(scale));
    let mut limit = RateLimit::new("service").requests_per_minute(60.0);
    if let [_, at_once, lease] = more {
        shared = shared.lease(Duration::from_secs(lease.parse()?));
        limit = limit.max_concurrent(at_once.parse()?);
    }
    let limit = limit.shared_by(Arc::new(shared));
    let begin = Instant::now();
    let now = || u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX) * u64::from(scale);
    let registry = Registry::new();
    let limits = registry.buckets([&limit], now())?;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    for _ in 0..calls.parse::<u32>()? {
        let mut admission = Admission::new(Arc::clone(&limits), 0);
        while let Turn::Wait(until) = admission.poll(now(), &waker) {
            match until {
                Some(until) => {
                    thread::park_timeout(Duration::from_nanos(
                        until.saturating_sub(now()) / u64::from(scale),
                    ));
                }
                None => thread::park(),
            }
        }
        let mut connection = TcpStream::connect(service)?;
        connection.write_all(b".")?;
        connection.read_exact(&mut [0])?;
        admission.settle(0, None, now());
    }
    Ok(())
}
