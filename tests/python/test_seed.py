"""The snippets that Flujo's first users know, run as they stand; each must have its effect."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from flujo import Flujo, Pipeline, PipelineContext, Step
from flujo.application.core.executor_core import OptimizationConfig

ENABLED = """
from flujo.application.runner import Flujo

# Optimizations are enabled by default
runner = Flujo(pipeline=my_pipeline)
"""

DISABLED = """
from flujo.application.runner import Flujo

# Disable optimizations for compatibility
runner = Flujo(pipeline=my_pipeline, enable_optimizations=False)
"""

RUN_TIME_CONTROL = """
# Enable optimizations at runtime
runner.enable_optimizations()

# Disable optimizations at runtime
runner.disable_optimizations()

# Get performance statistics
stats = runner.get_performance_statistics()
print(stats)
"""

CONFIGURATION = """
from flujo.application.core.executor_core import OptimizationConfig

config = OptimizationConfig(
    enable_object_pooling=True,
    enable_context_optimization=True,
    enable_step_analysis=True,
    enable_telemetry_optimization=True,
    enable_performance_monitoring=True,
    enable_cache_optimization=True,
    enable_usage_optimization=True,

    # Performance thresholds
    execution_time_threshold=1.0,  # seconds
    memory_usage_threshold=100.0,  # MB
    cache_hit_rate_threshold=0.8,  # 80%

    # Object pooling settings
    max_pool_size=100,

    # Cache settings
    cache_max_size=1024,
    cache_ttl_seconds=3600,
)
"""

METRICS = """
stats = runner.get_performance_statistics()

