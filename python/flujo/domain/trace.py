"""What happened in a run, as a tree: the run, its steps with their attempts, the lanes of parallel steps and maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["TraceNode"]

Kind = Literal["run", "step", "lane", "attempt", "call"]
Status = Literal["ok", "error", "paused", "cancelled", "limit_exceeded"]


@dataclass(frozen=True, slots=True)
class TraceNode:
    """A part of a run. It knows names, times, usage and the classes of errors, never inputs or outputs.

    Args:
        name: Of the step or branch; `run <pipeline>` of the run itself.
        kind: What it is.
        status: How it ended; the step of a run that is `paused` may stand still.
        start_time: When it began, in seconds since the Unix epoch.
        end_time: When it ended.
        attributes: What else is known of it, under the names that exported spans have.
        children: What happened inside it, in the order in which it began.
    """

    name: str
    kind: Kind
    status: Status
    start_time: float
    end_time: float
    attributes: dict[str, Any]
    children: list[TraceNode]

    @property
    def duration_s(self) -> float:
        """How long it took, in seconds."""
        return self.end_time - self.start_time

    def walk(self) -> Iterator[TraceNode]:
        """It and everything inside it, from the outside in."""
        waiting: list[TraceNode] = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))

    def find(self, name: str) -> TraceNode | None:
        """The first part of this name, itself included."""
        return next((node for node in self.walk() if node.name == name), None)

    def render(self, *, color: bool = False) -> str:
        """The tree as text, a line for each part."""
        lines = []
        waiting: list[tuple[TraceNode, str, str]] = [(self, "", "")]
        while waiting:
            node, before, below = waiting.pop()
            lines.append(before + node._line(color))
            # A step that was tried once is one with its attempt.
            shown = [child for child in node.children if not child._goes_without_saying(node)]
            last = len(shown) - 1
            waiting += [
                (child, f"{below}└─ ", f"{below}   ")
                if place == last
                else (child, f"{below}├─ ", f"{below}│  ")
                for place, child in reversed(list(enumerate(shown)))
            ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()

    def _goes_without_saying(self, around: TraceNode) -> bool:
        return (
            self.kind == "attempt" and around.attributes.get("flujo.attempts", 0) == 1 and not self.children
        )

    def _line(self, color: bool) -> str:
        status = f"\x1b[{_COLORS[self.status]}m{self.status}\x1b[0m" if color else self.status
        facts = [self.name, status, _seconds(self.duration_s)]
        attributes = self.attributes
        if (attempts := attributes.get("flujo.attempts", 0)) > 1:
            facts.append(f"{attempts} attempts")
        if tokens := attributes.get("flujo.usage.tokens"):
            facts.append(f"{tokens} tokens")
        if cost := attributes.get("flujo.usage.cost_usd"):
            facts.append(f"${cost:.6g}")
        if error := attributes.get("error.type"):
            facts.append(error)
        return "  ".join(facts)


_COLORS = {"ok": 32, "error": 31, "paused": 33, "cancelled": 33, "limit_exceeded": 31}


def _seconds(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def tree(spans: list[tuple[int, str, Kind, Status, float, float, dict[str, Any]]]) -> TraceNode:
    """The tree of spans in the order in which they began; the first number of each is its parent's place, -1 of the
    run.
    """
    nodes: list[TraceNode] = []
    for parent, name, kind, status, start, end, attributes in spans:
        node = TraceNode(name, kind, status, start, end, attributes, [])
        nodes.append(node)
        if parent >= 0:
            nodes[parent].children.append(node)
    return nodes[0]
