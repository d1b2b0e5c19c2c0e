//! A stage that runs on its own output until a condition holds.

use flujo::{BoxError, Context, Flujo, Scope, step};

#[derive(Default, Context)]
struct Growth {
    doublings: u32,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let double = step("double", |number: u32, scope: Scope<Growth>| async move {
        scope.context().update(|growth| growth.doublings += 1);
        Ok::<_, BoxError>(number * 2)
    });
    let pipeline = double
        .loop_until("grow", |number: &u32, growth: &Growth| {
            *number > 50 || growth.doublings == 10
        })
        .max_loops(20);
    let done = Flujo::new(pipeline).run(3).await?;
    assert_eq!((done.output, done.context.doublings), (96, 5));
    Ok(())
}
