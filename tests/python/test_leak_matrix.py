"""Every way into a context view, for every container: nothing leaks before a commit, everything arrives after."""

from __future__ import annotations

import array
import copy
import operator
import pickle
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr, TypeAdapter, computed_field, model_validator

from flujo import Flujo, Pipeline, Step, _native
from flujo.domain.dsl import ImportStep, StateMachineStep
from flujo.domain.models import RefinementCheck
from flujo.exceptions import ContextMergeError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# --- Containers -------------------------------------------------------------------------------------------------------


class Nested(BaseModel):
    tags: dict[str, list[int]] = {}


class FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True)
    items: list[int] = []


@dataclass
class Record:
    items: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class FrozenRecord:
    items: list[int] = field(default_factory=list)


@dataclass(slots=True)
class SlottedRecord:
    items: list[int] = field(default_factory=list)


class Pair(NamedTuple):
    left: int
    items: list[int]


class Plain:
    def __init__(self) -> None:
        self.items = [1]


class Slotted:
    __slots__ = ("items", "unset")

    def __init__(self) -> None:
        self.items = [1]


class Copier:
    """Brings its own copy protocol."""

    def __init__(self) -> None:
        self.items = [1]

    def __deepcopy__(self, memo: dict[int, Any]) -> Copier:
        made = Copier()
        made.items = copy.deepcopy(self.items, memo)
        return made


class Reducing:
    """Is rebuilt from its state."""

    def __init__(self) -> None:
        self.items = [1]

    def __getstate__(self) -> list[int]:
        return self.items

    def __setstate__(self, state: list[int]) -> None:
        self.items = state


class Names(list[int]):
    """A list with attributes."""


def add_to_items(value: Any) -> None:
    value.items.append(99)


def items_of(value: Any) -> object:
    return list(value.items)


class Container(NamedTuple):
    make: Callable[[], Any]
    change: Callable[[Any], object]
    look: Callable[[Any], object]


CONTAINERS: dict[str, Container] = {
    "list": Container(lambda: [1], lambda v: v.append(99), list),
    "list in list": Container(lambda: [[1]], lambda v: v[0].append(99), copy.deepcopy),
    "dict": Container(lambda: {"k": 1}, lambda v: v.update(new=99), dict),
    "list in dict": Container(lambda: {"k": [1]}, lambda v: v["k"].append(99), copy.deepcopy),
    "set": Container(lambda: {1}, lambda v: v.add(99), set),
    "deque": Container(lambda: deque([1], maxlen=9), lambda v: v.append(99), lambda v: (list(v), v.maxlen)),
    "list in deque": Container(lambda: deque([[1]]), lambda v: v[0].append(99), copy.deepcopy),
    "defaultdict": Container(lambda: defaultdict(list, k=[1]), lambda v: v["new"].append(99), copy.deepcopy),
    "OrderedDict": Container(
        lambda: OrderedDict(a=[1], b=[2]), lambda v: v.move_to_end("a"), lambda v: list(v)
    ),
    "list in OrderedDict": Container(lambda: OrderedDict(a=[1]), lambda v: v["a"].append(99), copy.deepcopy),
    "Counter": Container(lambda: Counter(a=1), lambda v: v.update("a"), dict),
    "bytearray": Container(lambda: bytearray(b"ab"), lambda v: v.append(99), bytes),
    "array": Container(lambda: array.array("i", [1]), lambda v: v.append(99), list),
    "nested model": Container(
        lambda: Nested(tags={"k": [1]}), lambda v: setattr(v, "tags", {}), lambda v: repr(v)
    ),
    "list in dict in nested model": Container(
        lambda: {"m": Nested(tags={"k": [1]})}, lambda v: v["m"].tags["k"].append(99), lambda v: repr(v)
    ),
    "frozen model": Container(lambda: FrozenModel(items=[1]), add_to_items, items_of),
    "dataclass": Container(lambda: Record([1]), add_to_items, items_of),
    "frozen dataclass": Container(lambda: FrozenRecord([1]), add_to_items, items_of),
    "slotted dataclass": Container(lambda: SlottedRecord([1]), add_to_items, items_of),
    "tuple": Container(lambda: (1, [1]), lambda v: v[1].append(99), copy.deepcopy),
    "named tuple": Container(lambda: Pair(1, [1]), add_to_items, items_of),
    "object": Container(Plain, add_to_items, items_of),
    "object with slots": Container(Slotted, add_to_items, items_of),
    "object with __deepcopy__": Container(Copier, add_to_items, items_of),
    "object with __getstate__": Container(Reducing, add_to_items, items_of),
    "namespace": Container(lambda: SimpleNamespace(items=[1]), add_to_items, items_of),
    "list subclass": Container(lambda: Names([1]), lambda v: v.append(99), list),
}


