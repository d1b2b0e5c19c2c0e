use flujo::{BoxError, step};

struct Owned;

fn main() {
    let _ = step("owned", |_: Owned| async move { Ok::<_, BoxError>(()) });
}
