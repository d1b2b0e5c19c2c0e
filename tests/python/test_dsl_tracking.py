"""Every change of a definition is told to the engine, and nothing else is."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flujo.domain.dsl import Pipeline, Step, StepConfig, _tracking
from flujo.domain.dsl._tracking import TrackedDict, TrackedList


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    calls: list[None] = []
    monkeypatch.setattr(_tracking, "_tell_engine", lambda: calls.append(None))
    yield calls


def a_step(name: str = "a") -> Step[Any, Any]:
    return Step(name, lambda data: data)


LIST_CHANGES: dict[str, Callable[[TrackedList[int]], object]] = {
    "append": lambda items: items.append(4),
    "extend": lambda items: items.extend([4, 5]),
    "insert": lambda items: items.insert(0, 4),
    "remove": lambda items: items.remove(2),
    "pop": lambda items: items.pop(),
    "clear": lambda items: items.clear(),
    "sort": lambda items: items.sort(),
    "reverse": lambda items: items.reverse(),
    "set item": lambda items: items.__setitem__(0, 9),
    "set slice": lambda items: items.__setitem__(slice(0, 2), [9]),
    "delete item": lambda items: items.__delitem__(0),
    "delete slice": lambda items: items.__delitem__(slice(0, 2)),
    "+=": lambda items: items.__iadd__([4]),
    "*=": lambda items: items.__imul__(2),
}

DICT_CHANGES: dict[str, Callable[[TrackedDict[str, int]], object]] = {
    "set item": lambda items: items.__setitem__("a", 9),
    "delete item": lambda items: items.__delitem__("a"),
    "clear": lambda items: items.clear(),
    "pop": lambda items: items.pop("a"),
    "popitem": lambda items: items.popitem(),
    "setdefault": lambda items: items.setdefault("c", 3),
    "update": lambda items: items.update({"c": 3}, d=4),
    "|=": lambda items: items.__ior__({"c": 3}),
}


@pytest.mark.parametrize("change", LIST_CHANGES.values(), ids=LIST_CHANGES)
def test_each_change_of_a_list_is_told_and_does_what_a_list_does(
    change: Callable[[Any], object], told: list[None]
) -> None:
    items: TrackedList[int] = TrackedList([3, 2, 1])
    plain = [3, 2, 1]
    before = items._revision
    change(items)
    change(plain)
    assert list(items) == plain
    assert told
    assert items._revision > before


@pytest.mark.parametrize("change", DICT_CHANGES.values(), ids=DICT_CHANGES)
def test_each_change_of_a_dict_is_told_and_does_what_a_dict_does(
    change: Callable[[Any], object], told: list[None]
) -> None:
    items: TrackedDict[str, int] = TrackedDict({"a": 1, "b": 2})
    plain = {"a": 1, "b": 2}
    before = items._revision
    change(items)
    change(plain)
    assert dict(items) == plain
    assert told
    assert items._revision > before


def test_every_mutator_of_list_and_dict_is_covered() -> None:
    readers = {"copy", "count", "index", "fromkeys", "get", "items", "keys", "values"}
    for plain, tracked in ((list, TrackedList), (dict, TrackedDict)):
        public = {name for name in dir(plain) if not name.startswith("_")} - readers
        operators = {
            name
            for name in ("__setitem__", "__delitem__", "__iadd__", "__imul__", "__ior__")
            if hasattr(plain, name)
        }
        assert not (public | operators) - vars(tracked).keys()


def test_making_and_reading_a_definition_tells_nothing(told: list[None]) -> None:
    pipeline = a_step("a") >> a_step("b")
    pipeline.validate_graph()
    pipeline.to_mermaid()
    repr(pipeline)
    _ = pipeline.input_type, pipeline.steps[0].config.max_retries, pipeline.steps[0].processors
    assert not told


CHANGES: dict[str, Callable[[Pipeline[Any, Any]], object]] = {
    "a step's field": lambda p: setattr(p.steps[0], "sink_to", "answer"),
    "a step's agent": lambda p: setattr(p.steps[0], "agent", len),
    "a step's config": lambda p: setattr(p.steps[0], "config", StepConfig()),
    "a field of a step's config": lambda p: setattr(p.steps[0].config, "max_retries", 9),
    "a step's plugins": lambda p: p.steps[0].add_plugin(lambda data: data),
    "a step's validators": lambda p: p.steps[0].validators.append(lambda data: True),
    "a step's processors": lambda p: p.steps[0].processors.output_processors.append(
        lambda data, context: data
    ),
    "a step's fallback": lambda p: p.steps[0].fallback(a_step("b")),
    "a step's meta": lambda p: p.steps[0].meta.update(owner="me"),
    "a deleted attribute": lambda p: delattr(p, "name"),
    "a pipeline's name": lambda p: setattr(p, "name", "other"),
    "a pipeline's steps": lambda p: p.steps.append(a_step("b")),
    "a pipeline's hooks": lambda p: p.hooks.append(print),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_anywhere_in_a_definition_is_told(
    change: Callable[[Pipeline[Any, Any]], object], told: list[None]
) -> None:
    pipeline = Pipeline([a_step()], name="one")
    change(pipeline)
    assert told


def test_changes_of_branches_and_bodies_are_told(told: list[None]) -> None:
    parallel = Step.parallel("split", {"a": a_step()})
    parallel.branches["b"] = Pipeline([a_step("b")])
    parallel.branches["a"].steps.append(a_step("c"))
    parallel.max_concurrency = 3
    assert len(told) == 3


def test_a_refused_change_is_not_told_and_changes_nothing(told: list[None]) -> None:
    pipeline = Pipeline([a_step()])
    with pytest.raises(TypeError):
        pipeline.steps.append("b")
    with pytest.raises(TypeError):
        pipeline.steps.extend([a_step("b"), "c"])
    with pytest.raises(TypeError):
        pipeline.steps[0].name = 3
    assert [step.name for step in pipeline.steps] == ["a"]
    assert not told


def test_no_two_states_share_a_revision() -> None:
    step = a_step()
    twin = copy.copy(step)
    deep = copy.deepcopy(step)
    seen = [step._revision, twin._revision, deep._revision]
    step.sink_to = "answer"
    twin.sink_to = "answer"
    seen += [step._revision, twin._revision]
    assert len(set(seen)) == 5


def test_the_engine_counts_each_change() -> None:
    native = pytest.importorskip("flujo._native")
    step = a_step()
    before = native.definition_epoch()
    step.sink_to = "answer"
    step.validators.append(len)
    assert native.definition_epoch() == before + 2


def test_tracked_containers_can_be_pickled_and_copied() -> None:
    items: TrackedList[Any] = TrackedList([1, [2]])
    table: TrackedDict[str, list[int]] = TrackedDict({"a": [1]})
    assert pickle.loads(pickle.dumps(items)) == items
    assert pickle.loads(pickle.dumps(table)) == table
    deep, deep_table = copy.deepcopy(items), copy.deepcopy(table)
    assert deep == items and deep[1] is not items[1]
    assert deep_table == table and deep_table["a"] is not table["a"]
    assert type(copy.copy(items)) is TrackedList
