"""Pipelines and constructs: `>>`, checks at construction, factories, drawing."""

from enum import Enum
from typing import Any, Literal

import pytest

import flujo.domain
import flujo.domain.dsl
from flujo.domain.dsl import (
    BranchFailureStrategy,
    ConditionalStep,
    MapStep,
    MergeStrategy,
    ParallelStep,
    Pipeline,
    Step,
    StepConfig,
    SubPipelineStep,
    step,
)


@step
async def parse(text: str) -> int:
    return int(text)


@step
def half(number: int) -> float:
    return number / 2


@step
def show(number: float) -> str:
    return str(number)


def names(pipeline: Pipeline[Any, Any]) -> list[str]:
    return [one.name for one in pipeline.iter_steps()]


def test_composing_is_flat_on_either_side() -> None:
    one = parse >> half
    assert names(one) == ["parse", "half"]
    assert names(one >> show) == ["parse", "half", "show"]
    assert names(parse >> (half >> show)) == ["parse", "half", "show"]
    assert names(one >> (show >> Step("end", len))) == ["parse", "half", "show", "end"]
    assert names(one) == ["parse", "half"]
    assert one.steps[0] is parse


def test_composing_keeps_name_and_hooks_of_both_sides() -> None:
    left = Pipeline([parse], name="left", hooks=[print], on_finish=[len])
    right = Pipeline([half], name="right", hooks=[repr])
    joined = left >> right
    assert joined.name == "left"
    assert joined.hooks == [print, repr]
    assert joined.on_finish == [len]
    assert (parse >> right).name == "right"


def test_the_types_of_a_pipeline_are_those_of_its_ends() -> None:
    pipeline = parse >> half
    assert (pipeline.input_type, pipeline.output_type) == (str, float)
    assert Pipeline().input_type is Any


def test_types_that_can_not_fit_are_refused_where_they_meet() -> None:
    with pytest.raises(ValueError, match=r"step 'half' gives float, but the next step 'parse' takes str"):
        half >> parse
    with pytest.raises(ValueError, match="'half' gives float"):
        Pipeline([parse, half, parse])
    with pytest.raises(ValueError, match=r"'map' gives list\[int\], but the next step 'half' takes int"):
        Step.map_over("map", parse) >> half


def test_two_different_steps_of_one_name_are_refused_and_one_step_twice_is_not() -> None:
    with pytest.raises(ValueError, match="two different steps are named 'same'"):
        Step("same", len) >> Step("same", len)
    again = Step("again", lambda data: data)
    assert names(again >> again) == ["again", "again"]


@pytest.mark.parametrize("right", [len, 3, None, "x"])
def test_only_steps_and_pipelines_can_be_composed(right: Any) -> None:
    with pytest.raises(TypeError):
        parse >> right


def test_a_function_in_place_of_a_step_gets_the_cure() -> None:
    with pytest.raises(TypeError, match="decorate the function with @step"):
        parse >> len
    with pytest.raises(TypeError, match="decorate the function with @step"):
        Pipeline([len])
    with pytest.raises(TypeError, match="join pipelines with >>"):
        Pipeline([Pipeline()])


def test_a_pipeline_becomes_a_step() -> None:
    nested = (parse >> half).as_step("nested", inherit_context=False, deadline_s=3)
    assert isinstance(nested, SubPipelineStep)
    assert (nested.name, nested.inherit_context) == ("nested", False)
    assert nested.config == StepConfig(deadline_s=3)
    assert names(nested.pipeline) == ["parse", "half"]
    assert (nested.input_type, nested.output_type) == (str, float)
    assert (parse >> half).as_step("n").inherit_context


def test_parallel_keeps_what_it_was_given_and_its_defaults() -> None:
    made = Step.parallel("split", {"b": parse, "a": parse >> half}, deadline_s=2)
    assert isinstance(made, ParallelStep)
    assert list(made.branches) == ["b", "a"]
    assert names(made.branches["b"]) == ["parse"]
    assert made.merge_strategy is MergeStrategy.CONTEXT_UPDATE
    assert made.on_branch_failure is BranchFailureStrategy.PROPAGATE
    assert made.context_include_keys is None and made.field_mapping is None and made.reduce is None
    assert made.max_concurrency is None and made.ignore_branch_names is False
    assert made.config.deadline_s == 2
    assert made.input_type is str


