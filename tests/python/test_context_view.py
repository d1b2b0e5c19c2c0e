"""What a context view is, what it shares, and what a commit does."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
import threading
import weakref
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    TypeAdapter,
    ValidationError,
)

from flujo import Flujo, _native, step
from flujo.domain.models import PipelineContext

view = _native.context_view
commit = _native.context_commit
touched = _native.context_touched
plain = _native.context_plain


class Sub(BaseModel):
    tags: set[str] = set()
    data: dict[str, list[int]] = {}


class Context(BaseModel):
    count: int = 0
    name: str = ""
    items: list[Any] = []
    sub: Sub = Sub()
    shape: tuple[Any, ...] = ()
    _notes: list[str] = PrivateAttr(default_factory=list)


# --- What a view is ---------------------------------------------------------------------------------------------------


def test_a_view_is_an_instance_of_the_users_class_under_its_name() -> None:
    made = view(Context())
    assert isinstance(made, Context)
    assert made.__class__ is Context
    assert type(made).__name__ == "Context"
    assert type(made).__qualname__ == Context.__qualname__
    assert type(made).__module__ == Context.__module__
    assert repr(made) == repr(Context())
    assert made == Context()
    assert Context() == made


def test_the_view_class_is_made_once_per_model_class() -> None:
    assert type(view(Context())) is type(view(Context()))
    assert type(view(view(Context()))) is type(view(Context()))


def test_instance_checks_against_the_view_class_do_not_confuse_the_model_class() -> None:
    class Model(BaseModel):
        pass

    class Derived(Model):
        pass

    view_class = type(view(Model()))
    assert not isinstance(Derived(), view_class)
    assert isinstance(Derived(), Model)
    assert isinstance(view(Derived()), Model)
    assert type(view(Derived())) is not view_class


def test_making_a_view_class_runs_no_hook_of_the_users() -> None:
    calls: list[str] = []

    class Model(BaseModel):
        items: list[int] = []

        def __init_subclass__(cls, **kwargs: Any) -> None:
            calls.append("__init_subclass__")
            super().__init_subclass__(**kwargs)

        @classmethod
        def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
            calls.append("__pydantic_init_subclass__")

    class Derived(Model):
        pass

    calls.clear()
    assert view(Derived(items=[1])).items == [1]
    assert calls == []


def test_making_a_view_runs_neither_init_nor_validators() -> None:
    calls: list[str] = []

    class Model(BaseModel):
        items: list[int] = []

        def model_post_init(self, context: Any, /) -> None:
            calls.append("post")

    base = Model()
    calls.clear()
    made = view(base)
    made.items.append(1)
    commit(made, base)
    assert base.items == [1]
    assert calls == []


def test_the_view_class_dies_with_its_model_class() -> None:
    class Model(BaseModel):
        items: list[int] = []

    made = view(Model())
    dead = [weakref.ref(Model), weakref.ref(type(made))]
    del Model, made
    gc.collect()
    assert [reference() for reference in dead] == [None, None]


def test_a_view_in_a_cycle_with_its_own_values_is_collected() -> None:
    class Token:
        pass

    token = Token()
    dead = weakref.ref(token)
    made = view(Context())
    made.items.append(made)
    made.items.append(token)
    del made, token
    gc.collect()
    assert dead() is None


def test_generic_root_and_derived_models_have_views() -> None:
    T = TypeVar("T")

    class Box(BaseModel, Generic[T]):
        content: list[T]

    class Numbers(RootModel[list[int]]):
        pass

    class Wider(Context):
        more: list[int] = []

    box = view(Box[int](content=[1]))
    box.content.append(2)
    assert box == Box[int](content=[1, 2])
    numbers = view(Numbers([1]))
    numbers.root.append(2)
    assert numbers.model_dump() == [1, 2]
    wider = view(Wider(items=[1]))
    wider.more.append(1)
    assert touched(wider) == ["more"]


def test_a_class_made_from_a_view_behaves_as_the_model() -> None:
    made = view(Context(items=[1]))
    again = type(made)(items=[5])
    assert again == Context(items=[5])
    assert type(pickle.loads(pickle.dumps(again))) is Context
    assert TypeAdapter(type(made)).validate_python({"items": [3]}).items == [3]
    assert type(made).model_validate({"count": 2}).count == 2
    assert type(made).model_json_schema() == Context.model_json_schema()


def test_copies_of_a_view_are_plain_models() -> None:
    made = view(Context(items=[1]))
    assert type(made.model_copy()) is Context
    assert type(made.model_copy(deep=True)) is Context
    assert type(pickle.loads(pickle.dumps(made))) is Context
    assert type(plain(made)) is Context
    assert made.model_copy(update={"count": 3}).count == 3


def test_dumps_and_iteration_keep_the_order_of_the_fields() -> None:
    made = view(Context(count=1))
    made.shape = (1,)
    made.items.append(2)
    assert list(made.model_dump()) == ["count", "name", "items", "sub", "shape"]
    assert [name for name, _ in made] == ["count", "name", "items", "sub", "shape"]
    assert made.model_dump_json() == Context(count=1, shape=(1,), items=[2]).model_dump_json()


def test_set_fields_follow_assignments() -> None:
    base = Context(count=1)
    made = view(base)
    made.name = "x"
    assert made.model_fields_set == {"count", "name"}
    assert base.model_fields_set == {"count"}
    assert made.model_dump(exclude_unset=True) == {"count": 1, "name": "x"}
    commit(made, base)
    assert base.model_fields_set == {"count", "name"}


def test_a_models_own_rules_hold_in_its_view() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(validate_assignment=True)
        count: int = 0
        fixed: int = Field(default=1, frozen=True)

    class Frozen(BaseModel):
        model_config = ConfigDict(frozen=True)
        count: int = 0

    strict = view(Strict())
    with pytest.raises(ValidationError):
        strict.count = "many"
    strict.count = "3"
    assert strict.count == 3
    with pytest.raises(ValidationError):
        strict.fixed = 2
    with pytest.raises(ValidationError):
        view(Frozen()).count = 1
    with pytest.raises(ValueError, match="no field"):
        view(Context()).unknown = 1
    with pytest.raises(AttributeError):
        _ = view(Context()).unknown


def test_a_frozen_field_of_an_otherwise_open_model_refuses_assignment() -> None:
    class Model(BaseModel):
        open: int = 0
        fixed: int = Field(default=1, frozen=True)

    made = view(Model())
    made.open = 2
    with pytest.raises(ValidationError):
        made.fixed = 2
    assert touched(made) == ["open"]


# --- Isolation --------------------------------------------------------------------------------------------------------


def test_nested_changes_are_seen_by_nobody_else() -> None:
    base = Context(items=[[1]], sub=Sub(tags={"a"}))
    checkpoint = plain(view(base))
    a, b, failed = view(base), view(base), view(base)
    a.items[0].append(2)
    a.sub.tags.add("b")
    failed.items.clear()
    failed.sub.data["x"] = [1]
    assert b.items == [[1]]
    assert b.sub.tags == {"a"}
    assert base == checkpoint
    _native.context_merge(base, [("a", a), ("b", b)])
    assert base.items == [[1, 2]]
    assert base.sub == Sub(tags={"a", "b"})
    assert checkpoint == Context(items=[[1]], sub=Sub(tags={"a"}))


def test_one_context_serves_many_runs_without_being_changed() -> None:
    initial = Context()
    ends: list[Context] = []

    def work(number: int) -> None:
        for turn in range(25):
            run = view(initial)
            attempt = view(run)
            attempt.count += 1
            attempt.items.append((number, turn))
            commit(attempt, run)
            ends.append(plain(run))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(end.items[0] for end in ends) == [
        (number, turn) for number in range(8) for turn in range(25)
    ]
    assert all(end.count == 1 and len(end.items) == 1 for end in ends)
    assert initial == Context()


def test_aliases_inside_a_field_stay_aliases_and_across_fields_do_not() -> None:
    shared = [1]
    base = Context(items=[shared, shared, {"again": shared}], shape=(shared,))
    made = view(base)
    made.items[0].append(2)
    assert made.items == [[1, 2], [1, 2], {"again": [1, 2]}]
    assert made.shape == ([1],)
    commit(made, base)
    assert base.items[0] is base.items[1] is base.items[2]["again"]


def test_cycles_are_cloned_as_cycles() -> None:
    loop: list[Any] = [1]
    loop.append({"loop": loop, "pair": (loop,)})
    made = view(Context(items=[loop]))
    copied = made.items[0]
    assert copied is not loop
    assert copied[1]["loop"] is copied
    assert copied[1]["pair"][0] is copied


def test_immutable_values_are_shared() -> None:
    big = ("text" * 10, 1, None, (2.5, b"x", Decimal("1.0")), frozenset({1}))
    base = Context(shape=big)
    made = view(base)
    assert made.shape is base.shape
    assert touched(made) == []


def test_equal_values_are_no_writes() -> None:
    base = Context(items=[[1], {"k": 2}], name="x")
    items = base.items
    made = view(base)
    made.items.append(3)
    made.items.pop()
    made.name = "".join(["x"])
    commit(made, base)
    assert base.items is items


def test_values_of_other_types_are_writes_though_they_are_equal() -> None:
    base = Context(items=[1, 1.0, Decimal("1.0"), 0.0])
    made = view(base)
    made.items = [True, 1, Decimal("1.00"), -0.0]
    commit(made, base)
    assert [repr(item) for item in base.items] == ["True", "1", "Decimal('1.00')", "-0.0"]


def test_touched_names_fields_private_attributes_and_extra_values() -> None:
    class Open(Context):
        model_config = ConfigDict(extra="allow")

    made = view(Open(additional=[1], unread=[2]))
    assert touched(made) == []
    _ = made.count, made.name
    assert touched(made) == []
    made.count = 3
    made.items.append(1)
    made._notes.append("x")
    made.additional = 5
    assert set(touched(made)) == {"count", "items", "_notes", "additional", "unread"}
    del made.name
    assert set(touched(made)) >= {"count", "items", "name", "_notes", "additional"}


def test_a_view_goes_on_after_its_commit() -> None:
    base = Context()
    made = view(base)
    for number in range(3):
        made.items.append(number)
        commit(made, base)
        made.items.append("uncommitted")
        made.items.pop()
    assert base.items == [0, 1, 2]


def test_a_view_held_after_its_commit_keeps_what_it_saw() -> None:
    run = view(Context(items=[1]))
    kept = view(run)
    kept.items.append(2)
    commit(kept, run)
    later = view(run)
    later.items.append(3)
    commit(later, run)
    assert kept.items == [1, 2]
    assert run.items == [1, 2, 3]


def test_writes_through_a_kept_dictionary_do_not_reach_later_state() -> None:
    run = view(Context(items=[1]))
    made = view(run)
    attributes = vars(made)
    attributes["items"].append(2)
    commit(made, run)
    attributes["items"].append(3)
    attributes["name"] = "late"
    assert run.items == [1, 2]
    assert run.name == ""


def test_forking_a_view_in_use_takes_its_present_state() -> None:
    made = view(Context(items=[1]))
    items = made.items
    items.append(2)
    inner = view(made)
    items.append(3)
    inner.items.append(4)
    assert inner.items == [1, 2, 4]
    assert made.items == [1, 2, 3]
    assert made.items is items


def test_deletion_of_a_field_is_committed() -> None:
    base = Context(name="x")
    made = view(base)
    del made.name
    assert not hasattr(made, "name")
    assert base.name == "x"
    commit(made, base)
    assert not hasattr(base, "name")


def test_a_validator_that_changes_its_model_stays_inside_the_view() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(validate_assignment=True)
        count: int = 0
        items: list[int] = []

        def model_post_init(self, context: Any, /) -> None:
            self.items.append(1)

    base = Model()
    before = list(base.items)
    made = view(base)
    made.count = 1
    made.items.append(5)
    assert base.items == before


# --- What can't be copied ---------------------------------------------------------------------------------------------


class Client:
    """As an HTTP client: attributes around a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent: list[str] = []


