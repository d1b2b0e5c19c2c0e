"""Results made from records behave as ordinary pydantic models, whatever was read before."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from pydantic import BaseModel

from flujo.domain._record import on_record
from flujo.domain.results import Pause, PipelineResult, StepResult
from flujo.exceptions import PipelineFailed, RecordedError


class Output(BaseModel):
    words: list[str] = []


class FakeRecord:
    """Makes new objects at each call, as the engine may."""

    def __init__(self, **values: Callable[[], Any]) -> None:
        self.values = values
        self.asked: list[str] = []

    def field(self, name: str, /) -> Any:
        self.asked.append(name)
        return self.values[name]()


def step_values() -> dict[str, Callable[[], Any]]:
    return {
        "name": lambda: "draft",
        "output": lambda: Output(words=["a", "b"]),
        "success": lambda: True,
        "attempts": lambda: 2,
        "latency_s": lambda: 0.25,
        "token_counts": lambda: 7,
        "cost_usd": lambda: 0.125,
        "feedback": lambda: None,
        "branch_context": lambda: None,
        "metadata_": lambda: {"k": [1]},
        "step_history": lambda: [StepResult(name="inner")],
        "error": lambda: None,
        "items": lambda: [],
        "cache_hit": lambda: False,
        "saved_cost_usd": lambda: 0.0,
        "saved_tokens": lambda: 0,
    }


def pipeline_values() -> dict[str, Callable[[], Any]]:
    return {
        "step_history": lambda: [StepResult._from_record(FakeRecord(**step_values()))],
        "total_cost_usd": lambda: 0.125,
        "total_tokens": lambda: 7,
        "final_pipeline_context": lambda: Output(words=["ctx"]),
        "trace_tree": lambda: None,
        "success": lambda: False,
        "status": lambda: "paused",
        "output": lambda: None,
        "pauses": lambda: [Pause(id="p1", step="ask", path="ask", message="Go on?")],
    }


def ordinary(cls: type[BaseModel], values: dict[str, Callable[[], Any]]) -> Any:
    return cls(**{name: value() for name, value in values.items()})


CASES = [
    pytest.param((StepResult, step_values), id="step"),
    pytest.param((PipelineResult, pipeline_values), id="pipeline"),
]

READ_BEFORE: list[Any] = [
    pytest.param(lambda result: None, id="untouched"),
    pytest.param(lambda result: result.step_history, id="one-field-read"),
    pytest.param(lambda result: [result.success, result.step_history], id="fields-read-out-of-order"),
    pytest.param(lambda result: result.__dict__, id="fetched"),
]


@pytest.fixture(params=CASES)
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    cls, values = request.param
    return cls._from_record(FakeRecord(**values())), ordinary(cls, values())


def class_copy(result: Any) -> Any:
    class Holder(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        held: type(result)

    return Holder


WAYS: list[Any] = [
    pytest.param(lambda result: isinstance(result, BaseModel), id="isinstance"),
    pytest.param(lambda result: result.model_dump(), id="model_dump"),
    pytest.param(lambda result: list(result.model_dump()), id="order-of-dump"),
    pytest.param(lambda result: result.model_dump(include={"success"}), id="model_dump-include"),
    pytest.param(lambda result: result.model_dump(exclude_unset=True), id="model_dump-exclude_unset"),
    pytest.param(lambda result: result.model_dump(exclude_defaults=True), id="model_dump-exclude_defaults"),
    pytest.param(lambda result: result.model_dump_json(), id="model_dump_json"),
    pytest.param(lambda result: type(result).__pydantic_serializer__.to_python(result), id="serializer"),
    pytest.param(lambda result: pydantic.TypeAdapter(Any).dump_json(result), id="serialise-as-any"),
    pytest.param(lambda result: copy.copy(result), id="copy"),
    pytest.param(lambda result: copy.deepcopy(result), id="deepcopy"),
    pytest.param(lambda result: result.model_copy(), id="model_copy"),
    pytest.param(lambda result: result.model_copy(update={"success": None}), id="model_copy-update"),
    pytest.param(lambda result: result.model_copy(deep=True), id="model_copy-deep"),
    pytest.param(lambda result: pickle.loads(pickle.dumps(result)), id="pickle"),
    pytest.param(lambda result: repr(result), id="repr"),
    pytest.param(lambda result: str(result), id="str"),
    pytest.param(lambda result: list(result), id="iteration"),
    pytest.param(lambda result: dict(result), id="dict"),
    pytest.param(lambda result: vars(result), id="vars"),
    pytest.param(lambda result: result.model_fields_set, id="model_fields_set"),
    pytest.param(lambda result: result.model_extra, id="model_extra"),
    pytest.param(lambda result: weakref.ref(result)() is result, id="weakref"),
    pytest.param(lambda result: type(result).model_validate(result) is result, id="validate-itself"),
    pytest.param(
        lambda result: type(result).model_validate_json(result.model_dump_json()), id="json-round-trip"
    ),
    pytest.param(lambda result: class_copy(result)(held=result).held is result, id="field-of-another-model"),
    pytest.param(
        lambda result: class_copy(result)(held=result).model_dump(), id="dumped-inside-another-model"
    ),
    pytest.param(lambda result: type(result).model_construct(**dict(result)), id="model_construct"),
    pytest.param(
        lambda result: (setattr(result, "success", 3), vars(result), result.success)[1:], id="setattr"
    ),
    pytest.param(lambda result: (delattr(result, "success"), hasattr(result, "success"))[1], id="delattr"),
    pytest.param(lambda result: sorted(set(dir(result)) - {"__weakref__"}), id="dir"),
    pytest.param(lambda result: hasattr(result, "no_such_field"), id="unknown-attribute"),
    pytest.param(lambda result: dict(result.__repr_args__()), id="repr_args"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("read", READ_BEFORE)
def test_a_result_on_a_record_does_what_an_ordinary_model_does(
    pair: tuple[Any, Any], read: Callable[[Any], Any], way: Callable[[Any], Any]
) -> None:
    on_a_record, model = pair
    read(on_a_record)
    assert way(on_a_record) == way(model)


@pytest.mark.parametrize("read", READ_BEFORE)
@pytest.mark.parametrize("swap", [False, True], ids=["left", "right"])
def test_equality_holds_from_either_side_and_sees_a_difference(
    pair: tuple[Any, Any], read: Callable[[Any], Any], swap: bool
) -> None:
    on_a_record, model = pair
    read(on_a_record)
    left, right = (model, on_a_record) if swap else (on_a_record, model)
    assert left == right
    model.success = not model.success
    assert left != right


@pytest.mark.parametrize("cls", [StepResult, PipelineResult])
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_json_schema_names_every_field(cls: type[BaseModel], mode: Any) -> None:
    schema = cls.model_json_schema(mode=mode)
    found = json.dumps(schema)
    for name in cls.model_fields:
        assert f'"{name}"' in found


def test_reading_one_field_asks_the_record_for_that_field_only() -> None:
    record = FakeRecord(**step_values())
    result = StepResult._from_record(record)
    assert result.output == Output(words=["a", "b"])
    assert record.asked == ["output"]


def test_a_field_stays_the_same_object_however_it_is_read_again(pair: tuple[Any, Any]) -> None:
    result, _ = pair
    first = result.step_history
    assert result.step_history is first
    assert vars(result)["step_history"] is first
    assert result.step_history is first


def test_changing_a_list_before_the_rest_is_fetched_is_kept() -> None:
    result = StepResult._from_record(FakeRecord(**step_values()))
    result.metadata["k"].append(2)
    assert result.model_dump()["metadata_"] == {"k": [1, 2]}


def test_an_assignment_before_the_first_read_wins_over_the_record() -> None:
    result = StepResult._from_record(FakeRecord(**step_values()))
    result.output = "mine"
    result.metadata = {"own": True}
    assert (result.output, result.metadata_, result.name) == ("mine", {"own": True}, "draft")


def test_the_record_is_released_once_everything_is_fetched() -> None:
    record = FakeRecord(**step_values())
    alive = weakref.ref(record)
    result = StepResult._from_record(record)
    vars(result)
    del record
    gc.collect()
    assert alive() is None


def test_threads_that_read_at_once_end_with_one_object() -> None:
    for _ in range(50):
        result = StepResult._from_record(FakeRecord(**step_values()))
        start = threading.Barrier(4)
        seen: list[Any] = []

        def read(whole: bool, into: list[Any], result: StepResult = result, start: Any = start) -> None:
            start.wait()
            into.append(vars(result)["metadata_"] if whole else result.metadata_)

        threads = [threading.Thread(target=read, args=(whole, seen)) for whole in (True, False, True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(value is result.metadata_ for value in seen)
        assert list(vars(result)) == list(StepResult.model_fields)


def test_users_can_extend_a_result_and_redefine_its_fields() -> None:
    class Graded(StepResult):
        grade: int = 1
        output: str = "none"
        _seen: int = 5

    assert Graded(name="a").model_dump(include={"grade", "output"}) == {"grade": 1, "output": "none"}
    assert Graded(name="a")._seen == 5
    record = FakeRecord(**{**step_values(), "output": lambda: "text", "grade": lambda: 9})
    graded = Graded._from_record(record)
    assert graded.grade == 9
    assert graded.model_dump()["grade"] == 9
    assert graded._seen == 5


def test_another_field_descriptor_can_take_over() -> None:
    class Own(StepResult):
        pass

    class Upper:
        def __init__(self, name: str) -> None:
            self.name = name

        def __get__(self, model: Any, owner: Any = None) -> Any:
            if model is None:
                raise AttributeError(self.name)
            return model.__flujo_record__.field(self.name).upper()

    assert on_record(Own, Upper)._from_record(FakeRecord(**step_values())).name == "DRAFT"
    assert StepResult._from_record(FakeRecord(**step_values())).name == "draft"


def test_generic_results_accept_plain_ones_and_describe_their_types() -> None:
    class Holder(BaseModel):
        held: PipelineResult[Output, int]

    plain = PipelineResult[Any, Any]._from_record(FakeRecord(**pipeline_values()))
    assert Holder(held=plain).held.status == "paused"
    assert "Output" in json.dumps(Holder.model_json_schema())


def test_step_result_defaults() -> None:
    result = StepResult(name="a")
    assert result.model_dump() == {
        "name": "a", "output": None, "success": True, "attempts": 0, "latency_s": 0.0, "token_counts": 0,
        "cost_usd": 0.0, "feedback": None, "branch_context": None, "metadata_": {}, "step_history": [],
        "error": None, "items": [], "cache_hit": False, "saved_cost_usd": 0.0, "saved_tokens": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("context_status", "success", "expected"),
    [
        (None, True, "completed"),
        (None, False, "failed"),
        ("running", True, "completed"),
        ("running", False, "failed"),
        ("paused", False, "paused"),
    ],
)
def test_status_of_a_result_made_by_hand_follows_from_the_rest(
    context_status: str | None, success: bool, expected: str
) -> None:
    class Context(BaseModel):
        status: str | None = None

    result = PipelineResult(success=success, final_pipeline_context=Context(status=context_status))
    assert result.status == expected


def test_output_of_a_result_made_by_hand_is_that_of_the_last_step() -> None:
    steps = [StepResult(name="a", output=1), StepResult(name="b", output=2)]
    assert PipelineResult(step_history=steps).output == 2
    assert PipelineResult(step_history=steps, output=None).output is None


def test_an_error_goes_through_json_as_type_message_and_traceback() -> None:
    try:
        raise ValueError("no good")
    except ValueError as caught:
        result = StepResult(name="a", success=False, error=caught)
    assert result.model_dump()["error"] is result.error
    back = StepResult.model_validate_json(result.model_dump_json())
    assert isinstance(back.error, RecordedError)
    assert (back.error.type_name, back.error.message) == ("ValueError", "no good")
    assert "raise ValueError" in (back.error.formatted_traceback or "")
    assert back.model_dump_json() == result.model_dump_json()


def test_something_else_than_an_error_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="must be an exception"):
        StepResult(name="a", error="text")


def test_unwrap_gives_the_output_of_a_completed_run() -> None:
    result = PipelineResult[Any, int](step_history=[StepResult(name="a", output=3)])
    assert result.raise_for_failure() is result
    assert result.unwrap() == 3


def test_unwrap_of_a_failed_run_raises_from_the_cause_and_names_the_place() -> None:
    cause = KeyError("k")
    inner = StepResult(name="fetch", success=False, attempts=2, feedback="agent failed", error=cause)
    outer = StepResult(name="gather", success=False, step_history=[StepResult(name="ok"), inner])
    result = PipelineResult(step_history=[outer], success=False)
    with pytest.raises(PipelineFailed, match="'gather/fetch' after 2 attempts: agent failed") as caught:
        result.unwrap()
    assert caught.value.__cause__ is cause
    assert caught.value.result is result
    assert caught.value.step is inner


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("paused", "is paused at 'ask'"),
        ("cancelled", "was cancelled"),
        ("limit_exceeded", "reached a usage limit"),
    ],
)
def test_raise_for_failure_says_how_the_run_ended(status: Any, says: str) -> None:
    pauses = [Pause(id="1", step="ask", path="ask", message="?")] if status == "paused" else []
    result = PipelineResult(success=False, status=status, pauses=pauses)
    with pytest.raises(PipelineFailed, match=says):
        result.raise_for_failure()
