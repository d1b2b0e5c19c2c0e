//! What both twins must do, and what only the one that keeps does.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Analyses;
use crate::config::Twin;
use crate::stats::AnalysisStats;

fn analyses() -> Analyses<Arc<u64>> {
    Analyses::new(Arc::ptr_eq)
}

#[test]
fn both_twins_give_the_analysis_of_the_version_that_is_asked_for() {
    for twin in [Twin::Plain, Twin::Optimized] {
        let analyses = analyses();
        for version in [1, 1, 2, 2, 1] {
            let made = analyses.of(twin, version, || Ok::<_, Infallible>(Arc::new(version)));
            assert_eq!(made, Ok(Arc::new(version)));
        }
    }
}

#[test]
fn a_definition_that_cannot_be_analysed_says_so_each_time_and_leaves_what_is_known() {
    for twin in [Twin::Plain, Twin::Optimized] {
        let analyses = analyses();
        for _ in 0..2 {
            let refused = analyses.of(twin, 1, || Err::<Arc<u64>, _>("no steps"));
            assert_eq!(refused, Err("no steps"));
        }
        assert_eq!(analyses.statistics(), AnalysisStats::default());
        assert_eq!(
            analyses.of(twin, 2, || Ok::<_, &str>(Arc::new(2))),
            Ok(Arc::new(2))
        );
    }
}

#[test]
fn the_optimized_twin_analyses_once_per_version_and_the_plain_one_each_time() {
    let analyses = analyses();
    let made = AtomicU64::new(0);
    let get = |twin, version| {
        let analyse = || Ok::<_, Infallible>(Arc::new(made.fetch_add(1, Ordering::Relaxed)));
        let _ = analyses.of(twin, version, analyse);
    };
    for version in [1, 1, 1, 2, 2] {
        get(Twin::Optimized, version);
    }
    let expected = AnalysisStats {
        analyses: 2,
        reuses: 3,
        invalidations: 1,
    };
    assert_eq!(analyses.statistics(), expected);
    for version in [2, 2] {
        get(Twin::Plain, version);
    }
    assert_eq!(analyses.statistics().analyses, 4);
    assert_eq!(made.load(Ordering::Relaxed), 4);
    get(Twin::Optimized, 2);
    assert_eq!(
        analyses.statistics().reuses,
        4,
        "what was known is known after plain runs too"
    );
    analyses.reset();
    get(Twin::Optimized, 2);
    assert_eq!(analyses.statistics().reuses, 1);
    analyses.forget();
    get(Twin::Optimized, 2);
    assert_eq!(analyses.statistics().analyses, 1);
}

#[test]
fn a_change_elsewhere_that_leaves_the_analysis_as_it_was_is_a_reuse() {
    let analyses = analyses();
    let known = Arc::new(7);
    for version in 1..4 {
        let _ = analyses.of(Twin::Optimized, version, || {
            Ok::<_, Infallible>(Arc::clone(&known))
        });
    }
    let expected = AnalysisStats {
        analyses: 1,
        reuses: 2,
        invalidations: 0,
    };
    assert_eq!(analyses.statistics(), expected);
}
