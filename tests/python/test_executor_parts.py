"""The optimised parts of the executor, used by themselves."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from pydantic import BaseModel, Field

from flujo import OptimizationConfig, Pipeline, step
from flujo.application.core.executor_core import (
    ExecutorCore,
    ObjectPool,
    OptimizedContextManager,
    OptimizedStepExecutor,
    PerformanceMonitor,
)
from flujo.exceptions import ContextMergeError


class TestObjectPool:
    def test_what_is_given_back_is_reset_and_used_again(self) -> None:
        pool: ObjectPool[list[int]] = ObjectPool(list, reset=list.clear)
        first = pool.acquire()
        first.append(1)
        before = id(first)
        pool.release(first)
        del first
        again = pool.acquire()
        assert id(again) == before
        assert again == []
        pool.release(again)
        counts = {"hits": 1, "misses": 1, "overflow": 0, "in_use": 0, "retained": 1}
        assert pool.statistics() == counts

    def test_what_somebody_still_holds_is_never_handed_out_again(self) -> None:
        pool: ObjectPool[list[int]] = ObjectPool(list, reset=list.clear)
        kept = pool.acquire()
        kept.append(1)
        pool.release(kept)
        other = pool.acquire()
        assert other is not kept
        assert kept == [1]
        pool.release(other)
        pool.release(other)  # by mistake
        assert pool.acquire() is not other

    @pytest.mark.parametrize(("size", "kept"), [(0, 0), (3, 3), (10**12, 5)])
    def test_how_many_are_kept_is_bounded(self, size: int, kept: int) -> None:
        pool: ObjectPool[list[int]] = ObjectPool(list, max_size=size)
        for held in [pool.acquire() for _ in range(5)]:
            pool.release(held)
        assert pool.statistics()["retained"] == kept
        assert pool.statistics()["overflow"] == 5 - kept
        assert pool.max_size <= 1_000_000
        pool.clear()
        assert pool.statistics()["retained"] == 0

    def test_one_that_cannot_be_reset_is_let_go_and_a_factory_that_raises_counts_nothing(self) -> None:
        def refuse(held: list[int]) -> None:
            raise ValueError("not this one")

        pool: ObjectPool[list[int]] = ObjectPool(list, reset=refuse)
        pool.release(pool.acquire())
        assert pool.acquire() == []
        assert pool.statistics()["overflow"] == 1

        def broken() -> list[int]:
            raise OSError("nothing left")

        empty: ObjectPool[list[int]] = ObjectPool(broken)
        with pytest.raises(OSError, match="nothing left"):
            empty.acquire()
        assert empty.statistics()["in_use"] == 0

    def test_threads_that_use_it_at_once_never_share_an_object(self) -> None:
        pool: ObjectPool[list[int]] = ObjectPool(list, reset=list.clear, max_size=2)
        shared = []

        def work(number: int) -> None:
            for _ in range(2_000):
                with pool.use() as held:
                    held.append(number)
                    if held != [number]:
                        shared.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shared == []
        counts = pool.statistics()
        assert counts["in_use"] == 0
        assert counts["hits"] + counts["misses"] == 8_000

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"max_size": -1}, ValueError),
            ({"max_size": 1.5}, TypeError),
            ({"max_size": True}, TypeError),
            ({"reset": 3}, TypeError),
        ],
    )
    def test_wrong_arguments_are_refused(self, arguments: dict[str, Any], error: type[Exception]) -> None:
        with pytest.raises(error):
            ObjectPool(list, **arguments)


class State(BaseModel):
    items: list[str] = Field(default_factory=list)
    seen: int = 0


class TestOptimizedContextManager:
    def test_a_view_is_isolated_until_it_is_committed(self) -> None:
        manager = OptimizedContextManager()
        state = State(items=["a"])
        view = manager.isolate(state)
        view.items.append("b")
        assert state.items == ["a"]
        assert isinstance(view, State)
        assert manager.commit(view, state) == ["items"]
        assert state.items == ["a", "b"]
        assert manager.statistics() == {
            "forks": 1,
            "commits": 1,
            "fields_touched": 1,
            "merges": 0,
            "conflicts": 0,
        }

    def test_several_views_are_merged_by_path_and_what_cannot_be_is_counted(self) -> None:
        manager = OptimizedContextManager()
        state = State()
        views = {name: manager.isolate(state) for name in "ab"}
        for name, view in views.items():
            view.items.append(name)
        manager.merge(state, views)
        assert state.items == ["a", "b"]
        views = {name: manager.isolate(state) for name in "ab"}
        views["a"].seen, views["b"].seen = 1, 2
        with pytest.raises(ContextMergeError, match="seen"):
            manager.merge(state, views)
        assert state.seen == 0
        counts = manager.statistics()
        assert (counts["merges"], counts["conflicts"]) == (2, 1)

    def test_a_view_of_another_context_is_never_found_under_the_address_of_one_that_is_gone(self) -> None:
        manager = OptimizedContextManager()
        for number in range(2_000):
            state = State(seen=number)
            assert manager.isolate(state).seen == number
            del state
        gc.collect()

    def test_a_plain_copy_is_independent_of_the_view(self) -> None:
        manager = OptimizedContextManager()
        view = manager.isolate(State(items=["a"]))
        model = manager.plain(view)
        view.items.append("b")
        assert type(model) is State
        assert model.items == ["a"]


@step
async def count(value: int, context: State) -> int:
    context.seen += value
    context.items.append("counted")
    if value < 0:
        raise ValueError("negative")
    return value + 1


class TestOptimizedStepExecutor:
    def test_a_step_is_analysed_once_and_runs_with_its_whole_life(self) -> None:
        executor = OptimizedStepExecutor()
        state = State()
        for _ in range(3):
            result = asyncio.run(executor.execute(count, 2, context=state))
            assert (result.output, result.success, result.attempts) == (3, True, 1)
        assert (state.seen, state.items) == (6, ["counted"] * 3)
        assert executor.statistics() == {
            "analyses": 1,
            "reuses": 2,
            "invalidations": 0,
            "executions": 3,
        }

    def test_what_a_failed_step_wrote_stays_out_of_the_context(self) -> None:
        executor = OptimizedStepExecutor()
        state = State()
        result = asyncio.run(executor.execute(count, -1, context=state))
        assert (result.success, result.attempts) == (False, 2)
        assert "negative" in (result.feedback or "")
        assert state == State()

    def test_a_step_that_was_changed_is_analysed_again(self) -> None:
        executor = OptimizedStepExecutor()

        @step
        async def flaky(value: int) -> int:
            raise ValueError(value)

        assert asyncio.run(executor.execute(flaky, 1)).attempts == 2
        flaky.config.max_retries = 4
        assert asyncio.run(executor.execute(flaky, 1)).attempts == 5
        assert executor.statistics()["invalidations"] == 1

    def test_the_plain_way_analyses_each_time_and_a_plan_can_be_looked_at(self) -> None:
        executor = OptimizedStepExecutor(enable_optimizations=False)
        for _ in range(3):
            asyncio.run(executor.execute(count, 1, context=State()))
        assert executor.statistics()["analyses"] == 3
        assert executor.plan(Pipeline([count], name="p")).paths() == ["count"]

    def test_no_more_than_128_steps_are_held(self) -> None:
        executor = OptimizedStepExecutor()

        def steps() -> None:
            for number in range(200):

                @step(name=f"s{number}")
                async def work(value: int) -> int:
                    return value

                asyncio.run(executor.execute(work, 1))

        steps()
        assert len(executor._runners) == 128
        assert executor.statistics()["executions"] == 200


class TestPerformanceMonitor:
    config = OptimizationConfig(execution_time_threshold=0.5, cache_hit_rate_threshold=0.5)

    def test_a_crossing_is_told_once_and_again_after_recovery(self) -> None:
        monitor = PerformanceMonitor(self.config)
        alerts = [monitor.record("s", seconds) for seconds in (0.4, 0.6, 0.7, 0.5, 0.6)]
        assert [alert is not None for alert in alerts] == [False, True, False, False, True]
        alert = alerts[1]
        assert alert is not None
        assert (alert.kind, alert.step, alert.value, alert.threshold) == ("execution_time", "s", 0.6, 0.5)
        assert monitor.statistics() == {
            "records": 5,
            "crossings": 2,
            "alarmed": 1,
            "callbacks_failed": 0,
            "callbacks_skipped": 0,
        }
        monitor.reset()
        assert monitor.statistics()["records"] == 0

    def test_a_hundred_look_ups_are_judged_together(self) -> None:
        monitor = PerformanceMonitor(self.config)
        alerts = [monitor.record_lookup("s", hit=number % 4 == 0) for number in range(100)]
        assert [alert for alert in alerts[:-1] if alert] == []
        assert alerts[-1] is not None
        assert (alerts[-1].kind, alerts[-1].part, alerts[-1].value) == ("cache_hit_rate", "cache", 0.25)

    def test_memory_is_looked_at_when_asked(self) -> None:
        monitor = PerformanceMonitor(OptimizationConfig(memory_usage_threshold=32))
        assert monitor.record_memory() is None
        held = bytearray(b"x") * (64 * 2**20)
        alert = monitor.record_memory()
        assert alert is not None and alert.kind == "memory_usage"
        assert monitor.record_memory() is None
        assert len(held) == 64 * 2**20

    @pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
    def test_a_time_that_is_none_is_refused(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="seconds must be a finite number, 0 or more"):
            PerformanceMonitor().record("s", seconds)


def test_the_executor_core_has_the_parts_together() -> None:
    told = threading.Event()

    @step
    async def slow(value: int) -> int:
        return value

    core = ExecutorCore(OptimizationConfig(execution_time_threshold=0.0), on_alert=lambda alert: told.set())
    assert asyncio.run(core.execute(slow, 1)).output == 1
    told.wait()
    counts = core.statistics()
    assert counts["analysis"]["executions"] == 1
    assert counts["monitor"]["crossings"] == 1
    assert counts["context"]["forks"] == 0
