"""Templates and expressions in Python: step inputs, conditions, and what they may read."""

from __future__ import annotations

import contextlib
import enum
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flujo import Flujo, Pipeline, PipelineContext, Step, step
from flujo._native import Expression, Template
from flujo.agents import Template as TemplateAgent
from flujo.domain.processors import AgentProcessors
from flujo.exceptions import TemplateResolutionError


async def same(data: Any) -> Any:
    return data


async def run(pipeline: Any, data: Any = None, **options: Any) -> Any:
    return await Flujo(pipeline, **options).run_async(data)


# --- the input of a step


async def test_a_step_s_input_is_rendered_before_its_agent_runs() -> None:
    greet = Step("greet", same, input="Hello {{ previous_step.name or 'you' }}, {{ input['n'] + 1 }}")
    assert (await run(greet, {"name": "Ada", "n": 1})).output == "Hello Ada, 2"


async def test_a_single_placeholder_passes_the_object_itself() -> None:
    class Note(BaseModel):
        tags: list[str]

    note, tags = Note(tags=["a"]), {"deep": object()}
    assert (await run(Step("s", same, input="{{ previous_step }}"), note)).output is note
    assert (await run(Step("s", same, input="{{ previous_step.tags }}"), note)).output is note.tags
    assert (await run(Step("s", same, input="{{ input.deep }}"), tags)).output is tags["deep"]
    mixed = await run(Step("s", same, input="{{ [previous_step, 1] }}"), note)
    assert mixed.output[0] is note and mixed.output[1] == 1


async def test_every_way_to_make_a_step_takes_an_input() -> None:
    @step(input="{{ previous_step }}!")
    async def decorated(data: str) -> str:
        return data

    called = Step.from_callable(same, name="called", input="<{{ previous_step }}>")
    assert (await run(decorated >> called, "a")).output == "<a!>"


async def test_the_template_comes_before_the_prompt_processors_and_again_for_each_attempt() -> None:
    seen: list[Any] = []

    class Shout:
        name = "shout"

        async def process(self, data: Any, context: Any) -> Any:
            seen.append(data)
            return data.upper()

    async def second(data: str) -> str:
        if len(seen) < 2:
            raise ValueError("once more")
        return data

    shouting = Step(
        "s", second, input="in: {{ previous_step }}", processors=AgentProcessors(prompt_processors=[Shout()])
    )
    assert (await run(shouting, "x")).output == "IN: X"
    assert seen == ["in: x", "in: x"]


async def test_the_context_and_earlier_steps_are_there_by_name() -> None:
    class Context(PipelineContext):
        tone: str = "brief"

    pipeline = (
        Step("read", same, input="text of {{ previous_step }}")
        >> Step("count", same, input="{{ 3 }}")
        >> Step("say", same, input="{{ steps.read }}|{{ steps.count.output + 1 }}|{{ context.tone }}")
    )
    assert (await run(pipeline, "a", context_model=Context)).output == "text of a|4|brief"


async def test_a_later_step_of_a_name_hides_an_earlier_one() -> None:
    inner = Pipeline([Step("one", same, input="2")]).as_step("inner")
    pipeline = Step("one", same, input="1") >> inner >> Step("end", same, input="{{ steps.one }}")
    assert (await run(pipeline)).output == "2"


async def test_branches_and_items_see_their_own_steps_and_those_before_the_fork() -> None:
    def lane(name: str) -> Pipeline[Any, Any]:
        own = Step("own", same, input=name)
        return own >> Step(f"end_{name}", same, input="{{ steps.before }}{{ steps.own }}")

    before = Step("before", same, input="b")
    fan = Step.parallel("fan", {"x": lane("x"), "y": lane("y")})
    result = await run(
        before >> fan >> Step("end", same, input="{{ steps.fan.x }} {{ steps.own or 'none' }}")
    )
    assert result.step_history[1].output == {"x": "bx", "y": "by"}
    assert result.output == "bx none"

    items = Step.map_over(
        "items",
        Step("own", same, input="{{ previous_step }}{{ steps.before }}")
        >> Step("e", same, input="{{ steps.own }}"),
        max_concurrency=2,
    )
    listed = Step("list", same, input="{{ [1, 2, 3] }}")
    assert (await run(before >> listed >> items)).output == ["1b", "2b", "3b"]


async def test_an_undefined_name_fails_the_step_at_once_and_lists_what_there_is() -> None:
    calls: list[Any] = []
    result = await run(Step("say", calls.append, input="{{ previus_step }}", max_retries=3), 1)
    assert not result.success and calls == []
    assert isinstance(result.step_history[0].error, TemplateResolutionError)
    feedback = result.step_history[0].feedback or ""
    for part in ("'say'", "{{ previus_step }}", "known names: input, previous_step, context, steps"):
        assert part in feedback
    result = await run(Step("say", same, input="{{ steps.missing }}"), 1)
    assert "names in `steps`: none" in (result.step_history[0].feedback or "")
    assert (await run(Step("say", same, input="{{ previus_step or 'b' }}"), 1)).output == "b"


async def test_a_template_that_is_none_is_refused_before_the_run() -> None:
    with pytest.raises(TemplateResolutionError, match=r"'say'.*line 1"):
        await run(Step("say", same, input="{{ previous_step "))


async def test_shipped_agents_read_earlier_steps() -> None:
    pipeline = Step("read", same, input="text") >> Step("say", TemplateAgent("{{ steps.read }}: {{ input }}"))
    assert (await run(pipeline)).output == "text: text"
    fan = Step.parallel(
        "fan", {"x": Step("own", same) >> Step("t", TemplateAgent("{{ steps.read.output }}"))}
    )
    assert (await run(Step("read", same, input="text") >> fan)).output == {"x": "text"}


