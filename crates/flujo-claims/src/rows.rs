//! The rows, in the order of the seed.

mod cache;
mod meters;
mod pool;
mod runs;
mod telemetry;

use flujo_core::config::Twin;

use crate::{Apart, Claim, Comparison, Effort, Host, NotMeasured, Promise};

/// Something that is claimed, and how it is measured.
#[derive(Clone, Copy)]
pub struct Row {
    /// What is claimed.
    pub name: &'static str,
    /// The optimised part, or `all`.
    pub part: &'static str,
    /// Of the figures.
    pub unit: &'static str,
    /// What is promised.
    pub promise: Promise,
    measure: fn(Effort, Apart<'_>) -> Result<Comparison, String>,
}

impl Row {
    /// Measures and judges.
    ///
    /// # Errors
    /// [`NotMeasured`] with the reason.
    pub fn claim(&self, effort: Effort, apart: Apart<'_>) -> Result<Claim, NotMeasured> {
        let measured = (self.measure)(effort, apart).map_err(|why| NotMeasured {
            name: self.name.to_owned(),
            why,
        })?;
        Claim::judge(
            self.name,
            self.part,
            Host::Rust,
            self.unit,
            self.promise,
            &measured,
        )
    }
}

/// Every row that is measured in Rust.
pub const ROWS: &[Row] = &[
    Row {
        name: "object pooling: the engine allocates, run of 20 steps",
        part: "pool",
        unit: "bytes/run",
        promise: Promise::Less {
            seed: 0.20,
            target: 0.60,
        },
        measure: pool::by_the_engine,
    },
    Row {
        name: "object pooling: allocated in all, run of 20 steps",
        part: "pool",
        unit: "bytes/run",
        promise: Promise::Less {
            seed: 0.20,
            target: 0.20,
        },
        measure: pool::in_all,
    },
    Row {
        name: "context: an isolated branch of 100 KB",
        part: "context",
        unit: "ns/branch",
        promise: Promise::Less {
            seed: 0.40,
            target: 0.95,
        },
        measure: runs::branch,
    },
    Row {
        name: "analysis: a run of 10 steps with processors and validators",
        part: "analysis",
        unit: "ns/run",
        promise: Promise::Less {
            seed: 0.25,
            target: 0.25,
        },
        measure: runs::analysis,
    },
    Row {
        name: "cache: gets, two threads",
        part: "cache",
        unit: "gets/s",
        promise: Promise::More {
            seed: 0.30,
            target: 1.0,
        },
        measure: cache::gets,
    },
    Row {
        name: "cache: misses of Zipf 1.0",
        part: "cache",
        unit: "misses",
        promise: Promise::Less {
            seed: 0.0,
            target: 0.0,
        },
        measure: cache::misses_of_zipf,
    },
    Row {
        name: "cache: misses of Zipf 1.0 and 20 % scans",
        part: "cache",
        unit: "misses",
        promise: Promise::Less {
            seed: 0.12,
            target: 0.12,
        },
        measure: cache::misses_of_scans,
    },
    Row {
        name: "cache: misses of a loop of 1.2 x the capacity",
        part: "cache",
        unit: "misses",
        promise: Promise::Less {
            seed: 0.30,
            target: 0.60,
        },
        measure: cache::misses_of_loops,
    },
    Row {
        name: "telemetry: added to a step, with an exporter",
        part: "telemetry",
        unit: "ns/step",
        promise: Promise::Less {
            seed: 0.50,
            target: 0.80,
        },
        measure: telemetry::added,
    },
    Row {
        name: "monitoring: a record",
        part: "monitor",
        unit: "ns",
        promise: Promise::AtMost(25.0),
        measure: meters::records,
    },
    Row {
        name: "usage: an add, four threads, with a limit",
        part: "usage",
        unit: "ns",
        promise: Promise::Less {
            seed: 0.40,
            target: 0.80,
        },
        measure: meters::adds,
    },
    Row {
        name: "step execution: a step of 100",
        part: "all",
        unit: "ns/step",
        promise: Promise::Less {
            seed: 0.20,
            target: 0.60,
        },
        measure: runs::steps,
    },
    Row {
        name: "memory: a run of 10,000 in flight",
        part: "all",
        unit: "bytes/run",
        promise: Promise::Less {
            seed: 0.30,
            target: 0.60,
        },
        measure: memory,
    },
    Row {
        name: "concurrency: 1,000 runs in flight",
        part: "all",
        unit: "runs/s",
        promise: Promise::More {
            seed: 0.50,
            target: 1.0,
        },
        measure: runs::concurrency,
    },
    Row {
        name: "cache hits: a hit of a cached step, 10 KB",
        part: "all",
        unit: "ns/hit",
        promise: Promise::Less {
            seed: 0.25,
            target: 0.50,
        },
        measure: runs::hits,
    },
];

fn memory(effort: Effort, apart: Apart<'_>) -> Result<Comparison, String> {
    let samples = effort.pairs.max(1);
    let repeated = f64::from(effort.repeated.max(1));
    let optimized = apart(Twin::Optimized, samples)?;
    Ok(Comparison {
        plain: apart(Twin::Plain, samples)?,
        optimized: optimized.iter().map(|bytes| bytes * repeated).collect(),
        reference: None,
    })
}
