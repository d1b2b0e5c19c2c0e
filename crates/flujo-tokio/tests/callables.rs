//! A handler lives as long as something can still call it, and no longer.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::sync::Arc;

use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_tokio::{Handler, Parallel, Pipeline, Runner, Step};

fn held_by(resource: &Arc<()>) -> Handler {
    let held = Arc::clone(resource);
    Handler::function(move |input| {
        let held = Arc::clone(&held);
        async move {
            drop(held);
            Ok(input)
        }
    })
}

#[tokio::test]
async fn what_is_known_about_a_callable_dies_with_its_pipeline() {
    let resource = Arc::new(());
    for round in 0..200 {
        let branches = Parallel::new("both")
            .branch("a", Step::new("a", held_by(&resource)))
            .branch("b", Step::new("b", held_by(&resource)));
        let pipeline = Pipeline::from(Step::new("first", held_by(&resource))).then(branches);
        let runner = Runner::builder(pipeline).build().unwrap();
        assert_eq!(
            Arc::strong_count(&resource),
            4,
            "round {round}: three handlers, each held once"
        );
        let done = runner.run(Value::from(1), Context::new()).await;
        assert_eq!(done.status(), "completed");
        drop(runner);
        drop(done);
        assert_eq!(
            Arc::strong_count(&resource),
            1,
            "round {round}: nothing is left of the pipeline"
        );
    }
}
