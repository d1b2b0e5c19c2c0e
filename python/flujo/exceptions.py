"""Every error that Flujo raises, as one tree under `FlujoError`.

A text says what happened, where and why; `suggestion` says what to do about it. `code` is a stable identifier
for programs and documentation.

Control flow (`PausedException`, `PipelineAbortSignal`, …) has its own branch: no retry, fallback or plugin of
a pipeline swallows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from flujo.domain.results import PipelineResult, StepResult

    class _Text(TypedDict, total=False):
        suggestion: str | None
        code: str | None


__all__ = [
    "AgentIOValidationError",
    "AlreadyAnsweredError",
    "AmbiguousAnswerError",
    "ConfigurationError",
    "ContextError",
    "ContextFieldError",
    "ContextInheritanceError",
    "ContextIsolationError",
    "ContextMergeError",
    "ContextMutationError",
    "ControlFlowError",
    "CorruptRunError",
    "DefinitionChangedError",
    "ExecutionError",
    "FeatureDisabled",
    "FlujoError",
    "ForkError",
    "HitlPolicyError",
    "ImproperStepInvocationError",
    "InfiniteFallbackError",
    "InfiniteRedirectError",
    "InvariantViolatedError",
    "MissingAgentError",
    "NonRetryableError",
    "OrchestratorError",
    "OrchestratorRetryError",
    "ParallelStepError",
    "PauseNotFoundError",
    "PausedException",
    "PipelineAbortSignal",
    "PipelineContextInitializationError",
    "PipelineFailed",
    "PluginError",
    "PricingNotConfiguredError",
    "RecordedError",
    "ReplayError",
    "ResumeError",
    "RewardModelUnavailable",
    "RunBusyError",
    "RunCancelled",
    "RunExistsError",
    "RunNotFoundError",
    "SettingsError",
    "StepInvocationError",
    "StoreBusyError",
    "StoreError",
    "StoreFullError",
    "TemplateResolutionError",
    "TypeMismatchError",
    "UnsavableValueError",
    "UsageLimitExceededError",
    "ValidationError",
]


class FlujoError(Exception):
    """The base of every error that Flujo raises.

    `str(error)` is the message alone, or, where a suggestion or a code is given, `[Flujo] message` followed
    by them on lines of their own.
    """

    message: str
    suggestion: str | None
    code: str | None

    def __init__(self, message: str = "", suggestion: str | None = None, code: str | None = None) -> None:
        text = message
        if suggestion or code:
            text = f"[Flujo] {message}"
            if suggestion:
                text += f"\n  Suggestion: {suggestion}"
            if code:
                text += f"\n  Code: {code}"
        super().__init__(text)
        self.message = message
        self.suggestion = suggestion
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args`, which doesn't fit constructors that take more than a text.
        return _restore, (type(self), self.args), self.__dict__


def _restore(cls: type[FlujoError], args: tuple[Any, ...]) -> FlujoError:
    error = cls.__new__(cls)
    error.args = args
    return error


OrchestratorError = FlujoError
"""The name that older versions gave to the base class."""


class ConfigurationError(FlujoError):
    """A pipeline, step, runner or setting was put together in a way that can't work."""

    result: PipelineResult[Any, Any] | None = None  # what the run that it ended had done until then


class SettingsError(ConfigurationError):
    """A settings file or an environment variable holds something unusable."""


class PricingNotConfiguredError(ConfigurationError):
    """A model was used under a cost limit, but nobody said what it costs. An unknown price isn't zero."""

    provider: str | None
    model: str | None

    def __init__(
        self,
        provider: str | None = None,
        model: str | None = None,
        *,
        message: str | None = None,
        **text: Unpack[_Text],
    ) -> None:
        if message is None:
            name = ":".join(part for part in (provider, model) if part) or "the model in use"
            message = f"no price is configured for {name}, but a cost limit is set"
            text.setdefault(
                "suggestion",
                f"add [cost.providers.{provider or '<provider>'}.{model or '<model>'}] with "
                "prompt_tokens_per_1k and completion_tokens_per_1k to flujo.toml, or limit tokens or "
                "requests in place of cost",
            )
        super().__init__(message, **text)
        self.provider = provider
        self.model = model


class MissingAgentError(ConfigurationError):
    """A step has no agent to run."""


class HitlPolicyError(ConfigurationError):
    """A human-in-the-loop step isn't allowed where it stands."""


