use flujo_simulation::story::*;
use flujo_simulation::*;

#[test]
fn smoke_step() {
    story([
        step("a").adds(1).fails(2).retries(3).backoff(5),
        step("b").timeout(10),
    ])
    .run(1)
    .completed(2)
    .calls("a", 3)
    .calls("b", 1)
    .ended_at(10);
}
#[test]
fn smoke_conditional() {
    story(
        conditional(
            "c",
            [("x", part(step("a").adds(1))), ("y", part(step("b").adds(2)))],
        )
        .chooses("y"),
    )
    .run(1)
    .completed(3);
}
#[test]
fn smoke_parallel() {
    story(parallel(
        "p",
        [
            ("x", part(step("a").adds(1).takes(3).writes("x", 1))),
            ("y", part(step("b").adds(2).writes("y", 2))),
        ],
    ))
    .run(1)
    .completed([("x", 2), ("y", 3)])
    .context("x", 1)
    .context("y", 2);
}
#[test]
fn smoke_map() {
    story(map("m", step("a").adds(1)).at_once(2))
        .run([1, 2, 3])
        .completed([2, 3, 4]);
    story(map("m", step("a").adds(1)).at_once(2).items(Does::Cursor(3)))
        .run(0)
        .completed([1, 2, 3]);
}
#[test]
fn smoke_group() {
    story(group("g", [step("a").adds(1), step("b").adds(1).writes("x", 1)]))
        .run(0)
        .completed(2)
        .context("x", 1);
    story(group("g", [step("a").adds(1), step("b").adds(1).writes("x", 1)]).isolated())
        .run(0)
        .completed(2)
        .context("x", 1);
}
#[test]
fn smoke_hooks_and_abort() {
    story([step("a"), step("b")])
        .hooks(Script::default())
        .run(0)
        .completed(0);
    story([step("a"), step("b")])
        .hooks(calls([Does::Natural, Does::Abort, Does::Natural]))
        .run(0)
        .aborted();
    story([step("a"), step("b")]).hooks(Does::Abort).run(0).aborted();
}
