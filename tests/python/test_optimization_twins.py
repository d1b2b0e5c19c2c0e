"""The plain and the optimised form of contexts and of analysis: equal results, each counted, who takes over when."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel, Field

from flujo import Flujo, OptimizationConfig, Pipeline, PipelineContext, Step, step

PLAIN_CONTEXT = OptimizationConfig(enable_context_optimization=False)
PLAIN_ANALYSIS = OptimizationConfig(enable_step_analysis=False)


class Item:
    """Compared by identity: two copies of it are never equal."""

    def __init__(self, name: str) -> None:
        self.name = name


class Board(PipelineContext):
    log: list[str] = Field(default_factory=list)
    items: list[Any] = Field(default_factory=list)
    nested: dict[str, Any] = Field(default_factory=dict)
    lock: Any = None


def note(name: str, optimization: OptimizationConfig | None = None) -> Step[Any, Any]:
    async def work(value: int, context: Board) -> int:
        context.log.append(name)
        return value + 1

    return step(name=name, optimization=optimization)(work)


def fan(*names: str) -> Step[Any, Any]:
    return Step.parallel("fan", {name: note(name) for name in names})


def start() -> dict[str, Any]:
    return {"items": [Item("one")], "nested": {"a": {"b": [1, 2]}}, "lock": threading.Lock()}


@pytest.mark.parametrize("optimized", [True, False])
def test_branches_that_write_one_field_merge_also_where_the_others_hold_what_is_equal_to_nothing(
    optimized: bool,
) -> None:
    config = OptimizationConfig(enable_context_optimization=optimized)
    data = start()
    runner = Flujo(
        note("first") >> fan("a", "b"),
        context_model=Board,
        initial_context_data=data,
        optimization_config=config,
    )
    result = runner.run(1)
    context = result.final_pipeline_context
    assert result.success, result.step_history[-1].feedback
    assert context.log == ["first", "a", "b"]
    assert context.items[0].name == "one" and context.items[0] is not data["items"][0]
    assert context.nested == {"a": {"b": [1, 2]}}
    assert context.lock is data["lock"]


def test_the_plain_form_copies_every_field_at_each_fork_and_the_optimized_one_what_is_touched() -> None:
    counts = []
    for config in (OptimizationConfig(), PLAIN_CONTEXT):
        runner = Flujo(
            note("first"), context_model=Board, initial_context_data=start(), optimization_config=config
        )
        runner.run(1)
        statistics = runner.get_performance_statistics()
        counts.append(statistics["context_stats"])
        twin = "optimized" if config.enable_context_optimization else "plain"
        assert statistics["optimizations"]["context"]["twin"] == twin
    views, copies = counts
    assert views["forks"] == copies["forks"] == 1
    assert views["fields_cloned"] == 1  # the log
    assert copies["fields_cloned"] > 6
    assert copies["bytes_cloned"] > views["bytes_cloned"] > 0


def test_one_step_may_use_the_plain_form_alone() -> None:
    def cloned(second: OptimizationConfig | None) -> int:
        runner = Flujo(
            note("first") >> note("second", second), context_model=Board, initial_context_data=start()
        )
        assert runner.run(1).final_pipeline_context.log == ["first", "second"]
        cloned: int = runner.get_performance_statistics()["context_stats"]["fields_cloned"]
        return cloned

    assert cloned(None) == 2
    assert cloned(PLAIN_CONTEXT) > 4


class Slotted(BaseModel):
    """A class that admits no views."""

    __slots__ = ("cache",)
    seen: int = 0


def test_a_context_that_admits_no_views_is_copied_whole_and_one_alert_says_so() -> None:
    @step
    async def count(value: int, context: Slotted) -> int:
        context.seen += 1
        return value

    runner = Flujo(count, context_model=Slotted)
    assert [runner.run(1).final_pipeline_context.seen for _ in range(3)] == [1, 1, 1]
    statistics = runner.get_performance_statistics()
    (alert,) = statistics["alerts"]
    assert (alert["kind"], alert["part"]) == ("degraded", "context")
    assert "Slotted" in alert["message"] and "slots" in alert["message"]
    assert statistics["optimizations"]["context"]["twin"] == "plain"
    plain = Flujo(count, context_model=Slotted, enable_optimizations=False)
    assert plain.run(1).final_pipeline_context.seen == 1
    assert plain.get_performance_statistics()["alerts"] == []


def test_the_plain_form_analyses_for_each_run() -> None:
    for config, expected in ((OptimizationConfig(), 1), (PLAIN_ANALYSIS, 5)):
        runner = Flujo(note("a") >> note("b"), context_model=Board, optimization_config=config)
        assert [runner.run(1).output for _ in range(5)] == [3] * 5
        assert runner.get_performance_statistics()["analysis_stats"]["analyses"] == expected


def test_a_pipeline_may_ask_for_the_plain_form_itself() -> None:
    pipeline = Pipeline([note("a")], optimization=PLAIN_ANALYSIS)
    runner = Flujo(pipeline, context_model=Board)
    for _ in range(4):
        runner.run(1)
    statistics = runner.get_performance_statistics()
    assert statistics["analysis_stats"]["analyses"] == 4
    assert statistics["optimizations"]["analysis"]["twin"] == "plain"


def test_an_analysis_that_was_kept_and_is_no_good_is_made_anew_and_one_alert_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @step
    async def more(value: int) -> int:
        return value + 1

    runner = Flujo(more)
    compile_pipeline = runner._compile

    def spoilt(fresh: bool) -> Any:
        return compile_pipeline(True) if fresh else "what was kept is spoilt"

    spoilt_engine = type(runner._engine)(spoilt, workers=object(), runs=runner._runs)
    monkeypatch.setattr(runner, "_engine", spoilt_engine)
    for _ in range(3):
        assert runner.run(1).output == 2
    statistics = runner.get_performance_statistics()
    (alert,) = statistics["alerts"]
    assert (alert["kind"], alert["part"]) == ("degraded", "analysis")
    assert statistics["execution_count"] == 3
    assert statistics["optimizations"]["analysis"]["twin"] == "plain"


def test_a_definition_that_is_wrong_is_refused_and_no_part_is_blamed() -> None:
    runner = Flujo(Step("empty", None))
    for _ in range(2):
        with pytest.raises(Exception, match="has no agent"):
            runner.run(1)
    assert runner.get_performance_statistics()["alerts"] == []
