"""What every store of runs can do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, cast

from flujo.exceptions import ConfigurationError, RunBusyError, StoreError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from flujo._native import Store
    from flujo.state.models import RunDetails, StepDetails, WorkerDetails

__all__ = ["StateBackend"]

STATUSES = ("queued", "running", "paused", "completed", "failed", "cancelled", "limit_exceeded")
ENDED = ("completed", "failed", "cancelled", "limit_exceeded")
PAGE = 500

UNUSED = ("load_state", "save_state", "save_run_start", "save_run_end", "save_step_result", "save_trace")
"""What older versions called a backend for. No runner calls it now."""

INSTEAD = (
    "use a SQLiteBackend, FileBackend, PostgresBackend or InMemoryBackend as it is; hooks are told what "
    "happens; a store of your own implements the Rust trait flujo_core::store::RunStore"
)


class StateBackend:
    """Keeps runs that outlive their process: `Flujo(..., state_backend=SQLiteBackend("runs.db"))`.

    A run is written as what happened in it, in order, by the runner that runs it. So a store is one of `SQLiteBackend`,
    `FileBackend`, `PostgresBackend` and `InMemoryBackend`; a class that keeps whole states by `save_state` and
    `load_state` can't be one, and a runner refuses it. A store of one's own is written in Rust, for the trait
    `flujo_core::store::RunStore`.

    Methods may be awaited in any event loop.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store

    # --- looking

    async def list_runs(
        self,
        status: str | Iterable[str] | None = None,
        pipeline_name: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        *,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
    ) -> list[RunDetails]:
        """Runs, the newest first.

        Args:
            status: Only those with this status, or one of these.
            pipeline_name: Only those of the pipeline of this name.
            limit: How many at most; all by default.
            offset: So many of the newest are left out.
            created_from: Only those that began at this time or later.
            created_before: Only those that began before this time.

        Raises:
            ValueError: there is no such status.
            StoreError: the store can't be read.
        """
        wanted = None if limit is None else limit + offset
        found: list[Any] = []
        after = None
        while wanted is None or len(found) < wanted:
            runs, after = await self._opened().list(
                statuses=_statuses(status),
                pipeline_name=pipeline_name,
                created_from=_milliseconds(created_from),
                created_before=_milliseconds(created_before),
                after=after,
                limit=PAGE if wanted is None else min(PAGE, wanted - len(found)),
                event_loop=asyncio.get_running_loop(),
            )
            found += runs
            if after is None:
                break
        return [run_details(run) for run in found[offset:]]

    async def list_workflows(
        self,
        status: str | Iterable[str] | None = None,
        pipeline_id: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[RunDetails]:
        """The same as `list_runs`, under an older name; `pipeline_id` is a pipeline's name."""
        return await self.list_runs(status, pipeline_id, limit, offset)

    async def get_run_details(self, run_id: str) -> RunDetails | None:
        """What is known of a run; None where there is none.

        Raises:
            StoreError: the store can't be read.
        """
        found = await self._opened().info(run_id, event_loop=asyncio.get_running_loop())
        return None if found is None else run_details(found)

    async def list_run_steps(self, run_id: str) -> list[StepDetails]:
        """The steps of a run, those that are under way included, and those of branches behind the step they belong to.

        Read without the run's pipeline; `await runner.result(run_id)` gives all there is.

        Raises:
            RunNotFoundError: there is no such run.
            CorruptRunError: it can't be read.
            StoreError: the store can't be read, or what is in runs isn't stored.
        """
        found = await self._opened().steps(run_id, event_loop=asyncio.get_running_loop())
        return cast("list[StepDetails]", found)

    async def load_state(self, run_id: str) -> dict[str, Any] | None:
        """How a run stands, as the fields of a `WorkflowState`; None where there is none.

        Raises:
            CorruptRunError: it can't be read.
            StoreError: the store can't be read, or what is in runs isn't stored.
        """
        details = await self.get_run_details(run_id)
        if details is None:
            return None
        steps = await self.list_run_steps(run_id)
        version = await self._opened().version(run_id, event_loop=asyncio.get_running_loop())
        ended = [step for step in steps if step["parent_index"] is None and step["status"] == "completed"]
        return {
            **{name: details[name] for name in ("run_id", "pipeline_id", "pipeline_name", "status")},
            **{name: details[name] for name in ("created_at", "updated_at")},
            "pipeline_version": version or "latest",
            "current_step_index": len(ended),
            "pipeline_context": None,
            "last_step_output": ended[-1]["output"] if ended else None,
            "step_history": steps,
            "metadata": {"message": details["message"], "owner": details["owner"]},
        }

    async def list_workers(self) -> list[WorkerDetails]:
        """The processes that run runs of this store at the moment, or that others haven't seen dead yet."""
        return cast(
            "list[WorkerDetails]", await self._opened().workers(event_loop=asyncio.get_running_loop())
        )

    # --- deleting

    async def delete_state(self, run_id: str) -> None:
        """Delete a run, whole, however it stands. Nothing happens where there is none.

        Raises:
            RunBusyError: it is under way.
            StoreError: the store can't be written to.
        """
        if await self.purge(run_id=run_id, status=STATUSES):
            return
        left = await self.get_run_details(run_id)
        if left is not None:
            raise RunBusyError(
                f"run {run_id!r} is under way with {left['owner'] or 'another process'}: it was not deleted",
                owner=left["owner"],
                suggestion="cancel it first, or wait for its end",
            )

    async def purge(
        self,
        *,
        run_id: str | None = None,
        pipeline_name: str | None = None,
        status: str | Iterable[str] | None = None,
        older_than: datetime | timedelta | None = None,
        keep: int | None = None,
    ) -> int:
        """Delete runs, whole, and tell how many. Those under way stay.

        Args:
            run_id: Only this one.
            pipeline_name: Only those of the pipeline of this name.
            status: Only those with this status, or one of these; by default those that have ended.
            older_than: Only those that nothing happened to since this time, or for so long.
            keep: All but this many of the newest.

        Raises:
            ValueError: there is no such status.
            StoreError: the store can't be written to; nothing was deleted.
        """
        if isinstance(older_than, timedelta):
            older_than = datetime.now(UTC) - older_than
        deleted = await self._opened().purge(
            run_id=run_id,
            pipeline_name=pipeline_name,
            statuses=_statuses(status),
            updated_before=_milliseconds(older_than),
            keep=keep,
            event_loop=asyncio.get_running_loop(),
        )
        return cast("int", deleted)

    # --- what older versions called a backend for

    async def save_state(self, run_id: str, state: Any) -> NoReturn:
        """Refused: a run is written by the runner that runs it."""
        raise _not_written_so("save_state")

    async def save_run_start(self, run_data: Any) -> NoReturn:
        """Refused: a run is written by the runner that runs it."""
        raise _not_written_so("save_run_start")

    async def save_run_end(self, run_id: str, end_data: Any) -> NoReturn:
        """Refused: a run is written by the runner that runs it."""
        raise _not_written_so("save_run_end")

    async def save_step_result(self, step_data: Any) -> NoReturn:
        """Refused: a run is written by the runner that runs it."""
        raise _not_written_so("save_step_result")

    async def save_trace(self, run_id: str, trace: Any) -> NoReturn:
        """Refused: spans go to `Flujo(..., telemetry=…)`."""
        raise _not_written_so("save_trace")

    # --- life

    def close(self) -> None:
        """Wait for what was asked for and close the store; nothing is done after it."""
        if self._store is not None:
            self._store.close()

    async def shutdown(self) -> None:
        """The same as `close`, without keeping the event loop waiting."""
        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'not opened' if self._store is None else self._store.place})"

    def _opened(self) -> Store:
        if self._store is None:
            raise ConfigurationError(
                f"{type(self).__qualname__} keeps no runs: it has no store",
                suggestion=INSTEAD,
            )
        return self._store


