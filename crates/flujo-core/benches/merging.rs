//! What forking, writing and merging contexts costs, and that it doesn't grow with what there is.
//!
//! `cargo bench -p flujo-core` prints a table; with `-- --json`, one JSON object a line: `name`, `value`, `unit`,
//! `baseline`, `ratio`, `reach`, `holds`, `against`.

use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use flujo_core::context::{Context, MergeStrategy};
use flujo_core::value::Value;

const ROUNDS: u32 = 60;
const FIELDS: i64 = 10_000;
const FEW: i64 = 100;
/// The longest a fork with one write and its merge may take, in nanoseconds.
const LONGEST: f64 = 2_000.0;
/// The largest ratio to the same with a hundredth of the fields: a tree that much higher.
const RATIO: f64 = 2.0;

struct Row {
    name: &'static str,
    value: f64,
    baseline: f64,
    reach: &'static str,
    holds: bool,
}

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
    let json = std::env::args().any(|argument| argument == "--json");
    let (value, baseline) = (one_write(FIELDS), one_write(FEW));
    let alone = Row {
        name: "rust fork, one write, merge, 10,000 fields",
        value,
        baseline,
        reach: "<= 2000 ns and <= 2 x of 100 fields",
        holds: value <= LONGEST && value / baseline <= RATIO,
    };
    let (value, baseline) = (many_writes(FIELDS, 2), many_writes(FEW, 2));
    let two = Row {
        name: "rust merge of 2 branches, 10,000 fields, per branch",
        value,
        baseline,
        reach: "<= 2000 ns and <= 2 x of 100 fields",
        holds: value <= LONGEST && value / baseline <= RATIO,
    };
    let (value, baseline) = (many_writes(FIELDS, 100), many_writes(FEW, 100));
    let many = Row {
        name: "rust merge of 100 branches, 10,000 fields, per branch",
        value,
        baseline,
        reach: "<= 2 x of 100 fields",
        holds: value / baseline <= RATIO,
    };
    let mut out = std::io::stdout().lock();
    for row in [alone, two, many] {
        let Row {
            name,
            value,
            baseline,
            reach,
            holds,
        } = row;
        let ratio = value / baseline;
        if json {
            writeln!(
                out,
                "{{\"name\": \"{name}\", \"value\": {value:.1}, \"unit\": \"ns\", \"baseline\": {baseline:.1}, \
                 \"ratio\": {ratio:.2}, \"reach\": \"{reach}\", \"holds\": {holds}, \"against\": \"the same with 100 fields\"}}"
            )?;
        } else {
            let holds = if holds { "holds" } else { "DOES NOT HOLD" };
            writeln!(
                out,
                "{name:56} {value:8.1} ns  baseline {baseline:6.1} ns  {ratio:6.2} x  {reach}: {holds}"
            )?;
        }
    }
    Ok(())
}
