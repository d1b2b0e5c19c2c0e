"""Flujo's loggers: `flujo.run`, `flujo.telemetry`, … Nothing is printed unless the program sets logging up.

Each record carries `run_id`, `step`, `lane` and `attempt`, empty where nothing is run. Never what a step was given or
gave, nor the text of its error.
"""

from __future__ import annotations

import logging

from flujo.application._place import PLACE

logging.getLogger("flujo").addHandler(logging.NullHandler())


class _Place(logging.Filter):
    """Says where the code is that logs, unless the record says so itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "run_id"):
            place = PLACE.get()
            record.run_id = "" if place is None else place.run_id
            record.step = "" if place is None else place.path
            record.lane = "" if place is None else place.lane
            record.attempt = 0 if place is None else place.attempt
        return True


def logger(name: str) -> logging.Logger:
    """The logger `flujo.<name>`."""
    found = logging.getLogger(f"flujo.{name}")
    if not any(isinstance(each, _Place) for each in found.filters):
        found.addFilter(_Place())
    return found


_run = logger("run")


def tells_steps() -> bool:
    """Whether anybody wants to read what happens to each step."""
    return _run.isEnabledFor(logging.DEBUG)


_TEXTS = {
    "run_started": "run started",
    "step_started": "step %s started",
    "attempt_started": "attempt %d at %s started",
    "attempt_failed": "attempt %d at %s failed: %s",
    "cache_hit": "the result of %s was found in the cache",
    "fallback_started": "the fallback of %s begins",
    "paused": "%s waits for an answer",
    "resumed": "%s goes on",
    "step_finished": "step %s finished",
    "step_failed": "step %s failed: %s",
    "step_stopped": "step %s was stopped",
}


def told(kind: str, run_id: str, path: str, lane: str, attempt: int, error: str | None) -> None:
    """Write what happened to a step; `error` is the class name of what made it fail."""
    level = logging.WARNING if kind == "step_failed" else logging.DEBUG
    if not _run.isEnabledFor(level):
        return
    arguments: list[object] = [attempt] if kind.startswith("attempt") else []
    arguments.append(path)
    if error is not None:
        arguments.append(error)
    extra = {"run_id": run_id, "step": path, "lane": lane, "attempt": attempt}
    _run.log(level, _TEXTS[kind], *arguments, extra=extra)