# --- Contexts ---------------------------------------------------------------------------------------------------------


class Context(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    number: int = 0
    value: Any = None
    other: list[int] = []
    _hidden: Any = PrivateAttr(default=None)

    @cached_property
    def cached(self) -> Any:
        return self.value

    @computed_field
    @property
    def computed(self) -> int:
        return len(self.other)

    @property
    def derived(self) -> Any:
        return self.value

    def change_with(self, change: Callable[[Any], object]) -> None:
        change(self.value)


class ValidatingContext(Context):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True, validate_assignment=True)


class SelfValidatingContext(ValidatingContext):
    @model_validator(mode="after")
    def count(self) -> SelfValidatingContext:
        self.other.append(1)
        return self


class OwnSetattrContext(Context):
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)


# --- Ways in ----------------------------------------------------------------------------------------------------------


class Way(NamedTuple):
    go: Callable[[Any, Container], object]
    reaches: bool = True
    """The view itself sees the change."""
    where: str = "value"
    model: type[Context] = Context


def in_place(read: Callable[[Any], Any]) -> Callable[[Any, Container], object]:
    return lambda view, container: container.change(read(view))


def changed(view: Any, container: Container) -> Any:
    value = copy.deepcopy(view.value)
    container.change(value)
    return value


def delete_and_assign(view: Any, container: Container) -> None:
    value = changed(view, container)
    del view.value
    with pytest.raises(AttributeError):
        _ = view.value
    view.value = value


def in_a_thread(view: Any, container: Container) -> None:
    thread = threading.Thread(target=lambda: container.change(view.value))
    thread.start()
    thread.join()


def through_a_pattern(view: Any, container: Container) -> None:
    match view:
        case Context(value=value):
            container.change(value)
        case _:
            raise AssertionError("a view is an instance of its model")


def assign_another_field_first(view: Any, container: Container) -> None:
    view.number = 7
    container.change(view.value)


def pickled(view: Any) -> Any:
    return pickle.loads(pickle.dumps(view))


