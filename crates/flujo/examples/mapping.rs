//! The same stage for each item, four at a time; failed items are left out.

use flujo::{BoxError, Flujo, step};

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let parse = step("parse", |text: String| async move { text.parse::<u32>() }).retries(0);
    let numbers = parse.map_over(4).named("each").skip_failures();
    let texts = ["1", "two", "3"].map(str::to_owned).to_vec();
    let done = Flujo::new(numbers).run(texts).await?;
    assert_eq!(done.output, [1, 3]);
    let each = done.steps.get("each").ok_or("it ran")?;
    assert_eq!(each.lanes().filter(|lane| lane.error().is_some()).count(), 1);
    Ok(())
}
