"""A pipeline as a mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

from flujo.domain.dsl._graph_rules import bodies

if TYPE_CHECKING:
    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.dsl.step import Step

__all__ = ["flowchart"]


Entry: TypeAlias = "str | tuple[Pipeline[Any, Any], str | None, str] | Pipeline[Any, Any]"
"""A line; a pipeline to draw after a node, with the arrow's text; or a pipeline whose drawing ends."""

_INDENTED = 12
"""Levels that are indented; deeper ones would grow the text with the square of the depth."""


def flowchart(pipeline: Pipeline[Any, Any]) -> str:
    """The mermaid text; each construct is a subgraph. Nested as deep as it goes, without recursion."""
    lines = ["flowchart TD"]
    numbers = count()
    enclosing: set[int] = set()
    todo: list[tuple[int, Entry]] = [(1, (pipeline, None, ""))]
    while todo:
        depth, entry = todo.pop()
        if isinstance(entry, str):
            lines.append("    " * min(depth, _INDENTED) + entry)
            continue
        if not isinstance(entry, tuple):
            enclosing.discard(id(entry))
            continue
        body, previous, label = entry
        if id(body) in enclosing:
            continue  # a pipeline that contains itself, which `validate_graph` reports
        enclosing.add(id(body))
        later: list[tuple[int, Entry]] = []
        for step in body.steps:
            node = f"n{next(numbers)}"
            later.append((depth, node + _shape(step)))
            if previous is not None:
                later.append((depth, f"{previous} {f'-->|{_text(label)}|' if label else '-->'} {node}"))
            previous, label = node, ""
            later.extend((depth, line) for line in _fallbacks(step, node, numbers))
            inner = [(key or _WHEN.get(step.kind, ""), nested) for key, nested in bodies(step)]
            if inner:
                later.append((depth, f"subgraph g{node}[{_text(step.name)}]"))
                later.extend((depth + 1, (nested, node, title)) for title, nested in inner)
                later.append((depth, "end"))
        later.append((depth, body))
        todo.extend(reversed(later))
    return "\n".join(lines) + "\n"


def _fallbacks(step: Step[Any, Any], node: str, numbers: count[int]) -> Iterator[str]:
    drawn = {id(step)}
    following = step.fallback_step
    while following is not None and id(following) not in drawn:
        fallback = f"n{next(numbers)}"
        yield fallback + _shape(following)
        yield f"{node} -.->|fallback| {fallback}"
        drawn.add(id(following))
        node, following = fallback, following.fallback_step


_SHAPES = {
    "conditional": "{%s}",
    "parallel": "[/%s/]",
    "router": "[/%s/]",
    "map": "[/%s/]",
    "loop": "([%s])",
    "refine": "([%s])",
    "state_machine": "{{%s}}",
    "sub_pipeline": "[[%s]]",
    "import": "[[%s]]",
}

_WHEN = {"map": "each item", "loop": "each iteration"}
"""How a construct's body is called in the chart."""


def _shape(step: Step[Any, Any]) -> str:
    return _SHAPES.get(step.kind, "[%s]") % _text(step.name)


def _text(label: str) -> str:
    escaped = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    return '"' + " ".join(escaped.split()) + '"'
