"""OptimizationConfig: the documented fields and defaults, and one clear error for anything else."""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from flujo._native import OptimizationConfig

DEFAULTS: dict[str, Any] = {
    "enable_object_pooling": True,
    "enable_context_optimization": True,
    "enable_step_analysis": True,
    "enable_telemetry_optimization": True,
    "enable_performance_monitoring": True,
    "enable_cache_optimization": True,
    "enable_usage_optimization": True,
    "execution_time_threshold": 1.0,
    "memory_usage_threshold": 100.0,
    "cache_hit_rate_threshold": 0.8,
    "max_pool_size": 100,
    "cache_max_size": 1024,
    "cache_ttl_seconds": 3600,
}
OTHER_VALUES: dict[str, Any] = {
    **{name: False for name in DEFAULTS if name.startswith("enable_")},
    "execution_time_threshold": 0.25,
    "memory_usage_threshold": 50,
    "cache_hit_rate_threshold": 1,
    "max_pool_size": 0,
    "cache_max_size": 7,
    "cache_ttl_seconds": None,
}
SWITCHES = [name for name in DEFAULTS if name.startswith("enable_")]
NUMBERS = [name for name in DEFAULTS if not name.startswith("enable_")]
SIZES = ["max_pool_size", "cache_max_size"]


def test_the_defaults_are_the_documented_ones() -> None:
    assert OptimizationConfig().to_dict() == DEFAULTS
    assert list(OptimizationConfig().to_dict()) == list(DEFAULTS)


def test_the_signature_shows_every_field_as_a_keyword_with_its_default() -> None:
    parameters = inspect.signature(OptimizationConfig).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == DEFAULTS
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_field_can_be_set_and_read_alone(name: str) -> None:
    config = OptimizationConfig(**{name: OTHER_VALUES[name]})
    assert getattr(config, name) == OTHER_VALUES[name]
    assert config.to_dict() == {**DEFAULTS, name: OTHER_VALUES[name]}
    assert config != OptimizationConfig()


def test_plain_switches_every_part_off_and_keeps_the_rest() -> None:
    assert OptimizationConfig.plain() == OptimizationConfig(**dict.fromkeys(SWITCHES, False))


def test_equal_configurations_are_equal_and_have_equal_hashes() -> None:
    with_int, with_float = (
        OptimizationConfig(cache_ttl_seconds=60),
        OptimizationConfig(cache_ttl_seconds=60.0),
    )
    assert with_int == with_float
    assert hash(with_int) == hash(with_float)
    assert hash(OptimizationConfig(execution_time_threshold=0.0)) == hash(
        OptimizationConfig(execution_time_threshold=-0.0)
    )
    assert with_int != OptimizationConfig(cache_ttl_seconds=61)
    assert with_int != DEFAULTS
    assert len({with_int, with_float, OptimizationConfig()}) == 2


@pytest.mark.parametrize(
    "config",
    [
        OptimizationConfig(),
        OptimizationConfig(**OTHER_VALUES),
        OptimizationConfig(execution_time_threshold=0.1),
    ],
)
def test_every_way_of_copying_gives_an_equal_configuration(config: OptimizationConfig) -> None:
    assert OptimizationConfig.from_dict(config.to_dict()) == config
    assert OptimizationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert OptimizationConfig.from_dict(MappingProxyType(config.to_dict())) == config
    assert eval(repr(config)) == config
    assert copy.copy(config) == config
    assert copy.deepcopy({"config": [config]})["config"] == [config]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(config, protocol)) == config


def test_replace_changes_the_named_fields_in_a_copy() -> None:
    config = OptimizationConfig(max_pool_size=5)
    changed = config.replace(cache_max_size=9, enable_step_analysis=False)
    assert changed.to_dict() == {**config.to_dict(), "cache_max_size": 9, "enable_step_analysis": False}
    assert config == OptimizationConfig(max_pool_size=5)
    assert config.replace() == config


def test_a_configuration_cannot_be_changed() -> None:
    config = OptimizationConfig()
    with pytest.raises(AttributeError):
        config.max_pool_size = 1
    with pytest.raises(AttributeError):
        config.something = 1


def test_its_documented_place_is_the_class_itself() -> None:
    from flujo.application.core.executor_core import OptimizationConfig as documented

    assert documented is OptimizationConfig
    assert OptimizationConfig.__module__ == "flujo.application.core.executor_core"


