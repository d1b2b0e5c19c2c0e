use flujo::{BoxError, Context, Scope, step};

#[derive(Default, Context)]
struct One {
    seen: u32,
}

#[derive(Default, Context)]
struct Two {
    seen: u32,
}

fn main() {
    let one = step("one", |n: u32, _: Scope<One>| async move { Ok::<_, BoxError>(n) });
    let two = step("two", |n: u32, _: Scope<Two>| async move { Ok::<_, BoxError>(n) });
    let _ = one >> two;
}
