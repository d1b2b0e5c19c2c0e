"""What the simulation expects, as Python's result models show it, beside what they do show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flujo.domain.results import StepFailure, StepResult

from .scripted import FailedStep, dollars, feedback_field, plain, value_of

Json = Any


def shown(value: Any) -> Any:
    """A value with texts as every host says them; a failed branch is one word, what a handler gets a name."""
    if isinstance(value, StepResult):
        return "failed"
    if isinstance(value, StepFailure):
        return FailedStep.of(value)
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {name: shown(item) for name, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, list) else value


def _usage(usage: Json) -> dict[str, Any]:
    return {"tokens": usage["tokens"], "cost": dollars(usage["cost"])}


def expected_end(end: Json) -> dict[str, Any]:
    """A run."""
    top = [step for step in end["steps"] if step["parent"] is None]
    output = end["output"] if end["status"] == "completed" else top[-1]["output"] if top else None
    return {
        "status": "failed" if end["status"] == "fatal" else end["status"],
        "success": end["status"] == "completed",
        "output": None if output is None else value_of(output),
        "context": expected_context(end["context"]),
        **_usage(end["usage"]),
        "steps": _children(end, None),
    }


def expected_context(context: Json) -> dict[str, Any]:
    """The fields of a context."""
    return {feedback_field(field): value_of(value) for field, value in context.items()}


def _children(end: Json, parent: int | None) -> list[Any]:
    steps = enumerate(end["steps"])
    return [_expected_step(end, place, step) for place, step in steps if step["parent"] == parent]


def _expected_step(end: Json, place: int, step: Json) -> dict[str, Any]:
    succeeded = step["status"] == "succeeded"
    name, attempts = step["name"], step["attempts"] or 1
    metadata: dict[str, Any] = {}
    if step["fallback"] is not None:
        number, original = step["fallback"]
        fallback = end["steps"][number]
        attempts += fallback["attempts"]
        name = fallback["name"] if succeeded else name
        metadata |= {"fallback_triggered": True, "original_error": original["text"]}
    if step["branch"] is not None:
        key = "final_state" if step["construct"] == "states" else "executed_branch_key"
        metadata[key] = step["branch"]
    if step["exit"] is not None:
        metadata |= {"iterations": step["attempts"], "exit_reason": step["exit"]}
    if step["attempt_failures"]:
        metadata["attempt_failures"] = [failure["text"] for failure in step["attempt_failures"]]
    has_branches = step["construct"] in ("parallel", "router")
    if has_branches and (step["lanes"] or succeeded):
        metadata["executed_branches"] = [lane["name"] for lane in step["lanes"] if lane["end"] is not None]
    lanes = [_expected_lane(lane) for lane in step["lanes"]]
    stopped = {"cancelled": "cancelled", "limit_exceeded": "a usage limit was reached"}
    failure = step["failure"]
    feedback = failure["text"] if failure else stopped.get(step["status"])
    if succeeded and step["exit"] == "condition":
        feedback = "loop exited by condition"
    return {
        "name": name,
        "success": succeeded,
        "attempts": attempts,
        "output": None if step["output"] is None else value_of(step["output"]),
        "feedback": feedback,
        "metadata": metadata,
        **_usage(step["usage"]),
        "inside": [*_inside(end, place, step), *(lanes if has_branches else [])],
        "items": lanes if step["construct"] == "map" else [],
        "context": None,
    }


def _inside(end: Json, place: int, step: Json) -> list[Any]:
    """What ran in a step; of the attempts of a step whose work is a part of the pipeline the last."""
    inside = _children(end, place)
    if step["construct"] == "body" and inside:
        first = end["steps"][place + 1]["name"]
        names = [other["name"] for other in end["steps"] if other["parent"] == place]
        inside = inside[len(names) - 1 - names[::-1].index(first) :]
    return inside


def _expected_lane(lane: Json) -> dict[str, Any]:
    end = lane["end"]
    if end is None:
        feedback: str | None = "not started"
    elif end["failure"]:
        failure = end["failure"]
        feedback = f"Pipeline failed - step '{failure['step']}': {failure['text']}"
    else:
        feedback = None if end["status"] == "completed" else end["status"]
    output = None if end is None else end["output"]
    return {
        "name": lane["name"],
        "success": end is not None and end["status"] == "completed",
        "attempts": int(end is not None),
        "output": None if output is None else value_of(output),
        "feedback": feedback,
        "metadata": {},
        **(_usage(end["usage"]) if end else {"tokens": 0, "cost": 0.0}),
        "inside": _children(end, None) if end else [],
        "items": [],
        "context": expected_context(end["context"]) if end else None,
    }


def seen_end(result: Any) -> dict[str, Any]:
    """A run's result."""
    return {
        "status": str(result.status),
        "success": result.success,
        "output": shown(result.output),
        "context": seen_context(result.final_pipeline_context),
        "tokens": result.total_tokens,
        "cost": result.total_cost_usd,
        "steps": [_seen_step(step) for step in result.step_history],
    }


def seen_context(context: Any) -> dict[str, Any]:
    """The fields of a context."""
    return {field: shown(getattr(context, field)) for field in type(context).model_fields}


def _seen_step(step: Any) -> dict[str, Any]:
    return {
        "name": step.name,
        "success": step.success,
        "attempts": step.attempts,
        "output": shown(step.output),
        "feedback": shown(step.feedback),
        "metadata": shown(step.metadata_),
        "tokens": step.token_counts,
        "cost": step.cost_usd,
        "inside": [_seen_step(inner) for inner in step.step_history],
        "items": [_seen_step(item) for item in step.items],
        # A branch that never looked at the context has none of its own.
        "context": None if step.branch_context is None else seen_context(step.branch_context),
    }


def difference(path: str, expected: Any, seen: Any) -> str | None:
    """The first place where two results differ."""
    if path.endswith(".context") and seen is None:
        return None
    if isinstance(expected, dict) and isinstance(seen, dict) and expected.keys() == seen.keys():
        pairs = [(f"{path}.{key}", expected[key], seen[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(seen, list) and len(expected) == len(seen):
        pairs = [
            (f"{path}[{place}]", one, two)
            for place, (one, two) in enumerate(zip(expected, seen, strict=True))
        ]
    else:
        same = expected == seen and isinstance(expected, bool) == isinstance(seen, bool)
        return None if same else f"{path}:\n  simulation {expected!r}\n  asyncio    {seen!r}"
    found = (difference(*pair) for pair in pairs)
    return next((one for one in found if one is not None), None)
