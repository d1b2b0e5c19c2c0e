//! Writes cases for hosts in other languages, one JSON object a line, each with what the simulation makes of it.
//!
//! `differential_cases SEED COUNT [loops,judges,states,routers,guards,bodies,humans]` draws that many cases, of these
//! constructs beside those that every host has. `differential_cases expect` reads cases, one a line, and
//! answers each with its expectation, or `null` when its result depends on the order of simultaneous events;
//! `differential_cases smaller` answers each with the list of cases that lack one thing it has.

use std::error::Error;
use std::io::{self, BufRead, Write};

use flujo_simulation::differential::Constructs;
use flujo_simulation::{Case, differential};

const USAGE: &str = "usage: differential_cases SEED COUNT [CONSTRUCT,…] | differential_cases expect | differential_cases smaller";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut out = io::BufWriter::new(io::stdout().lock());
    match arguments.as_slice() {
        ["expect"] => {
            for line in io::stdin().lock().lines() {
                let case: Case = serde_json::from_str(&line?)?;
                serde_json::to_writer(&mut out, &differential::expected(case)?)?;
                out.write_all(b"\n")?;
            }
        }
        ["smaller"] => {
            for line in io::stdin().lock().lines() {
                let case: Case = serde_json::from_str(&line?)?;
                serde_json::to_writer(&mut out, &differential::smaller(&case))?;
                out.write_all(b"\n")?;
            }
        }
        [seed, count, constructs @ ..] if constructs.len() < 2 => {
            let constructs: Constructs = constructs.first().unwrap_or(&"").parse()?;
            let seed: u64 = seed.parse().map_err(|error| format!("SEED: {error}. {USAGE}"))?;
            let count: u64 = count
                .parse()
                .map_err(|error| format!("COUNT: {error}. {USAGE}"))?;
            for index in 0..count {
                if let Some(expectation) = differential::expectation(seed, index, constructs)? {
                    serde_json::to_writer(&mut out, &expectation)?;
                    out.write_all(b"\n")?;
                }
            }
        }
        _ => return Err(USAGE.into()),
    }
    Ok(out.flush()?)
}
