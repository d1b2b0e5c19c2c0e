"""A run on the console: what happens as it happens, then the whole as a tree."""

from __future__ import annotations

import sys
from typing import Literal, TextIO

from flujo.domain.events import (
    OnStepFailurePayload,
    PostRunPayload,
    PostStepPayload,
    PreRunPayload,
    PreStepPayload,
)

__all__ = ["ConsoleTracer"]

_Payload = PreRunPayload | PreStepPayload | PostStepPayload | OnStepFailurePayload | PostRunPayload


class ConsoleTracer:
    """Prints runs: `Flujo(..., local_tracer=ConsoleTracer())`, or `hooks=[tracer.hook]`.

    Args:
        level: `info` prints the tree of a run when it has ended; `debug` also each step as it begins and ends.
        log_inputs: Print what the run and its steps are given; with `debug`.
        log_outputs: Print what they give; with `debug`.
        colorized: Colour the statuses; by default where the stream is a terminal.
        file: Where to print; standard error by default.

    Raises:
        ValueError: `level` is something else.
    """

    def __init__(
        self,
        *,
        level: Literal["info", "debug"] = "info",
        log_inputs: bool = False,
        log_outputs: bool = False,
        colorized: bool | None = None,
        file: TextIO | None = None,
    ) -> None:
        if level not in ("info", "debug"):
            raise ValueError(f"level must be 'info' or 'debug', not {level!r}")
        self.level = level
        self.log_inputs = log_inputs
        self.log_outputs = log_outputs
        self.colorized = colorized
        self._file = file

    async def hook(self, payload: _Payload) -> None:
        """Takes in what happens."""
        if isinstance(payload, PostRunPayload):
            tree = payload.pipeline_result.trace_tree
            if tree is not None:
                self._print(tree.render(color=self._colors()))
        elif self.level == "debug":
            self._tell(payload)

    def _tell(self, payload: _Payload) -> None:
        if isinstance(payload, PreRunPayload):
            given = f": {payload.initial_input!r}" if self.log_inputs else ""
            self._print(f"run {payload.pipeline_name or ''} begins{given}")
        elif isinstance(payload, PreStepPayload):
            given = f": {payload.step_input!r}" if self.log_inputs else ""
            self._print(f"step {payload.step.name} begins{given}")
        elif isinstance(payload, (PostStepPayload, OnStepFailurePayload)):
            result = payload.step_result
            gave = f": {result.output!r}" if self.log_outputs else ""
            how = "finished" if result.success else "failed"
            self._print(f"step {result.name} {how} in {result.latency_s:.3f} s{gave}")

    def _colors(self) -> bool:
        return self._stream().isatty() if self.colorized is None else self.colorized

    def _stream(self) -> TextIO:
        return sys.stderr if self._file is None else self._file

    def _print(self, text: str) -> None:
        print(text, file=self._stream(), flush=True)
