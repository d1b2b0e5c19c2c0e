//! Parallel steps, maps and isolated groups: isolation, order, bounds, failures.

use flujo_core::machine::{FailureKind, Role, Status};
use flujo_simulation::story::{conditional, fail, group, map, parallel, part, step, story};
use flujo_simulation::{Act, Does, Object, OnCancel, Script};

fn sum() -> Script {
    Script::from(Does::Return(42.into()))
}

#[test]
fn all_branches_start_before_any_is_awaited_and_outputs_stand_in_declared_order() {
    let told = story(parallel(
        "p",
        [
            ("z", part(step("a").takes(50))),
            ("m", part(step("b").takes(10))),
            ("a", part(step("c").takes(30))),
        ],
    ))
    .run(1)
    .completed([("z", 1), ("m", 1), ("a", 1)])
    .ended_at(50);
    assert!(told.ran.trace.calls.iter().take(3).all(|call| call.started == 0));
}

#[test]
fn a_failing_branch_cancels_and_awaits_its_siblings_and_keeps_their_results_and_usage() {
    let branches = [
        ("a", part(step("a").takes(10).uses(1))),
        ("b", part(step("b").takes(50).always_fails().uses(2))),
        (
            "c",
            part([
                step("c").takes(300).on_cancel(OnCancel::Linger(7_000_000)),
                step("marker").writes("marker", 1),
            ]),
        ),
    ];
    let told = story(parallel("p", branches))
        .run(1)
        .failed(FailureKind::Branch)
        .saying("branch 'b' failed: step 'b': Agent execution failed")
        .lanes("p", "cfs")
        .calls("marker", 0)
        .context("marker", Object::Null)
        .used(3)
        .ended_at(57);
    assert_eq!(told.record("p").lanes()[0].output(), Some(&Object::Int(1)));
}

#[test]
fn ignored_failures_leave_the_others_alone_and_are_explicit() {
    let branches = [
        ("a", part(step("a"))),
        ("b", part(step("b").always_fails())),
        ("c", part(step("c").takes(300))),
    ];
    story(parallel("p", branches).ignores_failures())
        .run(1)
        .completed([("a", Object::from(1)), ("b", "failed".into()), ("c", 1.into())])
        .lanes("p", "cfc")
        .ended_at(300);
    let all = [
        ("a", part(step("a").always_fails())),
        ("b", part(step("b").always_fails())),
    ];
    story(parallel("p", all).ignores_failures())
        .run(1)
        .failed(FailureKind::Branch)
        .saying("branch 'a'");
}

#[test]
fn no_more_branches_run_at_once_than_allowed_and_none_starts_after_a_failure() {
    let slow = |name| part(step(name).takes(10));
    let told = story(
        parallel(
            "p",
            [
                ("a", slow("a")),
                ("b", slow("b")),
                ("c", slow("c")),
                ("d", slow("d")),
            ],
        )
        .at_once(2),
    )
    .run(1)
    .completed([("a", 1), ("b", 1), ("c", 1), ("d", 1)])
    .ended_at(20);
    assert_eq!(told.ran.trace.most_lanes, 2);
    let branches = [
        ("a", part(step("a").always_fails())),
        ("b", slow("b")),
        ("c", slow("c")),
    ];
    story(parallel("p", branches).at_once(1))
        .run(1)
        .failed(FailureKind::Branch)
        .lanes("p", "f--")
        .calls("b", 0);
}

#[test]
fn branches_are_isolated_until_the_merge_and_a_failed_branch_leaves_no_trace() {
    let branches = [
        ("a", part(step("a").appends("items", 1))),
        ("b", part(step("b").takes(50).appends("items", 2))),
        (
            "c",
            part([step("c").appends("items", 3), step("d").always_fails()]),
        ),
    ];
    story(parallel("p", branches).ignores_failures())
        .context([("items", Object::from([0]))])
        .run(1)
        .lanes("p", "ccf")
        .context("items", [0, 1, 2]);
}

#[test]
fn merging_takes_declared_order_never_timing() {
    for seed in 0..100 {
        let branches = [
            (
                "a",
                part(
                    step("a")
                        .takes(seed % 3)
                        .appends("history", "a")
                        .writes("same", 5),
                ),
            ),
            (
                "b",
                part(
                    step("b")
                        .takes(seed % 2)
                        .appends("history", "b")
                        .writes("same", 5),
                ),
            ),
        ];
        story(parallel("p", branches))
            .seed(seed)
            .context([("history", Object::from(["q"]))])
            .run(1)
            .completed([("a", 1), ("b", 1)])
            .context("history", ["q", "a", "b"])
            .context("same", 5);
    }
}

