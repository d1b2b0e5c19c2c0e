//! What the optimised usage meter earns against the plain one, and what the plain one costs beside a bare lock.
//!
//! `cargo bench -p flujo-core --bench metering`

mod rows;

use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use flujo_core::usage::{OptimizedMeter, PlainMeter, Usage, UsageLimits, UsageMeter};
use rows::Row;

const THREADS: usize = 4;
const ADDS: u64 = 100_000;
const ROUNDS: usize = 30;

const ONE: Usage = Usage {
    tokens: 7,
    requests: 1,
    ..Usage::ZERO
};

/// A limit that is near enough to be watched, and never reached.
fn limits() -> UsageLimits {
    UsageLimits {
        tokens: Some(7 * ADDS * 1000),
        requests: Some(ADDS * 1000),
        ..UsageLimits::default()
    }
}

/// Nanoseconds for one of what each of `threads` does `ADDS` times.
fn each(threads: usize, work: impl Fn(&Arc<str>) + Sync) -> f64 {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let step = Arc::from("s");
                (0..ADDS).for_each(|_| work(&step));
            });
        }
    });
    #[allow(clippy::cast_precision_loss)]
    let all = (threads as u64 * ADDS) as f64;
    begin.elapsed().as_secs_f64() * 1e9 / all
}

/// The medians of several rounds of both in turn.
fn medians(mut one: impl FnMut() -> f64, mut other: impl FnMut() -> f64) -> (f64, f64) {
    let (mut ones, mut others): (Vec<f64>, Vec<f64>) = (0..ROUNDS).map(|_| (one(), other())).unzip();
    ones.sort_by(f64::total_cmp);
    others.sort_by(f64::total_cmp);
    (ones[ROUNDS / 2], others[ROUNDS / 2])
}

fn adding(meter: &dyn UsageMeter, threads: usize) -> f64 {
    each(threads, |step| {
        let _ = black_box(meter.add(step, black_box(ONE)));
    })
}

fn calling(meter: &dyn UsageMeter, threads: usize) -> f64 {
    each(threads, |step| {
        let _ = black_box(meter.reserve(step, black_box(ONE)));
        let _ = black_box(meter.settle(step, ONE, black_box(ONE)));
    })
}

/// What has to be done at least: two sums under one lock, held against their limits.
fn bare(threads: usize) -> f64 {
    let sums = Mutex::new([0u64; 2]);
    let most = black_box([7 * ADDS * 1000, ADDS * 1000]);
    each(threads, |_| {
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        let one = black_box(ONE);
        *sums = [sums[0] + one.tokens, sums[1] + one.requests];
        black_box(sums[0] <= most[0] && sums[1] <= most[1]);
    })
}

fn main() -> std::io::Result<()> {
    let row = |name: &str, (value, baseline): (f64, f64), reach, most: f64, against| Row {
        name: name.into(),
        value,
        unit: "ns",
        baseline,
        reach,
        holds: value / baseline <= most,
        against,
    };
    let twins = |work: fn(&dyn UsageMeter, usize) -> f64, threads| {
        medians(
            || work(&OptimizedMeter::new(limits()), threads),
            || work(&PlainMeter::new(limits()), threads),
        )
    };
    let plain = |threads| medians(|| adding(&PlainMeter::new(limits()), threads), || bare(threads));
    let twin = "the plain twin";
    let lock = "two sums under a lock";
    rows::print([
        row(
            "rust usage, an add, 4 threads",
            twins(adding, THREADS),
            "<= 0.2 x",
            0.2,
            twin,
        ),
        row(
            "rust usage, an add, 1 thread",
            twins(adding, 1),
            "reported",
            f64::INFINITY,
            twin,
        ),
        row(
            "rust usage, a reservation and its settlement, 4 threads",
            twins(calling, THREADS),
            "<= 0.2 x",
            0.2,
            twin,
        ),
        row(
            "rust usage, an add, plain, 4 threads",
            plain(THREADS),
            "<= 1.2 x",
            1.2,
            lock,
        ),
        row(
            "rust usage, an add, plain, 1 thread",
            plain(1),
            "reported",
            f64::INFINITY,
            lock,
        ),
    ])
}
