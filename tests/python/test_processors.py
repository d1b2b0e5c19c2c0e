"""The processors that ship."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from flujo.domain.context import PipelineContext
from flujo.domain.processors import Processor
from flujo.processors import (
    AddContextVariables,
    DeterministicRepairProcessor,
    DiffProcessor,
    EnforceJsonResponse,
    JsonRegionExtractor,
    SerializePydantic,
    SmartTypeCoercion,
    StripMarkdownFences,
    TolerantJsonDecoder,
)
from flujo.processors.json_output import json_region, mend_json


class Order(PipelineContext):
    customer: str = "Ada"
    address: dict[str, str] = Field(default_factory=lambda: {"city": "London"})
    draft: str = "a\nb\nc"


@pytest.mark.parametrize(
    "processor",
    [
        AddContextVariables(["customer"]),
        StripMarkdownFences(),
        EnforceJsonResponse(),
        SerializePydantic(),
        DeterministicRepairProcessor(),
        JsonRegionExtractor(),
        TolerantJsonDecoder(),
        SmartTypeCoercion({"type": "integer"}),
    ],
)
async def test_every_processor_has_a_name_and_lets_other_values_pass(processor: Any) -> None:
    assert isinstance(processor, Processor)
    value = object()
    assert await processor.process(value, Order()) is value


async def test_context_variables_come_before_the_prompt() -> None:
    processor = AddContextVariables(["customer", "address.city"])
    assert (
        await processor.process("Write.", Order())
        == "Context:\ncustomer: Ada\naddress.city: London\n\nWrite."
    )


async def test_a_missing_context_variable_is_named() -> None:
    with pytest.raises(ValueError, match=r"nothing at 'address\.street'"):
        await AddContextVariables(["address.street"]).process("x", Order())


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("```python\nx = 1\n```", "python", "x = 1"),
        ("Here:\n```\nx\ny\n```\nDone.", None, "x\ny"),
        ("```json\n{}\n```", "python", "```json\n{}\n```"),
        ("plain", None, "plain"),
        ("````md\n```\ninner\n```\n````", None, "```\ninner\n```"),
        ("~~~sql\nselect 1\n~~~", "sql", "select 1"),
    ],
)
async def test_fences_are_taken_off(text: str, language: str | None, expected: str) -> None:
    assert await StripMarkdownFences(language).process(text, None) == expected


async def test_a_response_that_must_be_json_is_read_or_refused() -> None:
    processor = EnforceJsonResponse()
    assert await processor.process('{"a": [1]}', None) == {"a": [1]}
    assert await processor.process('```json\n{"a": 1}\n```', None) == {"a": 1}
    with pytest.raises(ValueError, match="must be JSON"):
        await processor.process("{'a': 1}", None)


class Point(BaseModel):
    x: int
    label: str | None = None


async def test_models_become_plain_data() -> None:
    assert await SerializePydantic().process(Point(x=1), None) == {"x": 1, "label": None}
    assert await SerializePydantic().process(Point, None) is Point


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ('Sure: {"a": {"b": "}"}} bye', '{"a": {"b": "}"}}'),
        ("[1] and [1, 2, 3]", "[1, 2, 3]"),
        ("{broken and [1, 2]", "[1, 2]"),
        ("none", None),
        ('{"a": "\\""}', '{"a": "\\""}'),
    ],
)
def test_the_longest_closed_region_is_found(text: str, region: str | None) -> None:
    assert json_region(text) == region


async def test_a_region_is_taken_out_of_prose() -> None:
    assert await JsonRegionExtractor().process('It is {"a": 1}.', None) == '{"a": 1}'
    assert await JsonRegionExtractor().process("nothing", None) == "nothing"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': 'it\\'s', 'b': True, 'c': None}", {"a": "it's", "b": True, "c": None}),
        ('{"a": 1, "b": [1, 2,],}', {"a": 1, "b": [1, 2]}),
        ('{a: 1, b_c: "x"}', {"a": 1, "b_c": "x"}),
        ('{"a": [1, 2', {"a": [1, 2]}),
        ('{"a": "cut o', {"a": "cut o"}),
        ('{"a":', {"a": None}),
        ('{"a": 1 /* one */, // two\n "b": 2}', {"a": 1, "b": 2}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        ("Here it is:\n```json\n{'a': 1}\n```\nDone.", {"a": 1}),
        ("The answer is {'a': 1} I think.", {"a": 1}),
        ("{“a”: “b”}", {"a": "b"}),
        ('{"a": [1, 2}', {"a": [1, 2]}),
        ("{'a': 'say \"hi\"'}", {"a": 'say "hi"'}),
        ('{"url": "http://x/#y"}', {"url": "http://x/#y"}),
        ("{'path': 'C:\\dir'}", {"path": "C:\\dir"}),
    ],
)
async def test_usual_mistakes_are_mended(text: str, value: Any) -> None:
    assert json.loads(mend_json(text)) == value
    assert json.loads(await DeterministicRepairProcessor().process(text, None)) == value
    assert await TolerantJsonDecoder().process(text, None) == value


async def test_what_is_no_json_is_refused_by_the_one_and_passed_by_the_other() -> None:
    with pytest.raises(ValueError, match="can't be mended"):
        await DeterministicRepairProcessor().process("just words", None)
    assert await TolerantJsonDecoder().process("just words", None) == "just words"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_valid_json_comes_out_as_it_went_in(value: Any) -> None:
    text = json.dumps(value)
    assert mend_json(text) == text


@given(st.lists(values, min_size=1) | st.dictionaries(st.text(), values, min_size=1))
def test_json_written_as_python_or_within_prose_keeps_its_value(value: Any) -> None:
    assert json.loads(mend_json(f"Result:\n{json.dumps(value)}\nEnd")) == value


@given(st.text(alphabet="{}[]\"'\\:,/*#` \nab1", max_size=40))
def test_mending_ends_in_json_or_a_clear_error(text: str) -> None:
    try:
        json.loads(mend_json(text))
    except ValueError as error:
        assert "isn't JSON" in str(error)


class Measure(BaseModel):
    count: int
    ratio: float
    ok: bool
    tags: list[int]
    point: Point
    maybe: int | None = None
    by_name: dict[str, int] = {}


async def test_texts_become_what_the_model_asks_for() -> None:
    given = {
        "count": "3",
        "ratio": "0.5",
        "ok": "yes",
        "tags": "[1, 2]",
        "point": {"x": "7"},
        "maybe": "4",
        "by_name": {"a": "1"},
    }
    coerced = await SmartTypeCoercion(Measure).process(given, None)
    assert coerced == {
        "count": 3,
        "ratio": 0.5,
        "ok": True,
        "tags": [1, 2],
        "point": {"x": 7},
        "maybe": 4,
        "by_name": {"a": 1},
    }
    Measure.model_validate(coerced, strict=True)


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, "three", "three"),
        ({"type": "integer"}, 3.0, 3),
        ({"type": "boolean"}, "maybe", "maybe"),
        ({"type": "string"}, "3", "3"),
        ({"type": ["integer", "null"]}, "null", None),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "3", "3"),
        ({"type": "array", "items": {"type": "number"}}, ["1", "2.5", "x"], [1, 2.5, "x"]),
        ({}, "3", "3"),
    ],
)
async def test_what_does_not_fit_is_left_for_validation(schema: Any, value: Any, expected: Any) -> None:
    coerced = await SmartTypeCoercion(schema).process(value, None)
    assert coerced == expected
    assert type(coerced) is type(expected)


async def test_a_diff_shows_what_changed_since_the_context_s_text() -> None:
    diff = await DiffProcessor(against="draft", lines=0).process("a\nB\nc", Order())
    assert diff.splitlines()[-2:] == ["-b", "+B"]
    assert await DiffProcessor(against="draft").process("a\nb\nc", Order()) == ""
    with pytest.raises(TypeError, match="the output is int"):
        await DiffProcessor(against="draft").process(3, Order())


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_a_text_that_is_cut_off_after_any_value_keeps_what_came_before(value: dict[str, Any]) -> None:
    text = json.dumps(value)[:-1]
    assert json.loads(mend_json(text)) == value


def test_looking_through_a_large_text_takes_steps_in_proportion_to_its_length() -> None:
    # Each of these would need some 10¹² steps if every opening bracket were followed to the end.
    for text in (
        "[" * 1_000_000,
        "{ \"a' " * 300_000,
        '"' * 1_000_001,
        "]" * 1_000_000,
        '["' + '\\"' * 500_000,
    ):
        assert json_region(text) is None
    assert json_region("[" * 1_000_000 + "]") == "[]"