# Available metrics:
# - execution_count: Total number of executions
# - total_execution_time: Total execution time
# - average_execution_time: Average execution time
# - cache_hits: Number of cache hits
# - cache_misses: Number of cache misses
# - cache_hit_rate: Cache hit rate percentage
# - execution_time_stats: Detailed execution time statistics
# - error_stats: Error execution statistics
# - telemetry_metrics: Telemetry performance metrics
"""


async def _double(x: int) -> int:
    return x * 2


async def _fail(x: int) -> int:
    raise KeyError("missing")


def _after(snippet: str, **names: Any) -> dict[str, Any]:
    exec(dedent(snippet), names)
    return names


def _pipeline() -> Pipeline[int, int]:
    return Step("double", _double) >> Step("again", _double)


def _twin(statistics: dict[str, Any]) -> str:
    """The one part that this version has in both forms."""
    assert len(statistics["optimizations"]) == 7
    assert all(part["reason"] for part in statistics["optimizations"].values())
    twin: str = statistics["optimizations"]["analysis"]["twin"]
    return twin


def test_optimisations_are_on_by_default_and_the_runner_runs() -> None:
    runner = _after(ENABLED, my_pipeline=_pipeline())["runner"]
    assert runner.run(3).output == 12
    statistics = runner.get_performance_statistics()
    assert statistics["execution_count"] == 1
    assert _twin(statistics) == "optimized"


def test_optimisations_can_be_off_and_the_result_is_the_same() -> None:
    runner = _after(DISABLED, my_pipeline=_pipeline())["runner"]
    assert runner.run(3).output == 12
    statistics = runner.get_performance_statistics()
    assert statistics["execution_count"] == 1
    assert _twin(statistics) == "plain"


def test_optimisations_are_switched_at_run_time(capsys: pytest.CaptureFixture[str]) -> None:
    runner = Flujo(pipeline=_pipeline())
    runner.run(1)
    stats = _after(RUN_TIME_CONTROL, runner=runner)["stats"]
    assert "execution_count" in capsys.readouterr().out
    assert _twin(stats) == "plain"
    assert stats["execution_count"] == 1
    runner.run(1)
    runner.enable_optimizations()
    runner.run(1)
    later = runner.get_performance_statistics()
    assert _twin(later) == "optimized"
    assert later["execution_count"] == 3


def test_the_plain_analysis_analyses_every_run_and_the_optimised_one_once() -> None:
    runner = Flujo(_pipeline())
    for _ in range(5):
        runner.run(1)
    assert runner.get_performance_statistics()["analysis_stats"]["analyses"] == 1
    runner.disable_optimizations()
    for _ in range(5):
        runner.run(1)
    assert runner.get_performance_statistics()["analysis_stats"]["analyses"] == 6


def test_a_changed_step_is_analysed_anew() -> None:
    async def triple(x: int) -> int:
        return x * 3

    pipeline = _pipeline()
    runner = Flujo(pipeline)
    assert runner.run(1).output == 4
    pipeline.steps[0].agent = triple
    assert runner.run(1).output == 6
    pipeline.steps.append(Step("third", _double))
    assert runner.run(1).output == 12
    pipeline.steps[2].config.max_retries = 0
    assert runner.run(1).output == 12
    assert runner.get_performance_statistics()["analysis_stats"]["analyses"] == 4


def test_the_configuration_has_its_documented_fields_and_is_used() -> None:
    config = _after(CONFIGURATION)["config"]
    assert config == OptimizationConfig()
    runner = Flujo(pipeline=_pipeline(), optimization_config=config.replace(enable_step_analysis=False))
    assert runner.run(3).output == 12
    twins = runner.get_performance_statistics()["optimizations"]
    assert twins["analysis"]["twin"] == "plain"
    assert "enable_step_analysis is off" in twins["analysis"]["reason"]


def test_the_metrics_have_every_documented_key_with_real_values() -> None:
    runner = Flujo(_pipeline() >> Step("fail", _fail, max_retries=0))
    for _ in range(3):
        runner.run(1)
    stats = _after(METRICS, runner=runner)["stats"]
    assert stats["execution_count"] == 3
    assert stats["total_execution_time"] > 0
    assert stats["average_execution_time"] == pytest.approx(stats["total_execution_time"] / 3)
    assert (stats["cache_hits"], stats["cache_misses"], stats["cache_hit_rate"]) == (0, 0, 0.0)
    times = stats["execution_time_stats"]
    assert times["count"] == 3 and times["min"] <= times["p50"] <= times["p99"]
    assert {name: row["count"] for name, row in times["by_step"].items()} == {
        "double": 3,
        "again": 3,
        "fail": 3,
    }
    errors = stats["error_stats"]
    assert errors["by_type"] == {"KeyError": 3} and errors["by_step"] == {"fail": 3}
    assert stats["memory_stats"]["current_rss_bytes"] > 0
    for key in ("telemetry_metrics", "pool_stats", "context_stats", "usage_stats", "memory_stats", "alerts"):
        assert key in stats
    runner.reset_performance_statistics()
    assert runner.get_performance_statistics()["execution_count"] == 0


def test_a_reset_counts_contexts_and_analyses_anew_too() -> None:
    async def writes(x: int, *, context: PipelineContext) -> int:
        context.scratch = [x]
        return x

    fan = Step.parallel("fan", {"a": Step("a", writes), "b": Step("b", writes)}, merge_strategy="overwrite")
    runner = Flujo(fan)
    assert runner.run(1).success

    def counts() -> set[int]:
        stats = runner.get_performance_statistics()
        context = {key: value for key, value in stats["context_stats"].items() if isinstance(value, int)}
        analysis = {key: value for key, value in stats["analysis_stats"].items() if isinstance(value, int)}
        assert context and analysis
        return {*context.values(), *analysis.values()}

    assert counts() != {0}
    runner.reset_performance_statistics()
    assert counts() == {0}


def test_a_wrong_configuration_is_refused_with_field_value_and_cure() -> None:
    with pytest.raises(TypeError, match="optimization_config"):
        Flujo(_pipeline(), optimization_config={"max_pool_size": 1})
