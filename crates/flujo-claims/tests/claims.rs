//! What a table of claims says, and that a claim can fail.
#![allow(clippy::unwrap_used)] // what only tests call may fail like a test

use std::alloc::System;

use flujo_allocations::Counting;
use flujo_claims::{Claim, Claims, Comparison, Effort, Host, Promise, ROWS, picture, table};

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

const LESS: Promise = Promise::Less {
    seed: 0.40,
    target: 0.80,
};

fn pairs(plain: &[f64], optimized: &[f64]) -> Comparison {
    Comparison {
        plain: plain.to_vec(),
        optimized: optimized.to_vec(),
        reference: None,
    }
}

fn judged(promise: Promise, comparison: &Comparison) -> Claim {
    Claim::judge("a <row> & more", "cache", Host::Rust, "ns", promise, comparison).unwrap()
}

#[test]
fn a_claim_holds_when_its_whole_interval_lies_beyond_what_the_seed_says() {
    let plain = [100.0; 10];
    let mut optimized = [50.0; 10];
    assert!(judged(LESS, &pairs(&plain, &optimized)).holds);
    // One bad sample of ten lies outside the interval, two are too many.
    optimized[0] = 90.0;
    assert!(judged(LESS, &pairs(&plain, &optimized)).holds);
    optimized[1] = 90.0;
    let claim = judged(LESS, &pairs(&plain, &optimized));
    assert!(!claim.holds, "{claim:?}");
    assert!((claim.difference - 0.5).abs() < 1e-9 && claim.interval.0 < 0.40);
}

#[test]
fn what_is_exactly_as_the_seed_says_does_not_hold() {
    assert!(!judged(LESS, &pairs(&[100.0; 30], &[60.0; 30])).holds);
}

#[test]
fn rates_are_shown_per_second_and_compared_as_rates() {
    let promise = Promise::More {
        seed: 0.5,
        target: 1.0,
    };
    let claim = judged(
        promise,
        &pairs(&[0.02; 6], &[0.01; 6]).beside("other", vec![0.018; 6]),
    );
    assert!((claim.plain - 50.0).abs() < 1e-9 && (claim.optimized - 100.0).abs() < 1e-9);
    assert!((claim.difference - 1.0).abs() < 1e-9 && claim.holds);
    let reference = claim.reference.unwrap();
    assert!(
        (reference.ratio - 0.02 / 0.018).abs() < 1e-9 && reference.holds,
        "{reference:?}"
    );
}

#[test]
fn a_plain_twin_that_costs_more_than_a_fifth_more_than_its_reference_is_told() {
    let claim = judged(
        LESS,
        &pairs(&[130.0; 6], &[10.0; 6]).beside("other", vec![100.0; 6]),
    );
    assert!(!claim.reference.clone().unwrap().holds);
    assert!(table(&[claim]).contains("1.30"));
}

#[test]
fn an_absolute_promise_holds_up_to_its_figure() {
    assert!(judged(Promise::AtMost(25.0), &pairs(&[80.0; 6], &[25.0; 6])).holds);
    assert!(!judged(Promise::AtMost(25.0), &pairs(&[80.0; 6], &[25.1; 6])).holds);
}

#[test]
fn what_gives_no_figures_is_not_judged() {
    for wrong in [
        pairs(&[], &[]),
        pairs(&[1.0; 6], &[f64::NAN; 6]),
        pairs(&[0.0; 6], &[1.0; 6]),
        pairs(&[1.0; 6], &[1.0; 5]),
        pairs(&[-1.0; 6], &[1.0; 6]),
    ] {
        let refused = Claim::judge("row", "cache", Host::Rust, "ns", LESS, &wrong).unwrap_err();
        assert!(
            refused.to_string().starts_with("`row` could not be measured: "),
            "{refused}"
        );
    }
}

#[test]
fn the_json_has_the_documented_names() {
    let claims = Claims {
        claims: vec![judged(LESS, &pairs(&[100.0; 6], &[10.0; 6]))],
    };
    let told: serde_json::Value = serde_json::from_str(&claims.json().unwrap()).unwrap();
    let row = told["claims"][0].as_object().unwrap();
    for name in [
        "name",
        "seed",
        "target",
        "plain",
        "optimized",
        "unit",
        "difference",
        "interval",
        "holds",
    ] {
        assert!(row.contains_key(name), "{name} is missing in {row:?}");
    }
    assert_eq!(row["interval"].as_array().unwrap().len(), 2);
}

#[test]
fn the_picture_is_well_formed_and_draws_every_claim() {
    let claims = [
        judged(LESS, &pairs(&[100.0; 6], &[10.0; 6])),
        judged(LESS, &pairs(&[100.0; 6], &[200.0; 6])),
        judged(Promise::AtMost(25.0), &pairs(&[80.0; 6], &[20.0; 6])),
    ];
    let drawn = picture(&claims);
    let parsed = roxmltree::Document::parse(&drawn).unwrap();
    let texts: Vec<_> = parsed
        .descendants()
        .filter(roxmltree::Node::is_text)
        .filter_map(|node| node.text())
        .collect();
    assert_eq!(
        texts
            .iter()
            .filter(|text| text.contains("a <row> & more"))
            .count(),
        3
    );
    assert!(texts.iter().any(|text| text.contains("does not hold")));
    for bar in parsed.descendants().filter(|node| node.has_tag_name("rect")) {
        let width = bar.attribute("width").unwrap();
        assert!(width == "100%" || width.parse::<f64>().unwrap() >= 0.0);
    }
}

/// The optimised twin's work done many times where once would do is the artificial slow-down.
#[test]
fn every_row_fails_when_its_optimised_twin_is_slowed_down() {
    for row in ROWS.iter().filter(|row| !row.name.starts_with("memory")) {
        // Copying takes some sixty times as long as sharing.
        let repeated = if row.part == "context" { 80 } else { 10 };
        let effort = Effort { repeated, pairs: 1 };
        let claim = row.claim(effort, &|_, _| Err("not asked".to_owned())).unwrap();
        assert!(!claim.holds, "{claim:?}");
    }
}

#[test]
fn memory_that_cannot_be_measured_apart_is_told() {
    let row = ROWS.iter().find(|row| row.name.starts_with("memory")).unwrap();
    let refused = row
        .claim(Effort::QUICK, &|_, _| Err("no process".to_owned()))
        .unwrap_err();
    assert!(refused.to_string().ends_with("no process"), "{refused}");
}
