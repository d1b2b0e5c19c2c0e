"""What cached values are: a typed canonical form for keys, an exact form for stores, isolated clones."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import subprocess
import sys
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel, SecretStr

from flujo._native import cache_form, cache_restored, cache_stored, isolated_value


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"


class Size(enum.IntEnum):
    ONE = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    left: Any


class Answer(BaseModel):
    items: list[Any] = []
    note: Any = None


class Other(BaseModel):
    items: list[Any] = []
    note: Any = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    _seen: int = PrivateAttr(default=0)


class Names(RootModel[list[str]]):
    pass


class Hidden(BaseModel):
    key: SecretStr


NOON = dt.datetime(2026, 3, 1, 12, 0)

# No two of them are the same; all can be stored.
DIFFERENT: list[Any] = [
    None,
    ...,
    False,
    True,
    0,
    1,
    -1,
    2**63,
    -(2**63) - 1,
    2**200,
    0.0,
    -0.0,
    1.0,
    math.inf,
    1j,
    "",
    "1",
    "ä",
    "\ud800",
    b"1",
    bytearray(b"1"),
    (),
    (1,),
    (True,),
    [1],
    [1.0],
    [[1]],
    [1, 2],
    [2, 1],
    {},
    {1},
    frozenset({1}),
    {"a": 1},
    {"a": "1"},
    {"b": 1},
    {1: 1},
    {True: 1},
    {"a": {"b": [1]}},
    {"a": {}, "b": [1]},
    Colour.RED,
    Colour.GREEN,
    Size.ONE,
    Right.READ,
    Right.READ | Right.WRITE,
    Point(1, 2),
    (1, 2),
    Pair(1, 2),
    Pair(1, [2]),
    Slotted(1),
    Answer(items=[1]),
    Answer(items=[1.0]),
    Other(items=[1]),
    Open.model_validate({"x": 1}),
    Open(),
    Names(["a"]),
    dt.date(2026, 3, 1),
    NOON,
    NOON.replace(fold=1),
    NOON.replace(tzinfo=dt.UTC),
    NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
    NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1), "here")),
    NOON.replace(tzinfo=ZoneInfo("Europe/Berlin")),
    dt.time(12, 0),
    dt.timedelta(days=1, microseconds=-1),
    Decimal("1"),
    Decimal("1.0"),
    Fraction(1, 3),
    uuid.UUID(int=1),
    Path("/a"),
    PurePosixPath("/a"),
    OrderedDict(a=1, b=2),
    OrderedDict(b=2, a=1),
    Counter("aab"),
    defaultdict(list, {"a": [1]}),
    defaultdict(int, {"a": 1}),
    defaultdict(None, {"a": 1}),
    deque([1, 2]),
    deque([1, 2], maxlen=3),
    Answer(items=[Pair(Point(1, 2), {"deep": (Colour.RED, NOON)})], note=Answer()),
]


def key(value: Any) -> bytes:
    return cache_form(value)[0]


def test_values_of_other_types_or_contents_have_other_forms() -> None:
    forms = [key(value) for value in DIFFERENT]
    assert len(set(forms)) == len(DIFFERENT)
    assert not any(cache_form(value)[1] for value in DIFFERENT)


@pytest.mark.parametrize("value", DIFFERENT, ids=repr)
def test_a_stored_value_comes_back_as_it_was(value: Any) -> None:
    restored = cache_restored(cache_stored(value))
    assert type(restored) is type(value)
    assert restored == value or value != value
    assert key(restored) == key(value)


def test_what_pydantic_keeps_beside_the_fields_comes_back_too() -> None:
    made = Open.model_validate({"x": 1})
    made._seen = 7
    restored = cache_restored(cache_stored(made))
    assert (restored._seen, restored.model_extra, restored.model_fields_set) == (7, {"x": 1}, {"x"})
    assert Answer.model_validate(cache_restored(cache_stored(Answer(note=1))).model_dump()) == Answer(note=1)
    assert cache_restored(cache_stored(Answer(note=1))).model_fields_set == {"note"}


def test_the_order_of_dictionaries_and_sets_says_nothing_in_keys_and_stays_in_stores() -> None:
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    assert key({1: "x", "a": 2, (1,): 3}) == key({(1,): 3, "a": 2, 1: "x"})
    one, other = {"eins", "zwei", "drei", 4, None}, {None, 4, "drei", "zwei", "eins"}
    assert key(one) == key(other)
    assert key(frozenset(one)) == key(frozenset(other))
    assert list(cache_restored(cache_stored({"b": 2, "a": 1}))) == ["b", "a"]


def test_whatever_is_no_number_is_one_key() -> None:
    assert key(math.nan) == key(-math.nan) == key(float("nan"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "object"),
        (threading.Lock(), "lock"),
        (lambda: 1, "function"),
        ([1, {"a": iter([])}], "iterator"),
        (type("Number", (int,), {})(1), "Number"),
        (Answer(note=sys), "module"),
        (NOON.replace(tzinfo=type("Zone", (dt.tzinfo,), {})()), "Zone"),
    ],
    ids=["object", "lock", "function", "iterator", "subclass", "module", "zone"],
)
def test_anything_else_has_no_form_and_the_error_names_it(value: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        cache_form(value)
    with pytest.raises(TypeError, match=said):
        cache_stored(value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (sys, None),
        ([1, sys], "[1]"),
        ({"a": (sys,)}, "['a'][0]"),
        ({"what somebody wrote, with: signs": sys}, "[…]"),
        ({(1, 2): sys}, "[…]"),
        (Answer(items=[Pair(1, {"deep": sys})]), ".items[0].right['deep']"),
        (Point(1, sys), "[1]"),
        ({1: 2, "a": sys}, "['a']"),
        (deque([sys]), "[0]"),
        (Counter({"a": sys}), "['a']"),
    ],
    ids=repr,
)
def test_the_error_names_the_place_of_what_has_no_form(value: Any, place: str | None) -> None:
    for form in (cache_form, cache_stored):
        with pytest.raises(TypeError) as refused:
            form(value)
        found, _, reason = str(refused.value).rpartition(": ")
        assert found == ("" if place is None else f"at {place}"), refused.value
        assert reason.startswith("values of module have no")


def test_a_default_that_a_function_makes_cant_be_stored() -> None:
    with pytest.raises(TypeError, match="made by a function"):
        cache_stored(defaultdict(lambda: 1))


def test_a_value_that_contains_itself_or_grows_without_end_is_refused_at_once() -> None:
    circle: list[Any] = []
    circle.append(circle)
    twice: list[Any] = []
    twice.extend([twice, twice])
    doubled: list[Any] = []
    for _ in range(60):
        doubled = [doubled, doubled]
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for endless in (circle, twice, doubled, deep):
        with pytest.raises(TypeError, match="contains itself"):
            cache_form(endless)
    while deep:
        deep = deep.pop()


def test_a_class_that_only_this_process_knows_makes_a_key_of_this_process() -> None:
    def made(name: str) -> type[BaseModel]:
        class Local(BaseModel):
            x: int = 1

        Local.__name__ = name
        return Local

    one, other = made("Local"), made("Local")
    assert cache_form(one()) == cache_form(one())
    assert cache_form(one())[1] is True
    assert key(one()) != key(other())
    with pytest.raises(TypeError, match="top level of a module"):
        cache_stored([one()])


def test_a_secret_is_part_of_keys_and_never_of_what_is_stored() -> None:
    one, other = Hidden(key=SecretStr("canary")), Hidden(key=SecretStr("another"))
    assert key(one) != key(other)
    with pytest.raises(TypeError, match="SecretStr") as refused:
        cache_stored(one)
    assert "canary" not in str(refused.value)


def test_keys_are_the_same_in_every_process() -> None:
    source = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_cache_values as values\n"
        "words = {'eins', 'zwei', 'drei', 4}\n"
        "print([values.key(value).hex() for value in [*values.DIFFERENT, words]])"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", source],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.decimals(allow_nan=False)
    | st.sampled_from([Colour.RED, Right.READ, Size.ONE]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
        | st.builds(Answer, items=st.lists(inner, max_size=3), note=inner)
        | st.builds(Pair, inner, inner)
        | st.frozensets(st.integers() | st.text(max_size=2), max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
def test_any_value_comes_back_from_a_store_and_from_isolation_as_it_was(value: Any) -> None:
    restored = cache_restored(cache_stored(value))
    assert restored == value
    assert key(restored) == key(value) == key(isolated_value(value))


@given(plain, st.data())
def test_damaged_bytes_are_refused_or_read_and_nothing_else_happens(value: Any, data: st.DataObject) -> None:
    stored = bytearray(cache_stored(value))
    place = data.draw(st.integers(0, len(stored) - 1))
    stored[place] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(stored), bytes(stored[:place]), bytes(stored) + b"\0"):
        try:
            cache_restored(damaged)
        except ValueError:
            continue


def test_a_class_that_has_changed_or_is_gone_gives_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = cache_stored(Answer(items=[1]))

    class Answer2(BaseModel):
        items: list[int] = []
        more: int = 0

    monkeypatch.setattr(sys.modules[__name__], "Answer", Answer2)
    with pytest.raises(ValueError, match="changed"):
        cache_restored(stored)
    monkeypatch.delattr(sys.modules[__name__], "Answer")
    with pytest.raises(ValueError, match="isn't imported"):
        cache_restored(stored)


def test_an_isolated_value_shares_nothing_that_can_change() -> None:
    inner = [1]
    value = Answer(items=[inner, {"a": inner}], note=Pair(inner, bytearray(b"x")))
    isolated = isolated_value(value)
    assert isolated == value
    isolated.items[0].append(2)
    isolated.note.right.extend(b"y")
    assert inner == [1]
    assert isolated.items[0] is isolated.items[1]["a"]
    assert value.note.right == b"x"


@pytest.mark.parametrize(
    "part", [threading.Lock(), iter([1]), (n for n in ())], ids=["lock", "iterator", "generator"]
)
def test_a_value_that_cannot_be_isolated_is_told_by_none(part: Any) -> None:
    for value in (part, [part], Answer(note=part), Pair({"deep": (part,)})):
        assert isolated_value(value) is None