def store_of(backend: object) -> Store:
    """The native store behind a backend that a runner was given.

    Raises:
        TypeError: it isn't a backend.
        ConfigurationError: it is a class of somebody's own, whose methods would never be called.
    """
    if not isinstance(backend, StateBackend):
        raise TypeError(
            f"state_backend must be a SQLiteBackend, FileBackend, PostgresBackend or InMemoryBackend, not "
            f"{type(backend).__name__}"
        )
    for cls in type(backend).__mro__:
        own = [name for name in UNUSED if name in vars(cls)]
        if own and not cls.__module__.startswith("flujo.state."):
            raise ConfigurationError(
                f"{cls.__qualname__}.{own[0]} would never be called: a run is written as what happened in it, not as "
                "states",
                suggestion=INSTEAD,
            )
    return backend._opened()


def _statuses(status: str | Iterable[str] | None) -> list[str] | None:
    if status is None:
        return None
    return [status] if isinstance(status, str) else list(status)


def _milliseconds(time: datetime | None) -> int | None:
    """Of a time without a zone by the clock of this machine."""
    return None if time is None else round(time.timestamp() * 1000)


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def run_details(run: dict[str, Any]) -> RunDetails:
    status, updated = run["status"], _time(run["updated_at"])
    return cast(
        "RunDetails",
        {
            "run_id": run["run_id"],
            "pipeline_id": run["pipeline_name"],
            "pipeline_name": run["pipeline_name"],
            "status": status,
            "created_at": _time(run["created_at"]),
            "updated_at": updated,
            "start_time": _time(run["created_at"]),
            "end_time": updated if status in ENDED else None,
            "due_at": _time(run["due_at"]),
            "total_steps": run["steps"],
            "total_cost_usd": run["cost_usd"],
            "total_tokens": run["tokens"],
            "total_requests": run["requests"],
            "message": run["message"],
            "error_message": run["message"] if status == "failed" else None,
            "owner": run["owner"],
            "forked_from": run["forked_from"],
            "stored_bytes": run["stored_bytes"],
        },
    )


def _not_written_so(method: str) -> StoreError:
    return StoreError(
        f"{method} writes nothing: a run is written by the runner that runs it, as what happened in it",
        suggestion="give the backend to a runner: Flujo(..., state_backend=…)",
    )
