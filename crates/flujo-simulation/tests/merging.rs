//! What branches wrote at the same time becomes one context.

use flujo_simulation::story::{parallel, part, step, story};

#[test]
fn equal_values_are_no_conflict_and_a_decrease_is_a_write_like_any_other() {
    let same = || part(step("same").writes("same", 5));
    let branches = [
        ("a", same()),
        ("b", part(step("down").writes("count", 3))),
        ("c", same()),
    ];
    story(parallel("p", branches))
        .context([("count", 10.into()), ("same", 9.into())])
        .run(1)
        .completed([("a", 1), ("b", 1), ("c", 1)])
        .context("same", 5)
        .context("count", 3);
}
