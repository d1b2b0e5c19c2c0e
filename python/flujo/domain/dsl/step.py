"""A step: the unit that a pipeline runs, retries, checks and records."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, overload

from typing_extensions import TypeVar

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import Composable, InputT, OutputT
from flujo.domain.dsl._construct_factories import ConstructFactories
from flujo.domain.dsl._step_fields import CHECKS, DEFAULTS, NamedStepOptions, StepOptions, merged_config
from flujo.domain.dsl._tracking import Check, TrackedDict, TrackedList, refuse_unknown, shown
from flujo.domain.dsl.step_config import StepConfig

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Unpack

    from flujo.domain.caching import CachePolicy, InMemoryCache
    from flujo.domain.dsl._protocols import AsyncAgent, SyncAgent, WrappingAgent
    from flujo.domain.dsl._signature import CallableFacts
    from flujo.domain.dsl.cache_step import CacheStep
    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.processors import AgentProcessors
    from flujo.domain.usage import UsageLimits

__all__ = ["Step", "StepOptions"]

In = TypeVar("In")
Out = TypeVar("Out")


_INSTEAD = "run it with Flujo(step).run(data), or call its agent with await step.arun(data)"


class _OfAgents:
    """What agents have and steps don't. A `__getattr__` would make every look at a step's fields slower."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, step: Any, owner: type) -> Any:
        if step is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        from flujo.exceptions import StepInvocationError

        raise StepInvocationError(
            f"step {step.__dict__.get('name')!r} has no .{self._name}: a step isn't an agent",
            suggestion=_INSTEAD,
        )


