//! Questions to people: the run pauses where it stands and goes on with the answers.

use std::time::Duration;

use flujo::{BoxError, Flujo, RunError, human, step};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let approve = human("approve", |text: &String| format!("Publish {text:?}?"))
        .answered_by::<bool>()
        .timeout(Duration::from_hours(24))
        .default_answer(false);
    let publish = step("publish", |yes: bool| async move {
        Ok::<_, BoxError>(if yes { "out" } else { "kept" })
    });
    let flujo = Flujo::new((approve >> publish).map_over(2));

    let texts = vec!["a poem".to_owned(), "a letter".to_owned()];
    let Err(RunError::Paused { paused, .. }) = flujo.run(texts).await else {
        return Err("it asks first".into());
    };
    let answers = paused
        .pauses()
        .iter()
        .map(|pause| (pause.id.clone(), pause.message.contains("poem")));
    let done = flujo.resume_with(&paused, answers).await?;
    assert_eq!(done.output, ["out", "kept"]);
    Ok(())
}
