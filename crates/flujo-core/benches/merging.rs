//! What forking, writing and merging contexts costs, and that it doesn't grow with what there is.
//!
//! `cargo bench -p flujo-core --bench merging`

mod rows;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use flujo_core::context::{Context, MergeStrategy};
use flujo_core::value::Value;
use rows::Row;

const ROUNDS: u32 = 60;
const FIELDS: i64 = 10_000;
const FEW: i64 = 100;
/// The longest a fork with one write and its merge may take, in nanoseconds.
const LONGEST: f64 = 2_000.0;
/// The largest ratio to the same with a hundredth of the fields: a tree that much higher.
const RATIO: f64 = 2.0;

fn context(fields: i64) -> Context {
    (0..fields)
        .map(|number| (Arc::from(format!("field {number}")), Value::Int(number)))
        .collect()
}

/// The best time of a few rounds, in nanoseconds. A round does the work often enough to be measured.
fn best(mut work: impl FnMut()) -> f64 {
    let mut round = |times: u32| {
        let begin = Instant::now();
        for _ in 0..times {
            work();
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(times)
    };
    let times = (2e6 / round(5)).clamp(1.0, 1e5);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped above
    let times = times as u32;
    (0..ROUNDS).map(|_| round(times)).fold(f64::INFINITY, f64::min)
}

fn merged(base: &Context, branches: &[(Arc<str>, &Context)]) -> Context {
    match base.merge(branches, MergeStrategy::ContextUpdate) {
        Ok(merged) => merged,
        Err(conflict) => unreachable!("the branches write different fields: {conflict}"),
    }
}

/// A fork, one write, and the merge with a branch that wrote nothing.
fn one_write(fields: i64) -> f64 {
    let base = context(fields);
    let names: [Arc<str>; 3] = [Arc::from("a"), Arc::from("b"), Arc::from("field 77")];
    best(|| {
        let mut fork = base.clone();
        fork.set(Arc::clone(&names[2]), Value::Int(-1));
        let branches = [(Arc::clone(&names[0]), &fork), (Arc::clone(&names[1]), &base)];
        black_box(merged(&base, &branches));
    })
}

/// Forks that each write another field, and their merge: for each of `branches`.
fn many_writes(fields: i64, branches: u32) -> f64 {
    let base = context(fields);
    let step = fields / i64::from(branches);
    let names: Vec<Arc<str>> = (0..i64::from(branches))
        .map(|branch| Arc::from(format!("field {}", branch * step)))
        .collect();
    let whole = best(|| {
        let forks: Vec<Context> = names
            .iter()
            .map(|name| {
                let mut fork = base.clone();
                fork.set(Arc::clone(name), Value::Int(-1));
                fork
            })
            .collect();
        let branches: Vec<_> = names.iter().cloned().zip(&forks).collect();
        black_box(merged(&base, &branches));
    });
    whole / f64::from(branches)
}

fn main() -> std::io::Result<()> {
    let row = |name: &str, (value, baseline): (f64, f64), reach: &'static str, longest: f64| Row {
        name: format!("rust {name}, 10,000 fields"),
        value,
        unit: "ns",
        baseline,
        reach,
        holds: value <= longest && value / baseline <= RATIO,
        against: "the same with 100 fields",
    };
    let both = "<= 2000 ns and <= 2 x of 100 fields";
    let many = |branches| (many_writes(FIELDS, branches), many_writes(FEW, branches));
    rows::print([
        row(
            "fork, one write, merge",
            (one_write(FIELDS), one_write(FEW)),
            both,
            LONGEST,
        ),
        row("merge of 2 branches, per branch", many(2), both, LONGEST),
        row(
            "merge of 100 branches, per branch",
            many(100),
            "<= 2 x of 100 fields",
            f64::INFINITY,
        ),
    ])
}
