//! A generator and a critic, until the critic is content.

use flujo::{BoxError, Flujo, Refinement, refine_until, step};

#[derive(Clone)]
struct Check {
    good: bool,
    advice: String,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let write = step("write", |draft: Refinement<String, Check>| async move {
        let advice = draft.feedback.map(|check| check.advice).unwrap_or_default();
        Ok::<_, BoxError>(draft.input + &advice)
    });
    let judge = step("judge", |text: String| async move {
        Ok::<_, BoxError>(Check {
            good: text.ends_with('.'),
            advice: ".".into(),
        })
    });
    let pipeline = refine_until("polish", write, judge, |check: &Check| check.good);
    assert_eq!(
        Flujo::new(pipeline).run("A sentence".into()).await?.output,
        "A sentence."
    );
    Ok(())
}
