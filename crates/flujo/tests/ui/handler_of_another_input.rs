use flujo::{BoxError, StepFailure, step};

fn main() {
    let number = step("number", |n: u32| async move { Ok::<_, BoxError>(n) });
    let handler = step("handler", |failure: StepFailure<String>| async move { Ok::<_, BoxError>(failure.input.len() as u32) });
    let _ = number.on_failure(handler);
}