# --- conditions


@pytest.mark.parametrize("keys", [(True, False), ("true", "false")])
async def test_a_condition_may_be_an_expression_that_is_true_or_false(keys: tuple[Any, Any]) -> None:
    yes, no = keys
    branching = Step.branch_on(
        "b",
        condition_expression="previous_step.score > 0.5 and output.score < 2",
        branches={yes: Step("y", same, input="yes"), no: Step("n", same, input="no")},
    )
    assert (await run(branching, {"score": 1})).output == "yes"
    assert (await run(branching, {"score": 0})).output == "no"


async def test_a_condition_expression_gives_a_key_from_steps_and_context() -> None:
    branching = Step.branch_on(
        "b",
        condition_expression="{{ steps.kind.output if context.initial_prompt else 'none' }}",
        branches={"code": Step("c", same, input="code!")},
        default_branch_pipeline=Step("d", same, input="default"),
    )
    assert (
        await run(Step("kind", same) >> Step("x", same, input="x") >> branching, "code")
    ).output == "code!"
    assert (await run(Step("kind", same) >> branching, "text")).output == "default"


async def test_a_condition_that_names_nothing_fails_the_step() -> None:
    branching = Step.branch_on("b", condition_expression="missing.x", branches={"a": Step("a", same)})
    result = await run(branching)
    assert "'b'" in (result.step_history[0].feedback or "") and "missing" in (
        result.step_history[0].feedback or ""
    )
    with pytest.raises(TypeError, match="either"):
        Step.branch_on("b", branches={"a": Step("a", same)})
    with pytest.raises(TemplateResolutionError, match="is none"):
        await run(Step.branch_on("b", condition_expression="input is None", branches={"a": Step("a", same)}))


# --- what they may read


class Colour(enum.Enum):
    RED = "red"


Point = namedtuple("Point", "x y")


@dataclass
class Data:
    name: str
    parts: list[int] = field(default_factory=list)

    @property
    def computed(self) -> str:
        raise AssertionError("a template called it")

    def method(self) -> str:
        raise AssertionError("a template called it")


class Model(BaseModel):
    title: str
    data: Data

    @property
    def computed(self) -> str:
        raise AssertionError("a template called it")

    def method(self) -> str:
        raise AssertionError("a template called it")


class Bare:
    attribute = 1


def test_fields_entries_and_items_are_read_where_they_lie() -> None:
    value = {
        "model": Model(title="t", data=Data("d", [1, 2])),
        "point": Point(1, 2),
        "colour": Colour.RED,
        "day": date(2026, 1, 2),
        "big": 10**30,
        "set": {5},
        3: "three",
    }
    for source, text in [
        ("{{ input.model.title }}{{ input.model.data.name }}{{ input.model.data.parts[-1] }}", "td2"),
        ("{{ input.model.data }}", '{"name":"d","parts":[1,2]}'),
        ("{{ input.point.x }}{{ input.point[1] }}{{ input.point | length }}", "122"),
        (
            "{{ input.colour }} {{ input.colour.name }} {{ input.day }} {{ input.big }}",
            f"red RED 2026-01-02 {10**30}",
        ),
        ("{{ input.set | first }} {{ input[3] }} {{ input | length }}", "5 three 7"),
        ("{% for name, part in input.model.data.items() %}{{ name }};{% endfor %}", "name;parts;"),
        ("{{ input.model.data.parts | sum }} {{ input.get('nothing', 'd') }}", "3 d"),
    ]:
        assert Template(source).render(value) == text, source


@pytest.mark.parametrize(
    "source",
    [
        "{{ input.model.method() }}",
        "{{ input.model.computed }}",
        "{{ input.model.data.computed }}",
        "{{ input.model.data.method() }}",
        "{{ input.model.__class__ }}",
        "{{ input.model['__dict__'] }}",
        "{{ input._private }}",
        "{{ input.bare.attribute }}",
        "{{ input.bare }}",
        "{{ input.call() }}",
        "{{ input.model.model_dump() }}",
        "{{ input.model | attr('__class__') }}",
    ],
)
def test_methods_properties_and_private_names_are_out_of_reach(source: str) -> None:
    value = {"model": Model(title="t", data=Data("d")), "_private": 1, "bare": Bare(), "call": print}
    with pytest.raises(TemplateResolutionError):
        Template(source).render(value)


def test_data_that_holds_itself_is_found_out() -> None:
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    with pytest.raises(TemplateResolutionError, match="holds itself"):
        Template("{{ input }}").render(cyclic)
    Template("{{ input ~ '' }}").render([cyclic, cyclic])


def test_work_without_end_is_stopped() -> None:
    endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateResolutionError, match="more work"):
        Template(endless).render(1)


def test_an_exit_expression_has_its_own_names() -> None:
    done = Expression("output.score > 0.9 or iteration >= 3")
    assert done.is_true({"score": 1}, output={"score": 1}, iteration=1) is True
    assert done.is_true({"score": 0}, output={"score": 0}, iteration=1) is False
    assert done({"score": 0}, output={"score": 0}, iteration=3) is True
    assert Expression("context.x")(None, {"x": [1]}) == [1]


@given(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_no_text_makes_a_template_panic(source: str, value: Any) -> None:
    for text in (source, "{{ " + source + " }}", "{% " + source + " %}"):
        with contextlib.suppress(TemplateResolutionError):
            Template(text)(value, {"a": value}, more=value)
