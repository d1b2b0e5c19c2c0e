"""What a context view costs, as ratios inside one process.

Run with a release build: ``python benches/context_view.py [--json]``. Times are the best of several rounds, so that
they show the work and not the machine's other business.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import timeit
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from flujo import _native


class Message(BaseModel):
    role: str = "user"
    text: str = ""
    scores: list[float] = []


class Context(BaseModel):
    count: int = 0
    name: str = ""
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    messages: list[Message] = []
    tags: set[str] = set()


def context(size: int) -> Context:
    """A context whose mutable fields weigh about ``size`` bytes in all, half of it rows, half messages."""
    per_row, per_message = 600, 900
    rows = [{"id": n, "text": f"row {n}", "values": [n, n + 1]} for n in range(max(1, size // 2 // per_row))]
    messages = [
        Message(text=f"message {n}", scores=[0.5, n]) for n in range(max(1, size // 2 // per_message))
    ]
    return Context(count=1, name="bench", numbers=[1, 2, 3], rows=rows, messages=messages, tags={"a", "b"})


def seconds(act: Callable[[], object], budget: float = 0.2) -> float:
    """Seconds for one call: the best round of five that share the budget."""
    timer = timeit.Timer(act)
    once = max(timer.timeit(1), 1e-7)
    number = max(1, int(budget / 5 / once))
    return min(timer.repeat(5, number)) / number


def measure() -> dict[str, float]:
    small, medium, large = context(1_000), context(100_000), context(10_000_000)
    numbers = list(range(10_000))
    run = _native.context_view(small)

    def step() -> None:
        view = _native.context_view(run)
        view.count = view.count + 1
        _native.context_commit(view, run)

    def append() -> None:
        view = _native.context_view(run)
        view.numbers.append(1)
        view.numbers.pop()
        _native.context_commit(view, run)

    def read(view: Any) -> Any:
        return view.count

    view = _native.context_view(small)
    results = {
        "view of 1 KB, s": seconds(lambda: _native.context_view(small)),
        "view of 10 MB, s": seconds(lambda: _native.context_view(large)),
        "view of a view, s": seconds(lambda: _native.context_view(run)),
        "view + one write + commit, s": seconds(step),
        "view + one changed list + commit, s": seconds(append),
        "read of a plain field, s": seconds(lambda: read(small)),
        "read of a view's field, s": seconds(lambda: read(view)),
    }
    for name, base in (("1 KB", small), ("100 KB", medium), ("10 MB", large)):
        for kind, field in (("rows", "rows"), ("models", "messages")):
            value = getattr(base, field)
            rounds = 2.0 if name == "10 MB" else 0.4
            native = seconds(lambda v=value: _native.clone_value(v), rounds)
            reference = seconds(lambda v=value: copy.deepcopy(v), rounds)
            results[f"first access of {name} of {kind}, s"] = native
            results[f"copy.deepcopy of {name} of {kind}, s"] = reference
            results[f"deepcopy / first access, {name} of {kind}"] = reference / native
    flat = seconds(lambda: _native.clone_value(numbers))
    results["deepcopy / first access, 10,000 integers"] = seconds(lambda: copy.deepcopy(numbers)) / flat
    results["view of 10 MB / view of 1 KB"] = results["view of 10 MB, s"] / results["view of 1 KB, s"]
    results["deepcopy / view, 10 MB"] = (
        seconds(lambda: copy.deepcopy(large), 1.0) / results["view of 10 MB, s"]
    )
    results["deepcopy / view, 1 KB"] = seconds(lambda: copy.deepcopy(small)) / results["view of 1 KB, s"]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    results = measure()
    if arguments.json:
        json.dump(results, sys.stdout, indent=2)
        return
    for name, value in results.items():
        shown = f"{value * 1e6:12.3f} µs" if name.endswith(", s") else f"{value:12.1f} x"
        print(f"{name.removesuffix(', s'):45} {shown}")


if __name__ == "__main__":
    main()
