//! Stages that follow one another as transitions say.

use flujo::{BoxError, Flujo, state_machine, step};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let write = step(
        "write",
        |text: String| async move { Ok::<_, BoxError>(text + "!") },
    );
    let review = step("review", |text: String| async move {
        if text.len() > 3 { Err("too long") } else { Ok(text) }
    })
    .retries(0);
    let cut = step("cut", |text: String| async move {
        Ok::<_, BoxError>(text[1..].to_owned())
    });
    let pipeline = state_machine("article", "draft")
        .state("draft", write)
        .state("review", review)
        .state("cut", cut)
        .end("published")
        .transition("draft", "review")
        .transition("review", "published")
        .transition_on_failure("review", "cut")
        .transition("cut", "review");
    assert_eq!(Flujo::new(pipeline).run("words".into()).await?.output, "ds!");
    Ok(())
}
