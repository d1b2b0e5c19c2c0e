"""Functions that blueprints name, `package.module:function`, for `python -m flujo run`.

Coroutines run on one event loop in a thread of its own, so that a client a function keeps lives as long as the run.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from importlib import import_module
from inspect import isawaitable
from os import getcwd
from types import SimpleNamespace
from typing import Any

from flujo.application._workers import leave, submit, workers_for
from flujo.exceptions import ConfigurationError, ContextMutationError


class ReadOnlyContext(SimpleNamespace):
    """The run's context as a function in a blueprint sees it: its fields as attributes, for reading."""

    def __setattr__(self, name: str, value: object) -> None:
        raise ContextMutationError(
            f"context.{name} can't be set by a function in a blueprint",
            suggestion="return a map and set `updates_context: true` on the step, or use `sink_to`",
        )

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)


class Function:
    """A function, or an agent with a `run`, that was imported by its path."""

    def __init__(self, path: str, target: object) -> None:
        from flujo.domain.dsl._signature import analyse_agent
        from flujo.domain.dsl.step import Step

        facts = analyse_agent(target.agent if isinstance(target, Step) else target)
        if facts is None or facts.is_async_generator or facts.is_generator:
            raise ConfigurationError(
                f"{path} is a {type(target).__name__}, which can't be called for one result",
                suggestion="name a function, an object with a `run`, or a step made by @step",
            )
        self._path = path
        self._facts = facts

    def start(self, value: Any, context: Any, done: Callable[[Any], object]) -> Future[Any]:
        """Begin a call. `done` gets the future once it is done, in another thread."""
        future = asyncio.run_coroutine_threadsafe(self._call(value, context), _event_loop())
        future.add_done_callback(done)
        return future

    def decide(self, value: Any, context: Any) -> Any:
        """Call it and wait for the result."""
        return asyncio.run_coroutine_threadsafe(self._call(value, context), _event_loop()).result()

    def _arguments(self, value: Any, context: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        facts = self._facts
        fields = context if isinstance(context, Mapping) else {}
        seen = ReadOnlyContext(**{str(name): field for name, field in fields.items()})
        given: list[Any] = [value] if facts.accepts_input else []
        if facts.context_param is not None:
            return tuple(given), {facts.context_param: seen}
        if facts.unfilled and facts.positional_count == 2:  # as conditions and mappers: (output, context)
            given.append(seen)
        return tuple(given), {}

    async def _call(self, value: Any, context: Any) -> Any:
        args, keywords = self._arguments(value, context)
        if self._facts.is_async or self._facts.inline:
            result = self._facts.call(*args, **keywords)
        else:
            workers = workers_for()
            work = submit(workers, asyncio.get_running_loop(), self._facts.call, args, keywords)
            try:
                result = await work
            except asyncio.CancelledError:
                leave(workers, work, self._path)
                raise
        return await result if isawaitable(result) else result


def imported(path: str) -> Function:
    """The function that `package.module:function` names. The current folder counts as a place for modules.

    Raises:
        ConfigurationError: the path has another form, or there is nothing to call behind it.
        ImportError: the module can't be imported. What it raises of its own comes through.
    """
    module_name, _, attributes = path.partition(":")
    if not module_name or not all(part.isidentifier() for part in attributes.split(".")):
        raise ConfigurationError(
            f"{path!r} doesn't name a function", suggestion="write package.module:function"
        )
    if (folder := getcwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    found: object = import_module(module_name)
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise ConfigurationError(f"{module_name} has no {attributes!r}") from None
    return Function(path, found)


_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()


def _event_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="flujo-functions", daemon=True).start()
        return _loop
