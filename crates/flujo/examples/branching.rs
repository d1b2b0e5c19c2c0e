//! One of several branches, chosen by a condition.

use flujo::{BoxError, Flujo, branch, step};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let shorten = step("shorten", |text: String| async move {
        Ok::<_, BoxError>(format!("{}…", &text[..5]))
    });
    let keep = step("keep", |text: String| async move { Ok::<_, BoxError>(text) });
    let pipeline = branch(
        "by length",
        |text: &String| if text.len() > 5 { "long" } else { "short" },
    )
    .case("long", shorten)
    .otherwise(keep);
    let flujo = Flujo::new(pipeline);
    assert_eq!(flujo.run("a long text".into()).await?.output, "a lon…");
    assert_eq!(flujo.run("text".into()).await?.output, "text");
    Ok(())
}
