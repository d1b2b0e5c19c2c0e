"""Pipelines by name and version."""

from __future__ import annotations

import pytest

from flujo import Flujo, Pipeline, Step
from flujo.exceptions import ConfigurationError
from flujo.infra.registry import PipelineRegistry


def pipeline(name: str = "p") -> Pipeline:
    return Pipeline([Step(name, lambda x: x)], name=name)


def test_a_pipeline_is_found_by_name_and_version() -> None:
    registry = PipelineRegistry()
    first, second = pipeline(), pipeline()
    registry.register(first, "reports", "1.0")
    registry.register(second, "reports", "2.0")
    assert registry.get("reports", "1.0") is first
    assert registry.get("reports") is registry.get_latest("reports") is second
    assert registry.get_latest_version("reports") == "2.0"
    assert registry.get("reports", "3.0") is None
    assert registry.get("others") is registry.get_latest("others") is None
    assert registry.get_latest_version("others") is None


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("1.9", "1.10"),
        ("1.0.9", "1.1"),
        ("2.0rc1", "2.0"),
        ("2.0rc1", "2.0rc2"),
        ("1.5", "2.0rc1"),
        ("v1", "v2"),
        ("stable", "1.0"),
        ("2024-05-01", "2024-11-01"),
        ("1", "1.0.1"),
    ],
)
def test_the_highest_version_is_the_latest(lower: str, higher: str) -> None:
    for order in ((lower, higher), (higher, lower)):
        registry = PipelineRegistry()
        for version in order:
            registry.register(pipeline(), "reports", version)
        assert registry.get_latest_version("reports") == higher


def test_a_step_alone_is_a_pipeline() -> None:
    registry = PipelineRegistry()
    registry.register(Step("s", lambda x: x), "one", "1")
    assert isinstance(registry.get("one"), Pipeline)


def test_what_cant_be_registered_is_refused() -> None:
    registry = PipelineRegistry()
    with pytest.raises(ValueError, match="latest"):
        registry.register(pipeline(), "reports", "latest")
    with pytest.raises(TypeError, match="version"):
        registry.register(pipeline(), "reports", "")
    with pytest.raises(TypeError, match="Pipeline or a Step"):
        registry.register(lambda x: x, "reports", "1")


def test_a_runner_takes_its_pipeline_from_a_registry() -> None:
    registry = PipelineRegistry()
    registry.register(Step("s", lambda x: x + 1), "count", "1.0")
    registry.register(Step("s", lambda x: x + 2), "count", "1.1")
    assert Flujo(registry=registry, pipeline_name="count").run(1).output == 3
    first: Flujo = Flujo(registry=registry, pipeline_name="count", pipeline_version="1.0")
    assert (first.run(1).output, first.pipeline_version, first.pipeline_name) == (2, "1.0", "count")


def test_a_pipeline_that_the_registry_doesnt_have_is_named_with_what_it_has() -> None:
    registry = PipelineRegistry()
    registry.register(pipeline(), "count", "1.0")
    with pytest.raises(ConfigurationError, match=r"'count' of version '2\.0'.*it has 1\.0"):
        Flujo(registry=registry, pipeline_name="count", pipeline_version="2.0")
    with pytest.raises(ConfigurationError, match="no version"):
        Flujo(registry=registry, pipeline_name="others")
    for options in ({}, {"registry": registry}, {"pipeline_name": "count"}):
        with pytest.raises(TypeError, match="needs a pipeline"):
            Flujo(**options)