class FeatureDisabled(ConfigurationError):
    """A feature was used that the settings switch off."""


class RewardModelUnavailable(ConfigurationError):
    """Scoring by a reward model was asked for, but no such model can be reached."""


class ExecutionError(FlujoError):
    """Something went wrong while a pipeline ran."""


class OrchestratorRetryError(ExecutionError):
    """All attempts of an agent call failed."""


class NonRetryableError(ExecutionError):
    """Raise it from an agent to say that another attempt would fail as well."""


class PluginError(ExecutionError):
    """A plugin failed in itself, as opposed to finding fault with an output."""


class StepInvocationError(ExecutionError):
    """A step was used as if it were an agent (`step.run(...)`, `step.stream(...)`)."""


class ImproperStepInvocationError(StepInvocationError):
    """A step was called like a function."""


class ParallelStepError(ExecutionError):
    """A parallel step can't run or join its branches."""


class AgentIOValidationError(ExecutionError):
    """An agent's input or output doesn't have the declared type."""


class ReplayError(ExecutionError):
    """A recorded run can't be replayed, or took another course when it was."""


class RunCancelled(ExecutionError):
    """The run that the caller waits for was cancelled by somebody else. Not an `asyncio.CancelledError`.

    `result` (also `flujo_result`) is what the run had done until then.
    """

    run_id: str | None
    result: PipelineResult[Any, Any] | None

    def __init__(
        self,
        message: str = "the run was cancelled",
        result: PipelineResult[Any, Any] | None = None,
        *,
        run_id: str | None = None,
        **text: Unpack[_Text],
    ) -> None:
        super().__init__(message, **text)
        self.run_id = run_id
        self.result = result

    @property
    def flujo_result(self) -> PipelineResult[Any, Any] | None:
        """What the run had done until then, under the name that a `CancelledError` carries it by."""
        return self.result


class RunNotFoundError(ExecutionError):
    """No run has this id, or none that is still known here."""


class PipelineFailed(ExecutionError):
    """Raised by `PipelineResult.raise_for_failure()` and `unwrap()`, from the failing step's error."""

    result: PipelineResult[Any, Any]
    step: StepResult | None

    def __init__(
        self,
        message: str,
        result: PipelineResult[Any, Any],
        *,
        step: StepResult | None = None,
        **text: Unpack[_Text],
    ) -> None:
        super().__init__(message, **text)
        self.result = result
        self.step = step


class UsageLimitExceededError(ExecutionError):
    """A limit on cost, tokens or requests was passed, or the next step was refused because it would pass it.

    `limit`, `used` and `reserved` count in the unit of the limit that was reached: dollars, tokens or
    requests.
    """

    result: PipelineResult[Any, Any] | None
    """What the run had done until then, with exact totals."""
    limit: float | Decimal | None
    used: float | Decimal | None
    reserved: float | Decimal | None
    """What calls in flight had set aside when the limit was reached."""
    refused_step: str | None
    """The step that wasn't started; None where a call in flight passed the limit."""

    def __init__(
        self,
        message: str,
        result: PipelineResult[Any, Any] | None = None,
        *,
        limit: float | Decimal | None = None,
        used: float | Decimal | None = None,
        reserved: float | Decimal | None = None,
        refused_step: str | None = None,
        **text: Unpack[_Text],
    ) -> None:
        super().__init__(message, **text)
        self.result = result
        self.limit = limit
        self.used = used
        self.reserved = reserved
        self.refused_step = refused_step


class RecordedError(ExecutionError):
    """An error of an earlier process, read back from a stored or serialised result.

    The original exception object is gone; its type's name, its text and its formatted traceback are kept.
    """

    type_name: str
    formatted_traceback: str | None

    def __init__(self, type_name: str, message: str, formatted_traceback: str | None = None) -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.message = message
        self.type_name = type_name
        self.formatted_traceback = formatted_traceback


class ResumeError(ExecutionError):
    """A run can't be resumed as asked."""


class PauseNotFoundError(ResumeError):
    """An answer names a pause that the run doesn't have."""


class AmbiguousAnswerError(ResumeError):
    """One bare answer was given while several pauses wait; say which by `answers={pause_id: value}`."""


class AlreadyAnsweredError(ResumeError):
    """A second answer was given to a pause that has one."""


class StoreError(ExecutionError):
    """A run store can't do what was asked."""