def test_strategies_may_be_given_as_text_or_as_a_function() -> None:
    def keep(context: Any, branches: Any) -> None: ...

    made = Step.parallel("split", {"a": parse}, merge_strategy="overwrite", on_branch_failure="ignore")
    assert made.merge_strategy is MergeStrategy.OVERWRITE
    assert made.on_branch_failure is BranchFailureStrategy.IGNORE
    assert Step.parallel("split", {"a": parse}, merge_strategy=keep).merge_strategy is keep


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"branches": {}}, ValueError, "needs at least one branch"),
        ({"branches": [parse]}, TypeError, r"ParallelStep\.branches"),
        ({"branches": {1: parse}}, TypeError, r"ParallelStep\.branches: key = 1"),
        ({"branches": {"a": len}}, TypeError, r"branches\['a'\] = .*decorate the function"),
        ({"merge_strategy": "best"}, ValueError, "one of 'no_merge', 'overwrite'"),
        ({"merge_strategy": 3}, TypeError, "merge_strategy"),
        ({"on_branch_failure": "retry"}, ValueError, "one of 'propagate', 'ignore'"),
        ({"field_mapping": {"b": ["x"]}}, ValueError, "'b', which is no branch; branches: 'a'"),
        ({"max_concurrency": 0}, ValueError, "1 or more"),
        ({"reduce": 3}, TypeError, r"ParallelStep\.reduce = 3"),
        ({"max_concurency": 1}, TypeError, "did you mean 'max_concurrency'"),
    ],
)
def test_a_wrong_parallel_step_is_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Step.parallel(**{"name": "split", "branches": {"a": parse}, **options})


def test_branch_on_keeps_what_it_was_given() -> None:
    def choose(text: str, context: object) -> str:
        return "int"

    made = Step.branch_on(
        "choose", choose, {"int": parse}, default_branch_pipeline=parse >> half, branch_input_mapper=str
    )
    assert isinstance(made, ConditionalStep)
    assert made.condition_callable is choose
    assert names(made.branches["int"]) == ["parse"]
    assert made.default_branch_pipeline is not None and names(made.default_branch_pipeline) == [
        "parse",
        "half",
    ]
    assert made.branch_input_mapper is str and made.branch_output_mapper is None
    with pytest.raises(ValueError, match="needs at least one branch"):
        Step.branch_on("choose", choose, {})
    with pytest.raises(TypeError, match=r"ConditionalStep\.condition_callable = 'kind'"):
        Step.branch_on("choose", "kind", {"a": parse})


