"""Plugins, validators, findings, processors' holder and hook payloads."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest

from flujo import Flujo, Step
from flujo.domain.dsl._tracking import TrackedList
from flujo.domain.events import HookPayload, PostStepPayload, PreRunPayload
from flujo.domain.models import AgentProcessors
from flujo.domain.plugins import PluginOutcome, ValidationPlugin
from flujo.domain.results import StepResult
from flujo.domain.secret import Secret, SecretStr
from flujo.domain.validation import (
    BaseValidator,
    ValidationFinding,
    ValidationReport,
    ValidationResult,
    Validator,
    validator,
)
from flujo.processors import SerializePydantic, StripMarkdownFences
from flujo.testing.utils import DummyPlugin


def test_a_plugin_outcome_needs_a_truth_value() -> None:
    with pytest.raises(TypeError, match="success"):
        PluginOutcome(success="yes")
    with pytest.raises(TypeError, match="feedback"):
        PluginOutcome(success=True, feedback=3)
    assert isinstance(DummyPlugin([PluginOutcome(True)]), ValidationPlugin)


def test_a_score_is_from_0_to_1() -> None:
    with pytest.raises(ValueError, match="score"):
        ValidationResult(is_valid=True, score=2)
    with pytest.raises(TypeError, match="is_valid"):
        ValidationResult(is_valid=1)


@validator
def short(output: str) -> tuple[bool, str | None]:
    """At most three letters."""
    return len(output) <= 3, "too long"


@validator
async def lower(output: str) -> bool:
    return output.islower()


async def test_a_function_becomes_a_validator_of_its_name() -> None:
    assert isinstance(short, Validator)
    assert short.__doc__ == "At most three letters."
    assert await short.validate("abcd") == ValidationResult(
        is_valid=False, score=0.0, feedback="too long", validator_name="short"
    )
    assert (await short.validate("abc")).is_valid
    assert (await lower.validate("ABC")).is_valid is False
    assert lower.name == "lower"


async def test_a_validator_that_answers_something_else_is_told_so() -> None:
    def odd(output: Any) -> Any:
        return "yes"

    with pytest.raises(TypeError, match="'odd' must return True, False"):
        await validator(odd).validate(1)


def test_a_validator_is_named_after_its_class_unless_told_otherwise() -> None:
    class Strict(BaseValidator):
        async def validate(self, output_to_check: Any, *, context: Any = None) -> ValidationResult:
            return ValidationResult(is_valid=True)

    assert Strict().name == "Strict"
    assert Strict("other").name == "other"


def test_a_report_is_valid_without_errors_and_prints_place_and_cure() -> None:
    warning = ValidationFinding("W1", "warning", "odd", step_name="a")
    error = ValidationFinding(
        "E1", "error", "no agent", location_path="p/a", suggestion="give it one", file="f", line=3
    )
    assert ValidationReport(warnings=[warning]).is_valid
    report = ValidationReport([error], [warning])
    assert not report.is_valid
    assert str(report) == "error E1 at 'p/a' (f:3): no agent; give it one\nwarning W1 at 'a': odd"


def test_processors_are_kept_in_lists_that_tell_of_changes() -> None:
    processors = AgentProcessors(output_processors=[StripMarkdownFences()])
    before = processors.output_processors._revision
    processors.output_processors.append(SerializePydantic())
    assert processors.output_processors._revision != before
    processors.prompt_processors = [SerializePydantic()]
    assert isinstance(processors.prompt_processors, TrackedList)


def test_processors_copy_without_sharing_their_lists() -> None:
    processors = AgentProcessors(output_processors=[len])
    twin = copy.deepcopy(processors)
    assert twin == processors
    twin.output_processors.clear()
    assert processors.output_processors == [len]


@pytest.mark.parametrize("given", ["text", 5, [5]])
def test_what_is_no_processor_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"AgentProcessors\.prompt_processors"):
        AgentProcessors(prompt_processors=given)


def test_each_payload_names_its_event() -> None:
    events = [payload.event_name for payload in get_args(HookPayload)]
    assert events == ["pre_run", "pre_step", "post_step", "on_step_failure", "post_run", "on_pause_requested"]
    assert PreRunPayload("in").initial_input == "in"
    assert PostStepPayload(StepResult(name="a")).step_result.name == "a"


def test_secrets_show_asterisks() -> None:
    secret = Secret[dict[str, str]]({"token": "t0p"})
    assert "t0p" not in repr(secret) + str(secret) + repr(SecretStr("t0p"))
    assert secret.get_secret_value() == {"token": "t0p"}


async def helper(value: str) -> str:
    """Does a step's work by the name of its module."""
    return f"helped {value}"


@pytest.mark.parametrize(
    ("name", "output"),
    [("draft", "drafted drafted x"), (f"{__name__}:helper", "helped drafted x"), ("nobody", None)],
)
async def test_a_plugin_may_ask_for_an_agent_by_name(name: str, output: str | None) -> None:
    async def draft(value: str) -> str:
        return f"drafted {value}"

    verdicts = [PluginOutcome(success=False, redirect_to=name), PluginOutcome(success=True)]
    check = Step("check", str.upper, plugins=[(DummyPlugin(verdicts), 0)], max_retries=0)
    result = await Flujo(Step("draft", draft) >> check).run_async("x")
    assert result.step_history[1].output == output
    if output is None:
        feedback = result.step_history[1].feedback or ""
        assert '"nobody", which is neither the path of a step nor MODULE:NAME' in feedback
