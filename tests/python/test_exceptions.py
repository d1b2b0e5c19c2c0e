"""The tree of errors, their texts, and their way through pickle and copy."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from typing import Any

import pytest

from flujo import exceptions
from flujo.domain.results import PipelineResult, StepResult
from flujo.exceptions import (
    ContextMergeError,
    FlujoError,
    PipelineFailed,
    PricingNotConfiguredError,
    RecordedError,
    RunCancelled,
    UsageLimitExceededError,
)

TREE = {
    "ConfigurationError": [
        "SettingsError",
        "PricingNotConfiguredError",
        "MissingAgentError",
        "HitlPolicyError",
        "FeatureDisabled",
        "RewardModelUnavailable",
    ],
    "ExecutionError": [
        "OrchestratorRetryError",
        "UsageLimitExceededError",
        "NonRetryableError",
        "ResumeError",
        "ReplayError",
        "PluginError",
        "StepInvocationError",
        "ImproperStepInvocationError",
        "ParallelStepError",
        "AgentIOValidationError",
        "PipelineFailed",
        "RunCancelled",
    ],
    "ResumeError": ["PauseNotFoundError", "AmbiguousAnswerError", "AlreadyAnsweredError"],
    "StoreError": [
        "RunBusyError",
        "RunExistsError",
        "DefinitionChangedError",
        "UnsavableValueError",
        "CorruptRunError",
        "StoreBusyError",
        "StoreFullError",
    ],
    "ControlFlowError": [
        "PausedException",
        "PipelineAbortSignal",
        "InfiniteRedirectError",
        "InfiniteFallbackError",
    ],
    "ContextError": [
        "PipelineContextInitializationError",
        "ContextInheritanceError",
        "ContextFieldError",
        "ContextMergeError",
        "ContextIsolationError",
        "ContextMutationError",
    ],
    "ValidationError": ["TypeMismatchError", "TemplateResolutionError"],
}


@pytest.mark.parametrize(("base", "name"), [(base, name) for base, names in TREE.items() for name in names])
def test_each_error_stands_at_its_place_in_the_tree(base: str, name: str) -> None:
    assert issubclass(getattr(exceptions, name), getattr(exceptions, base))
    assert issubclass(getattr(exceptions, base), FlujoError)


def test_every_public_name_is_an_error_of_ours() -> None:
    classes = {
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert classes == set(exceptions.__all__)
    assert exceptions.OrchestratorError is FlujoError


def test_a_plain_message_is_the_whole_text() -> None:
    error = FlujoError("it broke")
    assert (str(error), error.message, error.suggestion, error.code) == ("it broke", "it broke", None, None)


@pytest.mark.parametrize(
    "given", [{"suggestion": "mend it"}, {"code": "FLU-0001"}, {"suggestion": "mend it", "code": "FLU-0001"}]
)
def test_a_suggestion_or_code_puts_the_prefix_before_the_text(given: dict[str, str]) -> None:
    text = str(FlujoError("it broke", **given))
    assert text.startswith("[Flujo] it broke")
    assert all(part in text for part in given.values())


def example(cls: type[FlujoError]) -> FlujoError:
    result: PipelineResult[Any, Any] = PipelineResult(step_history=[StepResult(name="a", output=1)])
    given: dict[type[FlujoError], Any] = {
        PipelineFailed: lambda: PipelineFailed("no", result, step=result.step_history[0]),
        RunCancelled: lambda: RunCancelled("no", result, run_id="r1"),
        UsageLimitExceededError: lambda: UsageLimitExceededError(
            "no", result, limit=1, used=0.5, refused_step="b"
        ),
        ContextMergeError: lambda: ContextMergeError(path="n", branches=["a", "b"], values=[1, 2]),
        PricingNotConfiguredError: lambda: PricingNotConfiguredError("openai", "gpt"),
        RecordedError: lambda: RecordedError("KeyError", "'x'", "Traceback"),
    }
    make = given.get(cls)
    return make() if make else cls("no", suggestion="do this", code="FLU-1")


CLASSES = sorted(
    {getattr(exceptions, name) for name in exceptions.__all__}, key=lambda cls: str(cls.__name__)
)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_copy_and_pickle_with_all_it_carries(cls: type[FlujoError], way: Any) -> None:
    error = example(cls)
    twin = way(error)
    assert type(twin) is cls
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)


def test_notes_survive_pickle() -> None:
    error = FlujoError("no")
    error.add_note("at step 'a'")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["at step 'a'"]


def test_a_run_cancelled_by_others_is_no_cancellation_of_the_waiting_task() -> None:
    result: PipelineResult[Any, Any] = PipelineResult()
    error = RunCancelled(result=result)
    assert not isinstance(error, asyncio.CancelledError)
    assert error.flujo_result is result


def test_a_merge_conflict_names_path_and_branches_but_shows_no_values() -> None:
    error = ContextMergeError(
        path="order.total", branches=["a", "b"], values={"a": "secret-1", "b": "secret-2"}
    )
    assert "context.order.total" in str(error)
    assert "'a', 'b'" in str(error)
    assert "secret" not in str(error)
    assert (error.path, error.branches, error.values) == ("order.total", ["a", "b"], ["secret-1", "secret-2"])


def test_an_unknown_price_says_where_to_put_it() -> None:
    assert "[cost.providers.openai.gpt-9]" in str(PricingNotConfiguredError("openai", "gpt-9"))


def test_a_usage_limit_error_keeps_the_older_two_arguments() -> None:
    result: PipelineResult[Any, Any] = PipelineResult(total_cost_usd=1.2)
    error = UsageLimitExceededError("Cost limit of $1 exceeded", result)
    assert str(error) == "Cost limit of $1 exceeded"
    assert error.result is result
