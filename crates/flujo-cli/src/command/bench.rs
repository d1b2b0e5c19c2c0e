//! `flujo bench claims`: what each optimisation earns on this machine.

use std::ffi::OsString;
use std::process::Command;

use flujo_blueprint::Rule;
use flujo_claims::{Claims, Effort, NotMeasured, ROWS, Row, picture, table};
use flujo_core::config::Twin;

use crate::arguments::{Bench, BenchArguments, ClaimsArguments, TwinArgument};
use crate::outcome::{Exit, Failure};
use crate::terminal;

pub(crate) fn bench(arguments: &BenchArguments, itself: &[OsString]) -> Result<Exit, Failure> {
    match &arguments.bench {
        Bench::Claims(claims) => measure(claims, itself),
        Bench::Memory { twin, samples } => {
            let twin = match twin {
                TwinArgument::Plain => Twin::Plain,
                TwinArgument::Optimized => Twin::Optimized,
            };
            let figures = flujo_claims::memory_of_runs(twin, *samples).map_err(|why| failed(&why))?;
            for bytes in figures {
                terminal::data_line(&bytes.to_string());
            }
            Ok(Exit::Done)
        }
    }
}

fn measure(arguments: &ClaimsArguments, itself: &[OsString]) -> Result<Exit, Failure> {
    let only = arguments.only.as_deref().unwrap_or_default();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(only)).collect();
    if rows.is_empty() {
        let names: Vec<_> = ROWS.iter().map(|row| format!("`{}`", row.name)).collect();
        return Err(Failure::usage(
            Rule::BadInput,
            format!("no claim's name contains `{only}`"),
            format!("there are {}", names.join(", ")),
        ));
    }
    if cfg!(debug_assertions) {
        terminal::note("this program was built without optimisation: what it measures says nothing");
    }
    let effort = if arguments.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let mut claims = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        terminal::note(&format!("{} of {}: {}", place + 1, rows.len(), row.name));
        let claim = row.claim(effort, &|twin, samples| apart(itself, twin, samples));
        claims.push(claim.map_err(|NotMeasured { name, why }| failed(&format!("{name}: {why}")))?);
    }
    let claims = Claims { claims };
    if let Some(path) = &arguments.svg {
        super::write_whole(path, picture(&claims.claims).as_bytes())?;
    }
    if arguments.json {
        let text = claims.json().map_err(|error| failed(&error.to_string()))?;
        terminal::data_line(&text);
    } else {
        terminal::data_line(&table(&claims.claims));
    }
    Ok(if claims.hold() { Exit::Done } else { Exit::Failed })
}

fn failed(why: &str) -> Failure {
    Failure::Other {
        rule: Rule::NotMeasured,
        exit: Exit::Failed,
        message: format!("a claim could not be measured: {why}"),
        place: None,
        hint: Some("measure the others with --only, and report this".to_owned()),
        details: None,
    }
}

/// The memory of runs, measured by another process of this program.
fn apart(itself: &[OsString], twin: Twin, samples: usize) -> Result<Vec<f64>, String> {
    let (file, before) = itself.split_first().ok_or("this program's own file is unknown")?;
    let done = Command::new(file)
        .args(before)
        .args(["bench", "memory", twin.name(), &samples.to_string()])
        .output()
        .map_err(|error| format!("`{}` does not start: {error}", file.display()))?;
    let said = String::from_utf8_lossy(&done.stdout);
    let figures: Result<Vec<f64>, _> = said.lines().map(str::parse).collect();
    figures
        .ok()
        .filter(|figures| figures.len() == samples)
        .ok_or_else(|| {
            let errors = String::from_utf8_lossy(&done.stderr);
            let (name, said, errors) = (twin.name(), said.trim(), errors.trim());
            format!("`bench memory {name} {samples}` said `{said}`: {errors}")
        })
}
