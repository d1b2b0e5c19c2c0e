"""Cases that users of such pipelines reported, with the right behaviour. `docs/cases.md` lists them."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import weakref
from typing import Any

import pytest
from pydantic import BaseModel

from flujo import Flujo, Pipeline, PipelineContext, Step, UsageLimits, step
from flujo.exceptions import PipelineAbortSignal, UsageLimitExceededError


class Sub(BaseModel):
    tags: set[str] = {"a"}


class Nested(PipelineContext):
    items: list[list[int]] = [[1]]
    sub: Sub = Sub()
    nested: dict[str, list[int]] = {"list": [1]}


# --- P04: branches never share a nested mutable object


async def test_p04_a_branch_sees_neither_a_sibling_s_nested_write_nor_a_failed_one_s() -> None:
    written = asyncio.Event()
    seen: dict[str, Any] = {}

    async def a(x: int, *, context: Nested) -> int:
        context.items[0].append(2)
        context.nested["list"].append(2)
        context.sub.tags.add("b")
        written.set()
        return x

    async def b(x: int, *, context: Nested) -> int:
        await written.wait()
        seen["b"] = (list(context.items[0]), set(context.sub.tags), list(context.nested["list"]))
        return x

    async def c(x: int, *, context: Nested) -> int:
        context.items[0].append(99)
        context.sub.tags.add("failed")
        raise ValueError("no")

    fan = Step.parallel(
        "fan",
        {"a": Step("a", a), "b": Step("b", b), "c": Step("c", c, max_retries=0)},
        on_branch_failure="ignore",
    )
    result = await Flujo(fan, context_model=Nested).run_async(1)
    assert seen["b"] == ([1], {"a"}, [1])
    final = result.final_pipeline_context
    assert final.items == [[1, 2]]
    assert final.sub.tags == {"a", "b"}
    assert final.nested == {"list": [1, 2]}


async def test_p04_a_failed_attempt_s_writes_are_gone_before_the_next() -> None:
    calls = 0

    async def flaky(x: int, *, context: Nested) -> int:
        nonlocal calls
        calls += 1
        assert context.items == [[1]]
        context.items[0].append(calls)
        if calls < 3:
            raise ValueError("again")
        return x

    result = await Flujo(Step("flaky", flaky, max_retries=2), context_model=Nested).run_async(1)
    assert result.final_pipeline_context.items == [[1, 3]]


# --- P05: one runner, many runs


class Account(PipelineContext):
    counter: int = 0
    ids: list[int] = []


async def test_p05_concurrent_runs_of_one_runner_share_nothing() -> None:
    async def count(user: int, *, context: Account) -> int:
        context.counter += 1
        await asyncio.sleep(0)
        context.ids.append(user)
        return user

    data: dict[str, Any] = {"ids": []}
    runner = Flujo(Step("count", count), context_model=Account, initial_context_data=data)
    results = await asyncio.gather(*[runner.run_async(user) for user in range(100)])
    from_threads: list[Any] = []

    def in_thread(first: int) -> None:
        from_threads.extend(runner.run(user) for user in range(first, first + 12))

    threads = [threading.Thread(target=in_thread, args=(100 + 12 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len(from_threads) == 96
    for result in [*results, *from_threads]:
        assert result.final_pipeline_context.counter == 1
        assert result.final_pipeline_context.ids == [result.output]
    assert data == {"ids": []}


# --- P09: identity is the object held


async def test_p09_short_lived_functions_are_each_called_their_own_way() -> None:
    alive: list[weakref.ref[Any]] = []
    for number in range(5_000):
        made: Any
        if number % 4 == 0:

            async def made(x: int, n: int = number) -> int:
                return n + x

        elif number % 4 == 1:

            async def made(x: int, *, context: PipelineContext, n: int = number) -> int:
                assert context.initial_prompt == "1"
                return n + x

        elif number % 4 == 2:

            def made(x: int, n: int = number) -> int:
                return n + x

        else:

            async def made(x: int, n: int = number) -> Any:
                yield str(n + x)

        alive.append(weakref.ref(made))
        output = (await Flujo(Step(f"s{number}", made)).run_async(1)).output
        assert int(output) == number + 1
        del made
    gc.collect()
    assert sum(ref() is not None for ref in alive) <= 1


async def test_p09_instances_partials_and_lambdas_are_told_apart() -> None:
    class Add:
        def __init__(self, number: int) -> None:
            self.number = number

        async def __call__(self, x: int) -> int:
            return x + self.number

    def power(exponent: int, x: int) -> int:
        return x**exponent

    two, three = (lambda x: x * 2), (lambda x: x * 3)
    pipeline = Pipeline(
        [
            Step("add 1", Add(1)),
            Step("add 10", Add(10)),
            Step("square", functools.partial(power, 2)),
            Step("cube", functools.partial(power, 3)),
            Step("two", two),
            Step("three", three),
        ]
    )
    result = await Flujo(pipeline).run_async(0)
    assert [record.output for record in result.step_history] == [1, 11, 121, 121**3, 2 * 121**3, 6 * 121**3]


# --- P10: usage of every attempt counts, once


class Failed(Exception):
    token_counts = 10


class Used:
    cost_usd = 0.0

    def __init__(self, output: Any, tokens: int) -> None:
        self.output = output
        self.token_counts = tokens


def _with_fallback(*, saved: bool) -> Step[Any, Any]:
    async def primary(x: int) -> int:
        raise Failed("primary is down")

    async def fallback(x: int) -> Any:
        if not saved:
            raise ValueError("fallback is down")
        return Used(x, 5)

    return Step("primary", primary, fallback_step=Step("fallback", fallback, max_retries=0))


async def test_p10_failed_attempts_count_beside_the_fallback_that_saved_the_step() -> None:
    result = await Flujo(_with_fallback(saved=True)).run_async(1)
    record = result.step_history[0]
    assert result.total_tokens == record.token_counts == 25
    assert (record.name, record.attempts) == ("fallback", 3)
    assert record.metadata["fallback_triggered"] is True
    assert "primary is down" in record.metadata["original_error"]
    assert record.success and record.feedback is None


async def test_p10_when_the_fallback_fails_too_feedback_holds_both_errors() -> None:
    result = await Flujo(_with_fallback(saved=False)).run_async(1)
    record = result.step_history[0]
    assert result.total_tokens == record.token_counts == 20
    assert "primary is down" in (record.feedback or "")
    assert "fallback is down" in (record.feedback or "")


async def test_p10_in_parallel_each_level_s_sum_is_that_of_its_leaves() -> None:
    fan = Step.parallel("fan", {"a": _with_fallback(saved=True), "b": _with_fallback(saved=True)})
    result = await Flujo(fan).run_async(1)
    record = result.step_history[0]
    assert result.total_tokens == record.token_counts == 50
    assert [branch.token_counts for branch in record.step_history] == [25, 25]
    assert [leaf.token_counts for branch in record.step_history for leaf in branch.step_history] == [25, 25]


async def test_negative_usage_is_refused() -> None:
    async def wrong(x: int) -> Any:
        return Used(x, -5)

    result = await Flujo(Step("wrong", wrong, max_retries=0)).run_async(1)
    assert not result.success and result.total_tokens == 0
    assert "token_counts" in (result.step_history[0].feedback or "")


# --- limits


async def test_a_limit_that_is_passed_stops_the_run_with_what_was_done() -> None:
    async def costs(x: int) -> Any:
        used = Used(x, 0)
        used.cost_usd = 0.6
        return used

    pipeline = Pipeline([Step(f"s{n}", costs) for n in range(3)])
    with pytest.raises(UsageLimitExceededError, match=r"Cost limit of \$1 exceeded") as caught:
        await Flujo(pipeline, usage_limits=UsageLimits(total_cost_usd_limit=1.0)).run_async(1)
    result = caught.value.result
    assert result.total_cost_usd == pytest.approx(1.2)
    assert [record.name for record in result.step_history] == ["s0", "s1"]
    assert result.status == "limit_exceeded"


async def test_exactly_at_the_limit_is_allowed() -> None:
    async def costs(x: int) -> Any:
        return Used(x, 50)

    pipeline = Pipeline([Step(f"s{n}", costs) for n in range(2)])
    result = await Flujo(pipeline, usage_limits=UsageLimits(total_tokens_limit=100)).run_async(1)
    assert result.total_tokens == 100


async def test_a_step_s_own_limit_counts_all_its_attempts() -> None:
    calls = 0

    async def fails(x: int) -> int:
        nonlocal calls
        calls += 1
        raise Failed("again")

    limited = Step("s", fails, max_retries=5, usage_limits=UsageLimits(total_tokens_limit=25))
    with pytest.raises(UsageLimitExceededError, match="Token limit of 25 exceeded") as caught:
        await Flujo(limited).run_async(1)
    assert calls == 3
    assert caught.value.result.total_tokens == 30
    assert caught.value.result.status == "limit_exceeded"


# --- P02: control flow is never an error


async def test_p02_an_abort_is_neither_retried_nor_handed_to_the_fallback() -> None:
    calls: list[str] = []

    async def aborts(x: int) -> int:
        calls.append("primary")
        raise PipelineAbortSignal("enough")

    async def fallback(x: int) -> int:
        calls.append("fallback")
        return x

    aborting = Step("aborts", aborts, max_retries=3, fallback_step=Step("fallback", fallback))
    result = await Flujo(Step("before", fallback) >> aborting).run_async(1)
    assert calls == ["fallback", "primary"]
    assert result.status == "cancelled" and not result.success
    assert [record.name for record in result.step_history] == ["before", "aborts"]


async def test_an_abort_by_a_hook_keeps_the_history() -> None:
    from flujo.domain.events import PreStepPayload

    async def hook(payload: PreStepPayload) -> None:
        if payload.step.name == "b":
            raise PipelineAbortSignal("no b")

    async def same(x: int) -> int:
        return x

    result = await Flujo(Pipeline([Step("a", same), Step("b", same)]), hooks=[hook]).run_async(1)
    assert result.status == "cancelled"
    assert [record.name for record in result.step_history] == ["a"]


# --- P30: nothing depends on a field's name or on timing


class Totals(PipelineContext):
    total: int = 0
    counter: int = 0
    score: int = 10


@pytest.mark.parametrize("field", ["total", "counter", "score"])
async def test_p30_two_branches_that_write_one_field_conflict_whatever_its_name(field: str) -> None:
    first = asyncio.Event()

    async def a(x: int, *, context: Totals) -> int:
        await first.wait()
        setattr(context, field, 5)
        return x

    async def b(x: int, *, context: Totals) -> int:
        setattr(context, field, 3)
        first.set()
        return x

    def fan(strategy: str) -> Flujo[Any, Any]:
        first.clear()
        branches = {"a": Step("a", a), "b": Step("b", b)}
        return Flujo(Step.parallel("fan", branches, merge_strategy=strategy), context_model=Totals)

    conflict = await fan("context_update").run_async(1)
    assert conflict.status == "failed"
    feedback = conflict.step_history[0].feedback or ""
    assert all(part in feedback for part in (field, "a", "b", "5", "3"))
    for _ in range(20):
        merged = await fan("overwrite").run_async(1)
        assert getattr(merged.final_pipeline_context, field) == 3


async def test_p30_equal_values_are_no_conflict_and_a_decrease_is_kept() -> None:
    async def down(x: int, *, context: Totals) -> int:
        context.score = 5
        return x

    fan = Step.parallel("fan", {"a": Step("a", down), "b": Step("b", down)})
    result = await Flujo(fan, context_model=Totals).run_async(1)
    assert result.success and result.final_pipeline_context.score == 5


# --- P31: declared order, whatever the timing


class Log(PipelineContext):
    log: list[int] = []


async def test_p31_outputs_history_and_merged_lists_are_in_input_order() -> None:
    flying = most = 0
    gates = [asyncio.Event() for _ in range(20)]

    async def work(n: int, *, context: Log) -> int:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        # Within each window of five the last one ends first.
        if n % 5 != 4:
            await gates[n + 1].wait()
        gates[n].set()
        context.log.append(n)
        flying -= 1
        return n * 10

    mapped = Step.map_over("m", Step("work", work), max_concurrency=5)
    result = await Flujo(mapped, context_model=Log).run_async(list(range(20)))
    assert result.output == [n * 10 for n in range(20)]
    assert [item.output for item in result.step_history[0].items] == result.output
    assert result.final_pipeline_context.log == list(range(20))
    assert most <= 5


# --- P36: a join runs once, with all its parts


@pytest.mark.parametrize("n", [0, 1, 50])
@pytest.mark.parametrize("slower", ["a", "b"])
async def test_p36_the_step_after_a_join_runs_once_and_sees_both_parts(n: int, slower: str) -> None:
    calls = 0
    done = asyncio.Event()

    async def item(x: int) -> int:
        await asyncio.sleep(0)
        return x

    async def total(xs: list[int]) -> int:
        if slower == "a":
            await done.wait()
        else:
            done.set()
        return sum(xs)

    async def plain(xs: list[int]) -> int:
        if slower == "b":
            await done.wait()
        else:
            done.set()
        return len(xs)

    async def after(parts: dict[str, int]) -> dict[str, int]:
        nonlocal calls
        calls += 1
        return parts

    branch = Step.map_over("items", Step("item", item), max_concurrency=7) >> Step("total", total)
    fan = Step.parallel("fan", {"a": branch, "b": Step("plain", plain)})
    result = await Flujo(fan >> Step("after", after)).run_async(list(range(n)))
    assert calls == 1
    assert result.output == {"a": sum(range(n)), "b": n}


async def test_p36_nested_maps_and_two_joins_in_a_chain() -> None:
    @step
    async def inc(x: int) -> int:
        return x + 1

    inner = Step.map_over("inner", inc, max_concurrency=2)
    outer = Step.map_over("outer", inner, max_concurrency=2)
    again: Any = Step.map_over("again", Step("sum", sum), max_concurrency=3)
    result = await Flujo(outer >> again).run_async([[1, 2], [], [3]])
    assert result.output == [5, 0, 4]


async def test_a_failing_item_fails_the_map_or_is_skipped_or_left_out_as_asked() -> None:
    async def odd(x: int) -> int:
        if x % 2 == 0:
            raise ValueError(f"{x} is even")
        return x

    def mapped(how: Any) -> Flujo[Any, Any]:
        body = Step("odd", odd, max_retries=0)
        return Flujo(Step.map_over("m", body, max_concurrency=2, on_item_failure=how))

    failed = await mapped("fail").run_async([1, 2, 3])
    assert failed.status == "failed"
    assert "item '1' failed" in (failed.step_history[0].feedback or "")
    assert (await mapped("skip").run_async([1, 2, 3])).output == [1, 3]
    kept = await mapped("none").run_async([1, 2, 3])
    assert kept.output == [1, None, 3]
    assert [item.success for item in kept.step_history[0].items] == [True, False, True]


async def test_a_lazy_collection_is_read_as_room_comes_free() -> None:
    read = 0
    begun = 0

    async def items(_: Any) -> Any:
        nonlocal read
        for number in range(20):
            assert read - begun <= 2
            read += 1
            yield number

    async def work(x: int) -> int:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)
        return x

    mapped = Step.map_over("m", Step("work", work), iterable_input=items, max_concurrency=2)
    assert (await Flujo(mapped).run_async(None)).output == list(range(20))
