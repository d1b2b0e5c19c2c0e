"""What happens in a run, in order, for one reader. The buffer is bounded: who brings more than is taken waits."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from flujo.domain.events import Event, now

if TYPE_CHECKING:
    from flujo._native import Place, Run

BOUND = 64
"""How much may wait for the reader."""
_LOW = BOUND // 2
"""How little must be left before those who wait go on: waking them for each item would cost more than the items."""


class StreamClosed(Exception):
    """The reader of a stream has gone; what makes its chunks in a thread is to end."""


class Listener:
    """The buffer between one run and its reader.

    Args:
        wants: Whether the chunks of the agent at a place are wanted.
        chunk: What the reader gets for a chunk: made from the place of its agent, its attempt and the chunk.
        tells: Whether the reader gets events of steps and attempts.
    """

    def __init__(
        self,
        *,
        wants: Callable[[Place], bool] = lambda place: True,
        chunk: Callable[[Place], Callable[[Any], Any]] | None = None,
        tells: bool = False,
    ) -> None:
        self.run_id = ""
        self._wants = wants
        self._chunk = chunk
        self._tells = tells
        self._loop: asyncio.AbstractEventLoop
        self._items: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._rooms: list[asyncio.Future[None]] = []
        self._room_for_threads = threading.Condition()
        self._threads = 0
        self._over = False
        self._closed = False

    # --- what the engine calls

    def told(self, kind: Any, run_id: str, step: str, path: str, lane: str, attempt: int, data: Any) -> None:
        """Take in what happened."""
        self.run_id = run_id
        if self._tells and not self._closed:
            self._add(Event(kind, run_id, step, path, lane, attempt, now(), data))

    def room(self) -> asyncio.Future[None] | None:
        """What is to be awaited before more happens; None while there is room."""
        if len(self._items) < BOUND or self._closed:
            return None
        room = self._loop.create_future()
        self._rooms.append(room)
        return room

    # --- what agents call

    def chunks(self, place: Place) -> ChunkSink | None:
        """Where the agent that is at work there puts its chunks; None when nobody wants them."""
        if self._closed or not self._wants(place):
            return None
        return ChunkSink(self, None if self._chunk is None else self._chunk(place))

    # --- reading

    async def read(
        self, start: Callable[[], Run], end: Callable[[Any, BaseException | None], Iterable[Any]]
    ) -> AsyncGenerator[Any]:
        """Start the run and yield what comes of it, then what `end` gives for its result and what it raised.

        Leaving early cancels the run and waits for its end.
        """
        self._loop = asyncio.get_running_loop()
        run = start()
        run.listen(self)
        task = self._loop.create_task(self._follow(run))
        items = self._items
        try:
            while True:
                while items:
                    item = items.popleft()
                    if len(items) <= _LOW and (self._rooms or self._threads):
                        self._make_room()
                    yield item
                if self._over:
                    break
                self._reader = self._loop.create_future()
                # A thread that has put something in meanwhile has found nobody to wake.
                if not items and not self._over:
                    await self._reader
            await asyncio.wait([task])
        finally:
            self._close()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for last in end(*_end_of(task)):
            yield last

    async def _follow(self, run: Awaitable[Any]) -> Any:
        try:
            return await run
        finally:
            self._over = True
            self._wake()

    def _add(self, item: Any) -> None:
        self._items.append(item)
        if self._reader is not None:
            self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    def _make_room(self) -> None:
        rooms, self._rooms = self._rooms, []
        for room in rooms:
            if not room.done():
                room.set_result(None)
        if self._threads:
            with self._room_for_threads:
                self._room_for_threads.notify_all()

    def _close(self) -> None:
        self._closed = True
        self._items.clear()
        self._make_room()


def _end_of(task: asyncio.Task[Any]) -> tuple[Any, BaseException | None]:
    """What the run had done, where anything is known of it, and the exception that it ended with."""
    try:
        return task.result(), None
    except BaseException as error:
        result = getattr(error, "result", None)
        return (getattr(error, "flujo_result", None) if result is None else result), error


class ChunkSink:
    """Takes the chunks of one call of an agent."""

    __slots__ = ("_items", "_listener", "_make")

    def __init__(self, listener: Listener, make: Callable[[Any], Any] | None) -> None:
        self._listener = listener
        self._items = listener._items
        self._make = make

    def put(self, chunk: Any) -> Awaitable[None] | None:
        """Pass a chunk on; what it gives is to be awaited, if anything."""
        items = self._items
        if len(items) >= BOUND:
            return self._put_later(chunk)
        make = self._make
        items.append(chunk if make is None else make(chunk))
        if self._listener._reader is not None:
            self._listener._wake()
        return None

    async def _put_later(self, chunk: Any) -> None:
        listener = self._listener
        while (room := listener.room()) is not None:
            await room
        if not listener._closed:
            listener._add(chunk if self._make is None else self._make(chunk))

    def put_from_thread(self, chunk: Any) -> None:
        """Pass a chunk on from a worker thread, and wait there for room.

        Raises:
            StreamClosed: nobody reads any more.
        """
        listener, items = self._listener, self._items
        if len(items) >= BOUND:
            with listener._room_for_threads:
                listener._threads += 1
                try:
                    listener._room_for_threads.wait_for(lambda: len(items) < BOUND or listener._closed)
                finally:
                    listener._threads -= 1
        if listener._closed:
            raise StreamClosed
        items.append(chunk if self._make is None else self._make(chunk))
        if listener._reader is not None:
            listener._loop.call_soon_threadsafe(listener._wake)
