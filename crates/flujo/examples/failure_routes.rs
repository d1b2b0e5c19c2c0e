//! What happens when a part of a pipeline has failed for good.

use flujo::{BoxError, Flujo, StepFailure, step};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let read = step(
        "read",
        |path: String| async move { std::fs::read_to_string(path) },
    )
    .retries(1);
    let count = step("count", |text: String| async move {
        Ok::<_, BoxError>(text.lines().count())
    });
    let rescue = step("rescue", |failure: StepFailure<String>| async move {
        assert_eq!((failure.step(), failure.attempts()), ("read", 2));
        Ok::<_, BoxError>(failure.input.len())
    });
    let pipeline = (read >> count).on_failure(rescue);
    assert_eq!(Flujo::new(pipeline).run("nowhere".into()).await?.output, 7);
    Ok(())
}