WAYS: dict[str, Way] = {
    "attribute": Way(in_place(lambda v: v.value)),
    "getattr": Way(in_place(lambda v: getattr(v, "val" + "ue"))),
    "object.__getattribute__": Way(in_place(lambda v: object.__getattribute__(v, "value"))),
    "attrgetter": Way(in_place(operator.attrgetter("value"))),
    "vars": Way(in_place(lambda v: vars(v)["value"])),
    "__dict__": Way(in_place(lambda v: v.__dict__["value"])),
    "write to __dict__": Way(lambda v, c: v.__dict__.update(value=changed(v, c))),
    "iteration": Way(in_place(lambda v: next(value for name, value in v if name == "value"))),
    "dict()": Way(in_place(lambda v: dict(v)["value"])),
    "repr args": Way(in_place(lambda v: dict(v.__repr_args__())["value"])),
    "pattern": Way(through_a_pattern),
    "method": Way(lambda v, c: v.change_with(c.change)),
    "property": Way(in_place(lambda v: v.derived)),
    "cached property": Way(in_place(lambda v: v.cached)),
    "computed field": Way(lambda v, c: (v.computed, c.change(v.value))),
    "assignment": Way(lambda v, c: setattr(v, "value", changed(v, c))),
    "object.__setattr__": Way(lambda v, c: object.__setattr__(v, "value", changed(v, c))),
    "deletion": Way(delete_and_assign),
    "validated assignment": Way(lambda v, c: setattr(v, "value", changed(v, c)), model=ValidatingContext),
    "after validated assignment": Way(assign_another_field_first, model=ValidatingContext),
    "after a self-changing validator": Way(assign_another_field_first, model=SelfValidatingContext),
    "own __setattr__": Way(lambda v, c: setattr(v, "value", changed(v, c)), model=OwnSetattrContext),
    "private attribute": Way(in_place(lambda v: v._hidden), where="_hidden"),
    "private dictionary": Way(in_place(lambda v: v.__pydantic_private__["_hidden"]), where="_hidden"),
    "private assignment": Way(lambda v, c: setattr(v, "_hidden", changed(v, c)), where="_hidden"),
    "extra value": Way(in_place(lambda v: v.additional), where="additional"),
    "model_extra": Way(in_place(lambda v: v.model_extra["additional"]), where="additional"),
    "extra assignment": Way(lambda v, c: setattr(v, "additional", changed(v, c)), where="additional"),
    "extra iteration": Way(in_place(lambda v: dict(v)["additional"]), where="additional"),
    "another thread": Way(in_a_thread),
    "model_copy": Way(in_place(lambda v: v.model_copy().value)),
    "copy.copy": Way(in_place(lambda v: copy.copy(v).value)),
    "validation by instance": Way(in_place(lambda v: TypeAdapter(type(v)).validate_python(v).value)),
    "model_copy(deep)": Way(in_place(lambda v: v.model_copy(deep=True).value), reaches=False),
    "copy.deepcopy": Way(in_place(lambda v: copy.deepcopy(v).value), reaches=False),
    "pickle": Way(in_place(lambda v: pickled(v).value), reaches=False),
    "plain": Way(in_place(lambda v: _native.context_plain(v).value), reaches=False),
    "a view of the view": Way(in_place(lambda v: _native.context_view(v).value), reaches=False),
    "a new model from its class": Way(
        lambda v, c: c.change(v.__class__(value=c.make()).value) or c.change(type(v)(value=c.make()).value),
        reaches=False,
    ),
}


def make_base(way: Way, container: Container) -> Context:
    base = way.model(value=container.make(), additional=container.make())
    base._hidden = container.make()
    return base


def seen(context: Any, way: Way, container: Container) -> object:
    return container.look(getattr(context, way.where))


matrix = pytest.mark.parametrize(
    ("way", "container"),
    [
        pytest.param(way, container, id=f"{way_name}-{container_name}")
        for way_name, way in WAYS.items()
        for container_name, container in CONTAINERS.items()
    ],
)


@matrix
def test_a_change_stays_in_its_view_until_commit(way: Way, container: Container) -> None:
    base = make_base(way, container)
    untouched = seen(base, way, container)
    view, sibling, fresh = (_native.context_view(base) for _ in range(3))
    assert seen(sibling, way, container) == untouched

    way.go(view, container)

    assert seen(base, way, container) == untouched
    assert seen(sibling, way, container) == untouched
    assert seen(fresh, way, container) == untouched
    assert seen(_native.context_view(base), way, container) == untouched
    assert (seen(view, way, container) != untouched) is way.reaches
    after = seen(view, way, container)
    if way.reaches:
        assert way.where in _native.context_touched(view)

    _native.context_commit(view, base)

    assert seen(base, way, container) == after
    assert seen(sibling, way, container) == untouched
    assert seen(view, way, container) == after
    assert type(base) is way.model


@matrix
def test_a_change_in_a_nested_view_passes_one_commit_at_a_time(way: Way, container: Container) -> None:
    base = make_base(way, container)
    untouched = seen(base, way, container)
    lane = _native.context_view(base)
    attempt, failed = _native.context_view(lane), _native.context_view(lane)

    way.go(attempt, container)
    after = seen(attempt, way, container)
    assert seen(lane, way, container) == untouched
    _native.context_commit(attempt, lane)
    assert seen(lane, way, container) == after
    assert seen(base, way, container) == untouched
    assert seen(failed, way, container) == untouched
    _native.context_commit(lane, base)
    assert seen(base, way, container) == after


