"""A pipeline as a mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flujo.domain.dsl.conditional import ConditionalStep
from flujo.domain.dsl.map import MapStep
from flujo.domain.dsl.parallel import ParallelStep
from flujo.domain.dsl.sub_pipeline import SubPipelineStep

if TYPE_CHECKING:
    from typing import Any

    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.dsl.step import Step

__all__ = ["flowchart"]


def flowchart(pipeline: Pipeline[Any, Any]) -> str:
    """The mermaid text; each construct is a subgraph. Nested as deep as it goes, without recursion."""
    lines = ["flowchart TD"]
    numbers: Iterator[int] = iter(range(10**9))

    def add(text: str, depth: int) -> None:
        lines.append("    " * (depth + 1) + text)

    # Work still to do, last first: a line to write, or a pipeline to draw from a node on, and under which label.
    todo: list[tuple[str, int] | tuple[Pipeline[Any, Any], int, str | None, str]] = [(pipeline, 0, None, "")]
    while todo:
        entry = todo.pop()
        if len(entry) == 2:
            add(entry[0], entry[1])
            continue
        body, depth, previous, label = entry
        later: list[tuple[str, int] | tuple[Pipeline[Any, Any], int, str | None, str]] = []
        for step in body.steps:
            node = f"n{next(numbers)}"
            later.append((f"{node}{_shape(step)}", depth))
            if previous is not None:
                arrow = f"-->|{_text(label)}|" if label else "-->"
                later.append((f"{previous} {arrow} {node}", depth))
            previous, label = node, ""
            if step.fallback_step is not None:
                fallback = f"n{next(numbers)}"
                later.append((f"{fallback}{_shape(step.fallback_step)}", depth))
                later.append((f"{node} -.->|fallback| {fallback}", depth))
            inner = list(_bodies(step))
            if inner:
                later.append((f"subgraph g{node}[{_text(step.name)}]", depth))
                later.extend((nested, depth + 1, node, title) for title, nested in inner)
                later.append(("end", depth))
        todo.extend(reversed(later))
    return "\n".join(lines) + "\n"


def _bodies(step: Step[Any, Any]) -> Iterator[tuple[str, Pipeline[Any, Any]]]:
    if isinstance(step, ParallelStep):
        yield from step.branches.items()
    elif isinstance(step, ConditionalStep):
        yield from ((str(key), branch) for key, branch in step.branches.items())
        if step.default_branch_pipeline is not None:
            yield "default", step.default_branch_pipeline
    elif isinstance(step, MapStep):
        yield "each item", step.pipeline
    elif isinstance(step, SubPipelineStep):
        yield "", step.pipeline


def _shape(step: Step[Any, Any]) -> str:
    label = _text(step.name)
    if isinstance(step, ConditionalStep):
        return f"{{{label}}}"
    if isinstance(step, ParallelStep | MapStep):
        return f"[/{label}/]"
    if isinstance(step, SubPipelineStep):
        return f"[[{label}]]"
    return f"[{label}]"


def _text(label: str) -> str:
    escaped = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    return '"' + " ".join(escaped.split()) + '"'
