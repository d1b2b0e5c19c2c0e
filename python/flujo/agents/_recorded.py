"""A run of a pydantic-ai agent within a step, each of its model requests and tool calls recorded as it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, ToolFailed
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import CompletedStreamedResponse, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.toolsets.wrapper import WrapperToolset

from flujo.application._once import note
from flujo.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent

    from flujo._native import Place

_AROUND: ContextVar[str] = ContextVar("flujo_tool_call", default="")
"""The recorded tool call that this code is called by: what agents do in there has names of its own."""

_begun: WeakKeyDictionary[Place, tuple[tuple[str, int], Counter[str]]] = WeakKeyDictionary()
"""How many runs of which agents have begun in the attempt of a step."""


async def run_recorded(
    agent: AbstractAgent[Any, Any],
    name: str,
    place: Place,
    data: Any,
    options: dict[str, Any],
) -> Any:
    """The agent's answer; see `DurableAgent.run`."""
    model = options.pop("model", None) or agent.model
    if model is None:
        raise ConfigurationError(
            f"the agent {name!r} has no model", suggestion="give it one: Agent('openai:gpt-5', …)"
        )
    record = Record(place, name)
    toolsets = [*agent.toolsets, *(options.pop("toolsets", None) or ())]
    recorded = [RecordedTools(toolset, record) for toolset in toolsets]
    with agent.override(model=RecordedModel(model, record), toolsets=recorded, tools=[]):
        try:
            answer = await agent.run(data, **options)
        except BaseException:
            if not record.broke_off:
                record.over()
            raise
    record.over()
    return answer


class Record:
    """What is recorded of one run of an agent.

    Attempts share it as long as they break off in a request or a tool; one that came to its end is the last of it.
    """

    def __init__(self, place: Place, name: str) -> None:
        self._parts = place.parts
        self._place = place
        self._attempt = place.attempt
        self._calls: Counter[str] = Counter()
        self.broke_off = False
        attempt = (place.idempotency_key, place.attempt)
        known = _begun.get(place)
        if known is None or known[0] != attempt:
            known = _begun[place] = (attempt, Counter())
        begun = known[1]
        run = f"{_AROUND.get()}{name}"
        begun[run] += 1
        times = 0
        while True:
            self._name = f"{run} {begun[run]}.{times}"
            over = self._parts.by_name.get(f"{self._name} over")
            if over is None or over == (self._attempt,):
                return
            times += 1

    def over(self) -> None:
        """It has come to its end: another attempt does it anew."""
        note(self._parts, f"{self._name} over", self._attempt)

    def key(self, what: str) -> str:
        """Names what happens next of its kind."""
        self._calls[what] += 1
        return f"{self._name}/{what} {self._calls[what]}"

    def recorded(self, key: str) -> tuple[Any] | None:
        """What was recorded, if it was."""
        found = self._parts.by_name.get(key)
        return found if isinstance(found, tuple) else None

    async def once(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """What `work` gives, or gave before."""

        async def watched() -> Any:
            try:
                return await work()
            except (CallDeferred, ApprovalRequired):
                raise  # the agent's run ends, and its caller has the tool's answer
            except BaseException:
                self.broke_off = True
                raise

        return await self._place.once(key, watched)


class RecordedModel(WrapperModel):
    """A model whose answers are recorded."""

    def __init__(self, wrapped: Any, record: Record) -> None:
        super().__init__(wrapped)
        self._record = record

    async def request(self, *arguments: Any, **options: Any) -> ModelResponse:
        """The answer that was recorded, or that the model gives now."""

        async def ask() -> bytes:
            return _written(await self.wrapped.request(*arguments, **options))

        return _read(await self._record.once(self._record.key("request"), ask))

    @asynccontextmanager
    async def request_stream(
        self,
        messages: Any,
        model_settings: Any,
        model_request_parameters: Any,
        run_context: Any = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """The same, streamed; what was recorded is there at once."""
        key = self._record.key("request")
        if (recorded := self._record.recorded(key)) is not None:
            yield CompletedStreamedResponse(
                _read(recorded[0]), model_request_parameters=model_request_parameters, replay_events=True
            )
            return
        try:
            async with self.wrapped.request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as stream:
                yield stream
        except BaseException:
            self._record.broke_off = True
            raise

        async def given() -> bytes:
            return _written(stream.get())

        await self._record.once(key, given)


class RecordedTools(WrapperToolset[Any]):
    """Tools whose answers are recorded, those that are meant to have the model try again among them."""

    def __init__(self, wrapped: Any, record: Record) -> None:
        super().__init__(wrapped)
        self.record = record

    async def for_run(self, ctx: Any) -> Any:
        """The same tools, of one run."""
        return RecordedTools(await self.wrapped.for_run(ctx), self.record)

    async def for_run_step(self, ctx: Any) -> Any:
        """The same tools, of one of its steps."""
        return RecordedTools(await self.wrapped.for_run_step(ctx), self.record)

    def visit_and_replace(self, visitor: Any) -> Any:
        """The same with other tools in it."""
        return RecordedTools(self.wrapped.visit_and_replace(visitor), self.record)

    async def call_tool(self, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
        """The answer that was recorded, or that the tool gives now."""
        key = self.record.key(f"tool {name} {ctx.tool_call_id}")

        async def call() -> tuple[str, Any]:
            token = _AROUND.set(f"{key}/")
            try:
                return "gave", await self.wrapped.call_tool(name, tool_args, ctx, tool)
            except ModelRetry as error:
                return "retry", error.message
            except ToolFailed as error:
                return "failed", error.message
            finally:
                _AROUND.reset(token)

        how, given = await self.record.once(key, call)
        if how == "retry":
            raise ModelRetry(given)
        if how == "failed":
            raise ToolFailed(given)
        return given


def _written(response: ModelResponse) -> bytes:
    return ModelMessagesTypeAdapter.dump_json([response])


def _read(recorded: bytes) -> ModelResponse:
    (response,) = ModelMessagesTypeAdapter.validate_json(recorded)
    assert isinstance(response, ModelResponse)
    return response
