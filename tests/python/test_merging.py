"""How the contexts of branches, and of items that run at the same time, become one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flujo import Flujo, MergeStrategy, Step
from flujo.domain.models import PipelineContext
from flujo.exceptions import ConfigurationError, ContextMergeError

MERGING = ["context_update", "overwrite", "keep_first", "error_on_conflict"]

Write = Callable[[Any], object]


class Note(BaseModel):
    text: str = ""
    stars: int = 0


@dataclass
class Record:
    left: int = 0
    right: int = 0
    items: list[int] = field(default_factory=list)


class State(PipelineContext):
    total: int = 0
    names: list[str] = []
    table: dict[str, Any] = {}
    tags: set[str] = set()
    note: Note = Note()
    record: Record = Record()


def branch(name: str, write: Write) -> Step[Any, Any]:
    async def body(x: int, *, context: Any) -> int:
        write(context)
        return x

    return Step(name, body)


async def merged(strategy: Any, *writes: Write, model: type[BaseModel] = State, **data: Any) -> Any:
    """The result of a run of branches a, b, … that do these writes."""
    branches = {name: branch(name, write) for name, write in zip("abcd", writes, strict=False)}
    fan = Step.parallel("fan", branches, merge_strategy=strategy)
    return await Flujo(fan, context_model=model, initial_context_data=data).run_async(1)


def conflict(result: Any) -> ContextMergeError:
    assert result.status == "failed"
    error = result.step_history[0].error
    assert isinstance(error, ContextMergeError)
    return error


# --- What the strategies decide


@pytest.mark.parametrize("strategy", MERGING)
async def test_a_branch_s_untouched_value_is_never_a_write(strategy: str) -> None:
    def first(context: State) -> None:
        context.total = 5
        context.names.remove("q")
        context.table["deep"]["x"] = 1
        context.note.text = "first"
        context.record.left = 1
        context.tags.discard("old")

    def second(context: State) -> None:
        context.names.append("b")
        context.table["deep"]["y"] = 2
        del context.table["gone"]
        context.note.stars = 3
        context.record.right = 2
        context.tags.add("new")

    result = await merged(
        strategy,
        first,
        lambda context: (context.total, context.names, context.table, context.note, context.tags),
        second,
        names=["q", "r"],
        table={"deep": {}, "gone": 1, "kept": float("nan")},
        tags={"old"},
    )
    assert result.success, result.step_history[0].feedback
    context = result.final_pipeline_context
    assert (context.total, context.names, context.tags) == (5, ["r", "b"], {"new"})
    assert (context.table["deep"], "gone" in context.table) == ({"x": 1, "y": 2}, False)
    assert (context.note, context.record) == (Note(text="first", stars=3), Record(1, 2))


@pytest.mark.parametrize("value", [5, 2.5, "five", [5], None])
async def test_different_values_for_one_path_fail_naming_path_branches_and_values(value: Any) -> None:
    result = await merged(
        "context_update",
        lambda context: context.table["k"].update(n=value),
        lambda context: None,
        lambda context: context.table["k"].update(n=7),
        table={"k": {"n": 0}},
    )
    error = conflict(result)
    assert (error.path, error.branches, error.values) == ("table['k']['n']", ["a", "c"], [value, 7])
    assert all(part in str(error) for part in ("table['k']['n']", '"a"', '"c"', repr(value), "7"))
    assert result.final_pipeline_context.table == {"k": {"n": 0}}


async def test_overwrite_takes_the_last_declared_branch_and_keep_first_the_first() -> None:
    def write(value: int) -> Write:
        def write(context: State) -> None:
            context.total = value
            context.table["k"] = value
            context.names.append(str(value))

        return write

    for strategy, winner in ((MergeStrategy.OVERWRITE, 3), ("Keep_First", 5)):
        result = await merged(strategy, write(5), lambda context: None, write(3))
        context = result.final_pipeline_context
        assert (context.total, context.table, context.names) == (winner, {"k": winner}, [str(winner)])


@pytest.mark.parametrize(
    ("path", "write"),
    [
        ("total", lambda c: setattr(c, "total", 5)),
        ("table['k']", lambda c: c.table.update(k=1)),
        ("table['gone']", lambda c: c.table.pop("gone")),
        ("names", lambda c: c.names.append("x")),
        ("names[0]", lambda c: c.names.remove("q")),
        ("tags", lambda c: c.tags.add("x")),
        ("note.stars", lambda c: setattr(c.note, "stars", 2)),
    ],
)
async def test_error_on_conflict_refuses_any_path_written_twice_and_names_it_and_the_branches(
    path: str, write: Write
) -> None:
    result = await merged(
        MergeStrategy.ERROR_ON_CONFLICT, write, lambda c: None, write, table={"gone": 1}, names=["q"]
    )
    error = conflict(result)
    assert (error.path, error.branches) == (path, ["a", "c"])


async def test_no_merge_drops_what_branches_wrote() -> None:
    result = await merged(MergeStrategy.NO_MERGE, lambda c: setattr(c, "total", 5), lambda c: None)
    assert result.success and result.final_pipeline_context.total == 0


def test_the_strategy_that_is_gone_names_its_cure() -> None:
    branches = {"a": branch("a", lambda c: None)}
    for use in (
        lambda: MergeStrategy.MERGE_SCRATCHPAD,
        lambda: MergeStrategy("merge_scratchpad"),
        lambda: Step.parallel("fan", branches, merge_strategy="MERGE_SCRATCHPAD"),
        lambda: Step.map_over("m", branches["a"], merge_strategy="merge_scratchpad"),
    ):
        with pytest.raises(ConfigurationError, match=r"typed fields .* CONTEXT_UPDATE"):
            use()
    with pytest.raises(ValueError, match="merge_strategy"):
        Step.parallel("fan", branches, merge_strategy="sum")


async def test_items_that_run_at_once_are_merged_by_the_strategy_of_their_map() -> None:
    async def item(x: int, *, context: State) -> int:
        context.total = x
        return x

    async def run(**options: Any) -> Any:
        mapped = Step.map_over("m", Step("item", item), max_concurrency=3, **options)
        return await Flujo(mapped, context_model=State).run_async([7, 8, 9])

    assert conflict(await run()).path == "total"
    assert (await run(merge_strategy="overwrite")).final_pipeline_context.total == 9
    assert (await run(merge_strategy=MergeStrategy.KEEP_FIRST)).final_pipeline_context.total == 7
    assert (await run(merge_strategy="no_merge")).final_pipeline_context.total == 0

    def total(context: State, items: dict[str, State]) -> None:
        context.total = sum(item.total for item in items.values())
        context.names = list(items)

    context = (await run(merge_strategy=total)).final_pipeline_context
    assert (context.total, context.names) == (24, ["0", "1", "2"])


@pytest.mark.parametrize("strategy", MERGING)
@pytest.mark.parametrize("order", list(permutations("abc")))
async def test_the_result_never_depends_on_who_finished_first(strategy: str, order: tuple[str, ...]) -> None:
    done = {name: asyncio.Event() for name in order}
    after = dict(zip(order[1:], order[:-1], strict=True))

    def body(name: str) -> Step[Any, Any]:
        async def write(x: int, *, context: State) -> int:
            if name in after:
                await done[after[name]].wait()
            context.names.append(name)
            context.table[name] = len(context.table)
            context.record.items.append(ord(name))
            if strategy in ("overwrite", "keep_first"):
                context.total = ord(name)
            done[name].set()
            return x

        return Step(name, write)

    fan = Step.parallel("fan", {name: body(name) for name in "abc"}, merge_strategy=strategy)
    result = await Flujo(fan, context_model=State).run_async(1)
    context = result.final_pipeline_context
    if strategy == "error_on_conflict":
        assert (conflict(result).path, conflict(result).branches) == ("names", ["a", "b", "c"])
        return
    winner = {"context_update": "abc", "overwrite": "c", "keep_first": "a"}[strategy]
    assert (context.names, context.record.items) == (list(winner), [ord(name) for name in winner])
    assert context.table == {"a": 0, "b": 0, "c": 0}
    assert list(context.table) == ["a", "b", "c"]
    assert context.total == {"context_update": 0, "overwrite": ord("c"), "keep_first": ord("a")}[strategy]


# --- Merge functions


async def test_a_function_merges_in_place_or_returns_a_context_at_once_or_later() -> None:
    def in_place(context: State, branches: dict[str, State]) -> None:
        context.total = sum(branch.total for branch in branches.values())
        context.names = list(branches)

    def returned(context: State, branches: dict[str, State]) -> State:
        in_place(context, branches)
        return context

    def anew(context: State, branches: dict[str, State]) -> State:
        return State(total=sum(branch.total for branch in branches.values()), names=[*branches], tags={"t"})

    async def later(context: State, branches: dict[str, State]) -> None:
        await asyncio.sleep(0)
        in_place(context, branches)

    async def anew_later(context: State, branches: dict[str, State]) -> State:
        await asyncio.sleep(0)
        return anew(context, branches)

    writes = [lambda c: setattr(c, "total", 5), lambda c: None, lambda c: setattr(c, "total", 3)]
    for function in (in_place, returned, anew, later, anew_later):
        result = await merged(function, *writes, tags={"t"})
        assert result.success, result.step_history[0].feedback
        context = result.final_pipeline_context
        assert (context.total, context.names, context.tags) == (8, ["a", "b", "c"], {"t"})
        assert type(context) is State

    chosen = await merged(lambda context, branches: branches["c"], *writes)
    assert chosen.final_pipeline_context.total == 3


async def test_a_function_that_gives_anything_else_fails_and_says_what_to_do() -> None:
    result = await merged(lambda context, branches: 5, lambda c: setattr(c, "total", 5))
    assert result.status == "failed" and result.final_pipeline_context.total == 0
    feedback = result.step_history[0].feedback
    assert all(part in feedback for part in ("the merge of 'fan'", "int", "return None"))


async def test_a_function_that_raises_fails_its_step_and_leaves_branches_history_and_context() -> None:
    class Refused(Exception):
        pass

    def plain(context: State, branches: dict[str, State]) -> None:
        context.total = 99
        raise Refused("no")

    async def later(context: State, branches: dict[str, State]) -> None:
        await asyncio.sleep(0)
        plain(context, branches)

    async def before(x: int, *, context: State) -> int:
        context.total = 1
        return x

    for function in (plain, later):
        branches = {name: branch(name, lambda c: c.names.append("x")) for name in "ab"}
        fan = Step.parallel("fan", branches, merge_strategy=function)
        runner = Flujo(Step("before", before) >> fan, context_model=State)
        result = await runner.run_async(1)
        failed = result.step_history[1]
        assert (result.status, failed.name, failed.success) == ("failed", "fan", False)
        assert isinstance(failed.error, Refused) and "no" in (failed.feedback or "")
        assert result.step_history[0].success
        assert [step.name for step in failed.step_history] == ["a", "b"]
        context = result.final_pipeline_context
        assert (context.total, context.names) == (1, [])


@pytest.mark.parametrize("kind", ["plain", "later", "rule"])
async def test_a_function_that_hangs_is_left_at_the_deadline_and_the_loop_goes_on(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    go_on, ended = threading.Event(), threading.Event()
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def plain(context: Any, branches: Any) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(60)
        context.total = 99
        ended.set()

    async def later(context: Any, branches: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    class Ruled(PipelineContext):
        total: int = 0
        value: int = 0

    def rule(base: int, values: list[int]) -> int:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(60)
        ended.set()
        return 99

    Ruled.__pydantic_fields__["value"].metadata.append(rule)
    strategy: Any = {"plain": plain, "later": later, "rule": "context_update"}[kind]
    branches = {name: branch(name, lambda c: setattr(c, "value", 1)) for name in "ab"}
    fan = Step.parallel("fan", branches, merge_strategy=strategy, deadline_s=0.2)
    running = asyncio.ensure_future(Flujo(fan, context_model=Ruled).run_async(1))
    # The function waits in the middle of its work; this goes on nevertheless, and before the run does.
    await asyncio.wait({running, asyncio.ensure_future(begun.wait())}, return_when=asyncio.FIRST_COMPLETED)
    assert begun.is_set() and not ended.is_set() and not running.done()
    result = await running
    assert result.status == "failed"
    assert "deadline" in (result.step_history[0].feedback or "")
    assert [step.name for step in result.step_history[0].step_history] == ["a", "b"]
    if kind != "later":
        assert "goes on in its thread" in caplog.text
        go_on.set()
        assert await asyncio.to_thread(ended.wait, 60)
    assert (result.final_pipeline_context.total, result.final_pipeline_context.value) == (0, 0)


async def test_what_a_function_keeps_reaches_nothing_later() -> None:
    kept: list[Any] = []

    def keep(context: State, branches: dict[str, State]) -> None:
        context.names = branches["a"].names
        kept.extend([context.names, branches["a"].names, branches["b"].table, context])

    async def look(x: Any, *, context: State) -> Any:
        for part in kept[:2]:
            part.append("late")
        kept[2]["late"] = True
        kept[3].total = 99
        return (list(context.names), dict(context.table), context.total)

    branches = {"a": branch("a", lambda c: c.names.append("a")), "b": branch("b", lambda c: None)}
    fan = Step.parallel("fan", branches, merge_strategy=keep)
    result = await Flujo(fan >> Step("look", look), context_model=State).run_async(1)
    assert result.output == (["a"], {}, 0)
    context = result.final_pipeline_context
    assert (context.names, context.table, context.total) == (["a"], {}, 0)


# --- Validation of what branches make together


class Guarded(PipelineContext):
    model_config = ConfigDict(validate_assignment=True)

    low: int = 0
    high: int = 10
    names: list[str] = Field(default=[], max_length=3)
    shout: list[str] = []
    note: Note = Note()

    @field_validator("shout")
    @classmethod
    def _loud(cls, words: list[str]) -> list[str]:
        return [word.upper() for word in words]


class Ordered(Guarded):
    @model_validator(mode="after")
    def _ordered(self) -> Ordered:
        if self.low > self.high:
            raise ValueError("low is over high")
        return self


async def test_what_branches_make_together_is_validated_as_an_assignment_would_be() -> None:
    def append(*words: str) -> Write:
        return lambda context: context.names.extend(words)

    fine = await merged("context_update", append("a"), append("b", "c"), model=Guarded)
    assert fine.final_pipeline_context.names == ["a", "b", "c"]
    refused = await merged("context_update", append("a", "b"), append("c", "d"), model=Guarded)
    error = conflict(refused)
    assert (error.path, error.branches) == ("names", ["a", "b"])
    assert "at most 3 items" in str(error)
    assert error.__cause__ is not None
    assert refused.final_pipeline_context.names == []
    loud = await merged(
        "context_update",
        lambda c: c.shout.append("a"),
        lambda c: c.shout.append("b"),
        model=Guarded,
        shout=["x"],
    )
    assert loud.final_pipeline_context.shout == ["X", "A", "B"]


async def test_a_validator_of_the_whole_refuses_writes_that_were_right_alone_and_nothing_changes() -> None:
    def low(context: Ordered) -> None:
        context.low = 8
        context.names.append("low")

    def high(context: Ordered) -> None:
        context.high = 5
        context.names.append("high")

    result = await merged("context_update", low, high, model=Ordered)
    error = conflict(result)
    assert "low is over high" in str(error)
    assert set(error.branches) == {"a", "b"}
    context = result.final_pipeline_context
    assert (context.low, context.high, context.names) == (0, 10, [])
    alone = await merged("context_update", low, lambda c: None, model=Ordered)
    assert alone.final_pipeline_context.low == 8


class StrictNote(BaseModel):
    model_config = ConfigDict(validate_assignment=True)
    words: list[str] = Field(default=[], max_length=3)


async def test_models_inside_are_validated_too() -> None:
    class Outer(PipelineContext):
        note: StrictNote = StrictNote()
        notes: dict[str, StrictNote] = {"k": StrictNote()}

    def extend(*words: str) -> Write:
        return lambda context: context.notes["k"].words.extend(words)

    fine = await merged("context_update", extend("a"), extend("b"), model=Outer)
    assert fine.final_pipeline_context.notes["k"].words == ["a", "b"]
    refused = await merged("context_update", extend("a", "b"), extend("c", "d"), model=Outer)
    assert conflict(refused).path == "notes['k'].words"
    assert refused.final_pipeline_context.notes["k"].words == []


# --- Properties


leaves = st.none() | st.integers(-3, 3) | st.floats(width=16) | st.text("ab", max_size=2)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("kl", max_size=2), inner, max_size=4),
    max_leaves=12,
)


class Anything(BaseModel):
    anything: Any = None
    other: Any = None


@given(before=values, strategy=st.sampled_from(MERGING))
def test_merging_with_no_writes_is_the_identity(before: Any, strategy: str) -> None:
    from flujo import _native

    base = _native.context_view(Anything(anything=before, other=[before]))
    lanes = [(name, _native.context_view(base)) for name in "abc"]
    for _, lane in lanes:
        _ = (lane.anything, lane.other)
    lanes[1][1].other.append(1)
    lanes[1][1].other.pop()
    _native.context_merge(base, lanes, strategy)
    assert _native.context_touched(base) == []
    assert repr((base.anything, base.other)) == repr((before, [before]))


@given(before=values, left=values, right=values, strategy=st.sampled_from(MERGING))
def test_writes_to_different_paths_give_the_same_in_any_order(
    before: Any, left: Any, right: Any, strategy: str
) -> None:
    from flujo import _native

    def run(order: int) -> str:
        base = _native.context_view(Anything(anything={"l": before, "r": before}, other=before))
        lanes = [(name, _native.context_view(base)) for name in "abc"]
        lanes[0][1].anything["l"] = left
        lanes[1][1].anything["r"] = right
        lanes[2][1].other = left
        _native.context_merge(base, lanes[::order], strategy)
        return repr((base.anything, base.other))

    assert run(1) == run(-1) == repr(({"l": left, "r": right}, left))
