"""What steps give and contexts hold comes back from a store as it was, or is refused with its place."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel, SecretStr

from flujo import Flujo, PipelineContext, Step
from flujo.exceptions import UnsavableValueError
from flujo.state import SQLiteBackend


class Colour(enum.Enum):
    RED = 1


class Size(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    left: Any


class Answer(BaseModel):
    items: list[Any] = []
    note: Any = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    _seen: int = PrivateAttr(default=0)


class Names(RootModel[list[str]]):
    pass


ItemT = TypeVar("ItemT")


class Box(BaseModel, Generic[ItemT]):
    inner: ItemT


class Kept(PipelineContext):
    value: Any = None


class Hidden(BaseModel):
    key: SecretStr


NOON = dt.datetime(2026, 3, 1, 12, 0)

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**200,
    1.0,
    float("inf"),
    -0.0,
    1j,
    "",
    "ä\ud800",
    b"\x00\xff",
    bytearray(b"1"),
    (),
    (1, (2,)),
    [1, [2]],
    {"a": {1: (None,)}},
    {1, "a"},
    frozenset({1, (2, 3)}),
    Colour.RED,
    Size.ONE,
    Word.YES,
    Right.READ | Right.WRITE,
    Point(1, 2),
    Pair(1, [Pair(2)]),
    Frozen(1),
    Answer(items=[Answer(note=Pair(1))]),
    Open.model_validate({"x": 1}),
    Names(["a"]),
    Box(inner=1),
    Box[int](inner=1),
    Box[Box[list[str]]](inner=Box(inner=["a"])),
    OrderedDict(b=1, a=2),
    Counter("aab"),
    defaultdict(list, {"a": [1]}),
    deque([1, 2], maxlen=3),
    dt.date(2026, 3, 1),
    NOON,
    NOON.replace(tzinfo=dt.UTC),
    NOON.replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
    dt.time(12, 0),
    dt.timedelta(days=1, microseconds=-1),
    Decimal("1.10"),
    Fraction(1, 3),
    uuid.UUID(int=1),
    Path("/a"),
    PurePosixPath("a/b"),
    {"deep": [Answer(items=[Pair(Point(1, 2), {"k": (Colour.RED, NOON, {Decimal(1)})})])]},
]


async def give(_: Any, *, context: Kept) -> Any:
    return context.initial_context


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or one != one)


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_a_value_comes_back_from_a_store_as_it_was(value: Any, tmp_path: Path) -> None:
    async def make(_: Any, *, context: Kept) -> Any:
        context.value = {"kept": [value]}
        return value

    async def takes(answer: Any, *, context: Kept) -> Any:
        return context.value

    def pipeline() -> Any:
        return Step("make", make) >> Step.human_in_the_loop("ask", "Go on?", str) >> Step("take", takes)

    path = tmp_path / "runs.db"
    first: Flujo[Any, Any] = Flujo(pipeline(), context_model=Kept, state_backend=SQLiteBackend(path))
    paused = await first.run_async(value, run_id="one")
    assert paused.status == "paused", paused.step_history[-1].error
    # Another runner knows the run from the file alone.
    other: Flujo[Any, Any] = Flujo(pipeline(), context_model=Kept, state_backend=SQLiteBackend(path))
    done = await other.resume_async("one", "yes")
    assert done.status == "completed"
    assert same(done.step_history[0].output, value)
    kept = done.output
    assert list(kept) == ["kept"] and same(kept["kept"][0], value)
    third: Flujo[Any, Any] = Flujo(pipeline(), context_model=Kept, state_backend=SQLiteBackend(path))
    again = await third.run_async("anything", run_id="one")
    assert same(again.step_history[0].output, value)
    assert same(again.output["kept"][0], value)


class Unsavable:
    def __repr__(self) -> str:
        return "never shown"


@pytest.mark.parametrize(
    ("value", "place", "said"),
    [
        (threading.Lock(), "", "lock"),
        ([1, {"lock": threading.Lock()}], "[1]['lock']", "lock"),
        (Answer(items=[Pair(1, Unsavable())]), ".items[0].right", "Unsavable"),
        ({"run": lambda: 1}, "['run']", "function"),
        (Hidden(key=SecretStr("canary")), ".key", "SecretStr"),
    ],
    ids=["lock", "nested lock", "object", "function", "secret"],
)
async def test_an_output_that_cant_be_saved_fails_its_step_and_is_named_with_its_place(
    value: Any, place: str, said: str, tmp_path: Path
) -> None:
    calls = 0

    async def make(_: Any) -> Any:
        nonlocal calls
        calls += 1
        return value

    runner: Flujo[Any, Any] = Flujo(
        Step("make", make, max_retries=3), state_backend=SQLiteBackend(tmp_path / "runs.db")
    )
    result = await runner.run_async("x")
    assert result.status == "failed"
    assert calls == 1, "another attempt would give such a value again"
    error = result.step_history[0].error
    assert isinstance(error, UnsavableValueError)
    assert error.path.endswith(place) and "make" in str(error) and said in str(error)
    assert error.suggestion
    assert "never shown" not in str(error) and "canary" not in str(error)


@pytest.mark.parametrize("value", [threading.Lock(), {"a": threading.Lock()}], ids=["lock", "nested"])
async def test_an_input_that_cant_be_saved_is_refused_before_the_first_step(
    value: Any, tmp_path: Path
) -> None:
    calls: list[Any] = []
    runner: Flujo[Any, Any] = Flujo(
        Step("never", calls.append), state_backend=SQLiteBackend(tmp_path / "runs.db")
    )
    with pytest.raises(UnsavableValueError):
        await runner.run_async(value, run_id="refused")
    assert calls == []
    assert await SQLiteBackend(tmp_path / "runs.db").list_runs() == []