class RunBusyError(StoreError):
    """Another worker owns the run at the moment."""

    owner: str | None
    expires_at: datetime | None
    """When the owner's lease ends unless it's renewed."""

    def __init__(
        self,
        message: str,
        *,
        owner: str | None = None,
        expires_at: datetime | None = None,
        **text: Unpack[_Text],
    ) -> None:
        super().__init__(message, **text)
        self.owner, self.expires_at = owner, expires_at


class RunExistsError(StoreError):
    """A run with this id exists already."""


class ForkError(StoreError):
    """A stored run can't be forked there: the step is unknown, ambiguous, never began, or isn't kept."""


class DefinitionChangedError(StoreError):
    """The pipeline isn't the one that the stored run began with, and the change can't be carried over."""

    differences: list[str]

    def __init__(self, message: str, *, differences: Sequence[str] = (), **text: Unpack[_Text]) -> None:
        super().__init__(message, **text)
        self.differences = list(differences)


class UnsavableValueError(StoreError):
    """A value can't be written down, so the run couldn't be resumed later."""

    path: str

    def __init__(self, message: str, *, path: str = "", **text: Unpack[_Text]) -> None:
        super().__init__(message, **text)
        self.path = path


class CorruptRunError(StoreError):
    """A stored run can't be read. It's left as it is."""

    run_id: str | None
    where: str | None

    def __init__(
        self, message: str, *, run_id: str | None = None, where: str | None = None, **text: Unpack[_Text]
    ) -> None:
        super().__init__(message, **text)
        self.run_id, self.where = run_id, where


class StoreBusyError(StoreError):
    """The store is locked by others for longer than we may wait. Nothing is wrong with its data."""


class StoreFullError(StoreError):
    """The store has no room left."""


class ControlFlowError(FlujoError):
    """Not a failure, but a change of course. It always passes through retries, fallbacks and plugins."""

    result: PipelineResult[Any, Any] | None = None  # what the run that it ended had done until then


class PausedException(ControlFlowError):
    """The run waits for a human."""


class PipelineAbortSignal(ControlFlowError):
    """Raise it from a hook to stop the run: its status becomes `cancelled`, its history is kept."""


class InfiniteRedirectError(ControlFlowError):
    """A plugin redirected to an agent that had run in this chain of redirects already."""


class InfiniteFallbackError(ControlFlowError):
    """A step's chain of fallbacks leads back to a step that had run in it already."""


class ContextError(FlujoError):
    """Something is wrong with a run's context."""


class PipelineContextInitializationError(ContextError):
    """The context model can't be made from the data given for it."""


class ContextInheritanceError(ContextError):
    """A sub-pipeline's context needs fields that its parent's context doesn't have."""

    missing_fields: list[str]

    def __init__(
        self, message: str = "", *, missing_fields: Sequence[str] = (), **text: Unpack[_Text]
    ) -> None:
        super().__init__(message, **text)
        self.missing_fields = list(missing_fields)


class ContextFieldError(ContextError):
    """A step wrote a field that the context model doesn't have."""


class ContextMergeError(ContextError):
    """Branches wrote different values to the same place of the context. Nothing was merged.

    `values` are in the order of `branches`.
    """

    path: str
    branches: list[str]
    values: list[Any]

    def __init__(
        self,
        message: str | None = None,
        *,
        path: str = "",
        branches: Sequence[str] = (),
        values: Sequence[Any] | Mapping[str, Any] = (),
        **text: Unpack[_Text],
    ) -> None:
        if isinstance(values, Mapping):
            branches = branches or list(values)
            values = [values[branch] for branch in branches]
        if message is None:
            message = f"branches {', '.join(map(repr, branches))} wrote different values to context.{path}"
            text.setdefault(
                "suggestion",
                "write it in one branch only, choose another merge_strategy, or declare how writes combine: "
                "Annotated[..., flujo.merge.Sum()] on the field",
            )
        super().__init__(message, **text)
        self.path, self.branches, self.values = path, list(branches), list(values)


class ContextIsolationError(ContextError):
    """A context can't be isolated for a branch or an attempt."""


class ContextMutationError(ContextError):
    """A context was changed where that isn't allowed."""


class InvariantViolatedError(ContextError):
    """What must hold of the context after a step doesn't."""


class ValidationError(FlujoError):
    """A value or a definition doesn't hold what it must."""


class TypeMismatchError(ValidationError):
    """One step's output type doesn't fit the next step's input type."""


class TemplateResolutionError(ValidationError):
    """A template names something that doesn't exist, or isn't well formed."""
