//! Branches at the same time, of which some outputs are taken.

use flujo::{BoxError, Flujo, gather, parallel, step};

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let count = |what: char| {
        step("count", move |text: String| async move {
            Ok::<_, BoxError>(text.chars().filter(|found| *found == what).count())
        })
    };
    let letters = parallel(
        "letters",
        [("a", count('a')), ("e", count('e')), ("o", count('o'))],
    );
    let done = Flujo::new(letters >> gather("vowels", ["o", "a"]))
        .run("a pot of tea".into())
        .await?;
    assert_eq!(done.output, [2, 2]);
    Ok(())
}
