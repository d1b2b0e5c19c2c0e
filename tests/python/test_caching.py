"""Steps whose results are kept: when a result is found, for whom, and what it costs."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import virtual_time
from pydantic import BaseModel

from flujo import (
    AppResources,
    CachePolicy,
    Flujo,
    InMemoryCache,
    OptimizationConfig,
    Pipeline,
    PipelineContext,
    Step,
    UsageLimits,
    step,
)
from flujo.domain.agent_result import FlujoAgentResult
from flujo.exceptions import ConfigurationError


class Items(BaseModel):
    items: list[int] = []


class Tenants(PipelineContext):
    tenant: str = "a"
    seen_at: float = 0.0
    nested: dict[str, list[int]] = {}
    note: str | None = None


class Calls:
    """Counts the calls of a step function."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def step(self, give: Callable[[Any], Any] = lambda given: given, **options: Any) -> Step[Any, Any]:
        async def called(given: Any) -> Any:
            self.made.append(given)
            await asyncio.sleep(0)
            return give(given)

        return Step("called", called, **options)


# --- P07: what anybody does to a result changes nobody else's


async def test_p07_a_result_that_was_changed_is_found_as_it_was() -> None:
    calls = Calls()
    runner = Flujo(calls.step(lambda _given: Items(items=[1]), cache=True))
    first = await runner.run_async(1)
    first.output.items.append(2)
    first.step_history[0].metadata_["mark"] = 1
    second = await runner.run_async(1)
    second.output.items.append(3)
    third = await runner.run_async(1)
    assert (first.output.items, second.output.items, third.output.items) == ([1, 2], [1, 3], [1])
    hits = [result.step_history[0].cache_hit for result in (first, second, third)]
    assert hits == [False, True, True]
    assert "cache_hit" not in first.step_history[0].metadata_
    assert second.step_history[0].metadata_ == {"cache_hit": True}
    assert len(calls.made) == 1


async def test_p07_a_value_that_cannot_be_isolated_is_not_cached_and_nothing_crashes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls, cache = Calls(), InMemoryCache()
    runner = Flujo(Step.cached(calls.step(lambda _given: {"lock": threading.Lock()}), cache))
    with caplog.at_level(logging.WARNING, "flujo.run"):
        results = [await runner.run_async(1) for _ in range(3)]
    assert [result.step_history[0].cache_hit for result in results] == [False] * 3
    assert (len(calls.made), cache.statistics()["uncached"]) == (3, {"output": 3})
    assert [record.getMessage().count("'called'") for record in caplog.records] == [1]


# --- P08: nothing that a result depends on is left out of its key


class Model(AppResources):
    model: str
    client: Any = None


@pytest.mark.parametrize("client", [None, threading.Lock()], ids=["plain", "with a client"])
async def test_p08_tenants_and_models_never_share_a_result(client: Any) -> None:
    made: list[tuple[str, str]] = []

    async def answer(x: int, *, context: Tenants, resources: Model) -> str:
        made.append((context.tenant, resources.model))
        return f"{context.tenant}/{resources.model}"

    cached = Step.cached(Step("answer", answer))
    resources = Model(model="small", client=client)
    runner = Flujo(cached, context_model=Tenants, resources=resources)

    async def asked(runner: Flujo[Any, Any], tenant: str) -> Any:
        data = {"tenant": tenant, "seen_at": float(len(made))}
        return (await runner.run_async(1, initial_context_data=data)).output

    assert [await asked(runner, tenant) for tenant in ("a", "b", "a", "b")] == ["a/small", "b/small"] * 2
    resources.model = "large"
    assert await asked(runner, "a") == "a/large"
    other = Flujo(cached, context_model=Tenants, resources=Model(model="other", client=client))
    assert await asked(other, "a") == "a/other"
    assert made == [("a", "small"), ("b", "small"), ("a", "large"), ("a", "other")]


