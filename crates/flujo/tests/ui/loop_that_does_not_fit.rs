use flujo::{BoxError, step};

fn main() {
    let text = step("text", |n: u32| async move { Ok::<_, BoxError>(n.to_string()) });
    let _ = text.loop_until("again", |text: &String| text.len() > 3);
}
