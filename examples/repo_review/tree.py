"""Prints what a run did as a tree of steps: state, time, attempts, cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TextIO

from flujo import PipelineResult, StepResult


def print_tree(result: PipelineResult[Any, Any], to: TextIO) -> None:
    """Print the steps of a run, with the reason under each that needed more than one attempt or failed."""
    for line in _rows(result.step_history, ""):
        print(line, file=to)
    tokens = f", {result.total_tokens} tokens" if result.total_tokens else ""
    print(f"{result.status}: ${result.total_cost_usd:.6f}{tokens}", file=to)


def _rows(steps: Iterable[StepResult], indent: str) -> Iterable[str]:
    for step in steps:
        yield indent + _row(step)
        for reason in step.metadata_.get("attempt_failures", []):
            yield f"{indent}    {reason}"
        if step.feedback:
            yield f"{indent}    {step.feedback}"
        if step.items:
            yield from _items(step.items, indent + "  ")
        else:
            yield from _rows(step.step_history, indent + "  ")


def _row(step: StepResult) -> str:
    attempts = f", {step.attempts} attempts" if step.attempts > 1 and not step.items else ""
    tokens = f", {step.token_counts} tokens" if step.token_counts else ""
    state = "done" if step.success else "failed"
    return f"{step.name}: {state} in {step.latency_s * 1000:.1f} ms{attempts}{tokens}, ${step.cost_usd:.6f}"


def _items(items: list[StepResult], indent: str) -> Iterable[str]:
    """A map's items would fill the screen: they are counted, and only those that failed are shown."""
    failed = [item for item in items if not item.success]
    yield f"{indent}{len(items)} items, {len(failed)} of them failed"
    for item in failed:
        yield f"{indent}{_row(item)}"
        if item.feedback:
            yield f"{indent}    {item.feedback}"