#[test]
fn different_values_for_one_field_fail_naming_field_branches_and_values_whatever_the_name() {
    for field in ["total", "counter", "score"] {
        let branches = [
            ("a", part(step("a").takes(50).writes(field, 5))),
            ("b", part(step("b").takes(10).writes(field, 3))),
        ];
        story(parallel("p", branches))
            .run(1)
            .failed(FailureKind::Merge)
            .saying(&format!(
                "branches 'a' and 'b' write different values to '{field}': 5 and 3"
            ))
            .context(field, Object::Null)
            .lanes("p", "cc");
    }
}

#[test]
fn without_a_merge_the_context_stays_as_it_was() {
    story(parallel("p", [("a", part(step("a").writes("x", 1)))]).without_merge())
        .run(1)
        .completed([("a", 1)])
        .context("x", Object::Null);
}

#[test]
fn a_failing_collector_fails_the_step() {
    story(parallel("p", [("a", part(step("a")))]).collects(fail()))
        .run(1)
        .failed(FailureKind::Merge);
}

#[test]
fn ten_levels_of_nested_branches_do_not_multiply_what_was_there() {
    let mut inner = part(step("leaf").appends("history", "a"));
    for level in 0..10 {
        inner = part(parallel(
            &format!("p{level}"),
            [("x", inner), ("y", part(step("plain")))],
        ));
    }
    story(inner)
        .context([("history", Object::from(["q"]))])
        .run(1)
        .context("history", ["q", "a"]);
}

#[test]
fn a_deeply_nested_failure_is_named_once() {
    let mut inner = part(step("leaf").always_fails());
    for level in 0..5 {
        inner = part(parallel(&format!("p{level}"), [("x", inner)]));
    }
    let told = story(inner)
        .run(1)
        .failed(FailureKind::Branch)
        .saying("branch 'x' failed: step 'leaf'");
    assert_eq!(told.failure().to_string().matches("branch").count(), 1);
    assert_eq!(told.failure().root().step.as_ref(), "leaf");
}

#[test]
fn items_keep_their_order_and_their_bound_whatever_takes_longest() {
    for seed in 0..20 {
        let inputs: Vec<i64> = (0..20).collect();
        let told = story(map("m", step("a").adds(100).takes(seed % 7)).at_once(5))
            .seed(seed)
            .run(inputs.clone())
            .completed(inputs.iter().map(|item| item + 100).collect::<Vec<_>>());
        assert!(told.ran.trace.most_lanes <= 5);
    }
}

#[test]
fn items_one_at_a_time_see_what_the_items_before_them_wrote() {
    let log = || [("log", Object::List(Vec::new()))];
    let body = || step("a").appends("log", 1);
    story(map("m", body()))
        .context(log())
        .run([1, 2, 3])
        .completed([1, 2, 3])
        .context("log", [1, 1, 1]);
    story(map("m", body()).at_once(3))
        .context(log())
        .run([1, 2, 3])
        .context("log", [1, 1, 1]);
}

#[test]
fn a_failing_item_fails_the_map_or_is_null_or_left_out() {
    let failing = || map("m", step("a").always_fails());
    story(failing())
        .run([1, 2])
        .failed(FailureKind::Item)
        .saying("item '0' failed")
        .lanes("m", "f-");
    story(failing().tolerates_failures())
        .run([1, 2])
        .completed([Object::Null, Object::Null])
        .lanes("m", "ff");
    story(failing().ignores_failures())
        .run([1, 2])
        .failed(FailureKind::Item)
        .lanes("m", "ff");
}

#[test]
fn an_empty_map_gives_an_empty_list() {
    story(map("m", step("a")).at_once(3))
        .run(Object::List(vec![]))
        .completed(Object::List(vec![]))
        .calls("a", 0);
    story(map("m", step("a")).items(Does::Cursor(0)))
        .run(0)
        .completed(Object::List(vec![]));
}

#[test]
fn an_input_that_is_no_collection_fails_the_map() {
    story(map("m", step("a")))
        .run(1)
        .failed(FailureKind::Items)
        .saying("1 is not a list");
}

#[test]
fn a_lazy_collection_is_read_no_further_than_there_is_room() {
    let told = story(map("m", step("a").takes(10)).at_once(2).items(Does::Cursor(5)))
        .run(0)
        .completed([0, 1, 2, 3, 4]);
    let reads: Vec<u64> = told
        .ran
        .trace
        .calls
        .iter()
        .filter(|call| call.role == Role::NextItem)
        .map(|call| call.started / 1_000_000)
        .collect();
    assert_eq!(reads, [0, 0, 10, 10, 20, 20]);
}

#[test]
fn a_join_runs_once_with_both_parts_for_any_number_of_items_and_any_timing() {
    for items in [0_i64, 1, 50] {
        for seed in 0..10 {
            let inputs: Vec<i64> = (0..items).collect();
            let mapped = map("m", step("item").takes(seed % 4).uses(1)).at_once(4);
            let branches = [
                (
                    "a",
                    part([part(mapped), part(step("sum").does(Does::Return(42.into())))]),
                ),
                ("b", part(step("plain").takes(2))),
            ];
            story([
                part(parallel("p", branches)),
                part(step("after")),
                part(parallel("q", [("only", part(step("last")))]).collects(sum())),
            ])
            .seed(seed)
            .run(inputs)
            .completed(42)
            .calls_of("p", Role::Collect, 1)
            .calls("after", 1)
            .used(u64::try_from(items).unwrap());
        }
    }
}