def test_map_over_keeps_what_it_was_given_and_its_defaults() -> None:
    made = Step.map_over("map", parse)
    assert isinstance(made, MapStep)
    assert (made.iterable_input, made.max_concurrency, made.on_item_failure) == (None, 1, "fail")
    other = Step.map_over(
        "map", parse >> half, iterable_input="texts", max_concurrency=4, on_item_failure="skip"
    )
    assert (other.iterable_input, other.max_concurrency, other.on_item_failure) == ("texts", 4, "skip")
    for options, text in (
        ({"iterable_input": 3}, "a context field's name"),
        ({"max_concurrency": 0}, "1 or more"),
        ({"on_item_failure": "ignore"}, "one of 'fail', 'skip', 'none'"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            Step.map_over("map", parse, **options)


def test_the_named_factories_have_their_names() -> None:
    assert Step.solution(len).name == "solution"
    assert Step.review(len, name="second").name == "second"
    strict = Step.validate_step(len)
    assert strict.name == "validate"
    assert strict.meta == {"is_validation_step": True, "strict_validation": True}
    assert Step.validate_step(len, strict=False).meta["strict_validation"] is False


async def test_use_input_takes_a_key_or_an_attribute() -> None:
    made = Step.use_input("size")
    assert await made.arun({"size": 3}) == 3
    assert await made.arun(type("Box", (), {"size": 4})()) == 4
    with pytest.raises(KeyError, match="no key 'size'; it has 'width'"):
        await made.arun({"width": 3})


def test_every_exported_name_can_be_loaded() -> None:
    for module in (flujo.domain, flujo.domain.dsl):
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'Stepp'"):
            module.Stepp  # noqa: B018
        assert set(module.__all__) <= set(dir(module))
    assert flujo.domain.dsl.step is step


def test_the_drawing_shows_every_construct() -> None:
    split = Step.parallel(
        "split", {"a": Step.from_mapper(len, name="left"), "b": Step.from_mapper(len, name="right")}
    )
    choose = Step.branch_on("choose", lambda text: "x", {"x": Step.from_mapper(str, name='say "x"')})
    mapped = Step.map_over("map", Step("each", lambda item: item).fallback(Step("spare", lambda item: item)))
    nested = Pipeline([mapped]).as_step("nested")
    drawn = Pipeline([split, choose, nested]).to_mermaid()
    assert drawn.splitlines()[0] == "flowchart TD"
    for text in (
        '[/"split"/]',
        '-->|"a"|',
        '{"choose"}',
        '["say &quot;x&quot;"]',
        '[["nested"]]',
        '-->|"each item"|',
        "-.->|fallback|",
    ):
        assert text in drawn
    assert drawn.count("subgraph ") == drawn.count("    end\n") == 4


def test_long_chains_of_fallbacks_are_checked_and_drawn() -> None:
    first = last = Step("0", lambda data: data)
    for number in range(1, 5_000):
        last.fallback(following := Step(f"{number}", lambda data: data))
        last = following
    pipeline = Pipeline([first])
    assert rules(pipeline) == []
    assert pipeline.to_mermaid().count("fallback") == 4_999
    last.fallback(first)
    assert [rule for rule, _ in rules(pipeline)] == ["V-F1"]


def test_deep_nesting_is_drawn_and_checked_without_recursion() -> None:
    pipeline: Pipeline[Any, Any] = Pipeline([Step("core", lambda data: data)])
    for depth in range(10_000):
        pipeline = Pipeline([pipeline.as_step(f"level {depth}")])
    assert pipeline.validate_graph().is_valid
    assert pipeline.to_mermaid().count("subgraph") == 10_000


# --- validate_graph


def rules(pipeline: Pipeline[Any, Any]) -> list[tuple[str, str | None]]:
    report = pipeline.validate_graph()
    for finding in [*report.errors, *report.warnings]:
        assert finding.message and finding.suggestion
    return [(finding.rule_id, finding.location_path) for finding in [*report.errors, *report.warnings]]


def test_a_sound_pipeline_has_no_findings() -> None:
    split = Step.parallel("split", {"a": parse, "b": parse})
    assert rules(parse >> half >> show) == []
    assert rules(Pipeline([split, Step.map_over("map", show, iterable_input="numbers")])) == []


def test_a_step_without_an_agent_is_found_at_any_depth() -> None:
    empty = Step("empty")
    body = Step.map_over("map", Step.parallel("split", {"a": Pipeline([empty])}))
    assert rules(Pipeline([Pipeline([body]).as_step("outer")])) == [("V-A1", "outer/map/split/a/empty")]


def test_findings_of_later_changes_are_reported() -> None:
    pipeline = parse >> half
    pipeline.steps.append(Step("parse", len))
    assert ("V-N1", "parse") in rules(pipeline)
    pipeline = parse >> half
    pipeline.steps.reverse()
    assert rules(pipeline) == [("V-A2", "parse")]
    split = Step.parallel("split", {"a": parse})
    split.branches.clear()
    assert rules(Pipeline([split])) == [("V-B1", "split")]


def test_a_branch_that_can_not_take_what_comes_is_found() -> None:
    split = Step.parallel("split", {"a": half, "b": Step("any", lambda data: data)})
    assert rules(Pipeline([show, split])) == [("V-A2", "split/a/half")]


def test_a_circle_of_fallbacks_is_one_finding() -> None:
    one, other = Step("one", len), Step("other", len)
    one.fallback(other)
    other.fallback(one)
    assert rules(Pipeline([one])) == [("V-F1", "one")]
    alone = Step("alone", len)
    assert rules(Pipeline([alone.fallback(alone)])) == [("V-F1", "alone")]


def test_a_pipeline_that_contains_itself_is_found_and_drawn() -> None:
    pipeline: Pipeline[Any, Any] = Pipeline([Step("work", len)])
    pipeline.steps.append(pipeline.as_step("again"))
    assert rules(pipeline) == [("V-S1", "again")]
    assert pipeline.to_mermaid().count("subgraph") == 1


def test_one_pipeline_in_many_places_is_checked_once() -> None:
    shared: Pipeline[Any, Any] = Pipeline([Step("empty")])
    for level in range(60):
        shared = Pipeline([Step.parallel(f"split {level}", {"a": shared, "b": shared})])
    assert len(rules(shared)) == 1


def test_branches_are_compared_with_the_values_a_condition_may_give() -> None:
    class Kind(Enum):
        A = "a"
        B = "b"

    def by_literal(text: str, context: object) -> Literal["a", "b"]:
        return "a"

    def by_bool(text: str) -> bool:
        return True

    async def by_enum(text: str) -> Kind:
        return Kind.A

    work = Step("work", lambda data: data)
    assert rules(Pipeline([Step.branch_on("c", by_literal, {"a": work, "c": work})])) == [
        ("V-R1", "c"),
        ("V-R2", "c"),
    ]
    assert rules(Pipeline([Step.branch_on("c", by_bool, {True: work}, default_branch_pipeline=work)])) == []
    assert rules(Pipeline([Step.branch_on("c", by_enum, {Kind.A: work})])) == [("V-R2", "c")]


def test_settings_without_effect_or_sense_are_warned_of() -> None:
    pipeline = Pipeline([parse.model_copy(update={"updates_context": True})])
    pipeline.steps[0].config = StepConfig(timeout_s=5, deadline_s=1, max_retries=0, retry_on=TimeoutError)
    assert [rule for rule, _ in rules(pipeline)] == ["V-T1", "V-T2", "V-C1"]
    assert pipeline.validate_graph().is_valid


def test_raise_on_error_names_every_finding() -> None:
    from flujo.exceptions import ConfigurationError

    pipeline = Pipeline([Step("one"), Step("two")], name="broken")
    with pytest.raises(ConfigurationError, match=r"'broken' can't run") as caught:
        pipeline.validate_graph(raise_on_error=True)
    assert "'one'" in str(caught.value) and "'two'" in str(caught.value)
    (parse >> half).validate_graph(raise_on_error=True)
