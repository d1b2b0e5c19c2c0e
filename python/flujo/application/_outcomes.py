"""Exceptions that a run ends with, and amounts of money as exact integers."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, cast


def nano_dollars(amount: object) -> int:
    """Dollars, in any form money comes in, as whole nano-dollars."""
    try:
        dollars = amount if isinstance(amount, Decimal) else Decimal(str(amount))
    except InvalidOperation as error:
        raise ValueError(f"cost_usd must be an amount of dollars, not {amount!r}") from error
    if not dollars.is_finite() or dollars < 0:
        raise ValueError(f"cost_usd must be a finite amount of dollars, 0 or more, not {amount!r}")
    return int((dollars * 10**9).to_integral_value())


def limit_error(
    message: str,
    result: Any,
    limit: float,
    used: float,
    reserved: float,
    step: str,
    refused: bool,
) -> BaseException:
    """The error of a run that reached a usage limit, with what was done until then."""
    from flujo.exceptions import UsageLimitExceededError

    return UsageLimitExceededError(
        message,
        result=result,
        limit=limit,
        used=used,
        reserved=reserved,
        refused_step=step if refused else None,
    )


def fatal_error(error: Any, type_name: str, message: str, result: Any) -> BaseException:
    """The error of a pipeline that cannot work as it is."""
    from flujo import exceptions

    if error is None:
        kind = getattr(exceptions, type_name, exceptions.FlujoError)
        error = kind(message=message)
    # An error of somebody else's takes no attributes of ours.
    ends_runs = (
        exceptions.ConfigurationError | exceptions.ControlFlowError | exceptions.UsageLimitExceededError
    )
    if isinstance(error, ends_runs) and error.result is None:
        error.result = result
    return cast(BaseException, error)


def retry_after(told: Any) -> float | None:
    """The seconds that a `Retry-After` header asks to wait: in seconds or as a date, as text or in a response."""
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    if not isinstance(told, str):
        told = getattr(told, "headers", {}).get("retry-after")
    if not isinstance(told, str):
        return None
    try:
        return float(told)
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(told)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