@pytest.mark.parametrize("value", [0, 0.0, None])
def test_a_lifetime_of_zero_or_none_is_taken(value: float | None) -> None:
    assert OptimizationConfig(cache_ttl_seconds=value).cache_ttl_seconds == value


def test_anything_that_is_a_number_is_taken_as_one() -> None:
    config = OptimizationConfig(execution_time_threshold=Decimal("0.5"), cache_hit_rate_threshold=1)
    assert (config.execution_time_threshold, config.cache_hit_rate_threshold) == (0.5, 1.0)


def refusal(error: type[Exception], **fields: Any) -> str:
    """The message of the refusal, which is the same from every way in."""
    messages = set()
    for construct in (
        lambda: OptimizationConfig(**fields),
        lambda: OptimizationConfig.from_dict(fields),
        lambda: OptimizationConfig().replace(**fields),
        lambda: OptimizationConfig().__replace__(**fields),
    ):
        with pytest.raises(error) as caught:
            construct()
        assert type(caught.value) is error
        messages.add(str(caught.value))
    (message,) = messages
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, -(10**30)])
def test_a_negative_number_is_refused(name: str, value: int) -> None:
    message = refusal(ValueError, **{name: value})
    assert f"OptimizationConfig.{name} must be" in message
    assert "-1" in message
    assert ("0 or more" in message) or ("from 0 to 1" in message)


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in SIZES])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_number_that_is_not_finite_is_refused(name: str, value: float) -> None:
    assert f"OptimizationConfig.{name} must be" in refusal(ValueError, **{name: value})


@pytest.mark.parametrize("value", [1.0000001, 80, -0.1])
def test_a_rate_outside_zero_to_one_is_refused(value: float) -> None:
    message = refusal(ValueError, cache_hit_rate_threshold=value)
    assert (
        message == f"OptimizationConfig.cache_hit_rate_threshold must be a number from 0 to 1, but is {value}"
    )


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [True, False, "1", b"1", [1], object()])
def test_a_value_that_is_not_a_number_is_refused(name: str, value: object) -> None:
    message = refusal(TypeError, **{name: value})
    assert f"OptimizationConfig.{name} must be" in message
    assert f"({type(value).__name__})" in message


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [1.0, 1.5, math.nan, None])
def test_a_size_that_is_not_a_whole_number_is_refused(name: str, value: float | None) -> None:
    message = refusal(TypeError, **{name: value})
    assert f"OptimizationConfig.{name} must be a whole number, 0 or more" in message
    assert message.endswith(f"but is {value!r} ({type(value).__name__})")


@pytest.mark.parametrize("name", SIZES)
def test_a_size_too_large_for_this_machine_is_refused(name: str) -> None:
    assert f"OptimizationConfig.{name} must be" in refusal(ValueError, **{name: 2**64})


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", [0, 1, "yes", None, 1.0])
def test_a_switch_that_is_not_a_boolean_is_refused(name: str, value: object) -> None:
    message = refusal(TypeError, **{name: value})
    assert (
        message == f"OptimizationConfig.{name} must be a boolean, but is {value!r} ({type(value).__name__})"
    )


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    message = refusal(TypeError, pool_size=3)
    assert "no field 'pool_size'" in message
    assert all(name in message for name in DEFAULTS)


@pytest.mark.parametrize("fields", [{1: 2}, {"max\udc80": 1}])
def test_a_name_that_is_no_name_is_refused(fields: dict[Any, Any]) -> None:
    with pytest.raises(TypeError, match="no field"):
        OptimizationConfig.from_dict(fields)


@pytest.mark.parametrize("fields", [None, 3, "text", [("max_pool_size", 1)]])
def test_reading_from_something_else_than_a_mapping_is_refused(fields: Any) -> None:
    with pytest.raises(TypeError, match="takes a mapping"):
        OptimizationConfig.from_dict(fields)


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="positional"):
        OptimizationConfig(True)


def test_a_huge_value_does_not_flood_the_message() -> None:
    assert len(refusal(TypeError, max_pool_size="x" * 1_000_000)) < 300


def test_an_interrupt_raised_by_a_value_passes_through() -> None:
    class Interrupting:
        def __float__(self) -> float:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        OptimizationConfig(execution_time_threshold=Interrupting())