async def test_p08_a_scope_of_input_only_asks_for_one_execution() -> None:
    made: list[str] = []

    async def answer(x: int, *, context: Tenants) -> str:
        made.append(context.tenant)
        return context.tenant

    runner = Flujo(Step.cached(Step("answer", answer), scope="input"), context_model=Tenants)
    for tenant in ("a", "b", "c"):
        assert (await runner.run_async(1, initial_context_data={"tenant": tenant})).output == "a"
    assert made == ["a"]


async def test_p08_declared_fields_are_looked_at_and_no_others() -> None:
    made: list[Any] = []

    async def answer(x: int, *, context: Tenants) -> int:
        made.append(context.model_dump())
        return len(made)

    scope = ["context.tenant", "context.nested.list", "resources.model"]
    cached = Step.cached(Step("answer", answer), scope=scope)

    async def asked(model: str, **data: Any) -> Any:
        runner = Flujo(cached, context_model=Tenants, resources=Model(model=model))
        return (await runner.run_async(1, initial_context_data=data)).output

    assert await asked("m", tenant="a", seen_at=1.0) == 1
    assert await asked("m", tenant="a", seen_at=2.0, note="x") == 1
    assert await asked("m", tenant="b") == 2
    assert await asked("m", tenant="a", nested={"list": [1]}) == 3
    assert await asked("m", tenant="a", nested={"list": [1], "other": [2]}) == 3
    assert await asked("n", tenant="a") == 4


async def test_p08_only_fields_that_were_read_count_and_those_that_others_reads_lead_to() -> None:
    made: list[str] = []

    async def answer(x: int, *, context: Tenants) -> str:
        made.append(context.tenant)
        return f"{context.tenant} {context.note}" if context.tenant == "b" else context.tenant

    runner = Flujo(Step.cached(Step("answer", answer)), context_model=Tenants)

    async def asked(tenant: str, note: str) -> Any:
        data = {"tenant": tenant, "note": note, "seen_at": float(len(made))}
        return (await runner.run_async(1, initial_context_data=data)).output

    asking = [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("a", "3"), ("b", "1"), ("b", "2")]
    assert [await asked(*what) for what in asking] == ["a", "a", "b 1", "b 2", "a", "b 1", "b 2"]
    assert made == ["a", "b", "b"]


@pytest.mark.parametrize(
    "look",
    [
        lambda context: context.model_dump(exclude={"run_id", "seen_at"}),
        lambda context: dict(context)["tenant"],
        lambda context: vars(context)["tenant"],
        lambda context: context.model_copy().tenant,
    ],
    ids=["model_dump", "iteration", "vars", "model_copy"],
)
async def test_p08_a_context_that_is_read_as_a_whole_counts_as_a_whole(look: Callable[[Any], Any]) -> None:
    made: list[Any] = []

    async def answer(x: int, *, context: Tenants) -> Any:
        made.append(look(context))
        return made[-1]

    runner = Flujo(Step.cached(Step("answer", answer)), context_model=Tenants)

    async def asked(tenant: str) -> Any:
        data = {"tenant": tenant, "run_id": "one", "initial_prompt": "x"}
        return (await runner.run_async(1, initial_context_data=data)).output

    first = [await asked(tenant) for tenant in ("a", "b")]
    assert [await asked(tenant) for tenant in ("a", "b")] == first
    assert len(made) == 2


async def test_p08_extra_values_of_the_context_count_too() -> None:
    made: list[str] = []

    async def answer(x: int, *, context: Any) -> str:
        made.append(context.user)
        return made[-1]

    runner = Flujo(Step.cached(Step("answer", answer)))
    for user in ("a", "b", "a"):
        assert (await runner.run_async(1, initial_context_data={"user": user})).output == user
    assert made == ["a", "b"]


async def test_p08_what_a_template_names_counts() -> None:
    calls = Calls()
    named = Step("first", lambda given: given["name"], inline=True)
    cached = calls.step(input="Hello {{ steps.first }} of {{ context.tenant }}", cache=True)
    runner = Flujo(named >> Step("length", len, inline=True) >> cached, context_model=Tenants)

    async def asked(name: str, tenant: str) -> Any:
        return (await runner.run_async({"name": name}, initial_context_data={"tenant": tenant})).output

    asking = [("Ann", "a"), ("Bob", "a"), ("Ann", "b"), ("Ann", "a"), ("Bob", "a")]
    texts = [f"Hello {name} of {tenant}" for name, tenant in asking]
    assert [await asked(*what) for what in asking] == texts
    assert calls.made == texts[:3]