class Resourceful(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    items: list[Any] = []
    client: Any = Field(default=None, exclude=True)
    source: Any = None
    _lock: Any = PrivateAttr(default_factory=threading.RLock)


def test_locks_clients_and_iterators_are_shared_and_the_rest_is_isolated() -> None:
    client, source, lock = Client(), iter([1, 2, 3]), asyncio.Lock()
    base = Resourceful(items=[{"client": client, "list": [1], "lock": lock}], client=client, source=source)
    made = view(base)
    made.items[0]["list"].append(2)
    assert made.items[0]["client"] is client
    assert made.items[0]["lock"] is lock
    assert made.client is client
    assert made.source is source
    assert made._lock is base._lock
    assert next(made.source) == 1
    assert base.items[0]["list"] == [1]
    commit(made, base)
    assert base.items[0]["list"] == [1, 2]
    assert base.items[0]["client"] is client


def test_an_object_around_something_uncopyable_is_shared_whole() -> None:
    class Session:
        def __init__(self) -> None:
            self.parts = {"client": Client(), "history": [1]}

    session = Session()
    made = view(Context(items=[session, [2]]))
    assert made.items[0] is session
    assert made.items[1] is not session


def test_a_dataclass_around_something_uncopyable_is_copied_around_it() -> None:
    @dataclass
    class State:
        lock: Any
        items: list[int] = field(default_factory=list)

    state = State(threading.Lock())
    made = view(Context(items=[state]))
    made.items[0].items.append(1)
    assert made.items[0].lock is state.lock
    assert state.items == []


def test_an_error_in_a_copy_protocol_means_shared_and_an_interrupt_goes_through() -> None:
    class Broken:
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("no")

    class Interrupting:
        def __deepcopy__(self, memo: Any) -> Any:
            raise KeyboardInterrupt

    broken = Broken()
    assert view(Context(items=[broken])).items[0] is broken
    with pytest.raises(KeyboardInterrupt):
        _ = view(Context(items=[Interrupting()])).items


def test_secrets_and_sentinels_survive() -> None:
    sentinel = object()
    made = view(Context(items=[SecretStr("s"), sentinel, NotImplemented, ..., int, len]))
    assert made.items[0].get_secret_value() == "s"
    assert made.items[1] is sentinel
    assert made.items[2:] == [NotImplemented, ..., int, len]


def test_data_nested_too_deep_is_refused_with_a_clear_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    base = Context.model_construct(items=deep)
    with pytest.raises(RecursionError, match="nested deeper than"):
        _ = view(base).items
    while deep:
        deep = deep.pop()


# --- Contexts that aren't models --------------------------------------------------------------------------------------


@dataclass
class Record:
    items: list[int] = field(default_factory=list)
    count: int = 0


class Plain:
    def __init__(self) -> None:
        self.items = [1]
        self.count = 0


def test_other_contexts_are_copied_and_committed_by_attribute() -> None:
    for base in (Record([1]), Plain()):
        made = view(base)
        made.items.append(2)
        assert base.items == [1]
        commit(made, base)
        assert base.items == [1, 2]
        made.items.append(3)
        assert base.items == [1, 2]


def test_dictionaries_are_copied_and_committed_by_key() -> None:
    base: dict[str, Any] = {"items": [1], "gone": 1}
    made = view(base)
    made["items"].append(2)
    made["new"] = deque([1])
    del made["gone"]
    assert base == {"items": [1], "gone": 1}
    commit(made, base)
    assert base == {"items": [1, 2], "new": deque([1])}


def test_a_view_is_committed_only_into_its_own_kind() -> None:
    with pytest.raises(TypeError, match="can't be committed into"):
        commit(view(Context()), Sub())


class WithSlot(BaseModel):
    __slots__ = ("handle",)
    items: list[int] = []


def test_a_model_with_slots_of_its_own_is_copied_with_them() -> None:
    base = WithSlot(items=[1])
    object.__setattr__(base, "handle", [5])
    made = view(base)
    made.items.append(2)
    made.handle.append(6)
    assert (base.items, base.handle) == ([1], [5])
    commit(made, base)
    assert (base.items, base.handle) == ([1, 2], [5, 6])
    assert base.model_fields_set == {"items"}


class Interrupting:
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise KeyboardInterrupt


@pytest.mark.parametrize("enabled", [True, False])
def test_a_clone_leaves_the_collector_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        _native.clone_value([[1], {"a": [2]}])
        assert gc.isenabled() is enabled
        with pytest.raises(KeyboardInterrupt):
            _native.clone_value([[1], Interrupting()])
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


async def test_statistics_count_the_fields_that_were_cloned_and_about_their_bytes() -> None:
    class Notes(PipelineContext):
        lines: list[list[str]] = []
        other: list[str] = []
        title: str = ""

    @step
    async def read(x: int, *, context: Notes) -> int:
        return x + len(context.title)

    @step
    async def write(x: int, *, context: Notes) -> int:
        context.lines.append([])
        context.lines.append([])
        return x

    data = {"initial_prompt": "", "lines": [["one"] for _ in range(100)], "other": ["kept"]}
    runner = Flujo(read >> write, context_model=Notes, initial_context_data=data)
    assert runner.get_performance_statistics()["context_stats"]["fields_cloned"] == 0
    await runner.run_async(1)
    counted = runner.get_performance_statistics()["context_stats"]
    assert counted["fields_cloned"] == 1
    assert 100 * sys.getsizeof([]) < counted["bytes_cloned"] < 2 * 101 * sys.getsizeof(["one"]) + 2000
