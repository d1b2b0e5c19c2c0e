"""The functions that are measured, and the loop that awaits them without Flujo."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

AsyncFunction = Callable[..., Awaitable[Any]]


def _different(template: str, count: int, names: dict[str, Any] | None = None) -> list[Any]:
    # Functions with code of their own each: calling one and the same would flatter the interpreter's caches.
    functions = []
    for number in range(count):
        space = dict(names or {})
        exec(compile(template.format(number=number), f"<function {number}>", "exec"), space)
        functions.append(space[f"step_{number}"])
    return functions


def async_functions(count: int = 10) -> list[AsyncFunction]:
    """Functions that do nothing but add one."""
    return _different("async def step_{number}(x: int) -> int:\n    return x + 1\n", count)


def sync_functions(count: int = 10) -> list[Callable[[int], int]]:
    """The same as plain functions."""
    return _different("def step_{number}(x: int) -> int:\n    return x + 1\n", count)


def suspending_functions(count: int = 10) -> list[AsyncFunction]:
    """Functions that wait for a future which the loop resolves in its next turn."""
    template = (
        "async def step_{number}(x: int) -> int:\n"
        "    loop = get_running_loop()\n"
        "    future = loop.create_future()\n"
        "    loop.call_soon(future.set_result, None)\n"
        "    await future\n"
        "    return x + 1\n"
    )
    return _different(template, count, {"get_running_loop": asyncio.get_running_loop})


def in_turn(functions: Sequence[Any], count: int) -> list[Any]:
    """`count` of them, one after the other, beginning anew when all have had their turn."""
    return [functions[number % len(functions)] for number in range(count)]


def await_loop(functions: Sequence[AsyncFunction]) -> Callable[[], Awaitable[int]]:
    """Awaits each with what the one before gave."""

    async def run() -> int:
        value = 0
        for function in functions:
            value = await function(value)
        return value

    return run
