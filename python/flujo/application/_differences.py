"""In what the end of a run that was played again differs from how it had ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from flujo.domain.context import ExecutedCommandLog, HumanInteraction
from flujo.domain.replay import ABSENT, Difference

__all__ = ["context_differences", "usage_differences"]


def context_differences(recorded: Any, now: Any, path: str = "") -> Iterator[Difference]:
    """Each place in the context that holds something else: models and dicts are compared part by part, so are lists of
    one length."""
    from flujo._native import RecordedRun

    if RecordedRun.same(recorded, now):
        return
    before, after = _parts(recorded), _parts(now)
    if before is None or after is None or type(recorded) is not type(now) or _differ_in_length(recorded, now):
        yield Difference(path.removeprefix("."), "", 0, "context", recorded, now)
        return
    for part in before | after:
        yield from context_differences(before.get(part, ABSENT), after.get(part, ABSENT), path + part)


def _differ_in_length(recorded: Any, now: Any) -> bool:
    return isinstance(recorded, list | tuple) and len(recorded) != len(now)


def _parts(value: Any) -> dict[str, Any] | None:
    """What is in a value, by the path from there; None where it isn't taken apart."""
    if isinstance(value, BaseModel):
        fields = {name: value.__dict__[name] for name in type(value).model_fields if name in value.__dict__}
        if isinstance(value, HumanInteraction | ExecutedCommandLog):
            fields.pop("timestamp", None)  # of this time in each
        beside = (value.__pydantic_extra__ or {}) | (value.__pydantic_private__ or {})
        return {f".{name}": part for name, part in (fields | beside).items()}
    if type(value) is dict:
        return {f".{key}" if isinstance(key, str) else f"[{key!r}]": part for key, part in value.items()}
    if type(value) in (list, tuple):
        return {f"[{place}]": part for place, part in enumerate(value)}
    return None


def usage_differences(recorded: dict[str, Any], now: dict[str, Any]) -> Iterator[Difference]:
    """Each amount that is another one."""
    for part, amount in recorded.items():
        if amount != now[part]:
            yield Difference(part, "", 0, "usage", amount, now[part])
