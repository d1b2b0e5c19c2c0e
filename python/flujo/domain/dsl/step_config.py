"""How a step is to be run: retries, time limits, model settings, estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from flujo.domain.dsl import _checks
from flujo.domain.dsl._tracking import Check, Definition, refuse_unknown

if TYPE_CHECKING:
    from decimal import Decimal

    from typing_extensions import Unpack

    from flujo._native import OptimizationConfig
    from flujo.domain.backoff import Backoff
    from flujo.domain.rate_limit import RateLimit

__all__ = ["ExecutionMode", "StepConfig", "StepConfigOptions"]

ExecutionMode = Literal["sync", "background"]


def _backoff() -> type:
    from flujo.domain.backoff import Backoff

    return Backoff


_seconds = _checks.optional(_checks.number("a number of seconds above 0, or None for none", lambda s: s > 0))


class StepConfigOptions(TypedDict, total=False):
    """The fields of `StepConfig` as keywords of `@step` and the factories of `Step`."""

    max_retries: int
    timeout_s: float | None
    deadline_s: float | None
    backoff: Backoff | None
    retry_on: type[Exception] | Iterable[type[Exception]] | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    preserve_fallback_diagnostics: bool
    execution_mode: ExecutionMode
    expected_cost_usd: float | Decimal | int | str | None
    expected_tokens: int | None
    rate_limit: RateLimit | None
    optimization: OptimizationConfig | None


_DEFAULTS: Mapping[str, object] = {
    "max_retries": 1,
    "timeout_s": None,
    "deadline_s": None,
    "backoff": None,
    "retry_on": None,
    "temperature": None,
    "top_k": None,
    "top_p": None,
    "preserve_fallback_diagnostics": False,
    "execution_mode": "sync",
    "expected_cost_usd": None,
    "expected_tokens": None,
    "rate_limit": None,
    "optimization": None,
}


class StepConfig(Definition):
    """How a step is to be run. Checked at construction and at each assignment.

    Raises:
        TypeError: a field has a wrong type, or there is no such field.
        ValueError: a field's value isn't allowed.
    """

    _fields: ClassVar[tuple[str, ...]] = tuple(_DEFAULTS)
    _checks: ClassVar[Mapping[str, Check]] = {
        "max_retries": _checks.count(0),
        "timeout_s": _seconds,
        "deadline_s": _seconds,
        "backoff": _checks.optional(
            _checks.instance_of(_backoff, "a Backoff, such as Backoff.fixed(0.5), or None for no waiting")
        ),
        "retry_on": _checks.optional(_checks.exception_types),
        "temperature": _checks.optional(_checks.number("a number, 0 or more, or None", lambda t: t >= 0)),
        "top_k": _checks.optional(_checks.count(1)),
        "top_p": _checks.optional(_checks.number("a number from 0 to 1, or None", lambda p: 0 <= p <= 1)),
        "preserve_fallback_diagnostics": _checks.boolean,
        "execution_mode": _checks.choice(None, "sync", "background"),
        "expected_cost_usd": _checks.optional(_checks.money),
        "expected_tokens": _checks.optional(_checks.count(0)),
        "rate_limit": _checks.optional(_checks.rate_limit),
        "optimization": _checks.optional(_checks.optimization),
    }

    max_retries: int
    """Retries after the first attempt: attempts = 1 + max_retries."""
    timeout_s: float | None
    """Seconds of active time for one attempt."""
    deadline_s: float | None
    """Seconds of active time for the step with its retries, backoff and fallback."""
    backoff: Backoff | None
    """How long to wait between attempts; None waits not at all."""
    retry_on: tuple[type[Exception], ...] | None
    """Which errors of the agent are worth another attempt; None means every retryable one."""
    temperature: float | None
    """Passed to agents that take it, as are `top_k` and `top_p`."""
    top_k: int | None
    top_p: float | None
    preserve_fallback_diagnostics: bool
    """Keep the primary's error in the result's feedback when the fallback succeeds."""
    execution_mode: ExecutionMode
    expected_cost_usd: float | Decimal | int | str | None
    """Dollars to reserve before an attempt, where a cost limit is set."""
    expected_tokens: int | None
    """Tokens to reserve before an attempt, where a token limit is set."""
    rate_limit: RateLimit | None
    """How often the agent is called, beside the agent's own `rate_limit` and the runner's."""
    optimization: OptimizationConfig | None
    """Which optimisations this step uses; None means the pipeline's or the runner's."""

    def __init__(self, **fields: Unpack[StepConfigOptions]) -> None:
        for name in fields:
            if name not in _DEFAULTS:
                refuse_unknown("StepConfig", name, self._fields, TypeError)
        self._fill({**_DEFAULTS, **fields})
        self.__dict__["_given"] = frozenset(fields)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        self.__dict__["_given"] |= {name}

    def given(self) -> dict[str, Any]:
        """The fields that somebody has set, by name, also those that were set to their default."""
        return {name: value for name, value in self.model_dump().items() if name in self.__dict__["_given"]}

    def model_dump(self) -> dict[str, Any]:
        """The fields by name."""
        return {name: getattr(self, name) for name in self._fields}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StepConfig):
            return NotImplemented
        return self.model_dump() == other.model_dump()

    __hash__: ClassVar[Callable[[], int] | None] = None  # type: ignore[assignment]  # fields can change

    def __repr__(self) -> str:
        changed = (
            f"{name}={value!r}" for name, value in self.model_dump().items() if value != _DEFAULTS[name]
        )
        return f"StepConfig({', '.join(changed)})"
