"""A pool of objects of the user's own: what is given back is used again, up to a bound."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic

from typing_extensions import TypeVar

__all__ = ["ObjectPool"]

_log = logging.getLogger("flujo.pool")

T = TypeVar("T", default=Any)

MOST_KEPT = 1_000_000
"""A pool keeps at most this many objects, whatever `max_size` says: a larger number is taken for this one."""


def _holders(held: list[Any]) -> int:
    return sys.getrefcount(held[0])


_ALONE = _holders([object()])
"""What `_holders` says of an object that only the list holds."""


class ObjectPool(Generic[T]):
    """Keeps objects that are given back and hands them out again.

    An object that somebody still holds is never handed out again: who gives one back may keep a reference by mistake,
    and nothing comes of it. Taking and giving back costs about a microsecond; what making an object costs beyond that
    is earned. Safe from any thread.

    Args:
        factory: Makes an object when the pool has none.
        reset: Empties an object before it is used again; one for which it raises is let go.
        max_size: How many objects are kept; 0 keeps none, and no pool keeps more than a million.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: `max_size` is negative.
    """

    def __init__(
        self, factory: Callable[[], T], *, reset: Callable[[T], object] | None = None, max_size: int = 100
    ) -> None:
        if not callable(factory) or not (reset is None or callable(reset)):
            raise TypeError("ObjectPool takes a factory, and a reset if any, that can be called")
        if isinstance(max_size, bool) or not isinstance(max_size, int):
            raise TypeError(f"max_size must be a whole number, not {type(max_size).__name__}")
        if max_size < 0:
            raise ValueError(f"max_size must be 0 or more, not {max_size}")
        self.max_size = min(max_size, MOST_KEPT)
        self._factory = factory
        self._reset = reset
        self._kept: deque[T] = deque()
        self._lock = threading.Lock()
        self._hits = self._misses = self._overflow = self._returned = 0

    def acquire(self) -> T:
        """An object: one that was given back, else a new one."""
        while True:
            with self._lock:
                if not self._kept:
                    self._misses += 1
                    break
                held: list[T] = [self._kept.pop()]
                self._hits += 1
            if self._is_good(held):
                return held.pop()
            with self._lock:
                self._hits -= 1
                self._overflow += 1
        try:
            return self._factory()
        except BaseException:
            with self._lock:
                self._misses -= 1
            raise

    def _is_good(self, held: list[Any]) -> bool:
        if _holders(held) > _ALONE:
            return False  # somebody still sees it
        if self._reset is None:
            return True
        try:
            self._reset(held[0])
        except Exception:
            _log.warning("an object couldn't be reset and was let go", exc_info=True)
            return False
        return _holders(held) == _ALONE

    def release(self, instance: T) -> None:
        """Give back an object that `acquire` gave."""
        with self._lock:
            self._returned += 1
            if len(self._kept) < self.max_size:
                self._kept.append(instance)
            else:
                self._overflow += 1

    @contextmanager
    def use(self) -> Iterator[T]:
        """An object for the time of a `with` statement."""
        instance = self.acquire()
        try:
            yield instance
        finally:
            self.release(instance)

    def clear(self) -> None:
        """Let go of everything that is kept."""
        with self._lock:
            kept, self._kept = self._kept, deque()
        kept.clear()

    def statistics(self) -> dict[str, int]:
        """Exact counts: `hits`, `misses`, `overflow`, `in_use`, `retained`."""
        with self._lock:
            return {
                "hits": self._hits,
                "misses": self._misses,
                "overflow": self._overflow,
                "in_use": max(0, self._hits + self._misses - self._returned),
                "retained": len(self._kept),
            }
