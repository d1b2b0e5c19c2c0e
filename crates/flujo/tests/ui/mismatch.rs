use flujo::{BoxError, step};

fn main() {
    let text = step("text", |n: u32| async move { Ok::<_, BoxError>(n.to_string()) });
    let number = step("number", |n: u32| async move { Ok::<_, BoxError>(n) });
    let _ = text >> number;
}
