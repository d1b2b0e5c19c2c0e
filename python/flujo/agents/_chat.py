"""Chat models behind OpenAI-compatible services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from flujo.agents._outcomes import AgentFailed, AgentResult
from flujo.agents._shipped import ChatStream, ShippedAgent
from flujo.application._place import PLACE
from flujo.domain.rate_limit import RateLimit

__all__ = ["Chat", "Price", "Tool"]


@dataclass(frozen=True, slots=True)
class Price:
    """A model's price in US dollars for a million tokens."""

    prompt_per_million: float
    completion_per_million: float


@dataclass(frozen=True, slots=True)
class Tool:
    """A shipped agent that a chat model may call."""

    name: str
    """What the model calls it by: letters, digits, `_` and `-`, at most 64."""
    description: str
    """What it does and when to use it, for the model."""
    parameters: Mapping[str, Any]
    """The JSON schema of the arguments, which become the agent's input."""
    run: ShippedAgent[Any]
    """The agent."""


class Chat(ShippedAgent[Any]):
    """Asks a chat model behind an OpenAI-compatible service.

    Args:
        model: The model's name as the service knows it.
        base_url: The service's address up to and without `/chat/completions`; that of OpenAI by default.
        api_key_env: The environment variable with the service's key, read when the agent is made. Local servers
            need none.
        system: The system prompt, a template.
        prompt: The user's message, a template. Without it the step's input is the message: text as it is, a list
            of maps with `role` and `content` as a conversation, everything else as JSON.
        temperature: The sampling temperature, 0 to 2; the service's own default without it.
        top_p: Nucleus sampling: the share of probability that tokens are drawn from, 0 to 1.
        max_tokens: The most tokens of one answer.
        output_schema: A pydantic model's class or a JSON schema that the answer has to fit. The output is then the
            parsed value in place of text.
        strict_schema: Whether the service is to enforce the schema, too, which only a part of JSON schema allows.
        tools: Agents that the model may call.
        max_tool_rounds: The most rounds of tool calls before the model has to have answered; 8 by default.
        rate_limit: How often the service may be called, together with whatever else has the limit's name.
        provider: Whose prices hold for the model in `flujo.toml`; needed where several providers have a model of this
            name.
        price: What the tokens cost, in place of what the nearest `flujo.toml` says. Without either the cost is unknown.
        extra: More fields for the body of the request, such as `seed`.
        timeout_s: The time limit of one request in seconds, answer included; 600 by default.
        max_response_bytes: The most bytes of one answer; 16 MiB by default.

    Templates are those of YAML blueprints: `{{ input }}`, `{{ context.field }}`.

    Raises:
        ConfigurationError: a setting can't be used.
        SettingsError: `flujo.toml` holds a price that can't be used.
    """

    type_name = "chat"
    __slots__ = ()

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        api_key_env: str | None = None,
        system: str | None = None,
        prompt: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        output_schema: type[BaseModel] | Mapping[str, Any] | None = None,
        strict_schema: bool | None = None,
        tools: Sequence[Tool] | None = None,
        max_tool_rounds: int | None = None,
        provider: str | None = None,
        price: Price | None = None,
        rate_limit: RateLimit | None = None,
        extra: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        max_response_bytes: int | None = None,
    ) -> None:
        super().__init__(
            {
                "base_url": base_url,
                "model": model,
                "api_key_env": api_key_env,
                "system": system,
                "prompt": prompt,
                "temperature": temperature,
                "top_p": top_p,
                "max_tokens": max_tokens,
                "output_schema": output_schema,
                "strict_schema": strict_schema,
                "tools": tuple(tools) if tools is not None else None,
                "max_tool_rounds": max_tool_rounds,
                "provider": provider,
                "price": price,
                "rate_limit": rate_limit,
                "extra": extra,
                "timeout_s": timeout_s,
                "max_response_bytes": max_response_bytes,
            }
        )

    def _blueprint(self, settings: dict[str, Any]) -> dict[str, Any]:
        plain = dict(settings)
        schema = plain.get("output_schema")
        if schema is not None:
            plain["output_schema"] = (
                dict(schema) if isinstance(schema, Mapping) else schema.model_json_schema()
            )
        if "tools" in plain:
            plain["tools"] = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                    "run": tool.run.to_blueprint(),
                }
                for tool in plain["tools"]
            ]
        if "price" in plain:
            plain["price"] = asdict(plain["price"])
        if "rate_limit" in plain:
            limit = plain["rate_limit"]
            fields = ("name", "requests_per_minute", "tokens_per_minute", "max_concurrent")
            given = {field: getattr(limit, field) for field in fields}
            plain["rate_limit"] = {field: value for field, value in given.items() if value is not None}
        if "extra" in plain:
            plain["extra"] = dict(plain["extra"])
        return plain

    def to_blueprint(self) -> dict[str, Any]:
        """The agent as a YAML blueprint has it under `agents:`; a Redis server's address without name and password."""
        plain = super().to_blueprint()
        if (limit := self.rate_limit) is not None and limit.redis is not None:
            plain["rate_limit"]["redis"] = limit.redis
        return plain

    @property
    def rate_limit(self) -> RateLimit | None:
        """How often the service may be called: whoever runs the agent keeps to it."""
        limit: RateLimit | None = self._settings.get("rate_limit")
        return limit

    async def run(self, data: Any, *, context: Any = None) -> AgentResult[Any]:
        """The model's answer with its usage: text, or with a schema the parsed value (an instance where the schema is
        a pydantic model's class).

        Raises:
            AgentFailed: the service can't be reached, refuses, or gives no usable answer.
        """
        return self._fitted(await self._run(data, context))

    def stream(self, data: Any, *, context: Any = None) -> ChatStream:
        """The model's answer in pieces of text. To be called in a running event loop."""
        return ChatStream(self._native.stream(data, context, PLACE.get()), self._fitted)

    def _fitted(self, result: AgentResult[Any]) -> AgentResult[Any]:
        """The result with its output as an instance of the model that stands for the schema."""
        schema = self._settings.get("output_schema")
        if not isinstance(schema, type) or not issubclass(schema, BaseModel):
            return result
        try:
            output = schema.model_validate(result.output)
        except ValidationError as error:
            message = f"the answer of the model `{result.model}` doesn't fit {schema.__name__}: {error}"
            raise AgentFailed(message, result.usage) from error
        return AgentResult(output, result.usage, result.model)
