"""What a step does once, however often it begins anew: whoever asks for a part that is being done waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast

from flujo._native import isolated_value

if TYPE_CHECKING:
    from flujo._native import StepParts

_DOING: ContextVar[tuple[Future[None], ...]] = ContextVar("flujo_doing", default=())
"""The parts whose work this code is called by."""


async def once(parts: StepParts, key: str, work: Callable[[], Any]) -> Any:
    """The value of a part: what it gave before, or what `work` gives now. See `Place.once`."""
    by_name = parts.by_name
    doing: Future[None] = Future()
    doing.set_running_or_notify_cancel()  # who waits and is cancelled doesn't cancel it for others
    while (found := by_name.setdefault(key, doing)) is not doing:
        if isinstance(found, tuple):
            await _written(parts)
            return _isolated(found[0])
        if found in _DOING.get():
            raise RuntimeError(f"the part {key!r} asks for itself: give what is inside of it another name")
        await asyncio.wrap_future(cast("Future[None]", found))
    token = _DOING.set((*_DOING.get(), doing))
    try:
        value = work()
        if isawaitable(value):
            value = await value
        kept = _isolated(value)
        parts.record(key, value)
    except BaseException:
        del by_name[key]
        raise
    else:
        by_name[key] = (kept,)
    finally:
        _DOING.reset(token)
        doing.set_result(None)
    await _written(parts)
    return value


async def _written(parts: StepParts) -> None:
    """Waits until what was recorded is in the store."""
    if (written := parts.written(asyncio.get_running_loop())) is not None:
        await written


def _isolated(value: Any) -> Any:
    clone = isolated_value(value)
    return value if clone is None else clone


def note(parts: StepParts, key: str, value: Any) -> None:
    """Records a value that is there already; whoever comes later finds it, and the first one stays."""
    if key not in parts.by_name:
        parts.record(key, value)
        parts.by_name[key] = (value,)
