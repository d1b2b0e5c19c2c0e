"""StepConfig: defaults, checks at construction and at assignment, and value semantics."""

import copy
import math
import pickle
from datetime import timedelta
from decimal import Decimal

import pytest

from flujo.domain.backoff import Backoff
from flujo.domain.dsl import StepConfig


def test_the_defaults_are_one_retry_and_no_limits() -> None:
    config = StepConfig()
    assert config.model_dump() == {
        "max_retries": 1,
        "timeout_s": None,
        "deadline_s": None,
        "backoff": None,
        "retry_on": None,
        "temperature": None,
        "top_k": None,
        "top_p": None,
        "preserve_fallback_diagnostics": False,
        "execution_mode": "sync",
        "expected_cost_usd": None,
        "expected_tokens": None,
        "optimization": None,
        "rate_limit": None,
    }


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("max_retries", -1, ValueError),
        ("max_retries", "3", TypeError),
        ("max_retries", True, TypeError),
        ("max_retries", 1.0, TypeError),
        ("max_retries", None, TypeError),
        ("timeout_s", 0, ValueError),
        ("timeout_s", -0.5, ValueError),
        ("timeout_s", math.nan, ValueError),
        ("timeout_s", math.inf, ValueError),
        ("timeout_s", "5", TypeError),
        ("timeout_s", timedelta(seconds=5), TypeError),
        ("deadline_s", math.nan, ValueError),
        ("deadline_s", False, TypeError),
        ("backoff", 0.5, TypeError),
        ("retry_on", "TimeoutError", TypeError),
        ("retry_on", (TimeoutError, "x"), TypeError),
        ("retry_on", KeyboardInterrupt, TypeError),
        ("temperature", -0.1, ValueError),
        ("temperature", "hot", TypeError),
        ("top_k", 0, ValueError),
        ("top_p", 1.5, ValueError),
        ("top_p", math.nan, ValueError),
        ("preserve_fallback_diagnostics", 1, TypeError),
        ("execution_mode", "async", ValueError),
        ("execution_mode", None, TypeError),
        ("expected_cost_usd", -1, ValueError),
        ("expected_cost_usd", math.nan, ValueError),
        ("expected_cost_usd", "much", ValueError),
        ("expected_cost_usd", Decimal("-0.1"), ValueError),
        ("expected_cost_usd", [1], TypeError),
        ("expected_tokens", -5, ValueError),
        ("expected_tokens", 1.5, TypeError),
        ("optimization", {"cache": True}, TypeError),
    ],
)
def test_a_wrong_value_is_refused_at_construction_and_at_assignment(
    field: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error) as made:
        StepConfig(**{field: value})
    config = StepConfig()
    before = getattr(config, field)
    with pytest.raises(error) as assigned:
        setattr(config, field, value)
    for caught in (made, assigned):
        assert f"StepConfig.{field} = " in str(caught.value)
        assert "must be" in str(caught.value)
    assert getattr(config, field) is before


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("max_retries", 0, 0),
        ("timeout_s", 2, 2),
        ("deadline_s", 0.001, 0.001),
        ("backoff", Backoff.fixed(0.5), Backoff.fixed(0.5)),
        ("retry_on", TimeoutError, (TimeoutError,)),
        ("retry_on", [TimeoutError, OSError], (TimeoutError, OSError)),
        ("temperature", 0, 0),
        ("top_p", 1, 1),
        ("execution_mode", "background", "background"),
        ("expected_cost_usd", "0.02", "0.02"),
        ("expected_cost_usd", Decimal("0.02"), Decimal("0.02")),
        ("expected_tokens", 0, 0),
    ],
)
def test_a_fitting_value_is_kept(field: str, value: object, kept: object) -> None:
    assert getattr(StepConfig(**{field: value}), field) == kept


def test_an_unknown_field_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(
        TypeError, match=r"StepConfig has no field 'max_retrys'; did you mean 'max_retries'\?"
    ):
        StepConfig(max_retrys=3)
    with pytest.raises(AttributeError, match="did you mean 'timeout_s'"):
        StepConfig().timeout = 3


def test_configs_with_equal_fields_are_equal_and_copies_are_independent() -> None:
    config = StepConfig(max_retries=3, retry_on=TimeoutError)
    for twin in (
        StepConfig(max_retries=3, retry_on=TimeoutError),
        copy.copy(config),
        copy.deepcopy(config),
        config.model_copy(),
        StepConfig.model_validate(config.model_dump()),
        pickle.loads(pickle.dumps(config)),
    ):
        assert twin == config
        twin.max_retries = 7
        assert config.max_retries == 3
        assert twin != config


def test_an_update_of_a_copy_is_checked() -> None:
    assert StepConfig().model_copy(update={"timeout_s": 3}).timeout_s == 3
    with pytest.raises(ValueError, match=r"StepConfig\.timeout_s"):
        StepConfig().model_copy(update={"timeout_s": -3})


def test_model_validate_takes_a_mapping_or_a_config_and_nothing_else() -> None:
    assert StepConfig.model_validate({"max_retries": 2}).max_retries == 2
    config = StepConfig()
    assert StepConfig.model_validate(config) is config
    with pytest.raises(TypeError, match="takes a mapping of fields"):
        StepConfig.model_validate("max_retries=2")


def test_the_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(StepConfig(timeout_s=2.5)) == "StepConfig(timeout_s=2.5)"
    assert repr(StepConfig()) == "StepConfig()"
