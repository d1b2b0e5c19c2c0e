//! Writes generated cases with what the simulation makes of them, one JSON object a line, for a host in another language
//! to run: `cargo run -p flujo-simulation --example cases -- 100 7 > cases.jsonl` (how many, which seed).

use std::io::{self, Write};

use flujo_simulation::{Simulation, generate};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count = arguments
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(100);
    let seed = arguments.next().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut out = io::BufWriter::new(io::stdout().lock());
    for case in generate::cases(seed, count) {
        let ran = Simulation::new(&case)
            .and_then(Simulation::run)
            .map_err(io::Error::other)?;
        let line = serde_json::json!({
            "case": case,
            "finish": ran.finish,
            "notices": ran.notices_text(),
            "ended": ran.ended,
        });
        writeln!(out, "{line}")?;
    }
    out.flush()
}
