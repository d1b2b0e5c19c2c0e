//! The table for people.

use std::fmt::Write;

use crate::Claim;

/// A line for each claim, in columns, the plain twins' references below.
pub fn table(claims: &[Claim]) -> String {
    let head = [
        "claim",
        "host",
        "plain",
        "optimized",
        "unit",
        "earned",
        "95 % interval",
        "seed",
        "target",
        "holds",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(claims.iter().map(line));
    let mut text = aligned(&rows);
    let beside: Vec<_> = claims
        .iter()
        .filter_map(|claim| claim.reference.as_ref().map(|reference| (claim, reference)))
        .collect();
    if !beside.is_empty() {
        let head = [
            "the plain twin of",
            "host",
            "plain",
            "reference",
            "unit",
            "times as much",
            "within 1.2 x",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(beside.into_iter().map(|(claim, reference)| {
            [
                claim.name.clone(),
                host(claim),
                figure(claim.plain),
                format!("{} {}", figure(reference.figure), reference.name),
                claim.unit.clone(),
                format!("{:.2}", reference.ratio),
                yes(reference.holds),
            ]
        }));
        text.push('\n');
        text.push_str(&aligned(&rows));
    }
    text
}

fn line(claim: &Claim) -> [String; 10] {
    let (low, high) = claim.interval;
    let (interval, seed, target) = match claim.seed {
        Some(seed) => (
            format!("{} to {}", percent(low), percent(high)),
            percent(seed),
            percent(claim.target),
        ),
        None => (
            format!("{} to {} {}", figure(low), figure(high), claim.unit),
            "as it happens".to_owned(),
            format!("<= {} {}", figure(claim.target), claim.unit),
        ),
    };
    [
        claim.name.clone(),
        host(claim),
        figure(claim.plain),
        figure(claim.optimized),
        claim.unit.clone(),
        percent(claim.difference),
        interval,
        seed,
        target,
        yes(claim.holds),
    ]
}

fn host(claim: &Claim) -> String {
    format!("{:?}", claim.host).to_lowercase()
}

fn yes(holds: bool) -> String {
    (if holds { "yes" } else { "NO" }).to_owned()
}

/// A share as people say it.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Three significant digits, thousands apart.
pub(crate) fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = match value.abs() {
        1_000.0.. => return grouped(value.round()),
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn grouped(whole: f64) -> String {
    let digits = format!("{:.0}", whole.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if whole < 0.0 { format!("-{text}") } else { text }
}

fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