#[test]
fn maps_nest() {
    story(map("outer", map("inner", step("a").adds(1)).at_once(2)).at_once(2))
        .run(Object::List(vec![
            Object::from([1, 2]),
            Object::List(vec![]),
            Object::from([3]),
        ]))
        .completed(Object::List(vec![
            Object::from([2, 3]),
            Object::List(vec![]),
            Object::from([4]),
        ]));
}

#[test]
fn a_group_runs_in_the_context_around_it_or_in_one_of_its_own() {
    let body = || [step("a").adds(1), step("b").adds(1).writes("x", 1)];
    story(group("g", body()))
        .run(0)
        .completed(2)
        .context("x", 1)
        .history(["g", "a", "b"]);
    story(group("g", body()).isolated())
        .run(0)
        .completed(2)
        .context("x", 1)
        .history(["g"]);
    story(group("g", body()).inherits(Script::default()))
        .run(0)
        .completed(2)
        .context("x", Object::Null);
    story(group("g", [step("a"), step("b").always_fails()]).isolated())
        .run(0)
        .failed(FailureKind::Agent)
        .lanes("g", "f");
}

#[test]
fn a_deadline_around_lanes_ends_the_steps_in_them() {
    let told = story(parallel("p", [("a", part(step("a").takes(100))), ("b", part(step("b")))]).deadline(30))
        .run(1)
        .failed(FailureKind::Branch)
        .ended_at(30)
        .lanes("p", "fc");
    assert_eq!(told.failure().root().kind, FailureKind::Deadline);
}

#[test]
fn a_conditional_takes_the_branch_of_its_key_or_the_default_or_names_the_branches() {
    let branches = || [("x", part(step("a").adds(1))), ("y", part(step("b").adds(2)))];
    story(conditional("c", branches()).chooses("y"))
        .run(0)
        .completed(2)
        .calls("a", 0);
    story(
        conditional("c", branches())
            .chooses("?")
            .default(step("d").adds(9)),
    )
    .run(0)
    .completed(9);
    story(conditional("c", branches()).chooses("?"))
        .run(0)
        .failed(FailureKind::UnknownBranch)
        .saying("No branch found for key '?' and no default branch provided; the branches are 'x', 'y'");
    story(
        conditional("c", branches())
            .maps_input(Does::Add(10))
            .maps_output(Does::Add(100)),
    )
    .run(0)
    .completed(111);
    story(conditional("c", branches()).condition(fail()))
        .run(0)
        .failed(FailureKind::Condition);
    story(conditional("c", branches()).maps_output(fail()))
        .run(0)
        .failed(FailureKind::Mapper);
    story(conditional("c", [("x", part(step("a").always_fails()))]))
        .run(0)
        .failed(FailureKind::Agent)
        .status("c", Status::Failed);
}

#[test]
fn an_abort_in_one_lane_ends_the_others_and_the_run() {
    let branches = [
        ("a", part(step("a").takes(5).does(Does::Abort))),
        ("b", part(step("b").takes(100))),
    ];
    story(parallel("p", branches).ignores_failures())
        .run(1)
        .aborted()
        .lanes("p", "ss")
        .ended_at(5);
}

fn read_slowly(items: u32, reading: Act) -> Script {
    Script {
        acts: vec![
            Act {
                does: Does::Cursor(items),
                ..Act::default()
            },
            Act::default(),
            reading,
        ],
    }
}

#[test]
fn an_item_that_is_still_being_read_does_not_hold_up_a_failed_map() {
    let never = || Act {
        does: Does::Hang,
        ..Act::default()
    };
    let told = story(
        map("m", step("a").takes(5).always_fails())
            .at_once(2)
            .items(read_slowly(9, never())),
    )
    .run(0)
    .failed(FailureKind::Item)
    .ended_at(5)
    .lanes("m", "f");
    assert_eq!(told.failure().root().kind, FailureKind::Agent);
    let abort = parallel("p", [("x", part(step("a").takes(5).does(Does::Abort)))]);
    story(map("m", abort).at_once(2).items(read_slowly(9, never())))
        .run(0)
        .aborted()
        .ended_at(5);
}

#[test]
fn a_collection_that_cannot_be_read_on_fails_the_map_and_ends_its_items() {
    let broken = Act {
        takes: 3_000_000,
        does: fail(),
        ..Act::default()
    };
    story(
        map("m", step("a").takes(50))
            .at_once(2)
            .items(read_slowly(9, broken)),
    )
    .run(0)
    .failed(FailureKind::Items)
    .ended_at(3)
    .lanes("m", "s");
}
