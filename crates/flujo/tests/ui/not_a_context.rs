use flujo::{BoxError, Scope, step};

struct Plain;

fn main() {
    let _ = step("plain", |n: u32, s: Scope<Plain>| async move {
        s.context().update(|_| ());
        Ok::<_, BoxError>(n)
    });
}