async def test_p08_settings_of_a_step_are_part_of_what_it_is() -> None:
    made: list[float] = []

    class Agent:
        async def run(self, data: Any, temperature: float = 0.0) -> float:
            made.append(temperature)
            return temperature

    agent, cache = Agent(), InMemoryCache()
    cold = Step("answer", agent, temperature=0.0, cache=cache)
    warm = Step("answer", agent, temperature=1.0, cache=cache)
    outputs = [(await Flujo(step).run_async(1)).output for step in (cold, warm, cold, warm)]
    assert (outputs, made) == ([0.0, 1.0] * 2, [0.0, 1.0])
    cold.config.temperature = 0.5
    assert (await Flujo(cold).run_async(1)).output == 0.5


# --- P09: a callable is known by what it is


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    async def __call__(self, x: int) -> int:
        return x + self.by


async def test_p09_instances_partials_and_lambdas_never_get_each_other_s_result() -> None:
    cache = InMemoryCache()

    async def add(by: int, x: int) -> int:
        return x + by

    one, two = (lambda x: x + 1), (lambda x: x + 2)
    for first, second in (
        (Adder(1), Adder(2)),
        (functools.partial(add, 1), functools.partial(add, 2)),
        (one, two),
    ):
        for _ in range(2):
            for by, callable_ in ((1, first), (2, second)):
                assert (await Flujo(Step("add", callable_, cache=cache)).run_async(10)).output == 10 + by


async def test_p09_short_lived_functions_never_get_each_other_s_result() -> None:
    cache = InMemoryCache(max_size=16)
    for number in range(500):

        def give(x: int, number: int = number) -> int:
            return number

        runner = Flujo(Step("give", give, inline=True, cache=cache))
        assert [(await runner.run_async(1)).output for _ in range(2)] == [number] * 2
    assert cache.statistics()["size"] <= 16


async def test_p09_a_step_that_is_changed_is_another_step() -> None:
    calls = Calls()
    cached = calls.step(cache=True)
    runner = Flujo(cached)
    await runner.run_async(1)
    cached.agent = Adder(5)
    assert (await runner.run_async(1)).output == 6
    cached.validators.append(lambda output: (output > 100, "too small"))
    assert not (await runner.run_async(1)).success


# --- P11 and D05: a hit costs nothing, and says what it saved


async def test_p11_a_hit_is_not_charged_and_reports_what_it_saved() -> None:
    made: list[str] = []

    async def priced(x: str) -> FlujoAgentResult:
        made.append(x)
        return FlujoAgentResult(output=x, cost_usd=0.02, token_counts=100)

    cached = Step.cached(Step("priced", priced))
    limits = UsageLimits(total_cost_usd_limit=0.03, total_tokens_limit=150)
    runner = Flujo(cached >> cached >> cached, usage_limits=limits)
    result = await runner.run_async("x")
    assert (result.total_cost_usd, result.total_tokens, made) == (0.02, 100, ["x"])
    assert [found.cost_usd for found in result.step_history] == [0.02, 0.0, 0.0]
    assert [found.token_counts for found in result.step_history] == [100, 0, 0]
    assert [found.cache_hit for found in result.step_history] == [False, True, True]
    assert [found.saved_cost_usd for found in result.step_history] == [0.0, 0.02, 0.02]
    assert [found.saved_tokens for found in result.step_history] == [0, 100, 100]
    assert [found.attempts for found in result.step_history] == [1, 0, 0]
    statistics = runner.get_performance_statistics()
    assert (statistics["cache_hits"], statistics["cache_misses"]) == (2, 1)
    assert statistics["cache_hit_rate"] == pytest.approx(200 / 3)
    runner.reset_performance_statistics()
    assert runner.get_performance_statistics()["cache_hits"] == 0


# --- D19: nothing is cached that isn't declared


