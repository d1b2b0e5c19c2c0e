//! Rate limits that processes share by a real Redis server.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::support::redis_server::RedisProcess;
use flujo_core::rate::{Admission, Bucket, CallEnd, RateLimit, SharedCount, Turn, Verdict};
use flujo_shared::rates::RedisRates;
use flujo_shared::server::ServerOptions;

/// The machine may be busy with other tests.
fn patient() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.connect_timeout = Duration::from_mins(1);
    options.operation_timeout = Duration::from_mins(1);
    options
}

fn asked(shared: &RedisRates, limit: &RateLimit, call: u64, tokens: u64) -> Verdict {
    let (sender, answer): (_, Receiver<Verdict>) = channel();
    shared.ask(
        limit,
        call,
        tokens,
        Box::new(move |verdict| sender.send(verdict).unwrap()),
    );
    answer.recv().unwrap()
}

/// The example beside this test, which `cargo test` builds.
fn example() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples").join("shared_rates")
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_processes_share_sixty_requests_a_minute() {
    const SCALE: u32 = 60;
    let server = RedisProcess::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = listener.local_addr().unwrap().to_string();
    let begin = Instant::now();
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&arrivals);
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            noted.lock().unwrap().push(begin.elapsed() * SCALE);
            let _ = connection
                .read_exact(&mut [0])
                .and_then(|()| connection.write_all(b"."));
        }
    });
    let scale = SCALE.to_string();
    let start = || {
        let arguments = [&*server.address(), &service, "75", &scale].map(str::to_owned);
        let process = Command::new(example()).args(arguments).spawn();
        Running(process.expect("`cargo test -p flujo-shared` builds the example"))
    };
    let mut processes = [start(), start()];
    for process in &mut processes {
        assert!(process.0.wait().unwrap().success());
    }
    let arrivals = arrivals.lock().unwrap().clone();
    assert_eq!(arrivals.len(), 150);
    for (place, first) in arrivals.iter().enumerate() {
        let within = arrivals[place..]
            .iter()
            .take_while(|at| **at < *first + Duration::from_mins(1));
        assert!(
            within.count() <= 60,
            "more than sixty in the minute after {first:?}"
        );
    }
}

#[test]
fn tokens_count_as_expected_and_then_as_used_and_what_was_not_made_not_at_all() {
    let server = RedisProcess::start();
    let shared = RedisRates::new(&server.address(), patient()).unwrap();
    let limit = RateLimit::new("model").tokens_per_minute(100.0);
    assert_eq!(asked(&shared, &limit, 1, 80), Verdict::Admitted);
    let other = RedisRates::new(&server.address(), patient()).unwrap();
    assert!(matches!(asked(&other, &limit, 1, 30), Verdict::Wait(wait) if wait > Duration::from_secs(50)));
    shared.tell(
        &limit,
        1,
        CallEnd::Used {
            tokens: 40,
            hold: None,
        },
    );
    // The same way: what was told before is known when the next is asked.
    assert_eq!(asked(&shared, &limit, 2, 60), Verdict::Admitted);
    assert!(matches!(asked(&other, &limit, 2, 1), Verdict::Wait(_)));
    shared.tell(&limit, 2, CallEnd::NotMade);
    assert_eq!(asked(&shared, &limit, 3, 60), Verdict::Admitted);
}

#[test]
fn calls_at_once_and_a_hold_are_shared_too() {
    let server = RedisProcess::start();
    let [one, two] = [(); 2].map(|()| RedisRates::new(&server.address(), patient()).unwrap());
    let limit = RateLimit::new("model").max_concurrent(1);
    assert_eq!(asked(&one, &limit, 1, 0), Verdict::Admitted);
    assert!(matches!(asked(&two, &limit, 1, 0), Verdict::Wait(_)));
    let hold = Some(Duration::from_mins(1));
    one.tell(&limit, 1, CallEnd::Used { tokens: 0, hold });
    assert!(matches!(asked(&one, &limit, 2, 0), Verdict::Wait(wait) if wait > Duration::from_secs(50)));
    assert!(matches!(asked(&two, &limit, 2, 0), Verdict::Wait(wait) if wait > Duration::from_secs(50)));
}

/// The calls that the server has as under way, each with the end of its lease.
fn under_way(connection: &mut redis::Connection) -> Vec<(String, f64)> {
    let mut command = redis::cmd("ZRANGE");
    command.arg("flujo:rate:{service}:calls").arg(0).arg(-1);
    command.arg("WITHSCORES").query(connection).unwrap()
}

#[test]
fn the_call_of_a_process_that_lives_is_held_and_one_that_was_killed_gives_it_back() {
    let server = RedisProcess::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = listener.local_addr().unwrap().to_string();
    let arguments = [&*server.address(), &service, "1", "1", "1", "3"].map(str::to_owned);
    let process = Command::new(example()).args(arguments).spawn();
    let mut process = Running(process.expect("`cargo test -p flujo-shared` builds the example"));
    // It is let through, and gets no answer.
    let _held = listener.accept().unwrap();
    let mut connection = redis::Client::open(server.address())
        .unwrap()
        .get_connection()
        .unwrap();
    let first = under_way(&mut connection);
    assert_eq!(first.len(), 1);
    for end in [first[0].1, first[0].1 + 1.0] {
        while under_way(&mut connection)[0].1 <= end {
            std::thread::yield_now();
        }
    }
    let lease = Duration::from_secs(3);
    let shared = RedisRates::new(&server.address(), patient())
        .unwrap()
        .lease(lease);
    let limit = RateLimit::new("service").max_concurrent(1);
    assert!(matches!(asked(&shared, &limit, 1, 0), Verdict::Wait(_)));
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    while let Verdict::Wait(wait) = asked(&shared, &limit, 1, 0) {
        std::thread::park_timeout(wait);
    }
    let left = under_way(&mut connection);
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].0, first[0].0);
}

#[test]
fn while_the_server_is_away_the_process_keeps_the_limit_by_itself_and_says_so() {
    let address = {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("redis://user:secret@{}/0", closed.local_addr().unwrap())
    };
    let shared = RedisRates::new(&address, ServerOptions::default()).unwrap();
    let limit = RateLimit::new("model")
        .requests_per_minute(1.0)
        .shared_by(Arc::new(shared));
    let limits: Arc<[_]> = Arc::from([Arc::new(Bucket::new(limit.checked().unwrap()))]);
    let mut first = Admission::new(Arc::clone(&limits), 0);
    while first.poll(0, Waker::noop()) != Turn::Admitted {
        std::thread::yield_now();
    }
    let Some(Err(why)) = first.shared() else {
        panic!("it says that it is alone: {:?}", first.shared());
    };
    assert!(
        why.contains("`model`") && why.contains("can't be reached") && !why.contains("secret"),
        "{why}"
    );
    first.settle(0, None, 1);
    let mut second = Admission::new(limits, 0);
    assert_eq!(second.poll(2, Waker::noop()), Turn::Wait(Some(60_000_000_001)));
}

#[test]
fn an_address_that_is_none_is_refused() {
    let refused = RedisRates::new("not an address", ServerOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("redis://host:6379/0"), "{refused}");
}
