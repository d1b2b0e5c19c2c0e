"""Runs as streams: ordered, complete, bounded, with one end."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any, cast

import pytest
from pydantic import ValidationError

from flujo import Flujo, Pipeline, Step, UsageLimits, step
from flujo.application._listener import BOUND, ChunkSink, Listener
from flujo.domain.events import Event
from flujo.domain.outcomes import Aborted, Chunk, Failure, Paused, Success
from flujo.exceptions import PipelineAbortSignal, UsageLimitExceededError
from flujo.testing.agents import StubAgent


class Words:
    """Streams words; fails after the first on the first attempts."""

    def __init__(self, *words: str, failures: int = 0) -> None:
        self.words = words
        self.failures = failures
        self.closed = 0

    async def stream(self, data: Any) -> AsyncIterator[str]:
        try:
            for place, word in enumerate(self.words):
                await asyncio.sleep(0)
                if place == 1 and self.failures:
                    self.failures -= 1
                    raise ValueError("broken off")
                yield word
        finally:
            self.closed += 1


async def listed(stream: Any) -> list[Any]:
    return [item async for item in stream]


# --- chunks


async def test_chunks_of_every_step_come_in_order_then_the_result() -> None:
    runner = Flujo(
        Step("one", Words("a", "b")) >> Step("plain", StubAgent(["x", "x"])) >> Step("two", Words("c", "d"))
    )
    *chunks, result = await listed(runner.run_stream(1))
    assert chunks == ["a", "b", "c", "d"]
    assert (result.status, result.output) == ("completed", "cd")
    assert (await listed(runner.run_async(1)))[:-1] == chunks


async def test_stream_async_gives_the_last_step_s_chunks_alone() -> None:
    runner = Flujo(Step("one", Words("a", "b")) >> Step("two", Words("c", "d")))
    *chunks, result = await listed(runner.stream_async(1))
    assert chunks == ["c", "d"]
    assert result.output == "cd"


@step
async def async_generator(data: Any) -> AsyncIterator[str]:
    yield "a"
    yield "b"


@step
def plain_generator(data: Any) -> Iterator[str]:
    yield "c"
    yield "d"


class PlainStream:
    def stream(self, data: Any) -> Iterator[bytes]:
        yield threading.current_thread().name.encode()
        yield b"!"


async def test_generators_of_every_kind_stream() -> None:
    runner = Flujo(async_generator >> plain_generator >> Step("bytes", PlainStream()))
    *chunks, result = await listed(runner.run_stream(1))
    assert chunks[:4] == ["a", "b", "c", "d"]
    assert chunks[4:] == [result.output[:-1], b"!"]
    assert result.output[:-1] != threading.current_thread().name.encode(), "it may block: it has a thread"


async def test_chunks_of_branches_and_items_are_told_apart() -> None:
    each = Step.map_over("each", Step("say", Words("x", "y")), max_concurrency=2)
    both = Step.parallel("fan", {"a": Step("sa", Words("1", "2")), "b": Step("sb", Words("3"))})
    runner = Flujo(Pipeline([each, both]))
    seen: dict[tuple[str, str], list[Any]] = {}
    async for event in runner.run_with_events([1, 2]):
        if event.kind == "chunk":
            assert event.attempt == 1
            seen.setdefault((event.path, event.lane), []).append(event.data)
    assert seen == {
        ("each/say", "each[0]"): ["x", "y"],
        ("each/say", "each[1]"): ["x", "y"],
        ("fan/a/sa", "fan[a]"): ["1", "2"],
        ("fan/b/sb", "fan[b]"): ["3"],
    }


async def test_a_stream_s_chunks_are_its_own_run_s() -> None:
    inner = Flujo(Step("inner", Words("i", "j")))

    async def calls_another(data: Any) -> Any:
        return (await inner.run_async(data)).output

    runner = Flujo(Step("outer", calls_another) >> inner.as_step("nested"))
    *chunks, result = await listed(runner.run_stream(1))
    assert chunks == ["i", "j"], "those of the nested runner, which is part of this run"
    assert result.status == "completed"


async def test_every_chunk_of_many_arrives_in_order_from_loop_and_thread() -> None:
    @step
    async def on_loop(data: Any) -> AsyncIterator[int]:
        for n in range(5000):
            yield n

    @step
    def in_thread(data: Any) -> Iterator[int]:
        yield from range(5000, 10000)

    *chunks, _ = await listed(Flujo(on_loop >> in_thread).run_stream(1))
    assert chunks == list(range(10000))


# --- back pressure and leaving


async def test_p39_a_slow_reader_holds_up_the_producer_and_leaving_ends_it() -> None:
    made = 0
    ended = asyncio.Event()

    @step
    async def produce(data: Any) -> AsyncIterator[bytes]:
        nonlocal made
        try:
            for _ in range(200_000):
                made += 1
                yield bytes(1000)
        finally:
            ended.set()

    stream = Flujo(produce).run_stream(1)
    taken = 0
    async for _ in stream:
        taken += 1
        await asyncio.sleep(0)
        assert made - taken <= BOUND + 1
        if taken == 100:
            break
    before = made
    await asyncio.sleep(0)
    assert made <= before + BOUND
    del stream
    gc.collect()
    await asyncio.wait_for(ended.wait(), 5)
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_slow_reader_holds_up_a_thread_too_and_leaving_ends_it() -> None:
    made = 0
    ended = threading.Event()

    @step
    def produce(data: Any) -> Iterator[int]:
        nonlocal made
        try:
            for n in range(200_000):
                made += 1
                yield n
        finally:
            ended.set()

    stream = Flujo(produce).run_stream(1)
    assert [await anext(stream) for _ in range(10)] == list(range(10))
    assert made <= 10 + BOUND + 1
    await stream.aclose()
    assert await asyncio.to_thread(ended.wait, 5)
    assert made <= 10 + 2 * BOUND + 1


async def test_steps_wait_for_a_reader_of_events() -> None:
    ran = 0

    async def count(data: Any) -> Any:
        nonlocal ran
        ran += 1
        return data

    runner = Flujo(Pipeline([Step(f"s{n}", count) for n in range(1000)]))
    events = runner.run_with_events(1)
    await anext(events)
    for _ in range(5):
        await asyncio.sleep(0)
    assert ran <= BOUND
    rest = await listed(events)
    assert ran == 1000
    assert rest[-1].kind == "run_finished"


async def test_leaving_cancels_the_run_and_waits_for_its_end() -> None:
    agent = Words("a", "b", "c")
    stream = Flujo(Step("words", agent)).run_with_events(1)
    async for event in stream:
        if event.kind == "chunk":
            break
    await stream.aclose()
    assert agent.closed == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stream_that_nobody_reads_starts_nothing() -> None:
    agent = Words("a")
    stream = Flujo(Step("words", agent)).run_stream(1)
    await stream.aclose()
    assert agent.closed == 0


async def test_the_memory_of_a_stream_does_not_grow_with_its_length() -> None:
    class Forgetful:
        async def stream(self, data: Any) -> AsyncIterator[bytes]:
            for _ in range(2000):
                yield bytes(10_000)

    stream = Flujo(Step("many", Forgetful())).run_stream(1)
    await anext(stream)
    tracemalloc.start()
    try:
        for _ in range(20):
            await asyncio.sleep(0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < (BOUND + 8) * 11_000
    await stream.aclose()


caller: ContextVar[int] = ContextVar("caller", default=0)


async def test_p21_a_stream_s_reader_and_steps_see_the_caller_s_variables() -> None:
    caller.set(7)
    seen = []

    @step
    async def look(data: Any) -> AsyncIterator[int]:
        yield caller.get()

    @step
    def look_in_thread(data: Any) -> Iterator[int]:
        yield caller.get()

    async for item in Flujo(look >> look_in_thread).run_stream(1):
        seen.append((caller.get(), item))
    assert [pair for pair in seen[:2]] == [(7, 7), (7, 7)]


# --- events


def told(events: list[Event]) -> list[tuple[str, str, int]]:
    return [(event.kind, event.step, event.attempt) for event in events]


async def test_events_tell_of_the_run_its_steps_and_attempts() -> None:
    events = await listed(Flujo(Step("s", StubAgent(["x"]))).run_with_events(1, run_id="r"))
    assert told(events) == [
        ("run_started", "", 0),
        ("step_started", "s", 0),
        ("attempt_started", "s", 1),
        ("step_finished", "s", 1),
        ("run_finished", "", 0),
    ]
    assert {event.run_id for event in events} == {"r"}
    assert events[3].data.output == "x"
    assert events[-1].data.output == "x"
    times = [event.time for event in events]
    assert times == sorted(times)


async def test_a_retry_after_chunks_announces_itself() -> None:
    runner = Flujo(Step("words", Words("a", "b", failures=1), max_retries=1))
    events = await listed(runner.run_with_events(1))
    assert [(event.kind, event.attempt, event.data) for event in events if event.kind == "chunk"] == [
        ("chunk", 1, "a"),
        ("chunk", 2, "a"),
        ("chunk", 2, "b"),
    ]
    kinds = [event.kind for event in events]
    first, second = (place for place, kind in enumerate(kinds) if kind == "attempt_started")
    assert kinds[first + 1 : second] == ["chunk", "attempt_failed"]
    assert "broken off" in events[second - 1].data


async def test_a_failed_run_has_one_end_and_its_failed_step() -> None:
    events = await listed(Flujo(Step("words", Words("a", "b", failures=9), max_retries=0)).run_with_events(1))
    assert [event.kind for event in events][-2:] == ["step_failed", "run_finished"]
    assert not events[-2].data.success
    assert events[-1].data.status == "failed"
    assert [event.kind for event in events].count("run_finished") == 1


async def test_a_run_that_raises_ends_its_stream_with_what_was_done_then_raises() -> None:
    class Priced:
        output, cost_usd, token_counts = "x", 2.0, 0

    runner = Flujo(Step("s", StubAgent([Priced()])), usage_limits=UsageLimits(total_cost_usd_limit=1.0))
    events = []
    with pytest.raises(UsageLimitExceededError):
        async for event in runner.run_with_events(1):
            events.append(event)
    assert events[-1].kind == "run_finished"
    assert events[-1].data.status == "limit_exceeded"


async def test_a_pause_is_told_with_its_question_and_ends_the_stream() -> None:
    runner = Flujo(Step("before", Words("a")) >> Step.human_in_the_loop("ask", "Go on?"))
    events = await listed(runner.run_with_events(1))
    [pause] = [event.data for event in events if event.kind == "paused"]
    assert pause.message == "Go on?"
    assert events[-1].kind == "run_finished"
    assert events[-1].data.pauses == [pause]
    assert (await runner.resume_async(events[-1].data, "yes")).output == "yes"


async def test_a_resumption_tells_of_the_questions_that_go_on_and_of_what_follows() -> None:
    fan = Step.parallel("fan", {"a": Step.human_in_the_loop("a"), "b": Step.human_in_the_loop("b")})
    runner = Flujo(fan >> Step.from_mapper(str) >> Step("words", Words("x", "y")))
    paused = await runner.run_async("?", run_id="r")
    ids = [pause.id for pause in paused.pauses]
    events = await listed(runner.resume_with_events(paused, answers={ids[0]: 1}))
    assert told(events) == [("resumed", "a", 0), ("step_finished", "a", 1), ("run_finished", "", 0)]
    assert (events[0].lane, events[-1].data.status, {event.run_id for event in events}) == (
        "fan[a]",
        "paused",
        {"r"},
    )
    events = await listed(runner.resume_with_events(paused, 2))
    kinds = [(event.kind, event.step) for event in events if not event.kind.startswith("attempt")]
    assert kinds == [
        ("resumed", "b"),
        ("step_finished", "b"),
        ("step_finished", "fan"),
        ("step_started", "str"),
        ("step_finished", "str"),
        ("step_started", "words"),
        ("chunk", "words"),
        ("chunk", "words"),
        ("step_finished", "words"),
        ("run_finished", ""),
    ]
    assert events[-1].data.output == "xy"


async def test_a_resumption_that_is_refused_says_so_where_it_is_read() -> None:
    runner = Flujo(Step.human_in_the_loop("ask", input_schema=int))
    paused = await runner.run_async(1)
    with pytest.raises(ValidationError):
        await listed(runner.resume_with_events(paused, "many"))
    assert (await runner.resume_async(paused, 3)).output == 3


async def test_a_resumption_that_is_left_early_is_cancelled() -> None:
    agent = Words("a", "b", "c")
    runner = Flujo(Step.human_in_the_loop("ask") >> Step("words", agent))
    stream = runner.resume_with_events(await runner.run_async(1), 2)
    async for event in stream:
        if event.kind == "chunk":
            break
    await stream.aclose()
    assert agent.closed == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_a_thread_puts_in_between_two_looks_of_the_reader_is_seen_at_once() -> None:
    class Late(deque[Any]):
        """What a thread appends just after the reader has found nothing."""

        def __bool__(self) -> bool:
            had_any = len(self) > 0
            if not had_any and late:
                sink.put_from_thread(late.pop())
            return had_any

    class Waiting:
        def listen(self, listener: Any) -> None: ...

        def __await__(self) -> Iterator[Any]:
            return seen.wait().__await__()

    late, seen, listener = ["chunk"], asyncio.Event(), Listener()
    listener._items = Late()
    sink = ChunkSink(listener, None)
    stream = listener.read(lambda: cast("Any", Waiting()), lambda result, error: [result])
    async with asyncio.timeout(10):
        assert await anext(stream) == "chunk"
        seen.set()
        assert await listed(stream) == [True]


# --- outcomes


async def test_two_steps_give_one_success() -> None:
    runner = Flujo(Step("one", StubAgent(["x"])) >> Step("two", StubAgent(["y"])))
    for stream in (runner.run_outcomes(1),):
        [outcome] = await listed(stream)
        assert isinstance(outcome, Success)
        assert outcome.output == "y"


async def test_outcomes_are_chunks_then_one_end() -> None:
    runner = Flujo(Step("words", Words("a", "b")))
    *chunks, end = await listed(runner.run_outcomes_async(1))
    assert chunks == [Chunk("a", "words"), Chunk("b", "words")]
    assert isinstance(end, Success)


async def test_each_way_a_run_ends_is_an_outcome() -> None:
    async def fails(data: Any) -> Any:
        raise ValueError("no")

    async def aborts(payload: Any) -> None:
        raise PipelineAbortSignal("enough")

    [failed] = await listed(Flujo(Step("fails", fails, max_retries=0)).run_outcomes(1))
    assert isinstance(failed, Failure)
    assert isinstance(failed.error, ValueError)
    assert "no" in str(failed.feedback)
    [paused] = await listed(Flujo(Step.human_in_the_loop("ask", "Go on?")).run_outcomes(1))
    assert isinstance(paused, Paused)
    assert paused.message == "Go on?"
    [aborted] = await listed(Flujo(Step("x", StubAgent([1])), hooks=[aborts]).run_outcomes(1))
    assert isinstance(aborted, Aborted)