async def test_d19_nothing_is_cached_that_is_not_declared_cacheable() -> None:
    calls = Calls()
    runner = Flujo(calls.step())
    results = [await runner.run_async(1) for _ in range(2)]
    assert (len(calls.made), [result.step_history[0].cache_hit for result in results]) == (2, [False] * 2)
    statistics = runner.get_performance_statistics()
    assert (statistics["cache_hits"], statistics["cache_misses"]) == (0, 0)


# --- single flight


async def test_a_thousand_equal_calls_at_the_same_time_are_one() -> None:
    calls = Calls()
    runner = Flujo(calls.step(lambda given: [given], cache=True))
    results = await asyncio.gather(*(runner.run_async(7) for _ in range(1_000)))
    assert calls.made == [7]
    assert all(result.output == [7] for result in results)
    assert len({id(result.output) for result in results}) == 1_000
    assert sum(result.step_history[0].cache_hit for result in results) == 999


async def test_when_the_leader_fails_another_one_takes_over() -> None:
    made: list[int] = []

    async def fails_at_first(x: int) -> int:
        made.append(x)
        await asyncio.sleep(0)
        if len(made) == 1:
            raise ValueError("no")
        return x

    runner = Flujo(Step("s", fails_at_first, max_retries=0, cache=True))
    results = await asyncio.gather(*(runner.run_async(1) for _ in range(20)))
    assert (len(made), sum(result.success for result in results)) == (2, 19)


async def test_when_the_leader_is_cancelled_another_one_takes_over() -> None:
    began, made = asyncio.Event(), 0

    async def slow_at_first(x: int) -> int:
        nonlocal made
        made += 1
        if made == 1:
            began.set()
            await asyncio.Event().wait()
        return x

    runner = Flujo(Step("s", slow_at_first, cache=True))
    leader = asyncio.create_task(runner.run_async(1))
    await began.wait()
    others = [asyncio.create_task(runner.run_async(1)) for _ in range(5)]
    for _ in range(5):
        await asyncio.sleep(0)
    others[0].cancel()
    leader.cancel()
    results = await asyncio.gather(leader, *others, return_exceptions=True)
    assert [type(result).__name__ for result in results[:2]] == ["CancelledError"] * 2
    assert [result.output for result in results[2:] if not isinstance(result, BaseException)] == [1] * 4
    assert made == 2


async def test_who_waits_for_a_result_past_its_deadline_does_without() -> None:
    release, made = asyncio.Event(), 0

    async def slow(x: int) -> int:
        nonlocal made
        made += 1
        await release.wait()
        return x

    cached = Step("s", slow, cache=True)
    patient, hasty = Flujo(cached), Flujo(cached, deadline_s=0.001)
    leader = asyncio.create_task(patient.run_async(1))
    await asyncio.sleep(0)
    late = await hasty.run_async(1)
    assert not late.success
    release.set()
    assert (await leader).output == 1
    assert (await patient.run_async(1)).step_history[0].cache_hit
    assert made == 1


def test_runs_on_loops_of_several_threads_make_one_result() -> None:
    cache, made, ready = InMemoryCache(), [], threading.Barrier(8)

    asked = threading.Semaphore(0)

    async def slow(x: int) -> int:
        made.append(x)
        for _ in range(8):  # all are there before there is a result
            await asyncio.to_thread(asked.acquire)
        return x

    runner = Flujo(Step("s", slow, cache=cache))
    outputs: list[Any] = []

    def use() -> None:
        async def main() -> None:
            ready.wait()
            tasks = [asyncio.create_task(runner.run_async(1)) for _ in range(20)]
            await asyncio.sleep(0)
            asked.release()
            results = await asyncio.gather(*tasks)
            outputs.extend(result.output for result in results)

        asyncio.run(main())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made, outputs) == ([1], [1] * 160)


def test_a_loop_that_ends_while_its_run_leads_leaves_the_turn_to_others() -> None:
    made = 0

    async def slow_at_first(x: int) -> int:
        nonlocal made
        made += 1
        if made == 1:
            await asyncio.sleep(3_600)
        return x

    runner = Flujo(Step("s", slow_at_first, cache=True))

    async def leave() -> None:
        abandoned = asyncio.ensure_future(runner.run_async(1))
        await asyncio.sleep(0)
        assert not abandoned.done()

    asyncio.run(leave())
    assert (asyncio.run(runner.run_result_async(1)).output, made) == (1, 2)


