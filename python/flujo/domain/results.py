"""What a run leaves behind: the results of its steps and of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, cast

from pydantic import ConfigDict, Field
from typing_extensions import TypeVar

from flujo.domain._record import RecordModel, on_record

if TYPE_CHECKING:
    from typing import Self

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

__all__ = ["Pause", "PipelineResult", "RunStatus", "StepFailure", "StepResult"]

ContextT = TypeVar("ContextT", default=Any)
OutputT = TypeVar("OutputT", default=Any)

RunStatus = Literal["running", "completed", "failed", "paused", "cancelled", "limit_exceeded"]


class _ErrorSchema:
    """Lets pydantic carry an exception: as it is in Python, as type, message and traceback in JSON."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            _read_error,
            serialization=core_schema.plain_serializer_function_ser_schema(_write_error, when_used="json"),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        text = {"type": "string"}
        return {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {
                        "type": text,
                        "message": text,
                        "traceback": {"anyOf": [text, {"type": "null"}]},
                    },
                    "required": ["type", "message"],
                },
                {"type": "null"},
            ]
        }


def _read_error(value: Any) -> BaseException | None:
    if value is None or isinstance(value, BaseException):
        return value
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        from flujo.exceptions import RecordedError

        return RecordedError(value["type"], str(value.get("message", "")), value.get("traceback"))
    raise ValueError("must be an exception, None, or an object with type, message and traceback")


def _write_error(error: BaseException | None) -> dict[str, str | None] | None:
    from flujo.exceptions import RecordedError

    if error is None:
        return None
    if isinstance(error, RecordedError):
        return {"type": error.type_name, "message": error.message, "traceback": error.formatted_traceback}
    import traceback

    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"type": name, "message": str(error), "traceback": "".join(traceback.format_exception(error))}


@on_record
class StepResult(RecordModel):
    """What one step did, all its attempts together.

    `latency_s` is in seconds, `cost_usd` in US dollars; both, and `token_counts`, include failed attempts.
    """

    model_config = ConfigDict(defer_build=True)

    name: str
    output: Any = None
    success: bool = True
    attempts: int = 0
    latency_s: float = 0.0
    token_counts: int = 0
    cost_usd: float = 0.0
    feedback: str | None = None
    """What failed, in which stage, on which attempt."""
    branch_context: Any = None
    metadata_: dict[str, Any] = Field(default_factory=dict)
    step_history: list[StepResult] = Field(default_factory=list)
    """The results of the steps inside this one, such as a loop's body or a parallel step's branches."""
    error: Annotated[BaseException | None, _ErrorSchema()] = None
    """The exception that made the step fail, with its traceback: a `TimeoutError` where it ran out of time, a
    `RecordedError` where it comes from a store.
    """
    items: list[StepResult] = Field(default_factory=list)
    """Of a map: one result for each item, in the items' order."""
    cache_hit: bool = False
    saved_cost_usd: float = 0.0
    """What the cached result had cost when it was made. `cost_usd` of a hit is 0."""
    saved_tokens: int = 0

    @property
    def metadata(self) -> dict[str, Any]:
        """Another name of `metadata_`."""
        return self.metadata_

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self.metadata_ = value


@dataclass(frozen=True, slots=True)
class StepFailure:
    """A step that failed for good: what a failure's handler gets."""

    step: str
    path: str
    attempts: int
    error: BaseException | None
    """The exception behind it: a `TimeoutError` where something ran out of time; None where a validator or plugin
    rejected the output."""
    feedback: str
    """What failed, in which stage, on which attempt."""
    input: Any
    """What the step had been given; for the handler of a pipeline, what the pipeline had."""
    history: list[StepResult]
    """The results of the part that failed, up to the failure."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A point at which a run waits for a human's answer."""

    id: str
    step: str
    path: str
    message: str
    input_schema: dict[str, Any] | None = None
    """The JSON schema that an answer must fit; None where anything will do."""
    created_at: datetime | None = None
    expires_at: datetime | None = None


@on_record
class PipelineResult(RecordModel, Generic[ContextT, OutputT]):
    """What a run did. `status` says how it ended; `success` is true for `completed` alone.

    Made by hand without `status` or `output`, these follow from the context, `success` and the last step.
    """

    model_config = ConfigDict(defer_build=True)

    step_history: list[StepResult] = Field(default_factory=list)
    total_cost_usd: float = 0.0
    total_tokens: int = 0
    final_pipeline_context: ContextT | None = None
    trace_tree: Any = None
    success: bool = True
    status: RunStatus = "completed"
    output: OutputT | None = None
    pauses: list[Pause] = Field(default_factory=list)
    """Where the run waits for answers; empty unless `status` is `paused`."""

    def __copy__(self) -> Self:
        return self._carrying(super().__copy__())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self._carrying(super().__deepcopy__(memo))

    def _carrying(self, copied: Self) -> Self:
        """The copy with what it takes to resume the run."""
        paused = getattr(self, "__flujo_paused__", None)
        if paused is not None:
            object.__setattr__(copied, "__flujo_paused__", paused)
        return copied

    def model_post_init(self, context: Any, /) -> None:
        """Fill in what follows from the rest."""
        given = self.model_fields_set
        if "status" not in given:
            told = getattr(self.final_pipeline_context, "status", None)
            if told in ("paused", "cancelled", "limit_exceeded"):
                self.status = told
            else:
                self.status = "completed" if self.success else "failed"
        if "output" not in given and self.step_history:
            self.output = self.step_history[-1].output

    def raise_for_failure(self) -> Self:
        """The result itself, if the run completed.

        Raises:
            PipelineFailed: otherwise; its cause is the failing step's exception, where there was one.
        """
        if self.success:
            return self
        raise self._failure() from self._cause()

    def unwrap(self) -> OutputT:
        """The run's output.

        Raises:
            PipelineFailed: if the run didn't complete.
        """
        return cast(OutputT, self.raise_for_failure().output)

    def _failure(self) -> Exception:
        from flujo.exceptions import PipelineFailed

        chain = _failing_chain(self.step_history)
        step = chain[-1] if chain else None
        place = f" at step {'/'.join(failed.name for failed in chain)!r}" if chain else ""
        if self.status == "paused":
            names = ", ".join(repr(pause.path or pause.step) for pause in self.pauses)
            return PipelineFailed(
                f"the run is paused{f' at {names}' if names else place} and has no output yet",
                self,
                suggestion="answer it with runner.resume_async(result, answer)",
            )
        if self.status == "cancelled":
            return PipelineFailed(f"the run was cancelled{place} before it completed", self, step=step)
        if self.status == "limit_exceeded":
            return PipelineFailed(
                f"the run reached a usage limit{place}",
                self,
                step=step,
                suggestion="raise the limit and resume the run, or let its steps use less",
            )
        if step is None:
            return PipelineFailed("the run failed, but none of its recorded steps did", self)
        attempts = f" after {step.attempts} attempts" if step.attempts > 1 else ""
        error = f"{type(step.error).__name__}: {step.error}" if step.error else "no reason given"
        reason = step.feedback or error
        return PipelineFailed(f"the run failed{place}{attempts}: {reason}", self, step=step)

    def _cause(self) -> BaseException | None:
        for step in _failing_chain(self.step_history):
            if step.error is not None:
                return step.error
        return None


def _failing_chain(history: Iterable[StepResult]) -> list[StepResult]:
    """The step that failed, the one inside it that failed, and so on inwards."""
    chain: list[StepResult] = []
    while True:
        failed = next((step for step in reversed(list(history)) if not step.success), None)
        if failed is None:
            return chain
        chain.append(failed)
        history = failed.step_history or failed.items
