"""Stored runs as tests."""

from __future__ import annotations

import re
from collections.abc import Callable
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flujo.application.runner import Flujo
    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.dsl.step import Step
    from flujo.state.backends.base import StateBackend

__all__ = ["replay_test"]


def replay_test(
    run_id: str,
    runner: Flujo[Any, Any] | Pipeline[Any, Any] | Step[Any, Any] | Callable[[], Flujo[Any, Any]],
    *,
    state_backend: StateBackend | str | PathLike[str] | None = None,
) -> Callable[[], None]:
    """A test that plays a stored run again and fails where it isn't as it was.

        test_order_7 = replay_test("order 7", pipeline, state_backend="tests/runs.db")

    What the agents of the run answered is told to the pipeline as it is now: no model is called, and the test says
    what an agent is asked otherwise than it was, and where the run ends otherwise.

    Args:
        run_id: The stored run, one that has ended.
        runner: A runner with a store, or a function that makes one, called by the test; or, with `state_backend`, a
            pipeline or a step.
        state_backend: Where the run is stored: a backend, a file's name, or an address as in `FLUJO_STATE_URI`.

    Raises:
        TypeError: a runner is given with a store of its own, or a pipeline without one.
    """
    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.dsl.step import Step

    takes_store = isinstance(runner, Pipeline | Step)
    if takes_store and state_backend is None:
        raise TypeError("replay_test needs state_backend= with a pipeline or a step")
    if not takes_store and state_backend is not None:
        raise TypeError(
            "replay_test takes state_backend= with a pipeline or a step alone: a runner has a store"
        )

    def test() -> None:
        __tracebackhide__ = True
        from flujo.application._loops import private_loop

        with _Opened(runner, state_backend) as opened:
            replayed = private_loop().run(opened.replay(run_id))
        assert replayed.equal, str(replayed)

    name = re.sub(r"\W+", "_", run_id).strip("_")
    test.__name__ = test.__qualname__ = f"test_replay_of_{name}"
    test.__doc__ = f"The run {run_id!r} is what it was."
    return test


class _Opened:
    """A runner with the store that a run is in; what was opened for that is closed again."""

    def __init__(self, runner: Any, backend: Any) -> None:
        self._runner, self._backend = runner, backend
        self._own: StateBackend | None = None

    def __enter__(self) -> Flujo[Any, Any]:
        from flujo.application.runner import Flujo

        if isinstance(self._runner, Flujo):
            return self._runner
        if self._backend is None:
            made: Flujo[Any, Any] = self._runner()
            return made
        backend = self._backend
        if isinstance(backend, str | PathLike):
            from flujo.state.backends.uri import backend_at

            backend = self._own = backend_at(fspath(backend))
        return Flujo(self._runner, state_backend=backend)

    def __exit__(self, *raised: object) -> None:
        if self._own is not None:
            self._own.close()
