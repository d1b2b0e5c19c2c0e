"""Merging the views of branches: three-way, by path, independent of names and of timing."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr

from flujo import _native
from flujo.exceptions import ContextMergeError

view = _native.context_view
merge = _native.context_merge


class Sub(BaseModel):
    tags: set[str] = set()
    score: int = 0
    data: dict[str, Any] = {}
    _seen: dict[str, int] = PrivateAttr(default_factory=dict)


@dataclass
class Record:
    left: int = 0
    right: int = 0
    items: list[Any] = field(default_factory=list)


class Context(BaseModel):
    model_config = ConfigDict(extra="allow")
    total: int = 0
    counter: int = 0
    score: int = 0
    history: list[Any] = []
    data: dict[str, Any] = {}
    tags: set[str] = set()
    sub: Sub = Sub()
    record: Record = Record()
    anything: Any = None
    _notes: dict[str, Any] = PrivateAttr(default_factory=dict)

    @cached_property
    def size(self) -> int:
        return len(self.history)


def branches(base: Any, *names: str) -> list[tuple[str, Any]]:
    return [(name, view(base)) for name in names]


STRATEGIES = ["context_update", "overwrite", "keep_first", "error_on_conflict"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_disjoint_writes_combine_at_any_depth(strategy: str) -> None:
    base = Context(data={"kept": 1, "deep": {"x": {}}})
    lanes = branches(base, "a", "b", "c")
    a, b, c = (lane for _, lane in lanes)
    a.total = 1
    a.data["deep"]["x"]["a"] = 1
    a.sub.score = 3
    a.record.left = 1
    a._notes["a"] = 1
    a.from_a = 1
    b.counter = 2
    b.data["deep"]["x"]["b"] = 2
    b.sub.data["k"] = [1]
    b.record.right = 2
    b._notes["b"] = 2
    b.from_b = 2
    del c.data["kept"]
    c.sub._seen["c"] = 3
    merge(base, lanes, strategy)
    assert (base.total, base.counter) == (1, 2)
    assert base.data == {"deep": {"x": {"a": 1, "b": 2}}}
    assert (base.sub.score, base.sub.data, base.sub._seen) == (3, {"k": [1]}, {"c": 3})
    assert base.record == Record(1, 2)
    assert base._notes == {"a": 1, "b": 2}
    assert base.model_extra == {"from_a": 1, "from_b": 2}
    assert base.model_fields_set >= {"total", "counter"}


def test_no_merge_writes_nothing() -> None:
    base = Context()
    lanes = branches(base, "a")
    lanes[0][1].total = 5
    merge(base, lanes, "no_merge")
    assert base == Context()


def test_appends_follow_each_other_in_declared_order() -> None:
    base = Context(history=["q"])
    lanes = branches(base, "a", "b")
    for name, lane in reversed(lanes):
        lane.history.append(name)
    merge(base, lanes)
    assert base.history == ["q", "a", "b"]


def test_ten_levels_of_nested_branches_do_not_multiply_what_was_there() -> None:
    base = Context(history=["q"])
    stack = [base]
    for _ in range(10):
        stack.append(view(stack[-1]))
    for level in range(10, 0, -1):
        inner = branches(stack[level], "a", "b")
        for name, lane in inner:
            lane.history.append(f"{level}{name}")
        merge(stack[level], inner)
        merge(stack[level - 1], [("only", stack[level])])
    assert base.history == ["q"] + [f"{level}{name}" for level in range(10, 0, -1) for name in "ab"]


def test_a_removal_is_applied_beside_an_append() -> None:
    base = Context(history=["q", "r", "s"])
    lanes = branches(base, "a", "b", "c")
    lanes[0][1].history.remove("r")
    lanes[1][1].history.append("b")
    lanes[2][1].history.remove("r")
    merge(base, lanes)
    assert base.history == ["q", "s", "b"]


def test_changed_elements_merge_with_appended_ones() -> None:
    base = Context(history=[[1], {"k": 1, "l": 1}])
    lanes = branches(base, "a", "b")
    lanes[0][1].history[0].append(2)
    lanes[0][1].history[1]["k"] = 5
    lanes[1][1].history[0].append(3)
    lanes[1][1].history[1]["l"] = 6
    lanes[1][1].history.append("b")
    merge(base, lanes)
    assert base.history == [[1, 2, 3], {"k": 5, "l": 6}, "b"]


def test_insertions_at_both_ends_keep_their_places() -> None:
    base = Context(history=[5])
    lanes = branches(base, "a", "b")
    lanes[0][1].history.insert(0, 1)
    lanes[1][1].history.append(9)
    merge(base, lanes)
    assert base.history == [1, 5, 9]


def test_sets_take_all_additions_and_removals() -> None:
    base = Context(tags={"x", "y"}, sub=Sub(tags={"old"}))
    lanes = branches(base, "a", "b")
    lanes[0][1].tags.add("a")
    lanes[0][1].tags.discard("x")
    lanes[0][1].sub.tags.add("new")
    lanes[1][1].tags.add("b")
    lanes[1][1].sub.tags.discard("old")
    merge(base, lanes)
    assert base.tags == {"y", "a", "b"}
    assert base.sub.tags == {"new"}


@pytest.mark.parametrize("name", ["total", "counter", "score"])
def test_different_values_for_one_path_are_a_conflict_whatever_the_field_is_called(name: str) -> None:
    base = Context(total=10, counter=10, score=10)
    lanes = branches(base, "a", "b")
    setattr(lanes[0][1], name, 5)
    setattr(lanes[1][1], name, 3)
    with pytest.raises(ContextMergeError) as error:
        merge(base, lanes)
    assert name in str(error.value)
    assert '"a" wrote 5' in str(error.value)
    assert '"b" wrote 3' in str(error.value)
    assert (error.value.path, error.value.branches, error.value.values) == (name, ["a", "b"], [5, 3])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_result_depends_on_the_declared_order_alone(order: tuple[int, ...]) -> None:
    base, kept = Context(total=10), Context(total=10)
    for target, strategy, expected in ((base, "overwrite", 3), (kept, "keep_first", 5)):
        lanes = branches(target, "a", "idle", "b")
        values = [5, None, 3]
        for index in order:
            if values[index] is not None:
                lanes[index][1].total = values[index]
        merge(target, lanes, strategy)
        assert target.total == expected


def test_equal_new_values_are_no_conflict_and_a_decrease_is_kept() -> None:
    base = Context(total=10)
    lanes = branches(base, "a", "b", "idle")
    lanes[0][1].total = 5
    lanes[1][1].total = 5
    merge(base, lanes)
    assert base.total == 5


def test_error_on_conflict_refuses_a_path_written_twice_even_with_equal_values() -> None:
    for change in (
        lambda lane: setattr(lane, "total", 5),
        lambda lane: lane.history.append(1),
        lambda lane: lane.tags.add("x"),
        lambda lane: lane.data.update(k=1),
    ):
        base = Context()
        lanes = branches(base, "a", "b")
        for _, lane in lanes:
            change(lane)
        with pytest.raises(ContextMergeError):
            merge(base, lanes, "error_on_conflict")


@pytest.mark.parametrize(("strategy", "expected"), [("overwrite", [0, "b"]), ("keep_first", [0, "a"])])
def test_one_lane_wins_a_whole_list_under_winner_strategies(strategy: str, expected: list[Any]) -> None:
    base = Context(history=[0])
    lanes = branches(base, "a", "b", "idle")
    lanes[0][1].history.append("a")
    lanes[1][1].history.append("b")
    merge(base, lanes, strategy)
    assert base.history == expected


def test_a_conflict_names_the_whole_path() -> None:
    base = Context(data={"list": [{"k": 1}]}, sub=Sub(data={"x": {"y": 1}}))
    lanes = branches(base, "a", "b")
    for value, (_, lane) in enumerate(lanes):
        lane.data["list"][0]["k"] = value + 7
    with pytest.raises(ContextMergeError) as error:
        merge(base, lanes)
    assert error.value.path == "data['list'][0]['k']"
    lanes = branches(base, "a", "b")
    for value, (_, lane) in enumerate(lanes):
        lane.sub.data["x"]["y"] = value + 7
    with pytest.raises(ContextMergeError) as error:
        merge(base, lanes)
    assert error.value.path == "sub.data['x']['y']"


def test_a_deletion_against_a_change_is_a_conflict() -> None:
    base = Context(data={"k": 1})
    lanes = branches(base, "a", "b")
    del lanes[0][1].data["k"]
    lanes[1][1].data["k"] = 2
    with pytest.raises(ContextMergeError, match="a deletion"):
        merge(base, lanes)


@pytest.mark.parametrize("target", ["model", "view"])
def test_a_conflict_leaves_the_base_as_it_was(target: str) -> None:
    base = Context(history=[1]) if target == "model" else view(Context(history=[1]))
    lanes = branches(base, "a", "b")
    for name, lane in lanes:
        lane.history.append(name)
        lane.data["k"] = name
        lane.sub.score = 1
    with pytest.raises(ContextMergeError):
        merge(base, lanes)
    assert base == Context(history=[1])
    assert base.model_fields_set == {"history"}


def test_dictionaries_made_by_two_branches_under_one_key_combine() -> None:
    base = Context()
    lanes = branches(base, "a", "b")
    for name, lane in lanes:
        lane.data.setdefault("results", {})[name] = 1
    merge(base, lanes)
    assert base.data == {"results": {"a": 1, "b": 1}}


@pytest.mark.parametrize("kind", [OrderedDict, lambda: defaultdict(list)])
def test_dictionary_classes_merge_by_key_and_keep_their_class(kind: Any) -> None:
    base = Context(anything=kind())
    lanes = branches(base, "a", "b")
    for name, lane in lanes:
        lane.anything[name] = [1]
    merge(base, lanes)
    assert type(base.anything) is type(kind())
    assert dict(base.anything) == {"a": [1], "b": [1]}


def test_a_reference_kept_from_a_branch_does_not_reach_the_merged_state() -> None:
    run = view(Context(history=[[0]]))
    lanes = branches(run, "a", "b")
    held = [lane.history for _, lane in lanes]
    for items in held:
        items.append([1])
    merge(run, lanes)
    merged = view(run).history
    for items in held:
        items[-1].append("late")
        items.append("late")
    assert run.history == merged == [[0], [1], [1]]


def test_cached_properties_are_computed_anew_after_a_merge() -> None:
    base = Context(history=[1])
    assert base.size == 1
    lanes = branches(base, "a", "b")
    for name, lane in lanes:
        lane.history.append(name)
        vars(lane).pop("size", None)
        assert lane.size == 2
    merge(base, lanes)
    assert base.size == 3


def test_copied_contexts_merge_by_the_same_rules() -> None:
    base = Record(items=[0])
    lanes = branches(base, "a", "b")
    for name, lane in lanes:
        lane.items.append(name)
    lanes[0][1].left = 1
    lanes[1][1].right = 2
    merge(base, lanes)
    assert base == Record(1, 2, [0, "a", "b"])
    entries: dict[str, Any] = {"items": [0]}
    copies = branches(entries, "a", "b")
    for name, lane in copies:
        lane[name] = [name]
    merge(entries, copies)
    assert entries == {"items": [0], "a": ["a"], "b": ["b"]}


def test_an_unknown_strategy_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no_merge"):
        merge(Context(), [], "sum")


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, width=16)
    | st.text("ab", max_size=2)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("kl", max_size=2), inner, max_size=4),
    max_leaves=12,
)


@given(before=values, after=values)
def test_one_branchs_state_is_the_merged_state(before: Any, after: Any) -> None:
    base = Context(anything=before)
    lanes = branches(base, "idle", "writer", "other")
    lanes[1][1].anything = after
    merge(base, lanes)
    assert repr(base.anything) == repr(after)


@given(before=values, left=values, right=values)
def test_a_merge_is_whole_or_nothing_and_leaves_the_branches_alone(
    before: Any, left: Any, right: Any
) -> None:
    base = Context(anything=before)
    lanes = branches(base, "a", "b")
    lanes[0][1].anything, lanes[1][1].anything = left, right
    try:
        merge(base, lanes)
    except ContextMergeError:
        assert repr(base.anything) == repr(before)
    assert repr(lanes[0][1].anything) == repr(left)
    assert repr(lanes[1][1].anything) == repr(right)


@given(
    before=st.lists(leaves, max_size=6),
    first=st.lists(leaves, max_size=3),
    second=st.lists(leaves, max_size=3),
)
def test_appends_are_never_lost_or_doubled(before: list[Any], first: list[Any], second: list[Any]) -> None:
    base = Context(history=before)
    lanes = branches(base, "a", "b")
    lanes[0][1].history.extend(first)
    lanes[1][1].history.extend(second)
    merge(base, lanes)
    assert repr(base.history) == repr(before + first + second)


@given(value=values)
def test_a_clone_is_equal_and_shares_no_container(value: Any) -> None:
    cloned = _native.clone_value([value])

    def containers(of: Any) -> set[int]:
        inner = of.values() if isinstance(of, dict) else of if isinstance(of, list) else None
        return set() if inner is None else {id(of)}.union(*map(containers, inner))

    original = [value]
    assert repr(cloned) == repr(original)
    assert not containers(cloned) & containers(original)
