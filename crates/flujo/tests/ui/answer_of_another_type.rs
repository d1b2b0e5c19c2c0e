use flujo::{BoxError, human, step};

fn main() {
    let ask = human("ask", |text: &String| text.clone()).answered_by::<bool>();
    let count = step("count", |n: u32| async move { Ok::<_, BoxError>(n) });
    let _ = ask >> count;
}