async def test_branches_of_one_run_make_one_result() -> None:
    calls = Calls()
    cached = calls.step(cache=True)
    fan = Step.parallel("fan", {name: cached for name in "abcd"})
    result = await Flujo(fan).run_async(1)
    assert (calls.made, result.output) == ([1], dict.fromkeys("abcd", 1))


# --- what is never kept


async def test_failures_and_results_of_a_fallback_are_never_kept() -> None:
    made: list[str] = []

    async def fails(x: int) -> int:
        made.append("primary")
        raise ValueError("no")

    async def saves(x: int) -> int:
        made.append("fallback")
        return x

    cache = InMemoryCache()
    runner = Flujo(Step("s", fails, max_retries=0, fallback_step=Step("f", saves), cache=cache))
    for _ in range(2):
        assert (await runner.run_async(1)).output == 1
    assert made == ["primary", "fallback"] * 2
    assert cache.statistics()["uncached"] == {"failed": 2}


async def test_a_step_that_writes_to_the_context_itself_is_not_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def writes(x: int, *, context: Tenants) -> int:
        context.nested.setdefault("list", []).append(x)
        return x

    cache = InMemoryCache()
    twice = Step("s", writes, cache=cache) >> Step("again", writes, cache=cache)
    with caplog.at_level(logging.WARNING, "flujo.run"):
        results = [await Flujo(twice, context_model=Tenants).run_async(1) for _ in range(2)]
    assert all(result.final_pipeline_context.nested == {"list": [1, 1]} for result in results)
    assert cache.statistics()["uncached"] == {"wrote": 4}
    assert "updates_context" in caplog.text


async def test_what_is_written_as_it_was_already_counts_as_read() -> None:
    say = Step("say", lambda given: {"note": given}, inline=True, updates_context=True)
    cached = Step.cached(Pipeline([say]).as_step("said"))
    for note in ("x", "y", "x", "y"):
        runner = Flujo(cached, context_model=Tenants, initial_context_data={"note": note})
        assert (await runner.run_async("x")).final_pipeline_context.note == "x"


async def test_what_a_step_is_declared_to_write_is_written_at_a_hit_too() -> None:
    calls = Calls()
    cached = calls.step(lambda given: {"note": f"from {given}"}, updates_context=True, cache=True)
    runner = Flujo(cached, context_model=Tenants)
    results = [await runner.run_async(1) for _ in range(2)]
    assert [result.final_pipeline_context.note for result in results] == ["from 1"] * 2
    assert len(calls.made) == 1


async def test_an_input_without_a_canonical_form_is_not_cached_and_a_reason_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls, cache = Calls(), InMemoryCache()
    runner = Flujo(calls.step(lambda _given: 1, cache=cache))
    circle: list[Any] = []
    circle.append(circle)
    with caplog.at_level(logging.WARNING, "flujo.run"):
        for given in (object(), circle, circle):
            assert (await runner.run_async(given)).output == 1
    assert (len(calls.made), cache.statistics()["uncached"]) == (3, {"input": 3})
    assert len(caplog.records) == 1


async def test_a_pause_is_never_kept() -> None:
    ask = Step.human_in_the_loop("ask", message_for_user="well?")
    cached = Step.cached(Pipeline([ask]).as_step("asked"))
    runner = Flujo(cached)
    paused = [await runner.run_async(1) for _ in range(2)]
    assert [result.status for result in paused] == ["paused"] * 2
    answers = [await runner.resume_async(result, str(place)) for place, result in enumerate(paused)]
    assert [result.output for result in answers] == ["0", "1"]


def test_a_question_cannot_be_cached() -> None:
    ask = Step.human_in_the_loop("ask", message_for_user="well?")
    with pytest.raises(ConfigurationError, match="answers are never cached"):
        Flujo(Step.cached(ask)).plan()


