"""Limits on what a run, a branch or a step may use."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = ["UsageLimits"]

_NANOS = Decimal(10) ** 9
# Money is counted in nano-dollars in 64 bits.
_MOST_DOLLARS = Decimal(9_200_000_000)


def _money(value: Any) -> Any:
    allowed = "an amount of US dollars ≥ 0 (float, Decimal, int or a decimal text), or None"
    if value is None:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(f"must be {allowed}, not {value!r}")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"must be {allowed}, not {value!r}") from None
    if not amount.is_finite() or amount < 0 or amount > _MOST_DOLLARS:
        raise ValueError(f"must be {allowed}, and at most {_MOST_DOLLARS}, not {value!r}")
    return amount if isinstance(value, str) else value


def _count(value: Any) -> Any:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63):
        return value
    raise ValueError(f"must be a whole number ≥ 0, or None, not {value!r}")


class UsageLimits(BaseModel):
    """The most that may be used; None is no limit, exactly at the limit is allowed.

    An amount of money is kept as it was given (a text as a `Decimal`), so that nothing is lost to rounding.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    total_cost_usd_limit: Annotated[float | Decimal | None, BeforeValidator(_money)] = None
    """In US dollars."""
    total_tokens_limit: Annotated[int | None, BeforeValidator(_count)] = None
    """Prompt and completion together."""
    total_requests_limit: Annotated[int | None, BeforeValidator(_count)] = None
    """Requests to a model or service."""

    @property
    def cost_limit_nanos(self) -> int | None:
        """The cost limit in whole nano-dollars (10⁻⁹ US dollars), rounded down."""
        limit = self.total_cost_usd_limit
        if limit is None:
            return None
        return int((Decimal(str(limit)) * _NANOS).to_integral_value(ROUND_FLOOR))
