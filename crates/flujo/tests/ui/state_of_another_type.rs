use flujo::{BoxError, state_machine, step};

fn main() {
    let number = step("number", |n: u32| async move { Ok::<_, BoxError>(n) });
    let text = step("text", |t: String| async move { Ok::<_, BoxError>(t) });
    let _ = state_machine("machine", "number").state("number", number).state("text", text);
}
