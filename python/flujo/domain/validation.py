"""Validators of outputs, and what the validation of a pipeline's definition finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = [
    "BaseValidator",
    "ValidationFinding",
    "ValidationReport",
    "ValidationResult",
    "Validator",
    "validator",
]


@dataclass(slots=True)
class ValidationResult:
    """A validator's verdict on an output. `score` is from 0 (useless) to 1 (perfect)."""

    is_valid: bool
    score: float = 1.0
    diff: dict[str, Any] | None = None
    feedback: str | None = None
    validator_name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.is_valid, bool):
            raise TypeError(f"ValidationResult(is_valid=…) must be True or False, not {self.is_valid!r}")
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"ValidationResult(score=…) must be from 0 to 1, not {self.score!r}")


@runtime_checkable
class Validator(Protocol):
    """Anything with this name and method can be given to `Step(validators=[...])`."""

    name: str

    async def validate(self, output_to_check: Any, *, context: Any = None) -> ValidationResult:
        """Judge an output."""
        ...


class BaseValidator(ABC):
    """A base for validators. The name is the class's unless another is given."""

    name: str

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__

    @abstractmethod
    async def validate(self, output_to_check: Any, *, context: Any = None) -> ValidationResult:
        """Judge an output."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


Verdict = bool | tuple[bool, str | None]


class _FunctionValidator(BaseValidator):
    def __init__(self, check: Callable[[Any], Verdict | Awaitable[Verdict]]) -> None:
        super().__init__(getattr(check, "__name__", type(check).__name__))
        self._check = check
        self.__doc__ = check.__doc__

    def __call__(self, output: Any) -> Verdict | Awaitable[Verdict]:
        return self._check(output)

    async def validate(self, output_to_check: Any, *, context: Any = None) -> ValidationResult:
        answer = self._check(output_to_check)
        verdict = await answer if isinstance(answer, Awaitable) else answer
        valid, feedback = verdict if isinstance(verdict, tuple) else (verdict, None)
        if not isinstance(valid, bool):
            raise TypeError(
                f"validator {self.name!r} must return True, False or (bool, feedback), not {verdict!r}"
            )
        return ValidationResult(
            is_valid=valid, score=1.0 if valid else 0.0, feedback=feedback, validator_name=self.name
        )


def validator(check: Callable[[Any], Verdict | Awaitable[Verdict]]) -> BaseValidator:
    """Make a validator of a function, sync or async, that returns `(valid, feedback)` or just `valid`.

    @validator
    def is_short(output: str) -> tuple[bool, str | None]:
        return len(output) < 200, "use fewer than 200 characters"
    """
    return _FunctionValidator(check)


@dataclass(slots=True)
class ValidationFinding:
    """One thing that is wrong, or looks wrong, in a pipeline's definition."""

    rule_id: str
    severity: Literal["error", "warning"]
    message: str
    step_name: str | None = None
    suggestion: str | None = None
    location_path: str | None = None
    """Where in the pipeline, from the outside inwards: `review/check`."""
    file: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        where = self.location_path or self.step_name
        place = f" at {where!r}" if where else ""
        if self.file:
            place += " (" + ":".join(str(part) for part in (self.file, self.line, self.column) if part) + ")"
        cure = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.severity} {self.rule_id}{place}: {self.message}{cure}"


@dataclass(slots=True)
class ValidationReport:
    """All findings in one pipeline."""

    errors: list[ValidationFinding] = field(default_factory=list)
    warnings: list[ValidationFinding] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether the pipeline can run; warnings don't keep it from doing so."""
        return not self.errors

    def __str__(self) -> str:
        return "\n".join(map(str, [*self.errors, *self.warnings])) or "no findings"
