"""Shipped agents as Python objects: settings are checked when one is made, the work is done natively."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, cast

from flujo._native import NativeAgent, NativeCall
from flujo.agents._outcomes import AgentResult
from flujo.application._place import PLACE

OutputT = TypeVar("OutputT", covariant=True)


class ShippedAgent(Generic[OutputT]):
    """The base of the agents that ship with Flujo. Instances don't change and can be shared by steps and loops."""

    type_name: ClassVar[str]
    """The agent's `type` in YAML blueprints."""

    __slots__ = ("_native", "_settings")

    def __init__(self, settings: Mapping[str, Any]) -> None:
        # What isn't given has the default that the agent itself knows.
        given = {name: value for name, value in settings.items() if value is not None}
        self._settings = MappingProxyType(given)
        self._native = NativeAgent(self.type_name, self._blueprint(given))

    def _blueprint(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings as a blueprint has them beside `type`."""
        return settings

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that were given, read-only."""
        return self._settings

    @property
    def pricing(self) -> Literal["free", "known", "unknown"]:
        """Whether the cost of a call is known; an unknown one is reported as None."""
        return cast("Literal['free', 'known', 'unknown']", self._native.pricing)

    def to_blueprint(self) -> dict[str, Any]:
        """The agent as a YAML blueprint has it under `agents:`."""
        return {"type": self.type_name, **self._blueprint(dict(self._settings))}

    async def _run(self, data: Any, context: Any) -> Any:
        started = self._native.start(data, context, PLACE.get())
        if not isinstance(started, NativeCall):
            return started
        return await _outcome(started)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), dict(self._settings))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings.items())
        return f"{type(self).__name__}({settings})"


def _restore(cls: type[ShippedAgent[Any]], settings: dict[str, Any]) -> ShippedAgent[Any]:
    agent = cls.__new__(cls)
    ShippedAgent.__init__(agent, settings)
    return agent


async def _outcome(call: NativeCall) -> Any:
    """The call's outcome. A cancelled call is over before its caller goes on."""
    try:
        return await call.future
    except asyncio.CancelledError:
        await _stop(call)
        raise
    finally:
        call.abort()


async def _stop(call: NativeCall) -> None:
    call.abort()
    if (ended := call.ended()) is not None:
        await ended


class ChatStream(AsyncIterator[str]):
    """An answer in pieces, as they come.

    The model's service is read no faster than the pieces are taken. Leaving early cancels the request: at once by
    `aclose()` or at the end of `async with`, else when the stream is let go.
    """

    __slots__ = ("_call", "_ended", "_fitted", "_result")

    def __init__(self, call: NativeCall, fitted: Callable[[AgentResult[Any]], AgentResult[Any]]) -> None:
        self._call = call
        self._fitted = fitted
        self._ended = False
        self._result: AgentResult[Any] | None = None

    @property
    def result(self) -> AgentResult[Any] | None:
        """The whole output with its usage, once the last piece was taken; None before that."""
        return self._result

    async def __anext__(self) -> str:
        if self._ended:
            raise StopAsyncIteration
        try:
            chunk = self._call.take_chunk()
            if chunk is None:
                chunk = await self._call.next_chunk()
        except asyncio.CancelledError:
            self._ended = True
            await _stop(self._call)
            raise
        if chunk:
            return cast(str, chunk[0])
        self._ended = True
        self._result = self._fitted(await _outcome(self._call))
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancel what is left of the answer and wait until the request is over."""
        self._ended = True
        await _stop(self._call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