async def test_a_verdict_that_lets_a_rejected_output_pass_is_not_kept() -> None:
    calls, cache = Calls(), InMemoryCache()

    async def called(given: Any) -> Any:
        calls.made.append(given)
        return given

    lenient = Step.validate_step(
        called, strict=False, validators=[lambda _output: (False, "no")], cache=cache
    )
    for _ in range(2):
        result = await Flujo(lenient).run_async(1)
        assert (result.output, result.step_history[0].metadata["validation_passed"]) == (1, False)
    assert len(calls.made) == 2


# --- how long, and how many


def test_a_result_is_good_for_its_time_by_the_monotonic_clock() -> None:
    calls = Calls()
    by_step = Flujo(calls.step(cache=10))
    by_cache = Flujo(calls.step(cache=InMemoryCache(ttl_s=10)))
    by_config = Flujo(calls.step(cache=True), optimization_config=OptimizationConfig(cache_ttl_seconds=10))
    for_ever = Flujo(
        calls.step(cache=CachePolicy(ttl_s=0, backend=InMemoryCache(ttl_s=10))),
        optimization_config=OptimizationConfig(cache_ttl_seconds=10),
    )

    async def main() -> None:
        for runner, made in ((by_step, 2), (by_cache, 2), (by_config, 2), (for_ever, 1)):
            calls.made.clear()
            for wait in (0, 9.5, 1):
                await asyncio.sleep(wait)
                await runner.run_async(1)
            assert len(calls.made) == made

    virtual_time.run(main())


async def test_a_cache_keeps_as_many_results_as_it_may() -> None:
    for cache, config in (
        (InMemoryCache(max_size=4), OptimizationConfig()),
        (InMemoryCache(), OptimizationConfig(cache_max_size=4)),
        (InMemoryCache(max_size=4), OptimizationConfig.plain()),
    ):
        calls = Calls()
        runner = Flujo(calls.step(cache=cache), optimization_config=config)
        for given in range(20):
            await runner.run_async(given)
        assert cache.statistics()["size"] == 4
        assert cache.statistics()["evictions"] == 16
    nothing = InMemoryCache(max_size=0)
    runner = Flujo(calls.step(cache=nothing))
    for _ in range(3):
        assert (await runner.run_async(1)).output == 1
    assert nothing.statistics()["size"] == 0


async def test_runners_and_steps_may_share_a_cache_and_a_step_s_own_is_shared_by_its_runners() -> None:
    calls = Calls()
    cached = Step.cached(calls.step())
    for _ in range(3):
        assert (await Flujo(cached).run_async(1)).output == 1
    assert len(calls.made) == 1
    cached.cache_backend.clear()
    await Flujo(cached).run_async(1)
    assert len(calls.made) == 2


async def test_switching_between_the_twins_changes_no_result() -> None:
    calls = Calls()
    runner = Flujo(calls.step(lambda given: [given], cache=True))
    for turn in range(6):
        (runner.enable_optimizations if turn % 2 else runner.disable_optimizations)()
        assert (await runner.run_async(1)).output == [1]
    assert calls.made == [1, 1]  # each twin has results of its own


# --- constructs


async def test_constructs_are_cached_as_a_whole_and_keep_their_own_life() -> None:
    calls, cache = Calls(), InMemoryCache()
    inner = calls.step(lambda given: given + 1)
    loop = Step.loop_until("loop", inner, lambda out, _context: out >= 5)
    fan = Step.parallel("fan", {"a": inner, "b": inner})
    each = Step.map_over("each", inner)
    nested = (inner >> inner).as_step("nested")
    for construct, given, output in (
        (loop, 1, 5),
        (fan, 1, {"a": 2, "b": 2}),
        (each, [1, 2], [2, 3]),
        (nested, 1, 3),
    ):
        cached = Step.cached(construct, cache)
        calls.made.clear()
        results = [await Flujo(cached).run_async(given) for _ in range(2)]
        assert [result.output for result in results] == [output] * 2
        made = len(calls.made)
        assert [result.step_history[0].cache_hit for result in results] == [False, True]
        assert results[1].step_history[0].name == construct.name
        await Flujo(cached).run_async(given)
        assert len(calls.made) == made


