//! Ids, and the text in which they go to other processes.

use std::collections::HashSet;

use crate::machine::CallId;
use crate::telemetry::{SampleRate, SpanContext, SpanIds};

#[test]
fn a_text_that_is_no_traceparent_is_refused_and_one_of_a_later_version_is_read() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(good.parse::<SpanContext>().unwrap().to_string(), good);
    let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more-to-come";
    assert!(later.parse::<SpanContext>().unwrap().sampled);
    for bad in [
        "",
        "00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        let error = bad.parse::<SpanContext>().unwrap_err();
        assert!(error.to_string().contains("traceparent"), "{bad}");
    }
}

#[test]
fn ids_of_different_places_differ() {
    let ids = SpanIds::of_run("run-1", 7, None, SampleRate::ALL);
    let again = SpanIds::of_run("run-1", 8, None, SampleRate::ALL);
    assert_eq!(ids.trace(), again.trace());
    let mut seen = HashSet::from([ids.own(), again.own()]);
    for record in 0..100 {
        for ids in [
            ids,
            again,
            ids.lane(3, 0),
            ids.lane(3, 1),
            ids.lane(4, 0).lane(3, 0),
        ] {
            assert!(seen.insert(ids.step(record)));
            assert!(seen.insert(ids.call(CallId(record.into()))));
            for attempt in 1..4 {
                assert!(seen.insert(ids.attempt(record, attempt)));
            }
        }
    }
}
