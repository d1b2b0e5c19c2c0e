//! Retries, a validator and a fallback around a whole construct.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flujo::{Backoff, BoxError, Flujo, Step, parallel, step};

static TRIED: AtomicU32 = AtomicU32::new(0);

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let flaky = step("flaky", |number: u32| async move {
        if TRIED.fetch_add(1, Ordering::Relaxed) == 0 {
            Err("a bad moment")
        } else {
            Ok(number)
        }
    })
    .retries(0);
    let steady = step(
        "steady",
        |number: u32| async move { Ok::<_, BoxError>(number + 1) },
    );
    let both = parallel("both", (("flaky", flaky), ("steady", steady)));
    let pipeline = Step::body("both", both)
        .retries(2)
        .backoff(Backoff::Fixed(Duration::from_millis(1)))
        .timeout(Duration::from_secs(10))
        .validate(|(left, right): &(u32, u32)| {
            if left < right {
                Ok(())
            } else {
                Err("in order, please".into())
            }
        });
    let done = Flujo::new(pipeline).run(1).await?;
    assert_eq!(done.output, (1, 2));
    let both = done.steps.get("both").ok_or("it ran")?;
    assert_eq!((both.attempts(), both.lanes().count()), (2, 2));
    Ok(())
}
