"""Isolated and merged contexts: what branches pay for one that they leave alone, read a little of, or edit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, Field, create_model

from flujo import Flujo, Step

from .row import Row, cost_ratio
from .sampling import Effort, compare

BRANCHES = 100
SMALL, FIELD, LARGE = 1_000, 100_000, 10_000_000


class Message(BaseModel):
    role: str = "user"
    text: str = ""
    scores: list[float] = []


def table(size: int) -> list[dict[str, Any]]:
    """Rows that weigh about `size` bytes."""
    return [{"id": n, "text": f"row {n}", "values": [n, n + 1]} for n in range(max(1, size // 600))]


def messages(size: int) -> list[Message]:
    """Models that weigh about `size` bytes."""
    return [Message(text=f"message {n}", scores=[0.5, n]) for n in range(max(1, size // 900))]


def model_with(rows: list[Any]) -> type[BaseModel]:
    """A context whose making costs the same whatever the rows weigh: defaults aren't copied."""
    return create_model(
        "Context",
        count=(int, 0),
        numbers=(list[int], [1, 2, 3]),
        rows=(list[Any], Field(default_factory=lambda: rows)),
    )


def runner_of(bodies: list[Callable[..., Any]], rows: list[Any]) -> Flujo[int, Any]:
    branches = {f"branch {n}": Step("step", body) for n, body in enumerate(bodies)}
    return Flujo(Step.parallel("fan", branches), context_model=model_with(rows))


async def leaves_alone(x: int) -> int:
    return x


async def reads(x: int, *, context: Any) -> int:
    return x + context.count + len(context.numbers)


async def edits_row(x: int, *, context: Any) -> int:
    context.rows[7]["values"].append(x)
    return x


async def edits_message(x: int, *, context: Any) -> int:
    context.rows[7].scores.append(0.5)
    return x


def rows(effort: Effort) -> Iterator[Row]:
    """Branches beside 10 MB against branches beside 1 KB; a branch that edits 100 KB against `copy.deepcopy`."""
    yield _beside(leaves_alone, "not taken", effort)
    yield _beside(reads, "one small field read", effort)
    yield _edit(edits_row, table(FIELD), "rows", effort)
    yield _edit(edits_message, messages(FIELD), "models", effort)


def _beside(body: Callable[..., Any], what: str, effort: Effort) -> Row:
    large, small = (runner_of([body] * BRANCHES, table(size)) for size in (LARGE, SMALL))
    pair = compare(lambda: large.run_async(0), lambda: small.run_async(0), units=BRANCHES, effort=effort)
    name = f"parallel, beside a context of 10 MB, {what}"
    return cost_ratio(name, pair, at_most=1.1, against="beside 1 KB", unit="µs/branch")


def _edit(body: Callable[..., Any], value: list[Any], what: str, effort: Effort) -> Row:
    runner = runner_of([body, leaves_alone], value)

    async def deepcopy() -> Any:
        return copy.deepcopy(value)

    pair = compare(lambda: runner.run_async(0), deepcopy, units=1, effort=effort)
    return cost_ratio(
        f"parallel, one branch edits one of 100 KB of {what}",
        pair,
        at_most=0.05,
        against="copy.deepcopy of the field",
        unit="µs/run",
        note="the whole run: two branches, first access, commit, merge",
    )
