"""Runs as streams: of chunks, of events, of outcomes; and the agents that give chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from flujo.application._place import PLACE

if TYPE_CHECKING:
    from flujo._native import Place, Run
    from flujo.application._listener import ChunkSink, Listener
    from flujo.domain.events import Event
    from flujo.domain.outcomes import StepOutcome


def stream(run: Run) -> AsyncGenerator[Any]:
    """The chunks of every agent of a run that streams, then the result."""
    return chunks(lambda: run)


def chunks(start: Callable[[], Run], *, only: str | None = None) -> AsyncGenerator[Any]:
    """The chunks of every agent that streams, or of the one step that is named, then the result."""
    from flujo.application._listener import Listener

    def wanted(place: Place) -> bool:
        return only is None or (place.path == only and not place.lane)

    def end(result: Any, error: BaseException | None) -> Iterator[Any]:
        if error is not None:
            raise error
        yield result

    return Listener(wants=wanted).read(start, end)


def events(start: Callable[[], Run]) -> AsyncGenerator[Event]:
    """What happens in a run, in order; `run_finished` is the last."""
    from datetime import UTC, datetime

    from flujo.application._listener import Listener
    from flujo.domain.events import Event, now

    def chunk(place: Place) -> Callable[[Any], Event]:
        fields = ("chunk", place.run_id, place.step, place.path, place.lane, place.attempt)
        make, time = tuple.__new__, datetime.now
        # What Event(...) does, in a third of its time.
        return lambda data: make(Event, (*fields, time(UTC), data))

    def end(result: Any, error: BaseException | None) -> Iterator[Event]:
        yield Event("run_finished", listener.run_id, "", "", "", 0, now(), result)
        if error is not None:
            raise error

    listener = Listener(chunk=chunk, tells=True)
    return listener.read(start, end)


def outcomes(start: Callable[[], Run]) -> AsyncGenerator[StepOutcome]:
    """The chunks of a run, then how it ended."""
    from flujo.application._listener import Listener
    from flujo.domain.outcomes import Chunk, outcome_of

    def chunk(place: Place) -> Callable[[Any], Chunk]:
        step, lane, attempt = place.step, place.lane, place.attempt
        return lambda data: Chunk(data, step, lane, attempt)

    def end(result: Any, error: BaseException | None) -> Iterator[StepOutcome]:
        if result is not None:
            yield outcome_of(result, error)
        elif error is not None:
            raise error

    return Listener(chunk=chunk).read(start, end)


def _sink() -> ChunkSink | None:
    place = PLACE.get()
    listener: Listener | None = None if place is None else place.listener
    return None if place is None or listener is None else listener.chunks(place)


class StreamingAgent:
    """Calls an agent's `stream` where somebody listens, else its `run`; either way the output is the whole.

    Args:
        name: Names the agent in warnings.
        run: The agent's other entry point, where it has one.
        generate: Its `stream`: gives chunks, in a plain or an async iterator.
        blocks: Whether `run` belongs into a worker thread.
    """

    def __init__(
        self, name: str, run: Callable[..., Any] | None, generate: Callable[..., Any], *, blocks: bool
    ) -> None:
        self._name = name
        self._run = run
        self._generate = generate
        self._blocks = blocks

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The agent's output."""
        sink = _sink()
        if sink is None and self._run is not None:
            if self._blocks:
                given = await _in_thread(self._name, self._run, *args, **kwargs)
            else:
                given = self._run(*args, **kwargs)
            return await given if isinstance(given, Awaitable) else given
        pieces = self._generate(*args, **kwargs)
        if isinstance(pieces, Awaitable) and not hasattr(pieces, "__aiter__"):
            pieces = await pieces
        if not hasattr(pieces, "__aiter__"):
            return await _in_thread(self._name, _drain, pieces, sink)
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


async def _in_thread(name: str, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What `target` gives in one of the run's worker threads."""
    import asyncio

    from flujo.application._workers import leave, submit, workers_for

    place = PLACE.get()
    workers = workers_for() if place is None else place.workers
    work = submit(workers, asyncio.get_running_loop(), target, args, kwargs)
    try:
        return await work
    except asyncio.CancelledError:
        leave(workers, work, name)
        raise


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
