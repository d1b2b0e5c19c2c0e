use flujo::{BoxError, Refinement, refine_until, step};

fn main() {
    let write = step("write", |draft: Refinement<String, bool>| async move { Ok::<_, BoxError>(draft.input) });
    let judge = step("judge", |text: String| async move { Ok::<_, BoxError>(text.len()) });
    let _ = refine_until("polish", write, judge, |length: &usize| *length > 3);
}