async def test_a_cached_step_around_others_depends_on_what_these_read_also_when_they_are_found() -> None:
    made: list[str] = []

    async def inner(x: int, *, context: Tenants) -> str:
        made.append(context.tenant)
        return context.tenant

    inside = Step("inner", inner, cache=True)
    outer = Flujo(Step.cached(Pipeline([inside]).as_step("outer")), context_model=Tenants)
    alone = Flujo(inside, context_model=Tenants)
    for runner in (alone, outer):
        for tenant in ("a", "b", "a"):
            result = await runner.run_async(1, initial_context_data={"tenant": tenant})
            assert result.output == tenant
    assert made == ["a", "b"]


async def test_a_step_that_holds_a_fallback_a_handler_and_validators_keeps_them() -> None:
    told: list[str] = []

    async def fails(x: int) -> int:
        raise ValueError("no")

    failing = Step("s", fails, max_retries=0)
    failing.on_failure(Step("handler", lambda failure: f"handled {failure.step}", inline=True))
    failing.on_failure(lambda: told.append("told"))
    result = await Flujo(Step.cached(failing)).run_async(1)
    assert (result.output, told) == ("handled s", ["told"])


async def test_events_tell_of_a_hit() -> None:
    runner = Flujo(Calls().step(cache=True))
    await runner.run_async(1)
    kinds = [(event.kind, event.data) async for event in runner.run_with_events(1)]
    assert [kind for kind, _ in kinds] == ["run_started", "step_started", "step_finished", "run_finished"]
    assert kinds[2][1].cache_hit


# --- what is written


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CachePolicy(ttl_s=-1), "0 seconds or more"),
        (lambda: CachePolicy(ttl_s=float("nan")), "0 seconds or more"),
        (lambda: CachePolicy(scope="all"), '"auto", "input"'),
        (lambda: CachePolicy(scope=["tenant"]), "context.tenant"),
        (lambda: CachePolicy(scope=["context."]), "context.tenant"),
        (lambda: Step("s", len, cache="yes"), "a CachePolicy"),
        (lambda: Step.cached(len), "a Step"),
        (lambda: InMemoryCache(max_size=-1), "0 or more"),
        (lambda: InMemoryCache(max_size=1.5), "whole number"),
        (lambda: InMemoryCache(ttl_s="1"), "number of seconds"),
        (lambda: CachePolicy(backend={}), "InMemoryCache"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_is_allowed(make: Callable[[], Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        make()


def test_every_way_to_declare_a_cached_step_says_the_same() -> None:
    cache = InMemoryCache()

    @step(cache=True)
    async def one(x: int) -> int:
        return x

    @step(cache=60)
    async def two(x: int) -> int:
        return x

    @step(cache=CachePolicy(ttl_s=60, scope="input", version="1"))
    async def three(x: int) -> int:
        return x

    @step(cache=cache)
    async def four(x: int) -> int:
        return x

    @step(cache=False)
    async def five(x: int) -> int:
        return x

    assert one.cache == CachePolicy()
    assert two.cache == CachePolicy(ttl_s=60)
    assert three.cache == CachePolicy(ttl_s=60, scope="input", version="1")
    assert four.cache == CachePolicy(backend=cache)
    assert five.cache is None


def test_the_names_are_found_at_every_documented_path() -> None:
    import flujo.caching
    import flujo.domain.caching
    import flujo.domain.dsl
    import flujo.infra.caching
    import flujo.steps.cache_step

    for name in ("InMemoryCache", "SQLiteCache", "RedisCache", "CachePolicy"):
        found = getattr(flujo, name)
        assert found is getattr(flujo.caching, name) is getattr(flujo.infra.caching, name)
        assert found is getattr(flujo.domain.caching, name)
    assert flujo.steps.cache_step.CacheStep is flujo.domain.dsl.CacheStep
    cached = Step.cached(Step("s", len, inline=True))
    assert isinstance(cached, flujo.domain.dsl.CacheStep)
    assert isinstance(cached.cache_backend, InMemoryCache)
    assert cached.wrapped_step.name == cached.name == "s"