@matrix
def test_a_dropped_view_leaves_no_trace(way: Way, container: Container) -> None:
    base = make_base(way, container)
    untouched = seen(base, way, container)
    fields_set = set(base.model_fields_set)
    view = _native.context_view(base)
    way.go(view, container)
    del view
    assert seen(base, way, container) == untouched
    assert base.model_fields_set == fields_set


@matrix
def test_a_reference_kept_over_a_commit_cannot_write_into_later_state(way: Way, container: Container) -> None:
    run = _native.context_view(make_base(way, container))
    view = _native.context_view(run)
    way.go(view, container)
    held = getattr(view, way.where)
    _native.context_commit(view, run)
    committed = seen(_native.context_view(run), way, container)

    container.change(held)
    if way.where == "value":
        way.go(view, container)

    assert seen(_native.context_view(run), way, container) == committed
    assert seen(run, way, container) == committed


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_a_part_kept_over_a_commit_cannot_write_into_later_state(container: Container) -> None:
    run = _native.context_view(Context(value=[[container.make()]]))
    view = _native.context_view(run)
    view.value.append(0)
    held = view.value[0][0]
    _native.context_commit(view, run)
    committed = container.look(_native.context_view(run).value[0][0])
    container.change(held)
    assert container.look(_native.context_view(run).value[0][0]) == committed


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_a_reference_from_before_the_view_is_never_handed_out(container: Container) -> None:
    held = container.make()
    base = Context(value=held)
    view = _native.context_view(base)
    before = container.look(view.value)
    assert view.value is not held
    container.change(view.value)
    assert container.look(held) == before
    base_sees = container.look(base.value)
    container.change(held)
    other = _native.context_view(base)
    assert other.value is not held
    assert base_sees == before


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_reading_alone_writes_nothing(container: Container) -> None:
    run = _native.context_view(Context(value=container.make()))
    view = _native.context_view(run)
    container.look(view.value)
    original = vars(_native.context_plain(run))["value"]
    _native.context_commit(view, run)
    assert container.look(run.value) == container.look(original)


STRATEGIES = ("context_update", "overwrite", "keep_first", "error_on_conflict", "no_merge")
strategies = pytest.mark.parametrize("strategy", STRATEGIES)


@strategies
@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_branches_that_only_read_do_not_conflict(container: Container, strategy: str) -> None:
    base = Context(value=container.make())
    before = container.look(base.value)
    lanes = {name: _native.context_view(base) for name in "abc"}
    for lane in lanes.values():
        container.look(lane.value)
    container.change(lanes["b"].value)
    after = container.look(lanes["b"].value)
    _native.context_merge(base, list(lanes.items()), strategy)
    assert container.look(base.value) == (before if strategy == "no_merge" else after)


@strategies
@matrix
def test_a_merge_takes_one_branch_s_change_and_leaks_nothing(
    way: Way, container: Container, strategy: str
) -> None:
    run = _native.context_view(make_base(way, container))
    untouched = seen(run, way, container)
    lanes = {name: _native.context_view(run) for name in "abc"}
    way.go(lanes["b"], container)
    changed = seen(lanes["b"], way, container)
    held = [getattr(lane, way.where) for lane in lanes.values()]

    _native.context_merge(run, list(lanes.items()), strategy)

    merged = seen(run, way, container)
    assert merged == (untouched if strategy == "no_merge" else changed)
    for part in held:
        container.change(part)
    assert seen(_native.context_view(run), way, container) == merged
    assert seen(run, way, container) == merged


@strategies
@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_what_two_branches_changed_is_merged_or_refused_and_leaks_nothing(
    container: Container, strategy: str
) -> None:
    run = _native.context_view(Context(value={"in": container.make()}, other=[0]))
    untouched = container.look(run.value["in"])
    lanes = {name: _native.context_view(run) for name in "ab"}
    for number, lane in enumerate(lanes.values()):
        container.change(lane.value["in"])
        lane.value[f"new {number}"] = container.make()
    held = [lane.value for lane in lanes.values()]
    try:
        _native.context_merge(run, list(lanes.items()), strategy)
    except ContextMergeError:
        assert strategy in ("context_update", "error_on_conflict")
        assert (container.look(run.value["in"]), list(run.value)) == (untouched, ["in"])
    else:
        expected = ["in"] if strategy == "no_merge" else ["in", "new 0", "new 1"]
        assert list(run.value) == expected
    merged = {name: container.look(part) for name, part in run.value.items()}
    for value in held:
        for part in value.values():
            container.change(part)
    for context in (run, _native.context_view(run)):
        assert {name: container.look(part) for name, part in context.value.items()} == merged