class Step(ConstructFactories, Composable[InputT, OutputT]):
    """One unit of work: an agent, what surrounds it, and how often and how long it's tried.

    An agent is any object with `run(data, …)`, or any callable, sync or async. `a >> b` makes a pipeline.

    Args:
        name: Names the step in results, records, events and errors; unique in its pipeline.
        agent: What does the work.
        **options: The other fields of the step, and those of its `config`.

    Raises:
        TypeError: something has a wrong type, or there is no such field.
        ValueError: something has a value that isn't allowed.
    """

    kind: ClassVar[str] = "step"

    _fields: ClassVar[tuple[str, ...]] = ("name", "agent", *DEFAULTS)
    _checks: ClassVar[Mapping[str, Check]] = CHECKS

    name: str
    agent: Any
    config: StepConfig
    plugins: TrackedList[tuple[Any, int]]
    """Pairs (plugin, priority); the highest priority runs first."""
    validators: TrackedList[Any]
    fallback_step: Step[Any, Any] | None
    """Runs with the original input after the last attempt failed."""
    usage_limits: UsageLimits | None
    cache: CachePolicy | None
    """How results are kept: True, a number of seconds, a `CachePolicy` or a cache; None keeps none."""
    persist_feedback_to_context: str | None
    """The context field that feedback of failed attempts is appended to."""
    persist_validation_results_to: str | None
    """The context field that results of validators are appended to."""
    input: str | None
    """A template that makes the agent's input, such as `"{{ context.topic }}: {{ previous_step }}"`."""
    updates_context: bool
    """Merge the output, a dict or a model, into the context."""
    validate_fields: bool
    """No difference: what `updates_context` and `sink_to` write is checked against the context's fields in any case."""
    input_keys: TrackedList[str]
    """For readers and tools: a run doesn't look at it, nor at `output_keys`."""
    output_keys: TrackedList[str]
    sink_to: str | None
    """The dotted path in the context that the output is written to."""
    meta: TrackedDict[str, Any]
    failure_route: Pipeline[Any, Any] | None
    """Runs when the step has failed, retries and fallback included; how it ends is how the step's place ends."""
    failure_handlers: TrackedList[Callable[..., object]]
    """Are told when the step has failed; the failure stands."""
    static_invariants: TrackedList[Callable[..., object]]
    """Must hold of the context (or of output and context) after the step; one that doesn't fails the step."""
    is_adapter: bool
    adapter_id: str | None
    adapter_allow: str | None
    inline: bool
    """Run a plain function on the event loop's own thread: for short work that never blocks."""

    @overload
    def __init__(
        self: Step[In, Out], name: str, agent: WrappingAgent[In, Out], **options: Unpack[StepOptions]
    ) -> None: ...
    @overload
    def __init__(
        self: Step[In, Out], name: str, agent: AsyncAgent[In, Out], **options: Unpack[StepOptions]
    ) -> None: ...
    @overload
    def __init__(
        self: Step[In, Out], name: str, agent: SyncAgent[In, Out], **options: Unpack[StepOptions]
    ) -> None: ...
    @overload
    def __init__(
        self: Step[Any, Any], name: str, agent: object = None, **options: Unpack[StepOptions]
    ) -> None: ...
    def __init__(self, name: str, agent: object = None, **options: Any) -> None:
        self._fill(self._values(name, agent, options))

    def _values(self, name: str, agent: object, options: Mapping[str, Any]) -> dict[str, object]:
        """Every field of a plain step, from what the caller gave; what belongs to the config goes there."""
        own: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for option, value in options.items():
            if option in Step._fields:
                own[option] = value
            elif option in StepConfig._fields:
                settings[option] = value
            else:
                refuse_unknown(type(self).__name__, option, (*self._fields, *StepConfig._fields), TypeError)
        own["config"] = merged_config(own.get("config"), settings, f"{type(self).__name__} {name!r}")
        return {**DEFAULTS, "name": name, "agent": agent, **own}

    @property
    def processors(self) -> AgentProcessors:
        """What changes the prompt before, and the output after the agent. Made when it's first asked for."""
        held: AgentProcessors | None = self.__dict__.get("processors")
        if held is None:
            from flujo.domain.processors import AgentProcessors

            held = self.__dict__["processors"] = AgentProcessors()
        return held

    @processors.setter
    def processors(self, value: AgentProcessors | None) -> None:
        self.__dict__["processors"] = value

    # --- what the compiler and `>>` ask
    # ----------------------------------------------------------------------

    def facts(self) -> CallableFacts | None:
        """What is known about the agent's entry point; None without one. Kept until the agent changes."""
        agent = self.agent
        if agent is None:
            return None
        kept = self.__dict__.get("_facts")
        # The kept entry holds the agent itself, so that no other object can take its place unnoticed.
        if kept is not None and kept[0] is agent and kept[1] == self.inline:
            facts: CallableFacts | None = kept[2]
            return facts
        from flujo.domain.dsl._signature import analyse_agent

        found = analyse_agent(agent, inline=self.inline)
        self.__dict__["_facts"] = (agent, self.inline, found)
        return found

    def _input_type(self, levels: int) -> Any:
        facts = self.facts()
        held = self.__dict__.get("processors")
        made = self.input is not None or (held is not None and bool(held.prompt_processors))
        return Any if facts is None or made else facts.input_type

    def _output_type(self, levels: int) -> Any:
        facts = self.facts()
        held = self.__dict__.get("processors")
        changed = bool(self.plugins) or (held is not None and bool(held.output_processors))
        return Any if facts is None or changed else facts.output_type

    # --- building
    # --------------------------------------------------------------------------------------------

    def fallback(self, fallback_step: Step[InputT, OutputT]) -> Self:
        """Run `fallback_step` with the original input when the last attempt of this one failed."""
        self.fallback_step = fallback_step
        return self

    def on_failure(self, handler: Composable[Any, Any] | Callable[..., object]) -> Self:
        """What happens when the step has failed, its retries and its fallback included.

        A step or pipeline takes over: it gets a `StepFailure`, and its output goes on. A plain callable is only
        told, with the `StepFailure` if it takes an argument, and the failure stands.
        """
        if isinstance(handler, Composable):
            from flujo.domain.dsl.pipeline import as_pipeline

            self.failure_route = as_pipeline("handler", handler)
        else:
            self.failure_handlers.append(handler)
        return self

    def add_plugin(self, plugin: object, priority: int = 0) -> Self:
        """Add a plugin that checks the output; the highest priority runs first."""
        self.plugins.append((plugin, priority))
        return self

    # --- what a step isn't
    # -----------------------------------------------------------------------------------

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Always raises: a step runs in a pipeline.

        Raises:
            ImproperStepInvocationError: always.
        """
        from flujo.exceptions import ImproperStepInvocationError

        raise ImproperStepInvocationError(
            f"step {self.name!r} was called like a function",
            suggestion=_INSTEAD,
        )

    if not TYPE_CHECKING:  # so that type checkers report names that don't exist
        run = _OfAgents()
        stream = _OfAgents()

    def __dir__(self) -> Iterable[str]:
        return [name for name in super().__dir__() if not isinstance(vars(Step).get(name), _OfAgents)]

    async def arun(self, data: Any, **kwargs: object) -> Any:
        """Call the agent directly, for tests: no retries, processors, plugins, validators or record.

        Keywords (`context=…`, `resources=…`) go to the agent as they are.

        Raises:
            MissingAgentError: the step has no agent.
        """
        facts = self.facts()
        if facts is None:
            from flujo.exceptions import MissingAgentError

            raise MissingAgentError(
                f"step {self.name!r} has no agent", suggestion="give it one: Step(name, agent)"
            )
        from inspect import isawaitable

        given = facts.call(data, **kwargs) if facts.accepts_input else facts.call(**kwargs)
        return await given if isawaitable(given) else given

    def __repr__(self) -> str:
        stored = self.__dict__
        parts = [f"name={stored.get('name')!r}"]
        agent = stored.get("agent")
        if agent is not None:
            parts.append(f"agent={getattr(agent, '__qualname__', None) or shown(agent)}")
        for field in self._fields[2:]:
            value = stored.get(field)
            if value and not (field == "config" and value == StepConfig()):
                parts.append(f"{field}={value.name!r}" if isinstance(value, Step) else f"{field}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    # --- factories
    # -------------------------------------------------------------------------------------------

    @classmethod
    def gather(
        cls, name: str, wait_for: Iterable[str], **options: Unpack[StepOptions]
    ) -> Step[Mapping[str, Any], dict[str, Any]]:
        """A step that takes the named outputs out of a parallel step's, and passes them on as one dict.

        Args:
            name: Names the step.
            wait_for: The names of the branches.
            **options: The fields of every step, and those of its config.
        """
        from flujo.domain.dsl._input_key import InputKeys

        given: dict[str, Any] = {"inline": True, **options}
        return Step(name, InputKeys(wait_for), **given)

    @classmethod
    def cached(
        cls,
        wrapped_step: Step[In, Out],
        cache_backend: InMemoryCache | None = None,
        ttl_s: float | None = None,
        scope: str | Iterable[str] = "auto",
        *,
        version: str | None = None,
    ) -> CacheStep[In, Out]:
        """A step whose results are kept. See `CacheStep`.

        Args:
            wrapped_step: The step.
            cache_backend: Where results are kept; by default in a cache of the step's own.
            ttl_s: For how many seconds a result is good; 0 is for ever, None as the cache says.
            scope: What a result depends on beside the step and its input; see `CachePolicy`.
            version: What other processes know the step by; see `CachePolicy`.
        """
        from flujo.domain.dsl.cache_step import CacheStep

        return CacheStep(wrapped_step, cache_backend, ttl_s, scope, version=version)

    @overload
    @classmethod
    def solution(
        cls, agent: WrappingAgent[In, Out], **options: Unpack[NamedStepOptions]
    ) -> Step[In, Out]: ...
    @overload
    @classmethod
    def solution(cls, agent: AsyncAgent[In, Out], **options: Unpack[NamedStepOptions]) -> Step[In, Out]: ...
    @overload
    @classmethod
    def solution(cls, agent: SyncAgent[In, Out], **options: Unpack[NamedStepOptions]) -> Step[In, Out]: ...
    @overload
    @classmethod
    def solution(cls, agent: object, **options: Unpack[NamedStepOptions]) -> Step[Any, Any]: ...
    @classmethod
    def solution(cls, agent: Any, **options: Any) -> Any:
        """A step named "solution"."""
        return _named("solution", agent, options)

    @overload
    @classmethod
    def review(cls, agent: WrappingAgent[In, Out], **options: Unpack[NamedStepOptions]) -> Step[In, Out]: ...
    @overload
    @classmethod
    def review(cls, agent: AsyncAgent[In, Out], **options: Unpack[NamedStepOptions]) -> Step[In, Out]: ...
    @overload
    @classmethod
    def review(cls, agent: SyncAgent[In, Out], **options: Unpack[NamedStepOptions]) -> Step[In, Out]: ...
    @overload
    @classmethod
    def review(cls, agent: object, **options: Unpack[NamedStepOptions]) -> Step[Any, Any]: ...
    @classmethod
    def review(cls, agent: Any, **options: Any) -> Any:
        """A step named "review"."""
        return _named("review", agent, options)

    @overload
    @classmethod
    def validate_step(
        cls, agent: WrappingAgent[In, Out], strict: bool = True, **options: Unpack[NamedStepOptions]
    ) -> Step[In, Out]: ...
    @overload
    @classmethod
    def validate_step(
        cls, agent: AsyncAgent[In, Out], strict: bool = True, **options: Unpack[NamedStepOptions]
    ) -> Step[In, Out]: ...
    @overload
    @classmethod
    def validate_step(
        cls, agent: SyncAgent[In, Out], strict: bool = True, **options: Unpack[NamedStepOptions]
    ) -> Step[In, Out]: ...
    @overload
    @classmethod
    def validate_step(
        cls, agent: object, strict: bool = True, **options: Unpack[NamedStepOptions]
    ) -> Step[Any, Any]: ...
    @classmethod
    def validate_step(cls, agent: Any, strict: bool = True, **options: Any) -> Any:
        """A step named "validate". When a check fails, a strict one fails; another one passes the output on.

        Either way the result's metadata holds `validation_passed`.
        """
        made = _named("validate", agent, options)
        made.meta.update(
            is_validation_step=True, strict_validation=_checks.boolean("validate_step(strict)", strict)
        )
        return made

    @overload
    @classmethod
    def from_callable(
        cls, callable_: WrappingAgent[In, Out], name: str | None = None, **options: Unpack[StepOptions]
    ) -> Step[In, Out]: ...
    @overload
    @classmethod
    def from_callable(
        cls, callable_: AsyncAgent[In, Out], name: str | None = None, **options: Unpack[StepOptions]
    ) -> Step[In, Out]: ...
    @overload
    @classmethod
    def from_callable(
        cls, callable_: SyncAgent[In, Out], name: str | None = None, **options: Unpack[StepOptions]
    ) -> Step[In, Out]: ...
    @overload
    @classmethod
    def from_callable(
        cls, callable_: object, name: str | None = None, **options: Unpack[StepOptions]
    ) -> Step[Any, Any]: ...
    @classmethod
    def from_callable(cls, callable_: Any, name: str | None = None, **options: Any) -> Any:
        """A step from a function, method, partial or callable object, sync or async, named after it."""
        return _named(name or name_of(callable_), callable_, options)

    @overload
    @classmethod
    def from_mapper(
        cls, mapper: Callable[[In], Awaitable[Out]], name: str | None = None, **options: Unpack[StepOptions]
    ) -> Step[In, Out]: ...
    @overload
    @classmethod
    def from_mapper(
        cls, mapper: Callable[[In], Out], name: str | None = None, **options: Unpack[StepOptions]
    ) -> Step[In, Out]: ...
    @classmethod
    def from_mapper(cls, mapper: Any, name: str | None = None, **options: Any) -> Any:
        """A step that only reshapes its input; a plain function runs on the loop's thread."""
        made = _named(name or name_of(mapper), mapper, options)
        facts = made.facts()
        made.inline = facts is not None and not facts.is_async and not facts.blocking
        return made

    @classmethod
    def use_input(cls, key: str, **options: Unpack[NamedStepOptions]) -> Step[Any, Any]:
        """A step that passes on one entry of its input: a mapping's value or an object's attribute."""
        from flujo.domain.dsl._input_key import InputKey

        return _named(f"use_input:{key}", InputKey(key), {"inline": True, **options})


def name_of(callable_: object) -> str:
    """The name that a step gets from what it calls: a function's own, or that of its class."""
    body: Any = callable_
    while isinstance(body, functools.partial):
        body = body.func
    name = getattr(body, "__name__", None)
    if not isinstance(name, str):
        name = type(body).__name__
    return "mapper" if name == "<lambda>" else name


def _named(name: str, agent: object, options: Mapping[str, Any]) -> Step[Any, Any]:
    given = dict(options)
    return Step(given.pop("name", None) or name, agent, **given)
