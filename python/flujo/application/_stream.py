"""A run as a stream: the chunks of its last step where it streams, then the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from flujo.application.runner import Flujo
    from flujo.domain.dsl.step import Step

T = TypeVar("T")

_BUFFERED = 16
"""How many chunks may wait for the consumer; then the agent waits."""

_LISTENER: ContextVar[tuple[Step[Any, Any], asyncio.Queue[Any]] | None] = ContextVar(
    "flujo_stream", default=None
)
"""The step whose chunks somebody wants, and where they go."""


async def stream(run: Awaitable[T]) -> AsyncIterator[T]:
    """Yield the result of a run."""
    yield await run


async def stream_run(
    runner: Flujo[Any, Any], given: Any, run_id: str | None, data: Mapping[str, Any] | None
) -> AsyncIterator[Any]:
    """Yield the chunks of the last step's agent, where it has `stream`, then the result.

    Leaving the iteration early cancels the run and waits for its end.
    """
    steps = runner.pipeline.steps
    last = steps[-1] if steps else None
    if last is None or not callable(getattr(last.agent, "stream", None)):
        yield await runner.run_async(given, run_id=run_id, initial_context_data=data)
        return
    chunks: asyncio.Queue[Any] = asyncio.Queue(_BUFFERED)
    end = object()

    async def run() -> Any:
        try:
            return await runner.run_async(given, run_id=run_id, initial_context_data=data)
        finally:
            await chunks.put(end)

    token = _LISTENER.set((last, chunks))
    try:
        task = asyncio.ensure_future(run())
    finally:
        _LISTENER.reset(token)
    try:
        while (chunk := await chunks.get()) is not end:
            yield chunk
        yield await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class StreamingAgent:
    """Calls an agent's `stream` where somebody listens, else its `run`; either way the output is the whole."""

    def __init__(
        self, step: Step[Any, Any], run: Callable[..., Any] | None, generate: Callable[..., Any]
    ) -> None:
        self._step = step
        self._run = run
        self._generate = generate

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The agent's output."""
        listener = _LISTENER.get()
        queue = listener[1] if listener is not None and listener[0] is self._step else None
        if queue is None and self._run is not None:
            given = self._run(*args, **kwargs)
            return await given if isinstance(given, Awaitable) else given
        chunks = []
        pieces = self._generate(*args, **kwargs)
        async for chunk in pieces:
            chunks.append(chunk)
            if queue is not None:
                await queue.put(chunk)
        # A stream that knows the whole, with what it used, is believed.
        whole = getattr(pieces, "result", None)
        return join_chunks(chunks) if whole is None else whole


class Collector:
    """Runs a generator function as an agent: its chunks, joined."""

    def __init__(self, generate: Callable[..., Any], *, is_async: bool) -> None:
        self._generate = generate
        self._is_async = is_async

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The output, or what is to be awaited for it."""
        if self._is_async:
            return self._collect(*args, **kwargs)
        return join_chunks(list(self._generate(*args, **kwargs)))

    async def _collect(self, *args: Any, **kwargs: Any) -> Any:
        return join_chunks([chunk async for chunk in self._generate(*args, **kwargs)])


def join_chunks(chunks: list[Any]) -> Any:
    """Text and bytes as one; anything else stays a list."""
    if chunks and all(isinstance(chunk, str) for chunk in chunks):
        return "".join(chunks)
    if chunks and all(isinstance(chunk, bytes) for chunk in chunks):
        return b"".join(chunks)
    return chunks