# --- Constructs -------------------------------------------------------------------------------------------------------


def in_loop(body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    return Step.loop_until("whole", body, lambda out, ctx: True, **options)


def in_router(body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    async def choose(given: Any) -> list[str]:
        return ["only"]

    return Step.dynamic_parallel_branch("whole", choose, {"only": body}, **options)


CONSTRUCTS: dict[str, Callable[..., Step[Any, Any]]] = {
    "sub-pipeline": lambda body, **options: Pipeline([body]).as_step("whole", **options),
    "conditional": lambda body, **options: Step.branch_on("whole", lambda out: 1, {1: body}, **options),
    "parallel": lambda body, **options: Step.parallel("whole", {"only": body}, **options),
    "map": lambda body, **options: Step.map_over(
        "whole", body, iterable_input=lambda given: [given], **options
    ),
    "loop": in_loop,
    "refine": lambda body, **options: Step.refine_until("whole", body, Step("critic", content), **options),
    "router": in_router,
    "state machine": lambda body, **options: StateMachineStep(
        "whole", {"only": body}, "only", ["only"], **options
    ),
    "import": lambda body, **options: ImportStep("whole", body, inherit_context=True, **options),
}


async def content(_artifact: Any) -> RefinementCheck:
    return RefinementCheck(is_complete=True)


each_construct_and_container = pytest.mark.parametrize(
    ("construct", "container"),
    [
        pytest.param(construct, container, id=f"{construct_name}-{container_name}")
        for construct_name, construct in CONSTRUCTS.items()
        for container_name, container in CONTAINERS.items()
    ],
)


@each_construct_and_container
async def test_a_construct_keeps_what_its_last_attempt_wrote_and_nothing_else(
    construct: Callable[..., Step[Any, Any]], container: Container
) -> None:
    given = container.make()
    untouched = container.look(given)
    expected = container.make()
    container.change(expected)
    seen: list[object] = []
    held: list[Any] = []

    async def change(x: Any, context: Any) -> Any:
        seen.append(container.look(context.value))
        container.change(context.value)
        held.append(context.value)
        if len(seen) == 1:
            raise ValueError("the first attempt fails after it has written")
        return x

    async def look(x: Any, context: Any) -> Any:
        for kept in held:
            container.change(kept)
        seen.append(container.look(context.value))
        return x

    body = Pipeline([Step("change", change, max_retries=0)]).as_step("body")
    whole = construct(body, max_retries=1) >> Step("look", look)
    runner = Flujo(whole, context_model=Context, initial_context_data={"value": given})
    result = await runner.run_async("x")
    assert result.success, result.step_history[0].feedback
    assert seen == [untouched, untouched, container.look(expected)]
    assert container.look(result.final_pipeline_context.value) == container.look(expected)
    assert container.look(given) == untouched


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
async def test_a_reference_kept_over_an_iteration_cannot_write_into_the_next_one(
    container: Container,
) -> None:
    held: list[Any] = []
    seen: list[object] = []

    async def change(x: int, context: Any) -> int:
        for kept in held:
            container.change(kept)
        seen.append(container.look(context.value))
        if x == 0:
            container.change(context.value)
        held.append(context.value)
        return x + 1

    def enough(out: int, context: Any) -> bool:
        container.change(context.value)  # an exit condition only reads: what it writes is dropped
        return out == 3

    expected = container.make()
    container.change(expected)
    loop = Step.loop_until("loop", Step("change", change), enough)
    runner = Flujo(loop, context_model=Context, initial_context_data={"value": container.make()})
    result = await runner.run_async(0)
    assert result.success
    assert seen == [container.look(container.make()), container.look(expected), container.look(expected)]
    assert container.look(result.final_pipeline_context.value) == container.look(expected)
