//! Processes that share 60 requests a minute by a Redis server. Each call is a connection to a service, which counts them:
//!
//! ```text
//! cargo run -p flujo-shared --example shared_rates -- redis://localhost:6379/0 127.0.0.1:8000 75
//! ```
//!
//! A fourth argument makes a minute so many times shorter.

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
    let [redis, service, calls, scale @ ..] = arguments.as_slice() else {
        return Err("usage: shared_rates REDIS SERVICE CALLS [SCALE]".into());
    };
    let scale: u32 = scale.first().map_or(Ok(1), |scale| scale.parse())?;
    let shared = RedisRates::new(redis, ServerOptions::default())?.time_scale(f64::from(scale));
    let limit = RateLimit::new("service")
        .requests_per_minute(60.0)
        .shared_by(Arc::new(shared));
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
