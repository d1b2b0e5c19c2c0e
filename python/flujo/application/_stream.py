"""Runs as streams: of chunks, of events, of outcomes; and the agents that give chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from flujo.application._place import PLACE

if TYPE_CHECKING:
    from flujo._native import Place, Run
    from flujo.application._listener import ChunkSink, Listener
    from flujo.domain.events import Event
    from flujo.domain.outcomes import StepOutcome


async def stream(run: Run) -> AsyncGenerator[Any]:
    """Yield the chunks of every agent that streams, then the result."""
    from flujo.application._listener import Listener

    async for item in _with_result(Listener(), run):
        yield item


async def stream_last(run: Run, step: str) -> AsyncGenerator[Any]:
    """Yield the chunks of the step of this name at the top of the pipeline, where it streams, then the result."""
    from flujo.application._listener import Listener

    listener = Listener(wants=lambda place: place.path == step and not place.lane)
    async for item in _with_result(listener, run):
        yield item


async def _with_result(listener: Listener, run: Run) -> AsyncGenerator[Any]:
    async with aclosing(listener.read(run)) as chunks:
        async for chunk in chunks:
            yield chunk
    result, error = _end_of(listener)
    if error is not None:
        raise error
    yield result


async def events(run: Run) -> AsyncGenerator[Event]:
    """Yield what happens, in order; `run_finished` is the last."""
    from flujo.application._listener import Listener
    from flujo.domain.events import Event, now

    def chunk(place: Place) -> Callable[[Any], Event]:
        run_id, step, path, lane, attempt = place.run_id, place.step, place.path, place.lane, place.attempt
        return lambda data: Event("chunk", run_id, step, path, lane, attempt, now(), data)

    listener = Listener(chunk=chunk, tells=True)
    async with aclosing(listener.read(run)) as items:
        async for item in items:
            yield item
    result, error = _end_of(listener)
    yield Event("run_finished", listener.run_id, "", "", "", 0, now(), result)
    if error is not None:
        raise error


async def outcomes(run: Run) -> AsyncGenerator[StepOutcome]:
    """Yield chunks, then how the run ended."""
    from flujo.application._listener import Listener
    from flujo.domain.outcomes import Chunk, outcome_of

    def chunk(place: Place) -> Callable[[Any], Chunk]:
        step, lane, attempt = place.step, place.lane, place.attempt
        return lambda data: Chunk(data, step, lane, attempt)

    listener = Listener(chunk=chunk)
    async with aclosing(listener.read(run)) as items:
        async for item in items:
            yield item
    result, error = _end_of(listener)
    if result is not None:
        yield outcome_of(result, error)
    elif error is not None:
        raise error


def _end_of(listener: Listener) -> tuple[Any, BaseException | None]:
    """What the run had done, where anything is known of it, and the exception that it ended with."""
    task = listener.ended
    assert task is not None, "a stream that was read to its end has a run"
    try:
        return task.result(), None
    except BaseException as error:
        result = getattr(error, "result", None)
        return (getattr(error, "flujo_result", None) if result is None else result), error


def _sink() -> ChunkSink | None:
    place = PLACE.get()
    listener: Listener | None = None if place is None else place.listener
    return None if place is None or listener is None else listener.chunks(place)


class StreamingAgent:
    """Calls an agent's `stream` where somebody listens, else its `run`; either way the output is the whole.

    Args:
        run: The agent's other entry point, where it has one.
        generate: Its `stream`: gives chunks, in a plain or an async iterator.
    """

    def __init__(self, run: Callable[..., Any] | None, generate: Callable[..., Any]) -> None:
        self._run = run
        self._generate = generate

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The agent's output."""
        sink = _sink()
        if sink is None and self._run is not None:
            given = self._run(*args, **kwargs)
            return await given if isinstance(given, Awaitable) else given
        pieces = self._generate(*args, **kwargs)
        if isinstance(pieces, Awaitable) and not hasattr(pieces, "__aiter__"):
            pieces = await pieces
        if not hasattr(pieces, "__aiter__"):
            return await _in_thread(pieces, sink)
        chunks = await _collect(pieces, sink)
        # A stream that knows the whole, with what it used, is believed.
        whole = getattr(pieces, "result", None)
        return join_chunks(chunks) if whole is None else whole


async def _collect(pieces: Any, sink: ChunkSink | None) -> list[Any]:
    try:
        if sink is None:
            return [chunk async for chunk in pieces]
        chunks: list[Any] = []
        keep, put = chunks.append, sink.put
        async for chunk in pieces:
            keep(chunk)
            if (room := put(chunk)) is not None:
                await room
        return chunks
    finally:
        # One that was left early cleans up now, not when it is collected.
        if (close := getattr(pieces, "aclose", None)) is not None:
            await close()


async def _in_thread(pieces: Any, sink: ChunkSink | None) -> Any:
    import asyncio
    import contextvars

    from flujo.application._workers import shared_workers

    context = contextvars.copy_context()
    work = shared_workers().submit(asyncio.get_running_loop(), lambda: context.run(_drain, pieces, sink))
    return await work


def _drain(pieces: Any, sink: ChunkSink | None) -> Any:
    if sink is None:
        return join_chunks(list(pieces))
    chunks = []
    try:
        for chunk in pieces:
            chunks.append(chunk)
            sink.put_from_thread(chunk)
    finally:
        if (close := getattr(pieces, "close", None)) is not None:
            close()
    return join_chunks(chunks)


class Collector:
    """Runs a generator function as an agent: its chunks, joined."""

    def __init__(self, generate: Callable[..., Any], *, is_async: bool) -> None:
        self._generate = generate
        self._is_async = is_async

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The output, or what is to be awaited for it."""
        if self._is_async:
            return self._collect(*args, **kwargs)
        return _drain(self._generate(*args, **kwargs), _sink())

    async def _collect(self, *args: Any, **kwargs: Any) -> Any:
        return join_chunks(await _collect(self._generate(*args, **kwargs), _sink()))


def join_chunks(chunks: list[Any]) -> Any:
    """Text and bytes as one; anything else stays a list."""
    if chunks and all(isinstance(chunk, str) for chunk in chunks):
        return "".join(chunks)
    if chunks and all(isinstance(chunk, bytes) for chunk in chunks):
        return b"".join(chunks)
    return chunks
