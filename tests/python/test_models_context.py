"""Contexts, limits, backoff and the other models of the domain."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pydantic
import pytest

import flujo.domain.models as models
from flujo.domain.backoff import Backoff
from flujo.domain.models import (
    AppResources,
    BaseContext,
    Candidate,
    Checklist,
    ChecklistItem,
    ContextReference,
    ExecutedCommandLog,
    FlujoAgentResult,
    FlujoAgentUsage,
    HumanInteraction,
    PipelineContext,
    RefinementCheck,
    Task,
    UsageLimits,
)


def test_every_run_gets_an_id_of_its_own() -> None:
    first, second = PipelineContext(), PipelineContext()
    assert first.run_id != second.run_id
    assert first.run_id.startswith("run_")
    int(first.run_id.removeprefix("run_"), 16)


def test_a_context_starts_empty_and_running() -> None:
    context = PipelineContext(initial_prompt="hello")
    assert context.initial_prompt == "hello"
    assert context.status == "running"
    assert context.hitl_history == []
    assert context.command_log == []
    assert context.step_outputs == {}
    assert PipelineContext().initial_prompt is None


def test_assignments_are_validated_and_unknown_fields_are_kept() -> None:
    class Counter(PipelineContext):
        n: int = 0

    counter = Counter(extra_thing=[1])
    assert counter.extra_thing == [1]
    counter.n = 3
    with pytest.raises(pydantic.ValidationError):
        counter.n = "many"
    with pytest.raises(pydantic.ValidationError):
        counter.status = "lost"
    assert counter.n == 3


def test_the_scratchpad_of_older_versions_is_refused_with_the_cure() -> None:
    with pytest.raises(pydantic.ValidationError, match="typed fields of your own context"):
        PipelineContext(scratchpad={})
    with pytest.raises(AttributeError, match="typed fields of your own context"):
        _ = PipelineContext().scratchpad


def test_a_wrong_definition_of_an_own_context_shows_where_it_stands() -> None:
    with pytest.raises(pydantic.errors.PydanticSchemaGenerationError):

        class Wrong(PipelineContext):
            lock: type(json.JSONEncoder().default)


@pytest.mark.parametrize("cls", [BaseContext, PipelineContext])
def test_contexts_dump_copy_and_pickle(cls: type[BaseContext]) -> None:
    context = cls(own=[1])
    assert pickle.loads(pickle.dumps(context)) == context
    assert copy.deepcopy(context) == context
    assert cls.model_validate_json(context.model_dump_json()) == context


def test_resources_take_values_of_any_class() -> None:
    class Client:
        pass

    class Resources(AppResources):
        client: Client

    client = Client()
    assert Resources(client=client).client is client


@pytest.mark.parametrize(
    ("given", "kept", "nanos"),
    [
        (0.1, 0.1, 100_000_000),
        ("0.1", Decimal("0.1"), 100_000_000),
        (Decimal("0.123456789"), Decimal("0.123456789"), 123_456_789),
        (Decimal("0.0000000019"), Decimal("0.0000000019"), 1),
        (2, 2.0, 2_000_000_000),
        (0, 0.0, 0),
        (None, None, None),
    ],
)
def test_a_cost_limit_is_kept_exactly_and_counted_in_nano_dollars_rounded_down(
    given: Any, kept: Any, nanos: int | None
) -> None:
    limits = UsageLimits(total_cost_usd_limit=given)
    assert limits.total_cost_usd_limit == kept
    assert type(limits.total_cost_usd_limit) is type(kept)
    assert limits.cost_limit_nanos == nanos


@pytest.mark.parametrize("given", [-0.1, float("nan"), float("inf"), "lots", True, [], 1e12, Decimal("NaN")])
def test_an_impossible_cost_limit_is_refused(given: Any) -> None:
    with pytest.raises(pydantic.ValidationError, match=r"total_cost_usd_limit[\s\S]*US dollars"):
        UsageLimits(total_cost_usd_limit=given)


@pytest.mark.parametrize("name", ["total_tokens_limit", "total_requests_limit"])
@pytest.mark.parametrize("given", [-1, 1.5, True, "10", 2**63])
def test_an_impossible_count_is_refused(name: str, given: Any) -> None:
    with pytest.raises(pydantic.ValidationError, match=rf"{name}[\s\S]*whole number"):
        UsageLimits(**{name: given})


def test_a_misspelt_limit_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="total_cost_limit"):
        UsageLimits(total_cost_limit=1)


def test_limits_cannot_change_under_a_running_pipeline() -> None:
    limits = UsageLimits(total_tokens_limit=5)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        limits.total_tokens_limit = 6


def test_limits_go_through_json() -> None:
    limits = UsageLimits(total_cost_usd_limit="0.10", total_tokens_limit=5)
    assert UsageLimits.model_validate_json(limits.model_dump_json()) == limits
    assert "total_cost_usd_limit" in json.dumps(UsageLimits.model_json_schema())


def test_backoff_kinds() -> None:
    assert Backoff.none().kind == "none"
    fixed = Backoff.fixed(2)
    assert (fixed.kind, fixed.initial_s, fixed.factor, fixed.max_s, fixed.jitter) == (
        "fixed",
        2.0,
        1.0,
        2.0,
        0.0,
    )
    grown = Backoff.exponential(initial_s=0.1, factor=2, max_s=5, jitter=0.1)
    assert (grown.kind, grown.initial_s, grown.factor, grown.max_s, grown.jitter) == (
        "exponential",
        0.1,
        2,
        5,
        0.1,
    )
    assert Backoff.exponential(initial_s=60).max_s == 60
    assert Backoff.exponential().max_s == 30


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Backoff.fixed(-1), ValueError, "s=…"),
        (lambda: Backoff.fixed(float("nan")), ValueError, "finite"),
        (lambda: Backoff.fixed("1"), TypeError, "'1'"),
        (lambda: Backoff.fixed(True), TypeError, "True"),
        (lambda: Backoff.exponential(factor=0.5), ValueError, "factor"),
        (lambda: Backoff.exponential(jitter=1.5), ValueError, "from 0 to 1"),
        (lambda: Backoff.exponential(initial_s=10, max_s=5), ValueError, "≥ 10"),
    ],
)
def test_an_impossible_backoff_is_refused_naming_field_and_range(
    make: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        make()


def test_a_backoff_is_an_immutable_value() -> None:
    backoff = Backoff.exponential(initial_s=0.5)
    with pytest.raises(AttributeError, match="immutable"):
        backoff.factor = 3
    with pytest.raises(AttributeError, match="immutable"):
        del backoff.factor
    assert backoff == Backoff.exponential(initial_s=0.5) != Backoff.fixed(0.5)
    assert len({backoff, copy.deepcopy(backoff), pickle.loads(pickle.dumps(backoff))}) == 1
    assert eval(repr(backoff)) == backoff
    assert eval(repr(Backoff.fixed(1))) == Backoff.fixed(1)
    assert eval(repr(Backoff.none())) == Backoff.none()


def test_models_of_the_agentic_loop_go_through_json() -> None:
    for model in (
        Task(prompt="p", metadata={"a": 1}),
        Candidate(
            solution="s", score=0.5, checklist=Checklist(items=[ChecklistItem(description="d", passed=True)])
        ),
        RefinementCheck(is_complete=False, feedback="more"),
        HumanInteraction(message_to_human="?", human_response="!"),
        ExecutedCommandLog(turn=1, generated_command={"type": "finish"}, execution_result="ok"),
    ):
        assert type(model).model_validate_json(model.model_dump_json()) == model


def test_an_agent_result_states_its_usage_or_leaves_it_to_prices() -> None:
    stated = FlujoAgentResult("out", cost_usd=0.5, token_counts=10)
    assert (stated.cost_usd, stated.token_counts, stated.usage()) == (0.5, 10, None)
    told = FlujoAgentResult("out", agent_usage=FlujoAgentUsage(input_tokens=3, output_tokens=4))
    assert told.cost_usd is None
    assert (usage := told.usage()) is not None
    assert (usage.total_tokens, usage.cost_usd) == (7, None)


def test_a_context_reference_dumps_its_names_and_never_its_value() -> None:
    reference = ContextReference[str](provider_id="store", key="k")
    with pytest.raises(ValueError, match="isn't loaded"):
        reference.get()
    reference.set("large")
    assert reference.is_loaded
    assert reference.get() == "large"
    assert reference.model_dump() == {"provider_id": "store", "key": "k"}


@pytest.mark.parametrize("name", models.__all__)
def test_every_model_is_found_at_its_documented_path(name: str) -> None:
    assert getattr(models, name).__name__ == name


def test_an_unknown_model_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = models.Nothing
    assert set(models.__all__) <= set(dir(models))


def test_the_models_module_loads_nothing_until_asked() -> None:
    code = (
        "import sys, flujo.domain.models; "
        "assert not [m for m in sys.modules if m in ('flujo.domain.results', 'flujo.domain.context')]; "
        "flujo.domain.models.StepResult; assert 'flujo.domain.results' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_importing_results_and_contexts_builds_no_schema() -> None:
    code = (
        "from flujo.domain.results import StepResult, PipelineResult; "
        "from flujo.domain.context import PipelineContext; "
        "assert all(type(m.__pydantic_validator__).__name__ != 'SchemaValidator' "
        "for m in (StepResult, PipelineResult, PipelineContext))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
