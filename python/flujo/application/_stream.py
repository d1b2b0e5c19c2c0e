"""A run as a stream: the chunks of its last step where it streams, then the result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

T = TypeVar("T")


async def stream(run: Awaitable[T]) -> AsyncIterator[T]:
    """Yield the result of a run."""
    yield await run
