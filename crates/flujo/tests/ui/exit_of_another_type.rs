use flujo::{BoxError, step};

fn main() {
    let number = step("number", |n: u32| async move { Ok::<_, BoxError>(n) });
    let _ = number.loop_until("again", |text: &String| text.len() > 3);
}
