"""Cases of control flow that users of such pipelines reported, with the right behaviour. `docs/cases.md` lists them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ConfigDict, Field, PrivateAttr

from flujo import Flujo, MergeStrategy, Pipeline, PipelineContext, Step, UsageLimits
from flujo.exceptions import PipelineAbortSignal, UsageLimitExceededError


class Notes(PipelineContext):
    history: list[str] = ["q"]
    count: int = 0


async def same(x: Any) -> Any:
    return x


def appending(text: str) -> Step[Any, Any]:
    async def append(x: Any, context: Notes) -> Any:
        context.history.append(text)
        return x

    return Step(f"append {text}", append)


# --- P02: control flow is never an error


@pytest.mark.parametrize("wrap", ["loop", "parallel", "state", "handled"])
async def test_p02_an_abort_and_a_limit_pass_every_construct_and_are_not_handled(wrap: str) -> None:
    handled: list[Any] = []
    calls = 0

    async def stops(x: Any) -> Any:
        nonlocal calls
        calls += 1
        raise PipelineAbortSignal("enough")

    class Costly:
        output, token_counts, cost_usd = "x", 100, 0.0

    async def spends(x: Any) -> Costly:
        nonlocal calls
        calls += 1
        return Costly()

    def around(body: Step[Any, Any]) -> Step[Any, Any]:
        body.on_failure(Step("handler", same)).on_failure(handled.append)
        options: dict[str, Any] = {"max_retries": 3, "fallback_step": Step("fallback", same)}
        made: Step[Any, Any]
        if wrap == "loop":
            made = Step.loop_until("whole", body, lambda out: True, on_body_failure="continue", **options)
        elif wrap == "parallel":
            made = Step.parallel("whole", {"a": body}, on_branch_failure="ignore", **options)
        elif wrap == "state":
            from flujo.domain.dsl import StateMachineStep, Transition

            on_failure = [Transition("a", "end", on="failure")]
            made = StateMachineStep("whole", {"a": body}, "a", ["end"], on_failure, **options)
        else:
            made = Pipeline([body], on_failure=Step("handler", same)).as_step("whole", **options)
        return made.on_failure(Step("handler of the whole", same))

    result = await Flujo(around(Step("stops", stops, max_retries=3))).run_async("x")
    assert (result.status, calls, handled) == ("cancelled", 1, [])
    calls = 0
    limits = UsageLimits(total_tokens_limit=50)
    with pytest.raises(UsageLimitExceededError):
        await Flujo(around(Step("spends", spends, max_retries=3)), usage_limits=limits).run_async("x")
    assert calls == 1 and handled == []


# --- P10: sums in a loop


async def test_p10_twice_in_a_loop_the_totals_are_exactly_double() -> None:
    class Costly:
        def __init__(self, output: Any) -> None:
            self.output, self.cost_usd, self.token_counts = output, 0.1, 3

    class CostlyError(ValueError):
        cost_usd, token_counts = 0.2, 5

    failed: list[int] = []

    async def flaky(x: int) -> Costly:
        if len(failed) <= x:
            failed.append(x)
            raise CostlyError("first attempt")
        return Costly(x + 1)

    fan = Step.parallel("fan", {"a": Step("flaky", flaky)}, reduce=lambda lanes: lanes[0].output)
    for rounds in (1, 2):
        failed.clear()
        loop = Step.loop_until("loop", fan, lambda out, rounds=rounds: out == rounds)
        result = await Flujo(loop).run_async(0)
        assert result.success
        assert (result.total_cost_usd, result.total_tokens) == (round(0.3 * rounds, 9), 8 * rounds)
        whole = result.step_history[0]
        assert whole.token_counts == sum(one.token_counts for one in whole.step_history) == 8 * rounds


# --- P18: what can't be copied


async def test_p18_locks_clients_and_iterators_in_the_context_pass_every_construct_uncopied() -> None:
    class Client:
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("a client can't be copied")

    class Holds(PipelineContext):
        model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow", validate_assignment=True)
        client: Any = Field(default=None, exclude=True)
        lazy: Iterator[int] | None = None
        seen: list[int] = []
        _lock: Any = PrivateAttr(default_factory=threading.RLock)

    client = Client()

    async def use(x: int, context: Holds) -> int:
        with context._lock:
            context.seen.append(x)
        assert context.client is client
        return x + 1

    fan = Step.parallel("fan", {"a": Step("use", use)}, reduce=lambda lanes: lanes[0].output)
    loop = Step.loop_until("loop", fan, lambda out, ctx: out == 3, max_retries=1)

    async def give(x: int, context: Holds) -> int:
        context.client = client
        return x

    result = await Flujo(Step("give", give) >> loop, context_model=Holds).run_async(0)
    assert result.success, result.step_history[-1].feedback
    assert result.final_pipeline_context.seen == [0, 1, 2]


# --- P19: cancelled in a loop


async def test_p19_cancelled_in_parallel_within_a_loop_every_lane_ends() -> None:
    begun = asyncio.Event()
    ended: list[str] = []

    def waiting(name: str) -> Step[Any, Any]:
        async def wait(x: int) -> int:
            if x == 0:
                return x
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                ended.append(name)
            return x

        return Step(name, wait)

    fan = Step.parallel("fan", {"a": waiting("a"), "b": waiting("b")}, reduce=lambda lanes: 1)
    task = asyncio.ensure_future(Flujo(Step.loop_until("loop", fan, lambda out: False)).run_async(0))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert sorted(ended) == ["a", "b"]
    cancelled: Any = caught.value
    result = cancelled.flujo_result
    assert result.status == "cancelled"
    [loop] = result.step_history
    assert [one.success for one in loop.step_history] == [True, False]
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- P29, P30: merging


async def test_p29_what_was_there_before_is_not_doubled_at_any_depth() -> None:
    fan = Step.parallel("fan", {"a": appending("a"), "b": appending("b")})
    result = await Flujo(fan, context_model=Notes).run_async("x")
    assert result.final_pipeline_context.history == ["q", "a", "b"]
    nested: Step[Any, Any] = fan
    for depth in range(10):
        nested = Step.parallel(f"fan {depth}", {"only": nested})
    result = await Flujo(nested, context_model=Notes).run_async("x")
    assert result.final_pipeline_context.history == ["q", "a", "b"]


async def test_p29_a_branch_that_removes_an_item_has_its_removal_applied() -> None:
    async def remove(x: Any, context: Notes) -> Any:
        context.history.clear()
        return x

    fan = Step.parallel("fan", {"a": Step("remove", remove), "b": Step("same", same)})
    result = await Flujo(fan, context_model=Notes).run_async("x")
    assert result.final_pipeline_context.history == []


async def test_p30_overwrite_takes_the_last_declared_and_error_on_conflict_names_path_and_branches() -> None:
    def writing(value: int, turns: int) -> Step[Any, Any]:
        async def write(x: Any, context: Notes) -> Any:
            for _ in range(turns):
                await asyncio.sleep(0)
            context.count = value
            return x

        return Step(f"write {value}", write)

    branches = {"first": writing(1, 9), "last": writing(2, 0)}
    whole = Step.parallel("fan", branches, merge_strategy=MergeStrategy.OVERWRITE)
    assert (await Flujo(whole, context_model=Notes).run_async("x")).final_pipeline_context.count == 2
    whole.merge_strategy = MergeStrategy.ERROR_ON_CONFLICT
    result = await Flujo(whole, context_model=Notes).run_async("x")
    feedback = result.step_history[0].feedback or ""
    assert not result.success
    assert "count" in feedback and "first" in feedback and "last" in feedback


# --- P34: data flow


async def test_p34_each_iteration_sees_the_output_of_the_one_before() -> None:
    async def add(x: int) -> int:
        return x + 1

    result = await Flujo(Step.loop_until("loop", Step("add", add), lambda out: out == 5)).run_async(0)
    assert result.output == 5


async def test_p34_the_step_after_parallel_gets_all_branches_by_name() -> None:
    def giving(name: str) -> Step[Any, Any]:
        async def give(x: Any) -> str:
            return name

        return Step(name, give)

    fan = Step.parallel("fan", {name: giving(name) for name in "abc"})
    assert (await Flujo(fan >> Step("after", same)).run_async("x")).output == {"a": "a", "b": "b", "c": "c"}


async def test_p34_a_loop_that_never_exits_keeps_its_last_output_and_context() -> None:
    async def count(x: int, context: Notes) -> int:
        context.count += 1
        return x + 1

    loop = Step.loop_until("loop", Step("count", count), lambda out: False, max_loops=3)
    result = await Flujo(loop, context_model=Notes).run_async(0)
    assert (result.success, result.output, result.final_pipeline_context.count) == (False, 3, 3)
    assert result.step_history[0].metadata_["exit_reason"] == "max_loops"


# --- P36: joins in a loop


@pytest.mark.parametrize("n", [0, 1, 50])
async def test_p36_in_a_loop_a_join_runs_once_in_each_iteration_and_has_every_part(n: int) -> None:
    joined: list[Any] = []

    async def join(parts: dict[str, Any]) -> Any:
        joined.append(parts)
        return len(joined)

    async def inc(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    def items(_: Any) -> list[int]:
        return list(range(n))

    fan = Step.parallel(
        "fan",
        {
            "A": Step.map_over("map", Step("inc", inc), iterable_input=items, max_concurrency=8),
            "B": Step("same", same),
        },
    )
    loop = Step.loop_until("loop", fan >> Step("join", join), lambda out: out == 3)
    result = await Flujo(loop).run_async("x")
    assert result.success
    assert [parts["A"] for parts in joined] == [list(range(1, n + 1))] * 3
    assert [parts["B"] for parts in joined] == ["x", 1, 2]
